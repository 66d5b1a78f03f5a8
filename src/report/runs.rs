//! The list of runs, and the outcome of one, as text.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::desired::Phase;
use crate::error::Problem;
use crate::inventory::NodeName;
use crate::plain::{counted, plain};
use crate::report::table::{self, Column};
use crate::runs::history::{Later, later};
use crate::runs::record::{Outcome, Outcomes, Reset, RunKind, RunRecord};

/// One line a run, newest last, with its nodes that are not as wanted. Of what a run left open, later runs
/// say what became of it.
pub fn list(runs: &[RunRecord]) -> String {
    let mut out = String::new();
    if runs.is_empty() {
        out.push_str("no runs yet\n");
    }
    let row = |run: &RunRecord| {
        let how = match (run.exit, &run.ended) {
            (Some(code), _) => format!("exit {code}"),
            (None, _) => "interrupted".to_owned(),
        };
        [run.run.to_string(), run.kind.name().to_owned(), how, count(run)]
    };
    // As wide as `rollback`, and as the longest end.
    let columns = [Column::TEXT, Column::TEXT.at_least(8), Column::TEXT.at_least(8), Column::TEXT];
    for (run, line) in runs.iter().zip(table::lines(columns, runs.iter().map(row))) {
        let _ = writeln!(out, "{line}");
        if let Some(times) = times(run) {
            let _ = writeln!(out, "    {times}");
        }
        for (node, r) in run.reset.iter().filter(|(_, r)| !r.outcome.is_good()) {
            let _ = writeln!(out, "    {node}: {}", words(run.kind, &r.outcome));
        }
        for t in &run.transactions {
            let what = match &t.outcome {
                Some(o) if is_wanted(run.kind, o) => continue,
                Some(o @ Outcome::Incomplete { .. }) => {
                    let later = later(runs, run, t).map(|l| format!("; {}", since(l)));
                    words(run.kind, o) + &later.unwrap_or_default()
                }
                Some(o) => words(run.kind, o),
                None => {
                    let later = later(runs, run, t).map(since);
                    let open = "the next apply settles what is unfinished";
                    format!(
                        "the run ended before the transaction did; {}",
                        later.as_deref().unwrap_or(open)
                    )
                }
            };
            let _ = writeln!(out, "    {} {}: {what}", t.node, t.phase.name());
        }
    }
    plain(&out)
}

/// How long each phase took, from the first node's beginning to the last one's end. Old records do not say so.
fn times(run: &RunRecord) -> Option<String> {
    let format = time::format_description::well_known::Rfc3339;
    let moment =
        |text: &Option<String>| time::OffsetDateTime::parse(text.as_deref()?, &format).ok();
    let mut phases: BTreeMap<Phase, (time::OffsetDateTime, time::OffsetDateTime)> = BTreeMap::new();
    for t in &run.transactions {
        let (Some(began), Some(ended)) = (moment(&t.began), moment(&t.ended)) else { continue };
        let whole = phases.entry(t.phase).or_insert((began, ended));
        *whole = (whole.0.min(began), whole.1.max(ended));
    }
    let line =
        |(phase, (began, ended)): (&Phase, &(time::OffsetDateTime, time::OffsetDateTime))| {
            format!("{} {} s", phase.name(), (*ended - *began).whole_seconds())
        };
    let all: Vec<String> = phases.iter().map(line).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// How much of a run came out as wanted.
fn count(run: &RunRecord) -> String {
    let good = |o: &Outcome| is_wanted(run.kind, o);
    if run.kind == RunKind::Reset {
        let done = run.reset.values().filter(|r| good(&r.outcome)).count();
        // Which nodes it was to be of is not written down.
        return match run.ended {
            Some(_) => format!("{done} of {} reset", counted(run.reset.len(), "node")),
            None => format!("{} reset, others unknown", counted(done, "node")),
        };
    }
    let done = run.transactions.iter().filter(|t| t.outcome.as_ref().is_some_and(good)).count();
    let all = counted(run.transactions.len(), "transaction");
    format!("{done} of {all} {}", wanted(run.kind))
}

/// What a run of a kind calls it when all went well.
fn wanted(kind: RunKind) -> &'static str {
    match kind {
        RunKind::Rollback => "rolled back",
        RunKind::Accept => "accepted as they are",
        RunKind::Reset => "restored to the state before the first run",
        RunKind::Settle => "settled",
        RunKind::Apply => "committed",
    }
}

