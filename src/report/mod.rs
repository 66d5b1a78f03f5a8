//! Last stage: results for people and machines.

pub mod assessment;
pub mod bundle;
pub mod certificates;
pub mod controls;
pub mod doctor;
pub mod impact;
pub mod imported;
pub mod plan;
pub mod progress;
pub mod runs;
pub mod table;
pub mod verification;

pub use progress::Monitor;
