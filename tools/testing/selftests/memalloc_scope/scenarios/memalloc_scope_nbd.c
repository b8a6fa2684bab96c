// SPDX-License-Identifier: GPL-2.0
/*
 * Swap on a network block device, which is what the noreclaim scope of softirqs is
 * for: more memory is in use than there is, every page is verified, and pages can be
 * written out only with the help of packets that are received meanwhile.
 *
 * TMS_NBD=address:port is the server, TMS_ECHO=address:port one that traffic is
 * exchanged with; the host is asked to pull the cable, or to kill the server, through
 * the virtio port vmtest.host. TMS_SECONDS is how long a test runs at least,
 * TMS_TIMES how much memory is held, in percent of the RAM, TMS_LINK_DOWN for how many
 * seconds the cable is out, TMS_PATIENCE how long to wait for what has to end.
 *
 * "Red if" says, for each test, what to break in the kernel to see it fail.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../tms_harness.h"
#include "test_modules/test_memalloc_net.h"
#include "test_modules/test_memalloc_probe.h"
#include "tms_nbd.h"
#include "tms_net.h"
#include "tms_scenario.h"
#include "tms_swap.h"

#define BOOST		"/proc/sys/vm/watermark_boost_factor"
#define PROVE_LOCKING	"/proc/sys/kernel/prove_locking"
#define LINE		8192	/* more than any record of /dev/kmsg has */
#define NORECLAIM	3	/* number of the scope in struct tmp_count */
/* Seconds for anything that has to end */
#define PATIENCE	setting("TMS_PATIENCE", 300)
#define HOLD_MS		20	/* of the drainer, and how often it does */
#define DRAIN_MS	500

/* Makes memory short again and again, so that packets have to come from the reserves. */
static pid_t start_drainer(int net)
{
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		mlockall(MCL_CURRENT | MCL_FUTURE);
		for (;;) {
			struct tmn_drain d = { .hold_ms = HOLD_MS };

			ioctl(net, TMN_IOC_DRAIN, &d);
			usleep(DRAIN_MS * 1000);
		}
	}
	return pid;
}

