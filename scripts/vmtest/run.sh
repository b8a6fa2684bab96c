#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make run: boots the patched kernel and shows what it did with each scope.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh" || exit 6

"$TOP/scripts/vmtest/tree.sh" || exit 6
"$TOP/scripts/vmtest/build.sh" || exit 6

name=run
[ "$CONFIG" = default ] || name=$CONFIG-run
say "run: booting; the table comes from the running kernel"
python3 -B "$TOP/scripts/vmtest/vm.py" boot --name "$name" --jobs table >"$BUILD/run.log"
rc=$?
# The job's own lines are diagnostics of the results document.
[ -f "$BUILD/run/$name/results.ktap" ] &&
	sed -n -e '/^# vmtest: /d' -e 's/^# //p' "$BUILD/run/$name/results.ktap"
cat "$BUILD/run.log"
rm -f "$BUILD/run.log"
exit $rc
