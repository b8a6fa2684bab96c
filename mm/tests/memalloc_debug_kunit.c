// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for the checks of allocation scopes: each is made to report, and to be
 * silent. With CONFIG_CHECK_MEMALLOC_SCOPE alone there are few, which do not know who
 * opened a scope. Return to user space and new threads are for the kselftest,
 * tools/testing/selftests/memalloc_scope/.
 *
 * Where it says "Red if", it names an edit to mm/memalloc_debug.c.
 */
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/freezer.h>
#include <linux/interrupt.h>
#include <linux/irq_work.h>
#include <linux/kthread.h>
#include <linux/memalloc_guard.h>
#include <linux/memalloc_work.h>
#include <linux/sched/task.h>
#include <linux/string.h>
#include <linux/workqueue.h>
#include <trace/events/memalloc.h>

#define TEXTS_MAX	8

/* What was reported since forget_reports(), whoever is the current task. */
static struct reports {
	raw_spinlock_t lock;
	unsigned int nr;
	char text[TEXTS_MAX][320];
} reports = { .lock = __RAW_SPIN_LOCK_UNLOCKED(reports.lock) };

static void probe(void *unused, const char *text)
{
	guard(raw_spinlock_irqsave)(&reports.lock);
	if (reports.nr < TEXTS_MAX)
		strscpy(reports.text[reports.nr], text);
	reports.nr++;
}

static void forget_reports(void)
{
	guard(raw_spinlock_irqsave)(&reports.lock);
	reports.nr = 0;
	memalloc_debug_forget();
}

/* @pattern: parts of a text, in this order, with an asterisk between them. */
static bool matches(const char *text, const char *pattern)
{
	char parts[200], *rest = parts, *part;

	strscpy(parts, pattern);
	while ((part = strsep(&rest, "*"))) {
		text = strstr(text, part);
		if (!text)
			return false;
		text += strlen(part);
	}
	return true;
}

static void expect_no_records(struct kunit *test)
{
#ifdef CONFIG_DEBUG_MEMALLOC_SCOPE
	KUNIT_EXPECT_EQ(test, memalloc_depth(), 0);
#endif
}

/* One report, and that one. */
static void expect_report(struct kunit *test, const char *pattern)
{
	KUNIT_EXPECT_EQ(test, reports.nr, 1);
	if (reports.nr)
		KUNIT_EXPECT_TRUE_MSG(test, matches(reports.text[0], pattern),
				      "want: %s\nis: %s", pattern, reports.text[0]);
	for (int i = 1; i < min(reports.nr, TEXTS_MAX); i++)
		KUNIT_FAIL(test, "also: %s", reports.text[i]);
	expect_no_records(test);
	KUNIT_EXPECT_EQ(test, (__force u8)current->memalloc_scope, 0);
	forget_reports();
}

static void expect_silence(struct kunit *test)
{
	for (int i = 0; i < min(reports.nr, TEXTS_MAX); i++)
		KUNIT_FAIL(test, "reported: %s", reports.text[i]);
	expect_no_records(test);
	KUNIT_EXPECT_EQ(test, (__force u8)current->memalloc_scope, 0);
	forget_reports();
}

#ifdef CONFIG_DEBUG_MEMALLOC_SCOPE
#define OPENED_BY(function)	", opened by " function "+0x"
#else
#define OPENED_BY(function)
#endif

/* Places with names to look for */
static noinline unsigned int opens_noio(void)
{
	return memalloc_noio_save();
}

/* Something that runs elsewhere; each is a place of its own, reported or not. */
struct elsewhere {
	struct work_struct work;
	struct kthread_work kwork;
	struct tasklet_struct tasklet;
	struct irq_work irq_work;
	struct kunit *test;
	struct kunit_suppressed_warning *quiet;
	struct workqueue_struct *wq;	/* for work; if NULL, one without scopes */
	void (*run)(struct elsewhere *e);
	unsigned int cookie;
	memalloc_scope_t scope;
	struct completion done;
};

static void leaves_noio(struct elsewhere *e)
{
	e->cookie = opens_noio();
}

