// SPDX-License-Identifier: GPL-2.0
/*
 * Disks that need memory before they can write any out: what noio scopes protect
 * runtime power management and resets from. This part watches what the task does
 * that holds up such a disk.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/fs.h>
#include <linux/memalloc_scope.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/tracepoint.h>
#include <linux/uaccess.h>

#include "tmd_internal.h"

#define TMD_SECTIONS	8
#define TMD_SITES	6

static unsigned int disk_mb;
module_param(disk_mb, uint, 0444);
MODULE_PARM_DESC(disk_mb, "size of the RAM disk, 0 for none");

static bool usb;
module_param(usb, bool, 0444);
MODULE_PARM_DESC(usb, "register the driver for USB disks");

static struct tmd_section *tmd_sections[TMD_SECTIONS];
static DEFINE_MUTEX(tmd_lock);

static struct tmd_setup tmd_setup = {
	.help_ms = 300,
	.stuck_ms = 10000,
};

static struct {
	atomic64_t sections, noio, allocating, pages, failed;
	atomic64_t reclaims, reclaims_io, reclaims_fs;
	atomic64_t kmallocs, kmallocs_io, kmallocs_kept;
	atomic64_t recursions, arrived, elsewhere, helped, stuck, max_us;
	unsigned long sites[TMD_SITES];
} tmd_counts[TMD_KINDS];

/* Keeps @sections and @noio in step: readers compare them. */
static DEFINE_SPINLOCK(tmd_count_lock);

bool tmd_unprotected(u32 what)
{
	return READ_ONCE(tmd_setup.unprotected) & what;
}

static struct tmd_section *tmd_own_section(void)
{
	if (!in_task())
		return NULL;
	for (int i = 0; i < TMD_SECTIONS; i++) {
		struct tmd_section *s = READ_ONCE(tmd_sections[i]);

		if (s && READ_ONCE(s->task) == current)
			return s;
	}
	return NULL;
}

/* A bio, before it may have to wait for the queue */
static void tmd_bio_queue(void *data, struct bio *bio)
{
	struct request_queue *q = bdev_get_queue(bio->bi_bdev);
	struct tmd_section *s = tmd_own_section();

	if (!s) {
		for (int i = 0; i < TMD_SECTIONS; i++) {
			s = READ_ONCE(tmd_sections[i]);
			if (s && READ_ONCE(s->task) && READ_ONCE(s->queue) == q)
				atomic64_inc(&tmd_counts[READ_ONCE(s->kind)].arrived);
		}
		return;
	}
	if (s->queue != q) {
		atomic64_inc(&tmd_counts[s->kind].elsewhere);
		return;
	}
	atomic64_inc(&tmd_counts[s->kind].recursions);
	/* A timer that has helped before must not do so again. */
	if (s->allocating && !s->recursed && !READ_ONCE(s->helped)) {
		WRITE_ONCE(s->recursed, true);
		mod_timer(&s->timer, jiffies + msecs_to_jiffies(READ_ONCE(tmd_setup.help_ms)));
	}
}

static void tmd_direct_reclaim(void *data, gfp_t gfp, int order, struct mem_cgroup *memcg)
{
	struct tmd_section *s = tmd_own_section();

	if (!s)
		return;
	s->reclaims++;
	atomic64_inc(&tmd_counts[s->kind].reclaims);
	if (gfp & __GFP_IO)
		atomic64_inc(&tmd_counts[s->kind].reclaims_io);
	if (gfp & __GFP_FS)
		atomic64_inc(&tmd_counts[s->kind].reclaims_fs);
}

static void tmd_remember(unsigned long *sites, unsigned long site)
{
	for (int i = 0; i < TMD_SITES; i++) {
		unsigned long old = cmpxchg(&sites[i], 0, site);

		if (!old || old == site)
			return;
	}
}

