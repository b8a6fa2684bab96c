// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for work items and allocation scopes: what an item runs in, be it
 * of a workqueue or of a kthread_worker, as <linux/memalloc_work.h> has it.
 */
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/gfp.h>
#include <linux/kthread.h>
#include <linux/memalloc_guard.h>
#include <linux/memalloc_work.h>
#include <linux/sched/mm.h>
#include <linux/workqueue.h>

#define MAX_RUNS	4

/* An item, of each sort, and what it saw */
struct item {
	struct work_struct plain;
	struct memalloc_work mwork;
	struct memalloc_delayed_work mdwork;
	struct kthread_work kplain;
	struct kthread_memalloc_work kmwork;

	memalloc_scope_t seen[MAX_RUNS];
	unsigned int runs;
	struct kunit *leak;		/* leave noreclaim open, which no context closes */
	struct kunit_suppressed_warning *quiet;	/* and have it not reported */
	unsigned int cookie;		/* of what was left open */
	unsigned int again;		/* how often to queue itself again */
	struct workqueue_struct *wq;	/* where to */
	struct kthread_worker *worker;
	struct completion *started, *go;	/* if somebody steps us */
};

static void item_runs(struct item *item)
{
	if (item->runs < MAX_RUNS)
		item->seen[item->runs] = current->memalloc_scope;
	item->runs++;
	if (item->leak) {
		item->quiet = kunit_start_suppress_warning(item->leak);
		item->cookie = memalloc_noreclaim_save();
	}
	if (item->started) {
		complete(item->started);
		wait_for_completion(item->go);
	}
}

static void plain_fn(struct work_struct *work)
{
	item_runs(container_of(work, struct item, plain));
}

static void mwork_fn(struct work_struct *work)
{
	struct item *item = container_of(work, struct item, mwork.work);

	item_runs(item);
	if (item->again) {
		item->again--;
		guard(memalloc_pin)();
		queue_memalloc_work(item->wq, &item->mwork);
	}
}

static void mdwork_fn(struct work_struct *work)
{
	item_runs(container_of(work, struct item, mdwork.dwork.work));
}

static void kplain_fn(struct kthread_work *work)
{
	item_runs(container_of(work, struct item, kplain));
}

static void kmwork_fn(struct kthread_work *work)
{
	struct item *item = container_of(work, struct item, kmwork.work);

	item_runs(item);
	if (item->again) {
		item->again--;
		guard(memalloc_pin)();
		kthread_queue_memalloc_work(item->worker, &item->kmwork);
	}
}

static struct item *new_item(struct kunit *test)
{
	struct item *item = kunit_kzalloc(test, sizeof(*item), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, item);
	INIT_WORK(&item->plain, plain_fn);
	INIT_MEMALLOC_WORK(&item->mwork, mwork_fn);
	INIT_MEMALLOC_DELAYED_WORK(&item->mdwork, mdwork_fn);
	kthread_init_work(&item->kplain, kplain_fn);
	kthread_init_memalloc_work(&item->kmwork, kmwork_fn);
	return item;
}

/* Softirqs run these: with a key of their own, or lockdep takes them for the others. */
static struct item *new_bh_item(struct kunit *test)
{
	struct item *item = new_item(test);

	INIT_WORK(&item->plain, plain_fn);
	INIT_MEMALLOC_WORK(&item->mwork, mwork_fn);
	return item;
}

/* Inside of a scope, if the test wants that; others allocate under wq_pool_mutex. */
static struct workqueue_struct *new_wq(struct kunit *test, unsigned int flags)
{
	struct workqueue_struct *wq;

	memalloc_scope_untrack();
	wq = alloc_workqueue("memalloc_kunit", flags | WQ_MEM_RECLAIM | WQ_UNBOUND, 1);
	KUNIT_ASSERT_NOT_NULL(test, wq);
	return wq;
}

#define EXPECT_RUN(test, item, nr, _scope)				\
	KUNIT_EXPECT_EQ_MSG(test, (__force u8)(item)->seen[nr],		\
			    (__force u8)(_scope), "run %d of %u", nr, (item)->runs)

static const struct {
	unsigned int wq, ktw;
	memalloc_scope_t scope;
} flags[] = {
	{ 0, 0, MEMALLOC_SCOPE_NONE },
	{ WQ_MEMALLOC_NOFS, KTW_MEMALLOC_NOFS, MEMALLOC_SCOPE_NOFS },
	{ WQ_MEMALLOC_NOIO, KTW_MEMALLOC_NOIO, MEMALLOC_SCOPE_NOIO },
	{ WQ_MEMALLOC_NORECLAIM, KTW_MEMALLOC_NORECLAIM, MEMALLOC_SCOPE_NORECLAIM },
};

