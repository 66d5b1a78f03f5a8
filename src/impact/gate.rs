//! What stands in the way of `hardening.stage: enforce`: a cluster that was not observed for long enough, and things that somebody
//! would notice and nobody has acknowledged. Pure: no clock, network or disk.

use std::collections::BTreeMap;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::hardened::{is_hardened, is_of_others};
use super::model::Impact;
use crate::facts::NodeFacts;
use crate::inventory::{Inventory, NodeName, Role, Stage};
use crate::plan::Answered;

/// What stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Obstacles {
    /// Nodes that were not observed for long enough, and rows of which nothing is known.
    pub unobserved: Vec<String>,
    /// Names of things that are not acknowledged.
    pub unacknowledged: Vec<String>,
}

impl Obstacles {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.unobserved.is_empty() && self.unacknowledged.is_empty()
    }
}

/// Whether anything is to be hardened of which somebody may notice: the stage is `enforce`, and a node of a cluster that runs is
/// not hardened yet.
pub fn is_due(inventory: &Inventory, nodes: &BTreeMap<NodeName, Answered>) -> bool {
    let mut facts = nodes.values().map(|n| &n.facts);
    inventory.hardening.stage == Some(Stage::Enforce)
        && facts.any(|f| is_of_others(f) && !is_hardened(f))
}

/// What stands in the way of hardening these nodes.
pub fn obstacles(
    inventory: &Inventory,
    nodes: &BTreeMap<NodeName, Answered>,
    impact: &Impact,
) -> Obstacles {
    let mut found = Obstacles::default();
    for node in &inventory.nodes {
        let Some(answered) = nodes.get(&node.name) else { continue };
        let facts = &answered.facts;
        if is_of_others(facts) && !is_hardened(facts) {
            let is_plane = node.has_role(Role::ControlPlane);
            found.unobserved.extend(too_short(inventory, facts, impact, is_plane));
        }
    }
    for listed in impact.listed.iter().filter(|l| l.row.needs_acknowledgement) {
        match &listed.found {
            Ok(items) => {
                let names = items.iter().filter(|i| !i.of_kubernetes).map(|i| i.id(listed.row));
                found.unacknowledged.extend(names.filter(|name| !is_acknowledged(inventory, name)));
            }
            // What the nodes have to record first is said of them.
            Err(_) if listed.row.is_recorded && !found.unobserved.is_empty() => {}
            Err(why) => found.unobserved.push(format!("{}: {why}", listed.row.id)),
        }
    }
    found
}

/// Whether the inventory says that something is accepted.
pub fn is_acknowledged(inventory: &Inventory, name: &str) -> bool {
    inventory.hardening.acknowledged.iter().any(|a| a.item == name)
}

/// Since when a node is observed is its own clock's to say. Where a row is known without its records, there are none to wait for.
fn too_short(
    inventory: &Inventory,
    facts: &NodeFacts,
    impact: &Impact,
    is_plane: bool,
) -> Vec<String> {
    let node = &facts.node;
    let wanted = i64::from(inventory.hardening.observe_minutes);
    let observation = facts.observation.as_ref();
    let mut short = Vec::new();
    let is_known = |row: &str| impact.listed.iter().any(|l| l.row.id == row && l.found.is_ok());
    let mut judge = |since: Option<i64>, row: &str, what: &str| match since {
        None if is_known(row) => {}
        None => short.push(format!("{node}: {what} not observed")),
        Some(since) => {
            let minutes = (facts.clock_epoch_s - since).max(0) / 60;
            if minutes < wanted {
                short.push(format!("{node}: {what} observed for {minutes} of {wanted} minutes"));
            }
        }
    };
    let flows = observation.and_then(|o| o.flows.as_ref());
    judge(flows.map(|f| f.since_epoch_s), "flows", "connections were");
    if is_plane {
        let since = observation.and_then(|o| o.requests.as_ref()).and_then(|r| {
            let since = OffsetDateTime::parse(&r.since, &Rfc3339).ok()?;
            Some(since.unix_timestamp())
        });
        judge(since, "anonymous-requests", "requests were");
    }
    short
}
