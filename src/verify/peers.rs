//! Attempts that nodes make on each other.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::sweep::{Reach, sweep};
use super::{Attempt, Field, Health, Ports, api, etcd, kubernetes, stranger};
use crate::checks::Observed;
use crate::checks::node::certificates::of_member;
use crate::checks::{Tried, Verdict, Witness};
use crate::controls::{Attack, Daemon};
use crate::inventory::{Inventory, Node, NodeName, Role};
use crate::transport::Transport;

/// Work of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Job {
    /// Try an etcd member with and without certificates.
    Etcd(NodeName),
    /// Try an API server.
    Apiserver(NodeName),
    /// Try a kubelet.
    Kubelet(NodeName),
    /// Ask kube-proxy for its settings, on this node itself.
    KubeProxy(NodeName),
    /// Try the cluster's API, over this node's own API server.
    Api(NodeName),
    /// Try ports that have to be closed to this node.
    Closed(NodeName),
    /// Try pods and Services as a stranger, by way of this node itself.
    Stranger(NodeName),
}

/// Ports of Kubernetes that nobody but the node itself has to reach.
const LOCAL: &[u16] = &[10248, 10249, 10257, 10259];

/// Who tries whom: members ask the next member, control planes ask kubelets, and everybody's closed
/// ports are tried by one node that the firewall has to keep out.
pub(super) fn assign<'a>(
    field: &Field<'_>,
    reached: impl Iterator<Item = &'a NodeName>,
) -> BTreeMap<NodeName, Vec<Job>> {
    let reached: Vec<&NodeName> = reached.collect();
    let among = |pick: &dyn Fn(&Node) -> bool| -> Vec<&Node> {
        field.inventory.nodes.iter().filter(|n| reached.contains(&&n.name) && pick(n)).collect()
    };
    let members = among(&|n| field.inventory.is_etcd_member(n));
    let control_planes = among(&|n| n.has_role(Role::ControlPlane));
    let mut jobs: BTreeMap<NodeName, Vec<Job>> = BTreeMap::new();
    let mut give = |to: &Node, job| jobs.entry(to.name.clone()).or_default().push(job);
    for (index, (target, seen)) in field.nodes().enumerate() {
        // The next of its kind, so that the question comes over the network; itself if it is alone.
        let next = |kind: &[&'_ Node]| -> Option<NodeName> {
            let at = kind.iter().position(|n| n.name == target.name);
            let pick = at.map_or(index, |at| at + 1);
            (!kind.is_empty()).then(|| kind[pick % kind.len()].name.clone())
        };
        let node = |name: Option<NodeName>| {
            field.inventory.nodes.iter().find(|n| Some(&n.name) == name.as_ref())
        };
        if field.inventory.is_etcd_member(target)
            && let Some(from) = node(next(&members))
        {
            give(from, Job::Etcd(target.name.clone()));
        }
        if seen.runs(Daemon::Apiserver)
            && let Some(from) = node(next(&control_planes))
        {
            give(from, Job::Apiserver(target.name.clone()));
        }
        // Over its own connection: each API server is tried, all at the same time.
        if seen.runs(Daemon::Apiserver) && control_planes.iter().any(|n| n.name == target.name) {
            give(target, Job::Api(target.name.clone()));
        }
        if seen.runs(Daemon::Kubelet)
            && let Some(from) = node(next(&control_planes))
        {
            give(from, Job::Kubelet(target.name.clone()));
        }
        if seen.runs(Daemon::KubeProxy) && reached.contains(&&target.name) {
            give(target, Job::KubeProxy(target.name.clone()));
        }
        if seen.runs(Daemon::Kubelet) && reached.contains(&&target.name) {
            give(target, Job::Stranger(target.name.clone()));
        }
        let outsiders = among(&|n| {
            n.name != target.name
                && !closed_ports(field.inventory, target, n, field.ports).is_empty()
        });
        if !outsiders.is_empty() {
            give(outsiders[index % outsiders.len()], Job::Closed(target.name.clone()));
        }
    }
    jobs
}

