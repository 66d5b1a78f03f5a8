//! One transaction on one node: staged, switched, confirmed over a new connection or taken back. Where
//! a connection breaks, only the state that the node reports counts.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::execution::{Execution, Sessions, keep, with_session};
use super::payload;
use super::protocol::{self, Answer, Heard, TxnState, Verb};
use super::upload::{self, UploadError};
use crate::desired::KubeadmAction;
use crate::error::chain;
use crate::event::{Event, with_reminders};
use crate::inventory::{Node, NodeName};
use crate::plan::{Step, Transaction};
use crate::runs::record::{Line, Outcome, RecordError};
use crate::transport::{Transport, TransportError};

/// Seconds after a node's own deadline during which its final state is polled. A reboot fits in.
const GRACE: Duration = Duration::from_secs(90);
/// How long a new connection is tried before the node is told over the old one to roll back.
const RECONNECT: Duration = Duration::from_secs(15);
/// Deadline of one attempt to connect again, in seconds.
const RECONNECT_TIMEOUT_S: u32 = 5;
/// Pause between two attempts to connect.
const RETRY: Duration = Duration::from_secs(1);

/// A transaction that has been carried out on its node and waits for a decision.
pub(super) struct Switched {
    id: String,
    guarded: bool,
    /// When the node rolls back by itself.
    deadline: Instant,
}

/// The outer error is a failure to record, the inner one is the outcome of the node.
pub(super) type SwitchResult = Result<Result<Option<Switched>, Outcome>, RecordError>;

/// Stages and switches. `Ok(Ok(None))` if the node committed by itself, since nothing in the
/// transaction could cut access.
pub(super) fn switch(
    c: &Execution<'_>,
    node: &Node,
    transaction: &Transaction,
    stage: u32,
    sessions: &Mutex<Sessions>,
) -> SwitchResult {
    let phase = transaction.phase;
    let id = c.journal.next_transaction(&node.name, phase);
    c.sink.send(Event::Begin {
        node: node.name.clone(),
        what: phase.name().to_owned(),
        steps: transaction.steps.len(),
    });
    let existing = sessions.lock().expect("no thread panics while holding it").remove(&node.name);
    let mut session = match existing {
        Some(s) => s,
        None => match c.dialer.connect(&c.inventory.ssh.for_node(node)) {
            Ok(s) => s,
            Err(e) => return Ok(Err(Outcome::Unreachable { why: chain(&e) })),
        },
    };
    if let Err(outcome) = upload_all(c, node, transaction, session.as_mut()) {
        return Ok(Err(outcome));
    }
    let Some(desired) = c.desired.nodes.get(&node.name) else {
        return Ok(Err(Outcome::Refused {
            why: "the node is not part of the desired state".into(),
        }));
    };
    let now = u64::try_from(c.clock.now().unix_timestamp()).unwrap_or_default();
    let payload = match payload::build(transaction, desired, now) {
        Ok(p) => p,
        Err(e) => return Ok(Err(Outcome::Refused { why: chain(&e) })),
    };
    // Recorded before anything is sent: a killed run must still show where it was.
    let joins = transaction.steps.iter().any(|a| {
        matches!(a.step, Step::Kubeadm { action: KubeadmAction::Init | KubeadmAction::Join, .. })
    });
    let from_pod = transaction.steps.iter().any(|a| matches!(a.step, Step::EtcdFromPod { .. }));
    c.journal.write(&Line::Transaction {
        node: node.name.clone(),
        phase,
        id: id.clone(),
        stage: Some(stage),
        joins,
        from_pod,
    })?;
    let confirm_within = transaction.confirm_within_s.map(|s| Duration::from_secs(u64::from(s)));
    let mut deadline = None;
    let answer = with_reminders(c.sink, &node.name, |reminder| {
        protocol::begin(session.as_mut(), &id, &payload, &mut |heard| {
            let number = match heard {
                Heard::Step(number) => number,
                Heard::Waiting(what) => return reminder.waits_for(&what),
            };
            // The node arms itself in one of its steps, so not before the first.
            deadline.get_or_insert_with(|| Instant::now() + confirm_within.unwrap_or_default());
            let step = number
                .checked_sub(1)
                .and_then(|i| transaction.steps.get(i))
                .map(|a| a.step.to_string())
                .unwrap_or_default();
            reminder.is_at(format!("step {number} of {}: {step}", transaction.steps.len()));
            c.sink.send(Event::Step { node: node.name.clone(), number, what: step });
        })
    });
    if let Ok(a) = &answer
        && matches!(a.state, None | Some(TxnState::Prepared))
        && deadline.is_none()
    {
        let why = refusal(a);
        discard(session.as_mut(), &id);
        keep(sessions, node, session);
        return Ok(Err(Outcome::Refused { why }));
    }
    let deadline = deadline.unwrap_or_else(|| Instant::now() + confirm_within.unwrap_or_default());
    let guarded = confirm_within.is_some();
    match answer {
        Ok(a) => match a.state {
            Some(TxnState::Committed) if !guarded => {
                keep(sessions, node, session);
                Ok(match committed(&a) {
                    Outcome::Committed => Ok(None),
                    other => Err(other),
                })
            }
            Some(TxnState::Switched) if guarded && a.armed => {
                keep(sessions, node, session);
                Ok(Ok(Some(Switched { id, guarded, deadline })))
            }
            Some(TxnState::Reverted) => {
                keep(sessions, node, session);
                Ok(Err(Outcome::Reverted { why: failure(&a, transaction) }))
            }
            Some(TxnState::Incomplete) => {
                Ok(Err(Outcome::Incomplete { why: failure(&a, transaction) }))
            }
            // No final state: ask again over a new connection.
            _ => Ok(learn(c, node, &Switched { id, guarded, deadline }, &failure(&a, transaction))),
        },
        Err(e) => {
            drop(session);
            Ok(learn(c, node, &Switched { id, guarded, deadline }, &chain(&e)))
        }
    }
}

