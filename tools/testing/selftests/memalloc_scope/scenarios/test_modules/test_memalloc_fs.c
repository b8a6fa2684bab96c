// SPDX-License-Identifier: GPL-2.0
/*
 * Watches a file system for reclaim inside its own transactions: how often there
 * was any, and how often it went on to prune the caches of that file system, which
 * is the recursion that the nofs scope prevents.
 *
 * super_cache_scan() gives up before it prunes, unless __GFP_FS allows it to. The
 * scope takes that away, so not one call of the two functions that it prunes with
 * may come from within a transaction.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/file.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/jhash.h>
#include <linux/kprobes.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/stacktrace.h>
#include <linux/swap.h>
#include <linux/uaccess.h>

#include "test_memalloc_fs.h"

/* Tasks inside a transaction of xfs, and call chains that were logged */
#define TMF_TASKS	128
#define TMF_CHAINS	256
#define TMF_DEPTH	24

/*
 * Nothing in a task says that it is inside a transaction of xfs, but for the scope
 * itself. So it is written down here. Only the task itself changes its slot, once
 * it has taken one.
 */
struct tmf_task {
	struct task_struct *task;
	int depth;
};

static struct tmf_state {
	struct file *watcher;
	struct file *file;
	struct super_block *sb;
	bool xfs;
	u32 flags;
	struct tmf_task tasks[TMF_TASKS];
	u32 chains[TMF_CHAINS];
	atomic_t nr_chains;
	atomic64_t direct, memcg, recursions, others, scope_only, transactions, missed;
} tmf;

static DEFINE_MUTEX(tmf_lock);	/* serialises changes of what is watched */

static struct tmf_task *tmf_find(void)
{
	for (int i = 0; i < TMF_TASKS; i++) {
		if (READ_ONCE(tmf.tasks[i].task) == current)
			return &tmf.tasks[i];
	}
	return NULL;
}

static bool tmf_in_transaction(void)
{
	return tmf.xfs ? !!tmf_find() : !!current->journal_info;
}

static int tmf_xfs_begin(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct tmf_task *t = tmf_find();

	if (regs_return_value(regs))
		return 0;
	atomic64_inc(&tmf.transactions);
	for (int i = 0; !t && i < TMF_TASKS; i++) {
		if (!cmpxchg(&tmf.tasks[i].task, NULL, current))
			t = &tmf.tasks[i];
	}
	if (t)
		t->depth++;
	else
		atomic64_inc(&tmf.missed);
	return 0;
}
NOKPROBE_SYMBOL(tmf_xfs_begin);

/* Neither a transaction that was rolled, nor one begun before the probes, matters. */
static int tmf_xfs_end(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct tmf_task *t = tmf_find();

	if (t && !--t->depth)
		WRITE_ONCE(t->task, NULL);
	return 0;
}
NOKPROBE_SYMBOL(tmf_xfs_end);

static int tmf_direct(struct kprobe *kp, struct pt_regs *regs)
{
	if (tmf_in_transaction())
		atomic64_inc(&tmf.direct);
	return 0;
}

static int tmf_memcg(struct kprobe *kp, struct pt_regs *regs)
{
	if (tmf_in_transaction())
		atomic64_inc(&tmf.memcg);
	return 0;
}

static void tmf_log_stack(const char *what)
{
	unsigned long chain[TMF_DEPTH];
	unsigned int nr = stack_trace_save(chain, TMF_DEPTH, 4);
	u32 hash = jhash(chain, nr * sizeof(*chain), 0) | 1;

	for (int i = 0; i < TMF_CHAINS; i++) {
		if (cmpxchg(&tmf.chains[i], 0, hash) == 0)
			break;
		if (READ_ONCE(tmf.chains[i]) == hash)
			return;
	}
	if (atomic_inc_return(&tmf.nr_chains) > TMF_CHAINS)
		return;
	pr_info("%s inside a transaction\n", what);
	stack_trace_print(chain, nr, 2);
}

static int tmf_prune(struct kprobe *kp, struct pt_regs *regs)
{
	struct super_block *sb = (struct super_block *)regs_get_kernel_argument(regs, 0);

	if (!current->reclaim_state || !tmf_in_transaction())
		return 0;
	atomic64_inc(sb == tmf.sb ? &tmf.recursions : &tmf.others);
	if (tmf.flags & TMF_STACKS)
		tmf_log_stack("pruning caches");
	return 0;
}

static int tmf_page(struct kprobe *kp, struct pt_regs *regs)
{
	gfp_t gfp = (__force gfp_t)regs_get_kernel_argument(regs, 0);

	if ((gfp & (__GFP_FS | __GFP_DIRECT_RECLAIM)) != (__GFP_FS | __GFP_DIRECT_RECLAIM) ||
	    hardirq_count() > (in_nmi() ? HARDIRQ_OFFSET : 0) || in_serving_softirq() ||
	    !tmf_in_transaction())
		return 0;
	atomic64_inc(&tmf.scope_only);
	if (tmf.flags & TMF_STACKS)
		tmf_log_stack("page with __GFP_FS");
	return 0;
}

