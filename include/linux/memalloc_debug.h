/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Checks that allocation scopes are used as they are meant to be: hooks for
 * <linux/memalloc_scope.h> and for the places at which no scope may be open.
 * Nobody else needs this header. Documentation/dev-tools/memalloc-scope.rst says
 * how to read the reports.
 *
 * CONFIG_CHECK_MEMALLOC_SCOPE looks at the byte alone, where a task returns to user
 * space and at the end of a work item. CONFIG_DEBUG_MEMALLOC_SCOPE keeps a record of
 * each save, so that a report can name it, and so that a restore which does not
 * belong to it is found. Without either, nothing is left of all this.
 */
#ifndef _LINUX_MEMALLOC_DEBUG_H
#define _LINUX_MEMALLOC_DEBUG_H

#include <linux/compiler.h>
#include <linux/gfp_types.h>
#include <linux/memalloc_scope_types.h>
#include <linux/sched.h>
#include <linux/tracepoint-defs.h>

/* Where no scope may be open, but for those that were before. */
enum memalloc_place {
	MEMALLOC_AT_USER,		/* return to user space */
	MEMALLOC_AT_WORK_END,		/* a work item has returned */
	MEMALLOC_AT_EXIT,		/* a thread exits */
	MEMALLOC_AT_ENTRY,		/* a thread begins */
	MEMALLOC_AT_FREEZER,		/* a task freezes */
	MEMALLOC_AT_SOFTIRQ_END,	/* a softirq handler has returned */
	MEMALLOC_AT_HARDIRQ_END,	/* a hard interrupt is over */
};

/*
 * What is open at one moment, to compare with: see memalloc_mark(). Empty if nobody
 * compares.
 */
struct memalloc_mark {
#ifdef CONFIG_CHECK_MEMALLOC_SCOPE
	memalloc_scope_t	scope;
#endif
#ifdef CONFIG_DEBUG_MEMALLOC_SCOPE
	unsigned int		depth;
#endif
};

#ifdef CONFIG_CHECK_MEMALLOC_SCOPE
void __memalloc_left_open(struct memalloc_mark mark, enum memalloc_place place, const void *func);
void __memalloc_not_none(enum memalloc_place place);
/* For tests, which have the same reported again. */
void memalloc_debug_forget(void);

/* Scopes that are meant to be open: as long as a thread lives, or by a test. */
static inline void memalloc_debug_expect(memalloc_scope_t scope)
{
	current->memalloc_expected |= scope;
}

static inline void memalloc_debug_unexpect(memalloc_scope_t scope)
{
	current->memalloc_expected &= ~scope;
}
#else
static inline void memalloc_debug_expect(memalloc_scope_t scope) { }
static inline void memalloc_debug_unexpect(memalloc_scope_t scope) { }
#endif

#ifdef CONFIG_DEBUG_MEMALLOC_SCOPE
unsigned int memalloc_debug_opened_by(memalloc_scope_t scope, unsigned int cookie,
				      unsigned long ip);
unsigned int memalloc_debug_opened(memalloc_scope_t scope, unsigned int cookie);
unsigned int memalloc_debug_closed(unsigned int cookie, memalloc_scope_t kind);
void memalloc_debug_replaced(memalloc_scope_t scope, memalloc_scope_t old);
void memalloc_debug_put_back(memalloc_scope_t old);
void memalloc_nowait_nofail(gfp_t gfp);
void *memalloc_opened_at(memalloc_scope_t scope);
unsigned int memalloc_depth(void);
void memalloc_debug_hardirq_end(void);
#else
static __always_inline unsigned int
memalloc_debug_opened_by(memalloc_scope_t scope, unsigned int cookie, unsigned long ip)
{
	return cookie;
}

static __always_inline unsigned int
memalloc_debug_opened(memalloc_scope_t scope, unsigned int cookie)
{
	return cookie;
}

