// SPDX-License-Identifier: GPL-2.0
/* PF_MEMALLOC* in current->flags, by hand. */

int set_and_cleared(struct thing *t)
{
	int error;

	mutex_lock(&t->lock);
	current->flags |= PF_MEMALLOC_NOIO; /* hit: poke, memalloc_noio_*() */
	error = change(t);
	if (error)
		report(t);
	current->flags &= ~PF_MEMALLOC_NOIO; /* hit: poke */
	mutex_unlock(&t->lock);
	return error;
}

int left_in_between(struct thing *t)
{
	current->flags |= PF_MEMALLOC; /* hit: poke, memalloc_noreclaim_*() */
	if (prepare(t)) {
		current->flags &= ~PF_MEMALLOC; /* hit: poke */
		return -EIO;
	}
	change(t);
	current->flags &= ~PF_MEMALLOC; /* hit: poke */
	return 0;
}

void restored(struct thing *t)
{
	unsigned long pflags = current->flags;

	current->flags |= PF_MEMALLOC; /* hit: poke */
	change(t);
	current_restore_flags(pflags, PF_MEMALLOC); /* hit: poke */
}

void restored_of_a_task(struct task_struct *tsk, unsigned long pflags)
{
	tsk_restore_flags(tsk, pflags, PF_MEMALLOC_NOFS); /* hit: poke */
}

void more_than_one(struct thing *t)
{
	current->flags |= PF_LOCAL_THROTTLE | PF_MEMALLOC_NOIO; /* hit: poke */
	change(t);
	current->flags &= ~(PF_LOCAL_THROTTLE | PF_MEMALLOC_NOIO); /* hit: poke */
}

int tests(struct thing *t)
{
	unsigned int old;

	if (current->flags & PF_MEMALLOC) /* hit: poke */
		return -EAGAIN;
	if (t->busy && !(current->flags & PF_MEMALLOC_NOFS)) /* hit: poke */
		return -EBUSY;
	WARN_ON_ONCE(current->flags & PF_MEMALLOC_NOIO); /* hit: poke */
	old = current->flags & PF_MEMALLOC_PIN; /* hit: poke */
	if (current->flags & (PF_MEMALLOC | PF_EXITING)) /* hit: poke */
		return -EAGAIN;
	return old == 0;
}

int other_flags(struct thing *t)
{
	if (current->flags & PF_KTHREAD)
		return 0;
	current->flags |= PF_LOCAL_THROTTLE;
	change(t);
	current->flags &= ~PF_LOCAL_THROTTLE;
	return t->flags & PF_THING;
}
