// SPDX-License-Identifier: GPL-2.0
/*
 * nolock where it is needed: on top of an allocator that holds its locks, where there
 * is no memory, in a memory cgroup at its limit; and that nothing gets lost.
 *
 * "Red if" says, for each test, what to break in the kernel to see it fail.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test_modules/test_memalloc_nolock.h"
#include "tms_figure.h"
#include "tms_harness.h"

#define SHOTS		400
#define MAX_MS		4000
#define OBJECTS		34000
#define SLACK_KB	(6 << 10)	/* of what the guest has besides */

static const char *const entry_name[TMS_NL_ENTRIES] = {
	[TMS_NL_PAGE]		= "page",
	[TMS_NL_ORDER3]		= "order 3",
	[TMS_NL_PAGES]		= "pages in bulk",
	[TMS_NL_FOLIO]		= "folio of 2 pages",
	[TMS_NL_KMALLOC]	= "kmalloc(64)",
	[TMS_NL_KMALLOC_PAGE]	= "kmalloc(4K)",
	[TMS_NL_KMALLOC_LARGE]	= "kmalloc(16K)",
	[TMS_NL_CACHE]		= "kmem_cache_alloc",
	[TMS_NL_BULK]		= "objects in bulk",
	[TMS_NL_DEBUG]		= "debugged cache",
};

static unsigned long long sum(const __u64 *n, int from, int to)
{
	unsigned long long all = 0;

	while (from < to)
		all += n[from++];
	return all;
}

static unsigned long long refused(const struct tms_nolock *n, int from, int to)
{
	return sum(n->tries, from, to) - sum(n->got, from, to);
}

/* The share of successes of each entry, and what they were on top of */
static void report_hits(const char *what, const struct tms_nolock *n)
{
	char line[512] = "";
	size_t len = 0;

	report("%s: %llu hits, %llu as NMI, %llu on top of the allocator", what,
	       (unsigned long long)n->hits, (unsigned long long)n->nmi,
	       (unsigned long long)n->inside);
	report("  locked below: lists of pages %llu, zones %llu",
	       (unsigned long long)n->pcp, (unsigned long long)n->zone);
	for (int i = 0; i < TMS_NL_ENTRIES; i++)
		len += snprintf(line + len, sizeof(line) - len, "%s %s %.0f%%", i ? "," : "",
				entry_name[i], n->tries[i] ? 100.0 * n->got[i] / n->tries[i] : 0);
	report("  obtained:%s", line);
	report("  freed: %llu of its own, %llu of the task; %llu by the task",
	       (unsigned long long)n->freed, (unsigned long long)n->handed,
	       (unsigned long long)n->left);
	len = 0;
	for (int i = 0; i < TMS_PLACES; i++) {
		if (n->place[i].hits)
			len += snprintf(line + len, sizeof(line) - len, "%s %s %u",
					len ? "," : "", n->place[i].name, n->place[i].hits);
	}
	if (len)
		report("  interrupted:%s", line);
}

/* What the kernel says from now on */
static int open_kmsg(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0)
		lseek(fd, 0, SEEK_END);
	return fd;
}

/* Nothing about the caches and requests of the test, of which there is only bad to say */
static bool silent(int kmsg)
{
	static const char *const keys[] = { "tms_", "memalloc_scope_", "BUG", "WARNING" };
	char line[TMS_MESSAGE];

	while (find_message(kmsg, "", "", line)) {
		for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
			if (strstr(line, keys[i])) {
				printf("# kernel: %s\n", line);
				return false;
			}
		}
	}
	return true;
}

FIXTURE(nolock) {
	int fd;
	int kmsg;
};

FIXTURE_SETUP(nolock)
{
	self->fd = open_device(_metadata);
	self->kmsg = open_kmsg();
	if (self->kmsg < 0)
		SKIP(return, "no /dev/kmsg");
}

FIXTURE_TEARDOWN(nolock)
{
	close(self->kmsg);
	close(self->fd);
}

