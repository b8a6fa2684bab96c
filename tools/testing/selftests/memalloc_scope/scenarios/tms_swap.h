/* SPDX-License-Identifier: GPL-2.0 */
/* Processes that hold more anonymous memory than there is RAM, and look after every page. */
#ifndef _TMS_SWAP_H
#define _TMS_SWAP_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>

#define SWAP_WORKERS	4

/* What another process looks at meanwhile */
#define shared_get(x)		__atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define shared_set(x, value)	__atomic_store_n(&(x), value, __ATOMIC_SEQ_CST)
#define shared_add(x, value)	__atomic_add_fetch(&(x), value, __ATOMIC_SEQ_CST)

struct swap_load;

struct swap_report {
	__u64 pages;		/* written or verified */
	__u64 bad;		/* not as they were written */
	unsigned int rounds;	/* complete ones of verification, of the slowest worker */
	bool filled;		/* about all pages are there, and being verified */
	unsigned int lost;	/* workers that died */
	double stalled;		/* seconds: the longest time in which no worker made progress */
	char why[200];		/* what is wrong with the first bad page */
};

double seconds_now(void);
__u64 ram_bytes(void);

/*
 * Start workers that hold @bytes in total; NULL if that fails. A round goes over
 * all pages: each is verified, and every other one written anew.
 */
struct swap_load *swap_load_start(__u64 bytes);

/* See how they are getting on. Call it often: that is how a stall is noticed. */
void swap_load_look(struct swap_load *l, struct swap_report *r);

/* Forget about stalls up to now. */
void swap_load_restart_clock(struct swap_load *l);

/* Poll until there is as much as there is to be; true: done. */
bool swap_load_fill(struct swap_load *l, double seconds);

/* Poll until all did @rounds, or one died, or @seconds have passed; true: done. */
bool swap_load_wait(struct swap_load *l, unsigned int rounds, double seconds);

/* Have them free all but @bytes, and rest until the end; true if they did within @seconds. */
bool swap_load_shrink(struct swap_load *l, __u64 bytes, double seconds);

/* One more round each, and the end, of @seconds at most. */
void swap_load_end(struct swap_load *l, double seconds, struct swap_report *r);

/* Write the header of a swap area to a block device, which is used up to @bytes. */
int swap_make(const char *device, __u64 bytes);
int swap_on(const char *path);
int swap_off(const char *path);

/* A line of /proc/vmstat; 0 if there is none */
__u64 vm_count(const char *name);

/* Replace the value of a sysctl; what it was goes to @old[32], which may be NULL. */
int sysctl_set(const char *path, const char *value, char *old);

#endif /* _TMS_SWAP_H */
