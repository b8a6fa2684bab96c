#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# make series: the patches as mails, in out/series; BISECT= builds and boots each.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

groups=tree
[ -z "${BISECT:-}" ] || groups="$groups build run"
# shellcheck disable=SC2086 # a list of words
"$TOP/scripts/vmtest/deps.sh" $groups || exit
lock "$BUILD/.series.lock"
# Whatever comes of this run, the mails of the one before are not its result.
rm -rf "$TOP/out/series" "$TOP"/out/.series-*
WIP='' "$TOP/scripts/vmtest/tree.sh" || exit
exec python3 -B "$TOP/scripts/vmtest/mail.py"
