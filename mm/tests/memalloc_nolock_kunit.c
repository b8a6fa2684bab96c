// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for nolock scopes: what is freed inside, what fails at once, what must
 * not fail, and other scopes. memalloc_nolock_alloc_kunit.c is about what is allocated
 * inside, and has the control that lockdep would find a lock taken.
 */
#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/jiffies.h>
#include <linux/kfence.h>
#include <linux/memalloc_ctx.h>
#include <linux/memalloc_guard.h>
#include <linux/mempool.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include "../page_alloc.h"
#include "memalloc_nolock.h"

/* What is freed inside the scope */

#define NR_OBJECTS	1000
#define VOLUME		SZ_16M		/* of memory that would be missed */

static unsigned long free_memory(void)
{
	drain_all_pages(NULL);
	return nr_free_pages();
}

/*
 * Whether what has been freed becomes free: by irq_work, by a worker, after a grace
 * period. Others allocate and free as well, but not as much as VOLUME.
 */
static bool is_free_again(unsigned long before)
{
	unsigned long deadline = jiffies + 20 * HZ;

	for (;;) {
		kvfree_rcu_barrier();
		if (free_memory() + VOLUME / 4 / PAGE_SIZE >= before)
			return true;
		if (time_after(jiffies, deadline))
			return false;
		msleep(20);
	}
}

struct freed {
	const char *name;
	size_t size;
	void *(*alloc)(size_t size);
	void (*free)(struct object *obj, size_t size);
};

static void *alloc_by_kmalloc(size_t size)
{
	return kmalloc(size, GFP_KERNEL);
}

static void *alloc_by_pages(size_t size)
{
	return (void *)__get_free_pages(GFP_KERNEL, get_order(size));
}

static void *alloc_by_exact(size_t size)
{
	return alloc_pages_exact(size, GFP_KERNEL);
}

static void *alloc_by_vmalloc(size_t size)
{
	return vmalloc(size);
}

static void free_by_kfree(struct object *obj, size_t size)
{
	kfree(obj);
}

static void free_by_kvfree(struct object *obj, size_t size)
{
	kvfree(obj);
}

static void free_by_vfree(struct object *obj, size_t size)
{
	vfree(obj);
}

static void free_by_pages(struct object *obj, size_t size)
{
	free_pages((unsigned long)obj, get_order(size));
}

static void free_by_page(struct object *obj, size_t size)
{
	__free_pages(virt_to_page(obj), get_order(size));
}

static void free_by_folio(struct object *obj, size_t size)
{
	folio_put(virt_to_folio(obj));
}

static void free_by_exact(struct object *obj, size_t size)
{
	free_pages_exact(obj, size);
}

static void free_by_rcu(struct object *obj, size_t size)
{
	kvfree_rcu(obj, rcu);
}

static const struct freed freed[] = {
	{ "free_pages, order 0", PAGE_SIZE, alloc_by_pages, free_by_pages },
	{ "free_pages, order 3", PAGE_SIZE << 3, alloc_by_pages, free_by_pages },
	{ "free_pages, order 5", PAGE_SIZE << 5, alloc_by_pages, free_by_pages },
	{ "__free_pages, order 3", PAGE_SIZE << 3, alloc_by_pages, free_by_page },
	{ "folio_put", PAGE_SIZE, alloc_by_pages, free_by_folio },
	{ "free_pages_exact", 5 * PAGE_SIZE, alloc_by_exact, free_by_exact },
	{ "kfree", 2 * PAGE_SIZE, alloc_by_kmalloc, free_by_kfree },
	{ "kfree, large", 4 * PAGE_SIZE, alloc_by_kmalloc, free_by_kfree },
	{ "kfree, very large", 32 * PAGE_SIZE, alloc_by_kmalloc, free_by_kfree },
	{ "kvfree", 4 * PAGE_SIZE, alloc_by_kmalloc, free_by_kvfree },
	{ "kvfree, vmalloc", 16 * PAGE_SIZE, alloc_by_vmalloc, free_by_kvfree },
	{ "vfree", 16 * PAGE_SIZE, alloc_by_vmalloc, free_by_vfree },
	{ "kvfree_rcu", 2 * PAGE_SIZE, alloc_by_kmalloc, free_by_rcu },
	{ "kvfree_rcu, large", 4 * PAGE_SIZE, alloc_by_kmalloc, free_by_rcu },
	{ "kvfree_rcu, vmalloc", 16 * PAGE_SIZE, alloc_by_vmalloc, free_by_rcu },
};

