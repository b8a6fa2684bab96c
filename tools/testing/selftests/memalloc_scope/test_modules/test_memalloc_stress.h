/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The randomised stress: another ioctl of /dev/test_memalloc_scope. Unlike the
 * others, it runs in any number of tasks at once.
 */
#ifndef _TEST_MEMALLOC_STRESS_H
#define _TEST_MEMALLOC_STRESS_H

#include "test_memalloc_scope.h"

#define TMS_STRESS_DEPTH	16	/* scopes that a task nests */
#define TMS_STRESS_HISTORY	32

enum tms_stress_op {
	/* Prepares interrupts and work on all CPUs; the file that did it owns them. */
	TMS_STRESS_START,
	/* Random steps of the caller; ends at the first violation */
	TMS_STRESS_RUN,
	/* Keeps @scopes open in user space, for the sake of fork(), and closes them */
	TMS_STRESS_LEAK,
	TMS_STRESS_UNLEAK,
	/* Stops it all, and reports what interrupts and work have found */
	TMS_STRESS_STOP,
};

/* What interrupts a task, or works for it; those of enum tms_kind come first. */
enum tms_stress_kind {
	TMS_STRESS_TASKLET = TMS_KINDS,	/* TASKLET_SOFTIRQ, as TMS_BH */
	TMS_STRESS_WORK,		/* a work item, queued inside scopes */
	TMS_STRESS_KINDS,
};

enum tms_step {
	TMS_STEP_OPEN,		/* argument: scope, by the function of its name */
	TMS_STEP_OPEN_SET,	/* scopes, by memalloc_scope_save() */
	TMS_STEP_CLOSE,		/* scopes; the innermost that are open */
	TMS_STEP_CLOSE_OTHER,	/* scopes; of other kinds than all opened later */
	TMS_STEP_ALLOC,		/* enum tms_door */
	TMS_STEP_YIELD,
	TMS_STEP_SLEEP,
	TMS_STEP_MIGRATE,	/* CPU */
	TMS_STEP_BH_OFF,	/* for that many more steps */
	TMS_STEP_SEND,
	TMS_STEP_SHOOT,		/* enum tms_stress_kind */
	TMS_STEPS,
};

enum tms_door {
	TMS_DOOR_PAGE,
	TMS_DOOR_FOLIO,
	TMS_DOOR_KMALLOC,
	TMS_DOOR_PERCPU,
	TMS_DOOR_VMALLOC,
	TMS_DOOR_BULK,
	TMS_DOORS,
};

struct tms_stress_step {
	__u32 step;
	__u8 what;		/* enum tms_step */
	__u8 arg;
	__u8 depth;		/* after the step: scopes that are nested, */
	__u8 open;		/* and what has to be open, io_flusher aside */
};

struct tms_stress {
	/* in */
	__u32 scopes;		/* LEAK */
	__u32 op;
	__u64 seed;		/* START, RUN */
	__u32 steps;		/* RUN */
	__u32 max_ms;		/* RUN */
	__u32 io_flusher;	/* RUN: the caller is one */
	__u32 cookie;		/* LEAK: out; UNLEAK: in */
	/* out, RUN */
	__u32 done;		/* steps */
	__u32 compared;		/* requests whose masks are known exactly */
	__u32 rt;		/* PREEMPT_RT; START as well */
	__s32 net_error;	/* why there is no network traffic; 0 */
	struct tms_hits task;	/* hits: requests of all kinds that were seen */
	struct tms_stress_step history[TMS_STRESS_HISTORY];	/* step n at n % size */
	/*
	 * out, STOP. hits: on top of a task that had scopes open, or of a handler
	 * of ours that had; elsewhere: all other calls, in threads as well.
	 */
	struct tms_hits kind[TMS_STRESS_KINDS];
};

#define TMS_IOC_STRESS		_IOWR('~', 0x7b, struct tms_stress)

#endif /* _TEST_MEMALLOC_STRESS_H */
