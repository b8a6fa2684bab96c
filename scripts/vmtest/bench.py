#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""What "make bench" runs: instructions per operation, with the series and without.

Builds the base and build/linux with the same configuration, has an emulator count
what the module in bench/ does on each, and prints a table. The machine is
emulated down to its clock, so each count has to be the same when it is taken again.
"""
import fcntl
import json
import os
import re
import signal
import subprocess
import sys

import mutants
import vm

BENCH = os.path.join(vm.BUILD, 'bench')
HERE = os.path.join(vm.HERE, 'bench')
PATCHED = os.path.join(vm.BUILD, 'linux')
TREES = {'base': os.path.join(BENCH, 'linux-base'), 'patched': PATCHED}
RUNS = 2
# As the module leaves the machine through isa-debug-exit: (0 << 1) | 1
LEFT = 1
LOOP = 'empty'
# Of another make, or none at all
OTHER_LOOPS = ('page fault of a program', 'kernel thread, created and gone')
TIMEOUT = 600


def machine(out, console, results):
    """The command: nothing in it may depend on the host's clock, entropy or load."""
    return [vm.qemu_path(), '-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot',
            '-M', 'microvm,acpi=off,rtc=on', '-accel', 'tcg', '-icount', 'shift=0,sleep=off',
            # Without erms: a page is cleared by words, not by bytes.
            '-cpu', 'max,-erms', '-seed', '1', '-rtc', 'base=2026-01-01,clock=vm',
            '-smp', '1', '-m', '512M',
            '-kernel', os.path.join(out, 'arch/x86/boot/bzImage'),
            '-initrd', os.path.join(out, 'initramfs.cpio'),
            # An instruction takes a nanosecond, so the counter runs at 1 GHz.
            '-append', 'console=ttyS0 panic=-1 reboot=t rdinit=/init nokaslr '
                       'tsc_early_khz=1000000 tsc=reliable',
            '-chardev', f'file,id=console,path={console}', '-serial', 'chardev:console',
            '-chardev', f'file,id=results,path={results}',
            '-device', 'isa-debugcon,iobase=0xe9,chardev=results',
            '-device', 'isa-debug-exit,iobase=0xf4,iosize=1']


def boot(which, nr):
    """Boot a kernel; return what it wrote: {row: [operations, once, twice]} and {fact: number}."""
    console, results = (os.path.join(BENCH, f'{which}.{nr}.{what}')
                        for what in ('console', 'results'))
    for old in (console, results):
        if os.path.exists(old):
            os.unlink(old)
    try:
        status = subprocess.run(machine(os.path.join(BENCH, which), console, results),
                                stdin=subprocess.DEVNULL, timeout=TIMEOUT).returncode
    except subprocess.TimeoutExpired:
        status = f'nothing after {TIMEOUT} s'
    lines = [line.split('\t') for line in vm.read_text(results).splitlines()]
    if status != LEFT or not lines or lines.pop() != ['end']:
        raise vm.HarnessError(f'the {which} kernel did not finish ({status}): see {console}')
    rows = {name: [int(n) for n in rest] for name, *rest in lines if len(rest) == 3}
    facts = {name: int(rest[0]) for name, *rest in lines if len(rest) == 1}
    for name, (_, once, twice) in rows.items():
        if not once or twice <= once:
            raise vm.HarnessError(f'{which}: "{name}" failed, or a tick came in between')
    return rows, facts


def per_operation(rows):
    """What an operation takes, the loop taken off."""
    took = {name: (twice - once) / n for name, (n, once, twice) in rows.items()}
    loop = took.pop(LOOP)
    return {name: t if name in OTHER_LOOPS else t - loop for name, t in took.items()}


def count(which):
    first = boot(which, 1)
    for nr in range(2, RUNS + 1):
        again = boot(which, nr)
        for one, other in zip(first, again):
            for name in {**one, **other}:
                if one.get(name) != other.get(name):
                    raise vm.HarnessError(f'{which}: "{name}" was {one.get(name)} and then '
                                          f'{other.get(name)}: counts have to repeat')
    return per_operation(first[0]), first[1]


def size(which):
    """text, data and bss of vmlinux"""
    done = subprocess.run(['size', os.path.join(BENCH, which, 'vmlinux')], stdout=subprocess.PIPE,
                          text=True, check=True)
    return dict(zip(('text', 'data', 'bss'), map(int, done.stdout.splitlines()[1].split())))


def bloat():
    meter = os.path.join(TREES['base'], 'scripts/bloat-o-meter')
    done = subprocess.run([sys.executable, '-B', meter,
                           *(os.path.join(BENCH, which, 'vmlinux') for which in TREES)],
                          stdout=subprocess.PIPE, text=True, check=True)
    vm.write_file(os.path.join(BENCH, 'bloat.txt'), done.stdout)
    return done.stdout


def number(value):
    return '' if value is None else f'{value:.2f}'.removesuffix('.00')


def print_table(title, base, patched):
    width = max(map(len, {**base, **patched}))
    print(f"{title:{width}} {'base':>10} {'patched':>10} {'ratio':>8}")
    for name in list(patched) + [n for n in base if n not in patched]:
        one, other = base.get(name), patched.get(name)
        ratio = f'{other / one:.3f}' if one and other is not None else ''
        print(f'{name:{width}} {number(one):>10} {number(other):>10} {ratio:>8}'.rstrip())
    print(flush=True)


def main():
    os.makedirs(BENCH, exist_ok=True)
    with open(os.path.join(BENCH, '.lock'), 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            subprocess.run([os.path.join(vm.HERE, 'tree.sh')], check=True)
            base = mutants.git(PATCHED, 'rev-parse', 'base^{commit}')
            mutants.checkout(PATCHED, TREES['base'], base)
            for which, tree in TREES.items():
                subprocess.run([os.path.join(HERE, 'build.sh'), tree, os.path.join(BENCH, which)],
                               check=True)
        except subprocess.CalledProcessError as e:
            raise vm.HarnessError(f'{e.cmd[0]} failed, see above') from e
        found = {}
        for which in TREES:
            found[which] = dict(zip(('instructions', 'facts'), count(which)), size=size(which))
        growth = bloat()
        vm.write_file(os.path.join(BENCH, 'bench.json'), json.dumps(found, indent=1) + '\n')
    base, patched = (found[which] for which in TREES)
    print_table('instructions', base['instructions'], patched['instructions'])
    print_table('vmlinux and bytes', {**base['size'], **base['facts']},
                {**patched['size'], **patched['facts']})
    print(re.search(r'^add/remove.*', growth, re.M).group(),
          f'({os.path.relpath(os.path.join(BENCH, "bloat.txt"))})')
    print(f'all counts repeated in {RUNS} boots; '
          f'{os.path.relpath(os.path.join(BENCH, "bench.json"))} has them')
    return vm.PASSED


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(vm.HARNESS))
    try:
        sys.exit(main())
    except (vm.HarnessError, subprocess.CalledProcessError) as e:
        print(f'vmtest: {e}', file=sys.stderr)
        sys.exit(vm.HARNESS)
    except KeyboardInterrupt:
        sys.exit(130)
