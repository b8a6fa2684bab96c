#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds what a guest needs from build/linux, in build/out/$CONFIG: the kernel,
# the kselftest and its modules, the control modules, and the initramfs.
# VMTEST_FRAGMENT=file replaces the configuration fragment, and the guest has no
# tests: they want what it may lack.
#
# build.sh kernel: only the kernel again, after changes to its .c files; modules,
# configuration and initramfs stay as the build before left them.

set -o pipefail
. "$(dirname "$0")/lib.sh" || exit 6

SRC=$BUILD/linux
OUT=$BUILD/out/$CONFIG
LOG=$OUT.log
SELF=$TOP/scripts/vmtest
SELFTEST=tools/testing/selftests/memalloc_scope

[ -f "$SRC/Makefile" ] || die "$SRC is not there: run make tree"

# CONFIG=name adds memalloc_scope_<name>.config to the default one.
fragments=("${VMTEST_FRAGMENT:-$SRC/kernel/configs/memalloc_scope.config}")
# What has the devices and file systems of the scenarios
devices=
case $CONFIG in
scenarios) devices=1 ;;
workload)
	devices=1
	fragments+=("$SRC/kernel/configs/memalloc_scope_scenarios.config")
	;;
esac
[ "$CONFIG" = default ] || fragments+=("$SRC/kernel/configs/memalloc_scope_$CONFIG.config")
for f in "${fragments[@]}"; do
	[ -f "$f" ] || die "$f is missing: CONFIG=$CONFIG has no fragment in kernel/configs/ (make tree brings it)"
done

# A 32-bit kernel wants a 32-bit user space.
if grep -qx '# CONFIG_64BIT is not set' "${fragments[@]}"; then
	karch=i386
	usercflags=-m32
	"$SELF/deps.sh" build run build32 || exit 6
	busybox=$("$SELF/busybox.sh" i386) || exit 6
else
	karch=x86_64
	usercflags=
	"$SELF/deps.sh" build run || exit 6
	[ -z "$devices" ] || "$SELF/deps.sh" scenarios || exit 6
	busybox=$("$SELF/busybox.sh" amd64) || exit 6
fi

mkdir -p "$OUT" || die "cannot create $OUT: make it writable"
lock "$OUT.lock"

# Everything that the result depends on. A tree with changes is never taken for
# unchanged: make finds out there.
stamp=$OUT/.vmtest-stamp
state=$({
	git -C "$SRC" rev-parse HEAD
	gcc --version
	sha256sum "${fragments[@]}" "$busybox"
	find "$SELF/guest" "$SELF/controls" "$SELF/build.sh" "$SELF/expected.tests" -type f -print0 |
		sort -z | xargs -0 sha256sum
} | sha256sum)
if [ "$state" = "$(cat "$stamp" 2>/dev/null)" ] && [ -f "$OUT/arch/x86/boot/bzImage" ] &&
   [ -f "$OUT/initramfs.cpio" ] && [ -z "$(git -C "$SRC" status --porcelain | head -1)" ]; then
	say "build: nothing changed ($OUT)"
	exit 0
fi
rm -f "$stamp"

renice -n 5 -p $$ >/dev/null 2>&1
use_compiler
args=(-C "$SRC" "O=$OUT" "ARCH=$karch" LOCALVERSION= "CC=$KCC" "HOSTCC=$KCC")

# One updating line on a terminal, a line per step elsewhere.
progress() {
	local what=$1 line start=$SECONDS n=0
	while IFS= read -r line; do
		printf '%s\n' "$line"
		case $line in
		"  "[A-Z]*)
			n=$((n + 1))
			[ -t 2 ] && printf '\r\033[Kbuild: %s: %d steps, %d s, %.40s' \
				"$what" $n $((SECONDS - start)) "${line##* }" >&2
			;;
		esac
	done >>"$LOG"
	[ -t 2 ] && printf '\r\033[K' >&2
	say "build: $what: $n steps, $((SECONDS - start)) s"
}

run() {
	local what=$1
	shift
	if ! "$@" 2>&1 </dev/null | progress "$what"; then
		say "vmtest: $what failed; the first errors, the rest is in $LOG:"
		# Not the steps themselves: some compile a file called error.c.
		grep -nE 'error|Error|undefined|No such file|No space left' "$LOG" |
			grep -vE '^[0-9]+:  [A-Z]' | head -10 | grep . >&2 || tail -5 "$LOG" >&2
		exit 6
	fi
}

: >"$LOG"
configure() {
	make "${args[@]}" allnoconfig &&
		"$SRC/scripts/kconfig/merge_config.sh" -m -O "$OUT" "$OUT/.config" "${fragments[@]}" &&
		make "${args[@]}" olddefconfig
}
if [ "${1:-}" = kernel ]; then
	[ -f "$OUT/initramfs.cpio" ] || die "$OUT was not built completely: run build.sh without arguments first"
	run kernel make "${args[@]}" -j"$J" bzImage
	exit 0
fi
run configuration configure
check_config "$OUT/.config" "${fragments[@]}"

run kernel make "${args[@]}" -j"$J" bzImage modules

