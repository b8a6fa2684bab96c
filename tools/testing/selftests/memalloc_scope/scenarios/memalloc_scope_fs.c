// SPDX-License-Identifier: GPL-2.0
/*
 * File systems, with memory short: reclaim happens inside their transactions, and
 * never comes back to them. memalloc_scope_fs_control shows that it would.
 *
 * The disks are virtio ones with serial numbers tms-ext4, tms-xfs, tms-btrfs, and
 * tms-host: an ext4 that holds the images ext4.img, xfs.img and btrfs.img.
 */
#include <stdlib.h>
#include <time.h>

#include "tms_fs_harness.h"

/*
 * Reclaims inside transactions that end a storm whose time is not given; and after
 * how many seconds one has to do, as a busy machine does little in the time that is
 * enough for another.
 */
#define ENOUGH		8
#define UNHURRIED	6

struct fs_wait {
	time_t start;
	int watch;
};

FIXTURE(fs) {
	struct tms_fs fs;
	struct tms_storm *storm;
	struct fs_wait wait;
	int watch;
};

FIXTURE_VARIANT(fs) {
	const char *name;
	const char *type;
	bool loop;
};

FIXTURE_VARIANT_ADD(fs, ext4) {
	.name = "ext4",
	.type = "ext4",
};

FIXTURE_VARIANT_ADD(fs, xfs) {
	.name = "xfs",
	.type = "xfs",
};

FIXTURE_VARIANT_ADD(fs, btrfs) {
	.name = "btrfs",
	.type = "btrfs",
};

FIXTURE_VARIANT_ADD(fs, ext4_loop) {
	.name = "ext4_loop",
	.type = "ext4",
	.loop = true,
};

FIXTURE_VARIANT_ADD(fs, xfs_loop) {
	.name = "xfs_loop",
	.type = "xfs",
	.loop = true,
};

FIXTURE_VARIANT_ADD(fs, btrfs_loop) {
	.name = "btrfs_loop",
	.type = "btrfs",
	.loop = true,
};

FIXTURE_SETUP(fs)
{
	self->fs.type = variant->type;
	self->fs.loop = variant->loop;
	self->watch = fs_watch(_metadata, &self->fs, getenv("TMS_STACKS") ?
			       TMF_PAGES | TMF_STACKS : 0);
	if (self->watch < 0)
		return;
	self->storm = tms_storm_new(&self->fs);
	ASSERT_NE(NULL, self->storm);
	self->storm->limit_kb = LIMIT_KB;
}

FIXTURE_TEARDOWN(fs)
{
	tms_storm_free(self->storm);
	if (self->watch >= 0)
		close(self->watch);
	tms_fs_detach(&self->fs);
}

static bool seen_enough(void *arg)
{
	const struct fs_wait *w = arg;
	struct tmf_count c;

	if (ioctl(w->watch, TMF_IOC_READ, &c))
		return false;
	return c.direct + c.memcg >= (time(NULL) - w->start < UNHURRIED ? ENOUGH : 1);
}

/*
 * Red if: the page allocator and memcg reclaim do not fold nofs, that is
 * __current_gfp_context() in include/linux/memalloc_scope.h lacks that branch; or a
 * file system does not open the scope (xfs_trans_set_context() in fs/xfs/xfs_trans.h,
 * btrfs_iget_logging() in fs/btrfs/tree-log.c; in ext4 mext_folio_double_lock() as well
 * as the handle of jbd2); or super_cache_scan() in fs/super.c ignores __GFP_FS.
 */
TEST_F_TIMEOUT(fs, storm, 14400)
{
	char why[TMS_FS_WHY] = "";
	struct tmf_count c;
	unsigned int files;
	int err;

	self->wait.start = time(NULL);
	self->wait.watch = self->watch;
	self->storm->seconds = setting("TMS_SECONDS", 25);
	if (!getenv("TMS_SECONDS")) {
		self->storm->enough = seen_enough;
		self->storm->enough_arg = &self->wait;
	}
	err = tms_storm_run(self->storm, why);
	EXPECT_EQ(0, err)
		TH_LOG("%s", why);
	ASSERT_EQ(0, ioctl(self->watch, TMF_IOC_READ, &c));
	fs_report(variant->name, self->storm, &c);
	EXPECT_LT(0, c.direct + c.memcg)
		TH_LOG("memory was not short: no reclaim inside a transaction");
	EXPECT_EQ(0, c.recursions);
	EXPECT_EQ(0, c.others);

	/* Nothing may come from memory when the data is compared. */
	close(self->watch);
	self->watch = -1;
	ASSERT_EQ(0, tms_fs_umount(&self->fs));
	ASSERT_EQ(0, tms_fs_mount(&self->fs));
	EXPECT_EQ(0, tms_storm_verify(self->storm, &files, why))
		TH_LOG("%s", why);
	report("%s files_verified %u", variant->name, files);
	EXPECT_LT(0, files);
}

TEST_HARNESS_MAIN
