//! What `verify` found: a file for each form.

pub mod json;
pub mod summary;
mod switched_off;
#[cfg(test)]
mod tests;
pub mod text;

pub use json::json;
pub use summary::summary;
pub use text::{Detail, text};
