// SPDX-License-Identifier: GPL-2.0
/*
 * Helper of the memalloc_scope scenarios: memory that is short for as long as a test
 * needs it, and a look at what the receive path of the network gets then.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/in.h>
#include <linux/ktime.h>
#include <linux/memalloc_scope.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/net.h>
#include <linux/notifier.h>
#include <linux/oom.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmstat.h>
#include <net/net_namespace.h>
#include <net/sock.h>

#include "test_memalloc_net.h"

/*
 * As deep as GFP_ATOMIC reaches, without the help of kswapd. What remains is for
 * noreclaim and __GFP_MEMALLOC alone.
 */
#define TMN_GFP		(__GFP_HIGH | __GFP_NOWARN)
/* What a driver asks for; the reserves are its scope's business. */
#define TMN_GFP_ATOMIC	(GFP_ATOMIC | __GFP_NOWARN)

/*
 * Payload of packets that are to come from the reserves: their head is an object of
 * kmalloc-4k, of which none is left. A small one comes from a cache of its own.
 */
#define TMN_BIG		2500
#define TMN_SMALL	64
#define TMN_OBJECT	4096

/* For user space to put the watermarks back to where they were */
#define TMN_GRACE_MS	3000

static DEFINE_MUTEX(tmn_lock);

static struct tmn_hog {
	spinlock_t lock;	/* protects all of this */
	struct list_head pages;
	void *objects;		/* the first word of each points to the next */
	unsigned long nr;
	bool oom;
} tmn_hog = {
	.lock = __SPIN_LOCK_UNLOCKED(tmn_hog.lock),
	.pages = LIST_HEAD_INIT(tmn_hog.pages),
};

/* The one run there can be; its handler runs on top of task. */
static struct tmn_receive_state {
	struct tmn_receive *r;
	struct task_struct *task;
	memalloc_scope_t task_scope;
	bool handled;		/* the packet in flight */
} tmn;

static unsigned long tmn_give_back(void)
{
	struct list_head pages;
	struct page *page, *next;
	unsigned long flags, nr;
	void *objects;

	INIT_LIST_HEAD(&pages);
	spin_lock_irqsave(&tmn_hog.lock, flags);
	list_splice_init(&tmn_hog.pages, &pages);
	objects = tmn_hog.objects;
	tmn_hog.objects = NULL;
	nr = tmn_hog.nr;
	tmn_hog.nr = 0;
	spin_unlock_irqrestore(&tmn_hog.lock, flags);

	list_for_each_entry_safe(page, next, &pages, lru) {
		list_del(&page->lru);
		__free_page(page);
	}
	while (objects) {
		void *object = objects;

		objects = *(void **)object;
		kfree(object);
	}
	return nr;
}

/* Until then, in jiffies, nobody is short enough of memory to be killed. */
static unsigned long tmn_no_oom;

/* Nobody is to be killed for this test: it lets go instead, or will soon. */
static int tmn_oom_notify(struct notifier_block *nb, unsigned long unused, void *freed)
{
	unsigned long nr = tmn_give_back();

	if (time_before(jiffies, READ_ONCE(tmn_no_oom))) {
		schedule_timeout_killable(HZ / 10);
		nr++;
	}
	if (nr)
		WRITE_ONCE(tmn_hog.oom, true);
	*(unsigned long *)freed += nr;
	return NOTIFY_OK;
}

static struct notifier_block tmn_oom_nb = {
	.notifier_call = tmn_oom_notify,
};

static bool tmn_stop(ktime_t end)
{
	return READ_ONCE(tmn_hog.oom) || signal_pending(current) ||
	       ktime_after(ktime_get(), end);
}

