//! The stages in which pods leave nodes: none of the nodes takes new ones before any pod is evicted, so that what leaves one
//! is not put on the next.

use super::stage::{Group, OnFailure, Stage, Task};
use crate::inventory::Node;

/// How nodes are drained.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    /// How long the pods of one node may take, in seconds.
    pub within_s: u64,
    /// Whether the work on a node that still has some goes on all the same.
    pub or_leave: bool,
}

/// The stages, with the nodes in the order in which their pods leave.
pub fn stages<'n>(nodes: impl Iterator<Item = &'n Node> + Clone, how: Drain) -> [Stage; 2] {
    let Drain { within_s, or_leave } = how;
    let cordon = nodes.clone().map(|n| Task::Cordon { node: n.name.clone() });
    let drain = nodes.map(|n| Task::Drain { node: n.name.clone(), within_s, or_leave });
    // A node that keeps pods stays as it is; the others go on.
    let stage = |name: &str, group: Group| Stage {
        name: name.to_owned(),
        groups: vec![group],
        gates: Vec::new(),
        on_failure: OnFailure::GoOn,
    };
    [stage("cordon", Group::together(cordon)), stage("drain", Group::together(drain))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::testing;

    #[test]
    fn no_pod_is_evicted_before_all_nodes_are_cordoned() {
        let inventory = testing::two_and_two();
        let how = Drain { within_s: 7, or_leave: true };
        let stages = stages(inventory.nodes.iter(), how);
        let tasks: Vec<&Task> = stages.iter().flat_map(Stage::tasks).collect();
        let first = tasks.iter().position(|t| matches!(t, Task::Drain { .. }));
        assert_eq!(first, Some(inventory.nodes.len()));
        for (node, tasks) in inventory.nodes.iter().zip(tasks.iter().zip(&tasks[4..])) {
            let node = node.name.clone();
            assert_eq!(*tasks.0, &Task::Cordon { node: node.clone() });
            assert_eq!(*tasks.1, &Task::Drain { node, within_s: 7, or_leave: true });
        }
    }
}
