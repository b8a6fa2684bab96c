#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""What "make mutants" runs: break the kernel on purpose, and see that a test notices.

Each mutant of mutants*.txt is applied to a tree of its own, build/mutants/linux,
built, booted and judged. "mutants.py check [tree]" only tells whether all edits
still match the source.
"""
import fcntl
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import scenarios
import suite
import vm

BUILD = vm.BUILD
MUTANTS = os.path.join(BUILD, 'mutants')
TREE = os.path.join(MUTANTS, 'linux')
OUT = os.path.join(MUTANTS, 'out', suite.CONFIG)
LISTS = [os.path.join(vm.HERE, f'mutants{what}.txt')
         for what in ('', '.context', '.debug', '.nolock', '.nowait', '.prctl',
                     '.scenarios')]
# On the kernel of the scenarios each of these is a boot.
SCENARIOS = suite.CONFIG == 'scenarios'
BOOTS = list(scenarios.SCENARIOS) if SCENARIOS else suite.SUITES['all']
KEYS = ('mutant', 'file', 'rule', 'config', 'boot', 'killed-by', 'splat', 'runs', 'equivalent')
KILLED, OTHER, SURVIVED, BROKEN = 'killed', 'other test', 'SURVIVED', 'ERROR'


def load(path, found):
    """Add the blocks of a list; each has the texts to find and to put in their place."""
    blank = False
    for nr, line in enumerate(vm.read_text(path).splitlines(), 1):
        key, colon, value = line.partition(': ')
        if not line or line.startswith('#'):
            blank = not line
            continue
        if key == 'mutant':
            found.append({'name': value, 'hunks': [['', '']]})
        elif not found:
            raise vm.HarnessError(f'{path}:{nr}: a mutant starts with "mutant: name"')
        elif line[0] in '-+ ':
            hunk = found[-1]['hunks'][-1]
            # An empty line within an edit belongs to it, and needs no blank in front.
            if blank and any(hunk):
                hunk[:] = [text + '\n' for text in hunk]
            for side, mark in enumerate('-+'):
                if line[0] in (mark, ' '):
                    hunk[side] += line[1:] + '\n'
        elif line == '@@':
            found[-1]['hunks'].append(['', ''])
        elif colon and key in KEYS:
            found[-1][key] = f'{found[-1][key]} {value}' if key in found[-1] else value
        else:
            raise vm.HarnessError(f'{path}:{nr}: neither "key: value" nor a line of an edit')
        blank = False
    for m in found:
        needed = ['file', 'rule'] + ([] if 'equivalent' in m or 'splat' in m else ['killed-by'])
        lacks = [k for k in needed if k not in m]
        if lacks or any(old == new or not old for old, new in m['hunks']):
            raise vm.HarnessError(f"{path}: mutant {m['name']} has no {lacks[0] if lacks else 'edit'}")
        if m['file'].endswith('.h') and '/include/' in '/' + m['file']:
            raise vm.HarnessError(f"{path}: mutant {m['name']}: this header would rebuild the "
                                  'whole kernel: break its caller')
    names = [m['name'] for m in found]
    for name in names:
        if names.count(name) > 1:
            raise vm.HarnessError(f'{path}: mutant {name} is there twice')
    return found


def mutate(m, tree):
    """Return the file as it is, and as the mutant has it."""
    before = vm.read_text(os.path.join(tree, m['file']))
    after = before
    for old, new in m['hunks']:
        # Whole lines only.
        count = ('\n' + after).count('\n' + old)
        if count != 1:
            raise vm.HarnessError(f"mutant {m['name']}: these lines are {count} times in {m['file']}, "
                                  f'not once: correct the list:\n{old}'.rstrip())
        after = ('\n' + after).replace('\n' + old, '\n' + new)[1:]
    return before, after


def check(mutants, tree):
    bad = 0
    for m in mutants:
        try:
            mutate(m, tree)
        except vm.HarnessError as e:
            print(f'vmtest: {e}', file=sys.stderr)
            bad += 1
    if bad:
        raise vm.HarnessError(f'{bad} of {len(mutants)} mutants do not match the source')


def git(where, *args, env=None):
    done = subprocess.run(['git', '-C', where, '-c', 'gc.auto=0', '-c', 'core.hooksPath=/dev/null', *args],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env={**os.environ, **(env or {})})
    if done.returncode:
        raise vm.HarnessError(f'git {args[0]} failed in {where}: {done.stderr.strip()}')
    return done.stdout.strip()


def commit(linux, tree, parent, message):
    """The same tree makes the same commit."""
    who = {f'GIT_{who}_{what}': value for who in ('AUTHOR', 'COMMITTER') for what, value in
           (('NAME', 'vmtest'), ('EMAIL', 'vmtest@localhost'), ('DATE', '1767225600 +0000'))}
    return git(linux, 'commit-tree', '-p', parent, '-m', message, tree, env=who)


def tip(linux, index):
    """The commit that build/linux is, changes that WIP=1 allows included."""
    head = git(linux, 'rev-parse', 'HEAD')
    if not git(linux, 'status', '--porcelain'):
        return head
    shutil.copy(os.path.join(linux, '.git/index'), index)
    git(linux, 'add', '-A', env={'GIT_INDEX_FILE': index})
    tree = git(linux, 'write-tree', env={'GIT_INDEX_FILE': index})
    os.unlink(index)
    return commit(linux, tree, head, 'build/linux as it is')


def checkout(linux, where, what):
    """Bring a worktree to a commit; what was changed there is undone."""
    try:
        git(where, 'checkout', '-q', '-f', '--detach', what)
    except (vm.HarnessError, OSError):
        parent = os.path.dirname(where)
        if shutil.disk_usage(parent).free < 3 << 30:
            raise vm.HarnessError(f'a kernel tree needs 3 GiB below {parent}: make room') from None
        print(f'checking out {os.path.relpath(where)}', file=sys.stderr)
        shutil.rmtree(where, ignore_errors=True)
        git(linux, 'worktree', 'prune')
        git(linux, 'worktree', 'add', '-q', '-f', '--detach', where, what)


def run(*command, **env):
    """Run a program to its end, or see to it that nothing of it is left; (status, what it said)."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors='replace',
                          start_new_session=True, env={**os.environ, **env}) as process:
        try:
            said = process.communicate()[0]
        except BaseException:
            # One signal is enough: make hands down those that it gets.
            for sig in (signal.SIGINT, signal.SIGTERM):
                signal.signal(sig, signal.SIG_IGN)
            # A compiler that is still at work would leave a mutant's object behind.
            for sig in [signal.SIGTERM, signal.SIGCONT] + [0] * 100 + [signal.SIGKILL]:
                try:
                    os.killpg(process.pid, sig)
                except ProcessLookupError:
                    break
                process.poll()
                time.sleep(0.1)
            raise
    return process.returncode, said.strip()


