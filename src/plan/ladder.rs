//! How a cluster is brought to its desired state: rung by rung, each a plan of its own.
//!
//! ```text
//! packages   what they bring along (users, units, default files) is seen only once they are there
//! nodes      the host, etcd and Kubernetes, stage by stage with their gates; it may start the cluster
//! objects    what the cluster's API holds, which is read only once the nodes are done
//! ```
//!
//! Every rung is planned from facts alone, so an interrupted run continues from the cluster's present state. A rung
//! is not repeated in the same run: what is left of it is for the next run.

use super::model::Plan;
use super::planner::Planned;
use super::stage::{Stage, Task};
use crate::desired::Phase;

/// A rung, in execution order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// Sources of packages, and packages.
    Packages,
    /// Everything else on nodes.
    Nodes,
    /// Objects of the cluster's API.
    Objects,
}

/// What must hold before the next rung can be planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The nodes are looked at again.
    Look,
    /// The control planes are looked at, and their API servers answer.
    AskApi,
    /// DNS and kube-proxy run, if nodes became part of the cluster or they were restarted, and what a bundle's manifests bring.
    Ready,
}

impl Rung {
    /// All of them.
    pub const ALL: &[Rung] = &[Rung::Packages, Rung::Nodes, Rung::Objects];

    /// What to wait for after it.
    pub fn then(self) -> Then {
        match self {
            Rung::Packages => Then::Look,
            Rung::Nodes => Then::AskApi,
            Rung::Objects => Then::Ready,
        }
    }

    /// Whether a stage is part of it. A stage that is about nobody's transaction goes with the nodes.
    fn has(self, stage: &Stage, plan: &Plan) -> bool {
        let phase = stage.tasks().find_map(|t| Some(plan.transaction(t)?.phase));
        let is_object = stage.tasks().any(|t| matches!(t, Task::Object(_)));
        let rung = match phase {
            Some(phase) if phase <= Phase::Packages => Rung::Packages,
            _ if is_object => Rung::Objects,
            _ => Rung::Nodes,
        };
        rung == self
    }
}

/// The first rung above `after` that a plan has something for, and the part of the plan that it is. `None` at the top.
pub fn next(planned: &Planned, after: Option<Rung>) -> Option<(Rung, Plan)> {
    let plan = &planned.plan;
    let above = Rung::ALL.iter().copied().filter(|rung| after.is_none_or(|below| *rung > below));
    above.into_iter().find_map(|rung| {
        let part = plan.part(|stage| rung.has(stage, plan));
        (!part.stages.is_empty()).then_some((rung, part))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::desired::DesiredState;
    use crate::inventory::{Role, testing};
    use crate::plan::api_change::ApiChange;
    use crate::plan::order::{EtcdState, stages};
    use crate::plan::{Action, NodePlan, Step, Transaction};

    /// A plan with these phases on every node, and with objects.
    fn planned(phases: &[Phase], objects: usize) -> Planned {
        let inventory = testing::of_nodes([("a", Role::ControlPlane), ("w", Role::Worker)]);
        let transaction = |phase: &Phase| Transaction {
            phase: *phase,
            confirm_within_s: None,
            steps: vec![Action {
                step: Step::SwapOff,
                controls: Default::default(),
                why: Vec::new(),
            }],
            expect: BTreeMap::new(),
        };
        let transactions: Vec<Transaction> = phases.iter().map(transaction).collect();
        let node = NodePlan { transactions, ..NodePlan::default() };
        let nodes: BTreeMap<_, _> =
            inventory.nodes.iter().map(|n| (n.name.clone(), node.clone())).collect();
        let stages = stages(&inventory, &nodes, EtcdState::Running, &[]);
        let objects = (0..objects).map(|n| ApiChange::DeleteToken { name: n.to_string() });
        let plan = Plan::new("c".into(), String::new(), nodes, stages).with_api(objects.collect());
        let desired = DesiredState { nodes: BTreeMap::new() };
        Planned { plan, desired, failed: BTreeMap::new() }
    }

    #[test]
    fn every_stage_is_on_one_rung_and_no_rung_is_climbed_twice() {
        let planned = planned(Phase::ALL, 2);
        let mut after = None;
        let mut climbed = Vec::new();
        while let Some((rung, part)) = next(&planned, after) {
            assert!(after.is_none_or(|below| below < rung));
            climbed.extend(part.stages.clone());
            // A part is a plan of its own: its tasks name the transactions that it has.
            for task in part.tasks() {
                assert!(matches!(task, Task::Object(_)) || part.transaction(task).is_some());
            }
            after = Some(rung);
        }
        let names = |stages: &[Stage]| stages.iter().map(|s| s.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&climbed), names(&planned.plan.stages));
    }

    #[test]
    fn a_run_that_was_cut_off_goes_on_where_the_facts_are() {
        let rung =
            |phases: &[Phase], objects| next(&planned(phases, objects), None).map(|(r, _)| r);
        assert_eq!(rung(&[Phase::Packages, Phase::Host], 1), Some(Rung::Packages));
        assert_eq!(rung(&[Phase::Host], 1), Some(Rung::Nodes));
        assert_eq!(rung(&[], 1), Some(Rung::Objects));
        assert_eq!(rung(&[], 0), None);
    }
}
