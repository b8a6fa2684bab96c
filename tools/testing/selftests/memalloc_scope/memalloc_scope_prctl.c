// SPDX-License-Identifier: GPL-2.0
/*
 * prctl(PR_SET_IO_FLUSHER) and prctl(PR_GET_IO_FLUSHER), sentence by sentence of
 * their manual pages; each test quotes the one that it is about. What a refused
 * call and the usual fork and exec do is tested in memalloc_scope_test.
 *
 * "Red if" says, for each test, what to break in the kernel to see it fail.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tms_harness.h"
#include "tms_task.h"

/* argv[1] of a program that is to report(), after argv[2] more calls of execve(2) */
#define EXEC_ARG	"--report-io-flusher"

#define NOBODY		65534

/* Where the IO_FLUSHER state shows */
#define BY_GET		0x01	/* prctl(PR_GET_IO_FLUSHER) says 1 */
#define BY_STATUS	0x02	/* "io_flusher" in /proc/self/status, and nothing else */
#define BY_THROTTLE	0x04	/* PF_LOCAL_THROTTLE in /proc/self/stat */
#define BY_ALLOCATION	0x08	/* an allocation for the caller may not do I/O */
#define GET_EPERM	0x10	/* prctl(PR_GET_IO_FLUSHER) fails with EPERM */
#define BROKEN		0x20	/* one of them makes no sense */

#define ON		(BY_GET | BY_STATUS | BY_THROTTLE)

/* The state of the caller; @fd: the module, or -1 to leave BY_ALLOCATION out */
static int report(int fd)
{
	char line[256], *status;
	int seen = 0;

	switch (get_io_flusher()) {
	case 1:
		seen |= BY_GET;
		break;
	case 0:
		break;
	case -1:
		seen |= errno == EPERM ? GET_EPERM : BROKEN;
		break;
	default:
		seen |= BROKEN;
	}

	status = task_status(0, "MemallocScope", line, sizeof(line));
	if (status && !strcmp(status, "io_flusher"))
		seen |= BY_STATUS;
	else if (!status || strcmp(status, "none"))
		seen |= BROKEN;

	if (task_flags(0) == ~0UL)
		seen |= BROKEN;
	else if (task_flags(0) & TMS_PF_LOCAL_THROTTLE)
		seen |= BY_THROTTLE;

	if (fd >= 0) {
		struct tms_alloc a = {
			.request = TMS_REQ_KERNEL,
			.allocator = TMS_ALLOC_PERCPU,
		};
		char why[TMS_WHY];

		if (ioctl(fd, TMS_IOC_ALLOC, &a))
			seen |= BROKEN;
		else if (tms_judge_seen(&a.used, tms_expect(TMS_IO_FLUSHER, a.asked), why))
			seen |= BY_ALLOCATION;
		else if (!tms_judge_seen(&a.used, a.asked, why))
			seen |= BROKEN;
	}
	return seen;
}

/* Becomes a program that executes itself @more times, and reports then. */
static void exec_report(const char *more)
{
	execl("/proc/self/exe", "memalloc_scope_prctl", EXEC_ARG, more, NULL);
	_exit(BROKEN);
}

static int drop_capability(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2];

	if (syscall(SYS_capget, &head, caps))
		return -1;
	caps[CAP_TO_INDEX(CAP_SYS_RESOURCE)].effective &= ~CAP_TO_MASK(CAP_SYS_RESOURCE);
	return syscall(SYS_capset, &head, caps);
}

/* A process that is no I/O flusher, but may become one */
FIXTURE(flusher) {
	int fd;		/* the module, or -1 */
	int on;		/* what report() says of an I/O flusher */
};

