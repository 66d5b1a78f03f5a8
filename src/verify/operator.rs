//! Attempts from the operator's machine: sshd, closed ports, and the default of the firewall.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use super::peers::{closed_verdict, opened_by_rules};
use super::sweep::Reach;
use super::{Attempt, CONNECT_TIMEOUT, Field, Judged};
use crate::checks::{Observed, Tried, Verdict, Witness};
use crate::clock::Clock;
use crate::controls::Attack;
use crate::digest::Digest;
use crate::error::chain;
use crate::inventory::{Node, Role};
use crate::transport::{fleet, reach};

/// Connections tried at once.
const WINDOW: usize = 128;
/// How long the SSH handshake may take.
const SSH_TIMEOUT: Duration = Duration::from_secs(8);
/// Ports that nothing is likely to listen on, to see what happens to packets nobody asked for.
const UNUSED: std::ops::Range<u16> = 48_123..48_223;

enum Aim<'a> {
    Closed(&'a Node, IpAddr, u16),
    Drop(&'a Node, IpAddr, u16),
    Password(&'a Node, String),
}

pub(super) fn attempts(field: &Field<'_>) -> Vec<Attempt> {
    let mut aims: Vec<Aim<'_>> = Vec::new();
    let mut made: Vec<Attempt> = Vec::new();
    for (node, seen) in field.nodes() {
        let target = field.inventory.ssh.for_node(node);
        let mut users = vec!["root".to_owned()];
        if target.user.as_str() != "root" {
            users.push(target.user.as_str().to_owned());
        }
        aims.extend(users.into_iter().map(|u| Aim::Password(node, u)));
        match no_own_way(field, node, target.jump.is_empty()) {
            Some(why) => {
                for attack in [Attack::ClosedToOperator, Attack::DefaultDrop] {
                    made.push(attempt(
                        node,
                        attack,
                        crate::checks::attempt_words(attack),
                        Verdict::not_applicable(why).into(),
                    ));
                }
            }
            None => {
                for address in &node.addresses {
                    let ports = closed_ports(field, node);
                    aims.extend(ports.into_iter().map(|p| Aim::Closed(node, *address, p)));
                    aims.extend(unused(seen).map(|p| Aim::Drop(node, *address, p)));
                }
            }
        }
    }
    made.extend(fleet::each(aims, WINDOW, |aim| try_one(field, &aim)));
    made
}

/// Why the operator's machine cannot judge what is closed, if so.
fn no_own_way(field: &Field<'_>, node: &Node, direct: bool) -> Option<&'static str> {
    if !direct {
        return Some("the node can be reached only through a jump host");
    }
    let source = source_address(node.internal_ip())?;
    let networks = field.inventory.cluster.pod_networks.iter();
    let is_node = field.inventory.nodes.iter().any(|n| n.addresses.contains(&source));
    (is_node || networks.into_iter().any(|n| n.0.contains(&source)))
        .then_some("this machine is part of the cluster")
}

/// The address that packets to a host leave from. Sends nothing.
fn source_address(host: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match host {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((host, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Ports that only other nodes, or nobody, may reach.
fn closed_ports(field: &Field<'_>, node: &Node) -> Vec<u16> {
    let p = field.ports;
    let mut closed = Vec::new();
    if field.inventory.is_etcd_member(node) {
        closed.extend([p.etcd_client, p.etcd_peer, p.etcd_metrics]);
    }
    if node.has_role(Role::ControlPlane) || node.has_role(Role::Worker) {
        closed.extend([p.kubelet, 10255, 10248, 10249, 10256]);
    }
    if node.has_role(Role::ControlPlane) {
        closed.extend([8080, 10257, 10259]);
    }
    let opened = opened_by_rules(field.inventory, node);
    closed.retain(|p| !opened.contains(p));
    closed
}

/// A port on which the node says that nothing listens.
fn unused(seen: &Observed) -> Option<u16> {
    let listeners = seen.listeners.as_ref()?;
    UNUSED.into_iter().find(|p| !listeners.iter().any(|l| l.port == *p))
}

fn attempt(node: &Node, attack: Attack, what: impl Into<String>, judged: Judged) -> Attempt {
    let tried =
        Tried { target: node.name.clone(), attack, from: "operator".to_owned(), what: what.into() };
    // This machine saw it itself.
    let seen = Witness { machine: None, read: judged.answer.map(|_| Clock::System.now()) };
    Attempt::new(tried, judged.verdict, judged.answer, seen)
}

fn try_one(field: &Field<'_>, aim: &Aim<'_>) -> Attempt {
    let words = |a: &IpAddr, p: &u16| format!("connect to {}", SocketAddr::new(*a, *p));
    match aim {
        Aim::Closed(node, address, port) => {
            let reach = reach(*address, *port);
            let judged = Judged::by(reach.digest(), closed_verdict(Ok(reach)));
            attempt(node, Attack::ClosedToOperator, words(address, port), judged)
        }
        Aim::Drop(node, address, port) => {
            let reach = reach(*address, *port);
            let judged = Judged::by(reach.digest(), drop_verdict(reach));
            let what = format!("{}, where nothing listens", words(address, port));
            attempt(node, Attack::DefaultDrop, what, judged)
        }
        Aim::Password(node, user) => {
            let target = field.inventory.ssh.for_node(node);
            let offered = reach::offered_methods(&target, user, SSH_TIMEOUT);
            let heard = offered.as_ref().ok().map(|methods| Digest::of(methods.join(",")));
            let judged = Judged::by(heard, password_verdict(offered.map_err(|e| chain(&e))));
            attempt(node, Attack::SshPassword, format!("log in as {user} without a key"), judged)
        }
    }
}

fn reach(address: IpAddr, port: u16) -> Reach {
    use std::io::ErrorKind;
    match TcpStream::connect_timeout(&SocketAddr::new(address, port), CONNECT_TIMEOUT) {
        Ok(_) => Reach::Open,
        Err(e) => match e.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Reach::Refused,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Reach::TimedOut,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Reach::Unreachable,
            _ => Reach::Other,
        },
    }
}

/// A reset would mean that the packet got through to a kernel that had nobody to give it to.
fn drop_verdict(reach: Reach) -> Verdict {
    match reach {
        Reach::TimedOut => Verdict::pass("no answer: the packet was dropped"),
        Reach::Refused => {
            Verdict::fail("no answer", "answered with a reset: the packet was not dropped")
        }
        Reach::Open => Verdict::fail("no answer", "the connection was accepted"),
        Reach::Unreachable | Reach::Other => {
            Verdict::unknown("the result of the attempt is unknown")
        }
    }
}

/// Judges what sshd offers to somebody without a key.
pub fn password_verdict(offered: Result<Vec<String>, String>) -> Verdict {
    let expected = "publickey only";
    match offered {
        Err(why) => Verdict::unknown(why),
        Ok(methods) if methods == ["publickey"] => Verdict::pass(expected),
        Ok(methods) if methods.is_empty() => {
            Verdict::unknown("sshd offered no authentication method")
        }
        Ok(methods) => Verdict::fail(expected, methods.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn an_open_port_is_found_and_a_reset_is_no_drop() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let here: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(reach(here, port), Reach::Open);
        assert!(matches!(closed_verdict(Ok(reach(here, port))), Verdict::Fail { .. }));
        drop(listener);
        assert_eq!(reach(here, port), Reach::Refused);
        assert!(matches!(closed_verdict(Ok(reach(here, port))), Verdict::Pass { .. }));
        assert!(matches!(drop_verdict(reach(here, port)), Verdict::Fail { .. }));
        assert!(matches!(drop_verdict(Reach::TimedOut), Verdict::Pass { .. }));
        assert!(matches!(drop_verdict(Reach::Unreachable), Verdict::Unknown { .. }));
    }

    #[test]
    fn only_keys_will_do() {
        let offered =
            |m: &[&str]| password_verdict(Ok(m.iter().map(|s| (*s).to_owned()).collect()));
        assert!(matches!(offered(&["publickey"]), Verdict::Pass { .. }));
        for bad in [&["publickey", "password"][..], &["none"], &["keyboard-interactive"]] {
            assert!(matches!(offered(bad), Verdict::Fail { .. }), "{bad:?}");
        }
        assert!(matches!(offered(&[]), Verdict::Unknown { .. }));
        assert!(matches!(password_verdict(Err("x".into())), Verdict::Unknown { .. }));
    }
}