kselftest=$OUT/kselftest
stage=$OUT/initramfs
rm -rf "$stage"
mkdir -p "$stage" "$kselftest"
targets=memalloc_scope
if [ "$devices" ]; then
	# They want devices and file systems that the other kernels do not have.
	targets="$targets memalloc_scope/scenarios"
elif [ -f "$SRC/include/linux/memalloc_work.h" ]; then
	# They want what the base does not have.
	targets="$targets memalloc_scope/examples"
fi
if [ -z "${VMTEST_FRAGMENT:-}" ] && [ -d "$SRC/$SELFTEST" ]; then
	run headers make "${args[@]}" -j"$J" headers
	# The modules are built below, outside of the source tree.
	run selftest make -C "$SRC/tools/testing/selftests" "O=$OUT" "ARCH=$karch" "CC=$KCC" \
		"USERCFLAGS=$usercflags" USERLDFLAGS=-static TEST_GEN_MODS_DIR= "TARGETS=$targets" \
		"INSTALL_PATH=$stage/tests" SKIP_TARGETS= FORCE_TARGETS=1 install
	for target in $targets; do
		modules=$SRC/tools/testing/selftests/$target/test_modules
		[ -d "$modules" ] || continue
		built=$kselftest/${target//\//_}_modules
		run "modules of $target" make "${args[@]}" -j"$J" "M=$modules" "MO=$built" modules
		mkdir -p "$stage/tests/$target/test_modules"
		cp "$built"/*.ko "$stage/tests/$target/test_modules/" ||
			die "the modules of $target were not built: see $LOG"
	done
	# Small guests have to hold all of it in memory.
	find "$stage/tests" -type f -name 'memalloc_scope_*' -exec strip {} +
	[ -z "$devices" ] ||
		find "$stage/tests/memalloc_scope" -maxdepth 1 -type f -name 'memalloc_scope_*' \
			! -name memalloc_scope_entry -delete
	# Programs that report, as opposed to files that they use.
	sed -n 's/^memalloc_scope://p' "$stage/tests/kselftest-list.txt" >"$stage/tests/memalloc_scope/programs"
fi
if [ -z "${VMTEST_FRAGMENT:-}" ] && [ -f "$SRC/tools/mm/memalloc_top.c" ]; then
	# shellcheck disable=SC2086 # words
	run memalloc_top $KCC $usercflags -O2 -Wall -static -o "$stage/memalloc_top" "$SRC/tools/mm/memalloc_top.c"
fi
# The harness is tried out on other kernels.
[ "$devices$VMTEST_FRAGMENT" ] ||
	run "control modules" make "${args[@]}" -j"$J" "M=$SELF/controls" "MO=$OUT/controls" modules

# A program of the host, with what it is linked to
bundle() {
	local path f d
	path=$(PATH=$PATH:/usr/sbin:/sbin command -v "$1") || die "$1 is not installed"
	echo "file /sbin/$1 $(realpath "$path") 755 0 0"
	ldd "$path" | grep -o '/[^ ]*' | while read -r f; do
		d=$(dirname "$f")
		while [ "$d" != / ]; do
			echo "dir $d 755 0 0"
			d=$(dirname "$d")
		done | tac
		echo "file $f $(realpath "$f") 755 0 0"
	done | awk '!seen[$0]++'
}

# gen_init_cpio takes owners and device nodes from this list, so that nobody has
# to be root.
spec() {
	local d f
	for d in bin dev etc proc sbin sys tmp tests vmtest vmtest/jobs vmtest/modules; do
		echo "dir /$d 755 0 0"
	done
	echo "nod /dev/console 600 0 0 c 5 1"
	echo "file /bin/busybox $busybox 755 0 0"
	for f in $("$busybox" --list); do
		[ "$f" = busybox ] || echo "slink /bin/$f busybox 777 0 0"
	done
	echo "file /init $SELF/guest/init 755 0 0"
	for f in "$SELF"/guest/jobs/*; do
		echo "file /vmtest/jobs/${f##*/} $f 755 0 0"
	done
	for f in "$OUT"/controls/*.ko; do
		[ -f "$f" ] || continue
		echo "file /vmtest/modules/${f##*/} $f 644 0 0"
	done
	echo "file /vmtest/expected $SELF/expected.tests 644 0 0"
	if [ "$devices" ]; then
		bundle mke2fs
		bundle dmsetup
		echo "file /etc/mke2fs.conf /etc/mke2fs.conf 644 0 0"
	fi
	[ ! -f "$stage/memalloc_top" ] || echo "file /sbin/memalloc_top $stage/memalloc_top 755 0 0"
	[ -d "$stage/tests" ] || return 0
	(cd "$stage" && find tests -mindepth 1 -type d | sort | sed 's,.*,dir /& 755 0 0,' &&
		find tests -type f | sort | sed "s,.*,file /& $stage/& 755 0 0,")
}

case $OUT in
*[[:space:]]*) die "$OUT has a blank in its name, which the kernel's build cannot take: move the clone" ;;
esac
spec >"$OUT/initramfs.list"
"$OUT/usr/gen_init_cpio" -t 0 "$OUT/initramfs.list" >"$OUT/initramfs.cpio.tmp" ||
	die "cannot make the initramfs: see the message above"
mv "$OUT/initramfs.cpio.tmp" "$OUT/initramfs.cpio"
echo "$state" >"$stamp"
