//! What a lab should be.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::address;
use super::error::Error;
use crate::inventory::Role;

/// Cache directory for root filesystems.
pub const DEFAULT_CACHE: &str = "/var/cache/kubastion/lab";

/// Most nodes of one kind: their addresses are cut from one /24 and they share one kernel.
const MAX_OF_A_KIND: u8 = 80;

/// What a lab should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Directory of the lab: state, keys, inventory and the nodes' own data. May not exist yet.
    pub dir: PathBuf,
    /// Directory of cached root filesystems, shared by all labs.
    pub cache: PathBuf,
    /// Number of nodes `cp1`, `cp2`, ... that run the control plane and etcd.
    pub control_planes: u8,
    /// Number of nodes `w1`, `w2`, ... that run workloads.
    pub workers: u8,
    /// The bundle that the inventory names, if any.
    pub bundle: Option<LabBundle>,
    /// Whether a stock cluster is made on the nodes, and which. `None` leaves them bare.
    pub stock: Option<Stock>,
}

/// A cluster as others have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stock {
    /// What kubeadm was told.
    pub variant: StockVariant,
    /// Where etcd runs.
    pub etcd: StockEtcd,
}

/// What kubeadm was told of a stock cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StockVariant {
    /// Nothing beside what a lab needs: its defaults.
    #[default]
    Plain,
    /// Settings that operators often have.
    Odd,
    /// One CA for the cluster, etcd and the front proxy, as from a company's own PKI.
    SingleCa,
}

/// Where etcd of a stock cluster runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StockEtcd {
    /// In static pods, beside the API servers.
    #[default]
    Stacked,
    /// As a service of the control planes, with certificates of its own.
    External,
}

impl std::fmt::Display for Stock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.variant {
            StockVariant::Plain => "kubeadm's defaults",
            StockVariant::Odd => "odd settings",
            StockVariant::SingleCa => "a single CA",
        })?;
        match self.etcd {
            StockEtcd::Stacked => Ok(()),
            StockEtcd::External => f.write_str(" and external etcd"),
        }
    }
}

/// A bundle for a lab.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabBundle {
    /// Its directory, absolute.
    pub dir: PathBuf,
    /// Kubernetes release in it, as in `1.36.2`.
    pub kubernetes: String,
    /// Keys that may have signed it, as in `ssh-ed25519 AAAA...`.
    pub signers: Vec<String>,
}

/// One node of a specification, before it has a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// `cp1`, `w1`, ...
    pub name: String,
    /// What it does.
    pub roles: Vec<Role>,
    /// Last octet of its address.
    pub octet: u8,
}

impl Spec {
    /// A lab in `dir` with the default cache.
    pub fn new(dir: impl Into<PathBuf>, control_planes: u8, workers: u8) -> Self {
        Self {
            dir: dir.into(),
            cache: PathBuf::from(DEFAULT_CACHE),
            control_planes,
            workers,
            bundle: None,
            stock: None,
        }
    }

    /// Whether the lab can be made as asked. Even numbers of etcd members are allowed here: that
    /// an inventory refuses them is something to try out on a lab.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.control_planes == 0 {
            return Err(Error::Spec("a lab needs at least one control-plane node".into()));
        }
        for (count, what) in [(self.control_planes, "control-plane"), (self.workers, "worker")] {
            if count > MAX_OF_A_KIND {
                return Err(Error::Spec(format!(
                    "found {count} {what} nodes; a lab has {MAX_OF_A_KIND} at most"
                )));
            }
        }
        for path in [&self.dir, &self.cache] {
            // overlayfs separates its options with commas and its layers with colons;
            // systemd-nspawn separates the two sides of a bind mount with a colon.
            if path.to_string_lossy().contains([',', ':', '\\', '"', '\n']) {
                return Err(Error::Spec(format!(
                    "found `{}`; the path of a lab or cache has no comma, colon, quote, backslash or newline",
                    path.display()
                )));
            }
        }
        Ok(())
    }

    /// The nodes, control planes first.
    pub(super) fn places(&self) -> Vec<Place> {
        let control_planes = (1..=self.control_planes).map(|n| Place {
            name: format!("cp{n}"),
            roles: vec![Role::ControlPlane],
            octet: address::CONTROL_PLANE_BASE + n,
        });
        let workers = (1..=self.workers).map(|n| Place {
            name: format!("w{n}"),
            roles: vec![Role::Worker],
            octet: address::WORKER_BASE + n,
        });
        control_planes.chain(workers).collect()
    }
}

impl Place {
    /// The node's address in a lab's network.
    pub(super) fn address(&self, slot: u8) -> Ipv4Addr {
        address::in_slot(slot, self.octet)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_largest_lab_has_distinct_names_and_addresses() {
        let spec = Spec::new("/lab", MAX_OF_A_KIND, MAX_OF_A_KIND);
        spec.check().unwrap();
        let places = spec.places();
        let names: BTreeSet<_> = places.iter().map(|p| p.name.clone()).collect();
        let addresses: BTreeSet<_> = places.iter().map(|p| p.address(7)).collect();
        assert_eq!(names.len(), 160);
        assert_eq!(addresses.len(), 160);
        assert!(!addresses.contains(&address::gateway(7)));
    }

    #[test]
    fn what_cannot_be_made_is_refused() {
        assert!(Spec::new("/lab", 0, 3).check().is_err());
        assert!(Spec::new("/lab", 1, MAX_OF_A_KIND + 1).check().is_err());
        assert!(Spec::new("/lab:a", 1, 0).check().is_err());
        assert!(Spec::new("/lab,a", 1, 0).check().is_err());
        assert!(Spec::new("/lab", 2, 0).check().is_ok());
    }
}
