// SPDX-License-Identifier: GPL-2.0
/*
 * nolock scopes where there is nothing to be had, in the machine or in a memory
 * cgroup, and what becomes of everything that is freed in one.
 */
#include <linux/cgroup.h>
#include <linux/debug_locks.h>
#include <linux/irq_work.h>
#include <linux/ktime.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/tracepoint.h>
#include <linux/vmalloc.h>
#include <linux/vmstat.h>
#include <linux/workqueue.h>

#include "tms_internal.h"
#include "tms_nolock.h"

#define TMS_OBJECT	192
#define TMS_SIZES	4
#define TMS_LARGE	(PAGE_SIZE << 2)	/* of no cache */
/* Objects that were there already, which kmalloc() has for the asking */
#define TMS_LEFTOVER	16384
/* What is obtained and freed in one go, so that no interrupt takes too long */
#define TMS_ROUND	512
#define TMS_STEP	16
#define TMS_HELD	8192

static DEFINE_RAW_SPINLOCK(tms_raw_lock);

static u64 tms_reclaims, tms_wakeups;

static void tms_reclaim_begin(void *data, gfp_t gfp, int order, struct mem_cgroup *memcg)
{
	if (current == READ_ONCE(tms_task) && in_task())
		tms_reclaims++;
}

static void tms_wakeup(void *data, int nid, int zid, int order, gfp_t gfp)
{
	if (current == READ_ONCE(tms_task))
		tms_wakeups++;
}

static const struct {
	const char *name;
	void *func;
} tms_events[] = {
	{ "mm_vmscan_direct_reclaim_begin",	tms_reclaim_begin },
	{ "mm_vmscan_memcg_reclaim_begin",	tms_reclaim_begin },
	{ "mm_vmscan_wakeup_kswapd",		tms_wakeup },
};

static void tms_unwatch(int nr)
{
	while (nr--)
		tracepoint_probe_unregister(tms_event(tms_events[nr].name),
					    tms_events[nr].func, NULL);
	tracepoint_synchronize_unregister();
}

/* Reclaim, and what leads to it, on behalf of the task */
static int tms_watch(void)
{
	tms_reclaims = 0;
	tms_wakeups = 0;
	for (int i = 0; i < ARRAY_SIZE(tms_events); i++) {
		struct tracepoint *tp = tms_event(tms_events[i].name);
		int err = -EOPNOTSUPP;

		if (tp)
			err = tracepoint_probe_register(tp, tms_events[i].func, NULL);
		if (err) {
			tms_unwatch(i);
			return err;
		}
	}
	return 0;
}

static unsigned long tms_free_pages(void)
{
	unsigned long nr = 0;
	int nid;

	for_each_online_node(nid) {
		for (int i = 0; i < MAX_NR_ZONES; i++) {
			struct zone *zone = &NODE_DATA(nid)->node_zones[i];

			if (populated_zone(zone))
				nr += zone_page_state_snapshot(zone, NR_FREE_PAGES);
		}
	}
	return nr;
}

enum tms_want {
	TMS_WANT_PAGE,
	TMS_WANT_RESERVE,
	TMS_WANT_ORDER3,
	TMS_WANT_KMALLOC,
	TMS_WANT_CACHE,
	TMS_WANTS,
};

static void *tms_want(enum tms_want want, struct kmem_cache *cache)
{
	switch (want) {
	case TMS_WANT_PAGE:
		return (void *)__get_free_pages(GFP_KERNEL, 0);
	case TMS_WANT_RESERVE:
		return (void *)__get_free_pages(GFP_ATOMIC | __GFP_MEMALLOC, 0);
	case TMS_WANT_ORDER3:
		return (void *)__get_free_pages(GFP_KERNEL, 3);
	case TMS_WANT_KMALLOC:
		return kmalloc(PAGE_SIZE, GFP_KERNEL);
	default:
		return kmem_cache_alloc(cache, GFP_KERNEL);
	}
}

static void tms_unwant(enum tms_want want, struct kmem_cache *cache, void *p)
{
	switch (want) {
	case TMS_WANT_PAGE:
	case TMS_WANT_RESERVE:
		free_pages((unsigned long)p, 0);
		break;
	case TMS_WANT_ORDER3:
		free_pages((unsigned long)p, 3);
		break;
	case TMS_WANT_KMALLOC:
		kfree(p);
		break;
	default:
		kmem_cache_free(cache, p);
	}
}

