//! Inputs of templates/runtime.

use serde::Serialize;

use super::host::input;
use crate::render::{Input, Text};

/// containerd 1.x.
#[derive(Debug, Clone, Serialize)]
pub struct Containerd1 {
    /// Image of the pod sandbox, as the Kubernetes release has it.
    pub sandbox_image: Text,
    /// Whether systemd manages cgroups; cgroupfs otherwise.
    pub systemd_cgroup: bool,
    /// Whether containers get SELinux labels, where SELinux is on.
    pub selinux: bool,
    /// Whether negative OOM scores are cut to what the kernel allows here.
    pub restrict_oom_score_adj: bool,
    /// Directory of CNI plugins.
    pub cni_bin_dir: Text,
}
input!(Containerd1, "runtime/containerd-1.toml");

/// containerd 2.x.
#[derive(Debug, Clone, Serialize)]
pub struct Containerd2 {
    /// Image of the pod sandbox, as the Kubernetes release has it.
    pub sandbox_image: Text,
    /// Whether systemd manages cgroups; cgroupfs otherwise.
    pub systemd_cgroup: bool,
    /// Whether containers get SELinux labels, where SELinux is on.
    pub selinux: bool,
    /// Whether negative OOM scores are cut to what the kernel allows here.
    pub restrict_oom_score_adj: bool,
    /// Directory of CNI plugins.
    pub cni_bin_dir: Text,
    /// Name of the setting that takes it.
    pub cni_bin_key: CniBinKey,
}
input!(Containerd2, "runtime/containerd-2.toml");

/// 2.1 has a list with a default, beside which the older name may not stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CniBinKey {
    /// `bin_dir`, before 2.1.
    BinDir,
    /// `bin_dirs`, from 2.1 on.
    BinDirs,
}

/// Mirrors of one registry.
#[derive(Debug, Clone, Serialize)]
pub struct RegistryHosts {
    /// URLs, in the order in which they are asked.
    pub mirrors: Vec<Text>,
}
input!(RegistryHosts, "runtime/hosts.toml");

/// The bridge network of one node.
#[derive(Debug, Clone, Serialize)]
pub struct BridgeNetwork {
    /// The node's part of each pod network.
    pub subnets: Vec<Text>,
    /// Default routes, one per family.
    pub routes: Vec<Text>,
}
input!(BridgeNetwork, "runtime/bridge.conflist");

/// Service of a containerd that no package brought.
#[derive(Debug, Clone, Serialize)]
pub struct ContainerdUnit {
    /// `OOMScoreAdjust=`; 0 leaves it out.
    pub oom_score_adjust: i32,
}
input!(ContainerdUnit, "runtime/containerd.service");

/// Routes of the bridge network, for all nodes.
#[derive(Debug, Clone, Serialize)]
pub struct PodRouteList {
    /// One for each part of a pod network that a node has.
    pub routes: Vec<PodRoute>,
}
input!(PodRouteList, "runtime/pod-routes");

/// The service that sets them on a node.
#[derive(Debug, Clone, Serialize)]
pub struct PodRouteUnit {
    /// The node's own parts of the pod networks, which need no route.
    pub own: Vec<Text>,
}
input!(PodRouteUnit, "runtime/pod-routes.service");

/// The route to a node's pods.
#[derive(Debug, Clone, Serialize)]
pub struct PodRoute {
    /// Their network.
    pub subnet: Text,
    /// The node's address.
    pub via: Text,
}
