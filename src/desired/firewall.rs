//! The host firewall by role: which connections a node lets in.

use super::shared::Class;
use super::shared::Table;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::collector::{self, Collector, Unit};
use super::context::Context;
use super::error::ResolveError;
use super::model::{Access, Content, FileCheck, ItemKind};
use super::platform::Platform;
use super::shared::Shared;
use crate::controls::{METADATA_SERVICES, MetadataService};
use crate::facts::NodeFacts;
use crate::facts::observation::Flow;
use crate::inventory::{
    Cni, Files, FirewallMode, FirewallProtocol, FirewallRule, Inventory, IpNetText, Node, Role,
};
use crate::pki::kubeconfig::API_PORT;
use crate::render::input::host::{
    AddressKind, AddressSet, Blocked, Firewall, Policy, Protocol, Rule, Source, SourceKind,
};
use crate::render::{Input, Text};

/// Rules file on the node; templates/host/firewall.sh names it too.
pub(super) const RULES: &str = "/etc/kubastion/firewall.nft";

/// etcd's client and peer ports (IANA).
pub(super) const ETCD_CLIENT: u16 = 2379;
/// See [`ETCD_CLIENT`].
pub(super) const ETCD_PEER: u16 = 2380;
const KUBELET: u16 = 10250;
/// Default of the API server's `--service-node-port-range`.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;
/// What the usual CNIs speak between nodes: Geneve, VXLAN (IANA's and Linux' port), WireGuard.
const CNI_UDP: &[u16] = &[4789, 6081, 8472, 51820, 51821];
/// BGP, Cilium's health check, Calico's Typha.
const CNI_TCP: &[u16] = &[179, 4240, 5473];

/// Loads the table when the node boots.
const UNIT: &str = "kubastion-firewall.service";

pub(super) fn items(context: &Context<'_>, collector: &mut Collector<'_>) {
    let mode = context.inventory.firewall_mode();
    let controls = controls(context);
    if mode == FirewallMode::Off {
        collector.push(&[], ItemKind::FirewallAbsent);
        let there = |f: &NodeFacts| f.units.get(UNIT).is_some_and(|u| u.load == "loaded");
        if context.facts().is_none_or(there) {
            collector.unit(&[], Unit { enabled: false, active: false, ..Unit::running(UNIT) });
        }
        return;
    }
    if !controls.iter().any(|c| context.on(c)) {
        return;
    }
    if mode == FirewallMode::LogOnly && context.facts().is_some() {
        let why = match context.inventory.observes() {
            true => "hardening.stage: observe",
            false => "firewall.mode: log-only",
        };
        collector.note(format!("the firewall only logs what it would drop (`{why}`)"));
    }
    if let Some(facts) = context.facts() {
        notes(context, facts, collector);
    }
    collector.directory(&[], super::places::CONFIGURATION, Access::root(0o700));
    let access = Access::root(collector::mode(Firewall::TEMPLATE));
    collector.content(&controls, RULES, access, FileCheck::Nft, |made| {
        Ok(Content::Text(table(context, made.facts)?.text.clone()))
    });
    collector.fixed(&controls, "/var/lib/kubastion/firewall.sh", "host/firewall.sh");
    let unit = "/etc/systemd/system/kubastion-firewall.service";
    collector.fixed(&controls, unit, "host/kubastion-firewall.service");
    collector.push(&controls, ItemKind::Firewall { path: RULES.to_owned() });
    collector.unit(&controls, Unit::running(UNIT));
}

/// Messages about other firewalls: they may drop what our rules accept, even if they were loaded later.
pub(crate) fn other_firewalls(facts: &NodeFacts) -> Vec<String> {
    const LET_IN: &str = "allow traffic to the node, its pods and etcd there too";
    let mut found = Vec::new();
    if !facts.nft.foreign_drops.is_empty() {
        let chains: Vec<String> = facts
            .nft
            .foreign_drops
            .iter()
            .map(|(hook, table)| format!("`{table}` {hook}"))
            .collect();
        found.push(format!(
            "another firewall drops by default ({}): {LET_IN}, or switch it off (`ufw disable`)",
            chains.join(", ")
        ));
    }
    if facts.nft.foreign_tables.iter().any(|t| t.ends_with(" firewalld")) {
        found.push(format!(
            "firewalld is active alongside kubastion's firewall: {LET_IN}, or switch it off (`systemctl disable --now firewalld`)"
        ));
    }
    found
}

