// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kselftest.h"
#include "tms.h"

const char *const tms_kind_name[TMS_KINDS] = {
	[TMS_HARDIRQ]	= "hardirq: hrtimer",
	[TMS_IRQ_WORK]	= "hardirq: irq work",
	[TMS_NESTED]	= "hardirq on softirq",
	[TMS_HRTIMER]	= "softirq: hrtimer",
	[TMS_TIMER]	= "softirq: timer",
	[TMS_BH]	= "softirq: BH work",
	[TMS_NET_RX]	= "softirq: net rx",
};

const char *const tms_rule_name[TMS_RULES] = {
	[TMS_RULE_ENTRY]	= "scopes on entry",
	[TMS_RULE_FOLD]		= "current_gfp_context()",
	[TMS_RULE_USED]		= "mask used by the allocator",
	[TMS_RULE_OWN]		= "scopes of its own",
	[TMS_RULE_QUERY]	= "memalloc_*_active()",
};

const char *const tms_request_name[TMS_REQUESTS] = {
	[TMS_REQ_KERNEL]		= "GFP_KERNEL",
	[TMS_REQ_HIGHUSER_MOVABLE]	= "GFP_HIGHUSER_MOVABLE",
	[TMS_REQ_NOFS]			= "GFP_NOFS",
	[TMS_REQ_NOIO]			= "GFP_NOIO",
	[TMS_REQ_ATOMIC]		= "GFP_ATOMIC",
	[TMS_REQ_NOWAIT]		= "GFP_NOWAIT",
	[TMS_REQ_NOFAIL]		= "GFP_KERNEL|__GFP_NOFAIL",
	[TMS_REQ_RETRY_MAYFAIL]		= "GFP_KERNEL|__GFP_RETRY_MAYFAIL",
};

/* Returns 0, or -errno; -ENOENT if there is no such file. */
static int load_module(const char *dir, const char *subdir, const char *module)
{
	char path[PATH_MAX];
	int fd, err = 0;

	if (snprintf(path, sizeof(path), "%s/%s%s.ko", dir, subdir, module) >= (int)sizeof(path))
		return -ENOENT;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST)
		err = -errno;
	close(fd);
	return err;
}

int tms_module_device(const char *module, const char **why, bool *broken)
{
	static const char *const subdirs[] = { "test_modules/", "../test_modules/", "" };
	static char text[TMS_WHY];
	char self[PATH_MAX], path[64];
	int fd, err = -ENOENT;
	const char *dir;
	ssize_t len;

	*broken = false;
	*why = text;
	if (geteuid()) {
		*why = "needs root";
		return -1;
	}
	snprintf(path, sizeof(path), "/dev/%s", module);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		return fd;

	len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (len < 0) {
		*why = "no /proc/self/exe: mount /proc";
		return -1;
	}
	self[len] = '\0';
	dir = dirname(self);
	for (size_t i = 0; i < ARRAY_SIZE(subdirs) && err == -ENOENT; i++)
		err = load_module(dir, subdirs[i], module);
	if (err == -ENOENT) {
		snprintf(text, sizeof(text), "no %s.ko next to the program", module);
		return -1;
	}
	*broken = true;
	if (err) {
		snprintf(text, sizeof(text), "%s.ko does not load: %s", module, strerror(-err));
		return -1;
	}
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		snprintf(text, sizeof(text), "cannot open %s: %s", path, strerror(errno));
	*broken = fd < 0;
	return fd;
}

int tms_device(const char **why, bool *broken)
{
	return tms_module_device("test_memalloc_scope", why, broken);
}

bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return done;
}

bool read_text(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, buf, size - 1);

	if (fd >= 0)
		close(fd);
	buf[len < 0 ? 0 : len] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return len > 0;
}

bool find_message(int kmsg, const char *start, const char *key, char line[TMS_MESSAGE])
{
	char record[TMS_MESSAGE];
	const char *text;
	ssize_t len;

	for (;;) {
		len = read(kmsg, record, sizeof(record) - 1);
		if (len < 0 && errno == EPIPE)
			continue;	/* overwritten meanwhile: on to the oldest */
		if (len <= 0)
			return false;
		record[len] = '\0';
		text = strchr(record, ';');
		if (!text || strncmp(text + 1, start, strlen(start)))
			continue;
		snprintf(line, TMS_MESSAGE, "%s", text + 1);
		line[strcspn(line, "\n")] = '\0';
		if (strstr(line, key))
			return true;
	}
}

