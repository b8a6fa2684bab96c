// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for allocation scopes: what can be decided without memory
 * pressure, interrupts and user space. For those, see
 * tools/testing/selftests/memalloc_scope/.
 */
#include <kunit/test.h>
#include <linux/bitops.h>
#include <linux/completion.h>
#include <linux/debug_locks.h>
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/hrtimer.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/memalloc_scope.h>
#include <linux/mutex.h>
#include <linux/prandom.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>
#include <linux/workqueue.h>

struct kind {
	const char *name;
	memalloc_scope_t scope;
	unsigned int (*save)(void);
	void (*restore)(unsigned int flags);
	bool (*active)(void);
	void (*thread)(void);
};

static const struct kind kinds[] = {
	{ "nofs", MEMALLOC_SCOPE_NOFS,
	  memalloc_nofs_save, memalloc_nofs_restore, memalloc_nofs_active,
	  memalloc_nofs_thread },
	{ "noio", MEMALLOC_SCOPE_NOIO,
	  memalloc_noio_save, memalloc_noio_restore, memalloc_noio_active,
	  memalloc_noio_thread },
	{ "pin", MEMALLOC_SCOPE_PIN,
	  memalloc_pin_save, memalloc_pin_restore, memalloc_pin_active },
	{ "noreclaim", MEMALLOC_SCOPE_NORECLAIM,
	  memalloc_noreclaim_save, memalloc_noreclaim_restore, memalloc_noreclaim_active,
	  memalloc_noreclaim_thread },
	{ "nowait", MEMALLOC_SCOPE_NOWAIT,
	  memalloc_nowait_save, memalloc_nowait_restore, memalloc_nowait_active },
	{ "nowarn", MEMALLOC_SCOPE_NOWARN,
	  memalloc_nowarn_save, memalloc_nowarn_restore, memalloc_nowarn_active },
	{ "nolock", MEMALLOC_SCOPE_NOLOCK,
	  memalloc_nolock_save, memalloc_nolock_restore, memalloc_nolock_active },
};

#define NR_KINDS	ARRAY_SIZE(kinds)
#define IO_FLUSHER	BIT(NR_KINDS)	/* in a set of kinds: and the prctl state */
#define NR_SETS		(2 * BIT(NR_KINDS))

/* With debugging, the upper half of a cookie tells one save from another. */
static unsigned int opened(unsigned int cookie)
{
	return cookie & GENMASK(15, 0);
}

static void open_set(unsigned int set, unsigned int *cookies)
{
	memalloc_set_io_flusher(set & IO_FLUSHER);
	for (int i = 0; i < NR_KINDS; i++)
		cookies[i] = set & BIT(i) ? kinds[i].save() : 0;
}

static void close_set(unsigned int *cookies)
{
	for (int i = NR_KINDS - 1; i >= 0; i--)
		kinds[i].restore(cookies[i]);
	memalloc_set_io_flusher(false);
}

/*
 * The oracle: who takes and gives what, one line each, as the documentation has
 * it; and what a request says to be spared. It shares neither the bits nor the
 * order of tests with the kernel's fold.
 */
static const struct {
	const char *by;
	gfp_t takes, gives, unless;
} rules[] = {
	{ "nofs",	__GFP_FS },
	{ "noio",	__GFP_FS },
	{ "noio",	__GFP_IO },
	{ "io_flusher",	__GFP_FS },
	{ "io_flusher",	__GFP_IO },
	{ "pin",	__GFP_MOVABLE },
	{ "nowait",	__GFP_DIRECT_RECLAIM, .unless = __GFP_NOFAIL },
	{ "nowarn",	.gives = __GFP_NOWARN, .unless = __GFP_NOFAIL },
	{ "nolock",	__GFP_RECLAIM | __GFP_HIGH | __GFP_MEMALLOC,
			__GFP_NOWARN | __GFP_NOMEMALLOC, __GFP_NOFAIL },
};

static bool set_has(unsigned int set, const char *name)
{
	if (!strcmp(name, "io_flusher"))
		return set & IO_FLUSHER;
	for (int i = 0; i < NR_KINDS; i++) {
		if (!strcmp(name, kinds[i].name))
			return set & BIT(i);
	}
	return false;
}