/// Notes on other firewalls, and on ports and tunnels that the rules will close, unless these rules are loaded already.
fn notes(context: &Context<'_>, facts: &NodeFacts, collector: &mut Collector<'_>) {
    collector.notes.extend(other_firewalls(facts));
    // What cannot be rendered is an error of the file.
    let Ok(table) = table(context, facts) else { return };
    let rules = &table.rules;
    let is_loaded = match (&facts.nft.own_listing_sha256, &facts.nft.recorded) {
        (Some(listing), Some(r)) => {
            *listing == r.listing_sha256 && r.file_sha256 == table.text.sha256()
        }
        _ => false,
    };
    if is_loaded {
        return;
    }
    if rules.enforce {
        let closed = closed(rules, facts);
        if !closed.is_empty() {
            collector.note(format!(
                "the firewall will close {}, which has a listener: if clients need it, add a rule to `firewall.extra_rules` (run `ss -lntup` on the node to see the listeners)",
                closed.join(", "),
            ));
        }
        let tunnels = tunnels(facts);
        if !tunnels.is_empty() {
            collector.note(format!(
                "the node is a tunnel endpoint ({}): open the tunnel's ports to its peer in `firewall.extra_rules`; without a rule, a tunnel lasts only as long as its established connection",
                tunnels.join(", "),
            ));
        }
    }
}

/// Ports of daemons that the architecture closes to all, or opens to some.
const KNOWN: &[u16] =
    &[ETCD_CLIENT, ETCD_PEER, 2381, API_PORT, KUBELET, 10256, 10257, 10259, 10249];

/// Ports that something listens on beyond loopback, and that no rule opens to anybody.
fn closed(rules: &Firewall, facts: &NodeFacts) -> Vec<String> {
    let opened = |protocol: Protocol, port: u16| {
        rules.input.iter().any(|r| r.protocol == protocol && r.ports.contains(&port))
    };
    let found: BTreeSet<(u16, &str)> = facts
        .listeners
        .iter()
        .flatten()
        .filter(|l| !is_loopback(&l.address))
        .filter_map(|l| {
            let (protocol, name) = if l.protocol.starts_with("udp") {
                (Protocol::Udp, "udp")
            } else {
                (Protocol::Tcp, "tcp")
            };
            // DHCP.
            let client = protocol == Protocol::Udp && matches!(l.port, 68 | 546);
            let known =
                KNOWN.contains(&l.port) || (rules.kubernetes && NODE_PORTS.contains(&l.port));
            (!client && !known && !opened(protocol, l.port)).then_some((l.port, name))
        })
        .collect();
    found.into_iter().map(|(port, name)| format!("{port}/{name}")).collect()
}

fn is_loopback(address: &str) -> bool {
    // `127.0.0.53%lo` is an address of an interface.
    let plain = address.split('%').next().unwrap_or_default().trim_matches(['[', ']']);
    plain.parse::<IpAddr>().is_ok_and(|a| match a {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(v6.is_loopback(), |v4| v4.is_loopback()),
        IpAddr::V4(v4) => v4.is_loopback(),
    })
}

/// Name prefixes of tunnel interfaces.
const TUNNELS: &[&str] = &[
    "wg",
    "tun",
    "tap",
    "gre",
    "sit",
    "ipsec",
    "vti",
    "xfrm",
    "ppp",
    "l2tp",
    "tailscale",
    "zt",
    "nebula",
];

/// Interfaces with an address that are tunnels, by their names. A CNI makes its own, which its rules are for.
pub(crate) fn tunnels(facts: &NodeFacts) -> Vec<String> {
    let is_one = |name: &str| {
        TUNNELS.iter().any(|t| name.strip_prefix(t).is_some_and(|rest| !rest.starts_with("l0")))
    };
    let found: BTreeSet<&str> =
        facts.addresses.iter().map(|a| a.interface.as_str()).filter(|i| is_one(i)).collect();
    found.into_iter().map(str::to_owned).collect()
}

