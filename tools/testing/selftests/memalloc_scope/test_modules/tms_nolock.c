// SPDX-License-Identifier: GPL-2.0
/*
 * nolock scopes on top of the very allocator that they are for: the task keeps it
 * busy, and a hard interrupt, a tracepoint or a kprobe allocates and frees right
 * there, where locks are held that nobody on this CPU can wait for.
 */
#include <linux/delay.h>
#include <linux/hrtimer.h>
#include <linux/kprobes.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/tracepoint.h>
#include <linux/vmalloc.h>

#include <asm/irq_regs.h>

#include "tms_internal.h"
#include "tms_nolock.h"

#define TMS_OBJECT	192
#define TMS_KMALLOC	64
#define TMS_BATCH	128
#define TMS_SOME	8	/* in bulk, on top of the task */
#define TMS_RING	64	/* a power of 2 */
#define TMS_IPS		512

/*
 * Objects on their way from the task to what runs on top of it, or back. Both are
 * on one CPU, and the one that is interrupted is always the same: no more than the
 * order of accesses matters.
 */
struct tms_ring {
	struct tms_nolock_object object[TMS_RING];
	unsigned int in, out;
};

/* State of the one run there can be */
static struct tms_nolock_state {
	struct tms_nolock *n;
	struct kmem_cache *cache, *debug;
	struct tms_ring to_hit, to_task;
	struct hrtimer timer;
	struct kprobe kprobe;
	struct tracepoint *tp;
	/* the task is in one of the calls that are to be interrupted */
	bool busy;
	/* a hit is at work, which may well come by its own hook */
	bool hit;
	unsigned long ip[TMS_IPS];
	unsigned int ips;
} tms;

/* The first and the last word of what was obtained */
void tms_nolock_mark(const struct tms_nolock_object *o)
{
	unsigned long *first = o->p, *last = o->p + o->size - sizeof(*last);

	/* The first ones are a list's or an rcu_head's, later. */
	first[2] = (unsigned long)o->p;
	*last = ~(unsigned long)o->p;
}

bool tms_nolock_marked(const struct tms_nolock_object *o)
{
	unsigned long *first = o->p, *last = o->p + o->size - sizeof(*last);

	return first[2] == (unsigned long)o->p && *last == ~(unsigned long)o->p;
}

/* If not, nothing here is legal, and most of it would not return. */
bool tms_nolock_works(void)
{
	guard(memalloc_nolock)();
	return memalloc_nolock_active();
}

static void *tms_address(struct page *page)
{
	return page ? page_address(page) : NULL;
}

static void *tms_bulk(gfp_t gfp)
{
	void *p[TMS_SOME];

	if (!kmem_cache_alloc_bulk(tms.cache, gfp, TMS_SOME, p))
		return NULL;
	kmem_cache_free_bulk(tms.cache, TMS_SOME - 1, p + 1);
	return p[0];
}

static void *tms_pages(gfp_t gfp)
{
	struct page *page[TMS_SOME] = { };
	unsigned long nr = alloc_pages_bulk(gfp, TMS_SOME, page);

	while (nr > 1)
		__free_page(page[--nr]);
	return tms_address(page[0]);
}

static void *tms_folio(gfp_t gfp)
{
	struct folio *folio = folio_alloc(gfp, 1);

	return folio ? folio_address(folio) : NULL;
}

