//! `kubastion runs`: what was done.

use super::global::{Format, Global};
use super::output::{pretty, print};
use crate::apply::Report;
use crate::report::runs;
use crate::runs::record::RunKind;
use crate::workflow::command_error::{CommandError, Exit};
use crate::workflow::records::{Finished, damaged, read};

/// Runs `kubastion runs`.
///
/// # Errors
/// If the inventory cannot be read; after the list, for every record that cannot.
pub fn list(global: &Global) -> Result<Exit, CommandError> {
    let loaded = super::inventory::load_host_keys_optional(global)?;
    let records = read(&loaded.base_dir)?;
    match global.format {
        Format::Json => print(&pretty(&records.runs)),
        Format::Text => print(&runs::list(&records.runs)),
    }?;
    match damaged(&records) {
        problems if problems.is_empty() => Ok(Exit::Done),
        problems => Err(CommandError { exit: Exit::InvalidInput, problems }),
    }
}

/// Says what a run came to.
pub(super) fn finish(global: &Global, run: Finished) -> Result<Exit, CommandError> {
    let Finished { journal, exit, report: Report { outcomes, resets, problems } } = run;
    let (outcomes, text) = match journal.kind {
        RunKind::Reset => (serde_json::to_value(&resets), runs::reset(&resets)),
        kind => (serde_json::to_value(&outcomes), runs::outcome(kind, &outcomes)),
    };
    match global.format {
        Format::Json => print(&pretty(&serde_json::json!({
            "run": journal.run, "exit": exit as u8, "outcomes": outcomes.unwrap_or_default(),
            "problems": problems,
        })))?,
        Format::Text => print(&format!("run {}\n{text}", journal.run))?,
    };
    if problems.is_empty() { Ok(exit) } else { Err(CommandError { exit, problems }) }
}
