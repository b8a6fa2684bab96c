#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# deps.sh <group>...: makes sure that the Debian packages for a job are there.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

# command or file : package
# shellcheck disable=SC2034 # used by name, below
{
tree='git:git xz:xz-utils python3:python3 flock:util-linux
	/usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring'
build='gcc:gcc strip:binutils /usr/include/stdio.h:libc6-dev make:make flex:flex bison:bison bc:bc
	/usr/include/libelf.h:libelf-dev /usr/include/openssl/ssl.h:libssl-dev xz:xz-utils
	rsync:rsync depmod:kmod ccache:ccache git:git perl:perl python3:python3'
run='qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio:cpio python3:python3'
bench='mke2fs:e2fsprogs pahole:dwarves'
build32='/usr/lib32/libc.a:libc6-dev-i386 /usr/share/doc/gcc-multilib:gcc-multilib'
scenarios='mke2fs:e2fsprogs mkfs.xfs:xfsprogs mkfs.btrfs:btrfs-progs qemu-nbd:qemu-utils
	mkfs.f2fs:f2fs-tools dmsetup:dmsetup
	ganesha.nfsd:nfs-ganesha /usr/lib/x86_64-linux-gnu/ganesha/libfsalvfs.so:nfs-ganesha-vfs'
check='sparse:sparse shellcheck:shellcheck pahole:dwarves pyflakes3:pyflakes3
	spin:spin gcc:gcc /usr/include/stdio.h:libc6-dev
	/usr/lib/python3/dist-packages/ply:python3-ply
	/usr/lib/python3/dist-packages/git:python3-git
	sphinx-build:python3-sphinx /usr/lib/python3/dist-packages/yaml:python3-yaml
	spatch:coccinelle'
}

missing=
for group in "$@"; do
	case $group in
	tree|build|build32|run|bench|scenarios|check) ;;
	*) die "deps.sh: no group $group: use tree, build, build32, run, bench, scenarios, check" ;;
	esac
	for pair in ${!group}; do
		# Some of the tools live where a user's PATH does not look.
		PATH=$PATH:/usr/sbin:/sbin command -v "${pair%:*}" >/dev/null ||
			[ -e "${pair%:*}" ] || missing="$missing ${pair#*:}"
	done
done
[ -n "$missing" ] || exit 0
# shellcheck disable=SC2086 # a list of words
missing=$(printf '%s\n' $missing | sort -u | paste -sd ' ')

command -v apt-get >/dev/null || die "install these (names of Debian packages): $missing"
sudo=
if [ "$(id -u)" != 0 ]; then
	sudo -n true 2>/dev/null || die "run: sudo apt-get install --no-install-recommends $missing"
	sudo='sudo -n'
fi
say "installing: $missing"
mkdir -p "$BUILD"
log=$BUILD/deps.log
install()
{
	# shellcheck disable=SC2086
	$sudo env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y --no-install-recommends $missing >>"$log" 2>&1
}
: >"$log"
# The lists may be old or absent; fetching them costs time, so only when needed.
install || { $sudo apt-get update >>"$log" 2>&1; install; } ||
	die "apt-get could not install $missing: see $log"
