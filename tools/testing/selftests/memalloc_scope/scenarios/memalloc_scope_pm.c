// SPDX-License-Identifier: GPL-2.0
/*
 * Runtime PM of a disk whose driver allocates memory when it resumes, while swap
 * and dirty files live on that very disk. Reclaim on behalf of the resume must not
 * send it a bio, as the bio would wait for the resume.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>

#include "kselftest_harness.h"
#include "../test_modules/test_memalloc_scope.h"
#include "test_modules/test_memalloc_probe.h"
#include "tms_disk.h"
#include "tms_load.h"

#define MODULE		"test_memalloc_disk"
#define PARENT		"/sys/devices/platform/test_memalloc_disk/power/"
#define DISK_MB		32
#define SWAP_MB		18
#define FILE_MB		6
#define PAGED_MB	4	/* that are swapped out and in all the time */
#define ANON_MB		30	/* that reclaim may swap out */
/*
 * At least that much in all. A resume needs some of it clean, or else GFP_NOIO can
 * reclaim nothing; with 16 MB of clean pages, reclaim would leave the others alone.
 */
#define MEMORY_MB	44

/* A run is over when it has seen this, and has taken TMS_SECONDS; but see PATIENCE. */
#define RESUMES		20
#define RECURSIONS	3	/* without protection */
#define PATIENCE	60	/* further seconds, on a machine that has much else to do */

FIXTURE(disk) {
	struct load *load;
	char dir[32];
	char swap[48];
	char file[48];
	long swappiness;
	int fd;
	int probe;
	bool loaded;
	bool mounted;
	bool swapping;
	bool journal;
};

/* What is taken away: the mark of add_disk(), or noio from the page allocator */
FIXTURE_VARIANT(disk) {
	__u32 unprotected;
	bool probe;
};

FIXTURE_VARIANT_ADD(disk, as_it_is) {
};

FIXTURE_VARIANT_ADD(disk, without_the_pm_flag) {
	.unprotected = TMD_NO_PM_FLAG,
};

FIXTURE_VARIANT_ADD(disk, without_noio_in_the_allocator) {
	.probe = true,
};

