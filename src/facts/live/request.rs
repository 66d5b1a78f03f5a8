//! The exec that reads what is in effect.

use std::time::Duration;

use super::model::{LiveFacts, LiveRequest};
use super::parse;
use crate::clock::Clock;
use crate::facts::FactsError;
use crate::transport::{Request, Transport};

/// The program. It writes nothing anywhere.
pub const SCRIPT: &str = concat!(include_str!("live.sh"), include_str!("planted.sh"));

/// How long a node may take to answer.
const DEADLINE: Duration = Duration::from_secs(60);

/// More than any honest answer.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Reads what is in effect, in one exec.
///
/// # Errors
/// If the node cannot be asked, or answers with anything but a whole answer.
pub fn collect_live(
    transport: &mut dyn Transport,
    request: &LiveRequest,
) -> Result<LiveFacts, FactsError> {
    let input = lines(request);
    let output = transport
        .run(
            Request {
                script: SCRIPT,
                input: &mut input.as_bytes(),
                deadline: DEADLINE,
                max_output: MAX_BYTES,
                stays: true,
            },
            &mut |_| {},
        )
        .map_err(FactsError::Transport)?;
    if output.status != 0 {
        return Err(FactsError::Failed { status: output.status, stderr: output.stderr_tail() });
    }
    let mut facts = parse::live(&output.stdout).map_err(FactsError::Parse)?;
    facts.answers.read = Some(Clock::System.now());
    Ok(facts)
}

/// The request as the program reads it.
pub(super) fn lines(request: &LiveRequest) -> String {
    let LiveRequest { programs, units, paths, interface_keys, homes } = request;
    let mut lines = String::new();
    for (letter, items) in [('N', programs), ('U', units), ('P', paths), ('H', homes)] {
        for item in items {
            lines.extend([&letter.to_string(), " ", item, "\n"]);
        }
    }
    for (family, key) in interface_keys {
        lines.extend(["I ", family, " ", key, "\n"]);
    }
    format!("{}\n{lines}", lines.len())
}
