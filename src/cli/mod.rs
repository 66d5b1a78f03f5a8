//! Above all stages: the command line (`args`), one file per verb, and the exit codes.

pub mod args;
pub mod exit;
pub mod inventory;
mod lab;
mod output;
pub mod pki;
mod run;

pub use run::{Stop, main};
