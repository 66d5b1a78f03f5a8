//! Rules about the way to the machines.

use super::super::diagnostic::Path;
use super::super::model::Inventory;
use super::super::ssh::{JumpHost, Sudo};
use super::review::{Review, duplicates, section};

/// How a host key can be known before the first connection.
const HOST_KEY_SOURCES: &str =
    "`host_keys` with fingerprints from `ssh-keygen -lf`, or a `known_hosts` file";

const FIRST_CONTACT: &str = "run `kubastion trust` to see the keys that it presents, and compare them on the machine's own console";

/// What must hold of the top-level `ssh` by itself.
pub(super) fn defaults(inventory: &Inventory, review: &mut Review<'_>) {
    let ssh = &inventory.ssh;
    let path = section("ssh");
    jumps(&ssh.jump, ssh.known_hosts.is_some(), &path, review);
}

/// What must hold for each node, with the defaults merged in.
pub(super) fn targets(inventory: &Inventory, review: &mut Review<'_>) {
    for (n, node) in inventory.nodes.iter().enumerate() {
        if node.addresses.is_empty() && node.ssh.host.is_none() {
            continue; // reported with the addresses
        }
        let target = inventory.ssh.for_node(node);
        let path = review.node(n).then("ssh");
        if !target.has_host_key() && !review.host_keys_optional {
            review
                .error(&path, format!("the host key of {} cannot be verified", node.name))
                .found("neither `host_keys` nor `known_hosts`")
                .allowed(HOST_KEY_SOURCES)
                .hint(FIRST_CONTACT);
        }
        if target.key_file.is_none() && !target.agent {
            review
                .error(&path, format!("no login method for {}", node.name))
                .found("neither `key_file` nor `agent: true`")
                .allowed("`key_file`, `agent: true`, or both, here or in the top-level `ssh`");
        }
        if target.sudo == Sudo::None && target.user.as_str() != "root" {
            review
                .error(&path, format!("no way to become root on {}", node.name))
                .found(format!("user {} with `sudo: none`", target.user))
                .allowed("user root, `sudo: passwordless`, or `sudo: password`");
        }
        if let Some(own) = &node.ssh.jump {
            jumps(own, target.known_hosts.is_some(), &path, review);
        }
        if target.jump.iter().any(|j| j.host == target.host && j.port == target.port) {
            review.error(&path, format!("{} is a jump host to itself", node.name));
        }
    }
}

/// Two nodes behind one sshd are one machine. Behind different jump hosts they need not be.
pub(super) fn duplicate_targets(inventory: &Inventory, review: &mut Review<'_>) {
    let nodes = inventory.nodes.iter().enumerate();
    let reachable = nodes.filter(|(_, n)| !n.addresses.is_empty() || n.ssh.host.is_some());
    let targets = reachable.map(|(n, node)| {
        let target = inventory.ssh.for_node(node);
        let jump: Vec<(String, u16)> =
            target.jump.iter().map(|j| (j.host.to_string(), j.port)).collect();
        ((target.host.as_str().to_ascii_lowercase(), target.port, jump), n)
    });
    for ((host, port, _), first, again) in duplicates(targets.collect()) {
        // The same machine twice is said once, at its address.
        if inventory.nodes[first].addresses == inventory.nodes[again].addresses {
            continue;
        }
        review
            .error(
                &review.node(again).then("ssh"),
                format!("{} is reached there", review.node(first)),
            )
            .found(format!("{host} port {port}"))
            .allowed("a separate host and port for each node");
    }
}

fn jumps(chain: &[JumpHost], known_hosts: bool, path: &Path, review: &mut Review<'_>) {
    let path = path.then("jump");
    for (j, jump) in chain.iter().enumerate() {
        let path = path.then(j);
        if jump.host_keys.is_empty() && !known_hosts {
            review
                .error(&path, format!("the host key of {} cannot be verified", jump.host))
                .found("neither `host_keys` nor `known_hosts`")
                .allowed(HOST_KEY_SOURCES)
                .hint(FIRST_CONTACT);
        }
    }
    let hops = chain.iter().enumerate().map(|(j, h)| ((h.host.clone(), h.port), j)).collect();
    for ((host, port), _, again) in duplicates(hops) {
        review
            .error(&path.then(again), "the chain of jump hosts has a loop")
            .found(format!("{host} port {port}"));
    }
}
