//! Talking to `txn.sh` on a node: one exec a call, answers as lines that start with `@`.

use std::io::Read as _;
use std::time::Duration;

use super::{CALL_SCRIPT, STAGE_SCRIPT};
use crate::plain::plain_line;
use crate::transport::{Request, Transport, TransportError, tail};

/// State of a transaction, as the node reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TxnState {
    /// The node knows no such transaction.
    Absent,
    /// Received; nothing changed.
    Staged,
    /// Images taken; nothing changed.
    Prepared,
    /// Steps are running, or were cut off.
    Switching,
    /// All steps done; waits for confirm.
    Switched,
    /// Confirmed.
    Committed,
    /// Being undone.
    Reverting,
    /// Undone.
    Reverted,
    /// Undone in part: needs manual repair.
    Incomplete,
}

impl TxnState {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Absent => "unknown to the node",
            Self::Staged | Self::Prepared => "not started",
            Self::Switching => "in progress",
            Self::Switched => "done, not confirmed yet",
            Self::Committed => "final",
            Self::Reverting => "being rolled back",
            Self::Reverted => "rolled back",
            Self::Incomplete => "partly rolled back",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "absent" => Self::Absent,
            "staged" => Self::Staged,
            "prepared" => Self::Prepared,
            "switching" => Self::Switching,
            "switched" => Self::Switched,
            "committed" => Self::Committed,
            "reverting" => Self::Reverting,
            "reverted" => Self::Reverted,
            "incomplete" => Self::Incomplete,
            _ => return None,
        })
    }
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The last state that was reported.
    pub state: Option<TxnState>,
    /// The step that failed, counted from 1.
    pub failed_step: Option<usize>,
    /// What the failed step or the revert said.
    pub said: Vec<String>,
    /// Remarks on a call that succeeded.
    pub notes: Vec<String>,
    /// Why the node refused, if it did.
    pub refused: Option<String>,
    /// Paths that are not as they were planned.
    pub moved: Option<String>,
    /// Whether another run is in progress on the node.
    pub busy: bool,
    /// Whether the node was armed.
    pub armed: bool,
    /// Exit status and standard error of the call, for what none of the above explains.
    pub rest: String,
}

/// A verb of `txn.sh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Carry the steps out.
    Switch,
    /// Make them final.
    Confirm,
    /// Undo an unconfirmed transaction.
    Revert,
    /// Undo a confirmed one.
    Undo,
    /// Accept what a rollback could not undo.
    Accept,
    /// Report the state.
    State,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Verb::Switch => "switch",
            Verb::Confirm => "confirm",
            Verb::Revert => "revert",
            Verb::Undo => "undo",
            Verb::Accept => "accept",
            Verb::State => "state",
        }
    }

    /// How long a call of it may take.
    pub(super) fn deadline(self) -> Duration {
        Duration::from_secs(match self {
            Verb::Switch => 900,
            Verb::Revert | Verb::Undo => 400,
            Verb::Confirm | Verb::Accept | Verb::State => 20,
        })
    }
}

/// What a node reports during a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A step begins, counted from 1.
    Step(usize),
    /// The step waits for something.
    Waiting(String),
}

const MAX_BYTES: usize = 1024 * 1024;

/// How long sending and preparing may take.
const STAGING: Duration = Duration::from_secs(300);

/// Sends a transaction and has the node check and prepare it. Changes nothing that is in use. An apply does not stop
/// here, see [`begin`]; tests do, to change something in between.
///
/// # Errors
/// If the node did not answer; a refusal is an [`Answer`].
pub fn stage(
    transport: &mut dyn Transport,
    id: &str,
    payload: &[u8],
) -> Result<Answer, TransportError> {
    let line = format!("{id} prepare\n");
    let mut input = line.as_bytes().chain(payload);
    exchange(transport, STAGE_SCRIPT, &mut input, STAGING, &mut |_| {})
}

