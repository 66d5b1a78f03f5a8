//! Above all stages: the command line (`args`), and one file per verb, which parses, calls and prints. What verbs do is in
//! [`crate::workflow`].

// `println!` panics where a reader has closed the pipe: `output::print` does not.
#![deny(clippy::print_stdout)]

pub mod apply;
pub mod args;
mod ask;
pub mod assess;
pub mod bundle;
mod completions;
pub mod controls;
mod doctor;
mod global;
pub mod impact;
mod import;
mod init;
pub mod inventory;
mod kubeconfig;
mod lab;
mod machines;
mod output;
pub mod pki;
pub mod plan;
mod reset;
pub mod rollback;
mod run;
pub mod runs;
pub mod trust;
pub mod verify;

pub use run::main;
