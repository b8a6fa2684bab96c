// SPDX-License-Identifier: GPL-2.0
/*
 * Allocation scopes for the author of storage over a network: pages are written
 * through a socket in order to free memory, so whoever sends, receives or helps
 * with that must not wait for memory to be freed.
 * Documentation/core-api/memalloc-scope.rst shows parts of this file.
 */
#include <linux/in.h>
#include <linux/memalloc_ctx.h>
#include <linux/memalloc_guard.h>
#include <linux/memalloc_lock.h>
#include <linux/mutex.h>
#include <linux/net.h>
#include <linux/sched/mm.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>
#include <net/net_namespace.h>
#include <net/sock.h>

#include "tme.h"

#define TOYNET_BATCH	(4 * PAGE_SIZE)

static struct toynet {
	struct socket *sock;		/* its peer is itself */
	struct mutex tx, rx;
	bool swapper;			/* somebody swaps to this device */
	char spare[64];			/* one request always fits, under @tx */
	struct workqueue_struct *wq, *helper_wq, *careless_wq;
	/* for toynet_place() alone */
	struct task_struct *sender, *receiver;
	struct work_struct *send, *help;
} toynet;

struct toynet_request {
	struct work_struct work;
	struct toynet *net;
	void *data;
	size_t len;
	int err;
};

static int toynet_submit(struct toynet *net);
static int toynet_sendmsg(struct toynet_request *req);
static int toynet_recvmsg(struct toynet *net);

/* guide: reclaim */
/* To swap a page out takes the network: not without __GFP_IO. */
static void toynet_swap_out(gfp_t gfp)
{
	if ((gfp & __GFP_IO) && tme_may_enter())
		toynet_submit(&toynet);
}

/* guide: send */
struct toynet_help {
	struct work_struct work;
	memalloc_ctx_t ctx;
	int err;
};

static void toynet_helper(struct work_struct *work)
{
	struct toynet_help *h = container_of(work, struct toynet_help, work);

	guard(memalloc_ctx)(h->ctx);
	h->err = tme_alloc(GFP_KERNEL);
}

/* On net->wq, which brings noreclaim: pages wait to be written for this. */
static void toynet_send(struct work_struct *work)
{
	struct toynet_request *req = container_of(work, struct toynet_request, work);
	struct toynet_help h = { };
	struct toynet *net = req->net;

	req->err = tme_alloc(GFP_KERNEL);
	if (req->err)
		return;
	/* We wait for the helper, and so may hand it the reserves. */
	h.ctx = memalloc_ctx_capture_noreclaim();
	INIT_WORK_ONSTACK(&h.work, toynet_helper);
	WRITE_ONCE(net->help, &h.work);
	queue_work(net->helper_wq, &h.work);
	flush_work(&h.work);
	WRITE_ONCE(net->help, NULL);
	destroy_work_on_stack(&h.work);
	req->err = h.err ?: toynet_sendmsg(req);
}

static struct workqueue_struct *toynet_alloc_wq(void)
{
	return alloc_workqueue("toynet", WQ_MEM_RECLAIM | WQ_UNBOUND | WQ_MEMALLOC_NORECLAIM, 0);
}

/* guide: receive */
/* May be called for any device; for the others it is enough not to start I/O. */
static int toynet_receive(struct toynet *net)
{
	int err;

	guard(mutex_noio)(&net->rx);
	guard(memalloc_noreclaim_if)(net->swapper);
	WRITE_ONCE(net->receiver, current);
	err = tme_alloc(GFP_KERNEL);
	WRITE_ONCE(net->receiver, NULL);
	return err ?: toynet_recvmsg(net);
}

/* guide: socket */
static void toynet_set_up_socket(struct socket *sock)
{
	/* The stack allocates for this socket on its own, too: in timers, say. */
	sock->sk->sk_allocation = GFP_NOIO;
	/* We may send in the middle of somebody else's sendmsg(), who reclaims. */
	sock->sk->sk_use_task_frag = false;
	/* What arrives here may be taken in with the last of the memory. */
	sk_set_memalloc(sock->sk);
}

/* guide: batch */
/* Room for many requests at once is nice to have: not worth a wait or a word. */
static void *toynet_batch(size_t len)
{
	guard(memalloc_nowait)();
	guard(memalloc_nowarn)();
	return tme_alloc(GFP_KERNEL) ? NULL : vmalloc(len);
}

static int toynet_submit(struct toynet *net)
{
	struct toynet_request req = { .net = net, .len = sizeof(net->spare) };
	void *batch;

	scoped_guard(mutex_noio, &net->tx) {
		WRITE_ONCE(net->sender, current);
		batch = toynet_batch(tme_result.batch ?: TOYNET_BATCH);
		WRITE_ONCE(net->sender, NULL);
		tme_result.fallbacks += !batch;
		req.data = batch ?: net->spare;

		INIT_WORK_ONSTACK(&req.work, toynet_send);
		WRITE_ONCE(net->send, &req.work);
		queue_work(net->wq, &req.work);
		flush_work(&req.work);
		WRITE_ONCE(net->send, NULL);
		destroy_work_on_stack(&req.work);
		vfree(batch);
	}
	return req.err ?: toynet_receive(net);
}

/* guide: end */

/* The same without a scope, to see that they are needed: do not copy. */
static void toynet_careless_helper(struct work_struct *work)
{
	struct toynet_help *h = container_of(work, struct toynet_help, work);

	guard(tme_careless)();
	h->err = tme_alloc(GFP_KERNEL);
}