static struct kprobe tmf_probes[] = {
	{ .symbol_name = "try_to_free_pages", .pre_handler = tmf_direct },
	{ .symbol_name = "try_to_free_mem_cgroup_pages", .pre_handler = tmf_memcg },
	{ .symbol_name = "prune_dcache_sb", .pre_handler = tmf_prune },
	{ .symbol_name = "prune_icache_sb", .pre_handler = tmf_prune },
	{ .symbol_name = "__alloc_frozen_pages_noprof", .pre_handler = tmf_page },
};

static struct kretprobe tmf_xfs_probes[] = {
	{ .kp.symbol_name = "xfs_trans_alloc", .handler = tmf_xfs_begin },
	{ .kp.symbol_name = "xfs_trans_commit", .handler = tmf_xfs_end },
	{ .kp.symbol_name = "xfs_trans_cancel", .handler = tmf_xfs_end },
};

static int tmf_registered, tmf_xfs_registered;

static void tmf_stop(void)
{
	while (tmf_xfs_registered)
		unregister_kretprobe(&tmf_xfs_probes[--tmf_xfs_registered]);
	while (tmf_registered)
		unregister_kprobe(&tmf_probes[--tmf_registered]);
	if (tmf.file)
		fput(tmf.file);
	memset(&tmf, 0, sizeof(tmf));
}

static int tmf_start(struct file *watcher, const struct tmf_watch *w)
{
	/* The last probe is for pages. */
	int probes = ARRAY_SIZE(tmf_probes) - !(w->flags & TMF_PAGES);
	int err = 0;

	if (tmf.watcher)
		return -EBUSY;
	tmf.file = fget(w->fd);
	if (!tmf.file)
		return -EBADF;
	tmf.watcher = watcher;
	tmf.sb = file_inode(tmf.file)->i_sb;
	tmf.xfs = !strcmp(tmf.sb->s_type->name, "xfs");
	tmf.flags = w->flags;

	while (!err && tmf.xfs && tmf_xfs_registered < ARRAY_SIZE(tmf_xfs_probes)) {
		struct kretprobe *rp = &tmf_xfs_probes[tmf_xfs_registered];
		kretprobe_handler_t handler = rp->handler;
		const char *symbol = rp->kp.symbol_name;

		/* A probe that was in use before is not as it was. */
		memset(rp, 0, sizeof(*rp));
		rp->kp.symbol_name = symbol;
		rp->handler = handler;
		rp->maxactive = TMF_TASKS;
		err = register_kretprobe(rp);
		tmf_xfs_registered += !err;
	}
	while (!err && tmf_registered < probes) {
		struct kprobe *kp = &tmf_probes[tmf_registered];
		kprobe_pre_handler_t handler = kp->pre_handler;
		const char *symbol = kp->symbol_name;

		memset(kp, 0, sizeof(*kp));
		kp->symbol_name = symbol;
		kp->pre_handler = handler;
		err = register_kprobe(kp);
		tmf_registered += !err;
	}
	if (err) {
		pr_err("a function cannot be probed: %d\n", err);
		tmf_stop();
		return -EINVAL;
	}
	return 0;
}

static void tmf_read(struct tmf_count *c)
{
	*c = (struct tmf_count) {
		.direct = atomic64_read(&tmf.direct),
		.memcg = atomic64_read(&tmf.memcg),
		.recursions = atomic64_read(&tmf.recursions),
		.others = atomic64_read(&tmf.others),
		.scope_only = atomic64_read(&tmf.scope_only),
		.transactions = atomic64_read(&tmf.transactions),
		.missed = atomic64_read(&tmf.missed),
	};
	for (int i = 0; i < tmf_registered; i++)
		c->missed += tmf_probes[i].nmissed;
	for (int i = 0; i < tmf_xfs_registered; i++)
		c->missed += tmf_xfs_probes[i].nmissed + tmf_xfs_probes[i].kp.nmissed;
}

static long tmf_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *user = (void __user *)arg;
	struct tmf_watch w;
	struct tmf_count c;

	guard(mutex)(&tmf_lock);
	switch (cmd) {
	case TMF_IOC_WATCH:
		if (copy_from_user(&w, user, sizeof(w)))
			return -EFAULT;
		if (w.flags & ~(TMF_PAGES | TMF_STACKS))
			return -EINVAL;
		return tmf_start(file, &w);
	case TMF_IOC_READ:
		if (tmf.watcher != file)
			return -EINVAL;
		tmf_read(&c);
		return copy_to_user(user, &c, sizeof(c)) ? -EFAULT : 0;
	}
	return -ENOTTY;
}

static int tmf_release(struct inode *inode, struct file *file)
{
	guard(mutex)(&tmf_lock);
	if (tmf.watcher == file)
		tmf_stop();
	return 0;
}

static const struct file_operations tmf_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = tmf_ioctl,
	.release = tmf_release,
};

static struct miscdevice tmf_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "test_memalloc_fs",
	.fops = &tmf_fops,
	.mode = 0600,
};
module_misc_device(tmf_misc);

MODULE_DESCRIPTION("Watches a file system for reclaim inside its own transactions");
MODULE_LICENSE("GPL");
