#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# check.sh [<switches>]: searches every state of scope.pml with Spin, as it is and
# with one thing broken at a time.  A line for each model; with an argument, only
# those whose switches contain it.  Failures leave their trail in build/check/model.
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

model=$TOP/scripts/vmtest/model/scope.pml
dir=$BUILD/check/model
only=${1-}

# What must come out without and with PREEMPT_RT: pass, or the property that a
# search for it finds violated; the switches of scope.pml, behind | for PREEMPT_RT
# if they differ; why it is harmless.  The first two are the protocol as it is.
models='
pass		pass		DEPTH=2|DEPTH=1
pass		pass		DEPTH=3 SDEPTH=2 NO_NMI|DEPTH=2 NO_NMI
pass		pass		NEIGHBOUR DEPTH=1 NO_NMI	# a byte of its own
pass		pass		BORROW_IRQS_ON DEPTH=1 NO_NMI	# what nests gives back what it found
pass		LOST		SAVED_PER_CPU NO_NMI	# without RT, softirqs do not nest
LOST		LOST		SAVED_PER_CPU BORROW_IRQS_ON NO_NMI
LEAK_IN		LEAK_IN		NO_CLEAR NO_NMI
READER		READER		NO_CLEAR NO_NMI
LOST		LOST		NO_RESTORE NO_NMI
LEAK_IN		LEAK_IN		RESTORE_EARLY NO_NMI
LEAK_OUT	LEAK_OUT	RESTORE_EARLY NO_NMI
pass		pass		MERGE_BACK NO_NMI	# nothing is left to merge
LEAK_OUT	LEAK_OUT	MERGE_BACK NO_CLEAR_EACH NO_NMI
CLOSED		CLOSED		MERGE_BACK NO_CLEAR_EACH NO_NMI
HARDIRQ		HARDIRQ		NO_HARDIRQ_TEST NO_NMI
AS_FOUND	AS_FOUND	INTERRUPT_FORGETS NO_NMI
LEAK_OUT	LEAK_OUT	INTERRUPT_FORGETS NO_NMI
CHILD		CHILD		FORK_INHERITS NO_NMI
LOST		LOST		NEIGHBOUR BITFIELD DEPTH=1 NO_NMI
NEIGHBOURS	NEIGHBOURS	NEIGHBOUR BITFIELD DEPTH=1 NO_NMI
LOST		LOST		REMOTE_WRITES DEPTH=1 NO_NMI
LEAK_OUT	LEAK_OUT	PER_CPU NO_NMI
HANDLER_EMPTY	HANDLER_EMPTY	NO_CLEAR_EACH NO_NMI
'

# one <number> <expected> <switches>...: searches, prints a line, 1 if it is not as expected
one()
{
	local work=$dir/$1 expected=$2 got switches flags opt=-O1 start=$SECONDS
	shift 2
	switches=$*
	mkdir -p "$work" && cd "$work" || return
	if [ "$expected" != pass ]; then
		set -- "$@" "PROP=$expected"
		opt=-O0		# finds it sooner than the compiler would be done
	fi
	flags=$(printf -- '-D%s ' "$@")
	# shellcheck disable=SC2086 # a list of words
	if ! spin -a $flags "$model" >spin.log 2>&1 ||
	   ! gcc -w $opt -DSAFETY -DNOREDUCE -DMEMLIM=3000 -o pan pan.c >gcc.log 2>&1; then
		got='does not build'
	else
		./pan -m4000000 >pan.log 2>&1
		# Only a whole search proves that there is nothing to find.
		if grep -q '^pan:1: assertion violated.*busy' pan.log; then
			got='an impossible nesting'
		elif grep -q '^pan:1: assertion violated' pan.log; then
			got=violated
			[ "$expected" != pass ] ||
				spin -t -p -g -l -k scope.pml.trail $flags "$model" >trail.txt 2>&1
		elif grep -qE '^pan:1: ' pan.log; then
			got=$(sed -n 's/^pan:1: \([a-z ]*[a-z]\).*/\1/p' pan.log)
		elif grep -qiE 'max search depth|MEMLIM|not completed|out of memory' pan.log ||
		     ! grep -q 'errors: 0$' pan.log; then
			got='cut short'
		elif grep -E ', state [0-9]+, ' pan.log | grep -qvF '"-end-"'; then
			got='never reached all steps'
		else
			got=pass
		fi
	fi
	# PROP= looks at one property, so any violation is one of that.
	[ "$got" != violated ] || [ "$expected" = pass ] || got=$expected
	printf '%-4s %-46s %10s states  expected %-13s got %s (%d s)\n' \
		"$([ "$got" = "$expected" ] && echo ok || echo FAIL)" "$switches" \
		"$(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' pan.log 2>/dev/null)" \
		"$expected" "$got" $((SECONDS - start))
	rm -f pan pan.[bchmpt] _spin_nvr.tmp
	[ "$got" = "$expected" ]
}

# A switch that the model does not know would pass for harmless.
while read -r switch; do
	grep -qwE "(ifdef|ifndef|define) +$switch" "$model" ||
		die "scope.pml has no $switch: correct the list in model/check.sh"
done < <(cut -d '#' -f 1 <<<"$models" | grep -oE '\b[A-Z_]{3,}\b' | sort -u)
while read -r switch; do
	grep -qw "$switch" <<<"$models" ||
		die "nothing sets $switch of scope.pml: correct the list in model/check.sh"
done < <(sed -nE 's/^#ifn?def ([A-Z_]{3,}).*/\1/p' "$model" | sort -u | grep -vx PROP)
rm -rf "$dir"
mkdir -p "$dir" || die "cannot create $dir: make it writable"

number=0
while read -r plain rt switches; do
	switches=${switches%%#*}
	[ -n "$plain" ] && [[ "$switches" == *"$only"* ]] || continue
	number=$((number + 1))
	printf '%s\n' "$number.rt $rt RT ${switches##*|}" "$number.plain $plain ${switches%%|*}"
done <<<"$models" >"$dir/list"
[ -s "$dir/list" ] || die "no model has $only: see the list in model/check.sh"

export -f one
export model dir
# shellcheck disable=SC2016 # for the inner shell, and $1 is a list of words
xargs -P "$J" -d '\n' -n 1 bash -c 'one $1' one <"$dir/list" | tee "$dir/result"
bad=${PIPESTATUS[0]}
awk '{ for (i = 2; i < NF; i++) if ($(i + 1) == "states") n += $i }
	END { printf "%d models, %d states searched\n", NR, n }' "$dir/result"
[ "$bad" = 0 ]
