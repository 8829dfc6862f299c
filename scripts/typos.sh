#!/usr/bin/env bash
# Checks the spelling by typos.toml. The tool comes as a prebuilt wheel from PyPI (some seconds, into the user's cache); where there is no
# pip it is built by cargo (some minutes). Arguments go to typos: `scripts/typos.sh --write-changes` corrects what it finds.
set -euo pipefail
cd "$(dirname "$0")/.."

version=1.52.0
cache="${XDG_CACHE_HOME:-$HOME/.cache}/routr-registry/tools"
typos="$cache/typos-$version/typos"

if [[ ! -x $typos ]]; then
    mkdir -p "$cache"
    attempt=$(mktemp -d "$cache/.typos-XXXXXX")
    trap 'rm -rf "$attempt"' EXIT
    if python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$attempt" "typos==$version" >&2 &&
        python3 -m zipfile -e "$attempt"/typos-"$version"-*.whl "$attempt"; then
        mkdir -p "${typos%/*}"
        # Moved when whole, so that a broken attempt is never taken for the tool.
        chmod 755 "$attempt/typos-$version.data/scripts/typos"
        mv "$attempt/typos-$version.data/scripts/typos" "$typos"
    else
        echo "typos: no wheel of typos $version by pip: building it" >&2
        typos=$(scripts/tool.sh typos-cli "$version")
    fi
fi
exec "$typos" "$@"
