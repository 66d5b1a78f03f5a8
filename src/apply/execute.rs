//! The executor: the only code that changes nodes and clusters. It takes a plan and no options, carries it out stage by
//! stage, records what it does before it does it, and reports how each part ended.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use super::accept;
use super::execution::{Execution, Sessions};
use super::leave::{self, Departure};
use super::protocol::TxnState;
use super::reset;
use super::rewrite;
use super::transactions::{self, Work};
use super::{members, objects, transaction, undo};
use crate::desired::{KubeadmAction, Phase};
use crate::error::Problem;
use crate::event::Event;
use crate::inventory::{Node, NodeName, Role};
use crate::plan::{EtcdChange, Gate, Group, OnFailure, Stage, Step, TakeBack, Task};
use crate::runs::outcome::{Outcome, Outcomes, Reset};
use crate::runs::record::{Line, RecordError, RunKind};
use crate::transport::fleet;

/// What a plan came to.
#[derive(Debug, Default)]
pub struct Report {
    /// How transactions ended.
    pub outcomes: Outcomes,
    /// What came of nodes that were to be reset.
    pub resets: BTreeMap<NodeName, Reset>,
    /// What else went wrong.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Adds what the next plan of the same run came to.
    pub fn extend(&mut self, next: Report) {
        for (node, outcomes) in next.outcomes {
            self.outcomes.entry(node).or_default().extend(outcomes);
        }
        self.resets.extend(next.resets);
        self.problems.extend(next.problems);
    }
}

/// Carries a plan out.
///
/// A failing node is undone and left alone; the others go on, except where the stage says that something has to be protected
/// ([`OnFailure`]).
///
/// # Errors
/// If the run's record cannot be written. What was begun then goes back by itself or is named in
/// the record.
pub fn execute(c: &Execution<'_>, sessions: Sessions) -> Result<Report, RecordError> {
    if !c.plan.stages.is_empty() {
        c.journal.write(&Line::Plan { plan: json(c.plan) })?;
    }
    let mut run = Run {
        c,
        sessions: Mutex::new(sessions),
        departure: Departure::default(),
        report: Report::default(),
        out: BTreeMap::new(),
        stops: Stops::default(),
    };
    for stage in &c.plan.stages {
        run.stage(stage)?;
    }
    Ok(run.report)
}

/// Why something is not begun.
#[derive(Debug, Clone, Default)]
struct Stops {
    /// Whether something of the stage has ended well, so that the change is known to work.
    proven: bool,
    /// Anything.
    all: Option<String>,
    /// Groups that go alone.
    alone: Option<String>,
}

impl Stops {
    fn of<'s>(&'s self, group: &Group) -> Option<&'s String> {
        self.all.as_ref().or(self.alone.as_ref().filter(|_| group.alone))
    }
}

/// How one task ended.
enum Done {
    /// As a transaction does; what is not one is `Committed` or `Refused`.
    Outcome(Outcome),
    Reset(Reset),
}

impl Done {
    fn of(result: Result<(), String>) -> Self {
        Self::Outcome(match result {
            Ok(()) => Outcome::Committed,
            Err(why) => Outcome::Refused { why },
        })
    }

    fn outcome(&self) -> &Outcome {
        match self {
            Self::Outcome(outcome) => outcome,
            Self::Reset(reset) => &reset.outcome,
        }
    }

    /// Why it failed, if it did.
    fn problem(&self) -> Option<String> {
        match self.outcome() {
            Outcome::Committed => None,
            Outcome::Reverted { why }
            | Outcome::Refused { why }
            | Outcome::Unreachable { why }
            | Outcome::Skipped { why }
            | Outcome::Unready { why }
            | Outcome::Incomplete { why } => Some(why.clone()),
        }
    }
}

/// A plan that is carried out.
struct Run<'a> {
    c: &'a Execution<'a>,
    sessions: Mutex<Sessions>,
    departure: Departure,
    report: Report,
    /// Nodes whose work has failed, and what is said of the rest of it.
    out: BTreeMap<NodeName, String>,
    /// What holds for all stages to come.
    stops: Stops,
}