/// [`stage`], and [`Verb::Switch`] in the same breath if the node accepts it. A refusal leaves the
/// answer at its [`Answer::refused`], [`Answer::moved`] or [`Answer::busy`], without a state beyond
/// [`TxnState::Prepared`].
///
/// # Errors
/// If the node did not answer, or the connection broke meanwhile: what came of it is not known
/// then.
pub fn begin(
    transport: &mut dyn Transport,
    id: &str,
    payload: &[u8],
    heard: &mut dyn FnMut(Heard),
) -> Result<Answer, TransportError> {
    let line = format!("{id} switch\n");
    let mut input = line.as_bytes().chain(payload);
    exchange(transport, STAGE_SCRIPT, &mut input, STAGING + Verb::Switch.deadline(), heard)
}

/// Calls a verb of a transaction that is on the node. `heard` is told of each step that
/// begins, and what it waits for.
///
/// # Errors
/// If the node did not answer, or the connection broke meanwhile.
pub fn call(
    transport: &mut dyn Transport,
    id: &str,
    verb: Verb,
    reason: &str,
    heard: &mut dyn FnMut(Heard),
) -> Result<Answer, TransportError> {
    let line = format!("{id} {} {reason}\n", verb.word());
    exchange(transport, CALL_SCRIPT, &mut line.as_bytes(), verb.deadline(), heard)
}

fn exchange(
    transport: &mut dyn Transport,
    script: &str,
    input: &mut dyn std::io::Read,
    deadline: Duration,
    heard: &mut dyn FnMut(Heard),
) -> Result<Answer, TransportError> {
    let mut answer = Answer::default();
    let output = transport.run(
        Request { script, input, deadline, max_output: MAX_BYTES, stays: false },
        &mut |line| {
            read_line(&mut answer, line, heard);
        },
    )?;
    answer.rest = match tail(&output.stderr) {
        said if said.is_empty() => format!("status {}", output.status),
        said => format!("status {}: {said}", output.status),
    };
    Ok(answer)
}

fn read_line(answer: &mut Answer, line: &str, heard: &mut dyn FnMut(Heard)) {
    let Some(line) = line.strip_prefix('@') else { return };
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "state" => answer.state = TxnState::parse(rest).or(answer.state),
        "prepared" => answer.state = Some(TxnState::Prepared),
        "armed" => answer.armed = true,
        "busy" => answer.busy = true,
        "moved" => answer.moved = Some(printable(rest)),
        "refused" => answer.refused = Some(printable(rest)),
        "said" if answer.said.len() < 40 => answer.said.push(printable(rest)),
        "waiting" => heard(Heard::Waiting(printable(rest))),
        "note" if answer.notes.len() < 40 => answer.notes.push(printable(rest)),
        "step" => {
            let mut words = rest.split(' ');
            let number = words.next().and_then(|n| n.parse().ok());
            match (number, words.next()) {
                (Some(n), Some("begin")) => heard(Heard::Step(n)),
                (Some(n), Some("failed")) => answer.failed_step = Some(n),
                _ => {}
            }
        }
        _ => {}
    }
}

/// A node's words on one line, without terminal control sequences.
fn printable(text: &str) -> String {
    plain_line(&text.chars().take(300).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_steers_no_terminal() {
        let mut answer = Answer::default();
        for word in ["said", "refused", "moved", "note"] {
            let line = format!("@{word} a\u{1b}[2J\u{202e}b\tc\r");
            read_line(&mut answer, &line, &mut |_| {});
        }
        let mut heard = Vec::new();
        read_line(&mut answer, "@waiting a\u{1b}[2J\u{202e}b\tc\r", &mut |h| heard.push(h));
        assert_eq!(heard, [Heard::Waiting("a\u{fffd}[2J\u{fffd}b c\u{fffd}".into())]);
        let said =
            [answer.said, answer.notes, vec![answer.refused.unwrap()], vec![answer.moved.unwrap()]];
        for text in said.concat() {
            assert_eq!(text, "a\u{fffd}[2J\u{fffd}b c\u{fffd}");
        }
    }
}
