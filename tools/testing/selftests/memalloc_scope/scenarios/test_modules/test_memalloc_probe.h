/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What user space asks of the test_memalloc_probe module: ioctls of
 * /dev/test_memalloc_probe. It counts who calls a function of the kernel, and with
 * which scopes open; and it can make scopes ineffective for as long as such a
 * function runs, which is what a test looks like when it has to fail.
 *
 * Probes belong to the open file, and go with it.
 */
#ifndef _TEST_MEMALLOC_PROBE_H
#define _TEST_MEMALLOC_PROBE_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define TMP_DEV			"/dev/test_memalloc_probe"
#define TMP_PROBES		16	/* of one open file */
#define TMP_SYMBOL		64
#define TMP_SCOPES		7	/* TMS_NOFS is bit 0, ... TMS_IO_FLUSHER bit 6 */

struct tmp_probe {
	/* in */
	char symbol[TMP_SYMBOL];	/* function */
	__u32 clear;			/* TMS_*: ineffective while it runs */
	__u32 task;			/* only in this one, 0: in all */
	__u32 outer;			/* others may be within this one */
	__u32 within;			/* 1 + index of an outer one, which has to be
					 * on the stack; 0: called from anywhere
					 */
	/* out */
	__u32 index;
	__u32 pad;
};

struct tmp_count {
	/* in */
	__u32 index;
	__u32 pad;
	/* out: calls in a hardirq count, but have no scopes */
	__u64 calls;
	__u64 softirq;			/* while serving a softirq */
	__u64 open[TMP_SCOPES];		/* with that scope open */
	__u64 softirq_open[TMP_SCOPES];	/* of these, in a softirq */
	__u64 journal;			/* with current->journal_info */
	__u64 reclaim;			/* in direct reclaim or kswapd */
	__u64 journal_reclaim;		/* both */
	__u64 cleared;			/* scopes were made ineffective */
	__u64 missed;			/* by the probe: too many at once */
};

/* EINVAL: no such function, or it cannot be probed */
#define TMP_IOC_ADD		_IOWR('~', 0x60, struct tmp_probe)
#define TMP_IOC_READ		_IOWR('~', 0x61, struct tmp_count)

#endif /* _TEST_MEMALLOC_PROBE_H */
