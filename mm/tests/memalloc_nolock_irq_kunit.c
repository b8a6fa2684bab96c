// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for nolock scopes that interrupts open, on top of whatever the task
 * has open: hard interrupts, softirqs, NMIs. As nowarn is the other scope that has a
 * meaning there, it takes part.
 */
#include <kunit/test.h>
#include <linux/debug_locks.h>
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/hrtimer.h>
#include <linux/interrupt.h>
#include <linux/memalloc_guard.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/smp.h>
#ifdef CONFIG_X86_LOCAL_APIC
#include <asm/apic.h>
#include <asm/nmi.h>
#endif

#define NR_VISITED	8	/* objects and pages that an interrupt tries to have */

/* What a handler finds in the task that it interrupts, opens, and leaves */
struct visit {
	memalloc_scope_t opens;
	memalloc_scope_t found, opened, nested, left;
	gfp_t found_gfp, opened_gfp;
	memalloc_scope_t before, after;	/* the byte of the task */
	unsigned int objects, pages;
	struct task_struct *task;	/* for NMIs */
	bool done, lost;
	memalloc_scope_t kept;		/* by a handler that an NMI has interrupted */
	struct hrtimer timer;
	struct tasklet_struct tasklet;
};

static void visit(struct visit *v)
{
	unsigned int outer, inner;

	v->before = current->memalloc_scope;
	v->found = current_memalloc_scope();
	v->found_gfp = current_gfp_context(GFP_ATOMIC);

	outer = memalloc_scope_save(v->opens);
	v->opened = current_memalloc_scope();
	v->opened_gfp = current_gfp_context(GFP_ATOMIC);
	inner = memalloc_scope_save(v->opens);
	memalloc_scope_restore(inner);
	v->nested = current_memalloc_scope();

	for (int i = 0; memalloc_nolock_active() && i < NR_VISITED; i++) {
		void *p = kmalloc(64, GFP_ATOMIC);
		struct page *page = alloc_page(GFP_ATOMIC);

		v->objects += !!p;
		v->pages += !!page;
		kfree(p);
		if (page)
			__free_page(page);
	}

	memalloc_scope_restore(outer);
	v->left = current_memalloc_scope();
	v->after = current->memalloc_scope;
	WRITE_ONCE(v->done, true);
}

#if defined(CONFIG_X86_LOCAL_APIC) && defined(CONFIG_SMP)
static struct visit *nmi_visit;

static int visit_nmi(unsigned int val, struct pt_regs *regs)
{
	struct visit *v = READ_ONCE(nmi_visit);

	if (!v || v->task != current || READ_ONCE(v->done))
		return NMI_DONE;
	visit(v);
	return NMI_HANDLED;
}

static bool be_visited_by_nmi(struct visit *v)
{
	guard(preempt)();
	WRITE_ONCE(nmi_visit, v);
	__apic_send_IPI_mask(cpumask_of(smp_processor_id()), NMI_VECTOR);
	for (int i = 0; !READ_ONCE(v->done) && i < USEC_PER_SEC; i++)
		udelay(1);
	WRITE_ONCE(nmi_visit, NULL);
	return READ_ONCE(v->done);
}

static void drop_nmi_handler(void *unused)
{
	unregister_nmi_handler(NMI_LOCAL, "memalloc_nolock");
}

static void need_nmis(struct kunit *test)
{
	if (!boot_cpu_has(X86_FEATURE_APIC))
		kunit_skip(test, "needs a local APIC");
	KUNIT_ASSERT_EQ(test, register_nmi_handler(NMI_LOCAL, visit_nmi, 0,
						   "memalloc_nolock"), 0);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, drop_nmi_handler, NULL), 0);
}
#else
static bool be_visited_by_nmi(struct visit *v)
{
	return false;
}

static void need_nmis(struct kunit *test)
{
	kunit_skip(test, "no known way to raise an NMI");
}
#endif

static enum hrtimer_restart visit_hardirq(struct hrtimer *timer)
{
	visit(container_of(timer, struct visit, timer));
	return HRTIMER_NORESTART;
}