/* With marks, if it was obtained */
static bool tms_get(struct tms_nolock_object *o, enum tms_nolock_entry entry, gfp_t gfp)
{
	o->entry = entry;
	o->size = PAGE_SIZE;
	switch (entry) {
	case TMS_NL_PAGE:
		o->p = tms_address(alloc_page(gfp));
		break;
	case TMS_NL_ORDER3:
		o->size = PAGE_SIZE << 3;
		o->p = tms_address(alloc_pages(gfp, 3));
		break;
	case TMS_NL_PAGES:
		o->p = tms_pages(gfp);
		break;
	case TMS_NL_FOLIO:
		o->size = PAGE_SIZE << 1;
		o->p = tms_folio(gfp);
		break;
	case TMS_NL_KMALLOC:
		o->size = TMS_KMALLOC;
		o->p = kmalloc(TMS_KMALLOC, gfp);
		break;
	case TMS_NL_KMALLOC_PAGE:
		o->p = kmalloc(PAGE_SIZE, gfp);
		break;
	case TMS_NL_KMALLOC_LARGE:
		o->size = PAGE_SIZE << 2;
		o->p = kmalloc(PAGE_SIZE << 2, gfp);
		break;
	case TMS_NL_CACHE:
		o->size = TMS_OBJECT;
		o->p = kmem_cache_alloc(tms.cache, gfp);
		break;
	case TMS_NL_BULK:
		o->size = TMS_OBJECT;
		o->p = tms_bulk(gfp);
		break;
	default:
		o->size = TMS_OBJECT;
		o->p = kmem_cache_alloc(tms.debug, gfp);
	}
	if (!o->p)
		return false;
	tms_nolock_mark(o);
	return true;
}

static void tms_put(struct tms_nolock_object *o, bool rcu)
{
	struct tms_nolock_rcu *r = o->p;

	if (!tms_nolock_marked(o))
		tms.n->broken++;
	switch (o->entry) {
	case TMS_NL_PAGE:
	case TMS_NL_PAGES:
		free_page((unsigned long)o->p);
		break;
	case TMS_NL_ORDER3:
		free_pages((unsigned long)o->p, 3);
		break;
	case TMS_NL_FOLIO:
		folio_put(virt_to_folio(o->p));
		break;
	case TMS_NL_KMALLOC:
	case TMS_NL_KMALLOC_PAGE:
	case TMS_NL_KMALLOC_LARGE:
		if (rcu)
			kfree_rcu(r, rcu);
		else
			kfree(o->p);
		break;
	case TMS_NL_CACHE:
		if (rcu)
			kfree_rcu(r, rcu);
		else
			kmem_cache_free(tms.cache, o->p);
		break;
	case TMS_NL_BULK:
		kmem_cache_free_bulk(tms.cache, 1, &o->p);
		break;
	default:
		kmem_cache_free(tms.debug, o->p);
	}
}

static bool tms_push(struct tms_ring *r, const struct tms_nolock_object *o)
{
	unsigned int in = r->in;

	if (in - READ_ONCE(r->out) == TMS_RING)
		return false;
	r->object[in % TMS_RING] = *o;
	barrier();
	WRITE_ONCE(r->in, in + 1);
	return true;
}

static bool tms_pop(struct tms_ring *r, struct tms_nolock_object *o)
{
	unsigned int out = r->out;

	if (READ_ONCE(r->in) == out)
		return false;
	barrier();
	*o = r->object[out % TMS_RING];
	barrier();
	WRITE_ONCE(r->out, out + 1);
	return true;
}

/* Which locks of the page allocator does the CPU hold, that slub takes, too? */
static void tms_look(struct tms_nolock *n)
{
	pg_data_t *node = NODE_DATA(numa_mem_id());
	bool pcp = false, locked = false;

	for (int i = 0; i < MAX_NR_ZONES; i++) {
		struct zone *zone = &node->node_zones[i];

		if (!populated_zone(zone))
			continue;
		pcp |= spin_is_locked(&this_cpu_ptr(zone->per_cpu_pageset)->lock);
		locked |= spin_is_locked(&zone->lock);
	}
	n->pcp += pcp;
	n->zone += locked;
}

