//! A plan is carried out: keys first, then the nodes, then the objects of the cluster's API.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::etcd_members::etcd_access;
use super::keys::{self, Keys, PkiUse};
use super::objects;
use super::observe::{self, Fleet, Reach, Settled};
use super::planner;
use super::records::{self, Finished};
use super::saved_plan;
use crate::api::ApiAccess;
use crate::apply::protocol::TxnState;
use crate::apply::record::{Journal, Line, Outcome, Outcomes, RunKind, RunLock};
use crate::apply::{Execution, execute};
use crate::bundle::Bundle;
use crate::clock::Clock;
use crate::desired::{DesiredState, Phase};
use crate::error::Problem;
use crate::event::{Event, Sink};
use crate::inventory::{Loaded, Node, NodeName, Role};
use crate::pki::Material;
use crate::plan::api_change::ApiChange;
use crate::plan::{Plan, Step};
use crate::report::runs;
use crate::transport::ssh::SshDialer;
use crate::workflow::command_error::{CommandError, Exit};

/// Whoever is told and asked while a plan is carried out. What is agreed to by a flag or by a saved plan need not be
/// asked.
pub trait Operator {
    /// Something that is no result.
    fn note(&self, text: &str);

    /// What shows progress, as long as it lives.
    fn progress(&self) -> Box<dyn Sink>;

    /// Whether keys and certificates, `due` in words, are to be issued though no node changes.
    ///
    /// # Errors
    /// If they are not.
    fn agree_to_keys(&self, due: &str) -> Result<(), CommandError>;

    /// Whether a plan that was made just now is to be carried out, with the keys that are `due`.
    ///
    /// # Errors
    /// If it is not.
    fn agree_to_plan(
        &self,
        plan: &Plan,
        due: Option<&str>,
        problems: &[Problem],
    ) -> Result<(), CommandError>;

    /// Whether the rest of a plan, which packages have changed, is to be carried out. What was done until then stays
    /// done.
    ///
    /// # Errors
    /// If nobody can be asked.
    fn agree_to_rest(&self, rest: &Plan) -> Result<bool, CommandError>;
}

/// What an apply came to.
pub enum Applied {
    /// Nothing was to be done.
    Nothing {
        /// On so many nodes.
        nodes: usize,
    },
    /// A plan was carried out.
    Run {
        /// How it went.
        run: Finished<Outcomes>,
        /// Why it ended before all was done that is due.
        left: Option<Left>,
    },
}

/// Why a run ends though more is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The packages brought changes that nobody has agreed to.
    Rest,
    /// Objects of the cluster's API need changes that were not in the plan.
    Objects,
}

impl Left {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Rest => "the installed packages changed the rest of the plan",
            Self::Objects => "objects in the cluster need changes that were not in the plan",
        }
    }
}

/// A plan that may be carried out, with all that it was made from.
struct Ready<'l> {
    loaded: &'l Loaded,
    nodes: Vec<&'l Node>,
    lock: RunLock,
    keys: Keys,
    dialer: SshDialer,
    fleet: Fleet,
    plan: Plan,
    desired: DesiredState,
    api: Option<ApiAccess>,
    problems: Vec<Problem>,
}

/// Carries out the plan that was saved, or one that is made now.
///
/// # Errors
/// Every problem of the key store, the plan and the bundle, and everything that is left out where nothing is to be done.
pub fn apply(
    loaded: &Loaded,
    bundle: Option<&Bundle>,
    saved: Option<&Plan>,
    reach: &Reach,
    operator: &dyn Operator,
) -> Result<Applied, CommandError> {
    let mut ready = prepare(loaded, saved, reach, operator)?;
    if let Some(saved) = saved {
        saved_plan::fits(saved, &ready.plan, &ready.fleet.lost)?;
    }
    if ready.plan.is_empty() {
        return issue_keys_alone(ready, saved.is_some(), operator);
    }
    if saved.is_none() {
        operator.agree_to_plan(&ready.plan, ready.keys.due().as_deref(), &ready.problems)?;
    }
    if let Some(bundle) = bundle {
        intact(bundle, &ready.plan, operator)?;
    }
    ready.keys.keep(loaded)?.iter().for_each(|text| operator.note(text));
    carry_out(ready, bundle, operator)
}