/* Until there is nothing left to be had, neither pages nor objects of half-used slabs */
static void tmn_take(ktime_t end)
{
	struct page *page;
	void *object;

	while (!tmn_stop(end)) {
		page = alloc_page(TMN_GFP);
		if (!page)
			break;
		spin_lock_irq(&tmn_hog.lock);
		list_add(&page->lru, &tmn_hog.pages);
		tmn_hog.nr++;
		spin_unlock_irq(&tmn_hog.lock);
	}
	while (!tmn_stop(end)) {
		object = kmalloc(TMN_OBJECT, TMN_GFP);
		if (!object)
			break;
		spin_lock_irq(&tmn_hog.lock);
		*(void **)object = tmn_hog.objects;
		tmn_hog.objects = object;
		tmn_hog.nr++;
		spin_unlock_irq(&tmn_hog.lock);
	}
}

/* The same request without noreclaim, be it open or not: is memory short, here and now? */
static bool tmn_is_short(void)
{
	memalloc_scope_t scope = __memalloc_scope_get();
	struct page *page;

	__memalloc_scope_set(scope & ~MEMALLOC_SCOPE_NORECLAIM);
	page = alloc_page(TMN_GFP_ATOMIC);
	__memalloc_scope_set(scope);
	if (page)
		__free_page(page);
	return !page;
}

/* Until @end; returns how many pages were written meanwhile. */
static unsigned long tmn_hold(struct tmn_drain *d, ktime_t end)
{
	unsigned long written = global_node_page_state(NR_WRITTEN);

	/* While only watching, OOM is no reason to stop. */
	if (d->watch)
		WRITE_ONCE(tmn_hog.oom, false);
	do {
		if (!d->watch && !d->pages)
			tmn_take(end);
		d->pages = max_t(u64, d->pages, READ_ONCE(tmn_hog.nr));
		usleep_range(1000, 2000);
	} while (d->watch ? ktime_before(ktime_get(), end) && !signal_pending(current)
			  : !tmn_stop(end));
	d->oom |= READ_ONCE(tmn_hog.oom);
	return global_node_page_state(NR_WRITTEN) - written;
}

static int tmn_drain_run(struct tmn_drain *d)
{
	ktime_t start = ktime_get();

	WRITE_ONCE(tmn_hog.oom, false);
	if (d->watch)
		WRITE_ONCE(tmn_no_oom, jiffies + msecs_to_jiffies(d->hold_ms + TMN_GRACE_MS));
	d->written[0] = tmn_hold(d, ktime_add_ms(start, d->hold_ms / 2));
	d->written[1] = tmn_hold(d, ktime_add_ms(start, d->hold_ms));
	d->is_short = tmn_is_short();
	d->writeback = global_node_page_state(NR_WRITEBACK);
	tmn_give_back();
	d->held_ms = ktime_ms_delta(ktime_get(), start);
	return 0;
}

static bool tmn_below_min(const struct page *page)
{
	struct zone *zone = page_zone(page);

	return zone_page_state(zone, NR_FREE_PAGES) < min_wmark_pages(zone);
}

/*
 * A packet counts if it finds what it is about: memory was short all the time, that
 * is, no page came from anywhere but the reserves, and so is the packet, if it is to be.
 */
static void tmn_handle(bool from_reserves)
{
	struct tmn_receive *r = tmn.r;
	memalloc_scope_t scope = task_memalloc_scope(current);
	unsigned int got = 0, reserve = 0, below = 0, refused = 0;
	struct page *page[TMN_PAGES];
	bool is_short;

	if (current != tmn.task) {
		r->elsewhere++;
		return;
	}
	tmn.handled = true;
	if (from_reserves ? r->kind == TMN_BORROWED : r->kind != TMN_BORROWED)
		return;
	if (!tmn_is_short())
		return;
	for (unsigned int i = 0; i < r->pages; i++) {
		page[got] = alloc_page(TMN_GFP_ATOMIC);
		if (!page[got]) {
			refused++;
			continue;
		}
		reserve += page_is_pfmemalloc(page[got]);
		below += tmn_below_min(page[got]);
		got++;
	}
	is_short = tmn_is_short();
	for (unsigned int i = 0; i < got; i++)
		__free_page(page[i]);
	if (!is_short || got != reserve)
		return;
	r->received++;
	r->open += !!(scope & MEMALLOC_SCOPE_NORECLAIM);
	r->other += !!(scope & ~MEMALLOC_SCOPE_NORECLAIM);
	r->got += got;
	r->got_below += below;
	r->refused += refused;
}