static void test_freed(struct kunit *test, const struct freed *f)
{
	unsigned long before = free_memory();
	struct object *list = NULL, *obj;
	size_t volume;

	for (volume = 0; volume < VOLUME; volume += f->size) {
		obj = f->alloc(f->size);
		if (!obj)
			break;
		obj->next = list;
		list = obj;
	}
	KUNIT_EXPECT_GE_MSG(test, volume, VOLUME, "%s", f->name);

	while (list) {
		obj = list;
		list = obj->next;
		scoped_guard(raw_nolock)
			f->free(obj, f->size);
	}
	KUNIT_EXPECT_EQ_MSG(test, !!debug_locks, locks_checked, "%s", f->name);

	/* KASAN keeps objects of slabs in quarantine, about as much as this. */
	if (IS_ENABLED(CONFIG_KASAN_GENERIC) && f->alloc == alloc_by_kmalloc &&
	    f->size <= KMALLOC_MAX_CACHE_SIZE)
		return;
	KUNIT_EXPECT_TRUE_MSG(test, is_free_again(before), "%s", f->name);
}

/*
 * Red if: free_one_page(), free_frozen_page_commit(), vfree() or slab_free_hook() does
 * not look for the scope (lockdep); if deferred_percpu_work_fn() leaves objects_large
 * alone, or delayed_vfree_irq_work() does not schedule the worker (missing memory).
 */
static void frees(struct kunit *test)
{
	for (int i = 0; i < ARRAY_SIZE(freed); i++)
		test_freed(test, &freed[i]);
	expect_clean(test);
}

/* The same for objects of caches, each by one of the functions that free them */
static void free_objects(struct kmem_cache *s, void **objects, unsigned int nr)
{
	for (int i = 0; i < nr; i += 8) {
		guard(raw_nolock)();
		kmem_cache_free(s, objects[i]);
		kfree(objects[i + 1]);
		kmem_cache_free_bulk(s, 3, &objects[i + 2]);
		kfree_bulk(3, &objects[i + 5]);
	}
}

static unsigned int alloc_objects(struct kmem_cache *s, void **objects)
{
	unsigned int nr;

	for (nr = 0; nr < NR_OBJECTS; nr++) {
		objects[nr] = kmem_cache_alloc(s, GFP_KERNEL);
		if (!objects[nr])
			break;
	}
	return round_down(nr, 8);
}

static_assert(NR_OBJECTS % 8 == 0);

/*
 * Red if: __slab_free() or __pcs_replace_full_main() does not look for the scope
 * (lockdep), defer_free_list() stops short of the tail, or deferred_percpu_work_fn()
 * leaves objects_hooks alone (objects remain in the cache).
 */
static void frees_of_caches(struct kunit *test)
{
	static const slab_flags_t sorts[] = { 0, SLAB_ACCOUNT, SLAB_TYPESAFE_BY_RCU };
	void **objects = kunit_kcalloc(test, NR_OBJECTS, sizeof(*objects), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, objects);
	for (int i = 0; i < ARRAY_SIZE(sorts); i++) {
		struct kmem_cache *s = new_cache(test, "nolock_freed", sorts[i], NULL);

		KUNIT_ASSERT_NOT_NULL(test, s);
		for (int round = 0; round < 3; round++) {
			unsigned int nr = alloc_objects(s, objects);

			KUNIT_EXPECT_EQ(test, nr, NR_OBJECTS);
			free_objects(s, objects, nr);
		}
		destroy_cache(test, s);
	}
	expect_clean(test);
}

#ifdef CONFIG_KFENCE
/* KFENCE takes an object now and then, and guards its page once it is free. */
static void *alloc_of_kfence(struct kmem_cache *s)
{
	unsigned long deadline = jiffies + 10 * HZ;

	while (time_before(jiffies, deadline)) {
		void *obj = kmem_cache_alloc(s, GFP_KERNEL);

		if (!obj || is_kfence_address(obj))
			return obj;
		kmem_cache_free(s, obj);
		cond_resched();
	}
	return NULL;
}

/*
 * Red if: defer_free_hooks() keeps objects of KFENCE at their free pointer, which may
 * be on the page behind (a report), or deferred_percpu_work_fn() leaves objects_kfence
 * alone, or slab_free_hooks_lock() forgets them (lockdep).
 */
