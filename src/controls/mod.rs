//! The controls: what is enforced and verified, and which benchmark wants it.

pub mod ids;
