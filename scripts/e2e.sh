#!/bin/sh
# Real clusters from a bundle, from bare nodes to their end, on good days and bad ones. Without a bundle it says so. $1: cargo.
set -eu
cargo=${1:-cargo}
bundle=${KUBASTION_BUNDLE:-/var/cache/kubastion/bundle}
if [ ! -e "$bundle/manifest.json" ]; then
    echo "e2e: SKIPPED (no bundle in $bundle)"
    exit 0
fi
"$cargo" build --locked --workspace --tests
KUBASTION_E2E_BUNDLE=$bundle "$cargo" test --locked --workspace --test e2e --test strangers --test reharden --test members --test kms -- --nocapture
