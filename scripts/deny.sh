#!/usr/bin/env bash
# Checks the dependencies by deny.toml. `advisories` as an argument adds the known vulnerabilities; their database is
# fetched from the network, which not every place of work allows.
set -euo pipefail
cd "$(dirname "$0")/.."

deny=$(scripts/tool.sh cargo-deny 0.20.2)
checks=(licenses bans sources "$@")
"$deny" --locked check "${checks[@]}"
if [[ " ${checks[*]} " != *" advisories "* ]]; then
    echo "deny: the advisories were not checked (their database has to be fetched): make deny ADVISORIES=1 does it"
fi
