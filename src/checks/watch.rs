//! What nodes are asked.

use crate::checks::node::{kubernetes, sources};
use crate::controls::CATALOGUE;
use crate::desired;
use crate::facts::WatchList;
use crate::inventory::{Files, Inventory, Node};

/// Everything that a plan of this node and its checks look at.
pub fn watch(inventory: &Inventory, files: &Files, node: &Node) -> WatchList {
    let mut watch = desired::watch(inventory, files, node);
    watch.extend(of_checks(inventory, node));
    watch
}

/// What checks look at beside a plan: what the table of their sources names.
pub(super) fn of_checks(inventory: &Inventory, node: &Node) -> WatchList {
    let wanted = CATALOGUE.iter().filter(|c| c.scope.holds(inventory, node) && c.wanted(inventory));
    let checks = wanted.flat_map(|c| c.checks).filter(|c| c.is_for(inventory, node));
    let mut watch = sources::watch(checks);
    // Whether Kubernetes is set up decides about many verdicts.
    watch.files.extend([kubernetes::MANIFEST, "/var/lib/kubelet/config.yaml"].map(str::to_owned));
    watch
}
