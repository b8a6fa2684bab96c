// SPDX-License-Identifier: GPL-2.0
/*
 * Counts the callers of kernel functions by the scopes that they have open, and
 * makes scopes ineffective for as long as such a function runs: the kernel with
 * one protection less, without building another.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/kprobes.h>
#include <linux/memalloc_scope.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "../../test_modules/test_memalloc_scope.h"
#include "test_memalloc_probe.h"

/* Allocations nest, and sleep: many may be under way at once. */
#define TMP_ACTIVE	512
/* Tasks in an outer function */
#define TMP_INSIDE	64

struct tmp_slot {
	union {
		struct kprobe kp;	/* only counts */
		struct kretprobe rp;	/* if its return matters */
	};
	char symbol[TMP_SYMBOL];
	bool returns;		/* something is to be cleared, or it is an outer one */
	bool outer;
	memalloc_scope_t clear;
	pid_t task;
	const struct tmp_slot *within;
	/* A task changes its own entry only. */
	struct task_struct *inside[TMP_INSIDE];
	atomic_t taken;		/* by calls that have not returned */
	atomic64_t calls, softirq, journal, reclaim, journal_reclaim, cleared, crowded;
	atomic64_t open[TMP_SCOPES], softirq_open[TMP_SCOPES];
};

struct tmp_file {
	struct mutex lock;	/* serialises changes of @nr */
	unsigned int nr;
	struct tmp_slot *slots[TMP_PROBES];
};

static const memalloc_scope_t tmp_scopes[TMP_SCOPES] = {
	MEMALLOC_SCOPE_NOFS,
	MEMALLOC_SCOPE_NOIO,
	MEMALLOC_SCOPE_PIN,
	MEMALLOC_SCOPE_NORECLAIM,
	MEMALLOC_SCOPE_NOWAIT,
	MEMALLOC_SCOPE_NOWARN,
	MEMALLOC_SCOPE_IO_FLUSHER,
};

/* A breakpoint is taken as an NMI, which counts as a hardirq, too. */
static bool tmp_in_hardirq(void)
{
	return hardirq_count() > (in_nmi() ? HARDIRQ_OFFSET : 0);
}

static int tmp_find(const struct tmp_slot *s)
{
	for (int i = 0; i < TMP_INSIDE; i++) {
		if (READ_ONCE(s->inside[i]) == current)
			return i;
	}
	return -1;
}

static void tmp_enter(struct tmp_slot *s)
{
	for (int i = 0; i < TMP_INSIDE; i++) {
		if (!cmpxchg(&s->inside[i], NULL, current))
			return;
	}
	atomic64_inc(&s->crowded);
}

static void tmp_leave(struct tmp_slot *s)
{
	int i = tmp_find(s);

	if (i >= 0)
		WRITE_ONCE(s->inside[i], NULL);
}

/* Interrupts on top of a task are not within what it does. */
static bool tmp_wanted(const struct tmp_slot *s)
{
	if (s->task && s->task != current->pid)
		return false;
	return !s->within || (!tmp_in_hardirq() && !in_serving_softirq() &&
			      tmp_find(s->within) >= 0);
}

static void tmp_count(struct tmp_slot *s)
{
	memalloc_scope_t open = task_memalloc_scope(current);
	bool softirq = in_serving_softirq();

	atomic64_inc(&s->calls);
	if (tmp_in_hardirq())
		return;
	if (softirq)
		atomic64_inc(&s->softirq);
	for (int i = 0; i < TMP_SCOPES; i++) {
		if (!(open & tmp_scopes[i]))
			continue;
		atomic64_inc(&s->open[i]);
		if (softirq)
			atomic64_inc(&s->softirq_open[i]);
	}
	/* Softirqs have neither a transaction nor reclaim of their own. */
	if (softirq)
		return;
	if (current->journal_info)
		atomic64_inc(&s->journal);
	if (current->reclaim_state)
		atomic64_inc(&s->reclaim);
	if (current->journal_info && current->reclaim_state)
		atomic64_inc(&s->journal_reclaim);
}

static int tmp_kprobe(struct kprobe *kp, struct pt_regs *regs)
{
	struct tmp_slot *s = container_of(kp, struct tmp_slot, kp);

	if (tmp_wanted(s))
		tmp_count(s);
	return 0;
}

static int tmp_entry(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct kretprobe *rp = get_kretprobe(ri);
	memalloc_scope_t *taken = (memalloc_scope_t *)ri->data;
	struct tmp_slot *s;

	*taken = MEMALLOC_SCOPE_NONE;
	if (!rp)
		return 1;
	s = container_of(rp, struct tmp_slot, rp);
	if (!tmp_wanted(s))
		return 1;
	tmp_count(s);
	if (tmp_in_hardirq())
		return 1;
	if (s->outer)
		tmp_enter(s);
	*taken = task_memalloc_scope(current) & READ_ONCE(s->clear);
	if (!*taken)
		return !s->outer;
	atomic_inc(&s->taken);
	atomic64_inc(&s->cleared);
	/* data_race(): as in __memalloc_scope_set(), others only want a name. */
	data_race(current->memalloc_scope &= ~*taken);
	return 0;
}
NOKPROBE_SYMBOL(tmp_entry);

