//! The managed endpoint: who gets what of it, and what keeps it from being planned.

use std::collections::BTreeSet;

use super::{desired, facts, facts_with_addresses, load, node, text, with_managed_endpoint};
use crate::controls::daemons::ENDPOINT_STATUS_PORT;
use crate::desired::Shared;
use crate::desired::{ItemKind, NodeDesired, ResolveError, resolve};
use crate::inventory::Files;
use crate::pki::Material;

const ENDPOINT: &str = "192.0.2.5:8443";
const KEEPALIVED: &str = "/etc/keepalived/keepalived.conf";
const HAPROXY: &str = "/etc/haproxy/haproxy.cfg";

fn units(desired: &NodeDesired) -> Vec<(&str, bool)> {
    let mut found = Vec::new();
    for item in &desired.items {
        let ItemKind::Unit { name, active, .. } = &item.kind else { continue };
        if name.starts_with("haproxy") || name.starts_with("keepalived") {
            found.push((name.as_str(), *active));
        }
    }
    found
}

#[test]
fn control_planes_differ_in_priority_and_name_each_other() {
    let inventory = with_managed_endpoint(ENDPOINT);
    let mut priorities = BTreeSet::new();
    for n in 1..=3 {
        let name = format!("cp-{n}");
        let wanted = desired(&inventory, &name, &facts_with_addresses(&name, "debian 13"));
        let config = text(&wanted, KEEPALIVED);
        let lines: Vec<&str> = config.lines().map(str::trim).collect();
        priorities.insert(lines.iter().find(|l| l.starts_with("priority ")).unwrap().to_string());
        assert!(lines.contains(&format!("unicast_src_ip 192.0.2.1{n}").as_str()), "{config}");
        for peer in (1..=3).filter(|p| *p != n) {
            let line = format!("192.0.2.1{peer} min_ttl 255 max_ttl 255");
            assert!(lines.contains(&line.as_str()), "{config}");
        }
        assert!(lines.contains(&"192.0.2.5/32 dev ens3"), "{config}");
        let balancer = text(&wanted, HAPROXY);
        assert_eq!(balancer.matches(":6443").count(), 6, "{balancer}");
        assert!(balancer.contains(&format!("srv_is_up(ready/{name})")), "{balancer}");
        let port = format!("127.0.0.1:{ENDPOINT_STATUS_PORT}");
        assert!(balancer.contains(&port), "{balancer}");
        let check = text(&wanted, "/usr/local/lib/kubastion/endpoint-check");
        assert!(check.contains(&format!("/dev/tcp/{}", port.replace(':', "/"))), "{check}");
    }
    assert_eq!(priorities.len(), 3);
    let worker = desired(&inventory, "w-1", &facts("w-1", "debian 13", None));
    assert!(units(&worker).is_empty());
}

#[test]
fn the_interface_is_the_inventorys_or_the_one_with_the_nodes_address() {
    let mut inventory = with_managed_endpoint(ENDPOINT);
    let failure = |inventory: &_, facts: &_| {
        let material = Material::fixture(inventory);
        resolve(
            inventory,
            &Files::default(),
            node(inventory, "cp-1"),
            facts,
            &material,
            &Shared::default(),
        )
        .err()
        .unwrap_or_default()
    };
    let unknown = failure(&inventory, &facts("cp-1", "debian 13", None));
    assert!(matches!(unknown[..], [ResolveError::EndpointInterface(_)]), "{unknown:?}");

    let mut elsewhere = facts_with_addresses("cp-1", "debian 13");
    elsewhere.addresses[0].network = "192.0.2.11/29".parse().unwrap();
    let elsewhere = failure(&inventory, &elsewhere);
    assert!(matches!(elsewhere[..], [ResolveError::EndpointNetwork { .. }]), "{elsewhere:?}");

    inventory.cluster.load_balancer.interface = Some("bond0".into());
    let wanted = desired(&inventory, "cp-1", &facts("cp-1", "debian 13", None));
    assert!(text(&wanted, KEEPALIVED).contains("192.0.2.5/32 dev bond0"));
}

#[test]
fn only_what_was_managed_is_stopped() {
    let inventory = load(super::INVENTORY);
    let mut facts = facts("cp-1", "debian 13", None);
    assert!(units(&desired(&inventory, "cp-1", &facts)).is_empty());
    facts.unit_marks.insert("haproxy.service".into(), "0".into());
    assert_eq!(units(&desired(&inventory, "cp-1", &facts)), [("haproxy.service", false)]);
}
