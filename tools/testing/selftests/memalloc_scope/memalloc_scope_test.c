// SPDX-License-Identifier: GPL-2.0
/*
 * Allocation scopes, seen from a running kernel: what reclaim is told when memory
 * is really short, what interrupts on top of a task with open scopes find, what
 * survives fork and exec. See Documentation/core-api/memalloc-scope.rst.
 *
 * "Red if" says, for each test, what to break in the kernel to see it fail.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tms_harness.h"
#include "tms_task.h"

/* Bits of the flags word in /proc/PID/stat that once stood for scopes */
#define OLD_PF_SCOPES	(0x00000800 | 0x00040000 | 0x00080000 | 0x10000000)

#define EXEC_ARG	"--exit-with-io-flusher"

/* A task with scopes open: by the module for the length of a call, or for good */
FIXTURE(scope) {
	int fd;
	__u32 in_force;
};

FIXTURE_VARIANT(scope) {
	__u32 scopes;
	bool io_flusher;
};

FIXTURE_VARIANT_ADD(scope, none) {
};

FIXTURE_VARIANT_ADD(scope, nofs) {
	.scopes = TMS_NOFS,
};

FIXTURE_VARIANT_ADD(scope, noio) {
	.scopes = TMS_NOIO,
};

FIXTURE_VARIANT_ADD(scope, nofs_noio) {
	.scopes = TMS_NOFS | TMS_NOIO,
};

FIXTURE_VARIANT_ADD(scope, pin) {
	.scopes = TMS_PIN,
};

FIXTURE_VARIANT_ADD(scope, nofs_pin) {
	.scopes = TMS_NOFS | TMS_PIN,
};

FIXTURE_VARIANT_ADD(scope, noreclaim) {
	.scopes = TMS_NORECLAIM,
};

FIXTURE_VARIANT_ADD(scope, nowait) {
	.scopes = TMS_NOWAIT,
};

FIXTURE_VARIANT_ADD(scope, nowait_nofs) {
	.scopes = TMS_NOWAIT | TMS_NOFS,
};

FIXTURE_VARIANT_ADD(scope, nowarn) {
	.scopes = TMS_NOWARN,
};

FIXTURE_VARIANT_ADD(scope, all) {
	.scopes = TMS_SCOPES,
};

FIXTURE_VARIANT_ADD(scope, io_flusher) {
	.io_flusher = true,
};

FIXTURE_VARIANT_ADD(scope, io_flusher_pin) {
	.io_flusher = true,
	.scopes = TMS_PIN,
};

FIXTURE_SETUP(scope)
{
	self->fd = open_device(_metadata);
	if (self->fd < 0)
		return;
	self->in_force = variant->scopes;
	if (variant->io_flusher) {
		self->in_force |= TMS_IO_FLUSHER;
		ASSERT_EQ(0, set_io_flusher(1));
	}
}

FIXTURE_TEARDOWN(scope)
{
	if (variant->io_flusher)
		set_io_flusher(0);
	close(self->fd);
}

/*
 * Red if: the page allocator does not fold (__alloc_frozen_pages_noprof() in
 * mm/page_alloc.c), __current_gfp_context() lacks one of its branches,
 * __gfp_pfmemalloc_flags() gives nothing inside noreclaim, or the reserves inside
 * nowait, or the slow path does not refuse to reclaim inside noreclaim ("Avoid
 * recursion of direct reclaim"), or a __GFP_NOFAIL request may not wait inside
 * nowait. try_to_free_pages() folds a second time; it takes both to be broken for
 * reclaim to see the wrong mask.
 */
TEST_F_TIMEOUT(scope, direct_reclaim, 180)
{
	for (int request = 0; request <= TMS_REQ_NOFAIL; request++) {
		char why[TMS_WHY] = "";
		struct tms_reclaim r = { .scopes = variant->scopes, .request = request };

		/* In there, it could only loop. */
		if (request == TMS_REQ_NOFAIL && variant->scopes & TMS_NORECLAIM)
			continue;
		ASSERT_EQ(0, tms_reclaim(self->fd, &r));
		if (!r.is_short && !r.oom)
			SKIP(return, "memory could not be made short: needs less than %u MB",
			     r.max_mb);
		EXPECT_EQ(0, r.oom)
			TH_LOG("%s: out of memory", tms_request_name[request]);
		/* Whoever is given too much gets all there is from what comes next. */
		ASSERT_TRUE(tms_judge_reclaim(&r, self->in_force, why))
			TH_LOG("asked for %s: %s", r.asked_text, why);
	}
}

