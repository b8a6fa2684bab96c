# SPDX-License-Identifier: GPL-2.0
"""What make bench found: tables for the terminal, goals, JSON, and a picture."""
import json
import os
import re
import statistics

import bench_plot
import vm

INSIDE = re.compile(r'(.*), inside (\w+)$')
PAIR = '_save + restore'
# No allocations, but what their scopes cost there
ELSEWHERE = ('softirq', 'hard interrupt', 'kernel thread', 'page fault')
LINE = 64


def ratios(found, which='patched'):
    """{row: what the series takes, by what the base takes}"""
    base, other = (found['counts'][k]['operations'] for k in ('base', which))
    return {name: other[name] / base[name] for name in other if name in base}


def work(found, which):
    """What a unit of work takes, by the mean of all rounds"""
    return {n: statistics.mean(rounds) for n, rounds in found['counts'][which]['work'].items()}


def resolution(found, name):
    """How far the rounds agree on a ratio. In the same round, all kernels do the same."""
    base, patched = (found['counts'][k]['work'][name] for k in ('base', 'patched'))
    each = [p / b for b, p in zip(base, patched)]
    return f'rounds: {min(each):.4f} to {max(each):.4f}'


def at_most(what, limit, rows):
    """A goal for ratios; to three digits, as they are printed."""
    worst = max(rows, key=rows.get)
    above = sum(round(r, 3) > limit for r in rows.values())
    return {'goal': f'{what}: at most {limit:.3f}',
            'figure': f'{rows[worst]:.3f} ({worst}), {above} of {len(rows)} above',
            'met': not above}


def goals(found):
    """What the series set out for. A goal that is not met is a figure like any other."""
    rows = ratios(found)
    pairs = {n: r for n, r in rows.items() if PAIR in n}
    inside = {n: r for n, r in rows.items() if INSIDE.match(n) and n not in pairs}
    text = {which: found['vmlinux'][which]['text'] for which in ('base', 'patched')}
    grew = {config: by['patched']['size'] - by['base']['size']
            for config, by in found['task_struct'].items()}
    away = [config for config, by in found['task_struct'].items()
            if by['patched']['scope'] // LINE != by['patched']['flags'] // LINE]
    return [
        at_most('no scope open', 1, {n: r for n, r in rows.items()
                                     if n not in inside and n not in pairs}),
        at_most('inside a scope', 1, inside),
        at_most('save and restore', 0.75, pairs),
        at_most('softirq', 1, {n: r for n, r in rows.items() if n.startswith('softirq')}),
        {'goal': 'text of vmlinux: no larger',
         'figure': f"{text['patched'] - text['base']:+} bytes, {text['patched'] / text['base']:.5f}",
         'met': text['patched'] <= text['base']},
        {'goal': 'task_struct: no larger',
         'figure': ', '.join(f'{config} {n:+}' for config, n in grew.items()),
         'met': all(n <= 0 for n in grew.values())},
        {'goal': 'the scopes: in the cache line of the flags',
         'figure': f"not in {', '.join(away)}" if away else f'in all of {len(grew)}',
         'met': not away},
    ]


def number(value):
    return '' if value is None else f'{value:.2f}'.removesuffix('.00')


def print_table(title, kernels, columns, notes=None):
    """Rows of all kernels, each with its ratio to the first."""
    # As the series has them, and then what only the base has.
    names = list(dict.fromkeys(n for k in (*kernels[1:], kernels[0]) for n in columns[k]))
    width = max(map(len, [title, *names]))
    print(f'{title:{width}} {kernels[0]:>10}'
          + ''.join(f' {k:>10} {"ratio":>7}' for k in kernels[1:]))
    for name in names:
        base = columns[kernels[0]].get(name)
        text = f'{name:{width}} {number(base):>10}'
        for k in kernels[1:]:
            value = columns[k].get(name)
            ratio = f'{value / base:.3f}' if base and value is not None else ''
            text += f' {number(value):>10} {ratio:>7}'
        print(f"{text}  {(notes or {}).get(name, '')}".rstrip())
    print()


def print_layouts(found, configs):
    width = max(map(len, configs.values()))
    print(f"{'bytes of task_struct':{width}} {'':10} {'size':>6} {'flags at':>9} {'scope at':>9}"
          f" {'cache lines':>12}")
    for config, by_kernel in found['task_struct'].items():
        for which, at in by_kernel.items():
            title = configs[config] if which == 'base' else ''
            lines = ', '.join(str(at[k] // LINE) for k in ('flags', 'scope') if k in at)
            grew = at['size'] - by_kernel['base']['size']
            print(f"{title:{width}} {which:10} {at['size']:>6} {at['flags']:>9}"
                  f" {at.get('scope', ''):>9} {lines:>12}"
                  f"{f'  {grew:+} bytes' if grew else ''}")
    print()


def print_all(found, configs):
    kernels, counts = found['kernels'], found['counts']
    print_table('instructions', kernels, {k: counts[k]['operations'] for k in kernels})
    print_table('workloads, instructions for each', kernels, {k: work(found, k) for k in kernels},
                {n: resolution(found, n) for n in counts['base']['work']})
    print_layouts(found, configs)
    print_table('bytes of vmlinux', kernels, found['vmlinux'])
    print(found['bloat'])
    print('\ngoals')
    for goal in found['goals']:
        print(f"  {'met' if goal['met'] else 'NOT MET':7}  {goal['goal']}: {goal['figure']}")
    print(flush=True)


def groups(found):
    """The rows of the picture, below their headings; only what both have is comparable."""
    others = found['kernels'][1:]
    base = found['counts']['base']['operations']
    by_kernel = [ratios(found, k) for k in others]
    result = {}
    for name in by_kernel[0]:
        inside = INSIDE.match(name)
        if PAIR in name:
            where = 'save + restore'
            label = name.replace(PAIR, '') if not inside else f'{inside[2]}, nested'
        elif inside:
            where, label = f'inside {inside[2]}', inside[1]
        elif name.startswith(ELSEWHERE):
            where, label = 'elsewhere', name
        else:
            where, label = 'no scope open', name
        result.setdefault(where, []).append((label, number(base[name]),
                                             [r.get(name) for r in by_kernel]))
    whole = {k: work(found, k) for k in found['kernels']}
    result['workloads'] = [(name, f'{took:,.0f}', [whole[k][name] / took for k in others])
                           for name, took in whole['base'].items()]
    return list(result.items())


def write(found, path):
    """path.json and path.svg"""
    vm.write_file(f'{path}.svg', bench_plot.picture(
        'Instructions, by those of the base (1.000); to the left is less',
        groups(found), ['series', *found['kernels'][2:]]))
    vm.write_file(f'{path}.json', json.dumps(found, indent=1) + '\n')
    print(f'wrote {os.path.relpath(path)}.json and .svg', flush=True)