static void tmd_kmalloc(void *data, unsigned long site, const void *ptr, size_t req,
			size_t alloc, gfp_t gfp, int node)
{
	struct tmd_section *s = tmd_own_section();

	if (!s)
		return;
	atomic64_inc(&tmd_counts[s->kind].kmallocs);
	if (!(gfp & __GFP_IO))
		return;
	atomic64_inc(&tmd_counts[s->kind].kmallocs_io);
	tmd_remember(tmd_counts[s->kind].sites, site);
	if (current_gfp_context(gfp) & __GFP_IO)
		atomic64_inc(&tmd_counts[s->kind].kmallocs_kept);
}

static struct tmd_probe {
	const char *name;
	void *func;
	struct tracepoint *tp;
	bool registered;
} tmd_probes[] = {
	{ "block_bio_queue",			tmd_bio_queue },
	{ "mm_vmscan_direct_reclaim_begin",	tmd_direct_reclaim },
	{ "kmalloc",				tmd_kmalloc },
};

static void tmd_find_tracepoint(struct tracepoint *tp, void *priv)
{
	for (int i = 0; i < ARRAY_SIZE(tmd_probes); i++) {
		if (!strcmp(tp->name, tmd_probes[i].name))
			tmd_probes[i].tp = tp;
	}
}

static void tmd_remove_probes(void)
{
	for (int i = 0; i < ARRAY_SIZE(tmd_probes); i++) {
		struct tmd_probe *p = &tmd_probes[i];

		if (p->registered)
			tracepoint_probe_unregister(p->tp, p->func, NULL);
	}
	tracepoint_synchronize_unregister();
}

static int tmd_insert_probes(void)
{
	for_each_kernel_tracepoint(tmd_find_tracepoint, NULL);
	for (int i = 0; i < ARRAY_SIZE(tmd_probes); i++) {
		struct tmd_probe *p = &tmd_probes[i];
		int err = -ENOENT;

		if (p->tp)
			err = tracepoint_probe_register(p->tp, p->func, NULL);
		if (err) {
			pr_err("no probe on tracepoint %s: %d\n", p->name, err);
			tmd_remove_probes();
			return err;
		}
		p->registered = true;
	}
	return 0;
}

static void tmd_timer(struct timer_list *t)
{
	struct tmd_section *s = timer_container_of(s, t, timer);

	if (READ_ONCE(s->recursed))
		atomic64_inc(&tmd_counts[s->kind].helped);
	else
		atomic64_inc(&tmd_counts[s->kind].stuck);
	WRITE_ONCE(s->helped, true);
	s->help(s);
}

int tmd_section_add(struct tmd_section *s)
{
	guard(mutex)(&tmd_lock);
	for (int i = 0; i < TMD_SECTIONS; i++) {
		if (tmd_sections[i])
			continue;
		timer_setup(&s->timer, tmd_timer, 0);
		WRITE_ONCE(tmd_sections[i], s);
		return 0;
	}
	return -ENOSPC;
}

/* The caller knows that nobody enters it any more. */
void tmd_section_remove(struct tmd_section *s)
{
	scoped_guard(mutex, &tmd_lock) {
		for (int i = 0; i < TMD_SECTIONS; i++) {
			if (tmd_sections[i] == s)
				WRITE_ONCE(tmd_sections[i], NULL);
		}
	}
	tracepoint_synchronize_unregister();
	timer_shutdown_sync(&s->timer);
}

void tmd_enter(struct tmd_section *s, enum tmd_kind kind, struct request_queue *queue)
{
	s->start = ktime_get();
	s->kind = kind;
	WRITE_ONCE(s->queue, queue);
	scoped_guard(spinlock, &tmd_count_lock) {
		atomic64_inc(&tmd_counts[kind].sections);
		if (memalloc_noio_active())
			atomic64_inc(&tmd_counts[kind].noio);
	}
	WRITE_ONCE(s->task, current);
}

