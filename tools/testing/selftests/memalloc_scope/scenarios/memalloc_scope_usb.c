// SPDX-License-Identifier: GPL-2.0
/*
 * Resets of two USB disks, one with a file system and one with swap, while memory
 * is short. What is allocated during a reset must not be had by writing to the
 * disk that is being reset.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>

#include <linux/usbdevice_fs.h>

#include "kselftest_harness.h"
#include "../test_modules/test_memalloc_scope.h"
#include "test_modules/test_memalloc_probe.h"
#include "tms_disk.h"
#include "tms_load.h"

#define MODULE		"test_memalloc_disk"
#define DRIVERS		"/sys/bus/usb/drivers/"
#define FILE_MB		6
#define PAGED_MB	2	/* that are swapped out and in all the time */
#define ANON_MB		30	/* that reclaim may swap out */
#define MEMORY_MB	44	/* in all, of which some has to be clean: see memalloc_scope_pm.c */
#define DELAY_MS	"50"	/* until autosuspend */

/* A run is over when it has seen this, and has taken TMS_SECONDS; but see PATIENCE. */
#define RESETS		8
#define RESUMES		3
#define RECURSIONS	3	/* without protection */
#define PATIENCE	60	/* further seconds, on a machine that has much else to do */

struct usb_disk {
	char block[16];		/* sda */
	char device[32];	/* 2-1, in /sys/bus/usb/devices */
	char interface[40];	/* 2-1:1.0 */
};

struct resets {
	__u64 done;
	__u64 failed;
	int error;
	long long since_ms;	/* the one under way, 0 if there is none */
	long long worst_ms;
	bool stop;
};

/* Returns how many there are, two at most. */
static int find_usb_disks(struct usb_disk *disks)
{
	char path[PATH_MAX], *colon, *slash;
	struct dirent *d;
	int nr = 0;
	DIR *dir;

	dir = opendir("/sys/block");
	if (!dir)
		return 0;
	while (nr < 2 && (d = readdir(dir))) {
		struct usb_disk *u = &disks[nr];
		char name[300];

		if (strncmp(d->d_name, "sd", 2))
			continue;
		snprintf(name, sizeof(name), "/sys/block/%s", d->d_name);
		if (!realpath(name, path) || !strstr(path, "/usb"))
			continue;
		/* .../usb2/2-1/2-1:1.0/host0/target0:0:0/0:0:0:0/block/sda */
		slash = strstr(path, "/host");
		if (!slash)
			continue;
		*slash = '\0';
		snprintf(u->interface, sizeof(u->interface), "%s", strrchr(path, '/') + 1);
		colon = strchr(u->interface, ':');
		if (!colon)
			continue;
		snprintf(u->device, sizeof(u->device), "%.*s", (int)(colon - u->interface),
			 u->interface);
		snprintf(u->block, sizeof(u->block), "%.15s", d->d_name);
		nr++;
	}
	closedir(dir);
	return nr;
}

static int wait_usb_disks(struct usb_disk *disks, int ms)
{
	long long end = now_ms() + ms;
	int nr;

	while ((nr = find_usb_disks(disks)) < 2 && now_ms() < end)
		usleep(50000);
	return nr;
}

static bool rebind(const struct usb_disk *u, const char *from, const char *to)
{
	return !write_text(u->interface, DRIVERS "%s/unbind", from) &&
	       !write_text(u->interface, DRIVERS "%s/bind", to);
}

static void autosuspend(const struct usb_disk *u)
{
	write_text(DELAY_MS, "/sys/block/%s/device/power/autosuspend_delay_ms", u->block);
	write_text("auto", "/sys/block/%s/device/power/control", u->block);
	write_text(DELAY_MS, "/sys/bus/usb/devices/%s/power/autosuspend_delay_ms", u->device);
	write_text("auto", "/sys/bus/usb/devices/%s/power/control", u->device);
}

/* The file is open during the reset only, as the disk does not suspend meanwhile. */
static int reset_disk(const struct usb_disk *u)
{
	char path[64];
	int fd, err;

	snprintf(path, sizeof(path), "/dev/bus/usb/%03ld/%03ld",
		 read_number("/sys/bus/usb/devices/%s/busnum", u->device),
		 read_number("/sys/bus/usb/devices/%s/devnum", u->device));
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = ioctl(fd, USBDEVFS_RESET) ? -errno : 0;
	close(fd);
	return err;
}

