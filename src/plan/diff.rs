//! Facts against desired items: what has to be done on one node, in which order.
//!
//! `add` has one arm for each [`ItemKind`] (`items`); the order of a transaction's steps is that of `Pending::finish`
//! (`pending`).

mod items;
mod known;
mod logins;
mod marks;
mod pending;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::items::{add, config_digest};
use self::known::Known;
use self::logins::of_logins;
use self::pending::Pending;
use super::model::NodePlan;
use super::step::{Action, Step};
use super::why::Why;
use crate::controls::IdList;
use crate::desired::{ItemKind, NodeDesired, Phase};
use crate::facts::NodeFacts;

pub use self::items::Obstacle;
pub use self::marks::{CLUSTER_MARK, CONFIRM_ETCD_S, CONFIRM_HOST_S, GUARD_UNIT, KUBELET_CONFIG};
pub use crate::desired::watch_list;

/// Plans one node.
///
/// # Errors
/// Everything that stands in the way, not only the first.
pub fn node_plan(
    desired: &NodeDesired,
    facts: &NodeFacts,
    host_key: &str,
) -> Result<NodePlan, Vec<Obstacle>> {
    let mut problems = Vec::new();
    let mut phases: BTreeMap<Phase, Pending> = BTreeMap::new();
    let known = Known::of(desired, facts);
    for item in &desired.items {
        let pending = phases.entry(item.phase).or_default();
        if let Err(problem) = add(pending, item, &known) {
            problems.push(problem);
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    for item in &desired.items {
        let (unit, watches) = match &item.kind {
            ItemKind::Kubeadm { watches, .. } => (CLUSTER_MARK, watches),
            ItemKind::Unit { name, watches, .. } => (name.as_str(), watches),
            _ => continue,
        };
        // Without its mark, nothing else is needed to have it started again.
        if facts.unit_marks.get(unit) != Some(&config_digest(watches, &known.contents)) {
            continue;
        }
        for phase in known.fixed_before(item.phase, watches) {
            let step = Step::MarkStale { unit: unit.to_owned() };
            let action = Action { step, controls: IdList::default(), why: vec![Why::RunsChanged] };
            phases.entry(phase).or_default().stale.push(action);
        }
    }
    let mut notes = desired.notes.clone();
    if phases.values().any(|p| p.logins.is_some()) {
        notes.extend(of_logins(facts));
    }
    Ok(NodePlan {
        host_key: host_key.to_owned(),
        transactions: phases.into_iter().filter_map(|(phase, p)| p.finish(phase)).collect(),
        notes,
        held_back: Vec::new(),
    })
}
