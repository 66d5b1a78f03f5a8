//! Rules about the machines: names, addresses, roles, labels, taints.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::super::model::{EtcdPlacement, Inventory, Node, Role};
use super::review::{Review, duplicates, section};

pub(super) fn duplicate_names(inventory: &Inventory, review: &mut Review<'_>) {
    let names = inventory.nodes.iter().enumerate().map(|(n, node)| (&node.name, n)).collect();
    for (name, first, again) in duplicates(names) {
        review
            .error(
                &review.node(again).then("name"),
                format!("{} has this name", review.node(first)),
            )
            .found(name)
            .allowed("each node name once");
    }
}

pub(super) fn duplicate_addresses(inventory: &Inventory, review: &mut Review<'_>) {
    let addresses = inventory.nodes.iter().enumerate().flat_map(|(n, node)| {
        node.addresses.iter().enumerate().map(move |(a, address)| (*address, (n, a)))
    });
    for (address, (first, _), (again, a)) in duplicates(addresses.collect()) {
        review
            .error(
                &review.node(again).then("addresses").then(a),
                format!("{} has this address", review.node(first)),
            )
            .found(address)
            .allowed("each address once");
    }
}

/// One address, or one per family, each of a kind that other machines can reach.
pub(super) fn addresses(inventory: &Inventory, review: &mut Review<'_>) {
    for (n, node) in inventory.nodes.iter().enumerate() {
        let path = review.node(n).then("addresses");
        let v4 = node.addresses.iter().filter(|a| a.is_ipv4()).count();
        let v6 = node.addresses.len() - v4;
        if node.addresses.is_empty() || v4 > 1 || v6 > 1 {
            review
                .error(&path, "wrong number of addresses")
                .found(format!("{v4} IPv4 and {v6} IPv6 addresses"))
                .allowed("one address, or one per family; the first is the node's internal IP");
        }
        for (a, address) in node.addresses.iter().enumerate() {
            if is_no_host(*address) {
                review
                    .error(&path.then(a), "not the address of a machine")
                    .found(address)
                    .allowed("a unicast address that the other nodes can reach");
            } else if address.is_loopback() {
                review.warn(&path.then(a), "a loopback address, which no other node can reach");
            }
        }
    }
}

pub(super) fn is_no_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            a.is_unspecified() || a.is_multicast() || a.is_broadcast() || a.is_link_local()
        }
        IpAddr::V6(a) => {
            let mapped = a.to_ipv4_mapped().is_some();
            a.is_unspecified() || a.is_multicast() || a.is_unicast_link_local() || mapped
        }
    }
}

/// A node must speak the families of the pod networks, the first one first.
pub(super) fn address_families(inventory: &Inventory, review: &mut Review<'_>) {
    let family = |v4: bool| if v4 { "IPv4" } else { "IPv6" };
    let wanted: Vec<bool> =
        inventory.cluster.pod_networks.iter().map(|n| n.0.addr().is_ipv4()).collect();
    let Some(first) = wanted.first() else { return };
    for (n, node) in inventory.nodes.iter().enumerate() {
        let Some(internal) = node.addresses.first() else { continue };
        let path = review.node(n).then("addresses");
        if internal.is_ipv4() != *first {
            review
                .error(&path.then(0), "first address is not of the cluster's first family")
                .found(internal)
                .allowed(format!(
                    "an {} address first, as in cluster.pod_networks",
                    family(*first)
                ));
        }
        for v4 in wanted.iter().skip(1) {
            if !node.addresses.iter().any(|a| a.is_ipv4() == *v4) {
                let what = format!(
                    "the cluster is dual-stack, but the node has no {} address",
                    family(*v4)
                );
                review.warn(&path, what);
            }
        }
    }
}

/// Which roles go together.
pub(super) fn roles(inventory: &Inventory, review: &mut Review<'_>) {
    let placement = inventory.etcd.placement;
    for (n, node) in inventory.nodes.iter().enumerate() {
        let path = review.node(n).then("roles");
        let listed = || node.roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if node.roles.is_empty() {
            review
                .error(&path, "a node without a role")
                .allowed("at least one of control-plane, etcd, worker");
        }
        if node.roles.iter().collect::<BTreeSet<_>>().len() < node.roles.len() {
            review.error(&path, "the role is listed twice").found(listed());
        }
        let (etcd, control_plane) = (node.has_role(Role::Etcd), node.has_role(Role::ControlPlane));
        match placement {
            EtcdPlacement::ControlPlane | EtcdPlacement::Stacked if etcd && !control_plane => {
                review
                    .error(&path, "etcd runs on the control-plane nodes, but this is not one")
                    .found(listed())
                    .allowed("role etcd with control-plane, or `etcd.placement: dedicated`");
            }
            EtcdPlacement::Dedicated if etcd && control_plane => {
                review
                    .error(&path, "etcd is dedicated, but this is a control-plane node")
                    .found(listed())
                    .allowed("etcd without control-plane, or `etcd.placement: control-plane`");
            }
            EtcdPlacement::Dedicated if etcd && node.has_role(Role::Worker) => {
                let what =
                    "a dedicated etcd member that also runs workloads, which compete for its disk";
                review.warn(&path, what);
            }
            _ => {}
        }
    }
}

