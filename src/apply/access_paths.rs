//! SSH access paths besides the one that confirms a change: every other address that the inventory has for a node, and
//! every chain of jump hosts, since a jump host may be the node itself under another name. A path that worked before a
//! change has to work after it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::inventory::{Inventory, JumpHost, Node, SshTarget};
use crate::transport::Dialer;

/// How long a login may take.
const WITHIN_S: u32 = 5;
/// How long a path may fail after a change: sshd is unreachable for a moment while it reloads.
const OUTAGE: Duration = Duration::from_secs(10);
/// Pause between two attempts.
const RETRY: Duration = Duration::from_secs(1);

/// An SSH access path.
pub(super) struct AccessPath {
    target: SshTarget,
    /// Its name in messages.
    words: String,
}

/// Which paths are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// To the node itself.
    Own,
    /// Also those to other nodes, which may lead through it.
    AndThrough,
}

/// The paths to a node, and one path to another node for each chain of jump hosts.
pub(super) fn of(inventory: &Inventory, node: &Node, which: Which) -> Vec<AccessPath> {
    let own = inventory.ssh.for_node(node);
    let mut paths = Vec::new();
    for address in &node.addresses {
        let host = address.to_string();
        let Ok(host) = host.parse::<crate::inventory::Host>() else { continue };
        if host != own.host {
            let words = format!("{} at {host}", node.name);
            paths.push(AccessPath { target: SshTarget { host, ..own.clone() }, words });
        }
    }
    if which == Which::Own {
        return paths;
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
            paths.push(AccessPath { target, words });
        }
    }
    paths
}

fn works(dialer: &dyn Dialer, path: &AccessPath) -> bool {
    let mut target = path.target.clone();
    target.connect_timeout_s = target.connect_timeout_s.min(WITHIN_S);
    dialer.connect(&target).is_ok()
}

/// Keeps those that work now.
pub(super) fn working(dialer: &dyn Dialer, mut paths: Vec<AccessPath>) -> Vec<AccessPath> {
    paths.retain(|d| works(dialer, d));
    paths
}

/// The first one that no longer works.
pub(super) fn lost(dialer: &dyn Dialer, paths: &[AccessPath]) -> Option<String> {
    let until = Instant::now() + OUTAGE;
    for path in paths {
        while !works(dialer, path) {
            if Instant::now() + RETRY >= until {
                return Some(format!("SSH no longer reaches {}", path.words));
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
    fn paths_are_other_addresses_and_one_for_each_chain_of_jumps() {
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
        assert_eq!(words(0, Which::Own), ["a at fd00::1"]);
        assert_eq!(
            words(0, Which::AndThrough),
            ["a at fd00::1", "b through @door.example:22", "d through other@door.example:22"]
        );
        // Its own chain is the way over which it is confirmed.
        assert_eq!(words(1, Which::AndThrough), ["d through other@door.example:22"]);
    }
}
