//! The records of runs: how they are read, and how a run writes down what it came to.

use std::path::Path;

use crate::apply::Report;
use crate::error::Problem;
use crate::runs::outcome::{NodeOutcomes, Outcome};
use crate::runs::record::{Journal, RecordError, Records, read_all};
use crate::workflow::command_error::{CommandError, Exit};

/// A record that cannot be written or read as the end of a verb.
pub(super) fn stop(e: RecordError) -> CommandError {
    if e.is_busy() {
        let problem = Problem::new("another run is in progress for this inventory")
            .because("another process holds the lock (`.kubastion/lock` next to the inventory)")
            .left("nothing was changed")
            .hint("wait until it ends; run `kubastion runs` to see what it did");
        return CommandError::one(Exit::InvalidInput, problem);
    }
    CommandError::one(Exit::Unexpected, Problem::from_error("the run cannot be recorded", &e))
}

/// All records that lie beside an inventory.
///
/// # Errors
/// If their directory cannot be read.
pub fn read(base: &Path) -> Result<Records, CommandError> {
    read_all(base).map_err(stop)
}

/// What is said of records that cannot be read.
pub fn damaged(records: &Records) -> Vec<Problem> {
    let problem = |e: &RecordError| {
        Problem::from_error("a run record is damaged", e).hint(
            "move the file away; the run's changes stay on the nodes, and `kubastion plan` takes them into account",
        )
    };
    records.damaged.iter().map(problem).collect()
}

/// A run that is over, with its record. No other run begins on this inventory as long as this lives.
pub struct Finished {
    /// The record, which is complete.
    pub journal: Journal,
    /// What the outcomes amount to.
    pub exit: Exit,
    /// What came of it.
    pub report: Report,
}

/// Ends the record of a run.
pub(super) fn finish(journal: Journal, report: Report) -> Result<Finished, CommandError> {
    let transactions = report.outcomes.values().flat_map(NodeOutcomes::values);
    let resets = report.resets.values().map(|r| &r.outcome);
    let exit = exit_of(transactions.chain(resets), &report.problems);
    journal.end(exit as u8).map_err(stop)?;
    Ok(Finished { journal, exit, report })
}

/// What the outcomes of a run amount to.
fn exit_of<'o>(outcomes: impl Iterator<Item = &'o Outcome>, problems: &[Problem]) -> Exit {
    let (mut incomplete, mut bad) = (false, !problems.is_empty());
    for outcome in outcomes {
        incomplete |= matches!(outcome, Outcome::Incomplete { .. });
        bad |= !outcome.is_good();
    }
    if incomplete {
        Exit::RollbackIncomplete
    } else if bad {
        Exit::NodeFailed
    } else {
        Exit::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::planner;
    use crate::plan::{NodePlan, Plan};

    #[test]
    fn a_run_that_leaves_something_for_later_is_no_success() {
        let plan = |held_back: Vec<crate::plan::HeldBack>| {
            let node = NodePlan { held_back, ..Default::default() };
            let nodes = [("n".parse().unwrap(), node)].into();
            Plan::new("c".into(), String::new(), nodes, Vec::new())
        };
        let (all, some) = (plan(vec![]), plan(vec![crate::plan::HeldBack::NoControlPlaneReady]));
        assert_eq!(exit_of(std::iter::empty(), &planner::held_back(&all)), Exit::Done);
        assert_eq!(exit_of(std::iter::empty(), &planner::held_back(&some)), Exit::NodeFailed);
    }

    #[test]
    fn the_worst_outcome_decides_the_exit_code() {
        let why = || "x".to_owned();
        let bad = [
            Outcome::Reverted { why: why() },
            Outcome::Refused { why: why() },
            Outcome::Unreachable { why: why() },
            Outcome::Skipped { why: why() },
        ];
        let committed = [Outcome::Committed];
        assert_eq!(exit_of(committed.iter(), &[]), Exit::Done);
        assert_eq!(exit_of(committed.iter(), &[Problem::new("p")]), Exit::NodeFailed);
        for o in bad {
            let one_of_two = [Outcome::Committed, o.clone()];
            assert_eq!(exit_of(one_of_two.iter(), &[]), Exit::NodeFailed, "{o:?}");
            let worst = [o.clone(), Outcome::Incomplete { why: why() }];
            assert_eq!(exit_of(worst.iter(), &[]), Exit::RollbackIncomplete, "{o:?}");
        }
    }
}
