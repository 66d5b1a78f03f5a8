//! The cluster's API, over the SSH connection of a node: between facts, which it reads, and the stages that change
//! objects or try what they may not.
//!
//! [`Client`] sends requests to one server as somebody. What a server answers is data that nobody vouches for: it may be
//! of any shape and size.

pub mod bundled;
pub mod certificate_requests;
pub mod client;
pub mod discovery;
pub mod lists;
pub mod objects;
#[cfg(test)]
pub(crate) mod played;
pub mod readiness;
pub mod rewrite;

pub use client::{ApiAccess, ApiError, Client};
