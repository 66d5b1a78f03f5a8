//! The order in which nodes are worked on: stages, groups and gates.

use std::collections::{BTreeMap, BTreeSet};

use super::model::NodePlan;
use super::stage::{EtcdChange, Gate, Group, OnFailure, Stage, Task};
use super::step::Step;
use crate::desired::{KubeadmAction, Phase};
use crate::inventory::{Inventory, Node, NodeName, Role};

/// State of the etcd cluster as far as the order depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EtcdState {
    /// No member runs: all are started together, since none gets ready without its peers.
    Down,
    /// A member runs: one at a time, so that a quorum stays.
    Running,
}

/// Puts the nodes that have work, and changes of etcd's members, into stages.
///
/// A canary comes first (a worker if there is one, so that a mistake costs the least), then control
/// planes one at a time, then all other workers. etcd members go one at a time, or together where
/// the cluster is new. Members are removed before anything else, and learners that an earlier run left are promoted after
/// the stage of etcd.
pub fn stages(
    inventory: &Inventory,
    nodes: &BTreeMap<NodeName, NodePlan>,
    etcd: EtcdState,
    changes: &[EtcdChange],
) -> Vec<Stage> {
    let of = |wanted: fn(&EtcdChange) -> bool| -> Vec<EtcdChange> {
        changes.iter().filter(|c| wanted(c)).cloned().collect()
    };
    let removals = of(|c| matches!(c, EtcdChange::Remove { .. }));
    let promotions = of(|c| matches!(c, EtcdChange::Promote { .. }));
    let mut stages = Vec::new();
    if !removals.is_empty() {
        stages.push(Stage::etcd_removals(removals));
    }
    let mut promotions = (!promotions.is_empty()).then(|| Stage::etcd_promotions(promotions));
    for &phase in Phase::ALL {
        if phase > Phase::Etcd {
            stages.extend(promotions.take());
        }
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
                (vec![together(busy)], Gate::Reachable)
            }
            (Phase::Kubernetes, _) => (member_groups(inventory, &busy, nodes), Gate::NodesReady),
            (Phase::Host, _) => (host_groups(inventory, &busy, etcd), Gate::Reachable),
            (Phase::Etcd, EtcdState::Down) => (vec![together(busy)], Gate::EtcdForms),
            (Phase::Etcd, EtcdState::Running) => {
                // New members first: with them, one that is started anew can be spared.
                let (new, old): (Vec<&NodeName>, Vec<&NodeName>) =
                    busy.into_iter().partition(|n| joins_etcd(&nodes[*n]));
                (new.into_iter().chain(old).map(alone).collect(), Gate::EtcdQuorum)
            }
        };
        let task = |node: &NodeName| task(node, &nodes[node], phase, changes);
        let groups = groups.into_iter().map(|g: Nodes| Group {
            alone: g.alone,
            held_back: None,
            tasks: g.nodes.iter().filter_map(task).collect(),
        });
        stages.push(Stage {
            name: phase.name().to_owned(),
            groups: groups.collect(),
            gates: match phase {
                // With its API server, a node's member of etcd is started again.
                Phase::Kubernetes if inventory.has_stacked_etcd() && etcd == EtcdState::Running => {
                    vec![gate, Gate::EtcdQuorum]
                }
                _ => vec![gate],
            },
            on_failure: OnFailure::StopStage,
        });
    }
    stages.extend(promotions);
    stages
}

/// Nodes that are begun together.
struct Nodes {
    alone: bool,
    nodes: Vec<NodeName>,
}

fn together<'n>(nodes: impl IntoIterator<Item = &'n NodeName>) -> Nodes {
    Nodes { alone: false, nodes: nodes.into_iter().cloned().collect() }
}

fn alone(node: &NodeName) -> Nodes {
    Nodes { alone: true, nodes: vec![node.clone()] }
}

