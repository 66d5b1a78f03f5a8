#!/bin/sh
# `vagrant validate` for the machines of inventory/vagrant.yaml. Says so where there is no Vagrant.
#
# As root on Debian it installs vagrant and vagrant-libvirt if apt can do so without removing or
# downgrading anything; no libvirt daemon, no QEMU: this makes no machine.
set -eu
skip() {
    echo "SKIPPED vagrant validate: $*"
    exit 0
}
install() {
    [ "$(id -u)" -eq 0 ] || skip "vagrant is not installed, and installing it needs root"
    command -v apt-get >/dev/null || skip "vagrant is not installed, and this system has no apt"
    set -- install -qq -y --no-install-recommends --no-remove vagrant vagrant-libvirt
    export DEBIAN_FRONTEND=noninteractive
    # Lists may be too old to be useful, or not there yet.
    apt-get --simulate "$@" >/dev/null 2>&1 || apt-get update -qq >/dev/null 2>&1 || true
    apt-get --simulate "$@" >/dev/null 2>&1 ||
        skip "apt cannot install vagrant and vagrant-libvirt here without removing something"
    apt-get "$@" >&2 || skip "apt failed to install vagrant and vagrant-libvirt"
}
command -v vagrant >/dev/null || install
vagrant plugin list 2>/dev/null | grep -q '^vagrant-libvirt ' ||
    skip "vagrant is installed without its plugin vagrant-libvirt"

# Not what somebody uses: no box, no machine, no plugin of theirs. The Vagrantfile is read where it is.
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
VAGRANT_CWD=$PWD/vagrant VAGRANT_DOTFILE_PATH=$home/dot VAGRANT_DEFAULT_PROVIDER=libvirt VAGRANT_CHECKPOINT_DISABLE=1 \
    vagrant validate
nodes=$(VAGRANT_CWD=$PWD/vagrant VAGRANT_DOTFILE_PATH=$home/dot VAGRANT_DEFAULT_PROVIDER=libvirt VAGRANT_CHECKPOINT_DISABLE=1 \
    vagrant status --machine-readable 2>/dev/null | awk -F, '$3 == "metadata" { print $2 }' | sort -u | tr '\n' ' ')
# That it is valid says little if it defines nothing.
wanted=$(sed -n 's/^  - name: *//p' inventory/vagrant.yaml | sort -u | tr '\n' ' ')
[ "$nodes" = "$wanted" ] || {
    echo "vagrant validate: the Vagrantfile makes \"$nodes\", the inventory names \"$wanted\"" >&2
    exit 1
}
