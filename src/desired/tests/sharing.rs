//! What is made once for many nodes.

use std::fmt::Write as _;

use super::super::{Content, firewall, resolve, runtime};
use super::{INVENTORY, facts, file, load};
use crate::desired::Shared;
use crate::inventory::{Files, Node, Role};
use crate::pki::Material;

/// Counted, not timed: a text that many nodes have alike, or that names every node, is not made again for every node.
#[test]
fn texts_are_as_many_as_classes_of_nodes() {
    let made_with = |workers: usize| {
        let mut text = INVENTORY.to_owned();
        for n in 0..workers {
            let _ = writeln!(
                text,
                "  - {{ name: more-{n}, addresses: [192.0.2.{}, \"fd00:1::{n:x}:1\"], roles: [worker] }}",
                100 + n
            );
        }
        let inventory = load(&text);
        let material = Material::fixture(&inventory);
        let (shared, files) = (Shared::default(), Files::default());
        let texts_of_all = |path: &str| {
            let of = |n: &Node| {
                let facts = facts(n.name.as_str(), "debian 13", None);
                let shares = resolve(&inventory, &files, n, &facts, &material, &shared).unwrap();
                let alone =
                    resolve(&inventory, &files, n, &facts, &material, &Shared::default()).unwrap();
                let one = file(&shares, path).clone();
                assert_eq!(one.bytes(), file(&alone, path).bytes(), "{}", n.name);
                one
            };
            // A member of etcd has no pods.
            let with_kubelet = inventory.nodes.iter().filter(|n| !n.has_role(Role::Etcd));
            with_kubelet.map(of).collect::<Vec<_>>()
        };
        for path in [firewall::RULES, runtime::ROUTES] {
            let all = texts_of_all(path);
            let [.., Content::Text(one), Content::Text(other)] = all.as_slice() else {
                panic!("{path} is no text")
            };
            assert!(one.is_shared_with(other), "{path}");
        }
        (shared.tables(), shared.texts())
    };
    let (few, many) = (made_with(4), made_with(44));
    // Of a control plane and of a worker.
    assert_eq!((few.0, many.0), (2, 2));
    // A worker's own: name and address in kubeadm's files, the node's part of the pod networks, its certificates.
    let own = (many.1 - few.1) / 40;
    assert_eq!(many.1 - few.1, 40 * own, "the number of texts is not linear in the nodes");
    assert!(own <= OF_A_WORKER, "{own} texts are made for each worker");
}

/// Texts that only one worker has.
const OF_A_WORKER: usize = 7;
