//! What was found, as an inventory: in memory, for checks and attacks that know clusters by their inventory alone.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::cluster::{EtcdPlace, Found};
use super::target::{SshAccess, Target};
use crate::inventory::{
    Cluster, Cni, Endpoint, Etcd, EtcdPlacement, FormatVersion, Hardening, Host, Inventory,
    Kubernetes, KubernetesVersion, LoadBalancer, Node, NodeName, NodeSsh, Pki, Profile, Role,
    Runtime, SoftwareSource,
};
use crate::pki::kubeconfig::API_PORT;

/// How to reach a node: as named on the command line, otherwise by its first address.
fn node_ssh(access: &SshAccess, named: Option<&Target>, address: &Host) -> NodeSsh {
    match named {
        None => NodeSsh { host_keys: access.keys(address), ..NodeSsh::default() },
        Some(target) => NodeSsh {
            host: Some(target.host.clone()),
            user: target.user.clone(),
            port: target.port,
            sudo: Some(access.sudo(&access.user(target.user.as_ref()))),
            host_keys: access.keys(&target.host),
            ..NodeSsh::default()
        },
    }
}

/// An inventory of the named machines before anything is known about them: enough to read them.
pub fn of_targets(access: &SshAccess, targets: &[Target]) -> Inventory {
    let node = |(n, target): (usize, &Target)| {
        let address = target.host.as_str().parse();
        Node {
            name: format!("target-{n}").parse().expect("it is a name"),
            // They are reached by their host; the address of a name is not asked for.
            addresses: vec![address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))],
            roles: vec![Role::Worker],
            labels: BTreeMap::new(),
            taints: Vec::new(),
            ssh: node_ssh(access, Some(target), &target.host),
        }
    };
    let nodes = targets.iter().enumerate().map(node).collect();
    Inventory { nodes, ..empty(access) }
}

/// The inventory. It says nothing that was not found, but for the profile; what it has no key for is in [`Found`].
///
/// Labels and taints are left out: checks compare them with what the role of a node wants, and what is there would always be
/// what is wanted.
pub fn inventory(
    found: &Found,
    access: &SshAccess,
    named: &BTreeMap<NodeName, Target>,
    profile: Profile,
) -> Inventory {
    let node = |n: &super::nodes::FoundNode| {
        let address: Host = n.addresses[0].to_string().parse().expect("an IP address is a host");
        Node {
            name: n.name.clone(),
            addresses: n.addresses.clone(),
            roles: vec![n.role],
            labels: BTreeMap::new(),
            taints: Vec::new(),
            ssh: node_ssh(access, named.get(&n.name), &address),
        }
    };
    let placement = match found.etcd {
        EtcdPlace::Stacked => EtcdPlacement::Stacked,
        EtcdPlace::OnControlPlanes => EtcdPlacement::ControlPlane,
        EtcdPlace::Dedicated | EtcdPlace::Outside(_) | EtcdPlace::Unseen => {
            EtcdPlacement::Dedicated
        }
    };
    let empty = empty(access);
    Inventory {
        cluster: Cluster {
            name: found.name.clone(),
            kubernetes: found.judged_as,
            endpoint: found.endpoint.clone(),
            pod_networks: found.pod_networks.clone(),
            service_networks: found.service_networks.clone(),
            domain: found.domain.clone(),
            ..empty.cluster.clone()
        },
        hardening: Hardening { profile, ..Hardening::default() },
        nodes: found.nodes.iter().map(node).collect(),
        etcd: Etcd { placement },
        ..empty
    }
}

