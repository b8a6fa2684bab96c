#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""docs.py LINUX SCRATCH CACHE JOBS: builds the pages that the series touches, and
those made from code that it touches, with Sphinx, as "make htmldocs" does; checks
the kernel-doc of that code, and that what the series mentions exists."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
import reference  # noqa: E402
import series  # noqa: E402

# All of core-api: what the pages there refer to, and their place in its index.
PAGES = ["index.rst", "core-api/**"]
# Hundreds of pages that conf.py asks for by itself.
NEVER = "netlink"
# Names of the guide's own, in what it shows by way of example.
MADE_UP = {"reset_the_device_that_swap_is_on"}
NAME = r"((?:__)?[A-Za-z]\w+)"
MENTIONED = re.compile(rf"\b{NAME}\(\)|\b(?:struct|enum|union) {NAME}|:c:\w+:`{NAME}|%([A-Z]\w+)")
PATH = re.compile(r"(?<![\w/.-])((?:Documentation|include|mm|kernel|tools|fs|block|net|drivers|scripts|arch|lib)"
                  r"/[\w./+-]*\w\.(?:rst|txt|c|h|S|config|sh|py))\b")


def run(source, cmd):
    """What a tool of the tree says, a line each, with no path of the tree in it."""
    env = dict(os.environ, PATH="/usr/bin:" + os.environ["PATH"], PYTHONDONTWRITEBYTECODE="1",
               srctree=str(source))
    done = subprocess.run(["nice", "-n", "5", *cmd], cwd=source / "Documentation", env=env,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    text = done.stdout.decode(errors="replace").replace(f"{source}/", "")
    return done.returncode, re.sub(r"^(.*?)\.\./(?=\w)", r"\1", text, flags=re.M)


def sphinx(source, out, pages, jobs):
    shutil.rmtree(out, ignore_errors=True)
    code, text = run(source, ["sphinx-build", "-q", "-j", jobs, "-b", "html", "-d", str(out / "doctrees"),
                              "-D", f"include_patterns={','.join(pages)}", "-D", f"exclude_patterns={NEVER}",
                              ".", str(out / "html")])
    if code or not (out / "html/core-api/index.html").is_file():
        raise series.Problem(f"sphinx-build failed: {text[-2000:]}")
    return text


def kernel_doc(source, files):
    there = [str(source / f) for f in files if (source / f).is_file()]
    return run(source, [str(source / "scripts/kernel-doc"), "-none", "-Wall", *there])[1]


def remembered(cache, parts, make):
    """The warnings that an answer has, which need not be made if it was before."""
    entry = cache / f"docs-{reference.digest(*parts)}"
    if not entry.exists():
        cache.mkdir(parents=True, exist_ok=True)
        reference.put(entry, make())
    return reference.warnings(entry.read_text())


def made_from(linux, files):
    """The pages that have kernel-doc of one of the files."""
    found = []
    for page in sorted((linux / "Documentation").rglob("*.rst")):
        if set(re.findall(r"^\.\. kernel-doc:: (\S+)", page.read_text(errors="replace"), re.M)) & files:
            found.append(str(page.relative_to(linux / "Documentation")))
    return found


def missing(linux, changed):
    """What the new text mentions, and nothing has: (file, name)."""
    lines = series.out("diff", "-U0", "--no-renames", "--no-color", "--no-ext-diff", "base", "HEAD",
                       "--", "*.rst", "*.c", "*.h", "*Kconfig*").splitlines()
    names, paths, file = {}, set(), None
    for line in lines:
        if line.startswith("+++ "):
            file = line[6:]
        elif line.startswith("+"):
            for groups in MENTIONED.findall(line):
                names.setdefault("".join(groups), set()).add(file)
            if not re.match(r"\+\s*#\s*include", line):
                paths |= {(file, path) for path in PATH.findall(line)}
    # A name that only comments have does not exist.
    for status, path in changed:
        if status != "D" and re.search(r"\.[chS]$", path):
            text = (linux / path).read_text(errors="replace")
            for name in re.findall(r"\w+", re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.S)):
                names.pop(name, None)
    seen = set()
    if names:
        grep = ["git", "-C", str(linux), "grep", "-ohwP", "|".join(sorted(names)), "--",
                "*.c", "*.h", "*.S", *[f":!{path}" for _, path in changed]]
        seen = set(subprocess.run(grep, capture_output=True, check=False).stdout.decode().split())
    bad = [(f, n) for n, where in names.items() if n not in seen | MADE_UP for f in where]
    bad += [("docs.py", f"{n}, which it lists as made up") for n in MADE_UP - set(names)]
    return sorted(bad + [(f, p) for f, p in paths if not (linux / p).exists()])


def main(linux, scratch, cache, jobs):
    linux, scratch, cache = (pathlib.Path(p).resolve() for p in (linux, scratch, cache))
    changed = reference.changed()
    there = [f for s, f in changed if s != "D"]
    code = [f for f in there if re.search(r"\.[ch]$", f) and not f.startswith("tools/")]
    pages = PAGES + [f.removeprefix("Documentation/") for f in there if re.match(r"Documentation/.*\.rst$", f)]
    pages += made_from(linux, set(code))
    pages = sorted(set(pages))
    tool = reference.version("sphinx-build") + sys.version + pathlib.Path(__file__).read_text()

    # What is below tools/ gets into a page only where that names it.
    text = "".join((linux / f).read_text() for f in there if f.endswith(".rst"))
    shown = [f for f in there if not f.startswith("tools/") or f in text]

    def ask(what, of, sources, make):
        """What the series says; what the base says."""
        key = [what, tool, series.out("rev-parse", "base^{tree}"), *of]
        state = series.out("ls-tree", "-r", "HEAD", "--", *sources)
        return (remembered(cache, [*key, state], lambda: make(linux)),
                remembered(cache, key, lambda: make(reference.checkout(scratch.parent))))

    bad = 0
    for what, of, sources, make in (
            ("page", pages, shown, lambda source: sphinx(source, scratch / source.name, pages, jobs)),
            ("kernel-doc", code, code, lambda source: kernel_doc(source, code))):
        for line in reference.added(*ask(what, of, sources, make)):
            bad += 1
            print(f"{what}: {line}")
    for file, name in missing(linux, changed):
        bad += 1
        print(f"{file} mentions {name}: there is no such thing")
    print(f"{len(pages)} patterns of pages, kernel-doc of {len(code)} files, {bad} complaints")
    return 1 if bad else 0


if __name__ == "__main__":
    reference.run(main)
