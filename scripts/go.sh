#!/usr/bin/env bash
# Prints the path of a go command that builds tests/tools: the one in the PATH where it is new enough to fetch the right one by
# itself, else one that is downloaded once from Go's module proxy into the user's cache, checked by its checksum.
set -euo pipefail
cd "$(dirname "$0")/../tests/tools"

version=1.26.8
declare -A sums=(
    [amd64]=30c2b1bf7dcc88d3eb0a1364e47ddd9128edb3110a30e8a0ef61cd5856b31de7
    [arm64]=02b36b6787b3ac767668f630e2998df45a3b1f9ffee08d1bf3ef6487cd658d99
)

# Within the module, a Go of 1.21 or later fetches the one that it asks for, unless GOTOOLCHAIN=local forbids it.
needed=$(awk '$1 == "go" { print $2 }' go.mod)
have=$(go env GOVERSION 2>/dev/null) || have=
if [[ -n $have && $(printf '%s\n' "$needed" "${have#go}" | sort -V | head -n 1) == "$needed" ]]; then
    command -v go
    exit 0
fi

case $(uname -m) in
x86_64) arch=amd64 ;;
aarch64) arch=arm64 ;;
*)
    echo "go: missing, and there is no pinned one for $(uname -m): install Go $version from https://go.dev/dl" >&2
    exit 1
    ;;
esac
cache="${XDG_CACHE_HOME:-$HOME/.cache}/routr-registry/tools"
root="$cache/go-$version"
if [[ ! -x $root/bin/go ]]; then
    for program in curl python3; do
        if ! command -v "$program" >/dev/null; then
            echo "go: missing, and without $program it cannot be fetched: install Go $version from https://go.dev/dl" >&2
            exit 1
        fi
    done
    echo "go: missing or too old: fetching $version once into $root (70 MB)" >&2
    mkdir -p "$cache"
    # Unpacked aside and moved when whole, so that a broken attempt is never taken for it.
    attempt=$(mktemp -d "$cache/.go-XXXXXX")
    trap 'rm -rf "$attempt"' EXIT
    name="v0.0.1-go$version.linux-$arch"
    curl --fail --silent --show-error --location --retry 3 --output "$attempt/go.zip" \
        "https://proxy.golang.org/golang.org/toolchain/@v/$name.zip"
    echo "${sums[$arch]}  $attempt/go.zip" | sha256sum --check --quiet >&2
    python3 -m zipfile -e "$attempt/go.zip" "$attempt"
    found="$attempt/golang.org/toolchain@$name"
    # An archive of a module keeps no modes.
    chmod +x "$found"/bin/* "$found"/pkg/tool/*/*
    # Someone else may have been faster.
    [[ -d $root ]] || mv "$found" "$root"
fi
echo "$root/bin/go"