static int hit(int fd, struct tms_nolock *n, __u32 load, __u32 hook, const char *symbol)
{
	*n = (struct tms_nolock){
		.load = load,
		.hook = hook,
		.shots = SHOTS,
		.max_ms = MAX_MS,
	};
	if (symbol)
		snprintf(n->symbol, sizeof(n->symbol), "%s", symbol);
	return ioctl(fd, TMS_IOC_NOLOCK, n);
}

/* What holds wherever it hit */
static bool sound(const struct tms_nolock *n)
{
	bool irq_on_rt = n->rt && (n->nmi || n->hook == TMS_HOOK_TIMER);

	if (n->broken || n->leaks)
		printf("# %llu objects not as they were left, scopes not put back %llu times\n",
		       (unsigned long long)n->broken, (unsigned long long)n->leaks);
	if (irq_on_rt && sum(n->got, 0, TMS_NL_ENTRIES))
		printf("# something obtained in an interrupt of PREEMPT_RT\n");
	return !n->broken && !n->leaks && (!irq_on_rt || !sum(n->got, 0, TMS_NL_ENTRIES));
}

/*
 * A hard interrupt on top of the page allocator
 *
 * Red if: pcp_spin_trylock() in __rmqueue_pcplist()'s caller or in free_frozen_pages()
 * is made to spin (hangs), or __memalloc_irq_scope() returns none (sleeps).
 */
TEST_F_TIMEOUT(nolock, timer_page, 60)
{
	struct tms_nolock n;

	ASSERT_EQ(0, hit(self->fd, &n, TMS_LOAD_PAGE, TMS_HOOK_TIMER, NULL));
	report_hits("hard interrupt, pages", &n);
	EXPECT_TRUE(sound(&n));
	EXPECT_LT(0, n.inside);
	EXPECT_LE(n.hits / 8, n.inside);
	EXPECT_LT(0, n.handed);
	EXPECT_TRUE(silent(self->kmsg));
	if (n.rt)
		return;
	EXPECT_LT(0, n.pcp)
		TH_LOG("no list of pages was locked: nothing had to be done without");
	EXPECT_LT(n.tries[TMS_NL_PAGE] / 2, n.got[TMS_NL_PAGE]);
	EXPECT_LT(n.tries[TMS_NL_ORDER3] / 2, n.got[TMS_NL_ORDER3]);
	EXPECT_LT(n.tries[TMS_NL_PAGES] / 2, n.got[TMS_NL_PAGES]);
}

/*
 * A hard interrupt on top of slub
 *
 * Red if: __slab_free() in mm/slub.c does not defer inside nolock, or local_trylock()
 * in kmem_cache_free()'s path becomes local_lock() (lockdep, or it hangs).
 */
TEST_F_TIMEOUT(nolock, timer_slab, 60)
{
	struct tms_nolock n;

	ASSERT_EQ(0, hit(self->fd, &n, TMS_LOAD_SLAB, TMS_HOOK_TIMER, NULL));
	report_hits("hard interrupt, slub", &n);
	EXPECT_TRUE(sound(&n));
	EXPECT_LT(0, n.inside);
	EXPECT_LE(n.hits / 8, n.inside);
	EXPECT_LT(0, n.handed);
	EXPECT_TRUE(silent(self->kmsg));
	if (n.rt || !n.slab)
		return;
	EXPECT_LT(n.tries[TMS_NL_KMALLOC] / 2, n.got[TMS_NL_KMALLOC]);
	EXPECT_LT(n.tries[TMS_NL_CACHE] / 2, n.got[TMS_NL_CACHE]);
	EXPECT_LT(n.tries[TMS_NL_BULK] / 4, n.got[TMS_NL_BULK]);
	EXPECT_LT(n.tries[TMS_NL_DEBUG] / 4, n.got[TMS_NL_DEBUG]);
}

/*
 * In the task itself, with a zone locked by the caller: what a program attached to
 * these tracepoints would do
 *
 * Red if: rmqueue_bulk() or rmqueue_buddy() in mm/page_alloc.c locks zone->lock inside
 * nolock, or free_one_page() does, or __free_frozen_pages() frees the list (hangs).
 */
