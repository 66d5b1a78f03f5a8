//! Above all stages: the command line (`args`), one file per verb, and the exit codes.

pub mod apply;
pub mod args;
mod ask;
pub mod bundle;
mod completions;
pub mod controls;
mod doctor;
pub mod exit;
mod incomplete;
mod init;
pub mod inventory;
mod keys;
mod kubeconfig;
mod lab;
mod leave;
pub mod objects;
mod output;
pub mod pipeline;
pub mod pki;
pub mod plan;
mod probe;
mod reset;
pub mod rollback;
mod run;
pub mod runs;
pub mod trust;
pub mod verify;

pub use run::{Stop, main};
