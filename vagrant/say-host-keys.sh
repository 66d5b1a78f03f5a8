#!/bin/sh
# Says the host keys on the serial console, which the hypervisor alone hears. Runs on a machine: at every
# boot of a box of build-box.sh, and by Vagrant on others.
set -eu
[ -c /dev/ttyS0 ] || exit 0
# The kernel writes to the same console: a line that it broke is said again.
# shellcheck disable=SC2034 # it counts
for again in 1 2 3; do
    for file in /etc/ssh/ssh_host_*_key.pub; do
        read -r kind blob _ <"$file"
        printf '\r\nssh-host-key %s %s\r\n' "$kind" "$blob" >/dev/ttyS0
    done
done
