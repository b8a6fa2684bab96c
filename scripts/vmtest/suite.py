#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""What "make test" runs: the tests in guests, then proof that the harness sees failures.

SUITE chooses: kunit, selftest, prove, controls, scenarios, or all of it (the default).
"make test SUITE=workload" is for scenarios.py, with a kernel of its own.
"""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import vm

CONFIG = vm.CONFIG
# Name of a boot: its jobs, and more arguments.
BOOTS = {
    'all': (['kunit', 'selftest', 'examples', 'table'], []),
    'kunit': (['kunit'], []),
    'selftest': (['selftest', 'examples', 'table'], []),
    # A guest with ZONE_MOVABLE; apart, as its reclaim has less to choose from.
    'movable': (['movable'], ['--append', 'movablecore=32M']),
}
# Deadlocks that lockdep has to find, and what it must take for none: it reports once.
PROVED = ('scope_first', 'request_first', 'nofs', 'nofs_request', 'two_locks', 'work', 'idle_work',
          'thread', 'adopted')
BOOTS['prove'] = (['prove'], ['--append', 'kunit.enable=0 vmtest.only=global.legal'])
for proved in PROVED:
    BOOTS[f'prove-{proved}'] = (['prove'], [
        '--append', f'kunit.enable=0 vmtest.only=prove.{proved}.finds',
        '--provokes', '^WARNING: possible circular locking dependency'])
PROVE = [name for name in BOOTS if name.startswith('prove')]
# The tool that shows what scopes cost reclaim, and who opened them
BOOTS['top'] = (['top'], [])
TOP = ['top']
# The others do not know who opened a scope, or of deadlocks.
if CONFIG not in ('default', 'debug', 'kcsan', 'rt', 'prove'):
    TOP = []
if CONFIG != 'prove':
    PROVE = []
SUITES = {'all': ['all', 'movable', *TOP, *PROVE], 'kunit': ['kunit'],
          'selftest': ['selftest', 'movable', *TOP], 'prove': PROVE, 'controls': [], 'scenarios': []}

# A guest that misbehaves, and the exit code that must come of it. What is to be
# seen in the guest's records proves that it failed for the reason intended.
GUEST_CONTROLS = [
    ('panic', vm.PANIC, 'Kernel panic - not syncing: vmtest control'),
    ('hang', vm.HANG, 'vmtest: job control-hang'),
    # A guest that hangs reports its tasks.
    ('sleep', vm.HANG, 'task:sleep '),
    ('warn', vm.SPLAT, 'vmtest control'),
    ('lockdep', vm.SPLAT, 'possible circular locking dependency'),
    ('kunit-fail', vm.FAILED, 'not ok 2 control_fails'),
    ('test-fail', vm.FAILED, 'not ok 2 fails'),
    ('exit-fail', vm.FAILED, 'not ok 1 - control-exit-fail'),
    ('lost-suite', vm.FAILED, 'no_such_suite # expected'),
    ('lost-test', vm.MISSING, 'ok 2 passes'),
    ('lost-end', vm.MISSING, 'ok 1 passes'),
]


def run_name(name, config=CONFIG):
    return name if config == 'default' else f'{config}-{name}'


def vm_boot(name, jobs, *more, env=None):
    """Boot through the command line, whose exit code is what is tested."""
    return subprocess.Popen(
        [sys.executable, os.path.join(vm.HERE, 'vm.py'), 'boot', '--name', run_name(name),
         '--jobs', jobs, *more], env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def records(name):
    where = os.path.join(vm.BUILD, 'run', run_name(name))
    return ''.join(vm.read_text(os.path.join(where, f)) for f in ('console.log', 'results.ktap'))


def guest_control(control):
    name, expected, evidence = control
    # Silence is what the hanging guests are about: do not wait for it for long.
    process = vm_boot(f'control-{name}', f'control-{name}', '--quiet-timeout', '4')
    said = process.communicate()[0].strip()
    if process.returncode == expected and evidence not in records(f'control-{name}'):
        return name, expected, process.returncode, f'no "{evidence}" in its records; {said}'
    return name, expected, process.returncode, said


def broken_initrd(_):
    with tempfile.NamedTemporaryFile(suffix='.cpio') as f:
        f.write(b'070701, but no archive' * 1000)
        f.flush()
        process = vm_boot('control-initrd', 'kunit', '--initrd', f.name)
        said = process.communicate()[0].strip()
    return 'initrd', vm.PANIC, process.returncode, said


def missing_kernel(_):
    process = vm_boot('control-kernel', 'kunit', '--kernel', '/nonexistent/bzImage')
    said = process.communicate()[0].strip()
    return 'kernel-missing', vm.HARNESS, process.returncode, said


def missing_qemu(_):
    process = vm_boot('control-qemu', 'kunit', env={'PATH': '/nonexistent'})
    said = process.communicate()[0].strip()
    return 'qemu-missing', vm.HARNESS, process.returncode, said


def killed_qemu(_):
    process = vm_boot('control-killed', 'control-sleep')
    pid = os.path.join(vm.BUILD, 'run', run_name('control-killed'), 'qemu.pid')
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if 'job control-sleep' in records('control-killed') and os.path.exists(pid):
            os.kill(int(vm.read_text(pid)), signal.SIGKILL)
            break
        time.sleep(0.1)
    said = process.communicate()[0].strip()
    return 'qemu-killed', vm.HARNESS, process.returncode, said


def controls():
    """Each negative control is one test: it must end with its own exit code."""
    todo = [(guest_control, c) for c in GUEST_CONTROLS]
    # The hanging ones take longest: start them first.
    todo.sort(key=lambda t: t[1][1] != vm.HANG)
    todo += [(f, None) for f in (broken_initrd, killed_qemu, missing_kernel, missing_qemu)]
    passed = failed = 0
    with ThreadPoolExecutor(2) as pool:
        for name, expected, got, said in pool.map(lambda t: t[0](t[1]), todo):
            if got == expected and 'in its records' not in said:
                passed += 1
                print(f'control {name}: exit {got} as expected', flush=True)
            else:
                failed += 1
                print(f'control {name}: FAILED: exit {got}, expected {expected}: {said}', flush=True)
    return passed, failed


def golden():
    """Judge stored boots: NAME.END.EXIT says how one ended and what it must give.

    .log is its console, .ktap its results; clean.exited.0 stands in for the missing one.
    """
    passed = failed = 0
    where = os.path.join(vm.HERE, 'golden')
    for stem in sorted({os.path.splitext(f)[0] for f in os.listdir(where)}):
        name, end, expected = stem.rsplit('.', 2)
        console, results = (
            vm.read_text(os.path.join(where, (stem if os.path.exists(os.path.join(where, stem + e))
                                              else 'clean.exited.0') + e)) for e in ('.log', '.ktap'))
        verdict, _ = vm.judge(console, results, ['job'], end)
        if verdict['exit'] == int(expected):
            passed += 1
        else:
            failed += 1
            print(f"golden {name}: FAILED: {verdict['verdict']} ({verdict['exit']}), "
                  f"expected {expected}: {verdict['reason']}")
    for reason, expected in (('\tthis test', ([], 1)), ('', None)):
        with tempfile.NamedTemporaryFile('w', suffix='.allow') as f:
            f.write('vmtest_controls_init' + reason + '\n')
            f.flush()
            try:
                bad, allowed = vm.find_splats(
                    vm.read_text(os.path.join(where, 'warn.exited.3.log')), f.name)
                got = bad, len(allowed)
            except vm.HarnessError:
                got = None
        if got == expected:
            passed += 1
        else:
            failed += 1
            print(f'golden allowlist: FAILED: {got}, expected {expected}')
    print(f'classifier: {passed} of {passed + failed} stored boots judged as expected')
    return passed, failed


def run_boot(name):
    """One boot of tests: (exit code, passed, failed, skipped)."""
    jobs, more = BOOTS[name]
    process = vm_boot(name, ','.join(jobs), *more)
    said = process.communicate()[0]
    print(''.join(s + '\n' for s in said.splitlines() if not s.startswith('accelerator')),
          end='', flush=True)
    vm.print_figures(run_name(name))
    try:
        with open(os.path.join(vm.BUILD, 'run', run_name(name), 'verdict.json')) as f:
            counts = json.load(f)['counts']
    except (OSError, ValueError):
        return process.returncode or vm.HARNESS, 0, 1, 0
    failed = counts['failed'] + counts['crashed']
    return (process.returncode, counts['passed'],
            failed or int(process.returncode != vm.PASSED), counts['skipped'])


def scenarios():
    """The scenarios, on their own kernel: (exit code, passed, failed, skipped)."""
    done = subprocess.run([sys.executable, '-B', os.path.join(vm.HERE, 'scenarios.py')],
                          env={**os.environ, 'CONFIG': 'scenarios'}, check=False)
    try:
        with open(os.path.join(vm.BUILD, 'run', 'scenarios-summary.json')) as f:
            got = json.load(f)
        return done.returncode, got['passed'], got['failed'], got['skipped']
    except (OSError, ValueError):
        return done.returncode or vm.HARNESS, 0, 1, 0


def finish(summary, suite, start, codes, passed, failed, skipped):
    """Write down and print what came of it all; the exit code."""
    seconds = round(time.monotonic() - start)
    code = next((c for c in vm.ORDER if c in codes), vm.HARNESS)
    os.makedirs(os.path.dirname(summary), exist_ok=True)
    vm.write_file(summary, json.dumps({
        'config': CONFIG, 'suite': suite, 'exit': code, 'verdict': vm.NAMES.get(code, code),
        'passed': passed, 'failed': failed, 'skipped': skipped, 'seconds': seconds}) + '\n')
    print(f'{suite}: {seconds} s; records are in build/run/')
    print(f'{passed} passed, {failed} failed, {skipped} skipped')
    return code


def main():
    suite = os.environ.get('SUITE') or 'all'
    if suite not in SUITES:
        print(f"vmtest: SUITE={suite}: use one of {', '.join(SUITES)}", file=sys.stderr)
        return vm.HARNESS
    if suite == 'prove' and not PROVE:
        print(f'vmtest: SUITE=prove: lockdep of CONFIG={CONFIG} is not told of scopes: add CONFIG=prove',
              file=sys.stderr)
        return vm.HARNESS
    passed = failed = skipped = 0
    codes = {vm.PASSED}
    start = time.monotonic()
    summary = os.path.join(vm.BUILD, 'run', run_name('summary') + '.json')
    if os.path.exists(summary):
        os.unlink(summary)
    try:
        accel, why = vm.choose_accel()
        print(f'accelerator: {accel} ({why})', flush=True)
        for name in SUITES[suite]:
            code, good, bad, skips = run_boot(name)
            codes.add(code)
            passed, failed, skipped = passed + good, failed + bad, skipped + skips
        # The harness is the same for every kernel: once is enough.
        if suite == 'controls' or suite == 'all' and CONFIG == 'default':
            for part in (golden, controls):
                good, bad = part()
                passed += good
                failed += bad
                if bad:
                    codes.add(vm.FAILED)
        # They have a kernel of their own.
        if suite == 'scenarios' or suite == 'all' and CONFIG == 'default':
            code, good, bad, skips = scenarios()
            codes.add(code)
            passed, failed, skipped = passed + good, failed + bad, skipped + skips
    except vm.HarnessError as e:
        print(f'vmtest: {e}', file=sys.stderr)
        codes.add(vm.HARNESS)
        failed += 1
    return finish(summary, suite, start, codes, passed, failed, skipped)


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
