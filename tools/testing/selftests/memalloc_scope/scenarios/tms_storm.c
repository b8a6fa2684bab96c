// SPDX-License-Identifier: GPL-2.0
/*
 * Processes that create, rename, link, rewrite, mark and remove many small files
 * while memory is short, so that reclaim happens inside transactions; and look at
 * them all the time, so that it finds inodes and dentries of that file system.
 *
 * Each worker has directories of its own, and writes down what it did there.
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "tms_fs.h"

#define XATTR		"user.tms"
#define DATA_MAX	3000
#define XATTR_MAX	1200
#define NAME_MAX_LEN	96

/* A batch of new names in one directory, for what logs a whole directory */
#define BATCH		32

/* Of each of two files whose extents are exchanged */
#define SWAPPED_KB	128

/* A file of holes costs no I/O, and its pages are easily reclaimed and filled in again. */
#define FILLER_KB	16384
#define FILL_KB		32

/* Longer than that after its time, a storm hangs. */
#define PATIENCE_S	30

/* What e4defrag uses; user space has no header for it. */
struct move_extent {
	__u32 reserved;
	__u32 donor_fd;
	__u64 orig_start;
	__u64 donor_start;
	__u64 len;
	__u64 moved_len;
};

#define MOVE_EXT	_IOWR('f', 15, struct move_extent)

const char *const tms_op_name[TMS_OPS] = {
	[TMS_OP_CREATE]		= "create",
	[TMS_OP_UNLINK]		= "unlink",
	[TMS_OP_RENAME]		= "rename",
	[TMS_OP_LINK]		= "link",
	[TMS_OP_REWRITE]	= "rewrite",
	[TMS_OP_XATTR]		= "xattr",
	[TMS_OP_DIR]		= "dir",
	[TMS_OP_FSYNC]		= "fsync",
	[TMS_OP_SPECIAL]	= "special",
	[TMS_OP_LOOK]		= "look",
};

struct context {
	struct tms_storm *s;
	struct tms_worker *w;
	unsigned int nr;
	int filler;
	unsigned int filled_kb;
	char data[DATA_MAX];
	char seen[DATA_MAX];
};

static bool stopped(const struct tms_storm *s)
{
	return __atomic_load_n(&s->stop, __ATOMIC_RELAXED);
}

static void stop(struct tms_storm *s, bool value)
{
	__atomic_store_n(&s->stop, value, __ATOMIC_RELAXED);
}

static __u32 step(__u64 *state)
{
	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return *state >> 33;
}

/* Data that its seed tells, the length included */
static size_t fill(char *data, __u32 seed, size_t max)
{
	__u64 state = seed;
	size_t len = 1 + step(&state) % (max - 1);

	for (size_t i = 0; i < len; i++) {
		if (i % 4 == 0)
			step(&state);
		data[i] = state >> (33 + i % 4 * 7);
	}
	return len;
}

static void dir_path(const struct context *c, char *path, unsigned int dir)
{
	snprintf(path, NAME_MAX_LEN, "%s/w%u/d%u", c->s->dir, c->nr, dir);
}

static void file_path(const struct context *c, char *path, unsigned int dir, unsigned int i,
		      bool second)
{
	snprintf(path, NAME_MAX_LEN, "%s/w%u/d%u/%s%u", c->s->dir, c->nr, dir,
		 second ? "second-name-" : "f", i);
}

static int fail(struct context *c, const char *what, unsigned int i)
{
	if (errno == ENOMEM) {
		c->w->enomem++;
		return 1;
	}
	if (!c->w->error[0])
		snprintf(c->w->error, sizeof(c->w->error), "worker %u: %s of file %u: %s", c->nr,
			 what, i, strerror(errno));
	return -1;
}

/*
 * Fills the memory that the group may have with clean pages, so that whatever is
 * allocated next has to reclaim.
 */
static int press(struct context *c, unsigned int kb)
{
	static char buf[FILL_KB * 1024];

	for (; kb >= FILL_KB; kb -= FILL_KB) {
		if (pread(c->filler, buf, sizeof(buf), c->filled_kb * 1024) < 0)
			return fail(c, "reading holes", 0);
		c->filled_kb = (c->filled_kb + FILL_KB) % FILLER_KB;
	}
	return 0;
}

/*
 * Every reclaim makes room for many allocations. This takes it away again: the next
 * page that is charged has to be reclaimed first.
 */
