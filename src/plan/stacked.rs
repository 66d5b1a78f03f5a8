//! etcd that kubeadm runs as static pods.

use crate::error::Problem;
use crate::inventory::{EtcdPlacement, Inventory};

/// Why no plan is made for a cluster, if its etcd is stacked: everything else depends on where it runs.
pub fn refused(inventory: &Inventory) -> Option<Problem> {
    (inventory.etcd.placement == EtcdPlacement::Stacked).then(|| {
        Problem::new("stacked etcd is not hardened in place yet")
            .because("`etcd.placement: stacked`: its members are static pods that kubeadm made")
            .left("no plan was made")
            .hint("`kubastion verify --read-only` shows how the cluster stands")
    })
}
