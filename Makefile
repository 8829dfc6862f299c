# Every target works on a fresh Debian machine with Rust; `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# Where rustup puts cargo, where Debian puts kamailio, and where go.dev says to put Go.
export PATH := $(HOME)/.cargo/bin:$(PATH):/usr/sbin:/usr/local/sbin:/usr/local/go/bin

.PHONY: help setup demo demo-k8s test simulate chaos attack bench bench-quick lint fmt deny fuzz fuzz-corpus crds chart-readme

help: ## this list
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/\1|\2/p' Makefile | while IFS='|' read -r target text; do printf 'make %-12s %s\n' "$$target" "$$text"; done

setup: ## install what the tests need and this machine lacks (redis-server, kamailio, C and C++ compilers)
	@scripts/setup.sh

demo: ## start the whole chain on loopback with sample trunks; ARGS=--once ends when all have settled
	@scripts/setup.sh cc
	@cargo run --quiet --locked -- demo $(ARGS)

demo-k8s: ## see the operator on a real Kubernetes control plane, live; ARGS=--quick leaves the pauses out
	@scripts/setup.sh cc
	@scripts/demo-k8s.sh $(ARGS)

test: setup ## all tests, with a summary; ARGS goes to cargo test (ARGS='--test it kamailio')
	@scripts/test.sh $(ARGS)

simulate: ## simulated days with every fault; SEEDS=1000 FROM=1 says how many, SEED=17 replays one with its history
	@scripts/setup.sh cc
	@SEEDS=$(SEEDS) FROM=$(FROM) SEED=$(SEED) scripts/simulate.sh $(ARGS)

chaos: ## kill, stop, cut off and lie to everything around 1,000 trunks; ARGS=--quick, --list or a scenario's name
	@scripts/setup.sh
	@scripts/chaos.sh $(ARGS)

attack: setup ## hostile tenants, providers and pods against the real program and a real control plane (a part of make test), 3 min; SECONDS=600 attacks for longer
	@ATTACK_SECONDS=$(if $(filter command line,$(origin SECONDS)),$(SECONDS),30) RUST_TEST_THREADS=8 scripts/test.sh --test it hostile:: $(ARGS)

bench: ## what a million trunks cost, beside references (27 min); ARGS=memory is one section, SAVE=1 writes BENCHMARKS.md
	@scripts/bench.sh $(ARGS) $(if $(SAVE),--save)

bench-quick: ## the same with smaller sizes, in a minute; ARGS=first-wave is one section
	@scripts/bench.sh --quick $(ARGS)

lint: ## formatting, spelling, phrases, clippy and documentation; warnings are errors
	@scripts/setup.sh cc
	cargo fmt --all --check
	@scripts/words.sh
	@scripts/typos.sh
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --no-deps

fmt: ## format the code
	cargo fmt --all

SECONDS ?= 60
fuzz: ## feed the parsers with made-up inputs, SECONDS=60 for each target; TARGET=sip_message for one of them
	@scripts/setup.sh cc c++
	@scripts/fuzz.sh run $(SECONDS) $(TARGET)

fuzz-corpus: ## take what `make fuzz` has found into fuzz/corpus, as little of it as reaches as much
	@scripts/setup.sh cc c++
	@scripts/fuzz.sh corpus $(TARGET)

deny: ## licences, banned crates, sources, known vulnerabilities; ADVISORIES=1 fails where their database cannot be had
	@scripts/setup.sh cc
	@scripts/deny.sh $(if $(ADVISORIES),advisories)

crds: ## write crds/ and the chart's copy anew, from the types in src/spec.rs
	@scripts/crds.sh

chart-readme: ## write the table of values in the chart's README anew, from values.yaml
	@scripts/chart-readme.sh