int tms_loopback_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo" };
	int fd, err;

	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	err = ioctl(fd, SIOCGIFFLAGS, &ifr);
	if (!err && !(ifr.ifr_flags & IFF_UP)) {
		ifr.ifr_flags |= IFF_UP;
		err = ioctl(fd, SIOCSIFFLAGS, &ifr);
	}
	close(fd);
	return err;
}

struct bit_name {
	__u32 bit;
	const char *name;
};

static void name_bits(char *buf, size_t size, __u32 bits, const struct bit_name *names)
{
	size_t len = 0;

	snprintf(buf, size, "none");
	for (; names->bit; names++) {
		if (bits & names->bit && len < size)
			len += snprintf(buf + len, size - len, "%s%s", len ? " " : "",
					names->name);
	}
}

/* In the order of the kernel */
const char *tms_names(char *buf, __u32 scopes)
{
	static const struct bit_name names[] = {
		{ TMS_NOFS,		"nofs" },
		{ TMS_NOIO,		"noio" },
		{ TMS_PIN,		"pin" },
		{ TMS_NORECLAIM,	"noreclaim" },
		{ TMS_IO_FLUSHER,	"io_flusher" },
		{ TMS_NOWAIT,		"nowait" },
		{ TMS_NOWARN,		"nowarn" },
		{ TMS_NOLOCK,		"nolock" },
		{ TMS_UNKNOWN,		"unknown" },
		{ }
	};

	name_bits(buf, TMS_NAMES, scopes, names);
	return buf;
}

__u32 tms_expect(__u32 scopes, __u32 asked)
{
	if (scopes & TMS_NOFS)
		asked &= ~TMS_GFP_FS;
	if (scopes & TMS_NOIO)
		asked &= ~(TMS_GFP_IO | TMS_GFP_FS);
	if (scopes & TMS_IO_FLUSHER)
		asked &= ~(TMS_GFP_IO | TMS_GFP_FS);
	if (scopes & TMS_PIN)
		asked &= ~TMS_GFP_MOVABLE;
	/* Those are promises, which no scope makes anybody break. */
	if (asked & TMS_GFP_NOFAIL)
		return asked;
	if (scopes & TMS_NOWAIT)
		asked &= ~TMS_GFP_DIRECT_RECLAIM;
	if (scopes & TMS_NOWARN)
		asked |= TMS_GFP_NOWARN;
	return asked;
}

__u32 tms_expect_active(__u32 scopes)
{
	__u32 active = scopes & TMS_SCOPES;

	if (scopes & (TMS_NOIO | TMS_IO_FLUSHER))
		active |= TMS_NOIO | TMS_NOFS;
	return active;
}

bool tms_expect_reclaim(__u32 scopes, __u32 asked)
{
	return tms_expect(scopes, asked) & TMS_GFP_DIRECT_RECLAIM &&
	       !(scopes & TMS_NORECLAIM);
}

bool tms_judge_seen(const struct tms_seen *seen, __u32 want, char *why)
{
	static const struct bit_name names[] = {
		{ TMS_GFP_FS,			"FS" },
		{ TMS_GFP_IO,			"IO" },
		{ TMS_GFP_DIRECT_RECLAIM,	"DIRECT_RECLAIM" },
		{ TMS_GFP_KSWAPD,		"KSWAPD" },
		{ TMS_GFP_MOVABLE,		"MOVABLE" },
		{ TMS_GFP_HIGH,			"HIGH" },
		{ TMS_GFP_NOWARN,		"NOWARN" },
		{ TMS_GFP_NOFAIL,		"NOFAIL" },
		{ TMS_GFP_OTHER,		"OTHER" },
		{ }
	};
	char any[56], all[56], expected[56];

	if (!seen->count) {
		snprintf(why, TMS_WHY, "no request seen");
		return false;
	}
	if (seen->any == want && seen->all == want)
		return true;
	name_bits(any, sizeof(any), seen->any, names);
	name_bits(all, sizeof(all), seen->all, names);
	name_bits(expected, sizeof(expected), want, names);
	snprintf(why, TMS_WHY, "some: %s; all: %s; expected: %s", any, all, expected);
	return false;
}

