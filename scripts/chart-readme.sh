#!/usr/bin/env bash
# Writes the table of values in the chart's README from the comments of values.yaml that begin with "# --". With --check it
# writes nothing, and fails where the table is stale or a value has no comment. An argument names another chart.
set -euo pipefail
cd "$(dirname "$0")/.."

check=
if [[ ${1:-} == --check ]]; then check=yes && shift; fi
chart=${1:-charts/routr-registry}
table=$(mktemp)
readme=$(mktemp)
trap 'rm -f "$table" "$readme"' EXIT

# A comment belongs to the next key and to all below it; each value needs one, its own or that of a key above.
awk '
    function bad(text) { print FILENAME ":" FNR ": " text > "/dev/stderr"; failed = 1; exit 1 }
    function flush() {
        if (row != "") printf "| `%s` | %s | %s |\n", row, (nested ? "see values.yaml" : (value == "" ? "" : "`" value "`")), text
        row = ""
    }
    BEGIN { print "| value | default | meaning |"; print "|---|---|---|"; covered = -1 }
    /^ *# -- / { sub(/^ *# -- /, ""); doc = $0; next }
    /^ *#/ && doc != "" { sub(/^ *# ?/, ""); doc = doc " " $0; next }
    /^ *(#|$)/ { next }
    {
        match($0, /^ */); depth = RLENGTH
        if (covered >= 0 && depth > covered) { nested = 1; if (doc != "") bad("a comment for a part of a value that has one: " doc); next }
        if (covered >= 0 && depth == covered && $0 ~ /^ *- /) { nested = 1; next }
        flush(); covered = -1
        line = substr($0, depth + 1)
        if (line !~ /^[A-Za-z]+:( |$)/) bad("not a key: " line)
        colon = index(line, ":"); path[depth] = substr(line, 1, colon - 1)
        value = substr(line, colon + 1); sub(/^ +/, "", value)
        if (doc == "") { if (value != "") bad("no comment for " path[depth]); next }
        row = path[0]; for (i = 2; i <= depth; i += 2) row = row "." path[i]
        text = doc; gsub(/\|/, "\\|", text); doc = ""; nested = 0; covered = depth
    }
    END { if (!failed) flush() }
' "$chart/values.yaml" >"$table"

awk -v table="$table" '
    /<!-- values: begin/ { print; while ((getline line < table) > 0) print line; inside = 1; found++; next }
    /<!-- values: end/ { inside = 0; found++ }
    !inside { print }
    END { if (found != 2) { print "README.md: no place for the table of values" > "/dev/stderr"; exit 1 } }
' "$chart/README.md" >"$readme"

if [[ -z $check ]]; then
    cp "$readme" "$chart/README.md"
elif ! diff -u "$chart/README.md" "$readme" >&2; then
    echo "chart: the README is stale: \`make chart-readme\` regenerates it" >&2
    exit 1
fi