/* Everything, whatever the task below is doing */
static void tms_hit(unsigned long ip, bool inside)
{
	struct tms_nolock *n = tms.n;
	memalloc_scope_t own = task_memalloc_scope(current);
	struct tms_nolock_object o;
	unsigned int cookie;

	tms.hit = true;
	tms_look(n);
	cookie = memalloc_nolock_save();
	for (int i = 0; i < TMS_NL_ENTRIES; i++) {
		/* A different one first each time: it has most of what there is. */
		enum tms_nolock_entry entry = ((u32)n->hits + i) % TMS_NL_ENTRIES;

		n->tries[entry]++;
		if (!tms_get(&o, entry, GFP_KERNEL))
			continue;
		n->got[entry]++;
		if ((n->hits + i) % 2 || !tms_push(&tms.to_task, &o)) {
			tms_put(&o, n->hits % 4 == 0);
			n->freed++;
		}
	}
	for (int i = 0; i < TMS_SOME && tms_pop(&tms.to_hit, &o); i++) {
		tms_put(&o, n->hits % 4 == 1);
		n->handed++;
	}
	memalloc_nolock_restore(cookie);
	n->leaks += task_memalloc_scope(current) != own;

	n->inside += inside;
	if (inside && ip && tms.ips < TMS_IPS)
		tms.ip[tms.ips++] = ip;
	n->nmi += !!in_nmi();
	WRITE_ONCE(n->hits, n->hits + 1);
	tms.hit = false;
}

static bool tms_wanted(void)
{
	return current == READ_ONCE(tms_task) && !tms.hit && tms.n->hits < tms.n->shots;
}

static enum hrtimer_restart tms_nolock_timer(struct hrtimer *timer)
{
	struct pt_regs *regs = get_irq_regs();
	unsigned long ip = regs ? instruction_pointer(regs) : 0;

	if (tms_wanted() && !in_serving_softirq())
		tms_hit(ip, READ_ONCE(tms.busy) && ip && !within_module(ip, THIS_MODULE));
	return HRTIMER_NORESTART;
}

/* Not from interrupts on top of the task, which may find the ring at odds. */
static bool tms_wanted_below(void)
{
	/* A kprobe enters as an NMI does, which is a hard interrupt of its own. */
	unsigned int irqs = in_nmi() ? HARDIRQ_OFFSET : 0;

	return tms_wanted() && READ_ONCE(tms.busy) && hardirq_count() == irqs &&
	       !in_serving_softirq();
}

static void tms_refilled(void *data, struct page *page, unsigned int order,
			 int migratetype, int percpu_refill)
{
	if (!in_nmi() && tms_wanted_below())
		tms_hit(0, true);
}

static void tms_drained(void *data, struct page *page, unsigned int order, int migratetype)
{
	if (!in_nmi() && tms_wanted_below())
		tms_hit(0, true);
}

static const struct {
	const char *name;
	void *func;
} tms_traces[] = {
	{ "mm_page_alloc_zone_locked",	tms_refilled },
	{ "mm_page_pcpu_drain",		tms_drained },
};

static void *tms_trace(const char *name)
{
	for (int i = 0; i < ARRAY_SIZE(tms_traces); i++) {
		if (!strcmp(tms_traces[i].name, name))
			return tms_traces[i].func;
	}
	return NULL;
}

static int tms_kprobe(struct kprobe *p, struct pt_regs *regs)
{
	if (tms_wanted_below())
		tms_hit(instruction_pointer(regs), true);
	return 0;
}

/* A kprobe that has one stays a breakpoint. */
static void tms_kprobe_post(struct kprobe *p, struct pt_regs *regs, unsigned long flags)
{
}

static int tms_hook(struct tms_nolock *n)
{
	if (n->hook == TMS_HOOK_TIMER) {
		hrtimer_setup(&tms.timer, tms_nolock_timer, CLOCK_MONOTONIC,
			      HRTIMER_MODE_REL_PINNED_HARD);
		return 0;
	}
	n->symbol[TMS_SYMBOL - 1] = '\0';
	if (n->hook == TMS_HOOK_TRACE) {
		if (tms_trace(n->symbol))
			tms.tp = tms_event(n->symbol);
		if (!tms.tp)
			return -ENOENT;
		return tracepoint_probe_register(tms.tp, tms_trace(n->symbol), NULL);
	}
	if (!IS_ENABLED(CONFIG_KPROBES))
		return -EOPNOTSUPP;
	tms.kprobe = (struct kprobe){
		.symbol_name = n->symbol,
		.pre_handler = tms_kprobe,
		.post_handler = n->hook == TMS_HOOK_KPROBE ? tms_kprobe_post : NULL,
	};
	return register_kprobe(&tms.kprobe);
}

