//! Fourth stage: the difference between what a node holds and what it should hold, as an ordered
//! list of steps.
//!
//! Pure and deterministic: the same inventory, facts and key material give the same [`Plan`] to the
//! byte, and so the same id. A saved plan is therefore bound to what it saw: apply plans again and
//! refuses if the id has changed.

pub mod accept;
pub mod api_change;
pub mod bundled;
pub mod changes;
pub mod climb;
pub mod cluster;
pub mod diff;
pub mod drain;
pub mod encryption;
pub mod fleet;
pub mod immutable;
pub mod ladder;
pub mod members;
pub mod membership;
pub mod model;
pub mod objects;
pub mod order;
mod outage;
pub mod planner;
pub mod preflight;
pub mod reset;
pub mod rollback;
pub mod settle;
mod stacked;
pub mod stage;
pub mod step;
pub mod stored_data;
pub mod why;

#[cfg(test)]
mod keys_tests;

pub use diff::{Obstacle, node_plan};
pub use fleet::{Answered, FleetFacts};
pub use model::*;
pub use stage::*;
pub use step::*;
pub use why::{HeldBack, Why};
