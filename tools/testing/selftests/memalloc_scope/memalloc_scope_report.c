// SPDX-License-Identifier: GPL-2.0
/*
 * Allocation scopes in the reports of the kernel: real ones, provoked and then read
 * from /dev/kmsg, and /proc/PID/status of other tasks. The reports are those of a
 * task called tms-report, by which a log can tell them from unexpected ones.
 *
 * "Red if" says, for each test, what to break in the kernel to see it fail.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tms_harness.h"
#include "tms_task.h"

#define COMM		"tms-report"
#define LINE		TMS_MESSAGE
#define CGROUP		"/sys/fs/cgroup"
#define CLEAR_WARN_ONCE	"/sys/kernel/debug/clear_warn_once"
#define NOFAIL		"request that must not fail "
#define HUNG_TIMEOUT	"/proc/sys/kernel/hung_task_timeout_secs"
#define HUNG_WARNINGS	"/proc/sys/kernel/hung_task_warnings"

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* What the kernel says from now on */
static int open_kmsg(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0)
		lseek(fd, 0, SEEK_END);
	return fd;
}

static bool wait_message(int kmsg, const char *start, const char *key, char line[LINE])
{
	for (double end = now() + 40; now() < end; usleep(100000)) {
		if (find_message(kmsg, start, key, line))
			return true;
	}
	return false;
}

/* The names are at the end of the line. */
static const char *names_after(const char *line, const char *key)
{
	const char *found = strstr(line, key);

	return found ? found + strlen(key) : "(not in the report)";
}

/* A line of /proc/PID/status; "(missing)" if there is none */
static const char *status_of(pid_t pid, const char *name, char buf[LINE])
{
	return task_status(pid, name, buf, LINE) ?: "(missing)";
}

static long read_number(const char *path)
{
	FILE *f = fopen(path, "r");
	long nr;

	if (!f || fscanf(f, "%ld", &nr) != 1)
		nr = LONG_MIN;
	if (f)
		fclose(f);
	return nr;
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done;

	if (fd < 0)
		return -1;
	done = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return done ? 0 : -1;
}

static int write_number(const char *path, long nr)
{
	char text[24];

	snprintf(text, sizeof(text), "%ld", nr);
	return write_file(path, text);
}

/* A scope that nobody closes */
FIXTURE(forgotten) {
	int fd;
	int kmsg;
};

FIXTURE_VARIANT(forgotten) {
	__u32 scopes;
	const char *names;
};

FIXTURE_VARIANT_ADD(forgotten, noio) {
	.scopes = TMS_NOIO,
	.names = "noio",
};

FIXTURE_VARIANT_ADD(forgotten, noreclaim) {
	.scopes = TMS_NORECLAIM,
	.names = "noreclaim",
};

FIXTURE_VARIANT_ADD(forgotten, nowait) {
	.scopes = TMS_NOWAIT,
	.names = "nowait",
};

FIXTURE_SETUP(forgotten)
{
	if (read_number("/proc/sys/kernel/panic_on_warn") > 0)
		SKIP(return, "the kernel would panic: kernel.panic_on_warn is set");
	self->kmsg = open_kmsg();
	if (self->kmsg < 0)
		SKIP(return, "no /dev/kmsg");
	self->fd = open_device(_metadata);
}

FIXTURE_TEARDOWN(forgotten)
{
	close(self->fd);
	close(self->kmsg);
}

/*
 * Reported on return to user space, and closed. What is no scope stays.
 *
 * Red if: __exit_to_user_mode_validate() does not ask, memalloc_check_none() takes
 * being an I/O flusher for a leak, or __memalloc_left_open() closes nothing.
 */
