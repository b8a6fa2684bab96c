/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Allocation scopes: a task declares that, until it says otherwise, its memory
 * allocations may not do certain things. Documentation/core-api/memalloc-scope.rst
 * is the guide; this comment is what the code below relies on.
 *
 * Only current writes its own byte: the task itself, or an interrupt on top of
 * it that puts back what it found before it returns. So whoever is interrupted
 * between the load and the store of a read-modify-write finds the byte as it
 * was, and plain, non-atomic accesses are enough.
 */
#ifndef _LINUX_MEMALLOC_SCOPE_H
#define _LINUX_MEMALLOC_SCOPE_H

#include <linux/compiler.h>
#include <linux/gfp_types.h>
#include <linux/memalloc_debug.h>
#include <linux/memalloc_scope_types.h>
#include <linux/preempt.h>
#include <linux/sched.h>

/* the names of all kinds, the blanks between them and the final NUL */
#define MEMALLOC_SCOPE_NAMES_MAX	64

static __always_inline memalloc_scope_t __memalloc_scope_get(void)
{
	/* An interrupt may write it, but only what it then puts back. */
	return data_race(current->memalloc_scope);
}

static __always_inline void __memalloc_scope_set(memalloc_scope_t scope)
{
	/* KCSAN: no other CPU writes it, and no interrupt leaves it changed. */
	ASSERT_EXCLUSIVE_WRITER(current->memalloc_scope);
	/* Remote readers want a name for a report: any value will do for them. */
	data_race(current->memalloc_scope = scope);
}

gfp_t __current_gfp_context(gfp_t flags);
bool __current_gfp_allows_blocking(gfp_t gfp);
bool __current_gfp_nolock(gfp_t gfp);
memalloc_scope_t __memalloc_irq_scope(void) __pure;
unsigned int __memalloc_scope_save_irq(memalloc_scope_t scope);
void __memalloc_scope_restore_irq(unsigned int cookie);
const char *memalloc_scope_names(memalloc_scope_t scope, char *buf, size_t size);
memalloc_scope_t memalloc_scope_from_gfp(gfp_t gfp);
void memalloc_scope_thread(memalloc_scope_t scope);

/**
 * memalloc_scope_open - test whether current has any of some scopes open
 * @scope: the scopes to look for
 *
 * What the task has open, be it asked by the task or by an interrupt on top of
 * it. Use memalloc_scope_active() to learn what applies to an allocation here;
 * this one is for fast paths that may only err to the side of asking again.
 *
 * Context: Any context.
 * Return: true if at least one of @scope is open.
 */
static __always_inline bool memalloc_scope_open(memalloc_scope_t scope)
{
	return __memalloc_scope_get() & scope;
}

/**
 * memalloc_scope_active - test whether any of some scopes applies here
 * @scope: the scopes to look for
 *
 * Hard interrupts and NMIs run on top of a task without being part of its work:
 * its scopes do not apply there, but those that the handler has opened do, see
 * MEMALLOC_SCOPE_ANY_IRQ. Softirqs start with none, see memalloc_scope_borrow().
 *
 * Context: Any context.
 * Return: true if an allocation made here is subject to at least one of @scope.
 */
static __always_inline bool memalloc_scope_active(memalloc_scope_t scope)
{
	if (likely(!memalloc_scope_open(scope)))
		return false;
	if (likely(!(preempt_count() & (HARDIRQ_MASK | NMI_MASK))))
		return true;
	return (scope & MEMALLOC_SCOPE_ANY_IRQ) && (__memalloc_irq_scope() & scope);
}

/**
 * current_memalloc_scope - the scopes that apply here
 *
 * What memalloc_scope_active() tests for, as a whole; for reports on a request
 * that was made here.
 *
 * Context: Any context.
 * Return: the scopes that an allocation made here is subject to: those of the
 *         task or, in interrupts of all sorts, those that the handler has opened.
 */
