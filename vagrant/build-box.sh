#!/bin/sh
# Makes a Debian box for libvirt where none can be downloaded, from Debian packages alone, without loop
# devices. Prints its path. The box is kept, and made again only when this file, the release or its
# mirror changes.
#
# KUBASTION_BOX_CACHE   where boxes are kept (/var/cache/kubastion/boxes)
# KUBASTION_BOX_MIRROR  what mmdebstrap calls MIRROR (this machine's own apt sources)
# KUBASTION_BOX_EXTRA   more packages, separated by commas
set -eu
umask 022
# mke2fs and sfdisk are in places that not every user's PATH has.
PATH=$PATH:/usr/sbin:/sbin

release=bookworm
here=$(dirname "$0")
cache=${KUBASTION_BOX_CACHE:-/var/cache/kubastion/boxes}
extra=${KUBASTION_BOX_EXTRA:-}
mirror=${KUBASTION_BOX_MIRROR:-}
if [ -z "$mirror" ]; then
    for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
        if [ -z "$mirror" ] && [ -s "$file" ] && grep -q "$release" "$file"; then mirror=$file; fi
    done
fi
say() { echo "build-box: $*" >&2; }

missing=
for program in mmdebstrap mke2fs sfdisk qemu-img sha256sum tar; do
    command -v "$program" >/dev/null || missing="$missing $program"
done
if [ -n "$missing" ]; then
    say "missing:$missing (packages mmdebstrap, e2fsprogs, fdisk, qemu-utils)"
    exit 3
fi
if [ "$(id -u)" -ne 0 ]; then
    say "this needs root: files of a root filesystem get their owners"
    exit 3
fi
if [ "$(dpkg --print-architecture)" != amd64 ]; then
    say "the boot loader is written for amd64 alone"
    exit 3
fi

key=$({ cat "$0" "$here/packages" "$here/say-host-keys.sh"; echo "$release $mirror $extra"; } | sha256sum | cut -c1-16)
box=$cache/$release-$key.box
if [ -s "$box" ]; then
    echo "$box"
    exit 0
