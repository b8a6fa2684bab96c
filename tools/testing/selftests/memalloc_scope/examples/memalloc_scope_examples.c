// SPDX-License-Identifier: GPL-2.0
/*
 * The examples of Documentation/core-api/memalloc-scope.rst do what the guide says
 * of them: each allocates with GFP_KERNEL where reclaim must not get back to it,
 * in a memory cgroup that is at its limit. Each is run as it stands in the guide,
 * and once more without its scopes, which has to show what they are there for.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "../tms_harness.h"
#include "test_modules/test_memalloc_examples.h"

#define OPS	50
#define LIMIT	"4M"

static const char *const place_name[TME_EXAMPLES][TME_PLACES] = {
	[TME_FS] = { "transaction", "lock", "work", NULL, "outside" },
	[TME_BLOCK] = { "suspend", "lock", "work", "thread", "outside" },
	[TME_NET] = { "send", "helper", "receive", "batch", "outside" },
};

/* A memory cgroup that is soon full */
struct limited {
	int fd;
	bool mounted;
	char root[64];
	char dir[96];
};

FIXTURE(examples) {
	struct limited cgroup;
};

FIXTURE_VARIANT(examples) {
	__u32 example;
	/* nothing in there reclaims at all, rather than with a weaker mask */
	bool no_reclaim;
};

FIXTURE_VARIANT_ADD(examples, fs) {
	.example = TME_FS,
};

FIXTURE_VARIANT_ADD(examples, block) {
	.example = TME_BLOCK,
};

FIXTURE_VARIANT_ADD(examples, net) {
	.example = TME_NET,
	.no_reclaim = true,
};

static bool write_in(const char *dir, const char *name, const char *text)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return write_text(path, text);
}

static void set_up(struct __test_metadata *_metadata, struct limited *l)
{
	ASSERT_EQ(0, tms_loopback_up());
	l->fd = open_module_device(_metadata, "test_memalloc_examples");
	if (l->fd < 0)
		return;
	snprintf(l->root, sizeof(l->root), "/sys/fs/cgroup");
	if (access("/sys/fs/cgroup/cgroup.controllers", F_OK)) {
		snprintf(l->root, sizeof(l->root), "/tmp/memalloc_scope.%d", getpid());
		ASSERT_EQ(0, mkdir(l->root, 0700));
		if (mount("none", l->root, "cgroup2", 0, NULL)) {
			rmdir(l->root);
			SKIP(return, "no cgroup v2");
		}
		l->mounted = true;
	}
	if (!write_in(l->root, "cgroup.subtree_control", "+memory"))
		SKIP(return, "no memory controller");
	snprintf(l->dir, sizeof(l->dir), "%s/memalloc_examples", l->root);
	if (mkdir(l->dir, 0755))
		ASSERT_EQ(EEXIST, errno);
	ASSERT_TRUE(write_in(l->dir, "memory.max", LIMIT));
}

static void tear_down(struct limited *l)
{
	close(l->fd);
	if (l->dir[0])
		rmdir(l->dir);
	if (l->mounted) {
		umount2(l->root, MNT_DETACH);
		rmdir(l->root);
	}
}

FIXTURE_SETUP(examples)
{
	set_up(_metadata, &self->cgroup);
}

FIXTURE_TEARDOWN(examples)
{
	tear_down(&self->cgroup);
}

static void run(struct __test_metadata *_metadata, struct limited *l, struct tme_run *r)
{
	int err;

	ASSERT_TRUE(write_in(l->dir, "cgroup.procs", "0"));
	err = ioctl(l->fd, TME_IOC_RUN, r) ? errno : 0;
	ASSERT_TRUE(write_in(l->root, "cgroup.procs", "0"));
	ASSERT_EQ(0, err);
	ASSERT_EQ(0, r->error);
}

static void report(const struct tme_run *r)
{
	for (int i = 0; i < TME_PLACES; i++) {
		const struct tme_place *p = &r->place[i];
		const char *name = place_name[r->example][i];

		if (name)
			printf("# %s: %llu objects, %llu refused, %llu reclaims, %llu wrong\n",
			       name, (unsigned long long)p->objects,
			       (unsigned long long)p->refused, (unsigned long long)p->reclaims,
			       (unsigned long long)p->wrong);
	}
	fflush(stdout);		/* tests are ended by _exit() */
}