static inline memalloc_scope_t current_memalloc_scope(void)
{
	if (preempt_count() & (HARDIRQ_MASK | NMI_MASK))
		return __memalloc_irq_scope();
	return __memalloc_scope_get();
}

/**
 * memalloc_nofs_active - test whether allocations here lose __GFP_FS
 *
 * Context: Any context.
 * Return: true inside nofs and inside whatever implies it: noio, or a task that
 *         is an I/O flusher.
 */
static inline bool memalloc_nofs_active(void)
{
	return memalloc_scope_active(MEMALLOC_SCOPE_ANY_NOFS);
}

/**
 * memalloc_noio_active - test whether allocations here lose __GFP_IO
 *
 * Context: Any context.
 * Return: true inside noio, or in a task that is an I/O flusher.
 */
static inline bool memalloc_noio_active(void)
{
	return memalloc_scope_active(MEMALLOC_SCOPE_ANY_NOIO);
}

/**
 * memalloc_noreclaim_active - test whether allocations here may not reclaim
 *
 * Context: Any context.
 * Return: true inside noreclaim, which includes everything that runs on behalf
 *         of direct reclaim or of kswapd.
 */
static inline bool memalloc_noreclaim_active(void)
{
	return memalloc_scope_active(MEMALLOC_SCOPE_NORECLAIM);
}

/**
 * memalloc_pin_active - test whether allocations here lose __GFP_MOVABLE
 *
 * Context: Any context.
 * Return: true inside pin.
 */
static inline bool memalloc_pin_active(void)
{
	return memalloc_scope_active(MEMALLOC_SCOPE_PIN);
}

/**
 * memalloc_nowait_active - test whether allocations here may not wait
 *
 * Context: Any context.
 * Return: true inside nowait. A request with __GFP_NOFAIL waits all the same; use
 *         current_gfp_allows_blocking() if there is a gfp mask.
 */
static inline bool memalloc_nowait_active(void)
{
	return memalloc_scope_active(MEMALLOC_SCOPE_NOWAIT);
}

/**
 * memalloc_nowarn_active - test whether failures of allocations here are not reported
 *
 * Context: Any context.
 * Return: true inside nowarn.
 */
static inline bool memalloc_nowarn_active(void)
{
	return memalloc_scope_active(MEMALLOC_SCOPE_NOWARN);
}

/**
 * memalloc_nolock_active - test whether allocations here may not take a lock
 *
 * Also for code that frees: inside nolock neither may. There is no mask to tell.
 *
 * Context: Any context.
 * Return: true inside nolock. Use current_gfp_nolock() if there is a gfp mask.
 */
static __always_inline bool memalloc_nolock_active(void)
{
	return memalloc_scope_active(MEMALLOC_SCOPE_NOLOCK);
}

/**
 * current_gfp_nolock - test whether a request made here may not take a lock
 * @gfp: the gfp mask of the request, as its caller gave it
 *
 * Context: Any context.
 * Return: true inside nolock: @gfp gets what can be had without sleeping and without
 *         spinning, or nothing. A __GFP_NOFAIL request is treated like this only
 *         if it could not sleep here anyway; either way, it is reported once.
 */
static __always_inline bool current_gfp_nolock(gfp_t gfp)
{
	return memalloc_nolock_active() && __current_gfp_nolock(gfp);
}

/**
 * current_gfp_allows_spinning - test whether a request made here may take locks
 * @gfp: the gfp mask of the request, as its caller gave it
 *
 * What gfpflags_allow_spinning() is to a mask that has been through
 * current_gfp_context(), for one that has not.
 *
 * Context: Any context.
 * Return: true if neither @gfp nor an open scope restricts the request to what can
 *         be had with trylocks.
 */
static __always_inline bool current_gfp_allows_spinning(gfp_t gfp)
{
	return (gfp & __GFP_RECLAIM) && !current_gfp_nolock(gfp);
}