/*
 * Red if: vmalloc's page tables do not get the restrictions of the request, that
 * is memalloc_scope_from_gfp() returns none (io_flusher and the scopes apply to them
 * anyway), or noreclaim in place of nowait, or __vmalloc_area_node() in
 * mm/vmalloc.c leaves it open, or the page allocator does not fold.
 */
TEST_F(scope, vmalloc)
{
	const __u32 bits = TMS_GFP_FS | TMS_GFP_IO | TMS_GFP_DIRECT_RECLAIM;

	for (int request = 0; request < TMS_REQ_MAX; request++) {
		struct tms_alloc a = {
			.scopes = variant->scopes,
			.request = request,
			.allocator = TMS_ALLOC_VMALLOC,
		};

		if (request == TMS_REQ_HIGHUSER_MOVABLE)
			continue;
		ASSERT_EQ(0, ioctl(self->fd, TMS_IOC_ALLOC, &a));
		EXPECT_LT(0, a.used.count);
		EXPECT_EQ(tms_expect(self->in_force, a.asked) & bits, a.used.any & bits)
			TH_LOG("asked for %s, a page with %s", a.asked_text, a.used.text);
		EXPECT_EQ(0, a.left_open);
	}
}

/* Red if: pcpu_alloc_noprof() in mm/percpu.c does not fold. */
TEST_F(scope, percpu)
{
	for (int request = 0; request < TMS_REQ_MAX; request++) {
		char why[TMS_WHY] = "";
		struct tms_alloc a = {
			.scopes = variant->scopes,
			.request = request,
			.allocator = TMS_ALLOC_PERCPU,
		};

		ASSERT_EQ(0, ioctl(self->fd, TMS_IOC_ALLOC, &a));
		EXPECT_TRUE(tms_judge_seen(&a.used, tms_expect(self->in_force, a.asked), why))
			TH_LOG("asked for %s: %s", a.asked_text, why);
	}
}

/* Red if: filemap_release_folio() in mm/filemap.c does not fold. */
TEST_F(scope, release_folio)
{
	for (int request = 0; request < TMS_REQ_MAX; request++) {
		char why[TMS_WHY] = "";
		struct tms_alloc a = {
			.scopes = variant->scopes,
			.request = request,
			.allocator = TMS_RELEASE_FOLIO,
		};

		ASSERT_EQ(0, ioctl(self->fd, TMS_IOC_ALLOC, &a));
		EXPECT_TRUE(tms_judge_seen(&a.used, tms_expect(self->in_force, a.asked), why))
			TH_LOG("asked for %s: %s", a.asked_text, why);
	}
}

/*
 * Red if: handle_softirqs() does not call memalloc_scope_borrow() or
 * memalloc_scope_clear() (entry) or memalloc_scope_give_back() (leaks), or
 * __current_gfp_context() and memalloc_scope_active() do not look at
 * preempt_count() (hardirqs).
 */
TEST_F_TIMEOUT(scope, interrupts, 90)
{
	struct tms_interrupt t = {
		.scopes = variant->scopes,
		.shots = 2000,
		.patience_ms = 1500,
		.max_ms = 20000,
	};

	ASSERT_EQ(0, tms_loopback_up());
	ASSERT_EQ(0, ioctl(self->fd, TMS_IOC_INTERRUPT, &t));
	EXPECT_EQ(0, t.net_error);
	EXPECT_LT(t.shots, t.checks);
	/* Sending runs the receive softirq on top of the sender, everywhere. */
	EXPECT_LE(t.shots / 8, t.kind[TMS_NET_RX].hits);
	EXPECT_EQ(0, t.leaks)
		TH_LOG("the task had %#x open, found %#x", t.leak_want, t.leak_got);
	for (int kind = 0; kind < TMS_KINDS; kind++) {
		__u64 want = tms_enough_hits(&t, kind);
		char why[TMS_WHY] = "";

		EXPECT_LE(want, t.kind[kind].hits + t.kind[kind].elsewhere)
			TH_LOG("%s: too few hits in %llu ms", tms_kind_name[kind],
			       (unsigned long long)t.ms);
		EXPECT_TRUE(tms_judge_hits(&t.kind[kind], why))
			TH_LOG("%s: %s", tms_kind_name[kind], why);
	}
}

