//! Many TCP connections at once, from a node.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::digest::Digest;
use crate::error::chain;
use crate::transport::{Request, Transport};

/// The program that tries them.
pub const SWEEP_SCRIPT: &str = include_str!("sweep.sh");

/// How a connection attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Something accepted.
    Open,
    /// Something answered that nothing listens, or that it is forbidden.
    Refused,
    /// Nothing answered.
    TimedOut,
    /// No way there.
    Unreachable,
    /// Something else.
    Other,
}

impl Reach {
    /// Of how it ended: no byte comes back from a port that is closed.
    pub(super) fn digest(self) -> Digest {
        Digest::of(match self {
            Reach::Open => "open",
            Reach::Refused => "refused",
            Reach::TimedOut => "timeout",
            Reach::Unreachable => "unreachable",
            Reach::Other => "other",
        })
    }
}

/// Tries to connect from a node to addresses and ports, all at once.
///
/// # Errors
/// Why nothing, or not everything, could be tried.
pub fn sweep(
    through: &mut dyn Transport,
    aims: &[(IpAddr, u16)],
) -> Result<BTreeMap<(IpAddr, u16), Reach>, String> {
    let input: String = aims.iter().map(|(host, port)| format!("{host} {port}\n")).collect();
    // Batches of 64, each as long as its slowest connection.
    let batches = u64::try_from(aims.len().div_ceil(64)).unwrap_or(u64::MAX);
    let output = through
        .run(
            Request {
                script: SWEEP_SCRIPT,
                input: &mut input.as_bytes(),
                deadline: Duration::from_secs(batches.saturating_mul(4).saturating_add(10)),
                max_output: 4 << 20,
                stays: false,
            },
            &mut |_| {},
        )
        .map_err(|e| chain(&e))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines: Vec<&str> = text.lines().collect();
    if lines == ["notried"] {
        return Err(
            "the node has no bash or no timeout, so no attempt can be made from it".to_owned()
        );
    }
    if lines.pop() != Some("end") {
        return Err(format!("the attempts were interrupted: {}", output.stderr_tail()));
    }
    let mut found = BTreeMap::new();
    for line in lines {
        let mut words = line.split(' ');
        let (Some(host), Some(port), Some(how)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let (Ok(host), Ok(port)) = (host.parse(), port.parse()) else { continue };
        let how = match how {
            "open" => Reach::Open,
            "refused" => Reach::Refused,
            "timeout" => Reach::TimedOut,
            "unreachable" => Reach::Unreachable,
            _ => Reach::Other,
        };
        found.insert((host, port), how);
    }
    Ok(found)
}
