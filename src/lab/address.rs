//! Addresses of labs: each takes one /24 of 10.213.0.0/16 (RFC 1918) that no interface or route of
//! this machine uses.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Deserialize;

/// Last octet of a managed endpoint, and its port.
pub(super) const ENDPOINT: (u8, u16) = (5, 8443);
/// Control-plane node `n` has this plus `n` as its last octet.
pub(super) const CONTROL_PLANE_BASE: u8 = 10;
/// Worker `n` has this plus `n` as its last octet.
pub(super) const WORKER_BASE: u8 = 100;

/// The address with a last octet in a lab's network.
pub(super) fn in_slot(slot: u8, octet: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 213, slot, octet)
}

/// The host's own address in a lab's network, and the nodes' default route.
pub(super) fn gateway(slot: u8) -> Ipv4Addr {
    in_slot(slot, 1)
}

/// A lab's network.
pub(super) fn network(slot: u8) -> Ipv4Net {
    Ipv4Net::new_assert(in_slot(slot, 0), 24)
}

/// The first slot from 1 to 254 whose network overlaps none of `used`.
pub(super) fn free_slot(used: &[Ipv4Net]) -> Option<u8> {
    (1..=254).find(|&slot| {
        let wanted = network(slot);
        !used.iter().any(|u| u.contains(&wanted) || wanted.contains(u))
    })
}

/// The networks in `ip -json -4 address` and `ip -json -4 route show table all`.
///
/// The default route is left out: it overlaps everything.
pub(super) fn used_networks(
    addresses: &[u8],
    routes: &[u8],
) -> Result<Vec<Ipv4Net>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Link {
        #[serde(default)]
        addr_info: Vec<Address>,
    }
    #[derive(Deserialize)]
    struct Address {
        local: Option<Ipv4Addr>,
        prefixlen: Option<u8>,
    }
    #[derive(Deserialize)]
    struct Route {
        dst: String,
    }
    let links: Vec<Link> = serde_json::from_slice(addresses)?;
    let routes: Vec<Route> = serde_json::from_slice(routes)?;
    let from_links = links.into_iter().flat_map(|l| l.addr_info).filter_map(|a| {
        let net = Ipv4Net::new(a.local?, a.prefixlen?).ok()?;
        Some(net.trunc())
    });
    let from_routes = routes.into_iter().filter_map(|r| {
        let net = match r.dst.parse::<Ipv4Net>() {
            Ok(net) => net,
            Err(_) => Ipv4Net::new_assert(r.dst.parse().ok()?, 32),
        };
        (net.prefix_len() > 0).then_some(net)
    });
    Ok(from_links.chain(from_routes).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_takes_the_first_network_that_nothing_overlaps() {
        assert_eq!(free_slot(&[]), Some(1));
        let net = |s: &str| s.parse::<Ipv4Net>().unwrap();
        assert_eq!(free_slot(&[net("10.213.1.0/24"), net("10.213.2.9/32")]), Some(3));
        assert_eq!(free_slot(&[net("10.213.0.0/17"), net("192.0.2.0/24")]), Some(128));
        assert_eq!(free_slot(&[net("10.0.0.0/8")]), None);
    }

    #[test]
    fn addresses_and_routes_are_used_but_not_the_default_route() {
        let addresses = br#"[{},{"ifname":"lo","addr_info":[{"family":"inet","local":"127.0.0.1",
            "prefixlen":8}]},{"addr_info":[{"local":"10.213.1.1","prefixlen":24}]}]"#;
        let routes = br#"[{"dst":"default","gateway":"192.0.2.1"},{"dst":"10.213.2.0/24"},
            {"type":"local","dst":"10.213.3.1"}]"#;
        let used = used_networks(addresses, routes).unwrap();
        assert_eq!(used.len(), 4);
        assert_eq!(free_slot(&used), Some(4));
    }
}
