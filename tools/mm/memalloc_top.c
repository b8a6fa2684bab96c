// SPDX-License-Identifier: GPL-2.0
/*
 * memalloc_top - which allocation scopes cost reclaim what
 *
 * Shows, live, direct reclaim by the scope that the request was made in (nofs, noio and
 * so on, or none), and by who opened it or who asked: how often, how long that took,
 * how many pages it looked at and how many it got. Scopes that keep reclaim from most
 * of what there is have it work long for little. The kernel counts, by a histogram on
 * the tracepoint memalloc:memalloc_reclaim; for who has opened a scope it has to have
 * CONFIG_DEBUG_MEMALLOC_SCOPE.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NAME_MAX_LEN	96
#define EVENT		"memalloc/memalloc_reclaim"

#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))

static const char *const scope_names[] = {
	"nofs", "noio", "pin", "noreclaim", "io_flusher", "nowait", "nowarn", "nolock",
};

/* What the allocators are made of; the caller is the first function that is none of it. */
static const char *const allocator[] = {
	"__alloc", "alloc_", "__perform_reclaim", "try_to_free", "do_try_to_free", "__memalloc",
	"memalloc_", "___slab", "__slab", "new_slab", "allocate_slab", "refill_", "__kmalloc",
	"kmalloc", "__kmem", "kmem_cache", "__kvmalloc", "kvmalloc", "__vmalloc", "vmalloc",
	"vm_area", "__folio_alloc", "folio_alloc", "get_free_pages", "__get_free", "get_zeroed",
	"try_charge", "charge_memcg", "__mem_cgroup", "mem_cgroup", "__memcg", "obj_cgroup",
	"trace_event", "event_", "__traceiter", "hist_", "krealloc", "__do_krealloc", "vma_alloc",
	"mempool_alloc", "mempool_", "filemap_alloc", "_noprof", "pcpu_", "stack_trace",
	"__reclaim", "reclaim_",
};

enum key { BY_SCOPE, BY_OPENER, BY_CALLER };

static const struct {
	const char *name, *keys;
} keys[] = {
	[BY_SCOPE]	= { "scope",	"scope" },
	[BY_OPENER]	= { "opener",	"scope,opener.sym" },
	[BY_CALLER]	= { "caller",	"scope,common_stacktrace" },
};

struct row {
	unsigned int scope;
	char who[NAME_MAX_LEN];
	uint64_t count, ns, scanned, reclaimed;
};

static const char *tracing = "/sys/kernel/tracing";
/* A histogram has room for two sums: so it takes two. */
static const char *const sums[] = { "ns,scanned", "reclaimed" };
static char trigger_path[256], hist_path[256], trigger[2][128];
static const int signals[] = { SIGHUP, SIGINT, SIGPIPE, SIGTERM };
static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	stop = sig;
}

static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		err = errno ? -errno : -EIO;
	close(fd);
	return err;
}

static void remove_triggers(void)
{
	char text[sizeof(trigger[0]) + 1];

	for (int i = 0; i < 2; i++) {
		snprintf(text, sizeof(text), "!%s", trigger[i]);
		put(trigger_path, text);
	}
}

static bool is_allocator(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(allocator); i++) {
		if (!strncmp(name, allocator[i], strlen(allocator[i])))
			return true;
	}
	return strstr(name, "_noprof");
}

/* "name: value", in decimal, anywhere in a line */
static uint64_t value(const char *line, const char *name)
{
	char want[32];
	const char *at;

	snprintf(want, sizeof(want), " %s:", name);
	at = strstr(line, want);
	return at ? strtoull(at + strlen(want), NULL, 10) : 0;
}

/* A function's name, without offset and module */
static void set_who(struct row *row, const char *from)
{
	size_t len;

	while (isspace((unsigned char)*from))
		from++;
	len = strcspn(from, "+ \t\n,}");
	if (len >= sizeof(row->who))
		len = sizeof(row->who) - 1;
	memcpy(row->who, from, len);
	row->who[len] = '\0';
}

static struct row *find_row(struct row **rows, size_t *nr, const struct row *like)
{
	struct row *more;

	for (size_t i = 0; i < *nr; i++) {
		if ((*rows)[i].scope == like->scope && !strcmp((*rows)[i].who, like->who))
			return &(*rows)[i];
	}
	more = realloc(*rows, (*nr + 1) * sizeof(**rows));
	if (!more)
		return NULL;
	*rows = more;
	more[*nr] = (struct row){ .scope = like->scope };
	memcpy(more[*nr].who, like->who, sizeof(like->who));
	return &more[(*nr)++];
}

/*
 * An entry is one line, "{ scope: 2, opener: [address] name } hitcount: 3 ns: ...", or,
 * with a stack, several: its functions are on lines of their own.
 */
