//! A new inventory: commented, with what somebody has said of the cluster so far.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::names::{ClusterName, Endpoint, Host, KubernetesVersion, NameError, NodeName, UserName};

/// What is known of a cluster before there is an inventory.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Name of the cluster.
    pub name: ClusterName,
    /// Kubernetes release.
    pub kubernetes: KubernetesVersion,
    /// Where clients reach the API servers. Default: the first control-plane node.
    pub endpoint: Option<Endpoint>,
    /// Control-plane nodes, which also are etcd members; one at least.
    pub control_planes: Vec<NewNode>,
    /// Workers.
    pub workers: Vec<NewNode>,
    /// Login user on the nodes.
    pub ssh_user: UserName,
    /// Private key to log in with. Default: the running ssh-agent.
    pub ssh_key: Option<PathBuf>,
    /// known_hosts file with the nodes' host keys.
    pub known_hosts: Option<PathBuf>,
}

/// A node as somebody names it: `NAME=ADDRESS[,ADDRESS]`.
#[derive(Debug, Clone)]
pub struct NewNode {
    /// Its name.
    pub name: NodeName,
    /// Its addresses, one at least.
    pub addresses: Vec<IpAddr>,
}

impl std::str::FromStr for NewNode {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let (name, addresses) = s.split_once('=').ok_or("expected NAME=ADDRESS")?;
        let parse = |a: &str| a.parse().map_err(|_| format!("`{a}` is not an IP address"));
        Ok(Self {
            name: name.parse().map_err(|e: NameError| e.to_string())?,
            addresses: addresses.split(',').map(parse).collect::<Result<_, _>>()?,
        })
    }
}

/// The commented text of an inventory.
///
/// # Panics
/// Without a control-plane node.
pub fn text(draft: &Draft) -> String {
    let first = &draft.control_planes[0];
    let host: Host = first.addresses[0].to_string().parse().expect("an IP address is a host");
    let endpoint = draft.endpoint.clone().unwrap_or(Endpoint { host, port: 6443 });
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
        name = draft.name,
        kubernetes = draft.kubernetes,
        endpoint = quoted(&endpoint.to_string()),
        pods = networks("10.244.0.0/16", "fd00:10:244::/56"),
        services = networks("10.96.0.0/12", "fd00:10:96::/112"),
        node = first.name,
        user = quoted(draft.ssh_user.as_str()),
    );
    let path = |p: &Path| quoted(&p.display().to_string());
    // Writing to a String cannot fail.
    if draft.ssh_user.as_str() != "root" {
        text.push_str("  # passwordless, or password to be asked once per run.\n");
        text.push_str("  sudo: passwordless\n");
    }
    match &draft.ssh_key {
        Some(key) => _ = writeln!(text, "  key_file: {}", path(key)),
        None => text.push_str("  agent: true\n  # key_file: ~/.ssh/id_ed25519\n"),
    }
    match &draft.known_hosts {
        Some(file) => _ = writeln!(text, "  known_hosts: {}", path(file)),
        None => text.push_str("  # known_hosts: known_hosts\n"),
    }
    text.push_str(
        "  # jump:\n  #   - host: bastion.example.com\n  #     host_keys: [\"SHA256:...\"]\n\nnodes:\n",
    );
    let control_plane = draft.control_planes.iter().map(|n| (n, "control-plane"));
    for (node, role) in control_plane.chain(draft.workers.iter().map(|n| (n, "worker"))) {
        let addresses: Vec<String> =
            node.addresses.iter().map(|a| quoted(&a.to_string())).collect();
        _ = writeln!(text, "  - name: {}", quoted(node.name.as_str()));
        _ = writeln!(text, "    addresses: [{}]", addresses.join(", "));
        _ = writeln!(text, "    roles: [{role}]");
        if draft.known_hosts.is_none() {
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
