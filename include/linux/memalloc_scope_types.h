/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_MEMALLOC_SCOPE_TYPES_H
#define _LINUX_MEMALLOC_SCOPE_TYPES_H

#include <linux/bits.h>
#include <linux/types.h>

/*
 * The allocation scopes that a task has open, task_struct::memalloc_scope.
 *
 * A byte of its own: a store to it cannot disturb a neighbour, which neither
 * a bitfield nor a bit in a shared word can promise. The type is checked by
 * sparse, so that mixing it with gfp_t or PF_* is an error.
 */
typedef u8 __bitwise memalloc_scope_t;

#define __MEMALLOC_SCOPE(nr)	((__force memalloc_scope_t)BIT(nr))

/* no open scope */
#define MEMALLOC_SCOPE_NONE		((__force memalloc_scope_t)0)
/* requests lose __GFP_FS */
#define MEMALLOC_SCOPE_NOFS		__MEMALLOC_SCOPE(0)
/* requests lose __GFP_IO and __GFP_FS */
#define MEMALLOC_SCOPE_NOIO		__MEMALLOC_SCOPE(1)
/* requests lose __GFP_MOVABLE */
#define MEMALLOC_SCOPE_PIN		__MEMALLOC_SCOPE(2)
/* requests do not reclaim, and may use the reserves */
#define MEMALLOC_SCOPE_NORECLAIM	__MEMALLOC_SCOPE(3)
/*
 * As noio, but a property of the process rather than a scope: set by
 * prctl(PR_SET_IO_FLUSHER), inherited by fork, kept by exec.
 */
#define MEMALLOC_SCOPE_IO_FLUSHER	__MEMALLOC_SCOPE(4)
/* requests lose __GFP_DIRECT_RECLAIM, but for those with __GFP_NOFAIL */
#define MEMALLOC_SCOPE_NOWAIT		__MEMALLOC_SCOPE(5)
/* requests gain __GFP_NOWARN, but for those with __GFP_NOFAIL */
#define MEMALLOC_SCOPE_NOWARN		__MEMALLOC_SCOPE(6)
/* requests take what can be had without sleeping or spinning, or fail */
#define MEMALLOC_SCOPE_NOLOCK		__MEMALLOC_SCOPE(7)

/* Unions of scopes are named, as sparse does not see through an OR in a mask. */
#define MEMALLOC_SCOPE_ANY_NOIO	\
	(MEMALLOC_SCOPE_NOIO | MEMALLOC_SCOPE_IO_FLUSHER)
#define MEMALLOC_SCOPE_ANY_NOFS	\
	(MEMALLOC_SCOPE_NOFS | MEMALLOC_SCOPE_ANY_NOIO)

/* Scopes that change a gfp mask; noreclaim acts where reclaim is decided. */
#define MEMALLOC_SCOPE_GFP	\
	(MEMALLOC_SCOPE_ANY_NOFS | MEMALLOC_SCOPE_PIN | MEMALLOC_SCOPE_UNLESS_NOFAIL)

/* Scopes that leave a __GFP_NOFAIL request alone: it has nothing to fall back to. */
#define MEMALLOC_SCOPE_EASE	\
	(MEMALLOC_SCOPE_NOWAIT | MEMALLOC_SCOPE_NOWARN)

/* Scopes that look at __GFP_NOFAIL before they restrict a request. */
#define MEMALLOC_SCOPE_UNLESS_NOFAIL	\
	(MEMALLOC_SCOPE_EASE | MEMALLOC_SCOPE_NOLOCK)

/* Scopes in which requests do not wait for memory. */
#define MEMALLOC_SCOPE_ANY_NOWAIT	\
	(MEMALLOC_SCOPE_NOWAIT | MEMALLOC_SCOPE_NOLOCK)

/* Scopes in which a request does not reclaim, unless it must not fail. */
#define MEMALLOC_SCOPE_ANY_NORECLAIM	\
	(MEMALLOC_SCOPE_NORECLAIM | MEMALLOC_SCOPE_ANY_NOWAIT)

/*
 * Scopes with a meaning in hard interrupts and NMIs, which neither reclaim nor ask
 * for movable memory anyway. They apply there if they were opened there.
 */
#define MEMALLOC_SCOPE_ANY_IRQ	\
	(MEMALLOC_SCOPE_NOWARN | MEMALLOC_SCOPE_NOLOCK)

#ifdef CONFIG_DEBUG_MEMALLOC_SCOPE
/* Saves that are nested deeper than this are counted, not recorded. */
#define MEMALLOC_RECORDS_MAX		16U
/* The number of the record is in the upper half of a cookie; this stands for none. */
#define MEMALLOC_COOKIE_ID		16
#define MEMALLOC_ID_DEEP		0xffffU

struct memalloc_record {
	unsigned long		ip;		/* of the save */
	u16			id;
	memalloc_scope_t	scope;		/* what it asked for */
	memalloc_scope_t	opened;		/* what was not open before */
	memalloc_scope_t	irq_opened;	/* the same, of an interrupt handler */
	bool			replaces;	/* all that was open, which is in @opened */
#ifdef CONFIG_PROVE_MEMALLOC_SCOPE
	memalloc_scope_t	held;		/* lockdep knows of it by this save */
	memalloc_scope_t	let_go;		/* and by this one, no more */
#endif
};

struct memalloc_closed_record {
	unsigned long		ip;
	unsigned long		closed_by;
	u16			id;
	memalloc_scope_t	scope;
};

/* The saves of one context that have not been restored, and a few that have. */
struct memalloc_records {
	unsigned int			nr;		/* recorded */
	unsigned int			deep;		/* and not */
	u16				seq;
	u16				nr_closed;
	struct memalloc_record		at[MEMALLOC_RECORDS_MAX];
	struct memalloc_closed_record	closed[4];
};

/* Those of a task: its own, and those of the softirqs that run on top of it. */
struct memalloc_debug {
	struct memalloc_records	records[2];
#ifdef CONFIG_PROVE_MEMALLOC_SCOPE
	memalloc_scope_t	held;		/* what lockdep knows of */
#endif
};
#endif

#endif /* _LINUX_MEMALLOC_SCOPE_TYPES_H */
