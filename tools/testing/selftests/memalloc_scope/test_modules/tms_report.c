// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel reports on: a request that fails, in a task as well as in
 * interrupts on top of it, and a task that sleeps for long with scopes open.
 */
#include <linux/atomic.h>
#include <linux/bottom_half.h>
#include <linux/irq_work.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/mempool.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "tms_internal.h"

/*
 * Bits that a scope can take away; legal in any context, and not silent. GFP_NOWAIT
 * would be.
 */
#define TMS_GFP_LOUD	(__GFP_KSWAPD_RECLAIM | __GFP_IO | __GFP_FS)

/* A slab takes a block of the highest order, of which there are few. */
#define TMS_BLOCK	((PAGE_SIZE << (MAX_PAGE_ORDER - 1)) + PAGE_SIZE)
/* An interrupt may find something else than the task. */
#define TMS_TRIES	100
/* Nobody has to be rebooted who forgets to wake a sleeper. */
#define TMS_SLEEP	(60 * HZ)

/* The one run there can be */
static struct tms_failing {
	struct tms_fail *f;
	struct kmem_cache *cache;
	struct list_head blocks;
	struct work_struct bh;
	struct irq_work irq_work;
	bool hit;
} tms_failing;

static DECLARE_WAIT_QUEUE_HEAD(tms_sleepers);
static atomic_t tms_wakes;

/* Takes blocks until a request fails, which the kernel then reports. */
static void tms_exhaust(struct tms_failing *t)
{
	struct tms_fail *f = t->f;

	while (!f->failed && f->blocks < f->max_blocks) {
		struct list_head *block = kmem_cache_alloc(t->cache, TMS_GFP_LOUD);

		if (block) {
			list_add(block, &t->blocks);
			f->blocks++;
		} else {
			f->failed = 1;
		}
	}
}

static void tms_exhaust_on_top(struct tms_failing *t, bool as_meant)
{
	struct tms_cookies c;

	if (!as_meant || current != tms_task)
		return;
	tms_open(&c, t->f->own);
	tms_exhaust(t);
	tms_close(&c);
	t->hit = true;
}

static void tms_fail_bh(struct work_struct *work)
{
	tms_exhaust_on_top(container_of(work, struct tms_failing, bh), in_serving_softirq());
}

static void tms_fail_irq(struct irq_work *work)
{
	tms_exhaust_on_top(container_of(work, struct tms_failing, irq_work),
			   in_hardirq() && !in_serving_softirq());
}

/* Both interrupts hit before what has triggered them returns. */
static void tms_fail_where(struct tms_failing *t)
{
	switch (t->f->where) {
	case TMS_IN_TASK:
		tms_exhaust(t);
		t->hit = true;
		break;
	case TMS_IN_SOFTIRQ:
		local_bh_disable();
		queue_work_on(smp_processor_id(), system_bh_wq, &t->bh);
		local_bh_enable();
		flush_work(&t->bh);
		break;
	case TMS_IN_HARDIRQ:
		irq_work_queue(&t->irq_work);
		irq_work_sync(&t->irq_work);
		break;
	}
}

int tms_fail_run(struct tms_fail *f)
{
	struct tms_failing *t = &tms_failing;
	struct list_head *block, *next;
	struct tms_cookies c;

	if (f->own & ~TMS_SCOPES || f->where >= TMS_WHERES || f->where == TMS_BH_OFF)
		return -EINVAL;
	/* There, an irq_work that may allocate runs in a thread. */
	if (IS_ENABLED(CONFIG_PREEMPT_RT) && f->where == TMS_IN_HARDIRQ)
		return -EOPNOTSUPP;

	*t = (struct tms_failing){ .f = f };
	INIT_LIST_HEAD(&t->blocks);
	INIT_WORK(&t->bh, tms_fail_bh);
	init_irq_work(&t->irq_work, tms_fail_irq);
	/* Destroyed at the end, so that it does not keep any blocks for later. */
	t->cache = kmem_cache_create("tms_blocks", TMS_BLOCK, 0, SLAB_NO_MERGE, NULL);
	if (!t->cache)
		return -ENOMEM;

	tms_open(&c, f->scopes);
	for (int i = 0; i < TMS_TRIES && !t->hit && !signal_pending(current); i++)
		tms_fail_where(t);
	tms_close(&c);

	list_for_each_safe(block, next, &t->blocks)
		kmem_cache_free(t->cache, block);
	kmem_cache_destroy(t->cache);
	return t->hit ? 0 : -EAGAIN;
}

#ifdef CONFIG_DEBUG_MEMALLOC_SCOPE
/* Functions of their own, by whose names a report is told from others */
static noinline unsigned int tms_nofail_open(u32 scopes)
{
	return scopes & TMS_NOWAIT ? memalloc_nowait_save() : 0;
}

static noinline bool tms_nofail_page(void)
{
	struct page *page = alloc_page(GFP_KERNEL | __GFP_NOFAIL);

	if (page)
		__free_page(page);
	return page;
}

