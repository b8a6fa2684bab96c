/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Locks that bring an allocation scope.
 *
 * If reclaim takes a lock, then whoever holds that lock must not reclaim in a way
 * that gets there: the scope belongs to the lock. Opened by hand it has to be
 * opened at each place that takes the lock, and whoever adds one more forgets it,
 * which is found out under memory pressure and not before. So let the lock bring
 * it:
 *
 *	guard(mutex_nofs)(&dquot->dq_lock);
 *
 * opens a nofs scope, then takes the lock; where the block ends it drops the lock,
 * then closes the scope. There is no moment at which the lock is held without its
 * scope. Conditional forms close the scope themselves if they do not get the lock.
 *
 *	lock				guards, each with _noio and with _nofs
 *	struct mutex			mutex_*, mutex_*_try, mutex_*_intr, mutex_*_kill
 *	struct rw_semaphore		rwsem_read_*, _try, _intr
 *					rwsem_write_*, _try, _kill
 *	struct percpu_rw_semaphore	percpu_read_*, _try
 *					percpu_write_*
 *
 * as in scoped_guard(rwsem_read_noio, &sem) or
 *
 *	ACQUIRE(mutex_noio_intr, lock)(&mutex);
 *	if ((ret = ACQUIRE_ERR(mutex_noio_intr, &lock)))
 *		return ret;
 *
 * What has to be closed in another function than it was opened in has no guard.
 */
#ifndef _LINUX_MEMALLOC_LOCK_H
#define _LINUX_MEMALLOC_LOCK_H

#include <linux/cleanup.h>
#include <linux/memalloc_scope.h>
#include <linux/mutex.h>
#include <linux/percpu-rwsem.h>
#include <linux/rwsem.h>

#define DEFINE_MEMALLOC_LOCK(_name, _kind, _type, _lock, _unlock)	\
DEFINE_LOCK_GUARD_1(_name##_##_kind, _type,				\
		    _T->cookie = memalloc_##_kind##_save();		\
			_lock(_T->lock),				\
		    _unlock(_T->lock);					\
			memalloc_##_kind##_restore(_T->cookie),		\
		    unsigned int cookie)

/* @_got: what @_lock returns is true if the lock is held, or false, as an error is */
#define DEFINE_MEMALLOC_LOCK_COND(_name, _kind, _ext, _lock, _got)	\
DEFINE_LOCK_GUARD_1_COND(_name##_##_kind, _ext, ({			\
	_T->cookie = memalloc_##_kind##_save();				\
	int ret = _lock(_T->lock);					\
	if (!!ret != (_got))						\
		memalloc_##_kind##_restore(_T->cookie);			\
	ret;								\
}), !!_RET == (_got))

#define DEFINE_MEMALLOC_LOCKS(_kind)					\
DEFINE_MEMALLOC_LOCK(mutex, _kind, struct mutex, mutex_lock, mutex_unlock) \
DEFINE_MEMALLOC_LOCK_COND(mutex, _kind, _try, mutex_trylock, true)	\
DEFINE_MEMALLOC_LOCK_COND(mutex, _kind, _intr, mutex_lock_interruptible, false) \
DEFINE_MEMALLOC_LOCK_COND(mutex, _kind, _kill, mutex_lock_killable, false) \
									\
DEFINE_MEMALLOC_LOCK(rwsem_read, _kind, struct rw_semaphore, down_read, up_read) \
DEFINE_MEMALLOC_LOCK_COND(rwsem_read, _kind, _try, down_read_trylock, true) \
DEFINE_MEMALLOC_LOCK_COND(rwsem_read, _kind, _intr, down_read_interruptible, false) \
									\
DEFINE_MEMALLOC_LOCK(rwsem_write, _kind, struct rw_semaphore, down_write, up_write) \
DEFINE_MEMALLOC_LOCK_COND(rwsem_write, _kind, _try, down_write_trylock, true) \
DEFINE_MEMALLOC_LOCK_COND(rwsem_write, _kind, _kill, down_write_killable, false) \
									\
DEFINE_MEMALLOC_LOCK(percpu_read, _kind, struct percpu_rw_semaphore,	\
		     percpu_down_read, percpu_up_read)			\
DEFINE_MEMALLOC_LOCK_COND(percpu_read, _kind, _try, percpu_down_read_trylock, true) \
DEFINE_MEMALLOC_LOCK(percpu_write, _kind, struct percpu_rw_semaphore,	\
		     percpu_down_write, percpu_up_write)

DEFINE_MEMALLOC_LOCKS(noio)
DEFINE_MEMALLOC_LOCKS(nofs)

/*
 * For the context analysis, as in <linux/mutex.h> and <linux/rwsem.h>: which lock
 * is held in a guard's block. A macro cannot define macros, so spell them out.
 */
DECLARE_LOCK_GUARD_1_ATTRS(mutex_noio, __acquires(_T),
			   __releases(*(struct mutex **)_T))
#define class_mutex_noio_constructor(_T) WITH_LOCK_GUARD_1_ATTRS(mutex_noio, _T)
DECLARE_LOCK_GUARD_1_ATTRS(mutex_noio_try, __acquires(_T),
			   __releases(*(struct mutex **)_T))
#define class_mutex_noio_try_constructor(_T) WITH_LOCK_GUARD_1_ATTRS(mutex_noio_try, _T)
DECLARE_LOCK_GUARD_1_ATTRS(mutex_noio_intr, __acquires(_T),
			   __releases(*(struct mutex **)_T))
#define class_mutex_noio_intr_constructor(_T) WITH_LOCK_GUARD_1_ATTRS(mutex_noio_intr, _T)
DECLARE_LOCK_GUARD_1_ATTRS(mutex_noio_kill, __acquires(_T),
			   __releases(*(struct mutex **)_T))
