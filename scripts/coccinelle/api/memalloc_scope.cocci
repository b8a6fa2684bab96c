// SPDX-License-Identifier: GPL-2.0-only
///
/// Find misuse of allocation scopes, memalloc_*_save() and _restore(): scopes
/// that stay open on one way out of a function, cookies that are dropped or given
/// to another kind of restore, GFP_NOFS and GFP_NOIO that an open scope implies,
/// and work that is waited for inside a scope but allocates without it.
///
/// Scopes that are opened in one function and closed in another are only listed,
/// by report and org.
///
//# What is not certain is not reported. Nothing is said of a scope that is opened
//# or closed under a condition, nor of one whose cookie another function gets to
//# see. The layout of the lines is trusted to show the blocks.
//
// Confidence: Moderate
// Comments: Patch mode replaces GFP_NOFS and GFP_NOIO; the rest is for the reader.
// Options: --no-includes --include-headers

virtual patch
virtual context
virtual org
virtual report

@initialize:python@
@@
import re

ALLOC = re.compile(r"alloc|dup|asprintf|preload|prealloc|^xa_|^idr_|^ida_|get_zeroed_page|get_free_page"
                   r"|^memcpy_user|bio_clone")
NOT_ALLOC = re.compile(r"allow|_init$|setup")

class Facts:
    """What the rules have seen of a file: most by (function, name of the cookie)."""

    def __init__(self):
        self.saves, self.restores, self.mentions = {}, {}, {}
        self.unclear, self.leaks = set(), set()
        self.opened, self.closed = [], []
        self.outside, self.gfps = set(), set()
        self.local = set()
        self.work, self.works, self.completes = {}, {}, set()
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
    """The text of a file, without comments at the ends of lines; line 1 is [1]."""
    name = p[0].file
    if name not in sources:
        sources.clear()
        with open(name, errors="replace") as text:
            sources[name] = [""] + [re.sub(r"\s*/\*[^*]*\*/$", "", line) for line in text.read().split("\n")]
    return sources[name]

def indent(line):
    return len(line) - len(line.lstrip("\t"))

def same_block(text, first, last):
    """Whether the lines are in one block, as far as their indentation shows."""
    depth = indent(text[first])
    return indent(text[last]) == depth and not any(
        indent(line) < depth for line in text[first:last + 1] if line.strip())

def leaks_for_certain(key):
    """Whether the paths through the function say all there is to say of a cookie."""
    return key not in facts.unclear and facts.restores.get(key)

def name_of(expr):
    """The last name in an expression: what &sb->s_work and work.s_work share."""
    names = re.findall(r"[A-Za-z_]\w*", re.sub(r"\[.*?\]", "", expr))
    return names[-1] if names else None

def implied(gfp, what):
    return what == "noio" or (what == "nofs" and gfp == "GFP_NOFS")

def pairs():
    """Scopes that one function opens and another closes."""
    for what, name, how, p in facts.opened:
        if re.match(r"memalloc_\w+_save$", func(p)):
            continue
        ends = [q for k, n, q in facts.closed if k in (what, "scope", "flags") and n == name
                and func(q) != func(p)]
        if any(func(q) == func(p) for k, n, q in facts.closed if n == name and name):
            continue
        where = " or ".join("%s() at line %s" % (func(q), q[0].line) for q in ends)
        hit(p, "memalloc_%s scope opened in %s() at line %s, cookie %s, closed in %s"
            % (what, func(p), p[0].line, how, where or "another file"))

def tell(say):
    pairs()
    for where, message, p in sorted(facts.said, key=lambda said: said[:2]):
        say(p[0], message)

// Facts: where scopes are opened and closed, and what else a cookie is used for

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

// A cookie that is a variable of the function, and not of the file
@declared@
identifier saved.id;
expression E;
position p;
type T;
@@
(
  T id@p;
|
  T id@p = E;
)

