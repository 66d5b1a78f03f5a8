//! Names and times that a plan and its nodes have agreed on.

/// Seconds a node waits for a confirmation after a change that can cut access.
pub const CONFIRM_HOST_S: u32 = 60;
/// Seconds an etcd member waits: its peers have to start, elect a leader and answer.
pub const CONFIRM_ETCD_S: u32 = 240;

/// Unit that undoes an unconfirmed transaction when the node boots.
pub const GUARD_UNIT: &str = "kubastion-guard.service";

pub use crate::facts::CLUSTER_MARK;

/// What a mark says of a daemon that may run with what was changed on the node (`Step::MarkStale`), and what
/// the facts say where kubeadm's files are not as they were then.
pub(super) const CHANGED: &str = "changed";

/// What a kubelet that is part of a cluster runs by.
pub const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";
