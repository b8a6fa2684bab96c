// SPDX-License-Identifier: GPL-2.0
/* Memory made short, for some processes, by a cgroup. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../tms.h"
#include "tms_fs.h"

#define CGROUP		"/sys/fs/cgroup"
#define GROUP		CGROUP "/memalloc_scope_fs"

/*
 * Reclaim turns to inodes and dentries when page cache gets hard to find, which
 * takes it long. Asked for that many, it begins with them.
 */
#define PRESSURE	"/proc/sys/vm/vfs_cache_pressure"
#define VERY_MUCH	"1000000"

static char usual_pressure[32];

/*
 * Kept open, as to open a file is charged to the group, too: a limit that the usage
 * has passed by the time it is set is made true at once, by reclaiming more than
 * that, and then there would be room.
 */
static int current_fd = -1, max_fd = -1;

int tms_short_limit(unsigned long kb)
{
	char text[32];
	int len = snprintf(text, sizeof(text), "%luK", kb);

	return pwrite(max_fd, text, len, 0) == len ? 0 : -1;
}

unsigned long tms_short_kb(void)
{
	char text[32];
	ssize_t len = pread(current_fd, text, sizeof(text) - 1, 0);

	text[len < 0 ? 0 : len] = '\0';
	return strtoul(text, NULL, 10) / 1024;
}

int tms_short_enter(void)
{
	return write_text(GROUP "/cgroup.procs", "0") ? 0 : -1;
}

int tms_short_begin(unsigned long kb)
{
	write_text(CGROUP "/cgroup.subtree_control", "+memory");
	if (mkdir(GROUP, 0700) && errno != EEXIST)
		return -1;
	current_fd = open(GROUP "/memory.current", O_RDONLY | O_CLOEXEC);
	max_fd = open(GROUP "/memory.max", O_WRONLY | O_CLOEXEC);
	if (current_fd < 0 || max_fd < 0 || tms_short_limit(kb))
		return -1;
	if (!read_text(PRESSURE, usual_pressure, sizeof(usual_pressure)) ||
	    !write_text(PRESSURE, VERY_MUCH))
		return -1;
	return 0;
}

void tms_short_end(void)
{
	if (usual_pressure[0])
		write_text(PRESSURE, usual_pressure);
	if (current_fd >= 0)
		close(current_fd);
	if (max_fd >= 0)
		close(max_fd);
	rmdir(GROUP);
}
