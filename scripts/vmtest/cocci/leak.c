// SPDX-License-Identifier: GPL-2.0
/* A way out of a function on which a scope stays open. */

int early_return(struct thing *t)
{
	unsigned int nofs = memalloc_nofs_save();
	int error;

	error = prepare(t);
	if (error)
		return error; /* hit: leak, line 6 */
	mutex_lock(&t->lock);
	error = change(t);
	mutex_unlock(&t->lock);
	memalloc_nofs_restore(nofs);
	return error;
}

int early_goto(struct thing *t)
{
	unsigned int noio;
	int error;

	noio = memalloc_noio_save();
	error = prepare(t);
	if (error)
		goto out; /* hit: leak, line 24 */
	error = change(t);
	memalloc_noio_restore(noio);
out:
	release(t);
	return error;
}

void early_goto_void(struct thing *t)
{
	unsigned int noio;

	noio = memalloc_noio_save();
	if (prepare(t))
		goto out; /* hit: leak, line 39 */
	change(t);
	memalloc_noio_restore(noio);
out:
	release(t);
}

int inner_leak(struct thing *t)
{
	if (t->busy) {
		unsigned int flags;

		flags = memalloc_noreclaim_save();
		if (prepare(t))
			return -EBUSY; /* hit: leak, line 53 */
		memalloc_noreclaim_restore(flags);
	}
	return change(t);
}

int by_continue(struct thing *t)
{
	unsigned int flags;
	int i;

	for (i = 0; i < t->n; i++) {
		flags = memalloc_pin_save();
		if (skip(t, i))
			continue;
		change(t);
		memalloc_pin_restore(flags);
	}
	return 0; /* hit: leak, line 67 */
}

int all_ways_closed(struct thing *t)
{
	unsigned int nofs;
	int error;

	nofs = memalloc_nofs_save();
	error = prepare(t);
	if (error)
		goto out;
	if (t->busy) {
		memalloc_nofs_restore(nofs);
		release(t);
		return -EBUSY;
	}
	error = change(t);
out:
	memalloc_nofs_restore(nofs);
	return error;
}

int conditional(struct thing *t)
{
	unsigned int flags = 0;
	int error;

	if (t->swap)
		flags = memalloc_noio_save();
	error = change(t);
	if (error && !flags)
		return error;
	if (!t->swap)
		return 0;
	memalloc_noio_restore(flags);
	return 0;
}

int conditional_close(struct thing *t)
{
	unsigned int flags;
	int error;

	if (t->swap)
		flags = memalloc_noio_save();
	error = change(t);
	if (t->swap)
		memalloc_noio_restore(flags);
	return error;
}

unsigned int handed_back(struct thing *t)
{
	unsigned int flags = memalloc_noio_save(); /* hit: pair, cookie returned */

	freeze(t);
	return flags;
}

void stored(struct thing *t)
{
	unsigned int flags = memalloc_noio_save(); /* hit: pair, kept in t->flags */

	freeze(t);
	t->flags = flags;
}

void through_a_pointer(struct thing *t, unsigned int *cookie)
{
	*cookie = memalloc_noio_save(); /* hit: pair, kept in *cookie */
	freeze(t);
}

int given_to_a_function(struct thing *t)
{
	unsigned int flags = memalloc_noio_save();

	if (prepare(t)) {
		thaw(t, flags);
		return -EIO;
	}
	memalloc_noio_restore(flags);
	return 0;
}

int closes_by_itself(struct thing *t)
{
	guard(memalloc_nofs)();
	if (prepare(t))
		return -EIO;
	return change(t);
}

int never_comes_back(struct thing *t)
{
	unsigned int flags = memalloc_noio_save();

	if (prepare(t)) {
		do_exit(0);
		return 0;
	}
	thaw(t);
	memalloc_noio_restore(flags);
	return change(t);
}
