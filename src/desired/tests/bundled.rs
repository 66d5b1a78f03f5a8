//! Everything that the nodes of clusters with a bundle get, by Kubernetes minor, word for word.
//!
//! Below `tests/golden/nodes`, four nodes of 1.36 stand in full: `items.txt` has a line for each item,
//! and `files/` every file that is rendered or copied from the key store, as on the node. What is a
//! secret there holds the planted words of these tests. The digest of a file of the bundle is that of its
//! name; `same.txt` names the files that an earlier node has word for word. All other nodes stand as their
//! difference from one of these, which is what a reviewer asks: what makes the first control plane another
//! one than those that join, and what changes between minors.
//!
//! `UPDATE_GOLDEN=1 cargo test golden` writes the tree anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::golden::headline;
use super::{INVENTORY, desired_with, facts, facts_with_addresses, load, managed, with_probe};
use crate::bundle::{COMPONENTS, Manifest};
use crate::desired::{Content, ItemKind, NodeDesired, join};
use crate::inventory::{Files, Inventory, KubernetesVersion};

/// The minor whose nodes stand in full.
const BASE_MINOR: u16 = 36;

/// A node of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    cluster: &'static str,
    node: &'static str,
    /// Whether the cluster begins with it.
    founder: bool,
    /// The node that it is shown as a difference from; none if it stands in full.
    base: Option<(&'static str, &'static str)>,
}

/// A single control plane behind an address that is somebody else's; three that keep it themselves; etcd
/// on a node of its own.
#[rustfmt::skip]
const PLACES: &[Place] = &[
    Place { cluster: "external",  node: "cp-1", founder: true,  base: None },
    Place { cluster: "external",  node: "w-1",  founder: false, base: None },
    Place { cluster: "managed",   node: "cp-1", founder: true,  base: Some(("managed", "cp-2")) },
    Place { cluster: "managed",   node: "cp-2", founder: false, base: None },
    Place { cluster: "managed",   node: "w-1",  founder: false, base: Some(("external", "w-1")) },
    Place { cluster: "dedicated", node: "cp-1", founder: true,  base: Some(("external", "cp-1")) },
    Place { cluster: "dedicated", node: "e-1",  founder: false, base: None },
];

/// A bundle with all that the components know, and an add-on.
pub(crate) fn manifest(minor: u16) -> Manifest {
    let kubernetes = format!("1.{minor}.2");
    let versions = BTreeMap::from([
        ("cni-plugins", "v1.9.1".to_owned()),
        ("containerd", "v2.2.7".to_owned()),
        ("coredns", "v1.14.2".to_owned()),
        ("etcd", "v3.6.13".to_owned()),
        ("kubernetes", format!("v{kubernetes}")),
        ("pause", "3.10.2".to_owned()),
        ("runc", "v1.3.6".to_owned()),
    ]);
    let mut files = Vec::new();
    let mut add = |path: String, kind: &str, component: &str, images: Vec<String>| {
        files.push(serde_json::json!({
            "component": component, "images": images, "kind": kind, "mode": "0755",
            "origin": "imported", "sha256": crate::plain::hex(&Sha256::digest(&path)),
            "path": path, "size": path.len(),
        }));
    };
    for row in COMPONENTS {
        for (program, _) in row.binaries {
            add(format!("bin/{program}"), "binary", row.name, vec![]);
        }
        for image in row.images {
            let name = image.rsplit('/').next().unwrap();
            let reference = format!("{image}:{}", versions[row.name]);
            add(format!("images/{name}.tar"), "image", row.name, vec![reference]);
        }
    }
    for plugin in ["bandwidth", "bridge", "host-local", "loopback", "portmap", "vlan"] {
        add(format!("cni/{plugin}"), "cni-plugin", "cni-plugins", vec![]);
    }
    add("manifests/metrics.yaml".into(), "manifest", "add-on", vec![]);
    let component =
        |(name, version)| (name, serde_json::json!({ "version": version, "origin": "imported" }));
    serde_json::from_value(serde_json::json!({
        "format": 1, "created": "2026-02-01T12:00:00Z", "architecture": "amd64",
        "kubernetes": kubernetes, "files": files,
        "components": versions.into_iter().map(component).collect::<BTreeMap<_, _>>(),
    }))
    .unwrap()
}

pub(super) fn loaded(cluster: &str, minor: u16) -> (Inventory, Files) {
    let dedicated =
        INVENTORY.replace("kubernetes: 1.36.2", &format!("kubernetes: 1.{minor}.2")).replace(
            "ssh:",
            "kubernetes:\n  source: bundle\n  bundle: { path: b, signers: [ssh-ed25519 \
             AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f] }\nssh:",
        );
    let stacked = || {
        let lines = dedicated.lines().filter(|l| !l.starts_with("etcd:") && !l.contains("e-1"));
        lines.map(|l| format!("{l}\n")).collect::<String>()
    };
    let inventory = load(&match cluster {
        "external" => stacked(),
        "managed" => managed(&stacked(), "192.0.2.5:8443"),
        _ => dedicated,
    });
    let software = Some(manifest(minor).software());
    (inventory, Files { software, ..with_probe(62) })
}

fn wanted(place: &Place, minor: u16) -> NodeDesired {
    let (inventory, files) = loaded(place.cluster, minor);
    let facts = match place.node.starts_with("cp") {
        true => facts_with_addresses(place.node, "debian 13"),
        false => facts(place.node, "debian 13", None),
    };
    let mut wanted = desired_with(&inventory, &files, place.node, &facts);
    if place.founder {
        join::start_cluster(&mut wanted.items);
    }
    wanted
}