impl<'a> Run<'a> {
    fn stage(&mut self, stage: &'a Stage) -> Result<(), RecordError> {
        let number = self.c.journal.next_stage();
        let mut stops = Stops::default();
        for (at, group) in stage.groups.iter().enumerate() {
            if stops.all.is_none() {
                stops.all = self.out_of_date(group);
            }
            let held_back = group.held_back.as_ref().map(ToString::to_string);
            let stopped = held_back.or_else(|| self.stops.of(group).or(stops.of(group)).cloned());
            let (run, skip): (Vec<&Task>, Vec<&Task>) = group.tasks.iter().partition(|task| {
                stopped.is_none() && task.node().is_none_or(|n| !self.out.contains_key(n))
            });
            for task in skip {
                self.skip(task, stopped.as_ref())?;
            }
            for (task, done) in self.group(stage, number, run)? {
                self.ended(task, &done)?;
                if is_wanted(task, done.outcome()) {
                    stops.proven = true;
                    continue;
                }
                let why = why_left(stage, task, &done);
                self.stop(stage, (at, group), task, &done, &why, &mut stops);
                if let Some(node) = task.node() {
                    self.out.entry(node.clone()).or_insert(why);
                }
            }
            // Without it there is nothing to join, and every node would find that out after minutes.
            if let Some(name) = self.first_node(group).filter(|n| self.out.contains_key(*n)) {
                stops.all = Some(format!("{name} did not start the cluster"));
            }
        }
        Ok(())
    }

    /// What a task that failed keeps from beginning.
    fn stop(
        &mut self,
        stage: &Stage,
        (at, group): (usize, &Group),
        task: &Task,
        done: &Done,
        why: &str,
        stops: &mut Stops,
    ) {
        let unreachable = matches!(done.outcome(), Outcome::Unreachable { .. });
        match stage.on_failure {
            OnFailure::GoOn => {}
            OnFailure::StopPlan => self.stops.all = Some(why.to_owned()),
            // A canary that cannot be reached says nothing about the change.
            OnFailure::StopStage if !group.alone => {}
            OnFailure::StopStage
                if !stops.proven && at + 1 < stage.groups.len() && !unreachable =>
            {
                stops.all = Some(why.to_owned());
            }
            OnFailure::StopStage => {
                if !unreachable || stage.gates.contains(&Gate::EtcdQuorum) {
                    stops.alone = Some(why.to_owned());
                }
            }
            OnFailure::StopAlone | OnFailure::KeepServing => {
                let node = task.node().map(NodeName::as_str).unwrap_or_default();
                if group.alone {
                    stops.alone.get_or_insert(format!("the rollback failed on {node}"));
                }
                let was_reset = matches!(task, Task::TakeBack(t) if t.reset_by.is_some());
                if stage.on_failure == OnFailure::KeepServing && !was_reset {
                    self.stops.alone = Some("a node is still part of the cluster".into());
                }
            }
        }
    }