fi
mkdir -p "$cache"
work=$(mktemp -d "$cache/.new.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
chmod 700 "$work"

# An init and what logs in; what boots; what Vagrant calls; what a node and a hardened host need.
packages=systemd,systemd-sysv,dbus,udev,openssh-server,sudo
packages=$packages,linux-image-cloud-amd64,initramfs-tools,grub-pc-bin,grub-common
packages=$packages,ca-certificates,curl,iproute2,iputils-ping,kmod,less,netcat-openbsd,openssl,procps,rsync
packages=$packages,$(paste -s -d, "$here/packages")

# The key pair is published with every Vagrant, which replaces it at the first `vagrant up`.
published='ssh-rsa AAAAB3NzaC1yc2EAAAABIwAAAQEA6NF8iallvQVp22WDkTkyrtvp9eWW6A8YVr+kz4TjGYe7gHzIw+niNltGEFHzD8+v1I2YJ6oXevct1YeS0o9HZyN1Q9qgCgzUFtdOKLv6IedplqoPkcmF0aYet2PkEDo3MlTBckFXPITAMzF8dJSIFo9D8HfdOV0IAdx4O7PtixWKn5y2hMNG0zQPyUecp4pzC6kivAIhyfHilFR61RGL+GPXQ2MWZWFYbAGjyiYJnAmCP3NOTd0jMZEnDkbUvxhMmBYSdETk1rRgm+R4LOzFUGaHqHDLKLX+FIPKcF96hrucXzcWyLbIbEgE98OHlnVYCzRdK8jlqm8tehUc9c9WhQ== vagrant insecure public key'

# What a new machine does to the tree; runs in the new root.
cat >"$work/inside" <<'EOF'
set -eu
useradd --create-home --shell /bin/bash --password '*' vagrant
install -d -m 700 -o vagrant -g vagrant /home/vagrant/.ssh
install -m 600 -o vagrant -g vagrant /tmp/published /home/vagrant/.ssh/authorized_keys
rm /tmp/published
echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/vagrant
chmod 440 /etc/sudoers.d/vagrant

echo 'LABEL=root / ext4 errors=remount-ro 0 1' >/etc/fstab
# The first interface is Vagrant's; the others are Vagrant's to set up. A box is copied: the MAC address
# tells the machines apart, and a machine-id that all share does not.
cat >/etc/systemd/network/10-vagrant.network <<'END'
[Match]
Name=eth0
[Network]
DHCP=ipv4
[DHCPv4]
ClientIdentifier=mac
END
systemctl enable --quiet systemd-networkd.service ssh.service serial-getty@ttyS0.service
# What wants network-online.target means addresses, of the interfaces that are set up.
systemctl enable --quiet systemd-networkd-wait-online.service
# A node starts with the software, not as a member of somebody's cluster.
systemctl disable --quiet etcd.service
rm -f /var/lib/dbus/machine-id
: >/etc/machine-id

# Without this it would be the name of the machine that built it. Vagrant gives each its own.
echo debian >/etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 debian\n::1 localhost ip6-localhost ip6-loopback\n' >/etc/hosts

# Host keys are made at the first boot, and every boot says them.
rm -f /etc/ssh/ssh_host_*
chmod 755 /usr/local/sbin/say-host-keys.sh
cat >/etc/systemd/system/host-keys-to-console.service <<'END'
[Unit]
Description=Host keys, made once and said on the serial console
Before=ssh.service
ConditionPathIsReadWrite=/etc
[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A
ExecStart=/usr/local/sbin/say-host-keys.sh
[Install]
WantedBy=multi-user.target
END
systemctl enable --quiet host-keys-to-console.service

mkdir -p /boot/grub
cat >/boot/grub/grub.cfg <<'END'
set timeout=0
linux /vmlinuz root=LABEL=root ro net.ifnames=0 console=ttyS0
initrd /initrd.img
boot
END
grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o /boot/grub/core.img \
    biosdisk part_msdos ext2 normal configfile linux boot echo test minicmd
EOF
echo "$published" >"$work/published"

say "a root filesystem (mmdebstrap, $release)"
# shellcheck disable=SC2086 # no mirror is no argument
mmdebstrap --mode=root --variant=minbase --format=directory \
    --include="$packages${extra:+,$extra}" \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt=force-unsafe-io \
    --customize-hook="copy-in $work/published /tmp" \
    --customize-hook="copy-in $here/say-host-keys.sh /usr/local/sbin" \
    --customize-hook="chroot \"\$1\" sh -s <'$work/inside'" \
    "$release" "$work/root" $mirror >&2
# The VM installs from where the box came from: what this machine's apt, or KUBASTION_BOX_MIRROR, named.

say "a disk"
disk=$work/disk.raw
truncate -s 10G "$disk"
echo '2048,,L,*' | sfdisk --quiet "$disk"
# Without the MiB before the partition. GRUB 2.06 reads neither feature.
mke2fs -q -t ext4 -L root -O '^metadata_csum_seed,^orphan_file' -E offset=1048576,lazy_itable_init=1 \
    -d "$work/root" "$disk" 10239M
core=$work/root/boot/grub/core.img
[ "$(stat -c %s "$core")" -lt $((2047 * 512)) ]
# 440 bytes: after them comes the partition table.
dd if="$work/root/usr/lib/grub/i386-pc/boot.img" of="$disk" bs=440 count=1 conv=notrunc status=none
dd if="$core" of="$disk" bs=512 seek=1 conv=notrunc status=none
qemu-img convert -c -O qcow2 "$disk" "$work/box.img"

say "a box"
echo '{"provider": "libvirt", "format": "qcow2", "virtual_size": 10}' >"$work/metadata.json"
cat >"$work/Vagrantfile" <<'EOF'
Vagrant.configure("2") do |config|
  config.vm.synced_folder ".", "/vagrant", disabled: true
end
EOF
tar -C "$work" -cf "$work/box" metadata.json Vagrantfile box.img
mv "$work/box" "$box"
say "made $box"
echo "$box"