/*
 * Neither who allocates a workqueue nor who queues on it matters to ordinary items;
 * its flags do, and those that capture run in both.
 *
 * Red if: process_one_work() does not adopt, or __work_memalloc_ctx() loses a flag
 * or what an item has captured.
 */
static void workqueue_flags(struct kunit *test)
{
	for (int i = 0; i < ARRAY_SIZE(flags); i++) {
		struct item *item = new_item(test);
		struct workqueue_struct *wq;

		scoped_guard(memalloc_nofs) {
			wq = new_wq(test, flags[i].wq);
			scoped_guard(memalloc_pin) {
				queue_work(wq, &item->plain);
				flush_work(&item->plain);
				queue_memalloc_work(wq, &item->mwork);
				flush_work(&item->mwork.work);
			}
		}
		queue_memalloc_work(wq, &item->mwork);
		destroy_workqueue(wq);

		KUNIT_EXPECT_EQ(test, item->runs, 3);
		EXPECT_RUN(test, item, 0, flags[i].scope);
		EXPECT_RUN(test, item, 1, flags[i].scope | MEMALLOC_SCOPE_NOFS |
			   MEMALLOC_SCOPE_PIN);
		EXPECT_RUN(test, item, 2, flags[i].scope);
	}
}

static void conveys(struct kunit *test, struct workqueue_struct *wq, struct item *item)
{
	scoped_guard(memalloc_scope, (__force memalloc_scope_t)0x7f)
		queue_work(wq, &item->plain);
	flush_work(&item->plain);
	scoped_guard(memalloc_scope, (__force memalloc_scope_t)0x7f)
		queue_memalloc_work(wq, &item->mwork);
	flush_work(&item->mwork.work);
	scoped_guard(memalloc_scope, MEMALLOC_SCOPE_IO_FLUSHER)
		queue_memalloc_work(wq, &item->mwork);
	flush_work(&item->mwork.work);

	KUNIT_EXPECT_EQ(test, item->runs, 3);
	EXPECT_RUN(test, item, 0, 0);
	EXPECT_RUN(test, item, 1, MEMALLOC_SCOPE_NOFS | MEMALLOC_SCOPE_NOIO |
		   MEMALLOC_SCOPE_PIN | MEMALLOC_SCOPE_NOWARN);
	EXPECT_RUN(test, item, 2, MEMALLOC_SCOPE_NOIO);
}

/*
 * noreclaim and nowait stay with the thread; an I/O flusher's work may do no I/O.
 * The system's workqueues convey nothing by themselves, BH ones included.
 */
static void workqueue_conveys(struct kunit *test)
{
	conveys(test, system_percpu_wq, new_item(test));
	conveys(test, system_dfl_wq, new_item(test));
	conveys(test, system_bh_wq, new_bh_item(test));
}

/* Red if: process_one_work() does not restore what it found. */
static void workqueue_leak(struct kunit *test)
{
	struct workqueue_struct *wq = new_wq(test, 0);
	struct item *item = new_item(test);

	item->leak = test;
	for (int i = 0; i < MAX_RUNS; i++) {
		queue_work(wq, &item->plain);
		flush_work(&item->plain);
		kunit_end_suppress_warning(test, item->quiet);
		EXPECT_RUN(test, item, i, 0);
	}
	destroy_workqueue(wq);
}

/*
 * Pending: the first context stays. Running: the next run gets its own. Cancelled:
 * forgotten. Disabled: not captured.
 *
 * Red if: queue_memalloc_work_on() captures though the item is pending, or
 * process_one_work() reads the context after PENDING is cleared.
 */
