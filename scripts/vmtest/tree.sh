#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# tree.sh [base]: makes or updates build/linux: a commit for the base, then one
# for each patch.  "base" leaves the patches out when build/linux is new.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=base.pin
. "$TOP/scripts/vmtest/base.pin"

set -o pipefail
linux=$BUILD/linux
series=$TOP/scripts/vmtest/series.py
stamp=$linux/.git/vmtest-stamp
moving=$linux/.git/vmtest-moving
date='1767225600 +0000'

# Ignored with all other dot files, but no build makes them.
dotfiles=(.clang-format .clippy.toml .cocciconfig .editorconfig .get_maintainer.ignore .gitattributes
	.gitignore .kunitconfig .mailmap .pylintrc .renames.txt .rustfmt.toml .yamllint)

# import <name>: commits the index of the tree that git is pointed at
import()
{
	GIT_AUTHOR_NAME=Base GIT_AUTHOR_EMAIL=base@localhost GIT_AUTHOR_DATE=$date \
	GIT_COMMITTER_NAME=Base GIT_COMMITTER_EMAIL=base@localhost GIT_COMMITTER_DATE=$date \
		git commit-tree -m "$1" "$(git write-tree)"
}

# One big pack, hardly compressed: 100,000 loose objects take minutes.
add_opts=(-c core.bigFileThreshold=1 -c core.compression=1 -c core.autocrlf=false
	-c core.excludesFile=/dev/null -c core.fsmonitor=false)

new_repo()
{
	rm -rf "$linux.tmp"
	git -c init.defaultBranch=series init -q --template= "$linux.tmp" &&
	git -C "$linux.tmp" config gc.auto 0 &&
	git -C "$linux.tmp" config core.autocrlf false &&
	mkdir -p "$linux.tmp/.git/info" || die "cannot create $linux.tmp: make it writable"
}

# Prints the commit of the pinned base; unpacks it when this repository has not got it.
pinned_base()
{
	local ref=refs/vmtest/pin/$BASE_SHA256 deb name dir=$BUILD/base.tmp commit
	git -C "$linux" rev-parse -q --verify "$ref" 2>/dev/null && return
	need_space "$BUILD" 3000 "unpacking the kernel"
	deb=$("$TOP/scripts/vmtest/fetch.sh") || exit
	name=$(basename "$deb" _all.deb)
	say "unpacking $name"
	rm -rf "$dir"
	mkdir -p "$dir" || die "cannot create $dir: make it writable"
	dpkg-deb --fsys-tarfile "$deb" | tar -xO "./usr/src/$BASE_PACKAGE.tar.xz" |
		tar -xJ -C "$dir" --strip-components=1 --no-same-owner ||
		die "unpacking $deb failed: make room, or remove that file to fetch it again"
	# Debian's ignores every file, so that git add would not take a new one.
	sed -i '/^\/\*$/d; /^!\/debian\/$/d' "$dir/.gitignore" &&
		printf '!%s\n' "${dotfiles[@]}" >>"$dir/.gitignore"
	if [ ! -e "$linux" ]; then
		new_repo
		mv "$linux.tmp/.git" "$dir/.git"
		rm -rf "$linux.tmp"
	fi
	say "committing the base"
	commit=$(
		export GIT_WORK_TREE=$dir GIT_DIR=$linux/.git
		if [ -e "$dir/.git" ]; then
			GIT_DIR=$dir/.git
		else
			export GIT_INDEX_FILE=$linux/.git/vmtest-import.index
			rm -f "$GIT_INDEX_FILE"
		fi
		git "${add_opts[@]}" add -f -A . && commit=$(import "$name") &&
			git update-ref "$ref" "$commit" && echo "$commit"
	) || die "git could not take in the base: see above"
	if [ -e "$dir/.git" ]; then
		git -C "$dir" tag base "$commit" && git -C "$dir" reset -q "$commit" && mv "$dir" "$linux" ||
			die "cannot move $dir to $linux: move it away"
	else
		rm -rf "$dir" "$linux/.git/vmtest-import.index"
	fi
	echo "$commit"
}

