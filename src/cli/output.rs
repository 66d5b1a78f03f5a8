//! Data on standard output, and what is said beside them on standard error.

use std::io::Write as _;

use serde::Serialize;

use super::global::Format;
use crate::error::Problem;
use crate::report::Monitor;
use crate::workflow::command_error::{CommandError, Exit};

/// A value as JSON for people to read and machines to parse.
pub(super) fn pretty(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value)
        .expect("these types have text keys and no failing parts");
    text.push('\n');
    text
}

/// A value as YAML.
pub(super) fn to_yaml(value: &impl Serialize) -> String {
    crate::yaml::to_text(value)
}

/// Writes data to standard output. A reader that closed the pipe has seen enough.
///
/// # Errors
/// If it cannot be written, which is not what the verb promised.
pub(super) fn print(text: &str) -> Result<Exit, CommandError> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            let what = "the result cannot be written to standard output";
            Err(CommandError::one(Exit::Unexpected, Problem::from_error(what, &e)))
        }
        _ => Ok(Exit::Done),
    }
}

/// What is said beside the result, one object a line for machines: as [`crate::event::Event`] is written.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Notice<'a> {
    Note { text: &'a str },
    Problem(&'a Problem),
}

/// Progress, as it is shown on standard error.
pub(super) fn monitor(format: Format) -> Monitor {
    match format {
        Format::Text => Monitor::for_people(),
        Format::Json => Monitor::for_machines(),
    }
}

/// Says something that is no result: on standard error, as text or as a line of JSON.
pub(super) fn note(format: Format, text: &str) {
    notice(format, &Notice::Note { text }, &text);
}

/// The same for something that went wrong.
pub(super) fn problem(format: Format, problem: &Problem) {
    notice(format, &Notice::Problem(problem), problem);
}

fn notice(format: Format, value: &Notice<'_>, text: &dyn std::fmt::Display) {
    let line = match format {
        Format::Text => text.to_string(),
        Format::Json => serde_json::to_string(value).expect("a notice has only strings"),
    };
    // Nobody to tell if standard error is closed.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
