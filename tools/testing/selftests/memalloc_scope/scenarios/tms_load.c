// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tms_load.h"

#define PAGE		4096UL
#define CHUNK		(64 * 1024UL)
#define MB		(1024 * 1024UL)

long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

static void pause_for(unsigned int ms)
{
	if (ms)
		usleep(ms * 1000);
}

static const char *path_of(const char *format, va_list ap)
{
	static char path[PATH_MAX];

	vsnprintf(path, sizeof(path), format, ap);
	return path;
}

int write_text(const char *text, const char *format, ...)
{
	ssize_t len = strlen(text), done;
	va_list ap;
	int fd;

	va_start(ap, format);
	fd = open(path_of(format, ap), O_WRONLY | O_CLOEXEC);
	va_end(ap);
	if (fd < 0)
		return -1;
	done = write(fd, text, len);
	close(fd);
	return done == len ? 0 : -1;
}

char *read_text(const char *format, ...)
{
	static char text[4096];
	va_list ap;
	ssize_t len;
	int fd;

	va_start(ap, format);
	fd = open(path_of(format, ap), O_RDONLY | O_CLOEXEC);
	va_end(ap);
	if (fd < 0)
		return NULL;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (len < 0)
		return NULL;
	text[len] = '\0';
	if (len && text[len - 1] == '\n')
		text[len - 1] = '\0';
	return text;
}

long read_number(const char *format, ...)
{
	va_list ap;
	FILE *f;
	long n;

	va_start(ap, format);
	f = fopen(path_of(format, ap), "re");
	va_end(ap);
	if (!f)
		return -1;
	if (fscanf(f, "%ld", &n) != 1)
		n = -1;
	fclose(f);
	return n;
}

static long long find_line(const char *path, const char *name)
{
	char line[256], key[80];
	long long value, found = -1;
	FILE *f = fopen(path, "re");

	if (!f)
		return -1;
	while (found < 0 && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%79s %lld", key, &value) == 2 && !strcmp(key, name))
			found = value;
	}
	fclose(f);
	return found;
}

long meminfo_mb(const char *name)
{
	long long kb = find_line("/proc/meminfo", name);

	return kb < 0 ? -1 : kb / 1024;
}

long long vm_events(const char *name)
{
	return find_line("/proc/vmstat", name);
}

