//! What the tasks of a run share, including connections.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::gate::EtcdAccess;
use crate::api::ApiAccess;
use crate::bundle::Bundle;
use crate::clock::Clock;
use crate::desired::DesiredState;
use crate::error::chain;
use crate::event::Sink;
use crate::inventory::{BundledObject, Inventory, Node, NodeName};
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
    /// The objects of its manifests.
    pub bundled: &'a [BundledObject],
    /// Where progress goes.
    pub sink: &'a dyn Sink,
    /// Receives remarks of nodes that are not results.
    pub say: &'a (dyn Fn(&str) + Sync),
    /// The record of the run.
    pub journal: &'a Journal,
    /// For the modification time of new files.
    pub clock: Clock,
}

/// What a plan works with that sends no files: one that takes back, resets or brings to an end.
static NOTHING: DesiredState = DesiredState { nodes: BTreeMap::new() };

impl<'a> Execution<'a> {
    /// For a plan that sends no files, and asks neither etcd nor an API server; whoever does says so.
    pub fn without_contents(
        plan: &'a Plan,
        inventory: &'a Inventory,
        dialer: &'a dyn Dialer,
        journal: &'a Journal,
        sink: &'a dyn Sink,
        say: &'a (dyn Fn(&str) + Sync),
    ) -> Self {
        let (etcd, api, bundle, clock) = (None, None, None, Clock::System);
        let desired = &NOTHING;
        Self {
            plan,
            desired,
            inventory,
            dialer,
            etcd,
            api,
            bundle,
            bundled: &[],
            sink,
            say,
            journal,
            clock,
        }
    }
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

/// Returns a connection for the next task on the node.
pub(super) fn keep(sessions: &Mutex<Sessions>, node: &Node, session: Box<dyn Transport>) {
    sessions.lock().expect("no thread panics while holding it").insert(node.name.clone(), session);
}
