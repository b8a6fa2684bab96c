/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory pressure whose data is verified: what the tests of disks that suspend
 * and reset have in common. Errors are texts, NULL if there is none; they stay
 * valid until the next call.
 */
#ifndef _TMS_LOAD_H
#define _TMS_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <linux/types.h>

#include "kselftest.h"

#define LOAD_CHILDREN	8

/* What a child says about its work, in memory that it shares with the test */
struct load_child {
	pid_t pid;
	__u64 rounds;	/* through all of its data */
	__u64 steps;
	__u64 checked;	/* pages that were compared */
	__u64 bad;		/* of these, with other content than expected */
	int error;		/* errno of what failed, if anything */
	long long last_ms;	/* when the last step was done */
	long long worst_ms;	/* the longest step */
};

struct load {
	struct load_child child[LOAD_CHILDREN];
	int nr;
	bool stop;		/* children verify all they have, and end */
};

struct load *load_new(void);
void load_free(struct load *l);

/*
 * Anonymous memory: @mb in all, @pages of them verified and rewritten at a step, and
 * paged out thereafter if @pageout.
 */
void load_anon(struct load *l, unsigned int mb, unsigned int pages, unsigned int pause_ms,
	       bool pageout);

/* A file of @mb, written over and over; verified through a cold cache in the end */
void load_file(struct load *l, const char *path, unsigned int mb, unsigned int pause_ms);

/*
 * Waits until the last child has gone through all of its data once. Then adds one
 * that fills what is left of memory with clean page cache, and waits until that is
 * reclaimed. Needs zram_zeros().
 */
bool load_press(struct load *l, int ms);

/* Stops and reaps the children. False if one had to be killed, or did not die. */
bool load_end(struct load *l, int ms);

/* Sums over the children, and their worst */
struct load_child load_sum(const struct load *l);

/* Longest time that a child has been in its present step */
long long load_stalled_ms(const struct load *l);

long long now_ms(void);

/* A line of /proc/meminfo in MB, or of /proc/vmstat as it is; -1 if there is none */
long meminfo_mb(const char *name);
long long vm_events(const char *name);

/* Small files: @path is a format; the text is without the final newline */
int write_text(const char *text, const char *path, ...) __printf(2, 3);
char *read_text(const char *path, ...) __printf(1, 2);
long read_number(const char *path, ...) __printf(1, 2);

/* Runs a program, quietly; its exit status, or -1 */
int run(const char *const argv[], int ms);

/* Loads a module that lies next to the program, or below it; unloads it again */
const char *load_module(const char *name, const char *params, bool *absent);
int unload_module(const char *name, int ms);

/* A file system of ext4 on a device: with a journal, if there is a mke2fs that can */
const char *make_ext4(const char *device, bool *journal);

/* Swap on a block device, or on a new file of @mb if there is none of that name */
const char *start_swap(const char *path, unsigned int mb);

/* /dev/zram0, larger than memory and never written: zeros cost no memory but page cache. */
const char *zram_zeros(void);
void zram_reset(void);

#endif /* _TMS_LOAD_H */
