//! A plan is carried out: keys first, then the nodes, then the objects of the cluster's API.

use std::collections::BTreeSet;

use super::encryption::{self, Access};
use super::etcd_members::etcd_access;
use super::impact::not_yet;
use super::keys::{self, Keys, PkiUse};
use super::objects::{self, Rest};
use super::observe::{self, Fleet, Reach};
use super::records::{self, Finished};
use super::saved_plan;
use crate::api::ApiAccess;
use crate::apply::{Execution, Report, execute};
use crate::bundle::Bundle;
use crate::clock::Clock;
use crate::desired::Phase;
use crate::error::Problem;
use crate::event::Sink;
use crate::inventory::{Loaded, Node, NodeName, Role};
use crate::pki::Material;
use crate::plan::ladder::{self, Rung, Then};
use crate::plan::planner::{self, Planned};
use crate::plan::{self, HeldBack, Plan, Step};
use crate::report::runs;
use crate::runs::outcome::{NodeOutcomes, Outcomes};
use crate::runs::record::{Journal, RunKind, RunLock};
use crate::transport::ssh::SshDialer;
use crate::workflow::command_error::{CommandError, Exit, LeftOut};

/// Whoever is told and asked while a plan is carried out. What is agreed to by a flag or by a saved plan need not be
/// asked.
pub trait Operator: Sync {
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
        run: Box<Finished>,
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
    planned: Planned,
    api: Option<ApiAccess>,
    problems: Vec<Problem>,
    /// How many nodes these are about.
    left_out: LeftOut,
    /// Why the cluster's objects could not be read. An API server that is down may be what the plan restores.
    unread: Option<Problem>,
}

impl Ready<'_> {
    fn all_problems(&self) -> Vec<Problem> {
        self.problems.iter().chain(&self.unread).cloned().collect()
    }
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
        saved_plan::fits(saved, &ready.planned.plan, &ready.fleet.facts.failed, ready.left_out)?;
    }
    let plan = &ready.planned.plan;
    if plan.is_empty() {
        return issue_keys_alone(ready, saved.is_some(), operator);
    }
    if saved.is_none() {
        operator.agree_to_plan(plan, ready.keys.due().as_deref(), &ready.all_problems())?;
    }
    if let Some(bundle) = bundle {
        intact(bundle, plan, operator)?;
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
    let lock = settle(loaded, lock, &nodes, &mut fleet, &dialer, operator)?;
    let material = keys.material();
    not_yet(loaded, &fleet, &nodes, &dialer, material)
        .map_err(|problem| CommandError::one(Exit::InvalidInput, problem))?;
    let (etcd, api) = (etcd_access(inventory, material), objects::access(inventory, material));
    fleet.ask_etcd(inventory, etcd.as_ref());
    let access = Access { etcd: etcd.as_ref(), api: api.as_ref(), dialer: &dialer };
    encryption::count_stored(inventory, &mut fleet, material, access);
    let mut planned = planner::plan(loaded, &fleet.facts, material);
    let (unanswered, refused) = (fleet.facts.failed.len(), planned.failed.len());
    let left_out = LeftOut { unanswered, refused };
    fleet.facts.leave_out(std::mem::take(&mut planned.failed));
    let problems: Vec<Problem> = fleet.facts.failed.values().cloned().collect();
    let mut unread = None;
    if let Some(access) = &api {
        (planned.plan, unread) = objects::plan(loaded, planned.plan, &mut fleet, access, material);
    }
    Ok(Ready { loaded, nodes, lock, keys, dialer, fleet, planned, api, problems, left_out, unread })
}

