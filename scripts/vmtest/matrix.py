#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""What "make matrix" runs: the tests on every kernel, and one table at the end.

MATRIX=name,name chooses among the kernels; each is a fragment in kernel/configs/.
"""
import json
import os
import subprocess
import sys
import time

import suite
import vm

CONFIGS = {
    'default': 'x86-64, PREEMPT, lockdep',
    'debug': 'KASAN, raw lock nesting, debug objects, SLUB debugging',
    'kcsan': 'data races, interrupts included',
    'rt': 'PREEMPT_RT',
    'i386': '32-bit x86',
    'prove': 'lockdep knows of scopes: made to report',
    'workload': 'the same, with file systems and block drivers at work',
}
# For these there are tests of their own.
SUITES = {'prove', 'workload'}


def run(config):
    """Build one kernel and run what there is for it; its row of the table."""
    env = {**os.environ, 'CONFIG': config}
    env.pop('SUITE', None)
    if config in SUITES:
        env['SUITE'] = config
    start = time.monotonic()
    print(f'== {config}: {CONFIGS[config]}', flush=True)
    status = subprocess.run([os.path.join(vm.HERE, 'test.sh')], env=env, check=False).returncode
    row = {'config': config, 'exit': status, 'verdict': vm.NAMES.get(status, f'exit {status}'),
           'passed': 0, 'failed': 0, 'skipped': 0, 'seconds': 0}
    if status != vm.HARNESS:
        summary = os.path.join(vm.BUILD, 'run', suite.run_name('summary', config) + '.json')
        with open(summary, encoding='utf-8') as f:
            row = json.load(f)
    return {**row, 'build': round(time.monotonic() - start) - row['seconds']}


def main():
    wanted = [c for c in (os.environ.get('MATRIX') or '').split(',') if c] or list(CONFIGS)
    for config in wanted:
        if config not in CONFIGS:
            raise vm.HarnessError(f"MATRIX={config}: use some of {','.join(CONFIGS)}")
    rows = [run(config) for config in wanted]
    line = '{:8}  {:15}  {:>6}  {:>6}  {:>7}  {:>7}  {:>7}  {}'
    print()
    print(line.format('kernel', 'verdict', 'passed', 'failed', 'skipped', 'build s', 'tests s', ''))
    for r in rows:
        print(line.format(r['config'], r['verdict'], r['passed'], r['failed'], r['skipped'],
                          r['build'], r['seconds'], CONFIGS[r['config']]))
    good = sum(r['exit'] == vm.PASSED for r in rows)
    print(f"{sum(r['passed'] for r in rows)} passed, "
          f"{sum(max(r['failed'], int(r['exit'] != vm.PASSED)) for r in rows)} failed, "
          f"{sum(r['skipped'] for r in rows)} skipped; {good} of {len(rows)} kernels")
    codes = {r['exit'] for r in rows}
    return next((c for c in vm.ORDER if c in codes), vm.HARNESS)


if __name__ == '__main__':
    try:
        sys.exit(main())
    except vm.HarnessError as e:
        print(f'vmtest: {e}', file=sys.stderr)
        sys.exit(vm.HARNESS)
    except KeyboardInterrupt:
        sys.exit(130)
