# Every target works on a fresh Debian machine with Rust; `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# Where rustup puts cargo, where Debian puts kamailio, and where go.dev says to put Go.
export PATH := $(HOME)/.cargo/bin:$(PATH):/usr/sbin:/usr/local/sbin:/usr/local/go/bin

.PHONY: help setup demo demo-k8s test simulate chaos attack bench bench-quick lint fmt deny fuzz fuzz-corpus crds docs chart-readme

help: ## print this list
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/\1|\2/p' Makefile | while IFS='|' read -r target text; do printf 'make %-12s %s\n' "$$target" "$$text"; done

setup: ## install what the tests need and this machine lacks (redis-server, kamailio, nginx, haproxy, prometheus, compilers)
	@scripts/setup.sh

demo: ## start the whole chain on loopback with sample trunks; ARGS=--once exits when all have settled, ARGS=--without-registry leaves the registry to you
	@scripts/setup.sh cc
	@cargo run --quiet --locked -- demo $(ARGS)

demo-k8s: ## show the operator on a real Kubernetes control plane, live; ARGS=--quick skips the pauses
	@scripts/setup.sh cc
	@scripts/demo-k8s.sh $(ARGS)

test: setup ## run all tests, with a summary; ARGS goes to cargo test (ARGS='--test it kamailio')
	@scripts/test.sh $(ARGS)

simulate: ## simulate days with every fault; SEEDS=1000 FROM=1 sets how many, SEED=17 replays one with its history
	@scripts/setup.sh cc
	@SEEDS=$(SEEDS) FROM=$(FROM) SEED=$(SEED) scripts/simulate.sh $(ARGS)

chaos: ## inject faults into real processes around 1,000 trunks (20 min); ARGS=--quick, --list or a scenario's name
	@scripts/setup.sh
	@scripts/chaos.sh $(ARGS)

attack: setup ## attack the real program as hostile tenant, provider and pod (3 min, part of make test); SECONDS=600 attacks longer
	@ATTACK_SECONDS=$(if $(filter command line,$(origin SECONDS)),$(SECONDS),30) RUST_TEST_THREADS=8 scripts/test.sh --test it hostile:: $(ARGS)

bench: ## measure the cost of a million trunks (27 min); ARGS=memory is one section, SAVE=1 writes BENCHMARKS.md
	@scripts/bench.sh $(ARGS) $(if $(SAVE),--save)

bench-quick: ## the same with smaller sizes (1 min); ARGS=first-wave is one section
	@scripts/bench.sh --quick $(ARGS)

# `--all-targets` leaves out what is no test. With the examples the last two commands build no dependency again: tests need more features
# of some of them.
lint: ## check formatting, spelling, phrases, clippy and documentation; warnings are errors
	@scripts/setup.sh cc
	cargo fmt --all --check
	@scripts/words.sh
	@scripts/typos.sh
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked --test chaos --test demo-k8s -- -D warnings
	cargo clippy --locked --no-default-features --lib --bins --examples -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --workspace --no-deps --document-private-items --lib --bins --examples

fmt: ## format the code
	cargo fmt --all

SECONDS ?= 60
fuzz: ## fuzz every parser of untrusted input, SECONDS=60 for each target; TARGET=sip_message for one
	@scripts/setup.sh cc c++
	@scripts/fuzz.sh run $(SECONDS) $(TARGET)

fuzz-corpus: ## add the inputs that `make fuzz` found and that reach new code to fuzz/corpus
	@scripts/setup.sh cc c++
	@scripts/fuzz.sh corpus $(TARGET)

deny: ## check licences, banned crates, sources, known vulnerabilities; ADVISORIES=1 fails if their database is unavailable
	@scripts/setup.sh cc
	@scripts/deny.sh $(if $(ADVISORIES),advisories)

crds: ## regenerate crds/ and the chart's copy from the types in src/spec.rs
	@scripts/crds.sh

docs: ## regenerate the tables and the example of docs/configuration.md, and the keys of the fuzz dictionary
	@scripts/docs.sh

chart-readme: ## regenerate the table of values in the chart's README from values.yaml
	@scripts/chart-readme.sh
