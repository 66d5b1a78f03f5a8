# Takes back everything that was ever done to this node, newest first, and then what services left.
# Answers with lines that start with `@`. On standard input: `look` (only whether it may be done),
# `keep-data` or `delete-data` (also etcd's), and what the node is taken for: `worker` or `member`.
set -u
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin
export PATH
base=/var/lib/kubastion
nl='
'

IFS=' ' read -r data as
# An inventory may be wrong about a node, or have been changed too early: others may count on it.
if [ "$as" != member ]; then
    serves=
    [ ! -e /etc/kubernetes/manifests/kube-apiserver.yaml ] || serves='an API server'
    # Also one that waits for its quorum, is about to be started again, or comes back with the next boot.
    state=$(systemctl show -P ActiveState etcd.service 2>/dev/null)
    case $state in '' | inactive) ;; *) serves='an etcd member' ;; esac
    ! systemctl -q is-enabled etcd.service 2>/dev/null || serves='an etcd member'
    [ -z "$serves" ] || {
        echo "@refused it runs $serves, but the inventory has it as a worker: correct its role, so that its etcd member is removed first"
        exit 4
    }
fi
# Whom others made part of their cluster goes back to what it was there. What a reset clears away, also before this program
# runs (its pods, its Node, its etcd member), would be that cluster's.
if { [ -e /var/lib/kubelet/config.yaml ] || [ -e /etc/kubernetes/manifests/kube-apiserver.yaml ]; } &&
    [ ! -e "$base/reset.kubelet" ] && ! grep -qs '^member|none' "$base"/txn/*/before; then
    # shellcheck disable=SC2016 # for people
    echo '@refused it was part of a cluster before kubastion changed it: run `kubastion rollback` to undo what kubastion changed'
    exit 4
fi
[ "$data" != look ] || {
    echo '@state clean'
    exit 0
}
# What a deletion left behind: immutable files, mounts, I/O errors.
all_gone() { # paths, or `below` and a directory
    if [ "$1" = below ]; then
        remains=$(find "$2" -mindepth 1 2>/dev/null | head -n 1)
    else
        remains=
        for p; do [ ! -e "$p" ] && [ ! -L "$p" ] || remains=$p; done
    fi
    [ -z "$remains" ] || {
        print_state "incomplete: $remains could not be deleted: look at \`lsattr\` and \`findmnt\`, then reset again"
        exit 7
    }
}
print_state() { printf '@state %s\n' "$(printf %s "$1" | tr '\n' ' ')"; }
[ -d "$base/txn" ] || {
    echo '@state clean'
    exit 0
}
# By the node's own count; ids come from the clocks of controllers.
order() {
    for d in "$base"/txn/*/; do
        # What is still being received, for one.
        case ${d#"$base/txn/"} in *[!0-9a-z/-]*) continue ;; esac
        n=0
        [ ! -r "${d}sequence" ] || IFS= read -r n <"${d}sequence"
        case $n in '' | *[!0-9]*) n=0 ;; esac
        s=none
        [ ! -r "${d}state" ] || IFS= read -r s <"${d}state"
        case $s in
        committed | incomplete | reverting) echo "$n ${d%/}" ;;
        staged | prepared | reverted | none) ;;
        # A power cut may leave the state empty.
        *)
            echo "@refused ${d} is neither confirmed nor undone yet: run \`kubastion apply\`, or wait for its timer"
            ;;
        esac
    done | sort -rn
}
todo=$(order)
case $todo in *@refused*)
    printf '%s\n' "$todo" | grep '^@' | head -n 1
    exit 4
    ;;
esac
for txn in $(printf '%s\n' "$todo" | cut -d' ' -f2); do
    images_are_sound "$txn" || {
        echo "@refused the images in $txn, from an earlier release, hold records that match none of its steps:" \
            "run \`kubastion rollback\` of its run with --accept-present to keep what it did"
        exit 4
    }
done
# What the node had before us is not cleared away: a kubelet of another cluster, another runtime's images. Kept
# for a second reset, which finds the transactions undone.
for txn in $(printf '%s\n' "$todo" | cut -d' ' -f2); do
    ! grep -qs '^member|none' "$txn/before" || : >"$base/reset.kubelet"
    ! grep -qs '^data|/var/lib/containerd' "$txn/before" || : >"$base/reset.foreign-runtime"
