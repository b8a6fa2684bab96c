#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""checkpatch.py LINUX EXCEPTIONS: checkpatch --strict on each commit since base."""
import os
import pathlib
import re
import subprocess
import sys

sys.dont_write_bytecode = True
import series  # noqa: E402


def read_exceptions(path):
    """[patch regex, type, line number, used] for each line."""
    result = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split(None, 2)
        if len(fields) < 3:
            raise series.Problem(f"{path.name} line {number}: want <patch> <TYPE> <reason>")
        result.append([re.compile(fields[0]), fields[1], number, False])
    return result


def complaints(linux, commit):
    """(type, text) for each thing that checkpatch says."""
    mail = subprocess.run(["git", "-C", linux, "format-patch", "-1", "--stdout", "--no-signature",
                           "--no-renames", "--no-color", "--no-ext-diff", commit],
                          capture_output=True, check=True).stdout
    # Debian's Python first: the modules that its helpers import are Debian's.
    env = dict(os.environ, PATH="/usr/bin:" + os.environ["PATH"], PYTHONDONTWRITEBYTECODE="1")
    run = subprocess.run(["scripts/checkpatch.pl", "--strict", "--terse", "--showfile", "--no-summary",
                          "--show-types", "--color=never", "--max-line-length=100", "-"],
                         cwd=linux, env=env, input=mail, capture_output=True, check=False)
    text = run.stdout.decode(errors="replace")
    found = re.findall(r"^(.*?) ?(?:ERROR|WARNING|CHECK):(\w+): (.*)$", text, re.M)
    if (run.returncode and not found) or run.stderr.strip():
        raise series.Problem(f"checkpatch.pl failed: {run.stderr.decode(errors='replace')}{text}")
    return [(kind, f"{where} {kind}: {what}") for where, kind, what in found]


def main(linux, exceptions):
    allowed = read_exceptions(pathlib.Path(exceptions))
    patches = [p for p, _ in series.read_series()[1]]
    commits = series.out("rev-list", "--reverse", "base..HEAD").split()
    bad = 0
    for patch, commit in zip(patches, commits, strict=True):
        for kind, text in complaints(linux, commit):
            match = [a for a in allowed if a[0].search(patch) and a[1] == kind]
            if match:
                match[0][3] = True
            else:
                bad += 1
                print(f"{patch}: {text}")
    for regex, kind, number, used in allowed:
        if not used:
            bad += 1
            print(f"checkpatch.exceptions line {number}: nothing needs {regex.pattern} {kind}: remove it")
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except series.Problem as problem:
        print(f"vmtest: {problem}", file=sys.stderr)
        sys.exit(6)
