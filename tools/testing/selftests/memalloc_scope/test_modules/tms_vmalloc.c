// SPDX-License-Identifier: GPL-2.0
/*
 * The page tables of vmalloc() when memory is short: a range that has none yet is
 * asked for, with as much memory as its pages take. When it has got them, and is
 * about to map them, the memory below the min watermark is taken away.
 */
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/sched/signal.h>
#include <linux/vmalloc.h>

#include "tms_internal.h"

#define TMS_AREA_PAGES	(TMS_AREA >> PAGE_SHIFT)
/* What is given back for it: its pages, and room above the watermark, in blocks */
#define TMS_STOCK	(2 * TMS_AREA_PAGES)
#define TMS_STOCK_ORDER	(PAGE_ALLOC_COSTLY_ORDER + 1)
/* As many ranges of that size as earlier runs can have left tables for */
#define TMS_FILLERS	4096

/* The run there is, or NULL; written by its task alone */
static struct tms_vmalloc *tms_mapping;
/* Tables are counted, and memory was not taken away for them. */
static bool tms_plenty;

/* On behalf of tms_task, in task context; page is NULL if the request was refused. */
void tms_vmalloc_page_alloc(struct page *page, unsigned int order, gfp_t gfp)
{
	struct tms_vmalloc *v = tms_mapping;
	struct zone *zone;

	if (!v)
		return;
	/* Tables are zeroed, pages here are not. */
	if (!(gfp & __GFP_ZERO)) {
		/* Slabs, and attempts at large blocks, come first. */
		if (tms_plenty || !page || !(gfp & __GFP_HIGHMEM) ||
		    v->pages == TMS_AREA_PAGES)
			return;
		v->pages += 1 << order;
		if (v->pages < TMS_AREA_PAGES)
			return;
		tms_mapping = NULL;
		zone = tms_take_reserves();
		if (zone) {
			v->min_free = zone_page_state(zone, NR_FREE_PAGES);
			v->min_wmark = tms_min_wmark(zone);
		}
		tms_mapping = v;
	} else if (tms_plenty || v->pages == TMS_AREA_PAGES) {
		if (page)
			v->tables++;
		else
			v->refused++;
		if (page && tms_from_reserve(page))
			v->reserve_tables++;
	}
}

static void *tms_map(struct tms_vmalloc *v, gfp_t gfp)
{
	void *area;

	tms_plenty = false;
	tms_mapping = v;
	area = __vmalloc(TMS_AREA, gfp | __GFP_NOWARN);
	tms_mapping = NULL;
	return area;
}

/* A range that is in use: all of it is one and the same page. */
struct tms_filler {
	struct tms_filler *next;
};

void tms_empty_holes(struct tms_filler *fillers)
{
	while (fillers) {
		struct tms_filler *next = fillers->next;
		struct page *page = vmalloc_to_page(fillers);

		vunmap(fillers);
		__free_page(page);
		fillers = next;
	}
}

/*
 * Fill the holes among ranges that have tables: what is asked for next lies behind
 * the last one. As that one needed a table, and has a guard page behind it, so
 * will the next.
 */
int tms_fill_holes(struct tms_filler **fillers)
{
	struct page **pages = kmalloc_array(TMS_AREA_PAGES, sizeof(*pages), GFP_KERNEL);
	struct tms_vmalloc v = { };
	int err = -ENOMEM;

	*fillers = NULL;
	if (!pages)
		return err;
	/* What was freed is a hole only once it is done with. */
	vm_unmap_aliases();
	for (int i = 0; i < TMS_FILLERS; i++) {
		struct page *page = alloc_page(GFP_KERNEL);
		struct tms_filler *filler = NULL;

		for (int j = 0; page && j < TMS_AREA_PAGES; j++)
			pages[j] = page;
		tms_plenty = true;
		tms_mapping = &v;
		if (page)
			filler = vmap(pages, TMS_AREA_PAGES, VM_MAP, PAGE_KERNEL);
		tms_mapping = NULL;
		if (!filler) {
			if (page)
				__free_page(page);
			break;
		}
		filler->next = *fillers;
		*fillers = filler;
		if (v.tables) {
			err = 0;
			break;
		}
	}
	kfree(pages);
	if (err)
		tms_empty_holes(*fillers);
	return err;
}

static int tms_take_stock(struct list_head *stock)
{
	for (unsigned long nr = 0; nr < TMS_STOCK; nr += 1 << TMS_STOCK_ORDER) {
		struct page *page = alloc_pages(GFP_KERNEL | TMS_GFP_ALWAYS, TMS_STOCK_ORDER);

		if (!page)
			return -ENOMEM;
		list_add(&page->lru, stock);
	}
	return 0;
}

static void tms_give_stock(struct list_head *stock)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, stock, lru) {
		list_del(&page->lru);
		__free_pages(page, TMS_STOCK_ORDER);
	}
}

int tms_vmalloc_run(struct tms_vmalloc *v)
{
	gfp_t gfp = tms_request_gfp(v->request);
	ktime_t end = ktime_add_ms(ktime_get(), v->max_ms);
	struct tms_filler *fillers;
	struct tms_cookies c;
	LIST_HEAD(stock);
	void *area;
	int err;

	if (!gfp)
		return -EINVAL;
	/* Pages are taken where the allocator's locks must not sleep. */
	if (IS_ENABLED(CONFIG_PREEMPT_RT) || TMS_AREA_PAGES > MAX_ORDER_NR_PAGES)
		return -EOPNOTSUPP;
	if (si_mem_available() >> (20 - PAGE_SHIFT) > v->max_mb)
		return 0;

	err = tms_fill_holes(&fillers);
	if (err)
		return err;
	tms_begin_short();
	err = tms_take_stock(&stock);
	if (!err)
		tms_make_short(end);
	v->is_short = !tms_ran_out() && ktime_before(ktime_get(), end);
	tms_give_stock(&stock);
	if (err)
		goto free;

	tms_open(&c, v->scopes);
	area = tms_map(v, gfp);
	tms_close(&c);

	v->mapped = !!area;
	v->oom = tms_ran_out();
	tms_give_all_back();
	vfree(area);
free:
	tms_empty_holes(fillers);
	return signal_pending(current) ? -EINTR : err;
}
