//! Checks of one node: its files, its operating system, its daemons, and Kubernetes' configuration on it.

pub(super) mod access;
pub(crate) mod certificates;
pub(super) mod foreign_rules;
pub(super) mod health;
pub(super) mod host;
pub(super) mod in_effect;
pub(super) mod kubernetes;
mod packet;
pub(super) mod planted;
pub(super) mod root_access;
pub(super) mod sources;
pub(super) mod ssh;
pub(crate) mod staged;
pub(super) mod updates;
