//! Whatever a node turns out to be: what it should hold was looked at.

use super::{INVENTORY, SMALL, bundled, facts, load, with_managed_endpoint, with_probe};
use crate::desired::Shared;
use crate::desired::{resolve, watch, watch_list};
use crate::facts::UnitFacts;
use crate::inventory::{
    CaCustody, Cni, EncryptionProvider, Files, FirewallMode, Inventory, KubernetesVersion, Profile,
    SoftwareSource, Switch,
};
use crate::pki::Material;

/// Inventories that differ in what decides about items.
fn inventories() -> Vec<(Inventory, Files)> {
    let mut all = Vec::new();
    for text in [INVENTORY, SMALL] {
        for profile in [Profile::Nsa, Profile::Cis, Profile::Stig] {
            for minor in KubernetesVersion::SUPPORTED_MINORS {
                let mut inventory = load(text);
                inventory.hardening.profile = profile;
                inventory.cluster.kubernetes = KubernetesVersion { minor, patch: 0 };
                all.push((inventory, Files::default()));
            }
        }
        let mut other = load(text);
        other.pki.ca_custody = CaCustody::Operator;
        other.runtime.cni = Cni::None;
        other.firewall.mode = FirewallMode::LogOnly;
        other.host.packages = Switch::Off;
        other.host.security_updates = Switch::Off;
        other.host.lab = true;
        all.push((load(text), with_probe(62)));
        other.encryption.provider = EncryptionProvider::Aescbc;
        let off = ["apiserver-authenticated-probes", "policy-pod-security"];
        other.hardening.controls = off.map(|c| (c.to_owned(), Switch::Off.into())).into();
        all.push((other, Files::default()));
    }
    let mut managed = with_managed_endpoint("192.0.2.5:8443");
    // A test without facts about interfaces.
    managed.cluster.load_balancer.interface = Some("ens3".to_owned());
    all.push((managed, Files::default()));
    for cluster in ["external", "dedicated"] {
        all.push(bundled::loaded(cluster, 36));
    }
    all
}

#[test]
fn the_watch_list_covers_every_item() {
    for (inventory, files) in inventories() {
        let material = Material::fixture(&inventory);
        for node in &inventory.nodes {
            let watched = watch(&inventory, &files, node);
            for os in ["debian 12", "debian 13", "ubuntu 24.04", "rocky 9.4", "fedora 41"] {
                for container in [None, Some("lxc")] {
                    for audit in [true, false] {
                        let mut facts = facts(node.name.as_str(), os, container);
                        facts.audit_usable = audit;
                        // An endpoint that was managed is given up.
                        facts.unit_marks.insert("keepalived.service".into(), "0".into());
                        let desired = resolve(
                            &inventory,
                            &files,
                            node,
                            &facts,
                            &material,
                            &Shared::default(),
                        )
                        .unwrap();
                        let needed = watch_list(&desired.items);
                        let what = format!("{} {os} {container:?} {audit}", node.name);
                        assert!(needed.files.is_subset(&watched.files), "{what}");
                        assert!(needed.units.is_subset(&watched.units), "{what}");
                        assert!(needed.sysctls.is_subset(&watched.sysctls), "{what}");
                        assert!(needed.modules.is_subset(&watched.modules), "{what}");
                        assert!(needed.packages.is_subset(&watched.packages), "{what}");
                        assert!(needed.users.is_subset(&watched.users), "{what}");
                        assert!(needed.programs.is_subset(&watched.programs), "{what}");
                        assert!(needed.images.is_subset(&watched.images), "{what}");
                    }
                }
            }
        }
    }
}

