# SPDX-License-Identifier: GPL-2.0
"""What "make series BISECT=" runs: the kernel after each patch, built and booted.

After each patch, in a worktree of its own, and without a warning:

objects  the .c files that it touches, by allmodconfig. For a header that others include
         already also those that do or, if it is in include/, all .c files that the
         series touches anywhere; a new one in include/ has to compile on its own.
tests    of a patch to the kselftests: the programs and modules that it touches.
image    of a patch to core code, by its path (see CORE): the test kernel, with what
         there is by then of its options, and without the network (see WITHOUT).
         Booted, it has to reclaim and to swap.

What passed is in build/bisect/passed, by the tree's id: a run that was cut short goes
on there, and after changelogs were reworded there is nothing to do.
"""
import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import time

import compile as objects
import mutants
import series
import vm

BISECT = os.path.join(vm.BUILD, 'bisect')
LINUX = os.path.join(vm.BUILD, 'linux')
TREE = os.path.join(BISECT, 'linux')
OUT = os.path.join(BISECT, 'out', 'default')
ALL = os.path.join(BISECT, 'all')
LOGS = os.path.join(BISECT, 'log')
PASSED = os.path.join(BISECT, 'passed')
JOBS = os.environ.get('J') or str(os.cpu_count())
# What every kernel has, and so the test kernel. Its own options are nobody else's.
CORE = re.compile(r'(arch|block|fs/proc|include|init|kernel(?!/configs)|lib|mm)/')
USER = ('tools/', 'Documentation/', 'scripts/')
SELFTESTS = 'tools/testing/selftests'
FRAGMENT = 'kernel/configs/memalloc_scope.config'
# A good part of the test kernel, and the guest only reclaims: most of the time that
# images take is that of patches to headers that all of the kernel includes.
WITHOUT = {'INET', 'NET', 'PACKET', 'UNIX', 'VHOST_ENABLE_FORK_OWNER_CONTROL', 'VHOST_MENU', 'VHOST_NET'}
GUEST = ('init', 'jobs/churn')
# No part of the build by itself: another folder's brings its objects, and its flags.
BUILT_AS = {'drivers/gpu/drm/amd/amdkfd/': 'drivers/gpu/drm/amd/amdgpu/../amdkfd/'}
# Includes headers, but is no part of allmodconfig: for built-in md, and for clang.
# A patch that touches one itself has to find a way to build it.
NOT_BUILT = {'drivers/md/md-autodetect.c', 'mm/kmsan/init.c'}
# Where Debian has the compilers' names mean ccache: what compile.py runs is called gcc.
CCACHE = '/usr/lib/ccache'

# Makes objects slow to compile, so only those have it that are nothing without.
KASAN = os.path.join(BISECT, 'kasan')
WITH_KASAN = [option for option in objects.OFF if option != 'KASAN']


class Broken(Exception):
    """A patch that does not build or boot; the text names the log."""


def wanted(text):
    """BISECT= as a range of patches; None if there is nothing to do."""
    found = re.fullmatch(r'(\d+)(?:-(\d+))?', text)
    if text in ('', '0'):
        return None
    if not found:
        raise series.Problem(f'BISECT={text}: use 1 for all patches, or a range like 40-45')
    if os.environ.get('CONFIG', 'default') != 'default':
        raise series.Problem('BISECT has a configuration of its own: leave out CONFIG')
    if text == '1':
        return range(1, 1 << 20)
    return range(int(found[1]), int(found[2] or found[1]) + 1)


def digest(*parts):
    return hashlib.sha256('\0'.join(map(str, parts)).encode()).hexdigest()[:16]


class Patch:
    """What a patch touches, read from git: the worktree is for what has to be built."""
    def __init__(self, nr, total, commit):
        self.nr, self.commit = nr, commit
        self.tree, subject = series.out('log', '-1', '--format=%T%n%s', commit).split('\n')
        self.name = f'{nr:02}/{total} {subject}'
        changed = series.out('diff-tree', '-r', '--no-renames', '--name-status', f'{commit}^', commit)
        changed = [line.split('\t') for line in changed.splitlines()]
        self.core = any(CORE.match(name) for _, name in changed)
        self.status = {name: status for status, name in changed if status != 'D'}
        self.tests = [name for name in self.status if name.startswith(f'{SELFTESTS}/')]

    def c_files(self):
        return {n for n in self.status if n.endswith('.c') and not n.startswith(USER)
                and not n.endswith('.mod.c')}

    def grep(self, *args):
        """Lines, or with -l files; none is no error."""
        found = series.git('grep', *args[:2], self.commit, '--', *args[2:], ok=(0, 1)).stdout.decode()
        return [line.removeprefix(f'{self.commit}:') for line in found.splitlines()]

    def has(self, name):
        return not series.git('cat-file', '-e', f'{self.commit}:{name}', ok=(0, 128)).returncode

    def broken(self, what, text, log=''):
        """The complaint, its log written down if that is not done."""
        if not log:
            log = os.path.join(LOGS, f'{self.nr:02}-{what}.log')
            vm.write_file(log, text)
        first = re.search(r'^.*(?:\berror\b|\bError\b|No rule to make|undefined).*$', text, re.M)
        why = first.group().strip() if first else text.strip()[-200:]
        return Broken(f"{what}: {why.replace(TREE + '/', '')}; see {os.path.relpath(log)}")