TEST_F_TIMEOUT(forgotten, is_reported, 60)
{
	char line[LINE], status[LINE], want[80];
	int err;

	prctl(PR_SET_NAME, COMM);
	if (!geteuid())
		ASSERT_EQ(0, prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0));
	EXPECT_FALSE(find_message(self->kmsg, "memalloc: ", "", line))
		TH_LOG("nothing forgotten: %s", line);

	err = ioctl(self->fd, TMS_IOC_FORGET, variant->scopes);
	if (err && errno == EOPNOTSUPP)
		SKIP(return, "needs CONFIG_CHECK_MEMALLOC_SCOPE");
	ASSERT_EQ(0, err);
	snprintf(want, sizeof(want), "memalloc: %s scope left open on return to user space",
		 variant->names);
	ASSERT_TRUE(find_message(self->kmsg, want, "", line))
		TH_LOG("no report");
	/* Without records, only who was it is known. */
	if (strchr(line, ','))
		EXPECT_NE(NULL, strstr(line, ", opened by tms_open+"))
			TH_LOG("%s", line);
	EXPECT_STREQ(geteuid() ? "none" : "io_flusher",
		     status_of(getpid(), "MemallocScope", status));
	EXPECT_FALSE(find_message(self->kmsg, "memalloc: ", "", line))
		TH_LOG("reported again: %s", line);
	if (!geteuid())
		EXPECT_EQ(0, prctl(PR_SET_IO_FLUSHER, 0, 0, 0, 0));
}

/*
 * A child that begins with a scope says so, once, and closes it.
 *
 * Red if: schedule_tail() does not ask.
 */
TEST_F_TIMEOUT(forgotten, by_fork, 60)
{
	char line[LINE], status[LINE], want[80];
	pid_t child;
	int err;

	prctl(PR_SET_NAME, COMM);
	err = ioctl(self->fd, TMS_IOC_GIVE, variant->scopes);
	if (err && errno == EOPNOTSUPP)
		SKIP(return, "needs CONFIG_DEBUG_MEMALLOC_SCOPE");
	ASSERT_EQ(0, err);
	child = fork();
	ASSERT_LE(0, child);
	if (!child)
		_exit(strcmp(status_of(getpid(), "MemallocScope", status), "none"));
	EXPECT_EQ(0, reap(child));
	snprintf(want, sizeof(want), "memalloc: %s scope left open on entry of a new thread",
		 variant->names);
	ASSERT_TRUE(find_message(self->kmsg, want, "", line))
		TH_LOG("no report");
	EXPECT_FALSE(find_message(self->kmsg, "memalloc: ", "", line))
		TH_LOG("reported again: %s", line);
	EXPECT_STREQ("none", status_of(getpid(), "MemallocScope", status));
}

/* A request that fails, in a task or on top of one */
FIXTURE(failure) {
	int fd;
	int kmsg;
};

FIXTURE_VARIANT(failure) {
	struct tms_fail request;
	__u32 in_force;
};

FIXTURE_VARIANT_ADD(failure, task) {
	.request = { .where = TMS_IN_TASK, .scopes = TMS_NOFS | TMS_NORECLAIM },
	.in_force = TMS_NOFS | TMS_NORECLAIM,
};

FIXTURE_VARIANT_ADD(failure, softirq) {
	.request = { .where = TMS_IN_SOFTIRQ, .scopes = TMS_PIN | TMS_NORECLAIM,
		     .own = TMS_NOIO },
	.in_force = TMS_NOIO,
};

FIXTURE_VARIANT_ADD(failure, hardirq) {
	.request = { .where = TMS_IN_HARDIRQ, .scopes = TMS_NOIO | TMS_PIN,
		     .own = TMS_NOFS },
};

FIXTURE_SETUP(failure)
{
	self->kmsg = open_kmsg();
	if (self->kmsg < 0)
		SKIP(return, "no /dev/kmsg");
	self->fd = open_device(_metadata);
}

FIXTURE_TEARDOWN(failure)
{
	close(self->fd);
	close(self->kmsg);
}

