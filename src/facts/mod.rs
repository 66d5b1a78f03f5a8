//! Second stage: what a node is and holds now, read in one batch per node.

pub mod model;

pub use model::*;