/* A handler that has nolock open is interrupted in turn. */
static enum hrtimer_restart visit_nmi_in_hardirq(struct hrtimer *timer)
{
	struct visit *v = container_of(timer, struct visit, timer);

	guard(memalloc_nolock)();
	if (!be_visited_by_nmi(v))
		v->lost = true;
	v->kept = current_memalloc_scope();
	return HRTIMER_NORESTART;
}

static bool be_visited_by_timer(struct visit *v)
{
	guard(preempt)();
	hrtimer_start(&v->timer, 0, HRTIMER_MODE_REL_PINNED_HARD);
	while (!READ_ONCE(v->done) && !READ_ONCE(v->lost))
		cpu_relax();
	return !v->lost;
}

static bool be_visited_by_hardirq(struct visit *v)
{
	hrtimer_setup(&v->timer, visit_hardirq, CLOCK_MONOTONIC,
		      HRTIMER_MODE_REL_PINNED_HARD);
	return be_visited_by_timer(v);
}

static bool be_visited_by_nmi_in_hardirq(struct visit *v)
{
	hrtimer_setup(&v->timer, visit_nmi_in_hardirq, CLOCK_MONOTONIC,
		      HRTIMER_MODE_REL_PINNED_HARD);
	return be_visited_by_timer(v);
}

static void visit_softirq(struct tasklet_struct *tasklet)
{
	visit(container_of(tasklet, struct visit, tasklet));
}

/* It runs where softirqs are enabled again, or in ksoftirqd. */
static bool be_visited_by_softirq(struct visit *v)
{
	tasklet_setup(&v->tasklet, visit_softirq);
	local_bh_disable();
	tasklet_schedule(&v->tasklet);
	local_bh_enable();
	for (int i = 0; !READ_ONCE(v->done) && i < 1000; i++)
		msleep(20);
	tasklet_kill(&v->tasklet);
	return READ_ONCE(v->done);
}

static const memalloc_scope_t opened_by_irqs[] = {
	MEMALLOC_SCOPE_NONE, MEMALLOC_SCOPE_NOLOCK, MEMALLOC_SCOPE_NOWARN,
	MEMALLOC_SCOPE_ANY_IRQ,
};

static void check_visit(struct kunit *test, struct visit *v, memalloc_scope_t before)
{
	gfp_t opened_gfp = GFP_ATOMIC;

	if (v->opens & MEMALLOC_SCOPE_NOLOCK)
		opened_gfp = __GFP_NOWARN | __GFP_NOMEMALLOC;
	else if (v->opens & MEMALLOC_SCOPE_NOWARN)
		opened_gfp |= __GFP_NOWARN;

	KUNIT_EXPECT_EQ(test, (__force u8)v->before, (__force u8)before);
	KUNIT_EXPECT_EQ(test, (__force u8)v->found, 0);
	KUNIT_EXPECT_EQ(test, v->found_gfp, GFP_ATOMIC);
	KUNIT_EXPECT_EQ(test, (__force u8)v->opened, (__force u8)v->opens);
	KUNIT_EXPECT_EQ(test, v->opened_gfp, opened_gfp);
	KUNIT_EXPECT_EQ(test, (__force u8)v->nested, (__force u8)v->opens);
	KUNIT_EXPECT_EQ(test, (__force u8)v->left, 0);
	KUNIT_EXPECT_EQ(test, (__force u8)v->after, (__force u8)before);
}

/*
 * Whatever the task has open, with whatever the handler opens. The byte that it meets
 * has @keeps of what the task had, and @adds; @allocates: nolock allocations work.
 */
