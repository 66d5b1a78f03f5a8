//! From what somebody else's cluster shows to an inventory of it.
//!
//! The data passes the files in this order: [`target`] (the named machines, and how to log in to them), [`kubeconfig`] (who
//! the cluster's API is asked as), [`nodes`] (the machines that the API names), [`kubeadm`] (what kubeadm was told),
//! [`recognition`] (whose cluster it is), [`cluster`] (all of that as one), [`inventory`] (the same as an [`Inventory`], in memory), [`imported`] (an inventory to keep,
//! with each setting that is no default).
//! Reading is the business of `facts` and `api`, asking people that of `workflow`. Pure: no clock, network or disk.
//!
//! [`Inventory`]: crate::inventory::Inventory

pub mod cluster;
pub mod imported;
mod inventory;
mod kubeadm;
pub mod kubeconfig;
pub mod nodes;
mod places;
pub mod recognition;
pub mod target;

pub use cluster::{AnsweredBy, EtcdPlace, Found, describe};
pub use inventory::{inventory, of_targets};
pub use kubeconfig::Kubeconfig;
pub use nodes::FoundNode;
pub use recognition::{Changes, Distribution, Recognized, watch, watch_settings};
pub use target::{HostKey, SshAccess, Target};
