// SPDX-License-Identifier: GPL-2.0
/*
 * Interrupts on top of a task with scopes open. The task spins, preemptible, and
 * looks at its own byte all the time; hardirqs and softirqs of many kinds hit it,
 * look around, open scopes of their own and allocate.
 *
 * Every shot but a timer's is armed by the task, so the interrupts cannot starve
 * it, however slow the machine is.
 */
#include <linux/hrtimer.h>
#include <linux/in.h>
#include <linux/irq_work.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/net.h>
#include <linux/sched/signal.h>
#include <linux/timer.h>
#include <linux/workqueue.h>
#include <net/net_namespace.h>
#include <net/sock.h>

#include "tms_internal.h"

#define TMS_TIMERS	8

/*
 * State of the one run there can be. Written by the task and by interrupts on
 * top of it, all on one CPU; what interrupts change is read with READ_ONCE().
 */
static struct tms_interrupt_state {
	struct tms_interrupt *t;
	struct hrtimer hard, soft;
	struct irq_work irq_work;
	struct timer_list timers[TMS_TIMERS];
	struct work_struct bh;
	struct tms_sockets net;
	int cpu;
	/* what handlers open */
	u32 soft_scopes;
	/* a softirq handler has them open right now */
	bool soft_open;
	/* steps of the task */
	unsigned long beat;
	/*
	 * What a shot left open on purpose, and when. The next one of its kind may
	 * be called by the same softirq handler and find it: never one of another
	 * kind, nor one after the task has run.
	 */
	u32 left;
	enum tms_kind left_kind;
	struct tms_cookies left_cookies;
	unsigned long left_beat;
	unsigned long shots;
	/* nothing is to be armed any more */
	bool stop;
} tms;

static struct workqueue_struct *tms_wq;

static void tms_bad(struct tms_hits *h, u32 rule, u32 got, u32 want)
{
	if (got == want)
		return;
	if (!h->bad[0] && !h->bad[1] && !h->bad[2] && !h->bad[3] && !h->bad[4]) {
		h->rule = rule;
		h->got = got;
		h->want = want;
	}
	h->bad[rule]++;
}

/* What the rules say about a request and about the queries inside @scopes */
gfp_t tms_expect_gfp(u32 scopes, gfp_t gfp)
{
	if (scopes & (TMS_NOFS | TMS_NOIO | TMS_IO_FLUSHER))
		gfp &= ~__GFP_FS;
	if (scopes & (TMS_NOIO | TMS_IO_FLUSHER))
		gfp &= ~__GFP_IO;
	if (scopes & TMS_PIN)
		gfp &= ~__GFP_MOVABLE;
	if (gfp & __GFP_NOFAIL)
		return gfp;
	if (scopes & TMS_NOLOCK) {
		gfp &= ~(__GFP_RECLAIM | __GFP_HIGH | __GFP_MEMALLOC);
		gfp |= __GFP_NOWARN | __GFP_NOMEMALLOC;
	}
	if (scopes & TMS_NOWAIT)
		gfp &= ~__GFP_DIRECT_RECLAIM;
	if (scopes & TMS_NOWARN)
		gfp |= __GFP_NOWARN;
	return gfp;
}

u32 tms_expect_active(u32 scopes)
{
	u32 active = scopes & (TMS_SCOPES | TMS_NOLOCK);

	if (scopes & TMS_IO_FLUSHER)
		active |= TMS_NOIO;
	if (active & TMS_NOIO)
		active |= TMS_NOFS;
	return active;
}

/* With @scopes in force, and nothing else, see what a request comes to. */
static void tms_check(struct tms_hits *h, u32 scopes)
{
	tms_bad(h, TMS_RULE_QUERY, tms_active(), tms_expect_active(scopes));
	tms_bad(h, TMS_RULE_FOLD,
		tms_gfp(current_gfp_context(TMS_GFP_FOLD), TMS_GFP_FOLD),
		tms_gfp(tms_expect_gfp(scopes, TMS_GFP_FOLD), TMS_GFP_FOLD));
}

