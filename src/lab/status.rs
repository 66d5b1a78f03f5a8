//! How the nodes of a lab are.

use serde::Serialize;

use crate::inventory::Role;

/// How one node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Host name.
    pub name: String,
    /// What it does.
    pub roles: Vec<Role>,
    /// Its address on the lab's network.
    pub address: std::net::Ipv4Addr,
    /// Whether it runs.
    pub state: RunState,
    /// What `systemctl is-system-running` says in it (`running`, `degraded`, ...), if it answered.
    pub systemd: Option<String>,
    /// Whether its sshd shows a banner to this machine.
    pub ssh: bool,
    /// Start of the current boot, RFC 3339 in UTC.
    pub since: Option<String>,
}

/// Whether a node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Its init has not reached its default target, or does not answer.
    Booting,
    /// Its init has reached its default target.
    Running,
    /// It has no processes.
    Stopped,
}

impl std::fmt::Display for RunState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            RunState::Booting => "booting",
            RunState::Running => "running",
            RunState::Stopped => "stopped",
        })
    }
}
