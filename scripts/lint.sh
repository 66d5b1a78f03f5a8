#!/bin/sh
# Everything that is found without running the program. $1: cargo.
set -eu
cargo=${1:-cargo}
"$cargo" fmt --all --check
"$cargo" clippy --locked --workspace --all-targets -- -D warnings
sh scripts/shell.sh
sh scripts/deny.sh "$cargo"
sh scripts/vagrant-validate.sh