/*
 * The page allocator prints the mask that it has worked with, the slab allocator
 * the one that it was given.
 *
 * Red if: warn_alloc_show_context() in mm/page_alloc.c or slab_out_of_memory() in
 * mm/slub.c does not print the names, or those of task_memalloc_scope(current)
 * (hardirq), or if handle_softirqs() does not borrow (softirq).
 */
TEST_F_TIMEOUT(failure, reports, 90)
{
	__u32 mask = tms_expect(variant->in_force, TMS_GFP_FS | TMS_GFP_IO);
	char page[LINE], slab[LINE], names[TMS_NAMES];
	bool page_found, slab_found;
	double end = now() + 40;

	tms_names(names, variant->in_force);
	prctl(PR_SET_NAME, COMM);
	/* The page allocator reports no more than one failure in ten seconds. */
	for (;;) {
		struct tms_fail request = variant->request;
		int err;

		request.max_blocks = 256;
		err = ioctl(self->fd, TMS_IOC_FAIL, &request);
		if (err && errno == EOPNOTSUPP)
			SKIP(return, "may not allocate in this context");
		ASSERT_EQ(0, err);
		if (!request.failed)
			SKIP(return, "more memory than a request can fail in");
		/* The slab allocator's own follows; without this one, it is dropped. */
		page_found = find_message(self->kmsg, COMM ": page allocation failure: ",
					  "mode:", page);
		if (page_found || now() > end)
			break;
		sleep(2);
	}
	ASSERT_TRUE(page_found)
		TH_LOG("no report of the page allocator's");
	slab_found = find_message(self->kmsg, "SLUB: Unable to allocate memory", "gfp=", slab);
	ASSERT_TRUE(slab_found)
		TH_LOG("no report of the slab allocator's");

	EXPECT_STREQ(names, names_after(page, ",memalloc_scope="))
		TH_LOG("%s", page);
	EXPECT_EQ(!!(mask & TMS_GFP_FS), !!strstr(page, "__GFP_FS"))
		TH_LOG("%s", page);
	EXPECT_EQ(!!(mask & TMS_GFP_IO), !!strstr(page, "__GFP_IO"))
		TH_LOG("%s", page);
	EXPECT_STREQ(names, names_after(slab, ", memalloc_scope="))
		TH_LOG("%s", slab);
	EXPECT_NE(NULL, strstr(slab, "__GFP_FS"))
		TH_LOG("%s", slab);
}

/* A request that fails inside scopes, and one that fails outside them */
FIXTURE(quiet) {
	int fd;
	int kmsg;
};

FIXTURE_VARIANT(quiet) {
	__u32 quiet;
	__u32 loud;
};

FIXTURE_VARIANT_ADD(quiet, nowarn) {
	.quiet = TMS_NOWARN,
};

FIXTURE_VARIANT_ADD(quiet, nowait_nowarn) {
	.quiet = TMS_NOWAIT | TMS_NOWARN,
	.loud = TMS_NOWAIT,
};

FIXTURE_SETUP(quiet)
{
	self->kmsg = open_kmsg();
	if (self->kmsg < 0)
		SKIP(return, "no /dev/kmsg");
	self->fd = open_device(_metadata);
}

FIXTURE_TEARDOWN(quiet)
{
	close(self->fd);
	close(self->kmsg);
}

/* Whether a request failed; false and errno if it could not be tried. */
static bool fail_request(int fd, __u32 scopes)
{
	struct tms_fail request = {
		.where = TMS_IN_TASK, .scopes = scopes, .max_blocks = 256,
	};

	errno = 0;
	return !ioctl(fd, TMS_IOC_FAIL, &request) && request.failed;
}

/*
 * A failure right after, outside the scope, is reported: so the kernel would have
 * reported the one inside, which is the first of the two.
 *
 * Red if: __current_gfp_context() does not give __GFP_NOWARN inside nowarn, or
 * slab_out_of_memory() in mm/slub.c does not fold, or gives it inside nowait.
 */
