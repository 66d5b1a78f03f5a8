//! What it takes to make a control hold on a cluster that runs, and who notices. A column of every row of the catalogue; what a
//! restart of a daemon costs is a column of its row among the daemons.

use serde::Serialize;

use super::check::Daemon;

/// What it takes to make a control hold on a cluster that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Mending {
    /// Daemons that are started again for it, one node at a time. A test holds it to what a plan restarts.
    pub restarts: &'static [Daemon],
    /// Who notices that it holds from then on, apart from what the restarts cost.
    pub noticed: Noticed,
}

/// Who notices something, from nobody to everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Noticed {
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

impl Noticed {
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

/// Nothing is started again, and nobody notices.
pub(super) const QUIET: Mending = noticed(Noticed::Nobody);

/// Nothing is started again.
pub(super) const fn noticed(noticed: Noticed) -> Mending {
    Mending { restarts: &[], noticed }
}

/// Daemons are started again, and nobody notices more than that.
pub(super) const fn restart(restarts: &'static [Daemon]) -> Mending {
    Mending { restarts, noticed: Noticed::Nobody }
}

impl Mending {
    /// The same, noticed by somebody.
    pub(super) const fn noticed_by(self, noticed: Noticed) -> Self {
        Self { noticed, ..self }
    }
}
