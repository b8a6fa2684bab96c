// SPDX-License-Identifier: GPL-2.0
/*
 * Checks that allocation scopes are used as they are meant to be: closed by whom
 * opened them, in reverse order, before the task does something else.
 *
 * A save leaves a record on a stack and its number in the upper half of the cookie,
 * also where it opens nothing since the scope is open already; the restore takes the
 * record away. There is a stack for each context, as saves and restores pair up
 * within one: those of the task and of softirqs on top of it are in task_struct, those
 * of hard interrupts and of NMIs belong to the CPU. Whoever interrupts a context has
 * another stack, or leaves it as it was. So nothing here is locked.
 *
 * What is found is reported and mended: a scope that was left open is closed, a
 * restore that belongs to no save does what it does without all this. Then
 * everything is as it should be, so that the next report is not about the same.
 */
#define pr_fmt(fmt) "memalloc: " fmt

#include <linux/array_size.h>
#include <linux/atomic.h>
#include <linux/bug.h>
#include <linux/cleanup.h>
#include <linux/export.h>
#include <linux/hash.h>
#include <linux/instruction_pointer.h>
#include <linux/kallsyms.h>
#include <linux/memalloc_scope.h>
#include <linux/minmax.h>
#include <linux/once_lite.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/printk.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/sprintf.h>
#include <linux/stdarg.h>
#include <linux/string.h>

#include "memalloc_scope.h"

#include <trace/events/memalloc.h>

#define REPORT_MAX	320

/* Whoever has reported about a place does not do so again, unless that is long ago. */
#define REPORTED_MAX	64
static unsigned long reported[REPORTED_MAX];
static atomic_t nr_reported;

enum misuse {
	LEFT_OPEN,
	NOT_OPENED,
	STRAY,
	OUT_OF_ORDER,
	OTHER_KIND,
	NOT_ADOPTED,
};

static bool first_report(unsigned long ip, enum misuse what)
{
	/* Sites are apart by the size of a call, so this one is not another's. */
	unsigned long key = ip + what;

	if (!ip)
		return true;
	for (int i = 0; i < REPORTED_MAX; i++)
		if (READ_ONCE(reported[i]) == key)
			return false;
	WRITE_ONCE(reported[(unsigned int)atomic_inc_return(&nr_reported) % REPORTED_MAX], key);
	return true;
}

/* Nothing has been reported so far. */
void memalloc_debug_forget(void)
{
	memset(reported, 0, sizeof(reported));
}
EXPORT_SYMBOL_GPL(memalloc_debug_forget);

static __printf(1, 2) void memalloc_report(const char *fmt, ...)
{
	char text[REPORT_MAX];
	va_list args;

	va_start(args, fmt);
	vscnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	trace_memalloc_misuse(text);
	WARN(1, pr_fmt("%s\n"), text);
}

static const char *spell(memalloc_scope_t scope, char *buf)
{
	return memalloc_scope_names(scope, buf, MEMALLOC_SCOPE_NAMES_MAX);
}

static void report_left_open(memalloc_scope_t scope, unsigned long ip, enum memalloc_place place,
			     const void *func)
{
	static const char * const places[] = {
		[MEMALLOC_AT_USER]		= "on return to user space",
		[MEMALLOC_AT_WORK_END]		= "by work item",
		[MEMALLOC_AT_EXIT]		= "by a thread that exits",
		[MEMALLOC_AT_ENTRY]		= "on entry of a new thread",
		[MEMALLOC_AT_FREEZER]		= "by a task that freezes",
		[MEMALLOC_AT_SOFTIRQ_END]	= "by softirq",
		[MEMALLOC_AT_HARDIRQ_END]	= "by a hard interrupt",
	};
	char names[MEMALLOC_SCOPE_NAMES_MAX], left_by[KSYM_NAME_LEN] = "";

	/* Who did it, as far as is known; else, where it was found. */
	if (!first_report(ip ?: (unsigned long)func ?: (unsigned long)&places[place], LEFT_OPEN))
		return;

	if (func)
		scnprintf(left_by, sizeof(left_by), " %ps", func);
	if (ip)
		memalloc_report("%s scope left open %s%s, opened by %pS", spell(scope, names),
				places[place], left_by, (void *)ip);
	else
		memalloc_report("%s scope left open %s%s", spell(scope, names), places[place],
				left_by);
}