/// What is settled went back, as a rule.
fn is_wanted(kind: RunKind, outcome: &Outcome) -> bool {
    outcome.is_good() || (kind == RunKind::Settle && matches!(outcome, Outcome::Reverted { .. }))
}

fn since(later: Later<'_>) -> String {
    match later {
        Later::TakenBack(r) => format!("run {} rolled it back", r.run),
        Later::Accepted(r) => format!("run {} accepted it as it is", r.run),
        Later::Reset(r) => format!("run {} reset the node", r.run),
        Later::Settled(r, how) if how.is_good() => format!("run {} found it done", r.run),
        Later::Settled(r, _) => format!("run {} rolled back what was unfinished", r.run),
        Later::Passed(r) => format!("nothing of it was unfinished when run {} started", r.run),
    }
}

/// What came of a run, node by node.
pub fn outcome(kind: RunKind, outcomes: &Outcomes) -> String {
    let mut out = String::new();
    for (node, phases) in outcomes {
        let part = |(phase, o): (Phase, &Outcome)| {
            format!("{} {}", phase.name(), first_line(&words(kind, o)))
        };
        let parts: Vec<String> = phases.iter().map(part).collect();
        let _ = writeln!(out, "{node}: {}", parts.join("; "));
    }
    plain(&out)
}

/// What came of a reset, node by node.
pub fn reset(nodes: &BTreeMap<NodeName, Reset>) -> String {
    let line = |(node, r): (&NodeName, &Reset)| {
        format!("{node}: {}\n", first_line(&words(RunKind::Reset, &r.outcome)))
    };
    plain(&nodes.iter().map(line).collect::<String>())
}

/// The last words of a component stand with the problem, not in a list.
fn first_line(words: &str) -> String {
    match words.split_once('\n') {
        Some((first, _)) => format!("{first} ...)"),
        None => words.to_owned(),
    }
}

/// What did not come out as wanted, in which state that left the nodes, and how to go on: the first
/// phase of each node, since the later ones only follow.
pub fn problems(outcomes: &Outcomes) -> Vec<Problem> {
    let again = "fix the cause and run `kubastion apply` again: finished work is kept";
    let mut problems = Vec::new();
    for (node, phases) in outcomes {
        // One that was left out says only that another one failed, which is said of that one.
        let failed = |o: &Outcome| !o.is_good() && !matches!(o, Outcome::Skipped { .. });
        let Some((phase, outcome)) = phases.iter().find(|(_, o)| failed(o)) else { continue };
        let phase = phase.name();
        let (what, why, state, hint) = match outcome {
            Outcome::Committed | Outcome::Skipped { .. } => continue,
            Outcome::Reverted { why } => (
                format!("{phase} failed"),
                why,
                format!("{phase} is undone on this node; earlier phases stay done"),
                again,
            ),
            Outcome::Refused { why } => (
                format!("{phase} was not started"),
                why,
                "this phase changed nothing".to_owned(),
                again,
            ),
            Outcome::Unreachable { why } => (
                format!("{phase} was not started: the node cannot be reached"),
                why,
                "this phase changed nothing".to_owned(),
                "when the node is reachable again, run `kubastion apply`",
            ),
            Outcome::Unready { why } => (
                format!("{phase} is done, but the node is not ready"),
                why,
                "the node's part of the plan is done".to_owned(),
                "run `kubastion verify` to check again; the kubelet's log has details",
            ),
            Outcome::Incomplete { why } => (
                format!("{phase} was interrupted"),
                why,
                "the node is in neither its old nor its planned state, or its state is unknown"
                    .to_owned(),
                "when the node is reachable again, run `kubastion apply`: it first rolls back what is unfinished",
            ),
        };
        let problem = Problem::new(what).at(node.to_string()).because(why.clone());
        problems.push(problem.left(state).hint(hint));
    }
    problems
}