/* Of both disks in turn, or of the one with swap on it */
static pid_t start_resets(struct resets *r, const struct usb_disk *disks, bool swap_only)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	for (int i = 0; !__atomic_load_n(&r->stop, __ATOMIC_RELAXED) && getppid() != 1; i++) {
		long long ms = now_ms();
		int err;

		__atomic_store_n(&r->since_ms, ms, __ATOMIC_RELAXED);
		err = reset_disk(&disks[swap_only || i % 2]);
		if (now_ms() - ms > r->worst_ms)
			r->worst_ms = now_ms() - ms;
		__atomic_store_n(&r->since_ms, 0, __ATOMIC_RELAXED);
		r->done++;
		if (err) {
			r->failed++;
			r->error = -err;
		}
		/* Time for it to suspend, now and then */
		usleep(i % 4 == 3 ? 300000 : 50000);
	}
	_exit(0);
}

FIXTURE(usb) {
	struct load *load;
	struct resets *resets;
	struct usb_disk disks[2];
	char dir[32];
	char file[48];
	char swap[32];
	long swappiness;
	pid_t pid;
	int fd;
	int probe;
	bool loaded;
	bool bound;
	bool mounted;
	bool swapping;
	bool journal;
};

/* usb-storage itself, or a driver that allocates memory on top of it */
FIXTURE_VARIANT(usb) {
	bool driver;
	__u32 unprotected;
};

FIXTURE_VARIANT_ADD(usb, usb_storage) {
};

FIXTURE_VARIANT_ADD(usb, allocating_driver) {
	.driver = true,
};

FIXTURE_VARIANT_ADD(usb, allocating_driver_without_noio) {
	.driver = true,
	.unprotected = TMD_NO_SCOPE,
};

