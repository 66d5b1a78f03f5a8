//! `kubastion runs` and `kubastion rollback`: what was done, and the way back.

use std::collections::{BTreeMap, BTreeSet};

use super::apply::{ask, finish, record_stop};
use super::args::{Format, Global};
use super::exit::Exit;
use super::output::{pretty, print};
use super::pipeline::{self, Reach};
use super::reset::left_out;
use super::run::Stop;
use crate::apply::gate::chain;
use crate::apply::protocol::{self, Answer, TxnState, Verb};
use crate::apply::record::{
    Journal, Line, Outcome, Outcomes, RecordError, Records, RunRecord, TransactionRecord, read_all,
};
use crate::clock::Clock;
use crate::desired::Phase;
use crate::error::Problem;
use crate::facts::NodeFacts;
use crate::inventory::{Inventory, Node, NodeName, Role};
use crate::report::runs;
use crate::transport::{Dialer, Transport, fleet};

/// Arguments of `rollback`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Rollback {
    /// Run id, as `kubastion runs` shows it; the last apply if absent.
    pub run: Option<String>,
    /// Which nodes, and how they are reached.
    #[command(flatten)]
    pub reach: Reach,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
}

const HELP: &str =
    "Brings files, owners, modes, units, kernel settings and our firewall table back to the images
that were taken before the run. Packages stay installed, and etcd's data is never touched.
A run that others were made on top of is refused: undo the later ones first. So is one that made
a node part of a cluster: `kubastion reset` takes it out.

Examples:
  kubastion runs
  kubastion rollback
  kubastion rollback 20261121t101500z-1a2b3c --nodes w1";

/// Runs `kubastion runs`.
///
/// # Errors
/// If the inventory cannot be read; after the list, for every record that cannot.
pub fn list(global: &Global) -> Result<Exit, Stop> {
    let loaded = super::inventory::load(global)?;
    let records = read_all(&loaded.base_dir).map_err(record_stop)?;
    match global.format {
        Format::Json => print(&pretty(&records.runs)),
        Format::Text => print(&runs::list(&records.runs)),
    }?;
    match damaged(&records) {
        problems if problems.is_empty() => Ok(Exit::Done),
        problems => Err(Stop { exit: Exit::InvalidInput, problems }),
    }
}

fn damaged(records: &Records) -> Vec<Problem> {
    let problem = |e: &RecordError| {
        Problem::from_error("a record of a run is damaged", e).hint(
            "move it away; what the run did stands on its nodes, and `kubastion plan` sees it",
        )
    };
    records.damaged.iter().map(problem).collect()
}

