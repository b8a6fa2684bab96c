/* SPDX-License-Identifier: GPL-2.0 */
/* What memalloc_scope_nolock asks of the test_memalloc_scope module. */
#ifndef _TEST_MEMALLOC_NOLOCK_H
#define _TEST_MEMALLOC_NOLOCK_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Requests, all of them with GFP_KERNEL: it is the scope that makes them legal. */
enum tms_nolock_entry {
	TMS_NL_PAGE,
	TMS_NL_ORDER3,
	TMS_NL_PAGES,		/* in bulk */
	TMS_NL_FOLIO,		/* of two pages */
	TMS_NL_KMALLOC,		/* 64 bytes */
	TMS_NL_KMALLOC_PAGE,
	TMS_NL_KMALLOC_LARGE,	/* which the page allocator serves */
	TMS_NL_CACHE,
	TMS_NL_BULK,
	TMS_NL_DEBUG,		/* of a cache with consistency checks, so without sheaves */
	TMS_NL_ENTRIES,
};

enum tms_nolock_load {
	TMS_LOAD_PAGE,
	TMS_LOAD_SLAB,
	TMS_LOAD_DEBUG,
};

enum tms_nolock_hook {
	TMS_HOOK_TIMER,		/* a hard interrupt */
	TMS_HOOK_TRACE,		/* a tracepoint */
	TMS_HOOK_KPROBE,	/* by breakpoint: in_nmi() is true */
	TMS_HOOK_JUMP,		/* that the kernel may turn into a jump: it is not */
};

#define TMS_SYMBOL	48
#define TMS_PLACES	6

/* Keep an allocator busy, and allocate and free in a nolock scope on top of that. */
struct tms_nolock {
	/* in */
	__u32 scopes;		/* 0 */
	__u32 load;		/* enum tms_nolock_load */
	__u32 hook;		/* enum tms_nolock_hook */
	__u32 shots;
	__u32 max_ms;
	char symbol[TMS_SYMBOL];	/* of a hook that is no timer; ENOENT: no such */
	/* out */
	__u32 rt;		/* PREEMPT_RT: nothing to be had in interrupts */
	__u32 slab;		/* slub can do without locks on this machine */
	__u32 pad;
	__u64 hits;
	__u64 nmi;		/* in_nmi() */
	__u64 inside;		/* on top of the allocator, not of the test itself */
	__u64 pcp;		/* the CPU's list of pages was locked below */
	__u64 zone;		/* a zone was */
	__u64 tries[TMS_NL_ENTRIES];
	__u64 got[TMS_NL_ENTRIES];
	__u64 freed;		/* what a hit has obtained, */
	__u64 handed;		/* and what the task has, both of them by a hit */
	__u64 left;		/* freed by the task */
	__u64 broken;		/* obtained, but what was written did not stay */
	__u64 leaks;		/* the task's scopes were not put back */
	struct {
		char name[TMS_SYMBOL];
		__u32 hits;
	} place[TMS_PLACES];	/* what was interrupted most */
};

/* Ask for memory where there is none but the reserves */
struct tms_exhaust {
	/* in */
	__u32 scopes;		/* 0 */
	__u32 tries;		/* of each */
	__u32 max_ms;
	__u32 max_mb;		/* do nothing if more than that is available */
	/* out */
	__u32 is_short;
	__u32 oom;
	__u32 rounds;		/* until nobody else had freed memory in between */
	__u32 pad;
	__u64 refused;
	__u64 got;		/* in the last round, */
	__u64 taken;		/* and what the zones had less after it */
	__u64 reclaims;		/* direct reclaim in the scope, */
	__u64 wakeups;		/* and of kswapd */
	__u64 max_ns;
	__u64 control;		/* direct reclaim for the same without the scope */
	__u64 min_free, min_wmark;
};

enum tms_free_where {
	TMS_FREE_RAW,		/* holding a raw lock, interrupts off */
	TMS_FREE_SOFTIRQ,
	TMS_FREE_HARDIRQ,
};

/* Charge to a cgroup without tasks, free all of it in a nolock scope */
struct tms_account {
	/* in */
	__u32 scopes;		/* 0 */
	__u32 where;		/* enum tms_free_where */
	__s32 cgroup;		/* its directory */
	__u32 objects;		/* of a cache of its own; 0: see tms_account_nudge() */
	__u32 max_ms;
	/* out */
	__u32 pad;
	__u64 obtained;		/* objects of the cache, */
	__u64 in_scope;		/* of these in the scope, */
	__u64 kmalloced;
	__u64 pages;		/* single ones and blocks */
	__u64 broken;
};

enum tms_charge {
	TMS_CHARGE_PAGE,
	TMS_CHARGE_KMALLOC,
	TMS_CHARGE_CACHE,
	TMS_CHARGE_BULK,
	TMS_CHARGE_NOLOCK,	/* kmalloc_nolock() */
	TMS_CHARGES,
};

/* Charge to a cgroup without tasks that is at its limit, holding a raw lock */
struct tms_full {
	/* in */
	__u32 scopes;		/* 0 */
	__s32 cgroup;
	__u32 tries;
	__u32 outside;		/* kmalloc_nolock() outside of any scope, alone */
	/* out */
	__u32 lockdep;		/* it has complained */
	__u32 lockdep_off;	/* it would not */
	__u64 got[TMS_CHARGES];
	__u64 refused[TMS_CHARGES];
	__u64 reclaims;		/* of the cgroup: in the scope, */
	__u64 control;		/* and without */
};

#define TMS_IOC_NOLOCK		_IOWR('~', 0x60, struct tms_nolock)
#define TMS_IOC_EXHAUST		_IOWR('~', 0x61, struct tms_exhaust)
#define TMS_IOC_ACCOUNT		_IOWR('~', 0x62, struct tms_account)
#define TMS_IOC_FULL		_IOWR('~', 0x63, struct tms_full)

#endif /* _TEST_MEMALLOC_NOLOCK_H */
