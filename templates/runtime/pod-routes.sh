# Made by kubastion: routes to the pods of the other nodes, for the bridge network. `start SUBNET...` sets those that the list
# names, but not to the node's own SUBNETs, and removes those that the list no longer names; `stop` removes all of them.
set -u
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
list=/etc/kubastion/pod-routes
# Marks our routes (rtm_protocol in rtnetlink(7)); no protocol of /etc/iproute2/rt_protos has this number.
protocol=107

action=$1
shift
if [ "$action" = stop ]; then
    ip -4 route flush protocol $protocol
    ip -6 route flush protocol $protocol
    exit 0
fi
own=" $* "
T=$(mktemp -d) || exit 1
trap 'rm -rf "$T"' EXIT
while read -r subnet via; do
    case $subnet in '' | '#'*) continue ;; esac
    case $own in *" $subnet "*) continue ;; esac
    echo "route replace $subnet via $via protocol $protocol"
    # As `ip route show` says it.
    case $subnet in *:*) subnet=${subnet%/128} ;; *) subnet=${subnet%/32} ;; esac
    echo "$subnet" >&3
done <"$list" >"$T/batch" 3>"$T/wanted" || exit 1
# One that cannot be set yet keeps no other from being set; systemd tries again.
ip -force -batch "$T/batch" || exit 1
{ ip -4 route show protocol $protocol && ip -6 route show protocol $protocol; } >"$T/there" || exit 1
while read -r subnet _; do
    echo "$subnet"
done <"$T/there" | grep -vxFf "$T/wanted" | while read -r subnet; do
    ip route del "$subnet" protocol $protocol || echo "the route to $subnet stays"
done
exit 0