static void frees_of_kfence(struct kunit *test)
{
	static const slab_flags_t sorts[] = { 0, SLAB_TYPESAFE_BY_RCU };

	for (int i = 0; i < ARRAY_SIZE(sorts); i++) {
		struct kmem_cache *s = new_cache(test, "nolock_kfence", sorts[i], NULL);
		unsigned long deadline;
		char *obj, c;

		KUNIT_ASSERT_NOT_NULL(test, s);
		obj = alloc_of_kfence(s);
		KUNIT_EXPECT_NOT_NULL_MSG(test, obj, "KFENCE took none in 10 s");
		if (obj) {
			KUNIT_EXPECT_EQ(test, copy_from_kernel_nofault(&c, obj, 1), 0);
			scoped_guard(raw_nolock)
				kmem_cache_free(s, obj);
			deadline = jiffies + 10 * HZ;
			while (!copy_from_kernel_nofault(&c, obj, 1) &&
			       time_before(jiffies, deadline))
				msleep(20);
			KUNIT_EXPECT_NE_MSG(test, copy_from_kernel_nofault(&c, obj, 1), 0,
					    "not free yet, sort %d", i);
		}
		destroy_cache(test, s);
	}
	expect_clean(test);
}
#endif /* CONFIG_KFENCE */

/*
 * Objects that are freed keep what their users may still look at, or find when they
 * are allocated again.
 *
 * Red if: defer_free_hooks() or defer_free() links objects at their beginning.
 */
static void freed_stays_intact(struct kunit *test)
{
	void **objects = kunit_kcalloc(test, NR_OBJECTS, sizeof(*objects), GFP_KERNEL);
	unsigned int nr, bad = 0;
	struct kmem_cache *s;

	KUNIT_ASSERT_NOT_NULL(test, objects);
	s = new_cache(test, "nolock_ctor", 0, object_ctor);
	KUNIT_ASSERT_NOT_NULL(test, s);
	for (int round = 0; round < 3; round++) {
		nr = alloc_objects(s, objects);
		for (int i = 0; i < nr; i++) {
			struct object *obj = objects[i];

			bad += obj->magic != MAGIC || obj->next != obj;
		}
		free_objects(s, objects, nr);
	}
	KUNIT_EXPECT_EQ_MSG(test, bad, 0, "constructed objects");
	destroy_cache(test, s);

	s = new_cache(test, "nolock_typesafe", SLAB_TYPESAFE_BY_RCU, NULL);
	KUNIT_ASSERT_NOT_NULL(test, s);
	for (int i = 0; i < NR_OBJECTS; i++) {
		struct object *obj = kmem_cache_alloc(s, GFP_KERNEL);

		if (!obj)
			break;
		memset(obj, 0x5a, sizeof(*obj));
		guard(rcu)();
		scoped_guard(raw_nolock) {
			kmem_cache_free(s, obj);
			bad += !!memchr_inv(obj, 0x5a, sizeof(*obj));
		}
	}
	KUNIT_EXPECT_EQ_MSG(test, bad, 0, "SLAB_TYPESAFE_BY_RCU");
	destroy_cache(test, s);
	expect_clean(test);
}

/*
 * What an allocation that takes no locks was first asked for.
 *
 * Red if: kvfree_call_rcu() ignores the scope and __kfree_rcu_sheaf() loses its
 * annotation, or takes a lock of its own on PREEMPT_RT (lockdep); if
 * deferred_percpu_work_fn() leaves objects_by_rcu or rcu_sheaves alone (objects remain).
 */
static void kfree_rcu_under_raw_lock(struct kunit *test)
{
	struct kmem_cache *s = new_cache(test, "nolock_rcu", 0, NULL);
	unsigned int nr;

	KUNIT_ASSERT_NOT_NULL(test, s);
	for (nr = 0; nr < 4 * NR_OBJECTS; nr++) {
		struct object *obj = kmem_cache_alloc(s, GFP_KERNEL);

		if (!obj)
			break;
		if (nr & 1) {
			guard(raw_nolock)();
			kfree_rcu(obj, rcu);
		} else {
			guard(memalloc_nolock)();
			raw_spin_lock(&raw_lock);
			kfree_rcu(obj, rcu);
			raw_spin_unlock(&raw_lock);
		}
	}
	KUNIT_EXPECT_EQ(test, nr, 4 * NR_OBJECTS);
	destroy_cache(test, s);
	expect_clean(test);
}