@script:python@
id << saved.id;
p << declared.p;
@@
facts.local.add((func(p), id))

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

// Closed under a condition, and then on: whether the scope was open, on the ways
// around it, depends on what cannot be seen.
@maybe exists@
identifier saved.id;
identifier restore = {memalloc_noio_restore, memalloc_nofs_restore,
	memalloc_noreclaim_restore, memalloc_pin_restore, memalloc_nowait_restore,
	memalloc_nowarn_restore, memalloc_nolock_restore, memalloc_scope_restore,
	memalloc_flags_restore};
position pr;
@@
(
if (...) {
  ... when any
  restore@pr(id);
  ... when != return ...;
}
|
if (...)
  restore@pr(id);
)

@script:python@
id << saved.id;
pr << maybe.pr;
@@
def falls_through(p):
    """Whether the way on from a restore is that around the condition."""
    text, n = lines(p), at(p)[1]
    depth = indent(text[n])
    for line in text[n + 1:]:
        if line.strip() and indent(line) < depth:
            return True
        if indent(line) == depth and re.match(r"^\s*(return|goto|break|continue)\b", line):
            return False
    return True

text = lines(pr)
if falls_through(pr) and not any(
        at(p)[1] < at(pr)[1] and same_block(text, at(p)[1], at(pr)[1])
        for k, p, a in facts.saves.get((func(pr), id), ())):
    facts.unclear.add((func(pr), id))

// A way out of the function on which the scope stays open

@leak exists@
identifier id;
identifier saved.save;
position saved.ps, pr;
type T;
@@
(
  id = save@ps(...);
|
  T id = save@ps(...);
)
  ... when != id
      when != \(BUG\|panic\|do_exit\|kthread_complete_and_exit\|module_put_and_kthread_exit\)(...)
  return@pr ...;

@leakjump exists@
identifier leak.id, l;
identifier saved.save;
position saved.ps, leak.pr, pg;
type T;
@@
(
  id = save@ps(...);
|
  T id = save@ps(...);
)
  ... when != id
  goto@pg l;
  ... when != id
  return@pr ...;

@script:python@
id << leak.id;
save << saved.save;
ps << saved.ps;
pr << leak.pr;
pg << leakjump.pg;
@@
if leaks_for_certain((func(ps), id)):
    facts.leaks.add((at(ps), at(pr)))
    hit(pg, "%s() on line %s is not closed on this way out" % (save, ps[0].line))

@script:python@
id << leak.id;
save << saved.save;
ps << saved.ps;
pr << leak.pr;
@@
if leaks_for_certain((func(ps), id)) and (at(ps), at(pr)) not in facts.leaks:
    facts.leaks.add((at(ps), at(pr)))
    hit(pr, "%s() on line %s is not closed on this way out" % (save, ps[0].line))

// ... and out of one that ends without a return
@leakend exists@
identifier id, f;
identifier saved.save;
position saved.ps, pe;
type T;
@@
f(...) {
  ... when any
(
  id = save@ps(...);
|
  T id = save@ps(...);
)
  ... when != id
      when != \(BUG\|panic\|do_exit\|kthread_complete_and_exit\|module_put_and_kthread_exit\)(...)
}@pe

@leakendjump exists@
identifier leakend.id, leakend.f, l;
identifier saved.save;
position saved.ps, pg;
type T;
@@
f(...) {
  ... when any
(
  id = save@ps(...);
|
  T id = save@ps(...);
)
  ... when != id
  goto@pg l;
  ... when != id
}

@script:python@
id << leakend.id;
save << saved.save;
ps << saved.ps;
pg << leakendjump.pg;
@@
if leaks_for_certain((func(ps), id)) and not any(s == at(ps) and e[1] for s, e in facts.leaks):
    facts.leaks.add((at(ps), (at(ps)[0], 0, 0)))
    hit(pg, "%s() on line %s is not closed on this way out" % (save, ps[0].line))

