//! The plan that accepts nodes whose rollback is incomplete: nothing is undone, and the next plan starts from there.

use std::collections::BTreeMap;

use super::model::{NodePlan, Plan};
use super::stage::{Group, OnFailure, Stage, Task};
use crate::runs::record::{RunRecord, TransactionRecord};

/// The plan for transactions of a run that their nodes could not undo, the last stage of the run first, as a rollback goes.
pub fn plan<'t>(run: &RunRecord, open: impl IntoIterator<Item = &'t TransactionRecord>) -> Plan {
    let mut by_stage: BTreeMap<u32, Vec<Task>> = BTreeMap::new();
    let mut nodes = BTreeMap::new();
    for t in open {
        nodes.insert(t.node.clone(), NodePlan::default());
        by_stage.entry(t.stage).or_default().push(Task::Accept {
            node: t.node.clone(),
            transaction: t.id.clone(),
            phase: t.phase,
            run: run.run.clone(),
        });
    }
    let groups: Vec<Group> = by_stage.into_values().rev().map(Group::together).collect();
    let stage = |groups| Stage {
        name: "accept".into(),
        groups,
        gates: Vec::new(),
        on_failure: OnFailure::GoOn,
    };
    let stages = if groups.is_empty() { Vec::new() } else { vec![stage(groups)] };
    Plan::new(run.cluster.clone(), String::new(), nodes, stages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Phase;
    use crate::runs::outcome::Outcome;
    use crate::runs::record::RunKind;
    use crate::runs::record::testing::{done, run};

    #[test]
    fn the_last_stage_of_the_run_comes_first_and_nothing_is_no_plan() {
        let record = run("7-a", RunKind::Apply, "", Outcome::Committed);
        assert!(plan(&record, []).is_empty());
        let open = [
            done("n", Phase::Host, "7-a-1-host", None),
            done("m", Phase::Host, "7-a-1-host", None),
            done("n", Phase::Etcd, "7-a-2-etcd", None),
        ];
        let plan = plan(&record, &open);
        let [stage] = &plan.stages[..] else { panic!("{plan:?}") };
        let names: Vec<Vec<(&str, &str)>> = stage
            .groups
            .iter()
            .map(|g| {
                let of = |t: &'_ Task| match t {
                    Task::Accept { run, .. } if run != "7-a" => panic!("{run}"),
                    Task::Accept { .. } => {}
                    other => panic!("{other:?}"),
                };
                g.tasks.iter().for_each(of);
                let name = |t: &'_ Task| match t {
                    Task::Accept { transaction, .. } if transaction.ends_with("etcd") => "etcd",
                    _ => "host",
                };
                g.tasks.iter().map(|t| (t.node().unwrap().as_str(), name(t))).collect()
            })
            .collect();
        assert_eq!(names, [vec![("n", "etcd")], vec![("n", "host"), ("m", "host")]]);
        assert_eq!(plan.nodes.len(), 2);
        assert_eq!(plan.cluster, "c");
    }
}