/// The reason, if SSH access runs through a tunnel that ends on the node and that the firewall would close. A new connection
/// inside the established tunnel would prove nothing.
pub(crate) fn tunnel_closed(
    inventory: &Inventory,
    node: &Node,
    facts: &NodeFacts,
) -> Option<String> {
    if inventory.firewall_mode() != FirewallMode::Enforce {
        return None;
    }
    let target = inventory.ssh.for_node(node);
    let tunnels = tunnels(facts);
    let own = |address: IpAddr| {
        facts
            .addresses
            .iter()
            .find(|a| a.network.addr() == address && tunnels.contains(&a.interface))
    };
    let ways = node.addresses.iter().copied().chain(target.host.as_str().parse().ok());
    let (address, tunnel) = ways.into_iter().find_map(|a| Some((a, &own(a)?.interface)))?;
    // One of these carries it. Those that are open to nodes alone are for a CNI.
    let carriers: BTreeSet<u16> = facts
        .listeners
        .iter()
        .flatten()
        .filter(|l| l.protocol.starts_with("udp") && !is_loopback(&l.address))
        .map(|l| l.port)
        .filter(|p| !matches!(p, 68 | 546))
        .collect();
    let is_named = |port: &u16| {
        inventory.firewall.extra_rules.iter().any(|r| {
            r.protocol == FirewallProtocol::Udp
                && r.ports.contains(port)
                && (r.roles.is_empty() || r.roles.iter().any(|role| node.has_role(*role)))
        })
    };
    let closed: Vec<String> =
        carriers.iter().filter(|p| !is_named(p)).map(|p| format!("{p}/udp")).collect();
    if !carriers.is_empty() && carriers.iter().any(is_named) {
        return None;
    }
    let what = if closed.is_empty() { "its port".to_owned() } else { closed.join(", ") };
    Some(format!("{address} is an address of tunnel {tunnel}, and the firewall would close {what}"))
}

fn controls(context: &Context<'_>) -> Vec<&'static str> {
    let mut controls = Vec::new();
    // A dedicated etcd member holds what a control plane holds.
    if context.is_control_plane() || context.is_member() {
        controls.extend(["etcd-listen-local", "host-firewall-control-plane"]);
    }
    if context.node.has_role(Role::Worker) {
        controls.push("host-firewall-worker");
    }
    if context.has_kubelet() {
        controls.extend(["host-metadata-api-block", "kube-proxy-healthz-firewalled"]);
    }
    controls.sort_unstable();
    controls
}

/// Address sets by name; both families of each.
#[derive(Default)]
struct Sets(Vec<AddressSet>);

impl Sets {
    /// Adds a set and returns the sources that name it; none for no addresses.
    fn add(&mut self, name: &str, networks: impl IntoIterator<Item = ipnet::IpNet>) -> Vec<Source> {
        let networks: BTreeSet<ipnet::IpNet> = networks.into_iter().map(|n| n.trunc()).collect();
        let mut sources = Vec::new();
        let families =
            [(AddressKind::Ipv4, SourceKind::Ip, "v4"), (AddressKind::Ipv6, SourceKind::Ip6, "v6")];
        for (kind, source, suffix) in families {
            let of_family = networks.iter().filter(|n| n.addr().is_ipv4() == (suffix == "v4"));
            let elements: Vec<Text> = of_family.map(element).collect();
            if !elements.is_empty() {
                let set = Text::of(format!("{name}_{suffix}"));
                let networks = networks
                    .iter()
                    .copied()
                    .filter(|n| n.addr().is_ipv4() == (suffix == "v4"))
                    .collect();
                self.0.push(AddressSet { name: set.clone(), kind, elements, networks });
                sources.push(Source { kind: source, set });
            }
        }
        sources
    }
}

/// As nftables lists it: an address without its length.
fn element(net: &ipnet::IpNet) -> Text {
    if net.prefix_len() == net.max_prefix_len() { Text::of(net.addr()) } else { Text::of(net) }
}

fn networks(networks: &[IpNetText]) -> Vec<ipnet::IpNet> {
    networks.iter().map(|n| n.0).collect()
}

fn addresses<'a>(nodes: impl Iterator<Item = &'a Node>) -> Vec<ipnet::IpNet> {
    nodes.flat_map(|n| n.addresses.iter().copied().map(ipnet::IpNet::from)).collect()
}

/// A rule for each source.
fn rules(from: &[Source], protocol: Protocol, ports: &[u16], comment: &str) -> Vec<Rule> {
    let rule = |from: &Source| Rule {
        from: from.clone(),
        protocol,
        ports: ports.to_vec(),
        comment: Text::of(comment),
    };
    from.iter().map(rule).collect()
}

