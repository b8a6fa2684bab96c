// SPDX-License-Identifier: GPL-2.0
/* Opened in one function, closed in another: listed, with the other end. */

void thing_lock(struct thing *t)
{
	mutex_lock(&t->lock);
	t->cookie = memalloc_noreclaim_save(); /* hit: pair, closed in thing_unlock() at line 12 */
}

void thing_unlock(struct thing *t)
{
	memalloc_noreclaim_restore(t->cookie);
	mutex_unlock(&t->lock);
}

unsigned int thing_freeze(struct thing *t)
{
	unsigned int flags = memalloc_pin_save(); /* hit: pair, closed in thing_thaw() at line 27 */

	freeze(t);
	return flags;
}

void thing_thaw(struct thing *t, unsigned int flags)
{
	thaw(t);
	memalloc_pin_restore(flags);
}

void thing_begin(struct thing *t)
{
	t->elsewhere = memalloc_nofs_save(); /* hit: pair, closed in another file */
}

void in_one_function(struct thing *t)
{
	t->saved = memalloc_noio_save();
	change(t);
	memalloc_noio_restore(t->saved);
}

int local(struct thing *t)
{
	unsigned int flags;

	flags = memalloc_nofs_save();
	log_it(flags);
	change(t);
	memalloc_nofs_restore(flags);
	return thaw(t);
}

void server_lock(struct thing *t)
{
	unsigned int flags = memalloc_nofs_save(); /* hit: pair, closed in server_unlock() at line 66 */

	mutex_lock(&t->lock);
	t->server_flags = flags;
}

void server_unlock(struct thing *t)
{
	unsigned int flags = t->server_flags;

	mutex_unlock(&t->lock);
	memalloc_nofs_restore(flags);
}

static unsigned int machine_cookie;

void machine_lock(void)
{
	mutex_lock(&machine);
	machine_cookie = memalloc_noio_save(); /* hit: pair, closed in machine_unlock() at line 79 */
}

void machine_unlock(void)
{
	memalloc_noio_restore(machine_cookie);
	mutex_unlock(&machine);
}

void machine_reset(struct thing *t)
{
	unsigned int machine_cookie = memalloc_noio_save();

	log_it(machine_cookie);
	change(t);
	memalloc_noio_restore(machine_cookie);
}
