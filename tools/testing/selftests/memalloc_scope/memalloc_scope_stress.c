// SPDX-License-Identifier: GPL-2.0
/*
 * Randomised stress of allocation scopes: tasks open and close scopes at random
 * depth, allocate, sleep, migrate and fork, while timers, network receive, BH
 * work, hard interrupts and work items hit them and allocate, and while their
 * scopes are read from /proc. See test_modules/tms_stress.c for the oracle.
 *
 * MEMALLOC_SCOPE_SECONDS	how long, default 6
 * MEMALLOC_SCOPE_SEED		of an earlier run. Each task takes the same steps
 *				again, for as long as the time lasts; when it is
 *				interrupted is not repeatable.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "test_modules/test_memalloc_stress.h"
#include "tms_harness.h"

#define MAX_TASKS	64
#define STEPS		256	/* of one call */
#define CHILD_STEPS	100
#define MAX_SECONDS	3000

/* What went wrong, if anything did, in a task or in a child that it forked */
enum trouble { FINE, VIOLATION, CHILD_STATUS, CHILD_LOST, LEAKED, SYSCALL };

static const char *const trouble_name[] = {
	[VIOLATION]	= "a rule was broken",
	[CHILD_STATUS]	= "a child started with more or less than io_flusher",
	[CHILD_LOST]	= "a child did not exit as expected",
	[LEAKED]	= "scopes did not stay open over fork",
	[SYSCALL]	= "a system call failed",
};

/* Written by one task and its children in turn, read when all are gone */
struct record {
	enum trouble trouble;
	int error;
	__u32 round;
	bool in_child;
	__u64 steps, seen, compared, forks, leaks;
	char status[TMS_NAMES];
	struct tms_stress run;		/* that ended in a violation */
};

static struct {
	struct record task[MAX_TASKS];
	int stop;
} *shared;

static int fd;
static __u64 seed, end_ms;
static bool may_leak;

/* What the reader of /proc has seen */
static __u64 lines, lines_open;
static char bad_line[128];

static __u64 now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ULL + now.tv_nsec / 1000000;
}