/// The SHA-256 of the rules file that the inventory makes for a node, by what the node says of its sshd; `None` if it
/// cannot be worked out. No keys are needed for it.
pub fn firewall_sha256(
    inventory: &Inventory,
    files: &Files,
    node: &Node,
    facts: &NodeFacts,
    shared: &Shared,
) -> Option<String> {
    let platform = Platform::of(facts).ok()?;
    let context = Context { inventory, files, node, platform, shared, source: None };
    Some(table(&context, facts).ok()?.text.sha256().to_owned())
}

/// How a connection from outside of a node gets on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Door {
    /// It ends at a process of the host.
    Host,
    /// It was sent to a port of the node or to another address, and goes on to a pod.
    Pod,
}

/// Who may connect to a node, by the rules that the inventory makes for it.
pub struct Doors {
    table: Arc<Table>,
    has_service_clients: bool,
}

/// Sets of the table, by what their names begin with, and who is in them.
const WHO: &[(&str, &str)] = &[
    ("admins", "firewall.admin_networks"),
    ("control_planes", "control planes"),
    ("etcd_members", "etcd members"),
    ("nodes", "nodes"),
    ("pods", "pods"),
];

/// Who is let in where a rule names no source.
pub const ANYBODY: &str = "everyone";

impl Doors {
    /// Those of a node; `None` where no table is loaded, or one that drops nothing.
    ///
    /// # Errors
    /// Why nobody can tell.
    pub fn of(
        inventory: &Inventory,
        files: &Files,
        node: &Node,
        facts: &NodeFacts,
        shared: &Shared,
    ) -> Result<Option<Self>, String> {
        let platform = Platform::of(facts).map_err(|e| e.to_string())?;
        let context = Context { inventory, files, node, platform, shared, source: None };
        let is_loaded = inventory.firewall_mode() == FirewallMode::Enforce
            && controls(&context).iter().any(|c| context.on(c));
        match is_loaded {
            true => {
                let table = table(&context, facts).map_err(|e| e.to_string())?;
                let has_service_clients = !inventory.firewall.service_clients.is_empty();
                Ok(Some(Self { table, has_service_clients }))
            }
            false => Ok(None),
        }
    }

    /// Who may connect to a port; nobody if nobody is named. Protocols but TCP and UDP have no rules.
    pub fn open_to(
        &self,
        door: Door,
        protocol: Option<FirewallProtocol>,
        port: u16,
    ) -> BTreeSet<&'static str> {
        let rules = &self.table.rules;
        let is_it = |r: &&Rule| {
            let own = match protocol {
                Some(FirewallProtocol::Tcp) => Protocol::Tcp,
                Some(FirewallProtocol::Udp) => Protocol::Udp,
                None => return false,
            };
            r.protocol == own && r.ports.contains(&port)
        };
        let of = |rules: &[Rule]| -> BTreeSet<&'static str> {
            rules.iter().filter(is_it).map(|r| who(&r.from)).collect()
        };
        let mut open = match door {
            Door::Host => of(&rules.input),
            Door::Pod => of(&rules.forwarded),
        };
        if door == Door::Pod {
            // Those of the set `inside`.
            open.extend(["nodes", "pods"]);
            open.extend(self.has_service_clients.then_some("firewall.service_clients"));
            if protocol.is_some() && NODE_PORTS.contains(&port) {
                open.extend(rules.nodeport_clients.iter().map(who));
            }
        }
        if open.contains(ANYBODY) { [ANYBODY].into() } else { open }
    }

    /// Whether a connection that was recorded while the rules only logged gets in by these. Of one that was sent to a port of the
    /// node and went on to a pod, only the pod's port was recorded: a rule for its port is not found then.
    pub fn let_in(&self, flow: &Flow, facts: &NodeFacts) -> bool {
        let rules = &self.table.rules;
        let matches = |rule: &&Rule| {
            is_protocol(rule.protocol, &flow.protocol)
                && (rule.ports.is_empty() || flow.port.is_some_and(|p| rule.ports.contains(&p)))
        };
        let from = |source: &Source| self.has(source, flow.from);
        let by = |rules: &[Rule]| rules.iter().filter(matches).any(|r| from(&r.from));
        match flow.to {
            Some(to) if rules.metadata.iter().any(|m| m.to == Text::of(to)) => false,
            Some(_) => rules.inside.iter().any(from),
            None => {
                // A program of the host may listen at a port of that range, too.
                let leads_to_pods = flow.port.is_some_and(|port| {
                    let mut listeners = facts.listeners.iter().flatten();
                    NODE_PORTS.contains(&port) && !listeners.any(|l| l.port == port)
                });
                by(&rules.input)
                    || (leads_to_pods
                        && (by(&rules.nodeports) || rules.nodeport_sources.iter().any(from)))
            }
        }
    }

    /// Whether an address is in the set of a source.
    fn has(&self, source: &Source, address: IpAddr) -> bool {
        if source.kind == SourceKind::Any {
            return true;
        }
        let sets = self.table.rules.sets.iter().filter(|s| s.name == source.set);
        sets.flat_map(|s| &s.networks).any(|net| net.contains(&address))
    }

    /// Ports that something listens on beyond loopback, and that no rule opens to anybody.
    pub fn closes(&self, facts: &NodeFacts) -> Vec<String> {
        closed(&self.table.rules, facts)
    }
}