/* What slub has in stock is no business of the watermarks: take it first. */
static void *tms_take_leftover(void)
{
	void *p, *list = NULL;

	guard(memalloc_nolock)();
	for (int i = 0; i < TMS_LEFTOVER; i++) {
		p = kmalloc(PAGE_SIZE, GFP_KERNEL);
		if (!p)
			break;
		*(void **)p = list;
		list = p;
	}
	return list;
}

static void tms_give_leftover(void *list)
{
	while (list) {
		void *next = *(void **)list;

		kfree(list);
		list = next;
	}
}

static void tms_exhausted(struct tms_exhaust *e, struct kmem_cache *cache)
{
	unsigned long free = tms_free_pages(), flags, now;
	void *got[TMS_WANTS] = { };
	unsigned int cookie;

	e->got = 0;
	raw_spin_lock_irqsave(&tms_raw_lock, flags);
	cookie = memalloc_nolock_save();
	for (int i = 0; i < e->tries; i++) {
		for (int want = 0; want < TMS_WANTS; want++) {
			u64 start = ktime_get_ns();
			void *p = tms_want(want, cache);

			e->max_ns = max(e->max_ns, ktime_get_ns() - start);
			if (!p) {
				e->refused++;
				continue;
			}
			e->got++;
			if (got[want])
				tms_unwant(want, cache, p);
			else
				got[want] = p;
		}
	}
	memalloc_nolock_restore(cookie);
	raw_spin_unlock_irqrestore(&tms_raw_lock, flags);
	now = tms_free_pages();
	e->taken = free > now ? free - now : 0;
	for (int want = 0; want < TMS_WANTS; want++) {
		if (got[want])
			tms_unwant(want, cache, got[want]);
	}
}

int tms_exhaust_run(struct tms_exhaust *e)
{
	ktime_t end = ktime_add_ms(ktime_get(), e->max_ms);
	struct zone *zone = NULL;
	struct kmem_cache *cache;
	void *leftover;
	int err;

	if (!tms_nolock_works())
		return -ENXIO;
	if (si_mem_available() >> (20 - PAGE_SHIFT) > e->max_mb)
		return 0;
	cache = kmem_cache_create("tms_exhaust", TMS_OBJECT, 0, SLAB_NO_MERGE, NULL);
	if (!cache)
		return -ENOMEM;
	err = tms_watch();
	if (err)
		goto destroy;
	tms_begin_short();
	tms_make_short(end);
	e->is_short = !tms_ran_out() && ktime_before(ktime_get(), end);
	tms_take_reserves();
	leftover = tms_take_leftover();

	/* What somebody else has freed is there to be had. */
	tms_reclaims = 0;
	tms_wakeups = 0;
	do {
		zone = tms_take_reserves();
		tms_exhausted(e, cache);
		e->rounds++;
	} while ((e->got || e->taken) && e->rounds < 20 && !tms_ran_out());
	e->reclaims = tms_reclaims;
	e->wakeups = tms_wakeups;
	if (zone) {
		e->min_free = zone_page_state(zone, NR_FREE_PAGES);
		e->min_wmark = tms_min_wmark(zone);
	}
	e->oom = tms_ran_out();

	tms_reclaims = 0;
	for (int i = 0; i < e->tries && !tms_reclaims; i++) {
		struct page *page = alloc_page(GFP_KERNEL | TMS_GFP_ALWAYS);

		if (page)
			tms_keep(page, 0);
	}
	e->control = tms_reclaims;

	tms_give_all_back();
	tms_give_leftover(leftover);
	tms_unwatch(ARRAY_SIZE(tms_events));
destroy:
	kmem_cache_destroy(cache);
	return !err && signal_pending(current) ? -EINTR : err;
}

static struct mem_cgroup *tms_get_memcg(int fd)
{
	struct cgroup_subsys_state *css;
	struct cgroup *cgroup;

	cgroup = cgroup_get_from_fd(fd);
	if (IS_ERR(cgroup))
		return ERR_CAST(cgroup);
	css = cgroup_get_e_css(cgroup, &memory_cgrp_subsys);
	cgroup_put(cgroup);
	return css ? mem_cgroup_from_css(css) : ERR_PTR(-ENODEV);
}

