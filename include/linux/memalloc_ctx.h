/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Allocation contexts: hand the scopes that a piece of work was asked for in to
 * the thread that does it.
 *
 * A scope covers what the task that opened it does. If it has another thread do
 * part of that, and waits, then what the scope protects against may happen over
 * there: the helper allocates with GFP_KERNEL, enters the file system, and waits
 * for the lock that the task holds. So the task captures its context, hands it
 * over with the work, and the helper adopts it for as long as it works on that:
 *
 *	req->ctx = memalloc_ctx_capture();
 *	hand_over(req);				void helper(struct request *req)
 *	wait_for(req);				{
 *							guard(memalloc_ctx)(req->ctx);
 *							...
 *						}
 *
 * Nothing is handed over unless both sides say so: work may have been given away
 * just because there it may do more than here.
 *
 * Scopes are of two sorts in this. nofs, noio, pin and nowarn belong to the work:
 * they hold for whoever does it. These make up a context, and adopting a context
 * replaces them all. io_flusher, noreclaim, nowait and nolock belong to the thread:
 * that it serves I/O, that reclaim is on its stack or waits for it, that it must not
 * wait, or not even spin. Adopting a context leaves them alone, or a layer that
 * starts afresh with an empty context would reclaim recursively. That the work of
 * an I/O flusher may not wait for I/O is handed over, however, as noio. See
 * memalloc_ctx_capture_noreclaim() for how noreclaim is handed over.
 */
#ifndef _LINUX_MEMALLOC_CTX_H
#define _LINUX_MEMALLOC_CTX_H

#include <linux/cleanup.h>
#include <linux/memalloc_scope.h>

/**
 * typedef memalloc_ctx_t - the scopes of a piece of work
 *
 * A value: copy it, keep it, as long as you like; it refers to nothing. Zeroed
 * memory is the empty context.
 */
typedef struct {
	memalloc_scope_t	scope;
} memalloc_ctx_t;

/* Scopes that belong to the work; noreclaim can be in a context, too. */
#define MEMALLOC_SCOPE_WORK	\
	(MEMALLOC_SCOPE_NOFS | MEMALLOC_SCOPE_NOIO | MEMALLOC_SCOPE_PIN | \
	 MEMALLOC_SCOPE_NOWARN)

/* For a layer that starts afresh: nothing of what the callers have opened. */
#define MEMALLOC_CTX_NONE	((memalloc_ctx_t){ })
/* For work with needs of its own, whoever asks for it. */
#define MEMALLOC_CTX_NOFS	((memalloc_ctx_t){ MEMALLOC_SCOPE_NOFS })
#define MEMALLOC_CTX_NOIO	((memalloc_ctx_t){ MEMALLOC_SCOPE_NOIO })

/**
 * memalloc_ctx_capture - take down the context that the caller works in
 *
 * Context: Any context. In a softirq, what its handlers have opened; in hard
 *          interrupts, the empty context.
 * Return: the scopes that apply here and belong to the work: nofs, noio, pin and
 *         nowarn. The caller hands them to whoever does the work for it.
 */
static inline memalloc_ctx_t memalloc_ctx_capture(void)
{
	memalloc_scope_t scope = current_memalloc_scope();

	if (scope & MEMALLOC_SCOPE_IO_FLUSHER)
		scope |= MEMALLOC_SCOPE_NOIO;
	return (memalloc_ctx_t){ scope & MEMALLOC_SCOPE_WORK };
}

/**
 * memalloc_ctx_capture_noreclaim - take down the context, the reserves included
 *
 * As memalloc_ctx_capture(), and if noreclaim is open, then whoever adopts the
 * context may dip into the memory reserves as well. That is a privilege, and not
 * the caller's to give away: it may do so only if it waits for the work to be
 * done, so that no more is taken from the reserves at any time than if it did the
 * work itself. Work that nobody waits for must not carry this context.
 *
 * Context: Any context; noreclaim is not captured in hard interrupts.
 * Return: the scopes that apply here and belong to the work, and noreclaim.
 */
static inline memalloc_ctx_t memalloc_ctx_capture_noreclaim(void)
{
	memalloc_ctx_t ctx = memalloc_ctx_capture();

	ctx.scope |= current_memalloc_scope() & MEMALLOC_SCOPE_NORECLAIM;
	return ctx;
}

/**
 * memalloc_ctx_adopt - work in a context
 * @ctx: the context
 *
 * Replaces the scopes that belong to the work by those of @ctx. It is not the
 * union: what current has open and @ctx lacks is closed until the context is
 * restored. Scopes that belong to the thread stay open; noreclaim is opened if
 * @ctx has it.
 *
 * Most callers want guard(memalloc_ctx)(ctx). Contexts nest.
 *
 * Context: Any context; takes effect in task and softirq context. The caller
 *          restores in the same task and context, and has closed by then what it
 *          opened since.
 * Return: what memalloc_ctx_restore() needs.
 */
static __always_inline __must_check memalloc_scope_t memalloc_ctx_adopt(memalloc_ctx_t ctx)
{
	memalloc_scope_t old = __memalloc_scope_get();

	memalloc_replaced(ctx.scope, old);
	__memalloc_scope_set((old & ~MEMALLOC_SCOPE_WORK) | ctx.scope);
	return old;
}

/**
 * memalloc_ctx_restore - go back to the scopes from before an adoption
 * @old: what the matching memalloc_ctx_adopt() returned
 *
 * Context: That of the memalloc_ctx_adopt().
 */
static __always_inline void memalloc_ctx_restore(memalloc_scope_t old)
{
	memalloc_put_back(old);
	__memalloc_scope_set(old);
}

DEFINE_CLASS(memalloc_ctx, memalloc_scope_t, memalloc_ctx_restore(_T),
	     memalloc_ctx_adopt(ctx), memalloc_ctx_t ctx)
DEFINE_CLASS_IS_UNCONDITIONAL(memalloc_ctx)

#endif /* _LINUX_MEMALLOC_CTX_H */
