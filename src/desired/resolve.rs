//! Which items a node should hold. None yet: they follow by subject, each with its templates.

use super::model::NodeDesired;
use crate::facts::{NodeFacts, WatchList};
use crate::inventory::{Inventory, Node};
use crate::pki::Material;

/// Why it cannot be said what a node should hold.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {}

/// What a node should hold.
///
/// # Errors
/// Everything that cannot be worked out, not only the first.
pub fn resolve(
    _: &Inventory,
    _: &Node,
    _: &NodeFacts,
    _: &Material,
) -> Result<NodeDesired, Vec<ResolveError>> {
    Ok(NodeDesired { items: Vec::new(), notes: Vec::new() })
}

/// Everything that [`resolve`] may ask about a node.
pub fn watch(_: &Inventory, _: &Node) -> WatchList {
    WatchList::default()
}