static gfp_t oracle(unsigned int set, gfp_t asked)
{
	for (int i = 0; i < ARRAY_SIZE(rules); i++) {
		if (set_has(set, rules[i].by) && !(asked & rules[i].unless)) {
			asked &= ~rules[i].takes;
			asked |= rules[i].gives;
		}
	}
	return asked;
}

/* What scopes act on, or look at: in all combinations, with each of the below. */
static const gfp_t gfp_bits[] = {
	__GFP_IO, __GFP_FS, __GFP_DIRECT_RECLAIM, __GFP_MOVABLE, __GFP_NOFAIL,
	__GFP_NOWARN,
};

/* What they must leave alone */
static const gfp_t gfp_others[] = {
	0, __GFP_KSWAPD_RECLAIM, __GFP_RECLAIMABLE, __GFP_HIGHMEM, __GFP_HIGH,
	__GFP_MEMALLOC, __GFP_NOMEMALLOC, __GFP_NORETRY, __GFP_RETRY_MAYFAIL,
	__GFP_ACCOUNT, __GFP_ZERO, ~(__force gfp_t)0,
};

#define NR_MASKS	(ARRAY_SIZE(gfp_others) << ARRAY_SIZE(gfp_bits))

/* Red if: a line of __current_gfp_context() is dropped or takes a bit too many. */
static void __fold(struct kunit *test)
{
	unsigned int cookies[NR_KINDS];

	for (unsigned int set = 0; set < NR_SETS; set++) {
		for (unsigned int nr = 0; nr < NR_MASKS; nr++) {
			gfp_t asked = gfp_others[nr >> ARRAY_SIZE(gfp_bits)], got;

			for (int i = 0; i < ARRAY_SIZE(gfp_bits); i++) {
				if (nr & BIT(i))
					asked |= gfp_bits[i];
				else
					asked &= ~gfp_bits[i];
			}

			open_set(set, cookies);
			got = current_gfp_context(asked);
			close_set(cookies);

			if (got != oracle(set, asked))
				KUNIT_FAIL_AND_ABORT(test, "set %#x: %pGg became %pGg, not %pGg",
						     set, &asked, &got,
						     &(gfp_t){ oracle(set, asked) });
		}
	}
	KUNIT_EXPECT_EQ(test, (__force u8)current->memalloc_scope, 0);
}

/* A request that must not fail may be reported, if nobody has had the warning yet. */
static void fold(struct kunit *test)
{
	kunit_warning_suppress(test)
		__fold(test);
}

/*
 * Red if: current_gfp_allows_blocking() asks the mask alone, or lets nowait have
 * its way with __GFP_NOFAIL.
 */
static void __blocking(struct kunit *test)
{
	static const gfp_t masks[] = {
		GFP_KERNEL, GFP_NOFS, GFP_NOIO, GFP_NOWAIT, GFP_ATOMIC, 0,
		GFP_KERNEL | __GFP_NOFAIL, GFP_NOIO | __GFP_NORETRY,
	};
	unsigned int cookies[NR_KINDS];

	for (unsigned int set = 0; set < NR_SETS; set++) {
		for (int i = 0; i < ARRAY_SIZE(masks); i++) {
			bool allowed;

			open_set(set, cookies);
			allowed = current_gfp_allows_blocking(masks[i]);
			close_set(cookies);
			KUNIT_EXPECT_EQ_MSG(test, allowed,
					    !!(oracle(set, masks[i]) & __GFP_DIRECT_RECLAIM),
					    "%pGg, set %#x", &masks[i], set);
		}
	}
}

/* As fold() */
static void blocking(struct kunit *test)
{
	kunit_warning_suppress(test)
		__blocking(test);
}

/* Red if: MEMALLOC_SCOPE_ANY_NOFS or _ANY_NOIO loses a member. */
static void queries(struct kunit *test)
{
	unsigned int cookies[NR_KINDS];
	bool active[NR_KINDS];

	for (unsigned int set = 0; set < NR_SETS; set++) {
		bool noio = set_has(set, "noio") || set_has(set, "io_flusher");
		bool nofs = set_has(set, "nofs") || noio;

		open_set(set, cookies);
		for (int i = 0; i < NR_KINDS; i++)
			active[i] = kinds[i].active();
		close_set(cookies);

		for (int i = 0; i < NR_KINDS; i++) {
			bool expected = set_has(set, kinds[i].name);

			if (kinds[i].active == memalloc_nofs_active)
				expected = nofs;
			else if (kinds[i].active == memalloc_noio_active)
				expected = noio;
			KUNIT_EXPECT_EQ_MSG(test, active[i], expected,
					    "%s_active, set %#x", kinds[i].name, set);
		}
	}
}

