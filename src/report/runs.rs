//! The list of runs, and the outcome of one, as text.

use std::fmt::Write;

use crate::apply::record::{Outcome, Outcomes, RunRecord};
use crate::error::Problem;
use crate::plain::plain;

/// One line a run, newest last, with its nodes that are not as wanted.
pub fn list(runs: &[RunRecord]) -> String {
    let mut out = String::new();
    if runs.is_empty() {
        out.push_str("no runs yet\n");
    }
    for run in runs {
        let how = match (run.exit, &run.ended) {
            (Some(code), _) => format!("exit {code}"),
            (None, _) => "cut off".to_owned(),
        };
        let good = run
            .transactions
            .iter()
            .filter(|t| t.outcome.as_ref().is_some_and(Outcome::is_good))
            .count();
        let _ = writeln!(
            out,
            "{}  {:<8}  {:<8}  {} of {} transactions committed",
            run.run,
            run.kind,
            how,
            good,
            run.transactions.len()
        );
        for t in &run.transactions {
            match &t.outcome {
                Some(o) if o.is_good() => {}
                Some(o) => {
                    let _ = writeln!(out, "    {} {}: {}", t.node, t.phase.name(), words(o));
                }
                None => {
                    let _ = writeln!(
                        out,
                        "    {} {}: the run ended before it; the next run settles it",
                        t.node,
                        t.phase.name()
                    );
                }
            }
        }
    }
    plain(&out)
}

/// What came of a run, node by node.
pub fn outcome(outcomes: &Outcomes) -> String {
    let mut out = String::new();
    for (node, phases) in outcomes {
        let parts: Vec<String> =
            phases.iter().map(|(p, o)| format!("{} {}", p.name(), first_line(&words(o)))).collect();
        let _ = writeln!(out, "{node}: {}", parts.join("; "));
    }
    plain(&out)
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
    let again = "mend the cause, and run `kubastion apply` again: what is done stays done";
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
                format!("{phase} is undone on it; what was done before stays"),
                again,
            ),
            Outcome::Refused { why } => (
                format!("{phase} was not begun"),
                why,
                "nothing was changed by it".to_owned(),
                again,
            ),
            Outcome::Unreachable { why } => (
                format!("{phase} was not begun: the node cannot be reached"),
                why,
                "nothing was changed by it".to_owned(),
                "when the node is back, run `kubastion apply` again",
            ),
            Outcome::Unready { why } => (
                format!("{phase} is done, and the node is not ready"),
                why,
                "its part of the plan is done".to_owned(),
                "`kubastion verify` looks again; the log of its kubelet says more",
            ),
            Outcome::Incomplete { why } => (
                format!("{phase} was cut off"),
                why,
                "neither as before nor as planned, or not known".to_owned(),
                "when the node is back, `kubastion apply` first takes back what was left open, and goes on",
            ),
        };
        let problem = Problem::new(what).at(node.to_string()).because(why.clone());
        problems.push(problem.left(state).hint(hint));
    }
    problems
}

fn words(o: &Outcome) -> String {
    match o {
        Outcome::Committed => "committed".into(),
        Outcome::Reverted { why } => format!("went back ({why})"),
        Outcome::Refused { why } => format!("refused ({why})"),
        Outcome::Unreachable { why } => format!("unreachable ({why})"),
        Outcome::Skipped { why } => format!("left out ({why})"),
        Outcome::Unready { why } => format!("done, but {why}"),
        Outcome::Incomplete { why } => format!("INCOMPLETE ({why})"),
    }
}
