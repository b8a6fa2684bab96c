/* SPDX-License-Identifier: GPL-2.0 */
/*
 * For the first processes of the guests of make bench. Whatever fails ends the
 * process, and so the guest, without a last line of results.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>

static inline void check(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(1);
	}
}

static inline void mount_proc(void)
{
	check(!mount("proc", "/proc", "proc", 0, NULL), "proc");
}

#endif