/**
 * current_gfp_allows_blocking - test whether a request made here may wait for memory
 * @gfp: the gfp mask of the request, as its caller gave it
 *
 * gfpflags_allow_blocking() answers for the mask alone, which is right for a
 * mask that has been through current_gfp_context(). Who holds a caller's mask and
 * decides before the page allocator folds it (whether to take a mutex, to wait
 * for somebody to free an object, to fall back to something else) asks here.
 *
 * Context: Any context.
 * Return: true if @gfp allows direct reclaim and no open scope forbids it.
 */
static __always_inline bool current_gfp_allows_blocking(gfp_t gfp)
{
	if (!(gfp & __GFP_DIRECT_RECLAIM))
		return false;
	return likely(!memalloc_scope_open(MEMALLOC_SCOPE_ANY_NOWAIT)) ||
		__current_gfp_allows_blocking(gfp);
}

/**
 * current_gfp_context - apply the open scopes to a gfp mask
 * @flags: the gfp mask of a request
 *
 * Every allocator and every entry to reclaim passes its mask through here once,
 * before it acts on it. Folding twice is harmless.
 *
 * Context: Any context. In hard interrupts and NMIs, only scopes that were opened
 *          there have an effect.
 * Return: @flags without what the open scopes forbid. Inside nowarn and nolock, and
 *         only there, with something that it did not have: __GFP_NOWARN. Nothing
 *         is taken from a __GFP_NOFAIL request that it needs to keep its promise,
 *         unless nobody could keep it: inside nolock, where it is illegal to sleep.
 */
static __always_inline gfp_t current_gfp_context(gfp_t flags)
{
	if (unlikely(memalloc_scope_open(MEMALLOC_SCOPE_GFP)))
		return __current_gfp_context(flags);
	return flags;
}

/**
 * memalloc_scope_save - open scopes
 * @scope: the scopes to open
 *
 * For code that chooses the scope at run time; everybody else uses the function
 * named after the scope.
 *
 * Context: Any context. The caller closes what it opened, in the same context
 *          and the same task, with memalloc_scope_restore().
 * Return: a cookie with the scopes that this call has opened. 0 if all of them
 *         were open before; a cookie of 0 closes nothing.
 */
static __always_inline __must_check unsigned int memalloc_scope_save(memalloc_scope_t scope)
{
	/* READ_ONCE(): lets the compiler OR to memory, not to what is loaded here. */
	memalloc_scope_t old = READ_ONCE(current->memalloc_scope);
	unsigned int cookie;

	if ((scope & MEMALLOC_SCOPE_ANY_IRQ) &&
	    unlikely(preempt_count() & (HARDIRQ_MASK | NMI_MASK)))
		return __memalloc_scope_save_irq(scope);

	/* Before the store: as the last call of a function, it would not see the function. */
	cookie = memalloc_opened(scope, (__force unsigned int)(~old & scope));
	__memalloc_scope_set(__memalloc_scope_get() | scope);
	return cookie;
}

/* What a save in an interrupt handler has opened there is in the second byte. */
#define MEMALLOC_SCOPE_COOKIE_IRQ	8

/* For cookies of saves that do not tell interrupts apart. */
static __always_inline void __memalloc_scope_restore(unsigned int cookie)
{
	__memalloc_scope_set(__memalloc_scope_get() & (__force memalloc_scope_t)~cookie);
}

/* For all others. */
static __always_inline void __memalloc_any_restore(unsigned int cookie)
{
	if (unlikely(cookie >> MEMALLOC_SCOPE_COOKIE_IRQ))
		__memalloc_scope_restore_irq(cookie);
	else
		__memalloc_scope_restore(cookie);
}

/**
 * memalloc_scope_restore - close the scopes that a save has opened
 * @cookie: what the save returned
 *
 * Takes the cookie of any kind of save. It closes what that save opened and
 * nothing else, so scopes of different kinds may be closed in any order.
 *
 * Context: That of the save.
 */
static __always_inline void memalloc_scope_restore(unsigned int cookie)
{
	__memalloc_any_restore(memalloc_closed(cookie, MEMALLOC_SCOPE_NONE));
}

