//! What disruption it causes to make a control hold on a running cluster: restarts, and whom it affects. A column of every row of
//! the catalogue; whom the restart of a daemon affects is a column of the daemon's row.

use serde::Serialize;

use super::check::Daemon;

/// The disruption that it causes to make a control hold on a running cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Disruption {
    /// Daemons that restart for it, one node at a time. A test compares it with what a plan restarts.
    pub restarts: &'static [Daemon],
    /// Whom the control itself affects, apart from the restarts.
    #[serde(rename = "noticed")]
    pub affects: Affected,
}

/// Who is affected, from nobody to everyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Affected {
    /// Nobody.
    Nobody,
    /// Open exec, attach and port-forward sessions with pods of the node.
    Sessions,
    /// Clients of one API server at a time.
    ServerClients,
    /// All clients of the API through the endpoint, whose connections are made anew.
    EndpointClients,
    /// All clients of the API, where etcd has no other member that goes on.
    EtcdClients,
    /// Users of the node that are not root.
    LocalUsers,
    /// Who logs in to the node.
    Logins,
    /// Who reads profiling data or metrics over the network.
    Scrapers,
    /// Clients that speak old TLS or weak suites alone.
    OldTlsClients,
    /// Clients without credentials.
    AnonymousClients,
    /// Clients whose rights, credentials or requests are refused from then on.
    ApiClients,
    /// Who connects to a port of the node that closes.
    NodeClients,
    /// Pods of the node.
    NodePods,
    /// Pods that are made from then on.
    NewPods,
    /// Every pod.
    AllPods,
}

impl Affected {
    /// In words, for reports.
    pub fn words(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Sessions => "open exec, attach and port-forward sessions on the node",
            Self::ServerClients => "clients of one API server at a time, for a few seconds",
            Self::EndpointClients => "API clients, which reconnect once",
            Self::EtcdClients => {
                "all API clients for a few seconds, unless etcd has three or more members"
            }
            Self::LocalUsers => "non-root users on the node",
            Self::Logins => "users who log in to the node",
            Self::Scrapers => "clients that read profiling data or metrics over the network",
            Self::OldTlsClients => "clients that support only old TLS or weak cipher suites",
            Self::AnonymousClients => "clients without credentials",
            Self::ApiClients => "clients whose credentials or requests are rejected from then on",
            Self::NodeClients => "clients of ports that close on the node",
            Self::NodePods => "pods on the node",
            Self::NewPods => "new pods",
            Self::AllPods => "all pods",
        }
    }
}

/// No restart, and nobody is affected.
pub(super) const QUIET: Disruption = affects(Affected::Nobody);

/// No restart.
pub(super) const fn affects(affects: Affected) -> Disruption {
    Disruption { restarts: &[], affects }
}

/// Daemons restart, and nobody is affected beyond that.
pub(super) const fn restart(restarts: &'static [Daemon]) -> Disruption {
    Disruption { restarts, affects: Affected::Nobody }
}

impl Disruption {
    /// The same, with somebody affected by the control itself.
    pub(super) const fn affecting(self, affects: Affected) -> Self {
        Self { affects, ..self }
    }
}
