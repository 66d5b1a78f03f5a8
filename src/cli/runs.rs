//! `kubastion runs` and `kubastion rollback`: what was done, and the way back.

use std::collections::BTreeMap;

use super::apply::{ask, finish, record_stop};
use super::args::{Format, Global};
use super::exit::Exit;
use super::output::{pretty, print};
use super::pipeline::{self, Reach};
use super::run::Stop;
use crate::apply::gate::chain;
use crate::apply::protocol::{self, TxnState, Verb};
use crate::apply::record::{Journal, Line, Outcome, Outcomes, RunRecord, read_all};
use crate::clock::Clock;
use crate::desired::Phase;
use crate::error::Problem;
use crate::inventory::{Node, NodeName};
use crate::report::runs;
use crate::transport::{Dialer, fleet};

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
A run that others were made on top of is refused: undo the later ones first.

Examples:
  kubastion runs
  kubastion rollback
  kubastion rollback 20261121t101500z-1a2b3c --nodes w1";

/// Runs `kubastion runs`.
///
/// # Errors
/// If the inventory or a record cannot be read.
pub fn list(global: &Global) -> Result<Exit, Stop> {
    let loaded = super::inventory::load(global)?;
    let all = read_all(&loaded.base_dir).map_err(record_stop)?;
    match global.format {
        Format::Json => print(&pretty(&all)),
        Format::Text => print(&runs::list(&all)),
    }
}

/// Runs `kubastion rollback`.
///
/// # Errors
/// If there is no such run, or a node cannot be asked.
pub fn rollback(global: &Global, args: &Rollback) -> Result<Exit, Stop> {
    let loaded = super::inventory::load(global)?;
    let inventory = &loaded.inventory;
    let all = read_all(&loaded.base_dir).map_err(record_stop)?;
    let run = choose(&all, args.run.as_deref())?;
    let nodes = pipeline::chosen(inventory, &args.reach)?;
    // Latest first: a phase builds on the ones before it.
    let mut todo: BTreeMap<Phase, Vec<(&Node, &str)>> = BTreeMap::new();
    for t in run.transactions.iter().filter(|t| t.phase != Phase::Packages) {
        if let Some(node) = nodes.iter().find(|n| n.name == t.node) {
            todo.entry(t.phase).or_default().push((node, &t.id));
        }
    }
    eprintln!(
        "rolling run {} back on {} nodes",
        run.run,
        todo.values()
            .flatten()
            .map(|(n, _)| &n.name)
            .collect::<std::collections::BTreeSet<_>>()
            .len()
    );
    if !args.yes {
        ask()?;
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
    let mut outcomes = Outcomes::new();
    for (phase, work) in todo.into_iter().rev() {
        for (node, id) in &work {
            let line = Line::Transaction { node: node.name.clone(), phase, id: (*id).to_owned() };
            journal.write(&line).map_err(record_stop)?;
        }
        let results = fleet::each(work, fleet::WINDOW, |(node, id)| {
            let outcome = match dialer.connect(&inventory.ssh.for_node(node)) {
                Ok(mut session) => undo(session.as_mut(), id),
                Err(e) => Outcome::Unreachable { why: chain(&e) },
            };
            (node.name.clone(), outcome)
        });
        for (name, outcome) in results {
            record(&journal, &mut outcomes, name, phase, outcome)?;
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

fn undo(session: &mut dyn crate::transport::Transport, id: &str) -> Outcome {
    match protocol::call(session, id, Verb::Undo, "-", &mut |_| {}) {
        Ok(a) => match (a.state, a.refused) {
            // What was asked for: "committed" is what a rollback that worked is called here.
            (Some(TxnState::Reverted | TxnState::Absent), _) => Outcome::Committed,
            (_, Some(why)) => Outcome::Refused { why },
            (Some(TxnState::Incomplete), _) => Outcome::Incomplete { why: a.said.join("; ") },
            _ => Outcome::Incomplete { why: a.rest },
        },
        Err(e) => Outcome::Incomplete { why: chain(&e) },
    }
}

fn choose<'r>(all: &'r [RunRecord], wanted: Option<&str>) -> Result<&'r RunRecord, Stop> {
    let found = match wanted {
        Some(id) => all.iter().find(|r| r.run == id),
        None => all.iter().rev().find(|r| r.kind == "apply" && !r.transactions.is_empty()),
    };
    found.ok_or_else(|| {
        let what = wanted.map_or_else(
            || "there is no apply to roll back".to_owned(),
            |id| format!("there is no run `{id}`"),
        );
        Stop::one(Exit::InvalidInput, Problem::new(what).hint("`kubastion runs` lists them"))
    })
}
