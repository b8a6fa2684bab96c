// SPDX-License-Identifier: GPL-2.0
/*
 * What allocators other than the page allocator's front door, and others who are
 * given a gfp mask, make of it inside scopes.
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/percpu.h>
#include <linux/vmalloc.h>

#include "tms_internal.h"

/* What the file system of the folio is told */
static struct tms_masks tms_released;

static bool tms_release_folio(struct folio *folio, gfp_t gfp)
{
	tms_masks_add(&tms_released, gfp);
	return true;
}

static void tms_release(struct tms_masks *seen, gfp_t gfp)
{
	static const struct address_space_operations aops = {
		.release_folio = tms_release_folio,
	};
	static struct address_space mapping = { .a_ops = &aops };
	struct folio *folio = folio_alloc(GFP_KERNEL, 0);

	if (!folio)
		return;
	tms_released = (struct tms_masks){ };
	mapping_set_release_always(&mapping);
	folio->mapping = &mapping;
	folio_lock(folio);
	filemap_release_folio(folio, gfp);
	folio_unlock(folio);
	folio->mapping = NULL;
	folio_put(folio);
	*seen = tms_released;
}

/* Where the pages come from is what counts; there is no tracepoint. */
static void tms_alloc_pages(struct tms_masks *seen, u32 allocator, gfp_t gfp)
{
	struct page *pages[16] = { };

	switch (allocator) {
	case TMS_ALLOC_BULK:
		alloc_pages_bulk(gfp | TMS_GFP_ALWAYS, ARRAY_SIZE(pages), pages);
		break;
	case TMS_ALLOC_CONTIG:
		pages[0] = alloc_contig_pages(1, gfp | __GFP_NOWARN, numa_node_id(), NULL);
		break;
	default:
		pages[0] = alloc_page(gfp | TMS_GFP_ALWAYS);
	}
	for (int i = 0; i < ARRAY_SIZE(pages) && pages[i]; i++) {
		tms_masks_add(seen, is_zone_movable_page(pages[i]) ? __GFP_MOVABLE : 0);
		__free_page(pages[i]);
	}
}

int tms_alloc_run(struct tms_alloc *a)
{
	u32 own = tms_own();
	gfp_t gfp = tms_request_gfp(a->request);
	struct tms_masks used = { };
	struct tms_filler *fillers = NULL;
	struct tms_cookies c;
	void __percpu *pcpu;
	void *p;
	int err;

	/* Nobody else is given one that is to fail quietly. */
	if (a->allocator != TMS_RELEASE_FOLIO)
		gfp |= __GFP_NOWARN;
	a->asked = tms_gfp(gfp, gfp);
	tms_gfp_text(a->asked_text, gfp);
	if (a->allocator == TMS_ALLOC_VMALLOC) {
		err = tms_fill_holes(&fillers);
		if (err)
			return err;
	}
	tms_open(&c, a->scopes);
	switch (a->allocator) {
	case TMS_ALLOC_VMALLOC:
		tms_all_pages = &used;
		p = __vmalloc(TMS_AREA, gfp);
		tms_all_pages = NULL;
		vfree(p);
		break;
	case TMS_ALLOC_PERCPU:
		tms_all_percpu = &used;
		pcpu = __alloc_percpu_gfp(64, 8, gfp);
		tms_all_percpu = NULL;
		free_percpu(pcpu);
		break;
	case TMS_ALLOC_PAGE:
	case TMS_ALLOC_BULK:
	case TMS_ALLOC_CONTIG:
		for (int i = 0; i < 64; i++)
			tms_alloc_pages(&used, a->allocator, gfp);
		break;
	case TMS_RELEASE_FOLIO:
		tms_release(&used, gfp);
		break;
	}
	tms_close(&c);
	tms_empty_holes(fillers);
	a->left_open = tms_own() & ~own;
	tms_masks_report(&a->used, &used, gfp);
	return 0;
}
