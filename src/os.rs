//! The distribution families that are supported: a row for each, with what differs between them.
//!
//! A family with a package manager of its own also wants what that manager is told: its repository
//! (`desired/repository.rs`), its nightly updates (`desired/host.rs`), and `package-MANAGER` of the node's program.

use serde::{Deserialize, Serialize};

/// Package and path conventions that a distribution follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OsFamily {
    /// Debian, Ubuntu and derivatives.
    Debian,
    /// RHEL, Rocky, Alma, Fedora and derivatives.
    RedHat,
}

/// Package manager of a distribution family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PackageManager {
    /// Debian and Ubuntu.
    Apt,
    /// RHEL and Fedora.
    Dnf,
}

/// What is the family's own.
#[derive(Debug)]
pub struct Os {
    /// Which it is.
    pub family: OsFamily,
    /// `ID` or `ID_LIKE` of its members in os-release(5).
    pub ids: &'static [&'static str],
    /// How packages are installed.
    pub manager: PackageManager,
    /// Names of packages.
    pub packages: PackageNames,
    /// Unit of sshd, and the socket that starts it instead.
    pub sshd: (&'static str, &'static str),
    /// Unit of chrony.
    pub chrony: &'static str,
    /// Where chrony reads servers of ours.
    pub chrony_servers: ChronyServers,
    /// Directory with variables of services.
    pub service_variables: &'static str,
    /// Where the distribution's package puts CNI plugins.
    pub cni_plugins: &'static str,
    /// Whether SELinux may enforce.
    pub selinux: bool,
    /// Whether the package of etcd starts an instance when it is installed.
    pub starts_etcd: bool,
}

/// Where chrony reads servers of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChronyServers {
    /// In a file of a directory that its own file includes.
    DropIn(&'static str),
    /// In its own file: it includes no directory below /etc.
    Whole(&'static str),
}

/// Names of packages; empty where the family's own repositories have none.
#[derive(Debug)]
#[expect(missing_docs, reason = "each is called as the program is")]
pub struct PackageNames {
    pub nftables: &'static str,
    pub chrony: &'static str,
    pub audit: &'static str,
    pub logrotate: &'static str,
    pub updates: &'static str,
    pub containerd: &'static str,
    pub runc: &'static str,
    pub cni_plugins: &'static str,
    pub iptables: &'static str,
    pub conntrack: &'static str,
    pub ethtool: &'static str,
    pub socat: &'static str,
    pub haproxy: &'static str,
    pub keepalived: &'static str,
    pub etcd_server: &'static str,
    pub etcd_client: &'static str,
}

/// Every supported family.
pub const FAMILIES: &[Os] = &[
    Os {
        family: OsFamily::Debian,
        ids: &["debian", "ubuntu"],
        manager: PackageManager::Apt,
        packages: PackageNames {
            nftables: "nftables",
            chrony: "chrony",
            audit: "auditd",
            logrotate: "logrotate",
            updates: "unattended-upgrades",
            containerd: "containerd",
            runc: "runc",
            cni_plugins: "containernetworking-plugins",
            iptables: "iptables",
            conntrack: "conntrack",
            ethtool: "ethtool",
            socat: "socat",
            haproxy: "haproxy",
            keepalived: "keepalived",
            etcd_server: "etcd-server",
            etcd_client: "etcd-client",
        },
        sshd: ("ssh.service", "ssh.socket"),
        chrony: "chrony.service",
        chrony_servers: ChronyServers::DropIn("/etc/chrony/conf.d/kubastion.conf"),
        service_variables: "/etc/default",
        cni_plugins: "/usr/lib/cni",
        selinux: false,
        starts_etcd: true,
    },
    Os {
        family: OsFamily::RedHat,
        ids: &["rhel", "fedora", "centos", "rocky", "almalinux"],
        manager: PackageManager::Dnf,
        packages: PackageNames {
            nftables: "nftables",
            chrony: "chrony",
            audit: "audit",
            logrotate: "logrotate",
            updates: "dnf-automatic",
            containerd: "",
            runc: "",
            cni_plugins: "containernetworking-plugins",
            iptables: "iptables-nft",
            conntrack: "conntrack-tools",
            ethtool: "ethtool",
            socat: "socat",
            haproxy: "haproxy",
            keepalived: "keepalived",
            etcd_server: "",
            etcd_client: "",
        },
        sshd: ("sshd.service", "sshd.socket"),
        chrony: "chronyd.service",
        chrony_servers: ChronyServers::Whole("/etc/chrony.conf"),
        service_variables: "/etc/sysconfig",
        cni_plugins: "/usr/libexec/cni",
        selinux: true,
        starts_etcd: false,
    },
];

impl OsFamily {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        FAMILIES.iter().map(|os| os.family)
    }

    /// Its row.
    ///
    /// # Panics
    /// Never: a test goes through all families.
    pub fn row(self) -> &'static Os {
        FAMILIES.iter().find(|os| os.family == self).expect("every family has a row")
    }

    /// The family of a distribution by its `ID` and `ID_LIKE`, the nearest first; none of one that is not supported. `like`
    /// may name several.
    pub fn of<'i>(ids: impl Iterator<Item = &'i str> + Clone) -> Option<Self> {
        let has = |os: &&Os| ids.clone().any(|id| os.ids.contains(&id));
        FAMILIES.iter().find(has).map(|os| os.family)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_has_one_row_and_no_id_is_in_two() {
        let next = |family| match family {
            None => Some(OsFamily::Debian),
            Some(OsFamily::Debian) => Some(OsFamily::RedHat),
            Some(OsFamily::RedHat) => None,
        };
        let mut families = Vec::new();
        let mut family = next(None);
        while let Some(f) = family {
            assert_eq!(f.row().family, f);
            assert_eq!(FAMILIES.iter().filter(|os| os.family == f).count(), 1);
            families.push(f);
            family = next(Some(f));
        }
        assert_eq!(OsFamily::all().collect::<Vec<_>>(), families);
        let mut ids: Vec<&str> = FAMILIES.iter().flat_map(|os| os.ids).copied().collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all);
        assert_eq!(OsFamily::of(["opensuse", "suse"].into_iter()), None);
        assert_eq!(OsFamily::of(["pop", "ubuntu", "debian"].into_iter()), Some(OsFamily::Debian));
        assert_eq!(OsFamily::of(["ol", "fedora"].into_iter()), Some(OsFamily::RedHat));
    }
}
