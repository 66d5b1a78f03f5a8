//! `kubastion apply`: carries a plan out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::args::{Format, Global};
use super::ask::{Question, ask};
use super::output::{self, note, pretty, print};
use crate::apply::protocol::TxnState;
use crate::apply::record::{Journal, Line, Outcome, Outcomes, RecordError, RunKind, RunLock};
use crate::apply::{Controls, execute};
use crate::bundle::Bundle;
use crate::clock::Clock;
use crate::command_error::{CommandError, Exit};
use crate::desired::Phase;
use crate::error::Problem;
use crate::event::{Event, Sink as _};
use crate::inventory::{NodeName, Role};
use crate::plain::counted;
use crate::plan::cluster::ApiChange;
use crate::plan::text::{Detail, render};
use crate::plan::{Plan, Step};
use crate::report::{Monitor, runs};
use crate::workflow::etcd_members;
use crate::workflow::keys::{self, Keys, PkiUse};
use crate::workflow::objects;
use crate::workflow::observe::{self, Fleet, Reach, Settled};
use crate::workflow::planner;
use crate::workflow::software;

/// Arguments of `apply`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// A plan saved by `kubastion plan --out`; without it, a plan is made, shown and asked about.
    #[arg(value_name = "PLAN")]
    pub plan: Option<PathBuf>,
    /// Which nodes, and how they are reached.
    #[command(flatten)]
    pub reach: Reach,
    /// Do not ask. The question takes y or yes; after n, no or nothing, the exit code is 2.
    #[arg(short, long)]
    pub yes: bool,
}

const HELP: &str =
    "Every change that can cut access is armed first: the node undoes it by itself unless a new
connection confirms it, even if this program is killed or the node reboots.
Only what the plan shows is done. Further changes, from installed packages or in the cluster's
objects, are shown and confirmed separately; a saved plan stops there (exit code 4).
Keys and certificates that are due are issued after you confirm.

Examples:
  kubastion apply
  kubastion plan --out change.plan && kubastion apply change.plan
  kubastion apply --yes --nodes w1,w2";

