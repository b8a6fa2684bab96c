// SPDX-License-Identifier: GPL-2.0
/*
 * The control of memalloc_scope_fs: the same storms while the allocator ignores the
 * nofs scope. Reclaim then comes back to the file system from inside its own
 * transaction, and the tests pass if it was seen to.
 *
 * Such a kernel may deadlock. The storm ends when enough has been seen.
 */
#include <stdlib.h>

#include "../test_modules/test_memalloc_scope.h"
#include "test_modules/test_memalloc_probe.h"
#include "tms_fs_harness.h"

#define ENOUGH		3
#define PROVE_LOCKING	"/proc/sys/kernel/prove_locking"

FIXTURE(fs_control) {
	struct tms_fs fs;
	struct tms_storm *storm;
	int watch;
	int probe;
	bool proving;
};

FIXTURE_VARIANT(fs_control) {
	const char *type;
};

FIXTURE_VARIANT_ADD(fs_control, ext4) {
	.type = "ext4",
};

FIXTURE_VARIANT_ADD(fs_control, xfs) {
	.type = "xfs",
};

FIXTURE_VARIANT_ADD(fs_control, btrfs) {
	.type = "btrfs",
};

/* Returns what it was. */
static bool prove_locking(bool on)
{
	char old = '0';
	int fd = open(PROVE_LOCKING, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return false;
	if (read(fd, &old, 1) == 1 && pwrite(fd, on ? "1" : "0", 1, 0) != 1)
		old = '0';
	close(fd);
	return old == '1';
}

FIXTURE_SETUP(fs_control)
{
	self->watch = -1;
	self->probe = open_module_device(_metadata, "test_memalloc_probe");
	if (self->probe < 0)
		return;
	self->fs.type = variant->type;
	/* lockdep is right to complain about what comes now, and would then switch itself off. */
	self->proving = !getenv("TMS_LOCKDEP") && prove_locking(false);
	self->watch = fs_watch(_metadata, &self->fs, TMF_PAGES |
			       (getenv("TMS_STACKS") ? TMF_STACKS : 0));
	if (self->watch < 0)
		return;
	self->storm = tms_storm_new(&self->fs);
	ASSERT_NE(NULL, self->storm);
	self->storm->limit_kb = LIMIT_KB;
}

FIXTURE_TEARDOWN(fs_control)
{
	tms_storm_free(self->storm);
	if (self->watch >= 0)
		close(self->watch);
	if (self->probe >= 0)
		close(self->probe);
	tms_fs_detach(&self->fs);
	if (self->proving)
		prove_locking(true);
}

static bool seen_enough(void *arg)
{
	struct tmf_count c;

	return !ioctl(*(int *)arg, TMF_IOC_READ, &c) && c.recursions >= ENOUGH;
}

/* Red if: the scope has no effect anyway, or nothing depends on it. */
TEST_F_TIMEOUT(fs_control, storm, 14400)
{
	/* Charges of the memory cgroup reclaim without the page allocator. */
	static const char *const symbols[] = {
		"__alloc_frozen_pages_noprof",
		"try_to_free_mem_cgroup_pages",
	};
	unsigned long long cleared = 0;
	char why[TMS_FS_WHY] = "";
	struct tmf_count c;
	int err;

	for (unsigned int i = 0; i < ARRAY_SIZE(symbols); i++) {
		struct tmp_probe p = { .clear = TMS_NOFS };

		snprintf(p.symbol, sizeof(p.symbol), "%s", symbols[i]);
		ASSERT_EQ(0, ioctl(self->probe, TMP_IOC_ADD, &p))
			TH_LOG("cannot probe %s: %s", symbols[i], strerror(errno));
	}
	self->storm->seconds = setting("TMS_SECONDS", 25);
	self->storm->enough = seen_enough;
	self->storm->enough_arg = &self->watch;
	err = tms_storm_run(self->storm, why);
	EXPECT_EQ(0, err)
		TH_LOG("%s", why);
	for (unsigned int i = 0; i < ARRAY_SIZE(symbols); i++) {
		struct tmp_count count = { .index = i };

		ASSERT_EQ(0, ioctl(self->probe, TMP_IOC_READ, &count));
		cleared += count.cleared;
	}
	ASSERT_EQ(0, ioctl(self->watch, TMF_IOC_READ, &c));
	fs_report(variant->type, self->storm, &c);
	report("%s pages_by_scope_alone %llu", variant->type,
	       (unsigned long long)c.scope_only);
	report("%s cleared %llu", variant->type, cleared);
	EXPECT_LT(0, cleared);
	EXPECT_LT(0, c.recursions);
}

TEST_HARNESS_MAIN
