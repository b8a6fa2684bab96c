/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _TMD_INTERNAL_H
#define _TMD_INTERNAL_H

#include <linux/blkdev.h>
#include <linux/ktime.h>
#include <linux/sched.h>
#include <linux/timer.h>

#include "test_memalloc_disk.h"

/*
 * One per disk, which is in one section at a time. Only the task in the section
 * writes to it, the timer excepted; the probes look for their own task alone.
 */
struct tmd_section {
	/* Lets bios through that wait for the section to end; from a timer */
	void (*help)(struct tmd_section *s);
	struct task_struct *task;	/* who is in the section, or NULL */
	struct request_queue *queue;	/* that cannot serve I/O */
	enum tmd_kind kind;
	ktime_t start;
	struct timer_list timer;
	unsigned int reclaims;
	bool allocating;
	bool recursed;
	bool helped;
};

int tmd_section_add(struct tmd_section *s);
void tmd_section_remove(struct tmd_section *s);

void tmd_enter(struct tmd_section *s, enum tmd_kind kind, struct request_queue *queue);
void tmd_leave(struct tmd_section *s);

/* Allocates until reclaim has happened; true if it had to be helped. */
bool tmd_allocate(struct tmd_section *s);

/* Has TMD_IOC_SETUP asked to take this away? */
bool tmd_unprotected(u32 what);

int tmd_ram_init(unsigned int mb);
void tmd_ram_exit(void);
/* TMD_NO_PM_FLAG has changed. */
void tmd_ram_setup(void);

#if IS_ENABLED(CONFIG_USB_STORAGE)
int tmd_usb_init(void);
void tmd_usb_exit(void);
#else
static inline int tmd_usb_init(void)
{
	return -ENODEV;
}

static inline void tmd_usb_exit(void)
{
}
#endif

#endif /* _TMD_INTERNAL_H */