/// Runs `kubastion apply`.
///
/// # Errors
/// Every problem of the inventory, the key store, the plan and the nodes.
pub fn run(global: &Global, args: &Args) -> Result<Exit, CommandError> {
    let saved = args.plan.as_deref().map(super::plan::read).transpose()?;
    let mut loaded = super::inventory::load(global)?;
    let bundle = software::bundle(&mut loaded)?;
    let inventory = &loaded.inventory;
    let mut reach = args.reach.clone();
    if let Some(plan) = &saved {
        if !reach.nodes.is_empty() {
            let problem = Problem::new("a saved plan says itself which nodes it is for");
            return Err(CommandError::one(Exit::Usage, problem.at("--nodes")));
        }
        reach.nodes = plan.nodes.keys().cloned().collect();
    }
    let nodes = observe::chosen(inventory, &reach)?;
    // Before anything is done: a run that is at work here would have its open transactions undone.
    let base = &loaded.base_dir;
    let lock = RunLock::take(base).map_err(record_stop)?;
    // A saved plan was made with the keys as they were: it gets exactly those.
    let pki_use = if saved.is_some() { PkiUse::ReadOnly } else { PkiUse::Ensure };
    let read_keys = |store| match &saved {
        Some(_) => Keys::of_a_saved_plan(&loaded, store),
        None => Keys::with_those_due(&loaded, store),
    };
    let early = keys::read_before_contact(keys::open(&loaded)?, read_keys)?;
    let dialer = observe::dialer(inventory, &nodes, &reach)?;
    let mut fleet = observe::look(inventory, &nodes, &dialer);
    let mut keys = match early {
        Ok(keys) => keys,
        Err(store) => {
            keys::refuse_second_cas(&loaded, &store, &fleet, &dialer, &reach, pki_use)?;
            read_keys(store)?
        }
    };
    let settled = fleet.settle(inventory);
    let lock =
        record_settled(lock, base, inventory.cluster.name.as_str(), &settled, global.format)?;
    let (mut plan, desired) = planner::plan(&loaded, &mut fleet, keys.material());
    let mut problems: Vec<Problem> = fleet.lost.values().cloned().collect();
    let api = objects::access(inventory, keys.material());
    if let Some(access) = &api {
        let (with_objects, problem) = objects::plan(inventory, plan, &mut fleet, access);
        plan = with_objects;
        problems.extend(problem);
    }
    if let Some(saved) = &saved {
        same(saved, &plan, &fleet)?;
    }
    if plan.is_empty() {
        // Keys of the operator alone change no node.
        if let (true, Some(due)) = (saved.is_none() && problems.is_empty(), keys.due()) {
            note(global.format, &format!("pki: {due} will be issued"));
            if !args.yes {
                ask(Question::CarryOut, "use --yes")?;
            }
            keys.keep(&loaded)?.iter().for_each(|text| note(global.format, text));
        }
        problems.extend(planner::held_back(&plan));
        return Ok(idle(&plan, &problems, global.format));
    }
    if saved.is_none() {
        // For whoever is asked; a program has the plan from `plan --format json`.
        if global.format == Format::Text || !args.yes {
            eprint!("{}", render(&plan, Detail::Summary));
        }
        if let Some(due) = keys.due() {
            note(global.format, &format!("pki: {due} will be issued"));
        }
        for problem in &problems {
            output::problem(global.format, problem);
        }
        if !args.yes {
            ask(Question::CarryOut, "apply a saved plan, or use --yes")?;
        }
    }

    if let Some(bundle) = &bundle {
        intact(bundle, &plan, global.format)?;
    }
    keys.keep(&loaded)?.iter().for_each(|text| note(global.format, text));
    let material = keys.material();
    let journal = Journal::begin_locked(
        lock,
        base,
        RunKind::Apply,
        Some(&plan.id),
        &plan.cluster,
        Clock::System,
    )
    .map_err(record_stop)?;
    let monitor = monitor(global.format);
    let etcd = etcd_members::etcd_access(inventory, material);
    let mut controls = Controls {
        plan: &plan,
        desired: &desired,
        inventory,
        dialer: &dialer,
        etcd: etcd.as_ref(),
        api: api.as_ref(),
        bundle: bundle.as_ref(),
        sink: &monitor,
        journal: &journal,
        clock: Clock::System,
    };
    // Why the run ends before its plan does.
    let mut left: Option<&str> = None;
    let installs = plan.stages.iter().any(|s| s.phase == Phase::Packages);
    let outcomes = if installs {
        // What packages bring along (users, units, default files) is seen only once they are there:
        // they are a run of their own, and the rest is planned from what it finds then.
        let first = only_packages(&plan);
        let (bare, no_data) = (std::mem::take(&mut fleet.bare), std::mem::take(&mut fleet.no_data));
        let mut outcomes = execute(&Controls { plan: &first, ..controls }, fleet.into_sessions())
            .map_err(record_stop)?;
        let good: Vec<_> = nodes
            .iter()
            .copied()
            .filter(|n| outcomes.get(&n.name).is_none_or(|p| p.values().all(Outcome::is_good)))
            .filter(|n| plan.nodes.contains_key(&n.name))
            .collect();
        let mut again = observe::look(inventory, &good, &dialer);
        again.bare.extend(bare);
        again.no_data.extend(no_data);
        let (rest, desired) = planner::plan(&loaded, &mut again, material);
        problems.extend(again.lost.values().cloned());
        let shown = rest.is_empty() || same_rest(&plan, &rest);
        let rest = if shown || go_on(args, saved.is_some(), &rest, global.format)? {
            problems.extend(planner::held_back(&rest));
            rest
        } else {
            left = Some("the installed packages changed the rest of the plan");
            Plan::new(rest.cluster, rest.inventory_sha256, BTreeMap::new(), Vec::new())
        };
        controls.plan = &rest;
        controls.desired = &desired;
        let later = execute(&controls, again.into_sessions()).map_err(record_stop)?;
        for (node, phases) in later {
            outcomes.entry(node).or_default().extend(phases);
        }
        outcomes
    } else {
        problems.extend(planner::held_back(&plan));
        execute(&controls, fleet.into_sessions()).map_err(record_stop)?
    };
    // Also one that is not part of the run: a worker that joins alone is labelled through it.
    let members: Vec<_> = inventory
        .with_role(Role::ControlPlane)
        .filter(|n| outcomes.get(&n.name).is_none_or(|p| p.values().all(Outcome::is_good)))
        .collect();
    let to_the_end = left.is_none();
    if let Some(access) =
        api.as_ref().filter(|_| to_the_end && (plan.has_members() || !plan.api.is_empty()))
    {
        let mut fleet = observe::look(inventory, &members, &dialer);
        let mut record = Ok(());
        let mut said = |change: &ApiChange, result: &Result<(), String>| {
            let problem = result.as_ref().err().cloned();
            monitor.send(Event::Object { what: change.to_string(), problem: problem.clone() });
            let line = Line::Object { change: change.clone(), problem };
            if let Err(e) = journal.write(&line) {
                record = Err(e);
            }
        };
        let (failed, unplanned) = objects::apply(inventory, &plan, &mut fleet, access, &mut said);
        record.map_err(record_stop)?;
        problems.extend(failed);
        for change in &unplanned {
            note(global.format, &format!("not done, since it is not in the plan: {change}"));
            left = Some("objects in the cluster need changes that were not in the plan");
        }
        if plan.has_members() {
            let mut said = |node: &NodeName, what: &str| {
                monitor.send(Event::Waiting { node: node.clone(), what: what.to_owned() });
            };
            problems.extend(objects::wait_until_ready(&mut fleet, access, &mut said));
        }
    }
    drop(monitor);
    problems.extend(runs::problems(&outcomes));
    let exit = finish(global, &journal, &outcomes, problems)?;
    match left {
        Some(why) if exit == Exit::Done => {
            note(global.format, &format!("{why}; run `kubastion plan` to see them"));
            Ok(Exit::Pending)
        }
        _ => Ok(exit),
    }
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

/// Shows the changed plan and asks on a terminal. `--yes` is an answer; a saved plan is never extended.
///
/// # Errors
/// If nobody can be asked.
fn go_on(args: &Args, is_saved: bool, rest: &Plan, format: Format) -> Result<bool, CommandError> {
    if format == Format::Text {
        eprintln!("\nThe packages are installed. The rest of the plan is now:");
        eprint!("{}", render(rest, Detail::Summary));
    }
    if args.yes || is_saved {
        return Ok(args.yes);
    }
    match ask(Question::CarryOut, "use --yes") {
        Ok(()) => Ok(true),
        // What was done stays done, and is recorded.
        Err(stop) if stop.exit == Exit::Usage => Ok(false),
        Err(stop) => Err(stop),
    }
}

/// Says what was left open and is not any more, and records it: `kubastion runs` tells it of the run that
/// had left it, also where nothing else is to be done now.
fn record_settled(
    lock: RunLock,
    base: &Path,
    cluster: &str,
    settled: &[Settled],
    format: Format,
) -> Result<RunLock, CommandError> {
    if settled.is_empty() {
        return Ok(lock);
    }
    let journal = Journal::begin_locked(lock, base, RunKind::Settle, None, cluster, Clock::System)
        .map_err(record_stop)?;
    for s in settled {
        note(format, &s.to_string());
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
        journal.write(&begin).map_err(record_stop)?;
        journal.write(&Line::Result { node, phase, outcome }).map_err(record_stop)?;
    }
    journal.end(Exit::Done as u8).map_err(record_stop)?;
    Ok(journal.into_lock())
}

/// Ends a run that has nothing to carry out. That is success only if nothing was left out of it.
fn idle(plan: &Plan, problems: &[Problem], format: Format) -> Exit {
    for problem in problems {
        output::problem(format, problem);
    }
    if !problems.is_empty() {
        return Exit::NodeFailed;
    }
    note(format, &format!("nothing to do on {}", counted(plan.nodes.len(), "node")));
    Exit::Done
}

fn monitor(format: Format) -> Monitor {
    match format {
        Format::Text => Monitor::for_people(),
        Format::Json => Monitor::for_machines(),
    }
}

/// Reads what the plan sends from the bundle: a file that is not what was signed is found before
/// anything is sent to anybody. It is compared again as it is sent.
fn intact(bundle: &Bundle, plan: &Plan, format: Format) -> Result<(), CommandError> {
    let digests: BTreeSet<&str> =
        plan.nodes.values().flat_map(|n| n.blobs()).map(|b| b.sha256.as_str()).collect();
    if digests.is_empty() {
        return Ok(());
    }
    bundle.verify_some(&digests, &monitor(format)).map_err(|e| CommandError {
        exit: Exit::InvalidInput,
        problems: e.left("nothing was sent to a node, and nothing was changed").problems(),
    })
}

/// Reports the outcomes and ends the record.
pub(super) fn finish(
    global: &Global,
    journal: &Journal,
    outcomes: &Outcomes,
    problems: Vec<Problem>,
) -> Result<Exit, CommandError> {
    let all = outcomes.values().flat_map(|p| p.values());
    let text = runs::outcome(journal.kind, outcomes);
    finish_with(global, journal, all, &outcomes, &text, problems)
}

/// `value` and `text` say the same, for machines and for people.
pub(super) fn finish_with<'o>(
    global: &Global,
    journal: &Journal,
    outcomes: impl Iterator<Item = &'o Outcome>,
    value: &impl serde::Serialize,
    text: &str,
    problems: Vec<Problem>,
) -> Result<Exit, CommandError> {
    let exit = exit_of(outcomes, &problems);
    journal.end(exit as u8).map_err(record_stop)?;
    match global.format {
        Format::Json => print(&pretty(&serde_json::json!({
            "run": journal.run, "exit": exit as u8, "outcomes": value, "problems": problems,
        })))?,
        Format::Text => print(&format!("run {}\n{text}", journal.run))?,
    };
    if problems.is_empty() { Ok(exit) } else { Err(CommandError { exit, problems }) }
}

