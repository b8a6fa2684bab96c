// SPDX-License-Identifier: GPL-2.0
/*
 * Allocation scopes for the author of a file system: what to do about transactions,
 * about locks that reclaim takes, and about work that is given to a worker.
 * Documentation/core-api/memalloc-scope.rst shows parts of this file.
 */
#include <linux/memalloc_guard.h>
#include <linux/memalloc_lock.h>
#include <linux/memalloc_work.h>
#include <linux/rwsem.h>
#include <linux/sched/mm.h>
#include <linux/wait.h>

#include "tme.h"

static struct toyfs {
	struct rw_semaphore map;	/* where the inodes are on disk */
	unsigned long evicted;		/* inodes, under @map */
	wait_queue_head_t wait;
	atomic_t room;			/* in the log, for one transaction */
	struct workqueue_struct *wq;
	/* for toyfs_place() alone */
	struct task_struct *trans_owner, *map_owner;
	struct work_struct *split;
} toyfs;

static void toyfs_begin(struct toyfs *fs)
{
	wait_event(fs->wait, atomic_add_unless(&fs->room, -1, 0));
	WRITE_ONCE(fs->trans_owner, current);
}

static void toyfs_end(struct toyfs *fs)
{
	WRITE_ONCE(fs->trans_owner, NULL);
	atomic_inc(&fs->room);
	wake_up(&fs->wait);
}

/* guide: reclaim */
/* To evict an inode takes a transaction and the map: not without __GFP_FS. */
static void toyfs_evict(gfp_t gfp)
{
	struct toyfs *fs = &toyfs;

	if (!(gfp & __GFP_FS) || !tme_may_enter())
		return;
	guard(memalloc_nofs)();
	toyfs_begin(fs);
	scoped_guard(rwsem_write_nofs, &fs->map)
		fs->evicted++;
	toyfs_end(fs);
}

/* guide: transaction */
static int toyfs_create(struct toyfs *fs)
{
	int err;

	/* Evicting an inode waits for room in the log, and we sit on it. */
	guard(memalloc_nofs)();
	toyfs_begin(fs);
	err = tme_alloc(GFP_KERNEL);
	toyfs_end(fs);
	return err;
}

/* guide: lock */
static int toyfs_grow_map(struct toyfs *fs)
{
	int err;

	guard(rwsem_write_nofs)(&fs->map);
	WRITE_ONCE(fs->map_owner, current);
	err = tme_alloc(GFP_KERNEL);
	WRITE_ONCE(fs->map_owner, NULL);
	return err;
}

/* guide: work */
struct toyfs_split {
	struct memalloc_work mwork;
	int err;
};

/* Runs in the nofs of the transaction that it is part of. */
static void toyfs_split_worker(struct work_struct *work)
{
	struct toyfs_split *s = container_of(work, struct toyfs_split, mwork.work);

	s->err = tme_alloc(GFP_KERNEL);
}

/* Splitting the tree takes much of the stack: have a worker do it. */
static int toyfs_split(struct toyfs *fs)
{
	struct toyfs_split s;

	guard(memalloc_nofs)();
	toyfs_begin(fs);
	INIT_MEMALLOC_WORK_ONSTACK(&s.mwork, toyfs_split_worker);
	WRITE_ONCE(fs->split, &s.mwork.work);
	scoped_guard(rwsem_write_nofs, &fs->map) {
		queue_memalloc_work(fs->wq, &s.mwork);
		flush_work(&s.mwork.work);
	}
	WRITE_ONCE(fs->split, NULL);
	destroy_work_on_stack(&s.mwork.work);
	toyfs_end(fs);
	return s.err;
}

/* guide: lockdep */
/* Reclaim takes the map: lockdep need not wait until it sees that happen. */
static void toyfs_tell_lockdep(struct toyfs *fs)
{
	fs_reclaim_acquire(GFP_KERNEL);
	might_lock(&fs->map);
	fs_reclaim_release(GFP_KERNEL);
}

/* guide: end */

/* The same three without a scope, to see that they are needed: do not copy. */
static void toyfs_careless_worker(struct work_struct *work)
{
	struct toyfs_split *s = container_of(work, struct toyfs_split, mwork.work);

	guard(tme_careless)();
	s->err = tme_alloc(GFP_KERNEL);
}

static int toyfs_careless(struct toyfs *fs)
{
	struct toyfs_split s;

	guard(tme_careless)();
	toyfs_begin(fs);
	tme_alloc(GFP_KERNEL);
	toyfs_end(fs);

	scoped_guard(rwsem_write, &fs->map) {
		WRITE_ONCE(fs->map_owner, current);
		tme_alloc(GFP_KERNEL);
		WRITE_ONCE(fs->map_owner, NULL);
	}

	/* This one has the scope, and does not convey it. */
	guard(memalloc_nofs)();
	toyfs_begin(fs);
	INIT_WORK_ONSTACK(&s.mwork.work, toyfs_careless_worker);
	WRITE_ONCE(fs->split, &s.mwork.work);
	scoped_guard(rwsem_write, &fs->map) {
		queue_work(fs->wq, &s.mwork.work);
		flush_work(&s.mwork.work);
	}
	WRITE_ONCE(fs->split, NULL);
	destroy_work_on_stack(&s.mwork.work);
	toyfs_end(fs);
	return s.err;
}

static int toyfs_place(void)
{
	struct work_struct *work = current_work();

	if (work && work == READ_ONCE(toyfs.split))
		return TME_FS_WORK;
	if (current == READ_ONCE(toyfs.trans_owner))
		return TME_FS_TRANSACTION;
	if (current == READ_ONCE(toyfs.map_owner))
		return TME_FS_LOCK;
	return TME_OUTSIDE;
}

static int toyfs_run(bool careless)
{
	int err;

	if (careless)
		return toyfs_careless(&toyfs);
	err = toyfs_create(&toyfs);
	if (!err)
		err = toyfs_grow_map(&toyfs);
	return err ?: toyfs_split(&toyfs);
}

static int toyfs_init(void)
{
	init_rwsem(&toyfs.map);
	toyfs_tell_lockdep(&toyfs);
	init_waitqueue_head(&toyfs.wait);
	atomic_set(&toyfs.room, 1);
	toyfs.wq = alloc_workqueue("toyfs", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	return toyfs.wq ? 0 : -ENOMEM;
}

static void toyfs_exit(void)
{
	destroy_workqueue(toyfs.wq);
}

const struct tme_example tme_fs = {
	.init = toyfs_init,
	.exit = toyfs_exit,
	.run = toyfs_run,
	.place = toyfs_place,
	.reclaim = toyfs_evict,
};
