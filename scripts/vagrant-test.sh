#!/bin/sh
# Two virtual machines that really boot, hardened, rebooted and led back. $1: the program.
#
# A box (cached), two machines, `kubastion apply` with a power cut inside the confirm window, apply again, a
# reboot of both, `kubastion verify`, `kubastion reset`, and nothing is left but what is in
# cat_leftovers. Where a bundle is, all of that with Kubernetes, and with the settings of production: no
# `host.lab`.
#
# Needs root, Vagrant with vagrant-libvirt, and a libvirt that answers; see vagrant/README.md.
# KUBASTION_VAGRANT_TEST_DIR   where all of it lies (/var/tmp/kubastion-vagrant-test)
# KUBASTION_BOX                a box that is there already
# KUBASTION_BUNDLE             the bundle (/var/cache/kubastion/bundle)
# KUBASTION_VAGRANT_KEEP=1     leave the machines up at the end
set -eu
kubastion=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
tree=$PWD
bundle=${KUBASTION_BUNDLE:-/var/cache/kubastion/bundle}
if [ -e "$bundle/manifest.json" ]; then
    bundle=$(cd "$bundle" && pwd)
    [ -s "$bundle.signers" ] || { echo "$bundle.signers, the keys that may have signed it, is missing" >&2; exit 1; }
else
    bundle=
fi
dir=${KUBASTION_VAGRANT_TEST_DIR:-/var/tmp/kubastion-vagrant-test}
begun=$(date +%s)
say() { printf '%4d s  %s\n' "$(($(date +%s) - begun))" "$*" >&2; }
fail() {
    say "FAILED: $*"
    exit 1
}

# What may differ between a machine that never was hardened and one that was led back: the backups that
# useradd, groupadd and augenrules keep of their files, and empty directories that containerd makes when it
# starts. One extended regular expression for a path per line.
cat_leftovers() {
    cat <<'END'
^/etc/(group|gshadow|passwd|shadow|subgid|subuid)-$
^/etc/audit/audit.rules.prev$
^/opt/containerd(/bin|/lib)?$
END
}

[ "$(id -u)" -eq 0 ] || fail "this needs root: it builds a box and talks to the system's libvirt"
command -v vagrant >/dev/null || fail "vagrant is not installed; see vagrant/README.md"
virsh -c qemu:///system version >/dev/null 2>&1 || fail "libvirt does not answer at qemu:///system; see vagrant/README.md"
for name in cp-1 w-1; do
    ! virsh -c qemu:///system dominfo "kubastion-test-$name" >/dev/null 2>&1 ||
        fail "a machine of an earlier run is still there: see \"What a failed run leaves\" in vagrant/README.md"
done

export KUBASTION_VM_PREFIX=kubastion-test-
export VAGRANT_CWD="$dir/vagrant" VAGRANT_HOME="$dir/home" VAGRANT_DEFAULT_PROVIDER=libvirt VAGRANT_CHECKPOINT_DISABLE=1
unset KUBASTION_INVENTORY VAGRANT_DOTFILE_PATH
# A /dev/kvm that is there need not work: `kvm-ok` of the cpu-checker package would know, a variable too.
export KUBASTION_VM_DRIVER="${KUBASTION_VM_DRIVER:-$([ -w /dev/kvm ] && grep -qE 'vmx|svm' /proc/cpuinfo && echo kvm || echo qemu)}"
# An API server, its images and etcd want more.
export KUBASTION_VM_MEMORY="${KUBASTION_VM_MEMORY:-$([ -z "$bundle" ] && echo 1024 || echo 2560)}"
export KUBASTION_VM_NETWORK="${KUBASTION_VM_NETWORK:-none}"

down() {
    [ -z "${KUBASTION_VAGRANT_KEEP:-}" ] || return 0
    vagrant destroy --force >"$dir/destroy.log" 2>&1 || say "destroying failed: $dir/destroy.log"
    for net in kubastion-test-192-168-56-0 kubastion-test-vagrant; do
        virsh -c qemu:///system net-destroy "$net" >/dev/null 2>&1 || true
        virsh -c qemu:///system net-undefine "$net" >/dev/null 2>&1 || true
    done
}