def build(*what):
    status, said = run(os.path.join(vm.HERE, 'build.sh'), *what, VMTEST_BUILD=MUTANTS)
    if status:
        raise vm.HarnessError('it does not build: ' + (said.partition('vmtest: ')[2] or said))


def boot(name, kind='all', only='', kernel=''):
    """Boot as make test does, with all tests or with those named alone."""
    if SCENARIOS:
        return scenarios.SCENARIOS[kind].boot(name, only=only, kernel=kernel)
    jobs, more = suite.BOOTS[kind]
    more = [*more, *(['--append', f'vmtest.only={only}'] if only else []),
            *(['--kernel', kernel] if kernel else [])]
    return vm.boot(vm.boot_parser().parse_args(
        ['--name', name, '--jobs', ','.join(j for j in jobs if j != 'table'), *more]))


def is_one_of(name, tests):
    return any(t == name or t.endswith('/' + name) for t in tests)


def passed_tests(kind):
    """Names of the tests that one unmutated boot reported as passed, without those skipped."""
    text = vm.read_text(os.path.join(vm.BUILD, 'run', f'unmutated-{kind}', 'results.ktap'))
    return [t for t, rest in re.findall(r'^ *ok \d+ (?:- )?(\S+)(.*)$', text, re.M)
            if '# SKIP' not in rest]