static void squeeze(struct context *c)
{
	unsigned long kb = tms_short_kb();

	if (!kb)
		return;
	if (kb < c->s->limit_kb) {
		tms_short_limit(2 * c->s->limit_kb);
		press(c, c->s->limit_kb - kb + 2 * FILL_KB);
		kb = tms_short_kb();
	}
	tms_short_limit(kb);
}

static int write_file(struct context *c, int fd, __u32 seed)
{
	size_t len = fill(c->data, seed, DATA_MAX);
	ssize_t done = write(fd, c->data, len);

	if (done >= 0 && (size_t)done < len)
		errno = ENOSPC;
	return done == (ssize_t)len ? 0 : -1;
}

/* Whatever happened to it, this file is no more. */
static void forget(struct context *c, unsigned int i)
{
	struct tms_file *f = &c->w->files[i];
	char path[NAME_MAX_LEN];

	file_path(c, path, f->dir, i, false);
	unlink(path);
	file_path(c, path, f->dir, i, true);
	unlink(path);
	memset(f, 0, sizeof(*f));
}

static int op_create(struct context *c, unsigned int i)
{
	struct tms_file *f = &c->w->files[i];
	char path[NAME_MAX_LEN];
	int fd, ret = 0;

	f->dir = step(&c->w->random) % TMS_STORM_DIRS;
	file_path(c, path, f->dir, i, false);
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
	if (fd < 0)
		return fail(c, "creation", i);
	f->content = ++c->w->next;
	if (write_file(c, fd, f->content)) {
		ret = fail(c, "writing", i);
		forget(c, i);
	}
	close(fd);
	return ret;
}

static int op_rewrite(struct context *c, unsigned int i)
{
	struct tms_file *f = &c->w->files[i];
	char path[NAME_MAX_LEN];
	int fd, ret = 0;

	file_path(c, path, f->dir, i, false);
	fd = open(path, O_WRONLY | O_TRUNC);
	if (fd < 0)
		return fail(c, "opening", i);
	f->content = ++c->w->next;
	if (write_file(c, fd, f->content)) {
		ret = fail(c, "writing", i);
		forget(c, i);
	}
	close(fd);
	return ret;
}

static int op_unlink(struct context *c, unsigned int i)
{
	struct tms_file *f = &c->w->files[i];
	char path[NAME_MAX_LEN];

	if (f->linked) {
		file_path(c, path, f->dir, i, true);
		if (unlink(path))
			return fail(c, "removal of the second name", i);
		f->linked = false;
	}
	file_path(c, path, f->dir, i, false);
	if (unlink(path))
		return fail(c, "removal", i);
	memset(f, 0, sizeof(*f));
	return 0;
}

static int op_rename(struct context *c, unsigned int i)
{
	struct tms_file *f = &c->w->files[i];
	unsigned int dir = step(&c->w->random) % TMS_STORM_DIRS;
	char from[NAME_MAX_LEN], to[NAME_MAX_LEN];

	/* Both names are in one directory. */
	if (f->linked)
		return 0;
	file_path(c, from, f->dir, i, false);
	file_path(c, to, dir, i, false);
	if (rename(from, to))
		return fail(c, "renaming", i);
	f->dir = dir;
	return 0;
}

static int op_link(struct context *c, unsigned int i)
{
	struct tms_file *f = &c->w->files[i];
	char from[NAME_MAX_LEN], to[NAME_MAX_LEN];

	if (f->linked)
		return 0;
	file_path(c, from, f->dir, i, false);
	file_path(c, to, f->dir, i, true);
	if (link(from, to))
		return fail(c, "linking", i);
	f->linked = true;
	return 0;
}

static int op_xattr(struct context *c, unsigned int i)
{
	struct tms_file *f = &c->w->files[i];
	char path[NAME_MAX_LEN];
	__u32 seed = ++c->w->next;
	size_t len = fill(c->data, seed, XATTR_MAX);

	file_path(c, path, f->dir, i, false);
	if (setxattr(path, XATTR, c->data, len, 0))
		return fail(c, "setting an attribute", i);
	f->xattr = seed;
	return 0;
}

/* A directory with a symlink comes and goes. */
static int op_dir(struct context *c, unsigned int i)
{
	char path[NAME_MAX_LEN], name[NAME_MAX_LEN + 8];
	int ret = 0;

	snprintf(path, sizeof(path), "%s/w%u/t%u", c->s->dir, c->nr, i);
	if (mkdir(path, 0700))
		return fail(c, "mkdir", i);
	snprintf(name, sizeof(name), "%s/link", path);
	if (symlink(path, name))
		ret = fail(c, "symlink", i);
	if (unlink(name) && errno != ENOENT)
		ret = fail(c, "removal of a symlink", i);
	if (rmdir(path))
		ret = fail(c, "rmdir", i);
	return ret;
}

