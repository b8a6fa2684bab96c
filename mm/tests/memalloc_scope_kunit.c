// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for allocation scopes: what can be decided without memory
 * pressure, interrupts and user space. For those, see
 * tools/testing/selftests/memalloc_scope/.
 */
#include <kunit/test.h>
#include <linux/bitops.h>
#include <linux/gfp.h>
#include <linux/memalloc_scope.h>
#include <linux/prandom.h>
#include <linux/sched/mm.h>

struct kind {
	const char *name;
	memalloc_scope_t scope;
	unsigned int (*save)(void);
	void (*restore)(unsigned int flags);
	bool (*active)(void);
};

static const struct kind kinds[] = {
	{ "nofs", MEMALLOC_SCOPE_NOFS,
	  memalloc_nofs_save, memalloc_nofs_restore, memalloc_nofs_active },
	{ "noio", MEMALLOC_SCOPE_NOIO,
	  memalloc_noio_save, memalloc_noio_restore, memalloc_noio_active },
	{ "pin", MEMALLOC_SCOPE_PIN,
	  memalloc_pin_save, memalloc_pin_restore, memalloc_pin_active },
	{ "noreclaim", MEMALLOC_SCOPE_NORECLAIM,
	  memalloc_noreclaim_save, memalloc_noreclaim_restore, memalloc_noreclaim_active },
};

#define NR_KINDS	ARRAY_SIZE(kinds)
#define IO_FLUSHER	BIT(NR_KINDS)	/* in a set of kinds: and the prctl state */
#define NR_SETS		(2 * BIT(NR_KINDS))

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
 * The oracle: who takes what, one line each, as the documentation has it. It
 * shares neither the bits nor the order of tests with the kernel's fold.
 */
static const struct {
	const char *by;
	gfp_t takes;
} rules[] = {
	{ "nofs",	__GFP_FS },
	{ "noio",	__GFP_FS },
	{ "noio",	__GFP_IO },
	{ "io_flusher",	__GFP_FS },
	{ "io_flusher",	__GFP_IO },
	{ "pin",	__GFP_MOVABLE },
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
		if (set_has(set, rules[i].by))
			asked &= ~rules[i].takes;
	}
	return asked;
}

/* What a scope may act on, and what it must leave alone. */
static const gfp_t gfp_bits[] = {
	__GFP_IO, __GFP_FS, __GFP_DIRECT_RECLAIM, __GFP_KSWAPD_RECLAIM,
	__GFP_MOVABLE, __GFP_RECLAIMABLE, __GFP_HIGHMEM, __GFP_HIGH,
	__GFP_MEMALLOC, __GFP_NOMEMALLOC, __GFP_NOFAIL, __GFP_NORETRY,
	__GFP_NOWARN, __GFP_ACCOUNT,
};

/* Red if: a line of __current_gfp_context() is dropped or takes a bit too many. */
static void fold(struct kunit *test)
{
	unsigned int cookies[NR_KINDS];

	for (unsigned int set = 0; set < NR_SETS; set++) {
		for (unsigned int mask = 0; mask < BIT(ARRAY_SIZE(gfp_bits)); mask++) {
			gfp_t asked = 0, got;

			for (int i = 0; i < ARRAY_SIZE(gfp_bits); i++)
				asked |= mask & BIT(i) ? gfp_bits[i] : 0;

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
			KUNIT_EXPECT_EQ_MSG(test, inner[d], 0, "%s, depth %d", k->name, d);
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
					kinds[i].save();
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

static void names(struct kunit *test)
{
	const memalloc_scope_t all = (__force memalloc_scope_t)0xff;
	char buf[MEMALLOC_SCOPE_NAMES_MAX];

	KUNIT_EXPECT_STREQ(test, memalloc_scope_names(MEMALLOC_SCOPE_NONE, buf, sizeof(buf)),
			   "none");
	KUNIT_EXPECT_STREQ(test, memalloc_scope_names(MEMALLOC_SCOPE_NOIO, buf, sizeof(buf)),
			   "noio");
	KUNIT_EXPECT_STREQ(test, memalloc_scope_names(all, buf, sizeof(buf)),
			   "nofs noio pin noreclaim io_flusher");
	/* A buffer that is too short is filled, and not overrun. */
	buf[8] = 'x';
	KUNIT_EXPECT_STREQ(test, memalloc_scope_names(all, buf, 8), "nofs no");
	KUNIT_EXPECT_EQ(test, buf[8], 'x');
}

static struct kunit_case memalloc_scope_cases[] = {
	KUNIT_CASE(fold),
	KUNIT_CASE(queries),
	KUNIT_CASE(nesting),
	KUNIT_CASE(zero_cookie),
	KUNIT_CASE(out_of_order),
	KUNIT_CASE(nofs_in_noio),
	KUNIT_CASE(random_walk),
	KUNIT_CASE(borrow),
	KUNIT_CASE(new_task),
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
