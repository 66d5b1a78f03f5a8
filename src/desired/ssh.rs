//! sshd: keys only, strong algorithms.

use super::context::Context;
use super::model::{FileCheck, Item, ItemKind, OnChange};
use super::sink::{Sink, Unit};
use crate::facts::{FileFacts, NodeFacts};
use crate::inventory::{Inventory, JumpHost, Node};
use crate::render::input::host::{RootLogin, Sshd, TcpForwarding};

/// sshd takes the first value it finds, and reads drop-ins in the order of their names.
pub(super) const DROP_IN: &str = "/etc/ssh/sshd_config.d/00-kubastion.conf";

const CONTROLS: &[&str] = &["host-ssh-hardening"];

pub(super) fn items(context: &Context<'_>, sink: &mut Sink<'_>) {
    let user = context.inventory.ssh.for_node(context.node).user;
    let root_login =
        if user.as_str() == "root" { RootLogin::ProhibitPassword } else { RootLogin::No };
    let tcp_forwarding = if is_jump_host(context.inventory, context.node) {
        TcpForwarding::Local
    } else {
        TcpForwarding::No
    };
    sink.checked_template(CONTROLS, DROP_IN, FileCheck::Sshd, |_| {
        Ok(Sshd { root_login, max_auth_tries: 4, login_grace_s: 30, tcp_forwarding })
    });
    let (name, socket) = if context.is_debian() {
        ("ssh.service", "ssh.socket")
    } else {
        ("sshd.service", "sshd.socket")
    };
    let started = context.facts().map_or(Started::Service, |f| started(f, name, socket));
    let as_it_is = |unit| context.facts().is_some_and(|f| is_enabled(f, unit));
    sink.unit(
        CONTROLS,
        match started {
            // A program for each connection, which reads its files: nothing runs that could be reloaded, and the service, once
            // started, would take the port from the socket.
            Started::SocketAlone => Unit { enabled: as_it_is(socket), ..Unit::running(socket) },
            _ => Unit {
                // Ubuntu starts sshd by a socket; whether the service is enabled too is its own affair.
                enabled: started == Started::Service || as_it_is(name),
                on_change: OnChange::Reload,
                watches: vec![DROP_IN.to_owned()],
                ..Unit::running(name)
            },
        },
    );
    if let Some(facts) = context.facts().filter(|_| context.speaks_of(CONTROLS[0])) {
        match started {
            Started::Service => {}
            Started::SocketAndService => sink.note(format!(
                "sshd is started by {socket}; it is reloaded while it runs, and a new one reads the new settings"
            )),
            Started::SocketAlone => sink.note(format!(
                "{socket} starts an sshd for each connection, which reads the settings anew: nothing is reloaded"
            )),
        }
        if is_ignored(facts, &sink.items) {
            sink.note(format!(
                "{DROP_IN} is in place and sshd takes passwords all the same: /etc/ssh/sshd_config lacks `Include /etc/ssh/sshd_config.d/*.conf` at its beginning, or something before it says otherwise",
            ));
        }
    }
}

/// Whether any node is reached through this one. Forbidding forwarding here would cut those off, and
/// the confirmation, which looks at this node alone, would not notice.
fn is_jump_host(inventory: &Inventory, node: &Node) -> bool {
    let own = inventory.ssh.for_node(node).host;
    let is_this = |jump: &JumpHost| {
        let host = jump.host.as_str();
        host == own.as_str()
            || host == node.name.as_str()
            || node.addresses.iter().any(|a| a.to_string() == host)
    };
    inventory.nodes.iter().any(|n| inventory.ssh.for_node(n).jump.iter().any(is_this))
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
    use crate::inventory::testing;

    #[test]
    fn a_jump_host_is_known_by_name_address_or_ssh_host() {
        let inventory = |jump: &str| -> Inventory {
            testing::with(&format!(
                "nodes:\n\
                 - {{name: a, addresses: [10.0.0.1], roles: [control-plane], ssh: {{host: a.example}}}}\n\
                 - {{name: b, addresses: [10.0.0.2], roles: [worker], ssh: {{jump: [{{host: {jump}}}]}}}}\n"
            ))
        };
        for jump in ["a", "10.0.0.1", "a.example"] {
            let i = inventory(jump);
            assert!(is_jump_host(&i, &i.nodes[0]), "{jump}");
            assert!(!is_jump_host(&i, &i.nodes[1]), "{jump}");
        }
        let i = inventory("bastion.example");
        assert!(!is_jump_host(&i, &i.nodes[0]));
    }
}
