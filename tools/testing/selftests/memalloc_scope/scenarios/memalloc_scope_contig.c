// SPDX-License-Identifier: GPL-2.0
/*
 * A driver asks for contiguous memory inside nofs or noio, and the CMA area is
 * full of page cache. Moving or writing the pages of a file takes the locks that
 * such a scope is about, so the request has to fail.
 *
 * Needs an ext4 disk with the serial number "tms-ext4", and a CMA area: boot with
 * cma=32M, say, on a machine with several times as much memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/ext4.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../tms_harness.h"
#include "test_modules/test_memalloc_contig.h"
#include "test_modules/test_memalloc_probe.h"
#include "tms_scenario.h"

#define DIR	"/tmp/contig"
#define FILE1	DIR "/file"

/* What a file system has to do to let go of a page */
enum probe { P_MIGRATE, P_BIO, P_AREA, PROBES };

FIXTURE(contig) {
	int fd, probe;
	__u64 size;
	__u32 index[PROBES];
};

FIXTURE_VARIANT(contig) {
	__u32 scopes;
	bool dirty;
	bool ineffective;
};

FIXTURE_VARIANT_ADD(contig, nofs_clean) {
	.scopes = TMS_NOFS,
};

FIXTURE_VARIANT_ADD(contig, nofs_dirty) {
	.scopes = TMS_NOFS,
	.dirty = true,
};

FIXTURE_VARIANT_ADD(contig, noio_clean) {
	.scopes = TMS_NOIO,
};

FIXTURE_VARIANT_ADD(contig, noio_dirty) {
	.scopes = TMS_NOIO,
	.dirty = true,
};

/* and with the scope taken away while the area is asked */
FIXTURE_VARIANT_ADD(contig, nofs_dirty_ineffective) {
	.scopes = TMS_NOFS,
	.dirty = true,
	.ineffective = true,
};

FIXTURE_VARIANT_ADD(contig, noio_dirty_ineffective) {
	.scopes = TMS_NOIO,
	.dirty = true,
	.ineffective = true,
};

static __u64 mem_info(const char *name)
{
	unsigned long long kb = 0;
	char line[128];
	FILE *f = fopen("/proc/meminfo", "r");

	while (f && fgets(line, sizeof(line), f)) {
		if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':')
			sscanf(line + strlen(name) + 1, "%llu", &kb);
	}
	if (f)
		fclose(f);
	return kb << 10;
}

/*
 * Fill the area with a file, and little else: it is used last, so others have most
 * of the memory meanwhile, and let go of it then, which makes room for the pages
 * that are to be moved. Nobody has to reclaim, and so to write back, for that.
 */
