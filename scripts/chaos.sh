#!/usr/bin/env bash
# Builds the program and the suite of faults, then becomes the suite, so that Ctrl-C reaches only it.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ " $* " != *" --list "* ]]; then echo "chaos: building" >&2; fi
# The last line of such JSON names the program that was built.
program=$(cargo test --quiet --locked --test chaos --no-run --message-format=json-render-diagnostics |
    sed -nE '/"name":"chaos"/s/.*"executable":"([^"]+)".*/\1/p' | tail -n 1)
# Scenarios of the operator need the programs of a control plane: built now, so that their build is visible.
if [[ " $* " != *" --list "* && -z ${CONTROL_PLANE_BIN:-} ]] && "$program" --list "$@" | grep -q '^operator: '; then
    CONTROL_PLANE_BIN=$(scripts/control-plane.sh)
    export CONTROL_PLANE_BIN
fi
exec "$program" "$@"
