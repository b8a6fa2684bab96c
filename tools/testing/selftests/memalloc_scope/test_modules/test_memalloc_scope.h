/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What user space asks of the test_memalloc_scope module: ioctls of
 * /dev/test_memalloc_scope. Everything runs in the context of the calling task, or
 * in that of the io_uring worker that gets it as IORING_OP_URING_CMD: the ioctl in
 * sqe->cmd_op, the address of its argument in sqe->cmd.
 *
 * Scopes and gfp masks have numbers of their own here, as those of the kernel
 * are no business of user space and change at will.
 */
#ifndef _TEST_MEMALLOC_SCOPE_H
#define _TEST_MEMALLOC_SCOPE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* scopes */
#define TMS_NOFS		0x01
#define TMS_NOIO		0x02
#define TMS_PIN			0x04
#define TMS_NORECLAIM		0x08
#define TMS_NOWAIT		0x10
#define TMS_NOWARN		0x20
#define TMS_IO_FLUSHER		0x40
#define TMS_UNKNOWN		0x80	/* a bit that the module has no name for */
#define TMS_NOLOCK		0x100
/* what a task can open by itself, from inside the kernel, and still allocate */
#define TMS_SCOPES		(TMS_NOFS | TMS_NOIO | TMS_PIN | TMS_NORECLAIM | \
				 TMS_NOWAIT | TMS_NOWARN)
/* what applies to a hard interrupt, if that has opened it */
#define TMS_IRQ_SCOPES		(TMS_NOWARN | TMS_NOLOCK)

/* the bits of a gfp mask that matter here */
#define TMS_GFP_FS		0x01
#define TMS_GFP_IO		0x02
#define TMS_GFP_DIRECT_RECLAIM	0x04
#define TMS_GFP_KSWAPD		0x08
#define TMS_GFP_MOVABLE		0x10
#define TMS_GFP_HIGH		0x20
#define TMS_GFP_NOWARN		0x40
#define TMS_GFP_OTHER		0x80	/* any other bit differs from what was asked */
#define TMS_GFP_NOFAIL		0x100

enum tms_request {
	TMS_REQ_KERNEL,
	TMS_REQ_HIGHUSER_MOVABLE,
	TMS_REQ_NOFS,
	TMS_REQ_NOIO,
	TMS_REQ_ATOMIC,
	TMS_REQ_NOWAIT,
	TMS_REQ_MAX,		/* of those that any allocator takes, and may refuse */
	TMS_REQ_NOFAIL = TMS_REQ_MAX,
	TMS_REQ_RETRY_MAYFAIL,
	TMS_REQUESTS,
};

#define TMS_TEXT		128

/* gfp masks that were seen */
struct tms_seen {
	__u64 count;
	__u32 any;		/* TMS_GFP_*: set in one of them at least */
	__u32 all;		/* TMS_GFP_*: set in every one of them */
	char text[TMS_TEXT];	/* the last one, as the kernel prints it */
};

/* what the calling task has open, and what its queries say */
struct tms_query {
	__u32 open;
	__u32 active;
};

enum tms_where {
	TMS_IN_TASK,
	TMS_BH_OFF,		/* in the task, with softirqs disabled */
	TMS_IN_SOFTIRQ,		/* on top of the task */
	TMS_IN_HARDIRQ,		/* likewise; EOPNOTSUPP on PREEMPT_RT */
	TMS_WHERES,
};

/*
 * Make memory short, open scopes, allocate pages until direct reclaim on behalf
 * of the caller has called the shrinker of the module often enough.
 */
struct tms_reclaim {
	/* in */
	__u32 scopes;
	__u32 request;		/* enum tms_request */
	__u32 calls;		/* of the shrinker */
	__u32 max_ms;
	__u32 max_mb;		/* do nothing if more than that is available */
	__u32 where;		/* not in a softirq; noreclaim only, unless in the task */
	/* out */
	__u32 is_short;		/* memory was short */
	__u32 oom;		/* somebody ran into OOM, and was helped out */
	__u32 asked;
	char asked_text[TMS_TEXT];
	struct tms_seen used;		/* by the page allocator */
	struct tms_seen reclaim;	/* by the shrinker */
	__u64 pages;		/* obtained */
	__u64 failed;		/* refused */
	/* noreclaim and nowait only */
	__u64 reserve_pages;	/* obtained below the min watermark, see module */
	__u64 nomemalloc_null;	/* noreclaim: __GFP_NOMEMALLOC requests refused */
	__u64 min_free;		/* pages: what the zone had left at the least, */
	__u64 min_wmark;	/* where its min watermark is this */
};

/* Charge objects to the memory cgroup of the caller, until it reclaims */
struct tms_memcg {
	/* in */
	__u32 scopes;
	__u32 request;
	__u32 calls;
	__u32 max_objects;	/* of a page each */
	__u32 irq_objects;	/* then, GFP_NOWAIT, in a hardirq on top of the scopes */
	/* out */
	__u32 asked;
	char asked_text[TMS_TEXT];
	struct tms_seen reclaim;
	__u64 objects;
	__u64 failed;
	__u64 irq_charged;
	__u64 irq_failed;
};

