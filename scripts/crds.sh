#!/usr/bin/env bash
# Writes crds/ from the types in src/spec.rs, and the chart's copy of it: a chart cannot hold a link, `helm package` drops it.
set -euo pipefail
cd "$(dirname "$0")/.."

name=registries.routr.io.yaml
new=$(mktemp)
trap 'rm -f "$new"' EXIT
cargo run --quiet --locked -- crd >"$new"
for folder in crds charts/routr-registry/files/crds; do
    mkdir -p "$folder"
    install -m 644 "$new" "$folder/$name"
done
