#!/usr/bin/env bash
# Called by cargo in the place of rustc (RUSTC_WRAPPER, RUSTC_WORKSPACE_WRAPPER) by scripts/fuzz.sh: instruments the crates whose coverage leads
# the fuzzer, and leaves all others (kube, tonic, ...) as they are, which makes the build and the fuzzing faster.
rustc=$1
shift
crate=
previous=
for argument; do
    [[ $previous != --crate-name ]] || crate=$argument
    previous=$argument
done
flags=()
case $crate in
routr_* | fuzz | serde_saphyr | granit_parser)
    # What cargo-fuzz sets, but for the address sanitizer, which needs a nightly compiler: unsafe code is forbidden here.
    flags=(--cfg fuzzing -Cpasses=sancov-module)
    for flag in level=4 inline-8bit-counters pc-table trace-compares; do
        flags+=("-Cllvm-args=-sanitizer-coverage-$flag")
    done
    ;;
esac
exec "$rustc" "$@" "${flags[@]}"
