#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The series, both ways: patches/ and overlay files <-> commits in build/linux.

series.py digest            hash of the series, patches and overlay files
series.py measured          hash of that in it which make bench has counted
series.py overlay           the overlay files, one per line
series.py verify            what must hold for patches/ and the overlay
series.py commit BASE       commits them onto BASE, prints the last commit
series.py refresh BASE TIP  rewrites them from the commits BASE..TIP
series.py stale BASE TIP    what refresh would change
"""
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parents[2]
GIT = os.environ.get("SERIES_GIT", str(TOP / "build/linux/.git"))
# Not the kernel's: no patch may bring a file there.
OURS = re.compile(r"(patches|build|out|\.ci|scripts/vmtest)(/|$)|[^/]+$")
# Nothing of this is in the kernels that make bench counts.
UNCOUNTED = re.compile(r"(Documentation|kernel/configs|mm/tests|scripts/coccinelle|tools/(mm|testing))/")
# Lie next to the patches and are none of them.
COVER = "cover-letter.txt"
FIXES = "fixes"
# Whose the commits are if git knows no user.
NOBODY = "Series", "series@localhost"
# The same commits from the same files, whenever they are made.
DATE = "1767225600 +0000"
HEADER = """\
# The series, in the order in which it applies.  A line names a patch; the
# indented lines below it name the new files which that patch brings: they are
# in this repository, whole, at the path which they have in the kernel, and as
# the last patch that edits them leaves them.
# Do not edit: change build/linux, then run make refresh.
"""


class Problem(Exception):
    """Something the user has to put right."""


def git(*args, data=None, index=None, ok=(0,), repo=None):
    env = dict(os.environ, GIT_DIR=str(repo or GIT))
    if index:
        env["GIT_INDEX_FILE"] = index
    cmd = ["git", "-c", "core.hooksPath=/dev/null", "-c", "core.autocrlf=false",
           "-c", "apply.whitespace=nowarn", "-c", "apply.ignoreWhitespace=no",
           "-c", "core.quotePath=false", "-c", "i18n.commitEncoding=UTF-8",
           "-c", "i18n.logOutputEncoding=UTF-8", "-c", "log.showSignature=false",
           "-c", "diff.suppressBlankEmpty=false", *args]
    run = subprocess.run(cmd, input=data, env=env, capture_output=True, check=False)
    if run.returncode not in ok:
        text = run.stderr.decode(errors="replace").strip()
        raise Problem(f"git {args[0]} failed in {repo or GIT}: {text}")
    return run


def out(*args, **kw):
    return git(*args, **kw).stdout.decode().rstrip("\n")


def names(*args, **kw):
    return [n for n in git(*args, **kw).stdout.decode(errors="surrogateescape").split("\0") if n]


def read_series(top=TOP):
    """The leading comment and [(patch, [overlay file])]."""
    head, patches = "", []
    path = top / "patches/series"
    lines = path.read_text().splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        where = f"patches/series line {number}"
        if line.startswith("#") or not line.strip():
            if patches and line.strip():
                raise Problem(f"{where}: a comment belongs above the first patch")
            head += "" if patches else line + "\n"
        elif line.startswith("\t"):
            if not patches:
                raise Problem(f"{where}: a file without a patch above it")
            patches[-1][1].append(line.strip())
        elif not re.fullmatch(r"[\w.+-]+\.patch", line.rstrip()):
            raise Problem(f"{where}: want NAME.patch, or a tab and a file, not: {line}")
        else:
            patches.append((line.rstrip(), []))
    return head, patches


def read_patch(path):
    """The changelog and the diff, either as bytes."""
    if not path.is_file():
        raise Problem(f"patches/series lists {path.name}, which is not in patches/")
    text = path.read_bytes()
    head = re.match(rb"Subject: \[PATCH\] (\S[^\n]*)\n", text)
    if not head:
        raise Problem(f"{path.name}: the first line must be: Subject: [PATCH] <subject>")
    body, _, diff = text[head.end() - 1:].partition(b"\n---\n")
    body = body.strip(b"\n")
    return head[1] + b"\n" + (b"\n" + body + b"\n" if body else b""), diff


def overlay_mode(path):
    if path.is_symlink() or not path.is_file():
        raise Problem(f"patches/series lists {path.relative_to(TOP)}, which is not a file here")
    return "100755" if os.access(path, os.X_OK) else "100644"


def digest():
    total = hashlib.sha256()

    def add(name, path):
        mode, data = overlay_mode(path), path.read_bytes()
        total.update(f"{name}\0{mode}\0{len(data)}\0".encode() + data)

    for patch, files in read_series()[1]:
        read_patch(TOP / "patches" / patch)
        for name in [f"patches/{patch}", *files]:
            add(name, TOP / name)
    return total.hexdigest()


def measured():
    """As digest(), without changelogs and what is not in the kernels that are counted."""
    total = hashlib.sha256()

    def add(name, data):
        if not UNCOUNTED.match(name):
            total.update(f"{name}\0{len(data)}\0".encode() + data)

    for patch, files in read_series()[1]:
        _, *diffs = re.split(rb"^diff --git a/(.*) b/.*\n", read_patch(TOP / "patches" / patch)[1], flags=re.M)
        for name, diff in zip(diffs[::2], diffs[1::2]):
            add(name.decode(), diff)
        for name in files:
            add(name, (TOP / name).read_bytes())
    return total.hexdigest()


def explain(diff, stderr):
    """git apply's complaints, with the number of the hunk."""
    hunks, name = {}, None
    for line in diff.decode(errors="replace").splitlines():
        if line.startswith("diff --git "):
            name, count = line.split(" b/")[-1], 0
        found = re.match(r"@@ -(\d+).*? @@", line)
        if found and name:
            count += 1
            hunks[name, found[1]] = f"{name} hunk {count} ({found[0]})"
    failed = re.findall(r"^error: patch failed: (.+):(\d+)$", stderr, re.M)
    if failed:
        return ("; ".join(hunks.get(f, ":".join(f)) for f in failed)
                + ": the lines that the patch expects there are not there")
    errors = re.findall(r"^error: (.*)$", stderr, re.M)
    return "; ".join(errors) or stderr.strip()