static void tms_unhook(struct tms_nolock *n)
{
	switch (n->hook) {
	case TMS_HOOK_TIMER:
		hrtimer_cancel(&tms.timer);
		break;
	case TMS_HOOK_TRACE:
		tracepoint_probe_unregister(tms.tp, tms_trace(n->symbol), NULL);
		tracepoint_synchronize_unregister();
		break;
	default:
		unregister_kprobe(&tms.kprobe);
	}
}

/* A shot somewhere into what comes next */
static void tms_busy(struct tms_nolock *n, u32 loop)
{
	u32 delay = 2000 + loop * 1237 % 80000;

	if (n->hook == TMS_HOOK_TIMER && !hrtimer_active(&tms.timer))
		hrtimer_start(&tms.timer, ns_to_ktime(delay), HRTIMER_MODE_REL_PINNED_HARD);
	WRITE_ONCE(tms.busy, true);
}

static void tms_idle(void)
{
	WRITE_ONCE(tms.busy, false);
}

/* More pages than the CPU keeps a list of, of sizes with and without one */
static void tms_load_pages(struct tms_nolock *n, void **p, u32 loop)
{
	static const struct {
		unsigned int order, nr;
	} sizes[] = { { 0, TMS_BATCH }, { 3, TMS_BATCH / 2 }, { 5, 4 } };

	for (int i = 0; i < ARRAY_SIZE(sizes); i++) {
		tms_busy(n, loop * 7 + i);
		for (int j = 0; j < sizes[i].nr; j++)
			p[j] = (void *)__get_free_pages(GFP_KERNEL, sizes[i].order);
		for (int j = 0; j < sizes[i].nr; j++)
			free_pages((unsigned long)p[j], sizes[i].order);
		tms_idle();
	}
}

/* More objects than sheaves hold, one by one and all at once */
static void tms_load_slab(struct tms_nolock *n, void **p, u32 loop)
{
	tms_busy(n, loop * 7);
	for (int i = 0; i < TMS_BATCH; i++)
		p[i] = kmalloc(TMS_KMALLOC, GFP_KERNEL);
	for (int i = 0; i < TMS_BATCH; i++)
		kfree(p[i]);
	tms_idle();

	tms_busy(n, loop * 7 + 1);
	if (kmem_cache_alloc_bulk(tms.cache, GFP_KERNEL, TMS_BATCH, p))
		kmem_cache_free_bulk(tms.cache, TMS_BATCH, p);
	tms_idle();

	tms_busy(n, loop * 7 + 2);
	for (int i = 0; i < TMS_BATCH; i++)
		p[i] = kmem_cache_alloc(tms.cache, GFP_KERNEL);
	for (int i = 0; i < TMS_BATCH; i++) {
		if (p[i])
			kmem_cache_free(tms.cache, p[i]);
	}
	tms_idle();
}

static void tms_load_debug(struct tms_nolock *n, void **p, u32 loop)
{
	tms_busy(n, loop);
	for (int i = 0; i < TMS_BATCH; i++)
		p[i] = kmem_cache_alloc(tms.debug, GFP_KERNEL);
	for (int i = 0; i < TMS_BATCH; i++) {
		if (p[i])
			kmem_cache_free(tms.debug, p[i]);
	}
	tms_idle();
}

static void tms_exchange(struct tms_nolock *n, u32 loop)
{
	struct tms_nolock_object o;

	while (tms_pop(&tms.to_task, &o)) {
		tms_put(&o, false);
		n->left++;
	}
	for (int i = 0; i < TMS_SOME; i++) {
		if (tms_get(&o, (loop + i) % TMS_NL_ENTRIES, GFP_KERNEL) &&
		    !tms_push(&tms.to_hit, &o)) {
			tms_put(&o, false);
			break;
		}
	}
}

static void tms_keep_busy(struct tms_nolock *n, void **p)
{
	ktime_t end = ktime_add_ms(ktime_get(), n->max_ms);

	for (u32 loop = 0; READ_ONCE(n->hits) < n->shots && !signal_pending(current) &&
	     ktime_before(ktime_get(), end); loop++) {
		tms_exchange(n, loop);
		switch (n->load) {
		case TMS_LOAD_PAGE:
			tms_load_pages(n, p, loop);
			break;
		case TMS_LOAD_SLAB:
			tms_load_slab(n, p, loop);
			break;
		default:
			tms_load_debug(n, p, loop);
		}
		cond_resched();
	}
}

