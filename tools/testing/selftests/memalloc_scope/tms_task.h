/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests ask of a task, and of the kernel about one. */
#ifndef _TMS_TASK_H
#define _TMS_TASK_H

#include <stddef.h>
#include <sys/types.h>

/* Bits of the flags word in /proc/PID/stat */
#define TMS_PF_LOCAL_THROTTLE	0x00100000

/* prctl(2) */
int set_io_flusher(unsigned long on);
int get_io_flusher(void);

/* Exit status of a child, or -1 */
int reap(pid_t pid);

/*
 * The value of "name:\t" in the status of a thread, 0 for the caller, or NULL. It
 * need not be one of the calling process: kernel threads will do.
 */
char *task_status(pid_t tid, const char *name, char *buf, size_t size);

/*
 * The scopes in the status of another thread, which are @want within a second, or not
 * at all: while a softirq is on top of the thread, these are the softirq's, none.
 */
const char *task_scopes(pid_t tid, const char *want, char *buf, size_t size);

/* The flags word of its stat; ~0 if it cannot be read */
unsigned long task_flags(pid_t tid);

/*
 * Waits for a thread of the calling process, other than @other, whose name begins
 * with @prefix; its id, or 0 if there is none after some seconds. Workers of
 * io_uring take their name when they first run.
 */
pid_t find_thread(const char *prefix, pid_t other);

/* The same for a process, or a kernel thread, of that very name */
pid_t find_process(const char *name);

#endif /* _TMS_TASK_H */
