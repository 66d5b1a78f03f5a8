//! The plan that rolls back a run: its stages in reverse, and within a stage the serving nodes one after the other.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{NodePlan, Plan};
use super::stage::{Ended, Gate, Group, OnFailure, Peers, Stage, TakeBack, Task};
use super::why::HeldBack;
use crate::desired::Phase;
use crate::inventory::{Node, NodeName};
use crate::runs::history;
use crate::runs::record::{RunKind, RunRecord, TransactionRecord};

/// What a run did and can be taken back, by its stages.
pub type Work<'a> = BTreeMap<u32, Vec<(&'a Node, &'a TransactionRecord)>>;

/// What a run did on these nodes and can be taken back. What a reset took back, by the node's own word, is not there.
pub fn work<'a>(all: &[RunRecord], run: &'a RunRecord, nodes: &[&'a Node]) -> Work<'a> {
    let mut todo = Work::new();
    let is_gone = |t: &&TransactionRecord| {
        t.phase == Phase::Packages || history::taken_back_by_reset(all, t).is_some()
    };
    for t in run.transactions.iter().filter(|t| !is_gone(t)) {
        if let Some(node) = nodes.iter().find(|n| n.name == t.node) {
            todo.entry(t.stage).or_default().push((*node, t));
        }
    }
    todo
}

/// The plan. `all` are the runs on record, `serving` the nodes that others depend on now, `peers` whether all of these go
/// back, and `is_member` which are members of etcd.
pub fn plan(
    all: &[RunRecord],
    run: &RunRecord,
    nodes: &[&Node],
    serving: &BTreeSet<NodeName>,
    peers: Peers,
    is_member: &dyn Fn(&Node) -> bool,
) -> Plan {
    // A node that would refuse is asked first, not after its peers are gone.
    let on_top = on_top(all, run, serving);
    let work = work(all, run, nodes);
    let names = work.values().flatten().map(|(node, _)| node.name.clone());
    let plans = names.map(|name| (name, NodePlan::default())).collect();
    let task = |t: &TransactionRecord| {
        Task::TakeBack(TakeBack {
            node: t.node.clone(),
            transaction: t.id.clone(),
            phase: t.phase,
            ended: match &t.outcome {
                None => Ended::Unknown,
                Some(o) if history::may_be_in_place(o) => Ended::InPlace,
                Some(_) => Ended::WithoutChange,
            },
            peers,
            reset_by: history::reset_by(all, run, t).map(|by| by.run.clone()),
        })
    };
    let stages = work.into_values().rev().map(|work| {
        let phase = work[0].1.phase;
        let (one_by_one, others): (Vec<_>, Vec<_>) =
            work.into_iter().partition(|(node, _)| serving.contains(&node.name));
        let members: Vec<&TransactionRecord> =
            one_by_one.iter().filter(|(node, _)| is_member(node)).map(|(_, t)| *t).collect();
        let one = |(_, t): (&Node, &TransactionRecord)| Group {
            held_back: on_top.clone(),
            ..Group::alone(task(t))
        };
        let mut groups: Vec<Group> = one_by_one.into_iter().map(one).collect();
        if !others.is_empty() {
            groups.push(Group::together(others.into_iter().map(|(_, t)| task(t))));
        }
        // What the nodes of a cluster stand on, dedicated etcd members too, stays as long as one of them stays.
        let on_failure = match phase {
            Phase::Kubernetes => OnFailure::KeepServing,
            _ => OnFailure::StopAlone,
        };
        // A member that stays one is stopped only while all others are healthy. Where the run brought etcd, it goes with it.
        let stays = |t: &TransactionRecord| keeps_etcd(all, run, &t.node);
        let gates = match members.iter().any(|t| stays(t)) {
            true => vec![Gate::EtcdQuorum],
            false => Vec::new(),
        };
        Stage { name: phase.name().to_owned(), groups, gates, on_failure }
    });
    Plan::new(run.cluster.clone(), String::new(), plans, stages.collect())
}

/// Whether a node is a member of etcd without this run too: an earlier one made it one, or this one did nothing to its etcd.
fn keeps_etcd(all: &[RunRecord], run: &RunRecord, node: &NodeName) -> bool {
    let of_etcd = |r: &RunRecord| {
        // One that it took over from a static pod was a member before.
        let is_own =
            |t: &&TransactionRecord| t.node == *node && t.phase == Phase::Etcd && !t.from_pod;
        let mut own = r.transactions.iter().filter(is_own);
        own.any(|t| t.outcome.as_ref().is_none_or(history::may_be_in_place))
    };
    let mut before = all.iter().take_while(|r| r.run != run.run);
    !of_etcd(run)
        || before.any(|r| r.kind == RunKind::Apply && r.cluster == run.cluster && of_etcd(r))
}

/// Why none of the nodes that serve is begun: a later run stands on one of them. The node itself would refuse, after
/// its peers in etcd had gone, and nobody would have a quorum.
fn on_top(all: &[RunRecord], run: &RunRecord, serving: &BTreeSet<NodeName>) -> Option<HeldBack> {
    let from = all.iter().position(|r| r.run == run.run)? + 1;
    let later = all[from..].iter().filter(|r| r.kind == RunKind::Apply && r.cluster == run.cluster);
    let mut found = later.flat_map(|r| r.transactions.iter().map(move |t| (r, t)));
    let (r, t) = found.find(|(r, t)| {
        serving.contains(&t.node) && t.phase != Phase::Packages && history::is_final(all, r, t)
    })?;
    Some(HeldBack::LaterRun { run: r.run.clone(), node: t.node.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::testing;
    use crate::runs::outcome::Outcome;
    use crate::runs::record::testing::{done, run};

    /// Seen in a lab: two of three etcd members were gone when the third one refused.
    #[test]
    fn nobody_who_serves_is_begun_while_a_later_run_stands_on_one_of_them() {
        let mut all = vec![
            run("1", RunKind::Apply, "1-etcd", Outcome::Committed),
            run("2", RunKind::Apply, "2-etcd", Outcome::Committed),
        ];
        let serving: BTreeSet<NodeName> = ["n".parse().unwrap()].into();
        let why = on_top(&all, &all[0], &serving).unwrap().to_string();
        assert!(why.contains("run 2 of n builds on it: roll back that run first"), "{why}");
        assert_eq!(on_top(&all, &all[1], &serving), None);
        assert_eq!(
            on_top(&all, &all[0], &BTreeSet::new()),
            None,
            "one that nobody depends on judges for itself"
        );
        all.push(run("3", RunKind::Rollback, "2-etcd", Outcome::Committed));
        assert_eq!(on_top(&all, &all[0], &serving), None);
    }

    fn names(stage: &Stage) -> Vec<Vec<String>> {
        let of = |g: &Group| -> Vec<String> {
            g.tasks.iter().filter_map(Task::node).map(ToString::to_string).collect()
        };
        stage.groups.iter().map(of).collect()
    }

    #[test]
    fn stages_go_back_in_reverse_and_what_serves_one_at_a_time() {
        let inventory = testing::two_and_two();
        let nodes: Vec<&Node> = inventory.nodes.iter().collect();
        let of = |phase: Phase, stage: u32, names: &[&str]| -> Vec<TransactionRecord> {
            let one = |name: &&str| TransactionRecord {
                stage,
                ..done(name, phase, &format!("1-{stage}"), Some(Outcome::Committed))
            };
            names.iter().map(one).collect()
        };
        let all = ["cp1", "cp2", "w1", "w2"];
        // Not in the order of the phases: an upgrade goes node by node.
        let record = RunRecord {
            transactions: [
                of(Phase::Packages, 1, &all),
                of(Phase::Kubernetes, 2, &["cp1"]),
                of(Phase::Host, 3, &all),
                of(Phase::Kubernetes, 4, &["w1"]),
            ]
            .concat(),
            ..run("1", RunKind::Apply, "", Outcome::Committed)
        };
        let serving = ["cp1", "cp2"].map(|n| n.parse().unwrap()).into();
        let all_runs = std::slice::from_ref(&record);
        let plan = plan(all_runs, &record, &nodes, &serving, Peers::Together, &|_| true);
        let stages: Vec<(&str, Vec<Vec<String>>)> =
            plan.stages.iter().map(|s| (s.name.as_str(), names(s))).collect();
        let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            stages,
            [
                ("kubernetes", vec![own(&["w1"])]),
                ("host", vec![own(&["cp1"]), own(&["cp2"]), own(&["w1", "w2"])]),
                ("kubernetes", vec![own(&["cp1"])]),
            ]
        );
        let policies: Vec<OnFailure> = plan.stages.iter().map(|s| s.on_failure).collect();
        let (keep, alone) = (OnFailure::KeepServing, OnFailure::StopAlone);
        assert_eq!(policies, [keep, alone, keep]);
    }

    /// Seen in a lab: one of three members was down already, and a rollback stopped the second.
    #[test]
    fn a_member_that_stays_one_is_stopped_only_while_the_others_are_healthy() {
        let inventory = testing::two_and_two();
        let nodes: Vec<&Node> = inventory.nodes.iter().collect();
        let etcd = |id: &str| RunRecord {
            transactions: vec![done("cp1", Phase::Etcd, id, Some(Outcome::Committed))],
            ..run(id, RunKind::Apply, "", Outcome::Committed)
        };
        let serving: BTreeSet<NodeName> = ["cp1", "cp2"].map(|n| n.parse().unwrap()).into();
        let gates = |all: &[RunRecord], of: usize, is_member: bool| {
            let plan = plan(all, &all[of], &nodes, &serving, Peers::Together, &|_| is_member);
            plan.stages[0].gates.clone()
        };
        let all = [etcd("1"), etcd("2")];
        assert_eq!(gates(&all, 1, true), [Gate::EtcdQuorum]);
        assert_eq!(gates(&all, 1, false), [], "no member");
        assert_eq!(gates(&all, 0, true), [], "etcd goes with the run that brought it");
        let host = RunRecord {
            transactions: vec![done("cp1", Phase::Host, "3", Some(Outcome::Committed))],
            ..run("3", RunKind::Apply, "", Outcome::Committed)
        };
        assert_eq!(gates(&[etcd("1"), host], 1, true), [Gate::EtcdQuorum]);
    }
}
