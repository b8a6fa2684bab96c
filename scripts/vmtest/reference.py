# SPDX-License-Identifier: GPL-2.0
"""What the base says, for checks that complain about what a patch adds to it."""
import collections
import functools
import hashlib
import pathlib
import re
import subprocess
import sys

import series


def checkout(scratch):
    """The base's files, in a directory of their own with an index of its own."""
    source = scratch / "base-source"
    source.mkdir(parents=True, exist_ok=True)
    index = str(scratch / "base-source.index")
    pathlib.Path(index + ".lock").unlink(missing_ok=True)
    series.git(f"--work-tree={source}", "read-tree", "--reset", "-u", "base", index=index)
    series.git(f"--work-tree={source}", "checkout-index", "-a", "-q", "-u", index=index)
    return source


def changed():
    """[(status, path)] of what the series touches: A, M, D or T."""
    lines = series.out("diff-tree", "-r", "--no-renames", "--name-status", "base", "HEAD", "--").splitlines()
    return [tuple(line.split("\t")) for line in lines]


def digest(*parts):
    """A short name for what an answer depends on."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def exceptions(path, *fields):
    """(line number, its fields) of a list of exceptions; the last field is the reason."""
    for number, line in enumerate(pathlib.Path(path).read_text().splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            found = line.split(None, len(fields))
            if len(found) <= len(fields):
                want = " ".join(f"<{f}>" for f in (*fields, "reason"))
                raise series.Problem(f"{pathlib.Path(path).name} line {number}: want {want}")
            yield number, found


def unused(path, excused):
    """How many exceptions nothing has needed, of {what: whether it was needed}; names them."""
    left = [what for what, used in excused.items() if not used]
    for what in left:
        print(f"{path}: nothing needs {what}: remove it")
    return len(left)


def run(main):
    """Calls main; what the user has to put right is a line, and not a backtrace."""
    try:
        sys.exit(main(*sys.argv[1:]))
    except (series.Problem, OSError) as problem:
        print(f"vmtest: {problem}", file=sys.stderr)
        sys.exit(6)


@functools.cache
def version(tool):
    return subprocess.run([tool, "--version"], capture_output=True, check=True).stdout.decode()


def put(path, text):
    """Whole or not at all: a later run believes what it finds."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.replace(path)


def warnings(text):
    """Of the compiler and of sparse; with capitals, of kernel-doc and Sphinx."""
    return [line for line in text.splitlines()
            if re.search(r"\b(warning|error|critical|severe): ", line, re.I)]


def added(new, base):
    """The lines of new that base lacks, but for line numbers, which every patch shifts."""
    def bare(line):
        return re.sub(r"(?::| line )\d+\b(?::\d+(?:-\d+)?\b)?", "", re.sub(r"^(\.\./)+", "", line))
    left = collections.Counter(map(bare, base))
    result = []
    for line in new:
        if left[bare(line)]:
            left[bare(line)] -= 1
        else:
            result.append(line)
    return result