/// Ports of a node that have to be closed to another node.
pub(super) fn closed_ports(
    inventory: &Inventory,
    target: &Node,
    from: &Node,
    ports: Ports,
) -> Vec<u16> {
    let control_plane = from.has_role(Role::ControlPlane);
    let mut closed: Vec<u16> = Vec::new();
    if inventory.is_etcd_member(target) {
        let member = inventory.is_etcd_member(from);
        if !member && !control_plane {
            closed.push(ports.etcd_client);
        }
        if !member {
            closed.push(ports.etcd_peer);
            closed.push(ports.etcd_metrics);
        }
    }
    let kubelet = target.has_role(Role::ControlPlane) || target.has_role(Role::Worker);
    if kubelet && !control_plane && !inventory.is_etcd_member(from) {
        closed.push(ports.kubelet);
        closed.extend(LOCAL);
    }
    let opened = opened_by_rules(inventory, target);
    closed.retain(|p| !opened.contains(p));
    closed
}

/// Ports that rules of the inventory open, to whomever: they are not tried.
pub(super) fn opened_by_rules(inventory: &Inventory, target: &Node) -> Vec<u16> {
    let rules = inventory.firewall.extra_rules.iter();
    rules
        .filter(|r| r.roles.is_empty() || r.roles.iter().any(|role| target.has_role(*role)))
        .flat_map(|r| r.ports.iter().copied())
        .collect()
}

/// Does a node's jobs, one after another; all ports in one go.
pub(super) fn attempts(
    field: &Field<'_>,
    from: &NodeName,
    through: &mut dyn Transport,
    jobs: &[Job],
) -> Vec<Attempt> {
    let node = |name: &NodeName| field.inventory.nodes.iter().find(|n| n.name == *name);
    let mut made: Vec<Attempt> = Vec::new();
    let mut aims: Vec<(NodeName, IpAddr, u16)> = Vec::new();
    for job in jobs {
        let (Job::Etcd(name)
        | Job::Apiserver(name)
        | Job::Kubelet(name)
        | Job::KubeProxy(name)
        | Job::Api(name)
        | Job::Closed(name)
        | Job::Stranger(name)) = job;
        let (Some(target), Some(seen)) = (node(name), field.seen.get(name)) else { continue };
        let host = target.internal_ip().to_string();
        let results = match job {
            Job::Etcd(_) => etcd::attack_member(
                through,
                &member(field, target, seen, &host),
                field.keys,
                field.ports,
            ),
            Job::Apiserver(_) => {
                let refused = crate::controls::find("apiserver-authenticated-probes")
                    .is_some_and(|c| c.wanted(field.inventory));
                let health = if refused { Health::Refused } else { Health::Open };
                let cas = field.keys.map(|k| k.apiserver_cas.as_slice());
                kubernetes::attack_apiserver(through, &host, field.ports, health, cas)
            }
            Job::Kubelet(_) => {
                let cas = field.keys.map(|k| k.kubelet_cas.as_slice());
                let mut made = kubernetes::attack_kubelet(through, &host, field.ports, cas);
                if let Some(source) = node(from) {
                    made.extend(api::kubelet_without_rights(field, source, target, through));
                }
                // An API server on the node itself, or the first that runs.
                let runs =
                    |n: &&Node| field.seen.get(&n.name).is_some_and(|s| s.runs(Daemon::Apiserver));
                let own = node(from).filter(runs);
                let server = own.or_else(|| field.inventory.nodes.iter().find(runs));
                if let Some(server) = server {
                    made.extend(api::kubelet_settings(field, target, server, through));
                }
                made
            }
            Job::KubeProxy(_) => api::kube_proxy_settings(field, target, through),
            Job::Api(_) => api::attack(field, target, seen, through),
            Job::Stranger(_) => stranger::attempts(field, target, seen, through),
            Job::Closed(_) => {
                let source = node(from);
                let closed = source.map(|s| closed_ports(field.inventory, target, s, field.ports));
                for port in closed.unwrap_or_default() {
                    aims.extend(target.addresses.iter().map(|a| (name.clone(), *a, port)));
                }
                continue;
            }
        };
        made.extend(results.into_iter().map(|(attack, what, judged)| {
            let tried = Tried { target: name.clone(), attack, from: from.to_string(), what };
            Attempt::new(tried, judged.verdict, judged.answer, field.witness(from))
        }));
    }
    made.extend(closed(field, from, through, &aims));
    made
}

fn member<'a>(
    field: &'a Field<'_>,
    target: &Node,
    seen: &'a Observed,
    host: &'a str,
) -> etcd::Member<'a> {
    let store = field.keys.and_then(|k| k.served.get(&target.name));
    etcd::Member {
        host,
        files: of_member(field.inventory).map(|file| seen.text(file).ok()),
        store: [store.map(|s| s.0.as_str()), store.map(|s| s.1.as_str())],
    }
}

