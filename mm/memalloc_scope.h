/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _MM_MEMALLOC_SCOPE_H
#define _MM_MEMALLOC_SCOPE_H

#include <linux/memalloc_scope.h>
#include <linux/sched/clock.h>
#include <linux/tracepoint-defs.h>

struct page;

DECLARE_TRACEPOINT(memalloc_slowpath);
DECLARE_TRACEPOINT(memalloc_reclaim);

void __memalloc_slowpath_end(u64 start, gfp_t asked, gfp_t gfp, unsigned int order, bool failed);
void __memalloc_reclaim_end(u64 start, gfp_t gfp, unsigned int order, unsigned long scanned,
			    unsigned long reclaimed);

/*
 * How long a request took in the page allocator's slow path that a scope has changed,
 * and direct reclaim inside of a scope. 0 stands for nobody who wants to know.
 */
static inline u64 memalloc_slowpath_begin(void)
{
	return tracepoint_enabled(memalloc_slowpath) ? local_clock() : 0;
}

static inline void memalloc_slowpath_end(u64 start, gfp_t asked, gfp_t gfp, unsigned int order,
					 const struct page *page)
{
	if (unlikely(start))
		__memalloc_slowpath_end(start, asked, gfp, order, !page);
}

static inline u64 memalloc_reclaim_begin(void)
{
	return tracepoint_enabled(memalloc_reclaim) ? local_clock() : 0;
}

static inline void memalloc_reclaim_end(u64 start, gfp_t gfp, unsigned int order,
					unsigned long scanned, unsigned long reclaimed)
{
	if (unlikely(start))
		__memalloc_reclaim_end(start, gfp, order, scanned, reclaimed);
}

/*
 * That part of the fold which takes __GFP_FS, __GFP_IO and __GFP_MOVABLE away, whatever
 * else there is in the mask: for those that fold.
 */
static __always_inline gfp_t __memalloc_scope_restrict(memalloc_scope_t scope, gfp_t flags)
{
	if (scope & MEMALLOC_SCOPE_ANY_NOIO)
		flags &= ~(__GFP_IO | __GFP_FS);
	else if (scope & MEMALLOC_SCOPE_NOFS)
		flags &= ~__GFP_FS;

	if (scope & MEMALLOC_SCOPE_PIN)
		flags &= ~__GFP_MOVABLE;

	return flags;
}

#endif /* _MM_MEMALLOC_SCOPE_H */
