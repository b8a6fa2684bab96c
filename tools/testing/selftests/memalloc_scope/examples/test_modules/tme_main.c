// SPDX-License-Identifier: GPL-2.0
/*
 * Runs the examples of Documentation/core-api/memalloc-scope.rst in a memory
 * cgroup that is at its limit, so that each allocation may reclaim, and counts
 * what they are there to prevent: reclaim that waits for whoever needs the memory.
 */
#include <linux/list_lru.h>
#include <linux/memcontrol.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/shrinker.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/uaccess.h>

#include "tme.h"

/*
 * Objects for one request, and how many reclaim takes at a time: so few that it is
 * called for every request once the cgroup is full.
 */
#define TME_OBJECTS	64
#define TME_BATCH	2

struct tme_object {
	struct list_head lru;
	char fill[PAGE_SIZE - sizeof(struct list_head)];
};

static const struct tme_example *const tme_examples[TME_EXAMPLES] = {
	[TME_FS]	= &tme_fs,
	[TME_BLOCK]	= &tme_block,
	[TME_NET]	= &tme_net,
};

static DEFINE_MUTEX(tme_lock);		/* one run at a time */
static const struct tme_example *tme_running;
static struct mem_cgroup *tme_memcg;
static bool tme_entered;
struct tme_run tme_result;

static struct kmem_cache *tme_cache;
static struct list_lru tme_lru;
static struct shrinker *tme_shrinker;

int tme_alloc(gfp_t gfp)
{
	struct tme_place *place = &tme_result.place[tme_running->place()];
	struct mem_cgroup *old = set_active_memcg(tme_memcg);
	int err = 0;

	for (int i = 0; i < TME_OBJECTS; i++) {
		struct tme_object *obj;

		obj = kmem_cache_alloc_lru(tme_cache, &tme_lru, gfp | __GFP_ACCOUNT);
		if (!obj) {
			place->refused++;
			err = -ENOMEM;
			break;
		}
		INIT_LIST_HEAD(&obj->lru);
		list_lru_add_obj(&tme_lru, &obj->lru);
		place->objects++;
	}
	set_active_memcg(old);
	return err;
}

bool tme_may_enter(void)
{
	int place = tme_running->place();

	if (place != TME_OUTSIDE) {
		tme_result.place[place].wrong++;
		return false;
	}
	if (xchg(&tme_entered, true))
		return false;
	tme_result.entered++;
	return true;
}

static enum lru_status tme_isolate(struct list_head *item, struct list_lru_one *lru, void *arg)
{
	list_lru_isolate_move(lru, item, arg);
	return LRU_REMOVED;
}

static unsigned long tme_free_list(struct list_head *list)
{
	struct tme_object *obj, *next;
	unsigned long freed = 0;

	list_for_each_entry_safe(obj, next, list, lru) {
		kmem_cache_free(tme_cache, obj);
		freed++;
	}
	return freed;
}

/* With seeks == 0, half of it is scanned, whatever the priority. */
static unsigned long tme_count(struct shrinker *s, struct shrink_control *sc)
{
	return min(list_lru_shrink_count(&tme_lru, sc), 2UL * TME_BATCH);
}

/*
 * Reclaim for the sake of the cgroup, as opposed to reclaim of everything by
 * somebody who is no part of this, is for the example to judge. The objects
 * themselves go whatever the mask says, or reclaim would find nothing to free.
 */
static unsigned long tme_scan(struct shrinker *s, struct shrink_control *sc)
{
	struct mem_cgroup *memcg = READ_ONCE(tme_memcg);
	unsigned long freed;
	LIST_HEAD(list);

	if (memcg && sc->memcg == memcg && !current_is_kswapd()) {
		tme_result.place[tme_running->place()].reclaims++;
		tme_running->reclaim(sc->gfp_mask);
	}
	list_lru_shrink_walk(&tme_lru, sc, tme_isolate, &list);
	freed = tme_free_list(&list);
	mm_account_reclaimed_pages(freed);
	return freed ?: SHRINK_STOP;
}

