//! Any bytes as a saved plan: each of its steps is one line for a node, or is refused; none says more
//! than one step, none steers a terminal when it is shown.
#![no_main]

use kubastion::plan::Plan;
use kubastion::report::plan::{Detail, render};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(plan) = serde_json::from_slice::<Plan>(data) else { return };
    kubastion_fuzz::assert_tame(&render(&plan, Detail::Steps));
    for action in plan.nodes.values().flat_map(|n| &n.transactions).flat_map(|t| &t.steps) {
        if let Ok(line) = action.step.line(0) {
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }
});
