//! `kubastion apply`: carries a plan out.

use std::path::PathBuf;

use super::ask::{Confirmation, ask};
use super::global::{Format, Global};
use super::output::{self, monitor, note};
use super::runs::finish;
use crate::error::Problem;
use crate::event::Sink;
use crate::plain::counted;
use crate::plan::Plan;
use crate::report::plan::{Detail, render};
use crate::workflow::apply::{Applied, Operator, apply};
use crate::workflow::command_error::{CommandError, Exit};
use crate::workflow::observe::Reach;
use crate::workflow::{saved_plan, software};

/// Arguments of `apply`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// A plan saved by `kubastion plan --out`. Without it, a plan is made, shown and confirmed.
    #[arg(value_name = "PLAN")]
    pub plan: Option<PathBuf>,
    /// Which nodes, and how they are reached.
    #[command(flatten)]
    pub reach: Reach,
    /// Do not prompt. The prompt accepts y or yes; after n, no or an empty line, the exit code is 2.
    #[arg(short, long)]
    pub yes: bool,
}

const HELP: &str =
    "Every change that can cut off access is armed first: the node undoes it by itself unless a new
connection confirms it, even if this program is killed or the node reboots.
Apply makes only the changes that the plan shows. Further changes, from installed packages or in the
cluster's objects, are shown and confirmed separately; a saved plan stops there (exit code 4).
Keys and certificates that are due are issued after you confirm.
Exit code 3: nodes are refused, and nothing was started. Exit code 6: a node failed, did not answer, or was
refused while others were changed.

Examples:
  kubastion apply
  kubastion plan --out change.plan && kubastion apply change.plan
  kubastion apply --yes --nodes w1,w2";

/// Runs `kubastion apply`.
///
/// # Errors
/// Every problem of the inventory, the key store, the plan and the nodes.
pub fn run(global: &Global, args: &Args) -> Result<Exit, CommandError> {
    let saved = args.plan.as_deref().map(saved_plan::read).transpose()?;
    let mut loaded = super::inventory::load(global)?;
    let bundle = software::bundle(&mut loaded)?;
    let mut reach = args.reach.clone();
    if let Some(plan) = &saved {
        if !reach.nodes.is_empty() {
            let problem = Problem::new("a saved plan already names its nodes");
            return Err(CommandError::one(Exit::Usage, problem.at("--nodes")));
        }
        reach.nodes = plan.nodes.keys().cloned().collect();
    }
    let terminal = Terminal { format: global.format, yes: args.yes, is_saved: saved.is_some() };
    match apply(&loaded, bundle.as_ref(), saved.as_ref(), &reach, &terminal)? {
        Applied::Nothing { nodes } => {
            terminal.note(&format!("nothing to do on {}", counted(nodes, "node")));
            Ok(Exit::Done)
        }
        Applied::Run { run, left } => match (finish(global, *run)?, left) {
            (Exit::Done, Some(left)) => {
                let left = left.words();
                terminal.note(&format!("{left}; run `kubastion plan` to see them"));
                Ok(Exit::Pending)
            }
            (exit, _) => Ok(exit),
        },
    }
}

/// Says what is done on standard error, and asks there.
struct Terminal {
    format: Format,
    /// Nothing is asked.
    yes: bool,
    /// The plan is shown already, and agreed to.
    is_saved: bool,
}

impl Terminal {
    fn ask(&self, instead: &str) -> Result<(), CommandError> {
        if self.yes { Ok(()) } else { ask(Confirmation::Reversible, instead) }
    }
}

impl Operator for Terminal {
    fn note(&self, text: &str) {
        note(self.format, text);
    }

    fn progress(&self) -> Box<dyn Sink> {
        Box::new(monitor(self.format))
    }

    fn agree_to_keys(&self, due: &str) -> Result<(), CommandError> {
        self.note(&format!("pki: {due} will be issued"));
        self.ask("use --yes")
    }

    fn agree_to_plan(
        &self,
        plan: &Plan,
        due: Option<&str>,
        problems: &[Problem],
    ) -> Result<(), CommandError> {
        // For whoever is asked; a program has the plan from `plan --format json`.
        if self.format == Format::Text || !self.yes {
            eprint!("{}", render(plan, Detail::Summary));
        }
        if let Some(due) = due {
            self.note(&format!("pki: {due} will be issued"));
        }
        for problem in problems {
            output::problem(self.format, problem);
        }
        self.ask("apply a saved plan, or use --yes")
    }

    /// Shows the changed plan and asks on a terminal. `--yes` is an answer; a saved plan is never extended, since whoever read
    /// it has not read this.
    fn agree_to_rest(&self, rest: &Plan) -> Result<bool, CommandError> {
        if self.format == Format::Text {
            eprintln!("\nThe packages are installed. The updated rest of the plan:");
            eprint!("{}", render(rest, Detail::Summary));
        }
        if self.yes || self.is_saved {
            return Ok(!self.is_saved);
        }
        match ask(Confirmation::Reversible, "use --yes") {
            Ok(()) => Ok(true),
            // What was done stays done, and is recorded.
            Err(stop) if stop.exit == Exit::Usage => Ok(false),
            Err(stop) => Err(stop),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn yes_does_not_extend_a_saved_plan() {
        let rest = Plan::new("c".into(), "0".repeat(64), BTreeMap::new(), Vec::new());
        let agrees = |is_saved| {
            let terminal = Terminal { format: Format::Json, yes: true, is_saved };
            terminal.agree_to_rest(&rest).unwrap()
        };
        assert!(agrees(false) && !agrees(true));
    }
}