TEST_F_TIMEOUT(nolock, zone, 60)
{
	static const char *const events[] = { "mm_page_alloc_zone_locked", "mm_page_pcpu_drain" };
	struct tms_nolock n;

	for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
		ASSERT_EQ(0, hit(self->fd, &n, TMS_LOAD_PAGE, TMS_HOOK_TRACE, events[i]));
		report_hits(events[i], &n);
		EXPECT_TRUE(sound(&n));
		EXPECT_LT(0, n.hits);
		EXPECT_LE(n.hits, n.zone);
		EXPECT_LT(0, n.handed);
		EXPECT_LT(0, refused(&n, TMS_NL_PAGE, TMS_NL_KMALLOC))
			TH_LOG("all obtained, though a zone was locked");
	}
	EXPECT_TRUE(silent(self->kmsg));
}

struct place {
	__u32 load;
	__u32 hook;
	const char *symbol;
};

static const struct place page_places[] = {
	{ TMS_LOAD_PAGE, TMS_HOOK_KPROBE, "free_pcppages_bulk" },	/* the CPU's list */
	{ TMS_LOAD_PAGE, TMS_HOOK_KPROBE, "__free_one_page" },		/* the zone */
	{ TMS_LOAD_PAGE, TMS_HOOK_KPROBE, "expand" },			/* the zone */
};

static const struct place slab_places[] = {
	/* which slub has for this, where it holds the list or the sheaves */
	{ TMS_LOAD_SLAB, TMS_HOOK_KPROBE, "slab_attach_kprobe_locked" },
	{ TMS_LOAD_DEBUG, TMS_HOOK_KPROBE, "slab_attach_kprobe_locked" },
	/* called with the list locked, or for a slab that is not in it yet */
	{ TMS_LOAD_DEBUG, TMS_HOOK_JUMP, "alloc_debug_processing" },
};

/* Some of the functions may be inlined, or not be there, but not all of them. */
static void hit_places(struct __test_metadata *_metadata, int fd, const struct place *places,
		       int nr, int from, int to)
{
	unsigned long long none = 0;
	int found = 0;
	struct tms_nolock n;

	for (int i = 0; i < nr; i++) {
		int err = hit(fd, &n, places[i].load, places[i].hook, places[i].symbol);

		if (err && errno == EOPNOTSUPP)
			SKIP(return, "needs CONFIG_KPROBES");
		if (err) {
			printf("# no probe on %s: %s\n", places[i].symbol, strerror(errno));
			continue;
		}
		report_hits(places[i].symbol, &n);
		EXPECT_TRUE(sound(&n));
		if (places[i].hook == TMS_HOOK_KPROBE)
			EXPECT_EQ(n.hits, n.nmi);
		found += !!n.hits;
		none += refused(&n, from, to);
	}
	EXPECT_LT(0, found);
	EXPECT_LT(0, none)
		TH_LOG("all obtained: what was probed holds no lock");
}

/*
 * An NMI, as far as the kernel can tell, with locks of the page allocator held below
 *
 * Red if: as in nolock.zone, or rmqueue_pcplist() spins for the CPU's list (hangs).
 */
TEST_F_TIMEOUT(nolock, kprobe_page, 60)
{
	hit_places(_metadata, self->fd, page_places, ARRAY_SIZE(page_places),
		   TMS_NL_PAGE, TMS_NL_KMALLOC);
	EXPECT_TRUE(silent(self->kmsg));
}

/*
 * The same with locks of slub held
 *
 * Red if: get_from_partial_node(), alloc_single_from_new_slab() or barn_*() in mm/slub.c
 * lock inside nolock (hangs).
 */
TEST_F_TIMEOUT(nolock, kprobe_slab, 60)
{
	hit_places(_metadata, self->fd, slab_places, ARRAY_SIZE(slab_places),
		   TMS_NL_KMALLOC, TMS_NL_ENTRIES);
	EXPECT_TRUE(silent(self->kmsg));
}

/*
 * No memory but the reserves: no for an answer, and nothing else
 *
 * Red if: __alloc_frozen_pages_noprof() in mm/page_alloc.c does not ask for nolock, or
 * goes on to the slow path (reclaims, sleeps), or gives it ALLOC_NO_WATERMARKS.
 */
