#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The scenarios of "make test SUITE=scenarios" and "make soak": one guest for each, two
at a time, as they wait for much.

ONLY=name,name runs some of them. DURATION=seconds is how long each goes on under
load in "make soak"; the quick forms do the least that shows what they are to show.
"""
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

import images
import servers
import suite
import vm


def nodes(memory, count=2):
    """NUMA nodes with one CPU each."""
    each = memory // count
    return [w for n in range(count) for w in (
        '-object', f'memory-backend-ram,id=mem{n},size={each}M',
        '-numa', f'node,nodeid={n},cpus={n},memdev=mem{n}')]


class Scenario:
    """What a guest needs, and what it is to run."""

    def __init__(self, memory, jobs, append=(), qemu=(), disks=(), usb_disks=(), nvme_disks=(),
                 services=(), timeout=90, soak=None, known=''):
        self.memory = memory
        self.jobs = jobs
        self.append = list(append)
        self.qemu = list(qemu)
        self.disks = disks                  # serial numbers of images
        self.usb_disks = usb_disks          # MiB of each
        self.nvme_disks = nvme_disks        # the same
        self.services = services            # made for each boot
        self.timeout = timeout              # seconds with KVM
        self.soak = dict(soak or {})        # settings of the long form, or None
        self.known = known                  # the lock that lockdep reports, if it has to

    def drives(self, where):
        words = []
        for serial in self.disks:
            path = images.make(vm.CACHE)[serial]
            words += ['-drive', f'if=none,id={serial},file={path},format=raw,cache=unsafe,'
                                'snapshot=on',
                      '-device', f'virtio-blk-pci,drive={serial},serial={serial}']
        for kind, sizes, device in (('usb', self.usb_disks, 'usb-storage,bus=xhci.0'),
                                    ('nvme', self.nvme_disks, 'nvme,serial=tms-nvme')):
            for nr, size in enumerate(sizes):
                path = os.path.join(where, f'{kind}{nr}.img')
                images.blank(path, size)
                words += ['-drive', f'if=none,id={kind}{nr},file={path},format=raw,cache=unsafe',
                          '-device', f'{device},drive={kind}{nr}']
        return words

    def boot(self, name, duration=0, only='', kernel=''):
        args = vm.boot_parser().parse_args(['--kernel', kernel] if kernel else [])
        args.name = name
        args.jobs = self.jobs
        # A NUMA node does not end in the middle of a socket.
        args.smp = '2,sockets=2'
        args.append = self.append + ([f'vmtest.only={only}'] if only else [])
        args.timeout = self.timeout
        memory = self.memory
        if duration:
            # Each of its tests goes on for so long.
            args.timeout = 10 * self.timeout + 8 * duration
            settings = {'TMS_SECONDS': duration, **self.soak}
            memory = settings.pop('memory', memory)
            args.append += [f'{key}={value}' for key, value in settings.items()]
        args.mem = f'{memory}M'
        # They work in silence for long.
        args.quiet_timeout = args.timeout
        if self.known:
            args.provokes = '^WARNING: possible circular locking dependency'
            args.append.append('vmtest.known')
        started = []
        try:
            with tempfile.TemporaryDirectory(prefix='vmtest-disks-') as where:
                args.qemu = self.qemu + self.drives(where)
                args.services = started
                for make in self.services:
                    started.append(make())
                return self.judge(vm.boot(args))
        except OSError as e:
            raise vm.HarnessError(f'{name}: {e}') from e
        finally:
            for service in started:
                service.close()


    def judge(self, verdict):
        """With a known report, it has to be that one."""
        console = vm.read_text(os.path.join(vm.BUILD, 'run', verdict['name'], 'console.log'))
        if (self.known and verdict['exit'] == vm.PASSED and not re.search(
                rf'is trying to acquire lock:\n.*\((?:{self.known})\)\{{', console)):
            verdict.update({'exit': vm.FAILED, 'verdict': vm.NAMES[vm.FAILED],
                            'reason': f'lockdep did not report {self.known}: if that is mended, '
                                      'take known= away'})
        return verdict


def card():
    return servers.Card('e1000e')


SWAP_SOAK = {'memory': 256, 'TMS_TIMES': 200, 'TMS_LINK_DOWN': 180, 'TMS_PATIENCE': 3600}

# Those that take longest come first.
SCENARIOS = {
    'nbd': Scenario(96, ['nbd'], services=[card, servers.Nbd, servers.Echo], timeout=150,
                    soak=SWAP_SOAK),
    'nfs': Scenario(96, ['nfs'], services=[card, servers.Nfs], timeout=120,
                    soak=SWAP_SOAK),
    'fs': Scenario(256, ['fs'], disks=['tms-ext4', 'tms-xfs', 'tms-btrfs', 'tms-host']),
    'usb': Scenario(192, ['usb'], qemu=['-device', 'qemu-xhci,id=xhci'], usb_disks=[96, 96]),
    'pm': Scenario(192, ['pm']),
    'split': Scenario(192, ['split'], disks=['tms-xfs']),
    'entries': Scenario(512, ['entries'], qemu=nodes(512)),
    'contig': Scenario(192, ['contig'], ['cma=32M'], disks=['tms-ext4']),
    'receive': Scenario(96, ['receive']),
}
# What lockdep is to say nothing about, of a kernel of their own: "make test SUITE=workload"
WORKLOADS = {
    'ext4': {'disks': ['tms-ext4']}, 'xfs': {'disks': ['tms-xfs']},
    'btrfs': {'disks': ['tms-btrfs']}, 'f2fs': {'disks': ['tms-f2fs']},
    'loop': {'disks': ['tms-ext4']}, 'zloop': {'disks': ['tms-ext4']}, 'zram': {},
    'dm': {'disks': ['tms-xfs']}, 'nvme': {'nvme_disks': [96]},
    # Documentation/dev-tools/memalloc-scope.rst says why.
    'md': {'known': '&disk->open_mutex'}, 'queues': {'known': '&q->debugfs_mutex'},
    'usb': {'qemu': ['-device', 'qemu-xhci,id=xhci'], 'usb_disks': [96]},
    'scsi': {}, 'null': {}, 'virtio': {'disks': ['tms-ext4']}, 'pm': {'disks': ['tms-ext4']},
}
# Drivers that would have disks before anybody asks for one
NO_DISKS = ['scsi_debug.add_host=0', 'scsi_debug.dev_size_mb=96', 'null_blk.nr_devices=0',
            'brd.rd_size=65536']
SUITE = 'scenarios'
if vm.CONFIG == 'workload':
    SUITE = 'workload'
    SCENARIOS = {name: Scenario(
        320, ['workload'], timeout=150,
        append=[f'vmtest.workload={name}', *NO_DISKS], **needs)
        for name, needs in WORKLOADS.items()}


def boot(name, duration):
    run = name if not duration else f'soak-{name}'
    if SUITE != 'scenarios':
        run = f'{SUITE}-{name}'
    start = time.monotonic()
    # What it said the last time is not what it says now.
    shutil.rmtree(os.path.join(vm.BUILD, 'run', run), ignore_errors=True)
    try:
        return SCENARIOS[name].boot(run, duration)
    except vm.HarnessError as e:
        # The others have nothing to do with that.
        return {'name': run, 'exit': vm.HARNESS, 'verdict': vm.NAMES[vm.HARNESS],
                'reason': str(e), 'counts': {'passed': 0, 'failed': 0, 'skipped': 0, 'crashed': 0},
                'seconds': round(time.monotonic() - start, 1), 'accel': 'not booted',
                'restarts': 0, 'skipped_tests': [], 'failed_tests': []}


def show(verdict):
    print(vm.describe(verdict))
    vm.print_figures(verdict['name'])
    for kind in ('skipped', 'failed'):
        for test in verdict[f'{kind}_tests']:
            print(f'  {kind}: {test}')
    sys.stdout.flush()


def boot_all(names, duration):
    """Their verdicts, as they come."""
    images.make(vm.CACHE)
    pool = ThreadPoolExecutor(2)
    try:
        for future in as_completed([pool.submit(boot, name, duration) for name in names]):
            yield future.result()
    finally:
        vm.STOPPING.set()
        pool.shutdown(cancel_futures=True)


def main():
    soak = sys.argv[1:] == ['soak']
    # Guests and servers end with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(vm.HARNESS))
    only = [s for s in (os.environ.get('ONLY') or '').split(',') if s] or list(SCENARIOS)
    start = time.monotonic()
    codes, passed, failed, skipped = {vm.PASSED}, 0, 0, 0
    summary = os.path.join(vm.BUILD, 'run', f'{SUITE}-summary.json')
    if os.path.exists(summary):
        os.unlink(summary)
    try:
        duration = int(os.environ.get('DURATION') or 600) if soak else 0
        for name in only:
            if name not in SCENARIOS:
                raise vm.HarnessError(f"ONLY={name}: use some of {', '.join(SCENARIOS)}")
        accel, why = vm.choose_accel()
        print(f'accelerator: {accel} ({why})', flush=True)
        for verdict in boot_all(only, duration):
            show(verdict)
            counts = verdict['counts']
            bad = counts['failed'] + counts['crashed']
            codes.add(verdict['exit'])
            passed += counts['passed']
            skipped += counts['skipped']
            failed += bad or int(verdict['exit'] != vm.PASSED)
    except (vm.HarnessError, OSError, ValueError) as e:
        print(f'vmtest: {e}', file=sys.stderr)
        codes.add(vm.HARNESS)
        failed += 1
    return suite.finish(summary, SUITE, start, codes, passed, failed, skipped)


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
