// SPDX-License-Identifier: GPL-2.0
/*
 * Allocation scopes: what the fast path in <linux/memalloc_scope.h> leaves over.
 */
#include <linux/array_size.h>
#include <linux/export.h>
#include <linux/gfp.h>
#include <linux/instruction_pointer.h>
#include <linux/memalloc_scope.h>
#include <linux/once_lite.h>
#include <linux/percpu.h>
#include <linux/sprintf.h>

#include "memalloc_scope.h"

#define CREATE_TRACE_POINTS
#include <trace/events/memalloc.h>

#ifdef CONFIG_CHECK_MEMALLOC_SCOPE
EXPORT_TRACEPOINT_SYMBOL_GPL(memalloc_misuse);
#endif

static_assert(sizeof(memalloc_scope_t) == 1);

static void memalloc_nolock_nofail(gfp_t gfp);

/**
 * __current_gfp_context - the fold, once a scope that changes masks is open
 * @flags: the gfp mask of a request
 *
 * Callers use current_gfp_context(). That a hard interrupt found the scopes of
 * the task it interrupted is noticed here, on the cold side, so that neither
 * interrupt entry nor an allocation without scopes pays for it.
 *
 * Context: Any context.
 * Return: @flags without what the open scopes forbid.
 */
gfp_t __current_gfp_context(gfp_t flags)
{
	memalloc_scope_t scope = current_memalloc_scope();

	flags = __memalloc_scope_restrict(scope, flags);

	if ((scope & MEMALLOC_SCOPE_NOLOCK) && __current_gfp_nolock(flags)) {
		/*
		 * Without either bit of __GFP_RECLAIM, gfpflags_allow_spinning()
		 * says no. The reserves are for those who cannot do without.
		 */
		flags &= ~(__GFP_RECLAIM | __GFP_HIGH | __GFP_MEMALLOC |
			   __GFP_NOFAIL);
		return flags | __GFP_NOWARN | __GFP_NOMEMALLOC;
	}

	if (scope & MEMALLOC_SCOPE_EASE) {
		if (flags & __GFP_NOFAIL) {
			if (scope & MEMALLOC_SCOPE_NOWAIT)
				memalloc_nowait_nofail(flags);
			return flags;
		}
		if (scope & MEMALLOC_SCOPE_NOWAIT)
			flags &= ~__GFP_DIRECT_RECLAIM;
		if (scope & MEMALLOC_SCOPE_NOWARN)
			flags |= __GFP_NOWARN;
	}

	return flags;
}
EXPORT_SYMBOL(__current_gfp_context);

/**
 * __current_gfp_allows_blocking - whether a request may wait, once a scope may forbid it
 * @gfp: its mask, with __GFP_DIRECT_RECLAIM
 *
 * Callers use current_gfp_allows_blocking().
 *
 * Context: Any context.
 * Return: true if no open scope forbids it.
 */
bool __current_gfp_allows_blocking(gfp_t gfp)
{
	if (memalloc_nolock_active())
		return !__current_gfp_nolock(gfp);
	return !memalloc_nowait_active() || (gfp & __GFP_NOFAIL);
}
EXPORT_SYMBOL(__current_gfp_allows_blocking);

/**
 * __current_gfp_nolock - whether nolock applies to a request made inside it
 * @gfp: its mask
 *
 * Callers use current_gfp_nolock().
 *
 * A request with __GFP_NOFAIL cannot be let fail, and must not take a lock. Whoever
 * opened the scope calls what it should not have called. If sleeping is legal all
 * the same, the worst that comes of it is a deadlock that was possible without the
 * scope, so grant it.
 *
 * Context: Any context, a nolock scope open.
 * Return: false if the request is to be treated as if the scope were not open.
 */
bool __current_gfp_nolock(gfp_t gfp)
{
	if (likely(!(gfp & __GFP_NOFAIL)))
		return true;

	if (__ONCE_LITE_IF(true))
		memalloc_nolock_nofail(gfp);
	return !preemptible();
}
EXPORT_SYMBOL(__current_gfp_nolock);

#ifdef CONFIG_TRACE_MEMALLOC_SCOPE
EXPORT_TRACEPOINT_SYMBOL_GPL(memalloc_open);
EXPORT_TRACEPOINT_SYMBOL_GPL(memalloc_close);