TEST_F_TIMEOUT(nolock, exhausted, 60)
{
	struct tms_exhaust e;

	/* Somebody else may run out of memory. */
	for (int i = 0; i < 5; i++) {
		e = (struct tms_exhaust){ .tries = 64, .max_ms = 20000, .max_mb = 1024 };
		ASSERT_EQ(0, ioctl(self->fd, TMS_IOC_EXHAUST, &e));
		if (!e.is_short && !e.oom)
			SKIP(return, "memory could not be made short: needs less than %u MB",
			     e.max_mb);
		if (!e.oom)
			break;
	}
	report("no memory: %llu requests refused in %u rounds, the slowest after %llu ns",
	       (unsigned long long)e.refused, e.rounds, (unsigned long long)e.max_ns);
	report("  free pages %llu, min %llu", (unsigned long long)e.min_free,
	       (unsigned long long)e.min_wmark);
	EXPECT_FALSE(e.oom);
	EXPECT_LT(e.min_free, e.min_wmark);
	EXPECT_LT(0, e.refused);
	EXPECT_EQ(0, e.got);
	EXPECT_EQ(0, e.taken);
	EXPECT_EQ(0, e.reclaims);
	EXPECT_EQ(0, e.wakeups);
	EXPECT_LT(0, e.control)
		TH_LOG("no reclaim without the scope either");
	EXPECT_TRUE(silent(self->kmsg));
}

/* A memory cgroup that no task is in: what is charged to it is the test's alone. */
FIXTURE(group) {
	int fd;
	int kmsg;
	int cgroup;
	bool mounted;
	char root[64];
	char dir[80];
};

static bool write_group(const char *dir, const char *name, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return write_text(path, text);
}

static unsigned long long read_group(const char *dir, const char *name)
{
	char path[128], text[32];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return read_text(path, text, sizeof(text)) ? strtoull(text, NULL, 10) : ~0ULL;
}

/* In kB, without the lists of pages that CPUs keep, which come and go */
static long free_memory(void)
{
	char line[128];
	long kb = 0;
	FILE *f;

	f = fopen("/proc/meminfo", "r");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "MemFree: %ld", &kb) == 1)
			break;
	}
	if (f)
		fclose(f);
	return kb;
}

