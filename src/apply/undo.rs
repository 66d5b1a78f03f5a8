//! Rolls back a committed transaction on its node.

use std::time::{Duration, Instant};

use super::execution::Execution;
use super::protocol::{self, Answer, TxnState, Verb};
use crate::error::chain;
use crate::event::{Event, with_reminders};
use crate::plan::{Ended, Peers, TakeBack};
use crate::runs::outcome::Outcome;
use crate::transport::{Transport, TransportError};

/// How long a node is polled after its connection broke. A reboot fits in.
pub const PATIENCE: Patience = Patience {
    pause: Duration::from_secs(2),
    lost: Duration::from_secs(90),
    busy: Duration::from_secs(400),
};

/// How long a node is polled, and how often.
pub struct Patience {
    /// Pause between two connections.
    pub pause: Duration,
    /// Maximum time since its last answer.
    pub lost: Duration,
    /// Maximum total time for a node that answers but is still busy: as long as a rollback may take.
    pub busy: Duration,
}

/// What a node is told of its peers.
fn word(peers: Peers) -> &'static str {
    match peers {
        Peers::Together => "together",
        Peers::Stay => "alone",
    }
}

/// Runs the task over its own connection: see [`undo`].
pub(super) fn roll_back(c: &Execution<'_>, t: &TakeBack) -> Outcome {
    let Some(node) = c.inventory.nodes.iter().find(|n| n.name == t.node) else {
        return Outcome::Refused { why: "the inventory does not have this node".into() };
    };
    c.sink.send(Event::Begin {
        node: t.node.clone(),
        what: format!("roll back {}", t.phase.name()),
        steps: 0,
    });
    let connect = || c.dialer.connect(&c.inventory.ssh.for_node(node));
    with_reminders(c.sink, &t.node, |reminder| {
        reminder.is_at(format!("the rollback of {}", t.phase.name()));
        undo(&connect, t, &PATIENCE, c.say)
    })
}

/// Takes back what a transaction did. A node goes on by itself when its connection breaks: only its own word says how
/// that ended, and asking twice does no harm. `say` hears what the node remarks.
fn undo(
    connect: &dyn Fn() -> Result<Box<dyn Transport>, TransportError>,
    t: &TakeBack,
    patience: &Patience,
    say: &(dyn Fn(&str) + Sync),
) -> Outcome {
    let ask = |session: &mut dyn Transport| {
        let answer =
            protocol::call(session, &t.transaction, Verb::Undo, word(t.peers), &mut |_| {})?;
        answer.notes.iter().for_each(|n| say(&format!("{}: {n}", t.node)));
        Ok(answer)
    };
    let broke = match connect() {
        Err(e) => return Outcome::Unreachable { why: chain(&e) },
        Ok(mut session) => match ask(session.as_mut()) {
            Ok(a) => return undone(a, t),
            Err(e) if is_over(&e) => return Outcome::Incomplete { why: chain(&e) },
            Err(e) => chain(&e),
        },
    };
    let begun = Instant::now();
    let mut heard = begun;
    let mut state = None;
    while heard.elapsed() < patience.lost && begun.elapsed() < patience.busy {
        std::thread::sleep(patience.pause);
        let answer = connect().and_then(|mut session| {
            let answer = ask(session.as_mut())?;
            if answer.busy {
                heard = Instant::now();
                let said =
                    protocol::call(session.as_mut(), &t.transaction, Verb::State, "-", &mut |_| {});
                state = said.ok().and_then(|a| a.state);
            }
            Ok(answer)
        });
        match answer {
            Ok(a) if !a.busy => return undone(a, t),
            Err(e) if is_over(&e) => {
                return Outcome::Incomplete { why: format!("{broke}; {}", chain(&e)) };
            }
            _ => {}
        }
    }
    match state {
        // It never started this rollback.
        Some(TxnState::Committed) => {
            Outcome::Refused { why: "another run is in progress on the node".into() }
        }
        _ => Outcome::Incomplete {
            why: format!("{broke}; the result is unknown: run the rollback again to check"),
        },
    }
}

/// Whether a retry would fail the same way or do harm: wrong passwords can lock an account.
fn is_over(e: &TransportError) -> bool {
    !matches!(
        e,
        TransportError::Connect { .. }
            | TransportError::Handshake { .. }
            | TransportError::Deadline { .. }
            | TransportError::Broken { .. }
    )
}

/// For a node that was reset since, judging by the clocks. The rollback is still no success: if the node has lost its
/// records (such as /var/lib/kubastion), its reset did not restore anything either.
pub(super) fn reset_since(by: &str) -> String {
    format!(
        "run {by} has since reset the node, which has no record of this run: nothing was changed"
    )
}

