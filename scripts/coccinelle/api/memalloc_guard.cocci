// SPDX-License-Identifier: GPL-2.0-only
///
/// Find allocation scopes, memalloc_*_save() and _restore(), that could be
/// guard(memalloc_*)() or scoped_guard(memalloc_*).
///
//# Only where nothing changes but the text: one save to a cookie that is used for
//# nothing else, closed by statements of its own at the end of the block and before
//# each return in it, with nothing computed behind; no goto and no label in the
//# function, since the compiler accepts a jump over a guard; no other guard in
//# between. The layout of the lines is trusted to show the blocks.
//#
//# Add #include <linux/memalloc_guard.h>. Braces that are no longer needed stay.
//
// Confidence: Moderate
// Comments:
// Options: --no-includes --include-headers

virtual patch
virtual context
virtual org
virtual report

@initialize:python@
@@
import re

KINDS = ("noio", "nofs", "noreclaim", "pin", "nowait", "nowarn", "nolock")
LEAVES = re.compile(r"^\s*return(\s+-?\w+)?;$")
JUMPS = re.compile(r"\b(return|goto|break|continue|case|default)\b|^\s*\w+:\s*$|^#")
# What closes by itself at the end of a block, and may depend on the order.
CLEANUP = re.compile(r"\b(guard|scoped_guard|CLASS|__free|DEFINE_FREE|no_free_ptr|memalloc_\w+_(save|restore))\b")

class Facts:
    """What the rules have seen of a file."""

    def __init__(self):
        self.saves, self.restores, self.mentions = {}, {}, {}
        self.unclear, self.jumps = set(), set()
        self.guards, self.scopes = {}, {}
        self.said, self.hits = [], set()

facts = Facts()
sources = {}

def at(p):
    return p[0].file, int(p[0].line), int(p[0].column)

def func(p):
    return p[0].current_element

def kind(name):
    return re.sub(r"_(save|restore)$", "", name.replace("memalloc_", ""))

def note(table, key, value):
    table.setdefault(key, [])
    if value not in table[key]:
        table[key].append(value)

def hit(p, message):
    """To be said once all of the file has been seen, in the order of its lines."""
    facts.hits.add(at(p))
    if (at(p), message) not in [said[:2] for said in facts.said]:
        facts.said.append((at(p), message, p))

def lines(p):
    """The text of the file of a position, without comments at the ends of its lines;
    line 1 is [1]."""
    name = p[0].file
    if name not in sources:
        sources.clear()
        with open(name, errors="replace") as text:
            sources[name] = [""] + [re.sub(r"\s*/\*[^*]*\*/$", "", line) for line in text.read().split("\n")]
    return sources[name]

def indent(line):
    return len(line) - len(line.lstrip("\t"))

def blank(line):
    return not line.strip()

def next_line(text, n):
    """The number of the next line that is not empty."""
    n += 1
    while n < len(text) - 1 and blank(text[n]):
        n += 1
    return n

def region(key):
    """(save, restores, kind) of a cookie that is used for one scope and nothing else,
    closed in this function, each time by a statement on a line of its own."""
    saves, restores = facts.saves.get(key, []), facts.restores.get(key, [])
    if len(saves) != 1 or not restores or key in facts.unclear:
        return None
    what, save, args = saves[0]
    if what not in KINDS or any(r[0] != what for r in restores):
        return None
    first = at(save)[1]
    known = {at(r[1])[1] for r in restores}
    for _, line, col in facts.mentions.get(key, ()):
        if line not in known and not (line == first and col < at(save)[2]):
            return None
    text = lines(save)
    for line in known:
        if line <= first or not re.match(r"^\s*memalloc_\w+_restore\(%s\);$" % key[1], text[line]):
            return None
    if not re.match(r"^\s*(unsigned\s+|u?int\s+|u32\s+|long\s+)*%s = memalloc_\w+_save\(\);$" % key[1], text[first]):
        return None
    return save, sorted(known), what

def same_block(text, first, last):
    """Whether the lines are in one block, as far as their indentation shows."""
    depth = indent(text[first])
    return indent(text[last]) == depth and not any(
        indent(line) < depth for line in text[first:last + 1] if not blank(line))

