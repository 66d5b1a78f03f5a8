//! Rules about networks and the endpoint.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::diagnostic::Path;
use super::super::model::{Inventory, LoadBalancerMode, Role};
use super::super::names::IpNetText;
use super::review::{Review, section};

/// The lists of networks that pods and Services live in.
fn cluster_networks(inventory: &Inventory) -> [(&'static str, &[IpNetText]); 2] {
    let c = &inventory.cluster;
    [("pod_networks", &c.pod_networks), ("service_networks", &c.service_networks)]
}

fn is_v4(net: &IpNetText) -> bool {
    matches!(net.0, IpNet::V4(_))
}

fn family(v4: bool) -> &'static str {
    if v4 { "IPv4" } else { "IPv6" }
}

/// One network, or two of different families; Services in the families and order of the pods
/// (<https://kubernetes.io/docs/concepts/services-networking/dual-stack/>).
pub(super) fn network_families(inventory: &Inventory, review: &mut Review<'_>) {
    let mut countable = true;
    for (key, nets) in cluster_networks(inventory) {
        let path = section("cluster").then(key);
        let same_family = nets.len() == 2 && is_v4(&nets[0]) == is_v4(&nets[1]);
        if nets.is_empty() || nets.len() > 2 || same_family {
            countable = false;
            let found: Vec<String> = nets.iter().map(ToString::to_string).collect();
            review
                .error(&path, "wrong number of networks")
                .found(if found.is_empty() { "none".to_owned() } else { found.join(", ") })
                .allowed("one network, or one IPv4 and one IPv6 network");
        }
    }
    let families =
        |nets: &[IpNetText]| -> Vec<&str> { nets.iter().map(|n| family(is_v4(n))).collect() };
    let pods = families(&inventory.cluster.pod_networks);
    let services = families(&inventory.cluster.service_networks);
    if countable && pods != services {
        review
            .error(
                &section("cluster").then("service_networks"),
                "address families differ from those of `pod_networks`",
            )
            .found(services.join(", "))
            .allowed(pods.join(", "));
    }
}

/// The API server refuses Service networks of more than 2^20 addresses; the controller manager
/// cuts one /24 (IPv6: /64) for each node out of the pod network, of at most 2^16 of them.
pub(super) fn network_sizes(inventory: &Inventory, review: &mut Review<'_>) {
    for (key, nets) in cluster_networks(inventory) {
        for (i, net) in nets.iter().enumerate() {
            let (least, most) = match (key, is_v4(net)) {
                ("service_networks", true) => (12, 28),
                ("service_networks", false) => (108, 124),
                (_, true) => (8, 24),
                (_, false) => (48, 64),
            };
            let length = net.0.prefix_len();
            if !(least..=most).contains(&length) {
                review
                    .error(&section("cluster").then(key).then(i), "network of unusable size")
                    .found(net)
                    .allowed(format!("a prefix length from {least} to {most}"));
            }
        }
    }
}

/// Whether the pod network has a subnet for each node.
pub(super) fn room_for_nodes(inventory: &Inventory, review: &mut Review<'_>) {
    for (i, net) in inventory.cluster.pod_networks.iter().enumerate() {
        let per_node = if is_v4(net) { 24u8 } else { 64 };
        let bits = u32::from(per_node.saturating_sub(net.0.prefix_len()));
        let room = 1u64.checked_shl(bits).unwrap_or(u64::MAX);
        if (inventory.nodes.len() as u64) > room {
            review
                .warn(
                    &section("cluster").then("pod_networks").then(i),
                    format!(
                        "{net} holds {room} subnets of /{per_node}, one per node, for {} nodes",
                        inventory.nodes.len()
                    ),
                )
                .found(net);
        }
    }
}

/// Pod and Service networks may not share an address, also not between families' lists.
pub(super) fn network_overlaps(inventory: &Inventory, review: &mut Review<'_>) {
    // Four networks in a valid file. More are reported elsewhere, and need no pairwise look.
    let all: Vec<(Path, IpNet)> = cluster_networks(inventory)
        .into_iter()
        .flat_map(|(key, nets)| {
            let path = section("cluster").then(key);
            nets.iter().take(8).enumerate().map(move |(i, n)| (path.then(i), n.0))
        })
        .collect();
    for (i, (path, net)) in all.iter().enumerate() {
        for (other_path, other) in &all[..i] {
            if net.contains(&other.network()) || other.contains(&net.network()) {
                review
                    .error(path, format!("overlaps {other_path} ({other})"))
                    .found(net)
                    .allowed("networks without a common address");
            }
        }
    }
}

/// A node's address inside a pod or Service network would be unreachable.
pub(super) fn nodes_in_cluster_networks(inventory: &Inventory, review: &mut Review<'_>) {
    for (n, node) in inventory.nodes.iter().enumerate() {
        for (a, address) in node.addresses.iter().enumerate() {
            if let Some((key, net)) = network_of(inventory, *address) {
                review
                    .error(
                        &review.node(n).then("addresses").then(a),
                        format!("address lies in cluster.{key} ({net})"),
                    )
                    .found(address)
                    .allowed("an address outside the pod and Service networks");
            }
        }
    }
}

fn network_of(inventory: &Inventory, address: IpAddr) -> Option<(&'static str, IpNet)> {
    cluster_networks(inventory)
        .into_iter()
        .find_map(|(key, nets)| nets.iter().find(|n| n.0.contains(&address)).map(|n| (key, n.0)))
}

