//! What the check of an inventory depends on beside the file.

use std::path::PathBuf;

use super::passed::Conflicts;
use crate::clock::Clock;

/// What the check of an inventory depends on beside the file.
#[derive(Debug, Clone)]
pub struct LoadContext<'a> {
    /// Decides which exceptions have expired.
    pub clock: Clock,
    /// Ids of all controls.
    pub known_controls: &'a [&'a str],
    /// Ids of critical controls, which need a reason, an owner and a last day to be switched off.
    pub critical_controls: &'a [&'a str],
    /// Rows of `kubastion impact`, with which names of what is acknowledged begin.
    pub impact_rows: &'a [&'a str],
    /// Says who sets what is passed through to daemons.
    pub conflicts: Conflicts,
    /// What a leading `~/` in a path stands for; without it, a directory called `~`.
    pub home: Option<PathBuf>,
    /// Nodes may lack a host key. Whoever logs in leaves those out.
    pub host_keys_optional: bool,
}