/*
 * What a kernel thread gets from the task that forks it, kthreadd, is tested by
 * KUnit: kernel_thread_is_no_child. This is about the task that asked for it.
 *
 * Red if: __kthread_create_on_node() in kernel/kthread.c hands the scopes of its
 * caller to the thread, in struct kthread_create_info.
 */
TEST_F(scope, kernel_thread)
{
	struct tms_child child = { .scopes = variant->scopes };

	ASSERT_EQ(0, ioctl(self->fd, TMS_IOC_KTHREAD, &child));
	EXPECT_EQ(0, child.open);
}

static void *query_thread(void *arg)
{
	struct tms_query *q = arg;

	if (ioctl(q->open, TMS_IOC_QUERY, q))
		q->open = TMS_UNKNOWN;
	return NULL;
}

/*
 * The one test that returns to user space with scopes open, as nothing else can
 * fork with them. Kernels that object to that answer EOPNOTSUPP.
 *
 * Red if: memalloc_scope_fork() is not called, or does not clear the scopes, or
 * clears io_flusher; if the queries do not know what implies what; if a scope
 * shows in task_struct::flags.
 */
TEST_F(scope, fork)
{
	__u32 inherited = self->in_force & TMS_IO_FLUSHER;
	char names[TMS_NAMES], line[256];
	struct tms_child children;
	struct tms_query q, in_thread = { .open = self->fd };
	pthread_t thread;
	const char *shown;
	int err;
	pid_t pid;

	err = ioctl(self->fd, TMS_IOC_LEAK_OPEN, variant->scopes);
	if (err && errno == EOPNOTSUPP)
		SKIP(return, "scopes must not be open in user space");
	ASSERT_EQ(0, err);

	EXPECT_EQ(0, ioctl(self->fd, TMS_IOC_QUERY, &q));
	EXPECT_EQ(self->in_force, q.open);
	EXPECT_EQ(tms_expect_active(self->in_force), q.active);
	EXPECT_EQ(0, task_flags(0) & OLD_PF_SCOPES);
	shown = task_status(0, "MemallocScope", line, sizeof(line));
	EXPECT_NE(NULL, shown);
	if (shown)
		EXPECT_STREQ(tms_names(names, self->in_force), shown);

	pid = fork();
	if (!pid) {
		if (ioctl(self->fd, TMS_IOC_QUERY, &q))
			q.open = TMS_UNKNOWN;
		_exit(q.open);
	}
	EXPECT_EQ(inherited, reap(pid))
		TH_LOG("a child starts with more or less than io_flusher");
	EXPECT_EQ(0, pthread_create(&thread, NULL, query_thread, &in_thread));
	EXPECT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(inherited, in_thread.open)
		TH_LOG("a thread starts with more or less than io_flusher");

	EXPECT_EQ(0, ioctl(self->fd, TMS_IOC_NEWTASK, &children));
	EXPECT_EQ(2, children.count);
	EXPECT_EQ(inherited, children.any)
		TH_LOG("a child had scopes open before it ran");

	EXPECT_EQ(0, ioctl(self->fd, TMS_IOC_QUERY, &q));
	EXPECT_EQ(self->in_force, q.open);
	EXPECT_EQ(0, ioctl(self->fd, TMS_IOC_LEAK_CLOSE));
	EXPECT_EQ(0, ioctl(self->fd, TMS_IOC_QUERY, &q));
	EXPECT_EQ(inherited, q.open);
}

/*
 * A thread that runs in a scope for life has it whenever one looks.
 *
 * Red if: kswapd() in mm/vmscan.c does not call memalloc_noreclaim_thread(), or
 * memalloc_scope_thread() in kernel/kthread.c refuses.
 */
TEST(kswapd)
{
	char line[256];
	pid_t pid = find_process("kswapd0");

	if (!pid)
		SKIP(return, "no kswapd0: not in this PID namespace");
	EXPECT_STREQ("noreclaim", task_scopes(pid, "noreclaim", line, sizeof(line)));
}

