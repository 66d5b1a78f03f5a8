//! `kubastion impact`: who would notice that a cluster that others built is hardened. Changes nothing anywhere.

use super::global::{Format, Global};
use super::machines::{Machines, Set, confirm};
use super::output::{note, pretty, print};
use crate::discovery;
use crate::report::impact::{Detail, json, text};
use crate::workflow::assessment::Question;
use crate::workflow::command_error::{CommandError, Exit};
use crate::workflow::impact::{Noticed, look, of_inventory};
use crate::workflow::observe::Reach;

/// Arguments of `impact`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP, mut_arg("machines", |a| a.required(false)))]
pub struct Args {
    /// The machines, and the way to them.
    #[command(flatten)]
    pub machines: Machines,
    /// Set of controls to harden by.
    #[arg(long, value_enum, default_value_t = Set::Nsa, value_name = "PROFILE")]
    pub profile: Set,
    /// Which nodes of those that are found, and the sudo password.
    #[command(flatten)]
    pub reach: Reach,
    /// Show everything that would be noticed.
    #[arg(short, long)]
    pub verbose: bool,
}

const HELP: &str =
    "Lists by name who would notice that a cluster that others built is hardened: pods and templates that
Pod Security would refuse, ports that would close, clients without credentials or with such as end,
webhooks, and objects that are stored in clear. Judges nothing, tries nothing, and writes nothing on
nodes, in the API or here. Machines are found and host keys confirmed as by `kubastion assess`.

Without machines, the cluster of the inventory is read, with what its nodes have recorded since
`hardening.stage: observe` was applied: connections that the firewall would turn away, and requests
that API servers would refuse. At the end it says what is to be mended or acknowledged before
`hardening.stage: enforce`.

Exit code 0: everything was read, whatever is listed. 6: a machine or the API did not answer, or not
all of it. 2: a host key is not confirmed. 3: a machine does not belong to the cluster.

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
    let noticed = match args.machines.machines.is_empty() {
        true => of_inventory(&super::inventory::load(global)?, &args.reach, &say)?,
        false => look(question(args), &mut confirm, &say)?,
    };
    let Noticed { subject, impact, obstacles, lost } = &noticed;
    match global.format {
        Format::Json => print(&pretty(&json(subject, impact, obstacles.as_ref(), lost)))?,
        Format::Text => {
            let detail = if args.verbose { Detail::Everything } else { Detail::Short };
            print(&text(subject, impact, obstacles.as_ref(), lost, detail))?
        }
    };
    if !lost.is_empty() {
        let problems = noticed.lost.into_values().collect();
        return Err(CommandError { exit: Exit::NodeFailed, problems });
    }
    Ok(if impact.is_whole() { Exit::Done } else { Exit::NodeFailed })
}

fn question(args: &Args) -> Question {
    Question {
        search: args.machines.search(|_, _, _| discovery::watch()),
        profile: args.profile.into(),
        reach: args.reach.clone(),
    }
}