/**
 * memalloc_noio_save - open a noio scope
 *
 * Until the matching memalloc_noio_restore(), every allocation of this task is
 * treated as GFP_NOIO: reclaim on its behalf starts no I/O and enters no file
 * system. For critical sections which I/O has to get through: whoever holds a
 * lock, or suspends or resets a device, that writing out a page would wait for.
 *
 * Context: Any context; takes effect in task and softirq context. Scopes nest.
 *          The caller closes the scope in the same task and context.
 * Return: a cookie for memalloc_noio_restore().
 */
static __always_inline __must_check unsigned int memalloc_noio_save(void)
{
	return memalloc_scope_save(MEMALLOC_SCOPE_NOIO);
}

/**
 * memalloc_noio_restore - close a noio scope
 * @flags: what the matching memalloc_noio_save() returned; 0 closes nothing
 *
 * Context: That of the memalloc_noio_save().
 */
static __always_inline void memalloc_noio_restore(unsigned int flags)
{
	__memalloc_scope_restore(memalloc_closed(flags, MEMALLOC_SCOPE_NOIO));
}

/**
 * memalloc_nofs_save - open a nofs scope
 *
 * Until the matching memalloc_nofs_restore(), every allocation of this task is
 * treated as GFP_NOFS: reclaim on its behalf does not call back into a file
 * system. For transactions and for locks that a file system's own shrinkers and
 * writeback take.
 *
 * Context: Any context; takes effect in task and softirq context. Scopes nest.
 *          The caller closes the scope in the same task and context.
 * Return: a cookie for memalloc_nofs_restore().
 */
static __always_inline __must_check unsigned int memalloc_nofs_save(void)
{
	return memalloc_scope_save(MEMALLOC_SCOPE_NOFS);
}

/**
 * memalloc_nofs_restore - close a nofs scope
 * @flags: what the matching memalloc_nofs_save() returned; 0 closes nothing
 *
 * Context: That of the memalloc_nofs_save().
 */
static __always_inline void memalloc_nofs_restore(unsigned int flags)
{
	__memalloc_scope_restore(memalloc_closed(flags, MEMALLOC_SCOPE_NOFS));
}

/**
 * memalloc_noreclaim_save - open a noreclaim scope
 *
 * Until the matching memalloc_noreclaim_restore(), no allocation of this task
 * enters direct reclaim, and all of them may dip into the whole of the memory
 * reserves. __GFP_NOMEMALLOC opts a request out of the reserves.
 *
 * The reserves are what reclaim itself runs on. Open this scope only where the
 * memory allocated leads to more memory being freed very soon, and bound how
 * much of it there can be; a mempool is nearly always the better tool. A
 * __GFP_NOFAIL request in here can but loop until somebody else frees memory.
 *
 * Context: Task and softirq context. Without effect in hard interrupts, which
 *          have no access to the reserves. Scopes nest. The caller closes the
 *          scope in the same task and context.
 * Return: a cookie for memalloc_noreclaim_restore().
 */
static __always_inline __must_check unsigned int memalloc_noreclaim_save(void)
{
	return memalloc_scope_save(MEMALLOC_SCOPE_NORECLAIM);
}

/**
 * memalloc_noreclaim_restore - close a noreclaim scope
 * @flags: what the matching memalloc_noreclaim_save() returned; 0 closes nothing
 *
 * Context: That of the memalloc_noreclaim_save().
 */
static __always_inline void memalloc_noreclaim_restore(unsigned int flags)
{
	__memalloc_scope_restore(memalloc_closed(flags, MEMALLOC_SCOPE_NORECLAIM));
}

/**
 * memalloc_pin_save - open a pin scope
 *
 * Until the matching memalloc_pin_restore(), every allocation of this task loses
 * __GFP_MOVABLE, so that the memory may be pinned for long: it comes from neither
 * ZONE_MOVABLE nor a CMA area.
 *
 * Context: Any context; takes effect in task and softirq context. Scopes nest.
 *          The caller closes the scope in the same task and context.
 * Return: a cookie for memalloc_pin_restore().
 */
