//! The plan that settles what earlier runs left open: it is rolled back before anything else is planned.

use std::collections::BTreeMap;

use super::model::{NodePlan, Plan};
use super::stage::{Group, OnFailure, Stage, Task};
use crate::desired::Phase;
use crate::facts::NodeFacts;
use crate::inventory::NodeName;

/// The plan for the nodes as observed. Transactions that need manual repair are not touched.
pub fn plan<'f>(
    cluster: &str,
    nodes: impl IntoIterator<Item = (&'f NodeName, &'f NodeFacts)>,
) -> Plan {
    let mut plans = BTreeMap::new();
    let mut tasks = Vec::new();
    for (name, facts) in nodes {
        let open: Vec<Task> = facts
            .open_transactions
            .iter()
            .filter(|t| !t.is_incomplete())
            .map(|t| Task::Settle {
                node: name.clone(),
                transaction: t.id.clone(),
                phase: Phase::of_transaction(&t.id),
                left: t.state.clone(),
            })
            .collect();
        if !open.is_empty() {
            plans.insert(name.clone(), NodePlan::default());
            tasks.extend(open);
        }
    }
    let groups = if tasks.is_empty() { Vec::new() } else { vec![Group::together(tasks)] };
    let stage = |groups| Stage {
        name: "left open".into(),
        groups,
        gates: Vec::new(),
        on_failure: OnFailure::GoOn,
    };
    let stages = if groups.is_empty() { Vec::new() } else { vec![stage(groups)] };
    Plan::new(cluster.to_owned(), String::new(), plans, stages)
}
