//! How nodes are reached: the defaults of the inventory, what a node says otherwise, and both together.

use std::net::IpAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::{Host, HostKeyFingerprint, UserName};

/// How nodes are reached, unless a node says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SshDefaults {
    /// Login user.
    pub user: UserName,
    /// TCP port of sshd.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Private key file of the operator. Relative paths start at the inventory's directory.
    #[schemars(extend("format" = "path"))]
    pub key_file: Option<PathBuf>,
    /// Use the keys of the running ssh-agent.
    pub agent: bool,
    /// How the login user becomes root.
    pub sudo: Sudo,
    /// Jump hosts, in order; the first is reached directly.
    pub jump: Vec<JumpHost>,
    /// OpenSSH known_hosts file with the nodes' keys. Relative paths start at the inventory's directory.
    #[schemars(extend("format" = "path"))]
    pub known_hosts: Option<PathBuf>,
    /// Deadline for connecting and logging in, in seconds.
    #[schemars(range(min = 1))]
    pub connect_timeout_s: u32,
}

impl Default for SshDefaults {
    fn default() -> Self {
        Self {
            user: UserName::try_from("root".to_owned()).expect("`root` is a user name"),
            port: 22,
            key_file: None,
            agent: false,
            sudo: Sudo::None,
            jump: Vec::new(),
            known_hosts: None,
            connect_timeout_s: 10,
        }
    }
}

/// How the login user becomes root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sudo {
    /// The login user is root.
    #[default]
    None,
    /// `sudo -n`.
    Passwordless,
    /// `sudo -S`; the password is prompted for once per run and sent on standard input.
    Password,
}

/// A jump host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JumpHost {
    /// Name or address.
    pub host: Host,
    /// TCP port of sshd.
    #[serde(default = "default_ssh_port")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Login user. Default: the node's user.
    #[serde(default)]
    pub user: Option<UserName>,
    /// Private key file. Default: the node's key.
    #[serde(default)]
    #[schemars(extend("format" = "path"))]
    pub key_file: Option<PathBuf>,
    /// Accepted host-key fingerprints. If empty, the known_hosts file is used.
    #[serde(default)]
    pub host_keys: Vec<HostKeyFingerprint>,
}

/// Per-node overrides of [`SshDefaults`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeSsh {
    /// Address to connect to. Default: the first of the node's `addresses`.
    pub host: Option<Host>,
    /// Login user.
    pub user: Option<UserName>,
    /// TCP port of sshd.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// Private key file.
    #[schemars(extend("format" = "path"))]
    pub key_file: Option<PathBuf>,
    /// Use the running ssh-agent.
    pub agent: Option<bool>,
    /// How the login user becomes root.
    pub sudo: Option<Sudo>,
    /// Jump hosts; an empty list means none.
    pub jump: Option<Vec<JumpHost>>,
    /// Accepted host-key fingerprints. If empty, the known_hosts file is used.
    pub host_keys: Vec<HostKeyFingerprint>,
    /// OpenSSH known_hosts file.
    #[schemars(extend("format" = "path"))]
    pub known_hosts: Option<PathBuf>,
}

fn default_ssh_port() -> u16 {
    22
}

impl SshDefaults {
    /// What holds for a node with these overrides and this address.
    pub(super) fn with(&self, o: &NodeSsh, address: IpAddr) -> SshTarget {
        SshTarget {
            host: o
                .host
                .clone()
                .unwrap_or_else(|| address.to_string().parse().expect("an IP address is a host")),
            user: o.user.clone().unwrap_or_else(|| self.user.clone()),
            port: o.port.unwrap_or(self.port),
            key_file: o.key_file.clone().or_else(|| self.key_file.clone()),
            agent: o.agent.unwrap_or(self.agent),
            sudo: o.sudo.unwrap_or(self.sudo),
            jump: o.jump.clone().unwrap_or_else(|| self.jump.clone()),
            host_keys: o.host_keys.clone(),
            known_hosts: o.known_hosts.clone().or_else(|| self.known_hosts.clone()),
            connect_timeout_s: self.connect_timeout_s,
        }
    }
}

/// How one node is reached: defaults and overrides merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SshTarget {
    /// Name or address to connect to.
    pub host: Host,
    /// Login user.
    pub user: UserName,
    /// TCP port.
    pub port: u16,
    /// Private key file.
    pub key_file: Option<PathBuf>,
    /// Use the running ssh-agent.
    pub agent: bool,
    /// How the login user becomes root.
    pub sudo: Sudo,
    /// Jump hosts.
    pub jump: Vec<JumpHost>,
    /// Accepted host-key fingerprints.
    pub host_keys: Vec<HostKeyFingerprint>,
    /// OpenSSH known_hosts file.
    pub known_hosts: Option<PathBuf>,
    /// Deadline for connecting and logging in, in seconds.
    pub connect_timeout_s: u32,
}

impl SshTarget {
    /// Whether there is anything to know the machine by.
    pub fn has_host_key(&self) -> bool {
        !self.host_keys.is_empty() || self.known_hosts.is_some()
    }
}
