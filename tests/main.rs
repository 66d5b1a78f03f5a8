//! All integration tests in one binary, a module for each capability; those of clusters out of a bundle have one each.

// Everything here is test code, also the functions that clippy cannot tell for it.
#![allow(clippy::unwrap_used)]

mod apply;
mod bundle;
mod cluster_api;
mod docs;
mod first_hour;
mod inventory;
mod lab;
mod mistakes;
mod others;
mod packages;
mod pki;
mod probe;
mod rounds;
mod structure;
mod support;
mod transport;
mod verify;
mod whole;
