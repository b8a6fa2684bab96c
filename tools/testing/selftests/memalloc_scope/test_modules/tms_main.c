// SPDX-License-Identifier: GPL-2.0
/*
 * Helper of the memalloc_scope selftest: lets user space watch what allocation
 * scopes do to real allocations, real reclaim and real interrupts.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/io_uring/cmd.h>
#include <linux/kthread.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/tracepoint.h>
#include <linux/uaccess.h>

#include "tms_internal.h"
#include "tms_nolock.h"
#include "tms_stress.h"

struct task_struct *tms_task;

/* One run at a time: they would steal each other's memory and interrupts. */
static DEFINE_MUTEX(tms_lock);

/*
 * Last request that went through the page allocator on top of tms_task, for
 * each context: task, softirq, hardirq. A task runs on one CPU at a time, and
 * each context on it is interrupted by the next only, so nothing races.
 */
static struct tms_last {
	struct page *page;
	gfp_t gfp;
	bool valid;
} tms_last[3];

/* Collects all of tms_task's requests in task context, if set */
struct tms_masks *tms_all_pages;
struct tms_masks *tms_all_percpu;

/* Children of the task that keeps scopes open in user space */
static struct task_struct *tms_parent;
static struct tms_cookies *tms_leaking;
static struct tms_child tms_children;

static const struct {
	memalloc_scope_t scope;
	u32 tms;
} scopes[] = {
	{ MEMALLOC_SCOPE_NOFS,		TMS_NOFS },
	{ MEMALLOC_SCOPE_NOIO,		TMS_NOIO },
	{ MEMALLOC_SCOPE_PIN,		TMS_PIN },
	{ MEMALLOC_SCOPE_NORECLAIM,	TMS_NORECLAIM },
	{ MEMALLOC_SCOPE_NOWAIT,	TMS_NOWAIT },
	{ MEMALLOC_SCOPE_NOWARN,	TMS_NOWARN },
	{ MEMALLOC_SCOPE_NOLOCK,	TMS_NOLOCK },
	{ MEMALLOC_SCOPE_IO_FLUSHER,	TMS_IO_FLUSHER },
};

u32 tms_scope(memalloc_scope_t scope)
{
	u32 tms = 0;

	for (int i = 0; i < ARRAY_SIZE(scopes); i++) {
		if (scope & scopes[i].scope)
			tms |= scopes[i].tms;
		scope &= ~scopes[i].scope;
	}
	return scope ? tms | TMS_UNKNOWN : tms;
}

memalloc_scope_t tms_raw(u32 tms)
{
	memalloc_scope_t scope = MEMALLOC_SCOPE_NONE;

	for (int i = 0; i < ARRAY_SIZE(scopes); i++) {
		if (tms & scopes[i].tms)
			scope |= scopes[i].scope;
	}
	return scope;
}

/* What current has open, whoever runs on top of it */
u32 tms_own(void)
{
	return tms_scope(task_memalloc_scope(current));
}

u32 tms_active(void)
{
	return (memalloc_nofs_active() ? TMS_NOFS : 0) |
	       (memalloc_noio_active() ? TMS_NOIO : 0) |
	       (memalloc_pin_active() ? TMS_PIN : 0) |
	       (memalloc_noreclaim_active() ? TMS_NORECLAIM : 0) |
	       (memalloc_nowait_active() ? TMS_NOWAIT : 0) |
	       (memalloc_nowarn_active() ? TMS_NOWARN : 0) |
	       (memalloc_nolock_active() ? TMS_NOLOCK : 0);
}

void tms_open(struct tms_cookies *c, u32 scopes)
{
	memset(c, 0, sizeof(*c));
	if (scopes & TMS_NOFS)
		c->nofs = memalloc_nofs_save();
	if (scopes & TMS_NOIO)
		c->noio = memalloc_noio_save();
	if (scopes & TMS_PIN)
		c->pin = memalloc_pin_save();
	if (scopes & TMS_NORECLAIM)
		c->noreclaim = memalloc_noreclaim_save();
	if (scopes & TMS_NOWAIT)
		c->nowait = memalloc_nowait_save();
	if (scopes & TMS_NOWARN)
		c->nowarn = memalloc_nowarn_save();
	if (scopes & TMS_NOLOCK)
		c->nolock = memalloc_nolock_save();
}

void tms_close(struct tms_cookies *c)
{
	memalloc_nolock_restore(c->nolock);
	memalloc_nowarn_restore(c->nowarn);
	memalloc_nowait_restore(c->nowait);
	memalloc_noreclaim_restore(c->noreclaim);
	memalloc_pin_restore(c->pin);
	memalloc_noio_restore(c->noio);
	memalloc_nofs_restore(c->nofs);
}

