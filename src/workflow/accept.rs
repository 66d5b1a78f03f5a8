//! Incomplete rollbacks: a second one retries them, and this accepts the nodes as they are.

use super::records::{self, Finished};
use super::rollback::Rollback;
use crate::apply::Report;
use crate::apply::protocol::{self, Answer, TxnState, Verb};
use crate::error::Problem;
use crate::error::chain;
use crate::inventory::Node;
use crate::plain::plain_line;
use crate::runs::record::{Line, Outcome, Outcomes, RunKind, TransactionRecord};
use crate::transport::{Dialer, TransportError, fleet};
use crate::workflow::command_error::{CommandError, Exit};

type Transaction<'r> = (&'r Node, &'r TransactionRecord);

/// What a rollback of a run could not undo, on nodes that report an incomplete one.
pub struct Undecided<'r> {
    rollback: &'r Rollback<'r>,
    dialer: &'r dyn Dialer,
    open: Vec<Transaction<'r>>,
    problems: Vec<Problem>,
}

impl<'r> Undecided<'r> {
    /// Asks the nodes.
    ///
    /// # Errors
    /// If none reports anything.
    pub fn of(rollback: &'r Rollback<'r>, dialer: &'r dyn Dialer) -> Result<Self, CommandError> {
        let mut undecided = Self { rollback, dialer, open: Vec::new(), problems: Vec::new() };
        let all: Vec<_> = rollback.work().into_values().flatten().collect();
        for (one, answer) in undecided.ask_nodes(all, Verb::State) {
            match answer {
                Ok(a)
                    if matches!(a.state, Some(TxnState::Incomplete | TxnState::Reverting))
                        // One whose images the node does not trust.
                        || !a.notes.is_empty() =>
                {
                    undecided.open.push(one);
                }
                Ok(_) => {}
                Err(e) => undecided.problems.push(
                    Problem::from_error("the node is unreachable", &e)
                        .at(one.0.name.to_string())
                        .left("nothing was changed on it"),
                ),
            }
        }
        if undecided.open.is_empty() {
            let what = format!("run {} left nothing undecided on these nodes", rollback.run.run);
            let problem = Problem::new(what).left("nothing was changed");
            let mut problems = undecided.problems;
            problems.push(
                problem
                    .hint("run `kubastion plan`: it names the transactions that could not be undone, with their nodes"),
            );
            return Err(CommandError { exit: Exit::InvalidInput, problems });
        }
        Ok(undecided)
    }

    fn ask_nodes(
        &self,
        all: Vec<Transaction<'r>>,
        verb: Verb,
    ) -> Vec<(Transaction<'r>, Result<Answer, TransportError>)> {
        let (ssh, run) = (&self.rollback.loaded.inventory.ssh, &self.rollback.run.run);
        fleet::each(all, fleet::WINDOW, |(node, t)| {
            let answer = self.dialer.connect(&ssh.for_node(node)).and_then(|mut session| {
                protocol::call(session.as_mut(), &t.id, verb, run, &mut |_| {})
            });
            ((node, t), answer)
        })
    }

