#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# build.sh <tree> <out>: builds from a kernel tree what make bench boots and
# compares: vmlinux, the module, and the initramfs of each guest.
#
# build.sh <tree> <out> <config>: only an object that knows task_struct and its
# debugging information, for one of the configurations that people use.
#
# VMTEST_FRAGMENT=file adds a configuration fragment.

set -o pipefail
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh" || exit 6

SRC=$1
OUT=$2
LOG=$OUT.log
SELF=$TOP/scripts/vmtest/bench

karch=x86_64
case ${3:-} in
"") base=allnoconfig fragments=("$SELF/bench.config") ;;
defconfig) base=x86_64_defconfig fragments=("$SELF/layout.config") ;;
distro|rt) base=x86_64_defconfig fragments=("$SELF/layout.config" "$SELF/layout.$3.config") ;;
i386) karch=i386 base=i386_defconfig fragments=("$SELF/layout.config") ;;
*) die "bench/build.sh: no configuration $3: use defconfig, distro, rt or i386" ;;
esac
# What a variant of the series has on top
fragments+=(${VMTEST_FRAGMENT:+"$VMTEST_FRAGMENT"})

"$TOP/scripts/vmtest/deps.sh" build run bench || exit 6
mkdir -p "$OUT/module" || die "cannot create $OUT: make it writable"
lock "$OUT.lock"
renice -n 15 -p $$ >/dev/null 2>&1
use_compiler
args=(-C "$SRC" "O=$OUT" "ARCH=$karch" LOCALVERSION= "CC=$KCC" "HOSTCC=$KCC")

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
	make "${args[@]}" "$base" &&
		"$SRC/scripts/kconfig/merge_config.sh" -m -O "$OUT" "$OUT/.config" "${fragments[@]}" &&
		make "${args[@]}" olddefconfig
}

# Features of the ext4 that is counted with; the machine's mke2fs.conf has no say.
features=none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super
features+=,large_file,huge_file,dir_nlink,extra_isize,metadata_csum
uuid=6d656d61-6c6c-6f63-2d73-636f70650000

# The same image each time, whoever makes it, and when
file_system()
{
	rm -f "$OUT/ext4.img" && truncate -s 96M "$OUT/ext4.img" &&
		PATH=$PATH:/usr/sbin:/sbin E2FSPROGS_FAKE_TIME=1767225600 \
			mke2fs -q -F -t ext4 -O "$features" -b 4096 -I 256 -m 0 -N 16384 -J size=16 -U $uuid \
			-E hash_seed=$uuid,lazy_itable_init=0,nodiscard "$OUT/ext4.img"
}

# initramfs <name> <program> <file in it> <file here>
initramfs()
{
	cat >"$OUT/$1.list" <<-EOF &&
		dir /dev 755 0 0
		nod /dev/console 600 0 0 c 5 1
		nod /dev/ram0 600 0 0 b 1 0
		dir /proc 755 0 0
		dir /cgroup 755 0 0
		dir /mnt 755 0 0
		file /init $OUT/$2 755 0 0
		file $3 $OUT/$4 644 0 0
	EOF
		"$OUT/usr/gen_init_cpio" -t 0 -o "$OUT/$1.cpio" "$OUT/$1.list"
}

: >"$LOG"
run configuration configure
check_config "$OUT/.config" "${fragments[@]}"
if [ -n "${3:-}" ]; then
	run task_struct make "${args[@]}" -j"$J" kernel/fork.o
	exit 0
fi
run kernel make "${args[@]}" -j"$J" bzImage modules
run module make "${args[@]}" "M=$SELF/module" "MO=$OUT/module" modules
for program in init macro; do
	run "program $program" gcc -O2 -static -Wall -o "$OUT/bench-$program" "$SELF/$program.c"
done
run "file system" file_system
run initramfs initramfs initramfs bench-init /bench.ko module/memalloc_bench.ko
run "initramfs with it" initramfs macro bench-macro /ext4.img ext4.img
