//! First stage: the operator's YAML becomes a typed, validated [`Inventory`].
//!
//! Nothing here touches the network. A later stage may rely on every invariant
//! that [`validate`] checks.

pub mod model;
pub mod names;

pub use model::*;
pub use names::*;