/* The bytes alone: for what no record explains. */
static void check_byte(memalloc_scope_t want, enum memalloc_place place, const void *func)
{
	memalloc_scope_t got = __memalloc_scope_get();
	char names[MEMALLOC_SCOPE_NAMES_MAX];

	if (got & ~want)
		report_left_open(got & ~want, 0, place, func);
	if ((want & ~got) && first_report((unsigned long)func, NOT_OPENED))
		memalloc_report("%s scope closed by %ps, which did not open it",
				spell(want & ~got, names), func);
	__memalloc_scope_set(want);
}

#ifndef CONFIG_DEBUG_MEMALLOC_SCOPE
/**
 * __memalloc_left_open - report what was left open, and close it
 * @mark: what should be open
 * @place: where we are
 * @func: what left it open, if known
 *
 * Callers use memalloc_check_mark().
 *
 * Context: That of the scopes.
 */
void __memalloc_left_open(struct memalloc_mark mark, enum memalloc_place place, const void *func)
{
	check_byte(mark.scope, place, func);
}
#else
static DEFINE_PER_CPU(struct memalloc_records, irq_records[2]);

static struct memalloc_records *current_records(void)
{
	if (in_nmi())
		return this_cpu_ptr(&irq_records[1]);
	if (in_hardirq())
		return this_cpu_ptr(&irq_records[0]);
	return &current->memalloc_debug.records[!!in_serving_softirq()];
}

static const char *current_records_name(void)
{
	if (in_nmi())
		return "an NMI";
	if (in_hardirq())
		return "a hard interrupt";
	return in_serving_softirq() ? "a softirq" : "task context";
}

static struct memalloc_record *push(memalloc_scope_t scope, unsigned int cookie, unsigned long ip)
{
	struct memalloc_records *records = current_records();
	struct memalloc_record *r;

	if (records->nr >= MEMALLOC_RECORDS_MAX) {
		records->deep++;
		return NULL;
	}
	r = &records->at[records->nr++];
	/* Hard interrupts nest, if rarely: the place is taken before it is written to. */
	barrier();
	*r = (struct memalloc_record){
		.ip = ip,
		.id = hash_long((unsigned long)records + records->seq++, 16),
		.scope = scope,
		.opened = (__force memalloc_scope_t)cookie,
		.irq_opened = (__force memalloc_scope_t)(cookie >> MEMALLOC_SCOPE_COOKIE_IRQ),
	};
	if (!r->id || r->id == MEMALLOC_ID_DEEP)
		r->id = 1;
	return r;
}

static void drop(struct memalloc_records *records, struct memalloc_record *r)
{
	const struct memalloc_record *end = records->at + records->nr;

	memmove(r, r + 1, (end - r - 1) * sizeof(*r));
	barrier();
	records->nr--;
}

#ifdef CONFIG_PROVE_MEMALLOC_SCOPE
static void prove_opened(struct memalloc_record *r)
{
	r->held = memalloc_prove_hold(r->opened, r->ip);
}

static void prove_replaced(struct memalloc_record *r)
{
	if (!in_task())
		return;
	r->let_go = current->memalloc_debug.held & ~r->scope;
	memalloc_prove_release(r->let_go, r->ip);
	r->held = memalloc_prove_hold(r->scope, r->ip);
}

/* What comes back is as old as before, only that lockdep takes @ip for who opened it. */
static void prove_closed(struct memalloc_record *r, unsigned long ip)
{
	memalloc_prove_release(r->held, ip);
	if (r->let_go)
		memalloc_prove_hold(r->let_go, ip);
}
#else
static void prove_opened(struct memalloc_record *r) { }
static void prove_replaced(struct memalloc_record *r) { }
static void prove_closed(struct memalloc_record *r, unsigned long ip) { }
#endif

/**
 * memalloc_debug_opened_by - record that scopes are being opened
 * @scope: the scopes that were asked for
 * @cookie: the cookie without debugging
 * @ip: by whom
 *
 * Context: Any context.
 * Return: the cookie with the number of the record.
 */
unsigned int memalloc_debug_opened_by(memalloc_scope_t scope, unsigned int cookie, unsigned long ip)
{
	struct memalloc_record *r = push(scope, cookie, ip);

	if (r)
		prove_opened(r);
	return cookie | (r ? r->id : MEMALLOC_ID_DEEP) << MEMALLOC_COOKIE_ID;
}

