// SPDX-License-Identifier: GPL-2.0
/*
 * Tasks that wait, inside a scope, for somebody who allocates memory: what lockdep
 * has to find if CONFIG_PROVE_MEMALLOC_SCOPE is set, and what it must not take for it.
 *
 * Nobody has to wait, and nothing is reclaimed: lockdep learns in which order things
 * are done, by one task after another or by the same.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/debug_locks.h>
#include <linux/fs.h>
#include <linux/interrupt.h>
#include <linux/kthread.h>
#include <linux/memalloc_guard.h>
#include <linux/memalloc_work.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "test_memalloc_prove.h"

/* Named after what is in the report */
static DEFINE_MUTEX(tmv_lock);
static DEFINE_MUTEX(tmv_inner_lock);
static DEFINE_MUTEX(tmv_run_lock);

static noinline void tmv_request(gfp_t gfp)
{
	kfree(kmalloc(64, gfp));
}

static noinline void tmv_request_locked(gfp_t gfp)
{
	guard(mutex)(&tmv_lock);
	tmv_request(gfp);
}

static noinline void tmv_take_lock(struct mutex *lock)
{
	mutex_lock(lock);
	mutex_unlock(lock);
}

/* Scopes that a report has to name the owner of */
static noinline void tmv_in_noio(void)
{
	guard(memalloc_noio)();
	tmv_take_lock(&tmv_lock);
}

static noinline void tmv_in_nofs(void)
{
	guard(memalloc_nofs)();
	tmv_take_lock(&tmv_lock);
}

static void tmv_work_fn(struct work_struct *work)
{
	tmv_request(GFP_KERNEL);
}

static DECLARE_WORK(tmv_work, tmv_work_fn);

static noinline void tmv_flush_in_noio(bool queue)
{
	guard(memalloc_noio)();
	if (queue)
		schedule_work(&tmv_work);
	flush_work(&tmv_work);
}

static int tmv_thread(void *data)
{
	memalloc_noio_thread();
	tmv_take_lock(&tmv_lock);
	complete(data);
	return 0;
}

static int tmv_in_thread(void)
{
	DECLARE_COMPLETION_ONSTACK(done);
	struct task_struct *task = kthread_run(tmv_thread, &done, "tms-prove-thread");

	if (IS_ERR(task))
		return PTR_ERR(task);
	wait_for_completion(&done);
	return 0;
}

static void tmv_mwork_fn(struct work_struct *work)
{
	tmv_take_lock(&tmv_lock);
	/* Not the last call, or this would not be in the stack. */
	barrier();
}

static noinline void tmv_queue_in_noio(struct memalloc_work *mwork)
{
	guard(memalloc_noio)();
	queue_memalloc_work(system_percpu_wq, mwork);
}

static void tmv_in_adopted(void)
{
	struct memalloc_work mwork;

	INIT_MEMALLOC_WORK_ONSTACK(&mwork, tmv_mwork_fn);
	tmv_queue_in_noio(&mwork);
	/* Not in there: that alone would have lockdep know what the item takes. */
	flush_work(&mwork.work);
	destroy_work_on_stack(&mwork.work);
}

/* No locks that the deadlocks use: nothing of this may be on the way to one. */
static DEFINE_MUTEX(tmv_under);
static DEFINE_MUTEX(tmv_nofs_under);
static DEFINE_MUTEX(tmv_tried);
static DEFINE_MUTEX(tmv_fresh);
static DEFINE_MUTEX(tmv_outer);

static void tmv_tasklet_fn(struct tasklet_struct *tasklet)
{
	guard(memalloc_noio)();
	guard(memalloc_nofs)();
	tmv_request(GFP_ATOMIC);
}

