//! Why a plan does something, or leaves it for later: typed, so that code does not parse words.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::inventory::NodeName;

/// What is different now, so that there is a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Why {
    /// A package or several.
    NotInstalled,
    /// A user, a path.
    DoesNotExist,
    /// A path that should not.
    Exists,
    /// A file of a directory, and what is different about it.
    File {
        /// Its name there.
        name: String,
        /// What is different.
        why: Box<Why>,
    },
    /// The content of a file.
    Differs,
    /// The file is a program of the bundle.
    OtherVersion,
    /// A link is where a file should be.
    Link {
        /// Where it points to.
        target: String,
    },
    /// A value, or owner and mode, are what they should not be.
    Is(String),
    /// Images of an archive.
    ImagesMissing,
    /// A kernel module, a table of rules.
    NotLoaded,
    /// A table of rules that should not be.
    Loaded,
    /// The firewall's table is not ours.
    LoadedByAnother,
    /// The firewall's table is not what our file made of it.
    ChangedSinceLoaded,
    /// The firewall's table was made from an older file.
    OlderRules,
    /// Swap areas are in use.
    SwapActive {
        /// The areas.
        areas: Vec<String>,
    },
    /// A unit is not started at boot.
    NotEnabled,
    /// A unit is started at boot, and should not be.
    Enabled,
    /// A daemon runs with an older configuration.
    RunsOlder,
    /// A daemon may run with what somebody changed on the node.
    RunsChanged,
    /// A member of a cluster runs with another kubeadm's configuration.
    RunsForeign,
    /// The node is not part of the cluster.
    NotInCluster,
    /// A daemon that should be a service runs as a static pod.
    RunsAsPod,
    /// etcd does not list the node.
    NotInEtcd {
        /// Whether it has the data of a former member, which is moved aside.
        has_data: bool,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::NotInstalled => "not installed",
            Why::DoesNotExist => "does not exist",
            Why::Exists => "exists",
            Why::File { name, why } => return write!(f, "{name} {why}"),
            Why::Differs => "differs",
            Why::OtherVersion => "has another version",
            Why::Link { target } => return write!(f, "is a link to {target}"),
            Why::Is(found) => return write!(f, "is {found}"),
            Why::ImagesMissing => "some are missing",
            Why::NotLoaded => "is not loaded",
            Why::Loaded => "is loaded",
            Why::LoadedByAnother => "was loaded by another program",
            Why::ChangedSinceLoaded => "was changed since it was loaded",
            Why::OlderRules => "is older",
            Why::SwapActive { areas } => return write!(f, "active: {}", areas.join(" ")),
            Why::NotEnabled => "is not enabled",
            Why::Enabled => "is enabled",
            Why::RunsOlder => "runs with an older configuration",
            Why::RunsChanged => "runs with changes made on the node",
            Why::RunsForeign => "runs with a configuration that kubastion did not write",
            Why::NotInCluster => "is not part of the cluster",
            Why::RunsAsPod => "etcd runs as a static pod",
            Why::NotInEtcd { has_data: false } => "is not a member",
            Why::NotInEtcd { has_data: true } => {
                "is not a member; the data of its former member is moved aside"
            }
        })
    }
}

/// Why some of what a node should hold is not begun, though nothing is wrong with the node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum HeldBack {
    /// The control plane that starts the cluster is not ready for it.
    FirstNotReady {
        /// Which it is.
        node: NodeName,
    },
    /// A control plane was not checked, and may already be part of a cluster.
    ControlPlaneUnchecked {
        /// Which it is.
        node: NodeName,
    },
    /// No control plane can start the cluster.
    NoControlPlaneReady,
    /// Too few members of etcd would start.
    NoQuorum {
        /// Members that are ready.
        ready: usize,
        /// All members.
        members: usize,
    },
    /// A node has the data of an etcd cluster whose members cannot be listed.
    EtcdNotListed {
        /// Which has the data.
        holder: NodeName,
        /// Why they cannot be listed.
        why: String,
    },
    /// A member of etcd was not checked, and may already be one of a cluster.
    MemberUnchecked {
        /// Which it is.
        node: NodeName,
    },
    /// It is to be reset, but cannot leave its cluster cleanly.
    Stays {
        /// Why.
        why: String,
    },
    /// The next rung of the encryption of stored objects cannot be climbed.
    Encryption {
        /// Why.
        why: String,
    },
    /// A later run builds on this one on a node that others depend on.
    LaterRun {
        /// The run.
        run: String,
        /// The node.
        node: NodeName,
    },
}

impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeldBack::FirstNotReady { node } => {
                write!(f, "the cluster is not started: {node} is not ready")
            }
            HeldBack::ControlPlaneUnchecked { node } => write!(
                f,
                "the cluster is not started: control plane {node} was not checked and may already be part of a cluster"
            ),
            HeldBack::NoControlPlaneReady => {
                f.write_str("the cluster is not started: no control plane is ready")
            }
            HeldBack::NoQuorum { ready, members } => write!(
                f,
                "neither etcd nor the cluster is started: {ready} of {members} etcd members are ready, and a quorum needs {}",
                members / 2 + 1
            ),
            HeldBack::EtcdNotListed { holder, why } => write!(
                f,
                "etcd is not started: {holder} has the data of an etcd cluster whose members cannot be listed: {why}"
            ),
            HeldBack::MemberUnchecked { node } => write!(
                f,
                "etcd is not started: {node} was not checked and may already be a member of an etcd cluster"
            ),
            HeldBack::Stays { why } | HeldBack::Encryption { why } => f.write_str(why),
            HeldBack::LaterRun { run, node } => {
                write!(f, "run {run} of {node} builds on it: roll back that run first")
            }
        }
    }
}
