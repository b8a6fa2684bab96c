# SPDX-License-Identifier: GPL-2.0
"""Disks for guests: sparse images with a file system on them, made once.

Guests do not write to what is kept here: QEMU is given snapshot=on.
"""
import os
import shutil
import subprocess
import tempfile

UUID = '6d656d61-6c6c-6f63-2073-636f7065730{}'
# MiB, Debian package, command. mkfs.xfs and mkfs.btrfs refuse much smaller ones.
TOOLS = {
    'ext4': (256, 'e2fsprogs', ['mke2fs', '-q', '-F', '-t', 'ext4', '-b', '4096', '-J', 'size=8',
                                '-E', f'hash_seed={UUID.format(0)},lazy_itable_init=0',
                                '-U', UUID.format(1)]),
    'xfs': (320, 'xfsprogs', ['mkfs.xfs', '-q', '-f', '-m', f'uuid={UUID.format(2)}']),
    'btrfs': (256, 'btrfs-progs', ['mkfs.btrfs', '-q', '-f', '-U', UUID.format(3)]),
    'f2fs': (128, 'f2fs-tools', ['mkfs.f2fs', '-q', '-f', '-U', UUID.format(5)]),
}
# ext4, with an image of each of the others on it
HOST_MB = 1024
# Part of the name of what is kept: a change here makes new images.
VERSION = 4


def run(package, command):
    path = shutil.which(command[0], path=os.environ.get('PATH', '') + ':/usr/sbin:/sbin')
    if not path:
        raise OSError(f'{command[0]} is not installed: apt-get install {package}')
    environment = {**os.environ, 'LC_ALL': 'C', 'SOURCE_DATE_EPOCH': '1000000000'}
    done = subprocess.run([path] + command[1:], env=environment, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        said = done.stdout.decode('utf-8', 'replace').strip()
        raise OSError(f'{command[0]} ended with status {done.returncode}: {said[-300:]}')


def blank(path, megabytes):
    with open(path, 'wb') as f:
        f.truncate(megabytes << 20)


def make_all(where):
    inside = os.path.join(where, 'host')
    os.mkdir(inside)
    for name, (megabytes, package, command) in TOOLS.items():
        path = os.path.join(where, f'tms-{name}.img')
        blank(path, megabytes)
        run(package, command + [path])
        run('coreutils', ['cp', '--sparse=always', path, os.path.join(inside, f'{name}.img')])
    host = os.path.join(where, 'tms-host.img')
    blank(host, HOST_MB)
    _, package, command = TOOLS['ext4']
    run(package, command[:-1] + [UUID.format(4), '-d', inside, host])
    shutil.rmtree(inside)


def make(cache):
    """{serial number: path}; OSError, with what to do, if they cannot be made."""
    where = os.path.join(cache, f'images-{VERSION}')
    if not os.path.isdir(where):
        os.makedirs(cache, exist_ok=True)
        temporary = tempfile.mkdtemp(prefix='images.', dir=cache)
        try:
            make_all(temporary)
            os.rename(temporary, where)
        except OSError:
            if not os.path.isdir(where):
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return {s: os.path.join(where, s + '.img') for s in [f'tms-{n}' for n in (*TOOLS, 'host')]}
