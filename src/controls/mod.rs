//! The controls: what is enforced and verified, and which benchmark wants it.
//!
//! One file of rows for each component; [`CATALOGUE`] is all of them, sorted. A row's checks are
//! data ([`check`], and [`set`] for how flags and settings get their values); `verify` evaluates them, on what was rendered and on what a node holds alike.

mod admission;
mod apiserver;
mod catalogue;
pub mod check;
mod containerd;
mod controller_manager;
pub mod daemons;
mod disruption;
mod etcd;
mod host;
mod id_list;
pub mod ids;
mod in_effect;
mod kernel;
mod kube_proxy;
mod kubelet;
pub mod metadata;
mod model;
mod network;
mod passthrough;
pub mod paths;
mod pki;
mod policy;
mod scheduler;
mod scope;
pub mod set;
pub mod settings;

pub use catalogue::{CATALOGUE, COUNT, find};
pub use check::{
    ApiRule, Attack, Check, Config, Daemon, IfMissing, NodeRule, PathRule, Rule, STRONG_SUITES,
    TreeRule,
};
pub use daemons::{DaemonRow, Loopback};
pub use disruption::{Affected, Disruption};
pub use id_list::IdList;
pub use kernel::{KERNEL_SETTINGS, KernelSetting, WantedBy, of_interfaces};
pub use metadata::{METADATA_SERVICES, MetadataService};
pub use model::{ALL_MINORS, Component, Control, Needs, Profiles, References, Severity};
pub use passthrough::{conflict, daemon, is_list};
pub use scope::Scope;
