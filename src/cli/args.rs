//! The command line as typed.

use std::path::PathBuf;

use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::global::Global;

/// Hardens Kubernetes nodes over SSH and proves that they are hardened.
#[derive(Debug, Parser)]
#[command(name = "kubastion", version, arg_required_else_help = true, after_long_help = exit_codes())]
pub struct Cli {
    /// Options of every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

impl Cli {
    /// The definition of every verb, with texts that a terminal or a manual of any width wraps once.
    pub fn definition() -> Command {
        flowing(Self::command())
    }

    /// The command line of this process.
    ///
    /// # Errors
    /// What is wrong with it, or the help that was asked for.
    pub fn read() -> Result<Self, clap::Error> {
        let mut command = Self::definition();
        let matches = command.try_get_matches_from_mut(std::env::args_os())?;
        Self::from_arg_matches(&matches).map_err(|e| e.format(&mut command))
    }
}

fn flowing(command: Command) -> Command {
    let text = command.get_after_long_help().map(|t| paragraphs(&t.to_string()));
    let command = match text {
        Some(text) => command.after_long_help(text),
        None => command,
    };
    command.mut_subcommands(flowing)
}

/// A text whose paragraphs are one line each. What is indented keeps its lines.
fn paragraphs(text: &str) -> String {
    let mut out = String::new();
    let mut before = "";
    for line in text.lines() {
        let prose = |l: &str| !l.is_empty() && !l.starts_with(' ');
        if prose(before) && prose(line) {
            out.push(' ');
        } else if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(line);
        before = line;
    }
    out
}

/// The verbs, in the order of a first hour.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create, check and show the inventory.
    #[command(subcommand)]
    Inventory(super::inventory::Command),
    /// Issue keys and certificates, and show their status.
    #[command(subcommand)]
    Pki(super::pki::Command),
    /// Create, verify and list bundles: the signed software that clusters are installed from.
    #[command(subcommand)]
    Bundle(super::bundle::Command),
    /// Check this machine and the nodes for problems. Changes nothing.
    Doctor(super::doctor::Args),
    /// Show the SSH host keys of the nodes before the first connection.
    Trust(super::trust::Args),
    /// Assess an existing cluster, without an inventory. Changes nothing.
    Assess(super::assess::Args),
    /// List who would notice the hardening of an existing cluster. Changes nothing.
    Impact(super::impact::Args),
    /// Write the inventory and key store of an existing cluster. Changes nothing on the cluster.
    Import(super::import::Args),
    /// Show the changes that `apply` would make. Changes nothing.
    Plan(super::plan::Args),
    /// Make the changes of a plan.
    Apply(super::apply::Args),
    /// Check every control on every node and attack the cluster. Leaves no changes behind.
    Verify(super::verify::Args),
    /// Write the administrator's kubeconfig from the key store.
    Kubeconfig(super::kubeconfig::Args),
    /// List and describe the controls.
    #[command(subcommand)]
    Controls(super::controls::Command),
    /// List past runs.
    #[command(
        after_long_help = "Examples:\n  kubastion runs\n  kubastion --format json runs | jq -r '.[0]'"
    )]
    Runs,
    /// Undo a run.
    Rollback(super::rollback::Args),
    /// Remove nodes from their cluster and restore their original state.
    Reset(super::reset::Args),
    /// Manage a lab: disposable nodes on this machine.
    #[command(subcommand, after_long_help = LAB_EXAMPLES)]
    Lab(LabVerb),
    /// Print a completion script for a shell.
    Completions(super::completions::Completions),
    /// Write manual pages.
    Man(super::completions::Man),
}

const LAB_EXAMPLES: &str = "Examples:
  kubastion lab up --dir .
  kubastion lab up --stock --bundle /var/cache/kubastion/bundle --dir stock
  kubastion lab up --stock --stock-variant odd --control-planes 1 \\
      --bundle /var/cache/kubastion/bundle --dir odd
  kubastion lab status --dir .
  kubastion lab exec --dir . cp1 -- nft list table inet kubastion
  kubastion lab down --dir .";

/// What can be done with a lab.
#[derive(Debug, Subcommand)]
pub enum LabVerb {
    /// Create nodes and their inventory (needs root on Debian 12 or 13).
    Up(LabUp),
    /// Show the nodes.
    Status(LabDir),
    /// Run a command on a node as root; exits with the exit code of the command.
    Exec(LabExec),
    /// Power off the nodes and remove everything that the lab created. Keeps keys and run records, which are next to the
    /// inventory: no verb deletes keys.
    Down(LabDir),
}

