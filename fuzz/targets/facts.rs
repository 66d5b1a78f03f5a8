//! Any bytes as a node's answer: an error or facts, nothing in them that steers a terminal, and what
//! follows from them (preflight, desired files' watch list, judgement) does not panic.
#![no_main]

use std::sync::LazyLock;

use kubastion::inventory::{Files, Inventory};

static INVENTORY: LazyLock<Inventory> = LazyLock::new(kubastion_fuzz::inventory);

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for node in &INVENTORY.nodes {
        for watch in [
            kubastion::desired::watch(&INVENTORY, &Files::default(), node),
            kubastion::checks::watch(&INVENTORY, &Files::default(), node),
        ] {
            let Ok(facts) = kubastion::facts::parse::facts(&node.name, &watch, "word", data) else {
                continue;
            };
            let text = serde_json::to_string(&facts).expect("facts are plain values");
            kubastion_fuzz::assert_tame(&text);
            let _ = kubastion::plan::preflight::check(&INVENTORY, None, node, &facts, 0);
            let _ = kubastion::checks::Observed::from_facts(&facts, "SHA256:fuzz");
        }
    }
});