enum tms_held_kind {
	TMS_HELD_CACHE,
	TMS_HELD_KMALLOC,
	TMS_HELD_PAGE,
	TMS_HELD_ORDER3,
};

/* A round of objects, and where they are freed */
struct tms_account_round {
	struct irq_work irq;
	struct work_struct soft;
	struct kmem_cache *cache;
	struct tms_nolock_object object[TMS_ROUND];
	unsigned int nr;
};

static void tms_account_free(struct tms_account_round *r)
{
	unsigned int cookie = memalloc_nolock_save();

	for (int i = 0; i < r->nr; i++) {
		struct tms_nolock_object *o = &r->object[i];
		struct tms_nolock_rcu *rcu = o->p;

		switch (o->entry) {
		case TMS_HELD_CACHE:
			if (i % 8 == 0)
				kfree_rcu(rcu, rcu);
			else if (i % 8 == 1)
				kmem_cache_free_bulk(r->cache, 1, &o->p);
			else
				kmem_cache_free(r->cache, o->p);
			break;
		case TMS_HELD_KMALLOC:
			/* Others may wait for ever until a sheaf is full. */
			if (o->size == TMS_LARGE)
				kfree_rcu(rcu, rcu);
			else
				kfree(o->p);
			break;
		case TMS_HELD_PAGE:
			free_pages((unsigned long)o->p, 0);
			break;
		default:
			free_pages((unsigned long)o->p, 3);
		}
	}
	memalloc_nolock_restore(cookie);
}

static void tms_account_irq(struct irq_work *work)
{
	tms_account_free(container_of(work, struct tms_account_round, irq));
}

static void tms_account_soft(struct work_struct *work)
{
	tms_account_free(container_of(work, struct tms_account_round, soft));
}

static void tms_account_hold(struct tms_account *a, struct tms_account_round *r,
			     enum tms_held_kind kind, size_t size, void *p)
{
	struct tms_nolock_object *o = &r->object[r->nr];

	if (!p)
		return;
	*o = (struct tms_nolock_object){ .p = p, .size = size, .entry = kind };
	tms_nolock_mark(o);
	r->nr++;
	a->obtained += kind == TMS_HELD_CACHE;
	a->kmalloced += kind == TMS_HELD_KMALLOC;
	a->pages += kind >= TMS_HELD_PAGE;
}

static void tms_account_get(struct tms_account *a, struct tms_account_round *r)
{
	static const size_t sizes[TMS_SIZES] = { 64, 1000, PAGE_SIZE, TMS_LARGE };
	const gfp_t gfp = GFP_KERNEL_ACCOUNT | TMS_GFP_ALWAYS;
	const int steps = TMS_ROUND / 2 / TMS_STEP;

	for (int i = 0; i < steps; i++) {
		for (int j = 0; j < TMS_STEP - 3; j++)
			tms_account_hold(a, r, TMS_HELD_CACHE, TMS_OBJECT,
					 kmem_cache_alloc(r->cache, gfp));
		for (int j = 0; j < 2; j++) {
			size_t size = sizes[(2 * i + j) % TMS_SIZES];

			tms_account_hold(a, r, TMS_HELD_KMALLOC, size, kmalloc(size, gfp));
		}
		if (i % 4)
			tms_account_hold(a, r, TMS_HELD_PAGE, PAGE_SIZE,
					 (void *)__get_free_pages(gfp, 0));
		else
			tms_account_hold(a, r, TMS_HELD_ORDER3, PAGE_SIZE << 3,
					 (void *)__get_free_pages(gfp, 3));
	}
}

/* Half of a round in a scope: all of it is freed in one. */
static void tms_account_get_round(struct tms_account *a, struct tms_account_round *r)
{
	u64 before = a->obtained;

	r->nr = 0;
	scoped_guard(memalloc_nolock)
		tms_account_get(a, r);
	a->in_scope += a->obtained - before;
	tms_account_get(a, r);
}