def as_guard(key):
    """The kind, if the scope lasts to the end of its block on every way out of it."""
    found = region(key)
    if not found or key[0] in facts.jumps:
        return None
    save, restores, what = found
    text, first, last = lines(save), at(save)[1], restores[-1]
    if not same_block(text, first, last):
        return None
    depth, end = indent(text[first]), next_line(text, last)
    if LEAVES.match(text[end]) and indent(text[end]) == depth:
        end = next_line(text, end)
    if text[end] != "\t" * (depth - 1) + "}":
        return None
    ways_out = [next_line(text, r) for r in restores[:-1]]
    if any(not LEAVES.match(text[n]) for n in ways_out):
        return None
    for n in range(first + 1, last):
        line = text[n]
        if re.search(r"\breturn\b", line) and n not in ways_out:
            return None
        if re.match(r"^#|^\s*(case\b|default:)", line):
            return None
        if depth > 1 and re.search(r"\b(break|continue)\b", line):
            return None
        if CLEANUP.search(line) and n not in restores:
            return None
    return what

def as_scoped(key):
    """The kind, if the scope is a run of statements that nothing leaves."""
    found = region(key)
    if not found or key[0] in facts.jumps:
        return None
    save, restores, what = found
    text, first, last = lines(save), at(save)[1], restores[-1]
    if len(restores) != 1 or not same_block(text, first, last):
        return None
    if not re.match(r"^\s*%s =" % key[1], text[first]):
        return None
    body = text[first + 1:last]
    if not body or any(JUMPS.search(line) or CLEANUP.search(line) for line in body):
        return None
    # What is declared in there may be used behind it.
    if any(re.match(r"^\s*(const |struct |unsigned |int |long |bool |u\d+ |char |void \*)", line)
           for line in body):
        return None
    return what

def tell(say):
    for where, message, p in sorted(facts.said, key=lambda said: said[:2]):
        say(p[0], message)

@saved@
identifier id;
identifier save = {memalloc_noio_save, memalloc_nofs_save, memalloc_noreclaim_save,
	memalloc_pin_save, memalloc_nowait_save, memalloc_nowarn_save, memalloc_nolock_save,
	memalloc_scope_save, memalloc_flags_save};
expression list args;
position ps;
type T;
@@
(
  id = save@ps(args);
|
  T id = save@ps(args);
)

@script:python@
id << saved.id;
save << saved.save;
args << saved.args;
ps << saved.ps;
@@
note(facts.saves, (func(ps), id), (kind(save), ps, args))

@restored@
identifier id;
identifier restore = {memalloc_noio_restore, memalloc_nofs_restore,
	memalloc_noreclaim_restore, memalloc_pin_restore, memalloc_nowait_restore,
	memalloc_nowarn_restore, memalloc_nolock_restore, memalloc_scope_restore,
	memalloc_flags_restore};
position pr;
@@
  restore@pr(id)

@script:python@
id << restored.id;
restore << restored.restore;
pr << restored.pr;
@@
note(facts.restores, (func(pr), id), (kind(restore), pr))

@mentioned@
identifier saved.id;
position p;
@@
  id@p

@script:python@
id << saved.id;
p << mentioned.p;
@@
facts.mentions.setdefault((func(p), id), set()).add(at(p))

// A cookie that starts as something else: opened under a condition.
@other@
identifier saved.id;
expression E;
position p;
type T;
@@
(
  id@p = E;
|
  T id@p = E;
)

@script:python@
id << saved.id;
E << other.E;
p << other.p;
@@
if not re.match(r"^memalloc_\w+_save\b", E):
    facts.unclear.add((func(p), id))

@address@
identifier saved.id;
position p;
@@
  &id@p

@script:python@
id << saved.id;
p << address.p;
@@
facts.unclear.add((func(p), id))

@jumps depends on saved@
identifier l;
position p;
@@
  goto@p l;

@script:python@
p << jumps.p;
@@
facts.jumps.add(func(p))

@labels depends on saved@
identifier l;
position p;
@@
  l@p:

@script:python@
p << labels.p;
@@
facts.jumps.add(func(p))

// ---------------------------------------------------------------------------
// What could be a guard

@script:python@
id << saved.id;
ps << saved.ps;
@@
key = (func(ps), id)
what = as_guard(key)
if what:
    hit(ps, "could be guard(memalloc_%s)()" % what)
    facts.guards[key] = what
