/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _MM_MEMALLOC_SCOPE_H
#define _MM_MEMALLOC_SCOPE_H

#include <linux/memalloc_scope.h>

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
