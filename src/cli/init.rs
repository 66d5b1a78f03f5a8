//! `kubastion inventory init`: a commented inventory to start from.

use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::args::Global;
use super::inventory::load_context;
use super::output::note;
use crate::command_error::{CommandError, Exit};
use crate::error::Problem;
use crate::inventory::{self, ClusterName, Endpoint, Host, KubernetesVersion, NodeName, UserName};
use crate::plain::counted;

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
    /// Where clients reach the API servers; the first control-plane node if absent.
    #[arg(long, value_name = "HOST:PORT")]
    endpoint: Option<Endpoint>,
    /// A control-plane node, which also is an etcd member. Several times for several nodes. Without one,
    /// a terminal is asked for the nodes and the login.
    #[arg(long, value_name = "NAME=ADDRESS[,ADDRESS]")]
    control_plane: Vec<NewNode>,
    /// A worker. Several times for several nodes.
    #[arg(long, value_name = "NAME=ADDRESS[,ADDRESS]")]
    worker: Vec<NewNode>,
    /// Login user on the nodes; another one than root gets `sudo: passwordless`.
    #[arg(long, default_value = "root", value_name = "USER")]
    ssh_user: UserName,
    /// Private key to log in with; the running ssh-agent if absent.
    #[arg(long, value_name = "FILE")]
    ssh_key: Option<PathBuf>,
    /// known_hosts file that holds the nodes' host keys.
    #[arg(long, value_name = "FILE")]
    known_hosts: Option<PathBuf>,
}

/// A node as given on the command line.
#[derive(Debug, Clone)]
struct NewNode {
    name: NodeName,
    addresses: Vec<IpAddr>,
}

impl std::str::FromStr for NewNode {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let (name, addresses) = s.split_once('=').ok_or("expected NAME=ADDRESS")?;
        let parse = |a: &str| a.parse().map_err(|_| format!("`{a}` is not an IP address"));
        Ok(Self {
            name: name.parse().map_err(|e: inventory::NameError| e.to_string())?,
            addresses: addresses.split(',').map(parse).collect::<Result<_, _>>()?,
        })
    }
}

/// Runs `kubastion inventory init`.
///
/// # Errors
/// What is wrong with the nodes, or why the file cannot be written.
pub fn run(global: &Global, args: &Args) -> Result<Exit, CommandError> {
    let file = global.inventory.as_path();
    let mut args = args.clone();
    if args.control_plane.is_empty() {
        if !std::io::stdin().is_terminal() {
            let problem = Problem::new("no control-plane node is named")
                .because("there is no terminal to ask on")
                .left("nothing was written")
                .hint("--control-plane NAME=ADDRESS");
            return Err(CommandError::one(Exit::Usage, problem));
        }
        ask(&mut args).map_err(|e| {
            let problem = Problem::from_error("the questions were not answered", &e);
            CommandError::one(Exit::Usage, problem.left("nothing was written"))
        })?;
    }
    let text = starter(&args);
    // Judged before it is written, so that a clash of names or addresses leaves no file.
    let base = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let base = base.parent().unwrap_or(Path::new("/"));
    let checked = inventory::load_bytes(text.as_bytes(), file, base, &load_context());
    let problems = checked.err().map(|e| e.problems).unwrap_or_default();
    let (pending, wrong): (Vec<_>, Vec<_>) =
        problems.iter().partition(|d| d.message.contains("host key"));
    if !wrong.is_empty() {
        let problems = wrong.into_iter().map(|d| d.problem(file)).collect();
        return Err(CommandError { exit: Exit::InvalidInput, problems });
    }
    let written = std::fs::File::create_new(file).and_then(|mut f| {
        f.write_all(text.as_bytes())?;
        f.sync_all()
    });
    if let Err(e) = written {
        let problem = match e.kind() {
            std::io::ErrorKind::AlreadyExists => Problem::new("there is an inventory already")
                .left("it is unchanged")
                .hint("name another with -i, or `kubastion inventory check` this one"),
            _ => Problem::from_error("the inventory cannot be written", &e),
        };
        return Err(CommandError::one(Exit::InvalidInput, problem.at(file.display().to_string())));
    }
    note(global.format, &format!("wrote {}", file.display()));
    if !pending.is_empty() {
        let next = format!(
            "next: {} no host key yet. On each node's console run\n    \
             ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub\n\
             and put the SHA256:... text under the node's ssh.host_keys (`kubastion trust` shows what they \
             present), or name a known_hosts file under ssh.\nThen: kubastion -i {} doctor",
            counted(pending.len(), "node has/nodes have"),
            file.display()
        );
        note(global.format, &next);
    }
    Ok(Exit::Done)
}

