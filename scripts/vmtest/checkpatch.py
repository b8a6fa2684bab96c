#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""checkpatch.py LINUX EXCEPTIONS: checkpatch --strict on each commit since base."""
import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True
import reference  # noqa: E402
import series  # noqa: E402


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
    # patch, type, line number, used
    allowed = [[re.compile(patch), kind, number, False]
               for number, (patch, kind, _) in reference.exceptions(exceptions, "patch", "TYPE")]
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
    reference.run(main)