say "a box"
if [ -z "${KUBASTION_BOX:-}" ]; then KUBASTION_BOX=$(sh vagrant/build-box.sh); fi
export KUBASTION_BOX
rm -rf "$dir"
mkdir -p "$dir/inventory" "$dir/vagrant"
chmod 700 "$dir"
for file in Vagrantfile packages fingerprints.sh say-host-keys.sh; do cp "$tree/vagrant/$file" "$dir/vagrant/"; done
cp "$tree/inventory/vagrant.yaml" "$dir/inventory/"
cd "$dir/inventory"
if [ "$KUBASTION_VM_NETWORK" = none ]; then
    # Nobody tells such machines the time.
    sed '/^  exceptions:$/a\
    - control: host-time-sync\
      reason: These machines have no way out to a time server\
      owner: whoever made these machines\
      expires: 2040-01-31
' "$tree/inventory/vagrant.yaml" >vagrant.yaml
fi
if [ -n "$bundle" ]; then
    {
        printf 'kubernetes:\n  source: bundle\n  bundle:\n    path: %s\n    signers:\n' "$bundle"
        sed 's/.*/      - "&"/' "$bundle.signers"
    } >>vagrant.yaml
    sed -i '/^  exceptions:$/a\
    - control: network-cni-with-policies\
      reason: the bridge network enforces no policies\
      owner: whoever made these machines\
      expires: 2040-01-31
' vagrant.yaml
fi
cat >"$dir/cluster.sh" <<'END'
k() { /usr/local/bin/kubectl --kubeconfig /etc/kubernetes/admin.conf --cache-dir /tmp/kubectl "$@"; }
# After a boot the API server takes a while, and kubectl waits for no server.
tries=0
until k get --raw /readyz >/dev/null 2>&1 || [ $tries -ge 120 ]; do
    tries=$((tries + 1))
    sleep 5
done
k wait --for=condition=Ready node --all --timeout=300s && k -n kube-system rollout status deployment coredns --timeout=300s &&
    k -n kube-system wait --for=condition=Ready pod --all --timeout=300s
