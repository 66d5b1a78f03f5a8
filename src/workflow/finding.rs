//! Finds an existing cluster: from the machines on the command line to all of its nodes. Writes nothing anywhere.
//!
//! First the named machines: their host keys and facts. Then the nodes that the API lists: their host keys and facts.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::first_contact::{UnknownHost, unknown_hosts};
use super::observe::{self, Fleet, Reach, Watch};
use crate::api::Client;
use crate::apply::execution::Sessions;
use crate::discovery::{self, Found, FoundNode, HostKey, Kubeconfig, SshAccess, Target};
use crate::error::{Problem, chain};
use crate::facts::cluster::{ClusterFacts, ObjectKind};
use crate::facts::{Held, NodeFacts, read_credentials};
use crate::inventory::{Endpoint, Files, Inventory, Node, NodeName, Profile, Role};
use crate::transport::ssh::SshDialer;
use crate::transport::tls::ClientIdentity;
use crate::workflow::command_error::{CommandError, Exit};

/// Which cluster to find, and how.
pub struct Search {
    /// Machines of the cluster, a control plane first; at least one.
    pub targets: Vec<Target>,
    /// How to log in to them and to the other nodes.
    pub access: SshAccess,
    /// What to read from nodes.
    pub watch: Watch,
}

/// A cluster that was found, with open connections to its machines.
pub struct FoundCluster {
    /// The cluster as it is.
    pub found: Found,
    /// How to log in to machines, with the host keys that were confirmed.
    pub access: SshAccess,
    /// The machines from the command line, by their node names.
    pub named: BTreeMap<NodeName, Target>,
    /// What the API holds.
    pub objects: ClusterFacts,
    /// Facts of the nodes that answered.
    pub facts: BTreeMap<NodeName, NodeFacts>,
    /// Their host keys.
    pub host_keys: BTreeMap<NodeName, String>,
    /// Nodes that did not answer, and why.
    pub unreachable: BTreeMap<NodeName, Problem>,
    /// The connections.
    pub sessions: Sessions,
    /// Makes others.
    pub dialer: SshDialer,
}

/// Asks the operator to confirm host keys.
pub type Confirm<'c> = &'c mut dyn FnMut(&[UnknownHost]) -> Result<(), CommandError>;

/// Kubeconfigs of administrators: kubeadm's, and those of distributions that are recognized.
pub(super) const ADMIN: &[&str] = &[
    "/etc/kubernetes/admin.conf",
    "/etc/rancher/rke2/rke2.yaml",
    "/etc/rancher/k3s/k3s.yaml",
    "/var/lib/k0s/pki/admin.conf",
];
/// That of a kubelet, and the file that it names: before 1.34 (`AuthorizeNodeWithSelectors`) it may list Nodes.
const KUBELET: &[&str] =
    &["/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/pki/kubelet-client-current.pem"];
