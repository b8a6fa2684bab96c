// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/swap.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tms_swap.h"

#define PAGE		4096UL
#define WORDS		(PAGE / sizeof(__u64))
#define NAP_US		20000

/* Of one worker. The watcher reads it, so it has to stay in memory. */
struct worker {
	bool gone;
	pid_t pid;
	__u64 pages, bad, keep, kept;
	unsigned int rounds;
	/* of the first bad page; valid if bad != 0 */
	__u64 page, word, got, want;
};

struct swap_load {
	struct worker worker[SWAP_WORKERS];
	bool stop;
	/* the watcher's own */
	__u64 held, seen;
	double since, stalled;
};

double seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

__u64 ram_bytes(void)
{
	struct sysinfo info;

	return sysinfo(&info) ? 0 : (__u64)info.totalram * info.mem_unit;
}

/*
 * A page says whose it is, which one, and how often it was written, so that one
 * that was swapped with another, or that is an older version of itself, is wrong
 * in every word. No word is 0, as pages of zeros are never written to swap.
 */
static __u64 pattern(unsigned int worker, __u64 page, __u8 version)
{
	__u64 x = (page << 16 | version << 8 | worker) * 0x9e3779b97f4a7c15;

	return (x ^ x >> 29) | 1;
}

static void write_page(__u64 *p, __u64 base)
{
	for (unsigned int i = 0; i < WORDS; i++)
		p[i] = base + 2 * i;
}

static void check_page(struct worker *w, const __u64 *p, __u64 page, __u64 base)
{
	for (unsigned int i = 0; i < WORDS; i++) {
		if (p[i] == base + 2 * i)
			continue;
		if (!w->bad) {
			w->page = page;
			w->word = i;
			w->got = p[i];
			w->want = base + 2 * i;
		}
		shared_add(w->bad, 1);
		return;
	}
}

static int work(struct swap_load *l, unsigned int nr, __u64 pages)
{
	struct worker *w = &l->worker[nr];
	__u8 *version;
	__u64 *data;
	bool last;

	version = calloc(pages, 1);
	data = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!version || data == MAP_FAILED)
		return 1;
	/* A huge page would be split before it is swapped: no part of this. */
	madvise(data, pages * PAGE, MADV_NOHUGEPAGE);

	for (__u64 i = 0; i < pages; i++) {
		write_page(data + i * WORDS, pattern(nr, i, 0));
		shared_add(w->pages, 1);
	}
	/*
	 * Forth and back, so that what was swapped out last is not needed first. The
	 * last round is one that began after the order to stop.
	 */
	do {
		last = shared_get(l->stop);
		for (__u64 i = 0; i < pages; i++) {
			unsigned int round = w->rounds;
			__u64 n = round % 2 ? pages - 1 - i : i;
			__u64 keep = shared_get(w->keep);

			if (keep && keep < pages) {
				munmap(data + keep * WORDS, (pages - keep) * PAGE);
				pages = keep;
				shared_set(w->kept, keep);
				while (!shared_get(l->stop))
					usleep(NAP_US);
				last = false;
				break;
			}
			check_page(w, data + n * WORDS, n, pattern(nr, n, version[n]));
			if ((n + round) % 2)
				write_page(data + n * WORDS, pattern(nr, n, ++version[n]));
			shared_add(w->pages, 1);
		}
		shared_add(w->rounds, 1);
	} while (!last);
	return 0;
}

struct swap_load *swap_load_start(__u64 bytes)
{
	struct swap_load *l;

	l = mmap(NULL, sizeof(*l), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (l == MAP_FAILED)
		return NULL;
	/* The watcher's stall must not be the one that it sees. */
	if (mlockall(MCL_CURRENT | MCL_FUTURE)) {
		munmap(l, sizeof(*l));
		return NULL;
	}
	l->since = seconds_now();
	l->held = bytes / PAGE / SWAP_WORKERS * SWAP_WORKERS;
	for (unsigned int i = 0; i < SWAP_WORKERS; i++) {
		pid_t pid = fork();

		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			munlockall();
			_exit(work(l, i, bytes / PAGE / SWAP_WORKERS));
		}
		l->worker[i].pid = pid;
		l->worker[i].gone = pid < 0;
	}
	return l;
}

void swap_load_restart_clock(struct swap_load *l)
{
	l->since = seconds_now();
	l->stalled = 0;
}

