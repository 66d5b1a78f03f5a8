//! `kubastion doctor`: what stands in the way of a plan, before there is one.

use super::global::{Format, Global};
use super::output::{note, pretty, print};
use crate::report::doctor::text;
use crate::workflow::command_error::{CommandError, Exit};
use crate::workflow::doctor::{Examination, Nodes};
use crate::workflow::observe::Reach;

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// Which nodes.
    #[command(flatten)]
    reach: Reach,
    /// Check this machine only. Connects to no node.
    #[arg(long)]
    offline: bool,
}

const HELP: &str = "Checks this machine (inventory, keys, bundle, clock) and every node
(reachability, host key, login, sudo, operating system, clock, disk space, ports) and shows how to
fix each problem.
Changes nothing. The exit code is 3 if this machine has a problem, 6 if only nodes have problems.

Examples:
  kubastion doctor
  kubastion doctor --offline
  kubastion --format json doctor | jq '.[] | select(.level == \"problem\")'";

/// Runs `kubastion doctor`.
///
/// # Errors
/// A node that is not in the inventory, or a password that cannot be asked for.
pub fn run(global: &Global, args: &Args) -> Result<Exit, CommandError> {
    let nodes = if args.offline { Nodes::LeftAlone } else { Nodes::LookedAt };
    let examination = match super::inventory::load_host_keys_optional(global) {
        Ok(loaded) => {
            let say = |line: &str| note(global.format, line);
            Examination::of(&global.inventory, loaded, &args.reach, nodes, &say)?
        }
        Err(stop) => Examination::without_inventory(stop.problems),
    };
    match global.format {
        Format::Json => print(&pretty(&examination.findings))?,
        Format::Text => print(&text(&examination.findings))?,
    };
    Ok(examination.exit())
}
