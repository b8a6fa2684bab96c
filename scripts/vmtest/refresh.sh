#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Rewrites patches/ and the overlay files from the commits of build/linux.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

linux=$BUILD/linux
series=$TOP/scripts/vmtest/series.py
[ -d "$linux/.git" ] || die "there is no build/linux: make tree first"
lock "$BUILD/.tree.lock"
[ ! -e "$linux/.git/vmtest-moving" ] || die "an update of build/linux was interrupted: make tree first"
for state in rebase-merge rebase-apply MERGE_HEAD CHERRY_PICK_HEAD; do
	[ ! -e "$linux/.git/$state" ] || die "build/linux is in the middle of a rebase or the like: finish that"
done
change=$(kgit status --porcelain | head -n 1)
[ -z "$change" ] || die "build/linux has uncommitted changes (${change:3}): commit them"
kgit merge-base --is-ancestor base HEAD || die "build/linux: HEAD does not descend from the tag base: rebase it"

# Both sides edited: neither may silently win.  A refresh that was cut short is no edit.
stamp=$linux/.git/vmtest-stamp
had=none
[ ! -e "$stamp" ] || read -r had _ <"$stamp"
if [ -s "$TOP/patches/series" ] && [ ! -e "$linux/.git/vmtest-refreshing" ]; then
	now=$("$series" digest) || exit
	[ "$now" = "$had" ] ||
		die "patches/ or the overlay was changed since build/linux was made from it: git stash that," \
			"make refresh, git stash pop"
fi
"$series" refresh "$(kgit rev-parse 'base^{commit}')" HEAD || exit
now=$("$series" digest) || exit
printf '%s %s\n' "$now" "$(kgit rev-parse HEAD)" >"$stamp.tmp" && mv "$stamp.tmp" "$stamp"
rm -f "$linux/.git/vmtest-refreshing"
say "patches/: $(kgit rev-list --count base..HEAD) patches"
