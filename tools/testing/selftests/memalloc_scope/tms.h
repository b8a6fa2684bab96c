/* SPDX-License-Identifier: GPL-2.0 */
/* What memalloc_scope_test and memalloc_scope_table share. */
#ifndef _TMS_H
#define _TMS_H

#include <stdbool.h>
#include <stddef.h>

#include "test_modules/test_memalloc_scope.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER	57
#define PR_GET_IO_FLUSHER	58
#endif

#define TMS_NAMES	64

/* Masks that differ from what the rules say */
#define TMS_WHY		200

extern const char *const tms_kind_name[TMS_KINDS];
extern const char *const tms_rule_name[TMS_RULES];
extern const char *const tms_request_name[TMS_REQUESTS];

/*
 * Opens the device, after loading the module that lies next to the program if
 * need be. Returns the descriptor, or -1 and says in *@why what is missing;
 * *@broken tells a module that is there but does not load from one that is not.
 */
int tms_device(const char **why, bool *broken);

/* The same for a module whose device has its name */
int tms_module_device(const char *module, const char **why, bool *broken);

/* Small files, as settings of the kernel are; what is read ends with its first line. */
bool write_text(const char *path, const char *text);
bool read_text(const char *path, char *buf, size_t size);

/* The next message of /dev/kmsg that starts with @start and has @key in it, if any */
#define TMS_MESSAGE	8192	/* more than any record has */
bool find_message(int kmsg, const char *start, const char *key, char line[TMS_MESSAGE]);

/* Loopback has to be up for network traffic. */
int tms_loopback_up(void);

/* "nofs pin", or "none" */
const char *tms_names(char *buf, __u32 scopes);

/*
 * What the rules say, written down apart from the kernel: the mask that has to
 * come out if @asked is asked for inside @scopes, and the queries that hold.
 */
__u32 tms_expect(__u32 scopes, __u32 asked);
__u32 tms_expect_active(__u32 scopes);

/* Has reclaim to happen for @asked inside @scopes? */
bool tms_expect_reclaim(__u32 scopes, __u32 asked);

/*
 * Judge a run. @scopes is all that applied, that is including io_flusher. They
 * return true if the rules were kept, and say in @why[TMS_WHY] if not.
 */
bool tms_judge_seen(const struct tms_seen *seen, __u32 want, char *why);
bool tms_judge_reclaim(const struct tms_reclaim *r, __u32 scopes, char *why);
bool tms_judge_hits(const struct tms_hits *h, char *why);

/* Hits that a run has to come up with, on a slow machine */
__u64 tms_enough_hits(const struct tms_interrupt *t, int kind);

/*
 * One run of TMS_IOC_RECLAIM, as ioctl() returns. Some other task may need memory
 * at the wrong moment, and end the run: so it gets three tries.
 */
int tms_reclaim(int fd, struct tms_reclaim *r);

#endif /* _TMS_H */
