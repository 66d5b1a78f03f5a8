#!/bin/sh
# Looks at every shell program with shellcheck; those that a node gets as one are looked at as one. What is wrong is
# mended. What is meant so is named with its reason, beside it or in .shellcheckrc.
set -eu
command -v shellcheck >/dev/null || {
    echo "lint: shellcheck is missing, which \`make setup\` installs" >&2
    exit 1
}
code=0
check() { # shell files...
    shell=$1
    shift
    # Of one file, lines have its name; of several, those of all of them.
    if [ $# -eq 1 ]; then
        shellcheck -s "$shell" "$1" || code=1
    else
        cat "$@" | shellcheck -s "$shell" - || {
            echo "  in: $*" >&2
            code=1
        }
    fi
}

node=src/apply/node
# In the order of `TXN_SCRIPT` in src/apply/mod.rs.
check sh $node/images.sh $node/logins.sh $node/rules.sh $node/proof.sh $node/member.sh $node/state.sh $node/files.sh $node/software.sh \
    $node/units.sh $node/decision.sh $node/undo.sh $node/txn.sh
check sh $node/logins.sh $node/rules.sh src/facts/collect.sh
check sh $node/member.sh $node/upload.sh
check sh $node/old-images.sh $node/call.sh
check sh $node/old-images.sh $node/reset.sh
check sh src/facts/live/live.sh src/facts/live/planted.sh
git ls-files '*.sh' >"${TMPDIR:-/tmp}/kubastion-shell.$$"
trap 'rm -f "${TMPDIR:-/tmp}/kubastion-shell.$$"' EXIT
while IFS= read -r file; do
    case $file in
    # Looked at above.
    "$node"/images.sh | "$node"/logins.sh | "$node"/rules.sh | "$node"/proof.sh | "$node"/member.sh | "$node"/state.sh | "$node"/files.sh) continue ;;
    "$node"/software.sh | "$node"/units.sh | "$node"/decision.sh | "$node"/undo.sh | "$node"/txn.sh) continue ;;
    "$node"/old-images.sh | "$node"/call.sh | "$node"/reset.sh | "$node"/upload.sh | src/facts/collect.sh | src/facts/live/*.sh) continue ;;
    esac
    IFS= read -r first <"$file"
    case $first in
    '#!'*bash*) check bash "$file" ;;
    *) check sh "$file" ;;
    esac
done <"${TMPDIR:-/tmp}/kubastion-shell.$$"
# What is rendered has no shell of its own in a template: such programs are constants.
if grep -rlE '^#!' templates | grep -v '\.sh$'; then
    echo "lint: a template is a program, and is not called one (.sh)" >&2
    code=1
fi
if git grep -nE 'shellcheck disable=SC[0-9,SC]+ *$' -- '*.sh'; then
    echo "lint: the reason is missing" >&2
    code=1
fi
exit $code
