/* SPDX-License-Identifier: GPL-2.0 */
/* For programs that use the harness */
#ifndef _TMS_HARNESS_H
#define _TMS_HARNESS_H

#include "kselftest_harness.h"
#include "tms.h"

/* Skips or fails the test if there is no device, according to what is wrong. */
static inline int open_module_device(struct __test_metadata *_metadata, const char *module)
{
	const char *why;
	bool broken;
	int fd;

	fd = tms_module_device(module, &why, &broken);
	if (fd < 0 && !broken)
		SKIP(return -1, "%s", why);
	EXPECT_LE(0, fd)
		TH_LOG("%s", why);
	return fd;
}

static inline int open_device(struct __test_metadata *_metadata)
{
	return open_module_device(_metadata, "test_memalloc_scope");
}

#endif /* _TMS_HARNESS_H */