/*
 * Whoever creates a kernel thread inside noio waits for this one.
 *
 * Red if: kthreadd() in kernel/kthread.c does not call memalloc_noio_thread().
 */
TEST(kthreadd)
{
	char line[256];
	pid_t pid = find_process("kthreadd");

	if (!pid)
		SKIP(return, "no kthreadd: not in this PID namespace");
	EXPECT_STREQ("noio", task_scopes(pid, "noio", line, sizeof(line)));
}

/* Who has the reserves inside noreclaim */
FIXTURE(reserves) {
	int fd;
};

FIXTURE_VARIANT(reserves) {
	__u32 where;
};

/* As network receive does in threaded NAPI and in busy polling */
FIXTURE_VARIANT_ADD(reserves, bh_off) {
	.where = TMS_BH_OFF,
};

FIXTURE_VARIANT_ADD(reserves, hardirq) {
	.where = TMS_IN_HARDIRQ,
};

FIXTURE_SETUP(reserves)
{
	self->fd = open_device(_metadata);
}

FIXTURE_TEARDOWN(reserves)
{
	close(self->fd);
}

/*
 * Red if: __gfp_pfmemalloc_flags() in mm/page_alloc.c asks in_interrupt() before
 * it asks for the scope (bh_off), or asks for the scope with
 * memalloc_scope_open() (hardirq).
 */
TEST_F_TIMEOUT(reserves, noreclaim, 90)
{
	char why[TMS_WHY] = "";
	struct tms_reclaim r = {
		.scopes = TMS_NORECLAIM,
		.request = TMS_REQ_NOWAIT,
		.where = variant->where,
	};
	int err;

	err = tms_reclaim(self->fd, &r);
	if (err && errno == EOPNOTSUPP)
		SKIP(return, "hardirqs that may allocate: there are none on PREEMPT_RT");
	ASSERT_EQ(0, err);
	if (!r.is_short && !r.oom)
		SKIP(return, "memory could not be made short: needs less than %u MB", r.max_mb);
	EXPECT_TRUE(tms_judge_reclaim(&r, TMS_NORECLAIM, why))
		TH_LOG("%s", why);
}

/* A memory cgroup of its own, with 8 MB */
FIXTURE(memcg) {
	int fd;
	bool mounted;
	char root[64];
	char dir[80];
	__u32 in_force;
};

FIXTURE_VARIANT(memcg) {
	__u32 scopes;
	bool io_flusher;
};

FIXTURE_VARIANT_ADD(memcg, none) {
};

FIXTURE_VARIANT_ADD(memcg, nofs) {
	.scopes = TMS_NOFS,
};

FIXTURE_VARIANT_ADD(memcg, noio) {
	.scopes = TMS_NOIO,
};

FIXTURE_VARIANT_ADD(memcg, noreclaim) {
	.scopes = TMS_NORECLAIM,
};

FIXTURE_VARIANT_ADD(memcg, nowait) {
	.scopes = TMS_NOWAIT,
};

FIXTURE_VARIANT_ADD(memcg, io_flusher) {
	.io_flusher = true,
};

static int write_file(const char *dir, const char *name, const char *text)
{
	char path[128];
	int fd, ret = -1;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (write(fd, text, strlen(text)) == (ssize_t)strlen(text))
		ret = 0;
	close(fd);
	return ret;
}

FIXTURE_SETUP(memcg)
{
	self->fd = open_device(_metadata);
	if (self->fd < 0)
		return;
	self->in_force = variant->scopes;

	snprintf(self->root, sizeof(self->root), "/sys/fs/cgroup");
	if (access("/sys/fs/cgroup/cgroup.controllers", F_OK)) {
		snprintf(self->root, sizeof(self->root), "/tmp/memalloc_scope.%d", getpid());
		ASSERT_EQ(0, mkdir(self->root, 0700));
		if (mount("none", self->root, "cgroup2", 0, NULL)) {
			rmdir(self->root);
			SKIP(return, "no cgroup v2");
		}
		self->mounted = true;
	}
	if (write_file(self->root, "cgroup.subtree_control", "+memory"))
		SKIP(return, "no memory controller");
	snprintf(self->dir, sizeof(self->dir), "%s/memalloc_scope", self->root);
	if (mkdir(self->dir, 0755))
		ASSERT_EQ(EEXIST, errno);
	ASSERT_EQ(0, write_file(self->dir, "memory.max", "8M"));
}

