#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# build.sh <tree> <out>: builds from a kernel tree what make bench boots and
# compares: vmlinux, the module, and an initramfs with it.

set -o pipefail
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh" || exit 6

SRC=$1
OUT=$2
LOG=$OUT.log
SELF=$TOP/scripts/vmtest/bench

"$TOP/scripts/vmtest/deps.sh" build run || exit 6
mkdir -p "$OUT/module" || die "cannot create $OUT: make it writable"
lock "$OUT.lock"
renice -n 15 -p $$ >/dev/null 2>&1

args=(-C "$SRC" "O=$OUT" ARCH=x86_64 LOCALVERSION=)
cc=gcc
if [ -z "${CCACHE_DISABLE:-}" ] && command -v ccache >/dev/null; then
	export CCACHE_DIR=$CACHE/ccache CCACHE_BASEDIR=$TOP CCACHE_NOHASHDIR=1
	cc="ccache gcc"
fi
args+=("CC=$cc" "HOSTCC=$cc")
# Neither the time nor the machine's name may differ between two builds.
export KBUILD_BUILD_TIMESTAMP=1970-01-01 KBUILD_BUILD_USER=vmtest KBUILD_BUILD_HOST=vmtest

run()
{
	local what=$1 start=$SECONDS
	shift
	"$@" >>"$LOG" 2>&1 </dev/null || {
		tail -5 "$LOG" >&2
		die "$what failed: see $LOG"
	}
	say "build: ${OUT##*/}: $what: $((SECONDS - start)) s"
}

configure()
{
	make "${args[@]}" allnoconfig &&
		"$SRC/scripts/kconfig/merge_config.sh" -m -O "$OUT" "$OUT/.config" "$SELF/bench.config" &&
		make "${args[@]}" olddefconfig
}

: >"$LOG"
run configuration configure
# merge_config.sh only warns about an option that got lost.
while IFS= read -r line; do
	case $line in
	CONFIG_*) grep -qxF -- "$line" "$OUT/.config" ;;
	"# CONFIG_"*" is not set") name=${line#\# } && ! grep -q "^${name%% *}=" "$OUT/.config" ;;
	esac || die "the configuration lost '$line': correct scripts/vmtest/bench/bench.config"
done <"$SELF/bench.config"
run kernel make "${args[@]}" -j"$J" bzImage modules
run module make "${args[@]}" "M=$SELF/module" "MO=$OUT/module" modules
run program gcc -O2 -static -Wall -o "$OUT/bench-init" "$SELF/init.c"
cat >"$OUT/initramfs.list" <<-EOF
	dir /dev 755 0 0
	nod /dev/console 600 0 0 c 5 1
	dir /proc 755 0 0
	dir /cgroup 755 0 0
	file /init $OUT/bench-init 755 0 0
	file /bench.ko $OUT/module/memalloc_bench.ko 644 0 0
EOF
run initramfs "$OUT/usr/gen_init_cpio" -t 0 -o "$OUT/initramfs.cpio" "$OUT/initramfs.list"
