//! `kubastion inventory`: write, check and show the operator's file.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::args::{Format, Global};
use super::exit::Exit;
use super::output::{pretty, print, to_yaml};
use super::run::Stop;
use crate::clock::Clock;
use crate::error::Problem;
use crate::inventory::{
    self, ClusterName, Diagnostic, Endpoint, Host, KubernetesVersion, LoadContext, Loaded,
    NodeName, UserName,
};

/// What to do with the inventory.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Write a commented inventory to start from.
    #[command(after_long_help = INIT_EXAMPLES)]
    Init(Box<Init>),
    /// Report everything that is wrong in the inventory; needs no network.
    #[command(after_long_help = CHECK_EXAMPLES)]
    Check,
    /// Print the JSON schema of inventories, for editors.
    #[command(after_long_help = SCHEMA_EXAMPLES)]
    Schema,
    /// Print every key with its values, default and meaning, as Markdown.
    #[command(after_long_help = REFERENCE_EXAMPLES)]
    Reference,
    /// Print the inventory with all defaults filled in and paths resolved.
    #[command(after_long_help = SHOW_EXAMPLES)]
    Show,
}

const INIT_EXAMPLES: &str = "Examples:
  kubastion inventory init --control-plane cp-1=10.0.0.11 --worker w-1=10.0.0.21
  kubastion -i prod.yaml inventory init --name prod --endpoint api.example:6443 \\
      --control-plane cp-1=10.0.0.11 --control-plane cp-2=10.0.0.12 --control-plane cp-3=10.0.0.13 \\
      --ssh-user admin --ssh-key ~/.ssh/id_ed25519 --known-hosts ~/.ssh/known_hosts";
const REFERENCE_EXAMPLES: &str = "Examples:
  kubastion inventory reference | less";
const CHECK_EXAMPLES: &str = "Examples:
  kubastion inventory check
  kubastion -i prod.yaml --format json inventory check | jq '.problems[].message'";
const SCHEMA_EXAMPLES: &str = "Examples:
  kubastion inventory schema > inventory-schema.json
  # then, as the first line of an inventory, for editors with a YAML language server:
  # yaml-language-server: $schema=inventory-schema.json";
const SHOW_EXAMPLES: &str = "Examples:
  kubastion inventory show
  kubastion -i prod.yaml --format json inventory show | jq .firewall";

/// What `inventory init` writes.
#[derive(Debug, clap::Args)]
pub struct Init {
    /// Name of the cluster.
    #[arg(long, default_value = "cluster")]
    name: ClusterName,
    /// Kubernetes release.
    #[arg(long, default_value = "1.36.2", value_name = "1.MINOR.PATCH")]
    kubernetes: KubernetesVersion,
    /// Where clients reach the API servers; the first control-plane node if absent.
    #[arg(long, value_name = "HOST:PORT")]
    endpoint: Option<Endpoint>,
    /// A control-plane node, which also is an etcd member. Several times for several nodes.
    #[arg(long, required = true, value_name = "NAME=ADDRESS[,ADDRESS]")]
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

/// Runs `kubastion inventory`.
///
/// # Errors
/// Every problem of the inventory, or why it cannot be written.
pub fn run(global: &Global, command: &Command) -> Result<Exit, Stop> {
    match command {
        Command::Init(request) => init(&global.inventory, request),
        Command::Check => check(global),
        Command::Schema => print(&pretty(&inventory::schema())),
        Command::Reference => print(&inventory::reference(&inventory::schema())),
        Command::Show => {
            let loaded = load(global)?;
            match global.format {
                Format::Json => print(&pretty(&loaded.inventory)),
                Format::Text => print(&to_yaml(&loaded.inventory)),
            }
        }
    }
}

/// The clock, the controls of this release and the user's home directory.
pub fn load_context() -> LoadContext<'static> {
    LoadContext {
        clock: Clock::System,
        known_controls: &crate::controls::ids::ALL,
        home: std::env::var_os("HOME").map(PathBuf::from).filter(|h| h.is_absolute()),
        first_contact: false,
    }
}

/// Loads the inventory that the command line names; warnings go to standard error.
///
/// # Errors
/// Every problem of the inventory, with exit code 3.
pub fn load(global: &Global) -> Result<Loaded, Stop> {
    load_with(global, &load_context())
}

/// The same for an inventory that may lack host keys, of which `trust` shows what is to be compared.
///
/// # Errors
/// As [`load`].
pub fn load_for_first_contact(global: &Global) -> Result<Loaded, Stop> {
    load_with(global, &LoadContext { first_contact: true, ..load_context() })
}

fn load_with(global: &Global, context: &LoadContext<'_>) -> Result<Loaded, Stop> {
    let loaded = inventory::load(&global.inventory, context)
        .map_err(|e| Stop { exit: Exit::InvalidInput, problems: e.problems() })?;
    for warning in &loaded.warnings {
        eprintln!("{}", warning.warning(&global.inventory));
    }
    Ok(loaded)
}

