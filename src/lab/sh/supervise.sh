#!/bin/sh
# Runs one node until it powers off.
#
#   supervise.sh NODE_DIR SWITCH NETNS LINK MAC ADDRESS/LEN GATEWAY NSPAWN_ARGV...
#
# It is a shell script because it has to outlive the command that started it, and because two
# things must happen in one process before systemd-nspawn replaces it: entering the node's cgroups
# (nspawn's cgroup namespace starts where the process stands) and nothing else.
#
# Every boot gets a fresh network namespace of the same name. Otherwise nftables rules, net.*
# sysctls and CNI interfaces would outlive a reboot, which on a machine they do not, and a test of
# "it comes back after a reboot" would prove nothing. The MAC stays: neighbours remember it.
set -u
dir=$1 switch=$2 netns=$3 link=$4 mac=$5 address=$6 gateway=$7
shift 7

plug_in() {
    ip -n "$switch" link del "$link" 2>/dev/null
    ip netns del "$netns" 2>/dev/null
    ip netns add "$netns" &&
        ip -n "$switch" link add "$link" type veth \
            peer name eth0 address "$mac" netns "$netns" &&
        ip -n "$switch" link set "$link" master br0 up &&
        ip -n "$netns" link set lo up &&
        ip -n "$netns" address add "$address" dev eth0 &&
        ip -n "$netns" link set eth0 up &&
        ip -n "$netns" route add default via "$gateway"
}

# Cgroups that the last boot left are in the way of the next one: on cgroup v2 a group with
# children and enabled controllers accepts no process.
fresh_cgroups() {
    while read -r cgroup; do
        find "$cgroup" -depth -type d -exec rmdir {} \; 2>/dev/null
        mkdir -p "$cgroup" || return 1
    done <"$dir/cgroups"
}

# To be run in the background.
boot() {
    # "0" is the process that writes: the background's own, which then becomes systemd-nspawn.
    while read -r cgroup; do
        echo 0 >"$cgroup/cgroup.procs" || exit 70
    done <"$dir/cgroups"
    exec "$@"
}

# A node that shuts down stops all its processes (SIGSTOP) before it kills them (systemd-shutdown(8)). nsenter stops together with
# the program that it runs there (nsenter(1), --fork), and nothing continues it, so it never reaps the node's last process: neither
# nsenter nor the node would ever end.
let_commands_end() { # process id of systemd-nspawn
    while sleep 1 && [ -d "/proc/$1" ]; do
        children=
        read -r children 2>/dev/null <"/proc/$1/task/$1/children"
        for init in $children; do
            name=
            read -r name 2>/dev/null <"/proc/$init/comm"
            [ "$name" = systemd-shutdow ] || continue
            grep -lzx -e "--target=$init" /proc/[0-9]*/cmdline 2>/dev/null | while IFS=/ read -r _ _ command _; do
                kill -CONT "$command" 2>/dev/null
            done
        done
    done
}

while :; do
    fresh_cgroups && plug_in || exit 71
    boot "$@" &
    nspawn=$!
    let_commands_end "$nspawn" &
    wait "$nspawn"
    rc=$?
    echo "supervise: systemd-nspawn ended with $rc"
    # 133: the node asked for a reboot (systemd-nspawn(1), --keep-unit).
    [ "$rc" -eq 133 ] || exit "$rc"
done
