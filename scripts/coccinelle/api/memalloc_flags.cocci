// SPDX-License-Identifier: GPL-2.0-only
///
/// Find PF_MEMALLOC, PF_MEMALLOC_NOIO, PF_MEMALLOC_NOFS and PF_MEMALLOC_PIN poked
/// or tested in the flags of a task: allocation scopes are opened, closed and
/// asked for by memalloc_*_save(), _restore() and _active().
///
//# In patch mode, tests of one flag become memalloc_*_active(), and a flag that is
//# set and cleared in one block becomes a scope; all else is for the reader. A test
//# of PF_MEMALLOC_NOFS becomes memalloc_nofs_active(), which is also true inside a
//# noio scope. Where a flag was cleared at the end, what was open before now stays
//# open. Add #include <linux/sched/mm.h> if it is missing.
//
// Confidence: High
// Comments: Restoring all of current->flags is not found, only what set the flag.
// Options: --no-includes --include-headers

virtual patch
virtual context
virtual org
virtual report

@initialize:python@
@@
import re

FLAG_KIND = {"PF_MEMALLOC": "noreclaim", "PF_MEMALLOC_NOIO": "noio",
             "PF_MEMALLOC_NOFS": "nofs", "PF_MEMALLOC_PIN": "pin"}
JUMPS = re.compile(r"\b(return|goto|break|continue|case|default)\b|^\s*\w+:\s*$|^#")

class Facts:
    """What the rules have seen of a file."""

    def __init__(self):
        self.pokes, self.tests = {}, set()
        self.jumps, self.clears = set(), set()
        self.said, self.hits = [], set()

facts = Facts()
sources = {}

def at(p):
    return p[0].file, int(p[0].line), int(p[0].column)

def func(p):
    return p[0].current_element

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

def same_block(text, first, last):
    """Whether the lines are in one block, as far as their indentation shows."""
    depth = indent(text[first])
    return indent(text[last]) == depth and not any(
        indent(line) < depth for line in text[first:last + 1] if not blank(line))

def flags_of(expr):
    return re.findall(r"\bPF_\w+", expr)

def tell(say):
    for where, message, p in sorted(facts.said, key=lambda said: said[:2]):
        say(p[0], message)

@poke@
expression E, F;
position p;
@@
(
  E->flags@p |= F
|
  E->flags@p &= F
|
  E->flags@p & F
)

@script:python@
F << poke.F;
p << poke.p;
@@
flags = [f for f in flags_of(F) if f in FLAG_KIND]
if flags:
    facts.pokes[at(p)] = (p, flags)

@pokecall@
expression F;
identifier how = {current_restore_flags, tsk_restore_flags, memalloc_flags_save};
position p;
@@
  how@p(..., F)

@script:python@
F << pokecall.F;
p << pokecall.p;
@@
flags = [f for f in flags_of(F) if f in FLAG_KIND]
if flags:
    facts.pokes[at(p)] = (p, flags)

// Tests, where all that matters is whether the result is zero
@tested@
symbol current;
identifier flag = {PF_MEMALLOC, PF_MEMALLOC_NOIO, PF_MEMALLOC_NOFS, PF_MEMALLOC_PIN};
identifier warn = {WARN_ON, WARN_ON_ONCE, VM_WARN_ON, VM_WARN_ON_ONCE, BUG_ON, likely,
	unlikely};
expression E, E2;
position pt;
@@
(
  !(current->flags@pt & flag)
|
  (current->flags@pt & flag) && E
|
  E && (current->flags@pt & flag)
|
  (current->flags@pt & flag) || E
|
  E || (current->flags@pt & flag)
|
  (current->flags@pt & flag) ? E : E2
|
  warn(current->flags@pt & flag)
|
  warn(!(current->flags@pt & flag))
)

@script:python@
pt << tested.pt;
@@
facts.tests.add(at(pt))