/// The endpoint must lead to an API server.
pub(super) fn endpoint(inventory: &Inventory, review: &mut Review<'_>) {
    let path = section("cluster").then("endpoint");
    let host = inventory.cluster.endpoint.host.as_str();
    let address = host.parse::<IpAddr>().ok();
    if let Some((key, net)) = address.and_then(|a| network_of(inventory, a)) {
        review
            .error(&path, format!("endpoint lies in cluster.{key} ({net})"))
            .found(&inventory.cluster.endpoint)
            .allowed("an address of a control-plane node or of a load balancer in front of them");
    }
    let owner = inventory.nodes.iter().find(|n| {
        n.name.as_str().eq_ignore_ascii_case(host)
            || address.is_some_and(|a| n.addresses.contains(&a))
    });
    let Some(owner) = owner else { return };
    if !owner.has_role(Role::ControlPlane) {
        review
            .error(&path, format!("endpoint is node {}, which runs no API server", owner.name))
            .found(&inventory.cluster.endpoint)
            .allowed("a control-plane node, or a load balancer in front of them");
    } else if inventory.cluster.load_balancer.mode != LoadBalancerMode::Managed
        && inventory.with_role(Role::ControlPlane).count() > 1
    {
        review.warn(
            &path,
            format!(
                "endpoint is node {} alone; if this node fails, the API is unreachable",
                owner.name
            ),
        );
    }
}

/// Ports of control planes that a managed endpoint on the same machines cannot have: etcd, the API
/// server, its parts and the kubelet with its kin, what keepalived asks haproxy, and node ports.
const TAKEN: &[std::ops::RangeInclusive<u16>] =
    &[2379..=2381, 6443..=6443, 8080..=8080, 10248..=10262, 30000..=32767];

/// A managed endpoint is an address that is free for it, beside the nodes' own.
pub(super) fn load_balancer(inventory: &Inventory, review: &mut Review<'_>) {
    let (cluster, path) = (&inventory.cluster, section("cluster"));
    let options = path.then("load_balancer");
    let id = cluster.load_balancer.virtual_router_id;
    let interface = cluster.load_balancer.interface.as_deref();
    if cluster.load_balancer.mode != LoadBalancerMode::Managed {
        let set = [("virtual_router_id", id.is_some()), ("interface", interface.is_some())];
        for (key, _) in set.iter().filter(|s| s.1) {
            review
                .error(&options.then(*key), "the setting would not be used")
                .allowed(format!("`{key}` only with `mode: managed`"));
        }
        return;
    }
    // IFNAMSIZ of Linux, with the byte that ends it, is 16.
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if let Some(name) = interface.filter(|n| !(1..=15).contains(&n.len()) || !n.chars().all(plain))
    {
        review
            .error(&options.then("interface"), "malformed interface name")
            .found(format!("{name:?}"))
            .allowed("15 letters, digits, `.`, `_` and `-` at most");
    }
    managed_endpoint(inventory, review, &path.then("endpoint"));
}

fn managed_endpoint(inventory: &Inventory, review: &mut Review<'_>, path: &Path) {
    let endpoint = &inventory.cluster.endpoint;
    let allowed = "a free address of the control planes' network, as in `10.0.0.10:8443`";
    let Ok(address) = endpoint.host.as_str().parse::<IpAddr>() else {
        review
            .error(
                path,
                "a managed endpoint must be an address, which moves between control planes",
            )
            .found(endpoint)
            .allowed(allowed);
        return;
    };
    if super::nodes::is_no_host(address) || address.is_loopback() {
        review.error(path, "not the address of a machine").found(endpoint).allowed(allowed);
    }
    let control_planes = || inventory.with_role(Role::ControlPlane);
    // Of another node's address the rule above says enough.
    if let Some(owner) = control_planes().find(|n| n.addresses.contains(&address)) {
        review
            .error(path, format!("a managed endpoint cannot be the address of node {}", owner.name))
            .found(endpoint)
            .allowed(allowed);
    }
    let v4 = address.is_ipv4();
    for node in control_planes().filter(|n| n.addresses.iter().all(|a| a.is_ipv4() != v4)) {
        review
            .error(path, format!("control plane {} has no {} address", node.name, family(v4)))
            .found(endpoint)
            .allowed("an address of a family that every control plane has");
    }
    let ssh = control_planes().any(|n| inventory.ssh.for_node(n).port == endpoint.port);
    if ssh || TAKEN.iter().any(|p| p.contains(&endpoint.port)) {
        review
            .error(path, format!("port {} is already used on control planes", endpoint.port))
            .found(endpoint)
            .allowed(
                "a free port for haproxy other than the API server's 6443, as in `10.0.0.10:8443`",
            );
    }
}

/// Host bits set in a network are a slip: either the address or the length is wrong.
pub(super) fn host_bits(inventory: &Inventory, review: &mut Review<'_>) {
    let mut all: Vec<(Path, &[IpNetText])> = cluster_networks(inventory)
        .into_iter()
        .map(|(key, nets)| (section("cluster").then(key), nets))
        .collect();
    let firewall = &inventory.firewall;
    all.push((section("firewall").then("admin_networks"), &firewall.admin_networks));
    let rules = section("firewall").then("extra_rules");
    for (i, rule) in firewall.extra_rules.iter().enumerate() {
        all.push((rules.then(i).then("from"), &rule.from));
    }
    for (path, nets) in all {
        for (i, net) in nets.iter().enumerate() {
            if net.0.trunc() != net.0 {
                review
                    .error(&path.then(i), "host bits are set in a network")
                    .found(net)
                    .allowed(net.0.trunc());
            }
        }
    }
}