/// Brings to an end what earlier runs left open, as a run of its own: `kubastion runs` tells it of the run that had left
/// it, also where nothing else is to be done now. Those nodes are looked at again.
fn settle(
    loaded: &Loaded,
    lock: RunLock,
    nodes: &[&Node],
    fleet: &mut Fleet,
    dialer: &SshDialer,
    operator: &dyn Operator,
) -> Result<RunLock, CommandError> {
    let inventory = &loaded.inventory;
    let cluster = inventory.cluster.name.as_str();
    let open = fleet.facts.answered.iter().map(|(name, node)| (name, &node.facts));
    let plan = plan::settle::plan(cluster, open);
    if plan.is_empty() {
        return Ok(lock);
    }
    let (base, clock) = (&loaded.base_dir, Clock::System);
    let journal =
        Journal::begin_locked(lock, base, RunKind::Settle, Some(&plan.id), cluster, clock)
            .map_err(records::stop)?;
    let note = |text: &str| operator.note(text);
    let monitor = operator.progress();
    let sink = monitor.as_ref();
    let execution = Execution::without_contents(&plan, inventory, dialer, &journal, sink, &note);
    // The others are needed for what is planned next.
    let sessions = fleet.sessions.extract_if(.., |name, _| plan.nodes.contains_key(name)).collect();
    let report = execute(&execution, sessions).map_err(records::stop)?;
    drop(monitor);
    journal.end(Exit::Done as u8).map_err(records::stop)?;
    let again: Vec<&Node> =
        nodes.iter().copied().filter(|n| plan.nodes.contains_key(&n.name)).collect();
    fleet.look_again(inventory, &loaded.files, &again, dialer);
    for problem in report.problems {
        let at = |n: &&&Node| Some(n.name.as_str()) == problem.place.as_deref();
        if let Some(node) = again.iter().find(at) {
            fleet.facts.forget(node.name.clone(), problem);
        }
    }
    Ok(journal.into_lock())
}

/// Ends a run that has nothing to carry out. That is success only if nothing was left out of it.
fn issue_keys_alone(
    ready: Ready<'_>,
    is_saved: bool,
    operator: &dyn Operator,
) -> Result<Applied, CommandError> {
    let mut problems = ready.all_problems();
    let mut left_out = ready.left_out;
    left_out.unanswered += usize::from(ready.unread.is_some());
    let Ready { loaded, mut keys, planned: Planned { plan, .. }, .. } = ready;
    // Keys of the operator alone change no node.
    if let (true, Some(due)) = (!is_saved && problems.is_empty(), keys.due()) {
        operator.agree_to_keys(&due)?;
        keys.keep(loaded)?.iter().for_each(|text| operator.note(text));
    }
    let held_back = planner::held_back(&plan);
    let exit = if held_back.is_empty() { left_out.exit() } else { Exit::NodeFailed };
    problems.extend(held_back);
    match problems.is_empty() {
        true => Ok(Applied::Nothing { nodes: plan.nodes.len() }),
        false => Err(CommandError { exit, problems }),
    }
}

fn carry_out(
    ready: Ready<'_>,
    bundle: Option<&Bundle>,
    operator: &dyn Operator,
) -> Result<Applied, CommandError> {
    let Ready { loaded, nodes, lock, keys, dialer, fleet, planned, api, problems, unread, .. } =
        ready;
    let (inventory, material) = (&loaded.inventory, keys.material());
    let shown = planned.plan.clone();
    let journal = Journal::begin_locked(
        lock,
        &loaded.base_dir,
        RunKind::Apply,
        Some(&shown.id),
        &shown.cluster,
        Clock::System,
    )
    .map_err(records::stop)?;
    let monitor = operator.progress();
    let etcd = etcd_access(inventory, material);
    let mut run = Run {
        loaded,
        nodes,
        shown: &shown,
        execution: Execution {
            plan: &shown,
            desired: &planned.desired,
            inventory,
            dialer: &dialer,
            etcd: etcd.as_ref(),
            api: api.as_ref(),
            bundle,
            bundled: &loaded.files.bundled,
            sink: monitor.as_ref(),
            say: &|text| operator.note(text),
            journal: &journal,
            clock: Clock::System,
        },
        fleet,
        material,
        operator,
        report: Report { problems, ..Report::default() },
        left: None,
        unread,
    };
    run.climb(&planned)?;
    run.climb_encryption()?;
    let Run { mut report, left, unread, .. } = run;
    drop(monitor);
    report.problems.extend(unread);
    report.problems.extend(runs::problems(&report.outcomes));
    Ok(Applied::Run { run: Box::new(records::finish(journal, report)?), left })
}

/// A plan that is carried out, rung by rung.
struct Run<'a> {
    loaded: &'a Loaded,
    nodes: Vec<&'a Node>,
    /// The plan that was agreed to: all that is done is part of it.
    shown: &'a Plan,
    execution: Execution<'a>,
    fleet: Fleet,
    material: &'a Material,
    operator: &'a (dyn Operator + 'a),
    report: Report,
    left: Option<Left>,
    /// Why the cluster's objects could not be read, as long as they were not.
    unread: Option<Problem>,
}

