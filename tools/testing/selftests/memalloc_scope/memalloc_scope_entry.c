// SPDX-License-Identifier: GPL-2.0
/*
 * The ways into reclaim and compaction that are told a gfp mask, and the memory
 * that a page fault takes: each has to know the scopes of the task. For node
 * reclaim, the machine needs more than one NUMA node.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tms_harness.h"
#include "tms_task.h"

#define CALLS	4
#define GIB	0x40000000UL

#define ZONE_RECLAIM_MODE	"/proc/sys/vm/zone_reclaim_mode"
#define MIN_UNMAPPED		"/proc/sys/vm/min_unmapped_ratio"
#define MIN_SLAB		"/proc/sys/vm/min_slab_ratio"
#define THP			"/sys/kernel/mm/transparent_hugepage/"

FIXTURE(entry) {
	int fd;
	__u32 in_force;
};

FIXTURE_VARIANT(entry) {
	__u32 scopes;
	bool io_flusher;
};

FIXTURE_VARIANT_ADD(entry, none) {
};

FIXTURE_VARIANT_ADD(entry, nofs) {
	.scopes = TMS_NOFS,
};

FIXTURE_VARIANT_ADD(entry, noio) {
	.scopes = TMS_NOIO,
};

FIXTURE_VARIANT_ADD(entry, pin) {
	.scopes = TMS_PIN,
};

FIXTURE_VARIANT_ADD(entry, noreclaim) {
	.scopes = TMS_NORECLAIM,
};

FIXTURE_VARIANT_ADD(entry, nowait) {
	.scopes = TMS_NOWAIT,
};

FIXTURE_VARIANT_ADD(entry, io_flusher) {
	.io_flusher = true,
};

FIXTURE_SETUP(entry)
{
	self->fd = open_device(_metadata);
	self->in_force = variant->scopes | (variant->io_flusher ? TMS_IO_FLUSHER : 0);
	if (variant->io_flusher)
		ASSERT_EQ(0, set_io_flusher(1));
}

FIXTURE_TEARDOWN(entry)
{
	close(self->fd);
}

/* Somebody else may run out of memory meanwhile, which ends the run. */
static int run_entry(int fd, struct tms_entry *e)
{
	struct tms_entry in = *e;

	for (int i = 0; i < 3; i++) {
		*e = in;
		if (ioctl(fd, TMS_IOC_ENTRY, e))
			return errno;
		if (!e->oom)
			break;
	}
	return 0;
}

static void check_reclaim(struct __test_metadata *_metadata, int fd, __u32 in_force,
			  __u32 scopes, __u32 entry)
{
	static const int requests[] = {
		TMS_REQ_KERNEL, TMS_REQ_HIGHUSER_MOVABLE, TMS_REQ_NOIO,
	};

	for (int i = 0; i < 3; i++) {
		int request = requests[i];
		char why[TMS_WHY] = "";
		struct tms_entry e = {
			.scopes = scopes,
			.request = request,
			.entry = entry,
			.calls = CALLS,
			.max_ms = 20000,
		};
		__u32 want;
		int err = run_entry(fd, &e);

		if (err == EOPNOTSUPP)
			SKIP(return, "the kernel has no such entry");
		ASSERT_EQ(0, err);
		EXPECT_EQ(0, e.oom)
			TH_LOG("%s: out of memory", tms_request_name[request]);
		want = tms_expect(in_force, e.asked);
		/* Compaction is not even tried for those that may not do I/O. */
		if (!tms_expect_reclaim(in_force, e.asked) ||
		    (entry == TMS_ENTRY_COMPACTION && !(want & TMS_GFP_IO))) {
			EXPECT_EQ(0, e.entered.count)
				TH_LOG("%s: entered with %s", e.asked_text, e.entered.text);
			continue;
		}
		EXPECT_TRUE(tms_judge_seen(&e.entered, want, why))
			TH_LOG("asked for %s, entered: %s", e.asked_text, why);
		if (entry != TMS_ENTRY_COMPACTION)
			EXPECT_TRUE(tms_judge_seen(&e.reclaim, want, why))
				TH_LOG("asked for %s, shrinker: %s", e.asked_text, why);
	}
}

/* Red if: neither try_to_free_pages() nor the page allocator before it folds. */
TEST_F(entry, direct_reclaim)
{
	check_reclaim(_metadata, self->fd, self->in_force, variant->scopes, TMS_ENTRY_DIRECT);
}

