//! Nodes leave a cluster that goes on: their pods first, their Node objects last.

use std::collections::BTreeMap;
use std::time::Duration;

use super::keys;
use super::objects;
use crate::api::{ApiAccess, ApiError, Client};
use crate::apply::drain::{DrainError, Patience, allow_pods, drain};
use crate::apply::objects::forget as forget_node;
use crate::error::Problem;
use crate::error::chain;
use crate::event::{Event, Sink};
use crate::inventory::{Inventory, Loaded, Node, NodeName, Role, SoftwareSource};
use crate::transport::Dialer;

/// What becomes of a node whose pods cannot be evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undrained {
    /// It stays in the cluster.
    Stay,
    /// It leaves with what runs on it.
    Leave,
}

/// How nodes are drained.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    /// How long the pods of one node may take.
    pub within: Duration,
    /// What becomes of a node that still has some.
    pub undrained: Undrained,
}

/// A cluster that goes on without the nodes that are reset.
pub struct Staying<'l> {
    inventory: &'l Inventory,
    /// Its control planes.
    planes: Vec<&'l Node>,
    /// How they are asked, or what the key store lacks for it.
    access: Result<ApiAccess, String>,
}

impl<'l> Staying<'l> {
    /// `None` where all control planes are reset, or this program has never made a cluster.
    pub fn of(loaded: &'l Loaded, leaving: &[&Node]) -> Option<Self> {
        let inventory = &loaded.inventory;
        let planes: Vec<&Node> = inventory
            .with_role(Role::ControlPlane)
            .filter(|n| !leaving.iter().any(|l| l.name == n.name))
            .collect();
        if planes.is_empty() || inventory.kubernetes.source == SoftwareSource::None {
            return None;
        }
        let access = keys::open(loaded)
            .and_then(|store| keys::material(loaded, store))
            .map_err(|stop| {
                let said = stop.problems.iter().map(|p| p.what.as_str()).collect::<Vec<_>>();
                format!("the key store cannot be used: {}", said.join("; "))
            })
            .and_then(|material| {
                objects::access(inventory, &material)
                    .ok_or_else(|| "the key store has no administrator's certificate".to_owned())
            });
        Some(Self { inventory, planes, access })
    }

    /// Asks the first control plane that can be.
    ///
    /// # Errors
    /// Why the last one could not.
    fn ask<R>(
        &self,
        dialer: &dyn Dialer,
        mut question: impl FnMut(&mut Client<'_>) -> Result<R, ApiError>,
    ) -> Result<R, String> {
        let access = self.access.as_ref().map_err(Clone::clone)?;
        let mut last = String::new();
        for plane in &self.planes {
            let asked = dialer
                .connect(&self.inventory.ssh.for_node(plane))
                .map_err(|e| chain(&e))
                .and_then(|mut session| {
                    let address = plane.internal_ip();
                    question(&mut Client::new(session.as_mut(), address, access))
                        .map_err(|e| e.to_string())
                });
            match asked {
                Ok(answer) => return Ok(answer),
                Err(why) => last = format!("{}: {why}", plane.name),
            }
        }
        Err(last)
    }
}

/// Has the pods of all nodes leave them, one node after the other. Returns the nodes that are to stay as
/// they are and why, and what else the user should know.
pub fn drain_all(
    cluster: &Staying<'_>,
    dialer: &dyn Dialer,
    nodes: &[&Node],
    how: Drain,
    sink: &dyn Sink,
) -> (BTreeMap<NodeName, String>, Vec<Problem>) {
    let patience = Patience { within: how.within, pause: Duration::from_secs(1) };
    // All of them first: what leaves one must not be put on the next.
    let mut closed: BTreeMap<&NodeName, Result<Option<bool>, String>> = BTreeMap::new();
    for node in nodes {
        let answer = cluster.ask(dialer, |client| allow_pods(client, &node.name, false));
        closed.insert(&node.name, answer);
    }
    let mut kept = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, closed) in closed {
        let drained = match &closed {
            Err(why) => Err(why.clone()),
            Ok(None) => Ok(Ok(Vec::new())),
            // That pods are left is an answer, which another control plane would not better.
            Ok(Some(_)) => cluster.ask(dialer, |client| {
                let mut said = |what: &str| {
                    sink.send(Event::Waiting { node: name.clone(), what: what.to_owned() });
                };
                match drain(client, name, patience, &mut said) {
                    Err(DrainError::Unreachable(e)) => Err(e),
                    other => Ok(other),
                }
            }),
        };
        let why = match drained {
            Ok(Ok(ownerless)) => {
                if !ownerless.is_empty() {
                    let what = format!("{}: nothing makes {} anew", name, ownerless.join(", "));
                    sink.send(Event::Object { what, problem: None });
                }
                continue;
            }
            Ok(Err(e)) => e.to_string(),
            Err(why) => format!("its pods cannot be evicted: {why}"),
        };
        if how.undrained == Undrained::Leave {
            let what = format!("evict all pods of {name}, which is reset all the same");
            sink.send(Event::Object { what, problem: Some(why) });
            continue;
        }
        // Of those that took pods before.
        if let Ok(Some(true)) = closed {
            let again = cluster.ask(dialer, |client| allow_pods(client, name, true));
            if let Err(e) = again {
                problems.push(
                    Problem::new("no new pods are put on the node")
                        .at(name.to_string())
                        .because(e)
                        .hint(format!("`kubectl uncordon {name}`")),
                );
            }
        }
        problems.push(
            Problem::new("the node was not drained")
                .at(name.to_string())
                .because(why.clone())
                .left("it was not reset")
                .hint("--drain-timeout gives it more time, --undrained resets it all the same"),
        );
        kept.insert(name.clone(), why);
    }
    (kept, problems)
}

/// Deletes the Node objects of nodes that have left: a node of the same name could not join again, and
/// pods would be thought to run there.
pub fn forget(cluster: &Staying<'_>, dialer: &dyn Dialer, gone: &[&NodeName]) -> Option<Problem> {
    let told =
        cluster.ask(dialer, |client| gone.iter().try_for_each(|node| forget_node(client, node)));
    let why = told.err()?;
    let names: Vec<&str> = gone.iter().map(|n| n.as_str()).collect();
    let problem = Problem::new("the cluster was not told that nodes have left it");
    let hint = format!("`kubectl delete node {}`", names.join(" "));
    Some(problem.at("cluster").because(why).left("the nodes are reset").hint(hint))
}
