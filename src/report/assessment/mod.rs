//! What `assess` found: a file for each form.

pub mod json;
#[cfg(test)]
mod tests;
pub mod text;
mod words;

pub use json::json;
pub use text::{Detail, text};