@script:python@
id << leakend.id;
save << saved.save;
ps << saved.ps;
pe << leakend.pe;
@@
if leaks_for_certain((func(ps), id)) and not any(s == at(ps) for s, e in facts.leaks):
    facts.leaks.add((at(ps), at(pe)))
    hit(ps, "%s() is not closed on every way to the end of %s()" % (save, func(ps)))

// A cookie for another kind of restore; memalloc_scope_restore() takes them all

@mispaired exists@
expression L;
identifier id;
identifier saved.save, restored.restore;
position ps, pr;
type T;
@@
(
  L = save@ps(...);
  ... when != L = ...;
  restore@pr(L);
|
  T id = save@ps(...);
  ... when != id = ...;
  restore@pr(id);
)

@script:python mispair@
save << saved.save;
restore << restored.restore;
ps << mispaired.ps;
pr << mispaired.pr;
@@
opened, closes = kind(save), kind(restore)
text = lines(pr)[at(pr)[1]]
cookie = re.search(r"_restore\((.*?)\);", text)
right = cookie and any(closes == k and key[0] == func(ps) for key, saves in facts.saves.items()
                       for k, p, a in saves if key[1] == cookie[1])
if closes not in ("scope", "flags") and opened not in ("scope", "flags", closes) and not right:
    hit(pr, "%s() of a cookie that %s() returned on line %s" % (restore, save, ps[0].line))

// A cookie that is lost

@dropped@
identifier save = {memalloc_noio_save, memalloc_nofs_save, memalloc_noreclaim_save,
	memalloc_pin_save, memalloc_nowait_save, memalloc_nowarn_save, memalloc_nolock_save,
	memalloc_scope_save, memalloc_flags_save};
position p;
type T;
@@
(
  save@p(...);
|
  (T)save@p(...);
)

@script:python@
save << dropped.save;
p << dropped.p;
@@
thread = kind(save) if kind(save) in ("noio", "nofs", "noreclaim") else "scope"
hit(p, "%s() drops its cookie; for a thread's whole life use memalloc_%s_thread()" % (save, thread))

@script:python@
id << saved.id;
save << saved.save;
ps << saved.ps;
@@
key = (func(ps), id)
used = [m for m in facts.mentions.get(key, ())
        if not any(m[1] == at(p)[1] and m[2] < at(p)[2] for k, p, a in facts.saves[key])]
if not used and key in facts.local and key not in facts.unclear:
    hit(ps, "%s(): the cookie %s is never used" % (save, id))
elif not used and key not in facts.local:
    facts.opened.append((kind(save), id, "kept in %s" % id, ps))
    facts.closed.extend((k, id, q) for (f, n), closes in facts.restores.items() for k, q in closes
                        if n == id and (f, n) not in facts.local)

// Opened in one function, closed in another

@opened depends on report || org@
expression L;
identifier save = {memalloc_noio_save, memalloc_nofs_save, memalloc_noreclaim_save,
	memalloc_pin_save, memalloc_nowait_save, memalloc_nowarn_save, memalloc_nolock_save,
	memalloc_scope_save, memalloc_flags_save};
position ps;
@@
  L = save@ps(...)

@script:python@
L << opened.L;
save << opened.save;
ps << opened.ps;
@@
if not re.match(r"^\w+$", L):
    facts.opened.append((kind(save), name_of(L), "kept in %s" % re.sub(r" (?=\W)|(?<=\W) ", "", L), ps))

@handed exists@
identifier saved.id, saved.save;
position saved.ps;
expression L;
type T;
@@
(
  id = save@ps(...);
|
  T id = save@ps(...);
)
  ... when != id
  L = id

@script:python@
L << handed.L;
save << saved.save;
ps << saved.ps;
@@
if not re.match(r"^\w+$", L):
    facts.opened.append((kind(save), name_of(L), "kept in %s" % re.sub(r" (?=\W)|(?<=\W) ", "", L), ps))

