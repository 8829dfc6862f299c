#!/usr/bin/env bash
# Fails on phrases that betray a translation, on doc comments that begin with a question word, and on comments wider than rustfmt.toml's
# max_width (tables and links may be wider). CONTRIBUTING says why.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8

# Where a phrase is banned, and the phrase. Documents: what users and contributors read.
phrases='
everywhere  hang(s|ing)? on
everywhere  mend(s|ed|ing)?
everywhere  of no use
everywhere  makes? no sense
everywhere  anew
everywhere  at one glance
everywhere  on the average
everywhere  as good as none
product     whoever
product     somebody
product     nobody
documents   besides
documents   (is|are) to be
documents   goes on
'
documents=('*.md' '*.yml' Makefile 'charts/*/values.yaml' 'charts/*/templates/*' docs charts crds)
product=("${documents[@]}" src crates ':!src/**/tests*' ':!src/**/*_tests.rs' ':!crates/**/tests*' ':!crates/**/simulation.rs')
everywhere=("${documents[@]}" src crates tests benches fuzz ':!fuzz/corpus' ':!fuzz/regressions' ':!tests/tools')
# Lines of the field, as providers wrote them.
quoted=':!src/devstack/field/cases'

width=$(sed -n 's/^max_width = //p' rustfmt.toml)
failed=0

# What is wrong, then the lines; none is good.
report() {
    if [[ -n $2 ]]; then
        printf '%s\n' "words: $1" "$2" >&2
        failed=1
    fi
}

for scope in documents product everywhere; do
    pattern=$(awk -v scope="$scope" '$1 == scope { sub(/^[a-z]+ +/, ""); printf "%s%s", separator, $0; separator = "|" }' <<<"$phrases")
    declare -n places=$scope
    # A test's user may be called nobody.
    report "banned phrases: write it as a native speaker would, and name who acts" \
        "$(git grep -nIiP "\b($pattern)\b" -- "${places[@]}" "$quoted" | grep -viP '"[^"]*\bnobody\b[^"]*"' || true)"
done

report 'doc comments that begin with a question word: begin with a verb ("Returns whether ...") or a noun' \
    "$(git grep -nIP -B1 '^\s*//[/!] (What|Whether|How|Who|Whose|Which|Why|When|Where|See the module)\b' -- benches crates fuzz src tests |
        awk '/-[0-9]+- *\/\/[\/!] ./ { before = 1; next } /:[0-9]+:/ { if (!before) print; before = 0; next } { before = 0 }' || true)"

report "comments wider than $width columns" \
    "$(git grep -nIP "^(?=.{$((width + 1)),})\\s*//[/!]?+ *+(?!\\||!\\[|\\[|\`|https?:)" -- '*.rs' || true)"

exit $failed