FIXTURE_TEARDOWN(memcg)
{
	if (self->dir[0])
		rmdir(self->dir);
	if (self->mounted) {
		umount2(self->root, MNT_DETACH);
		rmdir(self->root);
	}
}

/*
 * Red if: try_to_free_mem_cgroup_pages() in mm/vmscan.c does not fold (objects are
 * charged with the mask as asked, so it matters here), or try_charge_memcg()
 * does not let noreclaim pass by force, or lets a hardirq on top of it do so, or
 * reclaims inside nowait.
 */
TEST_F_TIMEOUT(memcg, reclaim, 60)
{
	const __u32 bits = TMS_GFP_FS | TMS_GFP_IO;

	for (int request = TMS_REQ_KERNEL; request <= TMS_REQ_NOIO; request++) {
		struct tms_memcg m = {
			.scopes = variant->scopes,
			.request = request,
			.calls = 16,
			.max_objects = 16384,
		};
		__u32 want;
		int err;

		if (request == TMS_REQ_HIGHUSER_MOVABLE)
			continue;
		if (variant->scopes & (TMS_NORECLAIM | TMS_NOWAIT))
			m.max_objects = 3072;	/* 12 MB */
		if (variant->scopes & TMS_NORECLAIM)
			m.irq_objects = 64;
		ASSERT_EQ(0, write_file(self->dir, "cgroup.procs", "0"));
		if (variant->io_flusher)
			set_io_flusher(1);
		err = ioctl(self->fd, TMS_IOC_MEMCG, &m);
		if (variant->io_flusher)
			set_io_flusher(0);
		EXPECT_EQ(0, write_file(self->root, "cgroup.procs", "0"));
		ASSERT_EQ(0, err);

		if (variant->scopes & TMS_NORECLAIM) {
			EXPECT_EQ(0, m.reclaim.count);
			EXPECT_EQ(0, m.failed);
			EXPECT_EQ(m.max_objects, m.objects);
			EXPECT_EQ(0, m.irq_charged)
				TH_LOG("a hardirq used what noreclaim allows the task");
			EXPECT_EQ(m.irq_objects, m.irq_failed);
			continue;
		}
		if (variant->scopes & TMS_NOWAIT) {
			EXPECT_EQ(0, m.reclaim.count);
			EXPECT_LT(0, m.failed);
			/* 8 MB, and what the cgroup has besides */
			EXPECT_LT(m.objects, 3072);
			continue;
		}
		want = tms_expect(variant->scopes | (variant->io_flusher ? TMS_IO_FLUSHER : 0),
				  m.asked) & bits;
		EXPECT_LE(m.calls, m.reclaim.count);
		EXPECT_EQ(want, m.reclaim.any & bits)
			TH_LOG("asked for %s, reclaim saw %s", m.asked_text, m.reclaim.text);
		EXPECT_EQ(want, m.reclaim.all & bits);
	}
}

/* prctl(2), PR_SET_IO_FLUSHER: needs no module */
FIXTURE(io_flusher) {
};

FIXTURE_SETUP(io_flusher)
{
	if (get_io_flusher() == -1 && errno == EPERM)
		SKIP(return, "needs CAP_SYS_RESOURCE");
	ASSERT_EQ(0, get_io_flusher())
		TH_LOG("tests must not be started by an I/O flusher");
}

FIXTURE_TEARDOWN(io_flusher)
{
}

