//! `kubastion runs`: what was done.

use super::apply::record_stop;
use super::args::{Format, Global};
use super::output::{pretty, print};
use crate::apply::record::{RecordError, Records, read_all};
use crate::command_error::{CommandError, Exit};
use crate::error::Problem;
use crate::report::runs;

/// Runs `kubastion runs`.
///
/// # Errors
/// If the inventory cannot be read; after the list, for every record that cannot.
pub fn list(global: &Global) -> Result<Exit, CommandError> {
    let loaded = super::inventory::load_host_keys_optional(global)?;
    let records = read_all(&loaded.base_dir).map_err(record_stop)?;
    match global.format {
        Format::Json => print(&pretty(&records.runs)),
        Format::Text => print(&runs::list(&records.runs)),
    }?;
    match damaged(&records) {
        problems if problems.is_empty() => Ok(Exit::Done),
        problems => Err(CommandError { exit: Exit::InvalidInput, problems }),
    }
}

/// What is said of records that cannot be read.
pub(super) fn damaged(records: &Records) -> Vec<Problem> {
    let problem = |e: &RecordError| {
        Problem::from_error("a record of a run is damaged", e).hint(
            "move it away; what the run did stands on its nodes, and `kubastion plan` sees it",
        )
    };
    records.damaged.iter().map(problem).collect()
}