static int op_fsync(struct context *c, unsigned int i)
{
	struct tms_file *f = &c->w->files[i];
	char path[NAME_MAX_LEN];
	int fd, ret = 0;

	if (i % 2)
		file_path(c, path, f->dir, i, false);
	else
		dir_path(c, path, f->dir);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return fail(c, "opening", i);
	if (fsync(fd))
		ret = fail(c, "fsync", i);
	close(fd);
	return ret;
}

/* Reclaim needs inodes and dentries that nobody uses. */
static int op_look(struct context *c, unsigned int i)
{
	char path[NAME_MAX_LEN];
	struct dirent *entry;
	struct stat st;
	DIR *d;

	dir_path(c, path, i % TMS_STORM_DIRS);
	d = opendir(path);
	if (!d)
		return fail(c, "opening a directory", i);
	while ((entry = readdir(d)))
		fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW);
	closedir(d);
	return 0;
}

/* Open, of SWAPPED_KB, on disk and not in memory; -1 if that fails */
static int make_swapped(const char *path, char byte)
{
	char page[4096];
	int fd = open(path, O_CREAT | O_RDWR | O_TRUNC, 0600);
	int err = fd < 0;

	memset(page, byte, sizeof(page));
	for (int kb = 0; !err && kb < SWAPPED_KB; kb += 4)
		err = write(fd, page, sizeof(page)) != sizeof(page);
	if (!err)
		err = fsync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	if (err && fd >= 0)
		close(fd);
	return err ? -1 : fd;
}

/*
 * ext4 passes GFP_NOFS nearly everywhere. But while the extents of two files are
 * exchanged, both get pages of the page cache from within the transaction, and then
 * it is the scope alone that restricts the request.
 */
static int special_ext4(struct context *c, unsigned int i)
{
	char from[NAME_MAX_LEN], to[NAME_MAX_LEN], page[4096];
	struct move_extent m = { .len = SWAPPED_KB / 4 };
	int orig, donor = -1, ret = 0;

	snprintf(from, sizeof(from), "%s/w%u/orig", c->s->dir, c->nr);
	snprintf(to, sizeof(to), "%s/w%u/donor", c->s->dir, c->nr);
	orig = make_swapped(from, 'o');
	if (orig >= 0)
		donor = make_swapped(to, 'd');
	if (donor < 0) {
		ret = fail(c, "making files to be exchanged", i);
		goto out;
	}
	squeeze(c);
	m.donor_fd = donor;
	if (ioctl(orig, MOVE_EXT, &m) && errno != EBUSY) {
		ret = fail(c, "moving extents", i);
		goto out;
	}
	/* The data stays where it was, whatever blocks it is in. */
	for (int kb = 0; kb < SWAPPED_KB; kb += 4) {
		if (pread(orig, page, sizeof(page), kb * 1024) == sizeof(page) &&
		    page[0] == 'o' && !memcmp(page, page + 1, sizeof(page) - 1))
			continue;
		errno = EIO;
		ret = fail(c, "reading after moving extents", i);
		break;
	}
out:
	if (orig >= 0)
		close(orig);
	if (donor >= 0)
		close(donor);
	return ret;
}

/*
 * A directory full of new files, and nothing else: xfs gets the inode of a new file
 * from within the transaction.
 *
 * btrfs does not, and passes GFP_NOFS nearly everywhere. But when a new directory is
 * synced, the inodes of all that is new in it have to be in memory, and the scope
 * alone restricts how they get there. So have them thrown out before; all but the
 * directory's own, as btrfs would then rather commit than log.
 */
