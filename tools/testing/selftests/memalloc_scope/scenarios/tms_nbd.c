// SPDX-License-Identifier: GPL-2.0
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/genetlink.h>
#include <linux/nbd.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
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

#include "test_modules/test_memalloc_net.h"
#include "tms_nbd.h"
#include "tms_net.h"
#include "tms_swap.h"

#define MAX_CONNECTIONS	4
#define PATIENCE_MS	3000	/* for the server to answer */
#define RETRY_MS	250
#define INDEX		0

/* The handshake; see doc/proto.md of the reference implementation. */
#define INIT_MAGIC	0x4e42444d41474943ULL	/* "NBDMAGIC" */
#define OPTION_MAGIC	0x49484156454f5054ULL	/* "IHAVEOPT" */
#define FIXED_NEWSTYLE	0x1
#define NO_ZEROES	0x2
#define OPTION_EXPORT	1

struct nbd_client {
	struct nbd_config config;
	int ready;	/* 1, or -errno */
	pid_t pid;
	bool stop;
	struct nbd_status status;
};

#pragma pack(push, 1)

struct hello {
	__u64 init, option;
	__u16 flags;
};

struct ask {
	__u32 flags;
	__u64 magic;
	__u32 option, len;
};

struct reply {
	__u64 size;
	__u16 flags;
};

#pragma pack(pop)

struct export {
	__u64 size;
	__u16 flags;
};

struct message {
	struct nlmsghdr n;
	struct genlmsghdr g;
	char data[512];
};

static bool take(int fd, void *buf, size_t size)
{
	return recv(fd, buf, size, MSG_WAITALL) == (ssize_t)size;
}

/* The default export of the server */
static int handshake(int fd, struct export *e)
{
	struct hello hello;
	struct ask ask;
	struct reply reply;
	char zeroes[124];

	if (!take(fd, &hello, sizeof(hello)))
		return -ECONNRESET;
	if (be64toh(hello.init) != INIT_MAGIC || be64toh(hello.option) != OPTION_MAGIC)
		return -EPROTO;
	hello.flags = be16toh(hello.flags) & (FIXED_NEWSTYLE | NO_ZEROES);
	ask.flags = htobe32(hello.flags);
	ask.magic = htobe64(OPTION_MAGIC);
	ask.option = htobe32(OPTION_EXPORT);
	ask.len = 0;
	if (send(fd, &ask, sizeof(ask), MSG_NOSIGNAL) != sizeof(ask) ||
	    !take(fd, &reply, sizeof(reply)) ||
	    (!(hello.flags & NO_ZEROES) && !take(fd, zeroes, sizeof(zeroes))))
		return -ECONNRESET;
	e->size = be64toh(reply.size);
	e->flags = be16toh(reply.flags);
	return 0;
}

/* A connection that is ready for the kernel: a descriptor or -errno. @fd as for tcp_connect() */
static int connect_server(const struct sockaddr_in *server, int fd, struct export *e)
{
	struct timeval limit = { .tv_sec = PATIENCE_MS / 1000 }, none = { };
	int err, one = 1;

	fd = tcp_connect(fd, server, PATIENCE_MS);
	if (fd < 0)
		return fd;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	err = handshake(fd, e);
	if (err) {
		close(fd);
		return err;
	}
	/* The kernel's own receiver waits for as long as it takes. */
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static struct nlattr *add(struct message *m, int type, const void *data, size_t size)
{
	struct nlattr *a = (void *)m + NLMSG_ALIGN(m->n.nlmsg_len);

	a->nla_type = type;
	a->nla_len = NLA_HDRLEN + size;
	if (size)
		memcpy((char *)a + NLA_HDRLEN, data, size);
	m->n.nlmsg_len = NLMSG_ALIGN(m->n.nlmsg_len) + NLA_ALIGN(a->nla_len);
	return a;
}

static void add_u32(struct message *m, int type, __u32 value)
{
	add(m, type, &value, sizeof(value));
}

static void add_u64(struct message *m, int type, __u64 value)
{
	add(m, type, &value, sizeof(value));
}

static void start_message(struct message *m, int family, int cmd, int version)
{
	memset(m, 0, sizeof(*m));
	m->n.nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN);
	m->n.nlmsg_type = family;
	m->n.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	m->g.cmd = cmd;
	m->g.version = version;
}

