//! What a way back could not undo, and what there is to decide about it: `kubastion rollback` tries again, or leaves it
//! as it is.

use super::apply::{finish, record_stop};
use super::args::Global;
use super::ask::{Question, ask};
use super::exit::Exit;
use super::output::{self, note};
use super::rollback::{Args, Work, record};
use super::run::Stop;
use crate::apply::gate::chain;
use crate::apply::protocol::{self, TxnState, Verb};
use crate::apply::record::{
    Journal, Line, Outcome, Outcomes, RunKind, RunRecord, TransactionRecord,
};
use crate::clock::Clock;
use crate::desired::Phase;
use crate::error::Problem;
use crate::inventory::{Loaded, Node, NodeName};
use crate::transport::{Dialer, fleet};

/// A run that this machine has no record of, as far as the nodes have something of it open.
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
            Some(TransactionRecord { node, phase, id, outcome: None, joins: false })
        })
        .collect();
    let begun = RunRecord::begun(id.into(), String::new(), RunKind::Apply, cluster.into());
    (!transactions.is_empty()).then_some(RunRecord { transactions, ..begun })
}

/// Leaves what a way back could not undo as it is, where a node says that there is such a thing.
pub(super) fn accept(
    global: &Global,
    args: &Args,
    loaded: &Loaded,
    run: &RunRecord,
    todo: Work<'_>,
    dialer: &dyn Dialer,
) -> Result<Exit, Stop> {
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
                    // One that cannot be taken back, as the node found.
                    || !a.notes.is_empty() =>
            {
                open.push(one);
            }
            Ok(_) => {}
            Err(e) => problems.push(
                Problem::from_error("the node cannot be asked", &e)
                    .at(one.0.name.to_string())
                    .left("nothing was changed on it"),
            ),
        }
    }
    if open.is_empty() {
        let what = format!("nothing of run {} waits for a decision on these nodes", run.run);
        let problem = Problem::new(what).left("nothing was changed");
        problems.push(
            problem
                .hint("`kubastion plan` says which transaction could not be undone on which node"),
        );
        return Err(Stop { exit: Exit::InvalidInput, problems });
    }
    for (node, t) in &open {
        let why = match &t.outcome {
            Some(Outcome::Incomplete { why }) => format!(" ({why})"),
            _ => String::new(),
        };
        let line = format!("{} stays as the way back from {} left it{why}", node.name, t.id);
        note(global.format, &crate::plain::plain_line(&line));
    }
    for problem in &problems {
        output::problem(global.format, problem);
    }
    if !args.yes {
        ask(Question::ForGood, "say --yes")?;
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
    use super::*;

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
