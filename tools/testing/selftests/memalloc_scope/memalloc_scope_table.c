// SPDX-License-Identifier: GPL-2.0
/*
 * One table of what allocation scopes do in the running kernel: for each scope
 * what was asked of the page allocator, what it used, what direct reclaim was
 * told with memory really short; then what interrupts find on top of a task with
 * scopes open. Exit status: 0 if everything is as the rules say, 1 if not, 4 if
 * it cannot be tried here.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

#include "kselftest.h"
#include "tms.h"

static const struct row {
	const char *name;
	__u32 scopes;
	__u32 io_flusher;
	__u32 request;
} rows[] = {
	{ "none",	0, 0, TMS_REQ_KERNEL },
	{ "nofs",	TMS_NOFS, 0, TMS_REQ_KERNEL },
	{ "noio",	TMS_NOIO, 0, TMS_REQ_KERNEL },
	{ "nofs+noio",	TMS_NOFS | TMS_NOIO, 0, TMS_REQ_KERNEL },
	{ "none",	0, 0, TMS_REQ_HIGHUSER_MOVABLE },
	{ "pin",	TMS_PIN, 0, TMS_REQ_HIGHUSER_MOVABLE },
	{ "noreclaim",	TMS_NORECLAIM, 0, TMS_REQ_KERNEL },
	{ "nowait",	TMS_NOWAIT, 0, TMS_REQ_KERNEL },
	{ "nowait",	TMS_NOWAIT, 0, TMS_REQ_NOFAIL },
	{ "io_flusher",	0, TMS_IO_FLUSHER, TMS_REQ_KERNEL },
};

static int failed, tried;

/* The names that the kernel has for masks, shortened until a row fits a line */
static const char *shorten(const char *text)
{
	static const char *const drop[] = { "|__GFP_SKIP_KASAN", "__GFP_SKIP_KASAN|", NULL };
	static char buf[4][TMS_TEXT];
	static int next;
	char *to = buf[next++ % 4];

	snprintf(to, TMS_TEXT, "%s", text);
	for (int i = 0; drop[i]; i++) {
		char *at = strstr(to, drop[i]);

		if (at)
			memmove(at, at + strlen(drop[i]), strlen(at + strlen(drop[i])) + 1);
	}
	return to;
}

static void verdict(bool good, const char *why)
{
	tried++;
	if (good) {
		printf("ok\n");
		return;
	}
	failed++;
	printf("WRONG: %s\n", why);
}

static int show_reclaim(int fd, const struct row *row)
{
	char why[TMS_WHY] = "", saw[TMS_TEXT];
	struct tms_reclaim r = { .scopes = row->scopes, .request = row->request };
	int err;

	if (row->io_flusher && prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0)) {
		printf("PR_SET_IO_FLUSHER: %s\n", strerror(errno));
		return -1;
	}
	err = tms_reclaim(fd, &r);
	if (row->io_flusher)
		prctl(PR_SET_IO_FLUSHER, 0, 0, 0, 0);
	if (err) {
		printf("cannot run %s: %s\n", row->name, strerror(errno));
		return -1;
	}
	if (!r.is_short) {
		printf("memory could not be made short: needs less than %u MB available\n",
		       r.max_mb);
		return -1;
	}
	if (r.reclaim.count)
		snprintf(saw, sizeof(saw), "%s", shorten(r.reclaim.text));
	else if (r.reserve_pages)
		snprintf(saw, sizeof(saw), "no reclaim; %llu pages of the reserves",
			 (unsigned long long)r.reserve_pages);
	else
		snprintf(saw, sizeof(saw), "no reclaim");
	printf("%-11s %-21s %-21s %-36s ", row->name, shorten(r.asked_text),
	       shorten(r.used.text), saw);
	verdict(tms_judge_reclaim(&r, row->scopes | row->io_flusher, why), why);
	return 0;
}

static int show_interrupts(int fd)
{
	struct tms_interrupt t = {
		.scopes = TMS_NOIO | TMS_PIN | TMS_NORECLAIM | TMS_NOWAIT,
		.shots = 4000,
		.patience_ms = 6000,
		.max_ms = 20000,
	};
	char names[TMS_NAMES], why[TMS_WHY] = "";

	if (tms_loopback_up() || ioctl(fd, TMS_IOC_INTERRUPT, &t)) {
		printf("cannot run interrupts: %s\n", strerror(errno));
		return -1;
	}
	printf("\n%-21s %8s %10s  verdict    (task: %s)\n", "interrupt", "hits", "violations",
	       tms_names(names, t.scopes));
	for (int kind = 0; kind < TMS_KINDS; kind++) {
		const struct tms_hits *h = &t.kind[kind];
		__u64 bad = 0, hits;

		for (int i = 0; i < TMS_RULES; i++)
			bad += h->bad[i];
		if (!tms_enough_hits(&t, kind))
			continue;
		hits = h->hits + h->elsewhere;
		if (hits < tms_enough_hits(&t, kind))
			snprintf(why, sizeof(why), "too few hit the task");
		printf("%-21s %8llu %10llu  ", tms_kind_name[kind],
		       (unsigned long long)hits, (unsigned long long)bad);
		verdict(tms_judge_hits(h, why) && hits >= tms_enough_hits(&t, kind), why);
	}
	snprintf(why, sizeof(why), "first: %#x, expected %#x", t.leak_got, t.leak_want);
	printf("%-21s %8llu %10llu  ", "task's own scopes", (unsigned long long)t.checks,
	       (unsigned long long)t.leaks);
	verdict(!t.leaks, why);
	return 0;
}

int main(void)
{
	const char *why;
	bool broken;
	int fd;

	setvbuf(stdout, NULL, _IOLBF, 0);
	fd = tms_device(&why, &broken);
	if (fd < 0) {
		printf("memalloc_scope_table: %s\n", why);
		return broken ? 1 : 4;
	}
	printf("%-11s %-21s %-21s %-36s %s\n", "scope", "asked", "allocator used",
	       "reclaim saw", "verdict");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (show_reclaim(fd, &rows[i]))
			return 4;
	}
	if (show_interrupts(fd))
		return 4;
	printf("\n%d of %d as the rules say: %s\n", tried - failed, tried,
	       failed ? "NOT honoured" : "scopes are honoured");
	return failed ? 1 : 0;
}
