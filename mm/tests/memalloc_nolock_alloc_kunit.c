// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for nolock scopes: every way to allocate, under a raw spinlock.
 *
 * Half of the proof is in what does not happen. That a lock was taken is noticed by
 * lockdep, with CONFIG_PROVE_RAW_LOCK_NESTING, and then by expect_clean(); that
 * something might have slept, by CONFIG_DEBUG_ATOMIC_SLEEP on the console. The case
 * control shows that without the scope lockdep has something to say.
 */
#include <kunit/test.h>
#include <linux/debug_locks.h>
#include <linux/gfp.h>
#include <linux/list_lru.h>
#include <linux/memalloc_guard.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/stop_machine.h>
#include "../page_alloc.h"
#include "../slab.h"
#include "memalloc_nolock.h"

static struct kmem_cache *plain, *account, *dma, *dma32, *typesafe, *with_ctor;

static bool new_caches(struct kunit *test)
{
	plain = new_cache(test, "nolock_plain", 0, NULL);
	account = new_cache(test, "nolock_account", SLAB_ACCOUNT, NULL);
	dma = new_cache(test, "nolock_dma", SLAB_CACHE_DMA, NULL);
	dma32 = new_cache(test, "nolock_dma32", SLAB_CACHE_DMA32, NULL);
	typesafe = new_cache(test, "nolock_typesafe", SLAB_TYPESAFE_BY_RCU, NULL);
	with_ctor = new_cache(test, "nolock_ctor", 0, object_ctor);
	return plain && account && dma && dma32 && typesafe && with_ctor;
}

static void destroy_caches(struct kunit *test)
{
	destroy_cache(test, plain);
	destroy_cache(test, account);
	destroy_cache(test, dma);
	destroy_cache(test, dma32);
	destroy_cache(test, typesafe);
	destroy_cache(test, with_ctor);
}

/* Entry points */

#define NR_OBJECTS	512	/* that are had at a time, from each entry point */
#define NR_BULK		16

struct entry {
	const char *name;
	void *(*alloc)(const struct entry *e, gfp_t gfp, void **bulk);
	void (*free)(const struct entry *e, void *p, void **bulk);
	bool (*good)(const struct entry *e, void *p);
	unsigned long arg;		/* an order or a size */
	gfp_t gfp;			/* besides GFP_KERNEL or GFP_ATOMIC */
	struct kmem_cache **cache;
	bool fails;
};

static struct list_lru lru;

static bool not_compound(const struct entry *e, void *p)
{
	return !PageCompound(p);
}

static bool compound(const struct entry *e, void *p)
{
	return PageHead(p) && compound_order(p) == e->arg;
}

/* Zeroed, and it will be noticed if it is not the next time. */
static bool zeroed(const struct entry *e, void *p)
{
	bool good = !memchr_inv(p, 0, e->arg);

	memset(p, 0xa5, e->arg);
	return good;
}

static bool in_dma_zone(const struct entry *e, void *p)
{
	struct page *page = e->cache ? virt_to_page(p) : p;

#ifdef CONFIG_ZONE_DMA
	if ((e->gfp & __GFP_DMA) || e->cache == &dma)
		return page_zonenum(page) == ZONE_DMA;
#endif
#ifdef CONFIG_ZONE_DMA32
	if ((e->gfp & __GFP_DMA32) || e->cache == &dma32)
		return page_zonenum(page) <= ZONE_DMA32;
#endif
	return page;
}

static void *get_pages(const struct entry *e, gfp_t gfp, void **bulk)
{
	return alloc_pages(gfp, e->arg);
}

static void *get_pages_node(const struct entry *e, gfp_t gfp, void **bulk)
{
	return alloc_pages_node(numa_mem_id(), gfp, e->arg);
}

static void *get_pages_nolock(const struct entry *e, gfp_t gfp, void **bulk)
{
	return alloc_pages_nolock(0, NUMA_NO_NODE, e->arg);
}