static void tmn_data_ready(struct sock *sk)
{
	const struct sk_buff *skb = skb_peek_tail(&sk->sk_receive_queue);

	tmn_handle(skb && skb_pfmemalloc(skb));
}

/* What the task has, and what it can have, when no softirq is on top of it */
static void tmn_look_at_task(struct tmn_receive *r)
{
	struct page *page;

	r->task_checks++;
	if (task_memalloc_scope(current) != tmn.task_scope)
		r->task_leaks++;
	page = alloc_page(TMN_GFP_ATOMIC);
	if (page) {
		r->task_got += page_is_pfmemalloc(page);
		__free_page(page);
	} else {
		r->task_refused++;
	}
}

struct tmn_sockets {
	struct socket *tx, *rx;
	bool memalloc_tx, memalloc_rx;
};

static void tmn_close(struct tmn_sockets *s)
{
	if (s->memalloc_tx)
		sk_clear_memalloc(s->tx->sk);
	if (s->memalloc_rx)
		sk_clear_memalloc(s->rx->sk);
	if (s->tx)
		sock_release(s->tx);
	if (s->rx)
		sock_release(s->rx);
}

/* UDP, as TCP takes the mark of the reserves from what it sends. */
static int tmn_open(struct tmn_sockets *s, u32 kind)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	struct net *ns = current->nsproxy->net_ns;
	struct sock *sk;
	int err;

	*s = (struct tmn_sockets){ };
	err = sock_create_kern(ns, AF_INET, SOCK_DGRAM, IPPROTO_UDP, &s->rx);
	if (err)
		return err;
	err = kernel_bind(s->rx, (struct sockaddr_unsized *)&addr, sizeof(addr));
	if (err)
		return err;
	err = kernel_getsockname(s->rx, (struct sockaddr *)&addr);
	if (err < 0)
		return err;
	err = sock_create_kern(ns, AF_INET, SOCK_DGRAM, IPPROTO_UDP, &s->tx);
	if (err)
		return err;
	err = kernel_connect(s->tx, (struct sockaddr_unsized *)&addr, sizeof(addr), 0);
	if (err)
		return err;

	/* So that packets can be sent at all when memory is short, without reclaim */
	s->tx->sk->sk_allocation = GFP_ATOMIC;
	s->memalloc_tx = kind != TMN_BORROWED;
	if (s->memalloc_tx)
		sk_set_memalloc(s->tx->sk);
	s->memalloc_rx = kind == TMN_MEMALLOC;
	if (s->memalloc_rx)
		sk_set_memalloc(s->rx->sk);
	sk = s->rx->sk;
	write_lock_bh(&sk->sk_callback_lock);
	sk->sk_data_ready = tmn_data_ready;
	write_unlock_bh(&sk->sk_callback_lock);
	return 0;
}

/* The receive softirq runs on the way back to the caller. */
static int tmn_send(struct tmn_sockets *s, u32 kind)
{
	static char data[TMN_BIG];
	struct msghdr msg = { .msg_flags = MSG_DONTWAIT };
	size_t size = kind == TMN_BORROWED ? TMN_SMALL : TMN_BIG;
	struct kvec vec = { .iov_base = data, .iov_len = size };
	int ret;

	ret = kernel_sendmsg(s->tx, &msg, &vec, 1, size);
	return ret < 0 ? ret : 0;
}

static void tmn_empty(struct socket *sock)
{
	static char data[TMN_BIG];
	struct msghdr msg;
	struct kvec vec;
	int ret;

	do {
		msg = (struct msghdr){ .msg_flags = MSG_DONTWAIT };
		vec = (struct kvec){ .iov_base = data, .iov_len = sizeof(data) };
		ret = kernel_recvmsg(sock, &msg, &vec, 1, sizeof(data), MSG_DONTWAIT);
	} while (ret > 0);
}

