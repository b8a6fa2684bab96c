// SPDX-License-Identifier: GPL-2.0
/*
 * Direct reclaim that is real: memory is taken until none is left above the min
 * watermark, then pages are asked for until reclaim on behalf of the asking task
 * has called a shrinker, which owns pages and gives them back when scanned.
 */
#include <linux/irq_work.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/notifier.h>
#include <linux/oom.h>
#include <linux/sched/signal.h>
#include <linux/shrinker.h>
#include <linux/swap.h>
#include <linux/vmstat.h>

#include "tms_internal.h"

/* Pages that the shrinker owns, and how many it gives away for one request */
#define TMS_POOL	512
#define TMS_BATCH	32
/* Pages taken out of the reserves */
#define TMS_RESERVE	16

static struct tms_pages {
	spinlock_t lock;	/* protects all of this */
	struct list_head list;
	unsigned long nr;
} tms_pool, tms_hog;

static struct shrinker *tms_shrinker;
static struct tms_masks tms_shrunk;
static bool tms_oom;

static void tms_pages_init(struct tms_pages *p)
{
	spin_lock_init(&p->lock);
	INIT_LIST_HEAD(&p->list);
	p->nr = 0;
}

static void tms_put(struct tms_pages *to, struct page *page, unsigned int order)
{
	unsigned long flags;

	set_page_private(page, order);
	spin_lock_irqsave(&to->lock, flags);
	list_add(&page->lru, &to->list);
	to->nr += 1UL << order;
	spin_unlock_irqrestore(&to->lock, flags);
}

static unsigned long tms_give_back(struct tms_pages *from, unsigned long nr)
{
	unsigned long freed = 0;

	while (freed < nr) {
		struct page *page;
		unsigned long flags;
		unsigned int order;

		spin_lock_irqsave(&from->lock, flags);
		page = list_first_entry_or_null(&from->list, struct page, lru);
		if (page) {
			list_del(&page->lru);
			from->nr -= 1UL << page_private(page);
		}
		spin_unlock_irqrestore(&from->lock, flags);
		if (!page)
			break;
		order = page_private(page);
		set_page_private(page, 0);
		__free_pages(page, order);
		freed += 1UL << order;
	}
	return freed;
}

/*
 * kswapd gets nothing, as it would help the task out before the task reclaims
 * itself. Other tasks get what they need, but do not count.
 */
static unsigned long tms_count(struct shrinker *s, struct shrink_control *sc)
{
	if (current_is_kswapd())
		return 0;
	/* With seeks == 0, half of it is scanned, whatever the priority. */
	return min(READ_ONCE(tms_pool.nr), 2UL * TMS_BATCH);
}

static unsigned long tms_scan(struct shrinker *s, struct shrink_control *sc)
{
	if (current_is_kswapd())
		return SHRINK_STOP;
	if (current == tms_task) {
		tms_masks_add(&tms_shrunk, sc->gfp_mask);
		tms_entry_shrink(sc->gfp_mask);
	}
	sc->nr_scanned = tms_give_back(&tms_pool, sc->nr_to_scan);
	/* Or else reclaim sees no progress: it throttles, and ends in OOM. */
	mm_account_reclaimed_pages(sc->nr_scanned);
	return sc->nr_scanned ?: SHRINK_STOP;
}

/* Nobody is to be killed for this test: it lets go instead. */
static int tms_oom_notify(struct notifier_block *nb, unsigned long unused, void *freed)
{
	unsigned long nr;

	nr = tms_give_back(&tms_hog, ULONG_MAX) + tms_give_back(&tms_pool, ULONG_MAX);
	if (nr)
		WRITE_ONCE(tms_oom, true);
	*(unsigned long *)freed += nr;
	return NOTIFY_OK;
}

static struct notifier_block tms_oom_nb = {
	.notifier_call = tms_oom_notify,
};

static bool tms_stop(ktime_t end)
{
	return READ_ONCE(tms_oom) || signal_pending(current) ||
	       ktime_after(ktime_get(), end);
}

