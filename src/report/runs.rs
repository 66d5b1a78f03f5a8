//! The list of runs, and the outcome of one, as text.

use std::fmt::Write;

use crate::apply::record::{Outcome, Outcomes, RunRecord};

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
    out
}

/// What came of a run, node by node.
pub fn outcome(outcomes: &Outcomes) -> String {
    let mut out = String::new();
    for (node, phases) in outcomes {
        let parts: Vec<String> =
            phases.iter().map(|(p, o)| format!("{} {}", p.name(), words(o))).collect();
        let _ = writeln!(out, "{node}: {}", parts.join("; "));
    }
    out
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
