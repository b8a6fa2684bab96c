#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""What "make series" writes: out/series/, the patches as mails for git send-email.

Numbered, threaded below a cover letter, addressed by get_maintainer.pl. The
directory is there only if git am has made the very trees of the series of it.
BISECT=1, or BISECT=40-45, first builds and boots the kernel after each patch.
"""
import concurrent.futures
import email
import email.utils
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import bisectable  # noqa: E402
import series  # noqa: E402
import vm  # noqa: E402

OUT = series.TOP / "out/series"
LINUX = series.TOP / "build/linux"
COVER = series.TOP / "patches" / series.COVER
RESULTS = series.TOP / "scripts/vmtest/bench/results.json"
LIST = "linux-mm@kvack.org"
# A patch goes to maintainers, reviewers and lists of what it touches; one that touches
# as much as this, not to the reviewers: lists hold back mails with that many recipients.
MANY = 30
# The cover goes to all lists that get a patch, unless only such a one. All people would
# be too many: it goes to those who own what the series is about, and to the maintainers
# of where the scopes are from now on. All others find it on their lists.
ABOUT = ["mm/memalloc_scope.c", "mm/page_alloc.c", "include/linux/gfp.h"]
HOME = "include/linux/sched.h"
# Theirs are dma-fences, but their pattern has kfence.h, too.
STRANGERS = ["DMA BUFFER SHARING FRAMEWORK"]
ROLE = re.compile(r"(.+?) \((maintainer|supporter|reviewer|open list|moderated list)(?::(.*))?\)")
WIDTH = 75
# Longer mails, lists have held back for as long as there are lists.
LARGE = 100000
# What the cover shows of the results of make bench.
ROWS = [
    "alloc_page + free", "alloc_page + free, inside noio", "order 3 + free", "bulk of 16 + free",
    "bulk of 16 + free, inside noio", "kmalloc(64) + kfree", "kmalloc(64) + kfree, inside nofs",
    "kmem_cache_alloc + free", "accounted alloc_page + free", "noio_save + restore",
    "nofs_save + restore, inside nofs", "guard(memalloc_nofs)", "capture + adopt",
    "softirq, empty handler", "hard interrupt, empty handler", "kernel thread, created and gone",
    "page fault of a program", "bytes of text", "bytes of task_struct (defconfig)"]


def sender():
    """Who git says the user of this checkout is."""
    repo = series.TOP / ".git"
    return series.identity(repo if repo.exists() else None)


def configured(name, *how):
    """The user's git configuration, that of this checkout included."""
    run = subprocess.run(["git", "-C", series.TOP, "config", *how, name], capture_output=True,
                         text=True, check=False)
    return run.stdout.strip()


def owners(*what):
    """{address: role} for a mail, or for files, from the MAINTAINERS of the series."""
    run = subprocess.run(["perl", "scripts/get_maintainer.pl", "--nogit", "--nogit-fallback",
                          "--nofixes", "--roles", *map(str, what)],
                         cwd=LINUX, capture_output=True, text=True, check=False)
    lines = run.stdout.splitlines()
    found = [ROLE.fullmatch(line) for line in lines]
    if run.returncode or run.stderr.strip() or not all(found):
        odd = [line for line, match in zip(lines, found) if not match]
        raise series.Problem(f"get_maintainer.pl: {' '.join([run.stderr.strip(), *odd])}")
    return {match[1]: match[2] for match in found if match[3] not in STRANGERS}


def recipients(found):
    people = [who for who, role in found.items() if not role.endswith("list")]
    lists = [who for who, role in found.items() if role.endswith("list") and who != LIST]
    if len(people) + len(lists) > MANY:
        people = [who for who in people if found[who] != "reviewer"]
    return people + lists


def address(text, to):
    """Put To and Cc at the end of the header of a mail."""
    def field(name, who):
        pairs = [email.utils.parseaddr(w) for w in who]
        return f"{name}: " + ",\n\t".join(email.utils.formataddr(p) for p in pairs) + "\n"

    head, _, body = text.partition("\n\n")
    return head + "\n" + field("To", [LIST]) + field("Cc", to) + "\n" + body


def own_commit(base):
    """With KSRC, the commit there that has the very files of the base, if it has one."""
    source = os.environ.get("KSRC")
    if not source:
        return None
    run = subprocess.run(["git", "-C", source, "rev-parse", "HEAD", "HEAD^{tree}"],
                         capture_output=True, text=True, check=False)
    commit, _, tree = run.stdout.strip().partition("\n")
    return commit if tree == series.out("rev-parse", f"{base}^{{tree}}") else None


def base_text(base):
    """What the base commit is, if it is one that nobody else has."""
    name, tree = series.out("log", "-1", "--format=%s", base), series.out("rev-parse", f"{base}^{{tree}}")
    package = re.fullmatch(r"(linux-source-[\d.]+)_(\S+)", name)
    what = f"Debian's package {package[1]}, version {package[2]}" if package else name
    if own_commit(base):
        return f"The base is {what}, the commit below."
    return (f"The base is {what}.\nThe commit below is an import of that; its tree is\n"
            f"{tree}.")