/// What the outcomes of a run amount to.
fn exit_of<'o>(outcomes: impl Iterator<Item = &'o Outcome>, problems: &[Problem]) -> Exit {
    let (mut incomplete, mut bad) = (false, !problems.is_empty());
    for outcome in outcomes {
        incomplete |= matches!(outcome, Outcome::Incomplete { .. });
        bad |= !outcome.is_good();
    }
    if incomplete {
        Exit::RollbackIncomplete
    } else if bad {
        Exit::NodeFailed
    } else {
        Exit::Done
    }
}

pub(super) fn record_stop(e: RecordError) -> CommandError {
    if e.is_busy() {
        let problem = Problem::new("another run is at work on this inventory")
            .because("another process holds the lock (`.kubastion/lock` beside the inventory)")
            .left("nothing was changed")
            .hint("wait for its end; `kubastion runs` shows what it did");
        return CommandError::one(Exit::InvalidInput, problem);
    }
    CommandError::one(Exit::Unexpected, Problem::from_error("the run cannot be recorded", &e))
}

fn only_packages(plan: &Plan) -> Plan {
    let mut nodes = plan.nodes.clone();
    for node in nodes.values_mut() {
        node.transactions.retain(|t| t.phase <= Phase::Packages);
    }
    let stages = plan.stages.iter().filter(|s| s.phase <= Phase::Packages).cloned().collect();
    Plan::new(plan.cluster.clone(), plan.inventory_sha256.clone(), nodes, stages)
}