def included(commit, files):
    """{.c file: the one next to it that includes it}, such as mm/percpu-vm.c: no object of its own."""
    folders = sorted({f':(glob){os.path.dirname(name)}/*.c' for name in files})
    found = series.git('grep', '-E', r'^\s*#\s*include\s+"[^/"]+\.c"', commit, '--', *folders, ok=(0, 1))
    lines = re.findall(r'^[^:]+:([^:]+):.*"(.*)"', found.stdout.decode(), re.M)
    return {os.path.join(os.path.dirname(path), name): path for path, name in lines}


def sources(patch, ours, parts):
    """The .c files that a patch could break, and the headers that have to stand alone."""
    files, alone = patch.c_files(), []
    for header in (h for h in patch.status if h.endswith('.h') and not h.startswith(USER)):
        public = header.startswith('include/')
        if public and patch.status[header] == 'A':
            alone.append(header)
        elif public:
            files |= {f for f in ours if patch.has(f)}
        elif patch.status[header] != 'A':
            name = re.escape(os.path.basename(header))
            found = patch.grep('-lE', rf'^\s*#\s*include\s+"([^"]*/)?{name}"',
                               f'{os.path.dirname(header)}/*.c')
            files |= set(found) - NOT_BUILT
    files = {parts.get(name, name) for name in files}
    return sorted(files), alone


def make(patch, what, *goals, target=ALL):
    status, text = objects.make(TREE, target, JOBS, '-k', *goals)
    if status:
        raise patch.broken(what, text)


def object_names(files):
    """Goals for make, as kbuild knows them."""
    goals = []
    for name in files:
        folder = name[:name.rfind('/') + 1]
        goals.append(BUILT_AS.get(folder, folder) + re.sub(r'c$', 'o', name[len(folder):]))
    return goals


def configure(patch, target=ALL, off=None):
    """allmodconfig, and what its headers need; a patch can break that, too."""
    try:
        objects.configure(pathlib.Path(TREE), pathlib.Path(target), JOBS, off)
    except series.Problem as problem:
        log = os.path.join(target, 'prepare.log')
        raise patch.broken('prepare', vm.read_text(log) or str(problem)) from problem


def build_objects(patch, files, alone):
    configure(patch)
    kasan = [f for f in files if f.startswith('mm/kasan/')]
    plain = [f for f in files if f not in kasan]
    if plain:
        make(patch, 'objects', *object_names(plain))
    if kasan:
        configure(patch, KASAN, WITH_KASAN)
        make(patch, 'kasan', *object_names(kasan), target=KASAN)
    if alone:
        where = os.path.join(BISECT, 'headers')
        shutil.rmtree(where, ignore_errors=True)
        os.makedirs(where)
        goals = [f'alone{nr}.o' for nr in range(len(alone))]
        for goal, header in zip(goals, alone):
            vm.write_file(os.path.join(where, goal.replace('.o', '.c')),
                          f"#include <{header.removeprefix('include/')}>\n")
        vm.write_file(os.path.join(where, 'Kbuild'), f"obj-m := {' '.join(goals)}\n")
        make(patch, 'headers', f'M={where}', *goals)


def build_tests(patch):
    configure(patch)
    targets, modules = set(), set()
    for name in patch.tests:
        folder = pathlib.Path(name).parent
        if objects.MODULE_DIR.match(name):
            modules.add(str(folder))
            continue
        while str(folder) != SELFTESTS and not (TREE / folder / 'Makefile').exists():
            folder = folder.parent
        targets.add(str(folder.relative_to(SELFTESTS)))
    targets.discard('.')
    if targets:
        make(patch, 'uapi', 'headers')
        # Without modules, which would be built inside of the source tree.
        status, text = mutants.run(
            'make', '-C', os.path.join(TREE, SELFTESTS), f'-j{JOBS}', f'O={ALL}', 'ARCH=x86',
            f"TARGETS={' '.join(sorted(targets))}", 'TEST_GEN_MODS_DIR=', 'SKIP_TARGETS=',
            'FORCE_TARGETS=1', 'USERLDFLAGS=-static')
        if status:
            raise patch.broken('tests', text)
    for folder in sorted(modules):
        files = [os.path.basename(n) for n in patch.tests if n.endswith('.c')
                 and os.path.dirname(n) == folder]
        make(patch, 'modules', f'M={TREE}/{folder}', f'MO={BISECT}/modules/{digest(folder)}',
             *object_names(files))


def fragment(patch):
    """The test kernel's configuration, without options that are to come."""
    known = set(re.findall(r'config\s+(\w+)', '\n'.join(
        patch.grep('-hE', r'^\s*(menu)?config\s+\w+', '*Kconfig*'))))
    lines = []
    for line in series.out('show', f'HEAD:{FRAGMENT}').splitlines():
        option = re.match(r'(?:# )?CONFIG_(\w+)', line)
        if not option or option[1] in known - WITHOUT:
            lines.append(line + '\n')
    return ''.join(lines)


