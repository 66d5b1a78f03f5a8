//! Ports that others connect to, and who may once the firewall is loaded.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::model::{Item, Seen};
use super::workloads;
use crate::checks::{is_of_kubernetes, makes_of_kubernetes};
use crate::desired::{ANYBODY, Door};
use crate::facts::cluster::{ObjectKind, list, name, namespace, text};
use crate::inventory::{FirewallProtocol, Node, Role};

/// The kubelet's port that asks nobody for credentials.
const READ_ONLY: u16 = 10255;

fn protocol(said: &str) -> Option<FirewallProtocol> {
    match said {
        "" | "TCP" => Some(FirewallProtocol::Tcp),
        "UDP" => Some(FirewallProtocol::Udp),
        _ => None,
    }
}

/// `TCP` where nothing is said.
fn protocol_word(said: &str) -> &str {
    if said.is_empty() { "TCP" } else { said }
}

/// Who may connect to a port of nodes that run pods: in words, by node where they differ.
pub(super) fn open_to(seen: &Seen<'_>, door: Door, said: &str, port: u16) -> String {
    let mut by: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let with_pods = seen.inventory.nodes.iter();
    let with_pods =
        with_pods.filter(|n| n.has_role(Role::ControlPlane) || n.has_role(Role::Worker));
    for node in with_pods {
        let who = match seen.doors.get(&node.name) {
            None => "unknown: the node did not answer".to_owned(),
            Some(Err(why)) => format!("unknown: {why}"),
            Some(Ok(None)) => ANYBODY.to_owned(),
            Some(Ok(Some(doors))) => {
                let open: Vec<&str> =
                    doors.open_to(door, protocol(said), port).into_iter().collect();
                if open.is_empty() { "nobody".to_owned() } else { open.join(", ") }
            }
        };
        by.entry(who).or_default().push(node.name.as_str());
    }
    match by.len() {
        0 => "unknown: no node was found".to_owned(),
        1 => by.into_keys().next().expect("there is one"),
        _ => by
            .into_iter()
            .map(|(who, nodes)| format!("{who} on {}", nodes.join(", ")))
            .collect::<Vec<_>>()
            .join("; "),
    }
}

fn number(object: &Value, key: &str) -> Option<u16> {
    object.get(key).and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0)
}

/// Ports of nodes that lead to Services.
pub(super) fn node_ports(seen: &Seen<'_>) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    for service in seen.all(ObjectKind::Services)? {
        let kind = text(service, "/spec/type");
        let mut item = Item::new("Service", namespace(service), name(service)).saying("type", kind);
        let mut add = |port: u16, said: &str, what: &str| {
            let open = open_to(seen, Door::Pod, said, port);
            let said = protocol_word(said);
            item.seen.push((what.to_owned(), format!("{port}/{said}, open to {open}")));
        };
        for port in list(service, "/spec/ports") {
            if let Some(own) = number(port, "nodePort") {
                add(own, text(port, "/protocol"), "node port");
            }
        }
        if let Some(own) = service.get("spec").and_then(|s| number(s, "healthCheckNodePort")) {
            add(own, "", "health check");
        }
        if item.seen.len() > 1 {
            items.push(item);
        }
    }
    Ok(sorted(items))
}

/// Addresses from outside of the cluster that Services claim: of load balancers, and external ones.
pub(super) fn service_addresses(seen: &Seen<'_>) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    for service in seen.all(ObjectKind::Services)? {
        let mut item = Item::new("Service", namespace(service), name(service));
        let external = list(service, "/spec/externalIPs").iter().filter_map(Value::as_str);
        for address in external {
            item = item.saying("external IP", address);
        }
        let is_balanced = text(service, "/spec/type") == "LoadBalancer";
        for ingress in list(service, "/status/loadBalancer/ingress") {
            let said = [text(ingress, "/ip"), text(ingress, "/hostname")];
            if let Some(address) = said.into_iter().find(|a| !a.is_empty()) {
                item = item.saying("load balancer", address);
            }
        }
        if item.seen.is_empty() && !is_balanced {
            continue;
        }
        for port in list(service, "/spec/ports") {
            let Some(own) = number(port, "port") else { continue };
            let said = text(port, "/protocol");
            let open = open_to(seen, Door::Pod, said, own);
            item = item.saying("port", format!("{own}/{}, open to {open}", protocol_word(said)));
        }
        items.push(item);
    }
    Ok(sorted(items))
}