/* Red if: memalloc_scope_save() returns the scope though it was open before. */
static void nesting(struct kunit *test)
{
	for (int i = 0; i < NR_KINDS; i++) {
		const struct kind *k = &kinds[i];
		unsigned int outer, inner[8];

		outer = k->save();
		KUNIT_EXPECT_NE_MSG(test, outer, 0, "%s", k->name);
		for (int d = 0; d < ARRAY_SIZE(inner); d++) {
			inner[d] = k->save();
			KUNIT_EXPECT_EQ_MSG(test, opened(inner[d]), 0, "%s, depth %d", k->name, d);
		}
		for (int d = ARRAY_SIZE(inner) - 1; d >= 0; d--) {
			k->restore(inner[d]);
			KUNIT_EXPECT_TRUE_MSG(test, k->active(), "%s, depth %d", k->name, d);
		}
		k->restore(outer);
		KUNIT_EXPECT_FALSE_MSG(test, k->active(), "%s", k->name);
	}
}

/* Callers initialise a cookie to 0 and open the scope only under a condition. */
static void zero_cookie(struct kunit *test)
{
	for (unsigned int set = 0; set < NR_SETS; set++) {
		unsigned int cookies[NR_KINDS];
		memalloc_scope_t before, after;

		open_set(set, cookies);
		before = current->memalloc_scope;
		for (int i = 0; i < NR_KINDS; i++)
			kinds[i].restore(0);
		after = current->memalloc_scope;
		close_set(cookies);
		KUNIT_EXPECT_EQ_MSG(test, (__force u8)after, (__force u8)before, "set %#x", set);
	}
}

/* Red if: a restore writes back the byte that the save found. */
static void out_of_order(struct kunit *test)
{
	for (int a = 0; a < NR_KINDS; a++) {
		for (int b = 0; b < NR_KINDS; b++) {
			unsigned int first, second;

			if (a == b)
				continue;
			first = kinds[a].save();
			second = kinds[b].save();
			kinds[a].restore(first);
			KUNIT_EXPECT_TRUE_MSG(test, current->memalloc_scope == kinds[b].scope,
					      "%s closed before %s: %#x left", kinds[a].name,
					      kinds[b].name, (__force u8)current->memalloc_scope);
			kinds[b].restore(second);
			KUNIT_EXPECT_EQ_MSG(test, (__force u8)current->memalloc_scope, 0,
					    "%s, then %s", kinds[a].name, kinds[b].name);
		}
	}
}

/* Red if: a nofs that is closed inside of noio gives __GFP_FS back. */
static void nofs_in_noio(struct kunit *test)
{
	unsigned int noio = memalloc_noio_save();
	unsigned int nofs = memalloc_nofs_save();

	memalloc_nofs_restore(nofs);
	KUNIT_EXPECT_EQ(test, current_gfp_context(GFP_KERNEL), GFP_NOIO);
	nofs = memalloc_nofs_save();
	memalloc_noio_restore(noio);
	KUNIT_EXPECT_EQ(test, current_gfp_context(GFP_KERNEL), GFP_NOFS);
	memalloc_nofs_restore(nofs);
	KUNIT_EXPECT_EQ(test, current_gfp_context(GFP_KERNEL), GFP_KERNEL);
}

/*
 * Random walks, checked against a counter for each kind. The last of equal kind
 * is closed first, different kinds are closed in any order.
 */
