/* SPDX-License-Identifier: GPL-2.0 */
/*
 * For make base: what the module of the selftest takes from the series' header of
 * this name, expressed in what the base kernel has, which is PF_* bits and the
 * functions of <linux/sched/mm.h>. It gives the base no rule that it lacks.
 *
 * <linux/memalloc_scope_types.h> is the series' own. A scope that it names and the
 * base has no bit for opens nothing here, so its tests fail, as they should. A
 * function that the module has begun to use goes at the end.
 */
#ifndef _LINUX_MEMALLOC_SCOPE_H
#define _LINUX_MEMALLOC_SCOPE_H

#include <linux/cleanup.h>
#include <linux/memalloc_scope_types.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sprintf.h>

/* An I/O flusher is noio and something else: kernel/sys.c */
#define PF_BASE_IO_FLUSHER	(PF_MEMALLOC_NOIO | PF_LOCAL_THROTTLE)
#define PF_BASE_SCOPES		\
	(PF_MEMALLOC_NOFS | PF_MEMALLOC_PIN | PF_MEMALLOC | PF_BASE_IO_FLUSHER)

#define MEMALLOC_SCOPE_NAMES_MAX	64

static inline unsigned int memalloc_scope_to_pf(memalloc_scope_t scope)
{
	return (scope & MEMALLOC_SCOPE_NOFS ? PF_MEMALLOC_NOFS : 0) |
	       (scope & MEMALLOC_SCOPE_NOIO ? PF_MEMALLOC_NOIO : 0) |
	       (scope & MEMALLOC_SCOPE_PIN ? PF_MEMALLOC_PIN : 0) |
	       (scope & MEMALLOC_SCOPE_NORECLAIM ? PF_MEMALLOC : 0) |
	       (scope & MEMALLOC_SCOPE_IO_FLUSHER ? PF_BASE_IO_FLUSHER : 0);
}

/* A noio scope of an I/O flusher cannot be told from none. */
static inline memalloc_scope_t memalloc_scope_from_pf(unsigned int pf)
{
	memalloc_scope_t scope = MEMALLOC_SCOPE_NONE;

	if (pf & PF_MEMALLOC_NOFS)
		scope |= MEMALLOC_SCOPE_NOFS;
	if ((pf & PF_BASE_IO_FLUSHER) == PF_BASE_IO_FLUSHER)
		scope |= MEMALLOC_SCOPE_IO_FLUSHER;
	else if (pf & PF_MEMALLOC_NOIO)
		scope |= MEMALLOC_SCOPE_NOIO;
	if (pf & PF_MEMALLOC_PIN)
		scope |= MEMALLOC_SCOPE_PIN;
	if (pf & PF_MEMALLOC)
		scope |= MEMALLOC_SCOPE_NORECLAIM;
	return scope;
}

static inline memalloc_scope_t task_memalloc_scope(const struct task_struct *p)
{
	return memalloc_scope_from_pf(READ_ONCE(p->flags));
}

static inline memalloc_scope_t __memalloc_scope_get(void)
{
	return task_memalloc_scope(current);
}

static inline void __memalloc_scope_set(memalloc_scope_t scope)
{
	current->flags = (current->flags & ~PF_BASE_SCOPES) | memalloc_scope_to_pf(scope);
}

static inline void memalloc_scope_give_back(memalloc_scope_t scope)
{
	__memalloc_scope_set(scope);
}

/* Cookies are of PF_* bits, as the base's own are. */
static inline unsigned int memalloc_scope_save(memalloc_scope_t scope)
{
	return memalloc_flags_save(memalloc_scope_to_pf(scope));
}

static inline void memalloc_scope_restore(unsigned int cookie)
{
	memalloc_flags_restore(cookie);
}

static inline bool memalloc_scope_open(memalloc_scope_t scope)
{
	return current->flags & memalloc_scope_to_pf(scope);
}

static inline bool memalloc_scope_active(memalloc_scope_t scope)
{
	return memalloc_scope_open(scope);
}

/* The questions as the base asks them: a bit each, whatever the context */
static inline bool memalloc_nofs_active(void)
{
	return current->flags & PF_MEMALLOC_NOFS;
}

static inline bool memalloc_noio_active(void)
{
	return current->flags & PF_MEMALLOC_NOIO;
}

static inline bool memalloc_noreclaim_active(void)
{
	return current->flags & PF_MEMALLOC;
}

static inline bool memalloc_pin_active(void)
{
	return current->flags & PF_MEMALLOC_PIN;
}

/* What the base has no scope for */
static inline unsigned int memalloc_nowait_save(void)
{
	return 0;
}

static inline void memalloc_nowait_restore(unsigned int cookie)
{
}

static inline bool memalloc_nowait_active(void)
{
	return false;
}

static inline unsigned int memalloc_nowarn_save(void)
{
	return 0;
}

static inline void memalloc_nowarn_restore(unsigned int cookie)
{
}

static inline bool memalloc_nowarn_active(void)
{
	return false;
}

static inline unsigned int memalloc_nolock_save(void)
{
	return 0;
}

static inline void memalloc_nolock_restore(unsigned int cookie)
{
}

static inline bool memalloc_nolock_active(void)
{
	return false;
}

static inline const char *memalloc_scope_names(memalloc_scope_t scope, char *buf, size_t size)
{
	scnprintf(buf, size, "%#x", (__force unsigned int)scope);
	return buf;
}

DEFINE_LOCK_GUARD_0(memalloc_nolock, _T->cookie = memalloc_nolock_save(),
		    memalloc_nolock_restore(_T->cookie), unsigned int cookie)

/* The base checks nothing. */
static inline void memalloc_debug_expect(memalloc_scope_t scope) { }
static inline void memalloc_debug_unexpect(memalloc_scope_t scope) { }

#endif /* _LINUX_MEMALLOC_SCOPE_H */