/// On one line: a node's own words may have several, and the table has one for each transaction.
fn words(kind: RunKind, o: &Outcome) -> String {
    let line = |why: &String| {
        let lines = why.lines().map(str::trim).filter(|l| !l.is_empty());
        lines.collect::<Vec<_>>().join("; ")
    };
    match o {
        Outcome::Committed => wanted(kind).into(),
        Outcome::Reverted { why } => format!("rolled back ({})", line(why)),
        Outcome::Refused { why } => format!("refused ({})", line(why)),
        Outcome::Unreachable { why } => format!("unreachable ({})", line(why)),
        Outcome::Skipped { why } => format!("skipped ({})", line(why)),
        Outcome::Unready { why } => format!("done, but {}", line(why)),
        Outcome::Incomplete { why } => format!("INCOMPLETE ({})", line(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runs::record::TransactionRecord;

    fn reset_to(outcome: Outcome) -> Reset {
        Reset { outcome, taken_back: Vec::new() }
    }

    fn run(id: &str, kind: RunKind, of: Option<(&str, Option<Outcome>)>) -> RunRecord {
        let transaction = |(id, outcome): (&str, Option<Outcome>)| {
            let (node, phase) = ("n".parse().unwrap(), Phase::Host);
            let begun = TransactionRecord::begun(node, phase, id.to_owned(), 1);
            TransactionRecord { outcome, ..begun }
        };
        let transactions = of.map(transaction).into_iter().collect();
        let begun = RunRecord::begun(id.into(), String::new(), kind, "c".into());
        RunRecord { transactions, ..begun }
    }

    #[test]
    fn a_reason_of_several_lines_is_one_line_of_the_table() {
        let refused = Outcome::Refused { why: "etcd ended\n  exit 1\n\nsee its log\n".into() };
        let said = words(RunKind::Apply, &refused);
        assert_eq!(said, "refused (etcd ended; exit 1; see its log)");
    }

    #[test]
    fn what_a_run_left_open_is_told_by_the_later_ones() {
        let reverted = || Outcome::Reverted { why: String::new() };
        let mut reset = run("b", RunKind::Reset, None);
        reset.reset.insert("n".parse().unwrap(), reset_to(Outcome::Committed));
        let of_another = RunRecord {
            cluster: "d".into(),
            ..run("b", RunKind::Apply, Some(("b-host", Some(Outcome::Committed))))
        };
        for (next, wanted) in [
            (None, "the next apply settles"),
            (Some(of_another), "the next apply settles"),
            (Some(run("b", RunKind::Apply, Some(("b-host", None)))), "the next apply settles"),
            (
                Some(run("b", RunKind::Apply, Some(("b-host", Some(Outcome::Committed))))),
                "nothing of it was unfinished when run b",
            ),
            (
                Some(run("b", RunKind::Settle, Some(("a-host", Some(reverted()))))),
                "run b rolled back what was unfinished",
            ),
            (
                Some(run("b", RunKind::Rollback, Some(("a-host", Some(Outcome::Committed))))),
                "run b rolled it back",
            ),
            (
                Some(run("b", RunKind::Accept, Some(("a-host", Some(Outcome::Committed))))),
                "run b accepted it as it is",
            ),
            (Some(reset), "run b reset the node"),
        ] {
            let runs: Vec<RunRecord> =
                std::iter::once(run("a", RunKind::Apply, Some(("a-host", None))))
                    .chain(next)
                    .collect();
            let said = list(&runs);
            let line = said.lines().nth(1).unwrap();
            assert!(
                line.contains("the run ended before the transaction did; ")
                    && line.contains(wanted),
                "{said}"
            );
        }
    }

    #[test]
    fn a_reset_is_told_in_words_of_its_own() {
        let mut reset = run("a", RunKind::Reset, None);
        reset.ended = Some(String::new());
        let refused = Outcome::Refused { why: "why".into() };
        reset.reset = [("n", Outcome::Committed), ("m", refused)]
            .map(|(name, outcome)| (name.parse().unwrap(), reset_to(outcome)))
            .into();
        let said = list(&[reset.clone()]);
        assert!(said.contains("1 of 2 nodes reset\n    m: refused (why)\n"), "{said}");
        let said = super::reset(&reset.reset);
        assert_eq!(said, "m: refused (why)\nn: restored to the state before the first run\n");
    }
}
