// SPDX-License-Identifier: GPL-2.0
/*
 * What nowait is for: requests that would rather fail than wait, with memory short,
 * and what they leave alone. See Documentation/core-api/memalloc-scope.rst.
 *
 * "Red if" says, for each test, what to break in the kernel to see it fail.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tms_figure.h"
#include "tms_harness.h"
#include "tms_task.h"

#define ZRAM		"/sys/block/zram0/"
#define DISK		"/dev/zram0"
#define READERS		2
#define ROOM_KB		(64 << 10)	/* for the page cache, which is to be reclaimed */
#define HOLD_KB		(16 << 10)	/* what is measured takes so much of it */

/* vmalloc() with requests that do not wait, or should not wait for long */
FIXTURE(tables) {
	int fd;
};

FIXTURE_VARIANT(tables) {
	__u32 request;
};

FIXTURE_VARIANT_ADD(tables, atomic) {
	.request = TMS_REQ_ATOMIC,
};

FIXTURE_VARIANT_ADD(tables, nowait) {
	.request = TMS_REQ_NOWAIT,
};

FIXTURE_VARIANT_ADD(tables, retry_mayfail) {
	.request = TMS_REQ_RETRY_MAYFAIL,
};

FIXTURE_SETUP(tables)
{
	self->fd = open_device(_metadata);
}

FIXTURE_TEARDOWN(tables)
{
	close(self->fd);
}

/*
 * Its page tables come from above the min watermark, or not at all.
 *
 * Red if: memalloc_scope_from_gfp() in mm/memalloc_scope.c has noreclaim in place
 * of nowait, as vmalloc() did once, or nowait gives the reserves.
 */
TEST_F_TIMEOUT(tables, watermark, 120)
{
	struct tms_vmalloc v;

	/* Somebody else may take what vmalloc() was left, or run out of memory. */
	for (int i = 0; i < 10; i++) {
		int err;

		usleep(i * 20000);
		v = (struct tms_vmalloc){
			.request = variant->request,
			.max_ms = 20000,
			.max_mb = 1024,
		};
		err = ioctl(self->fd, TMS_IOC_VMALLOC, &v);
		if (err && errno == EOPNOTSUPP)
			SKIP(return, "cannot be tried on this kernel");
		ASSERT_EQ(0, err);
		if (!v.is_short && !v.oom)
			SKIP(return, "memory could not be made short: needs less than %u MB",
			     v.max_mb);
		if (!v.oom && v.tables + v.refused)
			break;
	}
	report("%s: page tables %llu, below min %llu, refused %llu; free pages %llu, min %llu",
	       tms_request_name[variant->request], (unsigned long long)v.tables,
	       (unsigned long long)v.reserve_tables, (unsigned long long)v.refused,
	       (unsigned long long)v.min_free, (unsigned long long)v.min_wmark);
	ASSERT_LT(0, v.tables + v.refused)
		TH_LOG("no page table was asked for; %llu pages of data",
		       (unsigned long long)v.pages);
	EXPECT_LT(v.min_free, v.min_wmark);
	EXPECT_EQ(0, v.reserve_tables);
}

/* Memory that kswapd works hard for: page cache, read faster than it is of use */
FIXTURE(pressure) {
	int fd;
	bool zram;
	pid_t reader[READERS];
	void *rest;
	size_t rest_size;
};

FIXTURE_VARIANT(pressure) {
	__u32 sample;
	const char *name;
};

FIXTURE_VARIANT_ADD(pressure, page) {
	.sample = TMS_SAMPLE_PAGE,
	.name = "order 0",
};

FIXTURE_VARIANT_ADD(pressure, order3) {
	.sample = TMS_SAMPLE_ORDER3,
	.name = "order 3",
};

FIXTURE_VARIANT_ADD(pressure, vmalloc) {
	.sample = TMS_SAMPLE_VMALLOC,
	.name = "vmalloc(64 KiB)",
};

/* Blocks that were never written cost nothing: they read as zeros. */
static void read_forever(void)
{
	static char buf[64 << 10];
	int fd = open(DISK, O_RDONLY | O_CLOEXEC);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (fd >= 0) {
		if (read(fd, buf, sizeof(buf)) <= 0)
			lseek(fd, 0, SEEK_SET);
	}
	_exit(1);
}

/* A number of /proc/meminfo or /proc/vmstat */
static unsigned long long number_in(const char *path, const char *name)
{
	unsigned long long value = 0;
	char line[128];
	FILE *f = fopen(path, "r");

	while (f && fgets(line, sizeof(line), f)) {
		if (!strncmp(line, name, strlen(name)) &&
		    sscanf(line + strlen(name), "%*[: ]%llu", &value) == 1)
			break;
	}
	if (f)
		fclose(f);
	return value;
}

