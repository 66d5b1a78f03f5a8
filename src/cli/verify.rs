//! `kubastion verify`: judge every control, and attack. Changes nothing on nodes; some attempts write to the
//! cluster's API, in a namespace of their own.

use super::global::{Format, Global};
use super::output::{note, pretty, print};
use crate::report::verification::{Detail, json, summary, text};
use crate::verify::Writes;
use crate::workflow::command_error::{CommandError, Exit};
use crate::workflow::observe::Reach;
use crate::workflow::software;
use crate::workflow::verification::{Judged, judge};

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// Which nodes, and how they are reached.
    #[command(flatten)]
    pub reach: Reach,
    /// Show every control with all evidence.
    #[arg(short, long, conflicts_with = "summary")]
    pub verbose: bool,
    /// Create nothing in the cluster or on the nodes. Checks that need such an attempt are unknown.
    #[arg(long)]
    pub read_only: bool,
    /// Summarize in plain words what was proven and what was not.
    #[arg(long)]
    pub summary: bool,
}

const HELP: &str =
    "Reads the nodes, then attacks them over the network, from this machine and from other nodes.
Some attempts create a namespace, `kubastion-probe-...`, and one creates a network namespace on
each node; both are deleted again, and --read-only skips these attempts. Nothing else is changed. A
control passes only on evidence: what cannot be checked is unknown, and unknown counts as a failure.

Exit code 5: a control failed or could not be checked. 6: a node did not answer.

Examples:
  kubastion verify
  kubastion verify --summary
  kubastion --format json verify |
      jq '.findings[] | select(.verdict == \"fail\")'";

/// Runs `kubastion verify`.
///
/// # Errors
/// Every problem of the inventory and of nodes that did not answer. What the others showed is
/// printed all the same.
pub fn run(global: &Global, args: &Args) -> Result<Exit, CommandError> {
    let mut loaded = super::inventory::load(global)?;
    software::bundle(&mut loaded)?;
    let writes = if args.read_only { Writes::Forbidden } else { Writes::Allowed };
    let say = |line: &str| note(global.format, line);
    let Judged { report, unreachable } = judge(&loaded, &args.reach, writes, &say)?;
    match global.format {
        Format::Json => print(&pretty(&json(&report)))?,
        Format::Text if args.summary => print(&summary(&report))?,
        Format::Text => {
            let detail = if args.verbose { Detail::Everything } else { Detail::Short };
            print(&text(&report, detail))?
        }
    };
    if !unreachable.is_empty() {
        let problems = unreachable.into_values().collect();
        return Err(CommandError { exit: Exit::NodeFailed, problems });
    }
    Ok(if report.is_bad() { Exit::Findings } else { Exit::Done })
}