static void trace_opened(memalloc_scope_t scope, unsigned int cookie, unsigned long ip)
{
	trace_memalloc_open(ip, (__force u8)scope, cookie | cookie >> MEMALLOC_SCOPE_COOKIE_IRQ);
}

/**
 * memalloc_trace_opened - somebody is about to open scopes, and is traced
 * @scope: the scopes that were asked for
 * @cookie: with those that were not open before
 *
 * Context: Any context.
 */
void memalloc_trace_opened(memalloc_scope_t scope, unsigned int cookie)
{
	trace_opened(scope, cookie, _RET_IP_);
}
EXPORT_SYMBOL_GPL(memalloc_trace_opened);

/**
 * memalloc_trace_closed - somebody is about to close scopes, and is traced
 * @scope: the scopes
 *
 * Context: Any context.
 */
void memalloc_trace_closed(memalloc_scope_t scope)
{
	trace_memalloc_close(_RET_IP_, (__force u8)scope);
}
EXPORT_SYMBOL_GPL(memalloc_trace_closed);
#else
static void trace_opened(memalloc_scope_t scope, unsigned int cookie, unsigned long ip) { }
#endif

/*
 * What handlers have opened, of hard interrupts and of NMIs. The byte of the task
 * below has these scopes too, as that is where all look first; it cannot tell
 * whose they are.
 */
static DEFINE_PER_CPU(memalloc_scope_t, memalloc_irq_scope[2]);

/**
 * __memalloc_irq_scope - the scopes that apply in a hard interrupt or in an NMI
 *
 * Callers use current_memalloc_scope().
 *
 * Context: Hard interrupt or NMI.
 * Return: what the handler has opened.
 */
memalloc_scope_t __memalloc_irq_scope(void)
{
	return __this_cpu_read(memalloc_irq_scope[!!in_nmi()]);
}
EXPORT_SYMBOL(__memalloc_irq_scope);

/**
 * __memalloc_scope_save_irq - open scopes in an interrupt handler
 * @scope: the scopes to open
 *
 * Callers use memalloc_scope_save().
 *
 * An NMI may come between any two of these statements. What it writes it puts back.
 *
 * Context: Hard interrupt or NMI.
 * Return: what memalloc_scope_save() does, and in the second byte, what of @scope
 *         has begun to apply: whether or not the task below had it open.
 */
unsigned int __memalloc_scope_save_irq(memalloc_scope_t scope)
{
	memalloc_scope_t *irq_scope = this_cpu_ptr(&memalloc_irq_scope[!!in_nmi()]);
	memalloc_scope_t irq_opened = ~*irq_scope & scope & MEMALLOC_SCOPE_ANY_IRQ;
	unsigned int opened = (__force unsigned int)(~__memalloc_scope_get() & scope);

	*irq_scope |= irq_opened;
	__memalloc_scope_set(__memalloc_scope_get() | scope);
	opened |= (__force unsigned int)irq_opened << MEMALLOC_SCOPE_COOKIE_IRQ;
	trace_opened(scope, opened, _RET_IP_);
	return memalloc_debug_opened_by(scope, opened, _RET_IP_);
}
EXPORT_SYMBOL(__memalloc_scope_save_irq);

/**
 * __memalloc_scope_restore_irq - close scopes that an interrupt handler has opened
 * @cookie: what __memalloc_scope_save_irq() returned
 *
 * Callers use memalloc_scope_restore().
 *
 * Context: That of the __memalloc_scope_save_irq().
 */
void __memalloc_scope_restore_irq(unsigned int cookie)
{
	memalloc_scope_t *irq_scope = this_cpu_ptr(&memalloc_irq_scope[!!in_nmi()]);

	__memalloc_scope_restore(cookie);
	*irq_scope &= (__force memalloc_scope_t)~(cookie >> MEMALLOC_SCOPE_COOKIE_IRQ);
}
EXPORT_SYMBOL(__memalloc_scope_restore_irq);

