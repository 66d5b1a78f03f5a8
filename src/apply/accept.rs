//! Has a node accept what a rollback could not undo on it.

use std::sync::Mutex;

use super::execution::{Execution, Sessions, with_session};
use super::protocol::{self, Answer, TxnState, Verb};
use crate::error::chain;
use crate::inventory::{Inventory, Node, NodeName};
use crate::runs::outcome::Outcome;
use crate::transport::{Dialer, TransportError};

/// Whether a node waits for somebody's word about a transaction of a run: its rollback is incomplete, was cut off, or has
/// images that the node does not trust.
///
/// # Errors
/// If the node cannot be asked.
pub fn is_undecided(
    inventory: &Inventory,
    dialer: &dyn Dialer,
    node: &Node,
    transaction: &str,
    run: &str,
) -> Result<bool, TransportError> {
    let mut session = dialer.connect(&inventory.ssh.for_node(node))?;
    let answer = protocol::call(session.as_mut(), transaction, Verb::State, run, &mut |_| {})?;
    let incomplete = matches!(answer.state, Some(TxnState::Incomplete | TxnState::Reverting));
    Ok(incomplete || !answer.notes.is_empty())
}

/// Accepts it. The node keeps the run as the reason.
pub(super) fn accept(
    c: &Execution<'_>,
    node: &NodeName,
    transaction: &str,
    run: &str,
    sessions: &Mutex<Sessions>,
) -> Outcome {
    let Some(node) = c.inventory.nodes.iter().find(|n| n.name == *node) else {
        return Outcome::Refused { why: "the inventory does not have this node".into() };
    };
    let answer = with_session(c, node, sessions, |session| {
        protocol::call(session, transaction, Verb::Accept, run, &mut |_| {}).map_err(|e| chain(&e))
    });
    match answer {
        Ok(answer) => accepted(answer),
        Err(why) => Outcome::Unreachable { why },
    }
}

/// What a node's answer means. "Committed" is what an acceptance that worked is called in records.
fn accepted(a: Answer) -> Outcome {
    match a.state {
        Some(TxnState::Reverted) => Outcome::Committed,
        _ if a.busy => Outcome::Refused { why: "another run is in progress on the node".into() },
        _ => Outcome::Refused { why: a.refused.unwrap_or(a.rest) },
    }
}