static __always_inline unsigned int
memalloc_debug_closed(unsigned int cookie, memalloc_scope_t kind)
{
	return cookie;
}

static __always_inline void
memalloc_debug_replaced(memalloc_scope_t scope, memalloc_scope_t old) { }
static __always_inline void memalloc_debug_put_back(memalloc_scope_t old) { }
static inline void memalloc_nowait_nofail(gfp_t gfp) { }
static inline void *memalloc_opened_at(memalloc_scope_t scope) { return NULL; }
static inline void memalloc_debug_hardirq_end(void) { }
#endif

#ifdef CONFIG_TRACE_MEMALLOC_SCOPE
DECLARE_TRACEPOINT(memalloc_open);
DECLARE_TRACEPOINT(memalloc_close);
void memalloc_trace_opened(memalloc_scope_t scope, unsigned int cookie);
void memalloc_trace_closed(memalloc_scope_t scope);
#define memalloc_trace_enabled(event)	tracepoint_enabled(event)
#else
static inline void memalloc_trace_opened(memalloc_scope_t scope, unsigned int cookie) { }
static inline void memalloc_trace_closed(memalloc_scope_t scope) { }
#define memalloc_trace_enabled(event)	false
#endif

/**
 * memalloc_debug_fork - a new task has opened nothing yet
 * @p: the new task, a copy of its parent
 *
 * Context: copy_process().
 */
static inline void memalloc_debug_fork(struct task_struct *p)
{
#ifdef CONFIG_CHECK_MEMALLOC_SCOPE
	p->memalloc_expected = MEMALLOC_SCOPE_NONE;
#endif
#ifdef CONFIG_DEBUG_MEMALLOC_SCOPE
	p->memalloc_debug = (struct memalloc_debug){ };
#endif
}

/* What is open here, be it in the middle of a save. */
static __always_inline memalloc_scope_t __memalloc_open(void)
{
	/* data_race(): an interrupt may write it, but only what it then puts back. */
	return data_race(current->memalloc_scope);
}

/**
 * memalloc_opened - a save is about to open scopes
 * @scope: the scopes that were asked for
 * @cookie: what it would return without debugging
 *
 * Context: Any context.
 * Return: what it is to return.
 */
static __always_inline unsigned int memalloc_opened(memalloc_scope_t scope, unsigned int cookie)
{
	if (memalloc_trace_enabled(memalloc_open))
		memalloc_trace_opened(scope, cookie);
	return memalloc_debug_opened(scope, cookie);
}

/**
 * memalloc_closed - a restore is about to close scopes
 * @cookie: what it was given
 * @kind: the scope that it is for; none if it is for any
 *
 * Context: Any context.
 * Return: what the cookie would be without debugging.
 */
static __always_inline unsigned int memalloc_closed(unsigned int cookie, memalloc_scope_t kind)
{
	unsigned int plain = memalloc_debug_closed(cookie, kind);

	if (memalloc_trace_enabled(memalloc_close) && cookie)
		memalloc_trace_closed(kind ?: (__force memalloc_scope_t)plain);
	return plain;
}

/**
 * memalloc_replaced - other scopes are about to be opened in place of those open
 * @scope: the scopes that will be open
 * @old: those that are, as memalloc_put_back() will be told
 *
 * Context: Any context.
 */
static __always_inline void memalloc_replaced(memalloc_scope_t scope, memalloc_scope_t old)
{
	if (memalloc_trace_enabled(memalloc_open))
		memalloc_trace_opened(scope, (__force unsigned int)(scope & ~old));
	memalloc_debug_replaced(scope, old);
}

/**
 * memalloc_put_back - what was replaced is about to be put back
 * @old: what memalloc_replaced() was told
 *
 * Context: That of memalloc_replaced().
 */
static __always_inline void memalloc_put_back(memalloc_scope_t old)
{
	if (memalloc_trace_enabled(memalloc_close))
		memalloc_trace_closed(__memalloc_open() & ~old);
	memalloc_debug_put_back(old);
}

