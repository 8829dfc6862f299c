#!/usr/bin/env bash
# Builds the release form of the product and of the benchmarks, then measures. Arguments: sections, --quick, --save.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh cc redis-server
# The operator is measured on a real control plane, which is built once and kept outside the tree. A quick run goes without,
# unless it is asked for these sections.
control_plane=needed
for word in "$@"; do
    case $word in
    operator | take-over) control_plane=needed && break ;;
    --save) ;;
    *) control_plane=spared ;;
    esac
done
if [[ $control_plane == needed && -z ${CONTROL_PLANE_BIN:-} ]]; then
    CONTROL_PLANE_BIN=$(scripts/control-plane.sh)
    export CONTROL_PLANE_BIN
fi
echo "bench: building the release form (some minutes the first time)"
cargo bench --locked --bench registry --no-run

# What else runs on the machine is measured too.
read -r load _ </proc/loadavg
if awk -v load="$load" 'BEGIN { exit !(load > 1) }'; then
    echo "bench: the load of this machine is $load already: figures of a machine that is otherwise idle are worth more" >&2
fi
exec cargo bench --quiet --locked --bench registry -- "$@"
