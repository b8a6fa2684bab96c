// SPDX-License-Identifier: GPL-2.0
/*
 * Randomised stress: tasks open and close scopes and allocate, while everything
 * in tms_stress_irq.c hits them. A model that never looks at the byte says what
 * has to be open; it is compared with the byte, the queries and the fold after
 * every step, and with the mask of every request that the allocators report.
 */
#include <linux/cpumask.h>
#include <linux/fs.h>
#include <linux/hash.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/prandom.h>
#include <linux/rwsem.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "tms_stress.h"

#define TMS_KIND_BITS	6	/* of TMS_SCOPES */

/* Taken for reading by tasks that run, for writing to start and to stop */
static DECLARE_RWSEM(tms_stress_sem);
static struct file *tms_stress_owner;

/*
 * Tasks that are being watched: a set-associative table, as the reports of the
 * allocators have to find current there in any context. current alone enters
 * and removes itself, interrupts on top of it remove what they entered.
 */
#define TMS_SET_BITS	6
#define TMS_WAYS	8
static struct task_struct *tms_watched[1 << TMS_SET_BITS][TMS_WAYS];
static struct tms_watch tms_watches[1 << TMS_SET_BITS][TMS_WAYS][TMS_CTX_MAX];

static struct tms_watch *tms_watch_find(void)
{
	u32 set = hash_ptr(current, TMS_SET_BITS);

	for (int i = 0; i < TMS_WAYS; i++) {
		if (READ_ONCE(tms_watched[set][i]) == current)
			return tms_watches[set][i];
	}
	return NULL;
}

/*
 * Begin to watch a context of current, which has @scopes open. Returns all
 * contexts of current, or NULL if there is no room for one more task.
 */
struct tms_watch *tms_watch_enter(struct tms_tally *t, int context, u32 scopes, bool *claimed)
{
	struct tms_watch *watch = tms_watch_find();
	u32 set = hash_ptr(current, TMS_SET_BITS);

	*claimed = !watch;
	for (int i = 0; i < TMS_WAYS && !watch; i++) {
		if (!cmpxchg(&tms_watched[set][i], NULL, current))
			watch = tms_watches[set][i];
	}
	if (!watch || watch[context].tally)
		return NULL;
	watch[context] = (struct tms_watch){ .scopes = scopes };
	/* Whatever interrupts here looks for the tally first. */
	barrier();
	WRITE_ONCE(watch[context].tally, t);
	return watch;
}

void tms_watch_leave(struct tms_watch *watch, int context, bool claimed)
{
	u32 set = hash_ptr(current, TMS_SET_BITS);

	WRITE_ONCE(watch[context].tally, NULL);
	for (int i = 0; claimed && i < TMS_WAYS; i++) {
		if (watch != tms_watches[set][i])
			continue;
		/* The next owner, on whatever CPU, finds watch[] as it is left here. */
		smp_store_release(&tms_watched[set][i], NULL);
	}
}

void tms_tally_bad(struct tms_tally *t, u32 rule, u32 got, u32 want)
{
	if (got == want)
		return;
	atomic_inc(&t->bad[rule]);
	if (!atomic_cmpxchg(&t->claimed, 0, 1)) {
		t->rule = rule;
		t->got = got;
		t->want = want;
	}
}

/* Once nobody adds to it any more */
void tms_tally_report(struct tms_hits *to, struct tms_tally *t)
{
	to->hits = atomic_read(&t->hits);
	to->elsewhere = atomic_read(&t->elsewhere);
	to->missed = atomic_read(&t->missed);
	for (int i = 0; i < TMS_RULES; i++)
		to->bad[i] = atomic_read(&t->bad[i]);
	to->rule = t->rule;
	to->got = t->got;
	to->want = t->want;
}

/* With @scopes in force, and nothing else, see what a request comes to. */
void tms_stress_check(struct tms_tally *t, u32 scopes)
{
	tms_tally_bad(t, TMS_RULE_QUERY, tms_active(), tms_expect_active(scopes));
	tms_tally_bad(t, TMS_RULE_FOLD,
		      tms_gfp(current_gfp_context(TMS_GFP_FOLD), TMS_GFP_FOLD),
		      tms_gfp(tms_expect_gfp(scopes, TMS_GFP_FOLD), TMS_GFP_FOLD));
}

