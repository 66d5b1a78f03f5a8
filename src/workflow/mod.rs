//! What verbs do, between the stages and the command line: a file for each story. Verbs parse, call and print; nothing here
//! does, so that whatever is to be said is returned, or handed to whoever was given for it.
//!
//! What several of them need: [`inventory`] and [`software`] of this machine, the nodes that [`observe`] looks at, [`keys`],
//! [`etcd_members`], [`objects`] of the cluster's API, and [`records`] of what was done.

pub mod accept;
pub mod apply;
pub mod assessment;
pub mod command_error;
pub mod doctor;
pub mod encryption;
pub mod etcd_members;
pub mod finding;
pub mod first_contact;
pub mod impact;
pub mod import;
mod import_keys;
pub mod inventory;
pub mod keys;
pub mod lab;
pub mod objects;
pub mod observe;
pub mod preview;
mod probe;
pub mod records;
pub mod reset;
pub mod rollback;
pub mod saved_plan;
pub mod software;
pub mod verification;
