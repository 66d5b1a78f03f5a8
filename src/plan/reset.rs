//! The plan that removes nodes from their cluster and restores their state before the first run.

use std::collections::BTreeMap;

use super::drain::{self, Drain};
use super::model::{NodePlan, Plan};
use super::stage::{EtcdChange, EtcdData, Gate, Group, OnFailure, Stage, TakenFor, Task};
use super::why::HeldBack;
use crate::desired;
use crate::facts::etcd::Listed;
use crate::inventory::{Inventory, Node, NodeName};

/// What is reset, and how.
#[derive(Debug, Clone, Copy)]
pub struct Leaving<'a> {
    /// The inventory.
    pub inventory: &'a Inventory,
    /// The nodes.
    pub nodes: &'a [&'a Node],
    /// Nodes that are not reset, and why.
    pub kept: &'a BTreeMap<NodeName, String>,
    /// How pods leave their nodes; none where no cluster goes on.
    pub drain: Option<Drain>,
    /// etcd's members, where some of them stay.
    pub members: &'a [Listed],
    /// What happens to etcd's data.
    pub data: EtcdData,
}

/// The plan: pods leave before etcd's members, members before their nodes, and the cluster is told last. A node that could
/// not leave well stays as it is.
pub fn plan(leaving: &Leaving<'_>) -> Plan {
    let Leaving { inventory, nodes, kept, drain, members, data } = *leaving;
    let stage = |name: &str, gates: Vec<Gate>, groups: Vec<Group>| Stage {
        name: name.to_owned(),
        groups,
        gates,
        on_failure: OnFailure::GoOn,
    };
    let goes: Vec<&Node> = nodes.iter().copied().filter(|n| !kept.contains_key(&n.name)).collect();
    let (workers, serving): (Vec<&Node>, Vec<&Node>) =
        goes.iter().copied().partition(|n| !inventory.serves(n));
    let mut stages = Vec::new();
    if let Some(how) = drain.filter(|_| !goes.is_empty()) {
        stages.extend(drain::stages(workers.iter().chain(&serving).copied(), how));
    }
    let removals: Vec<Group> = serving
        .iter()
        .filter_map(|node| {
            let url = desired::peer_url(node.internal_ip());
            let listed = members.iter().find(|m| m.peer_urls.contains(&url))?;
            Some(Group::alone(Task::Etcd(EtcdChange::Remove {
                node: Some(node.name.clone()),
                name: listed.name.clone(),
                id: listed.hex(),
                peer_urls: listed.peer_urls.clone(),
                why: "its node is reset".into(),
            })))
        })
        .collect();
    if !removals.is_empty() {
        stages.push(stage("etcd members", vec![Gate::EtcdQuorum], removals));
    }
    let reset = |node: &Node| Task::Reset {
        node: node.name.clone(),
        data,
        taken_for: TakenFor::of(inventory, node),
    };
    let mut groups = vec![Group::together(goes.iter().map(|n| reset(n)))];
    groups.retain(|g| !g.tasks.is_empty());
    groups.extend(nodes.iter().filter_map(|node| {
        let held_back = Some(HeldBack::Stays { why: kept.get(&node.name)?.clone() });
        Some(Group { held_back, ..Group::together([reset(node)]) })
    }));
    stages.push(stage("reset", Vec::new(), groups));
    if drain.is_some() && !goes.is_empty() {
        let forget = goes.iter().map(|n| Task::Forget { node: n.name.clone() });
        stages.push(stage("forget", Vec::new(), vec![Group::together(forget)]));
    }
    let plans = nodes.iter().map(|n| {
        let stays = kept.get(&n.name).map(|why| HeldBack::Stays { why: why.clone() });
        let held_back = stays.into_iter().collect();
        (n.name.clone(), NodePlan { held_back, ..NodePlan::default() })
    });
    Plan::new(inventory.cluster.name.to_string(), String::new(), plans.collect(), stages)
}
