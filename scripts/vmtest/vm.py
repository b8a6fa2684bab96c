#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Boot a kernel in QEMU, watch it, and judge what it left behind.

A guest that panics ends QEMU with status 0, so a good exit status means
nothing here: a boot passes only if it says on the results channel, which no
kernel message can disturb, that every planned test reported.
"""
import argparse
import ctypes
import json
import mmap
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import host

# In order of precedence: the first that applies is the verdict.
HARNESS, PANIC, HANG, SPLAT, MISSING, FAILED, PASSED = 6, 2, 4, 3, 5, 1, 0
ORDER = (HARNESS, PANIC, HANG, SPLAT, MISSING, FAILED, PASSED)
NAMES = {HARNESS: 'harness failure', PANIC: 'panic', HANG: 'hang', SPLAT: 'splat',
         MISSING: 'results missing', FAILED: 'test failed', PASSED: 'passed'}

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BUILD = os.environ.get('BUILD') or os.path.join(TOP, 'build')
CACHE = os.environ.get('CACHE') or os.path.join(
    os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'), 'memalloc-scope')
QEMU = 'qemu-system-x86_64'
PORT = 'vmtest.results'
# How much longer the same boot may take without KVM, on a machine that has
# other things to do as well.
SCALE = {'kvm': 1, 'tcg': 4}
# Kernels that check a lot are slower, and need memory of their own for it.
CONFIG = os.environ.get('CONFIG') or 'default'
SLOW = {'debug': 4, 'kcsan': 4, 'rt': 2}
MEMORY = {'debug': '384M', 'kcsan': '320M'}
# Kernels for machines with PCI
PCS = ('scenarios', 'workload')
# Without KVM a busy host can starve the emulated timers just when the kernel
# compares them, half a second into its boot; it then goes on without
# high-resolution timers, and would run other tests than those that were meant.
STARVED = re.compile(rb'APIC timer disabled due to verification failure|Marking TSC unstable')
# And a CPU may run into a breakpoint that another has removed before, where the kernel
# patches its jump labels: seen in a few of some hundred boots, cause not found. No
# more than that is forgiven: it has to be the first complaint of all.
STALE = re.compile(r'Oops: int3: 0000 \[#1\]')
RESTARTS = 5
# For those who boot in threads, to which no signal comes: set it, and all guests end.
STOPPING = threading.Event()


# By default no ACPI and no PCI: a smaller kernel, and the CPUs are in the MP table.
# Disks, network cards and NUMA nodes want a PC. What the ports need comes second.
MACHINES = {'microvm': ('microvm,acpi=off,rtc=on', 'virtio-serial-device'),
            'q35': ('q35', 'virtio-serial-pci')}


class HarnessError(Exception):
    """Something other than the guest is wrong; the text says what to do."""


def qemu_path():
    path = shutil.which(QEMU)
    if not path:
        raise HarnessError(f'{QEMU} is not installed: apt-get install qemu-system-x86')
    return path


def probe_kvm():
    """Say whether KVM really runs guests, and why (not).

    A nested /dev/kvm may open, and even create a VM, yet hang every guest. So
    run one: a ROM that counts down from 10^8 and ends through isa-debug-exit.
    """
    if not os.access('/dev/kvm', os.R_OK | os.W_OK):
        return False, '/dev/kvm is missing or not accessible'
    code = (b'\x66\xb9' + (10 ** 8).to_bytes(4, 'little')   # mov ecx, 10^8
            + b'\x66\x49'                                   # dec ecx
            + b'\x75\xfc'                                   # jnz to the dec
            + b'\xb0\x15\xe6\xf4'                           # out 0xf4, 0x15
            + b'\xf4\xeb\xfd')                              # hlt for ever
    rom = bytearray(b'\xf4' * 65536)
    rom[0:len(code)] = code
    rom[0xfff0:0xfff3] = b'\xe9' + ((0x10000 - 0xfff3) & 0xffff).to_bytes(2, 'little')  # jmp 0
    with tempfile.NamedTemporaryFile(suffix='.rom') as image:
        image.write(rom)
        image.flush()
        cmd = [qemu_path(), '-nodefaults', '-no-user-config', '-display', 'none', '-M', 'microvm',
               '-m', '16M', '-accel', 'kvm', '-cpu', 'host', '-bios', image.name, '-no-reboot',
               '-device', 'isa-debug-exit,iobase=0xf4,iosize=1']
        try:
            status = subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL, timeout=3).returncode
        except subprocess.TimeoutExpired:
            return False, '/dev/kvm opens, but a guest that counts to 10^8 did not finish in 3 s'
    if status != 0x15 << 1 | 1:
        return False, f'/dev/kvm opens, but QEMU ended a trial guest with status {status}'
    return True, 'a trial guest ran'


def host_tsc_khz():
    """Rate of the host's TSC, which is what a guest reads without KVM; 0 if unknown.

    A guest on a busy host fails to calibrate against the emulated timer, falls
    back to jiffies, and then has no high-resolution timers: so tell it.
    """
    if os.uname().machine != 'x86_64' or 'constant_tsc' not in read_text('/proc/cpuinfo'):
        return 0
    code = b'\x0f\x31\x48\xc1\xe2\x20\x48\x09\xd0\xc3'  # rdtsc; shl rdx,32; or rax,rdx; ret
    try:
        with mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
            page.write(code)
            anchor = ctypes.c_char.from_buffer(page)
            rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(anchor))
            rates = []
            for _ in range(5):
                ns, ticks = time.monotonic_ns(), rdtsc()
                time.sleep(0.02)
                rates.append((rdtsc() - ticks) * 1000000 // (time.monotonic_ns() - ns))
            del rdtsc, anchor
            return sorted(rates)[2]
    except OSError:
        return 0


def choose_accel():
    """Return (accelerator, reason); the probe's answer is kept for one boot of the host."""
    forced = os.environ.get('ACCEL')
    if forced:
        if forced not in SCALE:
            raise HarnessError(f'ACCEL={forced}: use kvm or tcg')
        return forced, 'ACCEL says so'
    with open('/proc/sys/kernel/random/boot_id') as f:
        key = [f.read().strip(), qemu_path(), os.path.getmtime(qemu_path())]
    path = os.path.join(CACHE, 'accel.json')
    try:
        with open(path) as f:
            saved = json.load(f)
        if saved['key'] == key:
            return saved['accel'], saved['why']
    except (OSError, ValueError, KeyError):
        pass
    works, why = probe_kvm()
    accel = 'kvm' if works else 'tcg'
    os.makedirs(CACHE, exist_ok=True)
    write_file(path, json.dumps({'key': key, 'accel': accel, 'why': why}))
    return accel, why


