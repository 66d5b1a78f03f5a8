//! sshd: keys only, strong algorithms.

use std::collections::BTreeSet;

use super::collector::{Collector, Unit};
use super::context::Context;
use super::model::{FileCheck, Item, ItemKind, OnChange};
use crate::facts::{FileFacts, InputKept, InterfaceAddress, NodeFacts};
use crate::inventory::{Inventory, Node};
use crate::render::input::host::{RootLogin, Sshd, TcpForwarding};

/// sshd takes the first value it finds, and reads drop-ins in the order of their names.
pub(super) const DROP_IN: &str = "/etc/ssh/sshd_config.d/00-kubastion.conf";

const CONTROLS: &[&str] = &["host-ssh-hardening"];

/// What sshd is to be told. Known before anything is asked of the node, but for addresses that only the node knows.
pub(super) fn settings(context: &Context<'_>) -> Sshd {
    let user = context.inventory.ssh.for_node(context.node).user;
    let root_login =
        if user.as_str() == "root" { RootLogin::ProhibitPassword } else { RootLogin::No };
    let jumps = context.shared.jump_hosts(context.inventory);
    let tcp_forwarding = if is_jump_host(jumps, context.inventory, context.node, context.facts()) {
        TcpForwarding::Local
    } else {
        TcpForwarding::No
    };
    Sshd { root_login, max_auth_tries: 4, login_grace_s: 30, tcp_forwarding }
}

pub(super) fn items(context: &Context<'_>, collector: &mut Collector<'_>) {
    let user = context.inventory.ssh.for_node(context.node).user;
    collector.checked_template(CONTROLS, DROP_IN, FileCheck::Sshd, |_| Ok(settings(context)));
    let (name, socket) = context.os().sshd;
    let started = context.facts().map_or(Started::Service, |f| started(f, name, socket));
    let as_it_is = |unit| context.facts().is_some_and(|f| is_enabled(f, unit));
    collector.unit(
        CONTROLS,
        match started {
            // A program for each connection, which reads its files: nothing runs that could be reloaded, and the service, once
            // started, would take the port from the socket.
            Started::SocketAlone => Unit { enabled: as_it_is(socket), ..Unit::running(socket) },
            _ => Unit {
                // Ubuntu starts sshd by a socket; whether the service is enabled too is its own affair.
                enabled: started == Started::Service || as_it_is(name),
                // sshd takes up its files by executing itself anew, and then finds its port taken where systemd holds it.
                on_change: match started {
                    Started::SocketAndService => OnChange::Restart,
                    _ => OnChange::Reload,
                },
                watches: vec![DROP_IN.to_owned()],
                ..Unit::running(name)
            },
        },
    );
    if context.facts().is_some_and(|f| f.input_kept == InputKept::Unknown) {
        collector.note(format!(
            "it is unknown whether sudo records its input, which includes private keys: run `sudo -l -U {user}` on the node and check that it does not show log_input"
        ));
    }
    if let Some(facts) = context.facts().filter(|_| context.warns_about(CONTROLS[0])) {
        match started {
            Started::Service => {}
            Started::SocketAndService => collector.note(format!(
                "{socket} starts sshd: a running sshd is restarted, since it cannot be reloaded. Open connections stay up, and new ones wait at the socket"
            )),
            Started::SocketAlone => collector.note(format!(
                "{socket} starts an sshd for each connection, so new settings apply without a reload"
            )),
        }
        for lost in locked_out(facts) {
            collector.note(format!(
                "logins that need {lost} are locked out: password and keyboard-interactive authentication will be off, also as a second factor. First remove that setting, or enable these methods in that `Match` block"
            ));
        }
        if is_ignored(facts, &collector.items) {
            collector.note(format!(
                "{DROP_IN} is in place, but sshd still accepts passwords: /etc/ssh/sshd_config lacks `Include /etc/ssh/sshd_config.d/*.conf` at its beginning, or a setting before it overrides the file",
            ));
        }
    }
}

/// Whether any node is reached through this one. Forbidding forwarding here would cut those off, and
/// the confirmation, which looks at this node alone, would not notice.
fn is_jump_host(
    jumps: &BTreeSet<String>,
    inventory: &Inventory,
    node: &Node,
    facts: Option<&NodeFacts>,
) -> bool {
    if jumps.is_empty() {
        return false;
    }
    let own = inventory.ssh.for_node(node).host;
    let is_this = |host: &String| {
        let host = host.as_str();
        let is_own = |a: &InterfaceAddress| a.network.addr().to_string() == host;
        host == own.as_str()
            || host == node.name.as_str()
            || node.addresses.iter().any(|a| a.to_string() == host)
            // Under an address that the inventory does not list, or its name with a domain.
            || facts.is_some_and(|f| f.addresses.iter().any(is_own))
            || host.split_once('.').is_some_and(|(first, _)| first == node.name.as_str())
    };
    jumps.iter().any(is_this)
}