/// What is asked about a node beside its items does not depend on the items that the inventory leaves out.
#[test]
fn what_decides_is_watched_whatever_is_switched_off() {
    for source in [SoftwareSource::None, SoftwareSource::Preinstalled, SoftwareSource::Packages] {
        let mut inventory = load(SMALL);
        inventory.kubernetes.source = source;
        inventory.host.packages = Switch::Off;
        inventory.hardening.controls = crate::controls::ids::ALL
            .iter()
            .map(|c| ((*c).to_owned(), Switch::Off.into()))
            .collect();
        let watched = watch(&inventory, &Files::default(), &inventory.nodes[0]);
        // Whether the node is part of a cluster already.
        assert!(watched.files.contains(crate::plan::diff::KUBELET_CONFIG), "{source:?}");
        assert!(watched.files.contains("/var/lib/etcd/default"));
        assert!(watched.units.contains("ssh.socket") && watched.units.contains("etcd.service"));
        for package in ["containerd", "containerd.io", "etcd", "etcd-server", "nftables", "runc"] {
            assert!(watched.packages.contains(package), "{package}");
        }
    }
}

#[test]
fn ancestors_are_watched_too() {
    let inventory = load(SMALL);
    let watched = watch(&inventory, &Files::default(), &inventory.nodes[0]);
    for path in ["/etc", "/etc/kubernetes/pki", "/var/lib/kubelet/pki", "/etc/systemd/system"] {
        assert!(watched.files.contains(path), "{path}");
    }
    assert!(watched.packages.contains("containerd.io"));
}

/// The same items twice; and every control on an item is one.
#[test]
fn resolving_is_deterministic_and_controls_exist() {
    let inventory = load(INVENTORY);
    for node in &inventory.nodes {
        let facts = facts(node.name.as_str(), "debian 13", None);
        let (a, b) = (
            super::desired(&inventory, node.name.as_str(), &facts),
            super::desired(&inventory, node.name.as_str(), &facts),
        );
        let digests = |d: &crate::desired::NodeDesired| -> Vec<String> {
            d.items
                .iter()
                .filter_map(|i| match &i.kind {
                    crate::desired::ItemKind::File { path, content, .. } => {
                        Some(format!("{path} {}", content.sha256()))
                    }
                    _ => None,
                })
                .collect()
        };
        assert_eq!(digests(&a), digests(&b));
        let mut paths = digests(&a);
        paths.iter_mut().for_each(|p| p.truncate(p.find(' ').unwrap()));
        let count = paths.len();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), count, "a path stands twice");
        for control in a.items.iter().flat_map(|i| &i.controls) {
            assert!(crate::controls::ids::ALL.contains(control), "{control}");
        }
    }
}

/// Files that nothing is started again for, and who sees what changed in them. A path that ends in `/` or `-` is all that begins with it.
const READ_ANEW: &[(&str, &str)] = &[
    ("/etc/apt/", "apt, at every run"),
    ("/etc/cni/net.d/10-kubastion.conflist", "containerd, which notices that it is removed"),
    ("/etc/containerd/certs.d/", "containerd, at every pull"),
    ("/etc/dnf/automatic.conf", "dnf-automatic, at every run"),
    ("/etc/etcd/etcd.conf", "etcd, before it has data"),
    ("/etc/kubastion/firewall.nft", "nft: an item of its own loads it"),
    ("/etc/kubastion/pod-routes", "nobody: it is removed with its unit"),
    ("/etc/kubernetes/admin.conf", "kubectl, at every run"),
    (
        "/etc/kubernetes/enc/encryption.yaml",
        "the API server, every minute (`encryption-provider-config-automatic-reload`)",
    ),
    ("/etc/kubernetes/kubastion/discovery.conf", "kubeadm, when it joins"),
    ("/etc/kubernetes/kubastion/kubeadm-join.yaml", "kubeadm, when it joins"),
    ("/etc/kubernetes/kubastion/kubeadm-upgrade.yaml", "kubeadm, when somebody upgrades with it"),
    (
        "/etc/kubernetes/kubastion/patches/corednsdeployment1+strategic.yaml",
        "kubeadm, when it deploys CoreDNS; of the one that runs `policy-system-workload-hardening` tells",
    ),
    (
        "/etc/kubernetes/pki/",
        "the API server, which reloads certificates and CAs of clients; other readers are watched for",
    ),
    ("/etc/kubernetes/super-admin.conf", "nobody: it is removed"),
    ("/etc/logrotate.d/kubastion", "logrotate, at every run"),
    ("/etc/modules-load.d/kubastion.conf", "systemd, at boot: items load the modules now"),
    ("/etc/pki/rpm-gpg/kubastion-kubernetes", "dnf, at every run"),
    ("/etc/sysctl.d/90-kubastion.conf", "systemd, at boot: items set the same now"),
    (
        "/etc/systemd/system/haproxy.service.d/kubastion.conf",
        "systemd, when it is reloaded: how the unit is started again",
    ),
    (
        "/etc/systemd/system/keepalived.service.d/kubastion.conf",
        "systemd, when it is reloaded: how the unit is started again",
    ),
    ("/etc/systemd/system/kubastion-", "systemd, at boot"),
    ("/etc/yum.repos.d/kubastion-kubernetes.repo", "dnf, at every run"),
    ("/opt/cni/bin/", "containerd, which runs them for every pod"),
    ("/usr/local/bin/", "whoever runs them; daemons are watched for"),
    ("/usr/local/lib/kubastion/", "kubelet and keepalived, which run them again and again"),
    ("/var/lib/cni/networks/kubastion/lock", "nobody: it is there to be locked"),
    ("/var/lib/kubastion/", "systemd, at boot"),
    ("/var/lib/kubelet/pki/", "the kubelet, which reloads certificates"),
];