#ifdef CONFIG_CONTIG_ALLOC
static void *get_contig(const struct entry *e, gfp_t gfp, void **bulk)
{
	return alloc_contig_pages(e->arg, gfp, numa_mem_id(), NULL);
}
#endif

static void put_pages(const struct entry *e, void *p, void **bulk)
{
	__free_pages(p, e->arg);
}

static void *get_and_split(const struct entry *e, gfp_t gfp, void **bulk)
{
	struct page *page = alloc_pages(gfp, e->arg);

	if (page)
		split_page(page, e->arg);
	return page;
}

static void put_split(const struct entry *e, void *p, void **bulk)
{
	for (int i = 0; i < 1 << e->arg; i++)
		__free_page((struct page *)p + i);
}

static void *get_free(const struct entry *e, gfp_t gfp, void **bulk)
{
	return (void *)__get_free_pages(gfp, e->arg);
}

static void put_free(const struct entry *e, void *p, void **bulk)
{
	free_pages((unsigned long)p, e->arg);
}

static void *get_zeroed(const struct entry *e, gfp_t gfp, void **bulk)
{
	return (void *)get_zeroed_page(gfp);
}

static void put_zeroed(const struct entry *e, void *p, void **bulk)
{
	free_page((unsigned long)p);
}

static void *get_exact(const struct entry *e, gfp_t gfp, void **bulk)
{
	return alloc_pages_exact(e->arg, gfp);
}

static void put_exact(const struct entry *e, void *p, void **bulk)
{
	free_pages_exact(p, e->arg);
}

static void *get_folio(const struct entry *e, gfp_t gfp, void **bulk)
{
	return folio_alloc(gfp, e->arg);
}

static void put_folio(const struct entry *e, void *p, void **bulk)
{
	folio_put(p);
}

static void *get_pages_bulk(const struct entry *e, gfp_t gfp, void **bulk)
{
	alloc_pages_bulk(gfp, NR_BULK, (struct page **)bulk);
	return bulk[0];
}

static void put_pages_bulk(const struct entry *e, void *p, void **bulk)
{
	for (int i = 0; i < NR_BULK && bulk[i]; i++)
		__free_page(bulk[i]);
}

static void *get_kmalloc(const struct entry *e, gfp_t gfp, void **bulk)
{
	return kmalloc(e->arg, gfp);
}

/* Sizes that the compiler knows: the cache is chosen by it, not by the allocator. */
static void *get_kmalloc_const(const struct entry *e, gfp_t gfp, void **bulk)
{
	switch (e->arg) {
	case 8:
		return kmalloc(8, gfp);
	case 64:
		return kmalloc(64, gfp);
	case 1000:
		return kmalloc(1000, gfp);
	case 2 * PAGE_SIZE:
		return kmalloc(2 * PAGE_SIZE, gfp);
	case 8 * PAGE_SIZE:
		return kmalloc(8 * PAGE_SIZE, gfp);
	default:
		return kmalloc(16 * PAGE_SIZE, gfp);
	}
}

static void *get_kzalloc(const struct entry *e, gfp_t gfp, void **bulk)
{
	return kzalloc(e->arg, gfp);
}

static void *get_kmalloc_node(const struct entry *e, gfp_t gfp, void **bulk)
{
	return kmalloc_node(e->arg, gfp, numa_mem_id());
}

static void *get_kmalloc_array(const struct entry *e, gfp_t gfp, void **bulk)
{
	return kmalloc_array(NR_BULK, e->arg, gfp);
}

static void *get_kmalloc_nolock(const struct entry *e, gfp_t gfp, void **bulk)
{
	return kmalloc_nolock(e->arg, 0, NUMA_NO_NODE);
}

static void *get_krealloc(const struct entry *e, gfp_t gfp, void **bulk)
{
	char *p = kmalloc(32, gfp), *grown;

	if (!p)
		return NULL;
	memset(p, 0x5a, 32);
	grown = krealloc(p, e->arg, gfp);
	if (!grown)
		kfree(p);
	return grown;
}

