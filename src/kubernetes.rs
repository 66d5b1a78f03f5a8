//! The releases of Kubernetes that are supported: a row for each minor, with what differs between them.
//!
//! What a single setting has since a release is in the row of its control (`minors`); what a kind of object has, in
//! `facts::cluster`.

/// A minor release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// Of the 1.x line.
    pub minor: u16,
    /// CoreDNS that its kubeadm deploys (`CoreDNSVersion` in kubeadm's constants).
    pub coredns: &'static str,
    /// Version of the pod sandbox's image, as its kubeadm has it (`PauseVersion`).
    pub pause: &'static str,
    /// The oldest external etcd that its kubeadm accepts (`MinExternalEtcdVersion`), where that is newer than what
    /// distributions have.
    pub oldest_etcd: Option<(u16, u16, u16)>,
    /// The oldest containerd that its kubelet runs on.
    pub oldest_containerd: (u16, u16),
    /// Whether its kubeadm makes keys of ECDSA P-384.
    pub kubeadm_p384: bool,
}

/// Every supported release, without a gap.
#[rustfmt::skip]
pub const RELEASES: &[Release] = &[
    Release { minor: 34, coredns: "v1.12.1", pause: "3.10.1", oldest_etcd: None,             oldest_containerd: (1, 7), kubeadm_p384: false },
    Release { minor: 35, coredns: "v1.13.1", pause: "3.10.1", oldest_etcd: None,             oldest_containerd: (1, 7), kubeadm_p384: false },
    Release { minor: 36, coredns: "v1.14.2", pause: "3.10.2", oldest_etcd: Some((3, 5, 24)), oldest_containerd: (1, 7), kubeadm_p384: true },
    Release { minor: 37, coredns: "v1.14.6", pause: "3.10.2", oldest_etcd: Some((3, 5, 24)), oldest_containerd: (2, 0), kubeadm_p384: true },
];

/// The oldest minor.
pub const OLDEST: u16 = RELEASES[0].minor;
/// The newest minor.
pub const NEWEST: u16 = RELEASES[RELEASES.len() - 1].minor;

/// What a release in an inventory has to look like.
pub const VERSION_ALLOWED: &str =
    "a Kubernetes version is `1.MINOR.PATCH` with a minor from 34 to 37, as in `1.36.2`";

impl Release {
    /// The row of a minor.
    ///
    /// # Panics
    /// If it is not supported; inventories with another one are refused.
    pub fn of(minor: u16) -> &'static Release {
        RELEASES.iter().find(|r| r.minor == minor).expect("the inventory has supported minors only")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minors_follow_one_another_and_nothing_gets_older() {
        for pair in RELEASES.windows(2) {
            assert_eq!(pair[0].minor + 1, pair[1].minor);
            assert!(pair[0].oldest_etcd <= pair[1].oldest_etcd);
            assert!(pair[0].oldest_containerd <= pair[1].oldest_containerd);
        }
        assert!(VERSION_ALLOWED.contains(&format!("from {OLDEST} to {NEWEST}")));
        assert_eq!(Release::of(OLDEST).minor, OLDEST);
        assert_eq!(Release::of(NEWEST).minor, NEWEST);
    }
}