/// Asks a terminal for what the command line did not say.
fn ask(args: &mut Args) -> std::io::Result<()> {
    let mut lines = std::io::stdin().lock().lines();
    eprintln!(
        "A node is NAME=ADDRESS, as in cp1=10.0.0.11. An empty line takes what stands in brackets."
    );
    while args.control_plane.is_empty() {
        args.control_plane =
            answer(&mut lines, "Control-plane nodes, with spaces between", "", words)?;
    }
    if args.worker.is_empty() {
        args.worker = answer(&mut lines, "Workers [none]", "", words)?;
    }
    let user = args.ssh_user.to_string();
    let question = format!("Who logs in to them over SSH [{user}]");
    args.ssh_user = answer(&mut lines, &question, &user, parse::<UserName>)?;
    if args.ssh_key.is_none() {
        let file = |s: &str| Ok((!s.is_empty()).then(|| PathBuf::from(s)));
        args.ssh_key =
            answer(&mut lines, "With which private key [what the ssh-agent holds]", "", file)?;
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

/// The commented inventory.
fn starter(args: &Args) -> String {
    let first = &args.control_plane[0];
    let host: Host = first.addresses[0].to_string().parse().expect("an IP address is a host");
    let endpoint = args.endpoint.clone().unwrap_or(Endpoint { host, port: 6443 });
    let dual = first.addresses.len() > 1;
    let v6_first = first.addresses[0].is_ipv6();
    let networks = |v4: &str, v6: &str| match (dual, v6_first) {
        (false, false) => format!("[{v4}]"),
        (false, true) => format!("[\"{v6}\"]"),
        (true, false) => format!("[{v4}, \"{v6}\"]"),
        (true, true) => format!("[\"{v6}\", {v4}]"),
    };
    let mut text = format!(
        "# The nodes of one cluster and how they are hardened.
# Every key: kubastion inventory reference. Effective values: kubastion inventory show.
version: kubastion/v1

cluster:
  name: {name}
  kubernetes: {kubernetes}
  # Where every client reaches the API servers: a load balancer, a virtual address, or a node.
  endpoint: {endpoint}
  # Or a free address of the control planes' network that they share, as in 10.0.0.10:8443:
  # load_balancer:
  #   mode: managed
  pod_networks: {pods}
  service_networks: {services}

# Where Kubernetes comes from: none (hosts and etcd are hardened, the rest is staged), a bundle that you
# signed, packages of a pinned repository, or preinstalled.
# kubernetes:
#   source: bundle
#   bundle:
#     path: ./bundle
#     signers: [\"ssh-ed25519 AAAA... ops\"]

hardening:
  # nsa, cis or stig.
  profile: nsa
  # Single controls, by id:
  # controls:
  #   apiserver-request-timeout: off
  # A control that some nodes may fail for now:
  # exceptions:
  #   - control: host-log-forwarding
  #     nodes: [{node}]
  #     reason: the log host is being replaced
  #     owner: ops@example.com
  #     expires: 2030-01-31

firewall:
  # Who may reach sshd and the API server. Empty means everyone.
  admin_networks: []

ssh:
  user: {user}
",
        name = args.name,
        kubernetes = args.kubernetes,
        endpoint = quoted(&endpoint.to_string()),
        pods = networks("10.244.0.0/16", "fd00:10:244::/56"),
        services = networks("10.96.0.0/12", "fd00:10:96::/112"),
        node = first.name,
        user = quoted(args.ssh_user.as_str()),
    );
    let path = |p: &Path| quoted(&p.display().to_string());
    // Writing to a String cannot fail.
    if args.ssh_user.as_str() != "root" {
        text.push_str("  # passwordless, or password to be asked once per run.\n");
        text.push_str("  sudo: passwordless\n");
    }
    match &args.ssh_key {
        Some(key) => _ = writeln!(text, "  key_file: {}", path(key)),
        None => text.push_str("  agent: true\n  # key_file: ~/.ssh/id_ed25519\n"),
    }
    match &args.known_hosts {
        Some(file) => _ = writeln!(text, "  known_hosts: {}", path(file)),
        None => text.push_str("  # known_hosts: known_hosts\n"),
    }
    text.push_str(
        "  # jump:\n  #   - host: bastion.example.com\n  #     host_keys: [\"SHA256:...\"]\n\nnodes:\n",
    );
    let control_plane = args.control_plane.iter().map(|n| (n, "control-plane"));
    for (node, role) in control_plane.chain(args.worker.iter().map(|n| (n, "worker"))) {
        let addresses: Vec<String> =
            node.addresses.iter().map(|a| quoted(&a.to_string())).collect();
        _ = writeln!(text, "  - name: {}", quoted(node.name.as_str()));
        _ = writeln!(text, "    addresses: [{}]", addresses.join(", "));
        _ = writeln!(text, "    roles: [{role}]");
        if args.known_hosts.is_none() {
            text.push_str(
                "    # From `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the node's console:\n    \
                 # ssh:\n    #   host_keys: [\"SHA256:...\"]\n",
            );
        }
    }
    text
}

/// A YAML scalar that can only be read as this text.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