#ifdef CONFIG_PROVE_MEMALLOC_SCOPE
memalloc_scope_t memalloc_prove_hold(memalloc_scope_t scope, unsigned long ip);
void memalloc_prove_release(memalloc_scope_t scope, unsigned long ip);
void __io_reclaim_acquire(unsigned long ip);
void __io_reclaim_release(unsigned long ip);
void memalloc_scope_untrack(void);
int memalloc_prove_held_for_life(void);
#else
static inline memalloc_scope_t memalloc_prove_hold(memalloc_scope_t scope, unsigned long ip)
{
	return MEMALLOC_SCOPE_NONE;
}

static inline void memalloc_prove_release(memalloc_scope_t scope, unsigned long ip) { }
static inline void __io_reclaim_acquire(unsigned long ip) { }
static inline void __io_reclaim_release(unsigned long ip) { }
static inline void memalloc_scope_untrack(void) { }
static inline int memalloc_prove_held_for_life(void) { return 0; }
#endif

/**
 * memalloc_mark - remember what is open
 *
 * Context: Any context.
 * Return: what memalloc_check_mark() compares with.
 */
static __always_inline struct memalloc_mark memalloc_mark(void)
{
	return (struct memalloc_mark){
#ifdef CONFIG_CHECK_MEMALLOC_SCOPE
		.scope = __memalloc_open(),
#endif
#ifdef CONFIG_DEBUG_MEMALLOC_SCOPE
		.depth = memalloc_depth(),
#endif
	};
}

/**
 * memalloc_check_mark - report what was opened since, and not closed
 * @mark: what memalloc_mark() returned, in the same task and context
 * @place: where we are
 * @func: what ran since, for the report
 *
 * Closes what is reported.
 *
 * Context: That of memalloc_mark().
 */
static __always_inline void memalloc_check_mark(struct memalloc_mark mark,
						enum memalloc_place place,
						const void *func)
{
#ifdef CONFIG_CHECK_MEMALLOC_SCOPE
	bool left = __memalloc_open() != mark.scope;

#ifdef CONFIG_DEBUG_MEMALLOC_SCOPE
	left |= memalloc_depth() != mark.depth;
#endif
	if (unlikely(left))
		__memalloc_left_open(mark, place, func);
#endif
}

/**
 * memalloc_check_none - report what is open where nothing may be
 * @place: where we are
 *
 * Nothing but what is no leak: being an I/O flusher, and scopes for life. Closes
 * what is reported.
 *
 * Context: Any context.
 */
static __always_inline void memalloc_check_none(enum memalloc_place place)
{
#ifdef CONFIG_CHECK_MEMALLOC_SCOPE
	bool open = __memalloc_open() & ~MEMALLOC_SCOPE_IO_FLUSHER;

#ifdef CONFIG_DEBUG_MEMALLOC_SCOPE
	open |= memalloc_depth();
#endif
	if (unlikely(open))
		__memalloc_not_none(place);
#endif
}

/**
 * memalloc_debug_none - memalloc_check_none(), for where it is too much for production
 * @place: where we are
 *
 * Context: Any context.
 */
static __always_inline void memalloc_debug_none(enum memalloc_place place)
{
	if (IS_ENABLED(CONFIG_DEBUG_MEMALLOC_SCOPE))
		memalloc_check_none(place);
}

/**
 * memalloc_debug_softirq_end - report what a softirq handler has left open
 * @action: the handler
 *
 * Context: Between memalloc_scope_borrow() and memalloc_scope_give_back().
 */
static __always_inline void memalloc_debug_softirq_end(const void *action)
{
	if (IS_ENABLED(CONFIG_DEBUG_MEMALLOC_SCOPE))
		memalloc_check_mark((struct memalloc_mark){ }, MEMALLOC_AT_SOFTIRQ_END, action);
}

#endif /* _LINUX_MEMALLOC_DEBUG_H */
