//! What a rule may know, and where it reports.

use time::Date;

use super::super::diagnostic::{Diagnostic, Path};
use super::super::model::Inventory;
use super::super::passed::Conflicts;
use crate::yaml::tree::Node;

/// What the rules look at.
pub(in crate::inventory) struct Parsed<'a> {
    /// The inventory, nodes in the order of the file.
    pub inventory: &'a Inventory,
    /// The file, for places.
    pub root: &'a Node,
    /// For each node of the inventory, its position in the file.
    pub nodes: &'a [usize],
}

/// What a rule may know beside the inventory, and where it reports.
pub(super) struct Review<'a> {
    pub root: &'a Node,
    pub nodes: &'a [usize],
    /// Whether every node of the file is in the inventory.
    pub nodes_complete: bool,
    pub today: Date,
    pub known_controls: &'a [&'a str],
    pub critical_controls: &'a [&'a str],
    pub impact_rows: &'a [&'a str],
    pub conflicts: Conflicts,
    pub host_keys_optional: bool,
    pub errors: Vec<Diagnostic>,
    pub warnings: Vec<Diagnostic>,
}

impl Review<'_> {
    /// The path of a node, by its position in the inventory.
    pub fn node(&self, index: usize) -> Path {
        Path::root().then("nodes").then(self.nodes.get(index).copied().unwrap_or(index))
    }

    pub fn error(&mut self, path: &Path, message: impl Into<String>) -> &mut Diagnostic {
        let diagnostic = Diagnostic::new(Some(path.place_in(self.root)), path, message);
        self.errors.push(diagnostic);
        self.errors.last_mut().expect("a diagnostic was just pushed")
    }

    pub fn warn(&mut self, path: &Path, message: impl Into<String>) -> &mut Diagnostic {
        let diagnostic = Diagnostic::new(Some(path.place_in(self.root)), path, message);
        self.warnings.push(diagnostic);
        self.warnings.last_mut().expect("a diagnostic was just pushed")
    }
}

/// The path of a top-level section.
pub(super) fn section(name: &str) -> Path {
    Path::root().then(name)
}

/// Values that stand more than once, in a list of (value, payload): each later one with the first.
pub(super) fn duplicates<K: Ord, P: Copy + Ord>(mut all: Vec<(K, P)>) -> Vec<(K, P, P)> {
    all.sort();
    let mut found = Vec::new();
    let mut first: Option<(K, P)> = None;
    for (key, payload) in all {
        match &first {
            Some((k, p)) if *k == key => found.push((key, *p, payload)),
            _ => first = Some((key, payload)),
        }
    }
    found
}