/// A quorum, and someone to run the API.
pub(super) fn member_counts(inventory: &Inventory, review: &mut Review<'_>) {
    let nodes = section("nodes");
    if inventory.with_role(Role::ControlPlane).next().is_none() {
        review
            .error(&nodes, "no control-plane node")
            .allowed("one or more with role control-plane");
    }
    let role = match inventory.etcd.placement {
        EtcdPlacement::ControlPlane | EtcdPlacement::Stacked => Role::ControlPlane,
        EtcdPlacement::Dedicated => Role::Etcd,
    };
    match inventory.etcd_members().count() {
        0 if role == Role::Etcd => {
            review
                .error(&nodes, "etcd is dedicated, but no node has role etcd")
                .allowed("one, three or five nodes with role etcd");
        }
        0 => {}
        // Others made it so, and it can be looked at.
        even if even % 2 == 0 && inventory.etcd.placement == EtcdPlacement::Stacked => {
            let what = format!("{even} etcd members survive no more failures than {}", even - 1);
            review.warn(&nodes, what);
        }
        even if even % 2 == 0 => {
            review
                .error(&nodes, "an even number of etcd members")
                .found(format!("{even} nodes with role {role}"))
                .allowed(
                    "an odd number: one more member does not let the cluster survive more failures",
                );
        }
        many if many > 7 => {
            let what = format!("{many} etcd members; more than seven slow down every write");
            review.warn(&nodes, what);
        }
        _ => {}
    }
}

/// Label syntax
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>).
pub(super) fn labels(inventory: &Inventory, review: &mut Review<'_>) {
    for (n, node) in inventory.nodes.iter().enumerate() {
        for (key, value) in &node.labels {
            let path = review.node(n).then("labels").then(key);
            if !is_qualified_name(key) {
                review.error(&path, "malformed label key").found(format!("{key:?}")).allowed(
                    "an optional DNS prefix and `/`, then up to 63 letters, digits, `-`, `_`, `.`",
                );
            }
            if !value.is_empty() && !is_label_value(value) {
                review.error(&path, "malformed label value").found(format!("{value:?}")).allowed(
                    "up to 63 letters, digits, `-`, `_`, `.`, starting and ending with a letter or digit",
                );
            }
            if is_reserved_label(key) {
                let what = "the kubelet must not set this label itself; set it through the API";
                review.warn(&path, what);
            }
        }
    }
}

fn is_label_value(s: &str) -> bool {
    let b = s.as_bytes();
    (1..=63).contains(&b.len())
        && b[0].is_ascii_alphanumeric()
        && b[b.len() - 1].is_ascii_alphanumeric()
        && b.iter().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(c))
}

fn is_qualified_name(s: &str) -> bool {
    match s.split_once('/') {
        Some((prefix, name)) => {
            prefix.parse::<super::super::names::DnsDomain>().is_ok() && is_label_value(name)
        }
        None => is_label_value(s),
    }
}

/// What NodeRestriction refuses from a kubelet, beside the few names it allows
/// (<https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction>).
pub(crate) fn is_reserved_label(key: &str) -> bool {
    const ALLOWED: &[&str] = &[
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "kubernetes.io/instance-type",
    ];
    let Some((prefix, _)) = key.split_once('/') else { return false };
    let below = |domain: &str| {
        prefix == domain || prefix.strip_suffix(domain).is_some_and(|p| p.ends_with('.'))
    };
    let kubelet = below("kubelet.kubernetes.io") || below("node.kubernetes.io");
    (below("kubernetes.io") || below("k8s.io")) && !kubelet && !ALLOWED.contains(&key)
}

/// Taint syntax (<https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/>).
pub(super) fn taints(inventory: &Inventory, review: &mut Review<'_>) {
    for (n, node) in inventory.nodes.iter().enumerate() {
        check_taints(n, node, review);
    }
}

fn check_taints(n: usize, node: &Node, review: &mut Review<'_>) {
    const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "PreferNoSchedule"];
    let mut seen = BTreeSet::new();
    for (t, taint) in node.taints.iter().enumerate() {
        let path = review.node(n).then("taints").then(t);
        let allowed = "`key:Effect` or `key=value:Effect`";
        let Some((left, effect)) = taint.rsplit_once(':') else {
            review.error(&path, "malformed taint").found(format!("{taint:?}")).allowed(allowed);
            continue;
        };
        let (key, value) = left.split_once('=').unwrap_or((left, ""));
        if !EFFECTS.contains(&effect) {
            review
                .error(&path, "no such taint effect")
                .found(format!("{effect:?}"))
                .allowed(EFFECTS.join(", "))
                .nearest(effect, EFFECTS.iter().copied());
        }
        if !is_qualified_name(key) || !(value.is_empty() || is_label_value(value)) {
            review.error(&path, "malformed taint").found(format!("{taint:?}")).allowed(allowed);
        }
        if !seen.insert((key, effect)) {
            review.error(&path, "the key and effect are listed twice").found(format!("{taint:?}"));
        }
    }
}
