//! Paths of nodes that tell something of a cluster.

/// The directory of CNI configurations.
pub(super) const CNI: &str = "/etc/cni/net.d";

/// Where kubeadm has etcd beside an API server.
pub(super) const STACKED_ETCD: &str = "/etc/kubernetes/manifests/etcd.yaml";

/// The directory of static pods.
pub(super) const MANIFESTS: &str = "/etc/kubernetes/manifests";

/// Directories of drop-ins of the kubelet's unit.
pub(super) const KUBELET_DROP_INS: &[&str] = &[
    "/etc/systemd/system/kubelet.service.d",
    "/run/systemd/system/kubelet.service.d",
    "/usr/lib/systemd/system/kubelet.service.d",
];

/// Files of nodes whose text tells what somebody set; none of them is a secret.
pub(super) const TEXTS: &[&str] = &[
    "/etc/kubernetes/manifests/kube-apiserver.yaml",
    "/etc/kubernetes/manifests/kube-controller-manager.yaml",
    "/etc/kubernetes/manifests/kube-scheduler.yaml",
    "/var/lib/kubelet/config.yaml",
];
