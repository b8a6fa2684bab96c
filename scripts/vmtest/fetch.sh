#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Prints the path of the base's .deb, whose checksum was verified in this run.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=apt.sh
. "$TOP/scripts/vmtest/apt.sh"
# shellcheck source=base.pin
. "$TOP/scripts/vmtest/base.pin"

dir=$CACHE/base
# Debian drops a version from a suite once it has a newer one.
other_suites='trixie-backports forky sid trixie trixie-security trixie-proposed-updates'

sum_of()
{
	sha256sum <"$1" | cut -d' ' -f1
}

deb_name()
{
	printf '%s_%s_all.deb' "$BASE_PACKAGE" "${1/:/%3a}"
}

versions_in()
{
	apt_in "$1" apt-cache madison "$BASE_PACKAGE" 2>/dev/null | awk '{ print $3 }'
}

# download <suite> <version> <sha256>: prints the path
download()
{
	local part=$dir/.part want=$3 deb
	rm -rf "$part"
	mkdir -p "$part" || die "cannot write $dir: make it writable"
	say "fetching $BASE_PACKAGE $2 ($1)"
	(cd "$part" && apt_in "$1" apt-get download "$BASE_PACKAGE=$2") >"$CACHE/apt/$1/log" 2>&1 || {
		rm -rf "$part"
		die "download of $BASE_PACKAGE $2 failed, run again or use KSRC=dir:" \
			"$(grep -m1 '^E:' "$CACHE/apt/$1/log")"
	}
	deb=$(find "$part" -name '*.deb')
	[ "$(sum_of "$deb")" = "$want" ] || {
		rm -rf "$part"
		die "$BASE_PACKAGE $2 ($1) has not the checksum $want: not used; try again," \
			"or correct scripts/vmtest/base.pin"
	}
	mv "$deb" "$dir/$(deb_name "$2")" && rm -rf "$part" &&
		printf '%s\n' "$dir/$(deb_name "$2")"
}

lock "$dir/.lock"
cached=$dir/$(deb_name "$BASE_VERSION")
want=$BASE_SHA256
# When the pin was gone before, its stand-in is as good today as it was then.
standin=$dir/instead-of-$BASE_SHA256
if [ ! -e "$cached" ] && [ -e "$standin" ]; then
	read -r want version <"$standin"
	cached=$dir/$(deb_name "$version")
	say "$BASE_PACKAGE $BASE_VERSION is gone; using $version"
fi
if [ -e "$cached" ]; then
	if [ "$(sum_of "$cached")" = "$want" ]; then
		printf '%s\n' "$cached"
		exit 0
	fi
	say "$cached has a wrong checksum: removed, fetching it again"
	rm -f "$cached"
fi
rm -f "$standin"

command -v apt-get >/dev/null || die "no apt-get here to fetch the base with: use KSRC=dir"
mirror=$(find_mirror)
[ -n "$mirror" ] || die "apt knows no Debian mirror here: add one to its sources, or use KSRC=dir"
need_space "$dir" 400 "the base package"

reached=
best=
best_suite=
for suite in "$BASE_SUITE" $other_suites; do
	[ "$suite" != "$BASE_SUITE" ] || [ -z "$reached" ] || continue
	say "reading the package list of $suite"
	if ! update_suite "$suite"; then
		# A mirror need not have every suite; but the pin's own must be read, lest
		# a network failure pass for a version that is gone.
		[ "$suite" != "$BASE_SUITE" ] ||
			die "cannot read $suite from apt's mirror: check the network, or use KSRC=dir:" \
				"$(grep -m1 '^[EW]:' "$CACHE/apt/$suite/log")"
		continue
	fi
	reached=1
	for version in $(versions_in "$suite"); do
		if [ "$version" = "$BASE_VERSION" ]; then
			download "$suite" "$version" "$BASE_SHA256"
			exit
		fi
		[[ $version == "${BASE_PACKAGE##*-}".* ]] || continue
		if [ -z "$best" ] || dpkg --compare-versions "$version" gt "$best"; then
			best=$version
			best_suite=$suite
		fi
	done
done
[ -n "$best" ] || die "no suite has $BASE_PACKAGE any more: use KSRC=dir"

say "$BASE_PACKAGE $BASE_VERSION is gone from every suite: taking $best ($best_suite) instead"
want=$(apt_in "$best_suite" apt-cache show "$BASE_PACKAGE=$best" | sed -n 's/^SHA256: //p')
[ -n "$want" ] || die "the package list of $best_suite has no SHA-256 for $best: use KSRC=dir"
path=$(download "$best_suite" "$best" "$want") || exit
printf '%s %s\n' "$want" "$best" >"$standin.tmp" && mv "$standin.tmp" "$standin"
printf '%s\n' "$path"
