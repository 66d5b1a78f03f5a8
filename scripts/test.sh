#!/bin/sh
# Runs every check and test, and says at the end what was skipped and why. $1: cargo.
#
# Tests on clusters wait much of the time, for elections, restarts and pods, each in a lab of its own. So two of them run
# beside each other; with a third on two cores they wait for the machine instead, and run out of time. The build goes before,
# and unit tests and linters stand back: the scheduler gives them a little time also where nobody has any.
set -u
cargo=${1:-cargo}
logs=$(mktemp -d)
lab=${KUBASTION_TEST_LAB:-/var/tmp/kubastion-test-lab}
trap 'rm -rf "$logs"' EXIT

bundle=${KUBASTION_BUNDLE:-/var/cache/kubastion/bundle}
if [ -e "$bundle/manifest.json" ]; then
    KUBASTION_E2E_BUNDLE=$bundle
    export KUBASTION_E2E_BUNDLE
fi

# What needs no lab. Not all programs: a fuzz target that is told to test runs for ever.
unit='--lib --bin kubastion --bin probe --test probe'
# name: arguments of `cargo test`. Every test target is in one of them, and they take about as long.
lanes() {
    cat <<'EOF'
one --test e2e --test reharden --test strangers
two --test kubastion --test members --test kms --test encryption
EOF
}
cat Cargo.toml src/probe/Cargo.toml | sed -n '/^\[\[test\]\]/,/^$/s/^name = "\(.*\)"$/\1/p' | while read -r target; do
    { lanes && echo "$unit"; } | grep -q -e "--test $target\b" || {
        echo "scripts/test.sh: no lane runs the test target $target" >&2
        exit 1
    }
done || exit 1

down() {
    [ ! -e "$lab/lab.json" ] || target/debug/kubastion lab down --dir "$lab" >/dev/null 2>&1
}

"$cargo" build --locked --workspace --tests || exit 1
# A lab of an earlier version may not be what these tests expect.
down

# Runs a command, keeps what it says, and how it ended in a file of its own: only that counts, since what tests print may
# look like an error, and a cargo that was killed says nothing of the tests that it did not come to.
lane() {
    name=$1
    shift
    begun=$(date +%s)
    code=0
    "$@" >"$logs/$name.log" 2>&1 || code=$?
    echo "$code" >"$logs/$name.code"
    echo "$name: ended with $code after $(($(date +%s) - begun)) s"
}

# Tests wait for nodes and not for cores.
export RUST_TEST_THREADS=6
while read -r name arguments; do
    # --nocapture would mix the tests' words; a skipped test says so on standard error, which is kept.
    # shellcheck disable=SC2086 # words of one line, meant to be split
    lane "$name" "$cargo" test --locked --workspace --no-fail-fast $arguments -- --show-output &
done <<EOF
$(lanes)
EOF
# What builds holds cargo's lock on the target directory: not before the lanes have found that all is built.
lanes | while read -r name _; do
    while ! grep -q ' Running ' "$logs/$name.log" && [ ! -e "$logs/$name.code" ]; do sleep 1; done
done
# shellcheck disable=SC2086 # words of one line, meant to be split
RUST_TEST_THREADS=2 lane unit nice -n 15 "$cargo" test --locked --workspace $unit
lane doc nice -n 15 "$cargo" test --locked --workspace --doc
# Once through, unmeasured: a benchmark that does not run is noticed when somebody wants its numbers.
KUBASTION_BENCH_NODES=3 lane bench nice -n 15 "$cargo" test --locked --workspace --bench scale
lane lint nice -n 15 sh scripts/lint.sh "$cargo"
wait
down

status=0
for name in lint unit doc bench $(lanes | cut -d' ' -f1); do
    echo
    echo "== $name"
    cat "$logs/$name.log"
    [ "$(cat "$logs/$name.code" 2>/dev/null)" = 0 ] || status=1
done
for name in $(lanes | cut -d' ' -f1); do
    grep -q '^test result: ok' "$logs/$name.log" || status=1
done
echo
if grep -hq '^SKIPPED' "$logs"/*.log; then
    echo "Skipped:"
    grep -h '^SKIPPED' "$logs"/*.log | sort -u
else
    echo "Skipped: nothing"
fi
[ -n "${KUBASTION_E2E_BUNDLE:-}" ] || {
    echo "NO KUBERNETES CLUSTER WAS TRIED: THERE IS NO BUNDLE IN $bundle (docs/bundle.md)"
}
for name in lint unit doc bench $(lanes | cut -d' ' -f1); do
    [ "$(cat "$logs/$name.code" 2>/dev/null)" = 0 ] || echo "FAILED: $name"
done
exit $status
