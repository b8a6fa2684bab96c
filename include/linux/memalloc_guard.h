/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Allocation scopes that close themselves, see <linux/cleanup.h>.
 *
 *	guard(memalloc_nofs)();
 *
 * opens a nofs scope and closes it where the enclosing block ends, however it is
 * left: there is no cookie to keep, to lose, or to hand to the wrong restore. For
 * a part of a function,
 *
 *	scoped_guard(memalloc_nofs) {
 *		...
 *	}
 *
 * and where the scope is needed only sometimes,
 *
 *	guard(memalloc_nofs_if)(handle);
 *
 * which opens it if the argument is true. Note that a condition around guard()
 * would not do: the scope would be closed where the conditional block ends.
 *
 * Guards of scopes and of locks close in reverse order; so does this bug, which
 * they are there to prevent:
 *
 *	nofs = memalloc_nofs_save();
 *	mutex_lock(&lock);
 *	if (error)
 *		goto out;
 *	...
 *	mutex_unlock(&lock);
 *	memalloc_nofs_restore(nofs);
 *	return 0;
 * out:
 *	mutex_unlock(&lock);
 *	return error;
 *
 * See <linux/memalloc_lock.h> for locks that bring their scope.
 */
#ifndef _LINUX_MEMALLOC_GUARD_H
#define _LINUX_MEMALLOC_GUARD_H

#include <linux/cleanup.h>
#include <linux/memalloc_scope.h>

/*
 * guard(memalloc_<kind>)() and guard(memalloc_<kind>_if)(condition): the functions
 * memalloc_<kind>_save() and memalloc_<kind>_restore(), with their rules.
 */
#define DEFINE_MEMALLOC_GUARD(_kind)					\
DEFINE_CLASS(memalloc_##_kind, unsigned int,				\
	     memalloc_##_kind##_restore(_T),				\
	     memalloc_##_kind##_save(), void)				\
DEFINE_CLASS_IS_UNCONDITIONAL(memalloc_##_kind)				\
DEFINE_CLASS(memalloc_##_kind##_if, unsigned int,			\
	     memalloc_##_kind##_restore(_T),				\
	     open ? memalloc_##_kind##_save() : 0, bool open)		\
DEFINE_CLASS_IS_UNCONDITIONAL(memalloc_##_kind##_if)

DEFINE_MEMALLOC_GUARD(noio)
DEFINE_MEMALLOC_GUARD(nofs)
DEFINE_MEMALLOC_GUARD(noreclaim)
DEFINE_MEMALLOC_GUARD(pin)
DEFINE_MEMALLOC_GUARD(nowait)
DEFINE_MEMALLOC_GUARD(nowarn)
DEFINE_MEMALLOC_GUARD(nolock)

#undef DEFINE_MEMALLOC_GUARD

/* guard(memalloc_scope)(scope): scopes that are chosen at run time */
DEFINE_CLASS(memalloc_scope, unsigned int, memalloc_scope_restore(_T),
	     memalloc_scope_save(scope), memalloc_scope_t scope)
DEFINE_CLASS_IS_UNCONDITIONAL(memalloc_scope)

/*
 * guard(memalloc_gfp)(gfp): treat requests as @gfp would be, as far as scopes can
 * tell; see memalloc_scope_from_gfp(). For callees that take no mask. What is open
 * stays open, with one exception: if @gfp has __GFP_NOFAIL, then what is asked for
 * on its behalf may wait, too, even inside nowait and nolock.
 */
static __always_inline memalloc_scope_t memalloc_gfp_save(gfp_t gfp)
{
	memalloc_scope_t old = __memalloc_scope_get();
	memalloc_scope_t scope = memalloc_scope_from_gfp(gfp);

	memalloc_replaced(old | scope, old);
	if (gfp & __GFP_NOFAIL)
		__memalloc_scope_set((old | scope) & ~MEMALLOC_SCOPE_UNLESS_NOFAIL);
	else
		__memalloc_scope_set(old | scope);
	return old;
}

static __always_inline void memalloc_gfp_restore(memalloc_scope_t old)
{
	memalloc_put_back(old);
	__memalloc_scope_set(old);
}

DEFINE_CLASS(memalloc_gfp, memalloc_scope_t, memalloc_gfp_restore(_T),
	     memalloc_gfp_save(gfp), gfp_t gfp)
DEFINE_CLASS_IS_UNCONDITIONAL(memalloc_gfp)

#endif /* _LINUX_MEMALLOC_GUARD_H */
