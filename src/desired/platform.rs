//! What items depend on, out of all facts about a node.

use super::error::ResolveError;
use crate::facts::NodeFacts;
use crate::os::OsFamily;

/// The facts that decide which items a node gets. There are few enough to go through all
/// combinations, which is how [`super::watch`] knows every item beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Platform {
    /// Distribution family.
    pub family: OsFamily,
    /// The kernel is shared with a host: its settings, clock and modules are the host's.
    pub container: bool,
    /// The kernel's audit subsystem can be used.
    pub audit: bool,
}

impl Platform {
    pub fn of(facts: &NodeFacts) -> Result<Self, ResolveError> {
        let family = facts.os.family();
        Ok(Self {
            family: family.ok_or_else(|| ResolveError::Distribution(facts.os.pretty.clone()))?,
            container: facts.container.is_some(),
            audit: facts.audit_usable,
        })
    }

    /// Every combination.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for family in OsFamily::all() {
            for container in [false, true] {
                for audit in [false, true] {
                    all.push(Self { family, container, audit });
                }
            }
        }
        all
    }
}
