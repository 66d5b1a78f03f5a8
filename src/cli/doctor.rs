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
    /// Look at this machine only, and connect to no node.
    #[arg(long)]
    offline: bool,
}

const HELP: &str = "Looks at this machine (inventory, keys, bundle, clock) and at every node (reachable, host key, login,
sudo, operating system, clock, room, ports) and says how to mend everything that is wrong.
Changes nothing. The exit code is 3 if something is wrong here, 6 if only nodes have problems.

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