    /// The node of a group that starts the cluster.
    fn first_node<'g>(&self, group: &'g Group) -> Option<&'g NodeName> {
        group.tasks.iter().find(|t| self.makes_member(t, KubeadmAction::Init)).and_then(Task::node)
    }

    fn makes_member(&self, task: &Task, wanted: KubeadmAction) -> bool {
        let steps = self.c.plan.transaction(task).into_iter().flat_map(|t| &t.steps);
        steps
            .into_iter()
            .any(|a| matches!(a.step, Step::Kubeadm { action, .. } if action == wanted))
    }

    /// Why no node may join: every control plane that was to update the configuration kept in the cluster has failed, so
    /// joining nodes would get the old one, and the next plan would not notice.
    fn out_of_date(&self, group: &Group) -> Option<String> {
        if !group.tasks.iter().any(|t| self.makes_member(t, KubeadmAction::Join)) {
            return None;
        }
        let planes: BTreeSet<&NodeName> =
            self.c.inventory.with_role(Role::ControlPlane).map(|n| &n.name).collect();
        let configured =
            self.c.plan.tasks().filter(|t| self.makes_member(t, KubeadmAction::Configure));
        let keepers: Vec<&NodeName> =
            configured.filter_map(Task::node).filter(|n| planes.contains(n)).collect();
        let failed = !keepers.is_empty() && keepers.iter().all(|n| self.out.contains_key(*n));
        let first = keepers.first().filter(|_| failed)?;
        Some(format!("{first} did not update the configuration that joining nodes get"))
    }

    /// Carries the tasks of a group out: transactions at the same time, others of different nodes too, those of the
    /// cluster one after another.
    fn group(
        &mut self,
        stage: &Stage,
        number: u32,
        tasks: Vec<&'a Task>,
    ) -> Result<Vec<(&'a Task, Done)>, RecordError> {
        let (transactions, others): (Vec<&Task>, Vec<&Task>) =
            tasks.into_iter().partition(|t| self.c.plan.transaction(t).is_some());
        let work = transactions.into_iter().filter_map(|task| self.work(task)).collect();
        let ended = transactions::carry_out(self.c, &stage.gates, number, work, &self.sessions)?;
        let mut done: Vec<(&Task, Done)> =
            ended.into_iter().map(|(task, outcome)| (task, Done::Outcome(outcome))).collect();
        let (objects, others): (Vec<&Task>, Vec<&Task>) =
            others.into_iter().partition(|t| matches!(t, Task::Object(_)));
        if !objects.is_empty() {
            done.extend(self.objects(&objects));
        }
        let (of_nodes, of_cluster): (Vec<&Task>, Vec<&Task>) = others.into_iter().partition(|t| {
            matches!(
                t,
                Task::Settle { .. } | Task::TakeBack(_) | Task::Accept { .. } | Task::Reset { .. }
            )
        });
        done.extend(self.on_nodes(stage, number, of_nodes)?);
        for task in of_cluster {
            done.push((task, Done::of(self.of_cluster(task))));
        }
        Ok(done)
    }

    fn work(&self, task: &'a Task) -> Option<Work<'a>> {
        let transaction = self.c.plan.transaction(task)?;
        let node = self.c.inventory.nodes.iter().find(|n| Some(&n.name) == task.node())?;
        Some(Work { task, node, transaction })
    }

    /// Nodes at the same time, the tasks of each one after another until one fails. What was not begun is left out of the
    /// answer.
    fn on_nodes(
        &self,
        stage: &Stage,
        number: u32,
        tasks: Vec<&'a Task>,
    ) -> Result<Vec<(&'a Task, Done)>, RecordError> {
        let mut nodes: BTreeMap<&NodeName, Vec<&Task>> = BTreeMap::new();
        for task in tasks {
            let node = task.node().expect("only tasks of nodes come here");
            nodes.entry(node).or_default().push(task);
        }
        let of_node = |(_, tasks): (&NodeName, Vec<&'a Task>)| {
            let mut ended = Vec::new();
            for task in tasks {
                let done = self.on_node(stage, number, task)?;
                let goes_on = is_wanted(task, done.outcome());
                ended.push((task, done));
                if !goes_on {
                    break;
                }
            }
            Ok(ended)
        };
        let results = fleet::each(nodes.into_iter().collect(), fleet::WINDOW, of_node);
        let ended: Vec<Vec<_>> = results.into_iter().collect::<Result<_, RecordError>>()?;
        Ok(ended.into_iter().flatten().collect())
    }

    fn on_node(&self, stage: &Stage, number: u32, task: &Task) -> Result<Done, RecordError> {
        let c = self.c;
        let begins = |node: &NodeName, phase: Phase, id: &str| {
            let (node, id, stage) = (node.clone(), id.to_owned(), Some(number));
            c.journal.write(&Line::Transaction {
                node,
                phase,
                id,
                stage,
                joins: false,
                from_pod: false,
            })
        };
        Ok(match task {
            Task::Settle { node, transaction, phase, .. } => {
                if let Some(phase) = phase {
                    begins(node, *phase, transaction)?;
                }
                Done::Outcome(transaction::settle(c, node, transaction, &self.sessions))
            }
            Task::TakeBack(t) => {
                let member = stage.gates.contains(&Gate::EtcdQuorum).then(|| self.member(&t.node));
                let member = member.flatten();
                let risk = |node| transactions::others_healthy(c, &[node], &self.sessions);
                if let Some(why) = member.and_then(risk) {
                    return Ok(Done::Outcome(Outcome::Refused { why }));
                }
                begins(&t.node, t.phase, &t.transaction)?;
                let outcome = undo::roll_back(c, t);
                let healthy = |node| transactions::etcd_health(c, node, &self.sessions);
                match member.filter(|_| outcome.is_good()).map(healthy) {
                    Some(Err(why)) => Done::Outcome(Outcome::Unready { why }),
                    _ => Done::Outcome(outcome),
                }
            }
            Task::Accept { node, transaction, phase, run } => {
                begins(node, *phase, transaction)?;
                Done::Outcome(accept::accept(c, node, transaction, run, &self.sessions))
            }
            Task::Reset { node, data, taken_for } => {
                let reset = reset::carry_out(c, node, *taken_for, *data);
                // At once: another one may take minutes, and somebody may not wait for it.
                let line = Line::Reset { node: node.clone(), reset: reset.clone() };
                c.journal.write(&line)?;
                Done::Reset(reset)
            }
            _ => unreachable!("only the tasks above are done node by node"),
        })
    }

    /// The node, if it is a member of etcd that can be asked for its health.
    fn member(&self, name: &NodeName) -> Option<&'a Node> {
        let node = self.c.inventory.nodes.iter().find(|n| n.name == *name)?;
        (self.c.etcd.is_some() && self.c.inventory.is_etcd_member(node)).then_some(node)
    }

    fn of_cluster(&mut self, task: &Task) -> Result<(), String> {
        match task {
            Task::Etcd(change) => members::change(self.c, change, &self.sessions),
            Task::Rewrite { resource } => rewrite::carry_out(self.c, resource),
            Task::Cordon { node } => self.departure.cordon(self.c, node),
            Task::Drain { node, within_s, or_leave } => {
                let (result, problems) = self.departure.drain(self.c, node, *within_s, *or_leave);
                self.report.problems.extend(problems);
                result
            }
            Task::Forget { node } => leave::forget(self.c, node).inspect_err(|why| {
                self.report.problems.push(leave::node_not_deleted(node, why.clone()));
            }),
            _ => unreachable!("all other tasks are done elsewhere"),
        }
    }

    /// One connection, in their order: a role is there before its binding.
    fn objects(&self, tasks: &[&'a Task]) -> Vec<(&'a Task, Done)> {
        let changes = tasks.iter().filter_map(|t| match t {
            Task::Object(change) => Some(change),
            _ => None,
        });
        let results = objects::carry_out(self.c, &changes.collect::<Vec<_>>(), &self.sessions);
        tasks.iter().copied().zip(results.into_iter().map(Done::of)).collect()
    }

    /// What is not begun, because of its node or of what all of them wait for.
    fn skip(&mut self, task: &Task, stopped: Option<&String>) -> Result<(), RecordError> {
        let own = task.node().and_then(|n| self.out.get(n));
        let why = own.or(stopped).cloned().unwrap_or_default();
        match task {
            Task::TakeBack(TakeBack { reset_by: Some(by), .. }) => {
                self.ended(task, &Done::Outcome(Outcome::Skipped { why: undo::reset_since(by) }))
            }
            Task::Transaction { .. }
            | Task::JoinEtcd { .. }
            | Task::TakeBack(_)
            | Task::Accept { .. } => self.ended(task, &Done::Outcome(Outcome::Skipped { why })),
            Task::Reset { node, .. } => {
                let outcome = Outcome::Refused { why };
                let reset = Reset { outcome, taken_back: Vec::new() };
                self.c.journal.write(&Line::Reset { node: node.clone(), reset: reset.clone() })?;
                self.ended(task, &Done::Reset(reset))
            }
            // Of nodes that stay as they are.
            Task::Settle { .. }
            | Task::Cordon { .. }
            | Task::Drain { .. }
            | Task::Forget { .. }
            | Task::Etcd(_) => Ok(()),
            Task::Rewrite { .. } | Task::Object(_) => self.ended(task, &Done::of(Err(why))),
        }?;
        if let Some(node) = task.node() {
            let rest = match task {
                Task::TakeBack(_) => LATER_PHASE,
                _ => "an earlier stage was skipped",
            };
            self.out.entry(node.clone()).or_insert_with(|| rest.into());
        }
        Ok(())
    }

    /// Records, shows and reports how a task ended.
    fn ended(&mut self, task: &Task, done: &Done) -> Result<(), RecordError> {
        let c = self.c;
        let problem = done.problem();
        let shown = |what: String| c.sink.send(Event::Object { what, problem: done.problem() });
        match task {
            Task::Object(change) => {
                shown(change.to_string());
                let line = Line::Object { change: json(change), problem: problem.clone() };
                c.journal.write(&line)?;
                let failed = problem.map(|why| {
                    Problem::new(format!("cannot {change}"))
                        .at("cluster")
                        .because(why)
                        .left("the changes on the nodes are done")
                        .hint("run `kubastion plan` to see the remaining changes")
                });
                self.report.problems.extend(failed);
            }
            Task::Rewrite { resource } => {
                shown(format!("rewrite every object of `{resource}`"));
                c.journal.write(&Line::Task { task: json(task), problem: problem.clone() })?;
                let failed = problem.map(|why| {
                    Problem::new(format!("some objects of `{resource}` were not rewritten"))
                        .at("cluster")
                        .because(why)
                        .left("API servers read both encrypted objects and plain text; no object was lost")
                        .hint("fix the cause, then run `kubastion apply` again; it continues from there")
                });
                self.report.problems.extend(failed);
            }
            Task::Etcd(change) => {
                shown(change.to_string());
                let line = Line::Etcd { change: json(change), problem: problem.clone() };
                c.journal.write(&line)?;
                match (problem, change) {
                    (None, _) => {}
                    (Some(why), EtcdChange::Promote { node, .. }) => {
                        self.node_ended(node, Phase::Etcd, &Outcome::Unready { why })?;
                    }
                    (Some(why), change) => {
                        self.report.problems.push(members::not_changed(change, why));
                    }
                }
            }
            Task::Cordon { .. } | Task::Drain { .. } | Task::Forget { .. } => {
                c.journal.write(&Line::Task { task: json(task), problem })?;
            }
            Task::Reset { node, .. } => {
                if let Done::Reset(reset) = done {
                    self.report.resets.insert(node.clone(), reset.clone());
                }
            }
            Task::Settle { node, transaction, phase, left } => {
                // What another program left there is no run of ours.
                if let Some(phase) = phase {
                    self.node_ended(node, *phase, done.outcome())?;
                }
                let now = match done.outcome() {
                    Outcome::Committed => TxnState::Committed.words(),
                    Outcome::Reverted { .. } => TxnState::Reverted.words(),
                    other => {
                        let why = done.problem().unwrap_or_default();
                        let why = match other {
                            Outcome::Incomplete { .. } => {
                                format!("({left}) could not be undone: {why}")
                            }
                            _ => format!("({left}): {why}"),
                        };
                        self.report.problems.push(
                            Problem::new(
                                "an unfinished transaction of an earlier run cannot be undone",
                            )
                            .at(node.to_string())
                            .because(format!("transaction {transaction} {why}")),
                        );
                        return Ok(());
                    }
                };
                (c.say)(&format!(
                    "{node}: transaction {transaction} of an earlier run was unfinished; it is now {now}"
                ));
            }
            Task::TakeBack(TakeBack { node, phase, .. }) | Task::Accept { node, phase, .. } => {
                self.node_ended(node, *phase, done.outcome())?;
            }
            Task::Transaction { node, .. } | Task::JoinEtcd { node, .. } => {
                if let Some(transaction) = c.plan.transaction(task) {
                    self.node_ended(node, transaction.phase, done.outcome())?;
                }
            }
        }
        Ok(())
    }

    fn node_ended(
        &mut self,
        node: &NodeName,
        phase: Phase,
        outcome: &Outcome,
    ) -> Result<(), RecordError> {
        let c = self.c;
        c.journal.write(&Line::Result { node: node.clone(), phase, outcome: outcome.clone() })?;
        let name = phase.name();
        let how = match outcome {
            Outcome::Committed => match c.journal.kind {
                RunKind::Apply => format!("{name} done"),
                RunKind::Accept => format!("{name} accepted as it is"),
                RunKind::Settle | RunKind::Rollback | RunKind::Reset => {
                    format!("{name} rolled back")
                }
            },
            Outcome::Reverted { why } => format!("{name} undone: {why}"),
            Outcome::Refused { why } => format!("{name} refused: {why}"),
            Outcome::Unreachable { why } => format!("unreachable: {why}"),
            Outcome::Skipped { why } => format!("{name} skipped: {why}"),
            Outcome::Incomplete { why } => format!("{name} INCOMPLETE: {why}"),
            Outcome::Unready { why } => format!("{name} done, but {why}"),
        };
        c.sink.send(Event::End { node: node.clone(), how, good: outcome.is_good() });
        let outcomes = self.report.outcomes.entry(node.clone()).or_default();
        outcomes.push(phase, outcome.clone());
        Ok(())
    }
}

/// Whether the rest of a node's work goes on after a task that ended so.
fn is_wanted(task: &Task, outcome: &Outcome) -> bool {
    let settled = matches!((task, outcome), (Task::Settle { .. }, Outcome::Reverted { .. }));
    // Whether a node that takes new pods may be reset all the same is said at its drain.
    let cordon = matches!(task, Task::Cordon { .. });
    outcome.is_good() || settled || cordon
}

/// Of a node where something was not taken back.
const LATER_PHASE: &str = "a later phase is not undone";

/// What is said of all that is left out because a task failed.
fn why_left(stage: &Stage, task: &Task, done: &Done) -> String {
    match (task, task.node()) {
        (Task::TakeBack(_), _) => LATER_PHASE.to_owned(),
        (Task::Etcd(EtcdChange::Remove { id, .. }), None) => {
            let why = done.problem().unwrap_or_default();
            format!("etcd member {id} was not removed: {why}")
        }
        // Whose node stays as it is for that.
        (Task::Drain { .. }, _) | (Task::Etcd(_), Some(_)) => done.problem().unwrap_or_default(),
        (_, Some(node)) => format!("{} failed on {node}", stage.name),
        (_, None) => format!("{} failed", stage.name),
    }
}

fn json(value: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}