def bench_text(warn):
    """The table; nothing, rather than figures of another series."""
    found = {}
    if RESULTS.exists():
        try:
            found = json.loads(RESULTS.read_text())
        except ValueError as error:
            raise series.Problem(f"{RESULTS}: {error}: make bench PUBLISH=1") from error
    if found.get("series") != series.measured():
        what = "bench results are of another series" if found else "there are no bench results"
        warn(f"{what}, so the cover has none: make bench PUBLISH=1")
        return "  [ left out: no figures of this version of the series ]"
    lines = [f"  {'':36} {'7.3':>8} {'series':>8} {'ratio':>6}"]
    columns = [{**found["counts"][which]["operations"],
                "bytes of text": found["vmlinux"][which]["text"],
                "bytes of task_struct (defconfig)": found["task_struct"]["defconfig"][which]["size"]}
               for which in ("base", "patched")]
    for row in ROWS:
        one, other = (column.get(row) for column in columns)
        if other is None:
            raise series.Problem(f'the bench results have no row "{row}": correct ROWS in mail.py')
        base, patched = (f"{n:.10g}" if n is not None else "-" for n in (one, other))
        ratio = f"{other / one:.3f}" if one else ""
        lines.append(f"  {row:36} {base:>8} {patched:>8} {ratio:>6}".rstrip())
    return "\n".join(lines)


def cover_text(base, total, warn):
    """Subject and body of the cover letter, filled in."""
    if not COVER.is_file():
        raise series.Problem(f"patches/{series.COVER} is missing: git checkout it")
    text = COVER.read_text()
    for name, make in (("@bench@", lambda: bench_text(warn)), ("@base@", lambda: base_text(base))):
        if text.count(f"\n{name}\n") != 1:
            raise series.Problem(f"patches/{series.COVER}: want a line {name}, once")
        text = text.replace(f"\n{name}\n", f"\n{make()}\n")
    groups = [(int(a), int(b)) for a, b in re.findall(r"^  (\d+)-(\d+)  ", text, re.M)]
    if [a for a, _ in groups] + [total + 1] != [1] + [b + 1 for _, b in groups]:
        raise series.Problem(f"patches/{series.COVER}: the groups do not go from 1 to {total}")
    subject, _, body = text.partition("\n\n")
    bad = next((line for line in text.splitlines() if len(line) > WIDTH or not line.isascii()), None)
    if "\n" in subject or not body.strip():
        raise series.Problem(f"patches/{series.COVER}: the first line is the subject, the next is empty")
    if bad:
        raise series.Problem(f"patches/{series.COVER}: over {WIDTH} columns, or not ASCII: {bad}")
    return subject, body.strip("\n")


def format_patches(base, tip, who, where):
    """What the user's git would make of it, whatever it is told about diffs."""
    # For the mails are dated today.
    for date in ("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"):
        os.environ.pop(date, None)
    sign = configured("format.signOff", "--type=bool") == "true"
    prefix = configured("format.subjectPrefix")
    series.git("-c", "format.encodeEmailHeaders=true", "-c", "core.abbrev=12",
               "format-patch", "-q", "-o", str(where), "--numbered", "--cover-letter",
               "--cover-from-description=none", "--thread=shallow", "--no-attach", "--no-to", "--no-cc",
               "--no-add-header", "--no-notes", "--suffix=.patch", f"--base={base}",
               f"--from={who[0]} <{who[1]}>", "--signoff" if sign else "--no-signoff",
               *([f"--subject-prefix={prefix}"] if prefix else []),
               "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/",
               "--dst-prefix=b/", "-U3", "--diff-algorithm=myers", "--indent-heuristic",
               f"{base}..{tip}")
    return sorted(where.glob("*.patch")), sign


def write_mails(base, tip, who, where, warn):
    subject, body = cover_text(base, len(series.read_series()[1]), warn)
    mails, signed = format_patches(base, tip, who, where)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        found = list(pool.map(owners, mails[1:]))
    lists = [a for got in found if len(got) <= MANY for a in got if got[a].endswith("list")]
    # First those that see most of the series.
    lists = sorted(set(lists) - {LIST}, key=lambda a: (-lists.count(a), a))
    about = owners("-f", *ABOUT) | owners("--nor", "-f", HOME)
    people = {a: role for a, role in about.items() if not role.endswith("list")}
    for mail, got, (_, brings) in zip(mails[1:], found, series.read_series()[1], strict=True):
        if all(role.endswith("list") for role in got.values()):
            if brings:
                raise series.Problem(f"{mail.name}: MAINTAINERS names nobody for its new files:"
                                     " have the series add them")
            # The base has files that nobody maintains: kernel/softirq.c
            got = people | got
        mail.write_text(address(mail.read_text(), recipients(got)))
    text = mails[0].read_text()
    for old, new in (("*** SUBJECT HERE ***", subject), ("*** BLURB HERE ***", body),
                     (f"base-commit: {base}", f"base-commit: {own_commit(base) or base}")):
        if text.count(old) != 1:
            raise series.Problem(f"git format-patch made a cover letter without {old}: it is too new")
        text = text.replace(old, new)
    mails[0].write_text(address(text, [*people, *lists]))
    return mails, signed


