// SPDX-License-Identifier: GPL-2.0
/*
 * Allocation scopes: what the fast path in <linux/memalloc_scope.h> leaves over.
 */
#include <linux/array_size.h>
#include <linux/export.h>
#include <linux/gfp.h>
#include <linux/memalloc_scope.h>
#include <linux/sprintf.h>

static_assert(sizeof(memalloc_scope_t) == 1);

/**
 * __current_gfp_context - the fold, once a scope that changes masks is open
 * @flags: the gfp mask of a request
 *
 * Callers use current_gfp_context(). That a hard interrupt found the scopes of
 * the task it interrupted is noticed here, on the cold side, so that neither
 * interrupt entry nor an allocation without scopes pays for it.
 *
 * Context: Any context.
 * Return: @flags without what the open scopes forbid.
 */
gfp_t __current_gfp_context(gfp_t flags)
{
	memalloc_scope_t scope = __memalloc_scope_get();

	if (unlikely(preempt_count() & (HARDIRQ_MASK | NMI_MASK)))
		return flags;

	if (scope & MEMALLOC_SCOPE_ANY_NOIO)
		flags &= ~(__GFP_IO | __GFP_FS);
	else if (scope & MEMALLOC_SCOPE_NOFS)
		flags &= ~__GFP_FS;

	if (scope & MEMALLOC_SCOPE_PIN)
		flags &= ~__GFP_MOVABLE;

	return flags;
}
EXPORT_SYMBOL(__current_gfp_context);

static const struct {
	memalloc_scope_t scope;
	const char *name;
} scope_names[] = {
	{ MEMALLOC_SCOPE_NOFS,		"nofs" },
	{ MEMALLOC_SCOPE_NOIO,		"noio" },
	{ MEMALLOC_SCOPE_PIN,		"pin" },
	{ MEMALLOC_SCOPE_NORECLAIM,	"noreclaim" },
	{ MEMALLOC_SCOPE_IO_FLUSHER,	"io_flusher" },
};

/**
 * memalloc_scope_names - spell out a set of scopes
 * @scope: the scopes
 * @buf: where to put the names
 * @size: size of @buf; MEMALLOC_SCOPE_NAMES_MAX is enough for all of them
 *
 * Names are separated by one blank, "none" stands for the empty set. A name that
 * does not fit is cut off.
 *
 * Context: Any context.
 * Return: @buf.
 */
const char *memalloc_scope_names(memalloc_scope_t scope, char *buf, size_t size)
{
	size_t len = 0;

	for (int i = 0; i < ARRAY_SIZE(scope_names); i++) {
		if (scope & scope_names[i].scope)
			len += scnprintf(buf + len, size - len, "%s%s",
					 len ? " " : "", scope_names[i].name);
	}
	if (!len)
		scnprintf(buf, size, "none");
	return buf;
}
EXPORT_SYMBOL_GPL(memalloc_scope_names);
