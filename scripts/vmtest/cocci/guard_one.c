// SPDX-License-Identifier: GPL-2.0
/* A guard, and nothing else in the file. */

void only(struct thing *t)
{
	unsigned int flags;

	flags = memalloc_noio_save(); /* hit: guard */
	change(t);
	memalloc_noio_restore(flags);
}