static bool fill(__u64 area)
{
	static char buf[1 << 20];
	__u64 others = mem_info("MemFree"), most = 3 * area >> 20 << 20;
	bool done = false;
	char *p;
	int fd;

	others = others > 3 * area ? others - 3 * area : 0;
	p = mmap(NULL, others + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fd = open(FILE1, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (p != MAP_FAILED && fd >= 0 && !mlock(p, others + 1)) {
		done = true;
		while (done && most && mem_info("CmaFree") > area / 4) {
			memset(buf, most >> 20, sizeof(buf));
			done = write(fd, buf, sizeof(buf)) == sizeof(buf);
			most -= sizeof(buf);
		}
	}
	if (p != MAP_FAILED)
		munmap(p, others + 1);
	if (fd >= 0)
		close(fd);
	return done;
}

/*
 * The journal holds the buffers of metadata until they are checkpointed, which may
 * be as late as umount, and what it holds cannot be moved. They are page cache of
 * the disk, which is movable memory: some may lie in the area. Without them, only a
 * scope is in the way.
 */
static bool checkpoint(void)
{
	int fd = open(DIR, O_RDONLY | O_CLOEXEC);
	__u32 flags = 0;
	bool done;

	/* ENODEV: no journal */
	done = fd >= 0 && (!ioctl(fd, EXT4_IOC_CHECKPOINT, &flags) || errno == ENODEV);
	if (fd >= 0)
		close(fd);
	return done;
}

FIXTURE_SETUP(contig)
{
	static const char *const symbols[PROBES] = {
		"buffer_migrate_folio", "submit_bio_noacct", "alloc_contig_frozen_range_noprof",
	};
	const char *why;

	self->size = mem_info("CmaTotal");
	if (!self->size)
		SKIP(return, "no CMA area: boot with cma=32M");
	self->fd = open_module_device(_metadata, "test_memalloc_contig");
	if (self->fd < 0)
		return;
	self->probe = open_module_device(_metadata, "test_memalloc_probe");
	if (self->probe < 0)
		return;
	why = mount_disk("tms-ext4", "ext4", DIR);
	if (why)
		SKIP(return, "%s", why);
	/* Pages stay dirty until somebody asks for them. */
	ASSERT_TRUE(write_text("/proc/sys/vm/dirty_background_ratio", "90"));
	ASSERT_TRUE(write_text("/proc/sys/vm/dirty_ratio", "95"));
	ASSERT_TRUE(write_text("/proc/sys/vm/dirty_writeback_centisecs", "0"));
	for (int i = 0; i < PROBES; i++) {
		struct tmp_probe p = { .task = getpid() };

		strcpy(p.symbol, symbols[i]);
		if (i == P_AREA && variant->ineffective)
			p.clear = variant->scopes;
		ASSERT_EQ(0, ioctl(self->probe, TMP_IOC_ADD, &p))
			TH_LOG("no probe on %s", p.symbol);
		self->index[i] = p.index;
	}
}

FIXTURE_TEARDOWN(contig)
{
	close(self->probe);
	close(self->fd);
	unlink(FILE1);
	umount(DIR);
}

static __u64 calls(int probe, __u32 index)
{
	struct tmp_count c = { .index = index };

	return ioctl(probe, TMP_IOC_READ, &c) ? 0 : c.calls;
}

/*
 * Red if: alloc_contig_frozen_range_noprof() does not fold (gfp_mask = ... of
 * "cc" in mm/page_alloc.c), or isolate_migratepages_block() isolates the pages of
 * files without __GFP_FS.
 */
TEST_F(contig, area)
{
	struct tmc_contig c = { .size = self->size };
	__u64 moved, bios;

	/* Where is it? While there is nothing in it, the request succeeds. */
	sync();
	ASSERT_TRUE(write_text("/proc/sys/vm/drop_caches", "3"));
	ASSERT_EQ(0, ioctl(self->fd, TMC_IOC_ALLOC, &c));
	ASSERT_EQ(0, c.error);

	ASSERT_TRUE(fill(self->size));
	if (!variant->dirty)
		sync();
	ASSERT_TRUE(checkpoint());
	moved = calls(self->probe, self->index[P_MIGRATE]);
	bios = calls(self->probe, self->index[P_BIO]);
	c.scopes = variant->scopes;
	ASSERT_EQ(0, ioctl(self->fd, TMC_IOC_ALLOC, &c));
	moved = calls(self->probe, self->index[P_MIGRATE]) - moved;
	bios = calls(self->probe, self->index[P_BIO]) - bios;
	report("area of %llu pages, %llu of files, %llu dirty: error %d after %u attempts, %llu ms",
	       (unsigned long long)c.pages, (unsigned long long)c.cached,
	       (unsigned long long)c.dirty, c.error, c.attempts,
	       (unsigned long long)c.ns / 1000000);
	report("%llu folios moved, %llu bios", (unsigned long long)moved,
	       (unsigned long long)bios);
	ASSERT_LT(c.pages / 2, c.cached)
		TH_LOG("the area is not full of page cache");
	if (variant->dirty)
		ASSERT_LT(c.pages / 2, c.dirty);

	if (variant->ineffective) {
		/* What the scope is to prevent */
		EXPECT_LT(0, moved);
	} else {
		EXPECT_EQ(-EBUSY, c.error);
		EXPECT_EQ(0, moved);
		EXPECT_EQ(0, bios);
	}

	/* and it is to be had when there is no scope, unless somebody looks at a page */
	c.scopes = 0;
	for (int i = 0; i < 5; i++) {
		ASSERT_EQ(0, ioctl(self->fd, TMC_IOC_ALLOC, &c));
		if (c.error != -EBUSY)
			break;
		usleep(100000);
	}
	EXPECT_EQ(0, c.error)
		TH_LOG("the kernel log has the page that stayed");
	report("without a scope: error %d, %llu ms", c.error, (unsigned long long)c.ns / 1000000);
}

TEST_HARNESS_MAIN