static void workqueue_requeue(struct kunit *test)
{
	DECLARE_COMPLETION_ONSTACK(started);
	DECLARE_COMPLETION_ONSTACK(go);
	struct workqueue_struct *wq = new_wq(test, 0);
	struct item *item = new_item(test), *blocker = new_item(test);

	/* max_active is 1: what is queued behind the blocker stays pending */
	blocker->started = &started;
	blocker->go = &go;
	queue_work(wq, &blocker->plain);
	wait_for_completion(&started);

	scoped_guard(memalloc_noio)
		KUNIT_EXPECT_TRUE(test, queue_memalloc_work(wq, &item->mwork));
	scoped_guard(memalloc_pin)
		KUNIT_EXPECT_FALSE(test, queue_memalloc_work(wq, &item->mwork));
	complete(&go);
	flush_work(&item->mwork.work);
	KUNIT_EXPECT_EQ(test, item->runs, 1);
	EXPECT_RUN(test, item, 0, MEMALLOC_SCOPE_NOIO);

	item->started = &started;
	item->go = &go;
	scoped_guard(memalloc_noio)
		queue_memalloc_work(wq, &item->mwork);
	wait_for_completion(&started);
	scoped_guard(memalloc_nofs)
		KUNIT_EXPECT_TRUE(test, queue_memalloc_work(wq, &item->mwork));
	complete(&go);
	wait_for_completion(&started);
	complete(&go);
	flush_work(&item->mwork.work);
	KUNIT_EXPECT_EQ(test, item->runs, 3);
	EXPECT_RUN(test, item, 1, MEMALLOC_SCOPE_NOIO);
	EXPECT_RUN(test, item, 2, MEMALLOC_SCOPE_NOFS);
	item->started = NULL;

	reinit_completion(&started);
	queue_work(wq, &blocker->plain);
	wait_for_completion(&started);
	scoped_guard(memalloc_noio)
		queue_memalloc_work(wq, &item->mwork);
	KUNIT_EXPECT_TRUE(test, cancel_work_sync(&item->mwork.work));
	disable_work(&item->mwork.work);
	scoped_guard(memalloc_noio)
		KUNIT_EXPECT_FALSE(test, queue_memalloc_work(wq, &item->mwork));
	enable_work(&item->mwork.work);
	scoped_guard(memalloc_pin)
		queue_memalloc_work(wq, &item->mwork);
	complete(&go);
	flush_work(&item->mwork.work);
	KUNIT_EXPECT_EQ(test, item->runs, 4);
	EXPECT_RUN(test, item, 3, MEMALLOC_SCOPE_PIN);
	destroy_workqueue(wq);
}

/* An item that queues itself captures what it runs in, and what it has opened. */
static void workqueue_requeues_itself(struct kunit *test)
{
	struct item *item = new_item(test);

	item->wq = new_wq(test, 0);
	item->again = 2;
	scoped_guard(memalloc_noio)
		queue_memalloc_work(item->wq, &item->mwork);
	drain_workqueue(item->wq);
	KUNIT_EXPECT_EQ(test, item->runs, 3);
	EXPECT_RUN(test, item, 0, MEMALLOC_SCOPE_NOIO);
	EXPECT_RUN(test, item, 1, MEMALLOC_SCOPE_NOIO | MEMALLOC_SCOPE_PIN);
	EXPECT_RUN(test, item, 2, MEMALLOC_SCOPE_NOIO | MEMALLOC_SCOPE_PIN);
	destroy_workqueue(item->wq);
}

/*
 * Red if: a delayed item captures in the timer, or not at all, or mod_...() leaves
 * the context of whoever queued first.
 */
static void workqueue_delayed(struct kunit *test)
{
	struct workqueue_struct *wq = new_wq(test, 0);
	struct item *item = new_item(test);

	scoped_guard(memalloc_noio)
		KUNIT_EXPECT_TRUE(test, queue_memalloc_delayed_work(wq, &item->mdwork, 0));
	flush_delayed_work(&item->mdwork.dwork);
	EXPECT_RUN(test, item, 0, MEMALLOC_SCOPE_NOIO);

	scoped_guard(memalloc_nofs)
		KUNIT_EXPECT_TRUE(test, queue_memalloc_delayed_work(wq, &item->mdwork, HZ / 50));
	scoped_guard(memalloc_pin)
		KUNIT_EXPECT_FALSE(test, queue_memalloc_delayed_work(wq, &item->mdwork, 0));
	while (delayed_work_pending(&item->mdwork.dwork))
		schedule_timeout_uninterruptible(1);
	flush_delayed_work(&item->mdwork.dwork);
	EXPECT_RUN(test, item, 1, MEMALLOC_SCOPE_NOFS);

	scoped_guard(memalloc_nofs)
		KUNIT_EXPECT_FALSE(test, mod_memalloc_delayed_work(wq, &item->mdwork, 60 * HZ));
	scoped_guard(memalloc_pin)
		KUNIT_EXPECT_TRUE(test, mod_memalloc_delayed_work(wq, &item->mdwork, 1));
	flush_delayed_work(&item->mdwork.dwork);
	EXPECT_RUN(test, item, 2, MEMALLOC_SCOPE_PIN);

	scoped_guard(memalloc_nofs)
		queue_memalloc_delayed_work(wq, &item->mdwork, 60 * HZ);
	KUNIT_EXPECT_TRUE(test, cancel_delayed_work_sync(&item->mdwork.dwork));
	queue_memalloc_delayed_work(wq, &item->mdwork, 1);
	flush_delayed_work(&item->mdwork.dwork);
	KUNIT_EXPECT_EQ(test, item->runs, 4);
	EXPECT_RUN(test, item, 3, 0);
	destroy_workqueue(wq);
}