static void tms_take(gfp_t gfp, int min_order, ktime_t end)
{
	struct page *page;

	gfp &= ~__GFP_RECLAIM;
	gfp |= __GFP_NOMEMALLOC | TMS_GFP_ALWAYS;
	for (int order = MAX_PAGE_ORDER; order >= min_order; order--) {
		while (!tms_stop(end)) {
			page = alloc_pages(gfp, order);
			if (!page)
				break;
			tms_put(&tms_hog, page, order);
			cond_resched();
		}
	}
}

void tms_begin_short(void)
{
	WRITE_ONCE(tms_oom, false);
}

/*
 * Movable memory first, which includes CMA areas, for else a movable request
 * would find it. It cannot be migrated in here, but is not for long.
 */
void tms_make_short(ktime_t end)
{
	tms_take(GFP_HIGHUSER_MOVABLE, 0, end);
	tms_take(GFP_KERNEL, 0, end);
}

/*
 * A page that was handed out with its zone far below the min watermark. One that
 * was still above may be below now, as the CPU's lists of pages take some for later.
 */
bool tms_from_reserve(struct page *page)
{
	struct zone *zone = page_zone(page);

	return zone_page_state(zone, NR_FREE_PAGES) < tms_min_wmark(zone) / 2;
}

/*
 * Take reserves, until each zone keeps so little that what comes from it is found by
 * tms_from_reserve(); what is left is for GFP_ATOMIC, which others may need. Can
 * be called wherever pages can be allocated. Returns the largest zone.
 */
struct zone *tms_take_reserves(void)
{
	static const gfp_t kinds[] = {
		__GFP_HIGHMEM | __GFP_MOVABLE, __GFP_HIGHMEM, 0, __GFP_DMA32, __GFP_DMA,
	};
	const gfp_t gfp = __GFP_MEMALLOC | __GFP_THISNODE | TMS_GFP_ALWAYS;
	struct zone *zone, *largest = NULL;
	struct page *page;
	unsigned int order;
	unsigned long min;
	int nid;

	for_each_online_node(nid) {
		for (int i = 0; i < ARRAY_SIZE(kinds); i++) {
			zone = &NODE_DATA(nid)->node_zones[gfp_zone(kinds[i])];
			min = tms_min_wmark(zone);
			/* Blocks that no CPU keeps a list of, so that no more is taken */
			order = PAGE_ALLOC_COSTLY_ORDER + 1;
			while (zone_page_state(zone, NR_FREE_PAGES) > min * 7 / 16) {
				page = alloc_pages_node(nid, gfp | kinds[i], order);
				if (page)
					tms_put(&tms_hog, page, order);
				else if (order)
					order = 0;
				else
					break;
			}
			if (!largest || min > tms_min_wmark(largest))
				largest = zone;
		}
	}
	return largest;
}

void tms_fragment(ktime_t end)
{
	struct tms_pages blocks;
	struct page *page;

	tms_pages_init(&blocks);
	tms_begin_short();
	tms_make_short(end);
	/* Half of what can be split is plenty for any watermark. */
	spin_lock_irq(&tms_hog.lock);
	list_splice_init(&tms_hog.list, &blocks.list);
	tms_hog.nr = 0;
	spin_unlock_irq(&tms_hog.lock);
	while ((page = list_first_entry_or_null(&blocks.list, struct page, lru))) {
		unsigned int order = page_private(page);

		list_del(&page->lru);
		if (order)
			split_page(page, order);
		for (int i = 0; i < 1 << order; i++) {
			if (order && page_to_pfn(page + i) & 1) {
				set_page_private(page + i, 0);
				__free_page(page + i);
			} else {
				tms_put(&tms_hog, page + i, 0);
			}
		}
		cond_resched();
	}
	/* The watermarks let go of what they kept, now that there is so much. */
	tms_take(GFP_HIGHUSER_MOVABLE, 1, end);
	tms_take(GFP_KERNEL, 1, end);
}