/// Which lab.
#[derive(Debug, clap::Args)]
pub struct LabDir {
    /// Directory of the lab.
    #[arg(long, default_value = "./lab", value_name = "DIR")]
    pub dir: PathBuf,
}

/// Arguments of `lab up`.
#[derive(Debug, clap::Args)]
pub struct LabUp {
    /// Which lab.
    #[command(flatten)]
    pub dir: LabDir,
    /// Control-plane nodes, which are also the etcd members.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub control_planes: u8,
    /// Worker nodes.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub workers: u8,
    /// Directory of a bundle to install Kubernetes from. Trusted signing keys are read
    /// from the file DIR.signers next to it, one public key per line.
    #[arg(long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// Create a stock kubeadm cluster on the nodes, from the bundle, with kubeadm's defaults. Its API endpoint is the address of the first control plane.
    #[arg(long)]
    pub stock: bool,
    /// Settings of the stock cluster.
    #[arg(long, requires = "stock", value_enum, default_value_t = StockVariant::Plain, value_name = "VARIANT")]
    pub stock_variant: StockVariant,
    /// Where etcd of the stock cluster runs.
    #[arg(long, requires = "stock", value_enum, default_value_t = StockEtcd::Stacked, value_name = "PLACE")]
    pub stock_etcd: StockEtcd,
    /// Cache directory for root filesystems.
    #[arg(long, default_value = crate::lab::DEFAULT_CACHE, value_name = "DIR")]
    pub cache: PathBuf,
}

/// Settings of a stock cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum StockVariant {
    /// kubeadm's defaults.
    Plain,
    /// Extra names in certificates, an API server flag, a feature gate, maxPods, an audit policy from the host.
    Odd,
    /// One CA for the cluster, etcd and the front proxy.
    SingleCa,
}

impl From<StockVariant> for crate::lab::StockVariant {
    fn from(variant: StockVariant) -> Self {
        match variant {
            StockVariant::Plain => Self::Plain,
            StockVariant::Odd => Self::Odd,
            StockVariant::SingleCa => Self::SingleCa,
        }
    }
}

/// Where etcd of a stock cluster runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum StockEtcd {
    /// In static pods next to the API servers, as kubeadm does by default.
    Stacked,
    /// As a systemd service on the control planes, with its own certificates.
    External,
}

impl From<StockEtcd> for crate::lab::StockEtcd {
    fn from(etcd: StockEtcd) -> Self {
        match etcd {
            StockEtcd::Stacked => Self::Stacked,
            StockEtcd::External => Self::External,
        }
    }
}

/// Arguments of `lab exec`.
#[derive(Debug, clap::Args)]
pub struct LabExec {
    /// Which lab.
    #[command(flatten)]
    pub dir: LabDir,
    /// Name of the node.
    pub node: String,
    /// Program and arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<std::ffi::OsString>,
}

fn exit_codes() -> String {
    let mut text = String::from("Exit codes:\n");
    for &(code, meaning) in crate::workflow::command_error::Exit::ALL {
        text.push_str(&format!("  {}  {meaning}\n", code as u8));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paragraph_is_one_line_and_examples_keep_theirs() {
        let text =
            "Reads a,\nthen b.\n\nExit code 5: c.\n\nExamples:\n  kubastion x\n  kubastion y";
        let flows =
            "Reads a, then b.\n\nExit code 5: c.\n\nExamples:\n  kubastion x\n  kubastion y";
        assert_eq!(paragraphs(text), flows);
        Cli::definition().debug_assert();
    }

    #[test]
    fn examples_fit_a_narrow_terminal() {
        fn too_long(command: &Command, found: &mut Vec<String>) {
            let text = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            let long = text.lines().filter(|l| l.starts_with(' ') && l.len() > 79);
            found.extend(long.map(|l| format!("{}: {l}", command.get_name())));
            command.get_subcommands().for_each(|c| too_long(c, found));
        }
        // Wrapped in the middle, what is copied from there would be half a command.
        let mut found = Vec::new();
        too_long(&Cli::definition(), &mut found);
        assert!(found.is_empty(), "{found:#?}");
    }
}