def edited(diff):
    return re.findall(r"^diff --git a/(.+) b/\1$", diff.decode(errors="replace"), re.M)


def brought(patches, top, index):
    """{overlay file: mode and blob that its patch brings}, without what later ones do to it."""
    last = {file: number for number, (_, files) in enumerate(patches) for file in files}
    entries = "".join(f"{overlay_mode(top / file)} "
                      f"{out('hash-object', '-w', '--no-filters', str(top / file))}\t{file}\n"
                      for file in last)
    git("update-index", "--add", "--index-info", data=entries.encode(), index=index)
    for number, (patch, _) in reversed(list(enumerate(patches))):
        diff = read_patch(top / "patches" / patch)[1]
        files = [f for f in edited(diff) if last.get(f, number) < number]
        if not files:
            continue
        run = git("apply", "--cached", "-R", *(f"--include={f}" for f in files), "-", data=diff,
                  index=index, ok=range(256))
        if run.returncode:
            said = run.stderr.decode(errors="replace")
            raise Problem(f"{patch} does not lead to the overlay files that it edits, {explain(diff, said)}:"
                          " change build/linux, then make refresh")
    listed = names("ls-files", "-s", "-z", index=index)
    return {name: " ".join(info.split()[:2]) for info, name in (e.split("\t", 1) for e in listed)}


def identity(repo=None):
    ident = git("var", "GIT_AUTHOR_IDENT", ok=(0, 128), repo=repo).stdout.decode()
    found = re.match(r"(.+) <([^>]+@[^>]+)> ", ident)
    configured = (git("config", "user.email", ok=(0, 1), repo=repo).stdout
                  or os.environ.get("GIT_AUTHOR_EMAIL"))
    if found and configured:
        return found[1], found[2]
    return NOBODY