static void behaves(struct elsewhere *e)
{
	guard(memalloc_noio)();
	guard(memalloc_nolock)();
	{
		guard(memalloc_ctx)(MEMALLOC_CTX_NONE);
		guard(memalloc_nofs)();
	}
	e->scope = current->memalloc_scope;
}

/* The thread that does so is not the one whose test this is. */
static void run_quietly(struct elsewhere *e)
{
	e->quiet = kunit_start_suppress_warning(e->test);
	e->run(e);
}

static noinline void work_of_test(struct work_struct *work)
{
	run_quietly(container_of(work, struct elsewhere, work));
}

static noinline void kwork_of_test(struct kthread_work *kwork)
{
	run_quietly(container_of(kwork, struct elsewhere, kwork));
}

static void run_in_work(struct elsewhere *e)
{
	INIT_WORK_ONSTACK(&e->work, work_of_test);
	queue_work(e->wq ?: system_percpu_wq, &e->work);
	flush_work(&e->work);
	destroy_work_on_stack(&e->work);
	kunit_end_suppress_warning(e->test, e->quiet);
}

static void run_in_kthread_worker(struct elsewhere *e)
{
	struct kthread_worker *worker = kthread_run_worker(0, "memalloc_debug");

	KUNIT_ASSERT_FALSE(e->test, IS_ERR(worker));
	kthread_init_work(&e->kwork, kwork_of_test);
	kthread_queue_work(worker, &e->kwork);
	kthread_flush_work(&e->kwork);
	kthread_destroy_worker(worker);
	kunit_end_suppress_warning(e->test, e->quiet);
}

static void left_open_by(struct kunit *test, void (*run_in)(struct elsewhere *e),
			 const char *report)
{
	struct elsewhere e = { .test = test, .run = leaves_noio };

	run_in(&e);
	expect_report(test, report);

	/* Whatever runs there next has nothing open. */
	e.run = behaves;
	run_in(&e);
	KUNIT_EXPECT_TRUE(test, e.scope == (MEMALLOC_SCOPE_NOIO | MEMALLOC_SCOPE_NOLOCK));
	expect_silence(test);
}

/* Red if: process_one_work() does not ask, or no record is kept. */
static void left_open_by_work(struct kunit *test)
{
	left_open_by(test, run_in_work,
		     "noio scope left open by work item work_of_test" OPENED_BY("opens_noio"));
}

/* Red if: kthread_worker_fn() does not ask. */
static void left_open_by_kthread_work(struct kunit *test)
{
	left_open_by(test, run_in_kthread_worker,
		     "noio scope left open by work item kwork_of_test" OPENED_BY("opens_noio"));
}

#ifdef CONFIG_DEBUG_MEMALLOC_SCOPE
static noinline unsigned int opens_nofs(void)
{
	return memalloc_nofs_save();
}

static noinline void closes_noio(unsigned int cookie)
{
	memalloc_noio_restore(cookie);
	barrier();
}

static noinline void closes_nofs(unsigned int cookie)
{
	memalloc_nofs_restore(cookie);
	barrier();
}

static void leaves_nolock(struct elsewhere *e)
{
	e->cookie = memalloc_nolock_save();
}

static void closes(struct elsewhere *e)
{
	closes_noio(e->cookie);
}

static noinline void tasklet_of_test(struct tasklet_struct *tasklet)
{
	struct elsewhere *e = container_of(tasklet, struct elsewhere, tasklet);

	e->run(e);
}

static void irq_work_of_test(struct irq_work *irq_work)
{
	struct elsewhere *e = container_of(irq_work, struct elsewhere, irq_work);

	e->run(e);
}

static int thread_of_test(void *data)
{
	struct elsewhere *e = data;

	run_quietly(e);
	complete(&e->done);
	return 0;
}

static void run_in_thread(struct elsewhere *e)
{
	struct task_struct *task;

	init_completion(&e->done);
	task = kthread_create(thread_of_test, e, "memalloc_debug");
	KUNIT_ASSERT_FALSE(e->test, IS_ERR(task));
	get_task_struct(task);
	wake_up_process(task);
	wait_for_completion(&e->done);
	kthread_stop(task);
	/* It is on its way through do_exit(). */
	while (READ_ONCE(task->__state) != TASK_DEAD)
		schedule_timeout_uninterruptible(1);
	put_task_struct(task);
	kunit_end_suppress_warning(e->test, e->quiet);
}

