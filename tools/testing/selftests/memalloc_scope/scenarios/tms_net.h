/* SPDX-License-Identifier: GPL-2.0 */
/* The network of the guest, the host behind it, and traffic that nobody needs. */
#ifndef _TMS_NET_H
#define _TMS_NET_H

#include <netinet/in.h>
#include <stdbool.h>
#include <linux/types.h>

struct traffic;

/* What came back, over the network card and over the loopback */
struct traffic_report {
	__u64 udp_sent, udp_got, tcp_bytes, lo_udp_got, lo_tcp_bytes;
};

/* "10.0.2.2:10809" */
bool parse_address(const char *text, struct sockaddr_in *addr);

/* Loopback, and the first network card if there is one, with an address in 10/8 */
int net_up(void);

/* TCP connection with a time limit; a descriptor or -errno. @fd: a socket made before, or -1 */
int tcp_connect(int fd, const struct sockaddr_in *addr, int ms);

/*
 * Send to and receive from an echo server, if @echo is not NULL, and oneself. UDP
 * datagrams ask for as many answers as their first byte says.
 */
struct traffic *traffic_start(const struct sockaddr_in *echo);
void traffic_stop(struct traffic *t, struct traffic_report *r);

/* A counter of TcpExt in /proc/net/netstat */
__u64 tcp_ext(const char *name);

#endif /* _TMS_NET_H */
