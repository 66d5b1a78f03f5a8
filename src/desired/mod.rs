//! Third stage: what every node should hold, each item with the controls that want it.
//!
//! Pure: inventory, facts and PKI material in, [`DesiredState`] out. No clock, network or disk.
//!
//! One file for each subject. Every subject is a function from a [`context`] to items in a `Collector`;
//! the same functions, with contents left out, say what has to be looked at on a node.

mod access;
mod apiserver;
pub mod cluster_cas;
mod collector;
mod context;
pub mod differences;
mod encryption;
mod endpoint;
mod error;
mod etcd;
mod etcd_pod;
mod firewall;
pub mod forms;
mod host;
pub mod join;
mod kubeadm;
mod kubelet;
pub mod model;
pub mod objects;
mod observation;
mod order;
mod packages;
mod pki_files;
mod places;
mod platform;
mod repository;
mod resolve;
mod runtime;
mod shared;
mod software;
mod ssh;
mod time;
mod version;
pub(crate) mod watch;

pub use apiserver::kubeadm_init;
pub(crate) use apiserver::{APISERVER_PROBE, INIT};
pub use error::ResolveError;
pub use etcd::peer_url;
pub(crate) use etcd_pod::{EtcdPod, POD as ETCD_POD};
pub use firewall::{ANYBODY, Door, Doors, firewall_sha256};
pub(crate) use firewall::{other_firewalls, tunnel_closed};
pub use kubelet::dns;
pub use model::*;
pub(crate) use pki_files::{CA_FILES, HeldCas, held_cas};
pub(crate) use places::UPGRADE;
pub use resolve::resolve;
pub(crate) use runtime::CONFLIST;
pub use shared::Shared;
pub(crate) use version::Version;
pub use watch::{watch, watch_list};

#[cfg(test)]
pub(crate) mod tests;
