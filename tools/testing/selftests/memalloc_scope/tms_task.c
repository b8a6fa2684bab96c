// SPDX-License-Identifier: GPL-2.0
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tms.h"
#include "tms_task.h"

#define PATIENCE_MS	5000
#define NAP_MS		10

int set_io_flusher(unsigned long on)
{
	return prctl(PR_SET_IO_FLUSHER, on, 0, 0, 0);
}

int get_io_flusher(void)
{
	return prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0);
}

int reap(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

static FILE *open_proc(pid_t tid, const char *file)
{
	char path[64];

	if (tid)
		snprintf(path, sizeof(path), "/proc/%d/%s", tid, file);
	else
		snprintf(path, sizeof(path), "/proc/thread-self/%s", file);
	return fopen(path, "r");
}

char *task_status(pid_t tid, const char *name, char *buf, size_t size)
{
	char *found = NULL;
	size_t len = strlen(name);
	FILE *f = open_proc(tid, "status");

	while (f && !found && fgets(buf, size, f)) {
		buf[strcspn(buf, "\n")] = '\0';
		if (!strncmp(buf, name, len) && !strncmp(buf + len, ":\t", 2))
			found = buf + len + 2;
	}
	if (f)
		fclose(f);
	return found;
}

const char *task_scopes(pid_t tid, const char *want, char *buf, size_t size)
{
	const char *shown = NULL;

	for (int ms = 0; ms < 1000; ms += NAP_MS) {
		shown = task_status(tid, "MemallocScope", buf, size);
		if (shown && !strcmp(shown, want))
			break;
		usleep(NAP_MS * 1000);
	}
	return shown ?: "(missing)";
}

unsigned long task_flags(pid_t tid)
{
	unsigned long flags = ~0UL;
	FILE *f = open_proc(tid, "stat");

	/* Neither the tests nor the workers have a name with a blank or a parenthesis. */
	if (f && fscanf(f, "%*d %*s %*c %*d %*d %*d %*d %*d %lu", &flags) != 1)
		flags = ~0UL;
	if (f)
		fclose(f);
	return flags;
}

static pid_t look_for(const char *dir, const char *name, bool whole, pid_t other)
{
	char path[64], comm[32];
	struct dirent *entry;
	pid_t found = 0;
	DIR *d;

	d = opendir(dir);
	if (!d)
		return 0;
	while (!found && (entry = readdir(d))) {
		pid_t tid = atoi(entry->d_name);
		FILE *f;

		if (tid <= 0 || tid == other)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/comm", tid);
		f = fopen(path, "r");
		if (!f)
			continue;
		if (fgets(comm, sizeof(comm), f)) {
			comm[strcspn(comm, "\n")] = '\0';
			if (whole ? !strcmp(comm, name) : !strncmp(comm, name, strlen(name)))
				found = tid;
		}
		fclose(f);
	}
	closedir(d);
	return found;
}

static pid_t wait_for(const char *dir, const char *name, bool whole, pid_t other)
{
	pid_t tid = 0;

	for (int ms = 0; !tid && ms < PATIENCE_MS; ms += NAP_MS) {
		if (ms)
			usleep(NAP_MS * 1000);
		tid = look_for(dir, name, whole, other);
	}
	return tid;
}

pid_t find_thread(const char *prefix, pid_t other)
{
	return wait_for("/proc/self/task", prefix, false, other);
}

pid_t find_process(const char *name)
{
	return wait_for("/proc", name, true, 0);
}