static int tme_run(struct tme_run *r)
{
	int err = 0;

	guard(mutex)(&tme_lock);
	tme_result = *r;
	tme_running = tme_examples[r->example];
	WRITE_ONCE(tme_memcg, get_mem_cgroup_from_mm(current->mm));
	for (u32 i = 0; i < r->ops && !err && !signal_pending(current); i++) {
		WRITE_ONCE(tme_entered, false);
		err = tme_running->run(r->careless);
		if (err == -ENOMEM)
			err = 0;
		tme_alloc(GFP_KERNEL);
		cond_resched();
	}
	*r = tme_result;
	r->error = err;
	mem_cgroup_put(tme_memcg);
	WRITE_ONCE(tme_memcg, NULL);
	return signal_pending(current) ? -EINTR : 0;
}

static long tme_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *user = (void __user *)arg;
	struct tme_run r;
	LIST_HEAD(list);
	int err;

	if (cmd != TME_IOC_RUN)
		return -ENOTTY;
	if (copy_from_user(&r, user, sizeof(r)))
		return -EFAULT;
	if (r.example >= TME_EXAMPLES || r.careless > 1)
		return -EINVAL;
	memset(r.place, 0, sizeof(r.place));
	r.entered = 0;
	r.fallbacks = 0;
	err = tme_run(&r);
	list_lru_walk(&tme_lru, tme_isolate, &list, ULONG_MAX);
	tme_free_list(&list);
	if (err)
		return err;
	return copy_to_user(user, &r, sizeof(r)) ? -EFAULT : 0;
}

static const struct file_operations tme_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = tme_ioctl,
};

static struct miscdevice tme_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "test_memalloc_examples",
	.fops = &tme_fops,
	.mode = 0600,
};

static void tme_exit_examples(int nr)
{
	while (nr--)
		tme_examples[nr]->exit();
}

static int __init tme_init(void)
{
	int err = -ENOMEM, nr = 0;

	tme_cache = kmem_cache_create("test_memalloc_examples", sizeof(struct tme_object), 0,
				      SLAB_ACCOUNT | SLAB_NO_MERGE, NULL);
	if (!tme_cache)
		return err;
	tme_shrinker = shrinker_alloc(SHRINKER_MEMCG_AWARE, "test_memalloc_examples");
	if (!tme_shrinker)
		goto cache;
	tme_shrinker->count_objects = tme_count;
	tme_shrinker->scan_objects = tme_scan;
	tme_shrinker->seeks = 0;
	tme_shrinker->batch = TME_BATCH;
	err = list_lru_init_memcg(&tme_lru, tme_shrinker);
	if (err)
		goto shrinker;
	for (; nr < TME_EXAMPLES; nr++) {
		err = tme_examples[nr]->init();
		if (err)
			goto examples;
	}
	shrinker_register(tme_shrinker);
	err = misc_register(&tme_misc);
	if (!err)
		return 0;
examples:
	/* frees it, registered or not */
	shrinker_free(tme_shrinker);
	tme_shrinker = NULL;
	tme_exit_examples(nr);
	list_lru_destroy(&tme_lru);
shrinker:
	if (tme_shrinker)
		shrinker_free(tme_shrinker);
cache:
	kmem_cache_destroy(tme_cache);
	return err;
}

static void __exit tme_exit(void)
{
	misc_deregister(&tme_misc);
	shrinker_free(tme_shrinker);
	tme_exit_examples(TME_EXAMPLES);
	list_lru_destroy(&tme_lru);
	kmem_cache_destroy(tme_cache);
}

module_init(tme_init);
module_exit(tme_exit);
MODULE_DESCRIPTION("The examples of the guide to allocation scopes, for tests");
MODULE_LICENSE("GPL");
