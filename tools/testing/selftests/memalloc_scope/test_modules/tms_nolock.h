/* SPDX-License-Identifier: GPL-2.0 */
/* What tms_nolock.c and tms_nolock_mem.c share, and who calls them */
#ifndef _TMS_NOLOCK_H
#define _TMS_NOLOCK_H

#include <linux/rcupdate.h>
#include <linux/types.h>

#include "test_memalloc_nolock.h"

struct tms_nolock_object {
	void *p;
	size_t size;
	u32 entry;
};

/* How all objects begin; a mark follows. */
struct tms_nolock_rcu {
	struct rcu_head rcu;
};

void tms_nolock_mark(const struct tms_nolock_object *o);
bool tms_nolock_marked(const struct tms_nolock_object *o);
bool tms_nolock_works(void);

int tms_nolock_run(struct tms_nolock *n);
int tms_exhaust_run(struct tms_exhaust *e);
int tms_account_run(struct tms_account *a);
int tms_full_run(struct tms_full *f);

#endif /* _TMS_NOLOCK_H */
