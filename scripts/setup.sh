#!/bin/sh
# Installs the Debian packages that building, labs and tests need. Calls apt only if one is missing.
set -eu

# package: what for
wanted() {
    cat <<'EOF'
build-essential    C compiler for vendored libssh2
ca-certificates    cargo and apt over TLS
gnupg              tests: signs a repository of packages
iproute2           lab: network namespaces
libssl-dev         build: OpenSSL
mmdebstrap         lab: root filesystem
mount              lab: overlayfs
nftables           lab: kernel feature check; tests of rendered rules
openssh-client     lab: keys; tests: an independent SSH client
openssl            tests: an independent judge of certificates
passwd             lab: sudo password of a test user
pkg-config         build: finds OpenSSL
python3            bench: Ansible's side of a node
python3-venv       bench: pyinfra and Ansible, from PyPI
procps             tests: process lists
shellcheck         lint: shell programs
systemd-container  lab: systemd-nspawn
tar                bench: the baseline
util-linux         lab: nsenter, setsid, unshare
arch-test          mmdebstrap: which architectures this machine runs
busybox-static     tests: a node with BusyBox tar
uidmap             mmdebstrap: without root
EOF
}

# shellcheck source=/dev/null # of this machine
. /etc/os-release
case "${ID:-}:${VERSION_ID:-}" in
debian:12 | debian:13) ;;
*)
    echo "setup: this installs packages on Debian 12 and 13; this is ${PRETTY_NAME:-another system}." >&2
    echo "setup: install the equivalents of these by hand:" >&2
    wanted >&2
    exit 3
    ;;
esac

missing=
for package in $(wanted | cut -d' ' -f1); do
    state=$(dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null || true)
    case $state in
    ii* | hi*) ;;
    *) missing="$missing $package" ;;
    esac
done

if [ -z "$missing" ]; then
    echo "setup: everything is installed" >&2
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "setup: these packages are missing, and installing them needs root:$missing" >&2
    exit 3
fi
echo "setup: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of package names
apt-get install -qq -y --no-install-recommends $missing >&2
