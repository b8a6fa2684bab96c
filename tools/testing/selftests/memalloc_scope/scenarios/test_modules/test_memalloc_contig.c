// SPDX-License-Identifier: GPL-2.0
/*
 * A device whose driver needs much contiguous memory, and asks for it inside
 * scopes: from a CMA area that page cache has filled meanwhile.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/ktime.h>
#include <linux/memalloc_scope.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/platform_device.h>
#include <linux/tracepoint.h>
#include <linux/uaccess.h>

#include "../../test_modules/test_memalloc_scope.h"
#include "test_memalloc_contig.h"

static struct platform_device *tmc_device;
static struct tracepoint *tmc_busy, *tmc_isolated, *tmc_finish;
static DEFINE_MUTEX(tmc_lock);

/* The request that is under way */
static struct task_struct *tmc_task;
static struct tmc_contig *tmc_request;
static unsigned long tmc_pfn;

static void tmc_trace_busy(void *data, const char *name, unsigned long pfn,
			   const struct page *page, unsigned long count, unsigned int align)
{
	if (current == READ_ONCE(tmc_task))
		tmc_request->attempts++;
}

/* With no scope in the way, somebody holds the first page that is not free. */
static void tmc_trace_isolated(void *data, unsigned long start, unsigned long end,
			       unsigned long pfn)
{
	if (current == READ_ONCE(tmc_task) && !tmc_request->scopes && pfn < end)
		dump_page(pfn_to_page(pfn), "it stays in the area");
}

static void tmc_trace_finish(void *data, const char *name, unsigned long pfn,
			     const struct page *page, unsigned long count,
			     unsigned int align, int error)
{
	if (current != READ_ONCE(tmc_task))
		return;
	tmc_request->error = error;
	if (!error) {
		tmc_request->attempts++;
		tmc_pfn = pfn;
	}
}

static void tmc_find(struct tracepoint *tp, void *priv)
{
	if (!strcmp(tp->name, "cma_alloc_busy_retry"))
		tmc_busy = tp;
	if (!strcmp(tp->name, "test_pages_isolated"))
		tmc_isolated = tp;
	if (!strcmp(tp->name, "cma_alloc_finish"))
		tmc_finish = tp;
}

/* What it finds may change at once; it is right about an area that is at rest. */
static void tmc_look(struct tmc_contig *c)
{
	c->pages = c->size >> PAGE_SHIFT;
	for (unsigned long i = 0; i < c->pages; i++) {
		struct page *page = pfn_to_online_page(tmc_pfn + i);
		struct folio *folio;

		if (!page)
			continue;
		folio = page_folio(page);
		if (!folio_test_lru(folio) || folio_test_anon(folio))
			continue;
		c->cached++;
		if (folio_test_dirty(folio))
			c->dirty++;
	}
}

static memalloc_scope_t tmc_raw(u32 tms)
{
	memalloc_scope_t scope = MEMALLOC_SCOPE_NONE;

	if (tms & TMS_NOFS)
		scope |= MEMALLOC_SCOPE_NOFS;
	if (tms & TMS_NOIO)
		scope |= MEMALLOC_SCOPE_NOIO;
	return scope;
}

static void tmc_alloc(struct tmc_contig *c)
{
	dma_addr_t dma;
	ktime_t start;
	unsigned int cookie;
	void *p;

	c->error = -ENOMEM;
	c->attempts = 0;
	tmc_request = c;
	WRITE_ONCE(tmc_task, current);
	start = ktime_get();
	cookie = memalloc_scope_save(tmc_raw(c->scopes));
	p = dma_alloc_coherent(&tmc_device->dev, c->size, &dma, GFP_KERNEL | __GFP_NOWARN);
	memalloc_scope_restore(cookie);
	c->ns = ktime_to_ns(ktime_sub(ktime_get(), start));
	WRITE_ONCE(tmc_task, NULL);
	if (p)
		dma_free_coherent(&tmc_device->dev, c->size, p, dma);
}

static long tmc_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *user = (void __user *)arg;
	struct tmc_contig c;

	if (cmd != TMC_IOC_ALLOC)
		return -ENOTTY;
	if (copy_from_user(&c, user, sizeof(c)))
		return -EFAULT;
	if (!c.size || c.scopes & ~(TMS_NOFS | TMS_NOIO))
		return -EINVAL;
	c.cached = 0;
	c.dirty = 0;
	scoped_guard(mutex, &tmc_lock) {
		/* Where the area lies is known once a request has succeeded. */
		if (tmc_pfn)
			tmc_look(&c);
		tmc_alloc(&c);
	}
	return copy_to_user(user, &c, sizeof(c)) ? -EFAULT : 0;
}

static const struct file_operations tmc_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = tmc_ioctl,
};

static struct miscdevice tmc_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "test_memalloc_contig",
	.fops = &tmc_fops,
	.mode = 0600,
};

static int __init tmc_init(void)
{
	int err;

	for_each_kernel_tracepoint(tmc_find, NULL);
	if (!tmc_busy || !tmc_isolated || !tmc_finish)
		return -EOPNOTSUPP;
	tmc_device = platform_device_register_simple("test_memalloc_contig", PLATFORM_DEVID_NONE,
						     NULL, 0);
	if (IS_ERR(tmc_device))
		return PTR_ERR(tmc_device);
	err = dma_coerce_mask_and_coherent(&tmc_device->dev, DMA_BIT_MASK(64));
	if (err)
		goto device;
	err = tracepoint_probe_register(tmc_busy, tmc_trace_busy, NULL);
	if (err)
		goto device;
	err = tracepoint_probe_register(tmc_isolated, tmc_trace_isolated, NULL);
	if (err)
		goto busy;
	err = tracepoint_probe_register(tmc_finish, tmc_trace_finish, NULL);
	if (err)
		goto isolated;
	err = misc_register(&tmc_misc);
	if (!err)
		return 0;

	tracepoint_probe_unregister(tmc_finish, tmc_trace_finish, NULL);
isolated:
	tracepoint_probe_unregister(tmc_isolated, tmc_trace_isolated, NULL);
busy:
	tracepoint_probe_unregister(tmc_busy, tmc_trace_busy, NULL);
	tracepoint_synchronize_unregister();
device:
	platform_device_unregister(tmc_device);
	return err;
}

static void __exit tmc_exit(void)
{
	misc_deregister(&tmc_misc);
	tracepoint_probe_unregister(tmc_finish, tmc_trace_finish, NULL);
	tracepoint_probe_unregister(tmc_isolated, tmc_trace_isolated, NULL);
	tracepoint_probe_unregister(tmc_busy, tmc_trace_busy, NULL);
	tracepoint_synchronize_unregister();
	platform_device_unregister(tmc_device);
}

module_init(tmc_init);
module_exit(tmc_exit);
MODULE_DESCRIPTION("Contiguous memory inside allocation scopes, for tests");
MODULE_LICENSE("GPL");
