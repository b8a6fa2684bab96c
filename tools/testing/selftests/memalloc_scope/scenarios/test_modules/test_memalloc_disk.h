/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What user space asks of the test_memalloc_disk module: ioctls of
 * /dev/test_memalloc_disk. The module has two disks to offer whose power
 * management, or reset, allocates memory with GFP_KERNEL, as drivers do:
 *
 * - disk_mb=N: /dev/tmdisk, in N MB of RAM that are taken when the module loads.
 *   Its parent suspends when idle, and the block layer resumes it for the next bio.
 * - usb=1: a driver for USB mass storage. It takes any such device that no other
 *   driver has, or that is written to its "bind" attribute.
 *
 * A section is what a disk cannot serve I/O in: one run of a runtime PM callback,
 * or from before to after a reset.
 */
#ifndef _TEST_MEMALLOC_DISK_H
#define _TEST_MEMALLOC_DISK_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define TMD_DEV			"/dev/test_memalloc_disk"
#define TMD_TEXT		256
#define TMD_DISK		"tmdisk"
#define TMD_USB_DRIVER		"test_memalloc_usb"

/* sections */
enum tmd_kind {
	TMD_SUSPEND,		/* of the RAM disk's parent */
	TMD_RESUME,
	TMD_RESET,		/* of a USB disk, pre_reset() to post_reset() */
	TMD_USB_SUSPEND,
	TMD_USB_RESUME,
	TMD_KINDS,
};

/* what is taken away from the kernel */
#define TMD_NO_PM_FLAG		0x01	/* add_disk()'s mark on the RAM disk's ancestors */
#define TMD_NO_SCOPE		0x02	/* noio, while a section's own memory is allocated */

struct tmd_setup {
	__u32 unprotected;	/* TMD_NO_* */
	__u32 reclaims;		/* direct reclaims that each section provokes; 0: no memory */
	__u32 max_kb;		/* but it takes no more than this */
	/*
	 * A section in which a bio recursed would never end: after this time the disk
	 * serves it nevertheless.
	 */
	__u32 help_ms;
	__u32 stuck_ms;		/* the same for a section that ends not for other reasons */
	__u32 pad;
};

/* what happened since the last TMD_IOC_SETUP, which also clears them */
struct tmd_stats {
	/* in */
	__u32 kind;
	__u32 pad;
	/* out */
	__u64 sections;		/* that were entered */
	__u64 noio;		/* of these, with allocations held to GFP_NOIO */
	__u64 allocating;	/* of these, allocated memory */
	__u64 pages;		/* so allocated */
	__u64 failed;		/* sections that did not get all of it */
	__u64 reclaims;		/* direct reclaims by the task in the section */
	__u64 reclaims_io;	/* of these, with __GFP_IO */
	__u64 reclaims_fs;	/* of these, with __GFP_FS */
	__u64 kmallocs;		/* by the task in the section */
	__u64 kmallocs_io;	/* of these, __GFP_IO in the mask that was asked for */
	__u64 kmallocs_kept;	/* and still in there once scopes are folded in */
	__u64 recursions;	/* bios that the task sent to the disk of the section */
	__u64 arrived;		/* bios that others sent there meanwhile */
	__u64 elsewhere;	/* bios that the task sent to other disks */
	__u64 helped;		/* sections that ended thanks to help_ms */
	__u64 stuck;		/* sections that ended thanks to stuck_ms */
	__u64 max_us;		/* the longest section */
	char sites[TMD_TEXT];	/* some functions that asked for @kmallocs_io */
};

/*
 * Takes memory until about that many MB are available, so that a test needs the same
 * time on any machine. The open file owns it; 0 gives it back.
 */
#define TMD_IOC_LEAVE_MB	_IOW('~', 0x72, __u32)

#define TMD_IOC_SETUP		_IOW('~', 0x70, struct tmd_setup)
#define TMD_IOC_STATS		_IOWR('~', 0x71, struct tmd_stats)

#endif /* _TEST_MEMALLOC_DISK_H */