/**
 * memalloc_debug_opened - memalloc_debug_opened_by() by whoever calls this
 * @scope: the scopes that were asked for
 * @cookie: the cookie without debugging
 *
 * Context: Any context.
 * Return: the cookie with the number of the record.
 */
unsigned int memalloc_debug_opened(memalloc_scope_t scope, unsigned int cookie)
{
	return memalloc_debug_opened_by(scope, cookie, _RET_IP_);
}
EXPORT_SYMBOL_GPL(memalloc_debug_opened);

static struct memalloc_record *find(struct memalloc_records *records, unsigned int id)
{
	for (unsigned int i = READ_ONCE(records->nr); i--; ) {
		/* data_race(): another task's may change meanwhile. */
		if (data_race(records->at[i].id) == id)
			return &records->at[i];
	}
	return NULL;
}

static const struct memalloc_record *find_in_task(struct task_struct *p, unsigned int id)
{
	struct memalloc_records *records = p->memalloc_debug.records;

	return find(&records[0], id) ?: find(&records[1], id);
}

/* A cookie whose record is not where it should be. This may take long, and be fooled. */
static void report_stray(unsigned int id, unsigned int cookie, unsigned long ip)
{
	unsigned int kinds = cookie | cookie >> MEMALLOC_SCOPE_COOKIE_IRQ;
	const struct memalloc_records *here = current_records();
	char names[MEMALLOC_SCOPE_NAMES_MAX];
	const struct memalloc_record *r;
	struct memalloc_record theirs;
	struct task_struct *g, *p;

	if (!first_report(ip, STRAY))
		return;

	for (unsigned int i = 0; i < ARRAY_SIZE(here->closed); i++) {
		if (here->closed[i].id != id)
			continue;
		memalloc_report("%s scope opened by %pS is closed by %pS, but has been closed by %pS",
				spell(here->closed[i].scope, names), (void *)here->closed[i].ip,
				(void *)ip, (void *)here->closed[i].closed_by);
		return;
	}

	r = find_in_task(current, id);
	if (r) {
		bool softirq = r >= current->memalloc_debug.records[1].at;

		memalloc_report("%s scope opened in %s by %pS is closed in %s by %pS",
				spell(r->scope, names), softirq ? "a softirq" : "task context",
				(void *)r->ip, current_records_name(), (void *)ip);
		return;
	}

	scoped_guard(rcu) for_each_process_thread(g, p) {
		r = find_in_task(p, id);
		if (!r)
			continue;
		/* data_race(): the task goes on. For the text, any value will do. */
		theirs = data_race(*r);
		memalloc_report("%s scope opened by %pS in task %s/%d is closed by %pS in another task",
				spell(theirs.scope, names), (void *)theirs.ip, p->comm,
				task_pid_nr(p), (void *)ip);
		return;
	}

	memalloc_report("%s scope closed by %pS, and nobody knows who opened it",
			spell((__force memalloc_scope_t)kinds, names), (void *)ip);
}

/* Closed before @inner, which stays, and has only been open as long as @r is. */
static bool relies_on(const struct memalloc_record *inner, const struct memalloc_record *r)
{
	return inner->replaces || (inner->scope & (r->opened | r->irq_opened));
}

static void report_order(const struct memalloc_record *r, const struct memalloc_record *inner,
			 unsigned long ip)
{
	char outer_names[MEMALLOC_SCOPE_NAMES_MAX], inner_names[MEMALLOC_SCOPE_NAMES_MAX];

	if (!first_report(ip, OUT_OF_ORDER))
		return;
	memalloc_report("%s scope opened by %pS is closed by %pS before the %s scope that %pS has opened inside of it",
			spell(r->scope, outer_names), (void *)r->ip, (void *)ip,
			inner->replaces ? "adopted" : spell(inner->scope, inner_names),
			(void *)inner->ip);
}

static void report_kind(const struct memalloc_record *r, memalloc_scope_t kind, unsigned long ip)
{
	char names[MEMALLOC_SCOPE_NAMES_MAX], kind_names[MEMALLOC_SCOPE_NAMES_MAX];

	if (!first_report(ip, OTHER_KIND))
		return;
	memalloc_report("%s scope opened by %pS is closed as %s by %pS", spell(r->scope, names),
			(void *)r->ip, spell(kind, kind_names), (void *)ip);
}

