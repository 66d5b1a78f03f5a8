//! Ways between nodes that a firewall must leave open: what could be reached before a change must be
//! reachable after it, or the node goes back. That an operator still gets in says nothing about
//! etcd's peers or the kubelet's API server, whose old connections outlive a new rule for hours.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::inventory::{Inventory, Node, NodeName, Role};
use crate::transport::Transport;

/// etcd's client and peer ports (IANA).
const ETCD: &[u16] = &[2379, 2380];
/// The API server's and the kubelet's port (kubernetes.io, "Ports and Protocols").
const API: u16 = 6443;
/// See [`API`].
const KUBELET: u16 = 10250;

/// How long a connection may take, in which a packet that is dropped is sent again twice.
const WITHIN: Duration = Duration::from_secs(4);

/// A port of a node, as another node reaches it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// From which node.
    pub from: NodeName,
    /// To which port.
    pub port: u16,
}

/// The flows to a node that a cluster lives on. Of the workers, which are all alike to it, the first
/// one speaks for all.
pub fn to(inventory: &Inventory, target: &Node) -> BTreeSet<Flow> {
    let mut flows = BTreeSet::new();
    let mut add = |from: &Node, ports: &[u16]| {
        if from.name != target.name {
            flows.extend(ports.iter().map(|&port| Flow { from: from.name.clone(), port }));
        }
    };
    let planes = || inventory.with_role(Role::ControlPlane);
    if inventory.is_etcd_member(target) {
        inventory.etcd_members().for_each(|n| add(n, ETCD));
        planes().for_each(|n| add(n, &ETCD[..1]));
    }
    if target.has_role(Role::ControlPlane) {
        planes().for_each(|n| add(n, &[API]));
        inventory.with_role(Role::Worker).take(1).for_each(|n| add(n, &[API]));
    }
    if target.has_role(Role::ControlPlane) || target.has_role(Role::Worker) {
        planes().for_each(|n| add(n, &[KUBELET]));
    }
    flows
}

/// Whether a flow is open now.
pub fn is_open(from: &mut dyn Transport, target: &Node, port: u16) -> bool {
    from.dial(&target.internal_ip().to_string(), port, WITHIN).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::testing;

    #[test]
    fn ways_lead_from_peers_planes_and_one_worker() {
        let inventory = testing::two_and_two();
        let flows = |n: usize| -> Vec<(String, u16)> {
            let all = to(&inventory, &inventory.nodes[n]);
            all.into_iter().map(|w| (w.from.to_string(), w.port)).collect()
        };
        let pair = |from: &str, port| (from.to_owned(), port);
        let to_plane = [
            pair("cp2", 2379),
            pair("cp2", 2380),
            pair("cp2", 6443),
            pair("cp2", 10250),
            pair("w1", 6443),
        ];
        assert_eq!(flows(0), to_plane);
        assert_eq!(flows(3), [pair("cp1", 10250), pair("cp2", 10250)]);
    }
}