TEST_F_TIMEOUT(quiet, is_quiet, 90)
{
	double end = now() + 40;
	bool page_found;
	char line[LINE];

	prctl(PR_SET_NAME, COMM);
	for (;;) {
		if (!fail_request(self->fd, variant->quiet))
			SKIP(return, "no request fails: %s", strerror(errno));
		/* Either report, of the page allocator's and of the slab allocator's */
		ASSERT_FALSE(find_message(self->kmsg, "", " alloc", line))
			TH_LOG("%s", line);
		if (!fail_request(self->fd, variant->loud))
			SKIP(return, "no request fails: %s", strerror(errno));
		page_found = find_message(self->kmsg, COMM ": page allocation failure: ",
					  "mode:", line);
		if (page_found || now() > end)
			break;
		sleep(2);
	}
	EXPECT_TRUE(page_found)
		TH_LOG("no report outside the scope either");
}

/* Something that must not fail, asked for inside nowait */
FIXTURE(promise) {
	int fd;
	int kmsg;
};

FIXTURE_VARIANT(promise) {
	__u32 promise;
	const char *function;
};

FIXTURE_VARIANT_ADD(promise, page) {
	.promise = TMS_PROMISE_PAGE,
	.function = "tms_nofail_page+",
};

FIXTURE_VARIANT_ADD(promise, mempool) {
	.promise = TMS_PROMISE_MEMPOOL,
	.function = "tms_nofail_mempool+",
};

FIXTURE_SETUP(promise)
{
	if (geteuid())
		SKIP(return, "needs root");
	if (access(CLEAR_WARN_ONCE, W_OK))
		SKIP(return, "no " CLEAR_WARN_ONCE ": mount debugfs");
	if (read_number("/proc/sys/kernel/panic_on_warn") > 0)
		SKIP(return, "the kernel would panic: kernel.panic_on_warn is set");
	self->kmsg = open_kmsg();
	if (self->kmsg < 0)
		SKIP(return, "no /dev/kmsg");
	self->fd = open_device(_metadata);
}

FIXTURE_TEARDOWN(promise)
{
	close(self->fd);
	close(self->kmsg);
}

/*
 * Kept, and reported with both places.
 *
 * Red if: __current_gfp_context() in mm/memalloc_scope.c takes the wait from a
 * __GFP_NOFAIL request, or does not report it; mempool_alloc_from_pool() in
 * mm/mempool.c does not; memalloc_nowait_nofail() reports more than once, or names
 * another place than that of the save.
 */
TEST_F_TIMEOUT(promise, is_reported, 60)
{
	struct tms_nofail n = { .promise = variant->promise };
	char line[LINE];
	int err;

	prctl(PR_SET_NAME, COMM);
	ASSERT_EQ(0, write_file(CLEAR_WARN_ONCE, "1"));
	err = ioctl(self->fd, TMS_IOC_NOFAIL, &n);
	if (err && errno == EOPNOTSUPP)
		SKIP(return, "needs CONFIG_DEBUG_MEMALLOC_SCOPE");
	ASSERT_EQ(0, err);
	EXPECT_EQ(1, n.kept);
	EXPECT_FALSE(find_message(self->kmsg, NOFAIL, "", line))
		TH_LOG("outside nowait: %s", line);

	n.scopes = TMS_NOWAIT;
	ASSERT_EQ(0, ioctl(self->fd, TMS_IOC_NOFAIL, &n));
	EXPECT_EQ(1, n.kept);
	ASSERT_TRUE(find_message(self->kmsg, NOFAIL, "", line))
		TH_LOG("no report");
	EXPECT_NE(NULL, strstr(line, "(GFP_KERNEL"))
		TH_LOG("%s", line);
	EXPECT_NE(NULL, strstr(line, "opened by tms_nofail_open+"))
		TH_LOG("%s", line);
	EXPECT_TRUE(find_message(self->kmsg, "", variant->function, line))
		TH_LOG("no %s in the stack", variant->function);

	ASSERT_EQ(0, ioctl(self->fd, TMS_IOC_NOFAIL, &n));
	EXPECT_EQ(1, n.kept);
	EXPECT_FALSE(find_message(self->kmsg, NOFAIL, "", line))
		TH_LOG("reported again");
}

