#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make test: brings tree and build up to date, then runs the suites of SUITE.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh" || exit 6

# The scenarios run on a kernel of their own; with all other tests, or alone.
build()
{
	case ${SUITE:-all}/$CONFIG in
	scenarios/*) CONFIG=scenarios "$TOP/scripts/vmtest/build.sh" ;;
	workload/*) CONFIG=workload "$TOP/scripts/vmtest/build.sh" ;;
	all/default)
		"$TOP/scripts/vmtest/build.sh" && CONFIG=scenarios "$TOP/scripts/vmtest/build.sh"
		;;
	*) "$TOP/scripts/vmtest/build.sh" ;;
	esac
}

if ! "$TOP/scripts/vmtest/tree.sh" || ! build; then
	# Whoever reads only the last line must not take this for a pass.
	echo "0 passed, 1 failed, 0 skipped"
	exit 6
fi
if [ "${SUITE:-}" = workload ]; then
	export CONFIG=workload
	exec python3 -B "$TOP/scripts/vmtest/scenarios.py"
fi
exec python3 -B "$TOP/scripts/vmtest/suite.py"
