//! Which secret reaches which node, and that none is shown.

use std::collections::BTreeSet;

use base64::prelude::{BASE64_STANDARD, Engine};

use super::{INVENTORY, desired, facts, load};
use crate::desired::{Content, ItemKind, NodeDesired};
use crate::inventory::{CaCustody, Inventory};

/// Names of all keys of the fixture.
fn planted(inventory: &Inventory) -> Vec<String> {
    let mut names =
        vec!["ca", "etcd/ca", "front-proxy-ca", "sa", "operator/admin", "operator/super-admin"]
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>();
    for node in &inventory.nodes {
        names
            .extend(crate::pki::PROFILES.iter().map(|p| format!("nodes/{}/{}", node.name, p.file)));
    }
    names
}

/// The keys that stand in the files, as they are or in base64, by whether the file is a secret.
fn held(inventory: &Inventory, desired: &NodeDesired, secret: bool) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for item in &desired.items {
        let ItemKind::File { content, .. } = &item.kind else { continue };
        if matches!(content, Content::Secret(_)) != secret {
            continue;
        }
        let text = String::from_utf8_lossy(content.bytes()).into_owned();
        for name in planted(inventory) {
            let key = format!("PLANTED KEY {name}\n");
            if text.contains(&key) || text.contains(&BASE64_STANDARD.encode(&key)) {
                found.insert(name);
            }
        }
        for n in [b'1', b'2'] {
            if text.contains(&BASE64_STANDARD.encode([n; 32])) {
                found.insert(format!("enc k{}", n - b'0'));
            }
        }
    }
    found
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

#[test]
fn nodes_hold_their_own_secrets_and_no_others() {
    let mut inventory = load(INVENTORY);
    let of = |inventory: &Inventory, name: &str| {
        held(inventory, &desired(inventory, name, &facts(name, "debian 13", None)), true)
    };
    let worker = set(&["nodes/w-1/kubelet-client", "nodes/w-1/kubelet-serving"]);
    assert_eq!(of(&inventory, "w-1"), worker);
    assert_eq!(of(&inventory, "e-1"), set(&["nodes/e-1/etcd/peer", "nodes/e-1/etcd/server"]));
    let mut plane = set(&[
        "ca",
        "enc k1",
        "enc k2",
        "nodes/cp-1/apiserver",
        "nodes/cp-1/apiserver-etcd-client",
        "nodes/cp-1/apiserver-kubelet-client",
        "nodes/cp-1/apiserver-probe",
        "nodes/cp-1/controller-manager",
        "nodes/cp-1/front-proxy-client",
        "nodes/cp-1/kubelet-client",
        "nodes/cp-1/kubelet-serving",
        "nodes/cp-1/scheduler",
        "operator/admin",
        "sa",
    ]);
    assert_eq!(of(&inventory, "cp-1"), plane);
    inventory.pki.ca_custody = CaCustody::Operator;
    plane.remove("ca");
    assert_eq!(of(&inventory, "cp-1"), plane);
}

#[test]
fn no_secret_stands_in_what_may_be_shown() {
    let inventory = load(INVENTORY);
    for node in &inventory.nodes {
        let name = node.name.as_str();
        let desired = desired(&inventory, name, &facts(name, "debian 13", None));
        assert_eq!(held(&inventory, &desired, false), BTreeSet::new(), "{name}");
        assert!(!desired.notes.iter().any(|n| n.contains("PLANTED")));
    }
}

#[test]
fn secrets_are_readable_by_root_and_by_the_group_they_are_for() {
    let inventory = load(INVENTORY);
    for node in &inventory.nodes {
        let name = node.name.as_str();
        for item in desired(&inventory, name, &facts(name, "debian 13", None)).items {
            if let ItemKind::File { path, content: Content::Secret(_), access, .. } = item.kind {
                let mode = if access.group == "root" { 0o600 } else { 0o640 };
                assert_eq!((access.mode, access.owner.as_str()), (mode, "root"), "{path}");
            }
        }
    }
}

/// Whoever owns a directory may put a link to anywhere into the place of what is in it.
#[test]
fn root_writes_into_no_directory_that_somebody_else_owns() {
    let inventory = load(INVENTORY);
    let mut theirs_are_there = false;
    for node in &inventory.nodes {
        let name = node.name.as_str();
        let items = desired(&inventory, name, &facts(name, "debian 13", None)).items;
        let access_of = |item: &ItemKind| match item {
            ItemKind::Directory { path, access } => Some((path.clone(), access.clone())),
            _ => None,
        };
        let theirs: Vec<String> = items
            .iter()
            .filter_map(|i| access_of(&i.kind))
            .filter(|(_, a)| a.owner != "root" || a.mode & 0o022 != 0)
            .map(|(path, _)| path + "/")
            .collect();
        theirs_are_there |= !theirs.is_empty();
        for item in &items {
            let (ItemKind::File { path, .. }
            | ItemKind::Directory { path, .. }
            | ItemKind::Program { path, .. }
            | ItemKind::Permissions { path, .. }
            | ItemKind::Absent { path }) = &item.kind
            else {
                continue;
            };
            assert!(!theirs.iter().any(|dir| path.starts_with(dir)), "{name}: {path}");
        }
    }
    assert!(theirs_are_there, "etcd's data");
}
