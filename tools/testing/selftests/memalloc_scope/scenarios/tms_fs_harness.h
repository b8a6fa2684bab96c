/* SPDX-License-Identifier: GPL-2.0 */
/* What memalloc_scope_fs and memalloc_scope_fs_control share. */
#ifndef _TMS_FS_HARNESS_H
#define _TMS_FS_HARNESS_H

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../tms_harness.h"
#include "test_modules/test_memalloc_fs.h"
#include "tms_fs.h"
#include "tms_scenario.h"

/* So little that the workers' inodes and pages do not fit */
#define LIMIT_KB	8192

/*
 * Mounts the file system and starts to watch it. Returns a descriptor of the
 * watching module, or -1 after it skipped or failed the test.
 */
static inline int fs_watch(struct __test_metadata *_metadata, struct tms_fs *fs,
			   unsigned int flags)
{
	struct tmf_watch w = { .fd = -1, .flags = flags };
	char why[TMS_FS_WHY] = "";
	int fd, err;

	err = tms_fs_attach(fs, why) ? errno : 0;
	fd = err ? -1 : open_module_device(_metadata, "test_memalloc_fs");
	if (fd < 0)
		tms_fs_detach(fs);
	if (err == ENODEV)
		SKIP(return -1, "%s", why);
	EXPECT_EQ(0, err)
		TH_LOG("%s", why);
	if (fd < 0)
		return -1;
	err = tms_fs_mount(fs);
	EXPECT_EQ(0, err)
		TH_LOG("cannot mount %s on %s: %s", fs->type, fs->device, strerror(errno));
	if (!err) {
		w.fd = open(fs->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		err = ioctl(fd, TMF_IOC_WATCH, &w);
		close(w.fd);
		EXPECT_EQ(0, err)
			TH_LOG("cannot watch %s: %s", fs->type, strerror(errno));
	}
	if (err) {
		tms_fs_detach(fs);
		close(fd);
		return -1;
	}
	return fd;
}

static inline void fs_report(const char *name, const struct tms_storm *s,
			     const struct tmf_count *c)
{
	unsigned int enomem = 0;

	for (int nr = 0; nr < TMS_STORM_WORKERS; nr++)
		enomem += s->workers[nr].enomem;
	report("%s: %llu operations, %u refused for want of memory", name,
	       (unsigned long long)tms_storm_ops(s), enomem);
	report("%s: reclaims in a transaction: %llu direct, %llu of the cgroup", name,
	       (unsigned long long)c->direct, (unsigned long long)c->memcg);
	report("%s: recursions: %llu, into others: %llu", name,
	       (unsigned long long)c->recursions, (unsigned long long)c->others);
	if (c->missed)
		report("%s: missed %llu calls", name, (unsigned long long)c->missed);
}

#endif /* _TMS_FS_HARNESS_H */
