// SPDX-License-Identifier: GPL-2.0
/* A scoped_guard, and nothing else in the file. */

int only(struct thing *t)
{
	unsigned int flags;
	int error;

	flags = memalloc_nofs_save(); /* hit: scoped */
	error = change(t);
	memalloc_nofs_restore(flags);
	thaw(t);
	return error;
}
