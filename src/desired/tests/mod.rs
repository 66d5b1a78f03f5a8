//! What nodes get: golden files, coverage of the watch list, who holds which secret.

pub(crate) mod bundled;
mod endpoint;
mod expected;
mod golden;
mod restarts;
mod routes;
mod secrets;
mod sharing;
mod trust;
mod values;
mod watching;

use std::path::Path;

use super::{Content, ItemKind, NodeDesired, resolve};
use crate::clock::Clock;
use crate::controls::ids;
use crate::desired::Shared;
use crate::facts::{InterfaceAddress, NodeFacts, Os};
use crate::inventory::{Files, Inventory, LoadContext, Node, Probe, elf, load_bytes};
use crate::pki::Material;

/// Two families, dedicated etcd, everything that a file can be made of.
const INVENTORY: &str = r#"
version: kubastion/v1
cluster:
  name: golden
  kubernetes: 1.36.2
  endpoint: api.example:6443
  extra_sans: [203.0.113.7]
  pod_networks: [10.244.0.0/16, "fd00:10:244::/56"]
  service_networks: [10.96.0.0/16, "fd00:10:96::/112"]
ssh: { user: ops, sudo: passwordless, agent: true, known_hosts: kh }
firewall:
  admin_networks: [192.0.2.0/24, "fd00:9::/64"]
  extra_rules:
    - { name: node-exporter, roles: [worker], protocol: tcp, ports: [9100], from: [192.0.2.9/32] }
    - { name: ingress, roles: [worker], protocol: tcp, ports: [80, 30443, 443] }
etcd: { placement: dedicated }
runtime:
  registry_mirrors: { registry.k8s.io: ["https://mirror.example:5000"] }
host: { ntp_servers: [ntp.example] }
nodes:
  - { name: cp-1, addresses: [192.0.2.11, "fd00:1::11"], roles: [control-plane] }
  - { name: e-1, addresses: [192.0.2.31, "fd00:1::31"], roles: [etcd] }
  - name: w-1
    addresses: [192.0.2.21, "fd00:1::21"]
    roles: [worker]
    labels: { topology.kubernetes.io/zone: a, node-role.kubernetes.io/edge: "" }
    taints: ["dedicated=batch:NoSchedule"]
"#;

/// [`INVENTORY`] with three control planes that keep the endpoint's address among them.
fn with_managed_endpoint(endpoint: &str) -> Inventory {
    load(&managed(INVENTORY, endpoint))
}

fn managed(inventory: &str, endpoint: &str) -> String {
    let managed = format!("\"{endpoint}\"\n  load_balancer: {{ mode: managed }}");
    let mut text = inventory.replace("api.example:6443", &managed);
    for n in [2, 3] {
        text.push_str(&format!(
            "  - {{ name: cp-{n}, addresses: [192.0.2.1{n}, \"fd00:1::1{n}\"], roles: [control-plane] }}\n"
        ));
    }
    text
}

/// Facts of a control plane of [`INVENTORY`] with its addresses.
fn facts_with_addresses(node: &str, os: &str) -> NodeFacts {
    let mut facts = facts(node, os, None);
    let n = node.rsplit('-').next().unwrap();
    let address = |network: String| InterfaceAddress {
        interface: "ens3".into(),
        network: network.parse().unwrap(),
    };
    facts.addresses =
        vec![address(format!("192.0.2.1{n}/24")), address(format!("fd00:1::1{n}/64"))];
    facts
}

/// One machine for everything, IPv4 only, all defaults.
const SMALL: &str = r#"
version: kubastion/v1
cluster: { name: small, kubernetes: 1.36.2, endpoint: "192.0.2.11:6443" }
ssh: { agent: true, known_hosts: kh }
nodes:
  - { name: a, addresses: [192.0.2.11], roles: [control-plane, worker] }
"#;

pub(super) fn load(text: &str) -> Inventory {
    let now = time::macros::datetime!(2026-02-01 12:00 UTC);
    let context = LoadContext {
        clock: Clock::Fixed(now),
        known_controls: &ids::ALL,
        critical_controls: &ids::CRITICAL,
        impact_rows: crate::impact::IDS,
        conflicts: crate::controls::conflict,
        home: None,
        host_keys_optional: false,
    };
    load_bytes(text.as_bytes(), Path::new("i.yaml"), Path::new("/i"), &context).unwrap().inventory
}

/// Facts of a machine on which nothing was done yet.
pub(crate) fn facts(node: &str, os: &str, container: Option<&str>) -> NodeFacts {
    let (id, version) = os.split_once(' ').unwrap();
    let mut facts = NodeFacts::bare(node);
    facts.os = Os {
        id: id.to_owned(),
        like: Vec::new(),
        version: version.to_owned(),
        pretty: os.to_owned(),
    };
    facts.container = container.map(str::to_owned);
    facts.cgroup_version = if container.is_some() { 1 } else { 2 };
    facts.audit_usable = container.is_none();
    facts
}

fn node<'a>(inventory: &'a Inventory, name: &str) -> &'a Node {
    inventory.nodes.iter().find(|n| n.name.as_str() == name).unwrap()
}

fn desired(inventory: &Inventory, name: &str, facts: &NodeFacts) -> NodeDesired {
    desired_with(inventory, &Files::default(), name, facts)
}

fn desired_with(
    inventory: &Inventory,
    files: &Files,
    name: &str,
    facts: &NodeFacts,
) -> NodeDesired {
    let material = Material::fixture(inventory);
    resolve(inventory, files, node(inventory, name), facts, &material, &Shared::default())
        .unwrap_or_else(|e| panic!("{e:?}"))
}

/// A health-check program for machines of a kind, and nothing else beside the inventory.
fn with_probe(machine: u16) -> Files {
    Files { probe: Some(Probe::from_elf(elf(machine, &[1])).unwrap()), ..Files::default() }
}

/// The content of a file that is there.
fn file<'a>(desired: &'a NodeDesired, wanted: &str) -> &'a Content {
    let found = desired.items.iter().find_map(|i| match &i.kind {
        ItemKind::File { path, content, .. } if path == wanted => Some(content),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no {wanted}"))
}

fn text(desired: &NodeDesired, path: &str) -> String {
    String::from_utf8(file(desired, path).bytes().to_vec()).unwrap()
}
