#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Everything about the series that can be told without booting it.  A line for
# each step; STEP=name runs one.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

vmtest=$TOP/scripts/vmtest
linux=$BUILD/linux
logs=$BUILD/check
steps='series apply refresh checkpatch kerneldoc guide docs coccicheck cocci scripts model off compile'

# Overlay files and patches are in order: one owner each, none in the base.
step_series()
{
	"$vmtest/series.py" verify "$base"
}

# Each hunk finds its lines where it says they are.
step_apply()
{
	"$vmtest/series.py" commit "$base" 2>&1 >/dev/null | grep . && return 1
	return "${PIPESTATUS[0]}"
}

step_refresh()
{
	"$vmtest/series.py" stale "$base" HEAD
}

step_checkpatch()
{
	"$vmtest/checkpatch.py" "$linux" "$vmtest/checkpatch.exceptions"
}

step_kerneldoc()
{
	local files
	files=$("$vmtest/series.py" overlay | grep '\.[ch]$' | grep -v '^tools/')
	[ -n "$files" ] || return 0
	# shellcheck disable=SC2086 # a list of words
	cd "$linux" && PYTHONDONTWRITEBYTECODE=1 scripts/kernel-doc -none -Wall -Werror $files
}

# What the guide shows of its examples is where it says, and not empty.
step_guide()
{
	local file start end shown=0 bad=0
	cd "$linux/Documentation/core-api" || return 1
	while IFS=$'\t' read -r file start end; do
		shown=$((shown + 1))
		awk -v start="$start" -v end="$end" '
			on && $0 == end { found = 1; exit }
			on && NF { lines++ }
			$0 == start { on = 1 }
			END { exit !(found && lines) }' "$file" ||
			{ echo "$file has nothing between $start and $end"; bad=1; }
	done < <(awk '
		/^\.\. literalinclude:: / { file = $3 }
		sub(/^ *:start-after: /, "") { start = $0 }
		sub(/^ *:end-before: /, "") { print file "\t" start "\t" $0 }' memalloc-scope.rst)
	[ "$shown" -gt 0 ] || { echo "the guide shows no example"; bad=1; }
	return $bad
}

# The pages that show what the series changes, and the text that it adds.
step_docs()
{
	"$vmtest/docs.py" "$linux" "$logs/docs" "$CACHE/warnings" "$J"
}

# The kernel's semantic patches.
step_coccicheck()
{
	"$vmtest/coccicheck.py" "$linux" "$logs/coccicheck" "$CACHE/warnings" "$J"
}

# What the semantic patch for scopes finds, and what it makes of it.
step_cocci()
{
	"$vmtest/cocci.py" "$logs/cocci"
}

# scripts_of <first line> <name>: this repository's files that are told by either.
scripts_of()
{
	git -C "$TOP" ls-files -z -co --exclude-standard |
	while IFS= read -r -d '' file; do
		[ -f "$TOP/$file" ] || continue
		if [[ $file =~ $2 ]] || head -n 1 "$TOP/$file" | tr -d '\0' | grep -qE "$1"; then
			printf '%s\n' "$file"
		fi
	done
}

step_scripts()
{
	local bad=0 file
	cd "$TOP" || return 1
	while read -r file; do
		shellcheck "$file" || bad=1
	done < <(scripts_of '^#!.*[/ ](ba|da)?sh' '\.sh$')
	while read -r file; do
		PYTHONPYCACHEPREFIX=$logs/pyc python3 -m py_compile "$file" &&
			pyflakes3 "$file" || bad=1
	done < <(scripts_of '^#!.*python3' '\.py$')
	while read -r file; do
		[ "$(wc -l <"$file")" -le 800 ] || { echo "$file has more than 800 lines"; bad=1; }
	done < <(git ls-files -co --exclude-standard | grep -E '\.(c|h|sh|py)$|Makefile$' |
		xargs -rd '\n' ls -d 2>/dev/null)
	return $bad
}

# The protocol by which tasks and interrupts share the byte.
step_model()
{
	"$vmtest/model/check.sh"
}

# Without the checks of CONFIG_CHECK_MEMALLOC_SCOPE and so on, nothing is left of them.
step_off()
{
	"$vmtest/deps.sh" build bench || return
	"$vmtest/off.py" "$linux"
}

step_compile()
{
	"$vmtest/deps.sh" build || return
	"$vmtest/compile.py" "$linux" "$logs/compile" "$CACHE/warnings" "$J"
}

"$vmtest/deps.sh" tree check || exit
lock "$BUILD/.check.lock"
WIP='' "$vmtest/tree.sh" || exit
base=$(kgit rev-parse 'base^{commit}') || exit
mkdir -p "$logs" || die "cannot write $logs: make it writable"
if [ -n "${STEP:-}" ]; then
	[[ " $steps " == *" $STEP "* ]] || die "no step $STEP: use one of $steps"
	steps=$STEP
fi
failed=
for step in $steps; do
	start=$SECONDS
	if ("step_$step") >"$logs/$step.log" 2>&1; then
		say "ok    $step ($((SECONDS - start)) s)"
	else
		say "FAIL  $step ($((SECONDS - start)) s)"
		head -n 30 "$logs/$step.log" | sed 's/^/      /' >&2
		[ "$(wc -l <"$logs/$step.log")" -le 30 ] || say "      ... all of it: build/check/$step.log"
		failed="$failed $step"
	fi
done
[ -z "$failed" ] || { say "check failed:$failed"; exit 1; }
say "check passed: $(wc -w <<<"$steps") steps, $(kgit rev-list --count base..HEAD) patches"
