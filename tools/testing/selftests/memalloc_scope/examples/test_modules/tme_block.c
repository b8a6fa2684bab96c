// SPDX-License-Identifier: GPL-2.0
/*
 * Allocation scopes for the author of a block driver: what to do about times when
 * the device takes no requests, about locks that requests wait for, about error
 * handlers and threads. Documentation/core-api/memalloc-scope.rst shows parts of
 * this file.
 */
#include <linux/completion.h>
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/memalloc_guard.h>
#include <linux/memalloc_lock.h>
#include <linux/mutex.h>
#include <linux/sched/mm.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "tme.h"

static struct toydisk {
	struct mutex queue_lock;	/* whoever submits takes it */
	unsigned long written;		/* pages, under @queue_lock */
	wait_queue_head_t thawed;
	bool frozen;			/* no requests for now */
	struct workqueue_struct *wq, *careless_wq;
	struct work_struct reset, careless_reset;
	struct completion polled;
	int err;
	/* for toydisk_place() alone */
	struct task_struct *suspender, *lock_owner, *poller;
} toydisk;

static void toydisk_freeze(struct toydisk *d)
{
	WRITE_ONCE(d->frozen, true);
}

static void toydisk_thaw(struct toydisk *d)
{
	WRITE_ONCE(d->frozen, false);
	wake_up_all(&d->thawed);
}

/* guide: reclaim */
/* To write a page takes a device that listens: not without __GFP_IO. */
static void toydisk_write_page(gfp_t gfp)
{
	struct toydisk *d = &toydisk;

	if (!(gfp & __GFP_IO) || !tme_may_enter())
		return;
	wait_event(d->thawed, !READ_ONCE(d->frozen));
	guard(mutex_noio)(&d->queue_lock);
	d->written++;
}

/* guide: suspend */
static int toydisk_suspend(struct toydisk *d)
{
	int err;

	/* Until it is thawed, whoever writes to this disk waits for us. */
	guard(memalloc_noio)();
	toydisk_freeze(d);
	WRITE_ONCE(d->suspender, current);
	err = tme_alloc(GFP_KERNEL);
	WRITE_ONCE(d->suspender, NULL);
	toydisk_thaw(d);
	return err;
}

/* guide: lock */
static int toydisk_resize_queue(struct toydisk *d)
{
	int err;

	guard(mutex_noio)(&d->queue_lock);
	WRITE_ONCE(d->lock_owner, current);
	err = tme_alloc(GFP_KERNEL);
	WRITE_ONCE(d->lock_owner, NULL);
	return err;
}

/* guide: work */
/* Requests wait for this thread as long as it lives. */
static int toydisk_poll(void *arg)
{
	struct toydisk *d = arg;

	memalloc_noio_thread();
	WRITE_ONCE(d->poller, current);
	d->err = tme_alloc(GFP_KERNEL);
	WRITE_ONCE(d->poller, NULL);
	complete(&d->polled);
	wait_event(d->thawed, kthread_should_stop());
	return 0;
}

static int toydisk_restart_poll(struct toydisk *d, int (*poll)(void *))
{
	struct task_struct *thread;

	/* In noio, and so is kthreadd. The thread starts without: see above. */
	thread = kthread_run(poll, d, "toydisk");
	if (IS_ERR(thread))
		return PTR_ERR(thread);
	wait_for_completion(&d->polled);
	return kthread_stop(thread);
}

/* On d->wq, which brings noio: whoever has queued it, requests wait for it. */
static void toydisk_reset(struct work_struct *work)
{
	struct toydisk *d = container_of(work, struct toydisk, reset);
	int err;

	toydisk_freeze(d);
	err = tme_alloc(GFP_KERNEL);
	if (!err)
		err = toydisk_restart_poll(d, toydisk_poll);
	if (err)
		d->err = err;
	toydisk_thaw(d);
}