# The files of a plain directory that are not a build's products.  The list of
# ignored files serves, but for a line in Debian's which ignores everything.
plain_files()
{
	local list
	list=$(mktemp) || exit 6
	(cd "$KSRC" && find . -name .gitignore -printf '%d %P\n' | sort -n | cut -d' ' -f2- |
	while read -r file; do
		prefix=$(dirname "/$file")
		sed -n -e '/^#/d; /^[[:space:]]*$/d; /^\/\*$/d' \
			-e 's/^\(!\{0,1\}\)\(.*\)$/\1\t\2/p' "$file" |
		awk -F '\t' -v p="${prefix%/}" '{
			anchored = index(substr($2, 1, length($2) - 1), "/")
			sub(/^\//, "", $2)
			print $1 p "/" (anchored ? "" : "**/") $2
		}'
	done; printf '!**/%s\n' "${dotfiles[@]}") >"$list"
	git ls-files -z -o -x .git -X "$list" || return
	rm -f "$list"
}

# Prints the commit of the developer's own tree, as it stands there now.
own_base()
{
	local commit version
	KSRC=$(cd "$KSRC" 2>/dev/null && pwd -P) || die "KSRC: no such directory: name a kernel tree"
	grep -qs '^VERSION = ' "$KSRC/Makefile" && [ -e "$KSRC/Kbuild" ] && [ -d "$KSRC/mm" ] ||
		die "KSRC=$KSRC is not a kernel tree (no Makefile with VERSION, Kbuild, mm/): name one"
	case $KSRC/ in
	"$BUILD"/*) die "KSRC=$KSRC is inside $BUILD: name a tree of your own" ;;
	esac
	version=$(awk -F ' = ' '/^(VERSION|PATCHLEVEL|SUBLEVEL) =/ { v = v "." $2 }
		/^EXTRAVERSION =/ { x = $2 } END { print substr(v, 2) x }' "$KSRC/Makefile")
	need_space "$BUILD" 3000 "copying the kernel"
	[ -e "$linux" ] || new_repo
	commit=$(
		repo=$linux
		[ -e "$repo" ] || repo=$linux.tmp
		export GIT_OPTIONAL_LOCKS=0
		tracked=
		git -C "$KSRC" ls-files --error-unmatch Makefile >/dev/null 2>&1 && tracked=1
		files=$repo/.git/vmtest-files
		if [ -n "$tracked" ]; then
			git -C "$KSRC" ls-files -z >"$files" || exit
		fi
		# Kept for the next time: only what has changed is read again.
		index=$repo/.git/vmtest-own-$(printf %s "$KSRC" | sha256sum | cut -c1-16)
		export GIT_DIR=$repo/.git GIT_WORK_TREE=$KSRC GIT_INDEX_FILE=$index.new
		cd "$KSRC" || exit
		[ -n "$tracked" ] || GIT_INDEX_FILE=$index.none plain_files >"$files" || exit
		rm -f "$GIT_INDEX_FILE" "$GIT_INDEX_FILE.lock"
		[ ! -e "$index" ] || cp "$index" "$GIT_INDEX_FILE"
		# Files that the list has no longer must leave the index, too.
		git ls-files -z | sort -z | comm -z -23 - <(sort -z "$files") |
			git update-index -z --force-remove --stdin &&
		git "${add_opts[@]}" update-index -z --add --remove --stdin <"$files" &&
			commit=$(import "Linux $version") && mv "$GIT_INDEX_FILE" "$index" && echo "$commit"
	) || die "git could not read KSRC=$KSRC: see above"
	if [ ! -e "$linux" ]; then
		git -C "$linux.tmp" update-ref refs/heads/series "$commit" &&
			git -C "$linux.tmp" reset -q --hard && git -C "$linux.tmp" tag base &&
			mv "$linux.tmp" "$linux" || die "cannot make $linux: make room"
	fi
	say "base: Linux $version from $KSRC"
	echo "$commit"
}

# settle <digest> <commit> <base>: build/linux is at that commit; say so.
settle()
{
	kgit tag -f base "$3" >/dev/null && printf '%s %s\n' "$1" "$2" >"$stamp.tmp" &&
		mv "$stamp.tmp" "$stamp" && rm -f "$moving" || die "cannot write $stamp: make room"
}

# move_to <digest> <commit> <base>: only files that differ get touched, so that
# the next build compiles little.
move_to()
{
	echo "$@" >"$moving"
	kgit read-tree -m -u HEAD "$2" && kgit update-ref HEAD "$2" ||
		die "git could not update build/linux: see above, then run make tree again"
	settle "$@"
}

# A move that was cut short looks like somebody's work.  It is kept, but out of the way.
finish_move()
{
	local git=$linux/.git kept to
	read -r -a to 2>/dev/null <"$moving" || return 0
	rm -f "$git/index.lock" "$git/HEAD.lock"
	kgit reset -q && kgit add -A && kept=$(kgit write-tree) || die "build/linux is damaged: remove it"
	if [ "$kept" != "$(kgit rev-parse 'HEAD^{tree}')" ]; then
		kept=$(GIT_WORK_TREE=$linux GIT_DIR=$git import 'build/linux as an interrupted update left it')
		kgit update-ref refs/vmtest/interrupted "$kept"
		say "an update of build/linux was interrupted: its files then are refs/vmtest/interrupted"
	fi
	kgit reset -q --hard || die "build/linux is damaged: remove it"
	if [ "$(kgit rev-parse HEAD)" = "${to[1]}" ]; then
		settle "${to[@]}"
	fi
	rm -f "$moving"
}

# Prints what build/linux has that a new run must not throw away, if anything.
own_work()
{
	local tip=$1
	[ "$(kgit rev-parse HEAD)" = "$tip" ] || { echo "other commits than patches/ gives"; return; }
	[ -z "$(kgit status --porcelain | head -n 1)" ] || echo "uncommitted changes"
}

[ "${1:-}" = "" ] || [ "$1" = base ] || die "usage: tree.sh [base]"
"$TOP/scripts/vmtest/deps.sh" tree || exit
lock "$BUILD/.tree.lock"
[ ! -e "$linux" ] || [ -d "$linux/.git" ] || die "$linux is not what make tree makes: remove it"
[ ! -e "$linux" ] || finish_move

if [ -n "$KSRC" ]; then
	base=$(own_base) || exit
else
	base=$(pinned_base) || exit
fi
[ "${1:-}" != base ] || exit 0

want=$("$series" digest) || exit
# Digest of the series that build/linux was made from, and the commit that it gave.
read -r had tip 2>/dev/null <"$stamp" || { had=none; tip=$(kgit rev-parse base); }
work=$(own_work "$tip")
if [ -n "${WIP:-}" ]; then
	say "WIP: build/linux is taken as it is${work:+, with $work}"
	exit 0
fi
[ -z "$work" ] ||
	die "build/linux has $work: commit and make refresh; or WIP=1 builds it as it is;" \
		"or git -C build/linux reset --hard $(kgit rev-parse --short "$tip") drops that"
if [ "$had" = "$want" ] && [ "$base" = "$(kgit rev-parse 'base^{commit}')" ]; then
	exit 0
fi
new=$("$series" commit "$base") || {
	[ "$base" = "$(kgit rev-parse 'base^{commit}')" ] ||
		say "to carry the old commits over: git -C build/linux rebase --onto $base base &&" \
			"git -C build/linux tag -f base $base && make refresh"
	exit 6
}
move_to "$want" "$new" "$base"
say "build/linux: $(kgit log -1 --format=%s base), $(kgit rev-list --count base..HEAD) patches"