gfp_t tms_request_gfp(u32 request)
{
	switch (request) {
	case TMS_REQ_KERNEL:
		return GFP_KERNEL;
	case TMS_REQ_HIGHUSER_MOVABLE:
		return GFP_HIGHUSER_MOVABLE;
	case TMS_REQ_NOFS:
		return GFP_NOFS;
	case TMS_REQ_NOIO:
		return GFP_NOIO;
	case TMS_REQ_ATOMIC:
		return GFP_ATOMIC;
	case TMS_REQ_NOWAIT:
		return GFP_NOWAIT;
	case TMS_REQ_NOFAIL:
		return GFP_KERNEL | __GFP_NOFAIL;
	case TMS_REQ_RETRY_MAYFAIL:
		return GFP_KERNEL | __GFP_RETRY_MAYFAIL;
	}
	return 0;
}

u32 tms_gfp(gfp_t gfp, gfp_t asked)
{
	const gfp_t known = __GFP_FS | __GFP_IO | __GFP_RECLAIM | __GFP_MOVABLE | __GFP_HIGH |
			    __GFP_NOWARN | __GFP_NOFAIL;
	/* The allocator's own business: cpusets */
	const gfp_t ignored = __GFP_NORETRY | __GFP_HARDWALL;

	return (gfp & __GFP_FS ? TMS_GFP_FS : 0) |
	       (gfp & __GFP_IO ? TMS_GFP_IO : 0) |
	       (gfp & __GFP_DIRECT_RECLAIM ? TMS_GFP_DIRECT_RECLAIM : 0) |
	       (gfp & __GFP_KSWAPD_RECLAIM ? TMS_GFP_KSWAPD : 0) |
	       (gfp & __GFP_MOVABLE ? TMS_GFP_MOVABLE : 0) |
	       (gfp & __GFP_HIGH ? TMS_GFP_HIGH : 0) |
	       (gfp & __GFP_NOWARN ? TMS_GFP_NOWARN : 0) |
	       (gfp & __GFP_NOFAIL ? TMS_GFP_NOFAIL : 0) |
	       ((gfp ^ asked) & ~(known | ignored) ? TMS_GFP_OTHER : 0);
}

void tms_gfp_text(char *buf, gfp_t gfp)
{
	gfp &= ~TMS_GFP_ALWAYS;
	snprintf(buf, TMS_TEXT, "%pGg", &gfp);
}

void tms_masks_add(struct tms_masks *m, gfp_t gfp)
{
	m->any |= gfp;
	m->all = m->count++ ? m->all & gfp : gfp;
}

void tms_masks_report(struct tms_seen *to, const struct tms_masks *m, gfp_t asked)
{
	to->count = m->count;
	to->any = tms_gfp(m->any, asked);
	to->all = tms_gfp(m->all, asked);
	if (m->count)
		tms_gfp_text(to->text, m->any);
}

/*
 * An order-0 page, with the mask that the allocator used for it. The report of
 * this request comes after those of any that were made on its behalf.
 */
struct page *tms_alloc_page(gfp_t gfp, gfp_t *used)
{
	struct tms_last *last = &tms_last[in_hardirq() ? 2 : in_serving_softirq() ? 1 : 0];
	struct page *page;

	last->valid = false;
	page = alloc_page(gfp | TMS_GFP_ALWAYS);
	*used = last->valid && last->page == page ? last->gfp : 0;
	return page;
}

static void tms_page_alloc(void *data, struct page *page, unsigned int order,
			   gfp_t gfp, int migratetype)
{
	struct tms_last *last;

	tms_stress_page_alloc(page, gfp);
	if (current != READ_ONCE(tms_task) || in_nmi())
		return;
	last = &tms_last[in_hardirq() ? 2 : in_serving_softirq() ? 1 : 0];
	last->page = page;
	last->gfp = gfp;
	last->valid = true;
	if (!in_task())
		return;
	if (tms_all_pages)
		tms_masks_add(tms_all_pages, gfp);
	tms_entry_page_alloc(order, gfp);
	tms_vmalloc_page_alloc(page, order, gfp);
}

static void tms_percpu_alloc(void *data, unsigned long call_site, bool reserved,
			     bool is_atomic, size_t size, size_t align,
			     void *base_addr, int off, void __percpu *ptr,
			     size_t bytes_alloc, gfp_t gfp)
{
	tms_stress_percpu_alloc(gfp);
	if (current == READ_ONCE(tms_task) && tms_all_percpu && in_task())
		tms_masks_add(tms_all_percpu, gfp);
}