/// Looks at the nodes, settles what earlier runs left open, and makes the plan.
fn prepare<'l>(
    loaded: &'l Loaded,
    saved: Option<&Plan>,
    reach: &Reach,
    operator: &dyn Operator,
) -> Result<Ready<'l>, CommandError> {
    let inventory = &loaded.inventory;
    let nodes = observe::chosen(inventory, reach)?;
    // Before anything is done: a run that is at work here would have its open transactions undone.
    let base = &loaded.base_dir;
    let lock = RunLock::take(base).map_err(records::stop)?;
    // A saved plan was made with the keys as they were: it gets exactly those.
    let pki_use = if saved.is_some() { PkiUse::ReadOnly } else { PkiUse::Ensure };
    let (keys, dialer, mut fleet) =
        keys::read_and_look(loaded, &nodes, reach, pki_use, |store| match saved {
            Some(_) => Keys::of_a_saved_plan(loaded, store),
            None => Keys::with_those_due(loaded, store),
        })?;
    let settled = fleet.settle(inventory, &loaded.files);
    let lock = record_settled(lock, base, inventory.cluster.name.as_str(), &settled, operator)?;
    let (mut plan, desired) = planner::plan(loaded, &mut fleet, keys.material());
    let mut problems: Vec<Problem> = fleet.lost.values().cloned().collect();
    let api = objects::access(inventory, keys.material());
    if let Some(access) = &api {
        let (with_objects, problem) =
            objects::plan(loaded, plan, &mut fleet, access, keys.material());
        plan = with_objects;
        problems.extend(problem);
    }
    Ok(Ready { loaded, nodes, lock, keys, dialer, fleet, plan, desired, api, problems })
}

/// Ends a run that has nothing to carry out. That is success only if nothing was left out of it.
fn issue_keys_alone(
    ready: Ready<'_>,
    is_saved: bool,
    operator: &dyn Operator,
) -> Result<Applied, CommandError> {
    let Ready { loaded, mut keys, plan, mut problems, .. } = ready;
    // Keys of the operator alone change no node.
    if let (true, Some(due)) = (!is_saved && problems.is_empty(), keys.due()) {
        operator.agree_to_keys(&due)?;
        keys.keep(loaded)?.iter().for_each(|text| operator.note(text));
    }
    problems.extend(planner::held_back(&plan));
    match problems.is_empty() {
        true => Ok(Applied::Nothing { nodes: plan.nodes.len() }),
        false => Err(CommandError { exit: Exit::NodeFailed, problems }),
    }
}

fn carry_out(
    ready: Ready<'_>,
    bundle: Option<&Bundle>,
    operator: &dyn Operator,
) -> Result<Applied, CommandError> {
    let Ready { loaded, nodes, lock, keys, dialer, fleet, plan, desired, api, problems } = ready;
    let inventory = &loaded.inventory;
    let material = keys.material();
    let journal = Journal::begin_locked(
        lock,
        &loaded.base_dir,
        RunKind::Apply,
        Some(&plan.id),
        &plan.cluster,
        Clock::System,
    )
    .map_err(records::stop)?;
    let monitor = operator.progress();
    let etcd = etcd_access(inventory, material);
    let execution = Execution {
        plan: &plan,
        desired: &desired,
        inventory,
        dialer: &dialer,
        etcd: etcd.as_ref(),
        api: api.as_ref(),
        bundle,
        sink: monitor.as_ref(),
        journal: &journal,
        clock: Clock::System,
    };
    let mut run = Run { loaded, execution, material, operator, problems, left: None };
    let installs = plan.stages.iter().any(|s| s.phase == Phase::Packages);
    let outcomes = match installs {
        true => run.packages_then_the_rest(&nodes, fleet)?,
        false => {
            run.problems.extend(planner::held_back(&plan));
            execute(&run.execution, fleet.into_sessions()).map_err(records::stop)?
        }
    };
    run.change_objects(&outcomes)?;
    let Run { mut problems, left, .. } = run;
    drop(monitor);
    problems.extend(runs::problems(&outcomes));
    Ok(Applied::Run { run: records::finish(journal, outcomes, problems)?, left })
}

/// A plan that is carried out.
struct Run<'a> {
    loaded: &'a Loaded,
    execution: Execution<'a>,
    material: &'a Material,
    operator: &'a dyn Operator,
    problems: Vec<Problem>,
    left: Option<Left>,
}