def check_thread(mails, who):
    """Each mail is the sender's and answers the cover."""
    heads = [email.message_from_bytes(mail.read_bytes()) for mail in mails]
    total = len(mails) - 1
    for nr, (mail, head) in enumerate(zip(mails, heads)):
        if email.utils.parseaddr(head["From"])[1] != who[1]:
            raise series.Problem(f"{mail.name} is from {head['From']}, not from {who[1]}")
        if nr and head["In-Reply-To"] != heads[0]["Message-Id"]:
            raise series.Problem(f"{mail.name} does not answer the cover letter")
        number = f" {nr:0{len(str(total))}}/{total}]"
        if not head["Message-Id"] or not head["Cc"] or number not in head["Subject"]:
            raise series.Problem(f"{mail.name} lacks an id, recipients or its number")


def check_apply(mails, base, tip, scratch):
    """git am on a pristine checkout gives the trees and changelogs of the series."""
    # Its files come out of the index as patches touch them; all others stay in there.
    subprocess.run(["git", "clone", "-q", "--shared", "--no-checkout", LINUX, scratch], check=True)
    repo = scratch / ".git"
    series.git("update-ref", "--no-deref", "HEAD", base, repo=repo)
    series.git("read-tree", "HEAD", repo=repo)
    run = series.git(f"--work-tree={scratch}", "-c", "commit.gpgSign=false", "-c", "am.threeWay=false",
                     "-c", "am.keepcr=false", "am", "-q", *map(str, mails[1:]), repo=repo, ok=range(256))
    if run.returncode:
        stopped = repo / "rebase-apply/next"
        name = mails[int(stopped.read_text())].name if stopped.exists() else "the first"
        raise series.Problem(f"git am stops at {name}: {run.stderr.decode().strip().splitlines()[0]}")

    def commits(end, **kw):
        return series.out("log", "--reverse", "--format=%T%n%B%x00", f"{base}..{end}", **kw).split("\0")

    made, want = commits("HEAD", repo=repo), commits(tip)
    if len(made) != len(want):
        raise series.Problem(f"git am makes {len(made) - 1} commits of the mails, not {len(want) - 1}")
    for mail, one, other in zip(mails[1:], made, want):
        # Whoever signs off adds to the changelog.
        if not one.strip().startswith(other.strip()):
            raise series.Problem(f"git am of {mail.name} does not give the commit that it was made from")
    return series.out("rev-parse", f"{tip}^{{tree}}")


def main():
    warnings = []
    bisect = bisectable.wanted(os.environ.get("BISECT", ""))
    base, head = series.out("rev-parse", "base^{commit}", "HEAD").split()
    who = sender()
    if who == series.NOBODY:
        warnings.append("git does not know you, so From: is of nobody:"
                        " git config user.name and user.email, then again")
    # The commits of build/linux may be of whoever made that.
    os.environ.update(GIT_AUTHOR_NAME=who[0], GIT_AUTHOR_EMAIL=who[1])
    tip = series.commit_series(base)[-1]
    if series.out("rev-parse", f"{tip}^{{tree}}") != series.out("rev-parse", f"{head}^{{tree}}"):
        raise series.Problem("build/linux is not what patches/ gives: make tree")
    OUT.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=OUT.parent, prefix=".series-") as scratch:
        scratch = pathlib.Path(scratch)
        mails, signed = write_mails(base, tip, who, scratch / "mails", warnings.append)
        check_thread(mails, who)
        tree = check_apply(mails, base, tip, scratch / "applied")
        if bisect:
            code = bisectable.run(bisect)
            if code:
                return code
        large = [mail.name[:4] for mail in mails if mail.stat().st_size > LARGE]
        if large:
            warnings.append(f"{' and '.join(large)} are over {LARGE // 1000} kB: a list may hold them back")
        (scratch / "mails").rename(OUT)
    for warning in warnings:
        print(f"warning: {warning}")
    print(f"{OUT.relative_to(series.TOP)}/: a cover letter and {len(mails) - 1} patches;"
          f" git am onto the base gives tree {tree[:12]}, as build/linux has it")
    sign = "" if signed else "sign off (git config format.signOff true; make series), "
    print(f"left to do: {sign}read the cover, git send-email {OUT.relative_to(series.TOP)}/*.patch")
    return vm.PASSED


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(vm.HARNESS))
    try:
        sys.exit(main())
    except (series.Problem, vm.HarnessError, subprocess.CalledProcessError, OSError) as error:
        print(f"vmtest: {error}", file=sys.stderr)
        sys.exit(vm.HARNESS)
    except KeyboardInterrupt:
        sys.exit(130)