bool tms_ran_out(void)
{
	return READ_ONCE(tms_oom);
}

void tms_keep(struct page *page, unsigned int order)
{
	tms_put(&tms_hog, page, order);
}

void tms_give_all_back(void)
{
	tms_give_back(&tms_hog, ULONG_MAX);
	tms_give_back(&tms_pool, ULONG_MAX);
}

struct tms_irq_alloc {
	struct irq_work work;
	struct page *page;
	gfp_t gfp, used;
	bool done;
};

static void tms_alloc_in_irq(struct irq_work *work)
{
	struct tms_irq_alloc *a = container_of(work, struct tms_irq_alloc, work);

	/* Counts only if there is something that must not apply in here. */
	if (current != tms_task || !in_hardirq() || in_serving_softirq() ||
	    !(tms_own() & TMS_NORECLAIM))
		return;
	a->page = tms_alloc_page(a->gfp, &a->used);
	a->done = true;
}

/* tms_alloc_page() where @r wants it */
static struct page *tms_alloc_where(struct tms_reclaim *r, gfp_t gfp, gfp_t *used, ktime_t end)
{
	struct tms_irq_alloc a = {
		.work = IRQ_WORK_INIT(tms_alloc_in_irq),
		.gfp = gfp,
	};
	struct page *page;

	switch (r->where) {
	case TMS_BH_OFF:
		local_bh_disable();
		page = tms_alloc_page(gfp, used);
		local_bh_enable();
		return page;
	case TMS_IN_HARDIRQ:
		while (!a.done && !tms_stop(end)) {
			irq_work_queue(&a.work);
			irq_work_sync(&a.work);
		}
		*used = a.used;
		return a.page;
	default:
		return tms_alloc_page(gfp, used);
	}
}

/*
 * A page from the reserves: one that was handed out with its zone below the min
 * watermark, while the same request without access to the reserves was refused
 * before and after.
 */
static bool tms_take_reserve(struct tms_reclaim *r, gfp_t gfp, struct tms_masks *used,
			     ktime_t end)
{
	struct page *before, *page, *after;
	unsigned long free = 0, min = 0;
	gfp_t mask;

	before = tms_alloc_page(gfp | __GFP_NOMEMALLOC, &mask);
	if (before) {
		/* Somebody has freed memory: it is not short yet. */
		tms_put(&tms_hog, before, 0);
		return false;
	}
	r->nomemalloc_null++;
	page = tms_alloc_where(r, gfp, &mask, end);
	tms_masks_add(used, mask);
	if (!page) {
		r->failed++;
		return false;
	}
	r->pages++;
	free = zone_page_state(page_zone(page), NR_FREE_PAGES);
	min = min_wmark_pages(page_zone(page));
	tms_put(&tms_hog, page, 0);
	after = tms_alloc_page(gfp | __GFP_NOMEMALLOC, &mask);
	if (after) {
		tms_put(&tms_hog, after, 0);
		return false;
	}
	r->nomemalloc_null++;
	if (free >= min)
		return false;
	r->reserve_pages++;
	r->min_free = min_t(u64, r->min_free ?: free, free);
	r->min_wmark = min;
	return true;
}

static void tms_noreclaim(struct tms_reclaim *r, gfp_t gfp, struct tms_masks *used,
			  ktime_t end)
{
	/* Refused or taken, what is asked for is bounded. */
	while (r->reserve_pages < TMS_RESERVE && r->failed < TMS_RESERVE &&
	       r->pages < 64 * TMS_RESERVE && !tms_stop(end)) {
		tms_take_reserve(r, gfp, used, end);
		cond_resched();
	}
}

