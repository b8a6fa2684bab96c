# SPDX-License-Identifier: GPL-2.0
# The doors.  Everything else is in scripts/vmtest/.

V := scripts/vmtest
# Of make bench; empty for none
VARIANTS ?= bitfield,check
export J CONFIG SUITE KSRC ACCEL STEP WIP ONLY MATRIX DURATION BISECT VARIANTS \
	PUBLISH GOALS

.DEFAULT_GOAL := help
.PHONY: run test soak matrix base shell tree refresh check mutants bench series clean help

run: ## build the patched kernel, boot it, show what each scope does
	@$(V)/run.sh
test: ## build, boot, run all tests; SUITE=name runs one suite
	@$(V)/test.sh
soak: ## the scenarios for long; ONLY=name,name  DURATION=seconds of each
	@$(V)/soak.sh
matrix: ## the tests on every kernel (default, debug, kcsan, rt, i386, prove, workload); MATRIX=name,name
	@python3 -B $(V)/matrix.py
base: ## the same tests on the unpatched kernel: what it gets wrong
	@python3 -B $(V)/base.py
shell: ## an interactive guest with the tests in it
	@$(V)/shell.sh
tree: ## build/linux: the base and one commit for each patch
	@$(V)/tree.sh
refresh: ## patches/ and the new files, regenerated from build/linux
	@$(V)/refresh.sh
check: ## the series' own checks, without booting; STEP=name runs one
	@$(V)/check.sh
mutants: ## break the kernel on purpose, one rule at a time: a test must notice; ONLY=name,name
	@python3 -B $(V)/mutants.py
bench: ## instructions per operation, the base against the series; PUBLISH=1 keeps them
	@python3 -B $(V)/bench.py
series: ## out/series: the patches as mails; BISECT=1, or =40-45, builds and boots each
	@$(V)/mail.sh
clean: ## remove build products and results; build/linux stays
	@rm -rf build/out build/run build/check build/mutants build/base build/bench build/bisect out
help: ## this list
	@sed -n 's/^\([a-z]*\): ## /\1\t/p' Makefile | expand -t 10
	@echo
	@echo 'J=jobs  CONFIG=name  KSRC=dir (a kernel tree of your own)  ACCEL=kvm|tcg'
	@echo 'WIP=1 builds build/linux as it is, work that is not in patches/ included'