/// Ways to log in that need a password or keyboard-interactive, and would have neither: of all, and of those below a
/// `Match` line that does not switch it on itself.
fn locked_out(facts: &NodeFacts) -> Vec<String> {
    // Each list is a way of its own; one that needs neither goes on.
    let needs = |value: &str| {
        let methods = |list: &str| {
            let weak =
                |m: &str| matches!(m.split(':').next(), Some("password" | "keyboard-interactive"));
            list.split(',').any(weak)
        };
        !value.trim().is_empty() && value.split_whitespace().all(methods)
    };
    let mut lost = Vec::new();
    for value in facts.sshd.get("authenticationmethods").into_iter().flatten() {
        if needs(value) {
            lost.push(format!("`AuthenticationMethods {value}`"));
        }
    }
    let matches = facts.sshd_matches.iter().flatten();
    for found in matches.clone().filter(|m| m.key == "authenticationmethods" && needs(&m.value)) {
        // Which block a setting stands in is not known: one that switches it on in the same file may be of the same.
        let on = |key: &str| {
            matches.clone().any(|m| {
                m.file == found.file && m.key == key && m.value.eq_ignore_ascii_case("yes")
            })
        };
        let switched_on =
            on("kbdinteractiveauthentication") || on("challengeresponseauthentication");
        if !switched_on && !on("passwordauthentication") {
            lost.push(format!(
                "`AuthenticationMethods {}` in a `Match` block of {}",
                found.value, found.file
            ));
        }
    }
    lost
}

/// What makes sshd run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Started {
    /// Its service.
    Service,
    /// A socket starts the service, which runs.
    SocketAndService,
    /// A socket starts an sshd for each connection; the service does not run.
    SocketAlone,
}

fn started(facts: &NodeFacts, service: &str, socket: &str) -> Started {
    let is_active = |u: &str| facts.units.get(u).is_some_and(|u| u.active == "active");
    match (is_active(socket), is_active(service)) {
        (true, false) => Started::SocketAlone,
        _ if is_enabled(facts, socket) => Started::SocketAndService,
        _ => Started::Service,
    }
}

fn is_enabled(facts: &NodeFacts, unit: &str) -> bool {
    facts.units.get(unit).is_some_and(|u| u.file == "enabled")
}

/// Whether our drop-in is there, word for word, and sshd accepts passwords all the same. One that somebody
/// changed may be what sshd follows.
fn is_ignored(facts: &NodeFacts, items: &[Item]) -> bool {
    let is_as_wanted = items.iter().any(|item| match (&item.kind, facts.files.get(DROP_IN)) {
        (ItemKind::File { path, content, .. }, Some(FileFacts::File { sha256, .. })) => {
            path == DROP_IN && content.sha256() == *sha256
        }
        _ => false,
    });
    let password = facts.sshd.get("passwordauthentication");
    is_as_wanted && password.is_some_and(|v| v.iter().any(|v| v == "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Shared;
    use crate::inventory::testing;

    fn is_jump_host(inventory: &Inventory, node: &Node, facts: Option<&NodeFacts>) -> bool {
        let shared = Shared::default();
        super::is_jump_host(shared.jump_hosts(inventory), inventory, node, facts)
    }

    #[test]
    fn a_jump_host_is_known_by_name_address_or_ssh_host() {
        let inventory = |jump: &str| -> Inventory {
            testing::with(&format!(
                "nodes:\n\
                 - {{name: a, addresses: [10.0.0.1], roles: [control-plane], ssh: {{host: a.example}}}}\n\
                 - {{name: b, addresses: [10.0.0.2], roles: [worker], ssh: {{jump: [{{host: {jump}}}]}}}}\n"
            ))
        };
        for jump in ["a", "10.0.0.1", "a.example", "a.other.example"] {
            let i = inventory(jump);
            assert!(is_jump_host(&i, &i.nodes[0], None), "{jump}");
            assert!(!is_jump_host(&i, &i.nodes[1], None), "{jump}");
        }
        let i = inventory("bastion.example");
        assert!(!is_jump_host(&i, &i.nodes[0], None));
        // An address that the node has, and the inventory does not list.
        let i = inventory("203.0.113.9");
        let mut facts = NodeFacts::bare("a");
        assert!(!is_jump_host(&i, &i.nodes[0], Some(&facts)));
        facts.addresses.push(InterfaceAddress {
            interface: "eth1".into(),
            network: "203.0.113.9/24".parse().unwrap(),
        });
        assert!(is_jump_host(&i, &i.nodes[0], Some(&facts)));
        assert!(!is_jump_host(&i, &i.nodes[1], None));
    }
}