enum tms_allocator {
	TMS_ALLOC_VMALLOC,	/* seen: every page that it asked for */
	TMS_ALLOC_PERCPU,	/* seen: the mask that it works with */
	TMS_ALLOC_PAGE,		/* seen: movable for each page from ZONE_MOVABLE */
	TMS_ALLOC_BULK,		/* the same */
	TMS_ALLOC_CONTIG,	/* the same */
	TMS_RELEASE_FOLIO,	/* allocates nothing; seen: what ->release_folio() is told */
};

/* Other ways for a gfp mask than the page allocator's front door */
struct tms_alloc {
	/* in */
	__u32 scopes;
	__u32 request;
	__u32 allocator;	/* enum tms_allocator */
	/* out */
	__u32 asked;
	__u32 left_open;	/* scopes: must be none */
	__u32 pad;
	char asked_text[TMS_TEXT];
	struct tms_seen used;
};

enum tms_kind {
	TMS_HARDIRQ,		/* hrtimer in hardirq; on top of the task itself */
	TMS_IRQ_WORK,		/* irq_work in hardirq, which allocates; likewise */
	TMS_NESTED,		/* irq_work on top of a softirq on top of the task */
	TMS_HRTIMER,		/* HRTIMER_SOFTIRQ */
	TMS_TIMER,		/* TIMER_SOFTIRQ */
	TMS_BH,			/* TASKLET_SOFTIRQ: WQ_BH work */
	TMS_NET_RX,		/* NET_RX_SOFTIRQ: datagrams of the task itself */
	TMS_KINDS,
};

enum tms_rule {
	TMS_RULE_ENTRY,		/* what is open, or applies, on entry */
	TMS_RULE_FOLD,		/* current_gfp_context() */
	TMS_RULE_USED,		/* mask that the page allocator used */
	TMS_RULE_OWN,		/* what a softirq opened itself is there */
	TMS_RULE_QUERY,		/* memalloc_*_active() */
	TMS_RULES,
};

struct tms_hits {
	__u64 hits;		/* on top of the calling task */
	__u64 elsewhere;	/* softirqs in a thread of their own, as on PREEMPT_RT */
	__u64 missed;		/* on top of something else: these do not count */
	__u64 bad[TMS_RULES];	/* violations */
	__u32 rule, got, want;	/* of the first violation */
	__u32 pad;
};

/* Spin with scopes open while interrupts hit */
struct tms_interrupt {
	/* in */
	__u32 scopes;
	__u32 shots;		/* of each kind */
	__u32 patience_ms;	/* an eighth of the shots is enough after that */
	__u32 max_ms;
	/* out */
	__u32 net_error;	/* why there is no network traffic; 0 */
	__u32 rt;		/* PREEMPT_RT: see tms_enough_hits() */
	struct tms_hits kind[TMS_KINDS];
	__u64 checks;		/* that the task made of its own byte */
	__u64 leaks;		/* it was not as the task had left it */
	__u32 leak_got, leak_want;
	__u64 ms;
};

/* Entries to reclaim and to allocators other than the plain ones above */
enum tms_entry_kind {
	TMS_ENTRY_DIRECT,	/* direct reclaim; seen: the mask that it is told */
	TMS_ENTRY_NODE,		/* node reclaim, if vm.zone_reclaim_mode says so */
	TMS_ENTRY_COMPACTION,	/* direct compaction */
	TMS_ENTRY_PGTABLE,	/* a page fault; seen: the masks of its page tables */
	TMS_ENTRY_THP,		/* a page fault; seen: the mask of its huge page */
	TMS_ENTRIES,
};

struct tms_entry {
	/* in */
	__u32 scopes;
	__u32 request;
	__u32 entry;		/* enum tms_entry_kind */
	__u32 calls;		/* of the entry, or of the shrinker if that comes later */
	__u32 max_ms;
	__u32 huge_order;	/* TMS_ENTRY_THP */
	__u64 addr;		/* where to fault */
	/* out */
	__u32 oom;
	__u32 asked;
	char asked_text[TMS_TEXT];
	struct tms_seen entered;
	struct tms_seen reclaim;	/* by the shrinker, called from this entry */
};

/* What a child of the caller, or a kernel thread, starts with */
struct tms_child {
	__u32 scopes;		/* in, TMS_IOC_KTHREAD: open around the creation */
	__u32 open;		/* out */
	__u32 count;		/* out, TMS_IOC_NEWTASK: children since LEAK_OPEN */
	__u32 any;		/* out, TMS_IOC_NEWTASK: what any of them had open */
};

/* Allocate until a request fails, and the kernel reports it */
struct tms_fail {
	/* in */
	__u32 scopes;		/* of the task */
	__u32 where;		/* enum tms_where */
	__u32 own;		/* scopes that the interrupt opens itself */
	__u32 max_blocks;	/* of the largest size: give up after that */
	/* out */
	__u32 failed;		/* 1 if a request was refused */
	__u32 blocks;		/* obtained before that */
};