static struct workqueue_struct *toydisk_alloc_wq(void)
{
	return alloc_workqueue("toydisk", WQ_MEM_RECLAIM | WQ_UNBOUND | WQ_MEMALLOC_NOIO, 0);
}

static int toydisk_timeout(struct toydisk *d)
{
	d->err = 0;
	queue_work(d->wq, &d->reset);
	flush_work(&d->reset);
	return d->err;
}

/* guide: end */

/* The same without a scope, to see that they are needed: do not copy. */
static int toydisk_careless_poll(void *arg)
{
	struct toydisk *d = arg;

	guard(tme_careless)();
	WRITE_ONCE(d->poller, current);
	d->err = tme_alloc(GFP_KERNEL);
	WRITE_ONCE(d->poller, NULL);
	complete(&d->polled);
	wait_event(d->thawed, kthread_should_stop());
	return 0;
}

static void toydisk_careless_reset(struct work_struct *work)
{
	struct toydisk *d = container_of(work, struct toydisk, careless_reset);

	guard(tme_careless)();
	toydisk_freeze(d);
	tme_alloc(GFP_KERNEL);
	/* This one has the scope, and the thread has not. */
	scoped_guard(memalloc_noio)
		toydisk_restart_poll(d, toydisk_careless_poll);
	toydisk_thaw(d);
}

static int toydisk_careless(struct toydisk *d)
{
	guard(tme_careless)();
	toydisk_freeze(d);
	WRITE_ONCE(d->suspender, current);
	tme_alloc(GFP_KERNEL);
	WRITE_ONCE(d->suspender, NULL);
	toydisk_thaw(d);

	scoped_guard(mutex, &d->queue_lock) {
		WRITE_ONCE(d->lock_owner, current);
		tme_alloc(GFP_KERNEL);
		WRITE_ONCE(d->lock_owner, NULL);
	}

	queue_work(d->careless_wq, &d->careless_reset);
	flush_work(&d->careless_reset);
	return 0;
}

static int toydisk_place(void)
{
	struct work_struct *work = current_work();

	if (work && (work == &toydisk.reset || work == &toydisk.careless_reset))
		return TME_BLOCK_WORK;
	if (current == READ_ONCE(toydisk.suspender))
		return TME_BLOCK_SUSPEND;
	if (current == READ_ONCE(toydisk.lock_owner))
		return TME_BLOCK_LOCK;
	if (current == READ_ONCE(toydisk.poller))
		return TME_BLOCK_THREAD;
	return TME_OUTSIDE;
}

static int toydisk_run(bool careless)
{
	int err;

	if (careless)
		return toydisk_careless(&toydisk);
	err = toydisk_suspend(&toydisk);
	if (!err)
		err = toydisk_resize_queue(&toydisk);
	return err ?: toydisk_timeout(&toydisk);
}

static int toydisk_init(void)
{
	mutex_init(&toydisk.queue_lock);
	fs_reclaim_acquire(GFP_KERNEL);
	might_lock(&toydisk.queue_lock);
	fs_reclaim_release(GFP_KERNEL);
	init_waitqueue_head(&toydisk.thawed);
	init_completion(&toydisk.polled);
	INIT_WORK(&toydisk.reset, toydisk_reset);
	INIT_WORK(&toydisk.careless_reset, toydisk_careless_reset);
	toydisk.wq = toydisk_alloc_wq();
	if (!toydisk.wq)
		return -ENOMEM;
	toydisk.careless_wq = alloc_workqueue("toydisk-careless", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	if (toydisk.careless_wq)
		return 0;
	destroy_workqueue(toydisk.wq);
	return -ENOMEM;
}

static void toydisk_exit(void)
{
	destroy_workqueue(toydisk.careless_wq);
	destroy_workqueue(toydisk.wq);
}

const struct tme_example tme_block = {
	.init = toydisk_init,
	.exit = toydisk_exit,
	.run = toydisk_run,
	.place = toydisk_place,
	.reclaim = toydisk_write_page,
};