/// A file that is read once changes nothing until its reader is started again, and nobody would notice.
#[test]
fn every_file_has_somebody_who_reads_it_again() {
    use crate::desired::ItemKind;
    let mut without: std::collections::BTreeSet<String> = Default::default();
    let mut used: std::collections::BTreeSet<&str> = Default::default();
    for (mut inventory, files) in inventories() {
        if inventory.kubernetes.source == SoftwareSource::None {
            inventory.kubernetes.source = SoftwareSource::Preinstalled;
        }
        // What is not installed is not started.
        inventory.host.packages = Switch::On;
        let material = Material::fixture(&inventory);
        for node in &inventory.nodes {
            for os in ["debian 12", "ubuntu 24.04", "rocky 9.4"] {
                let mut facts = facts(node.name.as_str(), os, None);
                let loaded = UnitFacts { load: "loaded".into(), ..UnitFacts::default() };
                facts.units.insert("containerd.service".into(), loaded);
                // Servers of the time were in the inventory once.
                facts.unit_marks.insert("chrony.service".into(), "m".into());
                facts.unit_marks.insert("chronyd.service".into(), "m".into());
                let shared = Shared::default();
                let desired =
                    resolve(&inventory, &files, node, &facts, &material, &shared).unwrap();
                let watched = |wanted: &str| {
                    desired.items.iter().any(|i| match &i.kind {
                        ItemKind::Unit { watches, .. } | ItemKind::Kubeadm { watches, .. } => {
                            watches.iter().any(|w| w == wanted)
                        }
                        _ => false,
                    })
                };
                for item in &desired.items {
                    let (ItemKind::File { path, .. }
                    | ItemKind::Program { path, .. }
                    | ItemKind::Absent { path }) = &item.kind
                    else {
                        continue;
                    };
                    let known = READ_ANEW
                        .iter()
                        .find(|(p, _)| p == path || p.ends_with(['/', '-']) && path.starts_with(p));
                    match known {
                        _ if watched(path) => {}
                        Some((path, _)) => _ = used.insert(path),
                        None => {
                            _ = without.insert(format!(
                                "{path} ({os}, {}, {:?})",
                                node.name, inventory.kubernetes.source
                            ))
                        }
                    }
                }
            }
        }
    }
    assert!(without.is_empty(), "{without:#?}");
    for (path, _) in READ_ANEW {
        assert!(used.contains(path), "{path} is no file of any node");
    }
}