static void toynet_careless_send(struct work_struct *work)
{
	struct toynet_request *req = container_of(work, struct toynet_request, work);
	struct toynet_help h = { };
	struct toynet *net = req->net;

	guard(tme_careless)();
	req->err = tme_alloc(GFP_KERNEL);
	/* This one has the scope, and does not convey it. */
	guard(memalloc_noreclaim)();
	INIT_WORK_ONSTACK(&h.work, toynet_careless_helper);
	WRITE_ONCE(net->help, &h.work);
	queue_work(net->helper_wq, &h.work);
	flush_work(&h.work);
	WRITE_ONCE(net->help, NULL);
	destroy_work_on_stack(&h.work);
}

static int toynet_careless(struct toynet *net)
{
	struct toynet_request req = { .net = net };
	void *batch;

	guard(tme_careless)();
	scoped_guard(mutex, &net->tx) {
		WRITE_ONCE(net->sender, current);
		tme_alloc(GFP_KERNEL);
		batch = vmalloc(tme_result.batch ?: TOYNET_BATCH);
		WRITE_ONCE(net->sender, NULL);
		tme_result.fallbacks += !batch;
		vfree(batch);

		INIT_WORK_ONSTACK(&req.work, toynet_careless_send);
		WRITE_ONCE(net->send, &req.work);
		queue_work(net->careless_wq, &req.work);
		flush_work(&req.work);
		WRITE_ONCE(net->send, NULL);
		destroy_work_on_stack(&req.work);
	}
	scoped_guard(mutex, &net->rx) {
		WRITE_ONCE(net->receiver, current);
		tme_alloc(GFP_KERNEL);
		WRITE_ONCE(net->receiver, NULL);
	}
	return 0;
}

static int toynet_sendmsg(struct toynet_request *req)
{
	struct msghdr msg = { .msg_flags = MSG_NOSIGNAL };
	struct kvec vec = { .iov_base = req->data, .iov_len = req->len };
	int sent;

	memset(req->data, 0, req->len);
	sent = kernel_sendmsg(req->net->sock, &msg, &vec, 1, req->len);
	if (sent < 0)
		return sent;
	return sent == req->len ? 0 : -EIO;
}

static int toynet_recvmsg(struct toynet *net)
{
	struct msghdr msg = { };
	char data[sizeof(net->spare)];
	struct kvec vec = { .iov_base = data, .iov_len = sizeof(data) };
	int got;

	got = kernel_recvmsg(net->sock, &msg, &vec, 1, sizeof(data), 0);
	if (got < 0)
		return got;
	return got == sizeof(data) ? 0 : -EIO;
}

static int toynet_place(void)
{
	struct work_struct *work = current_work();

	if (work && work == READ_ONCE(toynet.send))
		return TME_NET_SEND;
	if (work && work == READ_ONCE(toynet.help))
		return TME_NET_HELPER;
	if (current == READ_ONCE(toynet.receiver))
		return TME_NET_RECEIVE;
	if (current == READ_ONCE(toynet.sender))
		return TME_NET_BATCH;
	return TME_OUTSIDE;
}

static int toynet_run(bool careless)
{
	return careless ? toynet_careless(&toynet) : toynet_submit(&toynet);
}

static int toynet_connect(struct socket *sock)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int err;

	/* Loopback does not lose a thing, but may be down. */
	sock->sk->sk_rcvtimeo = 10 * HZ;
	err = kernel_bind(sock, (struct sockaddr_unsized *)&addr, sizeof(addr));
	if (err)
		return err;
	err = kernel_getsockname(sock, (struct sockaddr *)&addr);
	if (err < 0)
		return err;
	return kernel_connect(sock, (struct sockaddr_unsized *)&addr, sizeof(addr), 0);
}

static void toynet_exit(void)
{
	if (toynet.helper_wq)
		destroy_workqueue(toynet.helper_wq);
	if (toynet.careless_wq)
		destroy_workqueue(toynet.careless_wq);
	if (toynet.wq)
		destroy_workqueue(toynet.wq);
	if (toynet.sock) {
		sk_clear_memalloc(toynet.sock->sk);
		sock_release(toynet.sock);
	}
}

static int toynet_init(void)
{
	int err;

	mutex_init(&toynet.tx);
	mutex_init(&toynet.rx);
	fs_reclaim_acquire(GFP_KERNEL);
	might_lock(&toynet.tx);
	might_lock(&toynet.rx);
	fs_reclaim_release(GFP_KERNEL);
	toynet.swapper = true;
	err = sock_create_kern(&init_net, AF_INET, SOCK_DGRAM, IPPROTO_UDP, &toynet.sock);
	if (err)
		return err;
	toynet_set_up_socket(toynet.sock);
	err = toynet_connect(toynet.sock);
	toynet.wq = toynet_alloc_wq();
	toynet.helper_wq = alloc_workqueue("toynet-helper", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	toynet.careless_wq = alloc_workqueue("toynet-careless", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	if (!err && (!toynet.wq || !toynet.helper_wq || !toynet.careless_wq))
		err = -ENOMEM;
	if (err)
		toynet_exit();
	return err;
}

const struct tme_example tme_net = {
	.init = toynet_init,
	.exit = toynet_exit,
	.run = toynet_run,
	.place = toynet_place,
	.reclaim = toynet_swap_out,
};