def write_file(path, text):
    """A reader sees the old file or the whole new one."""
    temporary = f'{path}.{os.getpid()}.tmp'
    with open(temporary, 'w', encoding='utf-8') as f:
        f.write(text)
    os.replace(temporary, path)


def qemu_machine(accel, args):
    append = ['console=ttyS0', 'panic=-1', 'reboot=t', 'printk.time=1', 'rdinit=/init',
              # What a guest that hangs is asked for: its tasks, and their scopes.
              # To a machine without PCI, any NMI is a system error.
              'sysctl.kernel.panic_on_unrecovered_nmi=1', 'unknown_nmi_panic',
              'panic_sys_info=tasks']
    if args.jobs:
        append.append('vmtest.jobs=' + ','.join(args.jobs))
    khz = host_tsc_khz() if accel == 'tcg' else 0
    if khz:
        append += [f'tsc_early_khz={khz}', 'tsc=reliable']
    append += args.append
    return [qemu_path(), '-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot',
            '-M', MACHINES[args.machine][0],
            *(['-accel', 'kvm', '-cpu', 'host'] if accel == 'kvm' else
              ['-accel', 'tcg,thread=multi', '-cpu', 'max']),
            '-smp', str(args.smp), '-m', args.mem,
            '-kernel', args.kernel, '-initrd', args.initrd, '-append', ' '.join(append),
            '-device', MACHINES[args.machine][1], *args.qemu]


def with_channels(machine, console, results):
    return machine + ['-chardev', console, '-serial', 'chardev:console', '-chardev', results,
                      '-device', f'virtserialport,chardev=results,name={PORT}']


def watch(process, files, quiet, total, echo, picky, outside):
    """Wait for the end; say how it came: exited, quiet, timeout or (if picky) starved."""
    start = last = time.monotonic()
    seen = [0] * len(files)
    attached = False
    while True:
        ended = process.poll() is not None
        attached = attached or outside.attach()
        sizes = [os.path.getsize(f) if os.path.exists(f) else 0 for f in files]
        now = time.monotonic()
        if sizes != seen:
            if sizes[0] > seen[0]:
                with open(files[0], 'rb') as f:
                    f.seek(seen[0] if echo else 0)
                    text = f.read(sizes[0] - f.tell())
                if echo:
                    sys.stdout.write(text.decode('utf-8', 'replace'))
                    sys.stdout.flush()
                # After that the console is not worth reading again and again.
                picky = picky and sizes[0] < 32768
                if picky and STARVED.search(text):
                    return 'starved'
            seen, last = sizes, now
        if ended:
            return 'exited'
        if STOPPING.is_set():
            return 'it was interrupted'
        if now - last > quiet:
            return 'quiet'
        if now - start > total:
            return 'timeout'
        time.sleep(0.05)