static void setup(struct __test_metadata *_metadata, int *fd, int *on)
{
	const char *why;
	bool broken;

	if (get_io_flusher() == -1 && errno == EPERM)
		SKIP(return, "needs CAP_SYS_RESOURCE");
	ASSERT_EQ(0, get_io_flusher())
		TH_LOG("tests must not be started by an I/O flusher");
	*fd = tms_device(&why, &broken);
	if (*fd < 0)
		TH_LOG("goes on without the module: %s", why);
	ASSERT_FALSE(broken);
	*on = *fd < 0 ? ON : ON | BY_ALLOCATION;
}

FIXTURE_SETUP(flusher)
{
	setup(_metadata, &self->fd, &self->on);
}

FIXTURE_TEARDOWN(flusher)
{
	set_io_flusher(0);
	if (self->fd >= 0)
		close(self->fd);
}

/*
 * "This will put the process in the IO_FLUSHER state, which allows it special
 * treatment to make progress when allocating memory. If arg2 is 0, the process
 * will clear the IO_FLUSHER state, and the default behavior will be used."
 *
 * Red if: prctl(2) does not set, or not clear, either of the two things that the
 * state is made of: noio for allocations, PF_LOCAL_THROTTLE for writeback; or if
 * the fold leaves MEMALLOC_SCOPE_IO_FLUSHER out of MEMALLOC_SCOPE_ANY_NOIO.
 */
TEST_F(flusher, treatment)
{
	EXPECT_EQ(0, report(self->fd));
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(0, set_io_flusher(1));
		EXPECT_EQ(self->on, report(self->fd));
		EXPECT_EQ(0, set_io_flusher(1));
		EXPECT_EQ(self->on, report(self->fd))
			TH_LOG("to set it twice is not to set it");
		EXPECT_EQ(0, set_io_flusher(0));
		EXPECT_EQ(0, report(self->fd));
		EXPECT_EQ(0, set_io_flusher(0));
		EXPECT_EQ(0, report(self->fd))
			TH_LOG("to clear it twice is not to clear it");
	}
}

/*
 * "EINVAL: op is PR_SET_IO_FLUSHER, and arg2 is not 1 or 0", and nothing happens.
 * Each bad value comes both to a process in that state and to one that is not.
 *
 * Red if: arg2 is taken for a boolean, or acted upon before all arguments have
 * been looked at.
 */
TEST_F(flusher, refused)
{
	static const unsigned long bad[] = { 2, 3, 1UL << 31, ~0UL };

	for (int on = 0; on < 2; on++) {
		int want = on ? self->on : 0;

		EXPECT_EQ(0, set_io_flusher(on));
		for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
			errno = 0;
			EXPECT_EQ(-1, set_io_flusher(bad[i]));
			EXPECT_EQ(EINVAL, errno);
			EXPECT_EQ(want, report(self->fd));
		}
		errno = 0;
		EXPECT_EQ(-1, prctl(PR_SET_IO_FLUSHER, !on, 0, 0, 1));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(want, report(self->fd));
	}
}

/*
 * "EPERM: op is PR_SET_IO_FLUSHER or PR_GET_IO_FLUSHER, and the calling process
 * does not have the CAP_SYS_RESOURCE capability." What such a process asks for
 * does not matter: so it has been since Linux 5.6.
 *
 * Red if: arguments are looked at before the capability, that decides something
 * else than whether the call is made, or a refused call has an effect.
 */
TEST_F(flusher, capability_first)
{
	for (int on = 0; on < 2; on++) {
		pid_t pid = fork();

		if (!pid) {
			if (set_io_flusher(on) || drop_capability())
				_exit(BROKEN);
			for (unsigned long arg2 = 0; arg2 < 3; arg2++) {
				for (unsigned long arg5 = 0; arg5 < 2; arg5++) {
					errno = 0;
					if (prctl(PR_SET_IO_FLUSHER, arg2, 0, 0, arg5) != -1 ||
					    errno != EPERM)
						_exit(BROKEN);
					errno = 0;
					if (prctl(PR_GET_IO_FLUSHER, arg2, 0, 0, arg5) != -1 ||
					    errno != EPERM)
						_exit(BROKEN);
				}
			}
			_exit(report(self->fd));
		}
		EXPECT_EQ(GET_EPERM | (on ? self->on & ~BY_GET : 0), reap(pid));
	}
}