/// Uploads the bundle files that a transaction needs. Changes nothing in use.
fn upload_all(
    c: &Execution<'_>,
    node: &Node,
    transaction: &Transaction,
    session: &mut dyn Transport,
) -> Result<(), Outcome> {
    for action in &transaction.steps {
        let blob = match &action.step {
            Step::Program { blob, .. } => blob,
            Step::Images { archive, .. } => archive,
            _ => continue,
        };
        let Some(bundle) = c.bundle else {
            return Err(Outcome::Refused { why: "no bundle is open".into() });
        };
        upload::send(session, bundle, blob, &node.name, c.sink).map_err(|e| match e {
            UploadError::Transport { .. } => Outcome::Unreachable { why: chain(&e) },
            _ => Outcome::Refused { why: chain(&e) },
        })?;
    }
    Ok(())
}

/// What came of a transaction whose connection broke while it was carried out. The node brings it
/// to an end by itself; this waits for that and believes only what the node says.
fn learn(
    c: &Execution<'_>,
    node: &Node,
    s: &Switched,
    why: &str,
) -> Result<Option<Switched>, Outcome> {
    let until = s.deadline.max(Instant::now()) + GRACE;
    c.sink.send(Event::Waiting {
        node: node.name.clone(),
        what: "the node to report its state".into(),
    });
    match final_state(c, node, s, until, why) {
        Outcome::Committed => Ok(None),
        other => Err(other),
    }
}

