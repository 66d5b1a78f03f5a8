//! Accepted CAs: everywhere that a CA's certificate stands to verify others, they stand behind it.

use std::collections::{BTreeMap, BTreeSet};

use base64::prelude::{BASE64_STANDARD, Engine};

use super::{bundled, facts, facts_with_addresses};
use crate::desired::{ItemKind, NodeDesired, Shared, resolve};
use crate::inventory::{CaCustody, Files, Inventory, Node};
use crate::pki::{Anchor, Ca, Material, made};

/// Where the CA that issues stands alone: a controller manager signs with one certificate.
const ISSUING_ONLY: &[&str] = &["/etc/kubernetes/pki/ca-issuing.crt"];

/// Files without a CA that are other ones with accepted CAs: the flag that names the file above, and what starts API servers
/// again.
const BESIDE: [&str; 2] = [
    "/etc/kubernetes/kubastion/kubeadm-init.yaml",
    "/etc/kubernetes/kubastion/patches/kube-apiserver2+strategic.yaml",
];

/// Files with CAs that no daemon reads once: it reads them again by itself (the kubelet its clients' CAs), or each program
/// that is started reads them (kubectl, kubeadm).
const READ_AGAIN: &[&str] = &[
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/kubastion/discovery.conf",
    "/etc/kubernetes/pki/ca.crt",
];

fn on(inventory: &Inventory, files: &Files, node: &Node, material: &Material) -> NodeDesired {
    let name = node.name.as_str();
    let facts = match name.starts_with("cp") {
        true => facts_with_addresses(name, "debian 13"),
        false => facts(name, "debian 13", None),
    };
    resolve(inventory, files, node, &facts, material, &Shared::default())
        .unwrap_or_else(|e| panic!("{e:?}"))
}

/// Texts of files by path.
fn texts(desired: &NodeDesired) -> BTreeMap<&str, String> {
    let mut all = BTreeMap::new();
    for item in &desired.items {
        if let ItemKind::File { path, content, .. } = &item.kind {
            let text = String::from_utf8_lossy(content.bytes()).into_owned();
            all.insert(path.as_str(), text);
        }
    }
    all
}

/// What daemons are started again for.
fn watched(desired: &NodeDesired) -> BTreeSet<&str> {
    let mut all = BTreeSet::new();
    for item in &desired.items {
        if let ItemKind::Unit { watches, .. } | ItemKind::Kubeadm { watches, .. } = &item.kind {
            all.extend(watches.iter().map(String::as_str));
        }
    }
    all
}

fn clusters() -> Vec<(Inventory, Files)> {
    let loaded = |name| {
        let (mut inventory, files) = bundled::loaded(name, 36);
        inventory.pki.ca_custody = CaCustody::ControlPlane;
        (inventory, files)
    };
    ["external", "dedicated", "managed"].map(loaded).into()
}

fn accepting(cas: &[Ca]) -> impl Fn(Ca) -> Vec<Anchor> {
    let all: BTreeMap<Ca, Anchor> = cas.iter().map(|ca| (*ca, made(ca.common_name()))).collect();
    move |ca| all.get(&ca).cloned().into_iter().collect()
}