static bool kept_contents(const struct entry *e, void *p)
{
	return !memchr_inv(p, 0x5a, 32);
}

static void *get_kvmalloc(const struct entry *e, gfp_t gfp, void **bulk)
{
	return kvmalloc(e->arg, gfp);
}

static void put_kfree(const struct entry *e, void *p, void **bulk)
{
	kfree(p);
}

static void put_kvfree(const struct entry *e, void *p, void **bulk)
{
	kvfree(p);
}

static void *get_cache(const struct entry *e, gfp_t gfp, void **bulk)
{
	return kmem_cache_alloc(*e->cache, gfp);
}

static void *get_cache_node(const struct entry *e, gfp_t gfp, void **bulk)
{
	return kmem_cache_alloc_node(*e->cache, gfp, numa_mem_id());
}

static void *get_cache_lru(const struct entry *e, gfp_t gfp, void **bulk)
{
	return kmem_cache_alloc_lru(*e->cache, &lru, gfp);
}

static void *get_cache_bulk(const struct entry *e, gfp_t gfp, void **bulk)
{
	return kmem_cache_alloc_bulk(*e->cache, gfp, NR_BULK, bulk) ? bulk[0] : NULL;
}

static void *get_cache_sheaf(const struct entry *e, gfp_t gfp, void **bulk)
{
	struct slab_sheaf *sheaf = kmem_cache_prefill_sheaf(*e->cache, gfp, NR_BULK / 2);

	if (!sheaf)
		return NULL;
	/* What is left of the sheaf goes back. */
	for (int i = 0; i < NR_BULK / 4; i++)
		bulk[i] = kmem_cache_alloc_from_sheaf(*e->cache, gfp, sheaf);
	kmem_cache_return_sheaf(*e->cache, gfp, sheaf);
	return bulk[0];
}

static bool constructed(const struct entry *e, void *p)
{
	return ((struct object *)p)->magic == MAGIC;
}

static void put_cache(const struct entry *e, void *p, void **bulk)
{
	kmem_cache_free(*e->cache, p);
}

static void put_cache_bulk(const struct entry *e, void *p, void **bulk)
{
	kmem_cache_free_bulk(*e->cache, NR_BULK, bulk);
}

static void put_cache_sheaf(const struct entry *e, void *p, void **bulk)
{
	for (int i = 0; i < NR_BULK / 4 && bulk[i]; i++)
		kmem_cache_free(*e->cache, bulk[i]);
}