def commit_series(base, top=TOP):
    """Commits the series without a work tree; one commit id per patch."""
    done, tip = [], base
    ours = identity()
    with tempfile.TemporaryDirectory(dir=GIT) as scratch:
        index = f"{scratch}/index"
        git("read-tree", base, index=index)
        patches = read_series(top)[1]
        blobs = brought(patches, top, f"{scratch}/overlay")
        for patch, files in patches:
            message, diff = read_patch(top / "patches" / patch)
            if diff.strip():
                run = git("apply", "--cached", "-v", "-", data=diff, index=index, ok=range(256))
                said = run.stderr.decode(errors="replace")
                if run.returncode:
                    raise Problem(f"patch {patch} does not apply: {explain(diff, said)}")
                moved = re.findall(r"Checking patch (.*)\.\.\.|(Hunk #.*\(offset.*)", said)
                if any(m[1] for m in moved):
                    print(f"patch {patch}: {sum(bool(m[1]) for m in moved)} hunks apply with an"
                          " offset: make refresh", file=sys.stderr)
            entries = ""
            for file in files:
                if OURS.match(file):
                    raise Problem(f"patch {patch} brings {file}, which is not a place for"
                                  " kernel files: move it")
                if out("ls-files", "--", file, index=index):
                    raise Problem(f"patch {patch} brings {file}, which exists already: make it"
                                  " an edit of the patch, in build/linux")
                entries += f"{blobs[file]}\t{file}\n"
            git("update-index", "--add", "--index-info", data=entries.encode(), index=index)
            tree = out("write-tree", index=index)
            signed = re.search(r"^Signed-off-by: (.+) <(.+@.+)>$", message.decode(), re.M)
            for who, (name, mail) in (("AUTHOR", signed.groups() if signed else ours),
                                      ("COMMITTER", ours)):
                os.environ.update({f"GIT_{who}_NAME": name, f"GIT_{who}_EMAIL": mail,
                                   f"GIT_{who}_DATE": DATE})
            tip = out("commit-tree", tree, "-p", tip, data=message)
            done.append(tip)
    return done


def patch_text(parent, commit, edits):
    text = f"Subject: [PATCH] {out('log', '-1', '--format=%s', commit)}\n"
    body = out("log", "-1", "--format=%b", commit).strip("\n")
    if re.search(r"^---$", body, re.M):
        raise Problem(f"commit {commit[:12]}: a line of three dashes would end its changelog: reword it")
    data = (text + (f"\n{body}\n" if body else "")).encode()
    if not edits:
        return data
    how = ["--literal-pathspecs", "diff-tree", "-r", "--no-renames", "--no-color", "--no-ext-diff",
           "--no-textconv", "--diff-algorithm=myers", "--indent-heuristic",
           "--src-prefix=a/", "--dst-prefix=b/"]
    stat = git(*how, "--stat=75", parent, commit, "--", *edits).stdout
    diff = git(*how, "-U3", "--inter-hunk-context=0", parent, commit, "--", *edits).stdout
    if re.search(rb"^Binary files .* differ$", diff, re.M):
        raise Problem(f"commit {commit[:12]} edits a binary file: leave that out")
    # Object names would change with every rebase and tell a reader nothing.
    diff = re.sub(rb"^index [0-9a-f]+\.\.[^\n]*\n", b"", diff, flags=re.M)
    return data + b"---\n" + stat + b"\n" + diff