void tmd_leave(struct tmd_section *s)
{
	s64 us = ktime_us_delta(ktime_get(), s->start);

	WRITE_ONCE(s->task, NULL);
	WRITE_ONCE(s->queue, NULL);
	/* Sections of two disks may race here: a figure for the report. */
	if (us > atomic64_read(&tmd_counts[s->kind].max_us))
		atomic64_set(&tmd_counts[s->kind].max_us, us);
}

bool tmd_allocate(struct tmd_section *s)
{
	unsigned int want = READ_ONCE(tmd_setup.reclaims);
	unsigned int max = READ_ONCE(tmd_setup.max_kb) / (PAGE_SIZE / SZ_1K);
	memalloc_scope_t taken = MEMALLOC_SCOPE_NONE;
	struct page *page, *next;
	unsigned int nr = 0;
	LIST_HEAD(pages);

	if (!want)
		return false;
	s->reclaims = 0;
	s->recursed = false;
	s->helped = false;
	s->allocating = true;
	mod_timer(&s->timer, jiffies + msecs_to_jiffies(READ_ONCE(tmd_setup.stuck_ms)));
	if (tmd_unprotected(TMD_NO_SCOPE)) {
		taken = READ_ONCE(current->memalloc_scope) & MEMALLOC_SCOPE_NOIO;
		/* As current does, in memalloc_scope.h */
		data_race(current->memalloc_scope &= ~taken);
	}
	/*
	 * GFP_KERNEL, but for the end: without anything clean to reclaim, GFP_NOIO
	 * would try for ever, and that is not what this is about. Nor is what comes
	 * after a deadlock.
	 */
	while (nr < max && s->reclaims < want && !READ_ONCE(s->helped)) {
		page = alloc_page(GFP_KERNEL | __GFP_RETRY_MAYFAIL | __GFP_NOWARN);
		if (!page) {
			atomic64_inc(&tmd_counts[s->kind].failed);
			break;
		}
		list_add(&page->lru, &pages);
		nr++;
	}
	/* As current does, in memalloc_scope.h */
	data_race(current->memalloc_scope |= taken);
	s->allocating = false;
	timer_delete_sync(&s->timer);
	list_for_each_entry_safe(page, next, &pages, lru)
		__free_page(page);
	atomic64_inc(&tmd_counts[s->kind].allocating);
	atomic64_add(nr, &tmd_counts[s->kind].pages);
	return s->helped;
}

static void tmd_read(struct tmd_stats *st)
{
	typeof(*tmd_counts) *c = &tmd_counts[st->kind];
	size_t len = 0;

	scoped_guard(spinlock, &tmd_count_lock) {
		st->sections = atomic64_read(&c->sections);
		st->noio = atomic64_read(&c->noio);
	}
	st->allocating = atomic64_read(&c->allocating);
	st->pages = atomic64_read(&c->pages);
	st->failed = atomic64_read(&c->failed);
	st->reclaims = atomic64_read(&c->reclaims);
	st->reclaims_io = atomic64_read(&c->reclaims_io);
	st->reclaims_fs = atomic64_read(&c->reclaims_fs);
	st->kmallocs = atomic64_read(&c->kmallocs);
	st->kmallocs_io = atomic64_read(&c->kmallocs_io);
	st->kmallocs_kept = atomic64_read(&c->kmallocs_kept);
	st->recursions = atomic64_read(&c->recursions);
	st->arrived = atomic64_read(&c->arrived);
	st->elsewhere = atomic64_read(&c->elsewhere);
	st->helped = atomic64_read(&c->helped);
	st->stuck = atomic64_read(&c->stuck);
	st->max_us = atomic64_read(&c->max_us);
	memset(st->sites, 0, sizeof(st->sites));
	for (int i = 0; i < TMD_SITES && c->sites[i]; i++)
		len += scnprintf(st->sites + len, sizeof(st->sites) - len, "%s%ps",
				 i ? " " : "", (void *)c->sites[i]);
}

