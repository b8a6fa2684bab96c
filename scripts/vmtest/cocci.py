#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""cocci.py SCRATCH [--update | --mutants]: what memalloc_*.cocci say of the files in
cocci/, in each of their modes, against what these say they should.

A line that has to be reported ends in a comment, hit: RULE, or hit: RULE, WORDS that are
in the message; and no other must be.  org must say the same as report, and context
must mark the same, but for the pairs, which are only listed.  Patch mode must turn
NAME.c into NAME.expected, or leave it alone if there is none; --update writes these.
--mutants breaks one rule at a time: the files must notice each."""
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
TESTS = HERE / "cocci"
COCCI = sorted((HERE.parents[1] / "scripts/coccinelle/api").glob("memalloc_*.cocci"))
HIT = re.compile(r"/\* hit: (\w+)(?:, (.*?))? \*/")
# What the messages of each rule have in common; whose they are.
RULES = {
    "leak": r"is not closed on",
    "mispaired": r"_restore\(\) of a cookie that",
    "dropped": r"drops its cookie|is never used",
    "pair": r"scope opened in",
    "poke": r"by hand: use",
    "gfp": r"GFP_KERNEL will do",
    "work": r"waits inside",
    "guard": r"could be guard",
    "scoped": r"could be scoped_guard",
}
OF = {"guard": ("guard", "scoped"), "flags": ("poke",),
      "scope": ("leak", "mispaired", "dropped", "pair", "gfp", "work")}
MUTANTS = TESTS / "mutants.txt"


class Problem(Exception):
    pass


def spatch(mode, cocci, where, *more):
    """As scripts/coccicheck runs it."""
    options = " ".join(re.findall(r"^// Options:(.*)", cocci.read_text(), re.M)).split()
    command = ["nice", "-n", "19", "spatch", "-D", mode, "--very-quiet", "--cocci-file", str(cocci),
               *options, "--dir", ".", *more]
    if mode in ("report", "org"):
        command.append("--no-show-diff")
    done = subprocess.run(command, cwd=where, capture_output=True, check=False, text=True,
                          stdin=subprocess.DEVNULL)
    # It goes on without a file that a script fails on.
    if done.returncode or "EXN" in done.stderr or "Traceback" in done.stderr:
        raise Problem(f"spatch -D {mode} failed: {done.stdout[-500:]}{done.stderr[-1500:]}")
    return done.stdout


def expected():
    """{(file, line): [(rule, words)]}"""
    wanted = {}
    for path in sorted(TESTS.glob("*.c")):
        for n, line in enumerate(path.read_text().splitlines(), 1):
            for rule, words in HIT.findall(line):
                if rule not in RULES:
                    raise Problem(f"{path.name}:{n}: no rule {rule}")
                wanted.setdefault((path.name, n), []).append((rule, words))
    return wanted


def copies(scratch):
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for path in TESTS.glob("*.c"):
        shutil.copy(path, scratch)
    return scratch


def reported(cocci, where):
    """{(file, line): [message]}"""
    said = {}
    for line in "".join(spatch("report", c, where) for c in cocci).splitlines():
        found = re.match(r"(?:\./)?([^:]+):(\d+):\d+-\d+: (.*)", line)
        if found:
            said.setdefault((found[1], int(found[2])), []).append(found[3])
        elif line.strip():
            raise Problem(f"report says: {line}")
    return said


def check_report(said, wanted):
    bad = []
    for place in sorted(said.keys() | wanted.keys()):
        where = "%s:%d" % place
        messages, hits = list(said.get(place, [])), wanted.get(place, [])
        for rule, words in hits:
            match = [m for m in messages if re.search(RULES[rule], m) and words in m]
            if match:
                messages.remove(match[0])
            else:
                bad.append(f"{where}: not reported: {rule}{words and ', ' + words}")
        bad += [f"{where}: should not be reported: {m}" for m in messages]
    return bad


def check_org(cocci, where, said):
    places = {}
    for line in "".join(spatch("org", c, where) for c in cocci).splitlines():
        found = re.match(r"\* TODO \[\[view:(?:\./)?([^:]+)::.*?::linb=(\d+)::.*?\]\[(.*)\]\]$", line)
        if found:
            places.setdefault((found[1], int(found[2])), []).append(found[3])
        elif line.strip():
            return [f"org says: {line}"]
    return [f"{p[0]}:{p[1]}: org and report differ" for p in sorted(places.keys() | said.keys())
            if sorted(places.get(p, [])) != sorted(said.get(p, []))]


def check_context(cocci, where, wanted):
    """The lines that a diff takes away are those of the hits."""
    marked, file, line = set(), None, 0
    for text in "".join(spatch("context", c, where) for c in cocci).splitlines():
        if text.startswith("--- "):
            file = text[4:].split("\t")[0].removeprefix("./")
        elif text.startswith("@@"):
            line = int(re.match(r"@@ -(\d+)", text)[1])
        elif file and not text.startswith("+"):
            if text.startswith("-"):
                marked.add((file, line))
            line += 1
    hits = {place for place, rules in wanted.items() if any(rule != "pair" for rule, _ in rules)}
    return [f"{p[0]}:{p[1]}: {'marked by context' if p in marked else 'not marked by context'}"
            for p in sorted(marked ^ hits)]


def check_patch(cocci, where, update):
    for c in cocci:
        spatch("patch", c, where, "--in-place")
    bad = []
    for path in sorted(TESTS.glob("*.c")):
        result, kept = (where / path.name).read_text(), path.with_suffix(".expected")
        if update:
            kept.unlink(missing_ok=True)
            if result != path.read_text():
                kept.write_text(result)
            continue
        want = kept if kept.exists() else path
        if result != want.read_text():
            diff = subprocess.run(["diff", "-u", str(want), str(where / path.name)], check=False,
                                  capture_output=True, text=True).stdout
            bad.append(f"{path.name}: patch mode makes something else of it:\n{diff}")
    return bad


def check(cocci, scratch, update=False):
    wanted = expected()
    said = reported(cocci, copies(scratch))
    bad = check_report(said, wanted)
    bad += check_org(cocci, scratch, said)
    bad += check_context(cocci, scratch, wanted)
    bad += check_patch(cocci, copies(scratch), update)
    return bad, sum(map(len, wanted.values()))


def mutants(scratch):
    """Breaks the semantic patch as mutants.txt says, and asks for report and patch."""
    bad = count = 0
    for block in re.split(r"^== ", MUTANTS.read_text(), flags=re.M)[1:]:
        head, _, rest = block.partition("\n")
        name, files = head.split(":")
        old, new = (part.strip("\n") for part in re.split(r"^---$", rest, flags=re.M))
        broken_one = [c for c in COCCI if old in c.read_text()]
        if len(broken_one) != 1 or broken_one[0].read_text().count(old) != 1:
            raise Problem(f"{name}: the text to break is not there, or more than once")
        scratch.mkdir(parents=True, exist_ok=True)
        broken = scratch / "broken.cocci"
        broken.write_text(broken_one[0].read_text().replace(old, new))
        mine = OF[broken_one[0].stem.removeprefix("memalloc_")]
        wanted = {place: [hit for hit in hits if hit[0] in mine] for place, hits in expected().items()}
        try:
            found = check_report(reported([broken], copies(scratch / "files")), wanted)
            if not found:
                found = check_patch([broken], scratch / "files", False)
        except Problem as e:
            found = [f"no verdict: {e}"]
        noticed = {line.split(":")[0].removesuffix(".c") for line in found}
        good = set(files.split()) <= noticed
        bad += not good
        count += 1
        print(f"{'noticed' if good else 'SURVIVED'} {name}: {len(found)} complaints"
              f" ({' '.join(sorted(noticed))})", flush=True)
    print(f"{count} mutants, {bad} survived")
    return 1 if bad else 0


def main(args):
    scratch = pathlib.Path(args[0]).resolve()
    if "--mutants" in args:
        return mutants(scratch)
    bad, hits = check(COCCI, scratch, "--update" in args)
    for line in bad:
        print(line)
    print(f"{len(list(TESTS.glob('*.c')))} files, {hits} hits, {len(bad)} complaints")
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Problem as e:
        print(e)
        sys.exit(1)