FIXTURE_SETUP(pressure)
{
	unsigned long long kb, stolen;

	self->fd = open_device(_metadata);
	if (self->fd < 0)
		return;
	kb = number_in("/proc/meminfo", "MemAvailable");
	if (kb >> 20)
		SKIP(return, "needs less than 1 GB: to fill more takes long");
	if (!write_text(ZRAM "disksize", "1G"))
		SKIP(return, "needs " DISK ", and nobody who uses it");
	self->zram = true;
	if (kb > ROOM_KB) {
		self->rest_size = (kb - ROOM_KB) << 10;
		self->rest = mmap(NULL, self->rest_size, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		ASSERT_NE(MAP_FAILED, self->rest);
	}
	stolen = number_in("/proc/vmstat", "pgsteal_kswapd");
	for (int i = 0; i < READERS; i++) {
		self->reader[i] = fork();
		ASSERT_LE(0, self->reader[i]);
		if (!self->reader[i])
			read_forever();
	}
	/* Until there is nothing free but what kswapd makes. */
	for (int i = 0; i < 400; i++) {
		if (number_in("/proc/vmstat", "pgsteal_kswapd") - stolen > 4096)
			return;
		usleep(50000);
	}
	EXPECT_TRUE(false)
		TH_LOG("kswapd has nothing to do");
}

FIXTURE_TEARDOWN(pressure)
{
	for (int i = 0; i < READERS; i++) {
		if (self->reader[i] > 0) {
			kill(self->reader[i], SIGKILL);
			waitpid(self->reader[i], NULL, 0);
		}
	}
	if (self->rest)
		munmap(self->rest, self->rest_size);
	if (self->zram)
		write_text(ZRAM "reset", "1");
	close(self->fd);
}

static void report_latency(const char *what, const char *scope, const struct tms_latency *l,
			   unsigned long long kswapd)
{
	char histogram[256] = "";
	size_t len = 0;

	report("%s, %s: %llu of %llu obtained (%.2f %%), p50 %llu ns, p99 %llu ns, max %llu ns",
	       what, scope, (unsigned long long)(l->tries - l->failed),
	       (unsigned long long)l->tries,
	       l->tries ? 100.0 * (l->tries - l->failed) / l->tries : 0,
	       (unsigned long long)l->p50, (unsigned long long)l->p99,
	       (unsigned long long)l->max);
	report("  direct reclaim: %llu times; by kswapd meanwhile: %llu pages",
	       (unsigned long long)l->reclaims, kswapd);
	for (int i = 0; i < TMS_BUCKETS && len < sizeof(histogram); i++) {
		if (l->bucket[i])
			len += snprintf(histogram + len, sizeof(histogram) - len, " %d:%llu", i,
					(unsigned long long)l->bucket[i]);
	}
	report("  log2(ns):requests%s", histogram);
}

/*
 * The same requests, inside nowait and as plain GFP_KERNEL. How many fail and how
 * long they take is for reading; what must hold on any machine is tested.
 *
 * Red if: nowait does not take __GFP_DIRECT_RECLAIM away, or takes it away where it
 * is not open (page: GFP_KERNEL fails).
 */
TEST_F_TIMEOUT(pressure, latency, 120)
{
	static const struct {
		const char *name;
		__u32 scopes;
	} runs[] = {
		{ "nowait", TMS_NOWAIT | TMS_NOWARN },
		{ "GFP_KERNEL", 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(runs); i++) {
		unsigned long long kswapd = number_in("/proc/vmstat", "pgsteal_kswapd");
		struct tms_latency l = {
			.scopes = runs[i].scopes,
			.sample = variant->sample,
			.ms = 2000,
			.hold_kb = HOLD_KB,
		};
		int err = ioctl(self->fd, TMS_IOC_LATENCY, &l);

		if (err && errno == EOPNOTSUPP)
			SKIP(return, "needs CONFIG_TRACEPOINTS");
		ASSERT_EQ(0, err);
		kswapd = number_in("/proc/vmstat", "pgsteal_kswapd") - kswapd;
		report_latency(variant->name, runs[i].name, &l, kswapd);
		EXPECT_LT(100, l.tries);
		EXPECT_LT(0, l.tries - l.failed);
		EXPECT_EQ(0, l.unusable);
		EXPECT_TRUE(!l.reclaims || !(runs[i].scopes & TMS_NOWAIT));
		EXPECT_TRUE(!l.failed || runs[i].scopes & TMS_NOWAIT ||
			    variant->sample != TMS_SAMPLE_PAGE);
	}
}

TEST_HARNESS_MAIN
