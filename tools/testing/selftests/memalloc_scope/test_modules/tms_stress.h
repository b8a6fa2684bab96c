/* SPDX-License-Identifier: GPL-2.0 */
/* The two halves of the stress: tms_stress.c, tms_stress_irq.c */
#ifndef _TMS_STRESS_H
#define _TMS_STRESS_H

#include <linux/atomic.h>
#include <linux/types.h>

#include "test_memalloc_stress.h"
#include "tms_internal.h"

struct file;
struct page;

/* A struct tms_hits that any number of contexts on any CPUs may add to */
struct tms_tally {
	atomic_t hits, elsewhere, missed, bad[TMS_RULES];
	atomic_t seen;			/* requests, compared or not */
	atomic_t claimed;		/* whoever claims it, writes the rest */
	u32 rule, got, want;
};

/*
 * One context of a task: itself, a softirq or a hardirq on top of it. Only that
 * context writes here; those on top of it look at what has to be open below.
 */
struct tms_watch {
	struct tms_tally *tally;	/* NULL: nothing is known about this context */
	u32 scopes;			/* what has to be in force */
	/* the last requests seen */
	struct page *page;
	gfp_t page_gfp;
	gfp_t percpu_gfp;
};

enum { TMS_CTX_TASK, TMS_CTX_SOFTIRQ, TMS_CTX_HARDIRQ, TMS_CTX_MAX };

struct tms_watch *tms_watch_enter(struct tms_tally *t, int context, u32 scopes, bool *claimed);
void tms_watch_leave(struct tms_watch *watch, int context, bool claimed);

void tms_tally_bad(struct tms_tally *t, u32 rule, u32 got, u32 want);
void tms_tally_report(struct tms_hits *to, struct tms_tally *t);
void tms_stress_check(struct tms_tally *t, u32 scopes);
void tms_stress_compare(struct tms_watch *w, gfp_t used, gfp_t asked);
void tms_stress_page(struct tms_watch *w, gfp_t asked);

int tms_stress_init(void);
void tms_stress_exit(void);
int tms_stress_run(struct file *file, struct tms_stress *r);
void tms_stress_release(struct file *file);
void tms_stress_page_alloc(struct page *page, gfp_t gfp);
void tms_stress_percpu_alloc(gfp_t gfp);

/* Whatever can hit, or work for, the CPUs */
void tms_shots_start(u64 seed);
void tms_shots_stop(struct tms_hits kind[TMS_STRESS_KINDS]);
void tms_shoot(u32 kind, u32 random);
void tms_shot_received(struct sock *sk);

#endif /* _TMS_STRESS_H */
