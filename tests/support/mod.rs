//! What several test modules share.

pub(crate) mod api;
pub mod fleet;
