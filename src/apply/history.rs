//! What later runs did to what an earlier one had done or left open, as far as the records tell.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::record::{Outcome, RunRecord, TransactionRecord};
use crate::desired::Phase;

/// What became of a transaction after its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Later<'r> {
    /// A rollback took it back.
    TakenBack(&'r RunRecord),
    /// Its node was reset.
    Reset(&'r RunRecord),
    /// It was open, and an apply brought it to an end before its own work.
    Settled(&'r RunRecord, &'r Outcome),
    /// A later apply worked on the node, which it does only where nothing is open.
    Passed(&'r RunRecord),
}

/// What became of a transaction of `run`, which is one of `all`.
pub fn later<'r>(
    all: &'r [RunRecord],
    run: &RunRecord,
    t: &TransactionRecord,
) -> Option<Later<'r>> {
    let after = all.iter().skip_while(|r| r.run != run.run).skip(1);
    let mut passed = None;
    for r in after.filter(|r| r.cluster == run.cluster) {
        if r.reset.get(&t.node).is_some_and(Outcome::is_good) {
            return Some(Later::Reset(r));
        }
        for other in r.transactions.iter().filter(|o| o.node == t.node) {
            match (&other.outcome, r.kind.as_str()) {
                (Some(o), "rollback") if other.id == t.id && o.is_good() => {
                    return Some(Later::TakenBack(r));
                }
                (Some(o), "settle") if other.id == t.id => return Some(Later::Settled(r, o)),
                (Some(o), "apply") if worked(o) => {
                    passed.get_or_insert(Later::Passed(r));
                }
                _ => {}
            }
        }
    }
    passed
}

/// Whether a run came to a node's work.
fn worked(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Committed | Outcome::Reverted { .. } | Outcome::Unready { .. })
}

/// Whether something of a transaction is on its node still, so that it can be taken back. Packages never
/// go.
pub fn stands(all: &[RunRecord], run: &RunRecord, t: &TransactionRecord) -> bool {
    let ended_well = t.outcome.as_ref().is_none_or(|o| {
        matches!(o, Outcome::Committed | Outcome::Unready { .. } | Outcome::Incomplete { .. })
    });
    let gone = match later(all, run, t) {
        Some(Later::TakenBack(_) | Later::Reset(_)) => true,
        Some(Later::Settled(_, how)) => !how.is_good(),
        Some(Later::Passed(_)) | None => false,
    };
    t.phase != Phase::Packages && ended_well && !gone
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
