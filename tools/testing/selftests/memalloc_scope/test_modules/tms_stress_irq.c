// SPDX-License-Identifier: GPL-2.0
/*
 * What hits the tasks of the stress, and each other: hardirqs, softirqs, and work
 * items, on whatever task they find. Each looks at what applies in it, allocates,
 * opens scopes of its own, and leaves nothing behind.
 *
 * The tasks pull the trigger, so that interrupts cannot starve them.
 */
#include <linux/hrtimer.h>
#include <linux/interrupt.h>
#include <linux/irq_work.h>
#include <linux/jhash.h>
#include <linux/mm.h>
#include <linux/net.h>
#include <linux/netdevice.h>
#include <linux/percpu.h>
#include <linux/timer.h>
#include <linux/workqueue.h>

#include "tms_stress.h"

struct tms_gun {
	struct hrtimer hard, soft;
	struct irq_work irq_work;
	struct timer_list timer;
	struct tasklet_struct tasklet;
	struct work_struct bh, work;
};

static DEFINE_PER_CPU(struct tms_gun, tms_guns);
static struct tms_tally tms_tallies[TMS_STRESS_KINDS];
static struct workqueue_struct *tms_bh_wq, *tms_work_wq;
static u32 tms_seed;
/* Nothing arms anything any more. */
static bool tms_cease;

/* What the call that is made for the nth time opens */
static u32 tms_shot_scopes(u32 kind)
{
	struct tms_tally *t = &tms_tallies[kind];
	u32 nr = atomic_read(&t->hits) + atomic_read(&t->elsewhere);

	return jhash_3words(tms_seed, kind, nr, 0) & (TMS_SCOPES | TMS_NOLOCK);
}

/* Has the context below, or the task itself, any scope open? */
static bool tms_on_scopes(const struct tms_watch *watch, int below)
{
	return READ_ONCE(watch[below].tally) && READ_ONCE(watch[below].scopes);
}

/*
 * A softirq, or a thread that nobody but the kernel can have given any scope:
 * it starts with none.
 */
static void tms_visit(u32 kind, int context, gfp_t gfp)
{
	u32 scopes = tms_shot_scopes(kind) & TMS_SCOPES;
	struct tms_tally *t = &tms_tallies[kind];
	struct tms_watch *watch, *w;
	struct tms_cookies c;
	bool claimed;

	watch = tms_watch_enter(t, context, 0, &claimed);
	if (!watch) {
		atomic_inc(&t->missed);
		return;
	}
	w = &watch[context];
	tms_tally_bad(t, TMS_RULE_ENTRY, tms_own(), 0);
	tms_stress_check(t, 0);
	tms_stress_page(w, gfp);

	tms_open(&c, scopes);
	WRITE_ONCE(w->scopes, scopes);
	tms_tally_bad(t, TMS_RULE_OWN, tms_own(), scopes);
	tms_stress_check(t, scopes);
	if (context == TMS_CTX_SOFTIRQ && !READ_ONCE(tms_cease))
		irq_work_queue(this_cpu_ptr(&tms_guns.irq_work));
	tms_stress_page(w, gfp);
	WRITE_ONCE(w->scopes, 0);
	tms_close(&c);

	tms_tally_bad(t, TMS_RULE_OWN, tms_own(), 0);
	tms_stress_check(t, 0);
	if (context == TMS_CTX_SOFTIRQ && tms_on_scopes(watch, TMS_CTX_TASK))
		atomic_inc(&t->hits);
	else
		atomic_inc(&t->elsewhere);
	tms_watch_leave(watch, context, claimed);
}

static void tms_soft_shot(u32 kind)
{
	if (in_serving_softirq() && !in_hardirq())
		tms_visit(kind, TMS_CTX_SOFTIRQ, TMS_GFP_PROBE);
	else
		atomic_inc(&tms_tallies[kind].missed);
}

/* Nothing of what runs below applies in here, and nothing of it changes. */
static void tms_hard_shot(u32 kind, bool allocate)
{
	bool nested = in_serving_softirq();
	struct tms_watch *watch;
	struct tms_tally *t;
	u32 found, scopes;
	unsigned int cookie;
	bool claimed;

	if (nested)
		kind = TMS_NESTED;
	t = &tms_tallies[kind];
	watch = tms_watch_enter(t, TMS_CTX_HARDIRQ, 0, &claimed);
	if (!watch) {
		atomic_inc(&t->missed);
		return;
	}
	found = tms_own();
	tms_stress_check(t, 0);
	if (allocate)
		tms_stress_page(&watch[TMS_CTX_HARDIRQ], TMS_GFP_PROBE);
	scopes = tms_shot_scopes(kind);
	cookie = memalloc_scope_save(tms_raw(scopes));
	tms_stress_check(t, scopes & TMS_IRQ_SCOPES);
	memalloc_scope_restore(cookie);
	tms_tally_bad(t, TMS_RULE_ENTRY, tms_own(), found);

	if (found && tms_on_scopes(watch, nested ? TMS_CTX_SOFTIRQ : TMS_CTX_TASK))
		atomic_inc(&t->hits);
	else
		atomic_inc(&t->elsewhere);
	tms_watch_leave(watch, TMS_CTX_HARDIRQ, claimed);
}

/* Does not allocate: the allocator's locks sleep on PREEMPT_RT. */
static enum hrtimer_restart tms_hard_hrtimer(struct hrtimer *timer)
{
	tms_hard_shot(TMS_HARDIRQ, false);
	return HRTIMER_NORESTART;
}

