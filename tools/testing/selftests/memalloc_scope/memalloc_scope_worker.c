// SPDX-License-Identifier: GPL-2.0
/*
 * Allocation scopes of threads that the kernel adds to a process: workers of
 * io_uring and of vhost are copies of the task that happens to need them. They
 * inherit io_flusher as every thread does, since they do the I/O of a process
 * whose allocations must not wait for I/O; they inherit no scope. See
 * Documentation/core-api/memalloc-scope.rst.
 *
 * "Red if" says, for each test, what to break in the kernel to see it fail.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/vhost.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tms_harness.h"
#include "tms_task.h"

#ifndef VHOST_SET_FORK_FROM_OWNER
#define VHOST_SET_FORK_FROM_OWNER	_IOW(VHOST_VIRTIO, 0x84, __u8)
#define VHOST_FORK_OWNER_KTHREAD	0
#define VHOST_FORK_OWNER_TASK		1
#endif

#define ENTRIES		4

/* An io_uring with one request at a time */
struct ring {
	int fd;
	unsigned int enter;	/* flags */
	struct io_uring_params p;
	struct io_uring_sqe *sqes;
	void *sq, *cq;
	size_t sq_size, cq_size, sqes_size;
};

static void ring_exit(struct ring *r)
{
	if (r->sq && r->sq != MAP_FAILED)
		munmap(r->sq, r->sq_size);
	if (r->cq && r->cq != MAP_FAILED)
		munmap(r->cq, r->cq_size);
	if (r->sqes && r->sqes != MAP_FAILED)
		munmap(r->sqes, r->sqes_size);
	if (r->fd >= 0)
		close(r->fd);
}

/* Returns 0, or -1 with errno of io_uring_setup(2) or mmap(2). */
static int ring_init(struct ring *r, unsigned int flags)
{
	const int prot = PROT_READ | PROT_WRITE, map = MAP_SHARED | MAP_POPULATE;

	memset(r, 0, sizeof(*r));
	r->p.flags = flags;
	r->p.sq_thread_idle = 100;	/* ms */
	r->fd = syscall(SYS_io_uring_setup, ENTRIES, &r->p);
	if (r->fd < 0)
		return -1;
	r->enter = IORING_ENTER_GETEVENTS;
	if (flags & IORING_SETUP_SQPOLL)
		r->enter |= IORING_ENTER_SQ_WAKEUP;

	r->sq_size = r->p.sq_off.array + r->p.sq_entries * sizeof(__u32);
	r->cq_size = r->p.cq_off.cqes + r->p.cq_entries * sizeof(struct io_uring_cqe);
	r->sqes_size = r->p.sq_entries * sizeof(*r->sqes);
	r->sq = mmap(NULL, r->sq_size, prot, map, r->fd, IORING_OFF_SQ_RING);
	r->cq = mmap(NULL, r->cq_size, prot, map, r->fd, IORING_OFF_CQ_RING);
	r->sqes = mmap(NULL, r->sqes_size, prot, map, r->fd, IORING_OFF_SQES);
	if (r->sq == MAP_FAILED || r->cq == MAP_FAILED || r->sqes == MAP_FAILED) {
		ring_exit(r);
		return -1;
	}
	return 0;
}

/* Submits @sqe and waits for it; what its completion says, or -errno. */
static int ring_run(struct ring *r, const struct io_uring_sqe *sqe)
{
	__u32 *sq_tail = r->sq + r->p.sq_off.tail;
	__u32 *cq_head = r->cq + r->p.cq_off.head;
	__u32 *cq_tail = r->cq + r->p.cq_off.tail;
	__u32 *array = r->sq + r->p.sq_off.array;
	struct io_uring_cqe *cqes = r->cq + r->p.cq_off.cqes;
	__u32 slot = *sq_tail & (r->p.sq_entries - 1);
	__u32 head = *cq_head;
	int res;

	r->sqes[slot] = *sqe;
	array[slot] = slot;
	__atomic_store_n(sq_tail, *sq_tail + 1, __ATOMIC_RELEASE);
	do {
		if (syscall(SYS_io_uring_enter, r->fd, 1, 1, r->enter, NULL, 0) < 0 &&
		    errno != EINTR)
			return -errno;
	} while (__atomic_load_n(cq_tail, __ATOMIC_ACQUIRE) == head);
	res = cqes[head & (r->p.cq_entries - 1)].res;
	__atomic_store_n(cq_head, head + 1, __ATOMIC_RELEASE);
	return res;
}

