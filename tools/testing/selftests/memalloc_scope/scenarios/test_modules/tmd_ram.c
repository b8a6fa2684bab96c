// SPDX-License-Identifier: GPL-2.0
/*
 * A disk in RAM under a device with runtime PM. The block layer suspends and
 * resumes it as it does SCSI disks: a bio for a suspended disk waits in
 * blk_queue_enter() until the resume is over.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/blk-mq.h>
#include <linux/blk-pm.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/platform_device.h>
#include <linux/pm_runtime.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "tmd_internal.h"

#define TMD_DELAY_MS	20	/* until it suspends; user space may choose another */

static struct platform_device *tmd_parent;
static struct blk_mq_tag_set tmd_tags;
static struct gendisk *tmd_disk;
static struct page **tmd_pages;
static unsigned long tmd_nr;
static struct tmd_section tmd_section;
static int tmd_major;
static bool tmd_marked;	/* the PM core knows that a disk is below the parent */

static void tmd_copy(struct bio_vec *bv, loff_t pos, bool write)
{
	char *mem = bvec_kmap_local(bv);

	for (size_t done = 0, len; done < bv->bv_len; done += len) {
		char *disk = page_address(tmd_pages[(pos + done) >> PAGE_SHIFT]);
		size_t off = offset_in_page(pos + done);

		len = min_t(size_t, bv->bv_len - done, PAGE_SIZE - off);
		if (write)
			memcpy(disk + off, mem + done, len);
		else
			memcpy(mem + done, disk + off, len);
	}
	kunmap_local(mem);
}

static blk_status_t tmd_queue_rq(struct blk_mq_hw_ctx *hctx, const struct blk_mq_queue_data *bd)
{
	struct request *rq = bd->rq;
	loff_t pos = (loff_t)blk_rq_pos(rq) << SECTOR_SHIFT;
	blk_status_t status = BLK_STS_OK;
	struct req_iterator iter;
	struct bio_vec bv;

	blk_mq_start_request(rq);
	switch (req_op(rq)) {
	case REQ_OP_READ:
	case REQ_OP_WRITE:
		rq_for_each_segment(bv, rq, iter) {
			tmd_copy(&bv, pos, rq_data_dir(rq) == WRITE);
			pos += bv.bv_len;
		}
		break;
	case REQ_OP_FLUSH:
		break;
	default:
		status = BLK_STS_NOTSUPP;
	}
	blk_mq_end_request(rq, status);
	return BLK_STS_OK;
}

static const struct blk_mq_ops tmd_mq_ops = {
	.queue_rq = tmd_queue_rq,
};

static const struct block_device_operations tmd_disk_ops = {
	.owner = THIS_MODULE,
};

static void tmd_ram_help(struct tmd_section *s)
{
	blk_clear_pm_only(s->queue);
}

static void tmd_ram_section(enum tmd_kind kind)
{
	struct request_queue *q = tmd_disk->queue;

	tmd_enter(&tmd_section, kind, q);
	/* The block layer relies on the queue still being closed. */
	if (tmd_allocate(&tmd_section))
		blk_set_pm_only(q);
	tmd_leave(&tmd_section);
}

static int tmd_runtime_suspend(struct device *dev)
{
	int err;

	if (!tmd_disk)
		return -EBUSY;
	err = blk_pre_runtime_suspend(tmd_disk->queue);
	if (err)
		return err;
	tmd_ram_section(TMD_SUSPEND);
	blk_post_runtime_suspend(tmd_disk->queue, 0);
	return 0;
}

static int tmd_runtime_resume(struct device *dev)
{
	blk_pre_runtime_resume(tmd_disk->queue);
	tmd_ram_section(TMD_RESUME);
	blk_post_runtime_resume(tmd_disk->queue);
	return 0;
}

static const struct dev_pm_ops tmd_pm_ops = {
	RUNTIME_PM_OPS(tmd_runtime_suspend, tmd_runtime_resume, NULL)
};

static struct platform_driver tmd_driver = {
	.driver = {
		.name = "test_memalloc_disk",
		.pm = pm_ptr(&tmd_pm_ops),
	},
};

void tmd_ram_setup(void)
{
	bool mark = !tmd_unprotected(TMD_NO_PM_FLAG);

	if (!tmd_disk || mark == tmd_marked)
		return;
	pm_runtime_set_memalloc_noio(disk_to_dev(tmd_disk), mark);
	tmd_marked = mark;
}

static void tmd_free_pages(void)
{
	for (unsigned long i = 0; i < tmd_nr; i++)
		__free_page(tmd_pages[i]);
	kvfree(tmd_pages);
	tmd_nr = 0;
}

