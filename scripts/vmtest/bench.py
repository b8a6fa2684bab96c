#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""What "make bench" runs: instructions per operation, with the series and without.

Builds the base and build/linux with the same configuration, has an emulator count
what the programs in bench/ do on each, and prints tables, and which goals are met. The
machine is emulated down to its clock, so each count has to be the same when it is
taken again. A patch in bench/variants/ makes a variant of the series, to compare it with,
and so does a fragment of configuration.

VARIANTS=name,name chooses among these, or leaves them out. PUBLISH=1 puts the results
where they are committed. GOALS=1 makes a goal that is not met an error.
"""
import fcntl
import glob
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import bench_report
import mutants
import series
import vm

BENCH = os.path.join(vm.BUILD, 'bench')
HERE = os.path.join(vm.HERE, 'bench')
PATCHED = os.path.join(vm.BUILD, 'linux')
ALL = sorted({os.path.splitext(f)[0] for f in os.listdir(os.path.join(HERE, 'variants'))})
RUNS = 2
# As the guest leaves the machine through isa-debug-exit: (0 << 1) | 1
LEFT = 1
LOOP = 'empty'
# Of another make, or none at all
OTHER_LOOPS = ('page fault of a program', 'kernel thread, created and gone')
# What is counted, and the initramfs with the program that does.
GUESTS = {'operations': 'initramfs.cpio', 'work': 'macro.cpio'}
TIMEOUT = 900
# Configurations in which task_struct may not grow
LAYOUTS = {'defconfig': 'x86_64 defconfig', 'distro': 'as distributions, allocation profiling',
           'rt': 'PREEMPT_RT', 'i386': 'i386 defconfig'}
# What a compiler says of task_struct, as pahole puts it. A variant has a first bit.
SIZE = re.compile(r'^\t/\* size: (\d+),', re.M)
MEMBERS = {'flags': re.compile(r'^\tunsigned int\s+flags;\s+/\*\s*(\d+)\s', re.M),
           'scope': re.compile(r'^\t\S.*\s(?:memalloc_scope;|memalloc_nofs:1;)\s+/\*\s*(\d+)[:\s]',
                               re.M)}


def of_variant(name, ext):
    return os.path.join(HERE, 'variants', f'{name}.{ext}')


def variants():
    names = [n for n in os.environ.get('VARIANTS', ','.join(ALL)).split(',') if n]
    for name in names:
        if name not in ALL:
            raise vm.HarnessError(f'VARIANTS={name}: there is no scripts/vmtest/bench/variants/'
                                  f'{name}.patch or .config: use {" or ".join(ALL)}')
    return names


def with_patch(name):
    """A commit of the series with the patch of a variant on top."""
    index = os.path.join(BENCH, 'index')
    env = {'GIT_INDEX_FILE': index}
    tip = mutants.tip(PATCHED, index)
    mutants.git(PATCHED, 'read-tree', tip, env=env)
    try:
        # Without fuzz: each line of context has to be there.
        mutants.git(PATCHED, 'apply', '--cached', of_variant(name, 'patch'), env=env)
        tree = mutants.git(PATCHED, 'write-tree', env=env)
    except vm.HarnessError as e:
        why = re.search(r'error: (.*)', str(e))
        raise vm.HarnessError(f'scripts/vmtest/bench/variants/{name}.patch does not apply to the series '
                              f'({why[1] if why else e}): correct it, or leave it out by VARIANTS='
                              ) from None
    finally:
        os.unlink(index)
    return mutants.commit(PATCHED, tree, tip, f'variant: {name}')


def prepare(names):
    """Bring all trees up to date; {kernel: tree}"""
    subprocess.run([os.path.join(vm.HERE, 'tree.sh')], check=True)
    commits = {'base': mutants.git(PATCHED, 'rev-parse', 'base^{commit}'),
               **{name: with_patch(name) for name in names
                  if os.path.exists(of_variant(name, 'patch'))}}
    trees = {which: os.path.join(BENCH, f'linux-{which}') if which in commits else PATCHED
             for which in ('base', 'patched', *names)}
    for which, commit in commits.items():
        mutants.checkout(PATCHED, trees[which], commit)
    return trees


def build(which, tree, *args):
    env = {**os.environ, 'VMTEST_FRAGMENT': of_variant(which, 'config')}
    if not os.path.exists(env['VMTEST_FRAGMENT']):
        del env['VMTEST_FRAGMENT']
    subprocess.run([os.path.join(HERE, 'build.sh'), tree, *args], check=True, env=env)


def in_parallel(fn, items):
    """fn(*item) of each, as many at a time as there are jobs."""
    with ThreadPoolExecutor(int(os.environ.get('J') or os.cpu_count() or 1)) as pool:
        futures = [pool.submit(fn, *item) for item in items]
        try:
            return [f.result() for f in futures]
        except BaseException:
            vm.STOPPING.set()
            pool.shutdown(cancel_futures=True)
            raise


def machine(out, guest, console, results):
    """The command: nothing in it may depend on the host's clock, entropy or load."""
    return [vm.qemu_path(), '-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot',
            '-M', 'microvm,acpi=off,rtc=on', '-accel', 'tcg', '-icount', 'shift=0,sleep=off',
            # Without erms: a page is cleared by words, not by bytes.
            '-cpu', 'max,-erms', '-seed', '1', '-rtc', 'base=2026-01-01,clock=vm',
            '-smp', '1', '-m', '512M',
            '-kernel', os.path.join(out, 'arch/x86/boot/bzImage'),
            '-initrd', os.path.join(out, GUESTS[guest]),
            # An instruction takes a nanosecond, so the counter runs at 1 GHz.
            '-append', 'console=ttyS0 panic=-1 reboot=t rdinit=/init nokaslr '
                       'tsc_early_khz=1000000 tsc=reliable brd.rd_nr=1 brd.rd_size=98304',
            '-chardev', f'file,id=console,path={console}', '-serial', 'chardev:console',
            '-chardev', f'file,id=results,path={results}',
            '-device', 'isa-debugcon,iobase=0xe9,chardev=results',
            '-device', 'isa-debug-exit,iobase=0xf4,iosize=1']