def read_text(path):
    try:
        with open(path, encoding='utf-8', errors='replace', newline=None) as f:
            return f.read()
    except FileNotFoundError:
        return ''


def load_patterns(path, with_reason):
    """Regexes of one file; an allowlist entry without a reason is an error."""
    found = []
    for nr, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip() or line.startswith('#'):
            continue
        regex, _, reason = line.partition('\t')
        if with_reason and not reason.strip():
            raise HarnessError(f'{path}:{nr}: an allowed splat needs a reason after a tab')
        try:
            found.append(re.compile(regex))
        except re.error as e:
            raise HarnessError(f'{path}:{nr}: bad regular expression: {e}') from e
    return found


def find_splats(console, allowlist=None, provokes=''):
    """Return the first lines of (forbidden, allowed) kernel complaints."""
    patterns = load_patterns(os.path.join(HERE, 'splats.txt'), False)
    lists = [allowlist] if allowlist else [os.path.join(HERE, 'splats.allow'),
                                           os.path.join(HERE, f'splats.{CONFIG}.allow')]
    allow = [p for name in lists for p in load_patterns(name, True)]
    if provokes:
        allow.append(re.compile(provokes))
    if not patterns:
        raise HarnessError('scripts/vmtest/splats.txt is missing or empty: restore it')
    bad, allowed = [], []
    lines = [re.sub(r'^(\[ *\d+\.\d+\])?(\[ *[TC]\d+\])? ?', '', s) for s in console.splitlines()]
    last, traces = -200, 0
    for nr, line in enumerate(lines):
        if not any(p.search(line) for p in patterns):
            continue
        # A call trace belongs to the complaint before it, if there is one. What is
        # allowed has but one: the next may be the only sign of something else.
        if line.strip() == 'Call Trace:' and nr - last <= 150 and traces:
            traces -= 1
        else:
            fine = any(p.search(line) for p in allow)
            (allowed if fine else bad).append(line.strip())
            traces = 1 if fine else len(lines)
        last = nr
    return bad, allowed


def kunit_tools():
    """The base tree's own KTAP parser and JUnit writer."""
    where = os.path.join(os.environ.get('KUNIT_DIR')
                         or os.path.join(BUILD, 'linux/tools/testing/kunit'))
    if not os.path.exists(os.path.join(where, 'kunit_parser.py')):
        raise HarnessError(f'{where} has no kunit_parser.py: run make tree')
    sys.dont_write_bytecode = True
    if where not in sys.path:
        sys.path.insert(0, where)
    import kunit_junit
    import kunit_parser
    import kunit_printer
    return kunit_parser, kunit_junit, kunit_printer


def leaves(test, path=()):
    """Every test that has no subtests, with its full name."""
    for sub in test.subtests:
        name = path + (sub.name,)
        if sub.subtests:
            yield from leaves(sub, name)
        else:
            yield '/'.join(name), sub


