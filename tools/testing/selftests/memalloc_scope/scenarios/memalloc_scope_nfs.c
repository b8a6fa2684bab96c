// SPDX-License-Identifier: GPL-2.0
/*
 * Swap over NFS: memory comes back only if RPC gets through, so RPC must not wait
 * for memory. Its workers open noreclaim around what sends for a swap file, and
 * sockets of a swap file have the reserves.
 *
 * TMS_NFS=address:port:/path is an NFSv4.1 server that lets root write there.
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

#include "../tms_harness.h"
#include "test_modules/test_memalloc_probe.h"
#include "tms_net.h"
#include "tms_scenario.h"
#include "tms_swap.h"

#define DIR		"/tmp/nfs"
#define SWAP		DIR "/swap"
/* Seconds for anything that has to end */
#define PATIENCE	setting("TMS_PATIENCE", 300)
#define MORE		2000	/* pages: things go on */
#define BIT_NORECLAIM	3	/* of TMS_NORECLAIM, in struct tmp_count */

enum probe { P_RECEIVE, P_SEND, P_CONNECT, PROBES };

static const char *const symbols[PROBES] = {
	[P_RECEIVE]	= "tcp_v4_rcv",
	[P_SEND]	= "xs_tcp_send_request",
	[P_CONNECT]	= "__sock_create",
};

FIXTURE(nfs) {
	int probe;
	__u32 index[PROBES];
	__u64 bytes;
	bool mounted, on;
};

static const char *mount_server(const char *text)
{
	static char why[300];
	char copy[96], options[256], source[200];
	char *port, *path;

	snprintf(copy, sizeof(copy), "%s", text);
	port = strchr(copy, ':');
	path = port ? strchr(port + 1, ':') : NULL;
	if (!path)
		return "TMS_NFS is not address:port:/path";
	*port++ = '\0';
	*path++ = '\0';
	snprintf(source, sizeof(source), "%s:%s", copy, path);
	snprintf(options, sizeof(options),
		 "addr=%s,clientaddr=10.0.2.15,port=%s,vers=4.1,proto=tcp,sec=sys,hard,timeo=50",
		 copy, port);
	mkdir(DIR, 0700);
	if (!mount(source, DIR, "nfs4", 0, options))
		return NULL;
	snprintf(why, sizeof(why), "cannot mount %s: %s", source, strerror(errno));
	return why;
}

