// SPDX-License-Identifier: GPL-2.0
/*
 * Work items that run in the allocation context of whoever queues them: what
 * workqueues and kthread_workers leave to us. See <linux/memalloc_work.h>.
 */
#include <linux/export.h>
#include <linux/memalloc_work.h>

/*
 * The functions of all such items. Whoever runs the items knows them by their
 * address, and adopts the context before it calls them: it has to be read before
 * the item can be queued again, which is too late in here. The item may be gone
 * after func.
 */
void memalloc_work_fn(struct work_struct *work)
{
	container_of(work, struct memalloc_work, work)->func(work);
}
EXPORT_SYMBOL_GPL(memalloc_work_fn);

void memalloc_delayed_work_fn(struct work_struct *work)
{
	container_of(work, struct memalloc_delayed_work, dwork.work)->func(work);
}
EXPORT_SYMBOL_GPL(memalloc_delayed_work_fn);

void kthread_memalloc_work_fn(struct kthread_work *work)
{
	container_of(work, struct kthread_memalloc_work, work)->func(work);
}
EXPORT_SYMBOL_GPL(kthread_memalloc_work_fn);

/**
 * __work_memalloc_ctx - work_memalloc_ctx(), once there is a context
 * @work: the item
 * @wq_flags: the flags of its workqueue
 *
 * Context: Before the pending bit of @work is cleared.
 * Return: what @work has captured, and the scopes of its workqueue.
 */
memalloc_ctx_t __work_memalloc_ctx(struct work_struct *work, unsigned int wq_flags)
{
	memalloc_ctx_t ctx = MEMALLOC_CTX_NONE;

	if (work->func == memalloc_work_fn)
		ctx = container_of(work, struct memalloc_work, work)->ctx;
	else if (work->func == memalloc_delayed_work_fn)
		ctx = container_of(work, struct memalloc_delayed_work, dwork.work)->ctx;

	if (wq_flags & WQ_MEMALLOC_NOFS)
		ctx.scope |= MEMALLOC_SCOPE_NOFS;
	if (wq_flags & WQ_MEMALLOC_NOIO)
		ctx.scope |= MEMALLOC_SCOPE_NOIO;
	if (wq_flags & WQ_MEMALLOC_NORECLAIM)
		ctx.scope |= MEMALLOC_SCOPE_NORECLAIM;
	return ctx;
}

/**
 * __kthread_work_memalloc_ctx - kthread_work_memalloc_ctx(), once there is a context
 * @work: the item
 * @worker_flags: the flags of its kthread_worker
 *
 * Context: The worker's thread, under the worker's lock, before @work can be
 *          queued again.
 * Return: what @work has captured, and the scopes of its worker.
 */
memalloc_ctx_t __kthread_work_memalloc_ctx(struct kthread_work *work,
					   unsigned int worker_flags)
{
	memalloc_ctx_t ctx = memalloc_ctx_capture();

	if (work->func == kthread_memalloc_work_fn)
		ctx.scope |= container_of(work, struct kthread_memalloc_work, work)->ctx.scope;

	if (worker_flags & KTW_MEMALLOC_NOFS)
		ctx.scope |= MEMALLOC_SCOPE_NOFS;
	if (worker_flags & KTW_MEMALLOC_NOIO)
		ctx.scope |= MEMALLOC_SCOPE_NOIO;
	if (worker_flags & KTW_MEMALLOC_NORECLAIM)
		ctx.scope |= MEMALLOC_SCOPE_NORECLAIM;
	return ctx;
}