/// Ports of nodes that pods have, but for those of Kubernetes' own.
pub(super) fn host_ports(seen: &Seen<'_>) -> Result<Vec<Item>, String> {
    let owners = seen.owners()?;
    let mut items = Vec::new();
    for workload in workloads::all(seen)? {
        let is_own = match workload.kind {
            "Pod" => is_of_kubernetes(workload.object, &owners, seen.inventory),
            kind => makes_of_kubernetes(kind, workload.object, workload.template, &owners),
        };
        if is_own {
            continue;
        }
        let spec = workload.template.get("spec").unwrap_or(&Value::Null);
        let on_host = spec.get("hostNetwork") == Some(&Value::Bool(true));
        let door = if on_host { Door::Host } else { Door::Pod };
        let containers = list(spec, "/containers").iter().chain(list(spec, "/initContainers"));
        let mut ports = BTreeSet::new();
        for port in containers.flat_map(|c| list(c, "/ports")) {
            // In the node's network, a port is the node's whether it says so or not.
            let own = number(port, "hostPort");
            let own = own.or_else(|| number(port, "containerPort").filter(|_| on_host));
            ports.extend(own.map(|own| (own, text(port, "/protocol"))));
        }
        let mut item = workload.item();
        for (port, said) in &ports {
            let open = open_to(seen, door, said, *port);
            item = item.saying("port", format!("{port}/{}, open to {open}", protocol_word(said)));
        }
        if on_host {
            let how = if ports.is_empty() {
                "it declares no port"
            } else {
                "also ports that it does not declare"
            };
            item = item.saying("host network", how);
        }
        if !item.seen.is_empty() {
            items.push(item);
        }
    }
    Ok(items)
}

/// Ports at which something listens on nodes, and that no rule opens.
pub(super) fn listeners(seen: &Seen<'_>) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    for (node, answered) in seen.nodes {
        if answered.facts.listeners.is_none() {
            return Err(format!("{node} did not report its listening sockets"));
        }
        let doors = match seen.doors.get(node) {
            Some(Ok(Some(doors))) => doors,
            Some(Err(why)) => return Err(format!("{node}: {why}")),
            Some(Ok(None)) | None => continue,
        };
        let mut item = Item::new("Node", "", node.as_str());
        let closed = doors.closes(&answered.facts);
        for port in closed.into_iter().filter(|p| *p != format!("{READ_ONLY}/tcp")) {
            item = item.saying("closes", port);
        }
        if !item.seen.is_empty() {
            items.push(item);
        }
    }
    Ok(items)
}

/// Nodes whose kubelet tells everybody about its pods.
pub(super) fn read_only(seen: &Seen<'_>) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    for (node, answered) in seen.nodes {
        let Some(listeners) = &answered.facts.listeners else {
            return Err(format!("{node} did not report its listening sockets"));
        };
        let own = listeners.iter().find(|l| l.port == READ_ONLY && l.protocol.starts_with("tcp"));
        if let Some(listener) = own {
            let at = format!("{}:{READ_ONLY}", listener.address);
            items.push(Item::new("Node", "", node.as_str()).saying("listens", at));
        }
    }
    Ok(items)
}

fn sorted(mut items: Vec<Item>) -> Vec<Item> {
    items.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    items
}

/// That no rule of a node opens a port to API servers, if so.
pub(super) fn open_to_servers(seen: &Seen<'_>, node: &Node, port: u16) -> Option<String> {
    let called = &node.name;
    match seen.doors.get(called) {
        None => Some(format!("unknown: {called} did not answer")),
        Some(Err(why)) => Some(format!("unknown: {called}: {why}")),
        Some(Ok(None)) => None,
        Some(Ok(Some(doors))) => {
            let open = doors.open_to(Door::Host, Some(FirewallProtocol::Tcp), port);
            let is_open = [ANYBODY, "control planes", "nodes"].iter().any(|w| open.contains(w));
            (!is_open).then(|| {
                format!("closes: it is in the network of {called}, where no rule opens {port}/tcp to control planes")
            })
        }
    }
}