/// The task that carries out a node's transaction of a phase.
fn task(node: &NodeName, plan: &NodePlan, phase: Phase, changes: &[EtcdChange]) -> Option<Task> {
    let at = plan.transactions.iter().position(|t| t.phase == phase)?;
    let (node, number) = (node.clone(), at + 1);
    let joins = changes.iter().find_map(|c| match c {
        EtcdChange::Add { node: of, peer_url } if *of == node => Some(peer_url.clone()),
        _ => None,
    });
    Some(match joins.filter(|_| phase == Phase::Etcd) {
        Some(peer_url) => Task::JoinEtcd { node, number, peer_url },
        None => Task::Transaction { node, number },
    })
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
) -> Vec<Nodes> {
    let action = |name: &NodeName| {
        let steps = plans[name].transactions.iter().flat_map(|t| &t.steps);
        steps
            .filter_map(|a| {
                if let Step::Kubeadm { action, .. } = &a.step { Some(*action) } else { None }
            })
            .next()
    };
    let (founders, others): (Vec<&NodeName>, Vec<&NodeName>) =
        busy.iter().copied().partition(|n| action(n) == Some(KubeadmAction::Init));
    if !founders.is_empty() {
        let first = founders.into_iter().map(alone);
        return first.chain((!others.is_empty()).then(|| together(others))).collect();
    }
    let control_planes: BTreeSet<&NodeName> =
        inventory.with_role(Role::ControlPlane).map(|n| &n.name).collect();
    let (control, workers): (Vec<&NodeName>, Vec<&NodeName>) =
        busy.iter().copied().partition(|n| control_planes.contains(n));
    // Those that join get what the cluster keeps, which those that are there bring up to date.
    let (joining, there): (Vec<&NodeName>, Vec<&NodeName>) =
        control.into_iter().partition(|n| action(n) == Some(KubeadmAction::Join));
    let control = there.into_iter().chain(joining).map(alone);
    control.chain((!workers.is_empty()).then(|| together(workers))).collect()
}

fn host_groups(inventory: &Inventory, busy: &[&NodeName], etcd: EtcdState) -> Vec<Nodes> {
    let serves = |n: &&Node| n.has_role(Role::ControlPlane) || n.has_role(Role::Etcd);
    let serving: BTreeSet<&NodeName> =
        inventory.nodes.iter().filter(serves).map(|n| &n.name).collect();
    let (mut serving, mut rest): (Vec<&NodeName>, Vec<&NodeName>) =
        busy.iter().copied().partition(|n| serving.contains(n));
    let mut groups: Vec<Nodes> = Vec::new();
    if !rest.is_empty() {
        groups.push(alone(rest.remove(0)));
    }
    match etcd {
        // Nothing runs on them yet that could lose its quorum; after the first, all together.
        EtcdState::Down => {
            if groups.is_empty() && !serving.is_empty() {
                groups.push(alone(serving.remove(0)));
            }
            rest.extend(serving);
        }
        EtcdState::Running => groups.extend(serving.into_iter().map(alone)),
    }
    if !rest.is_empty() {
        rest.sort();
        groups.push(together(rest));
    }
    groups
}

#[cfg(test)]
mod tests {
    use crate::controls::IdList;
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
                controls: IdList::default(),
                why: Vec::new(),
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
            let stages = stages(&inventory, &plans, state, &[]);
            let names: Vec<&str> = stages.iter().map(|s| s.name.as_str()).collect();
            prop_assert_eq!(names, phases.map(Phase::name));
            for (stage, phase) in stages.iter().zip(phases) {
                let all: Vec<&NodeName> = stage.tasks().filter_map(Task::node).collect();
                let distinct: BTreeSet<&NodeName> = all.iter().copied().collect();
                prop_assert_eq!(all.len(), distinct.len());
                let wanted = if phase == Phase::Etcd { cps } else { cps + workers };
                prop_assert_eq!(all.len(), wanted);
                for task in stage.tasks() {
                    let Task::Transaction { node, number } = task else { panic!("{task:?}") };
                    prop_assert_eq!(plans[node].transactions[number - 1].phase, phase);
                }
                if phase == Phase::Host {
                    prop_assert_eq!(stage.groups[0].tasks.len(), 1, "a canary goes alone");
                    prop_assert!(stage.groups[0].alone);
                }
                if running && phase != Phase::Packages {
                    for group in &stage.groups {
                        let nodes = group.tasks.iter().filter_map(Task::node);
                        let serving = nodes.filter(|n| n.as_str().starts_with("cp")).count();
                        let alone = group.alone && group.tasks.len() == 1;
                        prop_assert!(serving == 0 || alone, "{group:?}");
                    }
                }
            }
        }
    }
}