enum tms_promise {
	TMS_PROMISE_PAGE,	/* of __GFP_NOFAIL */
	TMS_PROMISE_MEMPOOL,	/* of mempool_alloc() with a mask that may wait */
	TMS_PROMISES,
};

/* Ask for what must not fail; EOPNOTSUPP without CONFIG_DEBUG_MEMALLOC_SCOPE */
struct tms_nofail {
	__u32 scopes;		/* in */
	__u32 promise;		/* in, enum tms_promise */
	__u32 kept;		/* out: there was something to return */
};

/*
 * Ask vmalloc() for a range without page tables, and take the memory below the min
 * watermark away from it when it has its pages. EOPNOTSUPP on PREEMPT_RT.
 */
struct tms_vmalloc {
	/* in */
	__u32 scopes;
	__u32 request;
	__u32 max_ms;
	__u32 max_mb;		/* do nothing if more than that is available */
	/* out */
	__u32 is_short;
	__u32 oom;
	__u32 mapped;		/* 1 if vmalloc() succeeded */
	__u32 pad;
	__u64 pages;		/* of data, obtained */
	__u64 tables;		/* pages of page tables, obtained after that, */
	__u64 reserve_tables;	/* of these below the min watermark, */
	__u64 refused;		/* and not obtained */
	__u64 min_free;		/* what the zone had left, when memory was taken away, */
	__u64 min_wmark;	/* where its min watermark is this */
};

enum tms_sample {
	TMS_SAMPLE_PAGE,	/* order 0 */
	TMS_SAMPLE_ORDER3,
	TMS_SAMPLE_VMALLOC,	/* 64 KiB */
	TMS_SAMPLES,
};

#define TMS_BUCKETS		36	/* the last one: half a minute and longer */

/* Measure requests: GFP_KERNEL, which may fail in silence */
struct tms_latency {
	/* in */
	__u32 scopes;
	__u32 sample;		/* enum tms_sample */
	__u32 ms;
	__u32 hold_kb;		/* free all, and begin again, after so much or a failure */
	/* out */
	__u64 tries, failed;
	__u64 unusable;		/* obtained, but what was written did not stay */
	__u64 reclaims;		/* direct reclaim on behalf of the caller */
	__u64 p50, p99, max;	/* ns */
	__u64 bucket[TMS_BUCKETS];	/* requests that took 2^n ns, or up to twice as long */
};

/* Write the byte again and again, as it is, while others look at it */
struct tms_rewrite {
	/* in */
	__u32 scopes;
	__u32 ms;
	/* out */
	__u32 changed;		/* it was not as the task had left it */
	__u32 pad;
	__u64 loops;
};

#define TMS_IOC_QUERY		_IOR('~', 0x70, struct tms_query)
#define TMS_IOC_RECLAIM		_IOWR('~', 0x71, struct tms_reclaim)
#define TMS_IOC_MEMCG		_IOWR('~', 0x72, struct tms_memcg)
#define TMS_IOC_ALLOC		_IOWR('~', 0x73, struct tms_alloc)
#define TMS_IOC_INTERRUPT	_IOWR('~', 0x74, struct tms_interrupt)
#define TMS_IOC_KTHREAD		_IOWR('~', 0x75, struct tms_child)
/*
 * Keep scopes open across the return to user space, which nothing but a test
 * of fork() may do.
 */
#define TMS_IOC_LEAK_OPEN	_IO('~', 0x76)	/* argument: scopes */
#define TMS_IOC_LEAK_CLOSE	_IO('~', 0x77)
#define TMS_IOC_NEWTASK		_IOR('~', 0x78, struct tms_child)
#define TMS_IOC_FAIL		_IOWR('~', 0x79, struct tms_fail)
/* EOPNOTSUPP: the kernel has no such entry */
#define TMS_IOC_ENTRY		_IOWR('~', 0x7b, struct tms_entry)
#define TMS_IOC_REWRITE		_IOWR('~', 0x7c, struct tms_rewrite)
/* Sleep, uninterruptible, with scopes open; until woken, or for a minute. */
#define TMS_IOC_SLEEP		_IO('~', 0x7a)	/* argument: scopes */
#define TMS_IOC_WAKE		_IO('~', 0x7f)
/* Forget to close scopes. EOPNOTSUPP: nobody would notice */
#define TMS_IOC_FORGET		_IO('~', 0x6c)	/* argument: scopes */
/* Have the next child begin with scopes. EOPNOTSUPP: nobody would notice */
#define TMS_IOC_GIVE		_IO('~', 0x6b)	/* argument: scopes */
#define TMS_IOC_NOFAIL		_IOWR('~', 0x6d, struct tms_nofail)
#define TMS_IOC_VMALLOC		_IOWR('~', 0x6e, struct tms_vmalloc)
#define TMS_IOC_LATENCY		_IOWR('~', 0x6f, struct tms_latency)

#endif /* _TEST_MEMALLOC_SCOPE_H */
