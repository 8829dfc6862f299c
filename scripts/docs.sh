#!/usr/bin/env bash
# Writes what docs/configuration.md and fuzz/dictionaries/config.dict say of the keys in src/spec.rs and src/spec/rules.rs.
# The test that finds them stale is what writes them.
set -euo pipefail
cd "$(dirname "$0")/.."

export WRITE_GENERATED=1
cargo test --quiet --locked --lib config::tests::generated::what_make_docs_writes_is_current
