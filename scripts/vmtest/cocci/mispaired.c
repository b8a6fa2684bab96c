// SPDX-License-Identifier: GPL-2.0
/* A cookie that goes to another kind of restore. */

int wrong_kind(struct thing *t)
{
	unsigned int flags;
	int error;

	flags = memalloc_nofs_save();
	error = change(t);
	memalloc_noio_restore(flags); /* hit: mispaired, memalloc_nofs_save() returned on line 9 */
	return error;
}

int wrong_kind_declared(struct thing *t)
{
	unsigned int flags = memalloc_noreclaim_save();

	change(t);
	memalloc_pin_restore(flags); /* hit: mispaired, memalloc_noreclaim_save() returned on line 17 */
	return 0;
}

void crossed(struct thing *t)
{
	unsigned int nofs, pin;

	nofs = memalloc_nofs_save();
	pin = memalloc_pin_save();
	change(t);
	memalloc_nofs_restore(pin); /* hit: mispaired */
	memalloc_pin_restore(nofs); /* hit: mispaired */
}

int generic(struct thing *t)
{
	unsigned int flags;

	flags = memalloc_nofs_save();
	change(t);
	memalloc_scope_restore(flags);
	return thaw(t);
}

int one_of_two(struct thing *t)
{
	unsigned int flags;

	if (t->swap)
		flags = memalloc_noio_save();
	else
		flags = memalloc_nofs_save();
	change(t);
	if (t->swap)
		memalloc_noio_restore(flags);
	else
		memalloc_nofs_restore(flags);
	return 0;
}

int used_twice(struct thing *t)
{
	unsigned int flags;

	flags = memalloc_noio_save();
	change(t);
	memalloc_noio_restore(flags);
	flags = memalloc_nofs_save();
	change(t);
	memalloc_nofs_restore(flags);
	return 0;
}