fn closed(
    field: &Field<'_>,
    from: &NodeName,
    through: &mut dyn Transport,
    aims: &[(NodeName, IpAddr, u16)],
) -> Vec<Attempt> {
    if aims.is_empty() {
        return Vec::new();
    }
    let addresses: Vec<(IpAddr, u16)> = aims.iter().map(|(_, a, p)| (*a, *p)).collect();
    let found = sweep(through, &addresses);
    aims.iter()
        .map(|(target, address, port)| {
            let reach = match &found {
                Ok(found) => {
                    found.get(&(*address, *port)).copied().ok_or("not attempted".to_owned())
                }
                Err(why) => Err(why.clone()),
            };
            let to = crate::transport::address(&address.to_string(), *port);
            let tried = Tried {
                target: target.clone(),
                attack: Attack::ClosedToPeers,
                from: from.to_string(),
                what: format!("connect to {to}"),
            };
            let ended = reach.as_ref().ok().map(|r| r.digest());
            Attempt::new(tried, closed_verdict(reach), ended, field.witness(from))
        })
        .collect()
}

/// The node answered us a moment ago, so that silence is the firewall's.
pub(super) fn closed_verdict(reach: Result<Reach, String>) -> Verdict {
    match reach {
        Ok(Reach::Open) => Verdict::fail("closed", "the connection was accepted"),
        Ok(Reach::Refused) => Verdict::pass("refused"),
        Ok(Reach::TimedOut) => Verdict::pass("no answer"),
        Ok(Reach::Unreachable) => Verdict::unknown("no route to the address"),
        Ok(Reach::Other) => Verdict::unknown("the result of the attempt is unknown"),
        Err(why) => Verdict::unknown(why),
    }
}

/// Where no node has to be kept out, and where a daemon does not run yet, there is nothing to try.
pub(super) fn nobody_kept_out(field: &Field<'_>, made: &[Attempt]) -> Vec<Attempt> {
    let mut added = Vec::new();
    for (target, seen) in field.nodes() {
        let mut add = |attack, verdict| {
            let tried = Tried {
                target: target.name.clone(),
                attack,
                from: "operator".to_owned(),
                what: crate::checks::attempt_words(attack).to_owned(),
            };
            added.push(Attempt::new(tried, verdict, None, Witness::default()));
        };
        // Where it should run, that it does not is no reason to leave anything out.
        let down = |daemon: Daemon| {
            let program = daemon.program();
            if seen.kubernetes_is_set_up() {
                Verdict::unknown(format!("{program} does not run, though Kubernetes is set up"))
            } else {
                Verdict::needs_kubernetes(format!("{program} does not run on this node yet"))
            }
        };
        let others = field.inventory.nodes.iter().filter(|n| n.name != target.name);
        let kept_out = others
            .filter(|n| !closed_ports(field.inventory, target, n, field.ports).is_empty())
            .count();
        let tried = made
            .iter()
            .map(Attempt::tried)
            .any(|a| a.target == target.name && a.attack == Attack::ClosedToPeers);
        if kept_out == 0 && !tried {
            let why = "every other node may connect";
            add(Attack::ClosedToPeers, Verdict::not_applicable(why));
        }
        // A worker has none, and no control of one either.
        if !seen.runs(Daemon::Apiserver) && target.has_role(Role::ControlPlane) {
            for attack in [
                Attack::ApiserverAnonymous,
                Attack::ApiserverPlainHttp,
                Attack::ApiserverOldTls,
                Attack::ApiserverWeakCiphers,
            ]
            .into_iter()
            .chain(api::all())
            {
                add(attack, down(Daemon::Apiserver));
            }
        }
        if !seen.runs(Daemon::Kubelet) {
            for attack in
                [Attack::KubeletAnonymous, Attack::KubeletWeakCiphers, Attack::KubeletWithoutRights]
            {
                add(attack, down(Daemon::Kubelet));
            }
            // A dedicated etcd member forwards nothing to pods.
            if target.has_role(Role::ControlPlane) || target.has_role(Role::Worker) {
                add(Attack::ForwardedToStranger, down(Daemon::Kubelet));
            }
        }
    }
    added
}