void tms_stress_compare(struct tms_watch *w, gfp_t used, gfp_t asked)
{
	tms_tally_bad(w->tally, TMS_RULE_USED, tms_gfp(used, asked),
		      tms_gfp(tms_expect_gfp(w->scopes, asked), asked));
}

/* A page with the mask that it has to come with */
void tms_stress_page(struct tms_watch *w, gfp_t asked)
{
	struct page *page;

	w->page = NULL;
	asked |= TMS_GFP_ALWAYS;
	page = alloc_page(asked);
	if (!page)
		return;
	tms_stress_compare(w, w->page == page ? w->page_gfp : 0, asked);
	__free_page(page);
}

static struct tms_watch *tms_watch_here(void)
{
	struct tms_watch *w;

	if (in_nmi())
		return NULL;
	w = tms_watch_find();
	if (w)
		w += in_hardirq() ? TMS_CTX_HARDIRQ :
		     in_serving_softirq() ? TMS_CTX_SOFTIRQ : TMS_CTX_TASK;
	return w && w->tally ? w : NULL;
}

/*
 * Any request, also one on behalf of another: what the scopes take away must be
 * gone, whoever asks. The kernel may open more of them on the way.
 */
static void tms_stress_seen(struct tms_watch *w, gfp_t gfp)
{
	gfp_t asked = TMS_GFP_FOLD | (gfp & __GFP_NOFAIL);
	gfp_t forbidden = asked & ~tms_expect_gfp(w->scopes, asked);

	tms_tally_bad(w->tally, TMS_RULE_USED, tms_gfp(gfp & forbidden, 0), 0);
	atomic_inc(&w->tally->seen);
}

void tms_stress_page_alloc(struct page *page, gfp_t gfp)
{
	struct tms_watch *w = tms_watch_here();

	if (!w)
		return;
	w->page = page;
	w->page_gfp = gfp;
	tms_stress_seen(w, gfp);
}

void tms_stress_percpu_alloc(gfp_t gfp)
{
	struct tms_watch *w = tms_watch_here();

	if (!w)
		return;
	w->percpu_gfp = gfp;
	tms_stress_seen(w, gfp);
}

/* A task that takes random steps */
struct tms_walk {
	struct tms_stress *r;
	struct tms_watch *watch;
	struct tms_tally tally;
	struct rnd_state random;
	struct tms_sockets net;
	cpumask_var_t cpus;		/* that the task may use */
	u32 bh_off;			/* steps left */
	u32 compared;
	u32 depth;
	struct {
		unsigned int cookie;
		u32 scopes;
	} stack[TMS_STRESS_DEPTH];
	/* the model: how many of stack[] contain a kind; what the task is anyway */
	u32 count[TMS_KIND_BITS];
	u32 flusher;
};

static u32 tms_walk_model(const struct tms_walk *k)
{
	u32 open = k->flusher;

	for (int i = 0; i < TMS_KIND_BITS; i++)
		open |= k->count[i] ? 1U << i : 0;
	return open;
}

static void tms_walk_count(struct tms_walk *k, u32 scopes, int by)
{
	for (int i = 0; i < TMS_KIND_BITS; i++) {
		if (scopes & 1U << i)
			k->count[i] += by;
	}
	WRITE_ONCE(k->watch->scopes, tms_walk_model(k));
}

static void tms_walk_open(struct tms_walk *k, u32 scopes, bool by_name)
{
	u32 opens = scopes & ~tms_walk_model(k);
	unsigned int cookie;

	if (!by_name)
		cookie = memalloc_scope_save(tms_raw(scopes));
	else if (scopes == TMS_NOFS)
		cookie = memalloc_nofs_save();
	else if (scopes == TMS_NOIO)
		cookie = memalloc_noio_save();
	else if (scopes == TMS_PIN)
		cookie = memalloc_pin_save();
	else if (scopes == TMS_NORECLAIM)
		cookie = memalloc_noreclaim_save();
	else if (scopes == TMS_NOWAIT)
		cookie = memalloc_nowait_save();
	else
		cookie = memalloc_nowarn_save();
	tms_tally_bad(&k->tally, TMS_RULE_OWN,
		      tms_scope((__force memalloc_scope_t)(u8)cookie), opens);
	k->stack[k->depth].cookie = cookie;
	k->stack[k->depth].scopes = scopes;
	k->depth++;
	tms_walk_count(k, scopes, 1);
}