void swap_load_look(struct swap_load *l, struct swap_report *r)
{
	double now = seconds_now();

	*r = (struct swap_report){ .rounds = ~0U };
	for (unsigned int i = 0; i < SWAP_WORKERS; i++) {
		struct worker *w = &l->worker[i];
		unsigned int rounds;
		int status;

		if (!w->gone && waitpid(w->pid, &status, WNOHANG) == w->pid) {
			w->gone = true;
			/* Its work is done only if it says so. */
			if (!WIFEXITED(status) || WEXITSTATUS(status) || !l->stop)
				w->pid = -1;
		}
		r->lost += w->pid < 0;
		if (shared_get(w->bad) && !r->bad)
			snprintf(r->why, sizeof(r->why),
				 "worker %u, page %llu, word %llu: %#llx, not %#llx", i,
				 w->page, w->word,
				 w->got, w->want);
		r->pages += shared_get(w->pages);
		r->bad += shared_get(w->bad);
		rounds = shared_get(w->rounds);
		if (rounds < r->rounds)
			r->rounds = rounds;
	}
	r->filled = r->pages >= l->held;
	if (now - l->since > l->stalled)
		l->stalled = now - l->since;
	if (r->pages != l->seen) {
		l->seen = r->pages;
		l->since = now;
	}
	r->stalled = l->stalled;
}

bool swap_load_fill(struct swap_load *l, double seconds)
{
	double end = seconds_now() + seconds;
	struct swap_report r;

	do {
		swap_load_look(l, &r);
		usleep(NAP_US);
	} while (!r.filled && !r.lost && seconds_now() < end);
	return r.filled;
}

bool swap_load_wait(struct swap_load *l, unsigned int rounds, double seconds)
{
	double end = seconds_now() + seconds;
	struct swap_report r;

	for (;;) {
		swap_load_look(l, &r);
		if (r.lost)
			return false;
		if (r.rounds >= rounds)
			return true;
		if (seconds_now() > end)
			return false;
		usleep(NAP_US);
	}
}

bool swap_load_shrink(struct swap_load *l, __u64 bytes, double seconds)
{
	double end = seconds_now() + seconds;
	struct swap_report r;
	bool done;

	for (unsigned int i = 0; i < SWAP_WORKERS; i++)
		shared_set(l->worker[i].keep, bytes / PAGE / SWAP_WORKERS);
	do {
		swap_load_look(l, &r);
		done = true;
		for (unsigned int i = 0; i < SWAP_WORKERS; i++)
			done = done && shared_get(l->worker[i].kept);
		usleep(NAP_US);
	} while (!done && !r.lost && seconds_now() < end);
	return done;
}

void swap_load_end(struct swap_load *l, double seconds, struct swap_report *r)
{
	double end = seconds_now() + seconds;
	bool running;

	shared_set(l->stop, true);
	do {
		swap_load_look(l, r);
		running = false;
		for (unsigned int i = 0; i < SWAP_WORKERS; i++)
			running = running || !l->worker[i].gone;
		usleep(NAP_US);
	} while (running && seconds_now() < end);

	for (unsigned int i = 0; i < SWAP_WORKERS; i++) {
		if (l->worker[i].gone)
			continue;
		r->lost++;
		kill(l->worker[i].pid, SIGKILL);
	}
	munmap(l, sizeof(*l));
}

int swap_make(const char *device, __u64 bytes)
{
	union {
		char page[PAGE];
		struct {
			char boot[1024];
			__u32 version, last_page, bad_pages;
		} info;
	} header = { .info = { .version = 1, .last_page = bytes / PAGE - 1 } };
	int fd, err = 0;

	memcpy(header.page + PAGE - 10, "SWAPSPACE2", 10);
	fd = open(device, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, &header, PAGE) != (ssize_t)PAGE || fsync(fd))
		err = errno ? -errno : -EIO;
	close(fd);
	return err;
}

int swap_on(const char *path)
{
	return swapon(path, 0) ? -errno : 0;
}

int swap_off(const char *path)
{
	return swapoff(path) ? -errno : 0;
}

__u64 vm_count(const char *name)
{
	unsigned long long value, found = 0;
	FILE *f = fopen("/proc/vmstat", "r");
	char key[64];

	if (!f)
		return 0;
	while (fscanf(f, "%63s %llu", key, &value) == 2) {
		if (!strcmp(key, name))
			found = value;
	}
	fclose(f);
	return found;
}

int sysctl_set(const char *path, const char *value, char *old)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	ssize_t len;
	int err = 0;

	if (fd < 0)
		return -errno;
	if (old) {
		len = read(fd, old, 31);
		old[len < 0 ? 0 : len] = '\0';
		lseek(fd, 0, SEEK_SET);
	}
	if (write(fd, value, strlen(value)) < 0)
		err = -errno;
	close(fd);
	return err;
}
