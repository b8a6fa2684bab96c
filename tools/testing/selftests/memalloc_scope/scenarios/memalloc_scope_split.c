// SPDX-License-Identifier: GPL-2.0
/*
 * XFS has a worker do the splits of a file's extent btree, and waits. The worker
 * allocates in the context of the task that waits, and direct reclaim that happens
 * in there does as well.
 *
 * Needs an xfs disk with the serial number "tms-xfs". A file gets an extent for
 * every other block, by the thousands, while memory is short.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../tms_harness.h"
#include "../tms_task.h"
#include "test_modules/test_memalloc_probe.h"
#include "tms_fs.h"
#include "tms_scenario.h"

#define BLOCK		4096UL
#define EXTENTS		6144	/* of the file; a leaf of the btree has some 250 */
#define LEAST		1024	/* extents at the end */
#define DATA_EVERY	16	/* so many extents, one has data */
#define LOOK_EVERY	32	/* so many extents, see how far it has got */
#define ENOUGH		8	/* splits */
#define PATIENCE	60	/* seconds for memory to be short at the right moment */
#define READERS		2
#define LEAVE		(16UL << 20)	/* for them to fill with page cache */

/* The bits of TMS_*, by which probes count */
enum { S_NOFS, S_NOIO, S_PIN, S_NORECLAIM };

enum { P_WORKER, P_BLOCK, P_RECLAIM, PROBES };

/* What makes memory short */
struct load {
	void *ballast;
	size_t size;
	pid_t readers[READERS];
};

FIXTURE(split) {
	struct tms_fs fs;
	int tms, probe, file, loop;
	struct tmp_count count[PROBES];
	struct load load;
};

FIXTURE_VARIANT(split) {
	const char *name;
	bool memory_short;
	bool io_flusher;
	bool loop;		/* a loop device's worker writes */
	__u32 open;		/* by the module, TMS_* */
	__u32 conveyed;		/* and what the worker has to have open */
};

FIXTURE_VARIANT_ADD(split, plain) {
	.name = "plain",
	.memory_short = true,
	.conveyed = TMS_NOFS,
};

FIXTURE_VARIANT_ADD(split, io_flusher) {
	.name = "io_flusher",
	.memory_short = true,
	.io_flusher = true,
	.conveyed = TMS_NOFS | TMS_NOIO,
};

FIXTURE_VARIANT_ADD(split, loop) {
	.name = "loop",
	.memory_short = true,
	.loop = true,
	.conveyed = TMS_NOFS | TMS_NOIO,
};

/* The reserves would be used up. */
FIXTURE_VARIANT_ADD(split, noreclaim) {
	.name = "noreclaim",
	.open = TMS_NORECLAIM,
	.conveyed = TMS_NOFS | TMS_NORECLAIM,
};

FIXTURE_VARIANT_ADD(split, nofs) {
	.name = "nofs",
	.open = TMS_NOFS,
	.conveyed = TMS_NOFS,
};

static bool attach_loop(int file, int *loop)
{
	struct loop_config config = {
		.fd = file,
		.block_size = BLOCK,
		.info.lo_flags = LO_FLAGS_DIRECT_IO,
	};
	struct loop_info64 info;
	char path[32];
	int nr, control;

	/* Sparse, so that what is written gets its blocks then. */
	if (ftruncate(file, 2 * EXTENTS * BLOCK))
		return false;
	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	nr = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
	if (control >= 0)
		close(control);
	if (nr < 0)
		return false;
	snprintf(path, sizeof(path), "/dev/loop%d", nr);
	*loop = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	/* If not direct, then it is writeback that gets the blocks. */
	return *loop >= 0 && !ioctl(*loop, LOOP_CONFIGURE, &config) &&
	       !ioctl(*loop, LOOP_GET_STATUS64, &info) &&
	       info.lo_flags & LO_FLAGS_DIRECT_IO;
}

static void detach_loop(int *loop)
{
	if (*loop >= 0) {
		ioctl(*loop, LOOP_CLR_FD);
		close(*loop);
	}
	*loop = -1;
}

static void set_kswapd_nice(int nice)
{
	pid_t kswapd = find_process("kswapd0");

	if (kswapd)
		setpriority(PRIO_PROCESS, kswapd, nice);
}

static void fill_page_cache(const char *device)
{
	static char buf[1 << 20];
	int fd = open(device, O_RDONLY);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (fd >= 0 && getppid() != 1) {
		if (read(fd, buf, sizeof(buf)) <= 0)
			lseek(fd, 0, SEEK_SET);
	}
}

/*
 * Leaves little memory to all others, and fills that with page cache again and
 * again, faster than kswapd frees it.
 */