/// What a node's answer to an undo means.
fn undone(a: Answer, t: &TakeBack) -> Outcome {
    // "Committed" is what a rollback that worked is called here.
    match (a.state, a.refused, t.ended) {
        (Some(TxnState::Reverted), ..) => Outcome::Committed,
        // Nothing was started.
        (Some(TxnState::Absent), _, Ended::WithoutChange) => Outcome::Committed,
        (Some(TxnState::Absent), ..) if t.reset_by.is_some() => {
            Outcome::Skipped { why: t.reset_by.as_deref().map(reset_since).unwrap_or_default() }
        }
        // Its record may have been started without anything being sent.
        (Some(TxnState::Absent), _, Ended::Unknown) => Outcome::Refused {
            why: "the node has no record of it: most likely the run never reached the node. To go back further, name \
                  the run before it (see `kubastion runs`)"
                .into(),
        },
        (Some(TxnState::Absent), ..) => Outcome::Refused {
            why: "the node no longer has the images of that run (it keeps only those of the latest runs)"
                .into(),
        },
        (_, Some(why), _) => Outcome::Refused { why },
        (Some(TxnState::Incomplete), ..) => Outcome::Incomplete { why: a.said.join("; ") },
        _ if a.busy => Outcome::Refused { why: "another run is in progress on the node".into() },
        _ => Outcome::Incomplete { why: a.rest },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::desired::Phase;
    use crate::inventory::testing;
    use crate::transport::Dialer as _;
    use crate::transport::played::{BREAKS, Play, Played, REFUSES_ROOT};

    fn host(node: &str, ended: Ended, reset_by: Option<&str>) -> TakeBack {
        TakeBack {
            node: node.parse().unwrap(),
            transaction: "1-host".into(),
            phase: Phase::Host,
            ended,
            peers: Peers::Together,
            reset_by: reset_by.map(str::to_owned),
        }
    }

    #[test]
    fn a_node_whose_connection_broke_is_asked_until_it_says_how_it_ended() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        fn then(last: &str) -> String {
            match ASKED.fetch_add(1, Ordering::SeqCst) {
                0 | 1 => BREAKS,
                2 => "@busy another run holds it\n",
                _ => last,
            }
            .into()
        }
        const SHORT: Patience = Patience {
            pause: Duration::from_millis(1),
            lost: Duration::from_millis(300),
            busy: Duration::from_millis(600),
        };
        let inventory = testing::two_and_two();
        let node = &inventory.nodes[0];
        let t = host(node.name.as_str(), Ended::InPlace, None);
        let goes = |play: Play<'static>| {
            ASKED.store(0, Ordering::SeqCst);
            let connect = || Played(play).connect(&inventory.ssh.for_node(node));
            let outcome = undo(&connect, &t, &SHORT, &|_| {});
            (outcome, ASKED.load(Ordering::SeqCst))
        };
        assert_eq!(goes(&|_, _, _| then("@state reverted\n")), (Outcome::Committed, 5));
        let (said, _) = goes(&|_, _, _| then("@said no room\n@state incomplete\n"));
        assert_eq!(said, Outcome::Incomplete { why: "no room".into() });
        // Another run has the lock, and this one never began.
        let (said, _) =
            goes(&|_, _, input| match String::from_utf8_lossy(input).contains("state") {
                true => "@state committed\n".into(),
                false if ASKED.fetch_add(1, Ordering::SeqCst) == 0 => BREAKS.into(),
                false => "@busy another run holds it\n".into(),
            });
        assert!(matches!(said, Outcome::Refused { .. }), "{said:?}");
        let (said, asked) = goes(&|_, _, _| then(BREAKS));
        assert!(matches!(said, Outcome::Incomplete { .. }), "{said:?}");
        assert!(asked > 4, "{asked}");
        // A wrong password is said once.
        let (said, asked) = goes(&|_, _, _| {
            ASKED.fetch_add(1, Ordering::SeqCst);
            REFUSES_ROOT.into()
        });
        assert!(matches!(said, Outcome::Incomplete { .. }), "{said:?}");
        assert_eq!(asked, 1);
        // Who answers at once is asked once.
        let at_once = goes(&|_, _, _| {
            ASKED.fetch_add(1, Ordering::SeqCst);
            "@busy another run holds it\n".into()
        });
        assert!(matches!(at_once, (Outcome::Refused { .. }, 1)), "{at_once:?}");
    }

    #[test]
    fn a_rollback_without_images_is_not_called_done() {
        let answered = |state, ended, reset_by| {
            undone(Answer { state: Some(state), ..Answer::default() }, &host("n", ended, reset_by))
        };
        let absent = |ended, reset_by| answered(TxnState::Absent, ended, reset_by);
        assert!(matches!(absent(Ended::InPlace, None), Outcome::Refused { .. }));
        let Outcome::Refused { why } = absent(Ended::Unknown, None) else { panic!() };
        assert!(why.contains("never reached the node"), "{why}");
        assert_eq!(absent(Ended::WithoutChange, None), Outcome::Committed);
        // By the clocks, the node was reset later.
        let Outcome::Skipped { why } = absent(Ended::InPlace, Some("3")) else { panic!() };
        assert!(why.contains("run 3 has since reset the node"), "{why}");
        assert_eq!(answered(TxnState::Reverted, Ended::InPlace, None), Outcome::Committed);
    }
}