static void stop(pid_t pid)
{
	if (pid <= 0)
		return;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* How many messages there were with @key in them */
static unsigned int count_messages(int kmsg, const char *key)
{
	unsigned int nr = 0;
	char record[LINE];
	ssize_t len;

	for (;;) {
		len = read(kmsg, record, sizeof(record) - 1);
		if (len < 0 && errno == EPIPE)
			continue;
		if (len <= 0)
			return nr;
		record[len] = '\0';
		nr += !!strstr(record, key);
	}
}

/* All that a test has going on */
struct story {
	struct sockaddr_in server, echo;
	bool has_echo, swapping;
	int net, probe, kmsg;
	struct tmp_probe receive, timeout;
	char boost[32], proving[32];
	struct nbd_client *client;
	struct swap_load *load;
	struct traffic *traffic;
	pid_t drainer;
	__u64 in, out, drops;
	double start;
};

FIXTURE(nbd) {
	struct story s;
};

FIXTURE_SETUP(nbd)
{
	struct story *s = &self->s;

	if (!parse_address(getenv("TMS_NBD"), &s->server))
		SKIP(return, "TMS_NBD=address:port does not name an nbd server");
	s->has_echo = parse_address(getenv("TMS_ECHO"), &s->echo);
	s->probe = open_module_device(_metadata, "test_memalloc_probe");
	if (s->probe < 0)
		return;
	s->net = open_module_device(_metadata, "test_memalloc_net");
	if (s->net < 0)
		return;
	s->receive = (struct tmp_probe){ .symbol = "tcp_v4_rcv" };
	ASSERT_EQ(0, ioctl(s->probe, TMP_IOC_ADD, &s->receive));
	s->timeout = (struct tmp_probe){ .symbol = "nbd_xmit_timeout" };
	ASSERT_EQ(0, ioctl(s->probe, TMP_IOC_ADD, &s->timeout));
	s->kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ASSERT_LE(0, s->kmsg);
	lseek(s->kmsg, 0, SEEK_END);
	ASSERT_EQ(0, net_up());
	/*
	 * The lock of nbd's socket is of the same class as those of user space, which
	 * send, reclaim and so write to nbd: lockdep takes that for a recursion.
	 */
	sysctl_set(PROVE_LOCKING, "0", s->proving);
	ASSERT_EQ(0, sysctl_set(BOOST, "0", s->boost));
	s->drops = tcp_ext("PFMemallocDrop");
	s->in = vm_count("pswpin");
	s->out = vm_count("pswpout");
	s->start = seconds_now();
}

FIXTURE_TEARDOWN(nbd)
{
	struct story *s = &self->s;
	struct traffic_report t;
	struct swap_report r;

	stop(s->drainer);
	if (s->traffic)
		traffic_stop(s->traffic, &t);
	if (s->load)
		swap_load_end(s->load, 0, &r);
	if (s->swapping)
		swap_off(NBD_DEVICE);
	if (s->client)
		nbd_stop(s->client, PATIENCE);
	sysctl_set(BOOST, s->boost, NULL);
	sysctl_set(PROVE_LOCKING, s->proving, NULL);
	close(s->kmsg);
	close(s->net);
	close(s->probe);
}

static void start_swapping(struct __test_metadata *_metadata, struct story *s,
			   const struct nbd_config *config, unsigned int percent)
{
	__u64 bytes = ram_bytes() / 100 * setting("TMS_TIMES", percent);
	struct nbd_status status;
	int err;

	s->client = nbd_start(config, &err);
	ASSERT_NE(NULL, s->client)
		TH_LOG("no connection: %s", strerror(-err));
	nbd_status(s->client, &status);
	ASSERT_LE(bytes, status.size);
	ASSERT_EQ(0, swap_make(NBD_DEVICE, status.size < 2 * bytes ? status.size : 2 * bytes));
	ASSERT_EQ(0, swap_on(NBD_DEVICE));
	s->swapping = true;
	s->traffic = traffic_start(s->has_echo ? &s->echo : NULL);
	ASSERT_NE(NULL, s->traffic);
	s->drainer = start_drainer(s->net);
	s->load = swap_load_start(bytes);
	ASSERT_NE(NULL, s->load);
	report("%llu MB held with %llu MB of RAM", bytes >> 20,
	       ram_bytes() >> 20);
}

/* All pages were written, all verified once, and TMS_SECONDS have passed. */
static void run_full(struct __test_metadata *_metadata, struct story *s)
{
	unsigned int rounds = 1;

	ASSERT_TRUE(swap_load_wait(s->load, rounds, PATIENCE));
	while (seconds_now() - s->start < setting("TMS_SECONDS", 0))
		ASSERT_TRUE(swap_load_wait(s->load, ++rounds, PATIENCE));
}

static void count(struct __test_metadata *_metadata, struct story *s,
		  const struct tmp_probe *p, struct tmp_count *c)
{
	*c = (struct tmp_count){ .index = p->index };
	ASSERT_EQ(0, ioctl(s->probe, TMP_IOC_READ, c));
}

/* Most of the memory is let go, swapoff reads the rest, and all is verified once more. */
static void finish(struct __test_metadata *_metadata, struct story *s)
{
	struct traffic_report t;
	struct tmp_count c, timeouts;
	struct nbd_status status;
	struct swap_report r;
	double start, stalled;

	stop(s->drainer);
	s->drainer = 0;
	swap_load_look(s->load, &r);
	stalled = r.stalled;
	EXPECT_TRUE(swap_load_shrink(s->load, ram_bytes() / 16, PATIENCE));
	traffic_stop(s->traffic, &t);
	s->traffic = NULL;
	start = seconds_now();
	EXPECT_EQ(0, swap_off(NBD_DEVICE));
	s->swapping = false;
	report("swapoff took %.1f s", seconds_now() - start);
	swap_load_end(s->load, PATIENCE, &r);
	s->load = NULL;
	nbd_status(s->client, &status);
	EXPECT_TRUE(nbd_stop(s->client, PATIENCE));
	s->client = NULL;

	EXPECT_EQ(0, r.bad)
		TH_LOG("%s", r.why);
	EXPECT_EQ(0, r.lost);
	report("%.1f s, of which %.1f s at most without progress", seconds_now() - s->start,
	       stalled);
	report("%llu pages written or verified, %llu bad; swapped out %llu, in %llu", r.pages,
	       r.bad, vm_count("pswpout") - s->out, vm_count("pswpin") - s->in);
	report("connections lost %u, replaced %u after %.1f s at most, failed attempts %u, last %d",
	       status.lost, status.reconnects, status.longest, status.attempts, status.error);
	report("traffic: UDP %llu sent, %llu back, TCP %llu kB; loopback %llu, %llu kB",
	       t.udp_sent, t.udp_got,
	       t.tcp_bytes >> 10, t.lo_udp_got,
	       t.lo_tcp_bytes >> 10);
	EXPECT_LT(0, vm_count("pswpout") - s->out);
	EXPECT_LT(0, vm_count("pswpin") - s->in);

	count(_metadata, s, &s->receive, &c);
	count(_metadata, s, &s->timeout, &timeouts);
	report("tcp_v4_rcv %llu, in noreclaim %llu; PFMemallocDrop %llu; nbd timeouts %llu",
	       c.softirq, c.softirq_open[NORECLAIM],
	       (tcp_ext("PFMemallocDrop") - s->drops), timeouts.calls);
}

/*
 * The reserves and the borrowed context at work. Red if __netif_receive_skb() and
 * __netif_receive_skb_list() open no scope.
 */
TEST_F_TIMEOUT(nbd, swap, 14400)
{
	struct story *s = &self->s;
	struct nbd_config config = {
		.server = s->server, .timeout = 60, .dead_timeout = 60, .connections = 1,
	};
	struct tmp_count c;

	start_swapping(_metadata, s, &config, 100);
	run_full(_metadata, s);
	finish(_metadata, s);
	count(_metadata, s, &s->receive, &c);
	EXPECT_LT(0, c.softirq_open[NORECLAIM]);
	EXPECT_LT(0, tcp_ext("PFMemallocDrop") - s->drops);
}

/*
 * What takes some time the host ends by itself: with nothing left to swap to, this
 * process may not get the memory that it takes to ask again.
 */
static bool ask(struct __test_metadata *_metadata, const char *command)
{
	char why[128];
	int err = ask_host(command, why, sizeof(why));

	if (err == -ENODEV)
		SKIP(return false, "%s", why);
	EXPECT_EQ(0, err)
		TH_LOG("%s: %s", command, why);
	return !err;
}

/* The cable is pulled while memory is short, and put back. */
TEST_F_TIMEOUT(nbd, link_down, 14400)
{
	struct story *s = &self->s;
	struct nbd_config config = {
		.server = s->server, .timeout = setting("TMS_TIMEOUT", 600),
		.dead_timeout = 600, .connections = 1,
	};
	unsigned int seconds = setting("TMS_LINK_DOWN", 15);
	struct swap_report r;
	char command[32];
	double start;
	__u64 pages;

	start_swapping(_metadata, s, &config, 80);
	ASSERT_TRUE(swap_load_fill(s->load, PATIENCE));
	swap_load_restart_clock(s->load);
	snprintf(command, sizeof(command), "link down %u", seconds);
	if (!ask(_metadata, command))
		return;
	start = seconds_now();
	do {
		swap_load_look(s->load, &r);
		usleep(20000);
	} while (seconds_now() - start < seconds);
	pages = r.pages;
	do {
		swap_load_look(s->load, &r);
		usleep(10000);
	} while (r.pages == pages && seconds_now() - start < PATIENCE);
	report("%u s without a link; it went on %.1f s after it came back, %.1f s without progress",
	       seconds, seconds_now() - start - seconds, r.stalled);
	/* Or else the link had nothing to do with it. */
	EXPECT_LE(seconds / 2., r.stalled);
	run_full(_metadata, s);
	finish(_metadata, s);
}

/*
 * The server falls silent, requests time out, and another server takes over. The
 * kernel acts on a timeout only when nobody is inside nbd_queue_rq(), where senders
 * wait for room in the socket (for the timeout, once more) and, with no connection
 * left, for a new one (for the dead connection timeout): so it may well be late.
 */
TEST_F_TIMEOUT(nbd, timeout, 14400)
{
	struct story *s = &self->s;
	struct nbd_config config = {
		.server = s->server, .timeout = setting("TMS_TIMEOUT", 3),
		.dead_timeout = 120, .connections = 1,
	};
	struct nbd_status status;
	struct swap_report r;
	struct tmp_count c;
	char command[32];
	double start;

	start_swapping(_metadata, s, &config, 80);
	ASSERT_TRUE(swap_load_fill(s->load, PATIENCE));
	snprintf(command, sizeof(command), "nbd replace %lu", setting("TMS_REPLACE", 10));
	if (!ask(_metadata, command))
		return;
	start = seconds_now();
	do {
		swap_load_look(s->load, &r);
		ASSERT_EQ(0, r.lost);
		nbd_status(s->client, &status);
		usleep(20000);
	} while (!status.lost && seconds_now() - start < PATIENCE);
	report("connection given up %.1f s after the server had fallen silent",
	       seconds_now() - start);
	EXPECT_LE(config.timeout - 1., seconds_now() - start);
	run_full(_metadata, s);
	nbd_status(s->client, &status);
	EXPECT_LE(1, status.reconnects);
	finish(_metadata, s);
	/* A sender that gave up may have been first, but others waited for an answer. */
	count(_metadata, s, &s->timeout, &c);
	EXPECT_LT(0, c.calls);
	EXPECT_LT(0, count_messages(s->kmsg, "Connection timed out"));
}

TEST_HARNESS_MAIN