static void remember(struct memalloc_records *records, const struct memalloc_record *r,
		     unsigned long ip)
{
	unsigned int nr = records->nr_closed++ % ARRAY_SIZE(records->closed);

	records->closed[nr] = (struct memalloc_closed_record){
		.ip = r->ip, .closed_by = ip, .id = r->id, .scope = r->scope,
	};
}

/* Close all but the first @nr, without a word. */
static void drop_from(struct memalloc_records *records, unsigned int nr, unsigned long ip)
{
	while (records->nr > nr) {
		prove_closed(&records->at[records->nr - 1], ip);
		records->nr--;
	}
}

/**
 * memalloc_debug_closed - check that a scope is closed by whom opened it, and in turn
 * @cookie: what the save returned
 * @kind: the scope that the restore is for; none if it is for any
 *
 * Scopes of different kinds do not need each other, so these may be closed in any
 * order.
 *
 * Context: Any context.
 * Return: the cookie without the number of the record.
 */
unsigned int memalloc_debug_closed(unsigned int cookie, memalloc_scope_t kind)
{
	struct memalloc_records *records = current_records();
	unsigned int id = cookie >> MEMALLOC_COOKIE_ID;
	struct memalloc_record *r;

	cookie &= BIT(MEMALLOC_COOKIE_ID) - 1;
	if (!id)
		return cookie;
	if (id == MEMALLOC_ID_DEEP) {
		if (records->deep)
			records->deep--;
		return cookie;
	}

	r = find(records, id);
	if (unlikely(!r)) {
		report_stray(id, cookie, _RET_IP_);
		return cookie;
	}

	if (unlikely(kind && r->scope != kind))
		report_kind(r, kind, _RET_IP_);
	for (const struct memalloc_record *inner = r + 1; inner < records->at + records->nr;
	     inner++) {
		if (relies_on(inner, r)) {
			report_order(r, inner, _RET_IP_);
			break;
		}
	}
	remember(records, r, _RET_IP_);
	prove_closed(r, _RET_IP_);
	drop(records, r);
	return cookie;
}
EXPORT_SYMBOL_GPL(memalloc_debug_closed);

/**
 * memalloc_debug_replaced - record that other scopes are being opened in place of those open
 * @scope: the scopes that will be open
 * @old: those that are, as memalloc_debug_put_back() will be told
 *
 * Context: Any context.
 */
void memalloc_debug_replaced(memalloc_scope_t scope, memalloc_scope_t old)
{
	struct memalloc_record *r = push(scope, (__force unsigned int)old, _RET_IP_);

	if (!r)
		return;
	r->replaces = true;
	prove_replaced(r);
}
EXPORT_SYMBOL_GPL(memalloc_debug_replaced);

/**
 * memalloc_debug_put_back - check that what an adopted context ends with is as it began
 * @old: what it was told
 *
 * Context: That of memalloc_debug_replaced().
 */
void memalloc_debug_put_back(memalloc_scope_t old)
{
	struct memalloc_records *records = current_records();
	char names[MEMALLOC_SCOPE_NAMES_MAX];
	struct memalloc_record *r;
	unsigned int nr;

	if (records->deep) {
		records->deep--;
		return;
	}

	for (nr = records->nr; nr; nr--) {
		r = &records->at[nr - 1];
		if (r->replaces && r->opened == old)
			break;
	}
	if (unlikely(!nr)) {
		if (first_report(_RET_IP_, NOT_ADOPTED))
			memalloc_report("context put back by %pS, and nobody knows who adopted it",
					(void *)_RET_IP_);
		return;
	}
	if (unlikely(nr < records->nr) && first_report(r[1].ip, LEFT_OPEN))
		memalloc_report("%s scope opened by %pS is still open where the context is put back that %pS has adopted",
				spell(r[1].scope, names), (void *)r[1].ip, (void *)r->ip);
	drop_from(records, nr - 1, _RET_IP_);
}
EXPORT_SYMBOL_GPL(memalloc_debug_put_back);

/**
 * memalloc_depth - how many saves of this context have not been restored
 *
 * Context: Any context.
 * Return: the number.
 */
unsigned int memalloc_depth(void)
{
	struct memalloc_records *records = current_records();

	return records->nr + records->deep;
}
EXPORT_SYMBOL_GPL(memalloc_depth);

