//! Refuses to change what a running cluster cannot change. Its networks and its DNS domain are in every Service, every pod
//! and every token that there is; a node keeps its role; and etcd's data stays where members have it.

mod networks;
mod roles;
mod second_etcd;

use crate::error::Problem;
use crate::facts::NodeFacts;
use crate::inventory::{Inventory, Node};

/// What the inventory changes and a running cluster cannot: its networks and its DNS domain, what its nodes are, and where its
/// etcd has its data. A plan of other nodes would go by the same wrong inventory, so none is made.
pub fn found<'n>(
    inventory: &Inventory,
    nodes: impl Iterator<Item = (&'n Node, &'n NodeFacts)>,
) -> Vec<Problem> {
    let nodes: Vec<_> = nodes.collect();
    let mut problems = networks::changed(inventory, &nodes);
    problems.extend(nodes.iter().filter_map(|(node, facts)| roles::changed(node, facts)));
    problems.extend(second_etcd::started(inventory, &nodes));
    problems
}

#[cfg(test)]
mod testing {
    use crate::facts::{FileFacts, NodeFacts};

    /// A node with some files.
    pub(super) fn with_files(paths: &[&str]) -> NodeFacts {
        let mut facts = NodeFacts::bare("n");
        for path in paths {
            let (owner, group) = ("root".to_owned(), "root".to_owned());
            let file =
                FileFacts::File { mode: 0o600, owner, group, size: 1, sha256: String::new() };
            facts.files.insert((*path).to_owned(), file);
        }
        facts
    }
}
