/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests of test_memalloc_disk share. */
#ifndef _TMS_DISK_H
#define _TMS_DISK_H

#include <sys/ioctl.h>

#include "test_modules/test_memalloc_disk.h"
#include "../tms_figure.h"

static inline void report_sections(const char *what, const struct tmd_stats *st)
{
	report("%s sections %llu noio %llu allocating %llu pages %llu failed %llu", what,
	       st->sections, st->noio, st->allocating, st->pages, st->failed);
	report("%s reclaims %llu io %llu fs %llu", what, st->reclaims, st->reclaims_io,
	       st->reclaims_fs);
	report("%s kmallocs %llu asked_io %llu kept_io %llu", what, st->kmallocs,
	       st->kmallocs_io, st->kmallocs_kept);
	if (st->sites[0])
		report("%s asked_io_at %s", what, st->sites);
	report("%s recursions %llu arrived %llu elsewhere %llu helped %llu stuck %llu max_us %llu",
	       what, st->recursions, st->arrived, st->elsewhere, st->helped, st->stuck,
	       st->max_us);
}

/* The driver's own allocations end, and its ballast is given back. */
static inline void disarm(int fd)
{
	const struct tmd_setup harmless = { .help_ms = 300, .stuck_ms = 10000 };
	const __u32 all = 0;

	ioctl(fd, TMD_IOC_SETUP, &harmless);
	ioctl(fd, TMD_IOC_LEAVE_MB, &all);
}

#endif /* _TMS_DISK_H */