static void random_walk(struct kunit *test)
{
	u32 seed = get_random_u32();
	unsigned int stack[NR_KINDS][16], depth[NR_KINDS] = { };
	struct rnd_state rnd;

	kunit_info(test, "seed %#x", seed);
	prandom_seed_state(&rnd, seed);

	for (int step = 0; step < 100000; step++) {
		u32 r = prandom_u32_state(&rnd);
		int i = r % NR_KINDS;
		memalloc_scope_t expected = MEMALLOC_SCOPE_NONE;

		if ((r & BIT(16)) && depth[i] < ARRAY_SIZE(stack[i]))
			stack[i][depth[i]++] = kinds[i].save();
		else if (depth[i])
			kinds[i].restore(stack[i][--depth[i]]);

		for (i = 0; i < NR_KINDS; i++)
			expected |= depth[i] ? kinds[i].scope : MEMALLOC_SCOPE_NONE;
		if (current->memalloc_scope != expected) {
			KUNIT_FAIL(test, "seed %#x, step %d: %#x open, not %#x", seed, step,
				   (__force u8)current->memalloc_scope, (__force u8)expected);
			break;
		}
	}
	for (int i = 0; i < NR_KINDS; i++) {
		while (depth[i])
			kinds[i].restore(stack[i][--depth[i]]);
	}
	KUNIT_EXPECT_EQ(test, (__force u8)current->memalloc_scope, 0);
}

/* Red if: memalloc_scope_borrow() keeps a scope, or _give_back() merges. */
static void borrow(struct kunit *test)
{
	for (unsigned int set = 0; set < NR_SETS; set++) {
		for (unsigned int leak = 0; leak < BIT(NR_KINDS); leak++) {
			unsigned int cookies[NR_KINDS];
			memalloc_scope_t before, inside, after;

			open_set(set, cookies);
			before = current->memalloc_scope;

			memalloc_scope_borrow();
			inside = current->memalloc_scope;
			for (int i = 0; i < NR_KINDS; i++) {
				if (leak & BIT(i))
					current->memalloc_scope |= kinds[i].scope;
			}
			memalloc_scope_give_back(before);

			after = current->memalloc_scope;
			close_set(cookies);
			KUNIT_EXPECT_EQ(test, (__force u8)inside, 0);
			KUNIT_EXPECT_EQ(test, (__force u8)after, (__force u8)before);
		}
	}
}

/* Red if: memalloc_scope_fork() keeps anything else, or drops io_flusher. */
static void new_task(struct kunit *test)
{
	struct task_struct *child = kunit_kzalloc(test, sizeof(*child), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, child);
	for (unsigned int set = 0; set < NR_SETS; set++) {
		memalloc_scope_t expected = set & IO_FLUSHER ?
			MEMALLOC_SCOPE_IO_FLUSHER : MEMALLOC_SCOPE_NONE;
		unsigned int cookies[NR_KINDS];

		open_set(set, cookies);
		child->memalloc_scope = current->memalloc_scope;
		close_set(cookies);

		child->flags = 0;
		memalloc_scope_fork(child);
		KUNIT_EXPECT_EQ_MSG(test, (__force u8)child->memalloc_scope,
				    (__force u8)expected, "process, set %#x", set);
		child->flags = PF_KTHREAD;
		memalloc_scope_fork(child);
		KUNIT_EXPECT_EQ_MSG(test, (__force u8)child->memalloc_scope, 0,
				    "kernel thread, set %#x", set);
	}
}

/* A kernel thread that one of the cases below starts */
struct life {
	const struct kind *kind;	/* what it opens for life, if any */
	const struct kind *also;	/* and then, if any */
	struct kunit *forget;		/* to close a pin scope */
	struct kunit_suppressed_warning *quiet;
	struct completion ready;
	memalloc_scope_t start, opened, again, nested, inner, both;
	unsigned int cookie;
	bool active;
};

