//! What several test modules share.

pub(crate) mod api;
pub mod fleet;
#[path = "../../benches/fleet/proxy.rs"]
pub mod proxy;
pub mod skip;