/*
 * Red if: neither node_reclaim() nor the page allocator before it folds, or
 * node_reclaim() does not ask for noreclaim.
 */
TEST_F(entry, node_reclaim)
{
	char mode[16], unmapped[16], slab[16];

	if (!read_text(ZONE_RECLAIM_MODE, mode, sizeof(mode)) ||
	    !read_text(MIN_UNMAPPED, unmapped, sizeof(unmapped)) ||
	    !read_text(MIN_SLAB, slab, sizeof(slab)))
		SKIP(return, "needs CONFIG_NUMA");
	/* Any page that is not mapped, any slab at all is worth reclaim now. */
	ASSERT_TRUE(write_text(MIN_UNMAPPED, "0"));
	ASSERT_TRUE(write_text(MIN_SLAB, "0"));
	ASSERT_TRUE(write_text(ZONE_RECLAIM_MODE, "1"));
	check_reclaim(_metadata, self->fd, self->in_force, variant->scopes, TMS_ENTRY_NODE);
	EXPECT_TRUE(write_text(ZONE_RECLAIM_MODE, mode));
	EXPECT_TRUE(write_text(MIN_UNMAPPED, unmapped));
	EXPECT_TRUE(write_text(MIN_SLAB, slab));
}

/* Red if: the slow path of the page allocator goes on with the mask as it was. */
TEST_F(entry, compaction)
{
	check_reclaim(_metadata, self->fd, self->in_force, variant->scopes,
		      TMS_ENTRY_COMPACTION);
}

/* Red if: the page allocator does not fold: tables are asked for with GFP_KERNEL. */
TEST_F(entry, page_table)
{
	const __u32 bits = TMS_GFP_FS | TMS_GFP_IO | TMS_GFP_DIRECT_RECLAIM | TMS_GFP_MOVABLE;
	struct tms_entry e = {
		.scopes = variant->scopes,
		.entry = TMS_ENTRY_PGTABLE,
	};
	__u32 want;
	char *area;

	/* Nothing else is mapped in the gigabyte that lies in the middle of three. */
	area = mmap(NULL, 3 * GIB, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area == MAP_FAILED)
		SKIP(return, "no room for 3 GiB of address space");
	madvise(area, 3 * GIB, MADV_NOHUGEPAGE);
	e.addr = ((unsigned long)area + GIB) & ~(GIB - 1);
	ASSERT_EQ(0, run_entry(self->fd, &e));
	want = tms_expect(self->in_force, e.asked) & bits;
	EXPECT_LE(2, e.entered.count)
		TH_LOG("neither PMD nor PTE table was allocated");
	EXPECT_EQ(want, e.entered.any & bits)
		TH_LOG("a table with %s", e.entered.text);
	EXPECT_EQ(want, e.entered.all & bits);
	munmap(area, 3 * GIB);
}

/* Red if: the page allocator does not fold. */
TEST_F(entry, huge_page)
{
	const __u32 bits = TMS_GFP_FS | TMS_GFP_IO | TMS_GFP_DIRECT_RECLAIM | TMS_GFP_MOVABLE;
	struct tms_entry e = {
		.scopes = variant->scopes,
		.request = TMS_REQ_HIGHUSER_MOVABLE,
		.entry = TMS_ENTRY_THP,
	};
	unsigned long size;
	char text[32];
	__u32 want;
	char *area;

	if (!read_text(THP "hpage_pmd_size", text, sizeof(text)))
		SKIP(return, "needs CONFIG_TRANSPARENT_HUGEPAGE");
	size = strtoul(text, NULL, 10);
	ASSERT_NE(0, size);
	e.huge_order = __builtin_ctzl(size / sysconf(_SC_PAGESIZE));
	ASSERT_TRUE(write_text(THP "enabled", "madvise"));
	ASSERT_TRUE(write_text(THP "defrag", "madvise"));
	area = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, area);
	ASSERT_EQ(0, madvise(area, 2 * size, MADV_HUGEPAGE));
	e.addr = ((unsigned long)area + size - 1) & ~(size - 1);
	ASSERT_EQ(0, run_entry(self->fd, &e));
	want = tms_expect(self->in_force, e.asked) & bits;
	ASSERT_EQ(1, e.entered.count)
		TH_LOG("no huge page was to be had");
	EXPECT_EQ(want, e.entered.any & bits)
		TH_LOG("a huge page with %s", e.entered.text);
	munmap(area, 2 * size);
}

TEST_HARNESS_MAIN