def sort_changes(base, commits):
    """For each commit: files that it edits, new files that it brings."""
    based = set(names("ls-tree", "-r", "--name-only", "-z", base))
    owner, result = {}, []
    parent = base
    for commit in commits:
        what = out("log", "-1", "--format=%h (%s)", commit)
        if out("rev-parse", f"{commit}^@").split() != [parent]:
            raise Problem(f"commit {what} is a merge or has no place in a line from the base: rebase it")
        if re.match(r"(fixup|squash|amend)!", out("log", "-1", "--format=%s", commit)):
            raise Problem(f"commit {what} wants folding in: git -C build/linux rebase -i --autosquash base")
        fields = names("diff-tree", "-r", "--no-renames", "--raw", "-z", parent, commit)
        edits, brings = [], []
        for info, name in zip(fields[::2], fields[1::2]):
            mode = info.split()[1]
            if name in based:
                edits.append(name)
            elif name in owner:
                if mode != owner[name]:
                    raise Problem(f"commit {what} removes {name} or changes its mode: let the commit"
                                  " that brings it do that (git -C build/linux rebase -i base)")
                edits.append(name)
            elif OURS.match(name):
                raise Problem(f"commit {what} adds {name}, which is not a place for kernel files")
            elif mode not in ("100644", "100755"):
                raise Problem(f"commit {what} adds {name}, which is not a plain file")
            else:
                owner[name] = mode
                brings.append(name)
        result.append((commit, parent, edits, brings))
        parent = commit
    return result


def without_context(text):
    return re.sub(rb"^(@@ -[\d,]+ \+[\d,]+ @@).*$", rb"\1", text, flags=re.M)


def stage(new, base, commits):
    """Writes the series that the commits stand for below the directory new."""
    (new / "patches").mkdir()
    head, listed = read_series()
    series, tip = head or HEADER + "\n", commits[-1] if commits else base
    for number, (commit, parent, edits, brings) in enumerate(sort_changes(base, commits), 1):
        slug = out("log", "-1", "--format=%f", commit)[:52].rstrip("-.")
        name = f"{number:04}-{slug}.patch"
        text = patch_text(parent, commit, edits)
        old = TOP / "patches" / name
        # Which function a hunk names depends on git's version: no reason for a change.
        if old.is_file() and without_context(old.read_bytes()) == without_context(text):
            text = old.read_bytes()
        (new / "patches" / name).write_bytes(text)
        series += f"{name}\n" + "".join(f"\t{b}\n" for b in sorted(brings))
        for file in brings:
            (new / file).parent.mkdir(parents=True, exist_ok=True)
            (new / file).write_bytes(git("cat-file", "blob", f"{tip}:{file}").stdout)
            mode = out("ls-tree", "--format=%(objectmode)", commit, "--", file)
            (new / file).chmod(0o755 if mode == "100755" else 0o644)
    (new / "patches/series").write_text(series)
    return listed


def same(one, other):
    return (other.is_file() and other.read_bytes() == one.read_bytes()
            and os.access(other, os.X_OK) == os.access(one, os.X_OK))