static void tms_check_page(struct tms_hits *h, u32 scopes)
{
	struct page *page;
	gfp_t used;

	page = tms_alloc_page(TMS_GFP_PROBE, &used);
	if (!page)
		return;
	tms_bad(h, TMS_RULE_USED, tms_gfp(used, TMS_GFP_PROBE),
		tms_gfp(tms_expect_gfp(scopes, TMS_GFP_PROBE), TMS_GFP_PROBE));
	__free_page(page);
}

/* Returns whether it hit the task or a softirq handler of ours on top of it. */
static bool tms_hard_shot(enum tms_kind kind, bool allocate)
{
	bool nested = in_serving_softirq();
	struct tms_hits *h = &tms.t->kind[nested ? TMS_NESTED : kind];
	struct tms_cookies c;
	u32 raw = tms_own();

	/* Counts only if there is something that must not apply in here. */
	if (current != tms_task || !in_hardirq() ||
	    (nested ? !READ_ONCE(tms.soft_open) : (raw & tms.t->scopes) != tms.t->scopes)) {
		h->missed++;
		return false;
	}
	tms_check(h, 0);
	if (allocate)
		tms_check_page(h, 0);
	/* What it opens itself applies if it has a meaning here, and leaves no trace. */
	tms_open(&c, TMS_SCOPES | TMS_NOLOCK);
	tms_check(h, TMS_IRQ_SCOPES);
	if (allocate)
		tms_check_page(h, TMS_IRQ_SCOPES);
	tms_close(&c);
	tms_bad(h, TMS_RULE_ENTRY, tms_own(), raw);
	h->hits++;
	return !nested;
}

/*
 * Fires anywhere in the task. Does not allocate: it is a hardirq on PREEMPT_RT
 * as well, where the allocator's locks sleep.
 */
static enum hrtimer_restart tms_hard_hrtimer(struct hrtimer *timer)
{
	tms_hard_shot(TMS_HARDIRQ, false);
	return HRTIMER_NORESTART;
}

/* Softirqs that are raised in a hardirq run right after it. */
static void tms_irq_work(struct irq_work *work)
{
	bool hit = tms_hard_shot(TMS_IRQ_WORK, true);

	if ((hit || tms.t->rt) && !tms.stop &&
	    tms.t->kind[TMS_BH].hits < tms.t->shots)
		queue_work_on(tms.cpu, tms_wq, &tms.bh);
}

static void tms_soft_shot(enum tms_kind kind)
{
	struct tms_hits *h = &tms.t->kind[kind];
	unsigned long shot = tms.shots++;
	struct tms_cookies c;
	u32 entry = tms_own();

	if (!in_serving_softirq() || in_hardirq()) {
		h->missed++;
		return;
	}
	if (current != tms_task) {
		/* In ksoftirqd or the like, whose handlers get no scope either */
		tms_bad(h, TMS_RULE_ENTRY, entry, 0);
		tms_check(h, 0);
		h->elsewhere++;
		return;
	}

	if (tms.left && tms.left == entry && tms.left_kind == kind &&
	    tms.left_beat == READ_ONCE(tms.beat)) {
		/* Left by the shot before in the same handler: tidy up. */
		tms_close(&tms.left_cookies);
		entry = tms_own();
	}
	tms.left = 0;
	tms_bad(h, TMS_RULE_ENTRY, entry, 0);
	tms_check(h, 0);
	tms_check_page(h, 0);

	tms_open(&c, tms.soft_scopes);
	WRITE_ONCE(tms.soft_open, true);
	tms_check(h, tms.soft_scopes);
	tms_check_page(h, tms.soft_scopes);
	/* A hardirq on top, as soon as the handler's own are enabled */
	if (tms.t->kind[TMS_NESTED].hits < tms.t->shots)
		irq_work_queue(&tms.irq_work);
	tms_bad(h, TMS_RULE_OWN, tms_own(), entry | tms.soft_scopes);
	WRITE_ONCE(tms.soft_open, false);

	/* Now and then, forget to close: it must not reach the task. */
	if (shot % 4 == 0) {
		memalloc_noreclaim_restore(c.noreclaim);
		c.noreclaim = 0;
		tms.left = tms_own();
		tms.left_kind = kind;
		tms.left_cookies = c;
		tms.left_beat = READ_ONCE(tms.beat);
		/* Nor may it reach the next handler in the same run: have one. */
		if (!tms.stop && tms.t->kind[TMS_BH].hits < tms.t->shots)
			queue_work_on(tms.cpu, tms_wq, &tms.bh);
	} else {
		tms_close(&c);
	}
	h->hits++;
}

