//! Attempts over the network: attacks that have to fail, each beside something that has to work.
//!
//! A refusal counts only where the same way is known to be open: an etcd that is down refuses
//! everybody. Attempts go from the operator's machine ([`operator`]) and from other nodes
//! ([`peers`]) through the connections that facts were read with. Attempts that write, in [`api`], do so in a
//! namespace of their own, which they delete; [`stranger`] makes a network namespace on each node, which ends with the
//! attempt. Nothing else is changed.

mod accepted;
mod api;
mod at_rest;
mod caller;
mod effective;
mod etcd;
mod judged;
mod kubernetes;
mod operator;
mod peers;
mod stranger;
mod sweep;
mod tls;
mod workloads;

use std::collections::BTreeMap;
use std::time::Duration;

use time::OffsetDateTime;

use crate::checks::{Attempt, Observed, Witness};
use crate::clock::Clock;
use crate::inventory::{Inventory, Node, NodeName};
use crate::secret::Secret;
use crate::transport::{Transport, fleet};

pub use api::LABEL;
pub use caller::{ApiKeys, Identity};
pub use etcd::{EtcdKeys, Member, attack_member};
pub use judged::Judged;
pub use kubernetes::{Health, attack_apiserver, attack_kubelet};
pub use operator::password_verdict;
pub use stranger::STRANGER_SCRIPT;
pub use sweep::{Reach, SWEEP_SCRIPT, sweep};

/// How long a connection may take. A packet that is dropped costs this much, all of them at once.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Ports that are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// etcd, clients.
    pub etcd_client: u16,
    /// etcd, members.
    pub etcd_peer: u16,
    /// etcd, metrics.
    pub etcd_metrics: u16,
    /// API server.
    pub apiserver: u16,
    /// Kubelet.
    pub kubelet: u16,
    /// kube-proxy, metrics and settings.
    pub kube_proxy: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            etcd_client: 2379,
            etcd_peer: 2380,
            etcd_metrics: 2381,
            apiserver: 6443,
            kubelet: 10250,
            kube_proxy: 10249,
        }
    }
}

/// Keys of the operator's store, as far as attempts use them.
pub struct Keys {
    /// The etcd CA, and those accepted beside it, PEM.
    pub etcd_ca: String,
    /// The CAs whose client certificates an API server takes, PEM, each with those accepted beside it.
    pub apiserver_cas: Vec<String>,
    /// The CA whose client certificates a kubelet takes, PEM, with those accepted beside it.
    pub kubelet_cas: Vec<String>,
    /// A certificate that etcd accepts: certificate and key, PEM.
    pub health: (String, Secret<Vec<u8>>),
    /// A client certificate of the cluster CA, which etcd has to refuse.
    pub foreign: (String, Secret<Vec<u8>>),
    /// What each member has to serve clients and other members with, PEM.
    pub served: BTreeMap<NodeName, (String, String)>,
}

/// What attempts are made on and with.
pub struct Field<'a> {
    /// The inventory.
    pub inventory: &'a Inventory,
    /// What was seen of each node that answered.
    pub seen: &'a BTreeMap<NodeName, Observed>,
    /// Keys; without them, refusals prove nothing.
    pub keys: Option<&'a Keys>,
    /// Identities to try the cluster's API with.
    pub api: Option<&'a ApiKeys>,
    /// Whether attempts may write to the cluster's API.
    pub writes: Writes,
    /// Tells leftovers of killed runs from the work of others.
    pub now: OffsetDateTime,
    /// Ports.
    pub ports: Ports,
}

/// Whether attempts may make something: objects in the cluster's API, in a namespace of their own, and network namespaces
/// on nodes. All of it is gone at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// They may.
    Allowed,
    /// They may not; what needs it is unknown.
    Forbidden,
}

impl Field<'_> {
    /// A node that saw the end of an attempt of its own just now.
    fn witness(&self, from: &NodeName) -> Witness {
        let machine = self.seen.get(from).and_then(|seen| seen.machine.clone());
        Witness { machine, read: Some(Clock::System.now()) }
    }

    /// The nodes that answered.
    fn nodes(&self) -> impl Iterator<Item = (&Node, &Observed)> {
        self.inventory.nodes.iter().filter_map(|n| Some((n, self.seen.get(&n.name)?)))
    }
}

/// Makes every attempt: those of the operator and those of the nodes at the same time, those of one
/// node one after another.
pub fn run(field: &Field<'_>, sessions: BTreeMap<NodeName, Box<dyn Transport>>) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    std::thread::scope(|scope| {
        let operator = scope.spawn(|| operator::attempts(field));
        let mut jobs = peers::assign(field, sessions.keys());
        let work: Vec<_> = sessions
            .into_iter()
            .map(|(name, session)| {
                let jobs = jobs.remove(&name).unwrap_or_default();
                (name, session, jobs)
            })
            .collect();
        let made = fleet::each(work, fleet::WINDOW, |(name, mut session, jobs)| {
            peers::attempts(field, &name, session.as_mut(), &jobs)
        });
        attempts.extend(made.into_iter().flatten());
        attempts.extend(operator.join().expect("probes do not panic"));
    });
    attempts.extend(peers::nobody_kept_out(field, &attempts));
    Attempt::sort(&mut attempts);
    attempts
}
