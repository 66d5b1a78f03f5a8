//! The first contact with machines: which host keys they present, and whether the inventory has them.

use std::time::Duration;

use super::observe::{self, Reach};
use crate::error::Problem;
use crate::inventory::{Host, HostKeyFingerprint, Inventory, Node, NodeName, SshTarget};
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
                let mut problem = Problem::from_error("the node presents no host key", &e);
                problem.hint = e.hint();
                problems.push(problem.at(node.name.to_string()));
            }
        }
    }
    Ok((shown, problems))
}

fn another_machine(node: &Node, named: &[HostKeyFingerprint]) -> Problem {
    let all: Vec<&str> = named.iter().map(|k| k.as_str()).collect();
    Problem::new("the node presents no host key that the inventory names")
        .at(node.name.to_string())
        .because(format!("the inventory names {}", all.join(", ")))
        .left("nothing was sent to it")
        .hint("compare the fingerprint on its console: the machine was rebuilt, or it is another machine")
}

/// A machine that nobody has said anything of.
#[derive(Debug, Clone)]
pub struct UnknownHost {
    /// Name or address that it was reached by.
    pub host: Host,
    /// What the cluster calls it, where it was found there.
    pub called: Option<NodeName>,
    /// The keys that it presents.
    pub keys: Vec<Presented>,
}

/// Asks machines for their host keys, without logging in, and returns those that present none that is known. A machine that
/// presents others than were promised is a problem, and nothing to be asked about; so is one that presents none.
pub fn unknown_hosts(
    machines: Vec<(Option<NodeName>, SshTarget)>,
) -> (Vec<UnknownHost>, Vec<Problem>) {
    let shown = fleet::each(machines, fleet::WINDOW, |(called, target)| {
        let timeout = Duration::from_secs(u64::from(target.connect_timeout_s));
        let keys = present_host_keys(&target, timeout);
        (called, target.host, keys)
    });
    let (mut unknown_hosts, mut problems) = (Vec::new(), Vec::new());
    for (called, host, keys) in shown {
        match keys {
            Ok(keys) if keys.iter().any(|k| k.is_trusted) => {}
            Ok(keys) => match keys.iter().find_map(|k| k.refused.clone()) {
                None => unknown_hosts.push(UnknownHost { host, called, keys }),
                Some(why) => problems.push(
                    Problem::new("the machine presents a different host key than expected")
                        .at(host.to_string())
                        .because(why)
                        .left("nothing was sent to it")
                        .hint("compare the fingerprint on its console: the machine was rebuilt, or it is another machine"),
                ),
            },
            Err(e) => {
                let mut problem = Problem::from_error("the machine presents no host key", &e);
                problem.hint = e.hint();
                problems.push(problem.at(host.to_string()));
            }
        }
    }
    (unknown_hosts, problems)
}