/* Red if: the checks of the arguments in kernel/sys.c are dropped. */
TEST_F(io_flusher, arguments)
{
	EXPECT_EQ(-1, prctl(PR_SET_IO_FLUSHER, 2, 0, 0, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, prctl(PR_SET_IO_FLUSHER, ~(~0UL >> 1), 0, 0, 0));
	EXPECT_EQ(EINVAL, errno);
	for (int i = 0; i < 3; i++) {
		unsigned long arg[3] = { };

		arg[i] = 1;
		EXPECT_EQ(-1, prctl(PR_SET_IO_FLUSHER, 1, arg[0], arg[1], arg[2]));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(-1, prctl(PR_GET_IO_FLUSHER, 0, arg[0], arg[1], arg[2]));
		EXPECT_EQ(EINVAL, errno);
	}
	EXPECT_EQ(-1, prctl(PR_GET_IO_FLUSHER, 1, 0, 0, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, get_io_flusher())
		TH_LOG("a refused call had an effect");
}

/* Red if: the capable() calls are dropped. */
TEST_F(io_flusher, capability)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2];

	ASSERT_EQ(0, syscall(SYS_capget, &head, caps));
	caps[CAP_TO_INDEX(CAP_SYS_RESOURCE)].effective &= ~CAP_TO_MASK(CAP_SYS_RESOURCE);
	ASSERT_EQ(0, syscall(SYS_capset, &head, caps));
	EXPECT_EQ(-1, set_io_flusher(1));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, set_io_flusher(0));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, get_io_flusher());
	EXPECT_EQ(EPERM, errno);
}

/* Red if: memalloc_set_io_flusher() or memalloc_is_io_flusher() uses another bit. */
TEST_F(io_flusher, round_trip)
{
	char line[256];

	EXPECT_STREQ("none", task_status(0, "MemallocScope", line, sizeof(line)) ?: "(missing)");
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(0, set_io_flusher(1));
		EXPECT_EQ(1, get_io_flusher());
		EXPECT_STREQ("io_flusher",
			     task_status(0, "MemallocScope", line, sizeof(line)) ?: "(missing)");
		EXPECT_EQ(0, task_flags(0) & OLD_PF_SCOPES);
	}
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(0, set_io_flusher(0));
		EXPECT_EQ(0, get_io_flusher());
		EXPECT_STREQ("none",
			     task_status(0, "MemallocScope", line, sizeof(line)) ?: "(missing)");
	}
}

/* Red if: memalloc_scope_fork() clears everything. */
TEST_F(io_flusher, fork)
{
	int go[2];
	pid_t pid;

	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, set_io_flusher(1));
	pid = fork();
	if (!pid) {
		int inherited = get_io_flusher();
		char c;

		/* The parent is none any more: that is its affair. */
		close(go[1]);
		if (read(go[0], &c, 1) != 1 || get_io_flusher() != inherited)
			_exit(2);
		_exit(inherited);
	}
	EXPECT_EQ(0, set_io_flusher(0));
	EXPECT_EQ(1, write(go[1], "x", 1));
	EXPECT_EQ(1, reap(pid));

	ASSERT_EQ(0, set_io_flusher(1));
	pid = fork();
	if (!pid)
		_exit(set_io_flusher(0) || get_io_flusher());
	EXPECT_EQ(0, reap(pid));
	EXPECT_EQ(1, get_io_flusher())
		TH_LOG("the child has cleared it for its parent");

	ASSERT_EQ(0, set_io_flusher(0));
	pid = fork();
	if (!pid)
		_exit(get_io_flusher());
	EXPECT_EQ(0, reap(pid));
}

static void *flusher_thread(void *arg)
{
	*(int *)arg = get_io_flusher();
	set_io_flusher(0);
	return NULL;
}

/* Red if: memalloc_scope_fork() clears everything. */
TEST_F(io_flusher, thread)
{
	pthread_t thread;
	int inherited = -1;

	ASSERT_EQ(0, set_io_flusher(1));
	ASSERT_EQ(0, pthread_create(&thread, NULL, flusher_thread, &inherited));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(1, inherited);
	EXPECT_EQ(1, get_io_flusher())
		TH_LOG("one thread has cleared it for another");
}

/* Red if: begin_new_exec() clears the byte. */
TEST_F(io_flusher, exec)
{
	for (int on = 0; on < 2; on++) {
		pid_t pid = fork();

		if (!pid) {
			set_io_flusher(on);
			execl("/proc/self/exe", "memalloc_scope_test", EXEC_ARG, NULL);
			_exit(99);
		}
		EXPECT_EQ(on, reap(pid));
	}
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], EXEC_ARG))
		return get_io_flusher();
	return test_harness_run(argc, argv);
}