static __always_inline __must_check unsigned int memalloc_pin_save(void)
{
	return memalloc_scope_save(MEMALLOC_SCOPE_PIN);
}

/**
 * memalloc_pin_restore - close a pin scope
 * @flags: what the matching memalloc_pin_save() returned; 0 closes nothing
 *
 * Context: That of the memalloc_pin_save().
 */
static __always_inline void memalloc_pin_restore(unsigned int flags)
{
	__memalloc_scope_restore(memalloc_closed(flags, MEMALLOC_SCOPE_PIN));
}

/**
 * memalloc_nowait_save - open a nowait scope
 *
 * Until the matching memalloc_nowait_restore(), no allocation of this task waits
 * for memory: all are treated as if they lacked __GFP_DIRECT_RECLAIM. Each gets
 * what is free, wakes kswapd if that is little, and else fails, whatever its
 * size; unlike noreclaim, nothing comes out of the reserves for it. For callers
 * with something better to do than wait: give up what they hold and come back,
 * hand the work to a thread that may wait, do with less.
 *
 * This holds for all that is called inside. So only call code which is prepared
 * for its allocations to fail, which is more than to check for NULL: small
 * GFP_KERNEL requests practically never fail, and code has come to rely on that.
 * Two promises are kept in spite of the scope, as their callers do not check:
 * a request with __GFP_NOFAIL sleeps, and so does mempool_alloc() with a mask
 * that allows it. With CONFIG_DEBUG_MEMALLOC_SCOPE both are reported, once, with
 * the place that opened the scope.
 *
 * It is the memory that is not waited for. Locks that the code inside takes, I/O
 * that it submits and waits for, are its own business.
 *
 * Failures are reported like any other; open nowarn too if they are expected.
 *
 * Context: Any context; takes effect in task and softirq context. Scopes nest.
 *          The caller closes the scope in the same task and context.
 * Return: a cookie for memalloc_nowait_restore().
 */
static __always_inline __must_check unsigned int memalloc_nowait_save(void)
{
	return memalloc_scope_save(MEMALLOC_SCOPE_NOWAIT);
}

/**
 * memalloc_nowait_restore - close a nowait scope
 * @flags: what the matching memalloc_nowait_save() returned; 0 closes nothing
 *
 * Context: That of the memalloc_nowait_save().
 */
static __always_inline void memalloc_nowait_restore(unsigned int flags)
{
	__memalloc_scope_restore(memalloc_closed(flags, MEMALLOC_SCOPE_NOWAIT));
}

/**
 * memalloc_nowarn_save - open a nowarn scope
 *
 * Until the matching memalloc_nowarn_restore(), failures of this task's
 * allocations are not reported, as if each had __GFP_NOWARN. For callers that
 * handle failure of everything they call, so that a report would only tell what
 * they know. __GFP_NOFAIL requests are not affected: what the kernel has to say
 * of those is not about failure.
 *
 * Context: Any context. Scopes nest. The caller closes the scope in the same task
 *          and context.
 * Return: a cookie for memalloc_nowarn_restore().
 */
static __always_inline __must_check unsigned int memalloc_nowarn_save(void)
{
	return memalloc_scope_save(MEMALLOC_SCOPE_NOWARN);
}

/**
 * memalloc_nowarn_restore - close a nowarn scope
 * @flags: what the matching memalloc_nowarn_save() returned; 0 closes nothing
 *
 * Context: That of the memalloc_nowarn_save().
 */
static __always_inline void memalloc_nowarn_restore(unsigned int flags)
{
	__memalloc_any_restore(memalloc_closed(flags, MEMALLOC_SCOPE_NOWARN));
}

