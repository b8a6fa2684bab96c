// SPDX-License-Identifier: GPL-2.0
/*
 * Counts the instructions of allocations, with scopes and without, and of what
 * scopes cost elsewhere. For an emulator whose time stamp counter counts
 * instructions: QEMU with -icount shift=0,sleep=off. The same source goes with a
 * kernel that has the series and with one that has not.
 *
 * Each row is a line on the debug console: its name, a number of operations, and
 * what that and twice that took. Everything that does not depend on the number
 * is gone from the difference. make bench takes the loop off.
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/irq_work.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <asm/tsc.h>

/* Brought by <linux/sched/mm.h>, if there are scopes with a byte of their own. */
#ifdef MEMALLOC_SCOPE_NONE
#include <linux/memalloc_ctx.h>
#define PATCHED
#endif

#define DEBUGCON	0xe9
#define DEBUG_EXIT	0xf4

#define BULK		16

/* What is not exported; addresses that /init has found in /proc/kallsyms. */
static unsigned long free_pages_nolock_at, raise_softirq_irqoff_at;
module_param_named(free_pages_nolock, free_pages_nolock_at, ulong, 0);
module_param_named(raise_softirq_irqoff, raise_softirq_irqoff_at, ulong, 0);

/* Page faults of a program, which /init has counted. */
static unsigned long fault[3];
module_param_array(fault, ulong, NULL, 0);

static struct kmem_cache *cache;
static struct page *pages[BULK];
/* sizes that the compiler does not know */
static size_t small = 64;

static __printf(1, 2) void report(const char *fmt, ...)
{
	char line[160];
	va_list args;

	va_start(args, fmt);
	vscnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	outsb(DEBUGCON, line, strlen(line));
}

/*
 * Defines a function that does op_<name>() many times with interrupts off, and
 * returns what that took, or 0 if an operation failed.
 */