static u32 tms_walk_close(struct tms_walk *k, u32 index)
{
	u32 scopes = k->stack[index].scopes;
	unsigned int cookie = k->stack[index].cookie;

	tms_walk_count(k, scopes, -1);
	switch (scopes) {
	case TMS_NOFS:
		memalloc_nofs_restore(cookie);
		break;
	case TMS_NOIO:
		memalloc_noio_restore(cookie);
		break;
	case TMS_PIN:
		memalloc_pin_restore(cookie);
		break;
	case TMS_NORECLAIM:
		memalloc_noreclaim_restore(cookie);
		break;
	case TMS_NOWAIT:
		memalloc_nowait_restore(cookie);
		break;
	case TMS_NOWARN:
		memalloc_nowarn_restore(cookie);
		break;
	default:
		memalloc_scope_restore(cookie);
	}
	k->depth--;
	for (u32 i = index; i < k->depth; i++)
		k->stack[i] = k->stack[i + 1];
	return scopes;
}

/* Scopes of one kind close in reverse order, those of different kinds in any. */
static bool tms_walk_may_close(const struct tms_walk *k, u32 index)
{
	for (u32 i = index + 1; i < k->depth; i++) {
		if (k->stack[i].scopes & k->stack[index].scopes)
			return false;
	}
	return true;
}

static void tms_walk_compare(struct tms_walk *k, gfp_t used, gfp_t asked)
{
	tms_stress_compare(k->watch, used, asked);
	k->compared++;
}

/* Requests that fail do no harm: there is nothing to compare then. */
static void tms_walk_alloc(struct tms_walk *k, u32 door, u32 random)
{
	gfp_t gfp = tms_request_gfp(random % TMS_REQ_MAX), plain;
	struct tms_watch *w = k->watch;
	struct page *pages[8] = { };
	void __percpu *pcpu;
	struct folio *folio;
	void *p;

	if (k->bh_off)
		gfp = random & 1 ? GFP_ATOMIC : GFP_NOWAIT;
	/* Not every allocator takes user memory. */
	plain = gfp & (__GFP_HIGHMEM | __GFP_MOVABLE) ? GFP_KERNEL : gfp;

	switch (door) {
	case TMS_DOOR_PAGE:
		tms_stress_page(w, gfp);
		k->compared++;
		break;
	case TMS_DOOR_FOLIO:
		w->page = NULL;
		folio = folio_alloc(gfp | TMS_GFP_ALWAYS, random / 8 % 3);
		if (!folio)
			break;
		tms_walk_compare(k, w->page == folio_page(folio, 0) ? w->page_gfp : 0,
				 gfp | __GFP_COMP | TMS_GFP_ALWAYS);
		folio_put(folio);
		break;
	case TMS_DOOR_KMALLOC:
		/* Up to what no slab has */
		p = kmalloc(64 << random / 8 % 9, plain | TMS_GFP_ALWAYS);
		kfree(p);
		break;
	case TMS_DOOR_PERCPU:
		w->percpu_gfp = 0;
		gfp |= __GFP_NOWARN;
		pcpu = __alloc_percpu_gfp(64, 8, gfp);
		if (!pcpu)
			break;
		tms_walk_compare(k, w->percpu_gfp, gfp);
		free_percpu(pcpu);
		break;
	case TMS_DOOR_VMALLOC:
		if (!gfpflags_allow_blocking(plain))
			break;
		p = __vmalloc(3 * PAGE_SIZE, plain | __GFP_NOWARN);
		vfree(p);
		break;
	case TMS_DOOR_BULK:
		alloc_pages_bulk(gfp | TMS_GFP_ALWAYS, ARRAY_SIZE(pages), pages);
		for (int i = 0; i < ARRAY_SIZE(pages) && pages[i]; i++)
			__free_page(pages[i]);
		break;
	}
}