@returned exists@
identifier id;
identifier save = {memalloc_noio_save, memalloc_nofs_save, memalloc_noreclaim_save,
	memalloc_pin_save, memalloc_nowait_save, memalloc_nowarn_save, memalloc_nolock_save,
	memalloc_scope_save, memalloc_flags_save};
position ps;
type T;
@@
(
  return save@ps(...);
|
  id = save@ps(...);
  ... when != id
  return id;
|
  T id = save@ps(...);
  ... when != id
  return id;
)

@script:python@
save << returned.save;
ps << returned.ps;
@@
facts.opened.append((kind(save), None, "returned", ps))

@closedfield depends on report || org@
expression E;
identifier restore = {memalloc_noio_restore, memalloc_nofs_restore,
	memalloc_noreclaim_restore, memalloc_pin_restore, memalloc_nowait_restore,
	memalloc_nowarn_restore, memalloc_nolock_restore, memalloc_scope_restore,
	memalloc_flags_restore};
position pr;
@@
  restore@pr(E)

@script:python@
E << closedfield.E;
restore << closedfield.restore;
pr << closedfield.pr;
@@
if not re.match(r"^\w+$", E):
    facts.closed.append((kind(restore), name_of(E), pr))

@closedcopy depends on report || org@
identifier id;
identifier restore = {memalloc_noio_restore, memalloc_nofs_restore,
	memalloc_noreclaim_restore, memalloc_pin_restore};
expression E;
position pr;
type T;
@@
(
  id = E;
|
  T id = E;
)
  ... when != id
  restore@pr(id)

@script:python@
E << closedcopy.E;
restore << closedcopy.restore;
pr << closedcopy.pr;
@@
if re.match(r"^[\w\s>.*()-]*(->|\.)\s*\w+$", E):
    facts.closed.append((kind(restore), name_of(E), pr))

@closedparam depends on report || org@
identifier f, id;
identifier restore = {memalloc_noio_restore, memalloc_nofs_restore,
	memalloc_noreclaim_restore, memalloc_pin_restore, memalloc_nowait_restore,
	memalloc_nowarn_restore, memalloc_nolock_restore, memalloc_scope_restore,
	memalloc_flags_restore};
position pr;
type T;
@@
f(..., T id, ...) {
  <+...
  restore@pr(id)
  ...+>
}

@script:python@
restore << closedparam.restore;
pr << closedparam.pr;
@@
facts.closed.append((kind(restore), None, pr))

// GFP_NOFS and GFP_NOIO where an open scope implies them

@inside exists@
identifier id, alloc;
identifier save = {memalloc_noio_save, memalloc_nofs_save};
identifier gfp = {GFP_NOFS, GFP_NOIO};
position ps, pg;
type T;
@@
(
  id = save@ps();
|
  T id = save@ps();
)
  ... when != id
      when any
  alloc(..., <+... gfp@pg ...+>, ...)

@outside exists@
identifier f, inside.gfp, inside.alloc;
position inside.pg;
@@
f(...) {
  ... when != \(memalloc_noio_save()\|memalloc_nofs_save()\)
      when any
  alloc(..., <+... gfp@pg ...+>, ...)
  ... when any
}

@behind exists@
identifier inside.gfp, inside.alloc;
identifier restore = {memalloc_noio_restore, memalloc_nofs_restore};
position inside.pg;
@@
  restore(...)
  ... when != \(memalloc_noio_save()\|memalloc_nofs_save()\)
      when any
  alloc(..., <+... gfp@pg ...+>, ...)

@script:python@
pg << inside.pg;
f << outside.f;
@@
facts.outside.add(at(pg))

@script:python@
pg << inside.pg;
restore << behind.restore;
@@
facts.outside.add(at(pg))