done
had_runtime=0
for program in "$base"/programs/containerd.*; do [ ! -e "$program" ] || had_runtime=1; done
printf '%s\n' "$todo" | while IFS=' ' read -r n txn; do
    [ -n "$txn" ] || continue
    echo "@step ${txn##*/}"
    # Its own words alone: programs speak elsewhere. The last of them is how it ended.
    said=$(sh "$txn/txn.sh" undo 2>/dev/null)
    printf '%s\n' "$said" | grep '^@said\|^@refused\|^@busy'
    case ${said##*"$nl"} in
    '@state reverted') echo "@undone ${txn##*/}" ;;
    *)
        echo "@state incomplete ${txn##*/}"
        exit 7
        ;;
    esac
done || exit 7

# What is mounted somewhere may be a server's, and deleting goes through.
nothing_mounted() { # directory
    ! mounted=$(sed -n "s|^[^ ]* \($1/[^ ]*\) .*|\1|p" /proc/mounts | head -n 1) || [ -z "$mounted" ] || {
        echo "@state incomplete: $mounted is mounted, and nothing below $1 was deleted; unmount it"
        exit 7
    }
}

# What services wrote meanwhile, and nobody else's.
if [ "$had_runtime" -gt 0 ] && [ ! -e "$base/reset.foreign-runtime" ]; then
    systemctl stop containerd.service 2>/dev/null
    # The kernel writes blanks and line breaks of names as numbers.
    sed -n 's/^[^ ]* \(\/run\/containerd\/[^ ]*\) .*/\1/p' /proc/mounts | sort -r | while IFS= read -r m; do
        umount -l "$m" 2>/dev/null
    done
    nothing_mounted /var/lib/containerd
    nothing_mounted /run/containerd
    # Not the directory itself: it may be a mount point.
    find /var/lib/containerd -mindepth 1 -delete 2>/dev/null
    all_gone below /var/lib/containerd
    rm -rf /run/containerd
    rmdir /opt/containerd/bin /opt/containerd/lib /opt/containerd 2>/dev/null
    # A packaged one takes over again.
    ! systemctl -q is-enabled containerd.service 2>/dev/null || systemctl start containerd.service 2>/dev/null
fi
if [ "$data" = delete-data ]; then
    # What a link leads to would stay, and nobody would look for it there.
    [ ! -L /var/lib/etcd/member ] || {
        print_state 'incomplete: /var/lib/etcd/member is a link: delete what it leads to, and the link, then reset again'
        exit 7
    }
    nothing_mounted /var/lib/etcd
    # And what it was before it became a member anew.
    rm -rf /var/lib/etcd/member /var/lib/etcd/removed-*Z
    all_gone /var/lib/etcd/member /var/lib/etcd/removed-*Z
fi
if [ -e "$base/reset.kubelet" ]; then
    nothing_mounted /var/lib/kubelet
    find /var/lib/kubelet -mindepth 1 -delete 2>/dev/null
    all_gone below /var/lib/kubelet
fi
for d in /var/lib/kubelet /var/lib/cni /opt/cni/bin /opt/cni /etc/kubernetes; do
    rmdir "$d" 2>/dev/null
done
# The audit log stays, like the system's own logs: it tells what was done here.
rmdir /var/log/kubernetes/audit /var/log/kubernetes 2>/dev/null
nothing_mounted "$base"
# What still runs a program that is gone: one that somebody started beside its unit. It would hold ports and locks, and the next
# join would wait for it.
own=$(readlink /proc/self/ns/net)
still_runs() {
    # shellcheck disable=SC2044 # their names are numbers
    for e in $(find /proc/[0-9]* -maxdepth 1 -name exe \( \
        -lname '/usr/local/bin/* (deleted)' -o -lname '/opt/cni/bin/* (deleted)' \) 2>/dev/null); do
        p=$(readlink "$e" 2>/dev/null) || continue
        e=${e%/exe}
        # Containers of others have such paths, too, in networks of their own.
        [ "$(readlink "$e/ns/net" 2>/dev/null)" = "$own" ] || continue
        echo "process ${e#/proc/} still runs ${p% (deleted)}, which was removed: run \`kill ${e#/proc/}\` on the node, then run the reset again"
        return 0
    done
    return 1
}
# What was told to end may take a moment.
for _ in 1 2 3 4 5 6 7 8 9 10; do
    runs=$(still_runs) || break
    sleep 1
done
[ -z "$runs" ] || {
    print_state "incomplete: $runs"
    exit 7
}
# The transactions last: as long as they are there, a reset that left something can be made again.
find "$base" -mindepth 1 -maxdepth 1 ! -name txn -exec rm -rf {} + 2>/dev/null
find "$base" -mindepth 1 -maxdepth 1 ! -name txn | grep -q . || rm -rf "$base"
all_gone "$base"
systemctl daemon-reload 2>/dev/null
echo '@state clean'
