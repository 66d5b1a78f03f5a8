//! Disposable nodes on this machine, for the demo, the tests and the benches.
//!
//! A node is systemd-nspawn with a network namespace of its own: a real systemd, sshd, nftables,
//! containerd and etcd. All nodes share one cached root filesystem through overlayfs.
//!
//! ```text
//! Spec --preflight--> rootfs (cached) --slot--> switch + host link --per node--> overlay, keys,
//!   supervisor (netns, cgroups, systemd-nspawn) --SSH banner--> inventory.yaml
//!   --stock, software--> kubeadm init, join --> a cluster as others have it
//! ```
//!
//! Nodes have no uplink: the switch is a network namespace, and the host does not forward for it.
//! Nothing here is meant for machines that anybody relies on: a node is root on this machine's
//! kernel, and vm.* and kernel.* sysctls are the host's own.
//!
//! Everything a lab makes carries its id: the switch and node namespaces `kbID` and `kbID-NODE`,
//! the host link `kbID`, the cgroups `kubastion-lab/ID/NODE`. [`Lab::down`] removes what carries
//! that id and nothing else.

mod address;
mod apt_sources;
mod cgroup;
mod command;
mod error;
mod handle;
mod inventory;
mod network;
mod node;
mod packages;
mod preflight;
mod process;
mod rootfs;
mod spec;
mod state;
mod status;
pub mod stock;

pub use error::{Error, NodeError};
pub use handle::{Lab, Step, quiet};
pub use preflight::preflight;
pub use spec::{DEFAULT_CACHE, LabBundle, Spec, Stock, StockEtcd, StockVariant};
pub use state::{Phase, STATE_FILE};
pub use status::{NodeStatus, RunState};