/* On top of the test, which has no scope open, or has. */
static void run_in_softirq(struct elsewhere *e)
{
	tasklet_setup(&e->tasklet, tasklet_of_test);
	kunit_warning_suppress(e->test) {
		local_bh_disable();
		tasklet_schedule(&e->tasklet);
		local_bh_enable();
	}
	tasklet_kill(&e->tasklet);
}

static void run_in_hardirq(struct elsewhere *e)
{
	e->irq_work = IRQ_WORK_INIT_HARD(irq_work_of_test);
	kunit_warning_suppress(e->test) {
		/* It comes as soon as it is raised, on top of us. */
		preempt_disable();
		irq_work_queue(&e->irq_work);
		preempt_enable();
		irq_work_sync(&e->irq_work);
	}
}

/* The byte does not tell. Red if: memalloc_check_mark() does not compare the depth. */
static void left_open_nested(struct kunit *test)
{
	struct elsewhere e = { .test = test, .run = leaves_noio };

	e.wq = alloc_workqueue("memalloc_debug", WQ_PERCPU | WQ_MEMALLOC_NOIO, 0);
	KUNIT_ASSERT_NOT_NULL(test, e.wq);
	run_in_work(&e);
	destroy_workqueue(e.wq);
	expect_report(test,
		      "noio scope left open by work item work_of_test" OPENED_BY("opens_noio"));
}

/* Red if: do_exit() does not ask. */
static void left_open_by_thread(struct kunit *test)
{
	left_open_by(test, run_in_thread,
		     "noio scope left open by a thread that exits, opened by opens_noio+0x");
}

static int thread_for_life(void *data)
{
	memalloc_noio_thread();
	memalloc_noio_restore(memalloc_noio_save());
	set_freezable();
	try_to_freeze();
	/* Nobody freezes us: this returns at once. */
	__refrigerator(false);
	complete(data);
	return 0;
}

/* Red if: what memalloc_scope_thread() opens is not expected where a task freezes. */
static void scopes_for_life(struct kunit *test)
{
	DECLARE_COMPLETION_ONSTACK(done);
	struct task_struct *task = kthread_create(thread_for_life, &done, "memalloc_debug");

	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	get_task_struct(task);
	wake_up_process(task);
	wait_for_completion(&done);
	while (READ_ONCE(task->__state) != TASK_DEAD)
		schedule_timeout_uninterruptible(1);
	put_task_struct(task);
	expect_silence(test);
}

/* Red if: __refrigerator() does not ask. */
static void left_open_in_freezer(struct kunit *test)
{
	unsigned int cookie;

	if (!IS_ENABLED(CONFIG_FREEZER))
		kunit_skip(test, "CONFIG_FREEZER is not set");

	cookie = opens_nofs();
	/* Nobody freezes us: this returns at once. */
	kunit_warning_suppress(test)
		__refrigerator(false);
	expect_report(test,
		      "nofs scope left open by a task that freezes, opened by opens_nofs+0x");

	/* It has been closed, and not by whom opened it. */
	kunit_warning_suppress(test)
		closes_nofs(cookie);
	expect_report(test,
		      "nofs scope closed by closes_nofs+0x*, and nobody knows who opened it");

	__refrigerator(false);
	expect_silence(test);
}

/* Red if: handle_softirqs() does not ask, or asks after it has cleared the byte. */
static void left_open_by_softirq(struct kunit *test)
{
	struct elsewhere e = { .test = test, .run = leaves_noio };

	run_in_softirq(&e);
	expect_report(test,
		      "noio scope left open by softirq tasklet_action, opened by opens_noio+0x");

	scoped_guard(memalloc_noio)
		run_in_softirq(&e);
	expect_report(test,
		      "noio scope left open by softirq tasklet_action, opened by opens_noio+0x");

	e.run = behaves;
	scoped_guard(memalloc_noio)
		run_in_softirq(&e);
	expect_silence(test);
}

