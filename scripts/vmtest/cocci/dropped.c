// SPDX-License-Identifier: GPL-2.0
/* A cookie that is lost. */

int thread(void *data)
{
	memalloc_noreclaim_save(); /* hit: dropped, memalloc_noreclaim_thread() */
	while (!kthread_should_stop())
		work(data);
	return 0;
}

int cast(void *data)
{
	(void)memalloc_pin_save(); /* hit: dropped */
	return work(data);
}

int never_used(struct thing *t)
{
	unsigned int flags;

	flags = memalloc_nofs_save(); /* hit: dropped, cookie flags is never used */
	return change(t);
}

int never_used_declared(struct thing *t)
{
	unsigned int flags = memalloc_nofs_save(); /* hit: dropped */

	return change(t);
}

int thread_that_says_so(void *data)
{
	memalloc_noio_thread();
	while (!kthread_should_stop())
		work(data);
	return 0;
}

int kept(struct thing *t)
{
	unsigned int flags;

	flags = memalloc_nofs_save();
	t->cookie(flags);
	return change(t);
}

static inline unsigned int wrapper(void)
{
	return memalloc_nofs_save(); /* hit: pair, closed in another file */
}
