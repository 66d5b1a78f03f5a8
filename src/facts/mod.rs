//! Second stage: what a node is and holds now, read in one batch per node.
//!
//! [`collect`] runs one program on the node (`collect.sh`); [`parse`] turns its answer into
//! [`NodeFacts`]. What a node did not answer is an error, never a default.

pub mod answers;
mod batch;
pub mod cluster;
mod credentials;
pub mod etcd;
mod extras;
pub mod live;
pub mod model;
pub mod observation;
pub mod parse;
pub mod stored;

pub use batch::{COMMANDS, FactsError, PROCESSES, SCRIPT, collect};
pub use credentials::{CREDENTIALS_SCRIPT, Held, read_credentials};
pub use model::*;
