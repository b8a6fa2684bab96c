/* SPDX-License-Identifier: GPL-2.0 */
/* What the scenarios have in common. */
#ifndef _TMS_SCENARIO_H
#define _TMS_SCENARIO_H

#include <stdbool.h>
#include <stddef.h>

#include "../tms_figure.h"

/* The number in an environment variable: how long forms differ from quick ones */
unsigned long setting(const char *name, unsigned long normally);

/* /dev/NAME of the disk with this serial number, or NULL */
const char *find_disk(const char *serial, char *buf, size_t size);

/* Mounts it, making the directory; NULL, or what is wrong */
const char *mount_disk(const char *serial, const char *type, const char *dir);

/*
 * One line to whoever runs this guest, through the virtio port vmtest.host, and what
 * came back into @answer. Returns 0, -EIO if it was refused, -ENODEV if there is
 * nobody to ask.
 */
int ask_host(const char *line, char *answer, size_t size);

#endif /* _TMS_SCENARIO_H */