/*
 * Leave but one zone that has pages: whoever finds it locked would be given those of
 * another. To be undone by tms_give_all_back().
 */
static void tms_one_zone(void)
{
	static const gfp_t kinds[] = { __GFP_DMA, __GFP_DMA32 };
	pg_data_t *node = NODE_DATA(numa_mem_id());
	int top = gfp_zone(GFP_KERNEL);
	struct page *page;

	while (top && !populated_zone(&node->node_zones[top]))
		top--;
	for (int i = 0; i < ARRAY_SIZE(kinds) && gfp_zone(kinds[i]) < top; i++) {
		for (int order = MAX_PAGE_ORDER; order >= 0; order--) {
			while ((page = alloc_pages(kinds[i] | TMS_GFP_ALWAYS, order)))
				tms_keep(page, order);
		}
	}
}

/* Is it among the places already? If not, it takes that of one that was hit less. */
static void tms_name_place(struct tms_nolock *n, const char *name, u32 hits)
{
	int least = 0;

	for (int i = 0; i < TMS_PLACES; i++) {
		if (!strcmp(n->place[i].name, name))
			return;
		if (n->place[i].hits < n->place[least].hits)
			least = i;
	}
	if (n->place[least].hits < hits) {
		n->place[least].hits = hits;
		strscpy(n->place[least].name, name);
	}
}

/* The functions that were interrupted most */
static void tms_name_places(struct tms_nolock *n)
{
	char name[KSYM_SYMBOL_LEN];

	for (int i = 0; i < tms.ips; i++) {
		unsigned long size = 0, offset = 0;
		u32 hits = 0;
		char *plus;

		sprint_symbol(name, tms.ip[i]);
		plus = strchr(name, '+');
		if (!plus || sscanf(plus, "+0x%lx/0x%lx", &offset, &size) != 2)
			continue;
		*plus = '\0';
		for (int j = 0; j < tms.ips; j++)
			hits += tms.ip[j] - (tms.ip[i] - offset) < size;
		name[TMS_SYMBOL - 1] = '\0';
		tms_name_place(n, name, hits);
	}
}

int tms_nolock_run(struct tms_nolock *n)
{
	struct tms_nolock_object o;
	int err = -ENOMEM;
	void **p;

	if (!tms_nolock_works())
		return -ENXIO;
	memset(&tms, 0, sizeof(tms));
	tms.n = n;
	n->rt = IS_ENABLED(CONFIG_PREEMPT_RT);
	n->slab = IS_ENABLED(CONFIG_64BIT);
	p = vmalloc_array(TMS_BATCH, sizeof(*p));
	tms.cache = kmem_cache_create("tms_nolock", TMS_OBJECT, 0, SLAB_NO_MERGE, NULL);
	tms.debug = kmem_cache_create("tms_nolock_debug", TMS_OBJECT, 0,
				      SLAB_NO_MERGE | SLAB_CONSISTENCY_CHECKS, NULL);
	if (!p || !tms.cache || !tms.debug)
		goto free;

	tms_one_zone();
	migrate_disable();
	err = tms_hook(n);
	if (!err) {
		/* The kernel takes its time to make a jump of a breakpoint. */
		if (n->hook == TMS_HOOK_JUMP)
			msleep(500);
		tms_keep_busy(n, p);
		tms_unhook(n);
	}
	migrate_enable();
	tms_give_all_back();

	while (tms_pop(&tms.to_task, &o)) {
		tms_put(&o, false);
		n->left++;
	}
	while (tms_pop(&tms.to_hit, &o))
		tms_put(&o, false);
	tms_name_places(n);
free:
	kmem_cache_destroy(tms.debug);
	kmem_cache_destroy(tms.cache);
	vfree(p);
	return !err && signal_pending(current) ? -EINTR : err;
}
