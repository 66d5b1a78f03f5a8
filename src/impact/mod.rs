//! Who would notice that a cluster is hardened: by name, from what was read.
//!
//! [`rows`] is the table: what is listed, what hardening does about it, who notices, and how it is found. It is found in the file of
//! its subject: [`workloads`], [`ports`], [`clients`], [`webhooks`], [`storage`], [`recorded`]. Nothing is judged here: that a label, a
//! port or a binding is wrong is a matter of [`crate::checks`]. Pure: no clock, network or disk.

mod clients;
pub mod gate;
#[cfg(test)]
mod gate_tests;
mod hardened;
mod model;
mod ports;
mod recorded;
mod rows;
mod storage;
#[cfg(test)]
mod tests;
mod webhooks;
mod workloads;

pub use model::{Impact, Item, Listed, NotSeen, Reading, Row, Section, Subject};
pub use rows::{IDS, ROWS, impact};
