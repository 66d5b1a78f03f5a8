//! `kubastion assess`: judges an existing cluster. Changes nothing anywhere.

use super::global::{Format, Global};
use super::machines::{Machines, Set, confirm};
use super::output::{note, pretty, print};
use crate::discovery;
use crate::report::assessment::json::Parts;
use crate::report::assessment::{Detail, json, text};
use crate::workflow::assessment::{AssessRequest, Assessed, assess};
use crate::workflow::command_error::{CommandError, Exit};
use crate::workflow::observe::Reach;

/// Arguments of `assess`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// The machines, and how to log in to them.
    #[command(flatten)]
    pub machines: Machines,
    /// Profile: the set of controls to check.
    #[arg(long, value_enum, default_value_t = Set::Nsa, value_name = "PROFILE")]
    pub profile: Set,
    /// Which of the nodes that are found, and the sudo password.
    #[command(flatten)]
    pub reach: Reach,
    /// Show every failed check and every unknown control.
    #[arg(short, long)]
    pub verbose: bool,
}

const HELP: &str =
    "Assesses an existing cluster, without an inventory, a key store or a bundle. Finds its nodes through
the API, reads and attacks them as `verify --read-only` does, and shows every gap, how to fix it,
what the fix restarts, and whom it affects. Writes nothing on nodes, in the API or on this machine.

kubastion logs in to a machine only if its host key is in --known-hosts or --host-key, or if you
confirm it at the prompt. Compare fingerprints on the machine's console
(`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`). The administrator's kubeconfig, the CAs and an
etcd client certificate are read from a control plane and kept in memory only. What cannot be judged
without a key store or without writing is reported as unknown, never as a pass.

k3s, RKE2, k0s, Talos and managed control planes are recognized; the report shows what can still be judged.

Exit code 5: a control failed or could not be checked. 6: a machine did not answer, or presented a
different host key. 2: a host key is not confirmed. 3: a machine does not belong to the cluster.

Examples:
  kubastion assess ssh://root@192.0.2.11 --identity ~/.ssh/id_ed25519
  kubastion assess ssh://ops@cp1.example --jump ssh://ops@bastion.example
  kubastion assess ssh://ops@cp1 --known-hosts ~/.ssh/known_hosts --verbose
  kubastion --format json assess ssh://root@cp1 --known-hosts kh |
      jq '.gaps[] | select(.severity == \"critical\") | .control'";

/// Runs `kubastion assess`.
///
/// # Errors
/// Machines that do not answer or are others, and host keys that nobody confirms.
pub fn run(global: &Global, args: &Args) -> Result<Exit, CommandError> {
    let request = AssessRequest {
        search: args.machines.search(|_, _, _| discovery::watch()),
        profile: args.profile.into(),
        reach: args.reach.clone(),
    };
    let say = |line: &str| note(global.format, line);
    let Assessed { found, judged } = assess(request, &mut confirm, &say)?;
    match global.format {
        Format::Json => {
            let parts = Parts::of(&judged.report);
            print(&pretty(&json(&found, &judged.report, &parts)))?
        }
        Format::Text => {
            let detail = if args.verbose { Detail::Everything } else { Detail::Short };
            print(&text(&found, &judged.report, detail))?
        }
    };
    if !judged.unreachable.is_empty() {
        let problems = judged.unreachable.into_values().collect();
        return Err(CommandError { exit: Exit::NodeFailed, problems });
    }
    Ok(if judged.report.is_bad() { Exit::Findings } else { Exit::Done })
}