/// Of a cluster of which nothing is known but the way to it.
fn empty(access: &SshAccess) -> Inventory {
    let host: Host = "kubernetes".parse().expect("it is a host");
    Inventory {
        version: FormatVersion::V1,
        cluster: Cluster {
            name: "kubernetes".parse().expect("it is a name"),
            kubernetes: KubernetesVersion::DEFAULT,
            endpoint: Endpoint { host, port: API_PORT },
            load_balancer: LoadBalancer::default(),
            extra_sans: Vec::new(),
            pod_networks: Vec::new(),
            service_networks: Vec::new(),
            domain: "cluster.local".parse().expect("it is a domain"),
        },
        kubernetes: Kubernetes { source: SoftwareSource::Preinstalled, ..Kubernetes::default() },
        hardening: Hardening::default(),
        ssh: access.defaults(),
        nodes: Vec::new(),
        firewall: Default::default(),
        etcd: Etcd::default(),
        audit: Default::default(),
        encryption: Default::default(),
        pki: Pki::default(),
        // Whatever it is, another tool installed it.
        runtime: Runtime { cni: Cni::None, ..Runtime::default() },
        api_server: Default::default(),
        controller_manager: Default::default(),
        scheduler: Default::default(),
        kubelet: Default::default(),
        kube_proxy: Default::default(),
        host: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::cluster::tests::{STOCK, found, stacked};
    use super::*;
    use crate::clock::Clock;
    use crate::inventory::{LoadContext, Sudo, load_bytes};

    fn access() -> SshAccess {
        let mut access = SshAccess {
            user: "ops".to_owned().try_into().ok(),
            key_file: Some("/keys/id".into()),
            known_hosts: Some("/keys/known_hosts".into()),
            ..SshAccess::default()
        };
        let key = format!("192.0.2.21=SHA256:{}", "A".repeat(43));
        access.accept(key.parse().unwrap());
        access
    }

    fn stock() -> Inventory {
        let named: Target = "ssh://root@cp1.example:2222".parse().unwrap();
        let by = [("cp1".parse().unwrap(), named)].into();
        inventory(&found(STOCK, &stacked()), &access(), &by, Profile::Cis)
    }

    #[test]
    fn each_node_is_reached_as_it_was_named_or_by_its_address() {
        let inventory = stock();
        let of = |n: usize| inventory.ssh.for_node(&inventory.nodes[n]);
        let (cp1, w1) = (of(0), of(1));
        assert_eq!((cp1.host.as_str(), cp1.port, cp1.user.as_str()), ("cp1.example", 2222, "root"));
        assert_eq!(cp1.sudo, Sudo::None);
        assert_eq!((w1.host.as_str(), w1.port, w1.user.as_str()), ("192.0.2.21", 22, "ops"));
        assert_eq!((w1.sudo, w1.host_keys.len(), w1.agent), (Sudo::Passwordless, 1, false));
        assert!(cp1.host_keys.is_empty());
    }

    /// What was found could be written down as it is.
    #[test]
    fn what_is_made_in_memory_is_an_inventory_that_loads() {
        let inventory = stock();
        let text = crate::yaml::to_text(&inventory);
        let context = LoadContext {
            clock: Clock::Fixed(time::macros::datetime!(2026-02-01 12:00 UTC)),
            known_controls: &crate::controls::ids::ALL,
            critical_controls: &crate::controls::ids::CRITICAL,
            impact_rows: crate::impact::IDS,
            conflicts: crate::controls::conflict,
            home: None,
            host_keys_optional: true,
        };
        let (file, base) = (std::path::Path::new("i.yaml"), std::path::Path::new("/i"));
        let loaded = load_bytes(text.as_bytes(), file, base, &context);
        let loaded = loaded.unwrap_or_else(|e| panic!("{:#?}\n{text}", e.problems())).inventory;
        assert_eq!(loaded.nodes, inventory.nodes);
        assert_eq!(loaded.cluster, inventory.cluster);
        assert_eq!((loaded.etcd, loaded.runtime), (inventory.etcd, inventory.runtime));
        assert_eq!(loaded.hardening.profile, Profile::Cis);
    }

    #[test]
    fn without_etcd_members_nobody_is_taken_for_one() {
        let mut found = found(STOCK, &stacked());
        for (place, members) in [
            (EtcdPlace::Stacked, 1),
            (EtcdPlace::OnControlPlanes, 1),
            (EtcdPlace::Outside(vec!["192.0.2.31".into()]), 0),
            (EtcdPlace::Unseen, 0),
        ] {
            found.etcd = place.clone();
            let inventory = inventory(&found, &access(), &BTreeMap::new(), Profile::Nsa);
            assert_eq!(inventory.etcd_members().count(), members, "{place:?}");
        }
    }
}