/* More memory than the memory cgroup allows */
FIXTURE(oom) {
	int kmsg;
	char dir[64];
};

FIXTURE_VARIANT(oom) {
	bool io_flusher;
	const char *names;
};

FIXTURE_VARIANT_ADD(oom, none) {
	.names = "none",
};

FIXTURE_VARIANT_ADD(oom, io_flusher) {
	.io_flusher = true,
	.names = "io_flusher",
};

FIXTURE_SETUP(oom)
{
	char path[128];

	if (geteuid())
		SKIP(return, "needs root");
	if (read_number("/proc/sys/vm/panic_on_oom") == 2)
		SKIP(return, "the kernel would panic: vm.panic_on_oom is 2");
	self->kmsg = open_kmsg();
	if (self->kmsg < 0)
		SKIP(return, "no /dev/kmsg");
	if (write_file(CGROUP "/cgroup.subtree_control", "+memory"))
		SKIP(return, "no memory controller of cgroup v2 in " CGROUP);
	snprintf(path, sizeof(path), CGROUP "/memalloc_scope.%d", getpid());
	ASSERT_EQ(0, mkdir(path, 0755));
	strcpy(self->dir, path);
	snprintf(path, sizeof(path), "%s/memory.max", self->dir);
	ASSERT_EQ(0, write_file(path, "8M"));
	/* There is no such file without swap. */
	snprintf(path, sizeof(path), "%s/memory.swap.max", self->dir);
	write_file(path, "0");
}

FIXTURE_TEARDOWN(oom)
{
	if (self->dir[0])
		rmdir(self->dir);
	close(self->kmsg);
}

/* Red if: dump_header() in mm/oom_kill.c does not print the names of current. */
TEST_F_TIMEOUT(oom, report, 60)
{
	char path[128], line[LINE];
	int status = 0;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/cgroup.procs", self->dir);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		const size_t size = 64 << 20;
		void *p;

		prctl(PR_SET_NAME, COMM);
		if (variant->io_flusher && prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0))
			_exit(1);
		p = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED || write_file(path, "0"))
			_exit(2);
		memset(p, 1, size);
		_exit(3);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		TH_LOG("no OOM: the child ended with status %#x", status);
	ASSERT_TRUE(find_message(self->kmsg, COMM " invoked oom-killer: ", "gfp_mask=", line))
		TH_LOG("killed, but not reported");
	EXPECT_STREQ(variant->names, names_after(line, ", memalloc_scope="))
		TH_LOG("%s", line);
}

/* A child that sleeps in the module with scopes open */
FIXTURE(sleeper) {
	int fd;
	int kmsg;
	int go[2];
	pid_t pid;
	/* what it has open while it sleeps, and then no longer */
	char asleep[TMS_NAMES];
	char awake[TMS_NAMES];
	long timeout, warnings;
};

FIXTURE_VARIANT(sleeper) {
	__u32 scopes;
	bool io_flusher;
};

FIXTURE_VARIANT_ADD(sleeper, nofs_noreclaim) {
	.scopes = TMS_NOFS | TMS_NORECLAIM,
};

FIXTURE_VARIANT_ADD(sleeper, all) {
	.scopes = TMS_SCOPES,
	.io_flusher = true,
};