/// Finds a cluster and all of its nodes. `say` gets progress messages.
///
/// # Errors
/// A named machine that does not answer or presents another host key, a host key that is not confirmed, or a machine of another
/// cluster. A discovered node that does not answer is no error: it is in [`FoundCluster::unreachable`].
pub fn find(
    search: Search,
    reach: &Reach,
    confirm: Confirm<'_>,
    say: &dyn Fn(&str),
) -> Result<FoundCluster, CommandError> {
    let Search { targets, mut access, watch } = search;
    // Nodes that were not named get the login of the first named machine.
    access.user = access.user.or_else(|| targets[0].user.clone());
    access.port = access.port.or(targets[0].port);
    meet_named(&mut access, &targets, confirm)?;

    let start = discovery::of_targets(&access, &targets);
    let all: Vec<&Node> = start.nodes.iter().collect();
    let dialer = observe::dialer(&start, &all, reach)?;
    let mut first = read_machines(&start, &all, &dialer, watch);
    if !first.facts.failed.is_empty() {
        let problems = first.facts.failed.into_values().map(by_options).collect();
        return Err(CommandError { exit: Exit::NodeFailed, problems });
    }
    say("asking the API for the cluster's nodes");
    let (objects, asked_at) = ask_api(&start, &mut first);
    let named = pair_up(&objects, &start, &targets, &first)?;
    let Named { nodes, by, mut notes, mut facts } = named;

    let found = discovery::describe(&objects, nodes.clone(), Vec::new(), &facts, &asked_at);
    let others: Vec<FoundNode> = nodes
        .iter()
        .filter(|n| !by.contains_key(&n.name))
        .filter(|n| reach.nodes.is_empty() || reach.nodes.contains(&n.name))
        .cloned()
        .collect();
    for problem in meet_found(&mut access, &others, confirm)? {
        say(&by_options(problem).to_string());
    }
    let inventory = discovery::inventory(&found, &access, &by, Profile::default());
    let rest: Vec<&Node> =
        inventory.nodes.iter().filter(|n| others.iter().any(|o| o.name == n.name)).collect();
    let mut second = read_machines(&inventory, &rest, &dialer, watch);
    let answered = std::mem::take(&mut second.facts.answered);
    let keys = first.facts.answered.iter();
    let mut host_keys: BTreeMap<NodeName, String> = keys
        .filter_map(|(provisional, a)| {
            Some((called(provisional, &start, &targets, &by)?, a.host_key.clone()))
        })
        .collect();
    host_keys.extend(answered.iter().map(|(name, a)| (name.clone(), a.host_key.clone())));
    facts.extend(answered.into_iter().map(|(name, a)| (name, a.facts)));
    let found = discovery::describe(&objects, nodes, std::mem::take(&mut notes), &facts, &asked_at);

    // The connections of the machines that were named, by the names that they turned out to have.
    let mut sessions = second.sessions;
    for provisional in &start.nodes {
        let node = called(&provisional.name, &start, &targets, &by);
        let session = first.sessions.remove(&provisional.name);
        sessions.extend(node.zip(session));
    }
    let unreachable = second.facts.failed.into_iter().map(|(n, p)| (n, by_options(p))).collect();
    Ok(FoundCluster {
        found,
        access,
        named: by,
        objects,
        facts,
        host_keys,
        unreachable,
        sessions,
        dialer,
    })
}

/// The node name of a machine.
fn called(
    provisional: &NodeName,
    start: &Inventory,
    targets: &[Target],
    by: &BTreeMap<NodeName, Target>,
) -> Option<NodeName> {
    let at = start.nodes.iter().position(|n| n.name == *provisional)?;
    by.iter().find(|(_, named)| **named == targets[at]).map(|(name, _)| name.clone())
}

/// Jump hosts one after another, since each is reached through the previous ones; then the named machines.
fn meet_named(
    access: &mut SshAccess,
    targets: &[Target],
    confirm: Confirm<'_>,
) -> Result<(), CommandError> {
    for n in 0..access.jump.len() {
        let jump = access.on_the_way().nth(n).map(|target| (None, target));
        refused(meet(access, jump.into_iter().collect(), confirm)?)?;
    }
    let all = targets.iter().map(|t| (None, access.to(t))).collect();
    refused(meet(access, all, confirm)?)
}

fn refused(problems: Vec<Problem>) -> Result<(), CommandError> {
    match problems.is_empty() {
        true => Ok(()),
        false => {
            let problems = problems.into_iter().map(by_options).collect();
            Err(CommandError { exit: Exit::NodeFailed, problems })
        }
    }
}

/// Other verbs have an inventory: their hints name its keys, which are options here.
const OPTIONS: &[(&str, &str)] = &[
    ("check `ssh.user` and `ssh.key_file`", "check the user in ssh://USER@HOST and --identity"),
    (", with `ssh.agent: true`", ", without --identity"),
    (
        "check `ssh.sudo` (none, passwordless, password)",
        "check --sudo (none, passwordless, password)",
    ),
    ("that `ssh.port` is right", "that the port in ssh://HOST:PORT is right"),
    (
        "check `ssh.key_file` and `ssh.known_hosts`; relative paths start at the inventory",
        "check --identity and --known-hosts",
    ),
    (
        " with `kubastion trust`, then add the fingerprint to the inventory",
        ", then pass it with --host-key",
    ),
    (", the inventory names ", ", --host-key names "),
    (
        ", but the inventory has neither `host_keys` nor `known_hosts` for it",
        ", which was not confirmed",
    ),
];