/// Refuses if anything that the saved plan was made from has moved.
fn same(saved: &Plan, now: &Plan, fleet: &Fleet) -> Result<(), CommandError> {
    if saved.id == now.id {
        return Ok(());
    }
    let mut problem = Problem::new("the plan does not fit any more; nothing was begun")
        .hint("make a new one with `kubastion plan --out`, and look at it");
    if saved.inventory_sha256 != now.inventory_sha256 {
        problem = problem.because("the inventory was changed since");
    }
    if saved.etcd != now.etcd {
        problem = problem.because("etcd's members have changed");
    }
    for (name, node) in &saved.nodes {
        match now.nodes.get(name) {
            Some(n) if n == node => {}
            Some(_) => {
                problem = problem.because(format!("{name}: what it holds has changed since"))
            }
            None => {
                let why = fleet.lost.get(name).map(|p| p.what.clone()).unwrap_or_default();
                problem = problem.because(format!("{name}: {why}"));
            }
        }
    }
    let exit = if fleet.lost.is_empty() { Exit::InvalidInput } else { Exit::NodeFailed };
    let mut problems = vec![problem];
    problems.extend(fleet.lost.values().cloned());
    Err(CommandError { exit, problems })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::testing;

    #[test]
    fn a_second_apply_ends_before_it_undoes_what_the_first_has_open() {
        let dir = tempfile::tempdir().unwrap();
        let inventory = testing::file_in(dir.path());
        let _first = RunLock::take(dir.path()).unwrap();
        let global = Global { inventory, format: Format::Text };
        let args = Args { plan: None, reach: Reach::default(), yes: true };
        let stop = run(&global, &args).unwrap_err();
        let said: String = stop.problems.iter().map(ToString::to_string).collect();
        assert!(said.contains("another run is at work"), "{said}");
        assert!(!dir.path().join("pki").exists(), "it went on to the key store");
    }

    #[test]
    fn a_run_that_leaves_something_for_later_is_no_success() {
        let plan = |held_back: Vec<String>| {
            let node = crate::plan::NodePlan { held_back, ..Default::default() };
            let nodes = [("n".parse().unwrap(), node)].into();
            Plan::new("c".into(), String::new(), nodes, Vec::new())
        };
        let (all, some) = (plan(vec![]), plan(vec!["not yet".into()]));
        assert_eq!(idle(&all, &planner::held_back(&all), Format::Text), Exit::Done);
        assert_eq!(idle(&some, &planner::held_back(&some), Format::Text), Exit::NodeFailed);
        assert_eq!(exit_of(std::iter::empty(), &planner::held_back(&some)), Exit::NodeFailed);
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

    #[test]
    fn the_worst_outcome_decides_the_exit_code() {
        let why = || "x".to_owned();
        let bad = [
            Outcome::Reverted { why: why() },
            Outcome::Refused { why: why() },
            Outcome::Unreachable { why: why() },
            Outcome::Skipped { why: why() },
        ];
        let committed = [Outcome::Committed];
        assert_eq!(exit_of(committed.iter(), &[]), Exit::Done);
        assert_eq!(exit_of(committed.iter(), &[Problem::new("p")]), Exit::NodeFailed);
        for o in bad {
            let one_of_two = [Outcome::Committed, o.clone()];
            assert_eq!(exit_of(one_of_two.iter(), &[]), Exit::NodeFailed, "{o:?}");
            let worst = [o.clone(), Outcome::Incomplete { why: why() }];
            assert_eq!(exit_of(worst.iter(), &[]), Exit::RollbackIncomplete, "{o:?}");
        }
    }
}
