//! What later runs did to what an earlier one had done or left open, as far as the records tell.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::record::{Outcome, RunKind, RunRecord, TransactionRecord};
use crate::desired::Phase;

/// What became of a transaction after its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Later<'r> {
    /// A rollback took it back.
    TakenBack(&'r RunRecord),
    /// Its rollback was incomplete, and the operator accepted the result.
    Accepted(&'r RunRecord),
    /// Its node was reset.
    Reset(&'r RunRecord),
    /// It was open, and an apply brought it to an end before its own work.
    Settled(&'r RunRecord, &'r Outcome),
    /// A later apply worked on the node, which it does only where nothing is open.
    Passed(&'r RunRecord),
}

/// The reset by which a node, by its own word, took a transaction back.
pub fn taken_back_by_reset<'r>(
    all: &'r [RunRecord],
    t: &TransactionRecord,
) -> Option<&'r RunRecord> {
    all.iter().find(|r| r.reset.get(&t.node).is_some_and(|of| of.taken_back.contains(&t.id)))
}

/// What became of a transaction of `run`, which is one of `all`.
pub fn later<'r>(
    all: &'r [RunRecord],
    run: &RunRecord,
    t: &TransactionRecord,
) -> Option<Later<'r>> {
    // What names the transaction counts wherever it is: clocks of controllers differ, and may go back.
    if let Some(r) = taken_back_by_reset(all, t) {
        return Some(Later::Reset(r));
    }
    let mut settled = None;
    for r in all.iter().filter(|r| r.run != run.run && r.cluster == run.cluster) {
        for other in r.transactions.iter().filter(|o| o.node == t.node && o.id == t.id) {
            match (&other.outcome, r.kind) {
                (Some(o), RunKind::Rollback) if o.is_good() => return Some(Later::TakenBack(r)),
                (Some(o), RunKind::Accept) if o.is_good() => return Some(Later::Accepted(r)),
                (Some(o), RunKind::Settle) => settled = Some(Later::Settled(r, o)),
                _ => {}
            }
        }
    }
    let mut passed = None;
    let after = all.iter().skip_while(|r| r.run != run.run).skip(1);
    for r in after.filter(|r| r.cluster == run.cluster) {
        if r.reset.get(&t.node).is_some_and(|of| of.outcome.is_good()) {
            return Some(Later::Reset(r));
        }
        let of_node = r.transactions.iter().filter(|o| o.node == t.node);
        if r.kind == RunKind::Apply && of_node.filter_map(|o| o.outcome.as_ref()).any(worked) {
            passed.get_or_insert(Later::Passed(r));
        }
    }
    settled.or(passed)
}

/// The reset of its node that came after a transaction of `run`, by the clocks of whoever made the records.
pub fn reset_by<'r>(
    all: &'r [RunRecord],
    run: &RunRecord,
    t: &TransactionRecord,
) -> Option<&'r RunRecord> {
    match later(all, run, t) {
        Some(Later::Reset(by)) => Some(by),
        _ => None,
    }
}

/// Whether a run came to a node's work.
fn worked(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Committed | Outcome::Reverted { .. } | Outcome::Unready { .. })
}

/// Whether a transaction that ended so left anything on its node.
pub fn may_be_in_place(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Committed | Outcome::Incomplete { .. } | Outcome::Unready { .. })
}

/// Whether something of a transaction is on its node still, so that it can be taken back. Packages never
/// go.
pub fn is_in_place(all: &[RunRecord], run: &RunRecord, t: &TransactionRecord) -> bool {
    let left_something = t.outcome.as_ref().is_none_or(may_be_in_place);
    let gone = match later(all, run, t) {
        Some(Later::TakenBack(_) | Later::Accepted(_) | Later::Reset(_)) => true,
        Some(Later::Settled(_, how)) => !how.is_good(),
        Some(Later::Passed(_)) | None => false,
    };
    t.phase != Phase::Packages && left_something && !gone
}

/// Whether a transaction was carried out to its end and is on its node, as far as the records tell. One that was cut
/// off, or could not be undone, is for the node to judge.
pub fn is_final(all: &[RunRecord], run: &RunRecord, t: &TransactionRecord) -> bool {
    let how = match later(all, run, t) {
        Some(Later::TakenBack(_) | Later::Accepted(_) | Later::Reset(_)) => return false,
        Some(Later::Settled(_, how)) => Some(how),
        Some(Later::Passed(_)) | None => t.outcome.as_ref(),
    };
    matches!(how, Some(Outcome::Committed | Outcome::Unready { .. }))
}

/// When a run began, for people.
pub fn began(run: &RunRecord) -> String {
    let text = OffsetDateTime::parse(&run.began, &Rfc3339).map(|t| {
        let format =
            time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
        t.format(&format).unwrap_or_default()
    });
    text.unwrap_or_else(|_| run.began.clone())
}
