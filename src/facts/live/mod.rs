//! What is in effect on a node, beside what its files say: one program more, which checks alone ask for.
//!
//! [`collect_live`] runs `live.sh`; [`parse`] turns its answer into [`LiveFacts`]. Each field of the answer is in base64, so
//! that no name, link or output of the node can look like another record.

mod model;
mod parse;
mod request;

pub use model::{
    HomeKubeconfig, LiveFacts, LiveProcess, LiveRequest, LiveSocket, LiveUnit, PathAccess,
    PathKind, StateChange,
};
pub use parse::live;
pub use request::{SCRIPT as LIVE_SCRIPT, collect_live};
