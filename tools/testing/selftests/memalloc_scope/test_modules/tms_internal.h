/* SPDX-License-Identifier: GPL-2.0 */
/* Internals of the test_memalloc_scope module. */
#ifndef _TMS_INTERNAL_H
#define _TMS_INTERNAL_H

#include <linux/gfp.h>
#include <linux/ktime.h>
#include <linux/memalloc_scope.h>
#include <linux/mmzone.h>
#include <linux/pgtable.h>

#include "test_memalloc_scope.h"

struct sock;
struct tracepoint;

/*
 * The module's requests may fail, quietly; those with __GFP_NOFAIL try again, rather
 * than have somebody killed. Both flags are left out of the texts.
 */
#define TMS_GFP_ALWAYS	(__GFP_NORETRY | __GFP_NOWARN)
/* All bits that a scope could take away; legal in any context */
#define TMS_GFP_PROBE	(GFP_NOWAIT | __GFP_IO | __GFP_FS | __GFP_MOVABLE | TMS_GFP_ALWAYS)
/* All bits that a scope takes away or gives, to fold and not to allocate with */
#define TMS_GFP_FOLD	(GFP_KERNEL | __GFP_MOVABLE)

/* What min_wmark_pages() adds to it is not there to stay. */
static inline unsigned long tms_min_wmark(const struct zone *zone)
{
	return zone->_watermark[WMARK_MIN];
}

/* gfp masks being collected */
struct tms_masks {
	u64 count;
	gfp_t any, all;
};

/* The public save functions, one cookie for each */
struct tms_cookies {
	unsigned int nofs, noio, pin, noreclaim, nowait, nowarn, nolock;
};

/* Two UDP sockets; what goes into one comes out of the other. */
struct tms_sockets {
	struct socket *tx, *rx;
};

/* The task whose run it is, or NULL. All other tasks are left alone. */
extern struct task_struct *tms_task;

u32 tms_scope(memalloc_scope_t scope);
memalloc_scope_t tms_raw(u32 tms);
u32 tms_own(void);
u32 tms_active(void);
void tms_open(struct tms_cookies *c, u32 scopes);
void tms_close(struct tms_cookies *c);

/*
 * Scopes that the kernel's own checks, if it has any, are to let pass. Call it with
 * none once they are closed.
 */
static inline void tms_expect_leak(u32 scopes)
{
	memalloc_debug_unexpect(tms_raw(TMS_SCOPES));
	memalloc_debug_expect(tms_raw(scopes));
}

gfp_t tms_request_gfp(u32 request);
u32 tms_gfp(gfp_t gfp, gfp_t asked);
void tms_gfp_text(char *buf, gfp_t gfp);
void tms_masks_add(struct tms_masks *m, gfp_t gfp);
void tms_masks_report(struct tms_seen *to, const struct tms_masks *m, gfp_t asked);

struct page *tms_alloc_page(gfp_t gfp, gfp_t *used);

/* Collect all of tms_task's requests in task context, if set */
extern struct tms_masks *tms_all_pages;
extern struct tms_masks *tms_all_percpu;

int tms_alloc_run(struct tms_alloc *a);

int tms_reclaim_init(void);
void tms_reclaim_exit(void);
int tms_reclaim_run(struct tms_reclaim *r);

/* Memory made short, once tms_begin_short() was called; and the reserves taken as well */
void tms_begin_short(void);
void tms_make_short(ktime_t end);
struct zone *tms_take_reserves(void);
bool tms_from_reserve(struct page *page);

/* Memory in pieces: nothing left but single pages, and a good many of these */
void tms_fragment(ktime_t end);
bool tms_ran_out(void);
void tms_keep(struct page *page, unsigned int order);
void tms_give_all_back(void);

int tms_entry_run(struct tms_entry *e);
/* The tracepoint of that name, or NULL */
struct tracepoint *tms_event(const char *name);
/* Count direct reclaim on behalf of tms_task. */
int tms_direct_watch(void);
u64 tms_direct_unwatch(void);
void tms_entry_shrink(gfp_t gfp);
void tms_entry_page_alloc(unsigned int order, gfp_t gfp);

int tms_memcg_init(void);
void tms_memcg_exit(void);
int tms_memcg_run(struct tms_memcg *m);

int tms_interrupt_init(void);
void tms_interrupt_exit(void);
int tms_interrupt_run(struct tms_interrupt *t);

/* Ranges of the size of TMS_AREA: what is asked for next needs page tables. */
#define TMS_AREA	PMD_SIZE
struct tms_filler;
int tms_fill_holes(struct tms_filler **fillers);
void tms_empty_holes(struct tms_filler *fillers);

int tms_vmalloc_run(struct tms_vmalloc *v);
void tms_vmalloc_page_alloc(struct page *page, unsigned int order, gfp_t gfp);

int tms_latency_run(struct tms_latency *l);

int tms_fail_run(struct tms_fail *f);
int tms_nofail_run(struct tms_nofail *n);
int tms_rewrite_run(struct tms_rewrite *r);
long tms_sleep(unsigned long scopes);
long tms_wake(void);
long tms_forget(unsigned long scopes);
long tms_give(unsigned long scopes);
void tms_given_to(struct task_struct *child);

gfp_t tms_expect_gfp(u32 scopes, gfp_t gfp);
u32 tms_expect_active(u32 scopes);
int tms_open_sockets(struct tms_sockets *net, void (*data_ready)(struct sock *sk));
void tms_close_sockets(struct tms_sockets *net);
int tms_send(struct tms_sockets *net);

#endif /* _TMS_INTERNAL_H */