static void tms_newtask(void *data, struct task_struct *task, u64 clone_flags)
{
	tms_given_to(task);
	if (current != READ_ONCE(tms_parent))
		return;
	tms_children.open = tms_scope(task_memalloc_scope(task));
	tms_children.any |= tms_children.open;
	tms_children.count++;
}

/* Found by name: of the trace events, modules see neither symbols nor headers. */
static struct tms_probe {
	const char *name;
	void *func;
	struct tracepoint *tp;
	bool registered;
} tms_probes[] = {
	{ "mm_page_alloc",		tms_page_alloc },
	{ "percpu_alloc_percpu",	tms_percpu_alloc },
	{ "task_newtask",		tms_newtask },
};

static void tms_find_tracepoint(struct tracepoint *tp, void *priv)
{
	for (int i = 0; i < ARRAY_SIZE(tms_probes); i++) {
		if (!strcmp(tp->name, tms_probes[i].name))
			tms_probes[i].tp = tp;
	}
}

static void tms_remove_probes(void)
{
	for (int i = 0; i < ARRAY_SIZE(tms_probes); i++) {
		struct tms_probe *p = &tms_probes[i];

		if (p->registered)
			tracepoint_probe_unregister(p->tp, p->func, NULL);
	}
	tracepoint_synchronize_unregister();
}

static int tms_insert_probes(void)
{
	for_each_kernel_tracepoint(tms_find_tracepoint, NULL);
	for (int i = 0; i < ARRAY_SIZE(tms_probes); i++) {
		struct tms_probe *p = &tms_probes[i];
		int err = -ENOENT;

		if (p->tp)
			err = tracepoint_probe_register(p->tp, p->func, NULL);
		if (err) {
			pr_err("no probe on tracepoint %s: %d\n", p->name, err);
			tms_remove_probes();
			return err;
		}
		p->registered = true;
	}
	return 0;
}

struct tms_kthread {
	struct completion done;
	u32 open;
};

static int tms_kthread(void *data)
{
	struct tms_kthread *k = data;

	k->open = tms_own();
	complete(&k->done);
	return 0;
}

static int tms_kthread_run(struct tms_child *child)
{
	struct tms_kthread k;
	struct task_struct *task;
	struct tms_cookies c;

	init_completion(&k.done);
	tms_open(&c, child->scopes);
	task = kthread_run(tms_kthread, &k, "tms_kthread");
	if (!IS_ERR(task))
		wait_for_completion(&k.done);
	tms_close(&c);
	if (IS_ERR(task))
		return PTR_ERR(task);
	child->open = k.open;
	return 0;
}

static long tms_leak_open(struct tms_cookies *c, unsigned long scopes)
{
	if (scopes & ~TMS_SCOPES || tms_parent)
		return -EINVAL;
	tms_children = (struct tms_child){ };
	tms_leaking = c;
	WRITE_ONCE(tms_parent, current);
	tms_expect_leak(TMS_SCOPES);
	tms_open(c, scopes);
	return 0;
}

static long tms_leak_close(struct tms_cookies *c)
{
	if (tms_parent != current || tms_leaking != c)
		return -EINVAL;
	tms_close(c);
	tms_expect_leak(0);
	WRITE_ONCE(tms_parent, NULL);
	return 0;
}

static int tms_run(unsigned int cmd, void *arg)
{
	switch (cmd) {
	case TMS_IOC_QUERY:
		*(struct tms_query *)arg = (struct tms_query){
			.open = tms_own(),
			.active = tms_active(),
		};
		return 0;
	case TMS_IOC_RECLAIM:
		return tms_reclaim_run(arg);
	case TMS_IOC_MEMCG:
		return tms_memcg_run(arg);
	case TMS_IOC_ALLOC:
		return tms_alloc_run(arg);
	case TMS_IOC_ENTRY:
		return tms_entry_run(arg);
	case TMS_IOC_INTERRUPT:
		return tms_interrupt_run(arg);
	case TMS_IOC_KTHREAD:
		return tms_kthread_run(arg);
	case TMS_IOC_FAIL:
		return tms_fail_run(arg);
	case TMS_IOC_NOFAIL:
		return tms_nofail_run(arg);
	case TMS_IOC_VMALLOC:
		return tms_vmalloc_run(arg);
	case TMS_IOC_LATENCY:
		return tms_latency_run(arg);
	case TMS_IOC_NOLOCK:
		return tms_nolock_run(arg);
	case TMS_IOC_EXHAUST:
		return tms_exhaust_run(arg);
	case TMS_IOC_ACCOUNT:
		return tms_account_run(arg);
	case TMS_IOC_FULL:
		return tms_full_run(arg);
	case TMS_IOC_REWRITE:
		return tms_rewrite_run(arg);
	case TMS_IOC_NEWTASK:
		*(struct tms_child *)arg = tms_children;
		return 0;
	}
	return -ENOTTY;
}

