//! Any JSON as the lists of the cluster's API: every rule comes to a verdict, every plan to changes.
#![no_main]

use std::sync::LazyLock;

use kubastion::checks::{Cluster, Reference, judge_objects};
use kubastion::clock::Clock;
use kubastion::controls::ApiRule;
use kubastion::facts::cluster::{ClusterFacts, ObjectKind};
use kubastion::inventory::Inventory;
use kubastion::plan::cluster::{Wanted, changes};
use serde_json::{Value, json};

static INVENTORY: LazyLock<Inventory> = LazyLock::new(kubastion_fuzz::inventory);

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(items) = serde_json::from_slice::<Value>(data) else { return };
    let mut facts = ClusterFacts::default();
    for &(kind, _) in ObjectKind::ALL {
        // One list for all kinds, or one for each.
        let mine = items.get(format!("{kind:?}")).unwrap_or(&items).clone();
        let _ = facts.insert(kind, &mut json!({"items": mine}));
    }
    for &(rule, _) in ApiRule::ALL {
        let reference = Reference::default();
        let now = Clock::System.now();
        let on = Cluster {
            facts: &facts,
            inventory: &INVENTORY,
            reference: &reference,
            today: now.date(),
            now,
        };
        let verdict = judge_objects(rule, &on);
        kubastion_fuzz::assert_tame(&format!("{verdict:?}"));
    }
    for change in changes(&INVENTORY, &facts, Wanted::ALL) {
        kubastion_fuzz::assert_tame(&change.to_string());
    }
});
