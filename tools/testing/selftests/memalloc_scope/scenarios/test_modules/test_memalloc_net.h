/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What user space asks of the test_memalloc_net module: ioctls of
 * /dev/test_memalloc_net, one at a time. It makes memory short, and looks at what
 * the receive path of the network can allocate then.
 */
#ifndef _TEST_MEMALLOC_NET_H
#define _TEST_MEMALLOC_NET_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define TMN_DEV		"/dev/test_memalloc_net"

/* Take what GFP_ATOMIC can have, hold it, give it back. */
struct tmn_drain {
	/* in */
	__u32 hold_ms;
	__u32 watch;		/* take nothing, but see what is written */
	/* out */
	__u32 is_short;		/* GFP_ATOMIC is still refused at the end */
	__u32 writeback;	/* pages that are being written at the end */
	__u64 pages;		/* taken, at the most */
	__u64 oom;		/* somebody ran into OOM: got the pages, or was put off */
	__u64 held_ms;
	__u64 written[2];	/* pages, to disk or swap, in its first and second half */
};

enum tmn_kind {
	/* A packet from the reserves, for a SOCK_MEMALLOC socket: the handler has noreclaim. */
	TMN_MEMALLOC,
	/* A packet from the reserves, for any other socket: dropped. */
	TMN_PLAIN,
	/* An ordinary packet that arrives on top of a task with noreclaim open. */
	TMN_BORROWED,
	TMN_KINDS,
};

/*
 * Packets over the loopback, received by a softirq on top of the calling task while no
 * page can be had above the watermarks. There the handler of the socket asks for
 * pages, GFP_ATOMIC without __GFP_MEMALLOC.
 */
struct tmn_receive {
	/* in */
	__u32 kind;		/* enum tmn_kind */
	__u32 shots;		/* packets that have to arrive while memory is short */
	__u32 pages;		/* per packet, at most TMN_PAGES */
	__u32 max_ms;
	/* out */
	__u64 sent;		/* packets, while memory was short */
	__u64 received;		/* by the handler, memory still short: counted below */
	__u64 elsewhere;	/* not on top of the task */
	__u64 open;		/* with noreclaim open */
	__u64 other;		/* with any other scope open */
	__u64 got;		/* pages, all from the reserves, */
	__u64 got_below;	/* while their zone was below its min watermark */
	__u64 refused;
	__u64 task_checks;	/* of the task: before and after each packet */
	__u64 task_leaks;	/* its byte was not as it had left it */
	__u64 task_got;		/* its own GFP_ATOMIC requests: from the reserves */
	__u64 task_refused;
	__u64 oom;		/* somebody ran into OOM, and was helped out */
};

#define TMN_PAGES	32

/* Take SOCK_MEMALLOC from a TCP socket, or give it back. */
struct tmn_socket {
	__s32 fd;
	__u32 memalloc;
};

#define TMN_IOC_DRAIN	_IOWR('~', 0x50, struct tmn_drain)
#define TMN_IOC_RECEIVE	_IOWR('~', 0x51, struct tmn_receive)
#define TMN_IOC_SOCKET	_IOW('~', 0x52, struct tmn_socket)

#endif /* _TEST_MEMALLOC_NET_H */
