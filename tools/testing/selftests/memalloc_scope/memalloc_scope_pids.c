// SPDX-License-Identifier: GPL-2.0
/*
 * A user of the nolock scope: the lists of pids that tracing filters by grow when a
 * traced task forks, from a tracepoint, and allocate their chunks there. A chunk is
 * for 16384 pids, so children whose pids lie far apart take one each, more than
 * were once kept in reserve.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "tms_task.h"

#define PIDS_OF_A_CHUNK	16384
#define CHUNKS		40
#define PID_MAX		"/proc/sys/kernel/pid_max"

/* Returns what is in the way, or 0. */
static int put(const char *dir, const char *file, const char *text)
{
	char path[256];
	int fd, err = 0;

	snprintf(path, sizeof(path), "%s%s", dir, file);
	fd = open(path, O_WRONLY | O_TRUNC);
	if (fd < 0)
		return errno;
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		err = errno ?: EIO;
	close(fd);
	return err;
}

static ssize_t get(const char *dir, const char *file, char *buf, size_t size)
{
	ssize_t len, all = 0;
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s%s", dir, file);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return -1;
	while ((len = read(fd, buf + all, size - 1 - all)) > 0)
		all += len;
	close(fd);
	buf[all] = '\0';
	return all;
}

/* How many of the pids are listed */
static int listed(const char *root, const pid_t *pids, int nr)
{
	char text[4096], *at = text;
	int found = 0;

	if (get(root, "/set_event_pid", text, sizeof(text)) < 0)
		return -1;
	for (char *line; (line = strsep(&at, "\n")); ) {
		for (int i = 0; i < nr; i++)
			found += *line && atoi(line) == pids[i];
	}
	return found;
}

/* A child that has the pid of our choice, and waits to be killed */
static pid_t child(pid_t pid)
{
	struct clone_args args = {
		.exit_signal = SIGCHLD,
		.set_tid = (__u64)(unsigned long)&pid,
		.set_tid_size = 1,
	};
	pid_t got = syscall(SYS_clone3, &args, sizeof(args));

	while (!got)
		pause();
	return got;
}

FIXTURE(pids) {
	char root[32], pid_max[32];
	pid_t pids[CHUNKS];
	int nr;
};

FIXTURE_SETUP(pids)
{
	self->nr = 0;
	strcpy(self->root, "/tmp/memalloc-scope-XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->root));
	if (mount("none", self->root, "tracefs", 0, NULL)) {
		rmdir(self->root);
		self->root[0] = '\0';
		SKIP(return, "no tracefs: needs root and CONFIG_FTRACE");
	}
	ASSERT_LT(0, get("", PID_MAX, self->pid_max, sizeof(self->pid_max)));
	if (put("", PID_MAX, "4194304"))
		SKIP(return, "pid_max cannot be raised: needs root");
	for (int i = 0; i < CHUNKS; i++)
		self->pids[i] = (i + 2) * PIDS_OF_A_CHUNK + 7;
}

FIXTURE_TEARDOWN(pids)
{
	for (int i = 0; i < self->nr; i++) {
		kill(self->pids[i], SIGKILL);
		reap(self->pids[i]);
	}
	if (!*self->root)
		return;
	put(self->root, "/options/event-fork", "0");
	put(self->root, "/set_event_pid", "");
	put("", PID_MAX, self->pid_max);
	umount2(self->root, MNT_DETACH);
	rmdir(self->root);
}

/*
 * Red if: trace_pid_list_set() in kernel/trace/pid_list.c gives up where it has no
 * chunk to spare, rather than to allocate one.
 */
TEST_F(pids, fork)
{
	pid_t self_pid = getpid();
	char text[16];
	int left = -1;

	snprintf(text, sizeof(text), "%d", self_pid);
	ASSERT_EQ(0, put(self->root, "/options/event-fork", "1"));
	ASSERT_EQ(0, put(self->root, "/set_event_pid", text));
	for (; self->nr < CHUNKS; self->nr++)
		ASSERT_EQ(self->pids[self->nr], child(self->pids[self->nr]));

	EXPECT_EQ(CHUNKS, listed(self->root, self->pids, CHUNKS));
	EXPECT_EQ(1, listed(self->root, &self_pid, 1));

	for (; self->nr; self->nr--) {
		kill(self->pids[self->nr - 1], SIGKILL);
		reap(self->pids[self->nr - 1]);
	}
	/* A pid is taken off the list when the task is freed, by RCU. */
	for (int i = 0; i < 200 && left; i++) {
		usleep(50000);
		left = listed(self->root, self->pids, CHUNKS);
	}
	EXPECT_EQ(0, left);
	EXPECT_EQ(1, listed(self->root, &self_pid, 1));
}

/* Red if: the same. There is no scope here, and the lists begin without a chunk. */
TEST_F(pids, write)
{
	char text[CHUNKS * 12];
	size_t len = 0;

	for (int i = 0; i < CHUNKS; i++)
		len += snprintf(text + len, sizeof(text) - len, "%d ", self->pids[i]);
	ASSERT_EQ(0, put(self->root, "/set_event_pid", text));
	EXPECT_EQ(CHUNKS, listed(self->root, self->pids, CHUNKS));
	EXPECT_EQ(0, put(self->root, "/set_event_pid", ""));
	EXPECT_EQ(0, listed(self->root, self->pids, CHUNKS));
}

TEST_HARNESS_MAIN
