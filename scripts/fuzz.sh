#!/bin/sh
# Runs every fuzz target for FUZZ_SECONDS (default 600), one after another. $1: cargo.
set -eu
cargo=${1:-cargo}
seconds=${FUZZ_SECONDS:-600}
"$cargo" fuzz --version >/dev/null 2>&1 || "$cargo" install --locked cargo-fuzz
status=0
for target in ${FUZZ_TARGETS:-$("$cargo" +nightly fuzz list)}; do
    corpus=fuzz/corpus/$target
    mkdir -p "$corpus"
    # Inputs of the kind that the target reads, to begin with.
    case $target in
    inventory) cp inventory/*.yaml "$corpus/" ;;
    bundle) cp tests/golden/bundle-v1/manifest.json "$corpus/" ;;
    esac
    echo "fuzz: $target, $seconds s"
    "$cargo" +nightly fuzz run --features libfuzzer "$target" -- -max_total_time="$seconds" -print_final_stats=0 -verbosity=0 || status=1
done
exit $status