FIXTURE_SETUP(group)
{
	self->cgroup = -1;
	self->fd = open_device(_metadata);
	self->kmsg = open_kmsg();
	if (self->kmsg < 0)
		SKIP(return, "no /dev/kmsg");
	if (self->fd < 0)
		return;
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
	if (!write_group(self->root, "cgroup.subtree_control", "+memory"))
		SKIP(return, "no memory controller");
	snprintf(self->dir, sizeof(self->dir), "%s/memalloc_nolock", self->root);
	if (mkdir(self->dir, 0755))
		ASSERT_EQ(EEXIST, errno);
	self->cgroup = open(self->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_LE(0, self->cgroup);
}

FIXTURE_TEARDOWN(group)
{
	if (self->cgroup >= 0)
		close(self->cgroup);
	if (self->dir[0])
		rmdir(self->dir);
	if (self->mounted) {
		umount2(self->root, MNT_DETACH);
		rmdir(self->root);
	}
	close(self->kmsg);
	close(self->fd);
}

/*
 * What CPUs have charged in advance is handed in when memory.high is exceeded, but for
 * parts of pages, which the next one to charge gets.
 */
static unsigned long long charged(int fd, int cgroup, const char *dir)
{
	struct tms_account nudge = { .cgroup = cgroup };
	unsigned long long left = 0;

	for (int i = 0; i < 50; i++) {
		write_group(dir, "memory.high", "0");
		left = read_group(dir, "memory.current");
		if (!left)
			break;
		usleep(20000);
		write_group(dir, "memory.high", "max");
		if (ioctl(fd, TMS_IOC_ACCOUNT, &nudge))
			break;
	}
	write_group(dir, "memory.high", "max");
	return left;
}

static void account(struct __test_metadata *_metadata, int fd, int cgroup, const char *dir,
		    __u32 where, const char *name)
{
	struct tms_account a = {
		.where = where,
		.cgroup = cgroup,
		.objects = OBJECTS,
		.max_ms = 2 * MAX_MS,
	};
	unsigned long long peak;
	long before, after = 0;

	ASSERT_EQ(0, charged(fd, cgroup, dir));
	before = free_memory();
	ASSERT_EQ(0, ioctl(fd, TMS_IOC_ACCOUNT, &a));
	peak = read_group(dir, "memory.peak");
	report("freed in %s: %llu objects, %llu of them from a scope, %llu by kmalloc()",
	       name, (unsigned long long)a.obtained, (unsigned long long)a.in_scope,
	       (unsigned long long)a.kmalloced);
	report("  %llu blocks of pages; peak %llu kB", (unsigned long long)a.pages, peak >> 10);
	EXPECT_EQ(0, a.broken);
	EXPECT_LT(1000, a.obtained);
	EXPECT_LT(100, a.in_scope);
	EXPECT_LT(64 << 10, peak);
	EXPECT_EQ(0, charged(fd, cgroup, dir))
		TH_LOG("something is charged, or was never uncharged");
	for (int i = 0; i < 50; i++) {
		after = free_memory();
		if (after >= before - SLACK_KB)
			break;
		usleep(20000);
	}
	EXPECT_LE(before - SLACK_KB, after);
}

/*
 * All that is freed in a scope is freed, to the last object
 *
 * Red if: deferred_percpu_work_fn() in mm/slub.c forgets one of its lists, or
 * defer_free_list() an object.
 */
TEST_F_TIMEOUT(group, freed_under_raw_lock, 60)
{
	account(_metadata, self->fd, self->cgroup, self->dir, TMS_FREE_RAW, "the task");
	EXPECT_TRUE(silent(self->kmsg));
}

/* Red if: as above */
TEST_F_TIMEOUT(group, freed_in_softirq, 60)
{
	account(_metadata, self->fd, self->cgroup, self->dir, TMS_FREE_SOFTIRQ, "softirqs");
	EXPECT_TRUE(silent(self->kmsg));
}

/* Red if: as above */
TEST_F_TIMEOUT(group, freed_in_hardirq, 60)
{
	account(_metadata, self->fd, self->cgroup, self->dir, TMS_FREE_HARDIRQ, "hardirqs");
	EXPECT_TRUE(silent(self->kmsg));
}

/*
 * A memory cgroup at its limit refuses, and does not reclaim
 *
 * Red if: try_charge_memcg() in mm/memcontrol.c asks gfpflags_allow_blocking(), or
 * memcg_alloc_abort_single() in mm/slub.c frees in the ordinary way.
 */
TEST_F_TIMEOUT(group, full, 60)
{
	static const char *const names[TMS_CHARGES] = {
		"page", "kmalloc", "object", "objects in bulk", "kmalloc_nolock()",
	};

	for (__u32 outside = 0; outside < 2; outside++) {
		struct tms_full f = {
			.cgroup = self->cgroup,
			.tries = 100,
			.outside = outside,
		};

		ASSERT_TRUE(write_group(self->dir, "memory.max", "4M"));
		ASSERT_EQ(0, ioctl(self->fd, TMS_IOC_FULL, &f));
		report("full cgroup%s: reclaim in the scope %llu, without %llu",
		       outside ? ", kmalloc_nolock() without a scope" : "",
		       (unsigned long long)f.reclaims, (unsigned long long)f.control);
		for (int i = 0; i < TMS_CHARGES; i++) {
			if (outside && i != TMS_CHARGE_NOLOCK)
				continue;
			EXPECT_EQ(0, f.got[i])
				TH_LOG("%s: charged beyond the limit", names[i]);
			EXPECT_LT(0, f.refused[i]);
		}
		EXPECT_EQ(0, f.reclaims);
		EXPECT_EQ(0, f.lockdep)
			TH_LOG("lockdep has complained");
		if (f.lockdep_off)
			printf("# lockdep is off: what it has to say is not tested\n");
		EXPECT_LT(0, f.control)
			TH_LOG("no reclaim without the scope either");
		EXPECT_EQ(0, charged(self->fd, self->cgroup, self->dir));
	}
	EXPECT_TRUE(silent(self->kmsg));
}

TEST_HARNESS_MAIN
