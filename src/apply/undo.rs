//! A transaction that was final is taken back on its node.

use std::time::{Duration, Instant};

use super::history;
use super::protocol::{self, Answer, TxnState, Verb};
use super::record::{Outcome, RunRecord, TransactionRecord};
use crate::error::chain;
use crate::transport::{Transport, TransportError};

/// How long a node is asked again whose connection broke. A reboot fits in.
pub const PATIENCE: Patience = Patience {
    pause: Duration::from_secs(2),
    lost: Duration::from_secs(90),
    busy: Duration::from_secs(400),
};

/// How long a node is asked again, and how often.
pub struct Patience {
    /// Between two connections.
    pub pause: Duration,
    /// Since it answered last.
    pub lost: Duration,
    /// In all, for one that answers and is still at it: as long as going back may take.
    pub busy: Duration,
}

/// Whether all that others count on go back together, which a node wants to know before it leaves them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peers {
    /// They do.
    Together,
    /// Some of them stay.
    Stay,
}

impl Peers {
    fn word(self) -> &'static str {
        match self {
            Self::Together => "together",
            Self::Stay => "alone",
        }
    }
}

/// Takes back what a transaction did. A node goes on by itself when its connection breaks: only its own word says how
/// that ended, and asking twice does no harm. `reset` is the run that reset the node since, as far as records tell; `say`
/// hears what the node remarks.
pub fn undo(
    connect: &dyn Fn() -> Result<Box<dyn Transport>, TransportError>,
    t: &TransactionRecord,
    peers: Peers,
    reset: Option<&RunRecord>,
    patience: &Patience,
    say: &(dyn Fn(&str) + Sync),
) -> Outcome {
    let ask = |session: &mut dyn Transport| {
        let answer = protocol::call(session, &t.id, Verb::Undo, peers.word(), &mut |_| {})?;
        answer.notes.iter().for_each(|n| say(&format!("{}: {n}", t.node)));
        Ok(answer)
    };
    let broke = match connect() {
        Err(e) => return Outcome::Unreachable { why: chain(&e) },
        Ok(mut session) => match ask(session.as_mut()) {
            Ok(a) => return undone(a, t.outcome.as_ref(), reset),
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
                let said = protocol::call(session.as_mut(), &t.id, Verb::State, "-", &mut |_| {});
                state = said.ok().and_then(|a| a.state);
            }
            Ok(answer)
        });
        match answer {
            Ok(a) if !a.busy => return undone(a, t.outcome.as_ref(), reset),
            Err(e) if is_over(&e) => {
                return Outcome::Incomplete { why: format!("{broke}; {}", chain(&e)) };
            }
            _ => {}
        }
    }
    match state {
        // It never began with this.
        Some(TxnState::Committed) => {
            Outcome::Refused { why: "another run is at work on the node".into() }
        }
        _ => Outcome::Incomplete {
            why: format!("{broke}; it has not said how that ended: a second rollback asks it"),
        },
    }
}

/// Whether asking again would end the same way, or do harm: an account that counts wrong passwords is locked by them.
fn is_over(e: &TransportError) -> bool {
    !matches!(
        e,
        TransportError::Connect { .. }
            | TransportError::Handshake { .. }
            | TransportError::Deadline { .. }
            | TransportError::Broken { .. }
    )
}

/// Of a node that was reset, if the clocks are right. That it was is not what makes a rollback a success: what a node
/// has lost (its /var/lib/kubastion, say) it does not take back at a reset either.
pub fn knows_nothing(by: &RunRecord) -> String {
    format!(
        "run {} reset the node since, and it knows nothing of this run: nothing was done",
        by.run
    )
}

/// What a node's answer to an undo means, if the transaction had ended so, and a record says that the node was reset
/// since.
fn undone(a: Answer, ended: Option<&Outcome>, reset: Option<&RunRecord>) -> Outcome {
    // "Committed" is what a rollback that worked is called here.
    match (a.state, a.refused, ended) {
        (Some(TxnState::Reverted), ..) => Outcome::Committed,
        // Nothing was begun.
        (Some(TxnState::Absent), _, Some(o)) if !history::may_stand(o) => Outcome::Committed,
        (Some(TxnState::Absent), ..) if reset.is_some() => {
            Outcome::Skipped { why: reset.map(knows_nothing).unwrap_or_default() }
        }
        // Its record may have been begun, and nothing sent.
        (Some(TxnState::Absent), _, None) => Outcome::Refused {
            why: "the node does not know it: most likely it never got there. To go further back, name the run before \
                  it, which `kubastion runs` shows"
                .into(),
        },
        (Some(TxnState::Absent), ..) => Outcome::Refused {
            why: "the node has no images of that run any more (it keeps those of the last ones)"
                .into(),
        },
        (_, Some(why), _) => Outcome::Refused { why },
        (Some(TxnState::Incomplete), ..) => Outcome::Incomplete { why: a.said.join("; ") },
        _ if a.busy => Outcome::Refused { why: "another run is at work on the node".into() },
        _ => Outcome::Incomplete { why: a.rest },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::apply::record::RunKind;
    use crate::apply::record::testing::{done, reset_of, run};
    use crate::desired::Phase;
    use crate::inventory::testing;
    use crate::transport::Dialer as _;
    use crate::transport::played::{BREAKS, Play, Played, REFUSES_ROOT};

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
        let t = done(node.name.as_str(), Phase::Host, "1-host", Some(Outcome::Committed));
        let goes = |play: Play<'static>| {
            ASKED.store(0, Ordering::SeqCst);
            let connect = || Played(play).connect(&inventory.ssh.for_node(node));
            let outcome = undo(&connect, &t, Peers::Together, None, &SHORT, &|_| {});
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
        let absent = || Answer { state: Some(TxnState::Absent), ..Answer::default() };
        assert!(matches!(
            undone(absent(), Some(&Outcome::Committed), None),
            Outcome::Refused { .. }
        ));
        let Outcome::Refused { why } = undone(absent(), None, None) else { panic!() };
        assert!(why.contains("never got there"), "{why}");
        let unready = Outcome::Unready { why: String::new() };
        assert!(matches!(undone(absent(), Some(&unready), None), Outcome::Refused { .. }));
        let unreachable = Outcome::Unreachable { why: String::new() };
        assert_eq!(undone(absent(), Some(&unreachable), None), Outcome::Committed);
        // By the clocks, the node was reset later.
        let first = run("1", RunKind::Apply, "1-host", Outcome::Committed);
        let all = [first.clone(), reset_of("n", &[])];
        let by = history::reset_by(&all, &first, &first.transactions[0]);
        let Outcome::Skipped { why } = undone(absent(), Some(&Outcome::Committed), by) else {
            panic!()
        };
        assert!(why.contains("run 3 reset the node since"), "{why}");
        assert_eq!(history::reset_by(&all[..1], &first, &first.transactions[0]), None);
        let reverted = Answer { state: Some(TxnState::Reverted), ..Answer::default() };
        assert_eq!(undone(reverted, Some(&Outcome::Committed), None), Outcome::Committed);
    }
}