/*
 * "Return as the function result the IO_FLUSHER state of the caller. A value of 1
 * indicates that the caller is in the IO_FLUSHER state; 0 indicates that the
 * caller is not": whatever else keeps its allocations from I/O. What is open
 * besides does not change with the state, nor the state with that.
 *
 * Scopes are open in user space only if the module sees to it.
 *
 * Red if: PR_GET_IO_FLUSHER asks memalloc_noio_active(), PR_SET_IO_FLUSHER stores
 * the whole byte, or opens and closes noio.
 */
TEST_F(flusher, beside_scopes)
{
	static const __u32 scopes[] = {
		TMS_NOFS, TMS_NOIO, TMS_PIN, TMS_NORECLAIM, TMS_NOWAIT, TMS_NOWARN, TMS_SCOPES,
	};
	struct tms_query q;

	if (self->fd < 0)
		SKIP(return, "needs the module");
	for (size_t i = 0; i < ARRAY_SIZE(scopes); i++) {
		int err = ioctl(self->fd, TMS_IOC_LEAK_OPEN, scopes[i]);

		if (err && errno == EOPNOTSUPP)
			SKIP(return, "scopes must not be open in user space");
		ASSERT_EQ(0, err);
		EXPECT_EQ(0, get_io_flusher());

		EXPECT_EQ(0, set_io_flusher(1));
		EXPECT_EQ(1, get_io_flusher());
		EXPECT_EQ(0, ioctl(self->fd, TMS_IOC_QUERY, &q));
		EXPECT_EQ(scopes[i] | TMS_IO_FLUSHER, q.open);

		EXPECT_EQ(0, set_io_flusher(0));
		EXPECT_EQ(0, get_io_flusher());
		EXPECT_EQ(0, ioctl(self->fd, TMS_IOC_QUERY, &q));
		EXPECT_EQ(scopes[i], q.open);

		EXPECT_EQ(0, set_io_flusher(1));
		EXPECT_EQ(0, ioctl(self->fd, TMS_IOC_LEAK_CLOSE));
		EXPECT_EQ(self->on, report(self->fd))
			TH_LOG("the scope has taken io_flusher along");
		EXPECT_EQ(0, set_io_flusher(0));
	}
}

static pthread_barrier_t barrier;

static void *other_thread(void *arg)
{
	int *state = arg;

	state[0] = get_io_flusher();
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	state[1] = get_io_flusher();
	return NULL;
}

/*
 * "the calling process" is the calling thread, for this prctl(2) as for others: a
 * thread that is already there does not change.
 *
 * Red if: the state moves to where threads share it.
 */
TEST_F(flusher, other_threads)
{
	for (int on = 0; on < 2; on++) {
		int state[2] = { -1, -1 };
		pthread_t thread;

		EXPECT_EQ(0, set_io_flusher(!on));
		ASSERT_EQ(0, pthread_barrier_init(&barrier, NULL, 2));
		ASSERT_EQ(0, pthread_create(&thread, NULL, other_thread, state));
		pthread_barrier_wait(&barrier);
		EXPECT_EQ(0, set_io_flusher(on));
		pthread_barrier_wait(&barrier);
		EXPECT_EQ(0, pthread_join(thread, NULL));
		EXPECT_EQ(0, pthread_barrier_destroy(&barrier));
		EXPECT_EQ(!on, state[0]);
		EXPECT_EQ(!on, state[1]);
		EXPECT_EQ(on, get_io_flusher());
	}
}

/*
 * "... and is preserved across execve(2)": any number of times, and also where the
 * program that is executed could not have asked for it. That one cannot get rid
 * of it, either.
 *
 * Red if: begin_new_exec() clears the byte or PF_LOCAL_THROTTLE, or does so for
 * programs without the capability.
 */