/* Send, and read until the acknowledgment; the answer before it goes to @reply. */
static int transact(int nl, struct message *m, struct message *reply)
{
	struct message in;
	ssize_t len;

	if (send(nl, m, m->n.nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		len = recv(nl, &in, sizeof(in), 0);
		if (len < 0)
			return -errno;
		if (in.n.nlmsg_type == NLMSG_ERROR)
			return ((struct nlmsgerr *)NLMSG_DATA(&in.n))->error;
		if (reply)
			*reply = in;
	}
}

/* Generic netlink, and the number of the nbd family */
static int open_netlink(int *family)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK };
	struct message m, reply = { };
	struct nlattr *a;
	int fd, err;

	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr))) {
		err = -errno;
		close(fd);
		return err;
	}
	start_message(&m, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1);
	add(&m, CTRL_ATTR_FAMILY_NAME, NBD_GENL_FAMILY_NAME, sizeof(NBD_GENL_FAMILY_NAME));
	err = transact(fd, &m, &reply);
	for (a = (void *)reply.data;
	     !err && (char *)a < (char *)&reply + reply.n.nlmsg_len && a->nla_len;
	     a = (void *)a + NLA_ALIGN(a->nla_len)) {
		if (a->nla_type == CTRL_ATTR_FAMILY_ID) {
			*family = *(__u16 *)((char *)a + NLA_HDRLEN);
			return fd;
		}
	}
	close(fd);
	return err ?: -ENOENT;
}

static void add_sockets(struct message *m, const int *fd, unsigned int nr)
{
	struct nlattr *list, *item;

	list = add(m, NBD_ATTR_SOCKETS | NLA_F_NESTED, NULL, 0);
	for (unsigned int i = 0; i < nr; i++) {
		item = add(m, NBD_SOCK_ITEM | NLA_F_NESTED, NULL, 0);
		add_u32(m, NBD_SOCK_FD, fd[i]);
		item->nla_len = (char *)m + m->n.nlmsg_len - (char *)item;
	}
	list->nla_len = (char *)m + m->n.nlmsg_len - (char *)list;
}

/*
 * Give the kernel a new connection for the one that died. Its success does not say
 * that the kernel had one to replace: but then it sets a send timeout.
 */
static int replace(int nl, int family, int fd)
{
	struct timeval set = { };
	socklen_t size = sizeof(set);
	struct message m;
	int err;

	start_message(&m, family, NBD_CMD_RECONFIGURE, NBD_GENL_VERSION);
	add_u32(&m, NBD_ATTR_INDEX, INDEX);
	add_sockets(&m, &fd, 1);
	err = transact(nl, &m, NULL);
	if (err)
		return err;
	getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &set, &size);
	return set.tv_sec || set.tv_usec ? 0 : -EAGAIN;
}

static int reconnect(struct nbd_client *c, int nl, int family, int *old, int *spare)
{
	struct sockaddr unspec = { .sa_family = AF_UNSPEC };
	struct export e;
	int fd, err;

	fd = connect_server(&c->config.server, *spare, &e);
	*spare = -1;
	if (fd < 0)
		return fd;
	/*
	 * What is still queued in the old connection must never reach the server: by
	 * then a swap slot may have other contents, written through the new one.
	 */
	connect(*old, &unspec, sizeof(unspec));
	err = replace(nl, family, fd);
	if (err) {
		close(fd);
		return err;
	}
	close(*old);
	*old = fd;
	return 0;
}

static void serve(struct nbd_client *c, int nl, int family, int *fd)
{
	struct pollfd p[MAX_CONNECTIONS];
	double dead[MAX_CONNECTIONS] = { };
	unsigned int nr = c->config.connections;
	struct message m;
	/* Made while memory can be had */
	int spare = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	while (!shared_get(c->stop)) {
		for (unsigned int i = 0; i < nr; i++)
			p[i] = (struct pollfd){ .fd = fd[i], .events = POLLRDHUP };
		if (poll(p, nr, RETRY_MS) <= 0) {
			if (spare < 0)
				spare = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
			continue;
		}
		for (unsigned int i = 0; i < nr && !shared_get(c->stop); i++) {
			int err;

			if (!p[i].revents)
				continue;
			if (!dead[i]) {
				dead[i] = seconds_now();
				c->status.lost++;
			}
			err = reconnect(c, nl, family, &fd[i], &spare);
			if (err) {
				c->status.error = err;
				c->status.attempts++;
				usleep(RETRY_MS * 1000);
				continue;
			}
			if (seconds_now() - dead[i] > c->status.longest)
				c->status.longest = seconds_now() - dead[i];
			dead[i] = 0;
			c->status.reconnects++;
		}
	}
	start_message(&m, family, NBD_CMD_DISCONNECT, NBD_GENL_VERSION);
	add_u32(&m, NBD_ATTR_INDEX, INDEX);
	transact(nl, &m, NULL);
}

