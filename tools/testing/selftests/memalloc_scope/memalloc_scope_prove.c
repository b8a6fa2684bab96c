// SPDX-License-Identifier: GPL-2.0
/*
 * CONFIG_PROVE_MEMALLOC_SCOPE: deadlocks of a task in a scope with somebody who
 * allocates memory, which lockdep has to find although memory is not short.
 *
 * lockdep turns itself off with its first report. So a boot is good for one variant
 * of "finds", for which -v is there, or for all that is legal.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "tms_harness.h"
#include "test_modules/test_memalloc_prove.h"

#define COMM	"tms-prove"

FIXTURE(prove) {
	int fd;
};

FIXTURE_VARIANT(prove) {
	enum tmv_case nr;
	/* What has to be in the report: classes, and the owner of the scope */
	const char *class, *other, *owner;
};

FIXTURE_VARIANT_ADD(prove, scope_first) {
	.nr = TMV_SCOPE_FIRST, .class = "memalloc_noio", .other = "tmv_lock",
	.owner = "tmv_in_noio",
};

FIXTURE_VARIANT_ADD(prove, request_first) {
	.nr = TMV_REQUEST_FIRST, .class = "memalloc_noio", .other = "tmv_lock",
	.owner = "tmv_in_noio",
};

FIXTURE_VARIANT_ADD(prove, nofs) {
	.nr = TMV_NOFS, .class = "memalloc_nofs", .other = "tmv_lock",
	.owner = "tmv_in_nofs",
};

FIXTURE_VARIANT_ADD(prove, nofs_request) {
	.nr = TMV_NOFS_REQUEST, .class = "memalloc_noio", .other = "io_reclaim",
	.owner = "tmv_in_noio",
};

FIXTURE_VARIANT_ADD(prove, two_locks) {
	.nr = TMV_TWO_LOCKS, .class = "memalloc_noio", .other = "tmv_inner_lock",
	.owner = "tmv_in_noio",
};

FIXTURE_VARIANT_ADD(prove, work) {
	.nr = TMV_WORK, .class = "memalloc_noio", .other = "tmv_work",
	.owner = "tmv_flush_in_noio",
};

FIXTURE_VARIANT_ADD(prove, idle_work) {
	.nr = TMV_IDLE_WORK, .class = "memalloc_noio", .other = "tmv_work",
	.owner = "tmv_flush_in_noio",
};

FIXTURE_VARIANT_ADD(prove, thread) {
	.nr = TMV_THREAD, .class = "memalloc_noio", .other = "tmv_lock",
	.owner = "tmv_thread",
};

FIXTURE_VARIANT_ADD(prove, adopted) {
	.nr = TMV_ADOPTED, .class = "memalloc_noio", .other = "tmv_lock",
	.owner = "tmv_mwork_fn",
};

FIXTURE_SETUP(prove)
{
	self->fd = open_module_device(_metadata, "test_memalloc_prove");
}

FIXTURE_TEARDOWN(prove)
{
	close(self->fd);
}

/* Is it in what the kernel has said since the beginning of the test? */
static bool said(const char *text)
{
	char line[TMS_MESSAGE];
	int kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	bool found = find_message(kmsg, "", "possible circular locking dependency", line) &&
		     find_message(kmsg, "", text, line);

	close(kmsg);
	return found;
}

/*
 * Red if: in mm/memalloc_prove.c, an edge is missing (memalloc_prove_init()), a kind
 * is not held or not by its first save (memalloc_prove_hold()); in mm/page_alloc.c,
 * __io_reclaim_acquire() is not called (nofs_request); in kernel/workqueue.c, idle
 * work is not touched (idle_work); in kernel/kthread.c, nothing is held for life
 * (thread); in mm/memalloc_debug.c, nothing is for what is adopted (adopted).
 */
TEST_F(prove, finds)
{
	int ret;

	prctl(PR_SET_NAME, COMM);
	ret = ioctl(self->fd, TMV_IOC_RUN, variant->nr);
	if (ret < 0 && errno == EOPNOTSUPP)
		SKIP(return, "needs CONFIG_PROVE_MEMALLOC_SCOPE, and lockdep without a report yet");
	EXPECT_EQ(0, ret)
		TH_LOG("no report");
	EXPECT_TRUE(said(variant->class))
		TH_LOG("no %s in the report", variant->class);
	EXPECT_TRUE(said(variant->other))
		TH_LOG("no %s in the report", variant->other);
	EXPECT_TRUE(said(variant->owner))
		TH_LOG("no %s in the report", variant->owner);
}

/*
 * Red if: in mm/memalloc_prove.c, a scope is held other than as by a trylock, or in
 * interrupts; or in mm/memalloc_debug.c, what is not adopted stays held.
 */
TEST(legal)
{
	int fd = open_module_device(_metadata, "test_memalloc_prove"), ret;

	ret = ioctl(fd, TMV_IOC_RUN, TMV_LEGAL);
	if (ret < 0 && errno == EOPNOTSUPP)
		SKIP(return, "needs CONFIG_PROVE_MEMALLOC_SCOPE, and lockdep without a report yet");
	EXPECT_EQ(1, ret)
		TH_LOG("lockdep has reported something");
	close(fd);
}

TEST_HARNESS_MAIN
