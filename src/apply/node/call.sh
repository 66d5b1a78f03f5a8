# Calls a transaction that is on the node: `ID VERB REASON` on standard input.
IFS=' ' read -r id verb reason
case $id in '' | *[!0-9a-z-]*) exit 2 ;; esac
T=/var/lib/kubastion/txn/$id
[ -e "$T/txn.sh" ] || {
    echo '@state absent'
    exit 0
}
exec /bin/sh "$T/txn.sh" "$verb" "$reason"