/* With the reserves taken as well, there is nothing to be had without waiting. */
static void tms_nowait(struct tms_reclaim *r, gfp_t gfp, struct tms_masks *used, ktime_t end)
{
	struct zone *zone = NULL;

	for (int i = 0; i < 4 * TMS_BATCH && !tms_stop(end); i++) {
		struct page *page;
		gfp_t mask;

		/* Others free memory meanwhile. */
		zone = tms_take_reserves();
		page = tms_alloc_page(gfp, &mask);
		tms_masks_add(used, mask);
		if (!page) {
			r->failed++;
			continue;
		}
		r->pages++;
		r->reserve_pages += tms_from_reserve(page);
		__free_page(page);
	}
	if (zone) {
		r->min_free = zone_page_state(zone, NR_FREE_PAGES);
		r->min_wmark = tms_min_wmark(zone);
	}
}

static void tms_reclaim_loop(struct tms_reclaim *r, gfp_t gfp, struct tms_masks *used,
			     ktime_t end)
{
	u64 bound = gfpflags_allow_blocking(gfp) ? U64_MAX : 4 * TMS_BATCH;

	while (tms_shrunk.count < r->calls && r->pages + r->failed < bound &&
	       !tms_stop(end)) {
		struct page *page;
		gfp_t mask;

		page = tms_alloc_page(gfp, &mask);
		tms_masks_add(used, mask);
		if (page) {
			r->pages++;
			tms_put(&tms_pool, page, 0);
		} else {
			r->failed++;
		}
		cond_resched();
	}
}

int tms_reclaim_run(struct tms_reclaim *r)
{
	gfp_t gfp = tms_request_gfp(r->request);
	ktime_t end = ktime_add_ms(ktime_get(), r->max_ms);
	struct tms_masks used = { };
	struct tms_cookies c;

	if (!gfp)
		return -EINVAL;
	/* On PREEMPT_RT, what may allocate is no hardirq. */
	if (r->where == TMS_IN_HARDIRQ && IS_ENABLED(CONFIG_PREEMPT_RT))
		return -EOPNOTSUPP;
	r->asked = tms_gfp(gfp | TMS_GFP_ALWAYS, gfp);
	tms_gfp_text(r->asked_text, gfp);
	/* A machine with lots of memory would be hurt for long. */
	if (si_mem_available() >> (20 - PAGE_SHIFT) > r->max_mb)
		return 0;

	tms_shrunk = (struct tms_masks){ };
	tms_begin_short();
	for (int i = 0; i < TMS_POOL; i++) {
		struct page *page = alloc_page(GFP_KERNEL | TMS_GFP_ALWAYS);

		if (page)
			tms_put(&tms_pool, page, 0);
	}
	tms_make_short(end);
	r->is_short = !tms_stop(end);

	tms_open(&c, r->scopes);
	if (r->scopes & TMS_NORECLAIM)
		tms_noreclaim(r, gfp, &used, end);
	else if (r->scopes & TMS_NOWAIT && !(gfp & __GFP_NOFAIL))
		tms_nowait(r, gfp, &used, end);
	else
		tms_reclaim_loop(r, gfp, &used, end);
	tms_close(&c);

	tms_give_all_back();
	r->oom = READ_ONCE(tms_oom);
	tms_masks_report(&r->used, &used, gfp);
	tms_masks_report(&r->reclaim, &tms_shrunk, gfp);
	return signal_pending(current) ? -EINTR : 0;
}

int tms_reclaim_init(void)
{
	int err;

	tms_pages_init(&tms_pool);
	tms_pages_init(&tms_hog);
	tms_shrinker = shrinker_alloc(0, "test_memalloc_scope");
	if (!tms_shrinker)
		return -ENOMEM;
	tms_shrinker->count_objects = tms_count;
	tms_shrinker->scan_objects = tms_scan;
	tms_shrinker->seeks = 0;
	tms_shrinker->batch = TMS_BATCH;
	err = register_oom_notifier(&tms_oom_nb);
	if (err) {
		shrinker_free(tms_shrinker);
		return err;
	}
	shrinker_register(tms_shrinker);
	return 0;
}

void tms_reclaim_exit(void)
{
	unregister_oom_notifier(&tms_oom_nb);
	shrinker_free(tms_shrinker);
}
