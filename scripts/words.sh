#!/usr/bin/env bash
# Fails on phrases that betray a translation, on doc comments that begin with a question word, and on comments wider than rustfmt.toml's
# max_width (tables and links may be wider). CONTRIBUTING says why.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8

texts=(README.md ARCHITECTURE.md CONTRIBUTING.md CHANGELOG.md docs charts crds src crates)
width=$(sed -n 's/^max_width = //p' rustfmt.toml)
failed=0

report() {
    # What is wrong, then the lines; none is good.
    if [[ -n $2 ]]; then
        printf '%s\n' "words: $1" "$2" >&2
        failed=1
    fi
}

phrases='\bhang(s|ing)? on\b|\bmend(s|ed|ing)?\b|\bof no use\b|\bmakes? no sense\b|\banew\b|\bat one glance\b|\bon the average\b'
report 'banned phrases: write it as a native speaker would' \
    "$(git grep -nIiP "$phrases" -- "${texts[@]}" ':!src/devstack/field/cases' || true)"
report 'whoever, somebody, nobody: name who it is (the caller, the API server, no replica)' \
    "$(git grep -nIiP '\b(whoever|somebody|nobody)\b' -- "${texts[@]}" ':!src/devstack/field/cases' ':!src/**/tests*' ':!src/**/*_tests.rs' | grep -viP '"[^"]*\b(nobody)\b[^"]*"' || true)"

# Folders whose doc comments still begin with a question word; none may be added.
not_yet=(':!tests/chaos' ':!tests/simulate')
report 'doc comments that begin with a question word: begin with a verb ("Returns whether ...") or a noun' \
    "$(git grep -nIP -B1 '^\s*//[/!] (What|Whether|How|Who|Whose|Which|Why|When|Where|See the module)\b' -- benches crates fuzz src tests "${not_yet[@]}" |
        awk '/-[0-9]+- *\/\/[\/!] ./ { before = 1; next } /:[0-9]+:/ { if (!before) print; before = 0; next } { before = 0 }' || true)"

report "comments wider than $width columns" \
    "$(git grep -nIP "^(?=.{$((width + 1)),})\\s*//[/!]?+ *+(?!\\||!\\[|\\[|\`|https?:)" -- '*.rs' || true)"

exit $failed