def put(source, target):
    """Replaces target in one step, if it differs."""
    if same(source, target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    try:
        shutil.copy(source, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    print(f"wrote {target.relative_to(TOP)}", file=sys.stderr)


def refresh(base, tip, dry=False):
    commits = out("rev-list", "--reverse", "--topo-order", f"{base}..{tip}").split()
    (TOP / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=TOP / "build") as scratch:
        new = pathlib.Path(scratch)
        listed = stage(new, base, commits)
        # What was written must give back the very trees that it was made from.
        for made, commit in zip(commit_series(base, new), commits):
            if out("rev-parse", f"{made}^{{tree}}") != out("rev-parse", f"{commit}^{{tree}}"):
                raise Problem(f"commit {commit[:12]} does not survive being written as a patch:"
                              " nothing was changed")
        keep = {p.relative_to(new) for p in new.rglob("*") if p.is_file()}
        last = pathlib.Path("patches/series")
        before = [f"patches/{p}" for p, _ in listed] + [f for _, fs in listed for f in fs]
        gone = [f for f in before if pathlib.Path(f) not in keep and (TOP / f).exists()]
        if dry:
            return gone + [str(p) for p in keep if not same(new / p, TOP / p)]
        for path in map(str, keep):
            if (not path.startswith("patches/") and path not in before and (TOP / path).exists()
                    and (TOP / path).read_bytes() != (new / path).read_bytes()):
                raise Problem(f"{path} exists here, in no patch, and differs from build/linux: make"
                              " both the same, or remove the one here")
        # Says, should this be cut short, that what differs here is nobody's edit.
        pathlib.Path(GIT, "vmtest-refreshing").touch()
        for path in sorted(keep - {last}) + [last]:
            put(new / path, TOP / path)
    for name in gone:
        (TOP / name).unlink()
        print(f"removed {name}", file=sys.stderr)
        for parent in pathlib.Path(name).parents:
            if parent.parts and not any((TOP / parent).iterdir()):
                (TOP / parent).rmdir()
    return []


def unfit_fixes(base):
    """patches/fixes/ is for the base as it is, each patch by itself."""
    bad = []
    with tempfile.TemporaryDirectory(dir=GIT) as scratch:
        git("read-tree", base, index=f"{scratch}/index")
        for path in sorted((TOP / "patches" / FIXES).glob("*")):
            diff = read_patch(path)[1]
            run = git("apply", "--cached", "--check", "-", data=diff, index=f"{scratch}/index",
                      ok=range(256))
            if run.returncode:
                bad.append(f"patches/{FIXES}/{path.name} does not apply to the base:"
                           f" {explain(diff, run.stderr.decode(errors='replace'))}")
    return bad


def verify(base):
    """Invariants that hold without applying anything; a line for each breach."""
    patches = read_series()[1]
    seen, bad = {}, []
    based = set(names("ls-tree", "-r", "--name-only", "-z", base))
    listed = [p for p, _ in patches]
    bad += [f"{p} is listed twice" for p in sorted(set(listed)) if listed.count(p) > 1]
    for path in sorted((TOP / "patches").glob("*")):
        if path.name not in listed and path.name not in ("series", COVER, FIXES):
            bad.append(f"patches/{path.name} is not in patches/series")
    for patch, files in patches:
        diff = read_patch(TOP / "patches" / patch)[1]
        if re.search(rb"^new file mode ", diff, re.M):
            bad.append(f"{patch} contains a new file: make refresh moves it to the overlay")
        if not files and not diff.strip():
            bad.append(f"{patch} changes nothing")
        for name in files:
            if name in seen:
                bad.append(f"{name} belongs to {seen[name]} and to {patch}")
            if name in based:
                bad.append(f"{name} ({patch}) exists in the base")
            overlay_mode(TOP / name)
            seen[name] = patch
    bad += unfit_fixes(base)
    run = subprocess.run(["git", "-C", TOP, "ls-files", "-z", "-co", "--exclude-standard"],
                         capture_output=True, check=False)
    if run.returncode:
        raise Problem("this is not a git checkout: make check needs one")
    for name in run.stdout.decode().split("\0"):
        if name and not OURS.match(name) and name not in seen and (TOP / name).exists():
            bad.append(f"{name} belongs to no patch: add it to one in build/linux, or remove it")
    return bad


def main(args):
    command, *rest = args or [""]
    if command == "digest":
        print(digest())
    elif command == "measured":
        print(measured())
    elif command == "overlay":
        print("".join(f"{f}\n" for _, files in read_series()[1] for f in files), end="")
    elif command == "verify":
        bad = verify(*rest)
        print("".join(f"{b}\n" for b in bad), end="", file=sys.stderr)
        return 1 if bad else 0
    elif command == "commit":
        print((rest + commit_series(*rest))[-1])
    elif command == "stale":
        bad = refresh(*rest, dry=True)
        print("".join(f"make refresh would change {b}\n" for b in bad), end="", file=sys.stderr)
        return 1 if bad else 0
    elif command == "refresh":
        refresh(*rest)
    else:
        raise Problem("usage:" + __doc__.split(":", 1)[1])
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Problem as problem:
        print(f"vmtest: {problem}", file=sys.stderr)
        sys.exit(6)
    except OSError as error:
        print(f"vmtest: {error}: put that right, then try again", file=sys.stderr)
        sys.exit(6)
