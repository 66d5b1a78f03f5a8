//! Third stage: what every node should hold, each item with the controls that want it.
//!
//! Pure: inventory, facts and PKI material in, [`DesiredState`] out. No clock, network or disk.

pub mod model;
mod resolve;

pub use model::*;
pub use resolve::{ResolveError, resolve, watch};