/// Runs `kubastion rollback`.
///
/// # Errors
/// If there is no such run, or a node cannot be asked.
pub fn rollback(global: &Global, args: &Rollback) -> Result<Exit, Stop> {
    let loaded = super::inventory::load(global)?;
    let inventory = &loaded.inventory;
    let records = read_all(&loaded.base_dir).map_err(record_stop)?;
    // The last run may be the one that cannot be read.
    if args.run.is_none() && !records.damaged.is_empty() {
        let mut problems = damaged(&records);
        let what = Problem::new("which run was the last one cannot be told");
        problems.push(what.left("nothing was changed").hint("name the run: `kubastion runs`"));
        return Err(Stop { exit: Exit::InvalidInput, problems });
    }
    let run = choose(&records.runs, args.run.as_deref())?;
    let nodes = pipeline::chosen(inventory, &args.reach)?;
    // Latest first: a phase builds on the ones before it.
    let mut todo: BTreeMap<Phase, Vec<(&Node, &TransactionRecord)>> = BTreeMap::new();
    for t in run.transactions.iter().filter(|t| t.phase != Phase::Packages) {
        if let Some(node) = nodes.iter().find(|n| n.name == t.node) {
            todo.entry(t.phase).or_default().push((node, t));
        }
    }
    eprintln!(
        "rolling run {} back on {} nodes",
        run.run,
        todo.values().flatten().map(|(n, _)| &n.name).collect::<BTreeSet<_>>().len()
    );
    if !args.yes {
        ask("say --yes")?;
    }
    let dialer = pipeline::dialer(inventory, &nodes, &args.reach)?;
    let journal = Journal::begin(
        &loaded.base_dir,
        "rollback",
        run.plan.as_deref(),
        &run.cluster,
        Clock::System,
    )
    .map_err(record_stop)?;
    let serving = serving(inventory, &nodes, &dialer);
    let how = if left_out(inventory, &nodes).is_empty() { "together" } else { "alone" };
    let mut outcomes = Outcomes::new();
    // What the nodes of a cluster stand on, dedicated etcd members too, stays as long as one of them stays.
    let mut cluster_stays = false;
    for (phase, work) in todo.into_iter().rev() {
        let mut stopped = cluster_stays.then(|| "a node is still part of the cluster".to_owned());
        for group in groups(work, &serving) {
            let serial = serving.contains(&group[0].0.name);
            let (run, skip): (Vec<_>, Vec<_>) = group.into_iter().partition(|(node, _)| {
                let good = |p: &BTreeMap<Phase, Outcome>| p.values().all(Outcome::is_good);
                outcomes.get(&node.name).is_none_or(good) && !(serial && stopped.is_some())
            });
            for (node, _) in skip {
                let why = stopped.clone().unwrap_or_else(|| "a later phase is still there".into());
                let outcome = Outcome::Skipped { why };
                record(&journal, &mut outcomes, node.name.clone(), phase, outcome)?;
            }
            for (node, t) in &run {
                let line = Line::Transaction { node: node.name.clone(), phase, id: t.id.clone() };
                journal.write(&line).map_err(record_stop)?;
            }
            let results = fleet::each(run, fleet::WINDOW, |(node, t)| {
                let outcome = match dialer.connect(&inventory.ssh.for_node(node)) {
                    Ok(mut session) => undo(session.as_mut(), t, how),
                    Err(e) => Outcome::Unreachable { why: chain(&e) },
                };
                (node.name.clone(), outcome)
            });
            for (name, outcome) in results {
                if serial && !outcome.is_good() {
                    stopped.get_or_insert(format!("the rollback failed on {name}"));
                }
                cluster_stays |= phase == Phase::Kubernetes && !outcome.is_good();
                record(&journal, &mut outcomes, name, phase, outcome)?;
            }
        }
    }
    finish(global, &journal, &outcomes, Vec::new())
}

fn record(
    journal: &Journal,
    outcomes: &mut Outcomes,
    node: NodeName,
    phase: Phase,
    outcome: Outcome,
) -> Result<(), Stop> {
    journal
        .write(&Line::Result { node: node.clone(), phase, outcome: outcome.clone() })
        .map_err(record_stop)?;
    outcomes.entry(node).or_default().insert(phase, outcome);
    Ok(())
}

/// The chosen nodes whose etcd or API server others depend on now. etcd.service is `active` only
/// once it has a quorum, and restarting it waits for that: one after another, they keep it.
fn serving(inventory: &Inventory, nodes: &[&Node], dialer: &dyn Dialer) -> BTreeSet<NodeName> {
    let candidates: Vec<&Node> = nodes
        .iter()
        .copied()
        .filter(|n| n.has_role(Role::ControlPlane) || n.has_role(Role::Etcd))
        .collect();
    let fleet = pipeline::look(inventory, &candidates, dialer);
    let serves = |facts: &NodeFacts| {
        facts.units.get("etcd.service").is_some_and(|u| u.active == "active")
            || facts.processes.contains_key("kube-apiserver")
    };
    if fleet.seen.values().any(|s| serves(&s.facts)) {
        candidates.iter().map(|n| n.name.clone()).collect()
    } else {
        BTreeSet::new()
    }
}

/// Nodes that serve one at a time, then all others together.
fn groups<'n, T>(
    work: Vec<(&'n Node, T)>,
    serving: &BTreeSet<NodeName>,
) -> Vec<Vec<(&'n Node, T)>> {
    let (one_by_one, others): (Vec<_>, Vec<_>) =
        work.into_iter().partition(|(node, _)| serving.contains(&node.name));
    let mut groups: Vec<Vec<_>> = one_by_one.into_iter().map(|w| vec![w]).collect();
    if !others.is_empty() {
        groups.push(others);
    }
    groups
}

/// `how` tells the node whether all that others count on go back together.
fn undo(session: &mut dyn Transport, t: &TransactionRecord, how: &str) -> Outcome {
    match protocol::call(session, &t.id, Verb::Undo, how, &mut |_| {}) {
        Ok(a) => undone(a, t.outcome.as_ref()),
        Err(e) => Outcome::Incomplete { why: chain(&e) },
    }
}