/**
 * memalloc_nolock_save - open a nolock scope
 *
 * Until the matching memalloc_nolock_restore(), allocations of this task neither
 * sleep nor spin: they get what can be had by trylocks, without waking kswapd, and
 * else NULL, whatever the mask says. What is freed neither sleeps nor spins either,
 * whoever allocated it, and how; it may become free a little later, by irq_work.
 * For code that holds a raw_spinlock_t, where PREEMPT_RT must not take a
 * spinlock_t, and for code that may have interrupted the allocator.
 *
 * Covered are: pages and folios, up to PAGE_ALLOC_COSTLY_ORDER; slab caches and
 * kmalloc(), in bulk and from sheaves, too; freeing any of these; kfree_rcu() with
 * a head; vfree(). vmalloc(), percpu memory and mempools fail at once. Nothing else
 * is: free_percpu(), mempool_free() and folio_put() of a page in the LRU take locks
 * as ever, and so does whatever the caller does besides.
 *
 * Failure is to be expected at any time, with plenty of memory free, and is not
 * reported: somebody else holds the lock, that is all. The caller has a way to do
 * without, and does not try again in a loop. As little as inside nowait may it
 * call code that does not expect it.
 *
 * A request with __GFP_NOFAIL is reported, once. It is granted, in the ordinary
 * way, if preemptible() says that it may sleep, scope or not. If not it may fail:
 * no more can be done for it.
 *
 * On PREEMPT_RT, spin_trylock() is not for hard interrupts, and what it takes
 * spin_unlock() may have to hand over, waking a task. So there every allocation in
 * a hard interrupt fails, and nolock must not be used below locks of the scheduler.
 *
 * Context: Any context. In an interrupt, it covers what the handler does, and not
 *          what interrupts it in turn. An NMI handler may use it: allocations fail
 *          if there is but one CPU, and on PREEMPT_RT. Scopes nest. The caller
 *          closes the scope in the same task and context.
 * Return: a cookie for memalloc_nolock_restore().
 */
static __always_inline __must_check unsigned int memalloc_nolock_save(void)
{
	return memalloc_scope_save(MEMALLOC_SCOPE_NOLOCK);
}

/**
 * memalloc_nolock_restore - close a nolock scope
 * @flags: what the matching memalloc_nolock_save() returned; 0 closes nothing
 *
 * Context: That of the memalloc_nolock_save().
 */
static __always_inline void memalloc_nolock_restore(unsigned int flags)
{
	__memalloc_any_restore(memalloc_closed(flags, MEMALLOC_SCOPE_NOLOCK));
}

/**
 * memalloc_noio_thread - run a kernel thread in a noio scope, all its life
 *
 * As memalloc_noio_save(), for a kernel thread that serves I/O and does nothing
 * else. See memalloc_scope_thread() for who may call this, and when.
 *
 * Context: Task context, in the function that the kernel thread was created
 *          with. There is nothing to close.
 */
static inline void memalloc_noio_thread(void)
{
	memalloc_scope_thread(MEMALLOC_SCOPE_NOIO);
}

/**
 * memalloc_nofs_thread - run a kernel thread in a nofs scope, all its life
 *
 * As memalloc_nofs_save(), for a kernel thread that file systems wait for. See
 * memalloc_scope_thread() for who may call this, and when.
 *
 * Context: Task context, in the function that the kernel thread was created
 *          with. There is nothing to close.
 */
static inline void memalloc_nofs_thread(void)
{
	memalloc_scope_thread(MEMALLOC_SCOPE_NOFS);
}

/**
 * memalloc_noreclaim_thread - run a kernel thread in a noreclaim scope, all its life
 *
 * As memalloc_noreclaim_save(), for a kernel thread that reclaim itself waits
 * for. All of what the thread allocates may come from the reserves, so what is
 * said there about bounds goes for all that the thread ever does. See
 * memalloc_scope_thread() for who may call this, and when.
 *
 * Context: Task context, in the function that the kernel thread was created
 *          with. There is nothing to close.
 */