def guest():
    """What the guest runs, but for busybox."""
    return [vm.read_text(os.path.join(vm.HERE, 'guest', name)) for name in GUEST]


def build_image(patch, config):
    """Only the kernel, as long as neither options nor the guest's files have changed."""
    path, stamp = os.path.join(BISECT, 'fragment'), os.path.join(BISECT, 'configured')
    key = digest(config, *guest(), *(entry for entry in series.names('ls-tree', '-r', '-z', patch.commit)
                                     if re.search(r'\bKconfig[^/]*$', entry)))
    known = vm.read_text(stamp) == key
    if not known:
        pathlib.Path(stamp).unlink(missing_ok=True)
        vm.write_file(path, config)
    status, text = mutants.run(os.path.join(vm.HERE, 'build.sh'), *(['kernel'] if known else []),
                               VMTEST_BUILD=BISECT, VMTEST_FRAGMENT=path, CONFIG='default')
    if status:
        raise patch.broken('image', f"{vm.read_text(f'{OUT}.log')}\n{text}\n")
    vm.write_file(stamp, key)


def boot_image(patch):
    verdict = vm.boot(vm.boot_parser().parse_args(
        ['--name', f'bisect-{patch.nr:02}', '--jobs', 'churn',
         '--kernel', os.path.join(OUT, 'arch/x86/boot/bzImage'),
         '--initrd', os.path.join(OUT, 'initramfs.cpio')]))
    if verdict['exit']:
        raise patch.broken('boot', f"{verdict['verdict']}: {verdict['reason']}",
                           os.path.join(vm.BUILD, 'run', verdict['name'], 'console.log'))


class Record:
    """What has passed before, on disk as soon as it has."""
    def __init__(self):
        self.known = {line.split()[0] for line in vm.read_text(PASSED).splitlines()}
        self.gcc = subprocess.run(['gcc', '--version'], capture_output=True, check=True).stdout

    def once(self, patch, what, inputs, *steps):
        """Take the steps, unless they are known to pass; say how long that took."""
        key = digest(what, patch.tree, self.gcc, *inputs)
        if key in self.known:
            return 'before'
        start = time.monotonic()
        mutants.checkout(LINUX, TREE, patch.commit)
        for step in steps:
            step()
        self.known.add(key)
        with open(PASSED, 'a', encoding='utf-8') as f:
            f.write(f'{key} {patch.tree} {what} {patch.name}\n')
        return f'{time.monotonic() - start:.0f} s'


def check(patch, ours, parts, record):
    """What was done for a patch, as one line."""
    files, alone = sources(patch, ours, parts)
    said = []
    if files or alone:
        took = record.once(patch, 'objects', files + alone, lambda: build_objects(patch, files, alone))
        said.append(f'objects {len(files) + len(alone)} ({took})')
    if patch.tests:
        took = record.once(patch, 'tests', patch.tests, lambda: build_tests(patch))
        said.append(f'tests ({took})')
    if patch.core:
        config = fragment(patch)
        took = record.once(patch, 'image', [config, *guest()], lambda: build_image(patch, config),
                           lambda: boot_image(patch))
        said.append(f'image, boot ok ({took})')
    return ', '.join(said) or 'nothing to build'


def run(which):
    """A line for each patch, failures at the end again; the exit status."""
    os.makedirs(LOGS, exist_ok=True)
    os.makedirs(os.path.dirname(OUT), exist_ok=True)
    os.environ['KCFLAGS'] = '-Werror'
    if 'CCACHE_DISABLE' not in os.environ and os.path.isdir(CCACHE):
        os.environ.update(PATH=f"{CCACHE}:{os.environ['PATH']}", CCACHE_NOHASHDIR='1',
                          CCACHE_DIR=os.path.join(vm.CACHE, 'ccache'), CCACHE_BASEDIR=vm.TOP)
    with open(os.path.join(BISECT, '.lock'), 'w', encoding='utf-8') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        commits = series.out('rev-list', '--reverse', 'base..HEAD').split()
        patches = [Patch(nr, len(commits), commit) for nr, commit in enumerate(commits, 1)]
        todo = [patch for patch in patches if patch.nr in which]
        if not todo:
            raise series.Problem(f'BISECT: there are only {len(patches)} patches')
        ours = set().union(*(patch.c_files() for patch in patches))
        parts = included(commits[-1], ours)
        record, bad = Record(), []
        for patch in todo:
            try:
                said = check(patch, ours, parts, record)
            except Broken as broken:
                bad.append(f'{patch.name}: FAILED: {broken}')
                said = f'FAILED: {broken}'
            print(f'{patch.name}: {said}', flush=True)
    for line in bad:
        print(f'not bisectable: {line}')
    print(f'{len(todo) - len(bad)} of {len(todo)} patches build and boot')
    return vm.FAILED if bad else vm.PASSED
