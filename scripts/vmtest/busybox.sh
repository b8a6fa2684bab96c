#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# busybox.sh <Debian architecture>: prints the path of a static busybox for it. For
# another architecture than the machine's, the package is fetched and unpacked
# in the cache, not installed.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=apt.sh
. "$TOP/scripts/vmtest/apt.sh"

arch=$1
if [ "$arch" = amd64 ]; then
	busybox=$(command -v busybox) || die "busybox is not installed: apt-get install busybox-static"
	if LC_ALL=C ldd "$busybox" >/dev/null 2>&1; then
		die "$busybox is not static: apt-get install busybox-static"
	fi
	printf '%s\n' "$busybox"
	exit 0
fi

dir=$CACHE/busybox
busybox=$dir/$arch/bin/busybox
lock "$dir/.lock"
if [ ! -x "$busybox" ]; then
	command -v apt-get >/dev/null || die "no apt-get here to fetch busybox-static for $arch with"
	mirror=$(find_mirror)
	suite=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
	[ -n "$mirror" ] && [ -n "$suite" ] ||
		die "apt knows no Debian mirror here: add one to its sources"
	export APT_ARCH=$arch
	say "fetching busybox-static for $arch ($suite)"
	update_suite "$suite" || die "cannot read $suite for $arch from apt's mirror: check the network"
	part=$dir/.part
	rm -rf "$part"
	mkdir -p "$part"
	(cd "$part" && apt_in "$suite" apt-get download busybox-static) >"$CACHE/apt/$suite.$arch/log" 2>&1 &&
		dpkg-deb -x "$part"/*.deb "$part/root" && [ -x "$part/root/bin/busybox" ] || {
		rm -rf "$part"
		die "download of busybox-static for $arch failed: see $CACHE/apt/$suite.$arch/log"
	}
	rm -rf "${dir:?}/$arch"
	mv "$part/root" "$dir/$arch"
	rm -rf "$part"
fi
printf '%s\n' "$busybox"