static inline void memalloc_noreclaim_thread(void)
{
	memalloc_scope_thread(MEMALLOC_SCOPE_NORECLAIM);
}

/**
 * memalloc_scope_borrow - run on top of a task without its scopes
 *
 * For softirqs, which borrow the task that they happen to interrupt: none of its
 * scopes may leak into the handlers (noreclaim would let them drain the
 * reserves), and none that a handler opens may leak back into the task.
 *
 * Context: Softirq entry, interrupts disabled. The caller gives the task its
 *          scopes back with memalloc_scope_give_back(), in the same task.
 * Return: the scopes of the task.
 */
static __always_inline memalloc_scope_t memalloc_scope_borrow(void)
{
	memalloc_scope_t scope = __memalloc_scope_get();

	__memalloc_scope_set(MEMALLOC_SCOPE_NONE);
	return scope;
}

/**
 * memalloc_scope_clear - close whatever is open on top of a borrowed task
 *
 * Between two softirq handlers: one that forgets to close a scope must not have
 * it apply to the next.
 *
 * Context: After memalloc_scope_borrow(), before memalloc_scope_give_back().
 */
static __always_inline void memalloc_scope_clear(void)
{
	__memalloc_scope_set(MEMALLOC_SCOPE_NONE);
}

/**
 * memalloc_scope_give_back - give a borrowed task its scopes back
 * @scope: what memalloc_scope_borrow() returned
 *
 * Context: Softirq exit, interrupts disabled.
 */
static __always_inline void memalloc_scope_give_back(memalloc_scope_t scope)
{
	__memalloc_scope_set(scope);
}

/**
 * memalloc_scope_fork - set up the scopes of a new task
 * @p: the new task, not yet running, a copy of its parent
 *
 * A scope covers a piece of code of the task that opened it; a child runs
 * other code and would never close it. Being an I/O flusher, in contrast, is a
 * property that children inherit; kernel threads are nobody's children.
 *
 * Context: copy_process().
 */
static inline void memalloc_scope_fork(struct task_struct *p)
{
	memalloc_debug_fork(p);
	if (p->flags & PF_KTHREAD)
		p->memalloc_scope = MEMALLOC_SCOPE_NONE;
	else
		p->memalloc_scope &= MEMALLOC_SCOPE_IO_FLUSHER;
}

/**
 * memalloc_set_io_flusher - say whether current is an I/O flusher
 * @on: true if the process serves I/O, so that its allocations must not wait for any
 *
 * Context: Task context, from a system call, no scope open.
 */
static inline void memalloc_set_io_flusher(bool on)
{
	if (on)
		__memalloc_scope_set(__memalloc_scope_get() | MEMALLOC_SCOPE_IO_FLUSHER);
	else
		__memalloc_scope_set(__memalloc_scope_get() & ~MEMALLOC_SCOPE_IO_FLUSHER);
}

/**
 * memalloc_is_io_flusher - ask whether current is an I/O flusher
 *
 * Context: Task context.
 * Return: what the last memalloc_set_io_flusher() of the process said.
 */
static inline bool memalloc_is_io_flusher(void)
{
	return memalloc_scope_open(MEMALLOC_SCOPE_IO_FLUSHER);
}

/**
 * task_memalloc_scope - look at the scopes of any task
 * @p: the task
 *
 * For reports only: unless @p is current or stopped, the answer may be outdated
 * when it arrives, on a CPU that runs a softirq it is the softirq's, and what a hard
 * interrupt has opened is among it. No lock would change that, as the owner takes
 * none: a byte is read in one piece, and any value that it has had can be named.
 * So nothing may be decided on it.
 *
 * Context: Any context; the caller makes sure that @p does not go away.
 * Return: the scopes that @p had open at some moment during the call.
 */
static inline memalloc_scope_t task_memalloc_scope(const struct task_struct *p)
{
	return READ_ONCE(p->memalloc_scope);
}

#endif /* _LINUX_MEMALLOC_SCOPE_H */
