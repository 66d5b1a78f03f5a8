//! Any bytes as the record of a run: an error, or a list that can be shown.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use kubastion::runs::record;

static BASE: LazyLock<PathBuf> = LazyLock::new(|| {
    let base = kubastion_fuzz::scratch();
    std::fs::create_dir_all(record::directory(&base)).expect("in memory");
    base
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let file = record::directory(&BASE).join("20260101t000000z-000000.jsonl");
    std::fs::write(file, data).expect("in memory");
    if let Ok(records) = record::read_all(&BASE) {
        kubastion_fuzz::assert_tame(&kubastion::report::runs::list(&records.runs));
    }
});