    /// What will be accepted, in lines.
    pub fn announcement(&self) -> Vec<String> {
        let line = |(node, t): &Transaction<'_>| {
            let why = match &t.outcome {
                Some(Outcome::Incomplete { why }) => format!(" ({why})"),
                _ => String::new(),
            };
            let line =
                format!("{}: the incomplete rollback of {} will be accepted{why}", node.name, t.id);
            plain_line(&line)
        };
        self.open.iter().map(line).collect()
    }

    /// Nodes that could not be asked.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Accepts it as it is.
    ///
    /// # Errors
    /// If that cannot be recorded.
    pub fn accept(self) -> Result<Finished, CommandError> {
        let journal = self.rollback.begin(RunKind::Accept)?;
        for (node, t) in &self.open {
            let (node, phase, id) = (node.name.clone(), t.phase, t.id.clone());
            let line = Line::Transaction { node, phase, id, stage: None, joins: false };
            journal.write(&line).map_err(records::stop)?;
        }
        let mut outcomes = Outcomes::new();
        for ((node, t), answer) in self.ask_nodes(self.open.clone(), Verb::Accept) {
            let outcome = match answer {
                Ok(a) if a.state == Some(TxnState::Reverted) => Outcome::Committed,
                Ok(a) if a.busy => {
                    Outcome::Refused { why: "another run is at work on the node".into() }
                }
                Ok(a) => Outcome::Refused { why: a.refused.unwrap_or(a.rest) },
                Err(e) => Outcome::Unreachable { why: chain(&e) },
            };
            records::ended(&journal, &mut outcomes, node.name.clone(), t.phase, outcome)?;
        }
        let report = Report { outcomes, problems: self.problems, ..Report::default() };
        records::finish(journal, report)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::desired::Phase;
    use crate::inventory::testing;
    use crate::runs::record::{RunRecord, read_all};
    use crate::transport::played::Played;
    use crate::workflow::inventory::{HostKeys, read};
    use crate::workflow::observe::Reach;

    #[test]
    fn what_is_accepted_is_what_a_node_could_not_undo_and_it_is_recorded() {
        static CALLS: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let dir = tempfile::tempdir().unwrap();
        let loaded = read(&testing::file_in(dir.path()), HostKeys::Required).unwrap();
        let node = &loaded.inventory.nodes[0];
        let transaction = |phase: Phase, outcome: Outcome| {
            let id = format!("7-a-{}", phase.name());
            let begun = TransactionRecord::begun(node.name.clone(), phase, id, phase as u32);
            TransactionRecord { outcome: Some(outcome), ..begun }
        };
        let why = "could not restore /etc/motd".to_owned();
        let transactions = vec![
            transaction(Phase::Host, Outcome::Committed),
            transaction(Phase::Etcd, Outcome::Incomplete { why }),
        ];
        let begun = RunRecord::begun("7-a".into(), String::new(), RunKind::Apply, "c".into());
        let run = RunRecord { transactions, ..begun };
        let rollback = Rollback {
            loaded: &loaded,
            reach: &Reach::default(),
            nodes: vec![node],
            all: Vec::new(),
            run: run.clone(),
            gone: Vec::new(),
        };
        let goes = |dialer: &Played| {
            Undecided::of(&rollback, dialer).and_then(Undecided::accept).map(|f| f.exit)
        };

        let settled = Played(&|_, _, _| "@state committed\n".into());
        let stop = goes(&settled).unwrap_err();
        assert!(
            stop.problems[0].what.contains("run 7-a left nothing undecided"),
            "{:?}",
            stop.problems
        );
        assert!(read_all(dir.path()).unwrap().runs.is_empty(), "nothing was done");

        let waits = Played(&|_, _, input| {
            let call = String::from_utf8_lossy(input).into_owned();
            CALLS.lock().unwrap().push(call.clone());
            match call.as_str() {
                "7-a-host state 7-a\n" => "@state committed\n".into(),
                "7-a-etcd state 7-a\n" => "@state incomplete\n".into(),
                "7-a-etcd accept 7-a\n" => "@state reverted\n".into(),
                _ => panic!("{call}"),
            }
        });
        assert_eq!(goes(&waits).unwrap(), Exit::Done);
        assert_eq!(CALLS.lock().unwrap().iter().filter(|c| c.contains(" accept ")).count(), 1);
        let records = read_all(dir.path()).unwrap().runs;
        assert_eq!((records.len(), records[0].kind), (1, RunKind::Accept));
        let all = [vec![run.clone()], records].concat();
        let stands = |t| crate::runs::history::stands(&all, &run, t);
        let [host, etcd] = &run.transactions[..] else { panic!() };
        assert!(stands(host) && !stands(etcd), "the next rollback is of what is there");
    }
}
