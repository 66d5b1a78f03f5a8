//! How the nodes of a lab are.

use std::process::Command;
use std::time::Duration;

use serde::Serialize;
use time::format_description::well_known::Rfc3339;

use super::command::run;
use super::node::NodeDir;
use super::process;
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

/// Asks one node.
pub(super) fn of(node: &NodeDir<'_>) -> NodeStatus {
    let leader = node.leader();
    let systemd = leader.and_then(system_state);
    let state = match systemd.as_deref() {
        Some("running" | "degraded" | "maintenance") => RunState::Running,
        _ if node.is_alive() => RunState::Booting,
        _ => RunState::Stopped,
    };
    NodeStatus {
        name: node.node.name.clone(),
        roles: node.node.roles.clone(),
        address: node.node.address,
        state,
        systemd,
        ssh: state != RunState::Stopped && node.shows_ssh_banner(Duration::from_secs(2)),
        since: leader.and_then(process::started_at).and_then(|t| t.format(&Rfc3339).ok()),
    }
}

/// What systemd says about itself. It exits non-zero for everything but `running`, so the text
/// counts, not the code; a frozen node does not answer, hence the deadline.
fn system_state(leader: i32) -> Option<String> {
    let script = "systemctl is-system-running || true";
    let output = run(Command::new("timeout")
        .args(["--kill-after=1", "5", "nsenter"])
        .arg(format!("--target={leader}"))
        .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"])
        .args(["--", "sh", "-c", script]));
    let text = String::from_utf8(output.ok()?).ok()?;
    let word = text.trim().to_owned();
    (!word.is_empty()).then_some(word)
}
