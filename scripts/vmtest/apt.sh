# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Sourced: packages from suites and architectures that the machine's apt does not list.

# Where update_suite reads from: what find_mirror said.
mirror=

# The machine's own mirror: a site that is known to be Debian's, or looks like it.
find_mirror()
{
	local option
	# Without release information apt also names sites whose lists it never read.
	for option in --release-info --no-release-info; do
		# shellcheck disable=SC2016 # for apt to expand
		apt-get indextargets $option --format '$(ORIGIN) $(SITE)' 'Created-By: Packages' 2>/dev/null
	done |
	awk '{ site = $NF } site ~ /^cdrom:|security/ { next }
	     { rank = $1 == "Debian" ? 3 : site ~ /debian\/?$/ ? 2 : 1
	       if (rank > best) { best = rank; pick = site } }
	     END { if (best > 1) print pick }'
}

# A private apt: apt_in <suite> <command>...; nothing of the system is changed.
# APT_ARCH=name asks for packages of another architecture than the machine's.
apt_in()
{
	local d=$CACHE/apt/$1${APT_ARCH:+.$APT_ARCH} cmd=$2
	shift 2
	"$cmd" -qq ${APT_ARCH:+-o "APT::Architecture=$APT_ARCH" -o "APT::Architectures=$APT_ARCH"} -o Dir::Etc::SourceList="$d/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::State::Lists="$d/lists" -o Dir::Cache="$d/cache" \
		-o Acquire::Languages=none -o Acquire::Retries=3 -o APT::Sandbox::User=root \
		-o APT::Update::Error-Mode=any "$@"
}

update_suite()
{
	local d=$CACHE/apt/$1${APT_ARCH:+.$APT_ARCH} site=$mirror suite=$1
	mkdir -p "$d/lists/partial" "$d/cache/archives/partial" ||
		die "cannot write $d: make it writable"
	case $suite in
	*-security) site=${mirror%/}-security ;;
	esac
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site $suite main" \
		>"$d/sources.list"
	apt_in "$suite" apt-get update >"$d/log" 2>&1
}
