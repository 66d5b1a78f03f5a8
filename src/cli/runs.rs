//! `kubastion runs`: what was done.

use super::global::{Format, Global};
use super::output::{pretty, print};
use crate::apply::record::Outcomes;
use crate::report::runs;
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

/// Says what a run came to that carried transactions out, or took them back.
pub(super) fn finish(global: &Global, run: Finished<Outcomes>) -> Result<Exit, CommandError> {
    let text = runs::outcome(run.journal.kind, &run.outcomes);
    finish_with(global, run, &text)
}

/// The same of any run. Its outcomes and `text` say the same, for machines and for people.
pub(super) fn finish_with<T: serde::Serialize>(
    global: &Global,
    run: Finished<T>,
    text: &str,
) -> Result<Exit, CommandError> {
    let Finished { journal, exit, outcomes, problems } = run;
    match global.format {
        Format::Json => print(&pretty(&serde_json::json!({
            "run": journal.run, "exit": exit as u8, "outcomes": outcomes, "problems": problems,
        })))?,
        Format::Text => print(&format!("run {}\n{text}", journal.run))?,
    };
    if problems.is_empty() { Ok(exit) } else { Err(CommandError { exit, problems }) }
}
