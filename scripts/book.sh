#!/bin/sh
# The documents as a book, in target/book. Installs mdBook if it is missing. $1: cargo.
set -eu
cargo=${1:-cargo}
command -v mdbook >/dev/null || "$cargo" install --locked mdbook
mdbook build docs
