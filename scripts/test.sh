#!/bin/sh
# Runs every test and says at the end what was skipped and why. $1: cargo.
set -u
cargo=${1:-cargo}
log=$(mktemp)
lab=${KUBASTION_TEST_LAB:-/var/tmp/kubastion-test-lab}
trap 'rm -f "$log"' EXIT

bundle=${KUBASTION_BUNDLE:-/var/cache/kubastion/bundle}
if [ -e "$bundle/manifest.json" ]; then
    KUBASTION_E2E_BUNDLE=$bundle
    export KUBASTION_E2E_BUNDLE
fi

"$cargo" build --locked --workspace --tests || exit 1
# Once through, unmeasured: a benchmark that does not run is noticed when somebody wants its numbers.
KUBASTION_BENCH_NODES=3 "$cargo" test --locked --bench scale || exit 1
down() {
    [ ! -e "$lab/lab.json" ] || target/debug/kubastion lab down --dir "$lab" >/dev/null 2>&1
}
# A lab of an earlier version may not be what these tests expect.
down
# --nocapture would mix the tests' words; a skipped test says so on standard error, which is kept.
{
    code=0
    "$cargo" test --locked --workspace --no-fail-fast 2>&1 -- --show-output || code=$?
    echo "cargo test ended with $code"
} | tee "$log"
# Only cargo's own end counts: what tests print may look like an error, and a cargo that was killed says nothing of the
# tests that it did not come to.
status=1
if tail -n 1 "$log" | grep -q '^cargo test ended with 0$' && grep -q '^test result: ok' "$log"; then
    status=0
fi
down
echo
if grep -q '^SKIPPED' "$log"; then
    echo "Skipped:"
    grep '^SKIPPED' "$log" | sort -u
else
    echo "Skipped: nothing"
fi
[ -n "${KUBASTION_E2E_BUNDLE:-}" ] || {
    echo "NO KUBERNETES CLUSTER WAS TRIED: THERE IS NO BUNDLE IN $bundle (docs/bundle.md)"
}
exit $status
