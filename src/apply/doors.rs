//! Ways in from outside, beside the one over which a change is confirmed: every other address of the inventory under which
//! a node answers, and every chain of jump hosts, any of which may be the node under another name. What let the operator
//! in before a change has to let them in after it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::inventory::{Inventory, JumpHost, Node, SshTarget};
use crate::transport::Dialer;

/// How long a login may take.
const WITHIN_S: u32 = 5;
/// How long a door may stay shut after a change: sshd is away for a moment when it takes up its files.
const SHUT: Duration = Duration::from_secs(10);
/// Pause between two attempts.
const RETRY: Duration = Duration::from_secs(1);

/// A way in.
pub(super) struct Door {
    target: SshTarget,
    /// What it is called.
    words: String,
}

/// Which doors are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doors {
    /// Those of the node itself.
    Own,
    /// Those to others that may lead through it, too.
    AndThrough,
}

/// The ways in to a node, and, one for each chain of jump hosts, to nodes behind others.
pub(super) fn of(inventory: &Inventory, node: &Node, which: Doors) -> Vec<Door> {
    let own = inventory.ssh.for_node(node);
    let mut doors = Vec::new();
    for address in &node.addresses {
        let host = address.to_string();
        let Ok(host) = host.parse::<crate::inventory::Host>() else { continue };
        if host != own.host {
            let words = format!("{} at {host}", node.name);
            doors.push(Door { target: SshTarget { host, ..own.clone() }, words });
        }
    }
    if which == Doors::Own {
        return doors;
    }
    let chain = |jump: &[JumpHost]| -> Vec<String> {
        let user = |j: &JumpHost| j.user.as_ref().map(ToString::to_string).unwrap_or_default();
        jump.iter().map(|j| format!("{}@{}:{}", user(j), j.host, j.port)).collect()
    };
    let mut seen = BTreeSet::from([Vec::new(), chain(&own.jump)]);
    for other in inventory.nodes.iter().filter(|n| n.name != node.name) {
        let target = inventory.ssh.for_node(other);
        let way = chain(&target.jump);
        if seen.insert(way.clone()) {
            let words = format!("{} through {}", other.name, way.join(", "));
            doors.push(Door { target, words });
        }
    }
    doors
}

fn opens(dialer: &dyn Dialer, door: &Door) -> bool {
    let mut target = door.target.clone();
    target.connect_timeout_s = target.connect_timeout_s.min(WITHIN_S);
    dialer.connect(&target).is_ok()
}

/// Leaves those that are open now.
pub(super) fn open(dialer: &dyn Dialer, mut doors: Vec<Door>) -> Vec<Door> {
    doors.retain(|d| opens(dialer, d));
    doors
}

/// The first one that does not open any more.
pub(super) fn shut(dialer: &dyn Dialer, doors: &[Door]) -> Option<String> {
    let until = Instant::now() + SHUT;
    for door in doors {
        while !opens(dialer, door) {
            if Instant::now() + RETRY >= until {
                return Some(format!("there is no way in to {} any more", door.words));
            }
            std::thread::sleep(RETRY);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::testing;

    #[test]
    fn doors_are_other_addresses_and_one_for_each_chain_of_jumps() {
        let inventory = testing::with(
            "nodes:\n\
             - {name: a, addresses: [10.0.0.1, 'fd00::1'], roles: [control-plane]}\n\
             - {name: b, addresses: [10.0.0.2], roles: [worker], ssh: {jump: [{host: door.example}]}}\n\
             - {name: c, addresses: [10.0.0.3], roles: [worker], ssh: {jump: [{host: door.example}]}}\n\
             - {name: d, addresses: [10.0.0.4], roles: [worker], ssh: {jump: [{host: door.example, user: other}]}}\n",
        );
        let words = |n: usize, which| -> Vec<String> {
            of(&inventory, &inventory.nodes[n], which).into_iter().map(|d| d.words).collect()
        };
        assert_eq!(words(0, Doors::Own), ["a at fd00::1"]);
        assert_eq!(
            words(0, Doors::AndThrough),
            ["a at fd00::1", "b through @door.example:22", "d through other@door.example:22"]
        );
        // Its own chain is the way over which it is confirmed.
        assert_eq!(words(1, Doors::AndThrough), ["d through other@door.example:22"]);
    }
}