static void tms_walk_migrate(struct tms_walk *k, u32 cpu)
{
	/* A CPU that went offline, or that a cpuset withholds: stay. */
	set_cpus_allowed_ptr(current, cpumask_of(cpu));
	set_cpus_allowed_ptr(current, k->cpus);
}

/*
 * One random number is one step, whatever comes of it, so that what a task does
 * depends on its seed alone.
 */
static void tms_walk_step(struct tms_walk *k, struct tms_stress_step *s)
{
	u32 random = prandom_u32_state(&k->random);
	u32 choice = random & 31, arg = random >> 5 & 0xff, index, cpu;

	random >>= 13;
	s->arg = 0;
	if (choice < 18 && (choice < 8 ? k->depth < TMS_STRESS_DEPTH : !k->depth)) {
		s->what = choice & 3 ? TMS_STEP_OPEN : TMS_STEP_OPEN_SET;
		s->arg = choice & 3 ? 1U << arg % TMS_KIND_BITS : arg % TMS_SCOPES + 1;
		tms_walk_open(k, s->arg, s->what == TMS_STEP_OPEN);
	} else if (choice < 18) {
		index = choice < 15 ? k->depth - 1 : arg % k->depth;
		if (!tms_walk_may_close(k, index))
			index = k->depth - 1;
		s->what = index == k->depth - 1 ? TMS_STEP_CLOSE : TMS_STEP_CLOSE_OTHER;
		s->arg = tms_walk_close(k, index);
	} else if (choice < 24) {
		s->what = TMS_STEP_ALLOC;
		/* vmalloc is the slow one. */
		s->arg = arg % 32 ? arg % TMS_DOOR_VMALLOC : TMS_DOOR_VMALLOC;
		if (arg % 8 == 1)
			s->arg = TMS_DOOR_BULK;
		tms_walk_alloc(k, s->arg, random);
	} else if (choice < 26 && !k->bh_off) {
		if (arg % 16 == 0) {
			s->what = TMS_STEP_SLEEP;
			schedule_timeout_uninterruptible(1);
		} else if (arg % 16 == 1) {
			s->what = TMS_STEP_MIGRATE;
			cpu = cpumask_nth(random % num_online_cpus(), cpu_online_mask);
			s->arg = cpu;
			if (cpu < nr_cpu_ids)
				tms_walk_migrate(k, cpu);
		} else {
			s->what = TMS_STEP_YIELD;
			cond_resched();
		}
	} else if (choice < 27 && !k->bh_off) {
		s->what = TMS_STEP_BH_OFF;
		s->arg = 1 + arg % 8;
		k->bh_off = s->arg + 1;
		local_bh_disable();
	} else if (choice < 29 && !k->bh_off && !k->r->net_error) {
		s->what = TMS_STEP_SEND;
		k->r->net_error = -tms_send(&k->net);
	} else {
		s->what = TMS_STEP_SHOOT;
		s->arg = arg % TMS_STRESS_KINDS;
		tms_shoot(s->arg, random);
	}
}

static void tms_walk_check(struct tms_walk *k)
{
	tms_tally_bad(&k->tally, TMS_RULE_OWN, tms_own(), k->watch->scopes);
	tms_stress_check(&k->tally, k->watch->scopes);
}

/* Whether the rules were kept, up to and including the step */
static bool tms_walk_good(struct tms_walk *k)
{
	return !atomic_read(&k->tally.claimed);
}

static int tms_walk(struct tms_walk *k)
{
	struct tms_stress *r = k->r;
	ktime_t end = ktime_add_ms(ktime_get(), r->max_ms);
	struct tms_stress_step *s;

	while (r->done < r->steps && tms_walk_good(k) && !signal_pending(current)) {
		if (r->done % 16 == 0 && ktime_after(ktime_get(), end))
			break;
		s = &r->history[r->done % TMS_STRESS_HISTORY];
		s->step = r->done;
		tms_walk_step(k, s);
		tms_walk_check(k);
		s->depth = k->depth;
		s->open = k->watch->scopes & TMS_SCOPES;
		if (k->bh_off && !--k->bh_off) {
			/* Softirqs that are pending run in here. */
			local_bh_enable();
			tms_walk_check(k);
		}
		r->done++;
	}
	if (k->bh_off)
		local_bh_enable();
	while (tms_walk_good(k) && k->depth) {
		tms_walk_close(k, k->depth - 1);
		tms_walk_check(k);
	}
	/* A violation must not go on into whatever comes next. */
	if (!tms_walk_good(k))
		memalloc_scope_give_back(tms_raw(k->flusher));
	return signal_pending(current) ? -EINTR : 0;
}

