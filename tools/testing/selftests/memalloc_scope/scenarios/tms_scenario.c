// SPDX-License-Identifier: GPL-2.0
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../tms.h"
#include "tms_scenario.h"

#define HOST_PORT	"vmtest.host"
#define HOST_MS		30000	/* a server may take some time to start */
#define PORTS		"/sys/class/virtio-ports"

unsigned long setting(const char *name, unsigned long normally)
{
	const char *value = getenv(name);

	return value && *value ? strtoul(value, NULL, 0) : normally;
}

const char *find_disk(const char *serial, char *buf, size_t size)
{
	DIR *dir = opendir("/sys/block");
	const char *found = NULL;
	struct dirent *d;

	while (dir && !found && (d = readdir(dir))) {
		char path[PATH_MAX], text[64];

		snprintf(path, sizeof(path), "/sys/block/%s/serial", d->d_name);
		if (d->d_name[0] == '.' || !read_text(path, text, sizeof(text)) ||
		    strcmp(text, serial))
			continue;
		snprintf(buf, size, "/dev/%s", d->d_name);
		found = buf;
	}
	if (dir)
		closedir(dir);
	return found;
}

const char *mount_disk(const char *serial, const char *type, const char *dir)
{
	static char why[128];
	char disk[64];

	if (!find_disk(serial, disk, sizeof(disk))) {
		snprintf(why, sizeof(why), "no disk with the serial number %s", serial);
		return why;
	}
	mkdir(dir, 0700);
	if (!mount(disk, dir, type, 0, NULL))
		return NULL;
	snprintf(why, sizeof(why), "cannot mount %s as %s: %s", disk, type, strerror(errno));
	return why;
}

int ask_host(const char *line, char *answer, size_t size)
{
	char path[PATH_MAX], name[64], reply[256];
	DIR *dir = opendir(PORTS);
	struct dirent *d;
	ssize_t len = 0;
	int fd = -1;

	while (dir && fd < 0 && (d = readdir(dir))) {
		snprintf(path, sizeof(path), PORTS "/%s/name", d->d_name);
		if (d->d_name[0] == '.' || !read_text(path, name, sizeof(name)) ||
		    strcmp(name, HOST_PORT))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", d->d_name);
		fd = open(path, O_RDWR | O_CLOEXEC);
	}
	if (dir)
		closedir(dir);
	if (fd < 0)
		return -ENODEV;
	snprintf(reply, sizeof(reply), "%s\n", line);
	if (write(fd, reply, strlen(reply)) == (ssize_t)strlen(reply)) {
		do {
			struct pollfd p = { .fd = fd, .events = POLLIN };
			ssize_t more;

			more = poll(&p, 1, HOST_MS) <= 0 ? -1 :
			       read(fd, reply + len, sizeof(reply) - 1 - len);
			if (more <= 0)
				break;
			len += more;
		} while (reply[len - 1] != '\n' && len < (ssize_t)sizeof(reply) - 1);
	}
	close(fd);
	reply[len] = '\0';
	reply[strcspn(reply, "\n")] = '\0';
	snprintf(answer, size, "%s", len ? reply : "no answer");
	return strncmp(reply, "ok", 2) ? -EIO : 0;
}