/* A step of splitmix64 */
static __u64 random_u64(__u64 *state)
{
	__u64 z = *state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static __u64 from_env(const char *name, __u64 otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

/* The scopes that a status file names, without the newline; "" if there are none */
static void read_names(const char *path, char *names, size_t size)
{
	static char buf[8192];
	char *line, *end;
	ssize_t len;
	int file;

	*names = '\0';
	file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return;
	len = read(file, buf, sizeof(buf) - 1);
	close(file);
	if (len <= 0)
		return;
	buf[len] = '\0';
	line = strstr(buf, "\nMemallocScope:\t");
	if (!line)
		return;
	line += strlen("\nMemallocScope:\t");
	end = strchr(line, '\n');
	if (end)
		*end = '\0';
	snprintf(names, size, "%s", line);
}

/* Each known name at most once, in their order, one blank between them */
static bool names_known(const char *names)
{
	static char known[2 * TMS_NOLOCK][TMS_NAMES];

	for (__u32 scopes = 0; scopes < ARRAY_SIZE(known); scopes++) {
		if (scopes & TMS_UNKNOWN)
			continue;
		if (!*known[scopes])
			tms_names(known[scopes], scopes);
		if (!strcmp(names, known[scopes]))
			return true;
	}
	return false;
}

static bool task_fails(struct record *rec, enum trouble trouble)
{
	rec->trouble = trouble;
	rec->error = errno;
	__atomic_store_n(&shared->stop, 1, __ATOMIC_RELAXED);
	return false;
}

static bool task_steps(struct record *rec, __u64 start, __u32 steps, bool io_flusher)
{
	__u64 now = now_ms();
	struct tms_stress run = {
		.op = TMS_STRESS_RUN,
		.seed = start,
		.steps = steps,
		.max_ms = now < end_ms ? end_ms - now : 0,
		.io_flusher = io_flusher,
	};
	char why[TMS_WHY];

	if (ioctl(fd, TMS_IOC_STRESS, &run))
		return task_fails(rec, SYSCALL);
	rec->steps += run.done;
	rec->seen += run.task.hits;
	rec->compared += run.compared;
	rec->run = run;
	if (run.net_error) {
		errno = run.net_error;
		return task_fails(rec, SYSCALL);
	}
	return tms_judge_hits(&run.task, why) || task_fails(rec, VIOLATION);
}

/* In a new task: it starts afresh, whatever its parent has open. */
static void child(struct record *rec, __u64 start, bool io_flusher)
{
	const char *expected = io_flusher ? "io_flusher" : "none";

	rec->in_child = true;
	read_names("/proc/self/status", rec->status, sizeof(rec->status));
	if (strcmp(rec->status, expected))
		task_fails(rec, CHILD_STATUS);
	else if (task_steps(rec, start, CHILD_STEPS, io_flusher))
		rec->in_child = false;
	_exit(rec->in_child);
}

/* Forks inside @scopes: the one thing that needs them open in user space */
static bool task_forks(struct record *rec, __u64 start, __u32 scopes, bool io_flusher)
{
	struct tms_stress leak = { .op = TMS_STRESS_LEAK, .scopes = scopes };
	char names[TMS_NAMES], expected[TMS_NAMES];
	int status = 0;
	pid_t pid;

	if (scopes && ioctl(fd, TMS_IOC_STRESS, &leak))
		return task_fails(rec, SYSCALL);
	pid = fork();
	if (!pid)
		child(rec, start, io_flusher);
	if (pid > 0 && waitpid(pid, &status, 0) != pid)
		pid = -1;
	read_names("/proc/self/status", names, sizeof(names));
	leak.op = TMS_STRESS_UNLEAK;
	leak.scopes = 0;
	if (scopes && ioctl(fd, TMS_IOC_STRESS, &leak))
		return task_fails(rec, SYSCALL);
	if (pid < 0)
		return task_fails(rec, SYSCALL);
	if (rec->trouble)
		return false;
	if (status)
		return task_fails(rec, CHILD_LOST);
	tms_names(expected, scopes | (io_flusher ? TMS_IO_FLUSHER : 0));
	if (strcmp(names, expected)) {
		memcpy(rec->status, names, sizeof(names));
		return task_fails(rec, LEAKED);
	}
	rec->forks++;
	rec->leaks += !!scopes;
	return true;
}

static void task(int nr)
{
	struct record *rec = &shared->task[nr];
	__u64 state = seed + nr * 0x100000001b3ULL;
	bool io_flusher = false, good = true;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (good && now_ms() < end_ms && !__atomic_load_n(&shared->stop, __ATOMIC_RELAXED)) {
		__u64 choice = random_u64(&state), start = random_u64(&state);
		__u32 scopes = may_leak ? 1 + (choice >> 8) % TMS_SCOPES : 0;

		rec->round++;
		if (choice % 4 == 0)
			io_flusher = !io_flusher;
		if (prctl(PR_SET_IO_FLUSHER, io_flusher, 0, 0, 0)) {
			task_fails(rec, SYSCALL);
			break;
		}
		good = task_steps(rec, start, STEPS, io_flusher);
		if (good)
			good = task_forks(rec, start + 1, scopes, io_flusher);
	}
	_exit(0);
}

/* One look at all threads of a task */
static void read_task(pid_t pid)
{
	char path[320], names[TMS_NAMES];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%s/status", pid, entry->d_name);
		read_names(path, names, sizeof(names));
		/* A task that is gone has no status. */
		if (!*names)
			continue;
		lines++;
		lines_open += strcmp(names, "none") && strcmp(names, "io_flusher");
		if (!names_known(names))
			snprintf(bad_line, sizeof(bad_line), "%s", names);
	}
	if (dir)
		closedir(dir);
}

static const char *const step_name[TMS_STEPS] = {
	[TMS_STEP_OPEN]		= "open",
	[TMS_STEP_OPEN_SET]	= "open set",
	[TMS_STEP_CLOSE]	= "close",
	[TMS_STEP_CLOSE_OTHER]	= "close out of order",
	[TMS_STEP_ALLOC]	= "allocate",
	[TMS_STEP_YIELD]	= "yield",
	[TMS_STEP_SLEEP]	= "sleep",
	[TMS_STEP_MIGRATE]	= "migrate",
	[TMS_STEP_BH_OFF]	= "BH off",
	[TMS_STEP_SEND]		= "send",
	[TMS_STEP_SHOOT]	= "interrupt",
};

static const char *const door_name[TMS_DOORS] = {
	"page", "folio", "kmalloc", "percpu", "vmalloc", "bulk",
};

static const char *kind_name(int kind)
{
	if (kind == TMS_STRESS_TASKLET)
		return "softirq: tasklet";
	if (kind == TMS_STRESS_WORK)
		return "work item";
	return tms_kind_name[kind];
}

static void print_step(const struct tms_stress_step *s)
{
	char names[TMS_NAMES], open[TMS_NAMES];
	const char *what = s->what < TMS_STEPS ? step_name[s->what] : "?";

	switch (s->what) {
	case TMS_STEP_OPEN:
	case TMS_STEP_OPEN_SET:
	case TMS_STEP_CLOSE:
	case TMS_STEP_CLOSE_OTHER:
		tms_names(names, s->arg);
		break;
	case TMS_STEP_ALLOC:
		snprintf(names, sizeof(names), "%s", door_name[s->arg % TMS_DOORS]);
		break;
	case TMS_STEP_SHOOT:
		snprintf(names, sizeof(names), "%s", kind_name(s->arg % TMS_STRESS_KINDS));
		break;
	case TMS_STEP_MIGRATE:
	case TMS_STEP_BH_OFF:
		snprintf(names, sizeof(names), "%u", s->arg);
		break;
	default:
		*names = '\0';
	}
	printf("#   step %u: %s%s%s; now %u deep: %s\n", s->step, what, *names ? ", " : "",
	       names, s->depth, tms_names(open, s->open));
}

static void print_trouble(int nr)
{
	const struct record *rec = &shared->task[nr];
	const struct tms_stress *run = &rec->run;
	__u32 first = run->done > TMS_STRESS_HISTORY ? run->done - TMS_STRESS_HISTORY : 0;
	char why[TMS_WHY] = "";

	printf("# seed %#llx, task %d, round %u%s: %s", (unsigned long long)seed, nr, rec->round,
	       rec->in_child ? ", in a child" : "", trouble_name[rec->trouble]);
	if (rec->trouble == SYSCALL)
		printf(": %s", strerror(rec->error));
	if (rec->trouble == CHILD_STATUS || rec->trouble == LEAKED)
		printf(": \"%s\"", rec->status);
	printf("\n");
	if (rec->trouble != VIOLATION)
		return;
	tms_judge_hits(&run->task, why);
	printf("#   %s%s\n", why, run->io_flusher ? "; an I/O flusher" : "");
	for (__u32 step = first; step < run->done; step++)
		print_step(&run->history[step % TMS_STRESS_HISTORY]);
}

/* The kernel may object to scopes that stay open in user space. */
static bool leak_allowed(void)
{
	if (ioctl(fd, TMS_IOC_LEAK_OPEN, TMS_NOFS))
		return errno != EOPNOTSUPP;
	ioctl(fd, TMS_IOC_LEAK_CLOSE);
	return true;
}

FIXTURE(stress) {
};

FIXTURE_SETUP(stress)
{
	fd = open_device(_metadata);
	if (fd < 0)
		return;
	ASSERT_EQ(0, tms_loopback_up());
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, shared);
	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = now_ms();
	seed = from_env("MEMALLOC_SCOPE_SEED", seed);
}