/// Whether a protocol of a rule is the one that nft calls so.
fn is_protocol(protocol: Protocol, called: &str) -> bool {
    match protocol {
        Protocol::Tcp => called == "tcp",
        Protocol::Udp => called == "udp",
        Protocol::IpIp => ["ipencap", "ipip", "4"].contains(&called),
        Protocol::Vrrp => ["vrrp", "112"].contains(&called),
    }
}

/// Who is in the set that a rule names.
fn who(from: &Source) -> &'static str {
    if from.kind == SourceKind::Any {
        return ANYBODY;
    }
    let is_set =
        |name: &str| ["v4", "v6"].iter().any(|f| from.set == Text::of(format!("{name}_{f}")));
    WHO.iter().find(|(name, _)| is_set(name)).map_or("firewall.extra_rules", |(_, who)| who)
}

fn table(context: &Context<'_>, facts: &NodeFacts) -> Result<Arc<Table>, ResolveError> {
    let roles = [Role::ControlPlane, Role::Worker, Role::Etcd];
    let class = Class {
        roles: roles.into_iter().filter(|r| context.node.has_role(*r)).collect(),
        is_member: context.is_member(),
        ssh_ports: ssh_ports(context, facts),
    };
    let ports = class.ssh_ports.clone();
    context.shared.table(class, || {
        let rules = rules_of(context, &ports);
        let text = context.shared.rendered(RULES, &rules)?;
        Ok(Table { rules, text })
    })
}

