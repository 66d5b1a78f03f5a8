# Receives a transaction: `ID prepare` or `ID switch` on the first line of standard input, then a tar
# stream. With `switch` it is also carried out, which saves a round trip.
# Everything is checked before it gets its final name; an incomplete upload leaves no trace.
set -u
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin
export PATH
base=/var/lib/kubastion

IFS=' ' read -r id verb
case $id in '' | *[!0-9a-z-]*)
    echo '@refused the transaction id is malformed'
    exit 4
    ;;
esac
T=$base/txn/$id

fail() {
    rm -rf "$T.new"
    echo "@refused $1"
    exit 4
}

for command in tar sha256sum flock fallocate stat; do
    command -v "$command" >/dev/null || fail "the node has no $command"
done
[ ! -e "$T" ] || fail "transaction $id already exists"
if [ ! -d "$base" ]; then
    # Private by the umask.
    mkdir -p "$base/txn" "$base/units" "$T.new" || fail "cannot write below $base"
else
    [ -d "$base/txn" ] && [ -d "$base/units" ] ||
        { mkdir -p "$base/txn" "$base/units" && chmod 0700 "$base" "$base/txn"; } ||
        fail "cannot write below $base"
    # Remains of an upload after a kill or a power cut; they may contain keys.
    for cut in "$base"/txn/*.new; do
        [ ! -e "$cut" ] || find "$base/txn" -maxdepth 1 -name '*.new' -mmin +60 -exec rm -rf {} +
        break
    done
    [ ! -e "$T.new" ] || rm -rf "$T.new"
    mkdir "$T.new" || fail "cannot write below $base"
fi
found=$(tar -xvpf - -C "$T.new") || fail "the files arrived incomplete (disk full?)"
cd "$T.new" || fail "cannot enter the staging directory"
# Nothing but what the manifest lists, and all of that.
[ -f MANIFEST ] || fail "the manifest is missing"
right=$(sha256sum -c MANIFEST 2>/dev/null) || fail "a file differs from the manifest"
# Names have no spaces.
set -f
# shellcheck disable=SC2086 # fields
set -- $right
listed=$(($# / 2))
# With the manifest.
# shellcheck disable=SC2086 # fields
set -- $found
set +f
[ "$listed" -eq $(($# - 1)) ] || fail "the files do not match the manifest"
for f in "$@"; do
    [ -f "$f" ] && [ ! -L "$f" ] || fail "$f is not a regular file"
done
cd / && mv -T "$T.new" "$T" || fail "cannot rename the staging directory"

# The images of the last runs are kept for rollback; older ones go.
set -- "$base"/txn/*
# shellcheck disable=SC2012 # by time; the names are ours
[ $# -le 12 ] || ls -1t "$base/txn" | sed 1,12d | while IFS= read -r old; do
    # A reset needs the images of whatever was touched for the first time.
    [ ! -e "$base/txn/$old/first" ] || continue
    case $(cat "$base/txn/$old/state" 2>/dev/null) in
    committed | reverted) rm -rf "$base/txn/${old:?}" ;;
    esac
done
[ "$verb" = switch ] || exec /bin/sh "$T/txn.sh" prepare
exec /bin/sh "$T/txn.sh" begin
