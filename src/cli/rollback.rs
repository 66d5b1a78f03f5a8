//! `kubastion rollback`: the way back from what a run did.

use super::ask::{Confirmation, ask};
use super::global::Global;
use super::output::{self, note};
use super::runs::finish;
use crate::workflow::accept::Undecided;
use crate::workflow::command_error::{CommandError, Exit};
use crate::workflow::observe::Reach;
use crate::workflow::rollback::Rollback;

/// Arguments of `rollback`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// Run id, as `kubastion runs` shows it. Default: the last apply that is not rolled back, so repeating it goes
    /// back one more run.
    pub run: Option<String>,
    /// Undo nothing: accept a node with an incomplete rollback in its present state, so that the next run continues from there.
    #[arg(long)]
    pub accept_present: bool,
    /// Which nodes, and how they are reached.
    #[command(flatten)]
    pub reach: Reach,
    /// Do not prompt. The prompt accepts y or yes; after n, no or an empty line, the exit code is 2.
    #[arg(short, long)]
    pub yes: bool,
}

const HELP: &str =
    "Restores files, owners, modes, units, kernel settings and kubastion's firewall table from the images
that were taken before the run. Packages stay installed, and etcd's data is never touched.
A node refuses to undo a run that later runs build on (exit code 6): undo the later runs first. A run that
joined nodes to a cluster is refused (exit code 3): use `kubastion reset`. Without RUN, the last
run that is not undone yet is rolled back; its id is shown first.

If something could not be undone (exit code 7, `incomplete`), apply refuses to run until you decide:
fix the cause and run rollback again, or accept the node as it is with --accept-present.

Examples:
  kubastion runs
  kubastion rollback
  kubastion rollback 20261121t101500z-1a2b3c --nodes w1
  kubastion rollback 20261121t101500z-1a2b3c --accept-present";

/// Runs `kubastion rollback`.
///
/// # Errors
/// If there is no such run, or a node cannot be asked.
pub fn run(global: &Global, args: &Args) -> Result<Exit, CommandError> {
    let loaded = super::inventory::load(global)?;
    let rollback = Rollback::of(&loaded, args.run.as_deref(), &args.reach)?;
    if args.accept_present {
        return accept(global, args, &rollback);
    }
    rollback.refuse_members()?;
    for line in rollback.announcement() {
        note(global.format, &line);
    }
    for problem in rollback.problems() {
        output::problem(global.format, problem);
    }
    if !args.yes {
        ask(Confirmation::Reversible, "use --yes")?;
    }
    let monitor = output::monitor(global.format);
    let run = rollback.carry_out(&monitor, &|line| note(global.format, line));
    // It leaves its line before anything else is said.
    drop(monitor);
    finish(global, run?)
}

fn accept(global: &Global, args: &Args, rollback: &Rollback<'_>) -> Result<Exit, CommandError> {
    let dialer = rollback.dialer()?;
    let undecided = Undecided::of(rollback, &dialer)?;
    for line in undecided.announcement() {
        note(global.format, &line);
    }
    for problem in undecided.problems() {
        output::problem(global.format, problem);
    }
    if !args.yes {
        ask(Confirmation::Irreversible, "use --yes")?;
    }
    let monitor = output::monitor(global.format);
    let run = undecided.accept(&monitor, &|line| note(global.format, line));
    drop(monitor);
    finish(global, run?)
}