static const struct entry entries[] = {
	{ "page", get_pages, put_pages, not_compound },
	{ "order 3", get_pages, put_pages, not_compound, 3 },
	{ "order 3, split", get_and_split, put_split, not_compound, 3 },
	{ "order 3, compound", get_pages, put_pages, compound, 3, __GFP_COMP },
	{ "order 4", get_pages, put_pages, .arg = 4, .fails = true },
	{ "order 4, compound", get_pages, put_pages, .arg = 4, .gfp = __GFP_COMP,
	  .fails = true },
	{ "page, DMA", get_pages, put_pages, in_dma_zone, 0, __GFP_DMA },
	{ "page, DMA32", get_pages, put_pages, in_dma_zone, 0, __GFP_DMA32 },
	{ "alloc_pages_node", get_pages_node, put_pages, not_compound, 1 },
	{ "alloc_pages_nolock", get_pages_nolock, put_pages, .arg = 1 },
#ifdef CONFIG_CONTIG_ALLOC
	{ "alloc_contig_pages", get_contig, .arg = 4, .fails = true },
#endif
	{ "__get_free_pages", get_free, put_free, .arg = 2 },
	{ "get_zeroed_page", get_zeroed, put_zeroed, zeroed, PAGE_SIZE },
	{ "alloc_pages_exact", get_exact, put_exact, .arg = 3 * PAGE_SIZE },
	{ "folio_alloc", get_folio, put_folio, compound, 2 },
	{ "alloc_pages_bulk", get_pages_bulk, put_pages_bulk, not_compound },

	{ "kmalloc, 8", get_kmalloc, put_kfree, .arg = 8 },
	{ "kmalloc, 64", get_kmalloc, put_kfree, .arg = 64 },
	{ "kmalloc, 1000", get_kmalloc, put_kfree, .arg = 1000 },
	{ "kmalloc, 2 pages", get_kmalloc, put_kfree, .arg = 2 * PAGE_SIZE },
	{ "kmalloc, 4 pages", get_kmalloc, put_kfree, .arg = 4 * PAGE_SIZE },
	{ "kmalloc, 8 pages", get_kmalloc, put_kfree, .arg = 8 * PAGE_SIZE },
	{ "kmalloc, 16 pages", get_kmalloc, put_kfree, .arg = 16 * PAGE_SIZE, .fails = true },
	{ "kmalloc, constant 8", get_kmalloc_const, put_kfree, .arg = 8 },
	{ "kmalloc, constant 64", get_kmalloc_const, put_kfree, .arg = 64 },
	{ "kmalloc, constant 1000", get_kmalloc_const, put_kfree, .arg = 1000 },
	{ "kmalloc, constant 2 pages", get_kmalloc_const, put_kfree, .arg = 2 * PAGE_SIZE },
	{ "kmalloc, constant 8 pages", get_kmalloc_const, put_kfree, .arg = 8 * PAGE_SIZE },
	{ "kmalloc, constant 16 pages", get_kmalloc_const, put_kfree,
	  .arg = 16 * PAGE_SIZE, .fails = true },
	{ "kmalloc, accounted", get_kmalloc, put_kfree, .arg = 128, .gfp = __GFP_ACCOUNT },
	{ "kzalloc", get_kzalloc, put_kfree, zeroed, 200 },
	{ "kzalloc, 4 pages", get_kzalloc, put_kfree, zeroed, 4 * PAGE_SIZE },
	{ "kmalloc_node", get_kmalloc_node, put_kfree, .arg = 300 },
	{ "kmalloc_array", get_kmalloc_array, put_kfree, .arg = 33 },
	{ "kmalloc_nolock", get_kmalloc_nolock, put_kfree, .arg = 100 },
	{ "krealloc", get_krealloc, put_kfree, kept_contents, 1000 },
	{ "kvmalloc", get_kvmalloc, put_kvfree, .arg = 300 },
	{ "kvmalloc, 4 pages", get_kvmalloc, put_kvfree, .arg = 4 * PAGE_SIZE },

	{ "kmem_cache_alloc", get_cache, put_cache, .cache = &plain },
	{ "kmem_cache_alloc_node", get_cache_node, put_cache, .cache = &plain },
	{ "kmem_cache_alloc_lru", get_cache_lru, put_cache, .cache = &account },
	{ "accounted cache", get_cache, put_cache, .cache = &account },
	{ "DMA cache", get_cache, put_cache, in_dma_zone, .cache = &dma },
	{ "DMA32 cache", get_cache, put_cache, in_dma_zone, .cache = &dma32 },
	{ "typesafe cache", get_cache, put_cache, .cache = &typesafe },
	{ "cache with ctor", get_cache, put_cache, constructed, .cache = &with_ctor },
	{ "kmem_cache_alloc_bulk", get_cache_bulk, put_cache_bulk, .cache = &plain },
	{ "sheaf", get_cache_sheaf, put_cache_sheaf, .cache = &plain },
};

struct had {
	void *p[NR_OBJECTS];
	void *bulk[NR_OBJECTS][NR_BULK];
};

/* Of so many requests. Some architectures cannot take from a slab without a lock. */
static unsigned int expected_objects(unsigned int requests)
{
#ifdef system_has_freelist_aba
	if (system_has_freelist_aba())
		return requests / 2;
#endif
	return 0;
}

