#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make soak: the long forms of the scenarios.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh" || exit 6

export CONFIG=scenarios
if ! "$TOP/scripts/vmtest/tree.sh" || ! "$TOP/scripts/vmtest/build.sh"; then
	echo "0 passed, 1 failed, 0 skipped"
	exit 6
fi
exec python3 -B "$TOP/scripts/vmtest/scenarios.py" soak
