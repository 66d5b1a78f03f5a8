//! Fifth stage: a plan is carried out, node by node, in transactions that succeed or are undone.
//!
//! The protocol is in `node/txn.sh`, which runs on the node: images of all that will be touched are
//! taken first; a transaction that can cut access is armed before its first change, so that the node
//! goes back by itself unless a *new* connection confirms; confirm and revert race for one atomic
//! decision; and the controller believes only the state that the node itself reports.

pub mod accept;
mod access_paths;
mod bundled;
pub mod cas;
pub mod change_error;
pub mod drain;
pub mod etcd;
pub mod execute;
pub mod execution;
pub mod flows;
pub mod gate;
mod leave;
pub mod members;
pub mod objects;
pub mod payload;
pub mod protocol;
pub mod reset;
mod rewrite;
pub mod stored;
mod transaction;
mod transactions;
mod undo;
pub mod upload;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod logins_tests;
#[cfg(test)]
mod member_tests;
#[cfg(test)]
mod txn_tests;

pub use execute::{Report, execute};
pub use execution::Execution;

/// The transaction program, as it runs on a node, a file a subject; `txn.sh` comes last and starts it.
pub const TXN_SCRIPT: &str = concat!(
    include_str!("node/images.sh"),
    include_str!("node/logins.sh"),
    include_str!("node/rules.sh"),
    include_str!("node/proof.sh"),
    include_str!("node/state.sh"),
    include_str!("node/files.sh"),
    include_str!("node/software.sh"),
    include_str!("node/units.sh"),
    include_str!("node/decision.sh"),
    include_str!("node/undo.sh"),
    include_str!("node/txn.sh")
);
/// Receives a file of a bundle.
pub const BLOB_SCRIPT: &str = include_str!("node/blob.sh");
/// How a node becomes part of a cluster and leaves it; part of a transaction that does that.
pub const MEMBER_SCRIPT: &str = include_str!("node/member.sh");
/// Behind [`MEMBER_SCRIPT`], a program of its own: kubeadm's ConfigMaps, from the files on a control plane.
const UPLOAD_SCRIPT: &str = include_str!("node/upload.sh");
/// Receives a transaction on a node.
pub const STAGE_SCRIPT: &str = include_str!("node/stage.sh");
/// Calls a transaction that is on a node.
pub const CALL_SCRIPT: &str =
    concat!(include_str!("node/old-images.sh"), include_str!("node/call.sh"));
/// Undoes unconfirmed transactions when a node boots.
pub const GUARD_SCRIPT: &str = include_str!("../../templates/host/guard.sh");