@testedif@
symbol current;
identifier flag = {PF_MEMALLOC, PF_MEMALLOC_NOIO, PF_MEMALLOC_NOFS, PF_MEMALLOC_PIN};
statement S1, S2;
position pt;
@@
  if (current->flags@pt & flag) S1 else S2

@script:python@
pt << testedif.pt;
@@
facts.tests.add(at(pt))

// Jumps may leave a scope, or enter it
@jumps depends on poke || pokecall@
identifier l;
position p;
@@
  goto@p l;

@script:python@
p << jumps.p;
@@
facts.jumps.add(func(p))

@labels depends on poke || pokecall@
identifier l;
position p;
@@
  l@p:

@script:python@
p << labels.p;
@@
facts.jumps.add(func(p))

// Set and cleared in one block, once, with nothing that leaves it in between
@cleared@
symbol current;
identifier flag = {PF_MEMALLOC, PF_MEMALLOC_NOIO, PF_MEMALLOC_NOFS, PF_MEMALLOC_PIN};
position p1, p2;
@@
  current->flags@p1 |= flag;
  ... when != current->flags
      when != return ...;
  current->flags@p2 &= ~flag;

@script:python@
flag << cleared.flag;
p1 << cleared.p1;
p2 << cleared.p2;
@@
text, first, last = lines(p1), at(p1)[1], at(p2)[1]
same = [p for p, flags in facts.pokes.values() if func(p) == func(p1)]
if not (func(p1) in facts.jumps or len(same) != 2 or not same_block(text, first, last)
        or any(JUMPS.search(line) for line in text[first + 1:last])
        or any(re.search(r"\bmemalloc_flags\b", line) for line in text)):
    facts.clears.add((func(p1), flag))

@script:python@
@@
for p, flags in facts.pokes.values():
    hit(p, "%s by hand: use %s" % (" and ".join(flags), ", ".join(
        "memalloc_%s_*()" % FLAG_KIND[flag] for flag in flags)))

// ---------------------------------------------------------------------------
// The same, done

@test depends on patch@
symbol current;
identifier flag = {PF_MEMALLOC, PF_MEMALLOC_NOIO, PF_MEMALLOC_NOFS, PF_MEMALLOC_PIN};
position p;
@@
  current->flags@p & flag

@script:python newtest@
flag << test.flag;
p << test.p;
active;
@@
if at(p) not in facts.tests:
    cocci.include_match(False)
coccinelle.active = cocci.make_ident("memalloc_%s_active" % FLAG_KIND[flag])

@depends on patch@
symbol current;
identifier test.flag, newtest.active;
position test.p;
@@
(
- (current->flags@p & flag)
+ active()
|
- current->flags@p & flag
+ active()
)

@clear depends on patch@
symbol current;
identifier flag = {PF_MEMALLOC, PF_MEMALLOC_NOIO, PF_MEMALLOC_NOFS, PF_MEMALLOC_PIN};
position p;
@@
  current->flags@p |= flag;

@script:python newclear@
flag << clear.flag;
p << clear.p;
save;
restore;
@@
if (func(p), flag) not in facts.clears:
    cocci.include_match(False)
coccinelle.save = cocci.make_ident("memalloc_%s_save" % FLAG_KIND[flag])
coccinelle.restore = cocci.make_ident("memalloc_%s_restore" % FLAG_KIND[flag])

@depends on patch@
symbol current;
identifier clear.flag, newclear.save, newclear.restore;
position clear.p;
@@
- current->flags@p |= flag;
+ unsigned int memalloc_flags = save();
  ...
- current->flags &= ~flag;
+ restore(memalloc_flags);

// ---------------------------------------------------------------------------
// Say it

@call depends on context && pokecall@
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

@flagword depends on context && poke@
expression E;
position p;
@@
  E->flags@p

@script:python@
p << flagword.p;
@@
if at(p) not in facts.hits:
    cocci.include_match(False)

@depends on context@
expression flagword.E;
position flagword.p;
@@
* E->flags@p

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
