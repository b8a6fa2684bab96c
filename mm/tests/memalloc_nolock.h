/* SPDX-License-Identifier: GPL-2.0 */
/* What the KUnit tests of nolock scopes share */
#ifndef _MM_TESTS_MEMALLOC_NOLOCK_H
#define _MM_TESTS_MEMALLOC_NOLOCK_H

#include <kunit/test.h>
#include <linux/cleanup.h>
#include <linux/debug_locks.h>
#include <linux/memalloc_scope.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

static DEFINE_RAW_SPINLOCK(raw_lock);
static bool locks_checked;	/* lockdep worked when the case began */
static bool slept;

static inline int nolock_test_init(struct kunit *test)
{
	locks_checked = debug_locks;
	slept = false;
	return 0;
}

static inline unsigned long switches(void)
{
	return current->nvcsw + current->nivcsw;
}

struct raw_section {
	unsigned long flags, switches;
	unsigned int cookie;
};

static inline void raw_section_begin(struct raw_section *section)
	__acquires(&raw_lock)
{
	raw_spin_lock_irqsave(&raw_lock, section->flags);
	section->switches = switches();
	section->cookie = memalloc_nolock_save();
}

static inline void raw_section_end(struct raw_section *section)
	__releases(&raw_lock)
{
	memalloc_nolock_restore(section->cookie);
	if (switches() != section->switches)
		slept = true;
	raw_spin_unlock_irqrestore(&raw_lock, section->flags);
}

/* Inside nolock, where a spinlock_t must not be taken, nor anything slept on */
DEFINE_LOCK_GUARD_0(raw_nolock,
		    raw_section_begin(&_T->section),
		    raw_section_end(&_T->section),
		    struct raw_section section)

static inline void expect_clean(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, !!debug_locks, locks_checked);
	KUNIT_EXPECT_FALSE(test, slept);
	KUNIT_EXPECT_EQ(test, (__force u8)current->memalloc_scope, 0);
}

/* Caches of each sort. Not merged: what is left in them is ours. */

#define MAGIC	0x6c6f636bUL

struct object {
	void *next;
	unsigned long magic;
	struct rcu_head rcu;
	char filler[64];
};

static inline void object_ctor(void *p)
{
	struct object *obj = p;

	obj->next = obj;
	obj->magic = MAGIC;
}

static inline struct kmem_cache *
new_cache(struct kunit *test, const char *name,
	  slab_flags_t flags, void (*ctor)(void *))
{
	struct kmem_cache *s;

	s = kmem_cache_create(name, sizeof(struct object), 0, flags | SLAB_NO_MERGE, ctor);
	KUNIT_EXPECT_NOT_NULL(test, s);
	return s;
}

/* Waits for what is to be freed later, and warns if anything is left. */
static inline void destroy_cache(struct kunit *test, struct kmem_cache *s)
{
	kunit_warning_suppress(test) {
		kmem_cache_destroy(s);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 0);
	}
}

#endif /* _MM_TESTS_MEMALLOC_NOLOCK_H */
