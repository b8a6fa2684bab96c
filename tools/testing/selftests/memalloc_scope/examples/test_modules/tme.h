/* SPDX-License-Identifier: GPL-2.0 */
/* What the examples have from the module around them. */
#ifndef _TME_H
#define _TME_H

#include <linux/gfp_types.h>
#include <linux/lockdep.h>
#include <linux/types.h>

#include "test_memalloc_examples.h"

struct tme_example {
	int (*init)(void);
	void (*exit)(void);
	/* does all that the example can do, once; -ENOMEM is no failure */
	int (*run)(bool careless);
	/* where in the example current is, or TME_OUTSIDE */
	int (*place)(void);
	/* called by reclaim in real life, with the mask of whoever needs memory */
	void (*reclaim)(gfp_t gfp);
};

extern const struct tme_example tme_fs, tme_block, tme_net;
extern struct tme_run tme_result;

/*
 * Objects for a cache which reclaim may empty, charged to the cgroup of the test
 * whoever asks: a stand-in for all that is allocated by and below an example.
 */
int tme_alloc(gfp_t gfp);

/*
 * Asked by reclaim before it enters the example. False if it would wait for
 * itself there, which is counted; and the second time in the same run().
 */
bool tme_may_enter(void);

/* What is careless is known to be: lockdep would tell, and then be off for all. */
DEFINE_LOCK_GUARD_0(tme_careless, lockdep_off(), lockdep_on())

#endif /* _TME_H */
