//! `kubastion inventory init`: a commented inventory to start from.

use std::io::{BufRead, IsTerminal, Write as _};
use std::path::PathBuf;
use std::str::FromStr;

use super::global::Global;
use super::output::note;
use crate::error::Problem;
use crate::inventory::draft::{self, Draft, NewNode};
use crate::inventory::{ClusterName, Endpoint, KubernetesVersion, UserName};
use crate::plain::counted;
use crate::workflow::command_error::{CommandError, Exit};
use crate::workflow::inventory::write_new;

const EXAMPLES: &str = "Examples:
  kubastion inventory init
  kubastion inventory init --control-plane cp1=10.0.0.11 --worker w1=10.0.0.21
  kubastion -i prod.yaml inventory init --name prod \\
      --endpoint api.example:6443 --control-plane cp-1=10.0.0.11 \\
      --control-plane cp-2=10.0.0.12 --control-plane cp-3=10.0.0.13 \\
      --ssh-user admin --ssh-key ~/.ssh/id_ed25519 \\
      --known-hosts ~/.ssh/known_hosts";

/// What `inventory init` writes.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Name of the cluster.
    #[arg(long, default_value = "cluster")]
    name: ClusterName,
    /// Kubernetes release.
    #[arg(long, default_value_t = KubernetesVersion::DEFAULT, value_name = "1.MINOR.PATCH")]
    kubernetes: KubernetesVersion,
    /// Where clients reach the API servers. Default: the first control-plane node.
    #[arg(long, value_name = "HOST:PORT")]
    endpoint: Option<Endpoint>,
    /// A control-plane node, which is also an etcd member. Repeatable. Without it, the nodes and the
    /// login are prompted for on the terminal.
    #[arg(long, value_name = "NAME=ADDRESS[,ADDRESS]")]
    control_plane: Vec<NewNode>,
    /// A worker. Repeatable.
    #[arg(long, value_name = "NAME=ADDRESS[,ADDRESS]")]
    worker: Vec<NewNode>,
    /// Login user on the nodes; any user but root gets `sudo: passwordless`.
    #[arg(long, default_value = "root", value_name = "USER")]
    ssh_user: UserName,
    /// Private key to log in with. Default: the running ssh-agent.
    #[arg(long, value_name = "FILE")]
    ssh_key: Option<PathBuf>,
    /// known_hosts file with the nodes' host keys.
    #[arg(long, value_name = "FILE")]
    known_hosts: Option<PathBuf>,
}

impl Args {
    fn draft(&self) -> Draft {
        Draft {
            name: self.name.clone(),
            kubernetes: self.kubernetes,
            endpoint: self.endpoint.clone(),
            control_planes: self.control_plane.clone(),
            workers: self.worker.clone(),
            ssh_user: self.ssh_user.clone(),
            ssh_key: self.ssh_key.clone(),
            known_hosts: self.known_hosts.clone(),
        }
    }
}

/// Runs `kubastion inventory init`.
///
/// # Errors
/// What is wrong with the nodes, or why the file cannot be written.
pub fn run(global: &Global, args: &Args) -> Result<Exit, CommandError> {
    let file = global.inventory.as_path();
    let mut draft = args.draft();
    if draft.control_planes.is_empty() {
        if !std::io::stdin().is_terminal() {
            let problem = Problem::new("no control-plane node was given")
                .because("there is no terminal to prompt on")
                .left("nothing was written")
                .hint("--control-plane NAME=ADDRESS");
            return Err(CommandError::one(Exit::Usage, problem));
        }
        ask(&mut draft).map_err(|e| {
            let problem = Problem::from_error("the prompts were not answered", &e);
            CommandError::one(Exit::Usage, problem.left("nothing was written"))
        })?;
    }
    let unknown = write_new(file, &draft::text(&draft))?;
    note(global.format, &format!("wrote {}", file.display()));
    if unknown > 0 {
        let next = format!(
            "next: {} no host key yet. On each node's console run\n    ssh-keygen -lf \
             /etc/ssh/ssh_host_ed25519_key.pub\nand add the SHA256:... fingerprint to the node's ssh.host_keys \
             (`kubastion trust` shows what each node presents), or set ssh.known_hosts.\nThen: kubastion -i {} \
             doctor",
            counted(unknown, "node has/nodes have"),
            file.display()
        );
        note(global.format, &next);
    }
    Ok(Exit::Done)
}

/// Asks a terminal for what the command line did not say.
fn ask(draft: &mut Draft) -> std::io::Result<()> {
    let mut lines = std::io::stdin().lock().lines();
    eprintln!(
        "A node is NAME=ADDRESS, as in cp1=10.0.0.11. An empty line accepts the default in brackets."
    );
    while draft.control_planes.is_empty() {
        draft.control_planes =
            answer(&mut lines, "Control-plane nodes, separated by spaces", "", words)?;
    }
    if draft.workers.is_empty() {
        draft.workers = answer(&mut lines, "Workers [none]", "", words)?;
    }
    let user = draft.ssh_user.to_string();
    let question = format!("SSH user [{user}]");
    draft.ssh_user = answer(&mut lines, &question, &user, parse::<UserName>)?;
    if draft.ssh_key.is_none() {
        let file = |s: &str| Ok((!s.is_empty()).then(|| PathBuf::from(s)));
        draft.ssh_key = answer(&mut lines, "SSH private key [keys of the ssh-agent]", "", file)?;
    }
    Ok(())
}

fn parse<T: FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|e: T::Err| e.to_string())
}

fn words(text: &str) -> Result<Vec<NewNode>, String> {
    text.split([' ', '\t']).filter(|w| !w.is_empty()).map(parse).collect()
}

/// Asks until the answer can be understood.
fn answer<T>(
    lines: &mut impl Iterator<Item = std::io::Result<String>>,
    question: &str,
    default: &str,
    understand: impl Fn(&str) -> Result<T, String>,
) -> std::io::Result<T> {
    loop {
        eprint!("{question}: ");
        std::io::stderr().flush()?;
        let line = lines.next().unwrap_or_else(|| Err(std::io::ErrorKind::UnexpectedEof.into()))?;
        let said = if line.trim().is_empty() { default } else { line.trim() };
        match understand(said) {
            Ok(value) => return Ok(value),
            Err(why) => eprintln!("  {}", crate::plain::plain_line(&why)),
        }
    }
}
