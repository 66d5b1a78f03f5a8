//! Which nodes a control is judged on.

use serde::Serialize;

use crate::inventory::{Inventory, Node, Role};

/// Nodes that a control is judged on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// All nodes.
    Every,
    /// Nodes with role control-plane.
    ControlPlane,
    /// Members of the etcd cluster.
    EtcdMember,
    /// Control-plane nodes and workers.
    Kubelet,
    /// Workers that are not control-plane nodes.
    Worker,
    /// Not a node: judged once for the cluster.
    Cluster,
}

impl Scope {
    /// Whether a node is one of them.
    pub fn holds(self, inventory: &Inventory, node: &Node) -> bool {
        let control_plane = node.has_role(Role::ControlPlane);
        let worker = node.has_role(Role::Worker);
        match self {
            Scope::Every => true,
            Scope::ControlPlane => control_plane,
            Scope::EtcdMember => inventory.is_etcd_member(node),
            Scope::Kubelet => control_plane || worker,
            Scope::Worker => worker && !control_plane,
            Scope::Cluster => false,
        }
    }
}
