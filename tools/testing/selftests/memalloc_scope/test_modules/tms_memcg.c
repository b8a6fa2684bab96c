// SPDX-License-Identifier: GPL-2.0
/*
 * Reclaim of a memory cgroup at its limit: objects charged to the cgroup of the
 * calling task, and the memcg-aware shrinker that gives them back.
 */
#include <linux/irq_work.h>
#include <linux/list_lru.h>
#include <linux/memcontrol.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/shrinker.h>
#include <linux/slab.h>

#include "tms_internal.h"

struct tms_object {
	struct list_head lru;
	char fill[PAGE_SIZE - sizeof(struct list_head)];
};

static struct kmem_cache *tms_cache;
static struct list_lru tms_lru;
static struct shrinker *tms_shrinker;
static struct tms_masks tms_shrunk;

static enum lru_status tms_isolate(struct list_head *item, struct list_lru_one *lru, void *arg)
{
	list_lru_isolate_move(lru, item, arg);
	return LRU_REMOVED;
}

static void tms_free_list(struct list_head *list)
{
	struct tms_object *obj, *next;

	list_for_each_entry_safe(obj, next, list, lru)
		kmem_cache_free(tms_cache, obj);
}

static unsigned long tms_count(struct shrinker *s, struct shrink_control *sc)
{
	return list_lru_shrink_count(&tms_lru, sc);
}

static unsigned long tms_scan(struct shrinker *s, struct shrink_control *sc)
{
	unsigned long freed;
	LIST_HEAD(list);

	if (current == tms_task && sc->memcg && !mem_cgroup_is_root(sc->memcg))
		tms_masks_add(&tms_shrunk, sc->gfp_mask);
	freed = list_lru_shrink_walk(&tms_lru, sc, tms_isolate, &list);
	tms_free_list(&list);
	return freed;
}

/* Charges to a cgroup on top of whoever is in there with scopes open. */
struct tms_irq_charge {
	struct irq_work work;
	struct tms_memcg *m;
	struct mem_cgroup *memcg;
	struct list_head list;
};

static bool tms_charge(struct tms_irq_charge *charge)
{
	struct tms_object *obj = kmem_cache_alloc(tms_cache, GFP_NOWAIT | __GFP_ACCOUNT);

	if (obj)
		list_add(&obj->lru, &charge->list);
	return obj;
}

static void tms_charge_in_irq(struct irq_work *work)
{
	struct tms_irq_charge *charge = container_of(work, struct tms_irq_charge, work);
	struct tms_memcg *m = charge->m;
	struct mem_cgroup *old;

	/* Whatever it interrupted: it does not count. The caller tries again. */
	if (current != tms_task || !in_hardirq() || in_serving_softirq())
		return;
	old = set_active_memcg(charge->memcg);
	/* What the task has charged and not used yet is there for all: take it first. */
	for (int i = 0; i < 2 * MEMCG_CHARGE_BATCH && tms_charge(charge); i++)
		;
	while (m->irq_charged + m->irq_failed < m->irq_objects) {
		if (tms_charge(charge))
			m->irq_charged++;
		else
			m->irq_failed++;
	}
	set_active_memcg(old);
}

static void tms_charge_on_top(struct tms_memcg *m)
{
	struct tms_irq_charge charge = {
		.work = IRQ_WORK_INIT(tms_charge_in_irq),
		.m = m,
		.memcg = get_mem_cgroup_from_mm(current->mm),
		.list = LIST_HEAD_INIT(charge.list),
	};

	for (int i = 0; i < 100 && m->irq_charged + m->irq_failed < m->irq_objects; i++) {
		irq_work_queue(&charge.work);
		irq_work_sync(&charge.work);
	}
	tms_free_list(&charge.list);
	mem_cgroup_put(charge.memcg);
}

int tms_memcg_run(struct tms_memcg *m)
{
	gfp_t gfp = tms_request_gfp(m->request);
	struct tms_cookies c;
	LIST_HEAD(list);

	if (!gfp)
		return -EINVAL;
	m->asked = tms_gfp(gfp, gfp);
	tms_gfp_text(m->asked_text, gfp);
	tms_shrunk = (struct tms_masks){ };

	tms_open(&c, m->scopes);
	while (m->objects + m->failed < m->max_objects && tms_shrunk.count < m->calls &&
	       !signal_pending(current)) {
		struct tms_object *obj;

		obj = kmem_cache_alloc_lru(tms_cache, &tms_lru,
					   gfp | __GFP_ACCOUNT | TMS_GFP_ALWAYS);
		if (obj) {
			INIT_LIST_HEAD(&obj->lru);
			list_lru_add_obj(&tms_lru, &obj->lru);
			m->objects++;
		} else {
			m->failed++;
		}
		cond_resched();
	}
	/* On PREEMPT_RT, what may allocate is no hardirq. */
	if (IS_ENABLED(CONFIG_PREEMPT_RT))
		m->irq_objects = 0;
	tms_charge_on_top(m);
	tms_close(&c);

	list_lru_walk(&tms_lru, tms_isolate, &list, ULONG_MAX);
	tms_free_list(&list);
	tms_masks_report(&m->reclaim, &tms_shrunk, gfp);
	return signal_pending(current) ? -EINTR : 0;
}

int tms_memcg_init(void)
{
	int err = -ENOMEM;

	tms_cache = kmem_cache_create("test_memalloc_scope", sizeof(struct tms_object), 0,
				      SLAB_ACCOUNT | SLAB_NO_MERGE, NULL);
	if (!tms_cache)
		return err;
	tms_shrinker = shrinker_alloc(SHRINKER_MEMCG_AWARE, "test_memalloc_scope_memcg");
	if (!tms_shrinker)
		goto cache;
	tms_shrinker->count_objects = tms_count;
	tms_shrinker->scan_objects = tms_scan;
	tms_shrinker->seeks = 0;
	err = list_lru_init_memcg(&tms_lru, tms_shrinker);
	if (err)
		goto shrinker;
	shrinker_register(tms_shrinker);
	return 0;
shrinker:
	shrinker_free(tms_shrinker);
cache:
	kmem_cache_destroy(tms_cache);
	return err;
}

void tms_memcg_exit(void)
{
	shrinker_free(tms_shrinker);
	list_lru_destroy(&tms_lru);
	kmem_cache_destroy(tms_cache);
}
