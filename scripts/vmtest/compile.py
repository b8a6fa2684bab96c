#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""compile.py LINUX SCRATCH CACHE JOBS: builds every C file that the series
touches under allmodconfig, with W=1 and sparse, and fails for each warning
that the base does not give."""
import hashlib
import pathlib
import re
import subprocess
import sys

sys.dont_write_bytecode = True
import reference  # noqa: E402
import series  # noqa: E402

# Slow, or in need of a toolchain that is not always there; no warning depends on them.
OFF = """DEBUG_INFO_BTF DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT DEBUG_INFO_DWARF4 DEBUG_INFO_DWARF5
GCC_PLUGINS WERROR KASAN KCSAN KMSAN UBSAN KCOV GCOV_KERNEL RUST HEADERS_INSTALL
DRM_WERROR OBJTOOL_WERROR""".split()
ON = ["DEBUG_INFO_NONE"]
# The kernel wants a sparse that knows __typeof_unqual__; for the released ones,
# typeof will do: what it says more, it says of the base, too.
CHECK = "CHECK=sparse -D__typeof_unqual__=__typeof__"
MODULE_DIR = re.compile(r"tools/testing/selftests/.*/test_modules/")


def make(source, target, jobs, *goals, log=None):
    cmd = ["nice", "-n", "5", "make", "-C", str(source), f"O={target}", "ARCH=x86", f"-j{jobs}", *goals]
    run = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    text = run.stdout.decode(errors="replace")
    if log:
        log.write_text(text)
    return run.returncode, text


def configure(source, target, jobs, off=None):
    """allmodconfig without what is off, or OFF, and the generated files."""
    off = OFF if off is None else off
    stamp = target / "configured"
    fragment = target / "fragment"
    want = "".join(f"# CONFIG_{o} is not set\n" for o in off) + "".join(f"CONFIG_{o}=y\n" for o in ON)
    kconfig = subprocess.run(["git", "ls-files", "-s", "*Kconfig*"], cwd=source,
                             capture_output=True, check=False).stdout
    key = hashlib.sha256(want.encode() + kconfig).hexdigest()
    if not stamp.exists() or stamp.read_text() != key:
        target.mkdir(parents=True, exist_ok=True)
        fragment.write_text(want)
        code, text = make(source, target, jobs, f"KCONFIG_ALLCONFIG={fragment}", "allmodconfig")
        if code:
            raise series.Problem(f"allmodconfig failed in {target}: {text[-2000:]}")
        config = (target / ".config").read_text()
        on = [o for o in off if f"\nCONFIG_{o}=y\n" in config]
        if on:
            raise series.Problem(f"allmodconfig turned on {' '.join(on)}: take them out of OFF in compile.py")
        stamp.write_text(key)
    code, text = make(source, target, jobs, "modules_prepare", log=target / "prepare.log")
    if code:
        raise series.Problem(f"make modules_prepare failed, see {target}/prepare.log: {text[-1000:]}")


def split_log(text, source, known):
    """What was said while each file of known was compiled: {path: [line]}."""
    said, now = {}, None
    for line in text.splitlines():
        step = re.match(r"  (CC|CHECK)\s+(?:\[M\]\s+)?(\S+)$", line)
        if step:
            name = re.sub(r"\.o$", ".c", step[2].replace(f"{source}/", "").removeprefix("../"))
            now = next((k for k in known if k == name or k.endswith(f"/{name}")
                        and MODULE_DIR.match(k)), None)
            if now:
                said.setdefault(now, [])
        elif re.match(r"  [A-Z_]{2,}( \[M\])?\s+\S+$", line):
            now = None
        elif now and not line.startswith("make"):
            said[now].append(line.replace(f"{source}/", ""))
    return said


# What released sparse says of any kernel, and where: it cannot tell that the first are
# constant, and has no room for the names of all flags in a format.
NOISE = {"bad constant expression": r"\s*(MODULE_\w+|module_param\w*)\(",
         "too long token expansion": r"(TRACE_EVENT|DECLARE_EVENT_CLASS)\("}


def is_noise(line, source):
    found = re.match(rf"(?:\.\./)*([^:]+):(\d+):\d+: error: ({'|'.join(NOISE)})$", line)
    if not found or not (source / found[1]).is_file():
        return False
    text = (source / found[1]).read_text(errors="replace").splitlines()[int(found[2]) - 1]
    return re.match(NOISE[found[3]], text) is not None


def build(source, target, files, jobs):
    """Compiles what has changed; returns {file: (is there an object, text)}."""
    configure(source, target, jobs)
    logs, unfinished = target / "logs", target / "unfinished"
    logs.mkdir(exist_ok=True)

    def paths(file):
        # External modules leave their objects next to the source, unless told to: MO.
        out = target / "modules" / pathlib.Path(file).name if MODULE_DIR.match(file) else target / file
        return out.with_suffix(".o"), logs / file.replace("/", "%")

    for file in files:
        obj, log = paths(file)
        # An object without its log was made by a run that was cut short.
        if unfinished.exists() or not log.exists():
            obj.unlink(missing_ok=True)
    unfinished.touch()
    plain = [f for f in files if not MODULE_DIR.match(f)]
    text = ""
    if plain:
        goals = [str(pathlib.Path(f).with_suffix(".o")) for f in plain]
        text = make(source, target, jobs, "-k", "-O", "W=1", "C=1", CHECK, *goals,
                    log=target / "make.log")[1]
    for folder in sorted({str(pathlib.Path(f).parent) for f in files if MODULE_DIR.match(f)}):
        mine = [f for f in files if str(pathlib.Path(f).parent) == folder]
        text += make(source, target, jobs, "-k", "-O", "W=1", "C=1", CHECK,
                     f"M={source}/{folder}", f"MO={target}/modules", *[f"{pathlib.Path(f).stem}.o" for f in mine],
                     log=target / "make-modules.log")[1]
    if "C=1 specified, but" in text:
        raise series.Problem("this kernel refuses this sparse: install a newer one")
    said = split_log(text, source, files)
    result = {}
    for file in files:
        obj, log = paths(file)
        if file in said:
            log.write_text("".join(f"{line}\n" for line in said[file]
                                   if not is_noise(line, source)))
        result[file] = obj.exists(), log.read_text() if log.exists() else ""
        if not obj.exists():
            log.unlink(missing_ok=True)
    unfinished.unlink()
    return result


def base_warnings(files, scratch, cache, jobs):
    tools = reference.version("gcc") + reference.version("sparse")
    key = reference.digest(tools + " ".join(OFF + ON + [CHECK]))
    store = cache / f"{series.out('rev-parse', 'base^{tree}')}-{key}"
    store.mkdir(parents=True, exist_ok=True)
    entry = {f: store / f.replace("/", "%") for f in files}
    missing = [f for f in files if not entry[f].exists()]
    if missing:
        print(f"building {len(missing)} files of the base", flush=True)
        built = build(reference.checkout(scratch.parent), scratch / "base", missing, jobs)
        for file, (_, text) in built.items():
            reference.put(entry[file], text)
    return {f: entry[f].read_text() for f in files}


def main(linux, scratch, cache, jobs):
    linux, scratch, cache = pathlib.Path(linux), pathlib.Path(scratch), pathlib.Path(cache)
    listed = reference.exceptions(pathlib.Path(__file__).with_name("compile.exceptions"), "path")
    excused = {path: False for _, (path, _) in listed}
    changed = reference.changed()
    files = [f for s, f in changed if s != "D" and f.endswith(".c")
             and (MODULE_DIR.match(f) or not f.startswith(("tools/", "Documentation/", "scripts/")))
             and not f.endswith(".mod.c")]
    old = [f for s, f in changed if s in "MT" and f in files]
    new = build(linux, scratch / "patched", files, jobs)
    base = base_warnings(old, scratch, cache, jobs)
    bad = 0
    for file, (made, text) in sorted(new.items()):
        if not made and file in excused:
            excused[file] = True
        elif not made:
            bad += 1
            print(f"{file}: not built by allmodconfig: give the reason in compile.exceptions")
        for line in reference.added(*map(reference.warnings, (text, base.get(file, "")))):
            bad += 1
            print(f"{file}: new: {line}")
    bad += reference.unused("compile.exceptions", excused)
    print(f"{len(files)} files, {bad} complaints")
    return 1 if bad else 0


if __name__ == "__main__":
    reference.run(main)