static int read_hist(enum key by, struct row **rows, size_t *nr)
{
	FILE *f = fopen(hist_path, "r");
	struct row row = { };
	bool inside = false;
	char line[1024];

	*nr = 0;
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		const char *at;

		at = strstr(line, "{ scope:");
		if (at) {
			row = (struct row){ .scope = strtoul(at + 8, NULL, 10) };
			inside = true;
			at = strstr(line, "opener: [");
			if (at)
				at = strchr(at, ']');
			if (at)
				set_who(&row, at + 1);
		} else if (inside && by == BY_CALLER && !row.who[0] && !strstr(line, "}")) {
			at = line + strspn(line, " \t");
			if (!strncmp(at, "common_stacktrace:", 18) ||
			    !strncmp(at, "stacktrace:", 11))
				at = strchr(at, ':') + 1;
			at += strspn(at, " \t\n");
			if (*at && !is_allocator(at))
				set_who(&row, at);
		}
		if (inside && strstr(line, " hitcount:")) {
			struct row *to = find_row(rows, nr, &row);

			inside = false;
			if (!to) {
				fclose(f);
				return -ENOMEM;
			}
			if (strstr(line, " ns:"))
				to->count += value(line, "hitcount");
			to->ns += value(line, "ns");
			to->scanned += value(line, "scanned");
			to->reclaimed += value(line, "reclaimed");
		}
	}
	fclose(f);
	return 0;
}

static int by_time(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	return (x->ns < y->ns) - (x->ns > y->ns);
}

static void print_scope(unsigned int scope)
{
	char text[64] = "";

	for (size_t i = 0; i < ARRAY_SIZE(scope_names); i++) {
		if (!(scope & 1U << i))
			continue;
		if (text[0])
			strcat(text, " ");
		strcat(text, scope_names[i]);
	}
	printf("%-16s", text[0] ? text : "none");
}

static void show(enum key by, struct row *rows, size_t nr, unsigned int max)
{
	qsort(rows, nr, sizeof(*rows), by_time);
	printf("%-16s%8s %10s %9s %9s %9s %5s  %s\n", "scope", "reclaims", "ms", "us each",
	       "scanned", "reclaimed", "%", by == BY_SCOPE ? "" : keys[by].name);
	for (size_t i = 0; i < nr && i < max; i++) {
		const struct row *r = &rows[i];

		print_scope(r->scope);
		printf("%8llu %10.1f %9.1f %9llu %9llu %5.1f  %s\n", (unsigned long long)r->count,
		       r->ns / 1e6, r->count ? r->ns / 1e3 / r->count : 0.0,
		       (unsigned long long)r->scanned, (unsigned long long)r->reclaimed,
		       r->scanned ? 100.0 * r->reclaimed / r->scanned : 0.0,
		       by == BY_SCOPE ? "" : r->who[0] ? r->who : "?");
	}
	fflush(stdout);
}

static void usage(const char *name, int status)
{
	fprintf(status ? stderr : stdout,
		"usage: %s [-k scope|opener|caller] [-i SECONDS] [-n TIMES] [-l LINES]\n"
		"  -k  what to count by, besides the scope (opener)\n"
		"  -i  seconds between two tables (2)\n"
		"  -n  how many tables (until interrupted)\n"
		"  -l  lines of a table (20)\n", name);
	exit(status);
}

int main(int argc, char *argv[])
{
	struct sigaction action = { .sa_handler = on_signal };
	unsigned long times = 0, lines = 20;
	enum key by = BY_OPENER;
	struct row *rows = NULL;
	double interval = 2;
	size_t nr = 0;
	int opt, err;

	while ((opt = getopt(argc, argv, "k:i:n:l:h")) != -1) {
		switch (opt) {
		case 'k':
			for (by = BY_SCOPE; by <= BY_CALLER; by++) {
				if (!strcmp(optarg, keys[by].name))
					break;
			}
			if (by > BY_CALLER)
				usage(argv[0], 1);
			break;
		case 'i':
			interval = atof(optarg);
			break;
		case 'n':
			times = strtoul(optarg, NULL, 10);
			break;
		case 'l':
			lines = strtoul(optarg, NULL, 10);
			break;
		default:
			usage(argv[0], opt != 'h');
		}
	}
	if (interval <= 0 || optind != argc)
		usage(argv[0], 1);

	if (access("/sys/kernel/tracing/events", F_OK))
		tracing = "/sys/kernel/debug/tracing";
	snprintf(trigger_path, sizeof(trigger_path), "%s/events/" EVENT "/trigger", tracing);
	snprintf(hist_path, sizeof(hist_path), "%s/events/" EVENT "/hist", tracing);
	for (int i = 0; i < 2; i++)
		snprintf(trigger[i], sizeof(trigger[i]), "hist:keys=%s:vals=%s", keys[by].keys,
			 sums[i]);

	/* From here on, whoever ends us has to leave it to us to remove them. */
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &action, NULL);
	err = put(trigger_path, trigger[0]);
	if (!err) {
		atexit(remove_triggers);
		err = put(trigger_path, trigger[1]);
	}
	if (err) {
		fprintf(stderr, "memalloc_top: %s: %s\n", trigger_path, strerror(-err));
		fprintf(stderr, "memalloc_top: needs root, tracefs, CONFIG_HIST_TRIGGERS, no other memalloc_top\n");
		return 1;
	}

	for (unsigned long i = 0; !stop && (!times || i < times); i++) {
		struct timespec t = { .tv_sec = interval };

		t.tv_nsec = (interval - t.tv_sec) * 1e9;
		nanosleep(&t, NULL);
		err = read_hist(by, &rows, &nr);
		if (err) {
			fprintf(stderr, "memalloc_top: %s: %s\n", hist_path, strerror(-err));
			return 1;
		}
		if (isatty(STDOUT_FILENO))
			printf("\033[H\033[2J");
		show(by, rows, nr, lines);
		fflush(stdout);
	}
	free(rows);
	return 0;
}
