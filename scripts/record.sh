#!/bin/sh
# Records the demo as a moving picture, docs/demo.svg. $1: the program.
#
# Needs asciinema (Debian package) and svg-term (npm package svg-term-cli). Waits are shortened to 1 s.
set -eu
program=$1
cast=$(mktemp)
dir=$(mktemp -d /var/tmp/kubastion-record.XXXXXX)
trap '"$program" lab down --dir "$dir" >/dev/null 2>&1 || true; rm -rf "$cast" "$dir"' EXIT
# A dumb terminal gets lines instead of bars, which would be a frame each.
asciinema rec --quiet --overwrite --idle-time-limit 1 --cols 110 --rows 36 \
    --command "TERM=dumb sh scripts/demo.sh $program $dir" "$cast"
# Whoever looks at it has another machine.
sed -i "s|$PWD/$program|kubastion|g; s|$dir|demo|g" "$cast"
svg-term --in "$cast" --out docs/demo.svg --window --no-cursor
echo "docs/demo.svg: $(wc -c <docs/demo.svg) bytes" >&2
