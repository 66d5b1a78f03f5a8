//! What a node's root filesystem holds: tables, so that a later change adds rows.

/// Where a package goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// Installed in the root filesystem.
    Installed,
    /// Left out, but in the node's own repository: a node has no uplink, and `apt-get install` of
    /// a missing package is one of the things to try out on it.
    KeptOut,
}

/// One Debian package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Package {
    /// Its name in Debian 12 and 13.
    pub name: &'static str,
    /// Where it goes.
    pub placement: Placement,
}

const fn installed(name: &'static str) -> Package {
    Package { name, placement: Placement::Installed }
}

const fn kept_out(name: &'static str) -> Package {
    Package { name, placement: Placement::KeptOut }
}

/// Every package that is named; mmdebstrap adds the essential ones and what these depend on.
///
/// kubeadm asks for conntrack, ethtool, socat, iptables, mount, cri tools and util-linux
/// (kubernetes.io, "Installing kubeadm").
pub(super) const PACKAGES: &[Package] = &[
    // An init and what logs in.
    installed("systemd"),
    installed("systemd-sysv"),
    installed("dbus"),
    installed("udev"),
    installed("openssh-server"),
    installed("sudo"),
    // Tools.
    installed("bash"),
    installed("ca-certificates"),
    installed("curl"),
    installed("iproute2"),
    installed("iputils-ping"),
    installed("kmod"),
    installed("less"),
    installed("netcat-openbsd"),
    installed("openssl"),
    installed("procps"),
    installed("tar"),
    installed("util-linux"),
    // What a Kubernetes node needs.
    installed("conntrack"),
    installed("containerd"),
    installed("containernetworking-plugins"),
    installed("etcd-client"),
    installed("etcd-server"),
    installed("haproxy"),
    installed("iptables"),
    installed("keepalived"),
    installed("nftables"),
    installed("runc"),
    installed("socat"),
    kept_out("ethtool"),
    // What a hardened host needs.
    installed("auditd"),
    installed("chrony"),
    installed("logrotate"),
    installed("unattended-upgrades"),
    // What hosts of others have in place of it, or beside it.
    kept_out("firewalld"),
    kept_out("fish"),
    kept_out("systemd-resolved"),
    kept_out("systemd-timesyncd"),
    kept_out("ufw"),
];

/// Units that cannot do their work in a container, or would do it to the host. A drop-in gives them
/// `ConditionVirtualization=!container`: they can be enabled, and are skipped at boot.
pub(super) const NOT_IN_A_CONTAINER: &[(&str, &str)] = &[
    ("auditd.service", "one audit subsystem per kernel, and it belongs to the host"),
    ("audit-rules.service", "see auditd.service; a unit of its own since Debian 13"),
    ("systemd-udevd.service", "devices belong to the host, and /sys is writable in a node"),
    ("systemd-udevd-control.socket", "see systemd-udevd.service"),
    ("systemd-udevd-kernel.socket", "see systemd-udevd.service"),
    ("systemd-udev-trigger.service", "would replay every device event on the host"),
];

/// Units that Debian enables when their package is installed and a lab does not: a node starts
/// with the software, not with a member of somebody's cluster or a load balancer without backends.
pub(super) const NOT_ENABLED: &[&str] = &["etcd.service", "haproxy.service", "keepalived.service"];

/// Names of the packages with a placement.
pub(super) fn names(placement: Placement) -> Vec<&'static str> {
    PACKAGES.iter().filter(|p| p.placement == placement).map(|p| p.name).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_package_is_named_once_and_one_is_kept_out() {
        let distinct: BTreeSet<_> = PACKAGES.iter().map(|p| p.name).collect();
        assert_eq!(distinct.len(), PACKAGES.len());
        assert!(!names(Placement::KeptOut).is_empty());
    }
}
