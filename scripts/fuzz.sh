#!/usr/bin/env bash
# Feeds the parsers with inputs that libFuzzer derives from those in fuzz/corpus, guided by coverage.
#
#   fuzz.sh run SECONDS [TARGET]     each target for that long, as many at a time as there are cores; then a table
#                                    FUZZ_SEED=N makes the same inputs each time, FUZZ_SHARED=1 uses the tests' build of the dependencies
#   fuzz.sh corpus [TARGET]          adds the inputs that reach new code to fuzz/corpus
set -uo pipefail
cd "$(dirname "$0")/.." || exit

mode=${1:-run}
case $mode in
run) seconds=${2:-60} only=${3:-} ;;
corpus) only=${2:-} ;;
*) sed -n '4,6s/^#   //p' "$0" && exit 2 ;;
esac

# What runs find is kept here from one to the next; artifacts are inputs that fail.
work=${CARGO_TARGET_DIR:-target}/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
# Inputs that were found, and their bytes, for each target in the tree; what was written by hand comes on top.
kept_inputs=100 kept_bytes=14000

build() {
    local options=(--locked --example fuzz --message-format json-render-diagnostics)
    echo 'fuzz: building with coverage instrumentation (minutes at the first time)' >&2
    if [[ -n ${FUZZ_SHARED:-} ]]; then
        # Ours are built as for `make fuzz`. The dependencies are those of the tests, YAML's parser among them, which does not lead the
        # fuzzer then: for the few seconds of `make test` nothing but ours is built again.
        local crate
        for crate in $(sed -n 's/^name = "\(routr-.*\)"/\1/p' Cargo.toml crates/*/Cargo.toml); do
            options+=(--config "profile.dev.package.$crate.opt-level=1")
        done
        CARGO_INCREMENTAL=0 RUSTC_WORKSPACE_WRAPPER=$PWD/scripts/fuzz-rustc.sh \
            cargo build "${options[@]}" --workspace --features routr-registry/fuzzing
    else
        # A folder of its own: other flags rebuild everything, and `cargo test` must not notice.
        RUSTC_WRAPPER=$PWD/scripts/fuzz-rustc.sh RUSTFLAGS='--cfg fuzzing' \
            cargo build "${options[@]}" --profile fuzz --features fuzzing --target "$host" --target-dir "$work"
    fi | sed -n 's/.*"name":"fuzz".*"executable":"\([^"]*\)".*/\1/p'
}

# The dictionary of a target, as an option.
dictionary() {
    local words=$1
    case $1 in
    sip_*) words=sip ;;
    resource) words=config ;;
    esac
    [[ ! -f fuzz/dictionaries/$words.dict ]] || echo "-dict=fuzz/dictionaries/$words.dict"
}

# One target: its log and the inputs it finds go to $work.
fuzz() {
    local target=$1 log=$work/logs/$1 options
    mkdir -p "$work/corpus/$target" "fuzz/artifacts/$target" "fuzz/regressions/$target"
    mapfile -t options < <(dictionary "$target")
    [[ -z ${FUZZ_SEED:-} ]] || options+=("-seed=$FUZZ_SEED")
    FUZZ_TARGET=$target nice -n 10 "$program" "$work/corpus/$target" "fuzz/corpus/$target" "fuzz/regressions/$target" \
        -max_total_time="$seconds" -max_len=4096 -timeout=20 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="fuzz/artifacts/$target/" "${options[@]}" >"$log" 2>&1
    echo $? >"$log.status"
    row "$target"
}

# What a log comes to. A target that failed has no last line of its own.
row() {
    local log=$work/logs/$1
    awk -v target="$1" -v status="$(cat "$log.status")" '
        / cov: / { for (i = 1; i < NF; i++) { if ($i == "cov:") cov = $(i + 1); if ($i == "ft:") ft = $(i + 1) } }
        /stat::number_of_executed_units/ { runs = $2 }
        /stat::average_exec_per_sec/ { rate = $2 }
        /stat::new_units_added/ { added = $2 }
        END { printf "%-14s %12d %9d %9d %9d %8d   %s\n", target, runs, rate, cov, ft, added, status == 0 ? "passed" : "FAILED" }' "$log"
}

