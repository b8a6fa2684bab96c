// SPDX-License-Identifier: GPL-2.0
/* Save and restore that could be a guard, and what only looks so. */

int whole_function(struct thing *t)
{
	unsigned int nofs = memalloc_nofs_save(); /* hit: guard, guard(memalloc_nofs)() */
	int error;

	error = change(t);
	memalloc_nofs_restore(nofs);
	return error;
}

int early_return(struct thing *t)
{
	unsigned int noio;
	int error;

	noio = memalloc_noio_save(); /* hit: guard */
	error = prepare(t);
	if (error) {
		memalloc_noio_restore(noio);
		return error;
	}
	error = change(t);
	if (error) {
		release(t);
		memalloc_noio_restore(noio);
		return error;
	}
	memalloc_noio_restore(noio);
	return 0;
}

void inner_block(struct thing *t, bool swap)
{
	if (swap) {
		unsigned int flags;

		flags = memalloc_noreclaim_save(); /* hit: guard */
		change(t);
		memalloc_noreclaim_restore(flags);
	}
	thaw(t);
}

int middle(struct thing *t)
{
	unsigned int flags, n;
	int error;

	n = prepare(t);
	flags = memalloc_pin_save(); /* hit: scoped, scoped_guard(memalloc_pin) */
	error = change(t);
	if (error)
		report(t);
	memalloc_pin_restore(flags);
	thaw(t);
	return error + n;
}

/* The value is computed behind the restore, without the scope. */
int computed_behind(struct thing *t)
{
	unsigned int flags;

	flags = memalloc_nofs_save();
	if (prepare(t)) {
		memalloc_nofs_restore(flags);
		return release(t);
	}
	change(t);
	memalloc_nofs_restore(flags);
	return 0;
}

/* A jump over a guard: the compiler would close what was not opened. */
int jumped_over(struct thing *t)
{
	unsigned int flags;
	int error;

	error = prepare(t);
	if (error)
		goto out;
	flags = memalloc_nofs_save();
	error = change(t);
	memalloc_nofs_restore(flags);
out:
	return error;
}

int jumped_out(struct thing *t)
{
	unsigned int flags;
	int error;

	flags = memalloc_nofs_save();
	error = change(t);
	if (error)
		goto out;
	error = change(t);
out:
	memalloc_nofs_restore(flags);
	return error;
}

void leaves_a_loop(struct thing *t)
{
	unsigned int flags;
	int i;

	for (i = 0; i < t->n; i++) {
		flags = memalloc_nofs_save();
		if (skip(t, i)) {
			memalloc_nofs_restore(flags);
			break;
		}
		change(t);
		memalloc_nofs_restore(flags);
	}
}

int in_a_switch(struct thing *t)
{
	unsigned int flags;

	switch (t->kind) {
	case 1:
		flags = memalloc_nofs_save(); /* hit: scoped */
		change(t);
		memalloc_nofs_restore(flags);
		break;
	default:
		thaw(t);
	}
	return 0;
}

int used_for_more(struct thing *t)
{
	unsigned int flags;

	flags = memalloc_nofs_save();
	change(t);
	log_it(flags);
	memalloc_nofs_restore(flags);
	return 0;
}

int opened_sometimes(struct thing *t)
{
	unsigned int flags = 0;

	if (t->swap)
		flags = memalloc_nofs_save();
	change(t);
	memalloc_nofs_restore(flags);
	return 0;
}

int opened_twice(struct thing *t)
{
	unsigned int flags;

	flags = memalloc_nofs_save();
	change(t);
	memalloc_nofs_restore(flags);
	thaw(t);
	flags = memalloc_nofs_save();
	change(t);
	memalloc_nofs_restore(flags);
	return 0;
}

int declares_inside(struct thing *t)
{
	unsigned int flags;

	flags = memalloc_nofs_save();
	int error = change(t);
	memalloc_nofs_restore(flags);
	thaw(t);
	return error;
}

void ends_elsewhere(struct thing *t)
{
	unsigned int flags;

	if (t->swap) {
		flags = memalloc_nofs_save();
		change(t);
	} else {
		flags = memalloc_nofs_save();
	}
	thaw(t);
	memalloc_nofs_restore(flags);
}