impl Run<'_> {
    /// Carries out the rungs of a plan, each of them planned from what the nodes hold by then.
    fn climb(&mut self, first: &Planned) -> Result<(), CommandError> {
        let mut rest = None;
        let mut after = None;
        // Objects are planned anew, once the nodes are done.
        while let Some((rung, part)) = ladder::next(rest.as_ref().unwrap_or(first), after)
            .filter(|(rung, _)| *rung != Rung::Objects)
        {
            self.carry_out(&part, rest.as_ref().unwrap_or(first))?;
            after = Some(rung);
            if rung.then() == Then::Look {
                match self.plan_again()? {
                    Some(again) => rest = Some(again),
                    None => return Ok(()),
                }
            }
        }
        let last = rest.as_ref().unwrap_or(first);
        self.report.problems.extend(planner::held_back(&last.plan));
        self.change_objects()
    }

    fn carry_out(&mut self, part: &Plan, planned: &Planned) -> Result<(), CommandError> {
        let sessions = std::mem::take(&mut self.fleet.sessions);
        let execution = Execution { plan: part, desired: &planned.desired, ..self.execution };
        let report = execute(&execution, sessions).map_err(records::stop)?;
        self.report.extend(report);
        Ok(())
    }

    /// The rest of the plan, as it is by what the nodes hold now; none if nobody has agreed to it.
    fn plan_again(&mut self) -> Result<Option<Planned>, CommandError> {
        let good: Vec<&Node> = self
            .nodes
            .iter()
            .copied()
            .filter(|n| went_well(&self.report.outcomes, n))
            .filter(|n| self.shown.nodes.contains_key(&n.name))
            .collect();
        let (inventory, dialer) = (self.execution.inventory, self.execution.dialer);
        let mut again = observe::read_nodes(inventory, &self.loaded.files, &good, dialer);
        // What is known of nodes that were not looked at again.
        let before = std::mem::take(&mut self.fleet.facts);
        again.facts.outside.extend(before.outside);
        again.facts.without_etcd_data.extend(before.without_etcd_data);
        self.ask(&mut again);
        let mut planned = planner::plan(self.loaded, &again.facts, self.material);
        again.facts.leave_out(std::mem::take(&mut planned.failed));
        self.report.problems.extend(again.facts.failed.values().cloned());
        self.fleet = again;
        let shown = planned.plan.is_empty() || same_rest(self.shown, &planned.plan);
        if shown || self.operator.agree_to_rest(&planned.plan)? {
            return Ok(Some(planned));
        }
        self.left = Some(Left::Rest);
        Ok(None)
    }

    /// Asks etcd and the API what the next plan depends on.
    fn ask(&self, fleet: &mut Fleet) {
        let Execution { inventory, dialer, etcd, api, .. } = self.execution;
        fleet.ask_etcd(inventory, etcd);
        encryption::count_stored(inventory, fleet, self.material, Access { etcd, api, dialer });
    }

    /// Climbs on towards encrypted objects, as far as it goes: each rung is found from what the control planes and etcd show by
    /// then.
    fn climb_encryption(&mut self) -> Result<(), CommandError> {
        let Some(mut climbed) = self.shown.encryption.clone() else { return Ok(()) };
        if self.left.is_some() {
            return Ok(());
        }
        let (inventory, dialer) = (self.execution.inventory, self.execution.dialer);
        loop {
            let nodes = self.nodes.iter().copied();
            let planes: Vec<&Node> = nodes
                .filter(|n| n.has_role(Role::ControlPlane) && went_well(&self.report.outcomes, n))
                .collect();
            let mut again = observe::read_nodes(inventory, &self.loaded.files, &planes, dialer);
            let before = std::mem::take(&mut self.fleet.facts);
            again.facts.outside.extend(before.outside);
            again.facts.without_etcd_data.extend(before.without_etcd_data);
            self.ask(&mut again);
            let planned = planner::plan(self.loaded, &again.facts, self.material);
            self.report.problems.extend(planned.failed.values().cloned());
            self.fleet = again;
            let plan = &planned.plan;
            let Some(next) = plan.encryption.clone() else {
                let waits = |h: &HeldBack| matches!(h, HeldBack::Encryption { .. });
                self.report.problems.extend(planner::held_back_by(plan, waits));
                return Ok(());
            };
            let steps = plan.nodes.values().flat_map(|n| &n.transactions).flat_map(|t| &t.steps);
            if next == climbed || !steps.into_iter().all(|a| next.has(&a.step)) {
                let stays = Problem::new(format!(
                    "encryption of stored objects did not continue: {next}"
                ))
                .at("cluster")
                .because(match next == climbed {
                    true => "this step ran, but is still due",
                    false => {
                        "a control plane needs other changes first, which were not in the plan"
                    }
                })
                .left("API servers read both encrypted objects and plain text")
                .hint(
                    "run `kubastion plan` to see what is left, and `kubastion apply` to continue",
                );
                self.report.problems.push(stays);
                return Ok(());
            }
            self.operator.note(&format!("encryption of stored objects: {next}"));
            self.carry_out(plan, &planned)?;
            climbed = next;
        }
    }

    /// Makes the planned changes of the cluster's objects, over the control planes whose nodes are done, and waits for the
    /// cluster.
    fn change_objects(&mut self) -> Result<(), CommandError> {
        let Some(access) = self.execution.api else { return Ok(()) };
        let expected = objects::expected(self.shown, self.execution.bundled);
        if expected.is_none() && self.shown.api().next().is_none() {
            return Ok(());
        }
        let (inventory, sink) = (self.execution.inventory, self.execution.sink);
        // Also one that is not part of the run: a worker that joins alone is labelled through it.
        let members: Vec<_> = inventory
            .with_role(Role::ControlPlane)
            .filter(|n| went_well(&self.report.outcomes, n))
            .collect();
        let dialer = self.execution.dialer;
        self.fleet = observe::read_nodes(inventory, &self.loaded.files, &members, dialer);
        let rest = objects::plan_rest(
            self.loaded,
            self.shown,
            &mut self.fleet,
            access,
            self.material,
            sink,
        );
        match rest {
            Ok(None) => return Ok(()),
            Err(problem) => {
                self.unread = None;
                self.report.problems.push(problem);
            }
            Ok(Some(Rest { plan, unplanned, problem })) => {
                self.unread = None;
                self.report.problems.extend(problem);
                for change in &unplanned {
                    let text = format!("skipped, because it is not in the plan: {change}");
                    self.operator.note(&text);
                    self.left = Some(Left::Objects);
                }
                let execution = Execution { plan: &plan, ..self.execution };
                let sessions = std::mem::take(&mut self.fleet.sessions);
                let report = execute(&execution, sessions).map_err(records::stop)?;
                self.report.extend(report);
            }
        }
        if let Some(expected) = expected {
            let waited = objects::wait_until_ready(
                self.execution.inventory,
                self.execution.dialer,
                &self.fleet.facts,
                access,
                &expected,
                sink,
            );
            self.report.problems.extend(waited);
        }
        Ok(())
    }
}

/// Whether nothing has failed on a node.
fn went_well(outcomes: &Outcomes, node: &Node) -> bool {
    outcomes.get(&node.name).is_none_or(NodeOutcomes::are_good)
}

/// Whether the plan after the packages has only steps that were shown before. Steps may have become unnecessary.
fn same_rest(shown: &Plan, rest: &Plan) -> bool {
    let steps = |plan: &Plan, name: &NodeName| -> Vec<(Phase, Step)> {
        let node = plan.nodes.get(name).into_iter().flat_map(|n| &n.transactions);
        node.flat_map(|t| t.steps.iter().map(|a| (t.phase, a.step.clone()))).collect()
    };
    rest.etcd().eq(shown.etcd())
        && rest.nodes.keys().all(|name| {
            let before = steps(shown, name);
            steps(rest, name).iter().all(|step| before.contains(step))
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Silent;
    use crate::inventory::testing;
    use crate::workflow::inventory::{HostKeys, read};

    use std::collections::BTreeMap;

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
        assert!(said.contains("another run is in progress"), "{said}");
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
                    controls: crate::controls::IdList::default(),
                    why: Vec::new(),
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