#[test]
fn accepted_cas_stand_wherever_the_issuing_one_verifies() {
    let mut found: BTreeSet<(Ca, String)> = BTreeSet::new();
    for (inventory, files) in clusters() {
        let plain = Material::fixture(&inventory);
        let material = Material::fixture_accepting(&inventory, accepting(Ca::ALL));
        for node in &inventory.nodes {
            let (before, after) =
                (on(&inventory, &files, node, &plain), on(&inventory, &files, node, &material));
            let (old, new) = (texts(&before), texts(&after));
            assert!(old.keys().all(|path| new.contains_key(path)));
            let watched = watched(&after);
            for (path, text) in &new {
                let what = format!("{} {path}", node.name);
                let Some(was) = old.get(path) else {
                    assert!(ISSUING_ONLY.contains(path), "{what}");
                    assert_eq!(text, material.trust(Ca::Cluster).issues());
                    continue;
                };
                let mut holds = false;
                for &ca in Ca::ALL {
                    let trust = material.trust(ca);
                    let encode = |pem: &str| BASE64_STANDARD.encode(pem);
                    for (issues, bundle) in [
                        (trust.issues().to_owned(), trust.bundle().to_owned()),
                        (encode(trust.issues()), encode(trust.bundle())),
                    ] {
                        let count = was.matches(&issues).count();
                        assert_eq!(text.matches(&bundle).count(), count, "{what}");
                        assert_eq!(text.matches(&issues).count(), count, "{what}");
                        if count > 0 {
                            holds = true;
                            found.insert((ca, (*path).to_owned()));
                        }
                    }
                }
                assert_eq!(text != was, holds || BESIDE.contains(path), "{what}");
                if holds {
                    let seen = watched.contains(path) || READ_AGAIN.contains(path);
                    assert!(seen, "nobody is started again for {what}");
                }
            }
        }
    }
    let expected = [
        (Ca::Cluster, "/etc/kubernetes/admin.conf"),
        (Ca::Cluster, "/etc/kubernetes/controller-manager.conf"),
        (Ca::Cluster, "/etc/kubernetes/kubastion/discovery.conf"),
        (Ca::Cluster, "/etc/kubernetes/kubelet.conf"),
        (Ca::Cluster, "/etc/kubernetes/pki/ca.crt"),
        (Ca::Cluster, "/etc/kubernetes/scheduler.conf"),
        (Ca::Etcd, "/etc/etcd/pki/ca.crt"),
        (Ca::Etcd, "/etc/kubernetes/pki/etcd/ca.crt"),
        (Ca::FrontProxy, "/etc/kubernetes/pki/front-proxy-ca.crt"),
    ];
    let expected: BTreeSet<_> = expected.map(|(ca, path)| (ca, path.to_owned())).into();
    assert_eq!(found, expected);
}

#[test]
fn each_daemon_is_started_again_for_its_own_cas_alone() {
    for (inventory, files) in clusters() {
        let plain = Material::fixture(&inventory);
        let changed = |cas: &[Ca], path: &str| -> BTreeSet<bool> {
            let material = Material::fixture_accepting(&inventory, accepting(cas));
            let of = |n: &Node| {
                let (a, b) =
                    (on(&inventory, &files, n, &plain), on(&inventory, &files, n, &material));
                let (a, b) = (texts(&a).remove(path), texts(&b).remove(path));
                (a.is_some() || b.is_some()).then_some(a != b)
            };
            inventory.nodes.iter().filter_map(of).collect()
        };
        let [init, api] = BESIDE;
        for (ca, init_changes, api_changes) in
            [(Ca::Cluster, true, true), (Ca::Etcd, false, true), (Ca::FrontProxy, false, false)]
        {
            assert_eq!(changed(&[ca], init), [init_changes].into(), "{ca:?}");
            assert_eq!(changed(&[ca], api), [api_changes].into(), "{ca:?}");
        }
    }
}

#[test]
fn no_node_gets_a_file_to_sign_with_where_the_operator_keeps_the_key() {
    let (mut inventory, files) = bundled::loaded("external", 36);
    let material = Material::fixture_accepting(&inventory, accepting(Ca::ALL));
    let signs = |inventory: &Inventory| {
        let desired = on(inventory, &files, &inventory.nodes[0], &material);
        let all = texts(&desired);
        let named = all[BESIDE[0]].contains("cluster-signing-cert-file");
        assert_eq!(named, all.contains_key(ISSUING_ONLY[0]));
        named
    };
    inventory.pki.ca_custody = CaCustody::ControlPlane;
    assert!(signs(&inventory));
    inventory.pki.ca_custody = CaCustody::Operator;
    assert!(!signs(&inventory));
}
