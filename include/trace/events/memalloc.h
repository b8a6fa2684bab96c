/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM memalloc

#if !defined(_TRACE_MEMALLOC_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_MEMALLOC_H

#include <linux/memalloc_scope_types.h>
#include <linux/tracepoint.h>
#include <trace/events/mmflags.h>

#define __memalloc_flag(_scope, _name)	\
	{ (__force unsigned long)MEMALLOC_SCOPE_##_scope, _name }

#define show_memalloc_scope(scope)					\
	(scope) ? __print_flags(scope, " ",				\
		__memalloc_flag(NOFS,		"nofs"),		\
		__memalloc_flag(NOIO,		"noio"),		\
		__memalloc_flag(PIN,		"pin"),			\
		__memalloc_flag(NORECLAIM,	"noreclaim"),		\
		__memalloc_flag(IO_FLUSHER,	"io_flusher"),		\
		__memalloc_flag(NOWAIT,		"nowait"),		\
		__memalloc_flag(NOWARN,		"nowarn"),		\
		__memalloc_flag(NOLOCK,		"nolock")) : "none"

#ifdef CONFIG_CHECK_MEMALLOC_SCOPE
/* A scope that is not used as it should be, in the words of the warning that follows. */
TRACE_EVENT(memalloc_misuse,

	TP_PROTO(const char *text),

	TP_ARGS(text),

	TP_STRUCT__entry(
		__string(text, text)
	),

	TP_fast_assign(
		__assign_str(text);
	),

	TP_printk("%s", __get_str(text))
);
#endif

#ifdef CONFIG_TRACE_MEMALLOC_SCOPE
/* @opened: what of @scope was not open before. */
TRACE_EVENT(memalloc_open,

	TP_PROTO(unsigned long ip, u8 scope, u8 opened),

	TP_ARGS(ip, scope, opened),

	TP_STRUCT__entry(
		__field(unsigned long,	ip)
		__field(u8,		scope)
		__field(u8,		opened)
	),

	TP_fast_assign(
		__entry->ip = ip;
		__entry->scope = scope;
		__entry->opened = opened;
	),

	TP_printk("%pS scope=%s opened=%s", (void *)__entry->ip,
		  show_memalloc_scope(__entry->scope), show_memalloc_scope(__entry->opened))
);

TRACE_EVENT(memalloc_close,

	TP_PROTO(unsigned long ip, u8 scope),

	TP_ARGS(ip, scope),

	TP_STRUCT__entry(
		__field(unsigned long,	ip)
		__field(u8,		scope)
	),

	TP_fast_assign(
		__entry->ip = ip;
		__entry->scope = scope;
	),

	TP_printk("%pS scope=%s", (void *)__entry->ip, show_memalloc_scope(__entry->scope))
);
#endif

/*
 * A request that a scope has changed, and that found no free page at once: how long it
 * took then. @opener is known with CONFIG_DEBUG_MEMALLOC_SCOPE.
 */
TRACE_EVENT(memalloc_slowpath,

	TP_PROTO(u8 scope, unsigned long opener, gfp_t asked, gfp_t gfp, unsigned int order,
		 bool failed, u64 ns),

	TP_ARGS(scope, opener, asked, gfp, order, failed, ns),

	TP_STRUCT__entry(
		__field(unsigned long,	opener)
		__field(unsigned long,	asked)
		__field(unsigned long,	gfp)
		__field(u64,		ns)
		__field(unsigned int,	order)
		__field(u8,		scope)
		__field(bool,		failed)
	),

	TP_fast_assign(
		__entry->opener = opener;
		__entry->asked = (__force unsigned long)asked;
		__entry->gfp = (__force unsigned long)gfp;
		__entry->ns = ns;
		__entry->order = order;
		__entry->scope = scope;
		__entry->failed = failed;
	),

	TP_printk("scope=%s opener=%pS asked=%s gfp_flags=%s order=%u failed=%d ns=%llu",
		  show_memalloc_scope(__entry->scope), (void *)__entry->opener,
		  show_gfp_flags(__entry->asked), show_gfp_flags(__entry->gfp),
		  __entry->order, __entry->failed, __entry->ns)
);

/* Direct reclaim, of a memory cgroup or of all memory, and the scope of the request */
TRACE_EVENT(memalloc_reclaim,

	TP_PROTO(u8 scope, unsigned long opener, gfp_t gfp, unsigned int order,
		 unsigned long scanned, unsigned long reclaimed, u64 ns),

	TP_ARGS(scope, opener, gfp, order, scanned, reclaimed, ns),

	TP_STRUCT__entry(
		__field(unsigned long,	opener)
		__field(unsigned long,	gfp)
		__field(unsigned long,	scanned)
		__field(unsigned long,	reclaimed)
		__field(u64,		ns)
		__field(unsigned int,	order)
		__field(u8,		scope)
	),

	TP_fast_assign(
		__entry->opener = opener;
		__entry->gfp = (__force unsigned long)gfp;
		__entry->scanned = scanned;
		__entry->reclaimed = reclaimed;
		__entry->ns = ns;
		__entry->order = order;
		__entry->scope = scope;
	),

	TP_printk("scope=%s opener=%pS gfp_flags=%s order=%u scanned=%lu reclaimed=%lu ns=%llu",
		  show_memalloc_scope(__entry->scope), (void *)__entry->opener,
		  show_gfp_flags(__entry->gfp), __entry->order, __entry->scanned,
		  __entry->reclaimed, __entry->ns)
);

#endif /* _TRACE_MEMALLOC_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
