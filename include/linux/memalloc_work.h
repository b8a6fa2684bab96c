/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Work items that run in the allocation context of whoever queues them.
 *
 * What a work item does on behalf of a task that holds a lock, and waits, has to
 * respect what that task has declared, see <linux/memalloc_ctx.h>. There are two
 * ways to have that, to be chosen explicitly: an ordinary item inherits nothing.
 *
 * A workqueue whose work always serves I/O, or a file system, says so when it is
 * allocated, with WQ_MEMALLOC_NOIO, WQ_MEMALLOC_NOFS or WQ_MEMALLOC_NORECLAIM. All
 * of its work then runs in that scope, whoever queues it. Such a workqueue nearly
 * always wants WQ_MEM_RECLAIM, too. For a kthread_worker, the flags are
 * KTW_MEMALLOC_NOIO, KTW_MEMALLOC_NOFS and KTW_MEMALLOC_NORECLAIM.
 *
 * An item that is queued from several contexts, and is to run in that from which
 * it was queued, is a struct memalloc_work: queue_memalloc_work() captures the
 * context, as memalloc_ctx_capture() does. So noreclaim, being a privilege, is
 * never conveyed by queueing an item; code that waits for its item may do so by
 * hand, with memalloc_ctx_capture_noreclaim().
 *
 * - An item that is pending already keeps the context of whoever queued it first,
 *   and queueing it returns false, as ever. If that will not do, because the
 *   caller is going to wait for the item in a stricter scope, then cancel it, or
 *   do the work directly, or let the whole workqueue run in the scope.
 * - An item that is queued again while it runs gets a context anew for its next
 *   run; the one that is going on keeps its own. This includes an item that queues
 *   itself: it captures what it runs in.
 * - A delayed item captures when it is queued, not when its timer expires; the
 *   delay does not matter. mod_memalloc_delayed_work() captures anew.
 * - Cancelling drops the context with the item. Disabled items capture nothing.
 * - Flushing conveys nothing: the item runs, or is running, in what it has got.
 *   So do not wait inside a scope for an item that runs in a weaker one.
 * - On a workqueue with WQ_MEMALLOC_* the item runs in both, the workqueue's scope
 *   and the context that it captured.
 * - What an item leaves open is closed when its function returns.
 *
 * Use cancel_work(), flush_work() and so on with @work or @dwork as with any item;
 * queue it by the functions here only.
 */
#ifndef _LINUX_MEMALLOC_WORK_H
#define _LINUX_MEMALLOC_WORK_H

#include <linux/kthread.h>
#include <linux/memalloc_ctx.h>
#include <linux/workqueue.h>

/**
 * struct memalloc_work - a work item that captures its context when it is queued
 * @work: the item; its function finds the containing structure from it
 * @func: what it does
 * @ctx: the context of the last queueing. Written by whoever has set the pending
 *       bit, and read before that is cleared.
 */
struct memalloc_work {
	struct work_struct	work;
	work_func_t		func;
	memalloc_ctx_t		ctx;
};

/**
 * struct memalloc_delayed_work - the same for a delayed item
 * @dwork: the item; its function is called with @dwork.work
 * @func: what it does
 * @ctx: as for struct memalloc_work
 */
struct memalloc_delayed_work {
	struct delayed_work	dwork;
	work_func_t		func;
	memalloc_ctx_t		ctx;
};

/**
 * struct kthread_memalloc_work - the same for a kthread_worker
 * @work: the item
 * @func: what it does
 * @ctx: the context of the last queueing; under the worker's lock
 */
struct kthread_memalloc_work {
	struct kthread_work	work;
	kthread_work_func_t	func;
	memalloc_ctx_t		ctx;
};

void memalloc_work_fn(struct work_struct *work);
void memalloc_delayed_work_fn(struct work_struct *work);
void kthread_memalloc_work_fn(struct kthread_work *work);
memalloc_ctx_t __work_memalloc_ctx(struct work_struct *work, unsigned int wq_flags);
memalloc_ctx_t __kthread_work_memalloc_ctx(struct kthread_work *work,
					   unsigned int worker_flags);

#define INIT_MEMALLOC_WORK(_mwork, _func)				\
	do {								\
		INIT_WORK(&(_mwork)->work, memalloc_work_fn);		\
		(_mwork)->func = (_func);				\
		(_mwork)->ctx = MEMALLOC_CTX_NONE;			\
	} while (0)

#define INIT_MEMALLOC_WORK_ONSTACK(_mwork, _func)			\
	do {								\
		INIT_WORK_ONSTACK(&(_mwork)->work, memalloc_work_fn);	\
		(_mwork)->func = (_func);				\
		(_mwork)->ctx = MEMALLOC_CTX_NONE;			\
	} while (0)

