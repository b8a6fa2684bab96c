// SPDX-License-Identifier: GPL-2.0
/*
 * First process of the guest in which make bench counts work as a whole: files of an
 * ext4 on a RAM disk created and deleted, and a TCP transfer over loopback. Interrupts,
 * kernel threads and whatever else the work sets off are part of the count, so rounds
 * differ a little, in the same way in each boot. A line for each round, on the debug
 * console: its name, how much of it there was, the instructions that it took, and how
 * often the machine was idle, when no instruction is what the counter counts.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

#include "guest.h"

#define DEBUGCON	0xe9
#define DEBUG_EXIT	0xf4

/* those that do not count, and those that do */
#define WARMUP		2
#define ROUNDS		3
#define BLOCK		4096
#define FILES		10000
#define CHUNK		65536
#define MIB		256

static char results[4096], buffer[CHUNK];
static unsigned int length;

/* How often there was nothing to run. */
static unsigned long idle(void)
{
	unsigned long calls = 0, one;
	char line[256];
	int cpus = 0;
	FILE *f = fopen("/proc/timer_list", "r");

	check(!!f, "timer_list");
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, " .idle_calls : %lu", &one) == 1) {
			calls += one;
			cpus++;
		}
	}
	check(!fclose(f) && cpus, "idle_calls");
	return calls;
}

static void measure(const char *name, unsigned long nr, void (*fn)(void))
{
	for (int i = 0; i < WARMUP + ROUNDS; i++) {
		unsigned long before = idle(), took = __rdtsc();

		fn();
		took = __rdtsc() - took;
		if (i >= WARMUP)
			length += snprintf(results + length, sizeof(results) - length,
					   "%s\t%lu\t%lu\t%lu\n", name, nr, took, idle() - before);
	}
}

/* Without its zeroes, of which the RAM disk has enough. */
static void copy_image(const char *from, const char *to)
{
	static const char zeroes[BLOCK];
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY);
	ssize_t got;

	check(in >= 0 && out >= 0, from);
	for (off_t at = 0; (got = read(in, buffer, BLOCK)) > 0; at += got)
		check(!memcmp(buffer, zeroes, got) || pwrite(out, buffer, got, at) == got, to);
	check(!got && !close(in) && !fsync(out) && !close(out) && !unlink(from), to);
}

static const char *file_name(int nr)
{
	static char name[32];

	snprintf(name, sizeof(name), "/mnt/file-%d", nr);
	return name;
}

static void sync_fs(void)
{
	int fd = open("/mnt", O_RDONLY | O_DIRECTORY);

	check(fd >= 0 && !syncfs(fd) && !close(fd), "syncfs");
}

static void create_and_delete(void)
{
	for (int i = 0; i < FILES; i++) {
		int fd = open(file_name(i), O_WRONLY | O_CREAT | O_EXCL, 0644);

		check(fd >= 0 && write(fd, buffer, BLOCK) == BLOCK && !close(fd), "create");
	}
	sync_fs();
	for (int i = 0; i < FILES; i++)
		check(!unlink(file_name(i)), "unlink");
	sync_fs();
}

static int listener;
static struct sockaddr_in address = { .sin_family = AF_INET };

static void listen_on_loopback(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	socklen_t size = sizeof(address);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	check(listener >= 0 && !ioctl(listener, SIOCSIFFLAGS, &ifr), "lo");
	check(!bind(listener, (struct sockaddr *)&address, size) && !listen(listener, 1) &&
	      !getsockname(listener, (struct sockaddr *)&address, &size), "listen");
}

/*
 * The receiver says when it has got a chunk, and the sender waits for that: how many
 * segments there are, and who runs when, is not left to how long each of them takes.
 */
static void transfer(void)
{
	unsigned long left = MIB << 20;
	int status, fd;
	pid_t pid = fork();

	check(pid >= 0, "fork");
	if (!pid) {
		fd = socket(AF_INET, SOCK_STREAM, 0);
		check(fd >= 0 && !connect(fd, (struct sockaddr *)&address, sizeof(address)),
		      "connect");
		for (; left; left -= CHUNK)
			check(write(fd, buffer, CHUNK) == CHUNK && read(fd, buffer, 1) == 1, "send");
		_exit(0);
	}
	fd = accept(listener, NULL, NULL);
	check(fd >= 0, "accept");
	for (; left; left -= CHUNK)
		check(recv(fd, buffer, CHUNK, MSG_WAITALL) == CHUNK && write(fd, buffer, 1) == 1,
		      "receive");
	check(waitpid(pid, &status, 0) == pid && !status && !close(fd), "sender");
}

int main(void)
{
	mount_proc();
	copy_image("/ext4.img", "/dev/ram0");
	check(!mount("/dev/ram0", "/mnt", "ext4", 0, NULL), "ext4");
	listen_on_loopback();

	memset(buffer, 'x', sizeof(buffer));
	measure("ext4: file created and deleted", FILES, create_and_delete);
	measure("TCP over loopback: 1 MiB", MIB, transfer);

	/* Not before: each switch of tasks costs more with it. */
	check(!iopl(3), "iopl");
	strcpy(results + length, "end\n");
	for (char *c = results; *c; c++)
		outb(*c, DEBUGCON);
	outb(0, DEBUG_EXIT);
	return 1;
}