static int tms_stress_steps(struct tms_stress *r)
{
	struct tms_walk *k = kzalloc_obj(*k);
	bool claimed;
	int err;

	if (!k)
		return -ENOMEM;
	err = -ENOMEM;
	if (!zalloc_cpumask_var(&k->cpus, GFP_KERNEL))
		goto free;
	cpumask_copy(k->cpus, current->cpus_ptr);
	k->r = r;
	k->flusher = r->io_flusher ? TMS_IO_FLUSHER : 0;
	prandom_seed_state(&k->random, r->seed);
	/* Its first numbers are not random yet. */
	for (int i = 0; i < 10; i++)
		prandom_u32_state(&k->random);
	r->net_error = -tms_open_sockets(&k->net, tms_shot_received);

	err = -EBUSY;
	k->watch = tms_watch_enter(&k->tally, TMS_CTX_TASK, k->flusher, &claimed);
	if (!k->watch)
		goto close;
	/* Nothing else may be open on entry. */
	tms_tally_bad(&k->tally, TMS_RULE_ENTRY, tms_own(), k->flusher);
	err = tms_walk(k);
	tms_watch_leave(k->watch, TMS_CTX_TASK, claimed);

	tms_tally_report(&r->task, &k->tally);
	r->task.hits = atomic_read(&k->tally.seen);
	r->compared = k->compared;
close:
	tms_close_sockets(&k->net);
	free_cpumask_var(k->cpus);
free:
	kfree(k);
	return err;
}

static int tms_stress_leak(struct tms_stress *r)
{
	/* The upper half is the kernel's own, if it checks scopes. */
	u32 cookies = (__force u8)tms_raw(TMS_SCOPES) | GENMASK(31, 16);

	if (r->op == TMS_STRESS_LEAK) {
		tms_expect_leak(TMS_SCOPES);
		r->cookie = memalloc_scope_save(tms_raw(r->scopes));
	} else {
		memalloc_scope_restore(r->cookie & cookies);
		tms_expect_leak(0);
	}
	return 0;
}

static int tms_stress_start(struct file *file, struct tms_stress *r)
{
	if (tms_stress_owner)
		return -EBUSY;
	tms_stress_owner = file;
	tms_shots_start(r->seed);
	return 0;
}

static int tms_stress_stop(struct file *file, struct tms_hits kind[TMS_STRESS_KINDS])
{
	if (tms_stress_owner != file)
		return -EINVAL;
	tms_shots_stop(kind);
	tms_stress_owner = NULL;
	return 0;
}

int tms_stress_run(struct file *file, struct tms_stress *r)
{
	int err;

	r->rt = IS_ENABLED(CONFIG_PREEMPT_RT);
	switch (r->op) {
	case TMS_STRESS_LEAK:
	case TMS_STRESS_UNLEAK:
		return tms_stress_leak(r);
	case TMS_STRESS_RUN:
		err = down_read_interruptible(&tms_stress_sem);
		if (err)
			return err;
		r->done = 0;
		err = tms_stress_owner ? tms_stress_steps(r) : -EINVAL;
		up_read(&tms_stress_sem);
		return err;
	case TMS_STRESS_START:
	case TMS_STRESS_STOP:
		err = down_write_killable(&tms_stress_sem);
		if (err)
			return err;
		err = r->op == TMS_STRESS_START ? tms_stress_start(file, r) :
						  tms_stress_stop(file, r->kind);
		up_write(&tms_stress_sem);
		return err;
	}
	return -EINVAL;
}

/* Whoever started it is gone. */
void tms_stress_release(struct file *file)
{
	down_write(&tms_stress_sem);
	tms_stress_stop(file, NULL);
	up_write(&tms_stress_sem);
}