code=$?
k get nodes -o wide
k get pods -A
rm -rf /tmp/kubectl
exit $code
END
# cluster_is_up WHEN: where there is to be one, every node is Ready and CoreDNS answers.
cluster_is_up() {
    [ -n "$bundle" ] || return 0
    on cp-1 <"$dir/cluster.sh" >&2 || fail "not every node and pod is ready ($1)"
    say "Kubernetes: both nodes are Ready ($1)"
}
k() { "$kubastion" --inventory vagrant.yaml "$@" >"$dir/out" 2>&1; }
# ends CODES ARGS...: the program's exit code is as it should be, or one of several (6,7).
ends() {
    wanted=$1
    shift
    code=0
    k "$@" || code=$?
    cp "$dir/out" "$dir/$(printf '%s' "$*" | tr -c 'a-z0-9-' _).out"
    case ,$wanted, in
    *",$code,"*) ;;
    *)
        cat "$dir/out" >&2
        fail "kubastion $* ended with $code and not $wanted"
        ;;
    esac
    say "kubastion $*: exit $code, $(tail -n 1 "$dir/out")"
}
address() { awk -v n="$1" '$2 == "name:" { now = $3 } $1 == "addresses:" && now == n { gsub(/[][]/, "", $2); print $2 }' vagrant.yaml; }
# on NODE: the shell program on standard input runs there as root, over SSH with the fingerprints from outside.
on() {
    ssh -F /dev/null -i "$dir/vagrant/.state/id_ed25519" -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=yes \
        -o UserKnownHostsFile="$dir/vagrant/.state/known_hosts" -o GlobalKnownHostsFile=/dev/null -o ConnectTimeout=10 \
        -o LogLevel=ERROR "vagrant@$(address "$1")" sudo sh -s
}
# wait_for NODE SECONDS OLD_BOOT_ID: it has booted anew, and systemd is done with that.
wait_for() {
    until=$(($(date +%s) + $2))
    while :; do
        now=$(on "$1" 2>/dev/null <<'END' || true
cat /proc/sys/kernel/random/boot_id
timeout 60 systemctl is-system-running --wait >/dev/null 2>&1 || true
END
        )
        [ -z "$now" ] || [ "$now" = "$3" ] || return 0
        [ "$(date +%s)" -lt "$until" ] || fail "$1 is not back after $2 s"
        sleep 2
    done
}
# switch_on NODE SECONDS: once the machine is off, for which it has so long, it is put on again.
switch_on() {
    until=$(($(date +%s) + $2))
    until [ "$(virsh -c qemu:///system domstate "kubastion-test-$1" 2>/dev/null)" = "shut off" ]; do
        [ "$(date +%s)" -lt "$until" ] || return 1
        sleep 1
    done
    virsh -c qemu:///system start "kubastion-test-$1" >/dev/null
}
boot_id() { echo 'cat /proc/sys/kernel/random/boot_id' | on "$1"; }
# Every file, link and directory of the system, with type, mode, owner, target and digest; not what lives by itself.
trees() {
    tree_of cp-1 >"$dir/$1.cp-1" &
    tree_of w-1 >"$dir/$1.w-1" || fail "the files of w-1 cannot be listed ($1)"
    wait $! || fail "the files of cp-1 cannot be listed ($1)"
}
tree_of() {
    on "$1" <<'END'
set -eu
places='/etc /usr/local /usr/lib/systemd /root /home /opt /srv /var/lib /boot'
live='-path /var/lib/systemd/* -o -path /var/lib/chrony/* -o -path /var/lib/containerd/* -o -path /var/lib/dbus/* -o -path /etc/.pwd.lock'
set -f
find $places -xdev '(' $live ')' -prune -o '(' -type f -o -type l -o -type d ')' -printf '%p %y %m %U:%G %l\n' | sort
find $places -xdev '(' $live ')' -prune -o -type f -print0 | sort -z | xargs -0 -r sha256sum | awk '{ d = $1; $1 = ""; sub(/^ /, ""); print $0, d }'
nft list tables | sed 's/^/nft /'
systemctl list-unit-files --state=enabled,disabled,masked --no-legend --plain | awk '{ print "unit", $1, $2 }' | sort
cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/all/send_redirects /proc/sys/vm/overcommit_memory /proc/sys/kernel/panic | sed 's/^/sysctl /'
END
}
# same OLD NEW NODE: no difference but the documented ones.
same() {
    [ "$(wc -l <"$dir/$1.$3")" -gt 1000 ] || fail "hardly any file of $3 was listed: $dir/$1.$3"
    cat_leftovers >"$dir/leftovers"
    diff "$dir/$1.$3" "$dir/$2.$3" | sed -n 's/^\([<>]\) /\1 /p' >"$dir/all.diff" || true
    awk '{ print $2 }' "$dir/all.diff" | paste -d ' ' - "$dir/all.diff" |
        awk -v patterns="$dir/leftovers" 'BEGIN { while ((getline p < patterns) > 0) all[++n] = p }
            { for (i = 1; i <= n; i++) if ($1 ~ all[i]) next; sub(/^[^ ]* /, ""); print }' >"$dir/diff.$1.$2.$3"
    [ ! -s "$dir/diff.$1.$2.$3" ] || {
        head -n 40 "$dir/diff.$1.$2.$3" >&2
        fail "$3 differs ($1, $2): $dir/diff.$1.$2.$3"
    }
    say "$3: the same as before ($1, $2), $(wc -l <"$dir/$2.$3") lines"
}

trap 'down' EXIT
trap 'exit 1' HUP INT TERM
say "two machines ($KUBASTION_VM_DRIVER, $KUBASTION_BOX)${bundle:+, Kubernetes from $bundle}"
vagrant up >"$dir/up.log" 2>&1 || {
    tr '\r' '\n' <"$dir/up.log" | grep -v Progress | tail -n 20 >&2
    fail "vagrant up: $dir/up.log"
}
sh "$dir/vagrant/fingerprints.sh" >"$dir/fingerprints"
say "fingerprints from the consoles: $(wc -l <"$dir/fingerprints")"
trees bare

