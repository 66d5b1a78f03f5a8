//! What a check of a node is judged on, and what it yields.

use time::OffsetDateTime;

use super::model::Verdict;
use super::observed::{Observed, Origin};
use crate::controls::Daemon;
use crate::facts::live::LiveFacts;
use crate::inventory::{Inventory, Node, Role, Software};

/// What a check is judged on.
pub struct Basis<'a> {
    /// The inventory.
    pub inventory: &'a Inventory,
    /// What the bundle holds, where there is one.
    pub software: Option<&'a Software>,
    /// The node.
    pub node: &'a Node,
    /// What was seen of it, or rendered for it.
    pub seen: &'a Observed,
    /// Decides about dates.
    pub now: OffsetDateTime,
}

/// A verdict on what runs, and one on what is staged for later.
pub(super) struct Judged {
    pub verdict: Verdict,
    pub staged: Option<Verdict>,
}

impl From<Verdict> for Judged {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, staged: None }
    }
}

/// Why a control about API objects is not judged.
pub(super) fn needs_api() -> Verdict {
    Verdict::needs_kubernetes("no API server runs in this cluster yet")
}

/// Why a control about a daemon is not judged.
pub(super) fn needs(daemon: Daemon) -> Verdict {
    Verdict::needs_kubernetes(format!("{} does not run on this node yet", daemon.program()))
}

/// Values of a flag, in the order given. Boolean flags take a value after `=` only
/// (<https://pkg.go.dev/github.com/spf13/pflag>), and `_` stands for `-` in Kubernetes.
pub(super) fn flag_values(argv: &[String], name: &str, boolean: bool) -> Vec<String> {
    let mut values = Vec::new();
    let mut words = argv.iter().skip(1).peekable();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            continue;
        };
        let (given, value) = match flag.split_once('=') {
            Some((given, value)) => (given, Some(value.to_owned())),
            None => (flag, None),
        };
        if given.replace('_', "-") != name {
            continue;
        }
        values.push(match value {
            Some(value) => value,
            None if boolean => "true".to_owned(),
            None => match words.peek() {
                Some(next) if !next.starts_with('-') => (*next).clone(),
                _ => "true".to_owned(),
            },
        });
    }
    values
}

/// Command lines of a daemon's processes, of which there is at least one.
///
/// # Errors
/// The verdict where there is none.
pub(super) fn running<'a>(daemon: Daemon, on: &Basis<'a>) -> Result<Vec<&'a [String]>, Verdict> {
    let Some(processes) = on.seen.running(daemon) else {
        return Err(match daemon {
            Daemon::Etcd
                if on.inventory.has_stacked_etcd() && on.seen.origin == Origin::Rendered =>
            {
                needs(daemon)
            }
            Daemon::Etcd | Daemon::Containerd | Daemon::Haproxy | Daemon::Keepalived => {
                on.seen.blind("processes were not checked")
            }
            _ if on.seen.origin == Origin::Rendered => needs(daemon),
            _ => Verdict::unknown("processes were not checked"),
        });
    };
    if !processes.is_empty() {
        return Ok(processes.into_iter().map(|p| p.argv.as_slice()).collect());
    }
    if on.seen.origin == Origin::Rendered && !matches!(daemon, Daemon::Etcd) {
        return Err(needs(daemon));
    }
    Err(match daemon {
        Daemon::Etcd => Verdict::unknown("etcd does not run on this member"),
        Daemon::Containerd | Daemon::Haproxy | Daemon::Keepalived => {
            Verdict::unknown(format!("{} does not run on this node", daemon.program()))
        }
        Daemon::Apiserver | Daemon::ControllerManager | Daemon::Scheduler
            if on.seen.exists("/etc/kubernetes/manifests/kube-apiserver.yaml") =>
        {
            Verdict::unknown(format!("{} is set up but does not run", daemon.program()))
        }
        Daemon::Kubelet if on.seen.exists("/var/lib/kubelet/config.yaml") => {
            Verdict::unknown("kubelet is set up but does not run")
        }
        // The cluster knows the node: either its daemons are down, or it hides them.
        Daemon::Kubelet if on.seen.registered => {
            Verdict::unknown("the cluster has this node, but no kubelet was found on it")
        }
        // A cluster may have something else in its place; this one has its configuration.
        Daemon::KubeProxy if on.seen.registered && matches!(on.seen.proxy_config, Some(Ok(_))) => {
            Verdict::unknown("the cluster has this node, but no kube-proxy was found on it")
        }
        Daemon::Apiserver | Daemon::ControllerManager | Daemon::Scheduler
            if on.seen.registered && on.node.has_role(Role::ControlPlane) =>
        {
            let program = daemon.program();
            Verdict::unknown(format!("the cluster has this node, but no {program} was found on it"))
        }
        _ => needs(daemon),
    })
}

/// The live state of the node.
///
/// # Errors
/// It was not read.
pub(super) fn live<'a>(on: &Basis<'a>) -> Result<&'a LiveFacts, Verdict> {
    on.seen.live()
}
