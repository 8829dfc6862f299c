#!/usr/bin/env bash
# Prints the path of a development tool, NAME at VERSION, after building it once into the user's cache.
set -euo pipefail

name=$1 version=$2
cache="${XDG_CACHE_HOME:-$HOME/.cache}/routr-registry/tools"
root="$cache/$name-$version"

if [[ ! -x $root/bin/$name ]]; then
    echo "tool: building $name $version once into $root (some minutes)" >&2
    mkdir -p "$cache"
    # Built aside and moved when whole, so that a broken attempt is never taken for the tool.
    attempt=$(mktemp -d "$cache/.$name-XXXXXX")
    trap 'rm -rf "$attempt"' EXIT
    cargo install --locked --quiet --root "$attempt" --version "=$version" "$name" >&2
    # Someone else may have been faster.
    [[ -d $root ]] || mv "$attempt" "$root"
fi
echo "$root/bin/$name"
