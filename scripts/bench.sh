#!/usr/bin/env bash
# Builds the release form of the product and of the benchmarks, then measures. Arguments: sections, --quick, --save.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh cc
echo "bench: building the release form (some minutes the first time)"
cargo bench --locked --bench registry --no-run

# What else runs on the machine is measured too.
read -r load _ </proc/loadavg
if awk -v load="$load" 'BEGIN { exit !(load > 1) }'; then
    echo "bench: the load of this machine is $load already: figures of a machine that is otherwise idle are worth more" >&2
fi
exec cargo bench --quiet --locked --bench registry -- "$@"
