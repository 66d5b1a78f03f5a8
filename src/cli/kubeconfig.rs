//! `kubastion kubeconfig`: the administrator's way into the cluster.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use super::global::Global;
use super::output::note;
use crate::error::Problem;
use crate::pki::kubeconfig;
use crate::secret::Secret;
use crate::workflow::command_error::{CommandError, Exit};
use crate::workflow::keys;

/// Arguments of `kubeconfig`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// Write to FILE, mode 0600, instead of standard output. An existing file is not replaced.
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// For emergencies: use the certificate of group system:masters, whose rights no role can restrict.
    #[arg(long)]
    pub super_admin: bool,
}

const HELP: &str =
    "The kubeconfig is built from the key store, without contacting a node. Its key can do everything in
the cluster: keep it like the key store itself. The super-admin kubeconfig exists on no node; use it
when the cluster's RBAC is broken. The output is YAML with every --format.

Examples:
  kubastion kubeconfig --out admin.conf
  kubectl --kubeconfig admin.conf get nodes
  kubastion kubeconfig | kubectl --kubeconfig /dev/stdin get nodes";

/// Runs `kubastion kubeconfig`.
///
/// # Errors
/// Problems of the inventory and the key store, and a file that is there already.
pub fn run(global: &Global, args: &Args) -> Result<Exit, CommandError> {
    let loaded = super::inventory::load_host_keys_optional(global)?;
    let material = keys::material(&loaded, keys::open(&loaded)?)?;
    let inventory = &loaded.inventory;
    let made = if args.super_admin {
        kubeconfig::super_admin(inventory, &material)
    } else {
        kubeconfig::admin(inventory, &material)
    };
    let text: Secret<Vec<u8>> = made.ok_or_else(|| {
        let problem = Problem::new("the key store has no certificate for this kubeconfig");
        CommandError::one(
            Exit::Pending,
            problem.hint("run `kubastion pki ensure` to issue what is missing"),
        )
    })?;
    let unexpected = |e: std::io::Error, place: String| {
        let problem = Problem::from_error("the kubeconfig cannot be written", &e).at(place);
        CommandError::one(Exit::Unexpected, problem)
    };
    match &args.out {
        None => match std::io::stdout().lock().write_all(text.expose()) {
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
                return Err(unexpected(e, "standard output".into()));
            }
            _ => {}
        },
        Some(file) => {
            let mut options = std::fs::OpenOptions::new();
            options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(file)
                .and_then(|mut f| f.write_all(text.expose()))
                .map_err(|e| match e.kind() {
                    std::io::ErrorKind::AlreadyExists => CommandError::one(
                        Exit::InvalidInput,
                        Problem::new("the file already exists")
                            .at(file.display().to_string())
                            .left("it is unchanged")
                            .hint("remove it, or set --out to another file"),
                    ),
                    _ => unexpected(e, file.display().to_string()),
                })?;
            let file = file.display();
            note(global.format, &format!("{file}: use it with `kubectl --kubeconfig {file}`"));
        }
    }
    Ok(Exit::Done)
}