fn rules_of(context: &Context<'_>, ssh_ports: &[u16]) -> Firewall {
    let inventory = context.inventory;
    let firewall = &inventory.firewall;
    let enforce = inventory.firewall_mode() == FirewallMode::Enforce;
    let (control_plane, kubelet, member) =
        (context.is_control_plane(), context.has_kubelet(), context.is_member());

    let mut sets = Sets::default();
    let any = vec![Source::any()];
    let everyone = firewall.admin_networks.is_empty();
    let admins =
        if everyone { any.clone() } else { sets.add("admins", networks(&firewall.admin_networks)) };
    let nodes = sets.add("nodes", addresses(inventory.nodes.iter()));
    let planes = sets.add("control_planes", addresses(inventory.with_role(Role::ControlPlane)));
    let members = if member {
        sets.add("etcd_members", addresses(inventory.etcd_members()))
    } else {
        Vec::new()
    };
    let pods = if kubelet {
        sets.add("pods", networks(&inventory.cluster.pod_networks))
    } else {
        Vec::new()
    };

    let mut input = rules(&admins, Protocol::Tcp, ssh_ports, "SSH");
    if control_plane {
        let endpoint = inventory.cluster.virtual_address();
        let api: Vec<u16> = std::iter::once(API_PORT).chain(endpoint.map(|e| e.port)).collect();
        input.extend(rules(&admins, Protocol::Tcp, &api, "API server, administrators"));
        if !everyone {
            input.extend(rules(&nodes, Protocol::Tcp, &api, "API server, nodes"));
            // A Service's packets keep the pod's address on their way to an API server.
            input.extend(rules(&pods, Protocol::Tcp, &api, "API server, pods"));
        }
        if endpoint.is_some() {
            input.extend(rules(&planes, Protocol::Vrrp, &[], "VRRP, control planes"));
        }
    }
    if member {
        input.extend(rules(&planes, Protocol::Tcp, &[ETCD_CLIENT], "etcd, control planes"));
        input.extend(rules(&members, Protocol::Tcp, &[ETCD_CLIENT, ETCD_PEER], "etcd, members"));
    }
    if kubelet {
        input.extend(rules(&planes, Protocol::Tcp, &[KUBELET], "kubelet, API servers"));
        input.extend(rules(&pods, Protocol::Tcp, &[KUBELET], "kubelet, metrics from pods"));
        if inventory.runtime.cni == Cni::None {
            input.extend(rules(&nodes, Protocol::Tcp, CNI_TCP, "CNI between nodes"));
            input.extend(rules(&nodes, Protocol::Udp, CNI_UDP, "CNI between nodes"));
            input.extend(rules(&nodes, Protocol::IpIp, &[], "CNI between nodes"));
        }
    }
    let (mut nodeports, mut forwarded) = (Vec::new(), Vec::new());
    for (n, extra) in firewall.extra_rules.iter().enumerate() {
        if !extra.roles.is_empty() && !extra.roles.iter().any(|r| context.node.has_role(*r)) {
            continue;
        }
        let from = if extra.from.is_empty() {
            any.clone()
        } else {
            sets.add(&format!("extra_{}", n + 1), networks(&extra.from))
        };
        let (node_ports, ports): (Vec<u16>, Vec<u16>) =
            sorted(extra).into_iter().partition(|p| kubelet && NODE_PORTS.contains(p));
        let protocol = match extra.protocol {
            FirewallProtocol::Tcp => Protocol::Tcp,
            FirewallProtocol::Udp => Protocol::Udp,
        };
        if !ports.is_empty() {
            input.extend(rules(&from, protocol, &ports, &extra.name));
        }
        if kubelet {
            // Behind a port of the node, or the same port of a load balancer's address, there may be a pod.
            forwarded.extend(rules(&from, protocol, &sorted(extra), &extra.name));
        }
        if !node_ports.is_empty() {
            // A service of the host may listen there, too.
            input.extend(rules(&from, protocol, &node_ports, &extra.name));
            nodeports.extend(rules(&from, protocol, &node_ports, &extra.name));
        }
    }
    let nodeport_clients = if kubelet { admins.clone() } else { Vec::new() };
    let nodeport_sources = if !kubelet {
        Vec::new()
    } else if everyone {
        any
    } else {
        [&admins[..], &nodes, &pods].concat()
    };
    let metadata = if context.on("host-metadata-api-block") { blocked(&pods) } else { Vec::new() };
    let (mut inside, mut cluster, mut services) = (Vec::new(), Vec::new(), Vec::new());
    if kubelet {
        let pod_networks = networks(&inventory.cluster.pod_networks);
        let clients = networks(&firewall.service_clients);
        let all = [addresses(inventory.nodes.iter()), pod_networks.clone(), clients].concat();
        inside = sets.add("inside", all);
        let service_networks = networks(&inventory.cluster.service_networks);
        services = sets.add("services", service_networks.clone());
        cluster = sets.add("cluster", [pod_networks, service_networks].concat());
    }
    Firewall {
        enforce,
        policy: if enforce { Policy::Drop } else { Policy::Accept },
        sets: sets.0,
        input,
        kubernetes: kubelet,
        nodeports,
        nodeport_sources,
        nodeport_clients,
        inside,
        cluster,
        pods,
        services,
        forwarded,
        metadata,
    }
}

fn blocked(pods: &[Source]) -> Vec<Blocked> {
    let of = |p: &Source, m: &MetadataService| (p.kind == SourceKind::Ip) == m.address().is_ipv4();
    let pairs = pods.iter().flat_map(|p| METADATA_SERVICES.iter().map(move |m| (p, m)));
    pairs
        .filter(|(p, m)| of(p, m))
        .map(|(p, m)| Blocked { from: p.clone(), to: Text::of(m.address()), names: m.names })
        .collect()
}

fn sorted(rule: &FirewallRule) -> Vec<u16> {
    rule.ports.iter().copied().collect::<BTreeSet<_>>().into_iter().collect()
}

/// The port that the inventory connects to, and those that sshd says it listens on: behind a port
/// forwarding these differ.
fn ssh_ports(context: &Context<'_>, facts: &NodeFacts) -> Vec<u16> {
    let mut ports = BTreeSet::from([context.inventory.ssh.for_node(context.node).port]);
    let effective = facts.sshd.get("port").into_iter().flatten();
    ports.extend(effective.filter_map(|p| p.parse::<u16>().ok()));
    ports.into_iter().collect()
}

/// An address as it stands in a URL.
pub(super) fn in_url(address: IpAddr) -> String {
    match address {
        IpAddr::V4(a) => a.to_string(),
        IpAddr::V6(a) => format!("[{a}]"),
    }
}
