//! From typed inputs to the text of configuration files, and back to see that it says the same.
//!
//! Every file under templates/ has a row in [`catalogue`] and one input struct that implements
//! [`Input`]. A template gets strings only as [`Text`]; [`render`] renders it twice, with the strings
//! and with harmless marks in their place, parses both outputs and compares them: whatever stands in
//! an inventory, it can change values and never the structure of a file. docs/decisions/render.md
//! says why.

mod catalogue;
mod engine;
mod filters;
mod format;
pub mod input;
mod text;

pub use catalogue::{TEMPLATES, Template};
pub use engine::{Input, RenderError, fixed, render, render_secret};
pub use format::{Format, FormatError};
pub use text::Text;
