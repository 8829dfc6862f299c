#!/usr/bin/env bash
# Checks the dependencies by deny.toml, and for known vulnerabilities where their database can be fetched. Where it cannot, it says so, and
# fails with `advisories` as an argument.
set -euo pipefail
cd "$(dirname "$0")/.."

deny=$(scripts/tool.sh cargo-deny 0.20.2)
"$deny" --locked check licenses bans sources

fetched=$(mktemp)
trap 'rm -f "$fetched"' EXIT
if timeout 120 "$deny" --locked fetch db >"$fetched" 2>&1; then
    "$deny" --locked check --disable-fetch advisories
    exit
fi
cause=$(grep -v '^[[:space:]]*$' "$fetched" | tail -n 1)
echo "deny: NOT CHECKED for known vulnerabilities: the database of advisories cannot be fetched (${cause:-no response within 120 s})" >&2
[[ ${1:-} != advisories ]]