FIXTURE_SETUP(disk)
{
	const char *why;
	char params[32];
	bool absent;

	self->fd = -1;
	self->probe = -1;
	if (geteuid())
		SKIP(return, "needs root");
	if (variant->probe) {
		if (access(TMP_DEV, F_OK))
			load_module("test_memalloc_probe", "", &absent);
		self->probe = open(TMP_DEV, O_RDWR | O_CLOEXEC);
		if (self->probe < 0)
			SKIP(return, "no " TMP_DEV);
	}
	why = zram_zeros();
	if (why)
		SKIP(return, "%s", why);
	snprintf(params, sizeof(params), "disk_mb=%u", DISK_MB);
	why = load_module(MODULE, params, &absent);
	if (why && absent)
		SKIP(return, "%s", why);
	ASSERT_EQ(NULL, why)
		TH_LOG("%s", why);
	self->loaded = true;
	self->fd = open(TMD_DEV, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	if (access(PARENT "runtime_status", R_OK))
		SKIP(return, "no runtime PM (CONFIG_PM)");

	why = make_ext4("/dev/" TMD_DISK, &self->journal);
	if (why)
		SKIP(return, "%s", why);
	snprintf(self->dir, sizeof(self->dir), "/tmp/tmd.XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->dir));
	snprintf(self->swap, sizeof(self->swap), "%s/swap", self->dir);
	snprintf(self->file, sizeof(self->file), "%s/file", self->dir);
	if (mount("/dev/" TMD_DISK, self->dir, "ext4", 0, NULL) && errno == ENODEV)
		SKIP(return, "no ext4");
	self->mounted = true;
	why = start_swap(self->swap, SWAP_MB);
	self->swapping = !why;
	ASSERT_EQ(NULL, why)
		TH_LOG("%s", why);

	self->swappiness = read_number("/proc/sys/vm/swappiness");
	write_text("200", "/proc/sys/vm/swappiness");
	write_text("-1000", "/proc/self/oom_score_adj");
	self->load = load_new();
	ASSERT_NE(NULL, self->load);
}

FIXTURE_TEARDOWN(disk)
{
	char text[24];

	if (self->probe >= 0)
		close(self->probe);
	if (self->fd >= 0)
		disarm(self->fd);
	if (self->load) {
		load_end(self->load, 10000);
		load_free(self->load);
		snprintf(text, sizeof(text), "%ld", self->swappiness);
		write_text(text, "/proc/sys/vm/swappiness");
	}
	if (self->swapping)
		EXPECT_EQ(0, swapoff(self->swap));
	if (self->mounted)
		EXPECT_EQ(0, umount(self->dir));
	if (self->dir[0])
		rmdir(self->dir);
	if (self->fd >= 0)
		close(self->fd);
	if (self->loaded)
		EXPECT_EQ(0, unload_module(MODULE, 5000));
	zram_reset();
}

TEST_F_TIMEOUT(disk, resumes, 14400)
{
	const bool protected = !variant->unprotected && !variant->probe;
	const char *env = getenv("TMS_SECONDS");
	int seconds = env ? atoi(env) : 0;
	bool enough;
	struct tmd_setup setup = {
		.unprotected = variant->unprotected,
		/* Reclaim prefers what is clean, but there is not so much of it. */
		.reclaims = protected ? 2 : 32,
		.max_kb = 16384,
		.help_ms = 200,
		.stuck_ms = 10000,
	};
	struct tmd_stats suspend = { .kind = TMD_SUSPEND }, resume = { .kind = TMD_RESUME };
	struct tmp_probe probe = {
		.symbol = "__alloc_frozen_pages_noprof",
		.clear = TMS_NOIO,
	};
	long long out = vm_events("pswpout"), in = vm_events("pswpin");
	long long start, stalled = 0, ms;
	const __u32 memory = MEMORY_MB;
	struct load_child sum;
	long avail;

	avail = meminfo_mb("MemAvailable:");
	if (avail < MEMORY_MB)
		SKIP(return, "%ld MB of memory are available, too few", avail);
	ASSERT_EQ(0, ioctl(self->fd, TMD_IOC_LEAVE_MB, &memory));
	load_file(self->load, self->file, FILE_MB, 40);
	load_anon(self->load, PAGED_MB, 16, 30, true);
	load_anon(self->load, ANON_MB, 32, 30, false);
	start = now_ms();
	EXPECT_TRUE(load_press(self->load, 60000));
	report("available_mb %ld ready_ms %lld swapped_mb %lld journal %d", avail,
	       now_ms() - start, (vm_events("pswpout") - out) / 256, self->journal);
	if (variant->probe)
		ASSERT_EQ(0, ioctl(self->probe, TMP_IOC_ADD, &probe));
	ASSERT_EQ(0, ioctl(self->fd, TMD_IOC_SETUP, &setup));
	start = now_ms();
	do {
		usleep(50000);
		ms = load_stalled_ms(self->load);
		if (ms > stalled)
			stalled = ms;
		ASSERT_EQ(0, ioctl(self->fd, TMD_IOC_STATS, &resume));
		ASSERT_EQ(0, ioctl(self->fd, TMD_IOC_STATS, &suspend));
		enough = protected ? resume.sections >= RESUMES :
			 resume.helped && suspend.recursions + resume.recursions >= RECURSIONS;
		ms = now_ms() - start;
	} while (ms < seconds * 1000 || (!enough && ms < (seconds + PATIENCE) * 1000));

	/* The data is verified with the kernel as it is. */
	if (variant->probe) {
		close(self->probe);
		self->probe = -1;
	}
	disarm(self->fd);
	EXPECT_TRUE(load_end(self->load, 60000));
	sum = load_sum(self->load);

	report("ms %lld stalled_ms %lld worst_step_ms %lld end_ms %lld", ms,
	       stalled, sum.worst_ms, now_ms() - start - ms);
	report("swapped_out %lld swapped_in %lld checked_pages %llu bad %llu",
	       vm_events("pswpout") - out, vm_events("pswpin") - in,
	       sum.checked, sum.bad);
	report_sections("suspend", &suspend);
	report_sections("resume", &resume);

	/* In every case: the data is right, and there was memory pressure. */
	EXPECT_EQ(0, sum.bad);
	EXPECT_EQ(0, sum.error);
	EXPECT_LT(0, sum.checked);
	EXPECT_LT(out, vm_events("pswpout"));
	EXPECT_LT(0, resume.reclaims);
	if (protected) {
		EXPECT_LE(RESUMES, resume.sections);
		EXPECT_EQ(resume.sections, resume.noio);
		EXPECT_EQ(suspend.sections, suspend.noio);
		EXPECT_EQ(0, resume.reclaims_io + suspend.reclaims_io);
		EXPECT_EQ(0, resume.reclaims_fs + suspend.reclaims_fs);
		EXPECT_EQ(0, resume.recursions + suspend.recursions);
		EXPECT_EQ(0, resume.helped + suspend.helped);
		EXPECT_EQ(0, resume.stuck + suspend.stuck);
	} else {
		/* What this is there to prevent: the resume waits for itself. */
		EXPECT_LT(0, resume.reclaims_io);
		EXPECT_LT(0, resume.recursions);
		EXPECT_LT(0, resume.helped);
	}
}

TEST_HARNESS_MAIN