static int special_batch(struct context *c, unsigned int i, bool sync)
{
	char path[NAME_MAX_LEN], name[NAME_MAX_LEN + 16];
	int dir, ret = 0;

	snprintf(path, sizeof(path), "%s/w%u/b", c->s->dir, c->nr);
	if (mkdir(path, 0700))
		return fail(c, "mkdir", i);
	dir = open(path, O_RDONLY);
	if (dir < 0)
		return fail(c, "opening a directory", i);
	for (int n = 0; !ret && n < BATCH; n++) {
		int fd;

		snprintf(name, sizeof(name), "%d", n);
		if (!sync)
			squeeze(c);
		fd = openat(dir, name, O_CREAT | O_WRONLY, 0600);
		if (fd < 0)
			ret = fail(c, "creation", i);
		else
			close(fd);
	}
	/*
	 * Reclaim takes several rounds until it takes an inode. Then look for others,
	 * as there has to be something that it finds during the sync.
	 */
	if (!ret && sync)
		ret = press(c, BATCH * FILL_KB);
	if (!ret && sync)
		ret = op_look(c, i);
	squeeze(c);
	if (!ret && sync && fsync(dir))
		ret = fail(c, "fsync", i);
	for (int n = 0; n < BATCH; n++) {
		snprintf(name, sizeof(name), "%d", n);
		if (unlinkat(dir, name, 0) && errno != ENOENT)
			ret = fail(c, "removal", i);
	}
	close(dir);
	if (rmdir(path))
		ret = fail(c, "rmdir", i);
	return ret;
}

static int op_special(struct context *c, unsigned int i)
{
	if (!strcmp(c->s->type, "ext4"))
		return special_ext4(c, i);
	return special_batch(c, i, !strcmp(c->s->type, "btrfs"));
}

static int one_op(struct context *c)
{
	/* How many of 64 operations on a file that exists, in the order of TMS_OP_* */
	static const unsigned char share[TMS_OP_SPECIAL] = { 0, 20, 8, 6, 8, 12, 4, 6 };
	static int (*const ops[TMS_OPS])(struct context *c, unsigned int i) = {
		op_create, op_unlink, op_rename, op_link, op_rewrite, op_xattr, op_dir,
		op_fsync, op_special, op_look,
	};
	unsigned int i = step(&c->w->random) % TMS_STORM_FILES;
	unsigned int dice = step(&c->w->random) % 64;
	int op = TMS_OP_CREATE;

	if (step(&c->w->random) % 8 == 0) {
		op = dice % 4 ? TMS_OP_SPECIAL : TMS_OP_LOOK;
	} else if (c->w->files[i].content) {
		while (dice >= share[op])
			dice -= share[op++];
	}
	squeeze(c);
	c->w->ops[op]++;
	return ops[op](c, i);
}