static bool shorten_memory(struct load *l, const char *device)
{
	struct sysinfo si;

	sync();
	if (!write_text("/proc/sys/vm/drop_caches", "3") || sysinfo(&si) ||
	    si.freeram * si.mem_unit <= LEAVE)
		return false;
	l->size = si.freeram * si.mem_unit - LEAVE;
	l->ballast = mmap(NULL, l->size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (l->ballast == MAP_FAILED || madvise(l->ballast, l->size, MADV_DONTFORK) ||
	    mlock(l->ballast, l->size))
		return false;
	set_kswapd_nice(19);
	for (int i = 0; i < READERS; i++) {
		l->readers[i] = fork();
		if (l->readers[i] < 0)
			return false;
		if (!l->readers[i]) {
			fill_page_cache(device);
			_exit(1);
		}
	}
	return true;
}

static void give_memory_back(struct load *l)
{
	for (int i = 0; i < READERS; i++) {
		if (l->readers[i] > 0) {
			kill(l->readers[i], SIGKILL);
			waitpid(l->readers[i], NULL, 0);
		}
		l->readers[i] = 0;
	}
	if (l->ballast != MAP_FAILED) {
		set_kswapd_nice(0);
		munmap(l->ballast, l->size);
	}
	l->ballast = MAP_FAILED;
}

static void pattern(__u32 *block, unsigned int nr)
{
	for (unsigned int i = 0; i < BLOCK / sizeof(*block); i++)
		block[i] = (nr + 1) * 2654435761U + i;
}

/* Takes every other block: an extent of its own */
static bool add_extent(int file, int loop, unsigned int nr)
{
	static __u32 *block;
	off_t pos = 2 * nr * BLOCK;

	if (!block)
		block = aligned_alloc(BLOCK, BLOCK);
	if (!block)
		return false;
	pattern(block, nr);
	if (loop >= 0)
		return pwrite(loop, block, BLOCK, pos) == BLOCK;
	if (fallocate(file, 0, pos, BLOCK))
		return false;
	return nr % DATA_EVERY || pwrite(file, block, BLOCK, pos) == BLOCK;
}

/* Is the file what add_extent() made it, @extents times? Returns extents that are. */
static unsigned int verify(int file, bool loop, unsigned int extents)
{
	static __u32 block[BLOCK / sizeof(__u32)], want[BLOCK / sizeof(__u32)];
	struct {
		struct fiemap map;
		struct fiemap_extent extent[2];
	} f = { 0 };

	for (unsigned int nr = 0; nr < extents; nr++) {
		off_t pos = 2 * nr * BLOCK;

		f.map.fm_start = pos;
		f.map.fm_length = 2 * BLOCK;
		f.map.fm_extent_count = 2;
		if (ioctl(file, FS_IOC_FIEMAP, &f) || f.map.fm_mapped_extents != 1 ||
		    f.extent[0].fe_logical != pos || f.extent[0].fe_length != BLOCK)
			return nr;
		memset(want, 0, sizeof(want));
		if (loop || nr % DATA_EVERY == 0)
			pattern(want, nr);
		if (pread(file, block, BLOCK, pos) != BLOCK || memcmp(block, want, BLOCK))
			return nr;
	}
	return extents;
}

FIXTURE_SETUP(split)
{
	char why[TMS_FS_WHY] = "", path[TMS_FS_PATH + 8];
	struct tmp_probe probes[PROBES] = {
		[P_WORKER] = { .symbol = "xfs_btree_split_worker", .outer = 1 },
		/* what each split begins with */
		[P_BLOCK] = { .symbol = "xfs_bmbt_alloc_block", .within = 1 + P_WORKER },
		[P_RECLAIM] = { .symbol = "try_to_free_pages", .within = 1 + P_WORKER },
	};

	self->fs.type = "xfs";
	self->file = -1;
	self->loop = -1;
	self->probe = -1;
	self->load.ballast = MAP_FAILED;
	self->tms = open_device(_metadata);
	if (self->tms < 0)
		return;
	self->probe = open_module_device(_metadata, "test_memalloc_probe");
	if (self->probe < 0)
		return;
	if (tms_fs_attach(&self->fs, why)) {
		if (errno == ENODEV)
			SKIP(return, "%s", why);
		ASSERT_STREQ("", why);
	}
	ASSERT_EQ(0, tms_fs_mount(&self->fs));
	for (int i = 0; i < PROBES; i++) {
		ASSERT_EQ(0, ioctl(self->probe, TMP_IOC_ADD, &probes[i]))
			TH_LOG("cannot probe %s", probes[i].symbol);
		self->count[i].index = probes[i].index;
	}
	snprintf(path, sizeof(path), "%s/file", self->fs.dir);
	self->file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ASSERT_LE(0, self->file);
	if (variant->loop)
		ASSERT_TRUE(attach_loop(self->file, &self->loop));
	if (variant->memory_short)
		ASSERT_TRUE(shorten_memory(&self->load, self->fs.device));
}

FIXTURE_TEARDOWN(split)
{
	if (variant->io_flusher)
		set_io_flusher(0);
	give_memory_back(&self->load);
	detach_loop(&self->loop);
	if (self->file >= 0)
		close(self->file);
	if (self->probe >= 0)
		close(self->probe);
	if (self->tms >= 0)
		close(self->tms);
	tms_fs_detach(&self->fs);
}

/*
 * Red if: in fs/xfs/libxfs/xfs_btree.c xfs_btree_split_worker() does not adopt the
 * context (all); or opens nofs by itself (io_flusher, loop, noreclaim), with
 * xfs_trans_set_context() (nofs); or the context is memalloc_ctx_capture()'s
 * (noreclaim). For loop also: its workqueue lacks WQ_MEMALLOC_NOIO. plain is red if
 * the worker has more open than the task.
 */
TEST_F_TIMEOUT(split, in_context, 14400)
{
	struct tms_query before, after;
	time_t start, passed = 0, seconds = setting("TMS_SECONDS", 0);
	struct tmp_count *c = self->count;
	unsigned int extents = 0, good;
	char path[TMS_FS_PATH + 8];
	bool ok = true, enough = false;

	if (variant->io_flusher)
		ASSERT_EQ(0, set_io_flusher(1));
	if (variant->open)
		ASSERT_EQ(0, ioctl(self->tms, TMS_IOC_LEAK_OPEN, (long)variant->open));
	ASSERT_EQ(0, ioctl(self->tms, TMS_IOC_QUERY, &before));

	start = time(NULL);
	while (ok && passed < (enough ? seconds : seconds + PATIENCE)) {
		if (extents == EXTENTS) {
			/* What a loop device writes to cannot be cut off. */
			if (variant->loop)
				break;
			ok = !ftruncate(self->file, 0);
			extents = 0;
		}
		ok = ok && add_extent(self->file, self->loop, extents++);
		if (extents % LOOK_EVERY)
			continue;
		for (int i = 0; i < PROBES; i++)
			ok = ok && !ioctl(self->probe, TMP_IOC_READ, &c[i]);
		enough = c[P_WORKER].calls >= ENOUGH && extents >= LEAST &&
			 (!variant->memory_short || c[P_RECLAIM].calls);
		passed = time(NULL) - start;
	}

	ASSERT_EQ(0, ioctl(self->tms, TMS_IOC_QUERY, &after));
	if (variant->open)
		ASSERT_EQ(0, ioctl(self->tms, TMS_IOC_LEAK_CLOSE));
	give_memory_back(&self->load);
	ASSERT_TRUE(ok)
		TH_LOG("extent %u: %s", extents, strerror(errno));

	for (int i = 0; i < PROBES; i++) {
		ASSERT_EQ(0, ioctl(self->probe, TMP_IOC_READ, &c[i]));
		EXPECT_EQ(0, c[i].missed);
	}
	report("%s splits_in_worker %llu nofs %llu noio %llu noreclaim %llu", variant->name,
	       c[P_BLOCK].calls, c[P_BLOCK].open[S_NOFS], c[P_BLOCK].open[S_NOIO],
	       c[P_BLOCK].open[S_NORECLAIM]);
	report("%s reclaims_in_worker %llu nofs %llu noio %llu extents %u seconds %lld",
	       variant->name, c[P_RECLAIM].calls, c[P_RECLAIM].open[S_NOFS],
	       c[P_RECLAIM].open[S_NOIO], extents, (long long)passed);
	EXPECT_LE(ENOUGH, c[P_WORKER].calls);
	EXPECT_LE(LEAST, extents);
	EXPECT_EQ(c[P_WORKER].calls, c[P_BLOCK].calls);
	if (variant->memory_short)
		EXPECT_LT(0, c[P_RECLAIM].calls);
	for (int i = P_BLOCK; i < PROBES; i++) {
		for (int s = 0; s < TMP_SCOPES; s++) {
			__u64 want = variant->conveyed & 1 << s ? c[i].calls : 0;

			/* Reclaim opens it by itself. */
			if (i == P_RECLAIM && s == S_NORECLAIM)
				continue;
			EXPECT_EQ(want, c[i].open[s])
				TH_LOG("probe %d, scope %d", i, s);
		}
	}
	/* A transaction closes what it has opened, and that is not the task's scope. */
	EXPECT_EQ(before.open, after.open);

	/* Nothing may come from memory when the file is compared. */
	detach_loop(&self->loop);
	close(self->file);
	ASSERT_EQ(0, tms_fs_umount(&self->fs));
	ASSERT_EQ(0, tms_fs_mount(&self->fs));
	snprintf(path, sizeof(path), "%s/file", self->fs.dir);
	self->file = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->file);
	good = verify(self->file, variant->loop, extents);
	report("%s extents_verified %u", variant->name, good);
	EXPECT_EQ(extents, good);
}

TEST_HARNESS_MAIN