/// A node as texts by path: the list of its items, and its files.
type Whole = BTreeMap<String, String>;

fn whole(desired: &NodeDesired) -> Whole {
    let mut whole = Whole::new();
    let mut list = String::new();
    for note in &desired.notes {
        let _ = writeln!(list, "note: {note}");
    }
    for item in &desired.items {
        let mut line = format!("{} {}", item.phase.name(), headline(item));
        if let ItemKind::File { path, content, .. } = &item.kind {
            let (kind, text) = match content {
                Content::Text(text) => ("text", text.to_string()),
                Content::Secret(s) => ("secret", String::from_utf8(s.expose().clone()).unwrap()),
                Content::Bytes(b) => {
                    ("bytes", format!("{} bytes: {}\n", b.len(), content.sha256()))
                }
            };
            line.push_str(&format!(" {kind}"));
            let before = whole.insert(format!("files{path}"), text);
            assert!(before.is_none(), "{path} stands twice");
        }
        for control in &item.controls {
            line.push_str(&format!(" {control}"));
        }
        let _ = writeln!(list, "{line}");
    }
    whole.insert("items.txt".to_owned(), list);
    whole
}

/// What is other in a node than in another one; with the other one, it says everything about it.
fn difference(from: &Whole, to: &Whole) -> String {
    let paths: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    let mut out = String::new();
    for path in paths {
        let [old, new] = [from, to].map(|w| w.get(path).map_or("", String::as_str));
        if from.contains_key(path) && old == new && to.contains_key(path) {
            continue;
        }
        let name = |whole: &Whole| match whole.contains_key(path) {
            true => path.as_str(),
            false => "none",
        };
        let diff = similar::TextDiff::from_lines(old, new);
        let _ =
            write!(out, "{}", diff.unified_diff().context_radius(2).header(name(from), name(to)));
    }
    if out.is_empty() { "no difference\n".to_owned() } else { out }
}

/// The whole tree.
fn tree() -> BTreeMap<PathBuf, String> {
    let mut tree = BTreeMap::new();
    let base: BTreeMap<_, Whole> =
        PLACES.iter().map(|p| ((p.cluster, p.node), whole(&wanted(p, BASE_MINOR)))).collect();
    let mut first: BTreeMap<(&String, &String), String> = BTreeMap::new();
    for place in PLACES {
        let (cluster, node) = (place.cluster, place.node);
        let own = &base[&(cluster, node)];
        match place.base {
            None => {
                let mut same = String::new();
                for (path, text) in own {
                    let here = format!("{cluster}/{node}");
                    let first = first.entry((path, text)).or_insert_with(|| here.clone());
                    if *first == here {
                        tree.insert(Path::new(&here).join(path), text.clone());
                    } else {
                        let _ = writeln!(same, "{path} as {first}");
                    }
                }
                if !same.is_empty() {
                    tree.insert(format!("{cluster}/{node}/same.txt").into(), same);
                }
            }
            Some(from) => {
                let name = format!("{cluster}/{node}.from-{}-{}.diff", from.0, from.1);
                tree.insert(name.into(), difference(&base[&from], own));
            }
        }
        for minor in KubernetesVersion::SUPPORTED_MINORS.filter(|m| *m != BASE_MINOR) {
            let name = format!("minors/1.{minor}/{cluster}-{node}.from-1.{BASE_MINOR}.diff");
            tree.insert(name.into(), difference(own, &whole(&wanted(place, minor))));
        }
    }
    tree
}

/// All files below a directory, by their path in it.
fn read(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                found.insert(path.strip_prefix(root).unwrap().to_owned(), text);
            }
        }
    }
    found
}

#[test]
fn golden_nodes_of_a_bundle_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/nodes");
    let found = tree();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        if root.exists() {
            std::fs::remove_dir_all(&root).unwrap();
        }
        for (path, text) in &found {
            let file = root.join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        return;
    }
    let pinned = read(&root);
    let mut problems = Vec::new();
    for path in pinned.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        let place = path.display().to_string();
        match (pinned.get(path), found.get(path)) {
            (None, _) => problems.push(format!("{place} is not in the golden tree")),
            (_, None) => problems.push(format!("{place} is on no node any more")),
            (Some(old), Some(new)) if old != new => {
                let diff = similar::TextDiff::from_lines(old.as_str(), new.as_str());
                problems.push(diff.unified_diff().header(&place, "now").to_string());
            }
            _ => {}
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// The golden tree is made of [`whole`] alone, so that what it leaves out would be pinned nowhere.
#[test]
fn every_item_has_a_line_and_every_file_its_text() {
    for place in PLACES {
        for minor in KubernetesVersion::SUPPORTED_MINORS {
            let mut wanted = wanted(place, minor);
            let shown = whole(&wanted);
            let lines: Vec<&str> =
                shown["items.txt"].lines().filter(|l| !l.starts_with("note: ")).collect();
            assert_eq!(lines.len(), wanted.items.len());
            assert_eq!(lines.iter().collect::<BTreeSet<_>>().len(), lines.len(), "a line twice");
            let mut files = 0;
            for item in &wanted.items {
                let ItemKind::File { path, content, .. } = &item.kind else { continue };
                files += 1;
                if !matches!(content, Content::Bytes(_)) {
                    assert_eq!(shown[&format!("files{path}")].as_bytes(), content.bytes());
                }
            }
            assert_eq!(shown.len(), files + 1);
            for index in 0..wanted.items.len() {
                let item = wanted.items.remove(index);
                assert!(whole(&wanted) != shown, "{} could go unseen", headline(&item));
                wanted.items.insert(index, item);
            }
        }
    }
}