static int tmp_return(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct kretprobe *rp = get_kretprobe(ri);
	memalloc_scope_t *taken = (memalloc_scope_t *)ri->data;
	struct tmp_slot *s;

	/* data_race(): see tmp_entry() */
	data_race(current->memalloc_scope |= *taken);
	if (!rp)
		return 0;
	s = container_of(rp, struct tmp_slot, rp);
	if (s->outer)
		tmp_leave(s);
	if (*taken)
		atomic_dec(&s->taken);
	return 0;
}
NOKPROBE_SYMBOL(tmp_return);

static memalloc_scope_t tmp_raw(u32 tms)
{
	memalloc_scope_t scope = MEMALLOC_SCOPE_NONE;

	for (int i = 0; i < TMP_SCOPES; i++) {
		if (tms & BIT(i))
			scope |= tmp_scopes[i];
	}
	return scope;
}

static int tmp_add(struct tmp_file *f, struct tmp_probe *p)
{
	struct tmp_slot *s;
	int err;

	if (p->clear & ~GENMASK(TMP_SCOPES - 1, 0) || f->nr == TMP_PROBES ||
	    p->within > f->nr || (p->within && !f->slots[p->within - 1]->outer))
		return -EINVAL;
	s = kzalloc_obj(*s);
	if (!s)
		return -ENOMEM;
	strscpy(s->symbol, p->symbol);
	s->task = p->task;
	s->clear = tmp_raw(p->clear);
	s->outer = p->outer;
	s->within = p->within ? f->slots[p->within - 1] : NULL;
	s->returns = p->clear || p->outer;
	if (s->returns) {
		s->rp.kp.symbol_name = s->symbol;
		s->rp.entry_handler = tmp_entry;
		s->rp.handler = tmp_return;
		s->rp.data_size = sizeof(memalloc_scope_t);
		s->rp.maxactive = TMP_ACTIVE;
		err = register_kretprobe(&s->rp);
	} else {
		s->kp.symbol_name = s->symbol;
		s->kp.pre_handler = tmp_kprobe;
		err = register_kprobe(&s->kp);
	}
	if (err) {
		kfree(s);
		return -EINVAL;
	}
	p->index = f->nr;
	f->slots[f->nr++] = s;
	return 0;
}

static int tmp_read(struct tmp_file *f, struct tmp_count *c)
{
	struct tmp_slot *s;

	if (c->index >= f->nr)
		return -EINVAL;
	s = f->slots[c->index];
	c->calls = atomic64_read(&s->calls);
	c->softirq = atomic64_read(&s->softirq);
	c->journal = atomic64_read(&s->journal);
	c->reclaim = atomic64_read(&s->reclaim);
	c->journal_reclaim = atomic64_read(&s->journal_reclaim);
	c->cleared = atomic64_read(&s->cleared);
	c->missed = s->returns ? s->rp.nmissed + s->rp.kp.nmissed : s->kp.nmissed;
	c->missed += atomic64_read(&s->crowded);
	for (int i = 0; i < TMP_SCOPES; i++) {
		c->open[i] = atomic64_read(&s->open[i]);
		c->softirq_open[i] = atomic64_read(&s->softirq_open[i]);
	}
	return 0;
}

static long tmp_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *user = (void __user *)arg;
	struct tmp_file *f = file->private_data;
	struct tmp_probe p;
	struct tmp_count c;
	long err;

	switch (cmd) {
	case TMP_IOC_ADD:
		if (copy_from_user(&p, user, sizeof(p)))
			return -EFAULT;
		p.symbol[TMP_SYMBOL - 1] = '\0';
		scoped_guard(mutex, &f->lock)
			err = tmp_add(f, &p);
		if (!err && copy_to_user(user, &p, sizeof(p)))
			err = -EFAULT;
		return err;
	case TMP_IOC_READ:
		if (copy_from_user(&c, user, sizeof(c)))
			return -EFAULT;
		scoped_guard(mutex, &f->lock)
			err = tmp_read(f, &c);
		if (!err && copy_to_user(user, &c, sizeof(c)))
			err = -EFAULT;
		return err;
	}
	return -ENOTTY;
}

static int tmp_open(struct inode *inode, struct file *file)
{
	struct tmp_file *f = kzalloc_obj(*f);

	if (!f)
		return -ENOMEM;
	mutex_init(&f->lock);
	file->private_data = f;
	return 0;
}

static int tmp_release(struct inode *inode, struct file *file)
{
	struct tmp_file *f = file->private_data;

	/* Those within others go first. */
	while (f->nr) {
		struct tmp_slot *s = f->slots[--f->nr];

		if (!s->returns) {
			unregister_kprobe(&s->kp);
			kfree(s);
			continue;
		}
		/* Without the probe, nobody gives back what was taken. */
		WRITE_ONCE(s->clear, MEMALLOC_SCOPE_NONE);
		while (atomic_read(&s->taken))
			msleep(20);
		unregister_kretprobe(&s->rp);
		kfree(s);
	}
	kfree(f);
	return 0;
}

static const struct file_operations tmp_fops = {
	.owner = THIS_MODULE,
	.open = tmp_open,
	.release = tmp_release,
	.unlocked_ioctl = tmp_ioctl,
};

static struct miscdevice tmp_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "test_memalloc_probe",
	.fops = &tmp_fops,
	.mode = 0600,
};
module_misc_device(tmp_misc);

MODULE_DESCRIPTION("Watches allocation scopes, and makes them ineffective, for tests");
MODULE_LICENSE("GPL");