static void tmv_legal(void)
{
	struct tasklet_struct tasklet;

	/* A lock that is taken inside noio: what may be asked for under it */
	scoped_guard(memalloc_noio)
		tmv_take_lock(&tmv_under);
	scoped_guard(mutex, &tmv_under) {
		tmv_request(GFP_NOIO);
		tmv_request(GFP_ATOMIC);
		tmv_request(GFP_NOWAIT);
		tmv_request(GFP_KERNEL | __GFP_NOLOCKDEP);
		scoped_guard(memalloc_noio)
			tmv_request(GFP_KERNEL);
		scoped_guard(memalloc_noreclaim)
			tmv_request(GFP_KERNEL);
		scoped_guard(memalloc_nowait)
			tmv_request(GFP_KERNEL);
	}

	/* Inside nofs: I/O is not what it waits for. */
	scoped_guard(memalloc_nofs)
		tmv_take_lock(&tmv_nofs_under);
	scoped_guard(mutex, &tmv_nofs_under) {
		tmv_request(GFP_NOFS);
		scoped_guard(memalloc_nofs)
			tmv_request(GFP_KERNEL);
	}

	/* A lock that was taken before, and is held when the scope opens */
	scoped_guard(mutex, &tmv_outer) {
		tmv_request(GFP_KERNEL);
		scoped_guard(memalloc_noio) {
			tmv_request(GFP_KERNEL);
			/* Nested, and closed in any order */
			scoped_guard(memalloc_noio) {
				guard(memalloc_nofs)();
				tmv_request(GFP_KERNEL);
			}
		}
	}

	/* Nobody waits in a trylock. */
	scoped_guard(memalloc_noio) {
		if (mutex_trylock(&tmv_tried))
			mutex_unlock(&tmv_tried);
	}
	scoped_guard(mutex, &tmv_tried)
		tmv_request(GFP_KERNEL);

	/* A layer that starts afresh says that it is not waited for. */
	scoped_guard(memalloc_noio) {
		guard(memalloc_ctx)(MEMALLOC_CTX_NONE);
		tmv_take_lock(&tmv_fresh);
	}
	scoped_guard(mutex, &tmv_fresh)
		tmv_request(GFP_KERNEL);

	/* Interrupts on top of a task wait for nothing. */
	tasklet_setup(&tasklet, tmv_tasklet_fn);
	local_bh_disable();
	tasklet_schedule(&tasklet);
	local_bh_enable();
	tasklet_kill(&tasklet);
}

static int tmv_run(unsigned long nr)
{
	int err = 0;

	switch (nr) {
	case TMV_SCOPE_FIRST:
		tmv_in_noio();
		tmv_request_locked(GFP_KERNEL);
		break;
	case TMV_REQUEST_FIRST:
		tmv_request_locked(GFP_KERNEL);
		tmv_in_noio();
		break;
	case TMV_NOFS:
		tmv_in_nofs();
		tmv_request_locked(GFP_KERNEL);
		break;
	case TMV_NOFS_REQUEST:
		tmv_in_noio();
		tmv_request_locked(GFP_NOFS);
		break;
	case TMV_TWO_LOCKS:
		tmv_in_noio();
		scoped_guard(mutex, &tmv_lock)
			tmv_take_lock(&tmv_inner_lock);
		scoped_guard(mutex, &tmv_inner_lock)
			tmv_request(GFP_KERNEL);
		break;
	case TMV_WORK:
		tmv_flush_in_noio(true);
		break;
	case TMV_IDLE_WORK:
		schedule_work(&tmv_work);
		flush_work(&tmv_work);
		tmv_flush_in_noio(false);
		break;
	case TMV_THREAD:
		err = tmv_in_thread();
		tmv_request_locked(GFP_KERNEL);
		break;
	case TMV_ADOPTED:
		tmv_in_adopted();
		tmv_request_locked(GFP_KERNEL);
		break;
	case TMV_LEGAL:
		tmv_legal();
		break;
	default:
		return -EINVAL;
	}
	return err ?: READ_ONCE(debug_locks);
}

static long tmv_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	if (cmd != TMV_IOC_RUN)
		return -ENOTTY;
	if (!IS_ENABLED(CONFIG_PROVE_MEMALLOC_SCOPE) || !READ_ONCE(debug_locks))
		return -EOPNOTSUPP;
	guard(mutex)(&tmv_run_lock);
	return tmv_run(arg);
}

static const struct file_operations tmv_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = tmv_ioctl,
};

static struct miscdevice tmv_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "test_memalloc_prove",
	.fops = &tmv_fops,
	.mode = 0600,
};
module_misc_device(tmv_misc);

MODULE_DESCRIPTION("Allocation scopes that lockdep has to find deadlocks in");
MODULE_LICENSE("GPL");
