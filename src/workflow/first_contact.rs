//! The first contact with machines: which host keys they present, and whether the inventory has them.

use std::time::Duration;

use super::observe::{self, Reach};
use crate::error::Problem;
use crate::inventory::{HostKeyFingerprint, Inventory, Node, NodeName};
use crate::transport::fleet;
use crate::transport::reach::{Presented, present_host_keys};
use crate::workflow::command_error::CommandError;

/// What a node presented.
pub struct Presentation {
    /// The node.
    pub node: NodeName,
    /// Its host keys.
    pub keys: Vec<Presented>,
    /// Whether the inventory names none for it and knows none: where it names others, a paste would be the wrong answer.
    pub is_new: bool,
}

/// Asks nodes for their host keys, without logging in. Also returns what is wrong: nodes that show no key, or none that
/// the inventory names.
///
/// # Errors
/// If a name is not in the inventory.
pub fn host_keys(
    inventory: &Inventory,
    reach: &Reach,
) -> Result<(Vec<Presentation>, Vec<Problem>), CommandError> {
    let nodes = observe::chosen(inventory, reach)?;
    let results = fleet::each(nodes.clone(), fleet::WINDOW, |node| {
        let target = inventory.ssh.for_node(node);
        let timeout = Duration::from_secs(u64::from(target.connect_timeout_s));
        present_host_keys(&target, timeout)
    });
    let (mut shown, mut problems) = (Vec::new(), Vec::new());
    for (node, result) in nodes.iter().zip(results) {
        match result {
            Ok(keys) => {
                let named = inventory.ssh.for_node(node).host_keys;
                let is_trusted = keys.iter().any(|k| k.is_trusted);
                if !named.is_empty() && !is_trusted {
                    problems.push(another_machine(node, &named));
                }
                let is_new = named.is_empty() && !is_trusted;
                shown.push(Presentation { node: node.name.clone(), keys, is_new });
            }
            Err(e) => {
                let mut problem = Problem::from_error("it shows no host key", &e);
                problem.hint = e.hint();
                problems.push(problem.at(node.name.to_string()));
            }
        }
    }
    Ok((shown, problems))
}

fn another_machine(node: &Node, named: &[HostKeyFingerprint]) -> Problem {
    let all: Vec<&str> = named.iter().map(|k| k.as_str()).collect();
    Problem::new("none of its host keys is one that the inventory names")
        .at(node.name.to_string())
        .because(format!("the inventory names {}", all.join(", ")))
        .left("nothing was sent to it")
        .hint("compare with its console: it was rebuilt, or this is another machine")
}