/// Asks for the state until it is final.
fn final_state(c: &Execution<'_>, node: &Node, s: &Switched, until: Instant, why: &str) -> Outcome {
    let latest = Instant::now() + Verb::Switch.deadline();
    let mut until = until;
    let mut last = String::from("the node could not be reached");
    while Instant::now() < until {
        let Ok(mut session) = reconnect(c, node, until) else { break };
        // A guarded transaction is told to roll back, which is faster than its timer.
        let asked = protocol::call(session.as_mut(), &s.id, Verb::State, "-", &mut |_| {});
        match asked {
            Ok(Answer { state: Some(state), .. }) => match state {
                TxnState::Committed => return Outcome::Committed,
                TxnState::Reverted => return Outcome::Reverted { why: why.to_owned() },
                TxnState::Incomplete => {
                    return Outcome::Incomplete {
                        why: format!("{why}; the node could not undo everything"),
                    };
                }
                TxnState::Absent => {
                    return Outcome::Reverted { why: format!("{why}; nothing was changed") };
                }
                TxnState::Staged
                | TxnState::Prepared
                | TxnState::Switching
                | TxnState::Switched => {
                    // Nothing in an unguarded one can cut access, and a package manager must not be
                    // killed: with this reason the node waits for its end, and says so if it takes
                    // longer.
                    let reason = if s.guarded { "connection-lost" } else { "left-open" };
                    let asked =
                        protocol::call(session.as_mut(), &s.id, Verb::Revert, reason, &mut |_| {});
                    if asked.is_ok_and(|a| a.busy) {
                        last = "still in progress".into();
                        until = until.max(Instant::now() + GRACE).min(latest);
                    }
                }
                TxnState::Reverting => last = "still rolling back".into(),
            },
            Ok(a) => last = a.rest,
            Err(e) => last = chain(&e),
        }
        std::thread::sleep(RETRY);
    }
    let back = if s.guarded {
        "the node rolls back by itself, but has not confirmed it"
    } else {
        "it may be partly done"
    };
    Outcome::Incomplete { why: format!("{why}; {back} ({last})") }
}

/// Reconnects, until `deadline`.
fn reconnect(
    c: &Execution<'_>,
    node: &Node,
    deadline: Instant,
) -> Result<Box<dyn Transport>, TransportError> {
    let mut target = c.inventory.ssh.for_node(node);
    // Several short attempts see a node come back sooner than one long one.
    target.connect_timeout_s = target.connect_timeout_s.min(RECONNECT_TIMEOUT_S);
    loop {
        match c.dialer.connect(&target) {
            Ok(t) => return Ok(t),
            // Another key means another machine: a retry does not help.
            Err(e @ (TransportError::HostKey { .. } | TransportError::LocalFile { .. })) => {
                return Err(e);
            }
            Err(e) if Instant::now() + RETRY >= deadline => return Err(e),
            Err(_) => std::thread::sleep(RETRY),
        }
    }
}

/// Confirms over a new connection, the proof that the node can still be reached.
pub(super) fn confirm(
    c: &Execution<'_>,
    node: &Node,
    s: &Switched,
    sessions: &Mutex<Sessions>,
) -> Outcome {
    c.sink.send(Event::Waiting { node: node.name.clone(), what: "a new connection".into() });
    let until = s.deadline.min(Instant::now() + RECONNECT);
    match reconnect(c, node, until) {
        Ok(mut session) => {
            let asked = protocol::call(session.as_mut(), &s.id, Verb::Confirm, "-", &mut |_| {});
            match asked {
                Ok(a) if a.state == Some(TxnState::Committed) => {
                    keep(sessions, node, session);
                    committed(&a)
                }
                Ok(a) => {
                    let why = format!("the confirmation failed ({})", refusal(&a));
                    roll_back(c, node, s, sessions, &why)
                }
                Err(e) => {
                    let why = format!("the confirmation could not be sent: {}", chain(&e));
                    roll_back(c, node, s, sessions, &why)
                }
            }
        }
        Err(e) => {
            let why = format!("no new connection after the change: {}", chain(&e));
            roll_back(c, node, s, sessions, &why)
        }
    }
}

/// The outcome of a final transaction: notes mean that images of a removed key could not be deleted.
fn committed(a: &Answer) -> Outcome {
    if a.notes.is_empty() {
        Outcome::Committed
    } else {
        Outcome::Unready { why: a.notes.join("; ") }
    }
}