def judge(console, results, jobs, end, provokes=''):
    """Return (verdict, JUnit XML) of one boot.

    end: exited, quiet, timeout, or a text that says how QEMU itself failed.
    """
    parser, junit, printer = kunit_tools()
    reasons = {}
    log = []

    class Notes(printer.Printer):
        """Collects the parser's errors, which it only prints."""
        def print(self, message):
            if '[ERROR]' in message:
                log.append(message.split('[ERROR]')[1].strip())

    xml = ''
    counts = {'passed': 0, 'failed': 0, 'skipped': 0, 'crashed': 0, 'errors': 0}
    failed, skipped = [], []
    try:
        test = parser.parse_run_tests(results.splitlines(), Notes(print=False))
        xml = junit.get_junit_result(test)
        counts = {k: getattr(test.counts, k) for k in counts}
        for name, leaf in leaves(test):
            if leaf.status == parser.TestStatus.SKIPPED:
                skipped.append(f'{name} ({leaf.skip_reason})' if leaf.skip_reason else name)
            elif leaf.status == parser.TestStatus.FAILURE:
                failed.append(name)
    except (ValueError, IndexError, AttributeError) as e:
        log.append(f'the results cannot be parsed: {e}')

    if end == 'quiet':
        reasons[HANG] = 'no output for too long'
    elif end == 'timeout':
        reasons[HANG] = 'did not finish in time'
    elif end != 'exited':
        reasons[HARNESS] = end
    panic = re.search(r'Kernel panic - not syncing.*', console)
    # The one that a guest was asked for after it had been silent is no reason.
    if panic and not (HANG in reasons and 'NMI: Not continuing' in panic.group()):
        reasons[PANIC] = panic.group().strip()
    bad, allowed = find_splats(console, provokes=provokes)
    if bad:
        reasons[SPLAT] = bad[0] + (f' (and {len(bad) - 1} more)' if len(bad) > 1 else '')

    written = results.splitlines()
    plan = [s for s in written if re.match(r'1\.\.\d', s)]
    if not written or written[-1] != f'# vmtest: end of results, {len(jobs)} jobs':
        reasons[MISSING] = 'the final record is missing'
    elif plan != [f'1..{len(jobs)}']:
        reasons[MISSING] = f'the guest planned {plan}, not {len(jobs)} jobs'
    elif log or counts['crashed'] or counts['errors']:
        reasons[MISSING] = log[0] if log else 'a planned test did not report'
    elif not counts['passed'] + counts['failed'] + counts['skipped']:
        reasons[MISSING] = 'no test reported'
    # To the parser, a job that failed because its tests were skipped is one that was.
    refused = re.findall(r'^not ok \d+ - (\S+)', results, re.M)
    if refused and not counts['failed']:
        reasons[FAILED] = f"{', '.join(refused)}: failed without a failing test; skipped?"
    if counts['failed']:
        reasons[FAILED] = ', '.join(failed[:5]) + (', ...' if len(failed) > 5 else '')

    code = next((c for c in ORDER if c in reasons), PASSED)
    return {'exit': code, 'verdict': NAMES[code], 'reason': reasons.get(code, ''),
            'also': {NAMES[c]: reasons[c] for c in ORDER if c in reasons and c != code},
            'counts': counts, 'failed_tests': failed, 'skipped_tests': skipped,
            'splats': bad, 'allowed_splats': allowed}, xml


def boot(args):
    """Run one guest, leave its records in build/run/<name>/, return the verdict."""
    accel, why = choose_accel()
    # Services of the host are for those who call this function themselves.
    outside = host.Host(getattr(args, 'services', ()))
    try:
        return boot_with(args, accel, why, outside)
    finally:
        outside.close()


def figures(name):
    """What the programs have to say about a run, apart from passing."""
    results = read_text(os.path.join(BUILD, 'run', name, 'results.ktap'))
    test = ''
    for line in results.splitlines():
        text = line.strip()
        if text.startswith('# figure: '):
            if test:
                yield test
            test = ''
            yield text[len('# figure: '):]
        elif text.startswith('#  RUN '):
            test = text.split()[2] + ':'


def print_figures(name):
    for text in figures(name):
        print(f'  {text}' if text.endswith(':') else f'    {text}')


def last_words(process, outside):
    """Have a guest that hangs report its tasks, and end."""
    if outside.report_tasks():
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            pass


def boot_with(args, accel, why, outside):
    for what in (args.kernel, args.initrd):
        if not os.path.isfile(what):
            raise HarnessError(f'{what} is missing: run scripts/vmtest/build.sh')
    where = os.path.join(BUILD, 'run', args.name)
    shutil.rmtree(where, ignore_errors=True)
    os.makedirs(where)
    console, results, log = (os.path.join(where, f)
                             for f in ('console.log', 'results.ktap', 'qemu.log'))
    args.append = args.append + outside.append()
    machine = qemu_machine(accel, args)
    again = with_channels(machine, 'stdio,id=console,signal=on',
                          'file,id=results,path=results.again.ktap')
    script = os.path.join(where, 'qemu.sh')
    write_file(script, '#!/bin/sh\n# The same boot again: console here, results in '
               'results.again.ktap\ncd "$(dirname "$0")" && exec ' + shlex.join(again) + '\n')
    os.chmod(script, 0o755)

    start = time.monotonic()
    command = with_channels(machine, f'file,id=console,path={console}',
                            f'file,id=results,path={results}') + outside.args()
    for restarts in range(RESTARTS + 1):
        for old in (console, results):
            if os.path.exists(old):
                os.unlink(old)
        with open(log, 'wb') as errors, subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors) as process:
            try:
                write_file(os.path.join(where, 'qemu.pid'), f'{process.pid}\n')
                scale = SCALE[accel] * SLOW.get(CONFIG, 1)
                end = watch(process, (console, results), args.quiet_timeout * scale,
                            args.timeout * scale, args.verbose, restarts < RESTARTS, outside)
                if end in ('quiet', 'timeout'):
                    last_words(process, outside)
            finally:
                outside.detach()
                if process.poll() is None:
                    process.kill()
                os.unlink(os.path.join(where, 'qemu.pid'))
        if accel == 'tcg' and end == 'exited' and restarts < RESTARTS:
            bad = find_splats(read_text(console))[0]
            if bad and STALE.search(bad[0]):
                end = 'starved'
        if end != 'starved':
            break
    if end == 'exited' and process.returncode:
        said = (read_text(log).strip().splitlines() or ['it said nothing'])[-1]
        how = (f'was killed by signal {-process.returncode}' if process.returncode < 0
               else f'ended with status {process.returncode}')
        end = f'QEMU {how}: {said}'
    verdict, xml = judge(read_text(console), read_text(results), args.jobs, end,
                         args.provokes)
    verdict.update(name=args.name, accel=accel, why=why, jobs=args.jobs,
                   restarts=restarts, seconds=round(time.monotonic() - start, 1))
    if outside.said:
        write_file(os.path.join(where, 'host.log'), '\n'.join(outside.said) + '\n')
    if xml:
        write_file(os.path.join(where, 'junit.xml'), xml)
    write_file(os.path.join(where, 'verdict.json'), json.dumps(verdict, indent=1) + '\n')
    return verdict


