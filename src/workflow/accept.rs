//! Incomplete rollbacks: a second one retries them, and this accepts the nodes as they are.

use super::records::{self, Finished};
use super::rollback::Rollback;
use crate::apply::accept::is_undecided;
use crate::apply::execution::Sessions;
use crate::apply::{Execution, execute};
use crate::error::Problem;
use crate::event::Sink;
use crate::inventory::Node;
use crate::plain::plain_line;
use crate::plan;
use crate::runs::record::{Outcome, RunKind, TransactionRecord};
use crate::transport::{Dialer, fleet};
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
        let (inventory, run) = (&rollback.loaded.inventory, &rollback.run.run);
        let all: Vec<Transaction<'_>> = rollback.work().into_values().flatten().collect();
        let asked = fleet::each(all, fleet::WINDOW, |(node, t)| {
            ((node, t), is_undecided(inventory, dialer, node, &t.id, run))
        });
        for (one, answer) in asked {
            match answer {
                Ok(true) => undecided.open.push(one),
                Ok(false) => {}
                Err(e) => undecided.problems.push(
                    Problem::from_error("the node is unreachable", &e)
                        .at(one.0.name.to_string())
                        .left("nothing was changed on it"),
                ),
            }
        }
        if undecided.open.is_empty() {
            let what =
                format!("run {} has no incomplete rollback on these nodes", rollback.run.run);
            let problem = Problem::new(what).left("nothing was changed");
            let mut problems = undecided.problems;
            problems.push(
                problem
                    .hint("run `kubastion plan` to see the transactions that could not be undone, with their nodes"),
            );
            return Err(CommandError { exit: Exit::InvalidInput, problems });
        }
        Ok(undecided)
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

    /// Accepts it as it is. `say` hears what nodes remark.
    ///
    /// # Errors
    /// If that cannot be recorded.
    pub fn accept(
        self,
        sink: &dyn Sink,
        say: &(dyn Fn(&str) + Sync),
    ) -> Result<Finished, CommandError> {
        let Self { rollback, dialer, open, problems } = self;
        let plan = plan::accept::plan(&rollback.run, open.iter().map(|(_, t)| *t));
        let journal = rollback.begin(RunKind::Accept)?;
        let inventory = &rollback.loaded.inventory;
        let execution = Execution::without_contents(&plan, inventory, dialer, &journal, sink, say);
        let mut report = execute(&execution, Sessions::new()).map_err(records::stop)?;
        report.problems.splice(0..0, problems);
        records::finish(journal, report)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::desired::Phase;
    use crate::event::Silent;
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
            Undecided::of(&rollback, dialer)
                .and_then(|u| u.accept(&Silent, &|_| {}))
                .map(|f| f.exit)
        };

        let settled = Played(&|_, _, _| "@state committed\n".into());
        let stop = goes(&settled).unwrap_err();
        assert!(
            stop.problems[0].what.contains("run 7-a has no incomplete rollback"),
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
        let record = std::fs::read_dir(crate::runs::record::directory(dir.path())).unwrap();
        let record = std::fs::read_to_string(record.last().unwrap().unwrap().path()).unwrap();
        let lines: Vec<serde_json::Value> =
            record.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let words: Vec<&str> = lines.iter().map(|l| l["line"].as_str().unwrap()).collect();
        assert_eq!(words, ["begin", "plan", "transaction", "result", "end"], "as any other run");
        let task = &lines[1]["plan"]["stages"][0]["groups"][0]["tasks"][0]["accept"];
        assert_eq!((&task["transaction"], &task["run"]), (&"7-a-etcd".into(), &"7-a".into()));
        let all = [vec![run.clone()], records].concat();
        let is_in_place = |t| crate::runs::history::is_in_place(&all, &run, t);
        let [host, etcd] = &run.transactions[..] else { panic!() };
        assert!(is_in_place(host) && !is_in_place(etcd), "the next rollback is of what is there");
    }
}