say "a reboot inside the confirm window"
ends 0 pki ensure
boot=$(boot_id cp-1)
# The node itself pulls the plug when it has switched and nobody has confirmed: nothing is written back, no
# unit is stopped. The hypervisor puts it on again, which boots faster than a reset without acceleration.
on cp-1 <<'END'
setsid sh -c 'until [ -e /var/lib/kubastion/armed ]; do sleep 0.3; done
until grep -qx switched /var/lib/kubastion/txn/*/state 2>/dev/null; do sleep 0.03; done
echo o >/proc/sysrq-trigger' </dev/null >/dev/null 2>&1 &
END
switch_on cp-1 1200 >"$dir/power.log" 2>&1 &
power=$!
# 6: it saw the node go back. 7: the node took longer to boot than anybody waits, and that is said. The other node is
# sent its software meanwhile, and is hardened before this one.
ends 6,7 apply --yes
# If it never lost power, nobody need put it on.
kill "$power" 2>/dev/null || true
wait_for cp-1 600 "$boot"
echo 'cat /var/lib/kubastion/txn/*/state; nft list tables' | on cp-1 >"$dir/after-window"
grep -qx reverted "$dir/after-window" || fail "no transaction of cp-1 went back: $(cat "$dir/after-window")"
! grep -qx switched "$dir/after-window" || fail "a transaction of cp-1 is still open"
! grep -q kubastion "$dir/after-window" || fail "cp-1 still has the firewall that nobody confirmed"
say "cp-1 went back by itself"

# It ends when both nodes are Ready. That a second plan is empty and that pods run is asked after the reboot alone: every
# question takes half a minute where there is no acceleration.
say "apply again"
ends 0 apply --yes

say "a reboot of the hardened machines"
for name in cp-1 w-1; do boot_id "$name" >"$dir/boot.$name"; done
# Both at once, which `vagrant reload` does not do, and off and on, which is faster than a reset without acceleration.
for name in cp-1 w-1; do
    echo 'systemctl poweroff' | on "$name" >/dev/null 2>&1 || true
done
for name in cp-1 w-1; do
    switch_on "$name" 180 || fail "$name did not go down"
done
for name in cp-1 w-1; do wait_for "$name" 600 "$(cat "$dir/boot.$name")"; done
# Vagrant comes in as before: its network is one of the inventory's admin_networks.
for name in cp-1 w-1; do
    vagrant ssh "$name" -c true >"$dir/vagrant-ssh.log" 2>&1 </dev/null || fail "vagrant ssh $name: $dir/vagrant-ssh.log"
done
for name in cp-1 w-1; do
    on "$name" >"$dir/booted.$name" <<'END'
is() { if eval "$2" >/dev/null 2>&1; then echo "ok $1"; else echo "NOT $1"; fi; }
since() { systemctl show -p "$2" --value "$1"; }
is "cgroup v2" '[ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]'
is "our firewall" 'nft list table inet kubastion'
is "firewall before sshd" '[ "$(since kubastion-firewall.service ExecMainExitTimestampMonotonic)" -gt 0 ] && [ "$(since kubastion-firewall.service ExecMainExitTimestampMonotonic)" -le "$(since ssh.service ExecMainStartTimestampMonotonic)" ]'
is "kernel defaults" '[ "$(cat /proc/sys/vm/overcommit_memory /proc/sys/kernel/panic /proc/sys/kernel/panic_on_oops | tr "\n" " ")" = "1 10 1 " ]'
is "auditd" 'systemctl is-active auditd.service'
is "our audit rules" '[ "$(auditctl -l | grep -c -- -k)" -ge 5 ]'
if [ -d /etc/etcd/pki ]; then
    is "etcd" 'ETCDCTL_API=3 etcdctl --endpoints https://127.0.0.1:2379 --cacert /etc/etcd/pki/ca.crt --cert /etc/etcd/pki/peer.crt --key /etc/etcd/pki/peer.key endpoint health'
fi
is "nothing failed" '[ -z "$(systemctl --failed --no-legend --plain)" ]'
systemctl --failed --no-legend --plain
END
    sed "s/^/$name: /" "$dir/booted.$name" >&2
    ! grep -q '^NOT' "$dir/booted.$name" || fail "$name is not as it should be after the reboot"
done
cluster_is_up "after the reboot"
ends 0 plan --exit-code
ends 0 verify --summary

say "back to what they were"
ends 0 reset --delete-etcd-data --yes
trees reset
same bare reset cp-1
same bare reset w-1

[ -n "$bundle" ] || say "SKIPPED Kubernetes: no bundle in /var/cache/kubastion/bundle or \$KUBASTION_BUNDLE"
say "done"