static enum hrtimer_restart tms_soft_hrtimer(struct hrtimer *timer)
{
	tms_soft_shot(TMS_HRTIMER);
	return HRTIMER_NORESTART;
}

static void tms_timer(struct timer_list *timer)
{
	tms_soft_shot(TMS_TIMER);
}

static void tms_bh(struct work_struct *work)
{
	tms_soft_shot(TMS_BH);
}

static void tms_data_ready(struct sock *sk)
{
	tms_soft_shot(TMS_NET_RX);
}

void tms_close_sockets(struct tms_sockets *net)
{
	if (net->tx)
		sock_release(net->tx);
	if (net->rx)
		sock_release(net->rx);
	*net = (struct tms_sockets){ };
}

/* On the loopback of current's namespace; what arrives calls @data_ready. */
int tms_open_sockets(struct tms_sockets *net, void (*data_ready)(struct sock *sk))
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	struct net *ns = current->nsproxy->net_ns;
	struct sock *sk;
	int err;

	*net = (struct tms_sockets){ };
	err = sock_create_kern(ns, AF_INET, SOCK_DGRAM, IPPROTO_UDP, &net->rx);
	if (err)
		return err;
	err = kernel_bind(net->rx, (struct sockaddr_unsized *)&addr, sizeof(addr));
	if (err)
		goto close;
	err = kernel_getsockname(net->rx, (struct sockaddr *)&addr);
	if (err < 0)
		goto close;
	err = sock_create_kern(ns, AF_INET, SOCK_DGRAM, IPPROTO_UDP, &net->tx);
	if (err)
		goto close;
	err = kernel_connect(net->tx, (struct sockaddr_unsized *)&addr, sizeof(addr), 0);
	if (err)
		goto close;

	sk = net->rx->sk;
	write_lock_bh(&sk->sk_callback_lock);
	sk->sk_data_ready = data_ready;
	write_unlock_bh(&sk->sk_callback_lock);
	return 0;
close:
	tms_close_sockets(net);
	return err;
}

/* Sending runs the receive softirq on the way back to the caller. */
int tms_send(struct tms_sockets *net)
{
	struct msghdr msg = { .msg_flags = MSG_DONTWAIT };
	char data[64] = { };
	struct kvec vec;
	int ret;

	vec = (struct kvec){ .iov_base = data, .iov_len = sizeof(data) };
	ret = kernel_sendmsg(net->tx, &msg, &vec, 1, sizeof(data));
	if (ret < 0)
		return ret;
	do {
		msg = (struct msghdr){ };
		vec = (struct kvec){ .iov_base = data, .iov_len = sizeof(data) };
		ret = kernel_recvmsg(net->rx, &msg, &vec, 1, sizeof(data), MSG_DONTWAIT);
	} while (ret > 0);
	return 0;
}

static void tms_check_own(u32 want)
{
	u32 got = tms_own();

	tms.t->checks++;
	if (likely(got == want))
		return;
	if (!tms.t->leaks++) {
		tms.t->leak_got = got;
		tms.t->leak_want = want;
	}
	/* Put it right, so as to count the next one too. */
	memalloc_scope_give_back(tms_raw(want));
}

/*
 * A step of the task. Opening and closing one more scope has interrupts hit
 * between the load and the store of those, too.
 */
static void tms_step(u32 base, u32 extra)
{
	struct tms_cookies c;

	tms_check_own(base);
	tms_open(&c, extra);
	tms_check_own(base | extra);
	tms_close(&c);
	tms_check_own(base);
	WRITE_ONCE(tms.beat, tms.beat + 1);
}

/*
 * Timers hit as often as the machine can deliver timer interrupts, which may be
 * rarely in a virtual one, and a kernel that checks a lot is slow at everything:
 * after a while, an eighth of what was asked will do.
 */
static bool tms_enough(struct tms_interrupt *t, ktime_t patience)
{
	u32 few = ktime_after(ktime_get(), patience) ? t->shots / 8 : t->shots;

	for (int i = 0; i < TMS_KINDS; i++) {
		struct tms_hits *h = &t->kind[i];

		if (i == TMS_NET_RX && t->net_error)
			continue;
		if (t->rt && (i == TMS_IRQ_WORK || i == TMS_NESTED))
			continue;
		if (READ_ONCE(h->hits) + READ_ONCE(h->elsewhere) < few)
			return false;
	}
	return true;
}

