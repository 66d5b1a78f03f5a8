//! Tests that a machine cannot carry say so; where a lab is required they fail.

/// Says that a test was not run, and why.
///
/// # Panics
/// Where `KUBASTION_REQUIRE_LAB` is set: with tests left out, green would say little.
pub fn skipped(test: &str, why: &str) {
    assert!(std::env::var_os("KUBASTION_REQUIRE_LAB").is_none(), "{test} was not run: {why}");
    eprintln!("SKIPPED {test}: {why}");
}
