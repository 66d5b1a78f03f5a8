//! Directories and files on a node that several subjects name.

/// Directory of what is staged for kubeadm.
pub(super) const STAGED: &str = "/etc/kubernetes/kubastion";

/// Directory of kubeadm patches.
pub(super) const PATCHES: &str = "/etc/kubernetes/kubastion/patches";

/// kubeadm's file for whoever upgrades with it.
pub const UPGRADE: &str = "/etc/kubernetes/kubastion/kubeadm-upgrade.yaml";

/// Where the API server's auxiliary files lie.
pub(super) const CONFIG_DIR: &str = "/etc/kubernetes/config";

/// Where the encryption configuration lies.
pub(super) const ENC_DIR: &str = "/etc/kubernetes/enc";

/// Directory of the audit log.
pub(super) const AUDIT_DIR: &str = "/var/log/kubernetes/audit";

/// The kubelet's unit, where no package brings one.
pub(super) const KUBELET_UNIT: &str = "/etc/systemd/system/kubelet.service";

/// Where a member of etcd keeps its data.
pub(super) const ETCD_DATA: &str = "/var/lib/etcd";

/// The certificate of the CA that members and their clients are known by.
pub(super) const ETCD_CA: &str = "/etc/etcd/pki/ca.crt";

/// The certificate of the cluster CA that issues, where `ca.crt` holds accepted ones too: the controller manager takes no file
/// with more than one to sign with (pkg/controller/certificates/signer/ca_provider.go, 1.34 to 1.36).
pub(super) const ISSUING_CA: &str = "/etc/kubernetes/pki/ca-issuing.crt";

/// Directory of the configuration that is this tool's own.
pub(super) const CONFIGURATION: &str = "/etc/kubastion";

/// Directory of everything that this tool keeps on a node.
pub(super) const STATE: &str = "/var/lib/kubastion";