#define class_mutex_noio_kill_constructor(_T) WITH_LOCK_GUARD_1_ATTRS(mutex_noio_kill, _T)
DECLARE_LOCK_GUARD_1_ATTRS(rwsem_read_noio, __acquires_shared(_T),
			   __releases_shared(*(struct rw_semaphore **)_T))
#define class_rwsem_read_noio_constructor(_T) WITH_LOCK_GUARD_1_ATTRS(rwsem_read_noio, _T)
DECLARE_LOCK_GUARD_1_ATTRS(rwsem_read_noio_try, __acquires_shared(_T),
			   __releases_shared(*(struct rw_semaphore **)_T))
#define class_rwsem_read_noio_try_constructor(_T) \
	WITH_LOCK_GUARD_1_ATTRS(rwsem_read_noio_try, _T)
DECLARE_LOCK_GUARD_1_ATTRS(rwsem_read_noio_intr, __acquires_shared(_T),
			   __releases_shared(*(struct rw_semaphore **)_T))
#define class_rwsem_read_noio_intr_constructor(_T) \
	WITH_LOCK_GUARD_1_ATTRS(rwsem_read_noio_intr, _T)
DECLARE_LOCK_GUARD_1_ATTRS(rwsem_write_noio, __acquires(_T),
			   __releases(*(struct rw_semaphore **)_T))
#define class_rwsem_write_noio_constructor(_T) WITH_LOCK_GUARD_1_ATTRS(rwsem_write_noio, _T)
DECLARE_LOCK_GUARD_1_ATTRS(rwsem_write_noio_try, __acquires(_T),
			   __releases(*(struct rw_semaphore **)_T))
#define class_rwsem_write_noio_try_constructor(_T) \
	WITH_LOCK_GUARD_1_ATTRS(rwsem_write_noio_try, _T)
DECLARE_LOCK_GUARD_1_ATTRS(rwsem_write_noio_kill, __acquires(_T),
			   __releases(*(struct rw_semaphore **)_T))
#define class_rwsem_write_noio_kill_constructor(_T) \
	WITH_LOCK_GUARD_1_ATTRS(rwsem_write_noio_kill, _T)

DECLARE_LOCK_GUARD_1_ATTRS(mutex_nofs, __acquires(_T),
			   __releases(*(struct mutex **)_T))
#define class_mutex_nofs_constructor(_T) WITH_LOCK_GUARD_1_ATTRS(mutex_nofs, _T)
DECLARE_LOCK_GUARD_1_ATTRS(mutex_nofs_try, __acquires(_T),
			   __releases(*(struct mutex **)_T))
#define class_mutex_nofs_try_constructor(_T) WITH_LOCK_GUARD_1_ATTRS(mutex_nofs_try, _T)
DECLARE_LOCK_GUARD_1_ATTRS(mutex_nofs_intr, __acquires(_T),
			   __releases(*(struct mutex **)_T))
#define class_mutex_nofs_intr_constructor(_T) WITH_LOCK_GUARD_1_ATTRS(mutex_nofs_intr, _T)
DECLARE_LOCK_GUARD_1_ATTRS(mutex_nofs_kill, __acquires(_T),
			   __releases(*(struct mutex **)_T))
#define class_mutex_nofs_kill_constructor(_T) WITH_LOCK_GUARD_1_ATTRS(mutex_nofs_kill, _T)
DECLARE_LOCK_GUARD_1_ATTRS(rwsem_read_nofs, __acquires_shared(_T),
			   __releases_shared(*(struct rw_semaphore **)_T))
#define class_rwsem_read_nofs_constructor(_T) WITH_LOCK_GUARD_1_ATTRS(rwsem_read_nofs, _T)
DECLARE_LOCK_GUARD_1_ATTRS(rwsem_read_nofs_try, __acquires_shared(_T),
			   __releases_shared(*(struct rw_semaphore **)_T))
#define class_rwsem_read_nofs_try_constructor(_T) \
	WITH_LOCK_GUARD_1_ATTRS(rwsem_read_nofs_try, _T)
DECLARE_LOCK_GUARD_1_ATTRS(rwsem_read_nofs_intr, __acquires_shared(_T),
			   __releases_shared(*(struct rw_semaphore **)_T))
#define class_rwsem_read_nofs_intr_constructor(_T) \
	WITH_LOCK_GUARD_1_ATTRS(rwsem_read_nofs_intr, _T)
DECLARE_LOCK_GUARD_1_ATTRS(rwsem_write_nofs, __acquires(_T),
			   __releases(*(struct rw_semaphore **)_T))
#define class_rwsem_write_nofs_constructor(_T) WITH_LOCK_GUARD_1_ATTRS(rwsem_write_nofs, _T)
DECLARE_LOCK_GUARD_1_ATTRS(rwsem_write_nofs_try, __acquires(_T),
			   __releases(*(struct rw_semaphore **)_T))
#define class_rwsem_write_nofs_try_constructor(_T) \
	WITH_LOCK_GUARD_1_ATTRS(rwsem_write_nofs_try, _T)
DECLARE_LOCK_GUARD_1_ATTRS(rwsem_write_nofs_kill, __acquires(_T),
			   __releases(*(struct rw_semaphore **)_T))
#define class_rwsem_write_nofs_kill_constructor(_T) \
	WITH_LOCK_GUARD_1_ATTRS(rwsem_write_nofs_kill, _T)

#undef DEFINE_MEMALLOC_LOCKS
#undef DEFINE_MEMALLOC_LOCK_COND
#undef DEFINE_MEMALLOC_LOCK

#endif /* _LINUX_MEMALLOC_LOCK_H */
