// SPDX-License-Identifier: GPL-2.0
/* GFP_NOFS and GFP_NOIO where an open scope implies them. */

void *in_nofs(struct thing *t)
{
	unsigned int flags;
	void *p;

	flags = memalloc_nofs_save();
	p = kmalloc(t->n, GFP_NOFS); /* hit: gfp, line 9 */
	if (!p)
		p = kvmalloc(t->n, GFP_NOFS | __GFP_ZERO); /* hit: gfp */
	log_it(flags);
	memalloc_nofs_restore(flags);
	return p;
}

void *in_noio(struct thing *t)
{
	unsigned int flags = memalloc_noio_save();
	struct bio *bio;

	t->page = alloc_page(GFP_NOIO); /* hit: gfp */
	t->name = kstrdup(t->label, GFP_NOFS); /* hit: gfp */
	bio = bio_alloc(t->bdev, 1, 0, GFP_NOIO); /* hit: gfp */
	log_it(flags);
	memalloc_noio_restore(flags);
	return bio;
}

void *not_implied(struct thing *t)
{
	unsigned int flags;
	void *p;

	flags = memalloc_nofs_save();
	p = kmalloc(t->n, GFP_NOIO);
	log_it(flags);
	memalloc_nofs_restore(flags);
	return p;
}

void *other_scope(struct thing *t)
{
	unsigned int flags;
	void *p;

	flags = memalloc_pin_save();
	p = kmalloc(t->n, GFP_NOFS);
	log_it(flags);
	memalloc_pin_restore(flags);
	return p;
}

void *behind(struct thing *t)
{
	unsigned int flags;
	void *p;

	flags = memalloc_nofs_save();
	change(t);
	log_it(flags);
	memalloc_nofs_restore(flags);
	p = kmalloc(t->n, GFP_NOFS);
	return p;
}

void *sometimes(struct thing *t)
{
	unsigned int flags = 0;
	void *p;

	if (t->swap)
		flags = memalloc_nofs_save();
	p = kmalloc(t->n, GFP_NOFS);
	memalloc_nofs_restore(flags);
	return p;
}

void *joined(struct thing *t)
{
	unsigned int flags;
	void *p;

	if (!t->swap)
		goto out;
	flags = memalloc_nofs_save();
	change(t);
out:
	p = kmalloc(t->n, GFP_NOFS);
	if (t->swap)
		memalloc_nofs_restore(flags);
	return p;
}

void *no_allocation(struct thing *t)
{
	unsigned int flags;

	flags = memalloc_nofs_save();
	thing_init(t, GFP_NOFS);
	t->gfp = GFP_NOFS;
	if (t->gfp == GFP_NOFS)
		change(t);
	log_it(flags);
	memalloc_nofs_restore(flags);
	return t;
}