/*
 * Red if: neither try_charge_memcg() nor try_to_free_mem_cgroup_pages() folds, the
 * former does not ask for noreclaim, queue_memalloc_work_on() does not capture,
 * process_one_work() does not adopt, memalloc_scope_thread() opens nothing, nor do
 * the guards of <linux/memalloc_guard.h>, _lock.h or _ctx.h.
 */
TEST_F_TIMEOUT(examples, as_in_the_guide, 120)
{
	struct tme_run r = { .example = variant->example, .ops = OPS };

	run(_metadata, &self->cgroup, &r);
	report(&r);
	for (int i = 0; i < TME_PLACES; i++) {
		const struct tme_place *p = &r.place[i];
		const char *name = place_name[r.example][i];

		if (!name)
			continue;
		EXPECT_EQ(0, p->wrong)
			TH_LOG("%s: reclaim would have waited for itself", name);
		/* Memory was short there. */
		EXPECT_LT(0, p->objects)
			TH_LOG("%s: allocated nothing", name);
		if (variant->no_reclaim && i != TME_OUTSIDE) {
			EXPECT_EQ(0, p->reclaims)
				TH_LOG("%s: reclaimed", name);
		} else {
			EXPECT_LT(0, p->reclaims)
				TH_LOG("%s: never reclaimed, which says nothing", name);
		}
		/* Only a request that must not wait may fail. */
		if (variant->example != TME_NET || i != TME_NET_BATCH) {
			EXPECT_EQ(0, p->refused)
				TH_LOG("%s: out of memory", name);
		}
	}
	/* where it may enter, it does */
	EXPECT_LT(0, r.entered);
	if (variant->example == TME_NET) {
		EXPECT_LT(0, r.place[TME_NET_BATCH].refused);
		EXPECT_LE(r.place[TME_NET_BATCH].refused, r.fallbacks);
	}
}

/* Red if: memory is not short, or tme_may_enter() does not see who asks. */
TEST_F_TIMEOUT(examples, without_scope, 120)
{
	struct tme_run r = { .example = variant->example, .ops = OPS, .careless = 1 };

	run(_metadata, &self->cgroup, &r);
	report(&r);
	for (int i = 0; i < TME_OUTSIDE; i++) {
		const char *name = place_name[r.example][i];

		if (!name)
			continue;
		EXPECT_LT(0, r.place[i].wrong)
			TH_LOG("%s: nothing happened", name);
	}
}

FIXTURE(buffer) {
	struct limited cgroup;
};

FIXTURE_SETUP(buffer)
{
	set_up(_metadata, &self->cgroup);
}

FIXTURE_TEARDOWN(buffer)
{
	tear_down(&self->cgroup);
}

/* A message of this process about vmalloc since the last call */
static bool complained(int kmsg)
{
	char line[TMS_MESSAGE];
	bool found = false;

	while (find_message(kmsg, "tms-examples: vmalloc error: ", "", line))
		found = true;
	return found;
}

/*
 * A buffer that is never to be had: more than the machine has memory.
 *
 * Red if: __current_gfp_context() does not add __GFP_NOWARN inside nowarn, or
 * __vmalloc_node_range_noprof() reports before it folds.
 */
TEST_F_TIMEOUT(buffer, no_word_about_it, 120)
{
	struct tme_run r = { .example = TME_NET, .ops = 1 };
	struct sysinfo info;
	bool loud = false;
	int kmsg;

	ASSERT_EQ(0, sysinfo(&info));
	r.batch = 2ULL * info.totalram * info.mem_unit;
	/* size_t in the kernel */
	if (r.batch > ~0UL / 2)
		r.batch = ~0UL / 2;
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (kmsg < 0)
		SKIP(return, "no /dev/kmsg");
	lseek(kmsg, 0, SEEK_END);
	prctl(PR_SET_NAME, "tms-examples");
	/*
	 * One report in ten seconds is all that there is. If one comes without the
	 * scope, then one could have come with it, just before.
	 */
	for (int i = 0; i < 30 && !loud; i++) {
		r.careless = 0;
		run(_metadata, &self->cgroup, &r);
		ASSERT_EQ(1, r.fallbacks);
		ASSERT_FALSE(complained(kmsg));
		r.careless = 1;
		run(_metadata, &self->cgroup, &r);
		ASSERT_EQ(1, r.fallbacks);
		loud = complained(kmsg);
		if (!loud)
			usleep(500000);
	}
	EXPECT_TRUE(loud)
		TH_LOG("no report without the scope either, which says nothing");
	close(kmsg);
}

TEST_HARNESS_MAIN