static long tms_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *user = (void __user *)arg;
	u32 scopes;
	void *buf;
	long err;

	switch (cmd) {
	case TMS_IOC_LEAK_OPEN:
	case TMS_IOC_LEAK_CLOSE:
		err = mutex_lock_interruptible(&tms_lock);
		if (err)
			return err;
		if (cmd == TMS_IOC_LEAK_OPEN)
			err = tms_leak_open(file->private_data, arg);
		else
			err = tms_leak_close(file->private_data);
		mutex_unlock(&tms_lock);
		return err;
	/* Without the lock: others go on meanwhile. */
	case TMS_IOC_SLEEP:
		return tms_sleep(arg);
	case TMS_IOC_WAKE:
		return tms_wake();
	case TMS_IOC_FORGET:
		return tms_forget(arg);
	case TMS_IOC_GIVE:
		return tms_give(arg);
	}

	if (_IOC_TYPE(cmd) != '~' || _IOC_SIZE(cmd) < sizeof(scopes) ||
	    _IOC_SIZE(cmd) > PAGE_SIZE)
		return -ENOTTY;
	buf = kzalloc(_IOC_SIZE(cmd), GFP_KERNEL);
	if (!buf)
		return -ENOMEM;
	err = -EFAULT;
	if (_IOC_DIR(cmd) & _IOC_WRITE) {
		if (copy_from_user(buf, user, _IOC_SIZE(cmd)))
			goto free;
		/* Every request begins with the scopes that it wants opened. */
		memcpy(&scopes, buf, sizeof(scopes));
		err = -EINVAL;
		if (scopes & ~TMS_SCOPES)
			goto free;
	}

	if (cmd == TMS_IOC_STRESS) {
		err = tms_stress_run(file, buf);
		goto copy;
	}
	err = mutex_lock_interruptible(&tms_lock);
	if (err)
		goto free;
	WRITE_ONCE(tms_task, current);
	err = tms_run(cmd, buf);
	WRITE_ONCE(tms_task, NULL);
	mutex_unlock(&tms_lock);
copy:
	if (!err && copy_to_user(user, buf, _IOC_SIZE(cmd)))
		err = -EFAULT;
free:
	kfree(buf);
	return err;
}

/*
 * The same from a worker of io_uring, which is a thread of the process: without
 * IOSQE_ASYNC from the one that polls the submission queue.
 */
static int tms_uring_cmd(struct io_uring_cmd *cmd, unsigned int issue_flags)
{
	return tms_ioctl(cmd->file, cmd->cmd_op, READ_ONCE(*io_uring_sqe_cmd(cmd->sqe, u64)));
}

static int tms_fop_open(struct inode *inode, struct file *file)
{
	struct tms_cookies *c = kzalloc_obj(*c);

	file->private_data = c;
	return c ? 0 : -ENOMEM;
}

static int tms_fop_release(struct inode *inode, struct file *file)
{
	/* A task that exited with its scopes open took them along. */
	mutex_lock(&tms_lock);
	if (tms_leaking == file->private_data)
		WRITE_ONCE(tms_parent, NULL);
	mutex_unlock(&tms_lock);
	tms_stress_release(file);
	kfree(file->private_data);
	return 0;
}

static const struct file_operations tms_fops = {
	.owner = THIS_MODULE,
	.open = tms_fop_open,
	.release = tms_fop_release,
	.unlocked_ioctl = tms_ioctl,
	.uring_cmd = tms_uring_cmd,
};

static struct miscdevice tms_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "test_memalloc_scope",
	.fops = &tms_fops,
	.mode = 0600,
};

static int __init tms_init(void)
{
	int err;

	err = tms_reclaim_init();
	if (err)
		return err;
	err = tms_memcg_init();
	if (err)
		goto reclaim;
	err = tms_interrupt_init();
	if (err)
		goto memcg;
	err = tms_stress_init();
	if (err)
		goto interrupt;
	err = tms_insert_probes();
	if (err)
		goto stress;
	err = misc_register(&tms_misc);
	if (!err)
		return 0;

	tms_remove_probes();
stress:
	tms_stress_exit();
interrupt:
	tms_interrupt_exit();
memcg:
	tms_memcg_exit();
reclaim:
	tms_reclaim_exit();
	return err;
}

static void __exit tms_exit(void)
{
	misc_deregister(&tms_misc);
	tms_remove_probes();
	tms_stress_exit();
	tms_interrupt_exit();
	tms_memcg_exit();
	tms_reclaim_exit();
}

module_init(tms_init);
module_exit(tms_exit);
MODULE_DESCRIPTION("Helper of the memalloc_scope selftest");
MODULE_LICENSE("GPL");
