#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""off.py LINUX: compares the functions of two kernels that have no checks.

One is the series before the patch that brings the checks of allocation scopes, the
other the series as it is, with the checks turned off: no function may differ, but for
those in off.exceptions, which a later patch changes for a reason of its own. What is
compared is what the compiler made, from the configuration of make bench.
"""
import collections
import os
import pathlib
import re
import subprocess
import sys

sys.dont_write_bytecode = True
import mutants  # noqa: E402
import reference  # noqa: E402
import series  # noqa: E402
import vm  # noqa: E402

FIRST = "mm/memalloc_debug.c"
BUILD = pathlib.Path(vm.BUILD, "bench")
# Where things are in memory, which all that comes before has a say in
PLACES = re.compile(r"\$?\b(?:0x)?f{8}[89a-f][0-9a-f]{7}\b|-?0x[0-9a-f]+(?=\(%rip\))|"
                    r"-0x[67][0-9a-f]{7}(?=\(,?%)")
START = re.compile(r"[0-9a-f]{16} <(.+)>:$")


def functions(vmlinux):
    """{name: how often there is which code under that name}"""
    run = subprocess.run(["objdump", "-d", "--no-show-raw-insn", str(vmlinux)],
                         stdout=subprocess.PIPE, text=True, check=True)
    found, code = collections.defaultdict(collections.Counter), []

    def end(name):
        # What fills up the room to the next function is not its own.
        while code and re.match(r"(cs )?nop|int3|xchg +%ax,%ax|data16", code[-1]):
            code.pop()
        found[name]["\n".join(code)] += 1
        code.clear()

    name = None
    for line in run.stdout.splitlines():
        start = START.match(line)
        if start:
            if name:
                end(name)
            name = start[1]
        elif name and "\t" in line:
            text = line.split("\t", 1)[1]
            # A place that has a name is told by that; data without one is near anything.
            named = re.search(r"<([^>]+)>", text)
            what, data = text.partition("#")[::2]
            if named and data and "+0x" in named[1]:
                named = None
            what = PLACES.sub("PLACE", what.split("<")[0]).strip()
            code.append(f"{what} {named[1] if named else ''}")
    if name:
        end(name)
    return found


def build(tree, out):
    subprocess.run([os.path.join(vm.HERE, "bench/build.sh"), tree, out], check=True,
                   stdout=subprocess.DEVNULL)
    return functions(out / "vmlinux")


def main(linux):
    listed = reference.exceptions(pathlib.Path(__file__).with_name("off.exceptions"), "function")
    excused = {name: False for _, (name, _) in listed}
    first = series.out("log", "--format=%H", "--diff-filter=A", "base..HEAD", "--", FIRST)
    if not first:
        raise series.Problem(f"no patch adds {FIRST}: correct FIRST in off.py")
    BUILD.mkdir(parents=True, exist_ok=True)
    before = BUILD / "linux-unchecked"
    mutants.checkout(linux, str(before), f"{first}^")
    without, with_checks = build(before, BUILD / "unchecked"), build(linux, BUILD / "patched")
    bad = 0
    for name in sorted(set(without) | set(with_checks)):
        if without[name] == with_checks[name]:
            continue
        if name in excused:
            excused[name] = True
            continue
        bad += 1
        print(f"{name}: not the same code as without the checks")
    bad += reference.unused("off.exceptions", excused)
    print(f"{len(with_checks)} names of functions, {bad} complaints")
    return 1 if bad or len(with_checks) < 1000 else 0


if __name__ == "__main__":
    try:
        reference.run(main)
    except (vm.HarnessError, subprocess.CalledProcessError) as e:
        print(f"vmtest: {e}", file=sys.stderr)
        sys.exit(6)