#[derive(Serialize)]
struct CheckReport {
    problems: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

fn check(global: &Global) -> Result<Exit, Stop> {
    let file = &global.inventory;
    let (report, summary) = match inventory::load(file, &load_context()) {
        Ok(loaded) => {
            let nodes = loaded.inventory.nodes.len();
            let summary = format!("{}: {nodes} node(s), no problems\n", file.display());
            (CheckReport { problems: Vec::new(), warnings: loaded.warnings }, Some(summary))
        }
        Err(e) => (CheckReport { problems: e.problems, warnings: e.warnings }, None),
    };
    match global.format {
        Format::Json => {
            print(&pretty(&report))?;
        }
        Format::Text => {
            for warning in &report.warnings {
                eprintln!("{}", warning.warning(file));
            }
            if let Some(summary) = summary {
                return print(&summary);
            }
        }
    }
    if report.problems.is_empty() {
        return Ok(Exit::Done);
    }
    let problems = match global.format {
        Format::Text => report.problems.iter().map(|d| d.problem(file)).collect(),
        Format::Json => Vec::new(),
    };
    Err(Stop { exit: Exit::InvalidInput, problems })
}

fn init(file: &Path, request: &Init) -> Result<Exit, Stop> {
    let text = starter(request);
    // Judged before it is written, so that a clash of names or addresses leaves no file.
    let base = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let base = base.parent().unwrap_or(Path::new("/"));
    let checked = inventory::load_bytes(text.as_bytes(), file, base, &load_context());
    let problems = checked.err().map(|e| e.problems).unwrap_or_default();
    let (pending, wrong): (Vec<_>, Vec<_>) =
        problems.iter().partition(|d| d.message.contains("host key"));
    if !wrong.is_empty() {
        let problems = wrong.into_iter().map(|d| d.problem(file)).collect();
        return Err(Stop { exit: Exit::InvalidInput, problems });
    }
    let written = std::fs::File::create_new(file).and_then(|mut f| {
        f.write_all(text.as_bytes())?;
        f.sync_all()
    });
    if let Err(e) = written {
        let what = format!("{} cannot be written", file.display());
        let mut problem = Problem::from_error(what, &e);
        if e.kind() == std::io::ErrorKind::AlreadyExists {
            problem = problem.left("the existing file is unchanged").hint("name another with -i");
        }
        return Err(Stop::one(Exit::InvalidInput, problem));
    }
    eprintln!("wrote {}", file.display());
    if !pending.is_empty() {
        eprintln!(
            "next: {} node(s) have no host key yet. On each node's console run\n    \
             ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub\n\
             and put the SHA256:... text under the node's ssh.host_keys, or name a known_hosts file \
             under ssh.\nThen: kubastion -i {} inventory check",
            pending.len(),
            file.display()
        );
    }
    Ok(Exit::Done)
}

/// The commented inventory.
fn starter(request: &Init) -> String {
    let first = &request.control_plane[0];
    let host: Host = first.addresses[0].to_string().parse().expect("an IP address is a host");
    let endpoint = request.endpoint.clone().unwrap_or(Endpoint { host, port: 6443 });
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
# Reference of every key: kubastion inventory schema. Effective values: kubastion inventory show.
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
        name = request.name,
        kubernetes = request.kubernetes,
        endpoint = quoted(&endpoint.to_string()),
        pods = networks("10.244.0.0/16", "fd00:10:244::/56"),
        services = networks("10.96.0.0/12", "fd00:10:96::/112"),
        node = first.name,
        user = quoted(request.ssh_user.as_str()),
    );
    let path = |p: &Path| quoted(&p.display().to_string());
    // Writing to a String cannot fail.
    if request.ssh_user.as_str() != "root" {
        text.push_str("  # passwordless, or password to be asked once per run.\n");
        text.push_str("  sudo: passwordless\n");
    }
    match &request.ssh_key {
        Some(key) => _ = writeln!(text, "  key_file: {}", path(key)),
        None => text.push_str("  agent: true\n  # key_file: ~/.ssh/id_ed25519\n"),
    }
    match &request.known_hosts {
        Some(file) => _ = writeln!(text, "  known_hosts: {}", path(file)),
        None => text.push_str("  # known_hosts: known_hosts\n"),
    }
    text.push_str(
        "  # jump:\n  #   - host: bastion.example.com\n  #     host_keys: [\"SHA256:...\"]\n\nnodes:\n",
    );
    let control_plane = request.control_plane.iter().map(|n| (n, "control-plane"));
    for (node, role) in control_plane.chain(request.worker.iter().map(|n| (n, "worker"))) {
        let addresses: Vec<String> =
            node.addresses.iter().map(|a| quoted(&a.to_string())).collect();
        _ = writeln!(text, "  - name: {}", quoted(node.name.as_str()));
        _ = writeln!(text, "    addresses: [{}]", addresses.join(", "));
        _ = writeln!(text, "    roles: [{role}]");
        if request.known_hosts.is_none() {
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
