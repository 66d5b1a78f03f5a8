//! `kubastion plan`: what apply would do. Changes nothing.

use std::path::PathBuf;

use super::global::{Format, Global};
use super::output::{note, pretty, print};
use crate::inventory::NodeName;
use crate::report::plan::{Detail, render};
use crate::workflow::command_error::{CommandError, Exit};
use crate::workflow::observe::Reach;
use crate::workflow::preview::{Wanted, preview};
use crate::workflow::{saved_plan, software};

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// Which nodes, and how they are reached.
    #[command(flatten)]
    pub reach: Reach,
    /// Save the plan for `kubastion apply FILE`.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Exit with 4 if changes are pending.
    #[arg(long)]
    pub exit_code: bool,
    /// Show the changes inside files. For secrets, only that they change.
    #[arg(long)]
    pub diff: bool,
    /// Show every step with its reason and its controls, and the notes of each node.
    #[arg(short, long)]
    pub verbose: bool,
}

const HELP: &str =
    "A saved plan is bound to the state it was made from: if the inventory, the keys or a node changes,
`apply FILE` refuses it. It holds no secrets.
Exit code 3: nodes are refused. Exit code 6: a node or the API server did not answer. The plan for the
other nodes is still shown.

Examples:
  kubastion plan
  kubastion plan --verbose --nodes cp1
  kubastion plan --diff --nodes cp1
  kubastion plan --out change.plan && kubastion apply change.plan
  kubastion plan --exit-code || echo 'changes pending or a node failed'";

/// Runs `kubastion plan`.
///
/// # Errors
/// Every problem of the inventory, the key store and the nodes. The plan of the nodes that
/// answered is shown all the same.
pub fn run(global: &Global, args: &Args) -> Result<Exit, CommandError> {
    if let Some(file) = &args.out {
        saved_plan::may_replace(file)?;
    }
    let mut loaded = super::inventory::load(global)?;
    software::bundle(&mut loaded)?;
    let wanted = Wanted { reach: &args.reach, out: args.out.as_deref(), diff: args.diff };
    let preview = preview(&loaded, wanted, &|line| note(global.format, line))?;
    let plan = &preview.plan;
    match global.format {
        Format::Json if args.diff => {
            print(&pretty(&serde_json::json!({ "plan": plan, "diffs": preview.diffs })))?
        }
        Format::Json => print(&pretty(plan))?,
        Format::Text => {
            let detail = if args.verbose { Detail::Steps } else { Detail::Summary };
            let mut text = render(plan, detail);
            if !preview.unreachable.is_empty() {
                let names: Vec<&str> = preview.unreachable.iter().map(NodeName::as_str).collect();
                text.push_str(&format!("\nnot planned: {}\n", names.join(", ")));
            }
            for (name, diff) in &preview.diffs {
                text.push_str(&format!("\n{name}\n{diff}"));
            }
            print(&text)?
        }
    };
    if let Some(file) = &args.out {
        saved_plan::save(file, plan)?;
        let file = file.display();
        note(global.format, &format!("saved as {file}; run `kubastion apply {file}` to apply it"));
    }
    let pending = preview.is_pending();
    if !preview.failed.is_empty() {
        return Err(CommandError { exit: preview.exit, problems: preview.failed });
    }
    Ok(if args.exit_code && pending { Exit::Pending } else { Exit::Done })
}
