//! `kubastion plan`: what apply would do. Changes nothing.

use std::path::PathBuf;

use super::args::{Format, Global};
use super::exit::Exit;
use super::output::{pretty, print};
use super::pipeline::{self, PkiUse, Reach};
use super::run::Stop;
use crate::error::Problem;
use crate::plan::Plan;
use crate::plan::text::{Detail, render};

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
    /// End with 4 if changes are pending.
    #[arg(long)]
    pub exit_code: bool,
    /// Show every step with its reason and its controls.
    #[arg(short, long)]
    pub verbose: bool,
}

const HELP: &str =
    "A saved plan is bound to what it saw: if the inventory, the keys or a node changes,
`apply FILE` refuses it. It holds no secrets.

Examples:
  kubastion plan
  kubastion plan --verbose --nodes cp1
  kubastion plan --out change.plan && kubastion apply change.plan
  kubastion plan --exit-code || echo 'changes pending or a node failed'";

/// Runs `kubastion plan`.
///
/// # Errors
/// Every problem of the inventory, the key store and the nodes. The plan of the nodes that
/// answered is shown all the same.
pub fn run(global: &Global, args: &Args) -> Result<Exit, Stop> {
    let loaded = super::inventory::load(global)?;
    let nodes = pipeline::chosen(&loaded.inventory, &args.reach)?;
    let material = pipeline::material(&loaded, PkiUse::ReadOnly)?;
    let dialer = pipeline::dialer(&loaded.inventory, &nodes, &args.reach)?;
    let mut fleet = pipeline::look(&loaded.inventory, &nodes, &dialer);
    for seen in fleet.seen.values() {
        for t in seen.facts.open_transactions.iter().filter(|t| t.state != "incomplete") {
            eprintln!(
                "{}: transaction {} was left {} by an earlier run; apply settles it first",
                seen.facts.node, t.id, t.state
            );
        }
    }
    let (plan, _) = pipeline::plan(&loaded, &mut fleet, &material);
    match global.format {
        Format::Json => print(&pretty(&plan))?,
        Format::Text => {
            let detail = if args.verbose { Detail::Steps } else { Detail::Summary };
            print(&render(&plan, detail))?
        }
    };
    if let Some(file) = &args.out {
        std::fs::write(file, pretty(&plan)).map_err(|e| {
            let problem = Problem::from_error("the plan cannot be saved", &e);
            Stop::one(Exit::Unexpected, problem.at(file.display().to_string()))
        })?;
        eprintln!(
            "saved as {}; `kubastion apply {}` carries it out",
            file.display(),
            file.display()
        );
    }
    if !fleet.lost.is_empty() {
        let problems = fleet.lost.into_values().collect();
        return Err(Stop { exit: Exit::NodeFailed, problems });
    }
    Ok(if args.exit_code && !plan.is_empty() { Exit::Pending } else { Exit::Done })
}

/// Reads a saved plan.
///
/// # Errors
/// A file that cannot be read, is of another format or version, or whose content is not what its id
/// says.
pub fn read(file: &std::path::Path) -> Result<Plan, Stop> {
    let stop =
        |problem: Problem| Stop::one(Exit::InvalidInput, problem.at(file.display().to_string()));
    let bytes = std::fs::read(file)
        .map_err(|e| stop(Problem::from_error("the plan cannot be read", &e)))?;
    let plan: Plan = serde_json::from_slice(&bytes)
        .map_err(|e| stop(Problem::from_error("this is not a plan", &e)))?;
    let again = "make a new one with `kubastion plan --out`";
    if plan.format != crate::plan::FORMAT || plan.made_by != env!("CARGO_PKG_VERSION") {
        let what = format!("the plan was made by version {} of kubastion", plan.made_by);
        return Err(stop(Problem::new(what).hint(again)));
    }
    if plan.digest() != plan.id {
        return Err(stop(Problem::new("the plan was changed since it was saved").hint(again)));
    }
    Ok(plan)
}
