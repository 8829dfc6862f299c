#!/usr/bin/env bash
# Runs cargo test with the given arguments, shows its output as it comes, and closes with a line for each suite.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

log=$(mktemp)
trap 'rm -f "$log"' EXIT
if [[ -t 1 ]]; then export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-always}"; fi

run() { cargo test --locked --no-fail-fast "$@"; }

# The tests build the programs of a control plane when they need them. Built now, their build is visible.
prepare() {
    [[ -n ${CONTROL_PLANE_BIN:-} ]] || CONTROL_PLANE_BIN=$(scripts/control-plane.sh) || return
    export CONTROL_PLANE_BIN
}

simulate() {
    # With the features that `--workspace` gives to all dependencies, so that none is built again.
    cargo build --locked --workspace --example simulate || return
    local program=${CARGO_TARGET_DIR:-target}/debug/examples/simulate
    echo "     Running $program"
    "$program"
}

# Everything: unit tests, a hundred simulated histories, then the integration tests, which wait for expiries of real registrars and need hardly any
# processor: eight at a time even on two cores.
all() {
    local failed=0 cores
    cores=$(nproc)
    run --workspace --lib --bins || failed=1
    simulate || failed=1
    prepare || failed=1
    RUST_TEST_THREADS="${RUST_TEST_THREADS:-$((cores < 8 ? 8 : cores))}" run --workspace --test it || failed=1
    run --workspace --doc || failed=1
    # The same inputs each time, as far as four seconds go: this judges the change, not luck.
    FUZZ_SHARED=1 FUZZ_SEED=1 scripts/fuzz.sh run 4 || failed=1
    return "$failed"
}

began=$SECONDS
# In a single pipe the exit status of cargo is what counts: pipefail, and tee does not fail.
if (($#)); then run "$@"; else all; fi 2>&1 | tee "$log"
status=$?

sed 's/\x1b\[[0-9;]*m//g' "$log" | awk '
    /^ *Running / { suite = ($2 == "unittests" ? $3 : $2); gsub(/`|.*examples./, "", suite) }
    /^ *Doc-tests / { suite = "doc tests" }
    /^test result:/ {
        if (!header++) printf "\n%-28s %8s %8s %8s %10s\n", "suite", "passed", "failed", "ignored", "time"
        printf "%-28s %8d %8d %8d %10s\n", suite, $4, $6, $8, $NF
    }'
printf 'whole run, building included: %d s\n' $((SECONDS - began))
exit "$status"