FIXTURE_SETUP(sleeper)
{
	__u32 always = variant->io_flusher ? TMS_IO_FLUSHER : 0;
	pid_t pid;

	self->fd = -1;
	self->timeout = LONG_MIN;
	self->kmsg = open_kmsg();
	if (self->kmsg < 0)
		SKIP(return, "no /dev/kmsg");
	self->fd = open_device(_metadata);
	if (self->fd < 0)
		return;
	tms_names(self->asleep, variant->scopes | always);
	tms_names(self->awake, always);
	ASSERT_EQ(0, pipe(self->go));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char c;

		close(self->go[1]);
		prctl(PR_SET_NAME, COMM);
		if (variant->io_flusher && prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0))
			_exit(1);
		if (ioctl(self->fd, TMS_IOC_SLEEP, variant->scopes))
			_exit(2);
		/* The end of the test closes the pipe. */
		_exit(read(self->go[0], &c, 1) ? 3 : 0);
	}
	close(self->go[0]);
	/* Not in the child, too: for the sake of the parent's teardown, self is shared. */
	self->pid = pid;
}

/* In the parent of the test, so that it also runs if that was killed */
FIXTURE_TEARDOWN_PARENT(sleeper)
{
	if (self->timeout != LONG_MIN) {
		write_number(HUNG_TIMEOUT, self->timeout);
		write_number(HUNG_WARNINGS, self->warnings);
	}
}

/* Waits for the state, then for the names: whoever has just got there may be late. */
static bool shows(pid_t pid, char state, const char *names, char buf[LINE])
{
	double end = now() + 20;

	while (now() < end) {
		if (status_of(pid, "State", buf)[0] == state &&
		    !strcmp(status_of(pid, "MemallocScope", buf), names))
			return true;
		usleep(20000);
	}
	return false;
}

static int end_sleeper(int go, pid_t pid)
{
	int status;

	close(go);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

/*
 * Red if: task_memalloc_scopes() in fs/proc/array.c does not print the names, or
 * prints those of current.
 */
TEST_F_TIMEOUT(sleeper, status, 60)
{
	char buf[LINE];

	EXPECT_TRUE(shows(self->pid, 'D', self->asleep, buf))
		TH_LOG("a sleeper with %s: %s", self->asleep,
		       status_of(self->pid, "MemallocScope", buf));
	EXPECT_STREQ("none", status_of(getpid(), "MemallocScope", buf));
	EXPECT_EQ(0, ioctl(self->fd, TMS_IOC_WAKE));
	EXPECT_TRUE(shows(self->pid, 'S', self->awake, buf))
		TH_LOG("a child with %s: %s", self->awake,
		       status_of(self->pid, "MemallocScope", buf));
	EXPECT_EQ(0, end_sleeper(self->go[1], self->pid));
}

/*
 * Red if: sched_show_task() in kernel/sched/core.c does not print the names, or
 * prints those of current.
 */
TEST_F_TIMEOUT(sleeper, hung_task, 90)
{
	char start[64], line[LINE], buf[LINE];
	bool found;
	long old;

	if (read_number("/proc/sys/kernel/hung_task_panic") > 0)
		SKIP(goto out, "the kernel would panic: kernel.hung_task_panic is set");
	old = read_number(HUNG_TIMEOUT);
	if (old < 0)
		SKIP(goto out, "no hung task detector");
	self->warnings = read_number(HUNG_WARNINGS);
	self->timeout = old;
	EXPECT_TRUE(shows(self->pid, 'D', self->asleep, buf));
	EXPECT_EQ(0, write_number(HUNG_WARNINGS, -1));
	EXPECT_EQ(0, write_number(HUNG_TIMEOUT, 2));
	snprintf(start, sizeof(start), "INFO: task " COMM ":%d blocked", self->pid);
	found = wait_message(self->kmsg, start, "", line) &&
		wait_message(self->kmsg, "task:" COMM " ", "state:D", line);
	EXPECT_TRUE(found)
		TH_LOG("no report");
	if (found) {
		EXPECT_STREQ(self->asleep, names_after(line, " memalloc_scope:"))
			TH_LOG("%s", line);
	}
	/* Back to normal before anybody else sleeps for so long. */
	EXPECT_EQ(0, write_number(HUNG_TIMEOUT, old));
out:
	ioctl(self->fd, TMS_IOC_WAKE);
	EXPECT_EQ(0, end_sleeper(self->go[1], self->pid));
}

TEST_HARNESS_MAIN