static void tms_account_free_round(struct tms_account *a, struct tms_account_round *r)
{
	unsigned long flags;

	for (int i = 0; i < r->nr; i++)
		a->broken += !tms_nolock_marked(&r->object[i]);
	switch (a->where) {
	case TMS_FREE_SOFTIRQ:
		queue_work(system_bh_wq, &r->soft);
		flush_work(&r->soft);
		break;
	case TMS_FREE_HARDIRQ:
		irq_work_queue(&r->irq);
		irq_work_sync(&r->irq);
		break;
	default:
		raw_spin_lock_irqsave(&tms_raw_lock, flags);
		tms_account_free(r);
		raw_spin_unlock_irqrestore(&tms_raw_lock, flags);
	}
}

/*
 * A cgroup remembers bytes of pages that it has charged, from CPUs that handed in
 * parts of pages. Whoever charges an object next gets them, and hands in the pages.
 */
static void tms_account_nudge(struct mem_cgroup *memcg)
{
	struct mem_cgroup *old = set_active_memcg(memcg);

	kfree(kmalloc(TMS_OBJECT, GFP_KERNEL_ACCOUNT | TMS_GFP_ALWAYS));
	set_active_memcg(old);
}

/*
 * Pages that were freed where zone->lock could not be had, on PREEMPT_RT by every
 * hard interrupt, wait for somebody who frees a page with the lock held. Nobody has
 * to as long as per-cpu lists do; blocks that are too large for these are freed so.
 */
static void tms_free_under_zone_lock(void)
{
	static const gfp_t zones[] = { GFP_KERNEL, GFP_KERNEL | __GFP_DMA };

	for (int i = 0; i < ARRAY_SIZE(zones); i++) {
		struct page *page = alloc_pages(zones[i] | __GFP_NOWARN,
						PAGE_ALLOC_COSTLY_ORDER + 1);

		if (page)
			__free_pages(page, PAGE_ALLOC_COSTLY_ORDER + 1);
	}
}

int tms_account_run(struct tms_account *a)
{
	ktime_t end = ktime_add_ms(ktime_get(), a->max_ms);
	struct mem_cgroup *memcg, *old;
	struct tms_account_round *r;
	int err = -ENOMEM;

	if (!tms_nolock_works())
		return -ENXIO;
	memcg = tms_get_memcg(a->cgroup);
	if (IS_ERR(memcg))
		return PTR_ERR(memcg);
	if (!a->objects) {
		tms_account_nudge(memcg);
		err = 0;
		goto put;
	}
	r = vzalloc(sizeof(*r));
	if (!r)
		goto put;
	r->irq = IRQ_WORK_INIT_HARD(tms_account_irq);
	INIT_WORK(&r->soft, tms_account_soft);
	r->cache = kmem_cache_create("tms_nolock_account", TMS_OBJECT, 0,
				     SLAB_NO_MERGE | SLAB_ACCOUNT, NULL);
	if (!r->cache)
		goto free;
	err = 0;
	while (a->obtained < a->objects && !signal_pending(current) &&
	       ktime_before(ktime_get(), end)) {
		old = set_active_memcg(memcg);
		tms_account_get_round(a, r);
		set_active_memcg(old);
		tms_account_free_round(a, r);
		cond_resched();
	}
	/* This waits for all that was handed to RCU. */
	kmem_cache_destroy(r->cache);
	tms_free_under_zone_lock();
free:
	vfree(r);
put:
	mem_cgroup_put(memcg);
	return !err && signal_pending(current) ? -EINTR : err;
}

/* All that was charged to the cgroup, until it is given back */
struct tms_held {
	struct kmem_cache *cache;
	unsigned int nr;
	struct {
		void *p;
		enum tms_charge charge;
	} object[TMS_HELD];
};

static bool tms_charge(struct tms_held *held, enum tms_charge charge, gfp_t gfp)
{
	void *p[8] = { };
	int nr = 1;

	if (held->nr + ARRAY_SIZE(p) > TMS_HELD)
		return false;
	switch (charge) {
	case TMS_CHARGE_PAGE:
		p[0] = (void *)__get_free_pages(gfp, 0);
		break;
	case TMS_CHARGE_KMALLOC:
		p[0] = kmalloc(PAGE_SIZE, gfp);
		break;
	case TMS_CHARGE_CACHE:
		p[0] = kmem_cache_alloc(held->cache, gfp);
		break;
	case TMS_CHARGE_BULK:
		nr = ARRAY_SIZE(p);
		if (!kmem_cache_alloc_bulk(held->cache, gfp, nr, p))
			return false;
		break;
	default:
		p[0] = kmalloc_nolock(PAGE_SIZE, __GFP_ACCOUNT, NUMA_NO_NODE);
	}
	if (!p[0])
		return false;
	while (nr--) {
		held->object[held->nr].p = p[nr];
		held->object[held->nr].charge = charge;
		held->nr++;
	}
	return true;
}