def boot(which, guest, nr):
    """Boot a kernel; return the lines that it wrote, each as [name, number, number, number]."""
    console, results = (os.path.join(BENCH, f'{which}.{guest}.{nr}.{what}')
                        for what in ('console', 'results'))
    for old in (console, results):
        if os.path.exists(old):
            os.unlink(old)
    status, start = None, time.monotonic()
    with subprocess.Popen(machine(os.path.join(BENCH, which), guest, console, results),
                          stdin=subprocess.DEVNULL) as process:
        while status is None and time.monotonic() - start < TIMEOUT and not vm.STOPPING.is_set():
            try:
                status = process.wait(1)
            except subprocess.TimeoutExpired:
                pass
        process.kill()
    lines = [line.split('\t') for line in vm.read_text(results).splitlines()]
    if (status != LEFT or not lines or lines.pop() != ['end']
            or not all(len(rest) == 3 for _, *rest in lines)):
        raise vm.HarnessError(f'the {which} kernel did not finish (QEMU: '
                              f'{"nothing" if status is None else status}): see {console}')
    return [[name, *map(int, rest)] for name, *rest in lines]


def per_operation(which, lines):
    """What an operation takes, the loop taken off."""
    took = {}
    for name, n, once, twice in lines:
        if not once or twice <= once:
            raise vm.HarnessError(f'{which}: "{name}" failed, or a tick came in between')
        took[name] = (twice - once) / n
    loop = took.pop(LOOP)
    return {name: t if name in OTHER_LOOPS else t - loop for name, t in took.items()}


def per_unit(which, lines):
    """What a unit of work takes, in each of the rounds."""
    rounds = {}
    for name, n, took, idle in lines:
        if idle:
            raise vm.HarnessError(f'{which}: "{name}" had nothing to do for a while, which counts '
                                  'as instructions')
        rounds.setdefault(name, []).append(took / n)
    return rounds


def count(kernels):
    """Boot each guest of each kernel RUNS times; {kernel: {guest: what it found}}"""
    todo = [(which, guest, nr) for which in kernels for guest in GUESTS
            for nr in range(1, RUNS + 1)]
    found = {which: {} for which in kernels}
    for (which, guest, nr), lines in zip(todo, in_parallel(boot, todo)):
        first = found[which].setdefault(guest, lines)
        for one, other in zip(first + [None] * len(lines), lines + [None] * len(first)):
            if one != other:
                raise vm.HarnessError(f'{which}: {one} in one boot, and {other} in another: counts '
                                      'have to repeat')
    for which, by_guest in found.items():
        by_guest['operations'] = per_operation(which, by_guest['operations'])
        by_guest['work'] = per_unit(which, by_guest['work'])
    return found


