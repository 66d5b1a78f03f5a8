//! What verbs do, between the stages and the command line: a file for each story. Verbs parse, call and print.

pub mod drain;
pub mod etcd_members;
pub mod keys;
pub mod objects;
pub mod observe;
pub mod planner;
mod probe;
pub mod software;
