/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What user space asks of the test_memalloc_contig module: contiguous memory, as
 * a driver asks for it, from the CMA area that is for all devices.
 */
#ifndef _TEST_MEMALLOC_CONTIG_H
#define _TEST_MEMALLOC_CONTIG_H

#include <linux/ioctl.h>
#include <linux/types.h>

struct tmc_contig {
	/* in */
	__u32 scopes;		/* TMS_* */
	__u32 pad;
	__u64 size;
	/* out */
	__s32 error;		/* of the area, 0 or negative */
	__u32 attempts;		/* places tried in the area */
	__u64 ns;
	/* out: the area, as it was found */
	__u64 pages;
	__u64 cached;		/* pages of files */
	__u64 dirty;		/* of these, dirty */
};

#define TMC_IOC_ALLOC	_IOWR('~', 0x62, struct tmc_contig)

#endif /* _TEST_MEMALLOC_CONTIG_H */