def kind_of(m, passing):
    """The boot that has all tests which are named for a mutant."""
    for kind, tests in passing.items():
        if all(is_one_of(n, tests) for n in m.get('killed-by', '').split()):
            return kind
    return None


def judge(m, verdict):
    """Return (outcome, by whom)."""
    failed = verdict['failed_tests']
    by = [n for n in m.get('killed-by', '').split() if is_one_of(n, failed)]
    if verdict['exit'] == vm.HARNESS:
        return BROKEN, verdict['reason']
    if verdict['exit'] == vm.PASSED:
        return SURVIVED, 'nobody'
    if 'splat' in m:
        by += [s for s in verdict['splats'] if re.search(m['splat'], s)][:1]
    if by and len(by) == len(m.get('killed-by', '').split()) + ('splat' in m):
        return KILLED, ', '.join(by)
    return OTHER, ', '.join(t.split('/')[-1] for t in failed) or verdict['reason']


def build_one(m, passing):
    """Apply, build, revert; (what is known so far, kind of boot or None, its kernel)."""
    path = os.path.join(TREE, m['file'])
    before, after = mutate(m, TREE)
    result = {k: m.get(k, '') for k in ('name', 'file', 'rule', 'killed-by', 'splat')}
    kind = kind_of(m, passing)
    if not kind:
        tests = [t for some in passing.values() for t in some]
        bad = [n for n in m['killed-by'].split() if not is_one_of(n, tests)]
        return {**result, 'seconds': 0, 'outcome': BROKEN, 'by': (
            f'{bad[0]} does not pass without the mutant: is it skipped, or is there none?' if bad
            else 'the tests named are of different boots')}, None, None
    kernel = os.path.join(MUTANTS, f"bzImage.{m['name']}")
    start = time.monotonic()
    try:
        vm.write_file(path, after)
        build('kernel')
        shutil.copy(os.path.join(OUT, 'arch/x86/boot/bzImage'), kernel)
    except vm.HarnessError as e:
        result.update(outcome=BROKEN, by=str(e))
        kind = None
    finally:
        vm.write_file(path, before)
        # Whatever was interrupted: make must not take this for up to date.
        try:
            os.unlink(os.path.join(OUT, m['file'][:-1] + 'o'))
        except FileNotFoundError:
            pass
    result['seconds'] = round(time.monotonic() - start)
    return result, kind, kernel


def boot_one(m, result, kind, kernel):
    """Boot what was built, and judge it."""
    start = time.monotonic()
    try:
        # The KUnit suites run anyhow.
        tests = f"{m.get('killed-by', '')} {m.get('runs', '')}".split()
        verdict = boot(m['name'], kind, ','.join(tests or ['none']), kernel)
        result['outcome'], result['by'] = judge(m, verdict)
        result.update({k: verdict[k] for k in ('verdict', 'failed_tests', 'splats')})
    except vm.HarnessError as e:
        result['outcome'], result['by'] = BROKEN, str(e)
    finally:
        os.unlink(kernel)
    result['seconds'] += round(time.monotonic() - start)
    return result


def select(mutants):
    only = [n for n in (os.environ.get('ONLY') or '').split(',') if n]
    for name in only:
        if name not in [m['name'] for m in mutants]:
            raise vm.HarnessError(f'ONLY={name}: no such mutant in scripts/vmtest/mutants*.txt')
    return [m for m in mutants
            if (m['name'] in only if only else m.get('config', 'default') == suite.CONFIG)]


def unmutated(kinds):
    """The kernel as it is must pass, or the score means nothing."""
    start = time.monotonic()
    try:
        build()
    except vm.HarnessError as e:
        raise vm.HarnessError(f'the kernel without a mutant: {e}') from None
    for kind in kinds:
        verdict = boot(f'unmutated-{kind}', kind)
        print(vm.describe(verdict), flush=True)
        if verdict['exit']:
            break
    return verdict, round(time.monotonic() - start)