/// Rolls a node back now: over the connection that is still open, else by waiting for its timer.
pub(super) fn roll_back(
    c: &Execution<'_>,
    node: &Node,
    s: &Switched,
    sessions: &Mutex<Sessions>,
    why: &str,
) -> Outcome {
    c.sink.send(Event::Waiting { node: node.name.clone(), what: "the node to roll back".into() });
    let open = sessions.lock().expect("no thread panics while holding it").remove(&node.name);
    if let Some(mut session) = open {
        let asked =
            protocol::call(session.as_mut(), &s.id, Verb::Revert, "not-confirmed", &mut |_| {});
        match asked.ok().and_then(|a| a.state) {
            Some(TxnState::Reverted) => return Outcome::Reverted { why: why.to_owned() },
            Some(TxnState::Committed) => return Outcome::Committed,
            Some(TxnState::Incomplete) => {
                return Outcome::Incomplete {
                    why: format!("{why}; the node could not undo everything"),
                };
            }
            _ => {}
        }
    }
    final_state(c, node, s, s.deadline.max(Instant::now()) + GRACE, why)
}

/// A transaction that was refused has changed nothing; it is marked so that it is not open any more.
fn discard(session: &mut dyn Transport, id: &str) {
    // If that fails, the next run finds it open and does the same.
    let _ = protocol::call(session, id, Verb::Revert, "refused", &mut |_| {});
}

/// Why a node did not start a transaction.
fn refusal(a: &Answer) -> String {
    if a.busy {
        "another run is in progress on the node".into()
    } else if let Some(moved) = &a.moved {
        format!("changed since the plan was made: {moved}")
    } else if let Some(refused) = &a.refused {
        refused.clone()
    } else {
        a.rest.clone()
    }
}

fn failure(a: &Answer, transaction: &Transaction) -> String {
    let step = a.failed_step.map(|n| {
        let what =
            n.checked_sub(1).and_then(|i| transaction.steps.get(i)).map(|s| s.step.to_string());
        format!("step {n} ({}) failed", what.unwrap_or_default())
    });
    let mut text = step.unwrap_or_else(|| refusal(a));
    if !a.said.is_empty() {
        text = format!("{text}: {}", a.said.join("; "));
    }
    text
}

/// Settles a transaction that an earlier run left open: it is rolled back, unless it was confirmed meanwhile.
pub(super) fn settle(
    c: &Execution<'_>,
    node: &NodeName,
    id: &str,
    sessions: &Mutex<Sessions>,
) -> Outcome {
    let Some(node) = c.inventory.nodes.iter().find(|n| n.name == *node) else {
        return Outcome::Refused { why: "the inventory does not have this node".into() };
    };
    let answer = with_reminders(c.sink, &node.name, |reminder| {
        reminder.waits_for(&format!("what an earlier run left unfinished to be undone ({id})"));
        with_session(c, node, sessions, |session| {
            let call = protocol::call(session, id, Verb::Revert, "left-open", &mut |_| {});
            call.map_err(|e| chain(&e))
        })
    });
    let answer = match answer {
        Ok(answer) => answer,
        Err(why) => return Outcome::Unreachable { why },
    };
    match answer.state {
        Some(TxnState::Committed) => Outcome::Committed,
        Some(TxnState::Reverted) => {
            Outcome::Reverted { why: "an earlier run left it unfinished".into() }
        }
        _ if answer.busy => {
            Outcome::Refused { why: "another run is in progress on the node".into() }
        }
        _ if answer.refused.is_some() => {
            Outcome::Refused { why: answer.refused.unwrap_or_default() }
        }
        other => Outcome::Incomplete {
            why: format!(
                "the transaction is {} {}",
                other.map_or("in an unknown state", TxnState::words),
                answer.said.join("; ")
            ),
        },
    }
}
