// SPDX-License-Identifier: GPL-2.0
/*
 * First and only process of the guest in which make bench counts operations: counts
 * its own page faults, enters a memory cgroup and loads the module, which does all
 * the rest.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

#include "guest.h"

#define PAGE		4096UL
#define FAULTS		500
/* more than reading the counter takes, less than a timer interrupt */
#define JUMP		500
/* instructions from tick to tick, at HZ=100 */
#define TICK		10000000UL

static void write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	check(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), path);
	close(fd);
}

static unsigned long address(const char *function)
{
	char line[256], name[129];
	unsigned long found;
	FILE *f = fopen("/proc/kallsyms", "r");

	check(!!f, "kallsyms");
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx %*c %128s", &found, name) == 2 && !strcmp(name, function)) {
			fclose(f);
			return found;
		}
	}
	check(0, function);
	return 0;
}

/*
 * Right after a tick, touches pages whose page tables are there. The counter must
 * not have passed the next tick then.
 */
static unsigned long faults(int nr)
{
	static char *area;
	unsigned long now, last, start;

	if (!area) {
		area = mmap(NULL, 2 * FAULTS * PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		check(area != MAP_FAILED, "mmap");
	}
	check(!madvise(area, 2 * FAULTS * PAGE, MADV_DONTNEED), "madvise");
	now = __rdtsc();
	do {
		last = now;
		now = __rdtsc();
	} while (now - last < JUMP);
	start = __rdtsc();
	for (int i = 0; i < nr; i++)
		__atomic_store_n(area + i * PAGE, 1, __ATOMIC_RELAXED);
	now = __rdtsc();
	check(now - last < TICK * 9 / 10, "too much for the time between two ticks");
	return now - start;
}

int main(void)
{
	char params[256];
	unsigned long once, twice;
	int fd;

	mount_proc();
	check(!mount("cgroup", "/cgroup", "cgroup2", 0, NULL), "cgroup");
	write_to("/cgroup/cgroup.subtree_control", "+memory");
	check(!mkdir("/cgroup/bench", 0755), "mkdir");
	write_to("/cgroup/bench/cgroup.procs", "0");

	faults(2 * FAULTS);
	once = faults(FAULTS);
	twice = faults(2 * FAULTS);
	snprintf(params, sizeof(params),
		 "fault=%d,%lu,%lu free_pages_nolock=%#lx raise_softirq_irqoff=%#lx",
		 FAULTS, once, twice, address("free_pages_nolock"),
		 address("raise_softirq_irqoff"));
	fd = open("/bench.ko", O_RDONLY);
	check(fd >= 0, "/bench.ko");
	check(!syscall(SYS_finit_module, fd, params, 0), "finit_module");
	return 1;
}
