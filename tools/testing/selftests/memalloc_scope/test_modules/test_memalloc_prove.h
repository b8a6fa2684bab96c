/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What user space asks of the test_memalloc_prove module: locks, scopes and requests
 * in an order that lockdep should or should not complain of, without any memory
 * pressure. lockdep complains once, so there is one case for each boot.
 */
#ifndef _TEST_MEMALLOC_PROVE_H
#define _TEST_MEMALLOC_PROVE_H

#include <linux/ioctl.h>

enum tmv_case {
	/* Deadlocks */
	TMV_SCOPE_FIRST,	/* lock inside noio; then GFP_KERNEL under the lock */
	TMV_REQUEST_FIRST,	/* the same, the other way round */
	TMV_NOFS,		/* lock inside nofs; then GFP_KERNEL under the lock */
	TMV_NOFS_REQUEST,	/* lock inside noio; then GFP_NOFS under the lock */
	TMV_TWO_LOCKS,		/* the one inside noio is held around the other */
	TMV_WORK,		/* work that is flushed inside noio does GFP_KERNEL */
	TMV_IDLE_WORK,		/* so did work that is not queued when it is flushed */
	TMV_THREAD,		/* lock taken by a thread that is in noio for life */
	TMV_ADOPTED,		/* lock taken by work that runs in its owner's noio */
	/* None; all of them, one after another */
	TMV_LEGAL,
	TMV_CASES
};

/* Does the case; returns whether lockdep is still at work, or -EOPNOTSUPP. */
#define TMV_IOC_RUN	_IO('~', 0x63)	/* argument: enum tmv_case */

#endif /* _TEST_MEMALLOC_PROVE_H */