FIXTURE_TEARDOWN(stress)
{
}

/*
 * Red if: handle_softirqs() does not call memalloc_scope_borrow() or
 * memalloc_scope_give_back(), __current_gfp_context() does not look at
 * preempt_count(), the page allocator or percpu does not fold, vmalloc keeps its
 * own scope open, copy_process() does not call memalloc_scope_fork(), a kworker
 * has a scope open.
 */
TEST_F_TIMEOUT(stress, random, 3600)
{
	int tasks = 2 * sysconf(_SC_NPROCESSORS_ONLN);
	__u64 seconds = from_env("MEMALLOC_SCOPE_SECONDS", 6);
	__u64 steps = 0, seen = 0, compared = 0, forks = 0, leaks = 0;
	struct tms_stress s = { .op = TMS_STRESS_START, .seed = seed };
	pid_t pid[MAX_TASKS];

	if (seconds > MAX_SECONDS)
		seconds = MAX_SECONDS;
	tasks = tasks < 4 ? 4 : tasks > MAX_TASKS ? MAX_TASKS : tasks;
	/* The harness's own limit is that of the longest run there may be. */
	alarm(2 * seconds + 120);
	may_leak = leak_allowed();
	printf("# seed %#llx, %d tasks, %llu s\n", (unsigned long long)seed, tasks,
	       (unsigned long long)seconds);
	fflush(stdout);

	ASSERT_EQ(0, ioctl(fd, TMS_IOC_STRESS, &s));
	end_ms = now_ms() + 1000 * seconds;
	for (int i = 0; i < tasks; i++) {
		pid[i] = fork();
		if (!pid[i])
			task(i);
		ASSERT_LT(0, pid[i]);
	}
	while (now_ms() < end_ms && !__atomic_load_n(&shared->stop, __ATOMIC_RELAXED)) {
		for (int i = 0; i < tasks; i++)
			read_task(pid[i]);
	}
	for (int i = 0; i < tasks; i++) {
		int status = -1;

		EXPECT_EQ(pid[i], waitpid(pid[i], &status, 0));
		EXPECT_EQ(0, status);
	}
	s.op = TMS_STRESS_STOP;
	ASSERT_EQ(0, ioctl(fd, TMS_IOC_STRESS, &s));

	for (int i = 0; i < tasks; i++) {
		struct record *rec = &shared->task[i];

		if (rec->trouble)
			print_trouble(i);
		EXPECT_EQ(FINE, rec->trouble);
		EXPECT_LT(0, rec->round);
		steps += rec->steps;
		seen += rec->seen;
		compared += rec->compared;
		forks += rec->forks;
		leaks += rec->leaks;
	}
	printf("# %llu steps, %llu requests, %llu of them compared\n",
	       (unsigned long long)steps, (unsigned long long)seen,
	       (unsigned long long)compared);
	printf("# %llu forks, %llu inside scopes; %llu lines of /proc, %llu with scopes\n",
	       (unsigned long long)forks, (unsigned long long)leaks, (unsigned long long)lines,
	       (unsigned long long)lines_open);
	for (int kind = 0; kind < TMS_STRESS_KINDS; kind++) {
		struct tms_hits *h = &s.kind[kind];
		char why[TMS_WHY] = "";

		printf("# %s: %llu on scopes, %llu elsewhere\n", kind_name(kind),
		       (unsigned long long)h->hits, (unsigned long long)h->elsewhere);
		EXPECT_TRUE(tms_judge_hits(h, why))
			TH_LOG("seed %#llx: %s: %s", (unsigned long long)seed,
			       kind_name(kind), why);
		/* After a violation, there was no time for everything. */
		if (shared->stop)
			continue;
		/* On PREEMPT_RT, only the hrtimer stays a hardirq. */
		if (s.rt && kind == TMS_NESTED)
			continue;
		EXPECT_LT(0, h->hits + h->elsewhere)
			TH_LOG("never: %s", kind_name(kind));
		/* There is a task below, with scopes open nearly all the time. */
		if (!s.rt && (kind == TMS_IRQ_WORK || kind == TMS_NESTED || kind == TMS_NET_RX)) {
			EXPECT_LT(0, h->hits)
				TH_LOG("never on top of scopes: %s", kind_name(kind));
		}
	}
	EXPECT_STREQ("", bad_line);
	if (shared->stop)
		return;
	EXPECT_LT(0, compared);
	EXPECT_LT(compared, seen);
	EXPECT_LT(0, forks);
	EXPECT_TRUE(leaks || !may_leak);
	EXPECT_LT(0, lines_open);
}

/*
 * A task that does nothing but write its byte, and others that do nothing but look.
 *
 * Red if: whoever looks writes as well, which only KCSAN sees.
 */
TEST_F_TIMEOUT(stress, readers, 60)
{
	struct tms_rewrite r = { .scopes = TMS_NOFS | TMS_PIN, .ms = 2000 };
	pid_t writer, reader;
	int status = -1;

	writer = fork();
	ASSERT_LE(0, writer);
	if (!writer)
		_exit(ioctl(fd, TMS_IOC_REWRITE, &r) || r.changed || !r.loops);
	reader = fork();
	if (!reader) {
		for (;;)
			read_task(writer);
	}
	while (!waitpid(writer, &status, WNOHANG))
		read_task(writer);
	kill(reader, SIGKILL);
	waitpid(reader, NULL, 0);
	EXPECT_EQ(0, status);
	EXPECT_LT(0, lines_open);
	EXPECT_STREQ("", bad_line);
}

TEST_HARNESS_MAIN