static int tmd_alloc_pages(unsigned int mb)
{
	unsigned long nr = (unsigned long)mb << (20 - PAGE_SHIFT);

	tmd_pages = kvcalloc(nr, sizeof(*tmd_pages), GFP_KERNEL);
	if (!tmd_pages)
		return -ENOMEM;
	for (; tmd_nr < nr; tmd_nr++) {
		tmd_pages[tmd_nr] = alloc_page(GFP_KERNEL | __GFP_ZERO | __GFP_RETRY_MAYFAIL);
		if (!tmd_pages[tmd_nr]) {
			tmd_free_pages();
			return -ENOMEM;
		}
	}
	return 0;
}

static int tmd_add_disk(struct device *parent)
{
	struct queue_limits lim = {
		.physical_block_size = PAGE_SIZE,
	};
	int err;

	tmd_disk = blk_mq_alloc_disk(&tmd_tags, &lim, NULL);
	if (IS_ERR(tmd_disk)) {
		err = PTR_ERR(tmd_disk);
		tmd_disk = NULL;
		return err;
	}
	tmd_disk->major = tmd_major;
	tmd_disk->minors = 1;
	tmd_disk->flags |= GENHD_FL_NO_PART;
	tmd_disk->fops = &tmd_disk_ops;
	strscpy(tmd_disk->disk_name, TMD_DISK);
	set_capacity(tmd_disk, tmd_nr << (PAGE_SHIFT - SECTOR_SHIFT));
	blk_pm_runtime_init(tmd_disk->queue, parent);
	err = device_add_disk(parent, tmd_disk, NULL);
	if (err) {
		put_disk(tmd_disk);
		tmd_disk = NULL;
		return err;
	}
	tmd_marked = true;
	return 0;
}

int tmd_ram_init(unsigned int mb)
{
	int err;

	err = tmd_alloc_pages(mb);
	if (err)
		return err;
	tmd_tags.ops = &tmd_mq_ops;
	tmd_tags.nr_hw_queues = 1;
	tmd_tags.queue_depth = 32;
	tmd_tags.numa_node = NUMA_NO_NODE;
	err = blk_mq_alloc_tag_set(&tmd_tags);
	if (err)
		goto out_pages;
	tmd_section.help = tmd_ram_help;
	err = tmd_section_add(&tmd_section);
	if (err)
		goto out_tags;
	tmd_major = register_blkdev(0, TMD_DISK);
	if (tmd_major < 0) {
		err = tmd_major;
		goto out_section;
	}
	err = platform_driver_register(&tmd_driver);
	if (err)
		goto out_major;
	tmd_parent = platform_device_register_simple(tmd_driver.driver.name,
						     PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(tmd_parent)) {
		err = PTR_ERR(tmd_parent);
		goto out_driver;
	}
	pm_runtime_get_noresume(&tmd_parent->dev);
	pm_runtime_set_active(&tmd_parent->dev);
	err = tmd_add_disk(&tmd_parent->dev);
	if (err)
		goto out_parent;
	pm_runtime_enable(&tmd_parent->dev);
	pm_runtime_set_autosuspend_delay(&tmd_parent->dev, TMD_DELAY_MS);
	pm_runtime_mark_last_busy(&tmd_parent->dev);
	pm_runtime_put_autosuspend(&tmd_parent->dev);
	return 0;

out_parent:
	pm_runtime_set_suspended(&tmd_parent->dev);
	pm_runtime_put_noidle(&tmd_parent->dev);
	platform_device_unregister(tmd_parent);
out_driver:
	platform_driver_unregister(&tmd_driver);
out_major:
	unregister_blkdev(tmd_major, TMD_DISK);
out_section:
	tmd_section_remove(&tmd_section);
out_tags:
	blk_mq_free_tag_set(&tmd_tags);
out_pages:
	tmd_free_pages();
	return err;
}

void tmd_ram_exit(void)
{
	struct device *dev = &tmd_parent->dev;

	pm_runtime_get_sync(dev);
	pm_runtime_dont_use_autosuspend(dev);
	pm_runtime_disable(dev);
	del_gendisk(tmd_disk);
	put_disk(tmd_disk);
	pm_runtime_set_suspended(dev);
	pm_runtime_put_noidle(dev);
	platform_device_unregister(tmd_parent);
	platform_driver_unregister(&tmd_driver);
	unregister_blkdev(tmd_major, TMD_DISK);
	tmd_section_remove(&tmd_section);
	blk_mq_free_tag_set(&tmd_tags);
	tmd_free_pages();
}
