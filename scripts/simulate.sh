#!/usr/bin/env bash
# Simulated days of the real driver, from seeds: all of SEEDS, or one SEED with its history. Everything else goes to the binary.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

echo 'building the simulation (release) ...' >&2
cargo build --release --locked --quiet --package routr-simulate --example simulate || exit
simulate=${CARGO_TARGET_DIR:-target}/release/examples/simulate
if [[ -n ${SEED:-} ]]; then
    mkdir -p target/simulate
    history=target/simulate/seed-$SEED.txt
    "$simulate" --seed "$SEED" "$@" >"$history"
    status=$?
    grep -v '^error' "$history" | tail -n 40 | cut -c1-400
    echo "the whole history: $history"
    exit "$status"
fi
exec "$simulate" --seeds "${SEEDS:-1000}" --from "${FROM:-1}" "$@"
