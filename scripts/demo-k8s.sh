#!/usr/bin/env bash
# Builds the demo on Kubernetes, and the control plane where none was built yet, then becomes it, so that Ctrl-C reaches only it.
set -euo pipefail
cd "$(dirname "$0")/.."

CONTROL_PLANE_BIN=$(scripts/control-plane.sh)
export CONTROL_PLANE_BIN
# The last line of such JSON names the program that was built.
program=$(cargo test --quiet --locked --test demo-k8s --no-run --message-format=json-render-diagnostics |
    sed -nE '/"name":"demo-k8s"/s/.*"executable":"([^"]+)".*/\1/p' | tail -n 1)
exec "$program" "$@"
