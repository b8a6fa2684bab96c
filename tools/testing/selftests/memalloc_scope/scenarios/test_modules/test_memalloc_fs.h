/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * What user space asks of the test_memalloc_fs module: ioctls of
 * /dev/test_memalloc_fs. It watches one mounted file system for reclaim that runs
 * inside one of its transactions, and for such reclaim coming back to it.
 *
 * One open file watches at a time, until it is closed.
 */
#ifndef _TEST_MEMALLOC_FS_H
#define _TEST_MEMALLOC_FS_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define TMF_DEV		"/dev/test_memalloc_fs"

/* Look at each page allocated, too, and log the callers that tmf_count::scope_only counts */
#define TMF_PAGES	0x1
#define TMF_STACKS	0x2

struct tmf_watch {
	__s32 fd;			/* of a file on it */
	__u32 flags;			/* TMF_* */
};

/* All of these count what happened inside a transaction. */
struct tmf_count {
	__u64 direct;			/* direct reclaim for a page */
	__u64 memcg;			/* the same for a charge */
	__u64 recursions;		/* caches of the same file system were pruned */
	__u64 others;			/* those of another one */
	__u64 scope_only;		/* pages asked for with __GFP_FS */
	__u64 transactions;		/* as far as they can be counted: xfs only */
	__u64 missed;			/* events that the probes missed */
};

/* EBUSY: another one is watching; EINVAL: the kernel lacks what is to be probed */
#define TMF_IOC_WATCH		_IOW('~', 0x70, struct tmf_watch)
#define TMF_IOC_READ		_IOR('~', 0x71, struct tmf_count)

#endif /* _TEST_MEMALLOC_FS_H */