/* One of two who queue the same item as fast as they can, each in its own scope */
struct racer {
	struct race *race;
	memalloc_scope_t scope;
	struct completion done;
	unsigned int queued, ran;
};

struct race {
	struct memalloc_work mwork;
	struct workqueue_struct *wq;
	struct racer racers[2];
	unsigned int neither;
};

static void race_fn(struct work_struct *work)
{
	struct race *race = container_of(work, struct race, mwork.work);

	if (current->memalloc_scope == race->racers[0].scope)
		race->racers[0].ran++;
	else if (current->memalloc_scope == race->racers[1].scope)
		race->racers[1].ran++;
	else
		race->neither++;
}

static int race_thread(void *data)
{
	struct racer *r = data;
	unsigned long end = jiffies + HZ / 2;

	guard(memalloc_scope)(r->scope);
	while (time_before(jiffies, end)) {
		r->queued += queue_memalloc_work(r->race->wq, &r->race->mwork);
		cond_resched();
	}
	complete(&r->done);
	return 0;
}

/*
 * Each queueing that succeeded is a run in that queuer's scope.
 *
 * Red if: the context is read when PENDING has been cleared already.
 */
static void workqueue_race(struct kunit *test)
{
	struct race *race = kunit_kzalloc(test, sizeof(*race), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, race);
	race->wq = new_wq(test, WQ_HIGHPRI);
	INIT_MEMALLOC_WORK(&race->mwork, race_fn);
	race->racers[0].scope = MEMALLOC_SCOPE_NOFS;
	race->racers[1].scope = MEMALLOC_SCOPE_NOIO;
	for (int i = 0; i < 2; i++) {
		struct racer *r = &race->racers[i];
		struct task_struct *task;

		r->race = race;
		init_completion(&r->done);
		task = kthread_run(race_thread, r, "memalloc_race/%d", i);
		if (IS_ERR(task)) {
			KUNIT_FAIL(test, "no kernel thread: %pe", task);
			complete(&r->done);
		}
	}
	for (int i = 0; i < 2; i++)
		wait_for_completion(&race->racers[i].done);
	destroy_workqueue(race->wq);

	kunit_info(test, "%u and %u runs", race->racers[0].ran, race->racers[1].ran);
	for (int i = 0; i < 2; i++) {
		KUNIT_EXPECT_EQ(test, race->racers[i].queued, race->racers[i].ran);
		KUNIT_EXPECT_GT(test, race->racers[i].ran, 0);
	}
	KUNIT_EXPECT_EQ(test, race->neither, 0);
}

/* Red if: kthread_worker_fn() does not adopt, or a flag is lost. */
static void kthread_worker_flags(struct kunit *test)
{
	for (int i = 0; i < ARRAY_SIZE(flags); i++) {
		struct item *item = new_item(test);
		struct kthread_worker *worker;

		scoped_guard(memalloc_nofs) {
			worker = kthread_run_worker(flags[i].ktw, "memalloc_kunit");
			KUNIT_ASSERT_FALSE(test, IS_ERR(worker));
			scoped_guard(memalloc_pin) {
				kthread_queue_work(worker, &item->kplain);
				kthread_queue_memalloc_work(worker, &item->kmwork);
			}
			kthread_flush_worker(worker);
		}
		item->leak = test;
		kthread_queue_memalloc_work(worker, &item->kmwork);
		kthread_flush_worker(worker);
		kunit_end_suppress_warning(test, item->quiet);
		item->leak = NULL;
		kthread_queue_work(worker, &item->kplain);
		kthread_flush_worker(worker);
		kthread_destroy_worker(worker);

		KUNIT_EXPECT_EQ(test, item->runs, 4);
		EXPECT_RUN(test, item, 0, flags[i].scope);
		EXPECT_RUN(test, item, 1, flags[i].scope | MEMALLOC_SCOPE_NOFS |
			   MEMALLOC_SCOPE_PIN);
		EXPECT_RUN(test, item, 2, flags[i].scope);
		EXPECT_RUN(test, item, 3, flags[i].scope);
	}
}

