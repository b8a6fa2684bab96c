#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make test: brings tree and build up to date, then runs the suites of SUITE.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh" || exit 6

if ! "$TOP/scripts/vmtest/tree.sh" || ! "$TOP/scripts/vmtest/build.sh"; then
	# Whoever reads only the last line must not take this for a pass.
	echo "0 passed, 1 failed, 0 skipped"
	exit 6
fi
exec python3 -B "$TOP/scripts/vmtest/suite.py"
