//! Addresses in no network of the inventory: who has one is a stranger to the firewall.

use std::net::IpAddr;

use crate::inventory::Inventory;

/// The node's and the stranger's end of the link, from documentation networks that are never routed (RFC 5737, RFC 3849).
/// A network that the inventory names is left out.
const ENDS: &[(&str, &str)] = &[
    ("198.51.100.1", "198.51.100.2"),
    ("203.0.113.1", "203.0.113.2"),
    ("192.0.2.1", "192.0.2.2"),
    ("2001:db8:6b62:1::1", "2001:db8:6b62:1::2"),
    ("2001:db8:6b62:2::1", "2001:db8:6b62:2::2"),
    ("2001:db8:6b62:3::1", "2001:db8:6b62:3::2"),
];

/// The first pair of a family that lies in no network of the inventory.
pub(crate) fn link(inventory: &Inventory, v4: bool) -> Option<(IpAddr, IpAddr)> {
    let (cluster, firewall) = (&inventory.cluster, &inventory.firewall);
    let lists = [
        &cluster.pod_networks,
        &cluster.service_networks,
        &firewall.admin_networks,
        &firewall.service_clients,
    ];
    let named =
        lists.into_iter().flatten().chain(firewall.extra_rules.iter().flat_map(|r| &r.from));
    // 0.0.0.0/0 and ::/0 name no one in particular.
    let named: Vec<_> = named.filter(|n| n.0.prefix_len() > 0).collect();
    let used = |a: &IpAddr| {
        named.iter().any(|n| n.0.contains(a))
            || inventory.nodes.iter().any(|n| n.addresses.contains(a))
    };
    let parsed =
        ENDS.iter().filter_map(|(here, there)| Some((here.parse().ok()?, there.parse().ok()?)));
    parsed
        .filter(|(here, _): &(IpAddr, IpAddr)| here.is_ipv4() == v4)
        .find(|(h, t)| !used(h) && !used(t))
}

/// An address outside every network of the inventory, if there is one.
pub(super) fn address(inventory: &Inventory, v4: bool) -> Option<IpAddr> {
    if inventory.firewall.service_clients.iter().any(|n| n.0.prefix_len() == 0) {
        return None;
    }
    link(inventory, v4).map(|(_, there)| there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_has_an_address_that_the_inventory_does_not_name() {
        let text = include_str!("../../inventory/minimal.yaml");
        let inventory = |admins: &str| {
            let mut inventory: Inventory = crate::yaml::from_text(text).unwrap();
            inventory.firewall.admin_networks =
                admins.split(' ').filter(|a| !a.is_empty()).map(|a| a.parse().unwrap()).collect();
            inventory
        };
        let there = |admins: &str, v4| link(&inventory(admins), v4).map(|e| e.1.to_string());
        assert_eq!(there("0.0.0.0/0", true).as_deref(), Some("198.51.100.2"));
        assert_eq!(there("198.51.100.0/24", true).as_deref(), Some("203.0.113.2"));
        assert_eq!(there("198.51.100.0/24 203.0.113.0/24 192.0.2.0/24", true), None);
        assert_eq!(there("", false).as_deref(), Some("2001:db8:6b62:1::2"));
    }
}
