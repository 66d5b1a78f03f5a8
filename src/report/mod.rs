//! Last stage: results for people and machines.

pub mod doctor;
pub mod findings;
pub mod progress;
pub mod runs;

pub use progress::Monitor;