/* A pool gets its element when it is made, and nothing more after that. */
static void *tms_element_alloc(gfp_t gfp, void *pool_data)
{
	bool *empty = pool_data;

	return READ_ONCE(*empty) ? NULL : empty;
}

static void tms_element_free(void *element, void *pool_data)
{
}

struct tms_returned {
	struct delayed_work work;
	mempool_t pool;
	void *element;
};

static void tms_return_element(struct work_struct *work)
{
	struct tms_returned *r = container_of(work, struct tms_returned, work.work);

	mempool_free(r->element, &r->pool);
}

static noinline bool tms_nofail_mempool(mempool_t *pool, void **element)
{
	*element = mempool_alloc(pool, GFP_KERNEL);
	return *element;
}

/* The only element there is comes back after a while. */
static int tms_wait_for_element(struct tms_nofail *n)
{
	struct tms_returned r = { };
	unsigned int cookie;
	bool empty = false;
	void *element;
	int err;

	err = mempool_init(&r.pool, 1, tms_element_alloc, tms_element_free, &empty);
	if (err)
		return err;
	WRITE_ONCE(empty, true);
	INIT_DELAYED_WORK_ONSTACK(&r.work, tms_return_element);
	r.element = mempool_alloc(&r.pool, GFP_NOWAIT);
	schedule_delayed_work(&r.work, HZ / 10);

	cookie = tms_nofail_open(n->scopes);
	n->kept = tms_nofail_mempool(&r.pool, &element);
	memalloc_nowait_restore(cookie);

	flush_delayed_work(&r.work);
	destroy_delayed_work_on_stack(&r.work);
	if (element)
		mempool_free(element, &r.pool);
	mempool_exit(&r.pool);
	return 0;
}

int tms_nofail_run(struct tms_nofail *n)
{
	unsigned int cookie;

	switch (n->promise) {
	case TMS_PROMISE_PAGE:
		cookie = tms_nofail_open(n->scopes);
		n->kept = tms_nofail_page();
		memalloc_nowait_restore(cookie);
		return 0;
	case TMS_PROMISE_MEMPOOL:
		return tms_wait_for_element(n);
	}
	return -EINVAL;
}
#else
int tms_nofail_run(struct tms_nofail *n)
{
	return -EOPNOTSUPP;
}
#endif

/*
 * Saves that find their scope open store the byte as it is. KCSAN looks out for
 * stores of others at one in so many of these: that is most of the time, here.
 */
int tms_rewrite_run(struct tms_rewrite *r)
{
	ktime_t end = ktime_add_ms(ktime_get(), r->ms);
	struct tms_cookies c;
	u32 own;

	tms_open(&c, r->scopes);
	own = tms_own();
	do {
		for (int i = 0; i < 1000; i++)
			memalloc_scope_restore(memalloc_scope_save(tms_raw(r->scopes)));
		if (tms_own() != own)
			r->changed++;
		r->loops++;
		cond_resched();
	} while (ktime_before(ktime_get(), end) && !signal_pending(current));
	tms_close(&c);
	return signal_pending(current) ? -EINTR : 0;
}

long tms_sleep(unsigned long scopes)
{
	int wakes = atomic_read(&tms_wakes);
	struct tms_cookies c;

	if (scopes & ~TMS_SCOPES)
		return -EINVAL;
	tms_open(&c, scopes);
	wait_event_timeout(tms_sleepers, atomic_read(&tms_wakes) != wakes, TMS_SLEEP);
	tms_close(&c);
	return 0;
}

long tms_wake(void)
{
	atomic_inc(&tms_wakes);
	wake_up_all(&tms_sleepers);
	return 0;
}

#ifdef CONFIG_CHECK_MEMALLOC_SCOPE
static noinline void tms_forgets(unsigned long scopes)
{
	struct tms_cookies c;

	tms_open(&c, scopes);
}

/* The kernel reports it when the caller is back in user space. */
long tms_forget(unsigned long scopes)
{
	if (scopes & ~TMS_SCOPES)
		return -EINVAL;
	memalloc_debug_forget();
	tms_forgets(scopes);
	return 0;
}
#else
long tms_forget(unsigned long scopes)
{
	return -EOPNOTSUPP;
}
#endif

#ifdef CONFIG_DEBUG_MEMALLOC_SCOPE
/* The task whose next child begins with scopes */
static struct task_struct *tms_giver;
static memalloc_scope_t tms_gift;

long tms_give(unsigned long scopes)
{
	if (scopes & ~TMS_SCOPES)
		return -EINVAL;
	memalloc_debug_forget();
	tms_gift = tms_raw(scopes);
	WRITE_ONCE(tms_giver, current);
	return 0;
}

void tms_given_to(struct task_struct *child)
{
	if (current != READ_ONCE(tms_giver))
		return;
	WRITE_ONCE(tms_giver, NULL);
	child->memalloc_scope |= tms_gift;
}
#else
long tms_give(unsigned long scopes)
{
	return -EOPNOTSUPP;
}

void tms_given_to(struct task_struct *child)
{
}
#endif
