//! The order in which nodes are worked on: stages, groups and gates.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Gate, NodePlan, Stage, Step};
use crate::desired::{Phase, Way};
use crate::inventory::{Inventory, Node, NodeName, Role};

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
    for phase in Phase::ALL {
        let busy: Vec<&NodeName> = nodes
            .iter()
            .filter(|(_, p)| p.transactions.iter().any(|t| t.phase == phase))
            .map(|(name, _)| name)
            .collect();
        if busy.is_empty() {
            continue;
        }
        let (groups, gate) = match (phase, etcd) {
            (Phase::Repositories | Phase::Packages | Phase::Software | Phase::Images, _) => {
                (vec![busy.into_iter().cloned().collect()], Gate::Reachable)
            }
            (Phase::Kubernetes, _) => (member_groups(inventory, &busy, nodes), Gate::NodesReady),
            (Phase::Host, _) => (host_groups(inventory, &busy, etcd), Gate::Reachable),
            (Phase::Etcd, EtcdState::Down) => {
                (vec![busy.into_iter().cloned().collect()], Gate::EtcdForms)
            }
            (Phase::Etcd, EtcdState::Running) => {
                // New members first: with them, one that is started anew can be spared.
                let (new, old): (Vec<&NodeName>, Vec<&NodeName>) =
                    busy.into_iter().partition(|n| joins_etcd(&nodes[*n]));
                let all = new.into_iter().chain(old);
                (all.map(|n| vec![n.clone()]).collect(), Gate::EtcdQuorum)
            }
        };
        stages.push(Stage { phase, groups, gate });
    }
    stages
}

fn joins_etcd(plan: &NodePlan) -> bool {
    let mut steps = plan.transactions.iter().flat_map(|t| &t.steps);
    steps.any(|a| matches!(a.step, Step::EtcdJoin { .. }))
}

/// The control plane that starts the cluster, then all that join it. In a cluster that runs, control
/// planes go one at a time, so that its API stays.
fn member_groups(
    inventory: &Inventory,
    busy: &[&NodeName],
    plans: &BTreeMap<NodeName, NodePlan>,
) -> Vec<Vec<NodeName>> {
    let way = |name: &NodeName| {
        let steps = plans[name].transactions.iter().flat_map(|t| &t.steps);
        steps
            .filter_map(|a| if let Step::Member { way, .. } = &a.step { Some(*way) } else { None })
            .next()
    };
    let founders: Vec<NodeName> =
        busy.iter().filter(|n| way(n) == Some(Way::Init)).map(|n| (*n).clone()).collect();
    if !founders.is_empty() {
        let others = busy.iter().filter(|n| !founders.contains(n)).map(|n| (*n).clone()).collect();
        let groups = [founders, others];
        return groups.into_iter().filter(|g: &Vec<NodeName>| !g.is_empty()).collect();
    }
    let control_planes: BTreeSet<&NodeName> =
        inventory.with_role(Role::ControlPlane).map(|n| &n.name).collect();
    let (control, workers): (Vec<&NodeName>, Vec<&NodeName>) =
        busy.iter().copied().partition(|n| control_planes.contains(n));
    // Those that join get what the cluster keeps, which those that are there bring up to date.
    let (joining, there): (Vec<&NodeName>, Vec<&NodeName>) =
        control.into_iter().partition(|n| way(n) == Some(Way::Join));
    let control = there.into_iter().chain(joining);
    let mut groups: Vec<Vec<NodeName>> = control.map(|n| vec![n.clone()]).collect();
    if !workers.is_empty() {
        groups.push(workers.into_iter().cloned().collect());
    }
    groups
}

fn host_groups(inventory: &Inventory, busy: &[&NodeName], etcd: EtcdState) -> Vec<Vec<NodeName>> {
    let serves = |n: &&Node| n.has_role(Role::ControlPlane) || n.has_role(Role::Etcd);
    let serving: BTreeSet<&NodeName> =
        inventory.nodes.iter().filter(serves).map(|n| &n.name).collect();
    let (serving, others): (Vec<&NodeName>, Vec<&NodeName>) =
        busy.iter().copied().partition(|n| serving.contains(n));
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::inventory::{Role, testing};
    use crate::plan::{Action, Transaction};

    fn inventory(control_planes: usize, workers: usize) -> Inventory {
        let planes = (0..control_planes).map(|i| (format!("cp{i}"), Role::ControlPlane));
        let workers = (0..workers).map(|i| (format!("w{i:02}"), Role::Worker));
        let nodes: Vec<_> = planes.chain(workers).collect();
        testing::of_nodes(nodes.iter().map(|(name, role)| (name.as_str(), *role)))
    }

    fn busy(inventory: &Inventory, phases: &[Phase]) -> BTreeMap<NodeName, NodePlan> {
        let transaction = |phase| Transaction {
            phase,
            confirm_within_s: None,
            steps: vec![Action {
                step: Step::SwapOff,
                controls: BTreeSet::new(),
                why: String::new(),
            }],
            expect: BTreeMap::new(),
        };
        inventory
            .nodes
            .iter()
            .map(|n| {
                let member = n.has_role(Role::ControlPlane);
                let phases = phases.iter().filter(|p| member || **p != Phase::Etcd);
                let transactions = phases.map(|p| transaction(*p)).collect();
                (n.name.clone(), NodePlan { transactions, ..NodePlan::default() })
            })
            .collect()
    }

    proptest! {
        /// Every busy node is in every one of its stages exactly once; control planes and etcd members
        /// of a running cluster are never touched two at a time; a canary goes alone.
        #[test]
        fn the_order_keeps_its_promises(cps in 1usize..6, workers in 0usize..40, running: bool) {
            let inventory = inventory(cps, workers);
            let phases = [Phase::Packages, Phase::Host, Phase::Etcd];
            let plans = busy(&inventory, &phases);
            let state = if running { EtcdState::Running } else { EtcdState::Down };
            let stages = stages(&inventory, &plans, state);
            prop_assert_eq!(stages.iter().map(|s| s.phase).collect::<Vec<_>>(), phases);
            for stage in &stages {
                let all: Vec<&NodeName> = stage.groups.iter().flatten().collect();
                let distinct: BTreeSet<&NodeName> = all.iter().copied().collect();
                prop_assert_eq!(all.len(), distinct.len());
                let wanted = if stage.phase == Phase::Etcd { cps } else { cps + workers };
                prop_assert_eq!(all.len(), wanted);
                if stage.phase == Phase::Host {
                    prop_assert_eq!(stage.groups[0].len(), 1, "a canary goes alone");
                }
                if running && stage.phase != Phase::Packages {
                    for group in &stage.groups {
                        let serving = group.iter().filter(|n| n.as_str().starts_with("cp")).count();
                        prop_assert!(serving == 0 || group.len() == 1, "{group:?}");
                    }
                }
            }
        }
    }
}