/**
 * memalloc_scope_from_gfp - the scopes that stand for a gfp mask
 * @gfp: the mask
 *
 * For code that is given a mask and has to call something that takes none, as
 * the page tables of vmalloc. Open what this returns, best by guard(memalloc_gfp).
 *
 * There is no scope for "reclaim, but fail rather than invoke the OOM killer".
 * __GFP_NORETRY and __GFP_RETRY_MAYFAIL become nowait, which at least does not.
 *
 * Context: Any context.
 * Return: the scopes in which a GFP_KERNEL request is treated as @gfp would be.
 */
memalloc_scope_t memalloc_scope_from_gfp(gfp_t gfp)
{
	memalloc_scope_t scope = MEMALLOC_SCOPE_NONE;

	if (!(gfp & __GFP_IO))
		scope |= MEMALLOC_SCOPE_NOIO;
	else if (!(gfp & __GFP_FS))
		scope |= MEMALLOC_SCOPE_NOFS;

	if (gfp & __GFP_NOFAIL)
		return scope;

	if (!(gfp & __GFP_DIRECT_RECLAIM) ||
	    (gfp & (__GFP_NORETRY | __GFP_RETRY_MAYFAIL)))
		scope |= MEMALLOC_SCOPE_NOWAIT;
	if (gfp & __GFP_NOWARN)
		scope |= MEMALLOC_SCOPE_NOWARN;
	return scope;
}
EXPORT_SYMBOL_GPL(memalloc_scope_from_gfp);

/* Not a matter of debugging, as memalloc_nowait_nofail() is: it may end in an oops. */
static void memalloc_nolock_nofail(gfp_t gfp)
{
	WARN(1, "request that must not fail (%pGg) in a nolock scope opened by %pS\n",
	     &gfp, memalloc_opened_at(MEMALLOC_SCOPE_NOLOCK));
}

/* Reclaim runs in noreclaim: that one is not what the request was made in. */
static memalloc_scope_t request_scope(void)
{
	return current_memalloc_scope() & ~MEMALLOC_SCOPE_NORECLAIM;
}

void __memalloc_slowpath_end(u64 start, gfp_t asked, gfp_t gfp, unsigned int order, bool failed)
{
	memalloc_scope_t scope = request_scope();

	if (asked && asked != gfp)
		trace_memalloc_slowpath((__force u8)scope, (unsigned long)memalloc_opened_at(scope),
					asked, gfp, order, failed, local_clock() - start);
}

void __memalloc_reclaim_end(u64 start, gfp_t gfp, unsigned int order, unsigned long scanned,
			    unsigned long reclaimed)
{
	memalloc_scope_t scope = request_scope();

	trace_memalloc_reclaim((__force u8)scope, (unsigned long)memalloc_opened_at(scope), gfp,
			       order, scanned, reclaimed, local_clock() - start);
}

static const struct {
	memalloc_scope_t scope;
	const char *name;
} scope_names[] = {
	{ MEMALLOC_SCOPE_NOFS,		"nofs" },
	{ MEMALLOC_SCOPE_NOIO,		"noio" },
	{ MEMALLOC_SCOPE_PIN,		"pin" },
	{ MEMALLOC_SCOPE_NORECLAIM,	"noreclaim" },
	{ MEMALLOC_SCOPE_IO_FLUSHER,	"io_flusher" },
	{ MEMALLOC_SCOPE_NOWAIT,	"nowait" },
	{ MEMALLOC_SCOPE_NOWARN,	"nowarn" },
	{ MEMALLOC_SCOPE_NOLOCK,	"nolock" },
};

/**
 * memalloc_scope_names - spell out a set of scopes
 * @scope: the scopes
 * @buf: where to put the names
 * @size: size of @buf; MEMALLOC_SCOPE_NAMES_MAX is enough for all of them
 *
 * Names are separated by one blank, "none" stands for the empty set. A name that
 * does not fit is cut off.
 *
 * Context: Any context.
 * Return: @buf.
 */
const char *memalloc_scope_names(memalloc_scope_t scope, char *buf, size_t size)
{
	size_t len = 0;

	for (int i = 0; i < ARRAY_SIZE(scope_names); i++) {
		if (scope & scope_names[i].scope)
			len += scnprintf(buf + len, size - len, "%s%s",
					 len ? " " : "", scope_names[i].name);
	}
	if (!len)
		scnprintf(buf, size, "none");
	return buf;
}
EXPORT_SYMBOL_GPL(memalloc_scope_names);