/* What fails at once, and what must not fail */

static const gfp_t failing_masks[] = { GFP_KERNEL, GFP_NOWAIT, GFP_ATOMIC };

#define EXPECT_NULL_NOLOCK(test, _free, _alloc)				\
do {									\
	typeof(_alloc) __p;						\
									\
	scoped_guard(raw_nolock)					\
		__p = _alloc;						\
	KUNIT_EXPECT_TRUE_MSG(test, !__p, "%s", #_alloc);		\
	_free(__p);							\
} while (0)

/*
 * Red if: __vmalloc_node_range_noprof(), vrealloc_node_align_noprof() or
 * pcpu_alloc_noprof() does not ask current_gfp_nolock() first.
 */
static void fails_at_once(struct kunit *test)
{
	void *old = vmalloc(PAGE_SIZE), *grown;

	KUNIT_ASSERT_NOT_NULL(test, old);
	EXPECT_NULL_NOLOCK(test, vfree, vmalloc(PAGE_SIZE));
	EXPECT_NULL_NOLOCK(test, vfree, vzalloc(PAGE_SIZE));
	EXPECT_NULL_NOLOCK(test, free_percpu, alloc_percpu(u64));
	for (int i = 0; i < ARRAY_SIZE(failing_masks); i++) {
		gfp_t gfp = failing_masks[i];

		EXPECT_NULL_NOLOCK(test, vfree, __vmalloc(PAGE_SIZE, gfp));
		EXPECT_NULL_NOLOCK(test, kvfree, kvmalloc(SZ_1M, gfp));
		EXPECT_NULL_NOLOCK(test, free_percpu, alloc_percpu_gfp(u64, gfp));
		scoped_guard(raw_nolock)
			grown = vrealloc(old, 4 * PAGE_SIZE, gfp);
		KUNIT_EXPECT_NULL(test, grown);
		if (grown)
			old = grown;
	}
	vfree(old);
	expect_clean(test);
}

/*
 * Red if: mempool_alloc() tries alloc_fn, which would succeed, or
 * mempool_alloc_preallocated() takes an element.
 */
static void mempool_fails_at_once(struct kunit *test)
{
	mempool_t pool;
	void *p, *q;

	KUNIT_ASSERT_EQ(test, mempool_init_kmalloc_pool(&pool, 4, 64), 0);
	for (int i = 0; i < ARRAY_SIZE(failing_masks); i++) {
		/* One that may wait is for nofail() to test. */
		if (gfpflags_allow_blocking(failing_masks[i]))
			continue;
		scoped_guard(raw_nolock) {
			p = mempool_alloc(&pool, failing_masks[i]);
			q = mempool_alloc_preallocated(&pool);
		}
		KUNIT_EXPECT_NULL_MSG(test, p, "%pGg", &failing_masks[i]);
		KUNIT_EXPECT_NULL(test, q);
		KUNIT_EXPECT_EQ(test, pool.curr_nr, 4);
		if (p)
			mempool_free(p, &pool);
		if (q)
			mempool_free(q, &pool);
	}
	mempool_exit(&pool);
	expect_clean(test);
}

static void __nofail(struct kunit *test, struct kmem_cache *s, mempool_t *pool)
{
	const gfp_t gfp = GFP_KERNEL | __GFP_NOFAIL;
	struct page *page;
	void *p, *obj, *e;
	gfp_t folded;

	/* Sleeping is legal: they get what they were promised. */
	scoped_guard(memalloc_nolock) {
		folded = current_gfp_context(gfp);
		p = kmalloc(64, gfp);
		page = alloc_page(gfp);
		obj = kmem_cache_alloc(s, gfp);
		e = mempool_alloc(pool, GFP_KERNEL);
	}
	KUNIT_EXPECT_EQ(test, folded, gfp);
	KUNIT_EXPECT_NOT_NULL(test, p);
	KUNIT_EXPECT_NOT_NULL(test, page);
	KUNIT_EXPECT_NOT_NULL(test, obj);
	KUNIT_EXPECT_NOT_NULL(test, e);
	kfree(p);
	if (page)
		__free_page(page);
	if (obj)
		kmem_cache_free(s, obj);
	if (e)
		mempool_free(e, pool);

	/* It is not: what counts is that all of them return. */
	for (int i = 0; i < NR_OBJECTS; i++) {
		scoped_guard(raw_nolock) {
			p = kmalloc(64, gfp);
			page = alloc_page(gfp);
			obj = kmem_cache_alloc(s, gfp);
			e = mempool_alloc(pool, GFP_KERNEL);
		}
		kfree(p);
		if (page)
			__free_page(page);
		if (obj)
			kmem_cache_free(s, obj);
		KUNIT_EXPECT_NULL(test, e);
		if (e)
			mempool_free(e, pool);
	}

	scoped_guard(raw_nolock) {
		p = vmalloc(PAGE_SIZE);
		page = alloc_pages(gfp, 4);
		e = __vmalloc(PAGE_SIZE, gfp);
	}
	KUNIT_EXPECT_NULL(test, p);
	KUNIT_EXPECT_NULL(test, page);
	KUNIT_EXPECT_NULL(test, e);
}

/*
 * It may be reported, if nobody has had the warning yet.
 *
 * Red if: __current_gfp_nolock() lets the scope have its way with a task that may
 * sleep (the mask), or does not look at preemptible() (lockdep; a mempool that waits),
 * or the fold leaves __GFP_NOFAIL in a mask without __GFP_DIRECT_RECLAIM (a warning).
 */
static void nofail(struct kunit *test)
{
	struct kmem_cache *s = new_cache(test, "nolock_nofail", 0, NULL);
	mempool_t pool;

	KUNIT_ASSERT_NOT_NULL(test, s);
	KUNIT_EXPECT_EQ(test, mempool_init_kmalloc_pool(&pool, 4, 64), 0);
	kunit_warning_suppress(test) {
		__nofail(test, s, &pool);
		KUNIT_EXPECT_LE(test, KUNIT_SUPPRESSED_WARNING_COUNT(), 1);
	}
	mempool_exit(&pool);
	destroy_cache(test, s);
	expect_clean(test);
}

/* Next to other scopes */

/*
 * Not here is __GFP_DIRECT_RECLAIM alone: inside nowait, the little that is left of it
 * looks like nolock.
 */
static const gfp_t masks[] = {
	GFP_KERNEL, GFP_NOFS, GFP_NOIO, GFP_NOWAIT, GFP_ATOMIC, GFP_HIGHUSER_MOVABLE,
	0, __GFP_HIGH, __GFP_KSWAPD_RECLAIM, GFP_KERNEL | __GFP_DMA32,
	GFP_KERNEL | __GFP_MEMALLOC, GFP_ATOMIC | __GFP_MEMALLOC, GFP_KERNEL | __GFP_NOFAIL,
	GFP_NOIO | __GFP_NORETRY, GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_COMP,
};

/* Whether those who look at the mask and those who ask by it come to one conclusion */
static bool agree(gfp_t gfp)
{
	gfp_t folded = current_gfp_context(gfp);

	if (memalloc_nolock_active() && current_gfp_nolock(gfp) &&
	    (gfpflags_allow_spinning(folded) || !(folded & __GFP_NOMEMALLOC)))
		return false;
	return gfpflags_allow_spinning(folded) == current_gfp_allows_spinning(gfp) &&
		gfpflags_allow_blocking(folded) == current_gfp_allows_blocking(gfp);
}

static void __mask_and_scope_agree(struct kunit *test)
{
	for (unsigned int set = 0; set <= 0xff; set++) {
		memalloc_scope_t scope = (__force memalloc_scope_t)set;

		if (scope & MEMALLOC_SCOPE_IO_FLUSHER)
			continue;
		for (int i = 0; i < ARRAY_SIZE(masks); i++) {
			bool same, same_atomic;

			scoped_guard(memalloc_scope, scope) {
				same = agree(masks[i]);
				scoped_guard(preempt)
					same_atomic = agree(masks[i]);
			}
			KUNIT_EXPECT_TRUE_MSG(test, same && same_atomic, "%pGg, scope %#x",
					      &masks[i], set);
		}
	}
}

/*
 * A request that must not fail may be reported.
 *
 * Red if: the fold leaves a bit of __GFP_RECLAIM or forgets __GFP_NOMEMALLOC inside
 * nolock, or __current_gfp_allows_blocking() looks for nowait alone.
 */
static void mask_and_scope_agree(struct kunit *test)
{
	kunit_warning_suppress(test)
		__mask_and_scope_agree(test);
	expect_clean(test);
}

/*
 * Red if: memalloc_ctx_adopt() closes nolock, or MEMALLOC_SCOPE_WORK has it;
 * memalloc_gfp_save() leaves it open to __GFP_NOFAIL; a restore closes more than its
 * save has opened.
 */
static void nesting(struct kunit *test)
{
	gfp_t in_noreclaim, in_nowait, in_noio, after_noreclaim, after_nowait, after_noio;
	bool adopted, captured, nofail, reopened;

	scoped_guard(memalloc_noreclaim) {
		scoped_guard(memalloc_nolock)
			in_noreclaim = current_gfp_context(GFP_ATOMIC | __GFP_MEMALLOC);
		after_noreclaim = current_gfp_context(GFP_ATOMIC | __GFP_MEMALLOC);
	}
	scoped_guard(memalloc_nowait) {
		scoped_guard(memalloc_nolock)
			in_nowait = current_gfp_context(GFP_KERNEL);
		after_nowait = current_gfp_context(GFP_KERNEL);
	}
	scoped_guard(memalloc_noio) {
		scoped_guard(memalloc_nolock)
			in_noio = current_gfp_context(GFP_KERNEL | __GFP_ZERO);
		after_noio = current_gfp_context(GFP_KERNEL | __GFP_ZERO);
	}
	scoped_guard(memalloc_nolock) {
		captured = !!(memalloc_ctx_capture().scope & MEMALLOC_SCOPE_NOLOCK);
		scoped_guard(memalloc_ctx, MEMALLOC_CTX_NOIO)
			adopted = memalloc_nolock_active() && memalloc_noio_active();
		scoped_guard(memalloc_gfp, GFP_KERNEL | __GFP_NOFAIL)
			nofail = memalloc_nolock_active();
		reopened = memalloc_nolock_active();
	}

	KUNIT_EXPECT_EQ(test, in_noreclaim, __GFP_NOWARN | __GFP_NOMEMALLOC);
	KUNIT_EXPECT_EQ(test, after_noreclaim, GFP_ATOMIC | __GFP_MEMALLOC);
	KUNIT_EXPECT_EQ(test, in_nowait, __GFP_IO | __GFP_FS | __GFP_NOWARN | __GFP_NOMEMALLOC);
	KUNIT_EXPECT_EQ(test, after_nowait, GFP_KERNEL & ~__GFP_DIRECT_RECLAIM);
	KUNIT_EXPECT_EQ(test, in_noio, __GFP_ZERO | __GFP_NOWARN | __GFP_NOMEMALLOC);
	KUNIT_EXPECT_EQ(test, after_noio, GFP_NOIO | __GFP_ZERO);
	KUNIT_EXPECT_FALSE(test, captured);
	KUNIT_EXPECT_TRUE(test, adopted);
	KUNIT_EXPECT_FALSE(test, nofail);
	KUNIT_EXPECT_TRUE(test, reopened);
	expect_clean(test);
}

/*
 * Code that may have to allocate may say so under a raw lock, inside nolock.
 *
 * Red if: might_alloc() asks the mask alone (the console: sleeping in invalid context).
 */
static void may_say_that_it_allocates(struct kunit *test)
{
	scoped_guard(raw_nolock) {
		for (int i = 0; i < ARRAY_SIZE(masks); i++) {
			if (!(masks[i] & __GFP_NOFAIL))
				might_alloc(masks[i]);
		}
	}
	expect_clean(test);
}

static struct kunit_case memalloc_nolock_cases[] = {
	KUNIT_CASE_SLOW(frees),
	KUNIT_CASE(frees_of_caches),
#ifdef CONFIG_KFENCE
	KUNIT_CASE(frees_of_kfence),
#endif
	KUNIT_CASE(freed_stays_intact),
	KUNIT_CASE(kfree_rcu_under_raw_lock),
	KUNIT_CASE(fails_at_once),
	KUNIT_CASE(mempool_fails_at_once),
	KUNIT_CASE(nofail),
	KUNIT_CASE(mask_and_scope_agree),
	KUNIT_CASE(nesting),
	KUNIT_CASE(may_say_that_it_allocates),
	{}
};

static struct kunit_suite memalloc_nolock_suite = {
	.name = "memalloc_nolock",
	.init = nolock_test_init,
	.test_cases = memalloc_nolock_cases,
};

kunit_test_suite(memalloc_nolock_suite);

MODULE_DESCRIPTION("KUnit tests for nolock scopes");
MODULE_LICENSE("GPL");
