// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for what is built on allocation scopes: guards, locks that bring a
 * scope, contexts that are handed to another thread, and work items.
 */
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/irq_work.h>
#include <linux/kthread.h>
#include <linux/memalloc_ctx.h>
#include <linux/memalloc_guard.h>
#include <linux/memalloc_lock.h>
#include <linux/memalloc_work.h>
#include <linux/mempool.h>
#include <linux/sched/mm.h>
#include <linux/smp.h>
#include <linux/workqueue.h>

#define EXPECT_SCOPE(test, _scope, fmt, ...)				\
	KUNIT_EXPECT_EQ_MSG(test, (__force u8)current->memalloc_scope,	\
			    (__force u8)(_scope), fmt, ##__VA_ARGS__)

/* Guards */

#define TEST_GUARD(test, _kind, _scope)					\
do {									\
	{								\
		guard(memalloc_##_kind)();				\
		EXPECT_SCOPE(test, _scope, #_kind);			\
		scoped_guard(memalloc_##_kind)				\
			EXPECT_SCOPE(test, _scope, #_kind " in itself"); \
		EXPECT_SCOPE(test, _scope, #_kind ", inner closed");	\
	}								\
	EXPECT_SCOPE(test, 0, #_kind " closed");			\
	for (int on = 0; on < 2; on++) {				\
		guard(memalloc_##_kind##_if)(on);			\
		EXPECT_SCOPE(test, on ? (_scope) : 0, #_kind " if %d", on); \
	}								\
	scoped_guard(memalloc_##_kind##_if, false)			\
		ran++;							\
	EXPECT_SCOPE(test, 0, #_kind "_if closed");			\
} while (0)

/* Red if: a guard's destructor restores nothing, or one is made of another's save. */
static void guards(struct kunit *test)
{
	int ran = 0;

	TEST_GUARD(test, nofs, MEMALLOC_SCOPE_NOFS);
	TEST_GUARD(test, noio, MEMALLOC_SCOPE_NOIO);
	TEST_GUARD(test, pin, MEMALLOC_SCOPE_PIN);
	TEST_GUARD(test, noreclaim, MEMALLOC_SCOPE_NORECLAIM);
	TEST_GUARD(test, nowait, MEMALLOC_SCOPE_NOWAIT);
	TEST_GUARD(test, nowarn, MEMALLOC_SCOPE_NOWARN);
	TEST_GUARD(test, nolock, MEMALLOC_SCOPE_NOLOCK);
	/* A guard that opens nothing is no reason to skip the block. */
	KUNIT_EXPECT_EQ(test, ran, 7);

	scoped_guard(memalloc_scope, MEMALLOC_SCOPE_ANY_NOIO)
		EXPECT_SCOPE(test, MEMALLOC_SCOPE_ANY_NOIO, "computed");
	EXPECT_SCOPE(test, 0, "computed, closed");
}

static int leave_early(bool early)
{
	guard(memalloc_nofs)();
	if (early)
		return -EINTR;
	guard(memalloc_noio)();
	return 0;
}

static void guards_early_return(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, leave_early(true), -EINTR);
	EXPECT_SCOPE(test, 0, "left in the middle");
	KUNIT_EXPECT_EQ(test, leave_early(false), 0);
	EXPECT_SCOPE(test, 0, "left at the end");
}

/* What decides how a request is treated, among what a scope can express */
#define GFP_SCOPED	(__GFP_IO | __GFP_FS | __GFP_DIRECT_RECLAIM | __GFP_NOWARN)

/*
 * In the scope that stands for a mask, GFP_KERNEL is treated as that mask.
 *
 * Red if: memalloc_scope_from_gfp() forgets one of its tests, or memalloc_gfp_save()
 * leaves nowait open for __GFP_NOFAIL.
 */
static void scope_of_mask(struct kunit *test)
{
	static const gfp_t bits[] = {
		__GFP_IO, __GFP_FS, __GFP_DIRECT_RECLAIM, __GFP_NOWARN, __GFP_NORETRY,
		__GFP_RETRY_MAYFAIL, __GFP_NOFAIL, __GFP_ZERO, __GFP_HIGH,
	};

	for (unsigned int set = 0; set < BIT(ARRAY_SIZE(bits)); set++) {
		gfp_t gfp = 0, want, got, in_nowait;

		for (int i = 0; i < ARRAY_SIZE(bits); i++)
			gfp |= set & BIT(i) ? bits[i] : 0;

		/* what does not block cannot promise anything */
		if ((gfp & __GFP_NOFAIL) && !(gfp & __GFP_DIRECT_RECLAIM))
			continue;
		want = gfp & GFP_SCOPED;
		if (!(gfp & __GFP_IO))
			want &= ~__GFP_FS;
		if (gfp & __GFP_NOFAIL)
			want &= ~__GFP_NOWARN;
		else if (gfp & (__GFP_NORETRY | __GFP_RETRY_MAYFAIL))
			want &= ~__GFP_DIRECT_RECLAIM;

		scoped_guard(memalloc_gfp, gfp)
			got = current_gfp_context(GFP_KERNEL) & GFP_SCOPED;
		KUNIT_EXPECT_EQ_MSG(test, got, want, "%pGg", &gfp);

		scoped_guard(memalloc_nowait) {
			scoped_guard(memalloc_gfp, gfp)
				in_nowait = current_gfp_context(GFP_KERNEL) & GFP_SCOPED;
			EXPECT_SCOPE(test, MEMALLOC_SCOPE_NOWAIT, "%pGg", &gfp);
		}
		if (!(gfp & __GFP_NOFAIL))
			want &= ~__GFP_DIRECT_RECLAIM;
		KUNIT_EXPECT_EQ_MSG(test, in_nowait, want, "%pGg in nowait", &gfp);
	}
	EXPECT_SCOPE(test, 0, "all closed");
}

/* Locks */

struct locks {
	struct mutex mutex;		/* protects nothing, as the other two */
	struct rw_semaphore rwsem;
	struct percpu_rw_semaphore percpu;
};

#define TEST_LOCK(test, _name, _lock, _scope, _held)			\
do {									\
	scoped_guard(_name, _lock) {					\
		EXPECT_SCOPE(test, _scope, #_name);			\
		KUNIT_EXPECT_TRUE_MSG(test, _held, #_name);		\
	}								\
	EXPECT_SCOPE(test, 0, #_name " dropped");			\
	KUNIT_EXPECT_FALSE_MSG(test, _held, #_name " dropped");		\
} while (0)

/* @_take and @_drop: for somebody else, so that the lock is not to be had */
#define TEST_TRYLOCK(test, _name, _lock, _scope, _held, _take, _drop)	\
do {									\
	bool got = false;						\
									\
	scoped_guard(_name, _lock) {					\
		EXPECT_SCOPE(test, _scope, #_name);			\
		KUNIT_EXPECT_TRUE_MSG(test, _held, #_name);		\
		got = true;						\
	}								\
	EXPECT_SCOPE(test, 0, #_name " dropped");			\
	KUNIT_EXPECT_TRUE_MSG(test, got, #_name);			\
	KUNIT_EXPECT_FALSE_MSG(test, _held, #_name " dropped");		\
	_take;								\
	scoped_guard(_name, _lock)					\
		KUNIT_FAIL(test, #_name " got a lock that is taken");	\
	EXPECT_SCOPE(test, 0, #_name " without the lock");		\
	_drop;								\
} while (0)

#define TEST_LOCKS(test, l, _kind, _scope)				\
do {									\
	TEST_LOCK(test, mutex_##_kind, &l->mutex, _scope,		\
		  mutex_is_locked(&l->mutex));				\
	TEST_LOCK(test, rwsem_read_##_kind, &l->rwsem, _scope,		\
		  rwsem_is_locked(&l->rwsem));				\
	TEST_LOCK(test, rwsem_write_##_kind, &l->rwsem, _scope,		\
		  rwsem_is_locked(&l->rwsem));				\
	TEST_LOCK(test, percpu_read_##_kind, &l->percpu, _scope,	\
		  percpu_is_read_locked(&l->percpu));			\
	TEST_LOCK(test, percpu_write_##_kind, &l->percpu, _scope,	\
		  percpu_is_write_locked(&l->percpu));			\
	TEST_TRYLOCK(test, mutex_##_kind##_try, &l->mutex, _scope,	\
		     mutex_is_locked(&l->mutex),			\
		     mutex_lock(&l->mutex), mutex_unlock(&l->mutex));	\
	TEST_TRYLOCK(test, rwsem_read_##_kind##_try, &l->rwsem, _scope, \
		     rwsem_is_locked(&l->rwsem),			\
		     down_write(&l->rwsem), up_write(&l->rwsem));	\
	TEST_TRYLOCK(test, rwsem_write_##_kind##_try, &l->rwsem, _scope, \
		     rwsem_is_locked(&l->rwsem),			\
		     down_write(&l->rwsem), up_write(&l->rwsem));	\
	TEST_TRYLOCK(test, percpu_read_##_kind##_try, &l->percpu, _scope, \
		     percpu_is_read_locked(&l->percpu),			\
		     percpu_down_write(&l->percpu), percpu_up_write(&l->percpu)); \
	TEST_LOCK(test, mutex_##_kind##_intr, &l->mutex, _scope,	\
		  mutex_is_locked(&l->mutex));				\
	TEST_LOCK(test, mutex_##_kind##_kill, &l->mutex, _scope,	\
		  mutex_is_locked(&l->mutex));				\
	TEST_LOCK(test, rwsem_read_##_kind##_intr, &l->rwsem, _scope,	\
		  rwsem_is_locked(&l->rwsem));				\
	TEST_LOCK(test, rwsem_write_##_kind##_kill, &l->rwsem, _scope,	\
		  rwsem_is_locked(&l->rwsem));				\
} while (0)

/* Red if: a guard takes the lock and not the scope, or keeps it when a trylock fails. */
static void locks(struct kunit *test)
{
	struct locks *l = kunit_kzalloc(test, sizeof(*l), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, l);
	mutex_init(&l->mutex);
	init_rwsem(&l->rwsem);
	KUNIT_ASSERT_EQ(test, percpu_init_rwsem(&l->percpu), 0);

	TEST_LOCKS(test, l, noio, MEMALLOC_SCOPE_NOIO);
	TEST_LOCKS(test, l, nofs, MEMALLOC_SCOPE_NOFS);

	percpu_free_rwsem(&l->percpu);
}

struct waiter {
	struct mutex mutex;		/* to wait for */
	struct completion begun, done;
	int error;
	memalloc_scope_t after;
};

static int wait_for_lock(void *data)
{
	struct waiter *w = data;

	allow_signal(SIGINT);
	complete(&w->begun);
	{
		ACQUIRE(mutex_nofs_intr, lock)(&w->mutex);
		w->error = ACQUIRE_ERR(mutex_nofs_intr, &lock);
	}
	w->after = current->memalloc_scope;
	flush_signals(current);
	complete(&w->done);

	set_current_state(TASK_INTERRUPTIBLE);
	while (!kthread_should_stop()) {
		schedule();
		set_current_state(TASK_INTERRUPTIBLE);
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

/*
 * Who waits for the lock has the scope open already: there is no moment at which
 * it holds the one without the other. Who gives up closes it.
 *
 * Red if: DEFINE_MEMALLOC_LOCK_COND takes the lock first, or restores nothing.
 */
static void locks_contended(struct kunit *test)
{
	struct waiter w = { };
	struct task_struct *task;
	memalloc_scope_t waiting = MEMALLOC_SCOPE_NONE;

	mutex_init(&w.mutex);
	init_completion(&w.begun);
	init_completion(&w.done);

	/* Before the lock is taken, which belongs to nofs and must not see GFP_KERNEL. */
	task = kthread_create(wait_for_lock, &w, "memalloc_lock_kunit");
	if (IS_ERR(task))
		KUNIT_FAIL_AND_ABORT(test, "no kernel thread: %pe", task);
	mutex_lock(&w.mutex);
	wake_up_process(task);
	wait_for_completion(&w.begun);
	for (int i = 0; i < 1000 && !waiting; i++) {
		fsleep(1000);
		waiting = task_memalloc_scope(task);
	}
	send_sig(SIGINT, task, 1);
	wait_for_completion(&w.done);
	mutex_unlock(&w.mutex);
	kthread_stop(task);

	KUNIT_EXPECT_EQ(test, (__force u8)waiting, (__force u8)MEMALLOC_SCOPE_NOFS);
	KUNIT_EXPECT_EQ(test, w.error, -EINTR);
	KUNIT_EXPECT_EQ(test, (__force u8)w.after, 0);
}

/* Contexts */

static const memalloc_scope_t all_scopes[] = {
	MEMALLOC_SCOPE_NOFS, MEMALLOC_SCOPE_NOIO, MEMALLOC_SCOPE_PIN,
	MEMALLOC_SCOPE_NORECLAIM, MEMALLOC_SCOPE_IO_FLUSHER, MEMALLOC_SCOPE_NOWAIT,
	MEMALLOC_SCOPE_NOWARN,
};

static memalloc_scope_t scopes_of(unsigned int set)
{
	memalloc_scope_t scope = MEMALLOC_SCOPE_NONE;

	for (int i = 0; i < ARRAY_SIZE(all_scopes); i++)
		scope |= set & BIT(i) ? all_scopes[i] : MEMALLOC_SCOPE_NONE;
	return scope;
}

/* As the comment in <linux/memalloc_ctx.h> has it, by name. */
static bool belongs_to_work(memalloc_scope_t scope)
{
	return scope == MEMALLOC_SCOPE_NOFS || scope == MEMALLOC_SCOPE_NOIO ||
		scope == MEMALLOC_SCOPE_PIN || scope == MEMALLOC_SCOPE_NOWARN;
}

/*
 * Every context, captured in every set of scopes, adopted in every other.
 *
 * Red if: capture takes nowait or noreclaim along or forgets io_flusher, adopt adds
 * instead of replacing or closes what belongs to the thread, restore merges.
 */
static void contexts(struct kunit *test)
{
	unsigned int nr = BIT(ARRAY_SIZE(all_scopes));

	for (unsigned int from = 0; from < nr; from++) {
		memalloc_scope_t captured = MEMALLOC_SCOPE_NONE;
		memalloc_ctx_t ctx, privileged;

		scoped_guard(memalloc_scope, scopes_of(from)) {
			ctx = memalloc_ctx_capture();
			privileged = memalloc_ctx_capture_noreclaim();
		}
		for (int i = 0; i < ARRAY_SIZE(all_scopes); i++) {
			if (!(from & BIT(i)))
				continue;
			if (belongs_to_work(all_scopes[i]))
				captured |= all_scopes[i];
			else if (all_scopes[i] == MEMALLOC_SCOPE_IO_FLUSHER)
				captured |= MEMALLOC_SCOPE_NOIO;
		}
		KUNIT_EXPECT_EQ_MSG(test, (__force u8)ctx.scope, (__force u8)captured,
				    "captured in %#x", (__force u8)scopes_of(from));
		KUNIT_EXPECT_EQ_MSG(test, (__force u8)privileged.scope,
				    (__force u8)(captured | (scopes_of(from) &
							     MEMALLOC_SCOPE_NORECLAIM)),
				    "captured in %#x", (__force u8)scopes_of(from));

		for (unsigned int to = 0; to < nr; to++) {
			memalloc_scope_t expected = ctx.scope, inside, after;

			for (int i = 0; i < ARRAY_SIZE(all_scopes); i++) {
				if ((to & BIT(i)) && !belongs_to_work(all_scopes[i]))
					expected |= all_scopes[i];
			}
			scoped_guard(memalloc_scope, scopes_of(to)) {
				scoped_guard(memalloc_ctx, ctx)
					inside = current->memalloc_scope;
				after = current->memalloc_scope;
			}
			if (inside != expected || after != scopes_of(to))
				KUNIT_FAIL_AND_ABORT(test, "%#x adopted in %#x: %#x, then %#x",
						     (__force u8)ctx.scope,
						     (__force u8)scopes_of(to),
						     (__force u8)inside, (__force u8)after);
		}
	}
	EXPECT_SCOPE(test, 0, "all closed");
}

/* A layer starts afresh: Dave Chinner's wish for submit_bio(). */
static void contexts_nest(struct kunit *test)
{
	guard(memalloc_nofs)();
	scoped_guard(memalloc_ctx, MEMALLOC_CTX_NONE) {
		KUNIT_EXPECT_EQ(test, current_gfp_context(GFP_KERNEL), GFP_KERNEL);
		scoped_guard(memalloc_ctx, MEMALLOC_CTX_NOIO)
			KUNIT_EXPECT_EQ(test, current_gfp_context(GFP_KERNEL), GFP_NOIO);
		KUNIT_EXPECT_EQ(test, current_gfp_context(GFP_KERNEL), GFP_KERNEL);
	}
	KUNIT_EXPECT_EQ(test, current_gfp_context(GFP_KERNEL), GFP_NOFS);
}

struct captured {
	struct irq_work irq_work;
	memalloc_ctx_t ctx;
	memalloc_scope_t inside, after;
};

static void capture_in_hardirq(struct irq_work *irq_work)
{
	struct captured *c = container_of(irq_work, struct captured, irq_work);

	c->ctx = memalloc_ctx_capture();
}

/* Red if: memalloc_ctx_capture() takes the byte of the interrupted task. */
static void context_of_hardirq(struct kunit *test)
{
	struct captured c = { .irq_work = IRQ_WORK_INIT_HARD(capture_in_hardirq) };

	c.ctx.scope = MEMALLOC_SCOPE_PIN;
	scoped_guard(memalloc_noio) {
		irq_work_queue(&c.irq_work);
		irq_work_sync(&c.irq_work);
	}
	KUNIT_EXPECT_EQ(test, (__force u8)c.ctx.scope, 0);
}

/* Work that is called for the caller, who waits */

static long look(void *data)
{
	*(memalloc_scope_t *)data = current->memalloc_scope;
	return 0;
}

static int look_too(void *data)
{
	return look(data);
}

/* Red if: work_for_cpu_fn() or smp_call_on_cpu_callback() does not adopt. */
static void synchronous_calls(struct kunit *test)
{
	memalloc_scope_t seen = MEMALLOC_SCOPE_NONE;

	scoped_guard(memalloc_noio) {
		scoped_guard(memalloc_nowait)
			KUNIT_EXPECT_EQ(test, work_on_cpu(0, look, &seen), 0);
	}
	KUNIT_EXPECT_EQ(test, (__force u8)seen, (__force u8)MEMALLOC_SCOPE_NOIO);
	KUNIT_EXPECT_EQ(test, work_on_cpu(0, look, &seen), 0);
	KUNIT_EXPECT_EQ(test, (__force u8)seen, 0);

	scoped_guard(memalloc_nofs)
		KUNIT_EXPECT_EQ(test, smp_call_on_cpu(0, look_too, &seen, false), 0);
	KUNIT_EXPECT_EQ(test, (__force u8)seen, (__force u8)MEMALLOC_SCOPE_NOFS);
	KUNIT_EXPECT_EQ(test, smp_call_on_cpu(0, look_too, &seen, false), 0);
	KUNIT_EXPECT_EQ(test, (__force u8)seen, 0);
}

/* Promises that nowait does not break */

struct element {
	struct mempool pool;
	struct delayed_work dwork;
	void *element;
};

static void *no_element(gfp_t gfp, void *data)
{
	struct element *e = data;

	/* the one that fills the pool */
	return e->element ? NULL : e;
}

static void free_element(void *element, void *data)
{
}

static void give_back(struct work_struct *work)
{
	struct element *e = container_of(work, struct element, dwork.work);

	mempool_free(e->element, &e->pool);
}

/*
 * mempool_alloc() waits for an element inside nowait, as callers do not check.
 *
 * Red if: mempool_alloc() folds its mask, and so returns NULL.
 */
static void mempool_waits(struct kunit *test)
{
	struct element *e = kunit_kzalloc(test, sizeof(*e), GFP_KERNEL);
	void *element = NULL;

	KUNIT_ASSERT_NOT_NULL(test, e);
	KUNIT_ASSERT_EQ(test, mempool_init(&e->pool, 1, no_element, free_element, e), 0);
	INIT_DELAYED_WORK(&e->dwork, give_back);
	e->element = e;
	element = mempool_alloc(&e->pool, GFP_NOWAIT);
	KUNIT_EXPECT_PTR_EQ(test, element, (void *)e);
	KUNIT_EXPECT_NULL(test, mempool_alloc(&e->pool, GFP_NOWAIT));

	schedule_delayed_work(&e->dwork, HZ / 20);
	/* It may be reported, if nobody has had the warning yet. */
	kunit_warning_suppress(test) {
		guard(memalloc_nowait)();
		element = mempool_alloc(&e->pool, GFP_NOIO);
	}
	KUNIT_EXPECT_PTR_EQ(test, element, (void *)e);
	flush_delayed_work(&e->dwork);
	mempool_free(element, &e->pool);
	mempool_exit(&e->pool);
}

static struct kunit_case memalloc_ctx_cases[] = {
	KUNIT_CASE(guards),
	KUNIT_CASE(guards_early_return),
	KUNIT_CASE(scope_of_mask),
	KUNIT_CASE(locks),
	KUNIT_CASE(locks_contended),
	KUNIT_CASE(contexts),
	KUNIT_CASE(contexts_nest),
	KUNIT_CASE(context_of_hardirq),
	KUNIT_CASE(synchronous_calls),
	KUNIT_CASE(mempool_waits),
	{}
};

static struct kunit_suite memalloc_ctx_suite = {
	.name = "memalloc_ctx",
	.test_cases = memalloc_ctx_cases,
};

kunit_test_suite(memalloc_ctx_suite);

MODULE_DESCRIPTION("KUnit tests for allocation contexts");
MODULE_LICENSE("GPL");