/* ioctl(2), made by a worker */
static int ring_ioctl(struct ring *r, unsigned int flags, int fd, unsigned int cmd, void *arg)
{
	struct io_uring_sqe sqe = {
		.opcode = IORING_OP_URING_CMD,
		.flags = flags,
		.fd = fd,
		.cmd_op = cmd,
		.addr3 = (uintptr_t)arg,	/* the begin of sqe.cmd */
	};

	return ring_run(r, &sqe);
}

/* pread(2) from offset 0, made by a worker */
static int ring_read(struct ring *r, unsigned int flags, int fd, void *buf, size_t size)
{
	struct io_uring_sqe sqe = {
		.opcode = IORING_OP_READ,
		.flags = flags,
		.fd = fd,
		.addr = (uintptr_t)buf,
		.len = size,
	};

	return ring_run(r, &sqe);
}

/* A task with scopes open that has the kernel make workers for it */
FIXTURE(worker) {
	int fd;
	__u32 in_force;		/* in the task */
	__u32 inherited;	/* by its threads */
};

FIXTURE_VARIANT(worker) {
	__u32 scopes;
	bool io_flusher;
};

FIXTURE_VARIANT_ADD(worker, none) {
};

FIXTURE_VARIANT_ADD(worker, nofs) {
	.scopes = TMS_NOFS,
};

FIXTURE_VARIANT_ADD(worker, noio) {
	.scopes = TMS_NOIO,
};

FIXTURE_VARIANT_ADD(worker, pin) {
	.scopes = TMS_PIN,
};

FIXTURE_VARIANT_ADD(worker, noreclaim) {
	.scopes = TMS_NORECLAIM,
};

FIXTURE_VARIANT_ADD(worker, nowait_nowarn) {
	.scopes = TMS_NOWAIT | TMS_NOWARN,
};

FIXTURE_VARIANT_ADD(worker, all) {
	.scopes = TMS_SCOPES,
};

FIXTURE_VARIANT_ADD(worker, io_flusher) {
	.io_flusher = true,
};

FIXTURE_VARIANT_ADD(worker, io_flusher_all) {
	.io_flusher = true,
	.scopes = TMS_SCOPES,
};

/*
 * Workers are made by system calls, which no scope surrounds: so the module
 * returns to user space with the scopes open, as nothing else may do.
 */
FIXTURE_SETUP(worker)
{
	int err;

	self->fd = open_device(_metadata);
	if (self->fd < 0)
		return;
	if (variant->io_flusher) {
		self->inherited = TMS_IO_FLUSHER;
		ASSERT_EQ(0, set_io_flusher(1));
	}
	self->in_force = variant->scopes | self->inherited;
	err = ioctl(self->fd, TMS_IOC_LEAK_OPEN, variant->scopes);
	if (err && errno == EOPNOTSUPP)
		SKIP(return, "scopes must not be open in user space");
	ASSERT_EQ(0, err);
}

FIXTURE_TEARDOWN(worker)
{
	EXPECT_EQ(0, ioctl(self->fd, TMS_IOC_LEAK_CLOSE));
	close(self->fd);
}

/* What the kernel shows of a thread has to be @scopes, and nothing else. */
static void check_thread(struct __test_metadata *_metadata, pid_t tid, __u32 scopes)
{
	unsigned long throttle = scopes & TMS_IO_FLUSHER ? TMS_PF_LOCAL_THROTTLE : 0;
	char names[TMS_NAMES], line[256];

	ASSERT_NE(0, tid)
		TH_LOG("no such thread");
	tms_names(names, scopes);
	EXPECT_STREQ(names, task_scopes(tid, names, line, sizeof(line)));
	EXPECT_EQ(throttle, task_flags(tid) & TMS_PF_LOCAL_THROTTLE)
		TH_LOG("throttled otherwise than its io_flusher says");
}

