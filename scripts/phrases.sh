#!/usr/bin/env bash
# Fails on phrases that CONTRIBUTING.md's style guide rules out, in the texts that users and contributors read.
set -euo pipefail
cd "$(dirname "$0")/.."

phrases='mend(s|ed|ing)?|anew|hangs? on|of no use|makes? no sense|besides|whoever|somebody|nobody|(is|are) to be|at one glance|on the average|as good as none|goes on'
if git ls-files '*.md' '*.yml' Makefile 'charts/*/values.yaml' 'charts/*/templates/*' | xargs grep -nwiE "$phrases" --; then
    echo 'phrases: rewrite these in plain words (CONTRIBUTING.md, Comments)' >&2
    exit 1
fi