FIXTURE_SETUP(usb)
{
	char device[32];
	const char *why;
	bool absent;

	self->fd = -1;
	self->probe = -1;
	if (geteuid())
		SKIP(return, "needs root");
	if (wait_usb_disks(self->disks, 10000) < 2)
		SKIP(return, "needs two disks of usb-storage, whose content will be lost");
	why = zram_zeros();
	if (why)
		SKIP(return, "%s", why);
	if (access(TMP_DEV, F_OK))
		load_module("test_memalloc_probe", "", &absent);
	self->probe = open(TMP_DEV, O_RDWR | O_CLOEXEC);
	if (self->probe < 0)
		SKIP(return, "no " TMP_DEV);
	why = load_module(MODULE, variant->driver ? "usb=1" : "", &absent);
	if (why && absent)
		SKIP(return, "%s", why);
	ASSERT_EQ(NULL, why)
		TH_LOG("%s", why);
	self->loaded = true;
	self->fd = open(TMD_DEV, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	if (variant->driver) {
		write_text("0", "/sys/module/usb_storage/parameters/delay_use");
		self->bound = true;
		for (int i = 0; i < 2; i++)
			ASSERT_TRUE(rebind(&self->disks[i], "usb-storage", TMD_USB_DRIVER));
		ASSERT_EQ(2, wait_usb_disks(self->disks, 10000));
	}
	for (int i = 0; i < 2; i++)
		autosuspend(&self->disks[i]);

	snprintf(device, sizeof(device), "/dev/%s", self->disks[0].block);
	why = make_ext4(device, &self->journal);
	if (why)
		SKIP(return, "%s", why);
	snprintf(self->dir, sizeof(self->dir), "/tmp/tmu.XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->dir));
	snprintf(self->file, sizeof(self->file), "%s/file", self->dir);
	if (mount(device, self->dir, "ext4", 0, NULL) && errno == ENODEV)
		SKIP(return, "no ext4");
	self->mounted = true;
	snprintf(self->swap, sizeof(self->swap), "/dev/%s", self->disks[1].block);
	why = start_swap(self->swap, 0);
	self->swapping = !why;
	ASSERT_EQ(NULL, why)
		TH_LOG("%s", why);

	self->swappiness = read_number("/proc/sys/vm/swappiness");
	write_text("200", "/proc/sys/vm/swappiness");
	write_text("-1000", "/proc/self/oom_score_adj");
	self->load = load_new();
	ASSERT_NE(NULL, self->load);
	self->resets = mmap(NULL, sizeof(*self->resets), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->resets);
}

static bool end_resets(struct resets *r, pid_t pid, int ms)
{
	long long end = now_ms() + ms;

	__atomic_store_n(&r->stop, true, __ATOMIC_RELAXED);
	while (!waitpid(pid, NULL, WNOHANG)) {
		if (now_ms() > end) {
			kill(pid, SIGKILL);
			return false;
		}
		usleep(10000);
	}
	return true;
}

FIXTURE_TEARDOWN(usb)
{
	char text[24];

	if (self->probe >= 0)
		close(self->probe);
	if (self->fd >= 0)
		disarm(self->fd);
	if (self->pid)
		end_resets(self->resets, self->pid, 5000);
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
	for (int i = 0; self->bound && i < 2; i++)
		EXPECT_TRUE(rebind(&self->disks[i], TMD_USB_DRIVER, "usb-storage"));
	if (self->loaded)
		EXPECT_EQ(0, unload_module(MODULE, 5000));
	zram_reset();
}

/* Functions that have to run with noio open */
static const char *const watched[] = {
	"hub_port_init",
	"usb_stor_pre_reset",
	"usb_stor_post_reset",
	"usb_stor_suspend",
	"usb_stor_resume",
};

#define RESUME	4	/* in watched[] */
#define NOIO	1	/* in tmp_count.open[] */

/* The disks may suspend at any time: a call may be counted, but not yet its scopes. */
static bool read_count(int probe, struct tmp_count *c)
{
	for (int i = 0; i < 3; i++) {
		if (ioctl(probe, TMP_IOC_READ, c))
			return false;
		if (c->calls == c->open[NOIO])
			break;
		usleep(1000);
	}
	return true;
}

#define WATCHED ((int)ARRAY_SIZE(watched))

static void stats(struct __test_metadata *_metadata, int fd, struct tmd_stats st[TMD_KINDS])
{
	for (int i = 0; i < TMD_KINDS; i++) {
		st[i].kind = i;
		ASSERT_EQ(0, ioctl(fd, TMD_IOC_STATS, &st[i]));
	}
}

TEST_F_TIMEOUT(usb, resets, 14400)
{
	const char *env = getenv("TMS_SECONDS");
	int seconds = env ? atoi(env) : 0;
	bool enough;
	struct tmd_setup setup = {
		.unprotected = variant->unprotected,
		/* Reclaim prefers what is clean, but there is not so much of it. */
		.reclaims = variant->unprotected ? 16 : 2,
		.max_kb = 16384,
		.help_ms = 500,
		/* It may wait for others who wait for the disk, too. */
		.stuck_ms = variant->unprotected ? 3000 : 10000,
	};
	struct tmd_stats st[TMD_KINDS] = { };
	const struct tmd_stats *reset = &st[TMD_RESET];
	struct tmp_count count[WATCHED];
	struct resets *r = self->resets;
	long long out = vm_events("pswpout"), in = vm_events("pswpin");
	long long start, stalled = 0, ms;
	const __u32 memory = MEMORY_MB;
	struct load_child sum;
	long avail;

	for (int i = 0; i < WATCHED; i++) {
		struct tmp_probe probe = { };

		snprintf(probe.symbol, sizeof(probe.symbol), "%s", watched[i]);
		ASSERT_EQ(0, ioctl(self->probe, TMP_IOC_ADD, &probe))
			TH_LOG("no probe on %s", watched[i]);
		count[i] = (struct tmp_count) { .index = probe.index };
	}
	avail = meminfo_mb("MemAvailable:");
	if (avail < MEMORY_MB)
		SKIP(return, "%ld MB of memory are available, too few", avail);
	ASSERT_EQ(0, ioctl(self->fd, TMD_IOC_LEAVE_MB, &memory));
	load_file(self->load, self->file, FILE_MB, 40);
	load_anon(self->load, PAGED_MB, 16, 100, true);
	load_anon(self->load, ANON_MB, 32, 30, false);
	start = now_ms();
	EXPECT_TRUE(load_press(self->load, 60000));
	report("available_mb %ld ready_ms %lld swapped_mb %lld journal %d", avail,
	       now_ms() - start, (vm_events("pswpout") - out) / 256, self->journal);

	if (variant->driver)
		ASSERT_EQ(0, ioctl(self->fd, TMD_IOC_SETUP, &setup));
	start = now_ms();
	self->pid = start_resets(r, self->disks, variant->unprotected);
	ASSERT_LT(0, self->pid);
	do {
		long long since = __atomic_load_n(&r->since_ms, __ATOMIC_RELAXED);

		usleep(50000);
		ms = load_stalled_ms(self->load);
		if (ms > stalled)
			stalled = ms;
		if (since && now_ms() - since > stalled)
			stalled = now_ms() - since;
		stats(_metadata, self->fd, st);
		ASSERT_EQ(0, ioctl(self->probe, TMP_IOC_READ, &count[RESUME]));
		if (variant->unprotected)
			enough = reset->helped + reset->stuck && reset->recursions >= RECURSIONS;
		else
			enough = r->done >= RESETS && count[RESUME].calls >= RESUMES &&
				 (!variant->driver || st[TMD_USB_RESUME].allocating);
		ms = now_ms() - start;
	} while (ms < seconds * 1000 || (!enough && ms < (seconds + PATIENCE) * 1000));
	EXPECT_TRUE(end_resets(r, self->pid, 30000));
	self->pid = 0;
	stats(_metadata, self->fd, st);
	for (int i = 0; i < WATCHED; i++)
		ASSERT_TRUE(read_count(self->probe, &count[i]));
	ms = now_ms() - start;

	/* The data is verified with the kernel as it is. */
	disarm(self->fd);
	EXPECT_TRUE(load_end(self->load, 60000));
	sum = load_sum(self->load);

	report("resets %llu failed %llu worst_ms %lld", r->done,
	       r->failed, r->worst_ms);
	report("ms %lld stalled_ms %lld worst_step_ms %lld end_ms %lld", ms,
	       stalled, sum.worst_ms, now_ms() - start - ms);
	report("swapped_out %lld swapped_in %lld checked_pages %llu bad %llu",
	       vm_events("pswpout") - out, vm_events("pswpin") - in,
	       sum.checked, sum.bad);
	for (int i = 0; i < WATCHED; i++)
		report("%s calls %llu noio %llu", watched[i], count[i].calls, count[i].open[NOIO]);
	if (variant->driver) {
		report_sections("reset", reset);
		report_sections("usb_suspend", &st[TMD_USB_SUSPEND]);
		report_sections("usb_resume", &st[TMD_USB_RESUME]);
	}

	/* In every case: the data is right, and there was memory pressure. */
	EXPECT_EQ(0, sum.bad);
	EXPECT_EQ(0, sum.error);
	EXPECT_LT(0, sum.checked);
	EXPECT_LT(out, vm_events("pswpout"));
	EXPECT_EQ(0, r->failed)
		TH_LOG("reset: %s", strerror(r->error));
	EXPECT_LT(0, count[0].calls);
	for (int i = 0; i < WATCHED; i++)
		EXPECT_EQ(count[i].calls, count[i].open[NOIO]);
	if (variant->unprotected) {
		/* What this is there to prevent: the reset waits for itself. */
		EXPECT_LT(0, reset->reclaims_io);
		EXPECT_LT(0, reset->recursions);
		EXPECT_LT(0, reset->helped + reset->stuck);
		return;
	}
	EXPECT_LE(RESETS, r->done);
	EXPECT_LE(RESUMES, count[RESUME].calls);
	if (!variant->driver) {
		for (int i = 0; i < WATCHED; i++)
			EXPECT_LT(0, count[i].calls);
		return;
	}
	EXPECT_LE(r->done, reset->sections);
	for (int i = TMD_RESET; i < TMD_KINDS; i++) {
		EXPECT_LT(0, st[i].sections);
		EXPECT_EQ(st[i].sections, st[i].noio);
		EXPECT_EQ(0, st[i].reclaims_io);
		EXPECT_EQ(0, st[i].reclaims_fs);
		EXPECT_EQ(0, st[i].recursions);
		EXPECT_EQ(0, st[i].helped);
		EXPECT_EQ(0, st[i].stuck);
	}
	EXPECT_LT(0, reset->reclaims);
	/* The USB core itself asks for GFP_KERNEL: only the scope makes GFP_NOIO of it. */
	EXPECT_LT(0, reset->kmallocs_io);
	EXPECT_EQ(0, reset->kmallocs_kept);
}

TEST_HARNESS_MAIN
