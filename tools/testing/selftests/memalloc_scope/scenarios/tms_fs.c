// SPDX-License-Identifier: GPL-2.0
/* Finds and mounts the disks: virtio ones by serial number, loop devices on them. */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tms_fs.h"
#include "tms_scenario.h"

#define ROOM		"/tmp/memalloc_scope_fs"
#define HOST_SERIAL	"tms-host"

/* An unmount waits for those who look at the file system, which are soon gone. */
#define PATIENCE_MS	10000
#define NAP_MS		50

static bool kernel_has(const char *type)
{
	char line[64], name[32];
	bool found = false;
	FILE *f = fopen("/proc/filesystems", "r");

	while (f && !found && fgets(line, sizeof(line), f)) {
		if (sscanf(line, " %31s", name) == 1)
			found = !strcmp(name, type);
	}
	if (f)
		fclose(f);
	return found;
}

static int attach_loop(struct tms_fs *fs, char *why)
{
	struct loop_config config = { .block_size = 512 };
	char path[TMS_FS_PATH * 2];
	int control, nr, image, loop;

	if (mount(fs->device, fs->host_dir, "ext4", 0, NULL)) {
		snprintf(why, TMS_FS_WHY, "cannot mount %s: %s", fs->device, strerror(errno));
		return -1;
	}
	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	nr = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
	if (control >= 0)
		close(control);
	if (nr < 0) {
		snprintf(why, TMS_FS_WHY, "no loop device: %s", strerror(errno));
		errno = ENODEV;
		return -1;
	}
	snprintf(fs->device, sizeof(fs->device), "/dev/loop%d", nr);
	snprintf(path, sizeof(path), "%s/%s.img", fs->host_dir, fs->type);
	image = open(path, O_RDWR | O_CLOEXEC);
	if (image < 0) {
		snprintf(why, TMS_FS_WHY, "no %s.img on disk " HOST_SERIAL, fs->type);
		errno = ENODEV;
		return -1;
	}
	config.fd = image;
	loop = open(fs->device, O_RDWR | O_CLOEXEC);
	if (loop < 0 || ioctl(loop, LOOP_CONFIGURE, &config))
		snprintf(why, TMS_FS_WHY, "%s: %s", fs->device, strerror(errno));
	else
		fs->loop_fd = open(fs->device, O_RDONLY | O_CLOEXEC);
	/* What is open for writing may refuse to be mounted. */
	if (loop >= 0)
		close(loop);
	close(image);
	return fs->loop_fd < 0 ? -1 : 0;
}

int tms_fs_attach(struct tms_fs *fs, char *why)
{
	char serial[32];

	fs->loop_fd = -1;
	if (geteuid()) {
		snprintf(why, TMS_FS_WHY, "needs root");
		errno = ENODEV;
		return -1;
	}
	if (!kernel_has(fs->type)) {
		snprintf(why, TMS_FS_WHY, "the kernel has no %s", fs->type);
		errno = ENODEV;
		return -1;
	}
	snprintf(serial, sizeof(serial), "tms-%s", fs->type);
	if (!find_disk(fs->loop ? HOST_SERIAL : serial, fs->device, sizeof(fs->device))) {
		snprintf(why, TMS_FS_WHY, "no disk with serial number %s",
			 fs->loop ? HOST_SERIAL : serial);
		errno = ENODEV;
		return -1;
	}
	snprintf(fs->dir, sizeof(fs->dir), ROOM "/fs");
	snprintf(fs->host_dir, sizeof(fs->host_dir), ROOM "/host");
	mkdir(ROOM, 0700);
	mkdir(fs->dir, 0700);
	mkdir(fs->host_dir, 0700);
	return fs->loop ? attach_loop(fs, why) : 0;
}

int tms_fs_mount(struct tms_fs *fs)
{
	if (mount(fs->device, fs->dir, fs->type, 0, NULL))
		return -1;
	fs->mounted = true;
	return 0;
}

static int umount_dir(const char *dir)
{
	for (int ms = 0; umount(dir); ms += NAP_MS) {
		if (errno != EBUSY || ms >= PATIENCE_MS)
			return -1;
		usleep(NAP_MS * 1000);
	}
	return 0;
}

int tms_fs_umount(struct tms_fs *fs)
{
	if (fs->mounted && umount_dir(fs->dir))
		return -1;
	fs->mounted = false;
	return 0;
}

void tms_fs_detach(struct tms_fs *fs)
{
	tms_fs_umount(fs);
	if (fs->loop_fd >= 0) {
		ioctl(fs->loop_fd, LOOP_CLR_FD);
		close(fs->loop_fd);
		fs->loop_fd = -1;
	}
	if (fs->loop)
		umount_dir(fs->host_dir);
}
