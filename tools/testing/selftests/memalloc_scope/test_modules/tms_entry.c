// SPDX-License-Identifier: GPL-2.0
/*
 * Entries to reclaim that have a mask of their own, and allocations that a page
 * fault makes: what each is told while a task has scopes open.
 */
#include <linux/mm.h>
#include <linux/tracepoint.h>
#include <linux/uaccess.h>

#include "tms_internal.h"

/* A request that is not costly, so that compaction is tried for it */
#define TMS_COMPACT_ORDER	3

/* The entry that is watched, TMS_ENTRIES for none; and whether it is running */
static u32 tms_entry = TMS_ENTRIES;
static bool tms_inside;
static unsigned int tms_huge_order;
static struct tms_masks tms_entered, tms_entry_shrunk;

void tms_entry_shrink(gfp_t gfp)
{
	if (tms_inside)
		tms_masks_add(&tms_entry_shrunk, gfp);
}

void tms_entry_page_alloc(unsigned int order, gfp_t gfp)
{
	if ((tms_entry == TMS_ENTRY_PGTABLE && !order) ||
	    (tms_entry == TMS_ENTRY_THP && order == tms_huge_order))
		tms_masks_add(&tms_entered, gfp);
}

static bool tms_mine(void)
{
	return current == READ_ONCE(tms_task) && in_task();
}

static void tms_enter(gfp_t gfp)
{
	if (!tms_mine())
		return;
	tms_masks_add(&tms_entered, gfp);
	tms_inside = true;
}

static void tms_direct_begin(void *data, gfp_t gfp, int order, struct mem_cgroup *memcg)
{
	tms_enter(gfp);
}

static void tms_node_begin(void *data, int nid, int order, gfp_t gfp)
{
	tms_enter(gfp);
}

static void tms_compact(void *data, int order, gfp_t gfp, int prio)
{
	if (tms_mine() && order == TMS_COMPACT_ORDER)
		tms_masks_add(&tms_entered, gfp);
}

static void tms_end(void *data, unsigned long nr_reclaimed, struct mem_cgroup *memcg)
{
	if (tms_mine())
		tms_inside = false;
}

/* Trace events where an entry is told its mask, and where it is left */
static const struct tms_entry_probe {
	const char *begin, *end;
	void *func;
} tms_entry_probes[TMS_ENTRIES] = {
	[TMS_ENTRY_DIRECT] = {
		"mm_vmscan_direct_reclaim_begin", "mm_vmscan_direct_reclaim_end", tms_direct_begin,
	},
	[TMS_ENTRY_NODE] = {
		"mm_vmscan_node_reclaim_begin", "mm_vmscan_node_reclaim_end", tms_node_begin,
	},
	[TMS_ENTRY_COMPACTION] = {
		"mm_compaction_try_to_compact_pages", NULL, tms_compact,
	},
};

struct tms_find {
	const char *name;
	struct tracepoint *tp;
};

static void tms_match(struct tracepoint *tp, void *priv)
{
	struct tms_find *find = priv;

	if (!strcmp(tp->name, find->name))
		find->tp = tp;
}

struct tracepoint *tms_event(const char *name)
{
	struct tms_find find = { .name = name };

	for_each_kernel_tracepoint(tms_match, &find);
	return find.tp;
}

static int tms_reclaim_entry(struct tms_entry *e)
{
	struct tms_reclaim r = {
		.scopes = e->scopes,
		.request = e->request,
		.calls = e->calls,
		.max_ms = e->max_ms,
		.max_mb = UINT_MAX,
	};
	int err = tms_reclaim_run(&r);

	e->oom = r.oom;
	return err;
}

