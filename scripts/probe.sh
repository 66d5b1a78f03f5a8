#!/bin/sh
# Builds the static probe and puts it beside a `kubastion`, where that looks for it. $1: cargo, $2: the
# directory.
set -eu
cargo=$1
directory=$2

# The flag goes to this one program, not to what it is made of: in RUSTFLAGS it would build everything
# anew, and proc macros not at all. -static-pie: no interpreter, addresses still random.
"$cargo" rustc --quiet --locked --package kubastion-probe --bin probe --profile probe -- \
    -C target-feature=+crt-static
mkdir -p "$directory"
# By rename: a `kubastion` that runs meanwhile reads the old one or the new one.
cp target/probe/probe "$directory/.kubastion-probe.new"
mv "$directory/.kubastion-probe.new" "$directory/kubastion-probe"
