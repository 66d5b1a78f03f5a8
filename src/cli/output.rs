//! Data on standard output.

use std::io::Write as _;

use serde::Serialize;

use super::exit::Exit;
use super::run::Stop;
use crate::error::Problem;

/// A value as JSON for people to read and machines to parse.
pub(super) fn pretty(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value)
        .expect("these types have text keys and no failing parts");
    text.push('\n');
    text
}

/// A value as YAML.
pub(super) fn to_yaml(value: &impl Serialize) -> String {
    serde_yaml::to_string(value).expect("these types have text keys and no failing parts")
}

/// Writes data to standard output. A reader that closed the pipe has seen enough.
///
/// # Errors
/// If it cannot be written, which is not what the verb promised.
pub(super) fn print(text: &str) -> Result<Exit, Stop> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            let what = "the result cannot be written to standard output";
            Err(Stop::one(Exit::Unexpected, Problem::from_error(what, &e)))
        }
        _ => Ok(Exit::Done),
    }
}