static void tmd_give_back(struct list_head *ballast)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, ballast, lru)
		__free_page(page);
	INIT_LIST_HEAD(ballast);
}

static int tmd_leave_mb(struct list_head *ballast, u32 mb)
{
	const long keep = (long)mb << (20 - PAGE_SHIFT);

	tmd_give_back(ballast);
	for (long take = mb ? si_mem_available() - keep : 0; take > 0; take--) {
		struct page *page = alloc_page(GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN);

		if (!page)
			break;
		list_add(&page->lru, ballast);
		if (fatal_signal_pending(current))
			return -EINTR;
	}
	return 0;
}

static long tmd_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *user = (void __user *)arg;
	struct tmd_setup setup;
	struct tmd_stats st;
	u32 mb;

	switch (cmd) {
	case TMD_IOC_SETUP:
		if (copy_from_user(&setup, user, sizeof(setup)))
			return -EFAULT;
		scoped_guard(mutex, &tmd_lock) {
			WRITE_ONCE(tmd_setup.unprotected, setup.unprotected);
			WRITE_ONCE(tmd_setup.reclaims, setup.reclaims);
			WRITE_ONCE(tmd_setup.max_kb, setup.max_kb);
			WRITE_ONCE(tmd_setup.help_ms, setup.help_ms);
			WRITE_ONCE(tmd_setup.stuck_ms, setup.stuck_ms);
			tmd_ram_setup();
			guard(spinlock)(&tmd_count_lock);
			memset(tmd_counts, 0, sizeof(tmd_counts));
		}
		return 0;
	case TMD_IOC_STATS:
		if (copy_from_user(&st, user, sizeof(st)))
			return -EFAULT;
		if (st.kind >= TMD_KINDS)
			return -EINVAL;
		tmd_read(&st);
		if (copy_to_user(user, &st, sizeof(st)))
			return -EFAULT;
		return 0;
	case TMD_IOC_LEAVE_MB:
		if (copy_from_user(&mb, user, sizeof(mb)))
			return -EFAULT;
		guard(mutex)(&tmd_lock);
		return tmd_leave_mb(file->private_data, mb);
	}
	return -ENOTTY;
}

static int tmd_open(struct inode *inode, struct file *file)
{
	struct list_head *ballast = kmalloc_obj(*ballast);

	if (!ballast)
		return -ENOMEM;
	INIT_LIST_HEAD(ballast);
	file->private_data = ballast;
	return 0;
}

static int tmd_release(struct inode *inode, struct file *file)
{
	tmd_give_back(file->private_data);
	kfree(file->private_data);
	return 0;
}

static const struct file_operations tmd_fops = {
	.owner = THIS_MODULE,
	.open = tmd_open,
	.release = tmd_release,
	.unlocked_ioctl = tmd_ioctl,
};

static struct miscdevice tmd_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "test_memalloc_disk",
	.fops = &tmd_fops,
	.mode = 0600,
};

static int __init tmd_init(void)
{
	int err;

	err = tmd_insert_probes();
	if (err)
		return err;
	if (disk_mb)
		err = tmd_ram_init(disk_mb);
	if (err)
		goto out_probes;
	if (usb)
		err = tmd_usb_init();
	if (err)
		goto out_ram;
	err = misc_register(&tmd_misc);
	if (err)
		goto out_usb;
	return 0;

out_usb:
	if (usb)
		tmd_usb_exit();
out_ram:
	if (disk_mb)
		tmd_ram_exit();
out_probes:
	tmd_remove_probes();
	return err;
}
module_init(tmd_init);

static void __exit tmd_exit(void)
{
	misc_deregister(&tmd_misc);
	if (usb)
		tmd_usb_exit();
	if (disk_mb)
		tmd_ram_exit();
	tmd_remove_probes();
}
module_exit(tmd_exit);

MODULE_DESCRIPTION("Disks whose power management allocates memory, for tests");
MODULE_LICENSE("GPL");