static void tms_spin(struct tms_interrupt *t, u32 base, u32 extra, ktime_t start)
{
	ktime_t patience = ktime_add_ms(start, t->patience_ms);
	ktime_t end = ktime_add_ms(start, t->max_ms);
	u32 loops = 0;

	while (!tms_enough(t, patience) && !signal_pending(current) &&
	       ktime_before(ktime_get(), end)) {
		/* Ever different delays, to hit the task anywhere */
		u32 delay = 5000 + loops * 1237 % 30000;

		if (!hrtimer_active(&tms.hard))
			hrtimer_start(&tms.hard, ns_to_ktime(delay),
				      HRTIMER_MODE_REL_PINNED_HARD);
		if (t->kind[TMS_HRTIMER].hits < t->shots && !hrtimer_active(&tms.soft))
			hrtimer_start(&tms.soft, ns_to_ktime(delay + 3000),
				      HRTIMER_MODE_REL_PINNED_SOFT);
		for (int i = 0; i < TMS_TIMERS; i++) {
			if (!timer_pending(&tms.timers[i]))
				mod_timer(&tms.timers[i], jiffies + 1);
		}
		if (!t->net_error && t->kind[TMS_NET_RX].hits < t->shots)
			t->net_error = -tms_send(&tms.net);
		if (t->kind[TMS_IRQ_WORK].hits < t->shots || t->kind[TMS_BH].hits < t->shots)
			irq_work_queue(&tms.irq_work);
		for (int i = 0; i < 64; i++)
			tms_step(base, extra);
		loops++;
		cond_resched();
	}
}

int tms_interrupt_run(struct tms_interrupt *t)
{
	u32 own = tms_own(), base = own | t->scopes;
	ktime_t start = ktime_get();
	struct tms_cookies c;

	memset(&tms, 0, sizeof(tms));
	tms.t = t;
	t->rt = IS_ENABLED(CONFIG_PREEMPT_RT);
	/* Something that the task does not have open, and never all of it */
	tms.soft_scopes = (~base & TMS_SCOPES) ?: TMS_NOFS | TMS_PIN;
	hrtimer_setup(&tms.hard, tms_hard_hrtimer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED_HARD);
	hrtimer_setup(&tms.soft, tms_soft_hrtimer, CLOCK_MONOTONIC,
		      HRTIMER_MODE_REL_PINNED_SOFT);
	for (int i = 0; i < TMS_TIMERS; i++)
		timer_setup(&tms.timers[i], tms_timer, TIMER_PINNED);
	init_irq_work(&tms.irq_work, tms_irq_work);
	INIT_WORK(&tms.bh, tms_bh);
	t->net_error = -tms_open_sockets(&tms.net, tms_data_ready);

	migrate_disable();
	tms.cpu = smp_processor_id();
	tms_open(&c, t->scopes);
	tms_spin(t, base, ~base & TMS_SCOPES ? 1U << __ffs(~base & TMS_SCOPES) : 0,
		 start);
	tms_check_own(base);
	tms_close(&c);
	tms_check_own(own);
	WRITE_ONCE(tms.stop, true);
	hrtimer_cancel(&tms.hard);
	hrtimer_cancel(&tms.soft);
	for (int i = 0; i < TMS_TIMERS; i++)
		timer_delete_sync(&tms.timers[i]);
	irq_work_sync(&tms.irq_work);
	cancel_work_sync(&tms.bh);
	irq_work_sync(&tms.irq_work);
	migrate_enable();

	tms_close_sockets(&tms.net);
	t->ms = ktime_ms_delta(ktime_get(), start);
	return signal_pending(current) ? -EINTR : 0;
}

int tms_interrupt_init(void)
{
	tms_wq = alloc_workqueue("test_memalloc_scope", WQ_BH | WQ_PERCPU, 0);
	return tms_wq ? 0 : -ENOMEM;
}

void tms_interrupt_exit(void)
{
	destroy_workqueue(tms_wq);
}