/*
 * Red if: __irq_exit_rcu() does not ask, or what was opened there is not taken from
 * the byte of the task below, or more than that is.
 */
static void left_open_by_hardirq(struct kunit *test)
{
	struct elsewhere e = { .test = test, .run = leaves_nolock };

	run_in_hardirq(&e);
	expect_report(test,
		      "nolock scope left open by a hard interrupt, opened by leaves_nolock+0x");
	KUNIT_EXPECT_FALSE(test, memalloc_nolock_active());

	scoped_guard(memalloc_nolock) {
		run_in_hardirq(&e);
		KUNIT_EXPECT_TRUE(test, memalloc_nolock_active());
	}
	expect_report(test,
		      "nolock scope left open by a hard interrupt, opened by leaves_nolock+0x");

	e.run = behaves;
	scoped_guard(memalloc_noio)
		run_in_hardirq(&e);
	expect_silence(test);
}

/* Red if: memalloc_closed() does not report, or remember() is not called. */
static void closed_twice(struct kunit *test)
{
	unsigned int cookie = opens_noio();

	closes_noio(cookie);
	kunit_warning_suppress(test)
		memalloc_noio_restore(cookie);
	expect_report(test,
		      "noio scope opened by opens_noio+0x* is closed by closed_twice+0x*, but has been closed by closes_noio+0x");
}

/* Red if: report_stray() does not look at other tasks. */
static void closed_by_another_task(struct kunit *test)
{
	struct elsewhere e = { .test = test, .run = closes };

	e.cookie = opens_noio();
	run_in_thread(&e);
	closes_noio(e.cookie);
	expect_report(test,
		      "noio scope opened by opens_noio+0x* in task kunit_try_catch/* is closed by closes_noio+0x* in another task");
}

/* Red if: report_stray() does not look at the other records of the task. */
static void closed_in_another_context(struct kunit *test)
{
	struct elsewhere e = { .test = test, .run = closes };

	e.cookie = opens_noio();
	run_in_softirq(&e);
	KUNIT_EXPECT_TRUE(test, memalloc_noio_active());
	closes_noio(e.cookie);
	expect_report(test,
		      "noio scope opened in task context by opens_noio+0x* is closed in a softirq by closes_noio+0x");

	e.cookie = opens_noio();
	run_in_hardirq(&e);
	closes_noio(e.cookie);
	expect_report(test,
		      "noio scope opened in task context by opens_noio+0x* is closed in a hard interrupt by closes_noio+0x");
}

/* Red if: memalloc_closed() looks only at the record on top, or relies_on() says no. */
static void closed_before_inner(struct kunit *test)
{
	unsigned int outer = opens_noio(), inner = memalloc_noio_save();

	kunit_warning_suppress(test)
		closes_noio(outer);
	KUNIT_EXPECT_FALSE(test, memalloc_noio_active());
	memalloc_noio_restore(inner);
	expect_report(test,
		      "noio scope opened by opens_noio+0x* is closed by closes_noio+0x* before the noio scope that closed_before_inner+0x* has opened inside of it");
}

/* Red if: the record does not know what was asked for. */
static void closed_as_another_kind(struct kunit *test)
{
	unsigned int cookie = opens_noio();

	kunit_warning_suppress(test)
		closes_nofs(cookie);
	expect_report(test,
		      "noio scope opened by opens_noio+0x* is closed as nofs by closes_nofs+0x");
}

/* Red if: memalloc_put_back() does not look at what is above its record. */
static void open_where_context_is_put_back(struct kunit *test)
{
	scoped_guard(memalloc_ctx, MEMALLOC_CTX_NOFS) {
		kunit_warning_suppress(test) {
			memalloc_scope_t old = memalloc_ctx_adopt(MEMALLOC_CTX_NONE);

			WARN_ON(!opens_noio());
			memalloc_ctx_restore(old);
		}
		KUNIT_EXPECT_TRUE(test, current->memalloc_scope == MEMALLOC_SCOPE_NOFS);
	}
	expect_report(test,
		      "noio scope opened by opens_noio+0x* is still open where the context is put back that open_where_context_is_put_back+0x* has adopted");
}