/// What a node's answer to an undo means, if the transaction had ended so.
fn undone(a: Answer, ended: Option<&Outcome>) -> Outcome {
    // "Committed" is what a rollback that worked is called here.
    match (a.state, a.refused, ended) {
        (Some(TxnState::Reverted), ..) => Outcome::Committed,
        // Nothing was begun.
        (Some(TxnState::Absent), _, Some(o)) if !has_images(o) => Outcome::Committed,
        (Some(TxnState::Absent), ..) => Outcome::Refused {
            why: "the node has no images of that run any more (it keeps those of the last ones)"
                .into(),
        },
        (_, Some(why), _) => Outcome::Refused { why },
        (Some(TxnState::Incomplete), ..) => Outcome::Incomplete { why: a.said.join("; ") },
        _ if a.busy => Outcome::Refused { why: "another run is at work on the node".into() },
        _ => Outcome::Incomplete { why: a.rest },
    }
}

fn has_images(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Committed | Outcome::Incomplete { .. })
}

fn choose<'r>(all: &'r [RunRecord], wanted: Option<&str>) -> Result<&'r RunRecord, Stop> {
    let found = match wanted {
        Some(id) => all.iter().find(|r| r.run == id),
        None => {
            // What an earlier rollback took back is not there to be rolled back again.
            let undone: BTreeSet<&str> = all
                .iter()
                .filter(|r| r.kind == "rollback")
                .flat_map(|r| &r.transactions)
                .filter(|t| t.outcome.as_ref().is_some_and(Outcome::is_good))
                .map(|t| t.id.as_str())
                .collect();
            all.iter().rev().find(|r| {
                r.kind == "apply"
                    && r.transactions.iter().any(|t| {
                        let stands = t.outcome.as_ref().is_none_or(Outcome::is_good);
                        t.phase != Phase::Packages && stands && !undone.contains(t.id.as_str())
                    })
            })
        }
    };
    found.ok_or_else(|| {
        let what = wanted.map_or_else(
            || "there is no apply to roll back".to_owned(),
            |id| format!("there is no run `{id}`"),
        );
        Stop::one(Exit::InvalidInput, Problem::new(what).hint("`kubastion runs` lists them"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::record::TransactionRecord;
    use crate::inventory::testing;

    #[test]
    fn a_second_rollback_goes_one_run_further_back() {
        let run = |run: &str, kind: &str, id: &str, outcome: Outcome| RunRecord {
            run: run.into(),
            began: String::new(),
            ended: None,
            kind: kind.into(),
            exit: None,
            plan: None,
            cluster: "c".into(),
            transactions: vec![TransactionRecord {
                node: "n".parse().unwrap(),
                phase: Phase::Host,
                id: id.into(),
                outcome: Some(outcome),
            }],
        };
        let reverted = Outcome::Reverted { why: String::new() };
        let mut all = vec![
            run("1", "apply", "1-host", Outcome::Committed),
            run("2", "apply", "2-host", Outcome::Committed),
            run("3", "apply", "3-host", reverted),
        ];
        assert_eq!(choose(&all, None).unwrap().run, "2");
        all.push(run("4", "rollback", "2-host", Outcome::Committed));
        assert_eq!(choose(&all, None).unwrap().run, "1");
        all.push(run("5", "rollback", "1-host", Outcome::Committed));
        assert!(choose(&all, None).is_err());
        assert_eq!(choose(&all, Some("2")).unwrap().run, "2");
    }

    #[test]
    fn a_rollback_without_images_is_not_called_done() {
        let absent = || Answer { state: Some(TxnState::Absent), ..Answer::default() };
        assert!(matches!(undone(absent(), Some(&Outcome::Committed)), Outcome::Refused { .. }));
        assert!(matches!(undone(absent(), None), Outcome::Refused { .. }));
        let unreachable = Outcome::Unreachable { why: String::new() };
        assert_eq!(undone(absent(), Some(&unreachable)), Outcome::Committed);
        let reverted = Answer { state: Some(TxnState::Reverted), ..Answer::default() };
        assert_eq!(undone(reverted, Some(&Outcome::Committed)), Outcome::Committed);
    }

    #[test]
    fn a_rollback_takes_etcd_members_one_at_a_time() {
        let inventory = testing::two_and_two();
        let work = || inventory.nodes.iter().map(|n| (n, ())).collect();
        let serving = ["cp1", "cp2"].map(|n| n.parse().unwrap()).into();
        let sizes: Vec<usize> = groups(work(), &serving).iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 1, 2]);
        assert_eq!(groups(work(), &BTreeSet::new()).len(), 1);
    }
}