impl Run<'_> {
    /// What packages bring along (users, units, default files) is seen only once they are there:
    /// they are a run of their own, and the rest is planned from what it finds then.
    fn packages_then_the_rest(
        &mut self,
        nodes: &[&Node],
        mut fleet: Fleet,
    ) -> Result<Outcomes, CommandError> {
        let (plan, inventory, dialer) =
            (self.execution.plan, self.execution.inventory, self.execution.dialer);
        let first = only_packages(plan);
        let (bare, no_data) = (std::mem::take(&mut fleet.bare), std::mem::take(&mut fleet.no_data));
        let execution = Execution { plan: &first, ..self.execution };
        let mut outcomes = execute(&execution, fleet.into_sessions()).map_err(records::stop)?;
        let good: Vec<_> = nodes
            .iter()
            .copied()
            .filter(|n| went_well(&outcomes, n))
            .filter(|n| plan.nodes.contains_key(&n.name))
            .collect();
        let mut again = observe::look(inventory, &self.loaded.files, &good, dialer);
        again.bare.extend(bare);
        again.no_data.extend(no_data);
        let (rest, desired) = planner::plan(self.loaded, &mut again, self.material);
        self.problems.extend(again.lost.values().cloned());
        let shown = rest.is_empty() || same_rest(plan, &rest);
        let rest = if shown || self.operator.agree_to_rest(&rest)? {
            self.problems.extend(planner::held_back(&rest));
            rest
        } else {
            self.left = Some(Left::Rest);
            Plan::new(rest.cluster, rest.inventory_sha256, BTreeMap::new(), Vec::new())
        };
        let execution = Execution { plan: &rest, desired: &desired, ..self.execution };
        let later = execute(&execution, again.into_sessions()).map_err(records::stop)?;
        for (node, phases) in later {
            outcomes.entry(node).or_default().extend(phases);
        }
        Ok(outcomes)
    }

    /// Makes the planned changes of the cluster's objects, unless the plan was left before its end.
    fn change_objects(&mut self, outcomes: &Outcomes) -> Result<(), CommandError> {
        let Some(access) = self.execution.api.filter(|_| self.left.is_none()) else {
            return Ok(());
        };
        let plan = self.execution.plan;
        if !plan.has_members() && plan.api.is_empty() {
            return Ok(());
        }
        let (inventory, sink, journal) =
            (self.execution.inventory, self.execution.sink, self.execution.journal);
        // Also one that is not part of the run: a worker that joins alone is labelled through it.
        let members: Vec<_> =
            inventory.with_role(Role::ControlPlane).filter(|n| went_well(outcomes, n)).collect();
        let mut fleet =
            observe::look(inventory, &self.loaded.files, &members, self.execution.dialer);
        let mut record = Ok(());
        let mut said = |change: &ApiChange, result: &Result<(), String>| {
            let problem = result.as_ref().err().cloned();
            sink.send(Event::Object { what: change.to_string(), problem: problem.clone() });
            let change = serde_json::to_value(change).unwrap_or_else(|_| change.to_string().into());
            if let Err(e) = journal.write(&Line::Object { change, problem }) {
                record = Err(e);
            }
        };
        let (failed, unplanned) =
            objects::apply(self.loaded, plan, &mut fleet, access, self.material, &mut said);
        record.map_err(records::stop)?;
        self.problems.extend(failed);
        for change in &unplanned {
            self.operator.note(&format!("not done, since it is not in the plan: {change}"));
            self.left = Some(Left::Objects);
        }
        if plan.has_members() {
            let mut said = |node: &NodeName, what: &str| {
                sink.send(Event::Waiting { node: node.clone(), what: what.to_owned() });
            };
            self.problems.extend(objects::wait_until_ready(&mut fleet, access, &mut said));
        }
        Ok(())
    }
}

/// Whether nothing has failed on a node.
fn went_well(outcomes: &Outcomes, node: &Node) -> bool {
    outcomes.get(&node.name).is_none_or(|p| p.values().all(Outcome::is_good))
}

/// Whether the plan after the packages has only steps that were shown before. Steps may have become unnecessary.
fn same_rest(shown: &Plan, rest: &Plan) -> bool {
    let steps = |plan: &Plan, name: &NodeName| -> Vec<(Phase, Step)> {
        let node = plan.nodes.get(name).into_iter().flat_map(|n| &n.transactions);
        node.flat_map(|t| t.steps.iter().map(|a| (t.phase, a.step.clone()))).collect()
    };
    rest.etcd == shown.etcd
        && rest.nodes.keys().all(|name| {
            let before = steps(shown, name);
            steps(rest, name).iter().all(|step| before.contains(step))
        })
}

