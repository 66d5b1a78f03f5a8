//! Any bytes as an inventory: refused with places, or loaded, and then it loads again from what
//! `inventory show` writes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    match kubastion_fuzz::load(data) {
        Err(e) => {
            let problems = e.problems();
            assert!(!problems.is_empty());
            for problem in problems {
                kubastion_fuzz::assert_tame(&problem.to_string());
            }
        }
        Ok(loaded) => {
            let text = kubastion::yaml::to_text(&loaded.inventory);
            let again = kubastion_fuzz::load(text.as_bytes()).expect("it was written");
            assert_eq!(loaded.inventory, again.inventory);
        }
    }
});
