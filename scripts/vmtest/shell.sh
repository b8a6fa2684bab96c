#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make shell: an interactive guest with the tests in it.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh" || exit 6

[ -t 0 ] || die "make shell needs a terminal"
"$TOP/scripts/vmtest/tree.sh" || exit 6
"$TOP/scripts/vmtest/build.sh" || exit 6

say "shell: the tests are in /tests; leave with 'exit', or at once with Ctrl-A X"
exec python3 -B "$TOP/scripts/vmtest/vm.py" shell