def layout(which, out):
    """Size of task_struct, and offsets of its flags and, but for the base, of the scopes."""
    obj = os.path.join(out, 'kernel/fork.o')
    said = subprocess.run(['pahole', '-C', 'task_struct', obj], stdout=subprocess.PIPE, text=True,
                          check=True).stdout
    found = {'size': SIZE.search(said), **{name: r.search(said) for name, r in MEMBERS.items()}}
    missing = [name for name, m in found.items() if not m and (name, which) != ('scope', 'base')]
    if missing:
        raise vm.HarnessError(f'pahole does not tell the {missing[0]} of task_struct in {obj}: '
                              'run it by hand, to see what it says instead')
    return {name: int(m[1]) for name, m in found.items() if m}


def layouts(trees):
    """{configuration: {kernel: layout of task_struct}}"""
    todo = [(which, config, os.path.join(BENCH, f'{which}.{config}'))
            for config in LAYOUTS for which in trees]
    in_parallel(build, [(which, trees[which], out, config) for which, config, out in todo])
    found = {config: {} for config in LAYOUTS}
    for which, config, out in todo:
        found[config][which] = layout(which, out)
    return found


def vmlinux(which):
    """text, data and bss"""
    done = subprocess.run(['size', os.path.join(BENCH, which, 'vmlinux')], stdout=subprocess.PIPE,
                          text=True, check=True)
    return dict(zip(('text', 'data', 'bss'), map(int, done.stdout.splitlines()[1].split())))


def bloat():
    """What bloat-o-meter has to say, which goes to a file; its first line."""
    meter = os.path.join(PATCHED, 'scripts/bloat-o-meter')
    done = subprocess.run([sys.executable, '-B', meter,
                           *(os.path.join(BENCH, which, 'vmlinux') for which in ('base', 'patched'))],
                          stdout=subprocess.PIPE, text=True, check=True)
    vm.write_file(os.path.join(BENCH, 'bloat.txt'), done.stdout)
    return re.search(r'^add/remove.*', done.stdout, re.M).group()


def main():
    names = variants()
    publish = bool(os.environ.get('PUBLISH'))
    for what, stray in (('WIP', os.environ.get('WIP')), ('KSRC', os.environ.get('KSRC')),
                        ('VARIANTS', sorted(names) != ALL)):
        if publish and stray:
            raise vm.HarnessError(f'PUBLISH=1 is for the series as it is, and for all there is to '
                                  f'count: take {what}= away')
    os.makedirs(BENCH, exist_ok=True)
    with open(os.path.join(BENCH, '.lock'), 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Not to be taken for those of a run that fails
        for old in glob.glob(os.path.join(BENCH, 'bench.*')):
            os.unlink(old)
        # Work that is not in patches/ has none.
        digest = None if os.environ.get('WIP') else series.measured()
        try:
            trees = prepare(names)
            for which, tree in trees.items():
                build(which, tree, os.path.join(BENCH, which))
            task_struct = layouts(trees)
        except subprocess.CalledProcessError as e:
            raise vm.HarnessError(f'{os.path.basename(e.cmd[0])} failed, see above') from e
        found = {'series': digest, 'base': mutants.git(PATCHED, 'log', '-1', '--format=%s', 'base'),
                 'kernels': list(trees), 'counts': count(trees),
                 'vmlinux': {which: vmlinux(which) for which in trees},
                 'bloat': bloat(), 'task_struct': task_struct}
        found['goals'] = bench_report.goals(found)
        bench_report.write(found, os.path.join(BENCH, 'bench'))
        if publish:
            bench_report.write(found, os.path.join(HERE, 'results'))
    bench_report.print_all(found, LAYOUTS)
    print(f'all counts repeated in {RUNS} boots; {os.path.relpath(BENCH)}/bench.json has them, '
          'bench.svg shows them, bloat.txt names the functions that grew')
    if os.environ.get('GOALS') and not all(goal['met'] for goal in found['goals']):
        return vm.FAILED
    return vm.PASSED


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(vm.HARNESS))
    try:
        sys.exit(main())
    except (vm.HarnessError, series.Problem, subprocess.CalledProcessError) as e:
        print(f'vmtest: {e}', file=sys.stderr)
        sys.exit(vm.HARNESS)
    except KeyboardInterrupt:
        sys.exit(130)
