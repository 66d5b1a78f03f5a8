//! Live state of a node, as opposed to its files, read by a program of its own that only `verify` runs.
//!
//! [`collect_live`] runs `live.sh`; [`parse`] turns its answer into [`LiveFacts`]. Each field of the answer is in base64, so
//! that no name, link or output of the node can look like another record.

mod fields;
mod model;
mod parse;
mod planted;
mod request;

pub use model::{
    Accounts, FileDigests, HomeKubeconfig, Irregular, Journal, LiveFacts, LiveProcess, LiveRequest,
    LiveSocket, LiveUnit, MountChange, PathAccess, PathKind, SetId, StateChange,
};
#[cfg(test)]
pub(super) use parse::RECORDS;
pub use parse::live;
pub use request::{SCRIPT as LIVE_SCRIPT, collect_live};

#[cfg(test)]
mod tests;
