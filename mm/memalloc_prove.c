// SPDX-License-Identifier: GPL-2.0
/*
 * Allocation scopes as lockdep sees them: finds the deadlock that a scope does not
 * prevent, without any memory pressure.
 *
 * Reclaim with __GFP_FS may have to wait for whoever is inside nofs, reclaim with
 * __GFP_IO for whoever is inside noio: that is what these scopes are opened for. So
 * whoever allocates waits for them, and the locks that they take must not be held by
 * whoever allocates like that. Four classes say so:
 *
 *	fs_reclaim -> memalloc_nofs
 *	fs_reclaim -> io_reclaim -> memalloc_noio
 *
 * The first edge of each kind that is missing for a cycle comes from those who open
 * a scope and take a lock inside, the second from those who allocate under that lock.
 * io_reclaim is that of requests with __GFP_IO and without __GFP_FS; it is not held
 * around fs_reclaim, as then every GFP_NOFS request would wait for nofs.
 *
 * Nobody waits in order to open a scope, so no edge leads to one but those above: the
 * scope is held like a lock that was taken by a trylock. It is read-held and recursive,
 * as many have it open at the same time.
 *
 * In interrupts, nothing is waited for. noreclaim is for those who are waited for
 * in any case; it takes part as it keeps requests from reclaim.
 */
#include <linux/bitops.h>
#include <linux/export.h>
#include <linux/init.h>
#include <linux/instruction_pointer.h>
#include <linux/irqflags.h>
#include <linux/lockdep.h>
#include <linux/memalloc_scope.h>
#include <linux/preempt.h>
#include <linux/sched/mm.h>

#include "memalloc_scope.h"

#define MEMALLOC_SCOPE_PROVED	(MEMALLOC_SCOPE_NOFS | MEMALLOC_SCOPE_NOIO)

static struct lockdep_map memalloc_nofs_map =
	STATIC_LOCKDEP_MAP_INIT("memalloc_nofs", &memalloc_nofs_map);
static struct lockdep_map memalloc_noio_map =
	STATIC_LOCKDEP_MAP_INIT("memalloc_noio", &memalloc_noio_map);
static struct lockdep_map io_reclaim_map =
	STATIC_LOCKDEP_MAP_INIT("io_reclaim", &io_reclaim_map);

/**
 * memalloc_prove_hold - let lockdep know of scopes that have been opened
 * @scope: the scopes
 * @ip: who has opened them
 *
 * Context: Any context; without effect in interrupts.
 * Return: those that lockdep had not known to be open.
 */
memalloc_scope_t memalloc_prove_hold(memalloc_scope_t scope, unsigned long ip)
{
	struct memalloc_debug *debug = &current->memalloc_debug;

	if (!in_task())
		return MEMALLOC_SCOPE_NONE;

	scope &= MEMALLOC_SCOPE_PROVED & ~debug->held;
	/* What a test takes to user space is a lock held there, as lockdep sees it. */
	if (!(current->flags & PF_KTHREAD))
		scope &= ~current->memalloc_expected;
	if (scope & MEMALLOC_SCOPE_NOFS)
		lock_acquire_shared_recursive(&memalloc_nofs_map, 0, 1, NULL, ip);
	if (scope & MEMALLOC_SCOPE_NOIO)
		lock_acquire_shared_recursive(&memalloc_noio_map, 0, 1, NULL, ip);
	debug->held |= scope;
	return scope;
}

/**
 * memalloc_prove_release - let lockdep know that scopes have been closed
 * @scope: what memalloc_prove_hold() returned
 * @ip: who has closed them
 *
 * Context: That of memalloc_prove_hold().
 */
void memalloc_prove_release(memalloc_scope_t scope, unsigned long ip)
{
	scope &= current->memalloc_debug.held;
	if (scope & MEMALLOC_SCOPE_NOFS)
		lock_release(&memalloc_nofs_map, ip);
	if (scope & MEMALLOC_SCOPE_NOIO)
		lock_release(&memalloc_noio_map, ip);
	if (scope)
		current->memalloc_debug.held &= ~scope;
}

/**
 * memalloc_scope_untrack - keep lockdep out of the scopes that the last save has opened
 *
 * For code that opens a scope in defence of something that its callees do seldom, and
 * which is not waited for as long as it does something else; and for stacked drivers,
 * whose lower half takes locks of the same classes as those who wait for the upper.
 * lockdep knows of classes alone, and would report deadlocks that there are not.
 *
 * Say where you call this why it is right: what it hides is not found by anybody
 * else. A scope that covers less is better, if that can be had.
 *
 * Context: Task context, in the scope that it is about, before any other is opened.
 */
void memalloc_scope_untrack(void)
{
	struct memalloc_records *records = &current->memalloc_debug.records[0];

	if (!in_task() || !records->nr)
		return;

	memalloc_prove_release(records->at[records->nr - 1].held, _RET_IP_);
	records->at[records->nr - 1].held = MEMALLOC_SCOPE_NONE;
}
EXPORT_SYMBOL_GPL(memalloc_scope_untrack);

/**
 * memalloc_prove_held_for_life - how many locks lockdep sees where a kernel thread has none
 *
 * A thread that freezes holds its scopes for life, and nobody waits for those.
 *
 * Context: Task context.
 * Return: the number.
 */
int memalloc_prove_held_for_life(void)
{
	if (!(current->flags & PF_KTHREAD))
		return 0;
	return hweight8((__force u8)(current->memalloc_debug.held & current->memalloc_expected));
}

/**
 * __io_reclaim_acquire - a request is about to reclaim, with __GFP_IO alone
 * @ip: whose it is
 *
 * Context: Where __fs_reclaim_acquire() would be called for one with __GFP_FS.
 */
void __io_reclaim_acquire(unsigned long ip)
{
	lock_acquire_exclusive(&io_reclaim_map, 0, 0, NULL, ip);
}

/**
 * __io_reclaim_release - the request has reclaimed, or need not
 * @ip: whose it is
 *
 * Context: That of __io_reclaim_acquire().
 */
void __io_reclaim_release(unsigned long ip)
{
	lock_release(&io_reclaim_map, ip);
}

/* Before anybody can complete a cycle: the report should be about somebody's code. */
static int __init memalloc_prove_init(void)
{
	unsigned long flags;

	/* Not as a class that is taken with interrupts enabled, whatever comes. */
	local_irq_save(flags);
	__fs_reclaim_acquire(_THIS_IP_);
	lock_map_acquire(&memalloc_nofs_map);
	lock_map_release(&memalloc_nofs_map);
	__io_reclaim_acquire(_THIS_IP_);
	lock_map_acquire(&memalloc_noio_map);
	lock_map_release(&memalloc_noio_map);
	__io_reclaim_release(_THIS_IP_);
	__fs_reclaim_release(_THIS_IP_);
	local_irq_restore(flags);
	return 0;
}
early_initcall(memalloc_prove_init);
