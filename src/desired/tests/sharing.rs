//! What is made once for many nodes.

use std::fmt::Write as _;

use super::super::{Content, resolve};
use super::{INVENTORY, facts, file, load};
use crate::desired::Shared;
use crate::pki::Material;

/// Counted, not timed: a text that names every node is not made again for every node.
#[test]
fn firewall_tables_are_as_many_as_classes_of_nodes() {
    for workers in [4, 40] {
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
        let shared = Shared::default();
        let made: Vec<_> = inventory
            .nodes
            .iter()
            .map(|n| {
                let facts = facts(n.name.as_str(), "debian 13", None);
                let shares = resolve(&inventory, n, &facts, &material, &shared).unwrap();
                let alone = resolve(&inventory, n, &facts, &material, &Shared::default()).unwrap();
                let table = |wanted| file(wanted, super::super::firewall::RULES).clone();
                assert_eq!(table(&shares).bytes(), table(&alone).bytes(), "{}", n.name);
                table(&shares)
            })
            .collect();
        // A control plane, an etcd member, workers.
        assert_eq!(shared.tables(), 3, "{workers} workers");
        let [.., Content::Text(one), Content::Text(other)] = made.as_slice() else {
            panic!("no texts")
        };
        assert!(std::sync::Arc::ptr_eq(one, other));
    }
}
