#!/usr/bin/env bash
# Simulated days of the real driver, from seeds: all of SEEDS, or one SEED with its history. Everything else goes to the binary.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

echo 'building the simulation (release) ...' >&2
cargo test --release --locked --quiet --test simulate --no-run || exit
if [[ -n ${SEED:-} ]]; then
    mkdir -p target/simulate
    history=target/simulate/seed-$SEED.txt
    cargo test --release --locked --quiet --test simulate -- --seed "$SEED" "$@" >"$history"
    status=$?
    grep -v '^error' "$history" | tail -n 40 | cut -c1-400
    echo "the whole history: $history"
    exit "$status"
fi
cargo test --release --locked --quiet --test simulate -- --seeds "${SEEDS:-1000}" --from "${FROM:-1}" "$@"
