/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What user space asks of the test_memalloc_examples module: to run one of the
 * examples of Documentation/core-api/memalloc-scope.rst, and to say what reclaim
 * has done meanwhile.
 */
#ifndef _TEST_MEMALLOC_EXAMPLES_H
#define _TEST_MEMALLOC_EXAMPLES_H

#include <linux/ioctl.h>
#include <linux/types.h>

enum tme_example_nr { TME_FS, TME_BLOCK, TME_NET, TME_EXAMPLES };

/* Places where an example allocates, and what it does at each */
#define TME_PLACES	5
enum { TME_FS_TRANSACTION, TME_FS_LOCK, TME_FS_WORK };
enum { TME_BLOCK_SUSPEND, TME_BLOCK_LOCK, TME_BLOCK_WORK, TME_BLOCK_THREAD };
enum { TME_NET_SEND, TME_NET_HELPER, TME_NET_RECEIVE, TME_NET_BATCH };
/* and what the task does that runs it, with nothing held and no scope open */
#define TME_OUTSIDE	4

struct tme_place {
	__u64 objects;		/* got here */
	__u64 refused;		/* requests that failed */
	__u64 reclaims;		/* calls of the shrinker on behalf of a request */
	__u64 wrong;		/* of these, by the mask that they were told, those
				 * that would have waited for themselves
				 */
};

struct tme_run {
	/* in */
	__u32 example;
	__u32 careless;		/* by somebody who has not read the guide */
	__u32 ops;
	__u32 pad;
	__u64 batch;		/* TME_NET: bytes of the buffer for many requests */
	/* out */
	__s32 error;		/* other than -ENOMEM, or 0 */
	__u32 entered;		/* times reclaim went all the way, as it may outside */
	__u32 fallbacks;	/* TME_NET: times there was no buffer */
	__u32 pad2;
	struct tme_place place[TME_PLACES];
};

#define TME_IOC_RUN	_IOWR('~', 0x70, struct tme_run)

#endif /* _TEST_MEMALLOC_EXAMPLES_H */