/* Red if: first_report() says yes always. */
static void reported_once(struct kunit *test)
{
	struct elsewhere e = { .test = test, .run = leaves_noio };

	run_in_softirq(&e);
	run_in_softirq(&e);
	run_in_work(&e);
	expect_report(test,
		      "noio scope left open by softirq tasklet_action, opened by opens_noio+0x");
}

/* Legal, all of it. Red if: relies_on() says yes, or a record is lost or kept. */
static void silent(struct kunit *test)
{
	unsigned int cookies[3 * MEMALLOC_RECORDS_MAX], none = 0;
	struct elsewhere e = { .test = test, .run = behaves };

	/* A cookie of nothing */
	memalloc_noio_restore(none);
	memalloc_scope_restore(none);

	/* Different kinds, in any order */
	cookies[0] = memalloc_noio_save();
	cookies[1] = memalloc_nofs_save();
	cookies[2] = memalloc_pin_save();
	memalloc_noio_restore(cookies[0]);
	memalloc_pin_restore(cookies[2]);
	memalloc_nofs_restore(cookies[1]);

	/* Deeper than there are records */
	for (int i = 0; i < ARRAY_SIZE(cookies); i++)
		cookies[i] = memalloc_noio_save();
	{
		guard(memalloc_ctx)(MEMALLOC_CTX_NONE);
		guard(memalloc_gfp)(GFP_NOFS);
	}
	for (int i = ARRAY_SIZE(cookies); i--; )
		memalloc_noio_restore(cookies[i]);
	expect_silence(test);

	/* By any restore, if it is for all kinds */
	memalloc_scope_restore(memalloc_noio_save());
	memalloc_scope_restore(memalloc_scope_save(MEMALLOC_SCOPE_NOFS | MEMALLOC_SCOPE_PIN));

	/* On top of one another */
	scoped_guard(memalloc_noio) {
		/* What the work item needs for itself, it asks for with GFP_KERNEL. */
		memalloc_scope_untrack();
		run_in_softirq(&e);
		run_in_hardirq(&e);
		run_in_thread(&e);
		run_in_work(&e);
		behaves(&e);
	}
	expect_silence(test);
}
#endif /* CONFIG_DEBUG_MEMALLOC_SCOPE */

static struct kunit_case memalloc_debug_cases[] = {
	KUNIT_CASE(left_open_by_work),
	KUNIT_CASE(left_open_by_kthread_work),
#ifdef CONFIG_DEBUG_MEMALLOC_SCOPE
	KUNIT_CASE(left_open_nested),
	KUNIT_CASE(left_open_by_thread),
	KUNIT_CASE(scopes_for_life),
	KUNIT_CASE(left_open_in_freezer),
	KUNIT_CASE(left_open_by_softirq),
	KUNIT_CASE(left_open_by_hardirq),
	KUNIT_CASE(closed_twice),
	KUNIT_CASE(closed_by_another_task),
	KUNIT_CASE(closed_in_another_context),
	KUNIT_CASE(closed_before_inner),
	KUNIT_CASE(closed_as_another_kind),
	KUNIT_CASE(open_where_context_is_put_back),
	KUNIT_CASE(reported_once),
	KUNIT_CASE(silent),
#endif
	{}
};

static int memalloc_debug_init(struct kunit *test)
{
	forget_reports();
	return 0;
}

static int memalloc_debug_suite_init(struct kunit_suite *suite)
{
	return register_trace_memalloc_misuse(probe, NULL);
}

static void memalloc_debug_suite_exit(struct kunit_suite *suite)
{
	unregister_trace_memalloc_misuse(probe, NULL);
	tracepoint_synchronize_unregister();
}

static struct kunit_suite memalloc_debug_suite = {
	.name = "memalloc_debug",
	.init = memalloc_debug_init,
	.suite_init = memalloc_debug_suite_init,
	.suite_exit = memalloc_debug_suite_exit,
	.test_cases = memalloc_debug_cases,
};

kunit_test_suite(memalloc_debug_suite);

MODULE_DESCRIPTION("KUnit tests for the checks of allocation scopes");
MODULE_LICENSE("GPL");
