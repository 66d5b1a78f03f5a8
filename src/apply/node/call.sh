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

# What a rollback would take from others: a node's place in its cluster, for which there is `kubastion
# reset`, and a member that the others count on. Here and not in txn.sh, which may be of an older release.
# A way back that was begun is gone to its end.
if [ "$verb" = undo ] && [ "$(cat "$T/state")" = committed ]; then
    if [ -e "$base/units/kubernetes" ] && grep -q '^member|none' "$T/before"; then
        echo '@refused it made the node a part of its cluster: `kubastion reset` takes it out'
        exit 4
    fi
    if [ "$reason" != together ] &&
        grep -q '^unit|etcd\.service|[^|]*|\(inactive\|failed\|unknown\)$' "$T/before" &&
        systemctl -q is-active etcd.service; then
        echo '@refused it started this etcd member: name all members and control planes, or none'
        exit 4
    fi
fi
exec /bin/sh "$T/txn.sh" "$verb" "$reason"