def describe(verdict):
    """One line for the terminal."""
    counts = verdict['counts']
    text = f"{verdict['name']}: {verdict['verdict']}"
    if verdict['reason']:
        text += f": {verdict['reason']}"
    again = f", {verdict['restarts']} restarts: emulation" if verdict['restarts'] else ''
    return (f"{text} [{counts['passed']} passed, {counts['failed']} failed, "
            f"{counts['skipped']} skipped; {verdict['seconds']} s, {verdict['accel']}{again}]")


def boot_parser():
    p = argparse.ArgumentParser(add_help=False)
    out = os.path.join(BUILD, 'out', CONFIG)
    p.add_argument('--kernel', default=os.path.join(out, 'arch/x86/boot/bzImage'))
    p.add_argument('--initrd', default=os.path.join(out, 'initramfs.cpio'))
    p.add_argument('--name', default='boot', help='directory under build/run/')
    p.add_argument('--jobs', type=lambda s: s.split(','), default=[])
    p.add_argument('--mem', default=MEMORY.get(CONFIG, '256M'))
    p.add_argument('--smp', type=int, default=2)
    p.add_argument('--machine', choices=MACHINES, default='q35' if CONFIG in PCS else 'microvm')
    p.add_argument('--qemu', action='extend', type=shlex.split, default=[],
                   help='more arguments for QEMU')
    p.add_argument('--timeout', type=float, default=120,
                   help='seconds for the whole boot with KVM; four times as many without')
    p.add_argument('--quiet-timeout', type=float, default=20,
                   help='the same, for silence on both channels')
    p.add_argument('--provokes', default='', help='a splat that is what this guest is for')
    p.add_argument('--append', action='append', default=[], help='more kernel command line')
    p.add_argument('--verbose', action='store_true', help='echo the console')
    return p


def main():
    top = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sub = top.add_subparsers(dest='command', required=True)
    sub.add_parser('accel', help='say which accelerator a boot uses, and why')
    sub.add_parser('boot', parents=[boot_parser()], help='boot, judge, exit with the verdict')
    sub.add_parser('shell', parents=[boot_parser()], help='boot with the console on this terminal')
    args = top.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(HARNESS))
    try:
        accel, why = choose_accel()
        if args.command == 'accel':
            print(f'{accel}: {why}')
            return PASSED
        if args.command == 'shell':
            args.append.append('vmtest.shell')
            # The multiplexer gives Ctrl-A X; Ctrl-C goes to the guest.
            command = with_channels(qemu_machine(accel, args),
                                    'stdio,id=console,mux=on,signal=off', 'null,id=results')
            command += ['-mon', 'chardev=console']
            os.execv(command[0], command)
        if not args.jobs:
            raise HarnessError('nothing to run: give --jobs')
        print(f'accelerator: {accel} ({why})', flush=True)
        verdict = boot(args)
    except HarnessError as e:
        print(f'vmtest: {e}', file=sys.stderr)
        return HARNESS
    except KeyboardInterrupt:
        return 130
    print(describe(verdict))
    for name in verdict['skipped_tests']:
        print(f'  skipped: {name}')
    for name in verdict['failed_tests']:
        print(f'  failed: {name}')
    if verdict['exit']:
        print(f"  see {os.path.relpath(os.path.join(BUILD, 'run', args.name))}/console.log")
    return verdict['exit']


if __name__ == '__main__':
    sys.exit(main())