static void tms_compaction_entry(struct tms_entry *e, gfp_t gfp)
{
	ktime_t end = ktime_add_ms(ktime_get(), e->max_ms);
	struct tms_cookies c;
	struct page *page;

	tms_fragment(end);
	tms_open(&c, e->scopes);
	/* Others free memory meanwhile: what comes without compaction is kept from them. */
	for (int i = 0; i < 64 * e->calls && tms_entered.count < e->calls; i++) {
		page = alloc_pages(gfp | TMS_GFP_ALWAYS, TMS_COMPACT_ORDER);
		if (page)
			tms_keep(page, TMS_COMPACT_ORDER);
		if (tms_ran_out() || ktime_after(ktime_get(), end))
			break;
		cond_resched();
	}
	tms_close(&c);
	tms_give_all_back();
	e->oom = tms_ran_out();
}

static int tms_fault_entry(struct tms_entry *e)
{
	char __user *addr = u64_to_user_ptr(e->addr);
	struct tms_cookies c;
	char value;
	int err;

	tms_open(&c, e->scopes);
	/* Reading finds the zero page: what is allocated is tables alone. */
	if (e->entry == TMS_ENTRY_PGTABLE)
		err = copy_from_user(&value, addr, sizeof(value)) ? -EFAULT : 0;
	else
		err = put_user('x', addr);
	tms_close(&c);
	return err;
}

static int tms_entry_watched(struct tms_entry *e, gfp_t gfp)
{
	switch (e->entry) {
	case TMS_ENTRY_DIRECT:
	case TMS_ENTRY_NODE:
		return tms_reclaim_entry(e);
	case TMS_ENTRY_COMPACTION:
		tms_compaction_entry(e, gfp);
		return 0;
	default:
		return tms_fault_entry(e);
	}
}

static struct tracepoint *tms_begin_event, *tms_end_event;

static void tms_remove_entry(const struct tms_entry_probe *p)
{
	if (tms_end_event)
		tracepoint_probe_unregister(tms_end_event, tms_end, NULL);
	if (tms_begin_event)
		tracepoint_probe_unregister(tms_begin_event, p->func, NULL);
	tms_begin_event = NULL;
	tms_end_event = NULL;
	tracepoint_synchronize_unregister();
	tms_inside = false;
}

static int tms_insert_entry(const struct tms_entry_probe *p)
{
	struct tracepoint *begin = p->begin ? tms_event(p->begin) : NULL;
	struct tracepoint *end = p->end ? tms_event(p->end) : NULL;
	int err;

	if ((p->begin && !begin) || (p->end && !end))
		return -EOPNOTSUPP;
	tms_entered = (struct tms_masks){ };
	tms_entry_shrunk = (struct tms_masks){ };
	if (begin) {
		err = tracepoint_probe_register(begin, p->func, NULL);
		if (err)
			return err;
		tms_begin_event = begin;
	}
	if (end) {
		err = tracepoint_probe_register(end, tms_end, NULL);
		if (err) {
			tms_remove_entry(p);
			return err;
		}
		tms_end_event = end;
	}
	return 0;
}

int tms_direct_watch(void)
{
	return tms_insert_entry(&tms_entry_probes[TMS_ENTRY_DIRECT]);
}

u64 tms_direct_unwatch(void)
{
	tms_remove_entry(&tms_entry_probes[TMS_ENTRY_DIRECT]);
	return tms_entered.count;
}

int tms_entry_run(struct tms_entry *e)
{
	gfp_t gfp = tms_request_gfp(e->request);
	const struct tms_entry_probe *p;
	int err;

	if (e->entry >= TMS_ENTRIES)
		return -EINVAL;
	p = &tms_entry_probes[e->entry];
	e->asked = tms_gfp(gfp | TMS_GFP_ALWAYS, gfp);
	tms_gfp_text(e->asked_text, gfp);
	tms_huge_order = e->huge_order;

	err = tms_insert_entry(p);
	if (err)
		return err;
	WRITE_ONCE(tms_entry, e->entry);
	err = tms_entry_watched(e, gfp);
	WRITE_ONCE(tms_entry, TMS_ENTRIES);
	tms_remove_entry(p);
	tms_masks_report(&e->entered, &tms_entered, gfp);
	tms_masks_report(&e->reclaim, &tms_entry_shrunk, gfp);
	return err;
}