TEST_F(flusher, exec)
{
	for (int on = 0; on < 2; on++) {
		int without_get = on ? BY_STATUS | BY_THROTTLE : 0;
		pid_t pid;

		for (int more = 0; more < 3; more++) {
			char arg[] = { '0' + more, '\0' };

			pid = fork();
			if (!pid) {
				set_io_flusher(on);
				exec_report(arg);
			}
			EXPECT_EQ(on ? self->on : 0, reap(pid))
				TH_LOG("after execve(2), %d times", more + 1);
		}

		pid = fork();
		if (!pid) {
			if (set_io_flusher(on) || setgid(NOBODY) || setuid(NOBODY))
				_exit(BROKEN);
			exec_report("1");
		}
		EXPECT_EQ(GET_EPERM | without_get, reap(pid));
	}
}

/* "The setting is inherited by a child process created via fork(2)": in every way */
enum way {
	BY_FORK,
	BY_VFORK,
	BY_CLONE,
	BY_CLONE_VM,
	BY_CLONE3,
};

FIXTURE(child) {
	int fd;
	int on;
};

FIXTURE_VARIANT(child) {
	enum way way;
};

FIXTURE_VARIANT_ADD(child, fork) {
	.way = BY_FORK,
};

FIXTURE_VARIANT_ADD(child, vfork) {
	.way = BY_VFORK,
};

FIXTURE_VARIANT_ADD(child, clone) {
	.way = BY_CLONE,
};

FIXTURE_VARIANT_ADD(child, clone_vm) {
	.way = BY_CLONE_VM,
};

FIXTURE_VARIANT_ADD(child, clone3) {
	.way = BY_CLONE3,
};

FIXTURE_SETUP(child)
{
	setup(_metadata, &self->fd, &self->on);
}

FIXTURE_TEARDOWN(child)
{
	set_io_flusher(0);
	if (self->fd >= 0)
		close(self->fd);
}

static int clone_child(void *fd)
{
	return report(*(int *)fd);
}

static pid_t child_of(enum way way, int fd)
{
	static max_align_t stack[4096];
	struct clone_args args = { .exit_signal = SIGCHLD };
	pid_t pid = -1;

	switch (way) {
	case BY_FORK:
		pid = fork();
		break;
	case BY_VFORK:
		pid = vfork();
		/* Nothing else is a child of vfork(2) good for. */
		if (!pid)
			exec_report("0");
		return pid;
	case BY_CLONE:
		return clone(clone_child, stack + ARRAY_SIZE(stack), SIGCHLD, &fd);
	case BY_CLONE_VM:
		/* Parent and child share the C library as well: one at a time. */
		return clone(clone_child, stack + ARRAY_SIZE(stack),
			     CLONE_VM | CLONE_VFORK | SIGCHLD, &fd);
	case BY_CLONE3:
		pid = syscall(SYS_clone3, &args, sizeof(args));
		break;
	}
	if (!pid)
		_exit(report(fd));
	return pid;
}

/*
 * Red if: memalloc_scope_fork() clears everything, or something depends on the
 * flags of clone(2); if PF_LOCAL_THROTTLE is not inherited; if the child is made
 * an I/O flusher while its parent is none.
 */
TEST_F(child, inherits)
{
	for (int on = 0; on < 2; on++) {
		int want = on ? self->on : 0;
		pid_t pid;

		EXPECT_EQ(0, set_io_flusher(on));
		pid = child_of(variant->way, self->fd);
		EXPECT_LT(0, pid);
		EXPECT_EQ(want, reap(pid));
		EXPECT_EQ(want, report(self->fd))
			TH_LOG("the parent has changed");
	}
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], EXEC_ARG)) {
		int more = atoi(argv[2]), fd;
		const char *why;
		bool broken;

		if (more > 0)
			exec_report((char []){ '0' + more - 1, '\0' });
		fd = tms_device(&why, &broken);
		return report(fd);
	}
	return test_harness_run(argc, argv);
}