/* What a request finds that a worker runs, and what its allocations get */
static void check_inside(struct __test_metadata *_metadata, struct ring *r, unsigned int flags,
			 int fd, __u32 scopes)
{
	struct tms_alloc a = {
		.request = TMS_REQ_HIGHUSER_MOVABLE,
		.allocator = TMS_ALLOC_PERCPU,
	};
	char why[TMS_WHY] = "";
	struct tms_query q;
	int res;

	res = ring_ioctl(r, flags, fd, TMS_IOC_QUERY, &q);
	ASSERT_EQ(0, res)
		TH_LOG("%s", strerror(-res));
	EXPECT_EQ(scopes, q.open);
	EXPECT_EQ(tms_expect_active(scopes), q.active);

	EXPECT_EQ(0, ring_ioctl(r, flags, fd, TMS_IOC_ALLOC, &a));
	EXPECT_TRUE(tms_judge_seen(&a.used, tms_expect(scopes, a.asked), why))
		TH_LOG("asked for %s: %s", a.asked_text, why);
}

/* The task itself goes on with what it had. */
static void check_caller(struct __test_metadata *_metadata, int fd, __u32 scopes)
{
	struct tms_query q;

	EXPECT_EQ(0, ioctl(fd, TMS_IOC_QUERY, &q));
	EXPECT_EQ(scopes, q.open);
	check_thread(_metadata, getpid(), scopes);
}

/* Skips the test where the kernel has no io_uring, or does not let us. */
static bool have_ring(struct __test_metadata *_metadata, struct ring *r, unsigned int flags)
{
	int err = ring_init(r, flags);

	if (err && (errno == EPERM || access("/proc/sys/kernel/io_uring_disabled", F_OK)))
		SKIP(return false, "no io_uring");
	EXPECT_EQ(0, err)
		TH_LOG("%s", strerror(errno));
	return !err;
}

/*
 * Red if: copy_process() calls memalloc_scope_fork() for all but io_thread, or
 * clears the whole byte of one.
 */
TEST_F(worker, io_wq)
{
	char magic[4] = "";
	struct ring r;
	int exe;

	if (!have_ring(_metadata, &r, 0))
		return;
	exe = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	EXPECT_LE(0, exe);
	EXPECT_EQ((int)sizeof(magic), ring_read(&r, IOSQE_ASYNC, exe, magic, sizeof(magic)));
	EXPECT_EQ(0, memcmp(magic, "\177ELF", sizeof(magic)));
	close(exe);

	check_thread(_metadata, find_thread("iou-wrk-", 0), self->inherited);
	check_inside(_metadata, &r, IOSQE_ASYNC, self->fd, self->inherited);
	check_caller(_metadata, self->fd, self->in_force);
	ring_exit(&r);
}

/*
 * Red if: see io_wq. The worker that the polling thread has made for itself is
 * that one's child in all but name.
 */
TEST_F(worker, sqpoll)
{
	struct ring r;

	if (!have_ring(_metadata, &r, IORING_SETUP_SQPOLL))
		return;
	check_thread(_metadata, find_thread("iou-sqp-", 0), self->inherited);
	check_inside(_metadata, &r, 0, self->fd, self->inherited);
	check_inside(_metadata, &r, IOSQE_ASYNC, self->fd, self->inherited);
	check_thread(_metadata, find_thread("iou-wrk-", 0), self->inherited);
	check_caller(_metadata, self->fd, self->in_force);
	ring_exit(&r);
}

