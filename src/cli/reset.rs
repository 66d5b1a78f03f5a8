//! `kubastion reset`: nodes back to what they were before the first run.

use super::ask::{Confirmation, ask};
use super::global::Global;
use super::output::{monitor, note};
use super::runs::finish;
use crate::plan::EtcdData;
use crate::plan::drain::Drain;
use crate::workflow::command_error::{CommandError, Exit};
use crate::workflow::observe::Reach;
use crate::workflow::reset::{How, carry_out, chosen};

/// Arguments of `reset`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// Which nodes, and how they are reached.
    #[command(flatten)]
    pub reach: Reach,
    /// Delete etcd's data, which is the entire state of the cluster.
    #[arg(long, conflicts_with = "keep_etcd_data")]
    pub delete_etcd_data: bool,
    /// Keep etcd's data on disk, with every Secret in it.
    #[arg(long)]
    pub keep_etcd_data: bool,
    /// Maximum time to drain a node, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub drain_timeout: u32,
    /// Reset a node even if its pods could not be evicted, because the API did not answer or time ran out.
    #[arg(long)]
    pub undrained: bool,
    /// Do not prompt. The prompt accepts only the word yes; after anything else, the exit code is 2.
    #[arg(short, long)]
    pub yes: bool,
}

impl Args {
    fn how(&self) -> How {
        let data = match (self.delete_etcd_data, self.keep_etcd_data) {
            (true, _) => Some(EtcdData::Delete),
            (false, true) => Some(EtcdData::Keep),
            (false, false) => None,
        };
        let within_s = u64::from(self.drain_timeout);
        How { drain: Drain { within_s, or_leave: self.undrained }, data }
    }
}

const HELP: &str =
    "Removes a node from its cluster and undoes every run on it, newest first, from the images that the
node keeps. Packages and what they create when they run, system logs and the API server's audit log
(/var/log/kubernetes), and useradd's copies (/etc/passwd- and the like) stay. The key store is not touched: the same cluster can be created again.

If the cluster keeps running, the node is drained first: it is cordoned, and its pods are evicted as
PodDisruptionBudgets allow. DaemonSet pods and static pods stop with the node. If pods are left
at the timeout, or the API does not answer, the node is not reset and is uncordoned; with
--undrained it is reset anyway, and its pods are stopped without eviction.

A control plane is removed the same way; its etcd member is removed first, one at a time, and only while
all other members are healthy. The last control planes and members are reset together. Choose what
happens to etcd's data on a node: --delete-etcd-data or --keep-etcd-data. A removed member cannot reuse
its old data.

Examples:
  kubastion reset --nodes w2
  kubastion reset --nodes w2 --drain-timeout 30 --undrained
  kubastion reset --delete-etcd-data --yes";

/// Runs `kubastion reset`.
///
/// # Errors
/// Problems of the inventory, and nodes that must not be reset alone.
pub fn run(global: &Global, args: &Args) -> Result<Exit, CommandError> {
    let loaded = super::inventory::load(global)?;
    let how = args.how();
    let nodes = chosen(&loaded.inventory, &args.reach, how.data)?;
    let names: Vec<&str> = nodes.iter().map(|n| n.name.as_str()).collect();
    let etcd = if args.delete_etcd_data { ", and etcd's data deleted" } else { "" };
    let begins =
        format!("{} will be reset to the state before the first run{etcd}", names.join(", "));
    note(global.format, &begins);
    if !args.yes {
        ask(Confirmation::Irreversible, "use --yes")?;
    }
    let monitor = monitor(global.format);
    let say = |line: &str| note(global.format, line);
    let run = carry_out(&loaded, nodes, &args.reach, how, &monitor, &say);
    // It leaves its line before anything else is said.
    drop(monitor);
    finish(global, run?)
}