/// A problem that names options instead of inventory keys.
pub(super) fn by_options(mut problem: Problem) -> Problem {
    for text in problem.why.iter_mut().chain(&mut problem.hint) {
        for (key, option) in OPTIONS {
            *text = text.replace(key, option);
        }
    }
    problem
}

/// Confirms the host keys of the nodes that the API lists. A problem with one of them does not exclude the others.
fn meet_found(
    access: &mut SshAccess,
    nodes: &[FoundNode],
    confirm: Confirm<'_>,
) -> Result<Vec<Problem>, CommandError> {
    let target = |n: &FoundNode| Target {
        user: None,
        host: n.addresses[0].to_string().parse().expect("an IP address is a host"),
        port: None,
    };
    let all = nodes.iter().map(|n| (Some(n.name.clone()), access.to(&target(n)))).collect();
    meet(access, all, confirm)
}

fn meet(
    access: &mut SshAccess,
    machines: Vec<(Option<NodeName>, crate::inventory::SshTarget)>,
    confirm: Confirm<'_>,
) -> Result<Vec<Problem>, CommandError> {
    let (unknown_hosts, problems) = unknown_hosts(machines);
    if !unknown_hosts.is_empty() {
        confirm(&unknown_hosts)?;
    }
    for unknown_host in unknown_hosts {
        for key in unknown_host.keys {
            let fingerprint =
                key.fingerprint.parse().expect("a fingerprint is made as it is written");
            access.accept(HostKey { host: unknown_host.host.clone(), fingerprint });
        }
    }
    Ok(problems)
}

fn read_machines(
    inventory: &Inventory,
    nodes: &[&Node],
    dialer: &SshDialer,
    watch: Watch,
) -> Fleet {
    observe::read_nodes_for(inventory, &Files::default(), nodes, dialer, watch, usize::MAX)
}

/// Reads the cluster's API through the first machine that has a usable kubeconfig. Also returns the endpoint that answered. If
/// the API cannot be read, the facts say why.
fn ask_api(start: &Inventory, fleet: &mut Fleet) -> (ClusterFacts, Endpoint) {
    const KINDS: &[ObjectKind] = &[ObjectKind::Nodes, ObjectKind::ConfigMaps, ObjectKind::Pods];
    let mut why = "none of the named machines has a usable kubeconfig".to_owned();
    for paths in [ADMIN, KUBELET] {
        for node in &start.nodes {
            let Some(session) = fleet.sessions.get_mut(&node.name) else { continue };
            let held = match read_credentials(session.as_mut(), paths) {
                Ok(held) => held,
                Err(e) => {
                    why = chain(&e);
                    continue;
                }
            };
            let Some(config) = kubeconfig(&held, paths) else { continue };
            let identity = ClientIdentity {
                certificate_pem: &config.certificate_pem,
                key_pem: &config.key_pem,
            };
            let mut client = Client {
                through: session.as_mut(),
                host: config.host.clone(),
                port: config.port,
                ca_pem: Some(&config.ca_pem),
                identity: Some(identity),
            };
            let facts = client.facts(KINDS);
            if let Some(said) = facts.unread.get(&ObjectKind::Nodes) {
                why = said.clone();
                continue;
            }
            if let Ok(host) = config.host.parse() {
                return (facts, Endpoint { host, port: config.port });
            }
        }
    }
    let mut facts = ClusterFacts::default();
    facts.unread.extend(KINDS.iter().map(|k| (*k, why.clone())));
    let host = start.nodes[0].ssh.host.clone().expect("a named machine has its host");
    (facts, Endpoint { host, port: crate::pki::kubeconfig::API_PORT })
}

/// The first usable kubeconfig among some files.
pub(super) fn kubeconfig(held: &Held, paths: &[&str]) -> Option<Kubeconfig> {
    let file = |path: &str| held.file(path).cloned();
    paths.iter().find_map(|p| Kubeconfig::parse(held.file(p)?, &file).ok())
}

