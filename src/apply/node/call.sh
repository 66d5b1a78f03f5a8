# Calls a transaction that is on the node: `ID VERB REASON` on standard input.
PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin
export PATH
IFS=' ' read -r id verb reason
case $id in '' | *[!0-9a-z-]*) exit 2 ;; esac
base=/var/lib/kubastion
T=$base/txn/$id
[ -e "$T/txn.sh" ] || {
    echo '@state absent'
    exit 0
}

# The operator accepts an incomplete rollback (`rollback --accept-present`). Handled here, since txn.sh may be of an older
# release. What could not be undone stays in restore.out.
if [ "$verb" = accept ]; then
    [ ! -e "$base/lock" ] || [ -f "$base/lock" ] || {
        echo "@refused $base/lock is not a regular file ($(stat -c %F "$base/lock")): move it away, then run this again"
        exit 4
    }
    exec 9>>"$base/lock" && flock -n 9 || {
        echo '@busy another run is in progress'
        exit 75
    }
    exec 8>>"$T/decision.lock" && flock -w 15 8 || exit 75
    case $(cat "$T/state") in
    incomplete | reverting) ;;
    reverted)
        echo '@state reverted'
        exit 0
        ;;
    *)
        # Or one whose images cannot be used.
        ! images_are_sound "$T" || {
            echo '@refused its rollback was not started: there is nothing to accept'
            exit 4
        }
        ;;
    esac
    # The next transaction that touches these files takes new images of them.
    if [ -e "$T/first" ] && [ -e "$base/touched" ]; then
        grep -vxF -f "$T/first" "$base/touched" >"$base/touched.new"
        [ $? -le 1 ] && mv -f "$base/touched.new" "$base/touched" && rm -f "$T/first"
    fi
    printf '%s\n' "$reason" >"$T/accepted" &&
        echo reverted >"$T/state.new" && mv -f "$T/state.new" "$T/state" || {
        echo "@refused $T/state cannot be written"
        exit 4
    }
    case $(cat "$base/armed" 2>/dev/null) in "$id") rm -f "$base/armed" ;; esac
    echo '@state reverted'
    exit 0
fi

case $verb:$(cat "$T/state") in
*:staged | *:prepared | *:reverted) ;;
undo:* | revert:* | state:*)
    images_are_sound "$T" || {
        unsound='its images, from an earlier release, hold records that match none of its steps'
        [ "$verb" = state ] || {
            # shellcheck disable=SC2016 # for people
            echo "@refused $unsound:" 'run `kubastion rollback` with --accept-present to leave the node as it is'
            exit 4
        }
        echo "@note $unsound"
    }
    ;;
esac

# A rollback must not remove a node from its cluster (`kubastion reset` does that), nor an etcd member that the
# others need. Checked here and not in txn.sh, which may be of an older release. A rollback that has started is
# always finished.
if [ "$verb" = undo ] && [ "$(cat "$T/state")" = committed ]; then
    if [ -e "$base/units/kubernetes" ] && grep -q '^member|none' "$T/before"; then
        # shellcheck disable=SC2016 # for people
        echo '@refused it joined the node to the cluster: run `kubastion reset` to remove the node'
        exit 4
    fi
    # A member that was a static pod becomes one again.
    if [ "$reason" != together ] && ! grep -q '^etcd-from-pod|' "$T/steps" &&
        grep -q '^unit|etcd\.service|[^|]*|\(inactive\|failed\|unknown\)$' "$T/before" &&
        systemctl -q is-active etcd.service; then
        echo '@refused it started this etcd member: name all members and control planes, or none'
        exit 4
    fi
fi
# A rollback overwrites later edits: keep a copy of each, and say so.
if [ "$verb" = undo ] && [ "$(cat "$T/state")" = committed ] && [ -s "$T/final" ]; then
    LC_ALL=C sha256sum -c "$T/final" 2>/dev/null | sed -n 's/: FAILED$//p' | while IFS= read -r path; do
        [ -f "$path" ] && [ ! -L "$path" ] || continue
        mkdir -p "$T/replaced${path%/*}" && cp -p "$path" "$T/replaced$path" || {
            echo "@refused $path was changed after this run, and no copy of it can be kept: the change would be lost"
            exit 4
        }
        echo "@note $path was changed after this run: that version is kept in $T/replaced"
    done || exit 4
fi
exec /bin/sh "$T/txn.sh" "$verb" "$reason"