run_all() {
    local target failed=()
    mkdir -p "$work/logs"
    rm -f "$work"/logs/*
    printf 'fuzz: %d targets, %s s each, %s at a time\n\n' "${#targets[@]}" "$seconds" "$(nproc)"
    printf '%-14s %12s %9s %9s %9s %8s\n' target executions exec/s edges features 'new'
    for target in "${targets[@]}"; do
        while (($(jobs -rp | wc -l) >= $(nproc))); do wait -n; done
        fuzz "$target" &
    done
    wait
    for target in "${targets[@]}"; do
        [[ $(cat "$work/logs/$target.status") == 0 ]] || failed+=("$target")
    done
    if ((${#failed[@]} == 0)); then
        printf '\nfuzz: no input failed\n'
        return
    fi
    for target in "${failed[@]}"; do tell "$target"; done
    return 1
}

# What failed, how to see it again, and what to do with it.
tell() {
    local log=$work/logs/$1 input
    input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    printf '\nfuzz: %s failed:\n' "$1"
    grep -A 3 -m 1 -E '^thread .* panicked|ERROR: libFuzzer' "$log" | sed '/^stack backtrace/,$d; s/^/    /'
    if [[ -z $input ]]; then
        printf '  its log: %s\n' "$log"
        return
    fi
    printf '  the input: %s\n  again, without a fuzzer: cargo run --example fuzz -- %s %s\n' "$input" "$1" "$input"
    printf '  once that is fixed: mv %s fuzz/regressions/%s/NAME, and a line in fuzz/regressions/README.md\n' "$input" "$1"
}

# Inputs that were found are named by their hash, those that a person wrote are not: these stay.
found() { find "$1" -maxdepth 1 -type f -regextype egrep -regex '.*/[0-9a-f]{40}' -printf '%s %p\n' | sort -k 2; }

take_corpus() {
    local target merged size path sum inputs
    for target in "${targets[@]}"; do
        merged=$(mktemp -d)
        mkdir -p "$work/corpus/$target"
        FUZZ_TARGET=$target nice -n 10 "$program" -merge=1 -max_len=2048 "$merged" "fuzz/corpus/$target" "$work/corpus/$target" \
            >"$work/logs/$target.merge" 2>&1 || echo "fuzz: $target: an input fails; see $work/logs/$target.merge" >&2
        found "fuzz/corpus/$target" | cut -d' ' -f2- | xargs -r rm -f
        sum=0 inputs=0
        # In the order of their hashes: some of every size.
        while read -r size path; do
            ((sum += size, inputs += 1, sum <= kept_bytes && inputs <= kept_inputs)) || break
            cp "$path" "fuzz/corpus/$target/"
        done < <(found "$merged")
        printf 'fuzz: %-14s %4d inputs, %6d bytes\n' "$target" \
            "$(find "fuzz/corpus/$target" -type f | wc -l)" "$(cat "fuzz/corpus/$target"/* | wc -c)"
        rm -rf "$merged"
    done
}

program=$(build) || exit
[[ -x $program ]] || { echo 'fuzz: the build made no program' >&2 && exit 1; }
mapfile -t targets < <(find fuzz/corpus -mindepth 1 -maxdepth 1 -type d -name "${only:-*}" -printf '%f\n' | sort)
if ((${#targets[@]} == 0)); then
    echo "fuzz: there is no target $only; these are: $(find fuzz/corpus -mindepth 1 -maxdepth 1 -type d -printf '%f ')" >&2
    exit 2
fi
mkdir -p "$work/logs"
case $mode in
run) run_all ;;
corpus) take_corpus ;;
esac