static int live(void *data)
{
	struct life *l = data;
	const struct kind *k = l->kind;

	l->start = current->memalloc_scope;
	if (k) {
		k->thread();
		l->opened = current->memalloc_scope;
		l->active = k->active();
		k->thread();
		l->again = current->memalloc_scope;
		l->cookie = k->save();
		k->restore(l->cookie);
		l->nested = current->memalloc_scope;
		for (int i = 0; i < NR_KINDS; i++)
			kinds[i].restore(kinds[i].save());
		l->inner = current->memalloc_scope;
	}
	if (l->also) {
		l->also->thread();
		l->both = current->memalloc_scope;
	}
	if (l->forget) {
		l->quiet = kunit_start_suppress_warning(l->forget);
		l->cookie = memalloc_pin_save();
	}
	complete(&l->ready);

	set_current_state(TASK_INTERRUPTIBLE);
	while (!kthread_should_stop()) {
		schedule();
		set_current_state(TASK_INTERRUPTIBLE);
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

static struct task_struct *life_begin(struct kunit *test, struct life *l)
{
	struct task_struct *task;

	init_completion(&l->ready);
	task = kthread_run(live, l, "memalloc_scope_kunit");
	if (IS_ERR(task)) {
		KUNIT_FAIL(test, "no kernel thread: %pe", task);
		return NULL;
	}
	get_task_struct(task);
	wait_for_completion(&l->ready);
	return task;
}

/* What it had open when it was gone */
static memalloc_scope_t life_end(struct task_struct *task)
{
	memalloc_scope_t left = MEMALLOC_SCOPE_NONE;

	if (task) {
		unsigned long deadline = jiffies + 10 * HZ;

		kthread_stop(task);
		/* On its way out it may be below a softirq, whose byte that would be. */
		while ((READ_ONCE(task->__state) != TASK_DEAD || READ_ONCE(task->on_cpu)) &&
		       time_before(jiffies, deadline))
			fsleep(1000);
		left = task_memalloc_scope(task);
		put_task_struct(task);
	}
	return left;
}

/*
 * Red if: memalloc_scope_thread() opens nothing or gives a later save a cookie
 * (opened in the record alone), or kthread_do_exit() does not close the scopes.
 */
static void thread(struct kunit *test)
{
	for (int i = 0; i < NR_KINDS; i++) {
		const struct kind *k = &kinds[i];
		struct task_struct *task, *bystander;
		struct life l = { .kind = k }, other = { };
		memalloc_scope_t left;

		if (!k->thread)
			continue;
		task = life_begin(test, &l);
		KUNIT_EXPECT_EQ_MSG(test, (__force u8)current->memalloc_scope, 0, "%s", k->name);
		bystander = life_begin(test, &other);
		life_end(bystander);
		left = life_end(task);
		if (!task || !bystander)
			return;

		KUNIT_EXPECT_EQ_MSG(test, (__force u8)l.start, 0, "%s", k->name);
		KUNIT_EXPECT_EQ_MSG(test, (__force u8)l.opened, (__force u8)k->scope,
				    "%s", k->name);
		KUNIT_EXPECT_TRUE_MSG(test, l.active, "%s", k->name);
		KUNIT_EXPECT_EQ_MSG(test, (__force u8)l.again, (__force u8)k->scope,
				    "%s, opened twice", k->name);
		KUNIT_EXPECT_EQ_MSG(test, opened(l.cookie), 0, "%s", k->name);
		KUNIT_EXPECT_EQ_MSG(test, (__force u8)l.nested, (__force u8)k->scope,
				    "%s, closed by a restore", k->name);
		KUNIT_EXPECT_EQ_MSG(test, (__force u8)l.inner, (__force u8)k->scope,
				    "%s, after other kinds", k->name);
		KUNIT_EXPECT_EQ_MSG(test, (__force u8)other.start, 0,
				    "started next to one with %s", k->name);
		KUNIT_EXPECT_EQ_MSG(test, (__force u8)left, 0, "%s, still open in do_exit()",
				    k->name);
		KUNIT_EXPECT_EQ_MSG(test, (__force u8)current->memalloc_scope, 0, "%s", k->name);
	}
}

/* Red if: memalloc_scope_thread() overwrites the byte, or the record in struct kthread. */
static void thread_opens_two(struct kunit *test)
{
	for (int a = 0; a < NR_KINDS; a++) {
		for (int b = 0; b < NR_KINDS; b++) {
			struct life l = { .kind = &kinds[a], .also = &kinds[b] };
			struct task_struct *task;
			memalloc_scope_t left;

			if (a == b || !kinds[a].thread || !kinds[b].thread)
				continue;
			task = life_begin(test, &l);
			left = life_end(task);
			if (!task)
				return;
			KUNIT_EXPECT_TRUE_MSG(test, l.both == (kinds[a].scope | kinds[b].scope),
					      "%s and %s: %#x open", kinds[a].name,
					      kinds[b].name, (__force u8)l.both);
			KUNIT_EXPECT_EQ_MSG(test, (__force u8)left, 0,
					    "%s and %s, still open in do_exit()",
					    kinds[a].name, kinds[b].name);
		}
	}
}

/* Red if: kthread_do_exit() clears the byte as a whole. */
static void thread_forgets(struct kunit *test)
{
	struct life l = { .kind = &kinds[0], .forget = test };
	struct task_struct *task = life_begin(test, &l);
	memalloc_scope_t left = life_end(task);

	if (!task)
		return;
	/* do_exit() closes what it has reported. */
	KUNIT_EXPECT_EQ(test, (__force u8)left, IS_ENABLED(CONFIG_DEBUG_MEMALLOC_SCOPE) ? 0 :
			(__force u8)MEMALLOC_SCOPE_PIN);
	KUNIT_EXPECT_EQ(test, kunit_suppressed_warning_count(l.quiet),
			IS_ENABLED(CONFIG_DEBUG_MEMALLOC_SCOPE));
	kunit_end_suppress_warning(test, l.quiet);
}

/* A task or an interrupt that may not open a scope for life, and tries to */
struct refused {
	struct kunit *test;
	struct work_struct work;
	struct hrtimer timer;
	bool fired;
	struct completion done;
	memalloc_scope_t start, after;
};

static void refused_task(struct refused *r)
{
	r->start = current->memalloc_scope;
	kunit_warning_suppress(r->test) {
		memalloc_noreclaim_thread();
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(r->test, 1);
	}
	r->after = current->memalloc_scope;
	/* Spare whoever comes next the scope. */
	__memalloc_scope_set(r->start);
}

static void refused_work(struct work_struct *work)
{
	refused_task(container_of(work, struct refused, work));
}

/* Red if: memalloc_scope_thread() does not look for PF_WQ_WORKER. */
static void thread_of_workqueue(struct kunit *test)
{
	struct refused r = { .test = test };

	INIT_WORK_ONSTACK(&r.work, refused_work);
	schedule_work(&r.work);
	flush_work(&r.work);
	destroy_work_on_stack(&r.work);
	KUNIT_EXPECT_EQ(test, (__force u8)r.after, (__force u8)r.start);
}

static enum hrtimer_restart refused_interrupt(struct hrtimer *timer)
{
	struct refused *r = container_of(timer, struct refused, timer);

	memalloc_noreclaim_thread();
	WRITE_ONCE(r->fired, true);
	return HRTIMER_NORESTART;
}

/*
 * The interrupted task is a kernel thread: that does not make it legal.
 *
 * Red if: memalloc_scope_thread() does not look at in_task().
 */
static void thread_in_interrupt(struct kunit *test)
{
	struct refused r = { };

	hrtimer_setup_on_stack(&r.timer, refused_interrupt, CLOCK_MONOTONIC,
			       HRTIMER_MODE_REL_PINNED_HARD);
	kunit_warning_suppress(test) {
		preempt_disable();
		hrtimer_start(&r.timer, 0, HRTIMER_MODE_REL_PINNED_HARD);
		while (!READ_ONCE(r.fired))
			cpu_relax();
		preempt_enable();
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	hrtimer_cancel(&r.timer);
	destroy_hrtimer_on_stack(&r.timer);
	KUNIT_EXPECT_EQ(test, (__force u8)current->memalloc_scope, 0);
}

#ifdef MODULE
static void thread_of_user(struct kunit *test)
{
	kunit_skip(test, "modules cannot start a user thread");
}

static void kernel_thread_is_no_child(struct kunit *test)
{
	kunit_skip(test, "modules cannot fork a kernel thread themselves");
}
#else
/* A sibling of the case's own thread: kthreadd reaps it, by ignoring it. */
#define FORK_FLAGS	(CLONE_FILES | CLONE_PARENT)

static int refused_user(void *data)
{
	struct refused *r = data;

	refused_task(r);
	kthread_complete_and_exit(&r->done, 0);
}

/* Red if: memalloc_scope_thread() does not ask for a kernel thread. */
static void thread_of_user(struct kunit *test)
{
	struct refused r = { .test = test };
	pid_t pid;

	init_completion(&r.done);
	pid = user_mode_thread(refused_user, &r, FORK_FLAGS);
	KUNIT_ASSERT_GT(test, pid, 0);
	wait_for_completion(&r.done);
	KUNIT_EXPECT_EQ(test, (__force u8)r.after, (__force u8)r.start);
}

static int look_and_exit(void *data)
{
	struct life *l = data;

	l->start = current->memalloc_scope;
	kthread_complete_and_exit(&l->ready, 0);
}

/*
 * kthread_create() leaves it to kthreadd to fork, which never has a scope open.
 * Fork here instead, with everything open that there is.
 *
 * Red if: copy_process() does not call memalloc_scope_fork(), or that does not
 * look for PF_KTHREAD.
 */
static void kernel_thread_is_no_child(struct kunit *test)
{
	unsigned int cookies[NR_KINDS];
	struct life l = { };
	pid_t pid;

	init_completion(&l.ready);
	open_set(NR_SETS - 1, cookies);
	pid = kernel_thread(look_and_exit, &l, "memalloc_scope_kunit", FORK_FLAGS);
	close_set(cookies);
	KUNIT_ASSERT_GT(test, pid, 0);
	wait_for_completion(&l.ready);
	KUNIT_EXPECT_EQ(test, (__force u8)l.start, 0);
}
#endif

/*
 * A lock that reclaim takes may be held over an allocation, inside nofs.
 *
 * Red if: fs_reclaim_acquire() does not fold; lockdep says that it is a deadlock.
 */
static void lockdep(struct kunit *test)
{
	static DEFINE_MUTEX(of_file_system);
	unsigned int nofs;

	if (!IS_ENABLED(CONFIG_PROVE_LOCKING) || !debug_locks)
		kunit_skip(test, "needs CONFIG_PROVE_LOCKING");

	fs_reclaim_acquire(GFP_KERNEL);
	mutex_lock(&of_file_system);
	mutex_unlock(&of_file_system);
	fs_reclaim_release(GFP_KERNEL);

	mutex_lock(&of_file_system);
	nofs = memalloc_nofs_save();
	might_alloc(GFP_KERNEL);
	memalloc_nofs_restore(nofs);
	mutex_unlock(&of_file_system);
	KUNIT_EXPECT_TRUE(test, debug_locks);
}

static void names(struct kunit *test)
{
	const memalloc_scope_t all = (__force memalloc_scope_t)0xff;
	char buf[MEMALLOC_SCOPE_NAMES_MAX];

	KUNIT_EXPECT_STREQ(test, memalloc_scope_names(MEMALLOC_SCOPE_NONE, buf, sizeof(buf)),
			   "none");
	KUNIT_EXPECT_STREQ(test, memalloc_scope_names(MEMALLOC_SCOPE_NOIO, buf, sizeof(buf)),
			   "noio");
	KUNIT_EXPECT_STREQ(test, memalloc_scope_names(all, buf, sizeof(buf)),
			   "nofs noio pin noreclaim io_flusher nowait nowarn nolock");
	/* A buffer that is too short is filled, and not overrun. */
	buf[8] = 'x';
	KUNIT_EXPECT_STREQ(test, memalloc_scope_names(all, buf, 8), "nofs no");
	KUNIT_EXPECT_EQ(test, buf[8], 'x');
}

static struct kunit_case memalloc_scope_cases[] = {
	KUNIT_CASE(fold),
	KUNIT_CASE(blocking),
	KUNIT_CASE(queries),
	KUNIT_CASE(nesting),
	KUNIT_CASE(zero_cookie),
	KUNIT_CASE(out_of_order),
	KUNIT_CASE(nofs_in_noio),
	KUNIT_CASE(random_walk),
	KUNIT_CASE(borrow),
	KUNIT_CASE(new_task),
	KUNIT_CASE(kernel_thread_is_no_child),
	KUNIT_CASE(thread),
	KUNIT_CASE(thread_opens_two),
	KUNIT_CASE(thread_forgets),
	KUNIT_CASE(thread_of_workqueue),
	KUNIT_CASE(thread_in_interrupt),
	KUNIT_CASE(thread_of_user),
	KUNIT_CASE(lockdep),
	KUNIT_CASE(names),
	{}
};

static struct kunit_suite memalloc_scope_suite = {
	.name = "memalloc_scope",
	.test_cases = memalloc_scope_cases,
};

kunit_test_suite(memalloc_scope_suite);

MODULE_DESCRIPTION("KUnit tests for allocation scopes");
MODULE_LICENSE("GPL");
