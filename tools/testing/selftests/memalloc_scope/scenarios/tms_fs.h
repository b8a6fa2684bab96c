/* SPDX-License-Identifier: GPL-2.0 */
/* Disks with file systems, and storms of metadata on them while memory is short. */
#ifndef _TMS_FS_H
#define _TMS_FS_H

#include <linux/types.h>
#include <stdbool.h>

#define TMS_FS_WHY	200
#define TMS_FS_PATH	64

/* What to mount; the disk is known by its serial number. */
struct tms_fs {
	const char *type;
	bool loop;			/* on loop over ext4 */
	/* filled in by tms_fs_attach() */
	char device[TMS_FS_PATH];
	char dir[TMS_FS_PATH];
	char host_dir[TMS_FS_PATH];
	int loop_fd;
	bool mounted;
};

/*
 * Makes the device ready. Returns 0; or -1, and says in @why what went wrong:
 * something is missing here if errno is ENODEV, and broken if not.
 */
int tms_fs_attach(struct tms_fs *fs, char *why);
int tms_fs_mount(struct tms_fs *fs);
int tms_fs_umount(struct tms_fs *fs);
void tms_fs_detach(struct tms_fs *fs);

#define TMS_STORM_WORKERS	4
#define TMS_STORM_DIRS		4
#define TMS_STORM_FILES		128	/* of one worker */

enum {
	TMS_OP_CREATE,
	TMS_OP_UNLINK,
	TMS_OP_RENAME,
	TMS_OP_LINK,
	TMS_OP_REWRITE,
	TMS_OP_XATTR,
	TMS_OP_DIR,
	TMS_OP_FSYNC,
	TMS_OP_SPECIAL,			/* what one file system alone has */
	TMS_OP_LOOK,
	TMS_OPS
};

extern const char *const tms_op_name[TMS_OPS];

/* What is known of a file: it has to be so after the next mount. */
struct tms_file {
	__u32 content;		/* seed of the data, 0: does not exist */
	__u32 xattr;			/* seed of the attribute, 0: has none */
	__u8 dir;
	bool linked;			/* has a second name */
};

struct tms_worker {
	struct tms_file files[TMS_STORM_FILES];
	__u64 ops[TMS_OPS];
	__u64 random;
	__u32 next;			/* seed */
	__u32 enomem;		/* operations that were refused for want of memory */
	char error[TMS_FS_WHY];
};

/* Shared by the processes */
struct tms_storm {
	char dir[TMS_FS_PATH];
	const char *type;
	unsigned int seconds;
	unsigned int limit_kb;		/* what the workers' cgroup is squeezed to */
	/* ends the storm before its time; may be NULL */
	bool (*enough)(void *arg);
	void *enough_arg;
	bool stop;
	struct tms_worker workers[TMS_STORM_WORKERS];
};

/*
 * A cgroup with a limit, in force from begin to end, that processes enter; and what
 * is charged to it. There is one at a time.
 */
int tms_short_begin(unsigned long kb);
int tms_short_enter(void);
int tms_short_limit(unsigned long kb);
unsigned long tms_short_kb(void);
void tms_short_end(void);

/* Ready for tms_storm_run(); NULL if there is no memory. */
struct tms_storm *tms_storm_new(const struct tms_fs *fs);
void tms_storm_free(struct tms_storm *s);

/*
 * Runs the storm for its seconds. Returns 0, or -1 and says in @why what failed.
 * Ends within seconds of its time, or kills the workers and fails.
 */
int tms_storm_run(struct tms_storm *s, char *why);

/* Compares the file system with what the workers left there. */
int tms_storm_verify(struct tms_storm *s, unsigned int *files, char *why);

__u64 tms_storm_ops(const struct tms_storm *s);

#endif /* _TMS_FS_H */
