#!/bin/sh
# Writes .state/known_hosts for the machines of the inventory, over the hypervisor's own channel: SSH is
# not asked. Prints the fingerprints.
#
# fingerprints.sh [--channel serial|disk]
#   serial   what the machine said on its serial console (default; libvirt and VirtualBox)
#   disk     what lies on its disk, read from outside (libvirt alone; needs qemu-img, sfdisk, debugfs)
set -eu
PATH=$PATH:/usr/sbin:/sbin
here=$(cd "$(dirname "$0")" && pwd)
state=$here/.state
inventory=${KUBASTION_INVENTORY:-$here/../inventory/vagrant.yaml}
timeout_s=${KUBASTION_FINGERPRINT_TIMEOUT_S:-60}
channel=serial
case ${1:-} in
'') ;;
--channel) channel=${2:-} ;;
*) channel= ;;
esac
case $channel in
serial | disk) ;;
*)
    echo "usage: fingerprints.sh [--channel serial|disk]" >&2
    exit 2
    ;;
esac
fail() {
    echo "fingerprints: $*" >&2
    exit 1
}
umask 077
mkdir -p "$state"
work=$(mktemp -d "$state/.fingerprints.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# "name address" of every node: as the Vagrantfile reads them.
ruby -rdate -ryaml -ripaddr -e '
    YAML.safe_load(File.read(ARGV[0]), permitted_classes: [Date]).fetch("nodes").each do |n|
        puts [n.fetch("name"), n.fetch("addresses").find { |a| IPAddr.new(a).ipv4? }].join(" ")
    end' "$inventory" >"$work/nodes" || fail "the nodes of $inventory cannot be read (is ruby installed?)"

# "type base64" of the keys that the last boot said, sorted; nothing if it has not said all of them.
# A line that something else wrote into is no key: ssh-keygen judges each. Two that differ are refused.
said_on_console() {
    tr -d '\r' <"$1" | sed -n 's/^ssh-host-key \(ssh-[a-z0-9]*\|ecdsa-sha2-nistp[0-9]*\) \([A-Za-z0-9+\/=]*\)$/\1 \2/p' | sort -u
}

read_from_disk() {
    domain=${KUBASTION_VM_PREFIX:-kubastion-}$1
    disk=$(virsh -c qemu:///system domblklist "$domain" | awk '$2 ~ /^\// { print $2; exit }')
    [ -n "$disk" ] || fail "libvirt knows no disk of $domain"
    # -U: the machine runs and holds a lock; what is read is what it has written so far.
    qemu-img convert -U -O raw "$disk" "$work/disk" || fail "$disk cannot be read (root may)"
    # The largest partition of the table holds the system.
    # shellcheck disable=SC2016 # ruby's
    start=$(sfdisk --json "$work/disk" |
        ruby -rjson -e 'puts JSON.parse($stdin.read)["partitiontable"]["partitions"].max_by { |p| p["size"] }["start"]')
    for kind in ed25519 ecdsa rsa; do
        debugfs -R "cat /etc/ssh/ssh_host_${kind}_key.pub" "$work/disk?offset=$((start * 512))" 2>/dev/null |
            awk 'NF >= 2 { print $1, $2 }'
    done | sort -u
    rm -f "$work/disk"
}

: >"$work/known_hosts"
while read -r name address; do
    waited=0
    while :; do
        : >"$work/keys"
        if [ "$channel" = disk ]; then
            read_from_disk "$name" >"$work/found"
        else
            console=$state/$name.console
            [ ! -e "$console" ] || [ -r "$console" ] || fail "$console is not readable: run this as root"
            if [ -e "$console" ]; then said_on_console "$console" >"$work/found"; else : >"$work/found"; fi
        fi
        while read -r kind blob; do
            if printf '%s %s\n' "$kind" "$blob" >"$work/one" && ssh-keygen -lf "$work/one" >/dev/null 2>&1; then
                cat "$work/one" >>"$work/keys"
            fi
        done <"$work/found"
        twice=$(cut -d' ' -f1 "$work/keys" | uniq -d)
        [ -z "$twice" ] || fail "$name said two different keys of type $(echo "$twice" | tr '\n' ' '): $state/$name.console"
        ! grep -q '^ssh-ed25519 ' "$work/keys" || break
        [ "$waited" -lt "$timeout_s" ] || fail "$name: no ed25519 host key by $channel within $timeout_s s"
        sleep 2
        waited=$((waited + 2))
    done
    while read -r kind blob; do
        echo "$address $kind $blob"
    done <"$work/keys" >>"$work/known_hosts"
done <"$work/nodes"

# By rename: a kubastion that runs meanwhile reads the old file or the new one.
mv "$work/known_hosts" "$state/known_hosts"
ssh-keygen -lf "$state/known_hosts"
