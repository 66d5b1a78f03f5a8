//! `kubastion impact`: who would notice the hardening of an existing cluster. Changes nothing anywhere.

use super::global::{Format, Global};
use super::machines::{Machines, Set, confirm};
use super::output::{note, pretty, print};
use crate::discovery;
use crate::report::impact::{Detail, json, text};
use crate::workflow::assessment::AssessRequest;
use crate::workflow::command_error::{CommandError, Exit};
use crate::workflow::impact::{ImpactReport, of_inventory, read_impact};
use crate::workflow::observe::Reach;

/// Arguments of `impact`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP, mut_arg("machines", |a| a.required(false)))]
pub struct Args {
    /// The machines, and how to log in to them.
    #[command(flatten)]
    pub machines: Machines,
    /// Profile: the set of controls to assume.
    #[arg(long, value_enum, default_value_t = Set::Nsa, value_name = "PROFILE")]
    pub profile: Set,
    /// Which of the nodes that are found, and the sudo password.
    #[command(flatten)]
    pub reach: Reach,
    /// Show everything that was found.
    #[arg(short, long)]
    pub verbose: bool,
}

const HELP: &str =
    "Lists by name who would notice the hardening of an existing cluster: pods and templates that Pod
Security would reject, ports that would close, clients that are anonymous or whose credentials would
stop working, webhooks, and objects stored in plain text. Only reads: judges nothing, attacks nothing,
and writes nothing on nodes, in the API or on this machine. Finds machines and confirms host keys as
`kubastion assess` does.

Without machines, reads the cluster of the inventory, with what its nodes have recorded since
`hardening.stage: observe` was applied: connections that the firewall would drop, and requests that
API servers would reject. Ends with what to fix or acknowledge before `hardening.stage: enforce`.

Exit code 0: everything was read, whatever the list holds. 6: a machine or the API did not answer, or
not completely. 2: a host key is not confirmed. 3: a machine does not belong to the cluster.

Examples:
  kubastion impact
  kubastion impact ssh://root@192.0.2.11 --identity ~/.ssh/id_ed25519
  kubastion impact ssh://ops@cp1 --known-hosts ~/.ssh/known_hosts --verbose
  kubastion --format json impact ssh://root@cp1 --known-hosts kh |
      jq '.noticed[] | select(.id == \"pod-security\") | .items[].name'";

/// Runs `kubastion impact`.
///
/// # Errors
/// Machines that do not answer or are others, and host keys that nobody confirms.
pub fn run(global: &Global, args: &Args) -> Result<Exit, CommandError> {
    let say = |line: &str| note(global.format, line);
    let report = match args.machines.machines.is_empty() {
        true => of_inventory(&super::inventory::load(global)?, &args.reach, &say)?,
        false => read_impact(request(args), &mut confirm, &say)?,
    };
    let ImpactReport { subject, impact, obstacles, unreachable } = &report;
    match global.format {
        Format::Json => print(&pretty(&json(subject, impact, obstacles.as_ref(), unreachable)))?,
        Format::Text => {
            let detail = if args.verbose { Detail::Everything } else { Detail::Short };
            print(&text(subject, impact, obstacles.as_ref(), unreachable, detail))?
        }
    };
    if !unreachable.is_empty() {
        let problems = report.unreachable.into_values().collect();
        return Err(CommandError { exit: Exit::NodeFailed, problems });
    }
    Ok(if impact.is_whole() { Exit::Done } else { Exit::NodeFailed })
}

fn request(args: &Args) -> AssessRequest {
    AssessRequest {
        search: args.machines.search(|_, _, _| discovery::watch()),
        profile: args.profile.into(),
        reach: args.reach.clone(),
    }
}
