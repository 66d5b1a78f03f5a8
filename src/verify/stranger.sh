# Tries TCP connections through this node from an unknown address: in a network namespace that lasts as long as this program,
# linked to the node. The node forwards these packets like those of any stranger.
#
# Standard input: two lines with the addresses of the node's and of the stranger's end (IPv4, then IPv6, `- -` for none),
# then `address port` to try. The answer: `direct ADDRESS PORT HOW` from the node itself, `stranger ADDRESS PORT HOW` from
# the namespace, `linked FAMILY` where the node's end was seen from there, `end`.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
for program in bash timeout ip unshare nsenter; do
    command -v "$program" >/dev/null 2>&1 || {
        echo "lacks $program"
        exit 0
    }
done
read -r here4 there4
read -r here6 there6
aims=$(cat)
exec </dev/null

link=kbst$$
unshare --net sleep 60 &
space=$!
trap 'ip link delete "$link" 2>/dev/null; kill "$space" 2>/dev/null' EXIT
trap 'exit 1' HUP INT TERM
own=$(readlink /proc/self/ns/net)
n=0
while other=$(readlink "/proc/$space/ns/net") && [ "$other" = "$own" ] && [ "$n" -lt 100 ]; do
    n=$((n + 1))
    sleep 0.02
done
if [ -z "$other" ] || [ "$other" = "$own" ]; then
    echo "lacks a namespace"
    exit 0
fi
inside() { nsenter --target "$space" --net "$@"; }
{
    ip link add "$link" type veth peer name stranger netns "$space" &&
        ip link set "$link" up && inside ip link set stranger up
} || {
    echo "lacks a link"
    exit 0
}
# Known to nobody but the two: no router of the node is to tell of them.
for ends in "$here4 $there4 32" "$here6 $there6 128"; do
    # shellcheck disable=SC2086 # three words
    set -- $ends
    case $1 in
    -) continue ;;
    *:*) family=-6 again=nodad ;;
    *) family=-4 again= ;;
    esac
    # shellcheck disable=SC2086 # a word or none
    ip "$family" address add "$1" peer "$2/$3" dev "$link" $again &&
        inside ip "$family" address add "$2" peer "$1/$3" dev stranger $again &&
        inside ip "$family" route add default via "$1" dev stranger
done

attempt() { # name; the words that run a program there
    name=$1
    shift
    # shellcheck disable=SC2016 # bash expands them
    said=$("$@" timeout 2 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$host" "$port" 2>&1)
    status=$?
    case $status:$said in
    0:*) how=open ;;
    124:* | 143:* | *'timed out'*) how=timeout ;;
    *refused*) how=refused ;;
    *unreachable* | *'No route'*) how=unreachable ;;
    *) how=other ;;
    esac
    echo "$name $host $port $how"
}
tries=
while read -r host port; do
    [ -n "$port" ] || continue
    attempt direct env &
    tries="$tries $!"
    attempt stranger nsenter --target "$space" --net &
    tries="$tries $!"
done <<AIMS
$aims
AIMS
# shellcheck disable=SC2086 # process ids
[ -z "$tries" ] || wait $tries
for end in "$here4" "$here6"; do
    case $end in -) continue ;; *:*) family=6 ;; *) family=4 ;; esac
    case $(inside ip "-$family" neighbour show to "$end" dev stranger) in *lladdr*) echo "linked $family" ;; esac
done
echo end
