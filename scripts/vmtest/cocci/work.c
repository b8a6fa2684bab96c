// SPDX-License-Identifier: GPL-2.0
/* Work that is waited for inside a scope, and allocates without it. */

static void careless_fn(struct work_struct *work)
{
	struct thing *t = container_of(work, struct thing, careless);

	t->p = kmalloc(t->n, GFP_KERNEL);
	complete(&t->done);
}

static void careful_fn(struct work_struct *work)
{
	struct thing *t = container_of(work, struct thing, careful);
	unsigned int flags = memalloc_nofs_save();

	t->p = kmalloc(t->n, GFP_KERNEL);
	log_it(flags);
	memalloc_nofs_restore(flags);
}

static void idle_fn(struct work_struct *work)
{
	report(work);
}

static void silent_fn(struct work_struct *work)
{
	struct thing *t = container_of(work, struct thing, silent);

	t->p = kmalloc(t->n, GFP_KERNEL);
}

void thing_setup(struct thing *t)
{
	INIT_WORK(&t->careless, careless_fn);
	INIT_WORK(&t->careful, careful_fn);
	INIT_WORK(&t->idle, idle_fn);
	INIT_WORK(&t->silent, silent_fn);
}

void flushed(struct thing *t)
{
	unsigned int flags;

	flags = memalloc_nofs_save();
	queue_work(t->wq, &t->careless);
	flush_work(&t->careless); /* hit: work, careless_fn() */
	log_it(flags);
	memalloc_nofs_restore(flags);
}

void completed(struct thing *t)
{
	unsigned int flags = memalloc_noio_save();

	schedule_work(&t->careless);
	change(t);
	wait_for_completion(&t->done); /* hit: work, uses GFP_KERNEL on line 8 */
	log_it(flags);
	memalloc_noio_restore(flags);
}

void brings_its_scope(struct thing *t)
{
	unsigned int flags;

	flags = memalloc_nofs_save();
	queue_work(t->wq, &t->careful);
	flush_work(&t->careful);
	queue_work(t->wq, &t->idle);
	flush_work(&t->idle);
	log_it(flags);
	memalloc_nofs_restore(flags);
}

void does_not_complete(struct thing *t)
{
	unsigned int flags;

	flags = memalloc_nofs_save();
	queue_work(t->wq, &t->silent);
	wait_for_completion(&t->done);
	log_it(flags);
	memalloc_nofs_restore(flags);
}

void waits_behind(struct thing *t)
{
	unsigned int flags;

	flags = memalloc_nofs_save();
	queue_work(t->wq, &t->careless);
	log_it(flags);
	memalloc_nofs_restore(flags);
	flush_work(&t->careless);
}
