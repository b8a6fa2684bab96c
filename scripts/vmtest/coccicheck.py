#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""coccicheck.py LINUX SCRATCH CACHE JOBS: what the kernel's semantic patches say of
the C files that the series adds, and what they say more of those that it edits."""
import json
import pathlib
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
import reference  # noqa: E402
import series  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
MACROS = HERE / "coccicheck.macros"
REPORT = ["-D", "report", "--no-show-diff", "--very-quiet"]
# Of the lines of the new files, in percent.
UNDERSTOOD = 98


def read_exceptions():
    """{(rule, path): used}, and the rules that are not run."""
    excused, never = {}, set()
    for _, (rule, path, _) in reference.exceptions(HERE / "coccicheck.exceptions", "rule", "path"):
        if path == "-":
            never.add(rule)
        else:
            excused[rule, path] = False
    return excused, never


def spatch(where, *args):
    done = subprocess.run(["nice", "-n", "5", "spatch", "--macro-file", str(MACROS), *args], cwd=where,
                          capture_output=True, check=False, stdin=subprocess.DEVNULL)
    text = done.stdout.decode(errors="replace")
    if done.returncode:
        raise series.Problem(f"spatch {' '.join(args)} failed: {text[-500:]}"
                             f"{done.stderr.decode(errors='replace')[-1500:]}")
    return text


class Rule:
    """A semantic patch, and what it has said before."""

    def __init__(self, path, name, cache):
        text = path.read_text()
        self.path, self.name = path, name
        self.reports = re.search(r"^virtual\s+report\b", text, re.M) is not None
        self.options = " ".join(re.findall(r"Options:(.*)", text)).split()
        key = reference.digest(text, reference.version("spatch"), MACROS.read_text(), *REPORT)
        self.store = cache / f"cocci-{name.replace('/', '-')}-{key}.json"
        self.said = json.loads(self.store.read_text()) if self.store.exists() else {}

    def ask(self, tree, blobs, scratch, jobs):
        """{path: [line]} for {path: blob}."""
        state = "" if "--no-includes" in self.options else tree.state
        key = {path: f"{path} {blob} {state}" for path, blob in blobs.items()}
        new = {path: blob for path, blob in blobs.items() if key[path] not in self.said}
        if new:
            text = spatch(tree.only(new, scratch), *REPORT, "--cocci-file", str(self.path),
                          *self.options, "--dir", ".", *tree.include, "--jobs", jobs, "--chunksize", "1")
            found = {path: [] for path in new}
            for line in text.splitlines():
                where = re.match(r"(?:\./)?([^\s:]+):\d+:", line)
                if where and where[1] in found:
                    found[where[1]].append(line.removeprefix("./"))
                # What a macro stands for has the same position everywhere: of no use.
                elif line.strip() and (not where or where[1] != str(MACROS)):
                    raise series.Problem(f"{self.name} says, of what file?: {line}")
            self.said |= {key[path]: sorted(lines) for path, lines in found.items()}
            self.store.parent.mkdir(parents=True, exist_ok=True)
            reference.put(self.store, json.dumps(self.said))
        return {path: self.said[key[path]] for path in blobs}


class Tree:
    """The C files of the base or of the series that matter, and where includes are."""

    def __init__(self, rev, paths, linux, scratch):
        self.blobs = {}
        for line in series.out("ls-tree", "-r", rev, "--", *paths).splitlines():
            self.blobs[line.split("\t")[1]] = line.split()[2]
        headers = {path: blob for path, blob in self.blobs.items() if path.endswith(".h")}
        # Nothing else of what is included differs between the two.
        self.state = reference.digest(series.out("rev-parse", "base^{tree}"), str(sorted(headers.items())))
        self.root = scratch / rev
        shutil.rmtree(self.root, ignore_errors=True)
        for path, blob in self.blobs.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_bytes(series.git("cat-file", "blob", blob).stdout)
        self.include = []
        for folder in ("arch/x86/include", "include", "include/uapi"):
            self.include += ["-I", str(self.root / folder), "-I", str(linux / folder)]

    def only(self, paths, where):
        """A directory with these files and nothing else."""
        shutil.rmtree(where, ignore_errors=True)
        for path in paths:
            (where / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.root / path, where / path)
        return where


def understood(tree, paths):
    """How much of the files Coccinelle can parse, in percent."""
    found = re.search(r"=> ([\d.]+)% good or passed", spatch(tree.root, "--parse-c", *paths))
    if not found:
        raise series.Problem("spatch --parse-c does not say how much it has parsed")
    return float(found[1])


def main(linux, scratch, cache, jobs):
    linux, scratch, cache = (pathlib.Path(p).resolve() for p in (linux, scratch, cache))
    changed = [(s, f) for s, f in reference.changed() if s != "D" and re.search(r"\.[ch]$", f)]
    ours = [f for s, f in changed if s == "A"]
    tip = Tree("HEAD", [f for _, f in changed], linux, scratch)
    base = Tree("base", [f for s, f in changed if s != "A"], linux, scratch)
    excused, never = read_exceptions()
    bad = ran = 0
    percent = understood(tip, ours)
    if percent < UNDERSTOOD:
        bad += 1
        print(f"Coccinelle can parse {percent}% of the new files, less than {UNDERSTOOD}%: tell it of"
              f" their macros in {MACROS.name} (spatch --macro-file {MACROS.name} --parse-c FILE)")
    where = linux / "scripts/coccinelle"
    for path in sorted(where.rglob("*.cocci")):
        name = str(path.relative_to(where).with_suffix(""))
        rule = Rule(path, name, cache)
        if name in never or not rule.reports:
            never.discard(name)
            continue
        ran += 1
        said = {f: lines for f, lines in rule.ask(tip, tip.blobs, scratch / "files", jobs).items() if lines}
        known = rule.ask(base, {f: base.blobs[f] for f in said if f in base.blobs}, scratch / "files", jobs)
        for file, lines in said.items():
            new = reference.added(lines, known.get(file, []))
            if new and (name, file) in excused:
                excused[name, file] = True
                continue
            bad += len(new)
            print("".join(f"{line} ({name})\n" for line in new), end="", flush=True)
    for entry in [f"{name} -" for name in never] + [" ".join(e) for e, used in excused.items() if not used]:
        bad += 1
        print(f"coccicheck.exceptions: nothing needs {entry}: remove it")
    print(f"{ran} rules, {len(changed)} files, {percent}% of the new ones parsed, {bad} complaints")
    return 1 if bad else 0


if __name__ == "__main__":
    reference.run(main)