static void test_entry(struct kunit *test, const struct entry *e, struct had *had)
{
	unsigned int got = 0, bad = 0;

	memset(had, 0, sizeof(*had));
	for (int i = 0; i < NR_OBJECTS; i++) {
		gfp_t gfp = (i & 1 ? GFP_KERNEL : GFP_ATOMIC) | e->gfp;

		scoped_guard(raw_nolock)
			had->p[i] = e->alloc(e, gfp, had->bulk[i]);
		got += !!had->p[i];
	}
	for (int i = 0; i < NR_OBJECTS; i++) {
		if (had->p[i] && e->good && !e->good(e, had->p[i]))
			bad++;
	}
	if (e->fails) {
		KUNIT_EXPECT_EQ_MSG(test, got, 0, "%s", e->name);
	} else {
		KUNIT_EXPECT_GE_MSG(test, got, expected_objects(NR_OBJECTS), "%s", e->name);
		KUNIT_EXPECT_EQ_MSG(test, bad, 0, "%s", e->name);
	}

	for (int i = 0; e->free && i < NR_OBJECTS; i++) {
		if (!had->p[i])
			continue;
		if (i & 2) {
			e->free(e, had->p[i], had->bulk[i]);
		} else {
			scoped_guard(raw_nolock)
				e->free(e, had->p[i], had->bulk[i]);
		}
	}
	KUNIT_EXPECT_EQ_MSG(test, !!debug_locks, locks_checked, "%s", e->name);
}

/*
 * No single request has to succeed: half of them is what may be expected when
 * nobody else holds the locks for long.
 *
 * Red if: __alloc_frozen_pages_noprof() or ___slab_alloc() does not look for the
 * scope (lockdep; order 4 succeeds), or takes every request for hopeless; if gfp_nolock
 * replaces the mask or is added as a whole (not_compound(), in_dma_zone(), zeroed());
 * if alloc_slab_page() drops the flags of the cache (in_dma_zone() of a cache).
 */
static void entries_in_nolock(struct kunit *test)
{
	struct had *had = kvmalloc(sizeof(*had), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, had);
	KUNIT_EXPECT_EQ(test, list_lru_init(&lru), 0);
	/* The second time, they get what has been used before. */
	if (new_caches(test)) {
		for (int i = 0; i < 2 * ARRAY_SIZE(entries); i++)
			test_entry(test, &entries[i / 2], had);
	}
	destroy_caches(test);
	list_lru_destroy(&lru);
	kvfree(had);
	expect_clean(test);
}

/* Control: what lockdep has to say of the same without the scope */

struct control {
	const char *name;
	void *(*alloc)(void);
	void (*free)(void *p);
	unsigned int nr;		/* allocate so many ... */
	bool frees;			/* ... beforehand, and free them under the lock */
	void *list;
	bool complained;
};

static void *control_page(void)
{
	return (void *)__get_free_page(GFP_ATOMIC);
}

static void control_free_page(void *p)
{
	free_page((unsigned long)p);
}

static void *control_order5(void)
{
	return (void *)__get_free_pages(GFP_ATOMIC, 5);
}

static void control_free_order5(void *p)
{
	free_pages((unsigned long)p, 5);
}

static void *control_kmalloc(void)
{
	return kmalloc(64, GFP_ATOMIC);
}

static void *control_large(void)
{
	return kmalloc(16 * PAGE_SIZE, GFP_ATOMIC);
}

static void control_kfree(void *p)
{
	kfree(p);
}

static void *control_cache(void)
{
	return kmem_cache_alloc(typesafe, GFP_ATOMIC);
}

static void control_free_cache(void *p)
{
	kmem_cache_free(typesafe, p);
}

/* Enough of each that no per-CPU list has them, or room for them */
static struct control controls[] = {
	{ "alloc_page", control_page, control_free_page, 16384 },
	{ "kmalloc", control_kmalloc, control_kfree, 16384 },
	{ "kmem_cache_alloc", control_cache, control_free_cache, 16384 },
	{ "free_pages", control_order5, control_free_order5, 4, .frees = true },
	{ "kfree, large", control_large, control_kfree, 4, .frees = true },
	{ "kmem_cache_free", control_cache, control_free_cache, 4096, .frees = true },
	{ "kfree", control_kmalloc, control_kfree, 4096, .frees = true },
};