bool tms_judge_reclaim(const struct tms_reclaim *r, __u32 scopes, char *why)
{
	__u32 want = tms_expect(scopes, r->asked);
	char inner[TMS_WHY];

	if (!tms_judge_seen(&r->used, want, inner)) {
		snprintf(why, TMS_WHY, "allocator used: %.170s", inner);
		return false;
	}
	if (tms_expect_reclaim(scopes, r->asked)) {
		if (r->reclaim.count < r->calls) {
			snprintf(why, TMS_WHY, "reclaim called %llu times, not %u",
				 (unsigned long long)r->reclaim.count, r->calls);
			return false;
		}
		if (!tms_judge_seen(&r->reclaim, want, inner)) {
			snprintf(why, TMS_WHY, "reclaim saw: %.170s", inner);
			return false;
		}
	} else if (r->reclaim.count) {
		snprintf(why, TMS_WHY, "direct reclaim, %llu calls, where there must be none",
			 (unsigned long long)r->reclaim.count);
		return false;
	}
	/* nowait takes, and gives nothing: __GFP_HIGH had its share before. */
	if (scopes & TMS_NOWAIT && !(scopes & TMS_NORECLAIM) &&
	    !(r->asked & (TMS_GFP_NOFAIL | TMS_GFP_HIGH)) &&
	    (r->reserve_pages || !r->failed || r->min_free >= r->min_wmark)) {
		snprintf(why, TMS_WHY, "reserves: %llu pages, %llu refused; %llu free, min %llu",
			 (unsigned long long)r->reserve_pages,
			 (unsigned long long)r->failed, (unsigned long long)r->min_free,
			 (unsigned long long)r->min_wmark);
		return false;
	}
	if (r->asked & TMS_GFP_NOFAIL && r->failed) {
		snprintf(why, TMS_WHY, "%llu requests failed that must not",
			 (unsigned long long)r->failed);
		return false;
	}
	if (r->where == TMS_IN_HARDIRQ) {
		if (!r->failed || r->reserve_pages) {
			snprintf(why, TMS_WHY, "hardirq: %llu pages of the reserves, %llu refused",
				 (unsigned long long)r->reserve_pages,
				 (unsigned long long)r->failed);
			return false;
		}
	} else if (scopes & TMS_NORECLAIM &&
		   (r->asked & TMS_GFP_DIRECT_RECLAIM || r->where == TMS_BH_OFF) &&
		   (!r->reserve_pages || !r->nomemalloc_null)) {
		snprintf(why, TMS_WHY, "reserves: %llu pages, __GFP_NOMEMALLOC refused %llu times",
			 (unsigned long long)r->reserve_pages,
			 (unsigned long long)r->nomemalloc_null);
		return false;
	}
	return true;
}

bool tms_judge_hits(const struct tms_hits *h, char *why)
{
	for (int i = 0; i < TMS_RULES; i++) {
		if (!h->bad[i])
			continue;
		snprintf(why, TMS_WHY, "%llu times wrong: %s; first: %s %#x, expected %#x",
			 (unsigned long long)h->bad[i], tms_rule_name[i],
			 tms_rule_name[h->rule], h->got, h->want);
		return false;
	}
	return true;
}

__u64 tms_enough_hits(const struct tms_interrupt *t, int kind)
{
	/* On PREEMPT_RT, irq_work that may allocate runs in a thread. */
	if (t->rt && (kind == TMS_IRQ_WORK || kind == TMS_NESTED))
		return 0;
	return t->shots / 8;
}

int tms_reclaim(int fd, struct tms_reclaim *r)
{
	struct tms_reclaim in = *r;

	/* Reclaim may be throttled, a second at a time. */
	in.calls = 8;
	in.max_ms = 20000;
	in.max_mb = 1024;
	for (int i = 0; i < 3; i++) {
		*r = in;
		if (ioctl(fd, TMS_IOC_RECLAIM, r))
			return -1;
		if (!r->oom)
			break;
		printf("# out of memory before reclaim was seen: once more\n");
	}
	return 0;
}
