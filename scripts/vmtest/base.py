#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""What "make base" runs: the series' own tests on the kernel without the series.

build/base/linux is the base with nothing but the tests added to it, and with
base/include, which expresses the scopes in what the base has. base.fails says
which tests the base has to fail, and why; any other outcome is an error.
"""
import fcntl
import os
import re
import signal
import subprocess
import sys

import mutants
import suite
import vm

BASE = os.path.join(vm.BUILD, 'base')
TREE = os.path.join(BASE, 'linux')
OUT = os.path.join(BASE, 'out', suite.CONFIG)
LIST = os.path.join(vm.HERE, 'base.fails')
HEADERS = os.path.join(vm.HERE, 'base')
TESTS = 'tools/testing/selftests/memalloc_scope'
TYPES = 'include/linux/memalloc_scope_types.h'
CONFIGS = 'kernel/configs/memalloc_scope'
# Name of a boot, its jobs, and more arguments: what the patched kernel is tested by.
BOOTS = (('base', ['selftest'], []), ('base-movable', *suite.BOOTS['movable']))


def load(path):
    """Return (regular expression, reason) of each line; all of them need a reason."""
    lines = [s for s in vm.read_text(path).splitlines() if s.strip() and not s.startswith('#')]
    regexes = vm.load_patterns(path, True)
    return list(zip(regexes, (s.partition('\t')[2].strip() for s in lines)))


def blob(linux, text):
    done = subprocess.run(['git', '-C', linux, 'hash-object', '-w', '--stdin'], input=text,
                          stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def base_with_tests(linux):
    """Make a commit of the base and of what the tests need, and return it."""
    tip = mutants.tip(linux, os.path.join(BASE, 'index'))
    add = {TYPES: mutants.git(linux, 'rev-parse', f'{tip}:{TYPES}')}
    for where, _, files in os.walk(HEADERS):
        for path in (os.path.join(where, f) for f in files):
            add[os.path.relpath(path, HEADERS)] = blob(linux, vm.read_text(path))
    names = mutants.git(linux, 'ls-tree', '--name-only', tip, os.path.dirname(CONFIGS) + '/')
    for path in (p for p in names.splitlines() if p.startswith(CONFIGS)):
        # What the series itself brings, the base has not got.
        text = mutants.git(linux, 'show', f'{tip}:{path}')
        add[path] = blob(linux, re.sub(r'^.*CONFIG_\w*MEMALLOC_SCOPE.*\n', '', text + '\n',
                                       flags=re.M))
    index = {'GIT_INDEX_FILE': os.path.join(BASE, 'index')}
    mutants.git(linux, 'read-tree', 'base', env=index)
    mutants.git(linux, 'read-tree', f'--prefix={TESTS}/', f'{tip}:{TESTS}', env=index)
    for path, what in add.items():
        # Only ever files that the base has not got: it is to stay as it is.
        if mutants.git(linux, 'ls-tree', '--name-only', 'base', path):
            raise vm.HarnessError(f'the base has a {path}: do not put one on top of it')
        mutants.git(linux, 'update-index', '--add', '--cacheinfo', f'100644,{what},{path}',
                    env=index)
    tree = mutants.git(linux, 'write-tree', env=index)
    os.unlink(index['GIT_INDEX_FILE'])
    return mutants.commit(linux, tree, 'base', 'the base, and the tests of the series')


def prepare():
    """Bring the tree of the base up to date, and build it."""
    linux = os.path.join(vm.BUILD, 'linux')
    for program, env in (('tree.sh', {}), ('build.sh', {'VMTEST_BUILD': BASE})):
        if program == 'build.sh':
            mutants.checkout(linux, TREE, base_with_tests(linux))
        try:
            subprocess.run([os.path.join(vm.HERE, program)], env={**os.environ, **env}, check=True)
        except subprocess.CalledProcessError as e:
            raise vm.HarnessError(
                f'{program} failed, see above' + ('; does the module use something that '
                'scripts/vmtest/base/include lacks?' if env else '')) from e


def outcomes(name):
    """Return {test: passed, failed or skipped} of a boot."""
    parser, _, printer = vm.kunit_tools()
    results = vm.read_text(os.path.join(vm.BUILD, 'run', name, 'results.ktap'))
    status = {parser.TestStatus.SUCCESS: 'passed', parser.TestStatus.SKIPPED: 'skipped'}
    test = parser.parse_run_tests(results.splitlines(), printer.null_printer)
    return {path.partition('/')[2] or path: status.get(leaf.status, 'failed')
            for path, leaf in vm.leaves(test)}


def compare(found, expected):
    """Print the table; return what is not as expected."""
    surprises = []
    used = set()
    width = max(map(len, found), default=0)
    for test, got in found.items():
        entry = next((e for e in expected if e[0].fullmatch(test)), None)
        used.add(entry)
        note = entry[1] if entry else ''
        if (got == 'failed') != bool(entry):
            surprises.append(f"{test} {got}, but " + ('base.fails lists it' if entry else
                                                      'base.fails does not list it'))
            note = f'NOT AS EXPECTED; {note}' if note else 'NOT AS EXPECTED'
        print(f'{got:8} {test:{width}}  {note}'.rstrip(), flush=True)
    surprises += [f'base.fails has "{e[0].pattern}": there is no such test'
                  for e in expected if e not in used]
    return surprises


def main():
    expected = load(LIST)
    os.makedirs(BASE, exist_ok=True)
    with open(os.path.join(BASE, '.lock'), 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        prepare()
        accel, why = vm.choose_accel()
        print(f'accelerator: {accel} ({why})', flush=True)
        found, splats, seconds = {}, [], 0
        for name, jobs, more in BOOTS:
            verdict = vm.boot(vm.boot_parser().parse_args([
                '--name', suite.run_name(name), '--jobs', ','.join(jobs), '--timeout', '240',
                '--kernel', os.path.join(OUT, 'arch/x86/boot/bzImage'),
                '--initrd', os.path.join(OUT, 'initramfs.cpio'), *more]))
            if verdict['exit'] not in (vm.PASSED, vm.FAILED, vm.SPLAT):
                print(vm.describe(verdict))
                print('0 passed, 1 failed, 0 skipped')
                return verdict['exit']
            found.update(outcomes(suite.run_name(name)))
            splats += verdict['splats']
            seconds += verdict['seconds']
    surprises = compare(found, expected)
    for splat in splats:
        print(f'the kernel complained: {splat}')
    for surprise in surprises:
        print(f'not as expected: {surprise}')
    failed = list(found.values()).count('failed')
    skipped = list(found.values()).count('skipped')
    print(f'{seconds:.0f} s; the base fails {failed} of {len(found)} tests, {skipped} skipped; '
          f'records are in build/run/{suite.run_name("base")}*/')
    print(f'{len(found) - skipped - len(surprises)} passed, {len(surprises)} failed, '
          f'{skipped} skipped; passed means: as base.fails says')
    return vm.FAILED if surprises else vm.PASSED


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(vm.HARNESS))
    try:
        sys.exit(main())
    except (vm.HarnessError, subprocess.CalledProcessError) as e:
        print(f'vmtest: {e}', file=sys.stderr)
        # Whoever reads only the last line must not take this for a pass.
        print('0 passed, 1 failed, 0 skipped')
        sys.exit(vm.HARNESS)
    except KeyboardInterrupt:
        sys.exit(130)