/* What the kernel gave the connections when it got them */
static int take_reserves(const int *fd, unsigned int nr)
{
	int dev = open(TMN_DEV, O_RDWR | O_CLOEXEC);
	int err = dev < 0 ? -errno : 0;

	for (unsigned int i = 0; i < nr && !err; i++) {
		struct tmn_socket s = { .fd = fd[i] };

		err = ioctl(dev, TMN_IOC_SOCKET, &s) ? -errno : 0;
	}
	close(dev);
	return err;
}

static int client(struct nbd_client *c)
{
	int fd[MAX_CONNECTIONS], family = 0, nl, err;
	struct export e;
	struct message m;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		return -errno;
	err = sysctl_set("/proc/self/oom_score_adj", "-1000", NULL);
	if (err)
		return err;
	/* Others wait for its allocations, which must not wait for them. */
	prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);

	nl = open_netlink(&family);
	if (nl < 0)
		return nl;
	for (unsigned int i = 0; i < c->config.connections; i++) {
		fd[i] = connect_server(&c->config.server, -1, &e);
		if (fd[i] < 0)
			return fd[i];
	}
	start_message(&m, family, NBD_CMD_CONNECT, NBD_GENL_VERSION);
	add_u32(&m, NBD_ATTR_INDEX, INDEX);
	add_u64(&m, NBD_ATTR_SIZE_BYTES, e.size);
	add_u64(&m, NBD_ATTR_BLOCK_SIZE_BYTES, 4096);
	add_u64(&m, NBD_ATTR_SERVER_FLAGS, e.flags);
	add_u64(&m, NBD_ATTR_TIMEOUT, c->config.timeout);
	add_u64(&m, NBD_ATTR_DEAD_CONN_TIMEOUT, c->config.dead_timeout);
	add_sockets(&m, fd, c->config.connections);
	err = transact(nl, &m, NULL);
	if (!err && c->config.no_reserves)
		err = take_reserves(fd, c->config.connections);
	if (err)
		return err;
	c->status.size = e.size;
	shared_set(c->ready, 1);
	serve(c, nl, family, fd);
	return 0;
}

struct nbd_client *nbd_start(const struct nbd_config *config, int *err)
{
	struct nbd_client *c;
	pid_t pid;

	if (!config->timeout || !config->connections || config->connections > MAX_CONNECTIONS) {
		*err = -EINVAL;
		return NULL;
	}
	c = mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (c == MAP_FAILED) {
		*err = -errno;
		return NULL;
	}
	c->config = *config;
	pid = fork();
	if (!pid) {
		*err = client(c);
		if (*err)
			shared_set(c->ready, *err);
		_exit(!!*err);
	}
	c->pid = pid;
	while (pid > 0 && !shared_get(c->ready) && waitpid(pid, NULL, WNOHANG) != pid)
		usleep(10000);
	if (c->ready == 1)
		return c;
	*err = c->ready ?: -ECHILD;
	munmap(c, sizeof(*c));
	return NULL;
}

void nbd_status(struct nbd_client *c, struct nbd_status *s)
{
	*s = c->status;
}

bool nbd_stop(struct nbd_client *c, double seconds)
{
	double end = seconds_now() + seconds;
	int status = -1;
	pid_t pid;

	shared_set(c->stop, true);
	do {
		pid = waitpid(c->pid, &status, WNOHANG);
		if (pid)
			break;
		usleep(20000);
	} while (seconds_now() < end);
	if (!pid)
		kill(c->pid, SIGKILL);
	munmap(c, sizeof(*c));
	return pid > 0 && WIFEXITED(status) && !WEXITSTATUS(status);
}