#define DEFINE_BENCH(_name)						\
static noinline unsigned long bench_##_name(unsigned long nr)		\
{									\
	unsigned long flags, took;					\
									\
	local_irq_save(flags);						\
	took = rdtsc();							\
	for (; nr; nr--) {						\
		if (unlikely(!op_##_name()))				\
			break;						\
		/* Nothing of it may become part of the next. */	\
		barrier();						\
	}								\
	took = rdtsc() - took;						\
	local_irq_restore(flags);					\
	return nr ? 0 : took;						\
}

static __always_inline bool op_empty(void)
{
	barrier();
	return true;
}

DEFINE_BENCH(empty)

static __always_inline bool op_pages(gfp_t gfp, unsigned int order)
{
	struct page *page = alloc_pages(gfp, order);

	if (page)
		__free_pages(page, order);
	return page;
}

#define op_page()		op_pages(GFP_KERNEL, 0)
#define op_page3()		op_pages(GFP_KERNEL, 3)
#define op_page_account()	op_pages(GFP_KERNEL_ACCOUNT, 0)
DEFINE_BENCH(page)
DEFINE_BENCH(page3)
DEFINE_BENCH(page_account)

/* It may leave some for another call. */
static __always_inline bool op_bulk(void)
{
	unsigned long before, filled = 0;

	do {
		before = filled;
		filled = alloc_pages_bulk(GFP_KERNEL, BULK, pages);
		if (unlikely(filled == before))
			return false;
	} while (unlikely(filled < BULK));
	for (int i = 0; i < BULK; i++) {
		__free_page(pages[i]);
		pages[i] = NULL;
	}
	return true;
}

DEFINE_BENCH(bulk)

static __always_inline bool op_page_nolock(void)
{
	void (*free)(struct page *page, unsigned int order) = (void *)free_pages_nolock_at;
	struct page *page = alloc_pages_nolock(0, NUMA_NO_NODE, 0);

	if (page)
		free(page, 0);
	return page;
}

DEFINE_BENCH(page_nolock)

static __always_inline bool op_kmalloc_any(size_t size, gfp_t gfp)
{
	void *p = kmalloc(size, gfp);

	kfree(p);
	return p;
}

#define op_kmalloc()		op_kmalloc_any(64, GFP_KERNEL)
#define op_kmalloc_n()		op_kmalloc_any(READ_ONCE(small), GFP_KERNEL)
#define op_kmalloc_16k()	op_kmalloc_any(SZ_16K, GFP_KERNEL)
#define op_kmalloc_account()	op_kmalloc_any(64, GFP_KERNEL_ACCOUNT)
DEFINE_BENCH(kmalloc)
DEFINE_BENCH(kmalloc_n)
DEFINE_BENCH(kmalloc_16k)
DEFINE_BENCH(kmalloc_account)

static __always_inline bool op_kmalloc_nolock(void)
{
	void *p = kmalloc_nolock(64, 0, NUMA_NO_NODE);

	if (p)
		kfree_nolock(p);
	return p;
}

DEFINE_BENCH(kmalloc_nolock)

static __always_inline bool op_cache(void)
{
	void *p = kmem_cache_alloc(cache, GFP_KERNEL);

	if (p)
		kmem_cache_free(cache, p);
	return p;
}

DEFINE_BENCH(cache)

#define DEFINE_BENCH_PAIR(_kind)					\
static __always_inline bool op_pair_##_kind(void)			\
{									\
	unsigned int cookie = memalloc_##_kind##_save();		\
									\
	barrier();							\
	memalloc_##_kind##_restore(cookie);				\
	return true;							\
}									\
DEFINE_BENCH(pair_##_kind)

DEFINE_BENCH_PAIR(noio)
DEFINE_BENCH_PAIR(nofs)
DEFINE_BENCH_PAIR(noreclaim)
DEFINE_BENCH_PAIR(pin)

#ifdef PATCHED
DEFINE_BENCH_PAIR(nowait)
DEFINE_BENCH_PAIR(nowarn)
DEFINE_BENCH_PAIR(nolock)

#define DEFINE_BENCH_GUARD(_kind)					\
static __always_inline bool op_guard_##_kind(void)			\
{									\
	guard(memalloc_##_kind)();					\
	barrier();							\
	return true;							\
}									\
DEFINE_BENCH(guard_##_kind)

DEFINE_BENCH_GUARD(noio)
DEFINE_BENCH_GUARD(nofs)
DEFINE_BENCH_GUARD(nolock)

static __always_inline bool op_ctx(void)
{
	memalloc_ctx_t ctx = memalloc_ctx_capture();

	/* The thread that adopts it does not know what it is. */
	OPTIMIZER_HIDE_VAR(ctx.scope);
	guard(memalloc_ctx)(ctx);
	barrier();
	return true;
}

DEFINE_BENCH(ctx)
#endif

/*
 * With interrupts on. The caller sees to it that no tick comes in between.
 */
static noinline unsigned long bench_softirq(unsigned long nr)
{
	void (*raise)(unsigned int nr) = (void *)raise_softirq_irqoff_at;
	unsigned long start = rdtsc();

	for (; nr; nr--) {
		local_bh_disable();
		/* It runs the tasklets of high priority: there are none. */
		raise(HI_SOFTIRQ);
		local_bh_enable();
	}
	return rdtsc() - start;
}

static unsigned long interrupts;

static void irq_work_count(struct irq_work *work)
{
	interrupts++;
}

static DEFINE_IRQ_WORK(work, irq_work_count);

static noinline unsigned long bench_hardirq(unsigned long nr)
{
	unsigned long expected = interrupts + nr;
	unsigned long start = rdtsc();

	for (; nr; nr--) {
		irq_work_queue(&work);
		while (irq_work_is_busy(&work))
			cpu_relax();
	}
	start = rdtsc() - start;
	return interrupts == expected ? start : 0;
}

static int thread(void *data)
{
	return 0;
}

#define THREADS	64
#define ROUNDS	20

static unsigned int threads[ROUNDS * THREADS], nr_threads;

static noinline unsigned long bench_thread(unsigned long nr)
{
	for (; nr; nr--) {
		unsigned long start = rdtsc();
		struct task_struct *p = kthread_create(thread, NULL, "bench");

		if (IS_ERR(p))
			return 0;
		get_task_struct(p);
		wake_up_process(p);
		/* Waits for the end; the thread itself does not wait for us. */
		kthread_stop_put(p);
		threads[nr_threads++] = rdtsc() - start;
	}
	return nr_threads;
}

enum context { NONE, NOIO, NOFS, NORECLAIM, PIN, NOWAIT, NOWARN, NOLOCK };

static const char * const contexts[] = {
	"", "noio", "nofs", "noreclaim", "pin", "nowait", "nowarn", "nolock",
};

static unsigned int save(enum context context)
{
	switch (context) {
	case NOIO:
		return memalloc_noio_save();
	case NOFS:
		return memalloc_nofs_save();
	case NORECLAIM:
		return memalloc_noreclaim_save();
	case PIN:
		return memalloc_pin_save();
#ifdef PATCHED
	case NOWAIT:
		return memalloc_nowait_save();
	case NOWARN:
		return memalloc_nowarn_save();
	case NOLOCK:
		return memalloc_nolock_save();
#endif
	default:
		return 0;
	}
}

static void restore(enum context context, unsigned int cookie)
{
	switch (context) {
	case NOIO:
		return memalloc_noio_restore(cookie);
	case NOFS:
		return memalloc_nofs_restore(cookie);
	case NORECLAIM:
		return memalloc_noreclaim_restore(cookie);
	case PIN:
		return memalloc_pin_restore(cookie);
#ifdef PATCHED
	case NOWAIT:
		return memalloc_nowait_restore(cookie);
	case NOWARN:
		return memalloc_nowarn_restore(cookie);
	case NOLOCK:
		return memalloc_nolock_restore(cookie);
#endif
	default:
		return;
	}
}

/* More than it takes any per-CPU list to find its balance. */
#define WARMUP	5000

static unsigned long count(unsigned long (*fn)(unsigned long nr), unsigned long nr,
			   enum context context)
{
	unsigned long took, tick;
	unsigned int cookie;

	/* No grace period is under way, and a tick has just been. */
	rcu_barrier();
	schedule_timeout_uninterruptible(2);
	cookie = save(context);
	tick = jiffies;
	took = fn(nr);
	if (time_after(jiffies, tick))
		took = 0;
	restore(context, cookie);
	return took;
}

static void measure(const char *name, unsigned long (*fn)(unsigned long nr), unsigned long nr,
		    unsigned long warmup, enum context context)
{
	unsigned int cookie = save(context);
	unsigned long once, twice;

	fn(warmup);
	restore(context, cookie);
	once = count(fn, nr, context);
	twice = count(fn, 2 * nr, context);
	report("%s%s%s\t%lu\t%lu\t%lu\n", name, context ? ", inside " : "",
	       contexts[context], nr, once, twice);
}

static void measure_off(const char *name, unsigned long (*fn)(unsigned long nr),
			enum context context)
{
	measure(name, fn, 200, WARMUP, context);
}

static int in_order(const void *a, const void *b)
{
	return cmp_int(*(const unsigned int *)a, *(const unsigned int *)b);
}

/*
 * What most of them take: what threads leave behind is freed much later, so that
 * many need new slabs, and the scheduler's trees have many shapes, in patterns that
 * have nothing to do with scopes. The shortest is as rare as the longest.
 */
static void measure_thread(const char *name)
{
	unsigned int most = 0, same = 0;
	unsigned long took = 0;

	for (int i = 0; i < ROUNDS; i++)
		count(bench_thread, THREADS, NONE);
	sort(threads, nr_threads, sizeof(*threads), in_order, NULL);
	for (int i = 0; i < nr_threads; i++) {
		same = i && threads[i] == threads[i - 1] ? same + 1 : 1;
		if (same > most) {
			most = same;
			took = threads[i];
		}
	}
	/* As elsewhere: nothing, if it failed */
	if (nr_threads < ARRAY_SIZE(threads))
		took = 0;
	report("%s\t1\t%lu\t%lu\n", name, took, 2 * took);
}

static const struct {
	const char *name;
	unsigned long (*fn)(unsigned long nr);
} allocs[] = {
	{ "alloc_page + free", bench_page },
	{ "order 3 + free", bench_page3 },
	{ "bulk of 16 + free", bench_bulk },
	{ "kmalloc(64) + kfree", bench_kmalloc },
	{ "kmalloc(n) + kfree", bench_kmalloc_n },
	{ "kmem_cache_alloc + free", bench_cache },
	{ "kmalloc(16K) + kfree", bench_kmalloc_16k },
	{ "accounted alloc_page + free", bench_page_account },
	{ "accounted kmalloc(64) + kfree", bench_kmalloc_account },
};

static const struct {
	enum context context;
	unsigned long (*fn)(unsigned long nr);
} pairs[] = {
	{ NOIO, bench_pair_noio },
	{ NOFS, bench_pair_nofs },
	{ NORECLAIM, bench_pair_noreclaim },
	{ PIN, bench_pair_pin },
#ifdef PATCHED
	{ NOWAIT, bench_pair_nowait },
	{ NOWARN, bench_pair_nowarn },
	{ NOLOCK, bench_pair_nolock },
#endif
};

static const enum context around[] = {
	NONE, NOIO, NOFS,
#ifdef PATCHED
	NOLOCK,
#endif
};

static int __init bench_init(void)
{
	char name[40];

	cache = kmem_cache_create("memalloc_bench", 256, 0, SLAB_NO_MERGE, NULL);
	if (!cache || !free_pages_nolock_at || !raise_softirq_irqoff_at)
		return -EINVAL;

	measure_off("empty", bench_empty, NONE);
	for (int i = 0; i < ARRAY_SIZE(allocs); i++) {
		for (int j = 0; j < ARRAY_SIZE(around); j++)
			measure_off(allocs[i].name, allocs[i].fn, around[j]);
	}
	measure_off("alloc_pages_nolock + free", bench_page_nolock, NONE);
	measure_off("kmalloc_nolock + free", bench_kmalloc_nolock, NONE);
	for (int i = 0; i < ARRAY_SIZE(pairs); i++) {
		snprintf(name, sizeof(name), "%s_save + restore", contexts[pairs[i].context]);
		measure_off(name, pairs[i].fn, NONE);
		measure_off(name, pairs[i].fn, pairs[i].context);
	}
#ifdef PATCHED
	measure_off("guard(memalloc_noio)", bench_guard_noio, NONE);
	measure_off("guard(memalloc_nofs)", bench_guard_nofs, NONE);
	measure_off("guard(memalloc_nolock)", bench_guard_nolock, NONE);
	measure_off("capture + adopt", bench_ctx, NONE);
	measure_off("capture + adopt", bench_ctx, NOFS);
#endif
	measure("softirq, empty handler", bench_softirq, 1000, 100, NONE);
	measure("hard interrupt, empty handler", bench_hardirq, 1000, 100, NONE);
	measure_thread("kernel thread, created and gone");
	report("page fault of a program\t%lu\t%lu\t%lu\n", fault[0], fault[1], fault[2]);
	report("end\n");
	outb(0, DEBUG_EXIT);
	return -EAGAIN;
}
module_init(bench_init);

MODULE_DESCRIPTION("Instruction counts of memory allocations");
MODULE_LICENSE("GPL");