def score(mutants, equivalent, kinds):
    """Try all of them, and print the table."""
    passing = {kind: passed_tests(kind) for kind in kinds}
    width = max(len(m['name']) for m in mutants + equivalent)
    results = []
    row = '{:10}  {:' + str(width) + '}  {:>5}  {}'
    print(row.format('outcome', 'mutant', 's', 'by; the rule that it breaks'))

    def report(m, r):
        results.append(r)
        print(row.format(r['outcome'], r['name'], r['seconds'], f"{r['by']}; {r['rule']}"), flush=True)
        if r['outcome'] == OTHER:
            print(f"            expected: {m.get('killed-by', '')} {m.get('splat', '')}", flush=True)

    # One is booted while the next is built: a boot sleeps most of the time.
    booting = []
    pool = ThreadPoolExecutor(1)
    try:
        for m in mutants:
            result, kind, kernel = build_one(m, passing)
            if kind:
                future = pool.submit(boot_one, m, result, kind, kernel)
            else:
                future = pool.submit(lambda r: r, result)
            booting.append((m, future))
            while len(booting) > 1:
                m, future = booting.pop(0)
                report(m, future.result())
        for m, future in booting:
            report(m, future.result())
    finally:
        pool.shutdown(cancel_futures=True)
    for m in equivalent:
        print(row.format('equivalent', m['name'], '', m['equivalent']))
    return results


def main():
    mutants = []
    for path in LISTS:
        mutants = load(path, mutants)
    if sys.argv[1:2] == ['check']:
        check(mutants, sys.argv[2] if len(sys.argv) > 2 else os.path.join(BUILD, 'linux'))
        return vm.PASSED
    mutants = select(mutants)
    equivalent = [m for m in mutants if 'equivalent' in m]
    mutants = [m for m in mutants if 'equivalent' not in m]

    report = os.path.join(BUILD, 'run', suite.run_name('mutants') + '.json')
    os.makedirs(os.path.dirname(report), exist_ok=True)
    os.makedirs(MUTANTS, exist_ok=True)
    with open(os.path.join(MUTANTS, '.lock'), 'w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise vm.HarnessError('another make mutants is running: wait for it') from None
        if os.path.exists(report):
            os.unlink(report)
        status, said = run(os.path.join(vm.HERE, 'tree.sh'))
        if status:
            raise vm.HarnessError(said.replace('vmtest: ', ''))
        if said:
            print(said, file=sys.stderr)
        linux = os.path.join(BUILD, 'linux')
        checkout(linux, TREE, tip(linux, os.path.join(MUTANTS, 'index')))
        for left in glob.glob(os.path.join(MUTANTS, 'bzImage.*')):
            os.unlink(left)
        check(mutants + equivalent, TREE)
        vm.BUILD = MUTANTS
        accel, why = vm.choose_accel()
        print(f'accelerator: {accel} ({why})', flush=True)
        kinds = [k for k in BOOTS if not SCENARIOS or k in {m.get('boot') for m in mutants}]
        base, seconds = unmutated(kinds)
        if base['exit']:
            print('vmtest: without a mutant the kernel has to pass: see '
                  f"{os.path.relpath(MUTANTS)}/run/{base['name']}/console.log", file=sys.stderr)
            print('0 passed, 1 failed, 0 skipped')
            return base['exit']
        results = score(mutants, equivalent, kinds) if mutants + equivalent else []

    killed = sum(r['outcome'] == KILLED for r in results)
    vm.write_file(report, json.dumps({
        'killed': killed, 'tried': len(results), 'unmutated_seconds': seconds, 'mutants': results,
        'equivalent': [{k: m[k] for k in ('name', 'file', 'rule', 'equivalent')} for m in equivalent],
    }, indent=1) + '\n')
    print(f'{killed} of {len(results)} mutants killed; records are in {os.path.relpath(MUTANTS)}/run/')
    print(f'{killed} passed, {len(results) - killed} failed, {len(equivalent)} skipped')
    if any(r['outcome'] == BROKEN for r in results):
        return vm.HARNESS
    return vm.PASSED if killed == len(results) else vm.FAILED


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(vm.HARNESS))
    try:
        sys.exit(main())
    except vm.HarnessError as e:
        print(f'vmtest: {e}', file=sys.stderr)
        # Whoever reads only the last line must not take this for a pass.
        print('0 passed, 1 failed, 0 skipped')
        sys.exit(vm.HARNESS)
    except KeyboardInterrupt:
        sys.exit(130)
