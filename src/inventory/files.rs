//! What stands beside an inventory: texts and programs that are read after it.

use super::probe::Probe;
use super::software::{BundledObject, Software};

/// What a run reads beside the inventory, for all nodes alike: the contents of files that the inventory names, and what this
/// machine has for nodes. No key of the inventory holds any of it.
///
/// [`load`](super::load()) reads the files that the inventory names; `workflow::software` opens the bundle and finds the
/// health-check program, for verbs that plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Files {
    /// Text of `audit.file`.
    pub audit_policy: Option<String>,
    /// Text of `kubernetes.packages.signing_key`.
    pub signing_key: Option<String>,
    /// What the bundle of `kubernetes.bundle` holds.
    pub software: Option<Software>,
    /// The objects of its manifests, in the order in which they are sent.
    pub bundled: Vec<BundledObject>,
    /// What asks the API server for its health.
    pub probe: Option<Probe>,
}