static int worker_for_life(void *data)
{
	memalloc_nofs_thread();
	return kthread_worker_fn(data);
}

/* Red if: a worker's items close what its owner opened for the life of the thread. */
static void kthread_worker_for_life(struct kunit *test)
{
	struct item *item = new_item(test);
	struct kthread_worker worker;
	struct task_struct *task;

	kthread_init_worker(&worker);
	task = kthread_run(worker_for_life, &worker, "memalloc_kunit");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	kthread_queue_work(&worker, &item->kplain);
	scoped_guard(memalloc_pin)
		kthread_queue_memalloc_work(&worker, &item->kmwork);
	kthread_queue_work(&worker, &new_item(test)->kplain);
	kthread_flush_worker(&worker);
	kthread_stop(task);

	KUNIT_EXPECT_EQ(test, item->runs, 2);
	EXPECT_RUN(test, item, 0, MEMALLOC_SCOPE_NOFS);
	EXPECT_RUN(test, item, 1, MEMALLOC_SCOPE_NOFS | MEMALLOC_SCOPE_PIN);
}

/* As workqueue_requeue(). */
static void kthread_worker_requeue(struct kunit *test)
{
	DECLARE_COMPLETION_ONSTACK(started);
	DECLARE_COMPLETION_ONSTACK(go);
	struct item *item = new_item(test), *blocker = new_item(test);
	struct kthread_worker *worker = kthread_run_worker(0, "memalloc_kunit");

	KUNIT_ASSERT_FALSE(test, IS_ERR(worker));
	blocker->started = &started;
	blocker->go = &go;
	kthread_queue_work(worker, &blocker->kplain);
	wait_for_completion(&started);
	scoped_guard(memalloc_noio)
		KUNIT_EXPECT_TRUE(test, kthread_queue_memalloc_work(worker, &item->kmwork));
	scoped_guard(memalloc_pin)
		KUNIT_EXPECT_FALSE(test, kthread_queue_memalloc_work(worker, &item->kmwork));
	complete(&go);
	kthread_flush_worker(worker);
	EXPECT_RUN(test, item, 0, MEMALLOC_SCOPE_NOIO);

	item->worker = worker;
	item->again = 1;
	scoped_guard(memalloc_noio)
		kthread_queue_memalloc_work(worker, &item->kmwork);
	kthread_flush_worker(worker);
	kthread_flush_worker(worker);
	KUNIT_EXPECT_EQ(test, item->runs, 3);
	EXPECT_RUN(test, item, 1, MEMALLOC_SCOPE_NOIO);
	EXPECT_RUN(test, item, 2, MEMALLOC_SCOPE_NOIO | MEMALLOC_SCOPE_PIN);

	kthread_queue_work(worker, &blocker->kplain);
	wait_for_completion(&started);
	scoped_guard(memalloc_noio)
		kthread_queue_memalloc_work(worker, &item->kmwork);
	KUNIT_EXPECT_TRUE(test, kthread_cancel_work_sync(&item->kmwork.work));
	kthread_queue_memalloc_work(worker, &item->kmwork);
	complete(&go);
	kthread_flush_worker(worker);
	KUNIT_EXPECT_EQ(test, item->runs, 4);
	EXPECT_RUN(test, item, 3, 0);
	kthread_destroy_worker(worker);
}

static struct kunit_case memalloc_work_cases[] = {
	KUNIT_CASE(workqueue_flags),
	KUNIT_CASE(workqueue_conveys),
	KUNIT_CASE(workqueue_leak),
	KUNIT_CASE(workqueue_requeue),
	KUNIT_CASE(workqueue_requeues_itself),
	KUNIT_CASE(workqueue_delayed),
	KUNIT_CASE(workqueue_race),
	KUNIT_CASE(kthread_worker_flags),
	KUNIT_CASE(kthread_worker_for_life),
	KUNIT_CASE(kthread_worker_requeue),
	{}
};

static struct kunit_suite memalloc_work_suite = {
	.name = "memalloc_work",
	.test_cases = memalloc_work_cases,
};

kunit_test_suite(memalloc_work_suite);

MODULE_DESCRIPTION("KUnit tests for work items and allocation scopes");
MODULE_LICENSE("GPL");
