#!/bin/sh
# Advisories, licences and sources of every crate in the lock file (deny.toml). CI installs cargo-deny, which takes minutes
# to compile; elsewhere it is used where it is. $1: cargo.
set -eu
cargo=${1:-cargo}
if ! "$cargo" deny --version >/dev/null 2>&1; then
    if [ -z "${CI:-}" ]; then
        echo "SKIPPED deny: cargo-deny is not installed (\`cargo install --locked cargo-deny\`)"
        exit 0
    fi
    "$cargo" install --locked cargo-deny
fi
"$cargo" deny --locked check licenses bans sources
# The advisories are in a git repository that not every network reaches.
if timeout 60 "$cargo" deny fetch db >/dev/null 2>&1; then
    "$cargo" deny --locked --offline check advisories
else
    echo "SKIPPED deny: the advisory database cannot be fetched from here"
fi