/// The nodes of a cluster, and which of them were named.
struct Named {
    nodes: Vec<FoundNode>,
    by: BTreeMap<NodeName, Target>,
    notes: Vec<String>,
    facts: BTreeMap<NodeName, NodeFacts>,
}

/// Matches the named machines with the nodes.
fn pair_up(
    objects: &ClusterFacts,
    start: &Inventory,
    targets: &[Target],
    fleet: &Fleet,
) -> Result<Named, CommandError> {
    let (mut nodes, mut notes) = match discovery::nodes::found(objects) {
        Ok(found) => found,
        Err(why) => (
            Vec::new(),
            vec![format!(
                "the cluster's API cannot be read ({why}): assessing only the named machines"
            )],
        ),
    };
    let is_known = !nodes.is_empty();
    let (mut by, mut facts) = (BTreeMap::new(), BTreeMap::new());
    let mut problems = Vec::new();
    for (provisional, target) in start.nodes.iter().zip(targets) {
        let Some(answered) = fleet.facts.answered.get(&provisional.name) else { continue };
        let seen = &answered.facts;
        let name = match nodes.iter().find(|n| discovery::cluster::is_node(seen, n)) {
            Some(node) => node.name.clone(),
            None => {
                let address: Option<IpAddr> = target.host.as_str().parse().ok();
                match discovery::cluster::beside(seen, address) {
                    Some(other) if is_known && other.role != Role::Etcd => {
                        problems.push(
                            Problem::new("the machine is not a node of the cluster")
                                .at(target.host.to_string())
                                .because("no Node in the API has one of its addresses")
                                .left("nothing was changed")
                                .hint("name machines of one cluster at a time"),
                        );
                        continue;
                    }
                    Some(other) => {
                        let name = other.name.clone();
                        nodes.push(other);
                        name
                    }
                    None => {
                        notes.push(format!(
                            "{} runs neither a kubelet nor etcd: skipped",
                            target.host
                        ));
                        continue;
                    }
                }
            }
        };
        facts.insert(name.clone(), seen.clone());
        by.insert(name, target.clone());
    }
    if !problems.is_empty() {
        return Err(CommandError { exit: Exit::InvalidInput, problems });
    }
    if nodes.is_empty() {
        let hint = "name a control plane of the cluster: `kubastion assess ssh://USER@HOST`";
        let problem = Problem::new("none of the named machines belongs to a cluster")
            .because(notes.join("; "))
            .left("nothing was changed")
            .hint(hint);
        return Err(CommandError::one(Exit::InvalidInput, problem));
    }
    Ok(Named { nodes, by, notes, facts })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::facts::{InterfaceAddress, ProcessFacts};
    use crate::plan::Answered;

    fn objects() -> ClusterFacts {
        let node = |name: &str, address: &str, label: &str| {
            json!({"metadata": {"name": name, "labels": {label: ""}},
                "status": {"addresses": [{"type": "InternalIP", "address": address}]}})
        };
        let mut facts = ClusterFacts::default();
        facts.objects.insert(
            ObjectKind::Nodes,
            vec![
                node("cp1", "192.0.2.11", "node-role.kubernetes.io/control-plane"),
                node("w1", "192.0.2.21", "x"),
            ],
        );
        facts
    }

    /// Machines that were named, each with the address that it has and what runs there.
    fn named(machines: &[(&str, &str, &str)]) -> (Inventory, Vec<Target>, Fleet) {
        let targets: Vec<Target> = machines.iter().map(|(url, ..)| url.parse().unwrap()).collect();
        let start = discovery::of_targets(&SshAccess::default(), &targets);
        let mut fleet = Fleet::default();
        for (node, (_, address, program)) in start.nodes.iter().zip(machines) {
            let mut facts = NodeFacts::bare("m");
            facts.hostname = format!("host-{}", node.name);
            let network = format!("{address}/24").parse().unwrap();
            facts.addresses = vec![InterfaceAddress { interface: "eth0".into(), network }];
            let process =
                ProcessFacts { pid: 1, user: "root".into(), argv: vec![(*program).to_owned()] };
            facts.processes.insert((*program).to_owned(), vec![process]);
            fleet.facts.insert(node.name.clone(), Answered { host_key: "SHA256:x".into(), facts });
        }
        (start, targets, fleet)
    }

    fn paired(
        objects: &ClusterFacts,
        machines: &[(&str, &str, &str)],
    ) -> Result<Named, CommandError> {
        let (start, targets, fleet) = named(machines);
        pair_up(objects, &start, &targets, &fleet)
    }

    #[test]
    fn machines_that_are_named_are_nodes_by_their_own_addresses() {
        let all = [
            ("ssh://bastion.example:2222", "192.0.2.21", "kubelet"),
            ("ssh://192.0.2.31", "192.0.2.31", "etcd"),
            ("ssh://192.0.2.41", "192.0.2.41", "nginx"),
        ];
        let found = paired(&objects(), &all).unwrap_or_else(|e| panic!("{:?}", e.problems));
        let names: Vec<String> =
            found.nodes.iter().map(|n| format!("{} {}", n.name, n.role)).collect();
        // A member of etcd is no Node; what runs nothing of a cluster is left out, and said.
        assert_eq!(names, ["cp1 control-plane", "w1 worker", "host-target-1 etcd"]);
        assert_eq!(found.by[&"w1".parse::<NodeName>().unwrap()].port, Some(2222));
        assert_eq!(found.notes.len(), 1);
        assert!(found.notes[0].starts_with("192.0.2.41 runs neither"), "{:?}", found.notes);
        assert_eq!(found.facts.len(), 2);
    }

    #[test]
    fn a_machine_of_another_cluster_is_refused() {
        let all = [
            ("ssh://192.0.2.11", "192.0.2.11", "kubelet"),
            ("ssh://198.51.100.1", "198.51.100.1", "kubelet"),
        ];
        let stop = paired(&objects(), &all).err().unwrap();
        assert_eq!(stop.exit, Exit::InvalidInput);
        assert!(stop.problems[0].to_string().contains("198.51.100.1"), "{:?}", stop.problems);
    }

    #[test]
    fn without_the_api_what_was_named_is_assessed_alone() {
        let mut unread = ClusterFacts::default();
        unread.unread.insert(ObjectKind::Nodes, "no way".into());
        let all = [("ssh://192.0.2.21", "192.0.2.21", "kubelet")];
        let found = paired(&unread, &all).unwrap_or_else(|e| panic!("{:?}", e.problems));
        assert_eq!((found.nodes.len(), found.nodes[0].role), (1, Role::Worker));
        assert!(found.notes[0].contains("no way"), "{:?}", found.notes);
        // And with nothing of a cluster, there is nothing to assess.
        let stop = paired(&unread, &[("ssh://192.0.2.41", "192.0.2.41", "nginx")]).err().unwrap();
        assert_eq!(stop.exit, Exit::InvalidInput);
    }

    /// There is no inventory whose keys somebody could check.
    #[test]
    fn problems_speak_of_options() {
        use crate::transport::TransportError;
        let (address, user) = ("192.0.2.1:22".to_owned(), "u".to_owned());
        let io = |kind: std::io::ErrorKind| std::io::Error::from(kind);
        let reason = |of: &str| format!("it presented SHA256:x, {of}");
        let all = [
            TransportError::Connect {
                address: address.clone(),
                source: io(std::io::ErrorKind::ConnectionRefused),
            },
            TransportError::HostKey {
                address: address.clone(),
                reason: reason("the inventory names SHA256:y"),
                source: None,
            },
            TransportError::HostKey {
                address: address.clone(),
                reason: reason(
                    "but the inventory has neither `host_keys` nor `known_hosts` for it",
                ),
                source: None,
            },
            TransportError::Login {
                address,
                user: user.clone(),
                tried: "key".into(),
                source: None,
            },
            TransportError::Root { user, reason: "no".into() },
            TransportError::LocalFile {
                path: "/x".into(),
                source: io(std::io::ErrorKind::NotFound),
            },
        ];
        for error in all {
            let mut problem = Problem::from_error("w", &error);
            problem.hint = error.hint();
            let said = by_options(problem).to_string();
            assert!(!said.contains("inventory") && !said.contains("`ssh."), "{said}");
        }
    }
}
