# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# Sourced by every shell script here: where things are, and how to complain.

# shellcheck disable=SC3028 # dash has no BASH_SOURCE: there $0 is the script itself
TOP=$(cd "$(dirname "${BASH_SOURCE:-$0}")/../.." && pwd -P) || exit 6
# make mutants has a build directory of its own, laid out like this one.
BUILD=${VMTEST_BUILD:-$TOP/build}
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/memalloc-scope
J=${J:-$(nproc)}
CONFIG=${CONFIG:-default}
KSRC=${KSRC:-}
ACCEL=${ACCEL:-}
export TOP BUILD CACHE J CONFIG KSRC ACCEL

# Messages are parsed, lists are sorted.
export LC_ALL=C
# Neither our caller's make nor its git may steer those that we run: make would
# hand J=, CONFIG= and the like down to the kernel's Makefile, and a git hook
# exports GIT_DIR.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL KBUILD_OUTPUT
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_PREFIX

say()
{
	printf '%s\n' "$*" >&2
}

die()
{
	printf 'vmtest: %s\n' "$*" >&2
	exit 6
}

# need_space <dir> <MiB> <for what>
need_space()
{
	mkdir -p "$1" 2>/dev/null || die "cannot create $1: make it writable"
	_free=$(df -Pm "$1" | awk 'NR == 2 { print $4 }')
	[ "${_free:-0}" -ge "$2" ] ||
		die "$3 needs $2 MiB below $1, which has ${_free:-0} MiB free: make room"
}

# Holds a lock until the script ends: lock <file>
lock()
{
	mkdir -p "$(dirname "$1")" 2>/dev/null || die "cannot create $(dirname "$1"): make it writable"
	exec 9>"$1" || die "cannot write $1: make it writable"
	flock -n 9 || {
		say "waiting for another run to finish ($1)"
		flock 9
	}
}

# git for build/linux: the user's configuration must not change what is made.
kgit()
{
	git -C "$BUILD/linux" -c gc.auto=0 -c core.hooksPath=/dev/null \
		-c core.autocrlf=false -c core.excludesFile=/dev/null "$@"
}

# Sets KCC, the compiler for kernels.
use_compiler()
{
	KCC=gcc
	if [ -z "${CCACHE_DISABLE:-}" ] && command -v ccache >/dev/null; then
		export CCACHE_DIR="$CACHE/ccache" CCACHE_BASEDIR="$TOP" CCACHE_NOHASHDIR=1
		# shellcheck disable=SC2034 # for the caller
		KCC="ccache gcc"
	fi
	# Neither the time nor the machine's name may differ between two builds.
	export KBUILD_BUILD_TIMESTAMP=1970-01-01 KBUILD_BUILD_USER=vmtest KBUILD_BUILD_HOST=vmtest
}

# check_config <.config> <fragment>...: merge_config.sh only warns about an option
# that got lost. A later fragment wins.
check_config()
{
	_lost=$(awk '
		/^CONFIG_[^=]*=/ { name = $0; sub(/=.*/, "", name) }
		/^# CONFIG_[^ ]* is not set$/ { name = $2 }
		!name { next }
		{ value = /^#/ || $0 == name "=n" ? "# " name " is not set" : $0 }
		NR == FNR { is[name] = value }
		NR != FNR { want[name] = value }
		{ name = "" }
		END {
			for (name in want) {
				if (want[name] != (name in is ? is[name] : "# " name " is not set"))
					print want[name]
			}
		}' "$@" | sort)
	[ -n "$_lost" ] || return 0
	printf '%s\n' "$_lost" | while IFS= read -r _line; do
		say "vmtest: the configuration lost '$_line': a dependency is missing, or something selects it"
	done
	shift
	die "the kernel's .config is not what $(basename -a "$@" | paste -sd ' ') asked for: correct the fragment"
}
