//! The order in which nodes are worked on: stages, groups and gates.

use std::collections::BTreeMap;

use super::model::{Gate, NodePlan, Stage};
use crate::desired::Phase;
use crate::inventory::{Inventory, NodeName, Role};

/// State of the etcd cluster as far as the order depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EtcdState {
    /// No member runs: all are started together, since none gets ready without its peers.
    Down,
    /// A member runs: one at a time, so that a quorum stays.
    Running,
}

/// Puts the nodes that have work into stages.
///
/// A canary comes first (a worker if there is one, so that a mistake costs the least), then control
/// planes one at a time, then all other workers. etcd members go one at a time, or together where
/// the cluster is new.
pub fn stages(
    inventory: &Inventory,
    nodes: &BTreeMap<NodeName, NodePlan>,
    etcd: EtcdState,
) -> Vec<Stage> {
    let mut stages = Vec::new();
    for phase in [Phase::Packages, Phase::Host, Phase::Etcd] {
        let busy: Vec<&NodeName> = nodes
            .iter()
            .filter(|(_, p)| p.transactions.iter().any(|t| t.phase == phase))
            .map(|(name, _)| name)
            .collect();
        if busy.is_empty() {
            continue;
        }
        let (groups, gate) = match (phase, etcd) {
            (Phase::Packages, _) => (vec![busy.into_iter().cloned().collect()], Gate::Reachable),
            (Phase::Host, _) => (host_groups(inventory, &busy, etcd), Gate::Reachable),
            (Phase::Etcd, EtcdState::Down) => {
                (vec![busy.into_iter().cloned().collect()], Gate::EtcdForms)
            }
            (Phase::Etcd, EtcdState::Running) => {
                (busy.into_iter().map(|n| vec![n.clone()]).collect(), Gate::EtcdQuorum)
            }
        };
        stages.push(Stage { phase, groups, gate });
    }
    stages
}

fn host_groups(inventory: &Inventory, busy: &[&NodeName], etcd: EtcdState) -> Vec<Vec<NodeName>> {
    let serves = |name: &NodeName| {
        inventory
            .nodes
            .iter()
            .any(|n| n.name == *name && (n.has_role(Role::ControlPlane) || n.has_role(Role::Etcd)))
    };
    let (serving, others): (Vec<&NodeName>, Vec<&NodeName>) =
        busy.iter().copied().partition(|n| serves(n));
    let mut groups: Vec<Vec<NodeName>> = Vec::new();
    let mut rest: Vec<&NodeName> = others;
    let canary = if rest.is_empty() { None } else { Some(rest.remove(0)) };
    groups.extend(canary.map(|c| vec![c.clone()]));
    match etcd {
        // Nothing runs on them yet that could lose its quorum; after the first, all together.
        EtcdState::Down => {
            let mut serving = serving;
            if groups.is_empty() && !serving.is_empty() {
                groups.push(vec![serving.remove(0).clone()]);
            }
            rest.extend(serving);
        }
        EtcdState::Running => groups.extend(serving.into_iter().map(|n| vec![n.clone()])),
    }
    if !rest.is_empty() {
        rest.sort();
        groups.push(rest.into_iter().cloned().collect());
    }
    groups
}