@script:python@
id << inside.id;
alloc << inside.alloc;
save << inside.save;
gfp << inside.gfp;
ps << inside.ps;
pg << inside.pg;
@@
if (implied(gfp, kind(save)) and at(pg) not in facts.outside and ALLOC.search(alloc)
        and not NOT_ALLOC.search(alloc) and (func(ps), id) not in facts.unclear):
    hit(pg, "%s() on line %s implies %s: GFP_KERNEL will do" % (save, ps[0].line, gfp))
    facts.gfps.add((func(pg), at(pg)[1], gfp))

// Work that is waited for inside a scope, and allocates without it

@initwork@
expression W;
identifier fn;
@@
  \(INIT_WORK\|INIT_WORK_ONSTACK\|INIT_DELAYED_WORK\)(W, fn)

@script:python@
W << initwork.W;
fn << initwork.fn;
@@
note(facts.work, name_of(W), fn)

@worker@
identifier initwork.fn;
position pk;
@@
fn(...) {
  <+...
  GFP_KERNEL@pk
  ...+>
}

@script:python@
fn << initwork.fn;
pk << worker.pk;
@@
note(facts.works, fn, pk)

@completes@
identifier initwork.fn;
position pc;
@@
fn(...) {
  <+...
  \(complete@pc\|complete_all@pc\)(...)
  ...+>
}

@script:python@
fn << initwork.fn;
pc << completes.pc;
@@
facts.completes.add(fn)

@waits exists@
identifier id;
identifier save = {memalloc_noio_save, memalloc_nofs_save};
expression W;
position ps, pq, pf;
type T;
@@
(
  id = save@ps();
|
  T id = save@ps();
)
  ... when != id
      when any
(
  \(queue_work@pq\|queue_delayed_work@pq\)(..., W, ...)
|
  \(schedule_work@pq\|schedule_delayed_work@pq\)(W, ...)
)
  ... when != id
      when any
(
  \(flush_work@pf\|flush_delayed_work@pf\)(W)
|
  \(wait_for_completion@pf\|wait_for_completion_timeout@pf\|wait_for_completion_killable@pf\|wait_for_completion_interruptible@pf\)(...)
)

@script:python@
W << waits.W;
save << waits.save;
ps << waits.ps;
pq << waits.pq;
pf << waits.pf;
@@
fns = facts.work.get(name_of(W), [])
if len(fns) == 1 and fns[0] in facts.works:
    fn, what = fns[0], lines(pf)[at(pf)[1]]
    scoped = any(key[0] == fn for key in facts.saves)
    if not scoped and ("flush" in what or fn in facts.completes):
        hit(pf, "waits inside %s() of line %s for %s(), which uses GFP_KERNEL on line %s"
            % (save, ps[0].line, fn, facts.works[fn][0][0].line))

// The same, done

@gfps depends on patch@
identifier gfp = {GFP_NOFS, GFP_NOIO};
position p;
@@
  gfp@p

@script:python@
gfp << gfps.gfp;
p << gfps.p;
@@
if (func(p), at(p)[1], gfp) not in facts.gfps:
    cocci.include_match(False)

@depends on patch@
identifier gfps.gfp;
position gfps.p;
@@
- gfp@p
+ GFP_KERNEL

// Say it

@call depends on context && (saved || dropped)@
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

@way depends on context@
position p;
identifier l;
@@
(
  return@p ...;
|
  goto@p l;
)

@script:python@
p << way.p;
@@
if at(p) not in facts.hits:
    cocci.include_match(False)

@depends on context@
position way.p;
identifier l;
@@
(
* return@p ...;
|
* goto@p l;
)

@word depends on context@
identifier gfp = {GFP_NOFS, GFP_NOIO};
position p;
@@
  gfp@p

@script:python@
p << word.p;
@@
if at(p) not in facts.hits:
    cocci.include_match(False)

@depends on context@
identifier word.gfp;
position word.p;
@@
* gfp@p

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
