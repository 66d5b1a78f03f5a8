//! What all that is done in a run works with, and the connections that it shares.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::gate::EtcdAccess;
use crate::api::ApiAccess;
use crate::bundle::Bundle;
use crate::clock::Clock;
use crate::desired::DesiredState;
use crate::error::chain;
use crate::event::Sink;
use crate::inventory::{Inventory, Node, NodeName};
use crate::plan::Plan;
use crate::runs::record::Journal;
use crate::transport::{Dialer, Transport};

/// Open connections, by node. A node whose connection broke has none.
pub type Sessions = BTreeMap<NodeName, Box<dyn Transport>>;

/// What the executor works with.
pub struct Execution<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// What it was made from; the source of file contents.
    pub desired: &'a DesiredState,
    /// The inventory.
    pub inventory: &'a Inventory,
    /// Opens new connections.
    pub dialer: &'a dyn Dialer,
    /// How etcd members are asked, where there are any.
    pub etcd: Option<&'a EtcdAccess>,
    /// How API servers are asked, where the cluster is to have any.
    pub api: Option<&'a ApiAccess>,
    /// Where programs and images come from, if from a bundle.
    pub bundle: Option<&'a Bundle>,
    /// Where progress goes.
    pub sink: &'a dyn Sink,
    /// Hears what nodes remark that is no result.
    pub say: &'a (dyn Fn(&str) + Sync),
    /// The record of the run.
    pub journal: &'a Journal,
    /// For the modification time of new files.
    pub clock: Clock,
}

/// Lends the node's open connection, or a new one.
pub(super) fn with_session<R>(
    c: &Execution<'_>,
    node: &Node,
    sessions: &Mutex<Sessions>,
    work: impl FnOnce(&mut dyn Transport) -> Result<R, String>,
) -> Result<R, String> {
    let open = sessions.lock().expect("no thread panics while holding it").remove(&node.name);
    let mut session = match open {
        Some(s) => s,
        None => c.dialer.connect(&c.inventory.ssh.for_node(node)).map_err(|e| chain(&e))?,
    };
    let result = work(session.as_mut());
    keep(sessions, node, session);
    result
}

/// Puts a connection back for whoever works on the node next.
pub(super) fn keep(sessions: &Mutex<Sessions>, node: &Node, session: Box<dyn Transport>) {
    sessions.lock().expect("no thread panics while holding it").insert(node.name.clone(), session);
}