static void visits(struct kunit *test, bool (*be_visited)(struct visit *v),
		   memalloc_scope_t keeps, memalloc_scope_t adds, bool allocates)
{
	struct visit *v = kunit_kzalloc(test, sizeof(*v), GFP_KERNEL);
	bool locks_checked = debug_locks;

	KUNIT_ASSERT_NOT_NULL(test, v);
	v->task = current;

	for (int i = 0; i < ARRAY_SIZE(opened_by_irqs) * ARRAY_SIZE(opened_by_irqs); i++) {
		memalloc_scope_t open = opened_by_irqs[i / ARRAY_SIZE(opened_by_irqs)], after;
		bool visited;

		v->opens = opened_by_irqs[i % ARRAY_SIZE(opened_by_irqs)];
		v->objects = 0;
		v->pages = 0;
		v->done = false;
		scoped_guard(memalloc_scope, open) {
			visited = be_visited(v);
			after = current->memalloc_scope;
		}
		KUNIT_EXPECT_TRUE(test, visited);
		if (!visited)
			break;
		check_visit(test, v, (open & keeps) | adds);
		KUNIT_EXPECT_EQ(test, (__force u8)after, (__force u8)open);
		KUNIT_EXPECT_EQ(test, (__force u8)v->kept, (__force u8)adds);
		if (!(v->opens & MEMALLOC_SCOPE_NOLOCK))
			continue;
		if (allocates) {
			KUNIT_EXPECT_GE(test, v->objects, NR_VISITED / 2);
			KUNIT_EXPECT_GE(test, v->pages, NR_VISITED / 2);
		} else {
			KUNIT_EXPECT_EQ(test, v->objects, 0);
			KUNIT_EXPECT_EQ(test, v->pages, 0);
		}
	}
	KUNIT_EXPECT_EQ(test, !!debug_locks, locks_checked);
	KUNIT_EXPECT_EQ(test, (__force u8)current->memalloc_scope, 0);
}

/*
 * Red if: current_memalloc_scope() returns the task's byte in a hard interrupt, or
 * __memalloc_scope_restore_irq() forgets memalloc_irq_scope or clears what the task
 * had open, or can_spin_trylock() is not asked on PREEMPT_RT.
 */
static void hardirqs(struct kunit *test)
{
	visits(test, be_visited_by_hardirq, MEMALLOC_SCOPE_ANY_IRQ, MEMALLOC_SCOPE_NONE,
	       !IS_ENABLED(CONFIG_PREEMPT_RT));
}

/*
 * Red if: handle_softirqs() does not borrow, or current_memalloc_scope() takes softirqs
 * for interrupts that keep their scopes elsewhere.
 */
static void softirqs(struct kunit *test)
{
	visits(test, be_visited_by_softirq, MEMALLOC_SCOPE_NONE, MEMALLOC_SCOPE_NONE, true);
}

/* Red if: something on the way spins (it hangs), or can_spin_trylock() forgets in_nmi(). */
static void nmis(struct kunit *test)
{
	need_nmis(test);
	visits(test, be_visited_by_nmi, MEMALLOC_SCOPE_ANY_IRQ, MEMALLOC_SCOPE_NONE,
	       !IS_ENABLED(CONFIG_PREEMPT_RT));
}

/* Red if: memalloc_irq_scope has but one place for hard interrupts and NMIs. */
static void nmis_in_hardirqs(struct kunit *test)
{
	need_nmis(test);
	visits(test, be_visited_by_nmi_in_hardirq, MEMALLOC_SCOPE_ANY_IRQ,
	       MEMALLOC_SCOPE_NOLOCK, !IS_ENABLED(CONFIG_PREEMPT_RT));
}

static struct kunit_case memalloc_nolock_irq_cases[] = {
	KUNIT_CASE(hardirqs),
	KUNIT_CASE(softirqs),
	KUNIT_CASE(nmis),
	KUNIT_CASE(nmis_in_hardirqs),
	{}
};

static struct kunit_suite memalloc_nolock_irq_suite = {
	.name = "memalloc_nolock_irq",
	.test_cases = memalloc_nolock_irq_cases,
};

kunit_test_suite(memalloc_nolock_irq_suite);

MODULE_DESCRIPTION("KUnit tests for nolock scopes in interrupts");
MODULE_LICENSE("GPL");
