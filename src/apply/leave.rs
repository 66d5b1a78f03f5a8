//! Nodes leave a cluster that goes on: their pods first, their Node objects last.

use std::collections::BTreeMap;
use std::time::Duration;

use super::drain::{DrainError, Patience, allow_pods, drain};
use super::execution::Execution;
use super::objects;
use crate::api::{ApiError, Client};
use crate::error::{Problem, chain};
use crate::event::Event;
use crate::inventory::NodeName;

/// State of the nodes that leave.
#[derive(Debug, Default)]
pub(super) struct Departure {
    /// Whether pods could be put on each of them before; none if the cluster does not know it.
    cordoned: BTreeMap<NodeName, Result<Option<bool>, String>>,
}

impl Departure {
    /// No new pods are put on a node. All that leave are cordoned first: what leaves one must not be put on the next.
    ///
    /// # Errors
    /// Why they still are.
    pub(super) fn cordon(&mut self, c: &Execution<'_>, node: &NodeName) -> Result<(), String> {
        let answer = ask(c, |client| allow_pods(client, node, false));
        let result = answer.clone().map(|_| ());
        self.cordoned.insert(node.clone(), answer);
        result
    }

    /// Has the pods of a cordoned node leave it, and says what else the operator should know. One that keeps pods takes new
    /// ones again, unless it is to leave all the same.
    ///
    /// # Errors
    /// Why it still has pods.
    pub(super) fn drain(
        &self,
        c: &Execution<'_>,
        node: &NodeName,
        within_s: u64,
        or_leave: bool,
    ) -> (Result<(), String>, Vec<Problem>) {
        let Err(why) = self.evict(c, node, Duration::from_secs(within_s)) else {
            return (Ok(()), Vec::new());
        };
        if or_leave {
            let what = format!("evict all pods of {node}, which is reset anyway");
            c.sink.send(Event::Object { what, problem: Some(why) });
            return (Ok(()), Vec::new());
        }
        let mut problems = Vec::new();
        if let Some(Ok(Some(true))) = self.cordoned.get(node)
            && let Err(e) = ask(c, |client| allow_pods(client, node, true))
        {
            problems.push(
                Problem::new("the node is still cordoned")
                    .at(node.to_string())
                    .because(e)
                    .hint(format!("run `kubectl uncordon {node}`")),
            );
        }
        problems.push(
            Problem::new("the node was not drained")
                .at(node.to_string())
                .because(why.clone())
                .left("it was not reset")
                .hint("set --drain-timeout to allow more time, or --undrained to reset it anyway"),
        );
        (Err(why), problems)
    }

    fn evict(&self, c: &Execution<'_>, node: &NodeName, within: Duration) -> Result<(), String> {
        match self.cordoned.get(node) {
            Some(Ok(Some(_))) => {}
            Some(Ok(None)) => return Ok(()),
            Some(Err(why)) => return Err(format!("its pods cannot be evicted: {why}")),
            None => return Err("it was not cordoned".into()),
        }
        let patience = Patience { within, pause: Duration::from_secs(1) };
        // Remaining pods are a valid answer: another control plane would answer the same.
        let drained = ask(c, |client| {
            let mut said = |what: &str| {
                c.sink.send(Event::Waiting { node: node.clone(), what: what.to_owned() });
            };
            match drain(client, node, patience, &mut said) {
                Err(DrainError::Unreachable(e)) => Err(e),
                other => Ok(other),
            }
        });
        let ownerless = drained
            .map_err(|why| format!("its pods cannot be evicted: {why}"))?
            .map_err(|e| e.to_string())?;
        if !ownerless.is_empty() {
            let what = format!(
                "{node}: evicted without a controller to recreate them: {}",
                ownerless.join(", ")
            );
            c.sink.send(Event::Object { what, problem: None });
        }
        Ok(())
    }
}

/// Deletes the Node object of a node that has left: one of the same name could not join again, and pods would be thought
/// to run there.
///
/// # Errors
/// Why the object was not deleted.
pub(super) fn forget(c: &Execution<'_>, node: &NodeName) -> Result<(), String> {
    ask(c, |client| objects::forget(client, node))
}

/// The problem for a node that was reset but is still registered in its cluster.
pub(super) fn node_not_deleted(node: &NodeName, why: String) -> Problem {
    Problem::new("the Node object could not be deleted")
        .at(node.to_string())
        .because(why)
        .left("the node is reset")
        .hint(format!("run `kubectl delete node {node}`"))
}

/// Asks the first control plane that answers.
///
/// # Errors
/// Why the last one could not.
fn ask<R>(
    c: &Execution<'_>,
    mut question: impl FnMut(&mut Client<'_>) -> Result<R, ApiError>,
) -> Result<R, String> {
    let access = c.api.ok_or("the key store has no administrator certificate")?;
    let mut last = String::from("no control plane remains");
    for (name, address) in &access.servers {
        let Some(plane) = c.inventory.nodes.iter().find(|n| n.name == *name) else { continue };
        let asked = c.dialer.connect(&c.inventory.ssh.for_node(plane)).map_err(|e| chain(&e));
        let asked = asked.and_then(|mut session| {
            question(&mut Client::new(session.as_mut(), *address, access))
                .map_err(|e| e.to_string())
        });
        match asked {
            Ok(answer) => return Ok(answer),
            Err(why) => last = format!("{name}: {why}"),
        }
    }
    Err(last)
}