static void tmn_shot(struct tmn_sockets *s, ktime_t end)
{
	struct tmn_receive *r = tmn.r;
	unsigned int cookie = 0;

	tmn_take(end);
	if (!tmn_is_short())
		return;
	tmn.handled = false;
	if (r->kind == TMN_BORROWED)
		cookie = memalloc_noreclaim_save();
	tmn.task_scope = task_memalloc_scope(current);
	tmn_look_at_task(r);
	if (!tmn_send(s, r->kind))
		r->sent++;
	tmn_look_at_task(r);
	memalloc_noreclaim_restore(cookie);
	tmn_empty(s->rx);
	/* Nothing is to be received of these: what was sent counts. */
	if (r->kind == TMN_PLAIN && !tmn.handled && tmn_is_short())
		r->received++;
}

static int tmn_receive_run(struct tmn_receive *r)
{
	ktime_t end = ktime_add_ms(ktime_get(), r->max_ms);
	struct tmn_sockets s;
	int err;

	if (r->kind >= TMN_KINDS || r->pages > TMN_PAGES)
		return -EINVAL;
	err = tmn_open(&s, r->kind);
	if (err)
		goto close;
	tmn.r = r;
	tmn.task = current;
	WRITE_ONCE(tmn_hog.oom, false);
	while (r->received < r->shots && !tmn_stop(end)) {
		tmn_shot(&s, end);
		cond_resched();
	}
	r->oom = READ_ONCE(tmn_hog.oom);
	tmn_give_back();
	/* Handlers check task, and none of them runs on top of it any more. */
	WRITE_ONCE(tmn.task, NULL);
close:
	tmn_close(&s);
	return err;
}

static int tmn_socket_run(const struct tmn_socket *t)
{
	struct socket *sock;
	int err;

	sock = sockfd_lookup(t->fd, &err);
	if (!sock)
		return err;
	if (!sk_is_tcp(sock->sk))
		err = -EINVAL;
	else if (t->memalloc && !sock_flag(sock->sk, SOCK_MEMALLOC))
		sk_set_memalloc(sock->sk);
	else if (!t->memalloc && sock_flag(sock->sk, SOCK_MEMALLOC))
		sk_clear_memalloc(sock->sk);
	sockfd_put(sock);
	return err;
}

static long tmn_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	union {
		struct tmn_drain drain;
		struct tmn_receive receive;
		struct tmn_socket socket;
	} u;
	long err;

	if (_IOC_TYPE(cmd) != '~' || _IOC_SIZE(cmd) > sizeof(u))
		return -ENOTTY;
	if (copy_from_user(&u, (void __user *)arg, _IOC_SIZE(cmd)))
		return -EFAULT;
	err = mutex_lock_interruptible(&tmn_lock);
	if (err)
		return err;
	switch (cmd) {
	case TMN_IOC_DRAIN:
		err = tmn_drain_run(&u.drain);
		break;
	case TMN_IOC_RECEIVE:
		err = tmn_receive_run(&u.receive);
		break;
	case TMN_IOC_SOCKET:
		err = tmn_socket_run(&u.socket);
		break;
	default:
		err = -ENOTTY;
	}
	mutex_unlock(&tmn_lock);
	if (!err && _IOC_DIR(cmd) & _IOC_READ &&
	    copy_to_user((void __user *)arg, &u, _IOC_SIZE(cmd)))
		err = -EFAULT;
	return err;
}

static const struct file_operations tmn_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = tmn_ioctl,
};

static struct miscdevice tmn_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "test_memalloc_net",
	.fops = &tmn_fops,
	.mode = 0600,
};

static int __init tmn_init(void)
{
	int err;

	err = register_oom_notifier(&tmn_oom_nb);
	if (err)
		return err;
	err = misc_register(&tmn_misc);
	if (err)
		unregister_oom_notifier(&tmn_oom_nb);
	return err;
}

static void __exit tmn_exit(void)
{
	misc_deregister(&tmn_misc);
	unregister_oom_notifier(&tmn_oom_nb);
}

module_init(tmn_init);
module_exit(tmn_exit);
MODULE_DESCRIPTION("Helper of the memalloc_scope scenarios: the network and the reserves");
MODULE_LICENSE("GPL");
