// SPDX-License-Identifier: GPL-2.0
/*
 * The noreclaim scope of the network's receive path by itself: allocations there that
 * ask for no reserves, while there is nothing but the reserves.
 *
 * "Red if" says, for each test, what to break in the kernel to see it fail.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../tms_harness.h"
#include "test_modules/test_memalloc_net.h"
#include "test_modules/test_memalloc_probe.h"
#include "tms_net.h"
#include "tms_scenario.h"
#include "tms_swap.h"

#define SHOTS		50
#define PAGES		8
#define MAX_MS		10000
#define NORECLAIM	0x08	/* TMS_NORECLAIM of test_memalloc_scope.h */
#define BOOST		"/proc/sys/vm/watermark_boost_factor"

/* All that a test has going on */
struct story {
	int net, probe;
	char boost[32];
	__u64 drops;
};

FIXTURE(receive) {
	struct story s;
};

FIXTURE_SETUP(receive)
{
	struct story *s = &self->s;

	s->probe = -1;
	s->net = open_module_device(_metadata, "test_memalloc_net");
	if (s->net < 0)
		return;
	ASSERT_EQ(0, net_up());
	/* A boosted watermark would keep pages that count as free from everybody. */
	ASSERT_EQ(0, sysctl_set(BOOST, "0", s->boost));
	s->drops = tcp_ext("PFMemallocDrop");
}

FIXTURE_TEARDOWN(receive)
{
	struct story *s = &self->s;

	sysctl_set(BOOST, s->boost, NULL);
	close(s->probe);
	close(s->net);
}

static int run(struct __test_metadata *_metadata, struct story *s, int kind,
	       struct tmn_receive *r)
{
	*r = (struct tmn_receive){
		.kind = kind,
		.shots = SHOTS,
		.pages = PAGES,
		.max_ms = MAX_MS,
	};
	if (ioctl(s->net, TMN_IOC_RECEIVE, r))
		return -1;
	report("packets: %llu sent, %llu count, %llu of these handled in noreclaim", r->sent,
	       r->received, r->open);
	report("handler: %llu pages from the reserves, %llu below min, %llu refused", r->got,
	       r->got_below, r->refused);
	report("task: %llu pages from reserves, %llu refused, %llu of %llu looks at its byte bad",
	       r->task_got, r->task_refused, r->task_leaks, r->task_checks);
	report("elsewhere %llu, oom %llu, PFMemallocDrop %llu", r->elsewhere, r->oom,
	       tcp_ext("PFMemallocDrop") - s->drops);
	return 0;
}

/* Have a function of the receive path run without the scope; false: the test is over. */
static bool without_scope(struct __test_metadata *_metadata, struct story *s,
			  const char *function)
{
	struct tmp_probe p = { .clear = NORECLAIM };

	snprintf(p.symbol, sizeof(p.symbol), "%s", function);
	s->probe = open_module_device(_metadata, "test_memalloc_probe");
	if (s->probe < 0)
		return false;
	EXPECT_EQ(0, ioctl(s->probe, TMP_IOC_ADD, &p))
		return false;
	return true;
}

/*
 * Red if __netif_receive_skb() opens no scope, if softirq_handle_begin() and its like
 * clear noreclaim after that, or if the page allocator asks in_interrupt() first.
 */
TEST_F_TIMEOUT(receive, scope_alone, 60)
{
	struct story *s = &self->s;
	struct tmn_receive r;

	ASSERT_EQ(0, run(_metadata, s, TMN_MEMALLOC, &r));
	ASSERT_LE(SHOTS, r.received);
	EXPECT_EQ(r.received, r.open);
	EXPECT_EQ(0, r.other);
	EXPECT_EQ(r.received * PAGES, r.got);
	EXPECT_LT(0, r.got_below);
	EXPECT_EQ(0, r.refused);
	/* The task that it ran on top of is none the richer. */
	EXPECT_EQ(0, r.task_leaks);
	EXPECT_EQ(0, r.task_got);
}

/* The same packets, and no scope: nothing can be had. */
TEST_F_TIMEOUT(receive, scope_alone_removed, 60)
{
	struct story *s = &self->s;
	struct tmn_receive r;

	if (!without_scope(_metadata, s, "ip_rcv"))
		return;
	ASSERT_EQ(0, run(_metadata, s, TMN_MEMALLOC, &r));
	ASSERT_LE(SHOTS, r.received);
	EXPECT_EQ(0, r.open);
	EXPECT_EQ(0, r.got);
	EXPECT_EQ(r.received * PAGES, r.refused);
}

/*
 * Packets from the reserves are for SOCK_MEMALLOC sockets only. Red if
 * sk_filter_trim_cap() lets them through.
 */
TEST_F_TIMEOUT(receive, others_dropped, 60)
{
	struct story *s = &self->s;
	struct tmn_receive r;

	ASSERT_EQ(0, run(_metadata, s, TMN_PLAIN, &r));
	ASSERT_LE(SHOTS, r.received);
	EXPECT_EQ(0, r.got + r.refused);
	EXPECT_LE(r.sent, tcp_ext("PFMemallocDrop") - s->drops);
	EXPECT_EQ(0, r.task_leaks);
	EXPECT_EQ(0, r.task_got);
}

/*
 * The other direction: the softirq does not have the reserves that the task below has.
 * Red if handle_softirqs() does not call memalloc_scope_borrow().
 */
TEST_F_TIMEOUT(receive, borrowed, 60)
{
	struct story *s = &self->s;
	struct tmn_receive r;

	ASSERT_EQ(0, run(_metadata, s, TMN_BORROWED, &r));
	ASSERT_LE(SHOTS, r.received);
	EXPECT_EQ(0, r.open);
	EXPECT_EQ(0, r.got);
	EXPECT_EQ(r.received * PAGES, r.refused);
	EXPECT_EQ(0, r.task_leaks);
	EXPECT_LT(0, r.task_got);
	EXPECT_EQ(0, r.task_refused);
}

TEST_HARNESS_MAIN