int run(const char *const argv[], int ms)
{
	long long end = now_ms() + ms;
	int status, null;
	pid_t pid = fork();

	if (pid < 0)
		return -1;
	if (!pid) {
		null = open("/dev/null", O_RDWR);
		dup2(null, 0);
		dup2(null, 1);
		dup2(null, 2);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	while (!waitpid(pid, &status, WNOHANG)) {
		if (now_ms() > end)
			kill(pid, SIGKILL);
		usleep(10000);
		if (now_ms() > end + 10000)
			return -1;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

struct load *load_new(void)
{
	struct load *l = mmap(NULL, sizeof(*l), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (l == MAP_FAILED)
		return NULL;
	/* Or else figures would wait for the very disk that they are about. */
	mlock(l, sizeof(*l));
	return l;
}

void load_free(struct load *l)
{
	munmap(l, sizeof(*l));
}

static bool stopped(struct load *l)
{
	return __atomic_load_n(&l->stop, __ATOMIC_RELAXED) || getppid() == 1;
}

static void step_done(struct load_child *c)
{
	long long now = now_ms();

	if (now - c->last_ms > c->worst_ms)
		c->worst_ms = now - c->last_ms;
	c->steps++;
	__atomic_store_n(&c->last_ms, now, __ATOMIC_RELAXED);
}

/* The parent gets NULL. */
static struct load_child *child(struct load *l)
{
	struct load_child *c = &l->child[l->nr];
	pid_t pid;

	c->last_ms = now_ms();
	pid = fork();
	if (pid) {
		c->pid = pid;
		if (pid > 0)
			l->nr++;
		return NULL;
	}
	write_text("0", "/proc/self/oom_score_adj");
	return c;
}

/* Noise, of which every page has another part: what a page should hold is cheap to tell. */
#define NOISE		(2 * PAGE)

static const char *noise(__u64 seed, __u64 nr)
{
	static char bytes[NOISE];

	if (!bytes[0]) {
		unsigned int x = 1;

		for (unsigned int i = 0; i < NOISE; i++) {
			x = x * 1103515245 + 12345;
			bytes[i] = x >> 16 | 1;
		}
	}
	return bytes + (seed * 31 + nr * 7) % (NOISE - PAGE);
}

static void fill(char *page, __u64 seed, __u64 nr)
{
	const __u64 head[2] = { seed, nr };

	memcpy(page, head, sizeof(head));
	memcpy(page + sizeof(head), noise(seed, nr), PAGE - sizeof(head));
}

static void check(struct load_child *c, const char *page, __u64 seed, __u64 nr)
{
	const __u64 head[2] = { seed, nr };

	c->checked++;
	if (memcmp(page, head, sizeof(head)) ||
	    memcmp(page + sizeof(head), noise(seed, nr), PAGE - sizeof(head)))
		c->bad++;
}

void load_anon(struct load *l, unsigned int mb, unsigned int pages, unsigned int pause_ms,
	       bool pageout)
{
	struct load_child *c = child(l);
	__u64 nr = mb * MB / PAGE, seed = l->nr + 1, at = 0;
	__u8 *generation;
	char *mem;

	if (!c)
		return;
	generation = calloc(nr, 1);
	mem = mmap(NULL, mb * MB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!generation || mem == MAP_FAILED) {
		c->error = ENOMEM;
		_exit(1);
	}
	while (!stopped(l)) {
		const __u64 first = at, end = at + pages < nr ? at + pages : nr;

		for (; at < end; at++) {
			char *page = mem + at * PAGE;

			if (c->rounds)
				check(c, page, seed + generation[at], at);
			generation[at]++;
			fill(page, seed + generation[at], at);
		}
		if (pageout)
			madvise(mem + first * PAGE, (end - first) * PAGE, MADV_PAGEOUT);
		if (at == nr) {
			at = 0;
			c->rounds++;
		}
		step_done(c);
		/* The first round is there to get at the memory. */
		if (c->rounds)
			pause_for(pause_ms);
	}
	for (at = 0; at < nr; at++) {
		if (generation[at])
			check(c, mem + at * PAGE, seed + generation[at], at);
		if (!(at % pages))
			step_done(c);
	}
	_exit(c->bad != 0);
}

static bool file_chunk(int fd, struct load_child *c, char *buf, __u64 at, __u64 seed,
		       bool write)
{
	const __u64 first = at * (CHUNK / PAGE);
	ssize_t len;

	if (write) {
		for (unsigned int i = 0; i < CHUNK / PAGE; i++)
			fill(buf + i * PAGE, seed, first + i);
		len = pwrite(fd, buf, CHUNK, at * CHUNK);
	} else {
		len = pread(fd, buf, CHUNK, at * CHUNK);
	}
	if (len != (ssize_t)CHUNK) {
		c->error = len < 0 ? errno : EIO;
		return false;
	}
	for (unsigned int i = 0; !write && i < CHUNK / PAGE; i++)
		check(c, buf + i * PAGE, seed, first + i);
	return true;
}

void load_file(struct load *l, const char *path, unsigned int mb, unsigned int pause_ms)
{
	struct load_child *c = child(l);
	__u64 nr = mb * MB / CHUNK, seed = 100, at = 0;
	char *buf;
	int fd;

	if (!c)
		return;
	buf = malloc(CHUNK);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (!buf || fd < 0) {
		c->error = errno;
		_exit(1);
	}
	while (!stopped(l)) {
		if (c->rounds && !file_chunk(fd, c, buf, at, seed + c->rounds - 1, false))
			_exit(1);
		if (!file_chunk(fd, c, buf, at, seed + c->rounds, true))
			_exit(1);
		if (++at == nr) {
			at = 0;
			c->rounds++;
		}
		step_done(c);
		pause_for(pause_ms);
	}
	if (fsync(fd)) {
		c->error = errno;
		_exit(1);
	}
	step_done(c);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	for (__u64 i = 0; i < (c->rounds ? nr : at); i++) {
		if (!file_chunk(fd, c, buf, i, seed + c->rounds - !(i < at), false))
			_exit(1);
		step_done(c);
	}
	close(fd);
	_exit(c->bad != 0);
}

#define ZEROS		"/dev/zram0"

static void load_zeros(struct load *l)
{
	struct load_child *c = child(l);
	__u64 at = 0;
	char *buf;
	int fd;

	if (!c)
		return;
	buf = malloc(CHUNK);
	fd = open(ZEROS, O_RDONLY);
	if (!buf || fd < 0) {
		c->error = errno;
		_exit(1);
	}
	while (!stopped(l)) {
		for (int i = 0; i < 16; i++, at += CHUNK) {
			ssize_t len = pread(fd, buf, CHUNK, at);

			if (len < 0) {
				c->error = errno;
				_exit(1);
			}
			if (len < (ssize_t)CHUNK) {
				at = 0;
				c->rounds++;
			}
		}
		step_done(c);
		pause_for(2);
	}
	_exit(0);
}

bool load_press(struct load *l, int ms)
{
	const struct load_child *c = &l->child[l->nr - 1];
	long long end = now_ms() + ms, scanned;

	while (!__atomic_load_n(&c->rounds, __ATOMIC_RELAXED)) {
		if (__atomic_load_n(&c->error, __ATOMIC_RELAXED) || now_ms() > end)
			return false;
		usleep(20000);
	}
	scanned = vm_events("pgscan_kswapd");
	load_zeros(l);
	while (vm_events("pgscan_kswapd") == scanned) {
		if (now_ms() > end)
			return false;
		usleep(20000);
	}
	return true;
}

bool load_end(struct load *l, int ms)
{
	long long end = now_ms() + ms;
	bool fine = true;
	int status;

	__atomic_store_n(&l->stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i < l->nr; i++) {
		struct load_child *c = &l->child[i];
		bool killed = false;
		pid_t pid;

		while (!(pid = waitpid(c->pid, &status, WNOHANG))) {
			if (now_ms() > end && !killed) {
				kill(c->pid, SIGKILL);
				killed = true;
			}
			if (now_ms() > end + 10000)
				break;
			usleep(10000);
		}
		if (pid != c->pid || !WIFEXITED(status))
			fine = false;
	}
	return fine;
}

struct load_child load_sum(const struct load *l)
{
	struct load_child sum = { };

	for (int i = 0; i < l->nr; i++) {
		const struct load_child *c = &l->child[i];

		sum.rounds += c->rounds;
		sum.steps += c->steps;
		sum.checked += c->checked;
		sum.bad += c->bad;
		if (c->error)
			sum.error = c->error;
		if (c->worst_ms > sum.worst_ms)
			sum.worst_ms = c->worst_ms;
	}
	return sum;
}

long long load_stalled_ms(const struct load *l)
{
	long long now = now_ms(), worst = 0;

	for (int i = 0; i < l->nr; i++) {
		long long ms = now - __atomic_load_n(&l->child[i].last_ms, __ATOMIC_RELAXED);

		if (ms > worst)
			worst = ms;
	}
	return worst;
}

static int insert_module(const char *dir, const char *subdir, const char *name,
			 const char *params)
{
	char path[PATH_MAX];
	int fd, err = 0;

	if (snprintf(path, sizeof(path), "%s/%s%s.ko", dir, subdir, name) >= (int)sizeof(path))
		return -ENOENT;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (syscall(SYS_finit_module, fd, params, 0))
		err = -errno;
	close(fd);
	return err;
}

const char *load_module(const char *name, const char *params, bool *absent)
{
	static char text[200];
	char self[PATH_MAX];
	ssize_t len;
	char *dir;
	int err;

	*absent = true;
	len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (len < 0)
		return "no /proc/self/exe: mount /proc";
	self[len] = '\0';
	dir = dirname(self);
	err = insert_module(dir, "test_modules/", name, params);
	if (err == -ENOENT)
		err = insert_module(dir, "", name, params);
	if (!err)
		return NULL;
	*absent = err == -ENOENT;
	snprintf(text, sizeof(text), "%s.ko: %s", name, strerror(-err));
	return text;
}

int unload_module(const char *name, int ms)
{
	long long end = now_ms() + ms;
	int err;

	while ((err = syscall(SYS_delete_module, name, O_NONBLOCK)) && errno == EWOULDBLOCK &&
	       now_ms() < end)
		usleep(50000);
	return err;
}

const char *make_ext4(const char *device, bool *journal)
{
	const char *const ext4[] = { "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-E",
				     "lazy_itable_init=0,nodiscard", device, NULL };
	const char *const ext2[] = { "mke2fs", "-F", device, NULL };

	*journal = true;
	if (!run(ext4, 60000))
		return NULL;
	*journal = false;
	return run(ext2, 60000) ? "no mke2fs that works" : NULL;
}

static bool write_zeros(int fd, unsigned int mb)
{
	char *buf = calloc(1, CHUNK);
	bool fine = buf;

	for (__u64 at = 0; fine && at < mb * MB; at += CHUNK)
		fine = pwrite(fd, buf, CHUNK, at) == (ssize_t)CHUNK;
	free(buf);
	return fine;
}

const char *start_swap(const char *path, unsigned int mb)
{
	static char text[200];
	struct { __u32 version, last, bad; } info = { .version = 1 };
	struct stat st;
	off_t size;
	int fd;

	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || fstat(fd, &st))
		goto failed;
	if (!S_ISBLK(st.st_mode) && (!write_zeros(fd, mb) || fsync(fd)))
		goto failed;
	size = lseek(fd, 0, SEEK_END);
	info.last = size / PAGE - 1;
	if (pwrite(fd, &info, sizeof(info), 1024) != sizeof(info) ||
	    pwrite(fd, "SWAPSPACE2", 10, PAGE - 10) != 10 || fsync(fd))
		goto failed;
	close(fd);
	fd = -1;
	if (!swapon(path, 0))
		return NULL;
failed:
	snprintf(text, sizeof(text), "swap on %.100s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return text;
}

const char *zram_zeros(void)
{
	char size[32];

	snprintf(size, sizeof(size), "%ldM", 4 * meminfo_mb("MemTotal:"));
	if (access("/sys/block/zram0/disksize", W_OK))
		return "no " ZEROS " to read zeros from (CONFIG_ZRAM)";
	if (read_number("/sys/block/zram0/disksize") > 0)
		return ZEROS " is in use";
	return write_text(size, "/sys/block/zram0/disksize") ? ZEROS " takes no size" : NULL;
}

void zram_reset(void)
{
	write_text("1", "/sys/block/zram0/reset");
}