static bool control_alloc_one(struct control *c)
{
	void *p = c->alloc();

	if (p) {
		*(void **)p = c->list;
		c->list = p;
	}
	return p;
}

static bool control_free_one(struct control *c)
{
	void *p = c->list;

	if (p) {
		c->list = *(void **)p;
		c->free(p);
	}
	return p;
}

#ifdef CONFIG_PROVE_LOCKING
/*
 * A report ends all of lockdep. It can be taken back as long as nobody else takes or
 * drops a lock meanwhile, so all other CPUs are stopped; and the locks that current
 * took before the report, and dropped after it, have to be forgotten.
 */
static int control_stopped(void *data)
{
	struct control *c = data;
	u64 chain_key;
	int depth;

	raw_spin_lock(&raw_lock);
	depth = current->lockdep_depth;
	chain_key = current->curr_chain_key;
	debug_locks_silent = 1;

	for (int i = 0; i < c->nr && READ_ONCE(debug_locks); i++) {
		if (c->frees ? !control_free_one(c) : !control_alloc_one(c))
			break;
	}
	c->complained = !READ_ONCE(debug_locks);

	current->lockdep_depth = depth;
	current->curr_chain_key = chain_key;
	debug_locks_silent = 0;
	WRITE_ONCE(debug_locks, 1);
	raw_spin_unlock(&raw_lock);
	return 0;
}
#else
static int control_stopped(void *data)
{
	return -EINVAL;
}
#endif

/*
 * Not here is kfree_rcu(): it once took a spinlock_t, but 7.3 says by
 * kfree_rcu_sheaf_map that what it takes without PREEMPT_RT is in order, and
 * takes none with it. On the latter, a lock taken here would be slept on.
 *
 * Red if: lockdep does not find what the other cases rely on it to find; as when
 * alloc_pages() always takes no locks.
 */
static void control(struct kunit *test)
{
	if (!IS_ENABLED(CONFIG_PROVE_RAW_LOCK_NESTING) || !locks_checked)
		kunit_skip(test, "needs CONFIG_PROVE_RAW_LOCK_NESTING");
	if (IS_ENABLED(CONFIG_PREEMPT_RT))
		kunit_skip(test, "would sleep under a raw lock");

	typesafe = new_cache(test, "nolock_typesafe", SLAB_TYPESAFE_BY_RCU, NULL);
	KUNIT_ASSERT_NOT_NULL(test, typesafe);

	for (int i = 0; i < ARRAY_SIZE(controls); i++) {
		struct control *c = &controls[i];

		/* Those go into the quarantine, under a raw lock, and no further. */
		if (IS_ENABLED(CONFIG_KASAN_GENERIC) && !strcmp(c->name, "kfree"))
			continue;

		c->list = NULL;
		c->complained = false;
		for (int nr = 0; c->frees && nr < c->nr; nr++)
			control_alloc_one(c);
		drain_all_pages(NULL);
		KUNIT_EXPECT_EQ(test, stop_machine(control_stopped, c, NULL), 0);
		while (control_free_one(c))
			cond_resched();
		KUNIT_EXPECT_TRUE_MSG(test, c->complained, "%s", c->name);
	}
	destroy_cache(test, typesafe);
	expect_clean(test);
}

static struct kunit_case memalloc_nolock_alloc_cases[] = {
	KUNIT_CASE_SLOW(entries_in_nolock),
	KUNIT_CASE(control),
	{}
};

static struct kunit_suite memalloc_nolock_alloc_suite = {
	.name = "memalloc_nolock_alloc",
	.init = nolock_test_init,
	.test_cases = memalloc_nolock_alloc_cases,
};

kunit_test_suite(memalloc_nolock_alloc_suite);

MODULE_DESCRIPTION("KUnit tests for allocations in nolock scopes");
MODULE_LICENSE("GPL");