/* Returns a vhost device with a worker, or -1 */
static int vhost_open(struct __test_metadata *_metadata, __u8 fork_owner)
{
	static const char * const devices[] = { "/dev/vhost-net", "/dev/vhost-vsock" };
	int fd = -1;

	for (size_t i = 0; fd < 0 && i < ARRAY_SIZE(devices); i++)
		fd = open(devices[i], O_RDWR | O_CLOEXEC);
	if (fd < 0)
		SKIP(return -1, "no vhost device");
	/* Without this ioctl, there is the default alone. */
	if (ioctl(fd, VHOST_SET_FORK_FROM_OWNER, &fork_owner) &&
	    fork_owner != VHOST_FORK_OWNER_TASK)
		SKIP(close(fd); return -1, "vhost workers cannot be kernel threads");
	if (ioctl(fd, VHOST_SET_OWNER)) {
		EXPECT_EQ(0, errno)
			TH_LOG("VHOST_SET_OWNER: %s", strerror(errno));
		close(fd);
		return -1;
	}
	return fd;
}

/*
 * Red if: copy_process() calls memalloc_scope_fork() for all but user_worker, or
 * clears the whole byte of one.
 */
TEST_F(worker, vhost)
{
	int fd = vhost_open(_metadata, VHOST_FORK_OWNER_TASK);

	if (fd < 0)
		return;
	check_thread(_metadata, find_thread("vhost-", 0), self->inherited);
	check_caller(_metadata, self->fd, self->in_force);
	close(fd);
}

/*
 * vhost's workers of old are kernel threads, and nobody's children.
 *
 * Red if: memalloc_scope_fork() leaves kernel threads what kthreadd has, and
 * kthreadd is an I/O flusher; or vhost hands the scopes of the owner on.
 */
TEST_F(worker, vhost_kthread)
{
	char name[32];
	int fd = vhost_open(_metadata, VHOST_FORK_OWNER_KTHREAD);

	if (fd < 0)
		return;
	snprintf(name, sizeof(name), "vhost-%d", getpid());
	check_thread(_metadata, find_process(name), 0);
	check_caller(_metadata, self->fd, self->in_force);
	close(fd);
}

/* A process whose workers are there before prctl(2) is called */
FIXTURE(late) {
	int fd;
};

FIXTURE_VARIANT(late) {
	int io_flusher;
};

FIXTURE_VARIANT_ADD(late, set) {
	.io_flusher = 1,
};

FIXTURE_VARIANT_ADD(late, clear) {
	.io_flusher = 0,
};

FIXTURE_SETUP(late)
{
	self->fd = open_device(_metadata);
	if (self->fd < 0)
		return;
	ASSERT_EQ(0, set_io_flusher(!variant->io_flusher));
}

FIXTURE_TEARDOWN(late)
{
	set_io_flusher(0);
	close(self->fd);
}

/*
 * prctl(2) is about the calling thread and what that forks from then on: a poller
 * stays what it was made as, and the workers that it makes follow it. Workers of
 * the task's own rings may be made at any time, so nothing can be said of them.
 *
 * Red if: pollers do not inherit, or look at the task that they work for.
 */
TEST_F(late, workers)
{
	__u32 then = variant->io_flusher ? 0 : TMS_IO_FLUSHER;
	__u32 now = variant->io_flusher ? TMS_IO_FLUSHER : 0;
	struct ring polled, later;
	pid_t thread;

	if (!have_ring(_metadata, &polled, IORING_SETUP_SQPOLL))
		return;
	thread = find_thread("iou-sqp-", 0);
	check_thread(_metadata, thread, then);

	ASSERT_EQ(0, set_io_flusher(variant->io_flusher));
	check_inside(_metadata, &polled, 0, self->fd, then);
	check_inside(_metadata, &polled, IOSQE_ASYNC, self->fd, then);
	check_thread(_metadata, thread, then);

	if (!have_ring(_metadata, &later, IORING_SETUP_SQPOLL))
		return;
	check_thread(_metadata, find_thread("iou-sqp-", thread), now);
	check_inside(_metadata, &later, 0, self->fd, now);
	ring_exit(&later);
	ring_exit(&polled);
}

TEST_HARNESS_MAIN