/* A swap file has no holes. */
static int make_swap_file(__u64 bytes)
{
	static char zeros[1 << 18];
	int fd = open(SWAP, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int err = fd < 0 ? -errno : 0;

	for (__u64 done = 0; !err && done < bytes; done += sizeof(zeros)) {
		if (write(fd, zeros, sizeof(zeros)) != sizeof(zeros))
			err = errno ? -errno : -EIO;
	}
	if (!err && fsync(fd))
		err = -errno;
	if (fd >= 0)
		close(fd);
	return err ?: swap_make(SWAP, bytes);
}

FIXTURE_SETUP(nfs)
{
	const char *server = getenv("TMS_NFS");
	const char *why;

	self->probe = -1;
	if (!server)
		SKIP(return, "TMS_NFS does not name a server");
	self->probe = open_module_device(_metadata, "test_memalloc_probe");
	if (self->probe < 0)
		return;
	ASSERT_EQ(0, net_up());
	why = mount_server(server);
	ASSERT_EQ(NULL, why)
		TH_LOG("%s", why);
	self->mounted = true;
	self->bytes = ram_bytes() * setting("TMS_TIMES", 80) / 100;
	ASSERT_EQ(0, make_swap_file(self->bytes + (32 << 20)));
	for (int i = 0; i < PROBES; i++) {
		struct tmp_probe p = { };

		strcpy(p.symbol, symbols[i]);
		ASSERT_EQ(0, ioctl(self->probe, TMP_IOC_ADD, &p))
			TH_LOG("no probe on %s", p.symbol);
		self->index[i] = p.index;
	}
	ASSERT_EQ(0, swap_on(SWAP));
	self->on = true;
}

FIXTURE_TEARDOWN(nfs)
{
	if (self->on)
		swap_off(SWAP);
	if (self->probe >= 0)
		close(self->probe);
	if (self->mounted) {
		unlink(SWAP);
		umount(DIR);
	}
}

static struct tmp_count counted(int probe, __u32 index)
{
	struct tmp_count c = { .index = index };

	ioctl(probe, TMP_IOC_READ, &c);
	return c;
}

static void go_on(struct swap_load *l, double seconds)
{
	struct swap_report r;

	for (double end = seconds_now() + seconds; seconds_now() < end; usleep(20000))
		swap_load_look(l, &r);
}

static bool more_pages(struct swap_load *l, __u64 pages, double seconds)
{
	double end = seconds_now() + seconds;
	struct swap_report r;
	__u64 before;

	swap_load_look(l, &r);
	before = r.pages;
	while (r.pages < before + pages && seconds_now() < end) {
		usleep(20000);
		swap_load_look(l, &r);
	}
	return r.pages >= before + pages;
}

/*
 * Red if: xprt_transmit() in net/sunrpc/xprt.c, or xs_tcp_setup_socket() in xprtsock.c
 * for a new connection, does not open noreclaim for a transport that swaps.
 */
TEST_F_TIMEOUT(nfs, swap, 14400)
{
	unsigned int down = setting("TMS_LINK_DOWN", 15);
	double begin = seconds_now();
	struct tmp_count receive, send, connect;
	struct traffic_report t = { };
	struct swap_report r;
	struct traffic *traffic;
	struct swap_load *l;
	__u64 in, out;
	char why[128] = "";
	char line[32];
	bool killed = false;
	int err;

	in = vm_count("pswpin");
	out = vm_count("pswpout");
	traffic = traffic_start(NULL);
	l = swap_load_start(self->bytes);
	ASSERT_NE(NULL, l);
	EXPECT_TRUE(swap_load_fill(l, PATIENCE));
	/* More than once around, for all to be verified that was swapped out. */
	EXPECT_TRUE(more_pages(l, self->bytes / 4096, PATIENCE));
	swap_load_look(l, &r);
	report("%.0f s: %llu pages: no progress for %.1f s", seconds_now() - begin,
	       (unsigned long long)r.pages, r.stalled);

	/*
	 * The cable is pulled, with all of memory in use. Whoever did it has to plug it
	 * in again, as nothing that needs memory works here meanwhile.
	 */
	snprintf(line, sizeof(line), "link down %u", down);
	err = ask_host(line, why, sizeof(why));
	if (!err) {
		swap_load_restart_clock(l);
		go_on(l, down);
		EXPECT_TRUE(more_pages(l, MORE, PATIENCE));
		swap_load_look(l, &r);
		report("%.0f s: %llu pages; link down for %u s, no progress for %.1f s",
		       seconds_now() - begin, (unsigned long long)r.pages, down, r.stalled);
	}
	/* The server dies, which takes the connection along. */
	if (!err && !ask_host("nfs kill 2", why, sizeof(why))) {
		killed = true;
		swap_load_restart_clock(l);
		go_on(l, 2);
		EXPECT_TRUE(more_pages(l, MORE, PATIENCE));
		swap_load_look(l, &r);
		report("%.0f s: %llu pages, after the server was killed: no progress for %.1f s",
		       seconds_now() - begin, (unsigned long long)r.pages, r.stalled);
	}
	while (seconds_now() - begin < setting("TMS_SECONDS", 0))
		EXPECT_TRUE(more_pages(l, MORE, PATIENCE));
	/* Little of it is to be verified without swap, the rest has been with it. */
	EXPECT_TRUE(swap_load_shrink(l, ram_bytes() / 16, PATIENCE));
	if (traffic)
		traffic_stop(traffic, &t);
	EXPECT_EQ(0, swap_off(SWAP));
	self->on = false;
	swap_load_end(l, PATIENCE, &r);
	EXPECT_EQ(0, r.bad)
		TH_LOG("%s", r.why);
	EXPECT_EQ(0, r.lost);

	in = vm_count("pswpin") - in;
	out = vm_count("pswpout") - out;
	receive = counted(self->probe, self->index[P_RECEIVE]);
	send = counted(self->probe, self->index[P_SEND]);
	connect = counted(self->probe, self->index[P_CONNECT]);
	report("%llu MiB in %llu MiB of RAM, swapped in %llu pages, out %llu",
	       (unsigned long long)self->bytes >> 20, (unsigned long long)ram_bytes() >> 20,
	       (unsigned long long)in, (unsigned long long)out);
	report("%llu pages verified or written in %.0f s", (unsigned long long)r.pages,
	       seconds_now() - begin);
	report("sends with noreclaim: %llu of %llu; connects: %llu of %llu; receives: %llu of %llu",
	       (unsigned long long)send.open[BIT_NORECLAIM], (unsigned long long)send.calls,
	       (unsigned long long)connect.open[BIT_NORECLAIM],
	       (unsigned long long)connect.calls,
	       (unsigned long long)receive.softirq_open[BIT_NORECLAIM],
	       (unsigned long long)receive.calls);
	EXPECT_LT(self->bytes / 4096 / 4, out)
		TH_LOG("hardly anything was swapped");
	EXPECT_LT(0, send.open[BIT_NORECLAIM]);
	/* Only a new connection makes a socket. */
	if (killed)
		EXPECT_LT(0, connect.open[BIT_NORECLAIM]);
}

TEST_HARNESS_MAIN
