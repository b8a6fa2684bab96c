// SPDX-License-Identifier: GPL-2.0
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tms_net.h"
#include "tms_swap.h"

#define ADDRESS		"10.0.2.15"
#define PORTS		"/sys/class/virtio-ports"
#define LINK_MS		10000
#define DATAGRAM	1400
#define ANSWERS		3
#define NAP_MS		25
#define SPACE		"\t\n "

struct traffic {
	__u64 udp_sent, udp_got, tcp_bytes, lo_udp_got, lo_tcp_bytes;
	pid_t pid;
};

bool parse_address(const char *text, struct sockaddr_in *addr)
{
	char host[64];
	unsigned int port;

	*addr = (struct sockaddr_in){ .sin_family = AF_INET };
	if (!text || sscanf(text, "%63[0-9.]:%u", host, &port) != 2 || port > 65535)
		return false;
	addr->sin_port = htons(port);
	return inet_aton(host, &addr->sin_addr);
}

static int interface_up(int fd, const char *name, const char *address)
{
	struct ifreq ifr = { };
	struct sockaddr_in *in = (struct sockaddr_in *)&ifr.ifr_addr;

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (address) {
		in->sin_family = AF_INET;
		inet_aton(address, &in->sin_addr);
		if (ioctl(fd, SIOCSIFADDR, &ifr))
			return -errno;
	}
	if (ioctl(fd, SIOCGIFFLAGS, &ifr))
		return -errno;
	ifr.ifr_flags |= IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &ifr) ? -errno : 0;
}

/* A card that was just switched on has no link yet. */
static bool has_link(void)
{
	char text[2] = "";
	int fd = open("/sys/class/net/eth0/carrier", O_RDONLY | O_CLOEXEC);

	if (fd >= 0 && read(fd, text, 1) < 0)
		text[0] = '\0';
	close(fd);
	return text[0] == '1';
}

int net_up(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int err;

	if (fd < 0)
		return -errno;
	err = interface_up(fd, "lo", NULL);
	if (!err && if_nametoindex("eth0")) {
		err = interface_up(fd, "eth0", ADDRESS);
		for (int i = 0; i < LINK_MS / NAP_MS && !err && !has_link(); i++)
			usleep(NAP_MS * 1000);
	}
	close(fd);
	return err;
}

int tcp_connect(int fd, const struct sockaddr_in *addr, int ms)
{
	struct pollfd p = { .events = POLLOUT };
	socklen_t size = sizeof(int);
	int err;

	if (fd < 0)
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	p.fd = fd;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	err = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) ? errno : 0;
	if (err == EINPROGRESS) {
		err = ETIMEDOUT;
		if (poll(&p, 1, ms) == 1)
			getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size);
	}
	if (err) {
		close(fd);
		return -err;
	}
	fcntl(fd, F_SETFL, 0);
	return fd;
}

static int udp_socket(const struct sockaddr_in *to)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0 && to && connect(fd, (const struct sockaddr *)to, sizeof(*to))) {
		close(fd);
		return -1;
	}
	return fd;
}

/* To itself */
static int udp_loop(void)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t size = sizeof(addr);
	int fd = udp_socket(NULL);

	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, size) ||
	    getsockname(fd, (struct sockaddr *)&addr, &size) ||
	    connect(fd, (struct sockaddr *)&addr, size))
		return -1;
	return fd;
}

static bool tcp_loop(int pair[2])
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof(addr);

	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, size) || listen(fd, 1) ||
	    getsockname(fd, (struct sockaddr *)&addr, &size))
		return false;
	pair[0] = tcp_connect(-1, &addr, 1000);
	pair[1] = accept(fd, NULL, NULL);
	close(fd);
	return pair[0] >= 0 && pair[1] >= 0;
}

static __u64 drain(int fd)
{
	static char buf[16384];
	__u64 sum = 0;
	ssize_t len;

	while ((len = recv(fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		sum += len;
	return sum;
}

static void keep_sending(struct traffic *t, const struct sockaddr_in *echo)
{
	static char data[DATAGRAM] = { ANSWERS };
	int udp = -1, tcp = -1, lo_udp, lo_tcp[2] = { -1, -1 };

	lo_udp = udp_loop();
	tcp_loop(lo_tcp);
	if (echo) {
		udp = udp_socket(echo);
		tcp = tcp_connect(-1, echo, 5000);
	}
	for (;;) {
		/* What cannot be sent now is not sent: errors are none of our business. */
		if (udp >= 0) {
			shared_add(t->udp_sent, send(udp, data, sizeof(data), 0) > 0);
			shared_add(t->udp_got, drain(udp) / sizeof(data));
		}
		if (tcp >= 0) {
			send(tcp, data, sizeof(data), MSG_DONTWAIT | MSG_NOSIGNAL);
			shared_add(t->tcp_bytes, drain(tcp));
		}
		if (lo_udp >= 0) {
			send(lo_udp, data, sizeof(data), 0);
			shared_add(t->lo_udp_got, drain(lo_udp) / sizeof(data));
		}
		if (lo_tcp[1] >= 0) {
			send(lo_tcp[0], data, sizeof(data), MSG_DONTWAIT | MSG_NOSIGNAL);
			shared_add(t->lo_tcp_bytes, drain(lo_tcp[1]));
		}
		usleep(NAP_MS * 1000);
	}
}

struct traffic *traffic_start(const struct sockaddr_in *echo)
{
	struct traffic *t;
	pid_t pid;

	t = mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (t == MAP_FAILED)
		return NULL;
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* It has to go on while memory is short. */
		mlockall(MCL_CURRENT | MCL_FUTURE);
		keep_sending(t, echo);
		_exit(0);
	}
	t->pid = pid;
	return t;
}

void traffic_stop(struct traffic *t, struct traffic_report *r)
{
	if (t->pid > 0) {
		kill(t->pid, SIGKILL);
		waitpid(t->pid, NULL, 0);
	}
	*r = (struct traffic_report){
		.udp_sent = shared_get(t->udp_sent),
		.udp_got = shared_get(t->udp_got),
		.tcp_bytes = shared_get(t->tcp_bytes),
		.lo_udp_got = shared_get(t->lo_udp_got),
		.lo_tcp_bytes = shared_get(t->lo_tcp_bytes),
	};
	munmap(t, sizeof(*t));
}

__u64 tcp_ext(const char *name)
{
	static char keys[8192], values[8192];
	char *k, *v, *ks, *vs;
	__u64 found = 0;
	FILE *f;

	f = fopen("/proc/net/netstat", "r");
	if (!f)
		return 0;
	while (fgets(keys, sizeof(keys), f) && fgets(values, sizeof(values), f)) {
		k = strtok_r(keys, SPACE, &ks);
		v = strtok_r(values, SPACE, &vs);
		while (k && v) {
			if (!strcmp(k, name))
				found = strtoull(v, NULL, 10);
			k = strtok_r(NULL, SPACE, &ks);
			v = strtok_r(NULL, SPACE, &vs);
		}
	}
	fclose(f);
	return found;
}