else:
    what = as_scoped(key)
    if what:
        hit(ps, "could be scoped_guard(memalloc_%s)" % what)
        facts.scopes[key] = what

// ---------------------------------------------------------------------------
// The same, done. What has been found above is known by the names of functions
// and cookies: each rule looks for its places anew, since positions do not outlive
// a change, and none inherits from those that are filtered.

@scoped depends on patch@
identifier id;
identifier save = {memalloc_noio_save, memalloc_nofs_save, memalloc_noreclaim_save,
	memalloc_pin_save, memalloc_nowait_save, memalloc_nowarn_save, memalloc_nolock_save,
	memalloc_scope_save, memalloc_flags_save};
identifier restore = {memalloc_noio_restore, memalloc_nofs_restore,
	memalloc_noreclaim_restore, memalloc_pin_restore, memalloc_nowait_restore,
	memalloc_nowarn_restore, memalloc_nolock_restore, memalloc_scope_restore,
	memalloc_flags_restore};
position ps, pr;
@@
  id = save@ps();
  ...
  restore@pr(id);

@script:python newscoped@
id << scoped.id;
ps << scoped.ps;
kindname;
@@
if (func(ps), id) not in facts.scopes:
    cocci.include_match(False)
else:
    coccinelle.kindname = cocci.make_ident("memalloc_%s" % facts.scopes[func(ps), id])

@depends on patch@
iterator name scoped_guard;
identifier scoped.id, scoped.save, scoped.restore, newscoped.kindname;
position scoped.ps, scoped.pr;
@@
- id = save@ps();
+ scoped_guard(kindname) {
  ...
- restore@pr(id);
+ }

@guarded depends on patch@
identifier id;
identifier save = {memalloc_noio_save, memalloc_nofs_save, memalloc_noreclaim_save,
	memalloc_pin_save, memalloc_nowait_save, memalloc_nowarn_save, memalloc_nolock_save,
	memalloc_scope_save, memalloc_flags_save};
position ps;
type T;
@@
(
  id = save@ps();
|
  T id = save@ps();
)

@script:python newguard@
id << guarded.id;
ps << guarded.ps;
kindname;
@@
if (func(ps), id) not in facts.guards:
    cocci.include_match(False)
else:
    coccinelle.kindname = cocci.make_ident("memalloc_%s" % facts.guards[func(ps), id])

@depends on patch@
identifier guarded.id, guarded.save, newguard.kindname;
position guarded.ps;
type T;
@@
(
- id = save@ps();
+ guard(kindname)();
|
- T id = save@ps();
+ guard(kindname)();
)

// What is left of a cookie that is gone
@lastuse depends on patch@
identifier id;
identifier restore = {memalloc_noio_restore, memalloc_nofs_restore,
	memalloc_noreclaim_restore, memalloc_pin_restore, memalloc_nowait_restore,
	memalloc_nowarn_restore, memalloc_nolock_restore, memalloc_scope_restore,
	memalloc_flags_restore};
position p;
@@
  restore@p(id);

@script:python@
id << lastuse.id;
p << lastuse.p;
@@
if (func(p), id) not in {**facts.guards, **facts.scopes}:
    cocci.include_match(False)

@depends on patch@
identifier lastuse.id, lastuse.restore;
position lastuse.p;
@@
- restore@p(id);

@declared depends on patch && (ever scoped || ever guarded)@
identifier id;
position p;
type T;
@@
  T id@p;

@script:python@
id << declared.id;
p << declared.p;
@@
if (func(p), id) not in {**facts.guards, **facts.scopes}:
    cocci.include_match(False)

@depends on patch@
identifier declared.id;
position declared.p;
type T;
@@
- T id@p;

// ---------------------------------------------------------------------------
// Say it

@call depends on context && saved@
identifier f;
position p;
@@
  f@p(...)

@script:python@
p << call.p;
@@
if at(p) not in facts.hits:
    cocci.include_match(False)

@depends on context@
identifier call.f;
position call.p;
@@
* f@p(...)

@script:python depends on report@
@@
tell(coccilib.report.print_report)

@script:python depends on org@
@@
tell(coccilib.org.print_todo)

@script:python@
@@
facts.__init__()
sources.clear()
