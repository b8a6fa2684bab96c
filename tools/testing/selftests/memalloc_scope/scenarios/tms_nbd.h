/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A client of the network block device that memory pressure cannot stop: a process
 * of its own connects /dev/nbd0 to a server, and again whenever the connection dies.
 */
#ifndef _TMS_NBD_H
#define _TMS_NBD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <linux/types.h>

#define NBD_DEVICE	"/dev/nbd0"

struct nbd_client;

struct nbd_config {
	struct sockaddr_in server;
	unsigned int timeout;		/* seconds until a request is sent again; not 0 */
	unsigned int dead_timeout;	/* seconds that a request waits for a connection */
	unsigned int connections;
	bool no_reserves;		/* take SOCK_MEMALLOC from the connections */
};

struct nbd_status {
	__u64 size;
	unsigned int lost;		/* connections that died */
	unsigned int reconnects;
	unsigned int attempts;		/* to reconnect, that failed */
	int error;			/* of the last one, -errno */
	double longest;			/* seconds without a connection */
};

/* NULL, and -errno in *@err, if it cannot be connected */
struct nbd_client *nbd_start(const struct nbd_config *config, int *err);
void nbd_status(struct nbd_client *c, struct nbd_status *s);

/* Disconnect the device; true if the client did within @seconds, and nobody killed it. */
bool nbd_stop(struct nbd_client *c, double seconds);

#endif /* _TMS_NBD_H */