static void work(struct tms_storm *s, unsigned int nr)
{
	struct context *c = calloc(1, sizeof(*c));
	char path[NAME_MAX_LEN];
	int ret = 0;

	if (!c || tms_short_enter())
		_exit(2);
	c->s = s;
	c->w = &s->workers[nr];
	c->nr = nr;
	c->w->random = 1 + nr;
	snprintf(path, sizeof(path), "%s/w%u", s->dir, nr);
	if (mkdir(path, 0700) && errno != EEXIST)
		ret = fail(c, "mkdir of", 0);
	for (unsigned int i = 0; !ret && i < TMS_STORM_DIRS; i++) {
		dir_path(c, path, i);
		if (mkdir(path, 0700) && errno != EEXIST)
			ret = fail(c, "mkdir of", i);
	}
	snprintf(path, sizeof(path), "%s/w%u/holes", s->dir, nr);
	c->filler = open(path, O_CREAT | O_RDWR, 0600);
	if (!ret && (c->filler < 0 || ftruncate(c->filler, FILLER_KB * 1024)))
		ret = fail(c, "making a file of holes, instead", 0);
	posix_fadvise(c->filler, 0, 0, POSIX_FADV_RANDOM);
	if (!ret)
		ret = press(c, 2 * s->limit_kb / TMS_STORM_WORKERS);
	while (ret >= 0 && !stopped(s))
		ret = one_op(c);
	_exit(ret < 0);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

struct tms_storm *tms_storm_new(const struct tms_fs *fs)
{
	struct tms_storm *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (s == MAP_FAILED)
		return NULL;
	snprintf(s->dir, sizeof(s->dir), "%.32s/storm%d", fs->dir, getpid());
	s->type = fs->type;
	return s;
}

void tms_storm_free(struct tms_storm *s)
{
	if (s)
		munmap(s, sizeof(*s));
}

int tms_storm_run(struct tms_storm *s, char *why)
{
	pid_t pids[TMS_STORM_WORKERS];
	int nr = 0, left, status, ret = 0;
	double end;

	if (mkdir(s->dir, 0700)) {
		snprintf(why, TMS_FS_WHY, "mkdir %s: %s", s->dir, strerror(errno));
		return -1;
	}
	if (tms_short_begin(2 * s->limit_kb)) {
		snprintf(why, TMS_FS_WHY, "cannot make a memory cgroup: %s", strerror(errno));
		tms_short_end();
		return -1;
	}
	stop(s, false);
	for (; nr < TMS_STORM_WORKERS; nr++) {
		pids[nr] = fork();
		if (pids[nr] < 0) {
			snprintf(why, TMS_FS_WHY, "fork: %s", strerror(errno));
			ret = -1;
			break;
		}
		if (!pids[nr])
			work(s, nr);
	}
	left = nr;
	end = now() + s->seconds;
	while (left && now() < end + PATIENCE_S) {
		/* One that failed must not have the others go on for nothing. */
		if (now() >= end || ret || (s->enough && s->enough(s->enough_arg)))
			stop(s, true);
		for (int i = 0; i < nr; i++) {
			if (pids[i] <= 0 || waitpid(pids[i], &status, WNOHANG) != pids[i])
				continue;
			pids[i] = 0;
			left--;
			if (!status)
				continue;
			snprintf(why, TMS_FS_WHY, "%s", s->workers[i].error[0] ?
				 s->workers[i].error : "a worker was killed, or found no cgroup");
			ret = -1;
		}
		usleep(20000);
	}
	stop(s, true);
	for (int i = 0; left && i < nr; i++) {
		if (pids[i] <= 0)
			continue;
		/* Not waited for: it may be stuck in the kernel. */
		kill(pids[i], SIGKILL);
		snprintf(why, TMS_FS_WHY, "process %d does not end %d s after it was told to",
			 pids[i], PATIENCE_S);
		ret = -1;
	}
	tms_short_end();
	return ret;
}

static int verify_file(struct context *c, unsigned int i)
{
	struct tms_file *f = &c->w->files[i];
	char path[NAME_MAX_LEN];
	struct stat st;
	size_t len;
	ssize_t got;
	int fd;

	errno = EIO;
	file_path(c, path, f->dir, i, false);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return fail(c, "opening", i);
	len = fill(c->data, f->content, DATA_MAX);
	got = read(fd, c->seen, DATA_MAX);
	if (fstat(fd, &st))
		st.st_size = -1;
	close(fd);
	errno = EIO;
	if (got != (ssize_t)len || memcmp(c->data, c->seen, len) || st.st_size != (off_t)len)
		return fail(c, "comparison", i);
	if (st.st_nlink != (f->linked ? 2 : 1))
		return fail(c, "counting the names", i);
	if (!f->xattr)
		return 0;
	len = fill(c->data, f->xattr, XATTR_MAX);
	got = getxattr(path, XATTR, c->seen, XATTR_MAX);
	errno = EIO;
	if (got != (ssize_t)len || memcmp(c->data, c->seen, len))
		return fail(c, "comparison of the attribute", i);
	return 0;
}

/* How many names there are */
static unsigned int count_names(const struct context *c)
{
	char path[NAME_MAX_LEN];
	struct dirent *entry;
	unsigned int names = 0;

	for (unsigned int i = 0; i < TMS_STORM_DIRS; i++) {
		DIR *d;

		dir_path(c, path, i);
		d = opendir(path);
		while (d && (entry = readdir(d)))
			names += entry->d_name[0] != '.';
		if (d)
			closedir(d);
	}
	return names;
}

int tms_storm_verify(struct tms_storm *s, unsigned int *files, char *why)
{
	struct context *c = calloc(1, sizeof(*c));
	int ret = c ? 0 : -1;

	*files = 0;
	for (unsigned int nr = 0; !ret && nr < TMS_STORM_WORKERS; nr++) {
		unsigned int names = 0;

		c->s = s;
		c->w = &s->workers[nr];
		c->nr = nr;
		for (unsigned int i = 0; !ret && i < TMS_STORM_FILES; i++) {
			if (!c->w->files[i].content)
				continue;
			ret = verify_file(c, i);
			names += 1 + c->w->files[i].linked;
			++*files;
		}
		if (!ret && count_names(c) != names) {
			errno = EEXIST;
			ret = fail(c, "counting all names, instead", names);
		}
		snprintf(why, TMS_FS_WHY, "%s", c->w->error);
	}
	free(c);
	return ret;
}

__u64 tms_storm_ops(const struct tms_storm *s)
{
	__u64 sum = 0;

	for (int nr = 0; nr < TMS_STORM_WORKERS; nr++) {
		for (int op = 0; op < TMS_OPS; op++)
			sum += s->workers[nr].ops[op];
	}
	return sum;
}
