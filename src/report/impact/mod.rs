//! Who would notice that a cluster is hardened: a file for each form.

pub mod json;
#[cfg(test)]
mod tests;
pub mod text;

pub use json::json;
pub use text::{Detail, text};
