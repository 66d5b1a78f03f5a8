//! Incomplete rollbacks: `kubastion rollback RUN` retries them, `--accept-present` accepts the node as it is.

use super::apply::{finish, record_stop};
use super::args::Global;
use super::ask::{Question, ask};
use super::output::{self, note};
use super::rollback::{Args, Work, record};
use crate::apply::gate::chain;
use crate::apply::protocol::{self, TxnState, Verb};
use crate::apply::record::{
    Journal, Line, Outcome, Outcomes, RunKind, RunRecord, TransactionRecord,
};
use crate::clock::Clock;
use crate::command_error::{CommandError, Exit};
use crate::desired::Phase;
use crate::error::Problem;
use crate::inventory::{Loaded, Node, NodeName};
use crate::transport::{Dialer, fleet};

/// A run without a record on this machine, rebuilt from the transactions that nodes have open.
pub(super) fn known_to_nodes<'a>(
    id: &str,
    cluster: &str,
    open: impl Iterator<Item = (&'a NodeName, &'a str)>,
) -> Option<RunRecord> {
    let transactions: Vec<TransactionRecord> = open
        .filter_map(|(node, of_node)| {
            let phase = of_node.strip_prefix(id)?.strip_prefix('-')?;
            let phase = Phase::ALL.into_iter().find(|p| p.name() == phase)?;
            let (node, id) = (node.clone(), of_node.to_owned());
            Some(TransactionRecord {
                node,
                phase,
                id,
                outcome: None,
                began: None,
                ended: None,
                joins: false,
            })
        })
        .collect();
    let begun = RunRecord::begun(id.into(), String::new(), RunKind::Apply, cluster.into());
    (!transactions.is_empty()).then_some(RunRecord { transactions, ..begun })
}

/// Accepts what a rollback could not undo, on nodes that report an incomplete one.
pub(super) fn accept(
    global: &Global,
    args: &Args,
    loaded: &Loaded,
    run: &RunRecord,
    todo: Work<'_>,
    dialer: &dyn Dialer,
) -> Result<Exit, CommandError> {
    let all: Vec<_> = todo.into_values().flatten().collect();
    let ask_node = |(node, t): &(&Node, &TransactionRecord), verb: Verb| {
        let mut session = dialer.connect(&loaded.inventory.ssh.for_node(node))?;
        protocol::call(session.as_mut(), &t.id, verb, &run.run, &mut |_| {})
    };
    let mut open = Vec::new();
    let mut problems = Vec::new();
    for (one, answer) in fleet::each(all, fleet::WINDOW, |one| {
        let answer = ask_node(&one, Verb::State);
        (one, answer)
    }) {
        match answer {
            Ok(a)
                if matches!(a.state, Some(TxnState::Incomplete | TxnState::Reverting))
                    // One whose images the node does not trust.
                    || !a.notes.is_empty() =>
            {
                open.push(one);
            }
            Ok(_) => {}
            Err(e) => problems.push(
                Problem::from_error("the node is unreachable", &e)
                    .at(one.0.name.to_string())
                    .left("nothing was changed on it"),
            ),
        }
    }
    if open.is_empty() {
        let what = format!("run {} left nothing undecided on these nodes", run.run);
        let problem = Problem::new(what).left("nothing was changed");
        problems.push(
            problem
                .hint("run `kubastion plan`: it names the transactions that could not be undone, with their nodes"),
        );
        return Err(CommandError { exit: Exit::InvalidInput, problems });
    }
    for (node, t) in &open {
        let why = match &t.outcome {
            Some(Outcome::Incomplete { why }) => format!(" ({why})"),
            _ => String::new(),
        };
        let line =
            format!("{}: the incomplete rollback of {} will be accepted{why}", node.name, t.id);
        note(global.format, &crate::plain::plain_line(&line));
    }
    for problem in &problems {
        output::problem(global.format, problem);
    }
    if !args.yes {
        ask(Question::ForGood, "use --yes")?;
    }
    let journal = Journal::begin(
        &loaded.base_dir,
        RunKind::Accept,
        run.plan.as_deref(),
        &run.cluster,
        Clock::System,
    )
    .map_err(record_stop)?;
    for (node, t) in &open {
        let (node, phase, id) = (node.name.clone(), t.phase, t.id.clone());
        journal.write(&Line::Transaction { node, phase, id, joins: false }).map_err(record_stop)?;
    }
    let mut outcomes = Outcomes::new();
    for (one, answer) in fleet::each(open, fleet::WINDOW, |one| {
        let answer = ask_node(&one, Verb::Accept);
        (one, answer)
    }) {
        let outcome = match answer {
            Ok(a) if a.state == Some(TxnState::Reverted) => Outcome::Committed,
            Ok(a) if a.busy => {
                Outcome::Refused { why: "another run is at work on the node".into() }
            }
            Ok(a) => Outcome::Refused { why: a.refused.unwrap_or(a.rest) },
            Err(e) => Outcome::Unreachable { why: chain(&e) },
        };
        record(&journal, &mut outcomes, one.0.name.clone(), one.1.phase, outcome)?;
    }
    finish(global, &journal, &outcomes, problems)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::apply::record::read_all;
    use crate::cli::args::Format;
    use crate::inventory::testing;
    use crate::transport::played::Played;

    #[test]
    fn what_is_accepted_is_what_a_node_could_not_undo_and_it_is_recorded() {
        static CALLS: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let dir = tempfile::tempdir().unwrap();
        let global = Global { inventory: testing::file_in(dir.path()), format: Format::Text };
        let loaded = crate::cli::inventory::load(&global).unwrap();
        let node = &loaded.inventory.nodes[0];
        let transaction = |phase: Phase, outcome: Outcome| TransactionRecord {
            node: node.name.clone(),
            phase,
            id: format!("7-a-{}", phase.name()),
            outcome: Some(outcome),
            began: None,
            ended: None,
            joins: false,
        };
        let why = "could not restore /etc/motd".to_owned();
        let transactions = vec![
            transaction(Phase::Host, Outcome::Committed),
            transaction(Phase::Etcd, Outcome::Incomplete { why }),
        ];
        let begun = RunRecord::begun("7-a".into(), String::new(), RunKind::Apply, "c".into());
        let run = RunRecord { transactions, ..begun };
        let todo = || -> Work<'_> {
            run.transactions.iter().map(|t| (t.phase, vec![(node, t)])).collect()
        };
        let args = Args { run: None, accept_present: true, reach: Default::default(), yes: true };
        let goes = |dialer: &Played| accept(&global, &args, &loaded, &run, todo(), dialer);

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
        let stands = |t| crate::apply::history::stands(&all, &run, t);
        let [host, etcd] = &run.transactions[..] else { panic!() };
        assert!(stands(host) && !stands(etcd), "the next rollback is of what is there");
    }

    #[test]
    fn a_run_that_others_recorded_is_known_by_what_nodes_have_open_of_it() {
        let name: NodeName = "n".parse().unwrap();
        let open = || ["7-a-etcd", "8-b-host", "7-a-none", "7-a"].into_iter().map(|id| (&name, id));
        let run = known_to_nodes("7-a", "c", open()).unwrap();
        let of: Vec<_> =
            run.transactions.iter().map(|t| (&t.node, t.id.as_str(), t.phase)).collect();
        assert_eq!(of, [(&name, "7-a-etcd", Phase::Etcd)]);
        assert!(known_to_nodes("7", "c", open()).is_none());
    }
}
