// SPDX-License-Identifier: GPL-2.0
/*
 * How often requests of a few kinds succeed, and how long they take. What the load
 * on the machine is, is the business of whoever asks.
 */
#include <linux/ktime.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/sort.h>
#include <linux/vmalloc.h>

#include "tms_internal.h"

#define TMS_VMALLOC_SIZE	(64 << 10)
/* Requests that are remembered: the run ends with the last of them. */
#define TMS_TIMES		32768

/* Something obtained: the list, and the marks that it was given */
struct tms_held {
	struct tms_held *next;
};

static size_t tms_sample_size(u32 sample)
{
	switch (sample) {
	case TMS_SAMPLE_PAGE:
		return PAGE_SIZE;
	case TMS_SAMPLE_ORDER3:
		return PAGE_SIZE << 3;
	default:
		return TMS_VMALLOC_SIZE;
	}
}

static void *tms_sample_alloc(u32 sample)
{
	const gfp_t gfp = GFP_KERNEL | __GFP_NOWARN;

	switch (sample) {
	case TMS_SAMPLE_PAGE:
		return (void *)__get_free_page(gfp);
	case TMS_SAMPLE_ORDER3:
		/* Memory may be in pieces: that is no reason to have somebody killed. */
		return (void *)__get_free_pages(gfp | __GFP_RETRY_MAYFAIL, 3);
	default:
		return __vmalloc(TMS_VMALLOC_SIZE, gfp);
	}
}

static void tms_sample_free(u32 sample, void *p)
{
	if (sample == TMS_SAMPLE_VMALLOC)
		vfree(p);
	else
		free_pages((unsigned long)p, sample == TMS_SAMPLE_PAGE ? 0 : 3);
}

/* At the end of each page, as its begin has the list */
static unsigned long *tms_mark(void *p, size_t at)
{
	return p + at + PAGE_SIZE - sizeof(unsigned long);
}

static void tms_mark_all(void *p, size_t size)
{
	for (size_t at = 0; at < size; at += PAGE_SIZE)
		*tms_mark(p, at) = (unsigned long)p + at;
}

static bool tms_marked(void *p, size_t size)
{
	for (size_t at = 0; at < size; at += PAGE_SIZE) {
		if (*tms_mark(p, at) != (unsigned long)p + at)
			return false;
	}
	return true;
}

static void tms_release(struct tms_latency *l, struct tms_held *held)
{
	while (held) {
		struct tms_held *next = held->next;

		l->unusable += !tms_marked(held, tms_sample_size(l->sample));
		tms_sample_free(l->sample, held);
		held = next;
	}
}

static void tms_measure(struct tms_latency *l, u64 *times)
{
	size_t size = tms_sample_size(l->sample), bytes = 0;
	ktime_t end = ktime_add_ms(ktime_get(), l->ms);
	struct tms_held *held = NULL, *p;
	u64 start, ns;

	while (l->tries < TMS_TIMES && ktime_before(ktime_get(), end) &&
	       !signal_pending(current)) {
		start = ktime_get_ns();
		p = tms_sample_alloc(l->sample);
		ns = ktime_get_ns() - start;
		times[l->tries++] = ns;
		l->bucket[min(ns ? ilog2(ns) : 0, TMS_BUCKETS - 1)]++;
		if (p) {
			tms_mark_all(p, size);
			p->next = held;
			held = p;
			bytes += size;
		} else {
			l->failed++;
		}
		/* What fails may fail for a while: let others run. */
		if (!p || bytes >> 10 >= l->hold_kb) {
			tms_release(l, held);
			held = NULL;
			bytes = 0;
			cond_resched();
		}
	}
	tms_release(l, held);
}

static int tms_compare_times(const void *a, const void *b)
{
	u64 x = *(u64 *)a, y = *(u64 *)b;

	return x < y ? -1 : x > y;
}

int tms_latency_run(struct tms_latency *l)
{
	struct tms_cookies c;
	u64 *times;
	int err;

	if (l->sample >= TMS_SAMPLES)
		return -EINVAL;
	times = vmalloc_array(TMS_TIMES, sizeof(*times));
	if (!times)
		return -ENOMEM;
	err = tms_direct_watch();
	if (err)
		goto free;

	tms_open(&c, l->scopes);
	tms_measure(l, times);
	tms_close(&c);

	l->reclaims = tms_direct_unwatch();
	if (l->tries) {
		sort(times, l->tries, sizeof(*times), tms_compare_times, NULL);
		l->p50 = times[l->tries / 2];
		l->p99 = times[l->tries * 99 / 100];
		l->max = times[l->tries - 1];
	}
	if (signal_pending(current))
		err = -EINTR;
free:
	vfree(times);
	return err;
}