static enum hrtimer_restart tms_soft_hrtimer(struct hrtimer *timer)
{
	tms_soft_shot(TMS_HRTIMER);
	return HRTIMER_NORESTART;
}

/* Softirqs that are raised in a hardirq run right after it. */
static void tms_irq_work(struct irq_work *work)
{
	bool nested = in_serving_softirq();

	if (in_hardirq())
		tms_hard_shot(TMS_IRQ_WORK, true);
	else
		tms_visit(TMS_IRQ_WORK, TMS_CTX_TASK, TMS_GFP_PROBE);
	if (nested || READ_ONCE(tms_cease))
		return;
	tasklet_schedule(this_cpu_ptr(&tms_guns.tasklet));
	queue_work(tms_bh_wq, this_cpu_ptr(&tms_guns.bh));
}

static void tms_timer(struct timer_list *timer)
{
	tms_soft_shot(TMS_TIMER);
}

static void tms_tasklet(struct tasklet_struct *tasklet)
{
	tms_soft_shot(TMS_STRESS_TASKLET);
}

static void tms_bh(struct work_struct *work)
{
	tms_soft_shot(TMS_BH);
}

static void tms_work(struct work_struct *work)
{
	tms_visit(TMS_STRESS_WORK, TMS_CTX_TASK, GFP_HIGHUSER_MOVABLE);
}

void tms_shot_received(struct sock *sk)
{
	tms_soft_shot(TMS_NET_RX);
}

/* Task context, with bottom halves off or not. TMS_NET_RX: see tms_send(). */
void tms_shoot(u32 kind, u32 random)
{
	ktime_t delay = ns_to_ktime(5000 + random % 30000);
	struct tms_gun *gun;

	migrate_disable();
	gun = this_cpu_ptr(&tms_guns);
	switch (kind) {
	case TMS_HARDIRQ:
		hrtimer_start(&gun->hard, delay, HRTIMER_MODE_REL_PINNED_HARD);
		break;
	case TMS_HRTIMER:
		hrtimer_start(&gun->soft, delay, HRTIMER_MODE_REL_PINNED_SOFT);
		break;
	case TMS_TIMER:
		if (!timer_pending(&gun->timer))
			mod_timer(&gun->timer, jiffies + 1);
		break;
	case TMS_STRESS_TASKLET:
		tasklet_schedule(&gun->tasklet);
		break;
	case TMS_BH:
		queue_work(tms_bh_wq, &gun->bh);
		break;
	case TMS_STRESS_WORK:
		queue_work(tms_work_wq, &gun->work);
		break;
	default:
		irq_work_queue(&gun->irq_work);
	}
	migrate_enable();
}

void tms_shots_start(u64 seed)
{
	int cpu;

	memset(tms_tallies, 0, sizeof(tms_tallies));
	tms_seed = seed;
	for_each_possible_cpu(cpu) {
		struct tms_gun *gun = per_cpu_ptr(&tms_guns, cpu);

		hrtimer_setup(&gun->hard, tms_hard_hrtimer, CLOCK_MONOTONIC,
			      HRTIMER_MODE_REL_PINNED_HARD);
		hrtimer_setup(&gun->soft, tms_soft_hrtimer, CLOCK_MONOTONIC,
			      HRTIMER_MODE_REL_PINNED_SOFT);
		init_irq_work(&gun->irq_work, tms_irq_work);
		timer_setup(&gun->timer, tms_timer, TIMER_PINNED);
		tasklet_setup(&gun->tasklet, tms_tasklet);
		INIT_WORK(&gun->bh, tms_bh);
		INIT_WORK(&gun->work, tms_work);
	}
	WRITE_ONCE(tms_cease, false);
}

/*
 * With all tasks out of the way. Interrupts arm each other: what one that did
 * not see tms_cease yet has armed, the second round gets.
 */
void tms_shots_stop(struct tms_hits kind[TMS_STRESS_KINDS])
{
	int cpu;

	WRITE_ONCE(tms_cease, true);
	synchronize_net();
	for (int round = 0; round < 2; round++) {
		for_each_possible_cpu(cpu) {
			struct tms_gun *gun = per_cpu_ptr(&tms_guns, cpu);

			hrtimer_cancel(&gun->hard);
			hrtimer_cancel(&gun->soft);
			timer_delete_sync(&gun->timer);
			irq_work_sync(&gun->irq_work);
			tasklet_kill(&gun->tasklet);
			cancel_work_sync(&gun->bh);
			cancel_work_sync(&gun->work);
		}
	}
	for (int i = 0; kind && i < TMS_STRESS_KINDS; i++)
		tms_tally_report(&kind[i], &tms_tallies[i]);
}

int tms_stress_init(void)
{
	tms_bh_wq = alloc_workqueue("tms_stress_bh", WQ_BH | WQ_PERCPU, 0);
	if (!tms_bh_wq)
		return -ENOMEM;
	tms_work_wq = alloc_workqueue("tms_stress", WQ_PERCPU, 0);
	if (!tms_work_wq) {
		destroy_workqueue(tms_bh_wq);
		return -ENOMEM;
	}
	return 0;
}

void tms_stress_exit(void)
{
	destroy_workqueue(tms_work_wq);
	destroy_workqueue(tms_bh_wq);
}