/**
 * __memalloc_left_open - report what was left open, and close it
 * @mark: what should be open
 * @place: where we are
 * @func: what left it open, if known
 *
 * Callers use memalloc_check_mark().
 *
 * Context: That of the scopes.
 */
void __memalloc_left_open(struct memalloc_mark mark, enum memalloc_place place, const void *func)
{
	struct memalloc_records *records = current_records();
	memalloc_scope_t opened = MEMALLOC_SCOPE_NONE;

	for (unsigned int i = mark.depth; i < records->nr; i++) {
		const struct memalloc_record *r = &records->at[i];

		report_left_open(r->scope, r->ip, place, func);
		opened |= r->scope;
	}
	drop_from(records, mark.depth, _RET_IP_);
	records->deep = mark.depth - records->nr;
	/* What is explained by a record has been reported. */
	__memalloc_scope_set(__memalloc_scope_get() & ~(opened & ~mark.scope));
	check_byte(mark.scope, place, func);
}
EXPORT_SYMBOL_GPL(__memalloc_left_open);

/**
 * memalloc_debug_hardirq_end - report what hard interrupts have left open, and close it
 *
 * The byte is that of the task below, which has scopes of its own: take away what
 * the handlers have added to it.
 *
 * Context: End of a hard interrupt, interrupts disabled.
 */
void memalloc_debug_hardirq_end(void)
{
	struct memalloc_records *records = current_records();

	/* One on top of another, which has its scopes open and will close them. */
	if (hardirq_count() != HARDIRQ_OFFSET || likely(!records->nr))
		return;

	for (unsigned int i = records->nr; i--; ) {
		const struct memalloc_record *r = &records->at[i];
		unsigned int cookie = (__force unsigned int)r->irq_opened;

		cookie = cookie << MEMALLOC_SCOPE_COOKIE_IRQ | (__force unsigned int)r->opened;
		report_left_open(r->scope, r->ip, MEMALLOC_AT_HARDIRQ_END, NULL);
		__memalloc_scope_restore_irq(cookie);
	}
	records->nr = 0;
	records->deep = 0;
}

/**
 * memalloc_opened_at - who has opened a scope that applies here
 * @scope: the scope
 *
 * Context: Any context.
 * Return: a place in the code; NULL if it is not known.
 */
void *memalloc_opened_at(memalloc_scope_t scope)
{
	const struct memalloc_records *records = current_records();

	/* Those for whom it was open already have not opened it. */
	for (unsigned int i = records->nr; i--; ) {
		const struct memalloc_record *r = &records->at[i];
		memalloc_scope_t opened = r->replaces ? ~r->opened : r->opened | r->irq_opened;

		if (r->scope & opened & scope)
			return (void *)r->ip;
	}
	return NULL;
}

/**
 * memalloc_nowait_nofail - report a request that waits although it is inside nowait
 * @gfp: its mask
 *
 * The request cannot be let fail. So the code that opened the scope calls what it
 * should not have called, and only it can be mended.
 *
 * Context: Any context in which nowait takes effect.
 */
void memalloc_nowait_nofail(gfp_t gfp)
{
	/* Not WARN_ONCE(): that may cost an exception each time, to say nothing. */
	if (__ONCE_LITE_IF(true))
		WARN(1, "request that must not fail (%pGg) in a nowait scope opened by %pS\n",
		     &gfp, memalloc_opened_at(MEMALLOC_SCOPE_NOWAIT));
}
EXPORT_SYMBOL_GPL(memalloc_nowait_nofail);
#endif /* CONFIG_DEBUG_MEMALLOC_SCOPE */

/**
 * __memalloc_not_none - report what is open where nothing may be, and close it
 * @place: where we are
 *
 * Callers use memalloc_check_none().
 *
 * Context: That of the scopes.
 */
void __memalloc_not_none(enum memalloc_place place)
{
	struct memalloc_mark none = {
		.scope = __memalloc_scope_get() &
			 (MEMALLOC_SCOPE_IO_FLUSHER | current->memalloc_expected),
	};

#ifdef CONFIG_DEBUG_MEMALLOC_SCOPE
	/* A test's scopes have records. */
	if (current->memalloc_expected)
		none.depth = memalloc_depth();
#endif
	memalloc_check_mark(none, place, NULL);
}