static void tms_uncharge(struct tms_held *held)
{
	while (held->nr--) {
		void *p = held->object[held->nr].p;

		switch (held->object[held->nr].charge) {
		case TMS_CHARGE_PAGE:
			free_pages((unsigned long)p, 0);
			break;
		case TMS_CHARGE_KMALLOC:
			kfree(p);
			break;
		case TMS_CHARGE_NOLOCK:
			kfree_nolock(p);
			break;
		default:
			kmem_cache_free(held->cache, p);
		}
	}
}

/* Nothing left of the limit, nor of what the CPU has charged in advance */
static void tms_fill(struct tms_held *held)
{
	const gfp_t gfp = GFP_KERNEL_ACCOUNT | TMS_GFP_ALWAYS;

	for (int i = 0; i < 3; i++) {
		while (tms_charge(held, TMS_CHARGE_PAGE, gfp))
			cond_resched();
		while (tms_charge(held, TMS_CHARGE_KMALLOC, gfp))
			cond_resched();
		while (tms_charge(held, TMS_CHARGE_CACHE, gfp))
			cond_resched();
	}
}

static void tms_full_round(struct tms_full *f, struct tms_held *held)
{
	const gfp_t gfp = GFP_KERNEL_ACCOUNT;
	unsigned int cookie = 0;
	unsigned long flags;

	memset(f->got, 0, sizeof(f->got));
	memset(f->refused, 0, sizeof(f->refused));
	raw_spin_lock_irqsave(&tms_raw_lock, flags);
	if (!f->outside)
		cookie = memalloc_nolock_save();
	for (int i = 0; i < f->tries; i++) {
		for (int charge = 0; charge < TMS_CHARGES; charge++) {
			if (f->outside && charge != TMS_CHARGE_NOLOCK)
				continue;
			if (tms_charge(held, charge, gfp))
				f->got[charge]++;
			else
				f->refused[charge]++;
		}
	}
	memalloc_nolock_restore(cookie);
	raw_spin_unlock_irqrestore(&tms_raw_lock, flags);
}

static bool tms_full_got(const struct tms_full *f)
{
	for (int i = 0; i < TMS_CHARGES; i++) {
		if (f->got[i])
			return true;
	}
	return false;
}

int tms_full_run(struct tms_full *f)
{
	struct mem_cgroup *memcg, *old;
	bool lockdep = debug_locks;
	struct tms_held *held;
	int err = -ENOMEM;

	if (!tms_nolock_works())
		return -ENXIO;
	memcg = tms_get_memcg(f->cgroup);
	if (IS_ERR(memcg))
		return PTR_ERR(memcg);
	held = vzalloc(sizeof(*held));
	if (!held)
		goto put;
	held->cache = kmem_cache_create("tms_nolock_full", TMS_OBJECT, 0,
					SLAB_NO_MERGE | SLAB_ACCOUNT, NULL);
	if (!held->cache)
		goto free;
	err = tms_watch();
	if (err)
		goto destroy;

	migrate_disable();
	old = set_active_memcg(memcg);
	tms_fill(held);
	/* Another CPU may hand in what it had charged in advance. */
	tms_reclaims = 0;
	for (int i = 0; i < 10; i++) {
		tms_full_round(f, held);
		if (!tms_full_got(f))
			break;
	}
	f->reclaims = tms_reclaims;
	tms_reclaims = 0;
	tms_charge(held, TMS_CHARGE_PAGE, GFP_KERNEL_ACCOUNT | TMS_GFP_ALWAYS);
	f->control = tms_reclaims;
	set_active_memcg(old);
	migrate_enable();
	f->lockdep = lockdep && !debug_locks;
	f->lockdep_off = !lockdep;

	tms_unwatch(ARRAY_SIZE(tms_events));
	tms_uncharge(held);
destroy:
	kmem_cache_destroy(held->cache);
free:
	vfree(held);
put:
	mem_cgroup_put(memcg);
	return !err && signal_pending(current) ? -EINTR : err;
}