/// Says what was left open and is not any more, and records it: `kubastion runs` tells it of the run that
/// had left it, also where nothing else is to be done now.
fn record_settled(
    lock: RunLock,
    base: &Path,
    cluster: &str,
    settled: &[Settled],
    operator: &dyn Operator,
) -> Result<RunLock, CommandError> {
    if settled.is_empty() {
        return Ok(lock);
    }
    let journal = Journal::begin_locked(lock, base, RunKind::Settle, None, cluster, Clock::System)
        .map_err(records::stop)?;
    for s in settled {
        operator.note(&s.to_string());
        // What another program wrote there would be no run of ours.
        let phase = s.id.rsplit('-').next();
        let Some(phase) = Phase::ALL.into_iter().find(|p| Some(p.name()) == phase) else {
            continue;
        };
        let outcome = match s.state {
            TxnState::Committed => Outcome::Committed,
            _ => Outcome::Reverted { why: "an earlier run had left it open".into() },
        };
        let (node, id) = (s.node.clone(), s.id.clone());
        let begin = Line::Transaction { node: node.clone(), phase, id, joins: false };
        journal.write(&begin).map_err(records::stop)?;
        journal.write(&Line::Result { node, phase, outcome }).map_err(records::stop)?;
    }
    journal.end(Exit::Done as u8).map_err(records::stop)?;
    Ok(journal.into_lock())
}

/// Reads what the plan sends from the bundle: a file that is not what was signed is found before
/// anything is sent to anybody. It is compared again as it is sent.
fn intact(bundle: &Bundle, plan: &Plan, operator: &dyn Operator) -> Result<(), CommandError> {
    let digests: BTreeSet<&str> =
        plan.nodes.values().flat_map(|n| n.blobs()).map(|b| b.sha256.as_str()).collect();
    if digests.is_empty() {
        return Ok(());
    }
    bundle.verify_some(&digests, operator.progress().as_ref()).map_err(|e| CommandError {
        exit: Exit::InvalidInput,
        problems: e.left("nothing was sent to a node, and nothing was changed").problems(),
    })
}

fn only_packages(plan: &Plan) -> Plan {
    let mut nodes = plan.nodes.clone();
    for node in nodes.values_mut() {
        node.transactions.retain(|t| t.phase <= Phase::Packages);
    }
    let stages = plan.stages.iter().filter(|s| s.phase <= Phase::Packages).cloned().collect();
    Plan::new(plan.cluster.clone(), plan.inventory_sha256.clone(), nodes, stages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Silent;
    use crate::inventory::testing;
    use crate::workflow::inventory::{HostKeys, read};

    /// Agrees to everything.
    struct Nobody;

    impl Operator for Nobody {
        fn note(&self, _: &str) {}

        fn progress(&self) -> Box<dyn Sink> {
            Box::new(Silent)
        }

        fn agree_to_keys(&self, _: &str) -> Result<(), CommandError> {
            Ok(())
        }

        fn agree_to_plan(
            &self,
            _: &Plan,
            _: Option<&str>,
            _: &[Problem],
        ) -> Result<(), CommandError> {
            Ok(())
        }

        fn agree_to_rest(&self, _: &Plan) -> Result<bool, CommandError> {
            Ok(true)
        }
    }

    #[test]
    fn a_second_apply_ends_before_it_undoes_what_the_first_has_open() {
        let dir = tempfile::tempdir().unwrap();
        let loaded = read(&testing::file_in(dir.path()), HostKeys::Required).unwrap();
        let _first = RunLock::take(dir.path()).unwrap();
        let reach = Reach::default();
        let Err(stop) = apply(&loaded, None, None, &reach, &Nobody) else { panic!() };
        let said: String = stop.problems.iter().map(ToString::to_string).collect();
        assert!(said.contains("another run is at work"), "{said}");
        assert!(!dir.path().join("pki").exists(), "it went on to the key store");
    }

    #[test]
    fn what_was_not_shown_before_the_packages_is_not_the_rest_of_the_plan() {
        let plan = |steps: &[(Phase, Step)]| {
            let transaction = |(phase, step): &(Phase, Step)| crate::plan::Transaction {
                phase: *phase,
                confirm_within_s: None,
                steps: vec![crate::plan::Action {
                    step: step.clone(),
                    controls: BTreeSet::new(),
                    why: String::new(),
                }],
                expect: BTreeMap::new(),
            };
            let node = crate::plan::NodePlan {
                transactions: steps.iter().map(transaction).collect(),
                ..Default::default()
            };
            let nodes = [("n".parse().unwrap(), node)].into();
            Plan::new("c".into(), String::new(), nodes, Vec::new())
        };
        let (a, b) = ((Phase::Host, Step::DaemonReload), (Phase::Host, Step::SwapOff));
        assert!(same_rest(&plan(&[a.clone(), b.clone()]), &plan(std::slice::from_ref(&a))));
        assert!(!same_rest(&plan(std::slice::from_ref(&a)), &plan(&[a.clone(), b])));
        let elsewhere = (Phase::Etcd, Step::DaemonReload);
        assert!(!same_rest(&plan(&[a]), &plan(&[elsewhere])), "in another phase");
    }
}