#define INIT_MEMALLOC_DELAYED_WORK(_mdwork, _func)			\
	do {								\
		INIT_DELAYED_WORK(&(_mdwork)->dwork, memalloc_delayed_work_fn); \
		(_mdwork)->func = (_func);				\
		(_mdwork)->ctx = MEMALLOC_CTX_NONE;			\
	} while (0)

#define kthread_init_memalloc_work(_kmwork, _func)			\
	do {								\
		kthread_init_work(&(_kmwork)->work, kthread_memalloc_work_fn); \
		(_kmwork)->func = (_func);				\
		(_kmwork)->ctx = MEMALLOC_CTX_NONE;			\
	} while (0)

bool queue_memalloc_work_on(int cpu, struct workqueue_struct *wq,
			    struct memalloc_work *mwork);
bool queue_memalloc_delayed_work_on(int cpu, struct workqueue_struct *wq,
				    struct memalloc_delayed_work *mdwork,
				    unsigned long delay);
bool mod_memalloc_delayed_work_on(int cpu, struct workqueue_struct *wq,
				  struct memalloc_delayed_work *mdwork,
				  unsigned long delay);
bool kthread_queue_memalloc_work(struct kthread_worker *worker,
				 struct kthread_memalloc_work *kmwork);

/**
 * queue_memalloc_work - capture the caller's context and queue an item to run in it
 * @wq: the workqueue
 * @mwork: the item
 *
 * Context: That of queue_work().
 * Return: false if @mwork was pending already, and so nothing was captured.
 */
static inline bool queue_memalloc_work(struct workqueue_struct *wq,
				       struct memalloc_work *mwork)
{
	return queue_memalloc_work_on(WORK_CPU_UNBOUND, wq, mwork);
}

/**
 * queue_memalloc_delayed_work - capture the caller's context, queue an item after a delay
 * @wq: the workqueue
 * @mdwork: the item
 * @delay: jiffies to wait before queueing
 *
 * Context: That of queue_delayed_work().
 * Return: false if @mdwork was pending already, and so nothing was captured.
 */
static inline bool queue_memalloc_delayed_work(struct workqueue_struct *wq,
					       struct memalloc_delayed_work *mdwork,
					       unsigned long delay)
{
	return queue_memalloc_delayed_work_on(WORK_CPU_UNBOUND, wq, mdwork, delay);
}

/**
 * mod_memalloc_delayed_work - modify the delay of an item, or queue it
 * @wq: the workqueue
 * @mdwork: the item
 * @delay: jiffies to wait before queueing
 *
 * As mod_delayed_work(); the item then runs in the context of this caller.
 *
 * Context: That of mod_delayed_work().
 * Return: true if @mdwork was pending, and its timer and context were modified.
 */
static inline bool mod_memalloc_delayed_work(struct workqueue_struct *wq,
					     struct memalloc_delayed_work *mdwork,
					     unsigned long delay)
{
	return mod_memalloc_delayed_work_on(WORK_CPU_UNBOUND, wq, mdwork, delay);
}

/**
 * work_memalloc_ctx - the context in which a work item is to run
 * @work: the item
 * @wq_flags: the flags of its workqueue
 *
 * Context: Before the pending bit of @work is cleared: whoever sets it again
 *          captures anew.
 * Return: what @work has captured, and the scopes of its workqueue.
 */
static inline memalloc_ctx_t work_memalloc_ctx(struct work_struct *work,
					       unsigned int wq_flags)
{
	if (unlikely((wq_flags & __WQ_MEMALLOC) || work->func == memalloc_work_fn ||
		     work->func == memalloc_delayed_work_fn))
		return __work_memalloc_ctx(work, wq_flags);
	return MEMALLOC_CTX_NONE;
}

/**
 * kthread_work_memalloc_ctx - the context in which a kthread_work is to run
 * @work: the item
 * @worker_flags: the flags of its kthread_worker
 *
 * Unlike that of a workqueue, the thread of a kthread_worker may have an owner who
 * opened a scope for all its life. This applies to all of its work.
 *
 * Context: The worker's thread, under the worker's lock, before @work can be
 *          queued again.
 * Return: what @work has captured, and the scopes of its worker.
 */
static inline memalloc_ctx_t kthread_work_memalloc_ctx(struct kthread_work *work,
						       unsigned int worker_flags)
{
	if (unlikely((worker_flags & __KTW_MEMALLOC) ||
		     work->func == kthread_memalloc_work_fn))
		return __kthread_work_memalloc_ctx(work, worker_flags);
	return memalloc_ctx_capture();
}

#endif /* _LINUX_MEMALLOC_WORK_H */
