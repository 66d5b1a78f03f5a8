//! The one table of templates.

use std::ops::RangeInclusive;

use super::format::Format;
use crate::inventory::{KubernetesVersion, Role};

/// A template or fixed file.
#[derive(Debug)]
pub struct Template {
    /// Path below templates/.
    pub path: &'static str,
    /// Its text.
    pub text: &'static str,
    /// Format of its output.
    pub format: Format,
    /// Name of the struct under `render::input` that it takes; `-` for a file without inputs.
    pub input: &'static str,
    /// Mode of the file on a node, octal.
    pub mode: u32,
    /// Roles whose nodes get it.
    pub roles: &'static [Role],
    /// Kubernetes minors that it is right for.
    pub minors: RangeInclusive<u16>,
}

const EVERY: &[Role] = &[Role::ControlPlane, Role::Etcd, Role::Worker];
/// By placement, a control-plane node or one with role `etcd`.
const MEMBERS: &[Role] = &[Role::ControlPlane, Role::Etcd];
const CONTROL_PLANE: &[Role] = &[Role::ControlPlane];
/// Where a kubelet runs.
const KUBELET: &[Role] = &[Role::ControlPlane, Role::Worker];
const MINORS: RangeInclusive<u16> = KubernetesVersion::SUPPORTED_MINORS;

macro_rules! rows {
    ($($path:literal, $format:ident, $input:literal, $mode:literal, $roles:expr, $minors:expr;)*) => {
        &[$(Template {
            path: $path,
            text: include_str!(concat!("../../templates/", $path)),
            format: Format::$format,
            input: $input,
            mode: $mode,
            roles: $roles,
            minors: $minors,
        }),*]
    };
}

/// Every file under templates/, sorted.
#[rustfmt::skip]
pub const TEMPLATES: &[Template] = rows![
    "apiserver/admission.yaml",         Yaml,  "Admission",        0o600, CONTROL_PLANE, MINORS;
    "apiserver/audit-balanced.yaml",    Yaml,  "-",                0o600, CONTROL_PLANE, MINORS;
    "apiserver/audit-stig.yaml",        Yaml,  "-",                0o600, CONTROL_PLANE, MINORS;
    "apiserver/authentication.yaml",    Yaml,  "-",                0o600, CONTROL_PLANE, MINORS;
    "apiserver/encryption.yaml",        Yaml,  "EncryptionConfig", 0o600, CONTROL_PLANE, MINORS;
    "apiserver/probes-exec.yaml",       Yaml,  "ApiserverExecProbes", 0o600, CONTROL_PLANE, MINORS;
    "apiserver/probes.yaml",            Yaml,  "ApiserverProbes",  0o600, CONTROL_PLANE, MINORS;
    "endpoint/check.sh",                Shell, "-",                0o755, CONTROL_PLANE, MINORS;
    "endpoint/haproxy.cfg",             Lines, "Haproxy",          0o600, CONTROL_PLANE, MINORS;
    "endpoint/keepalived.conf",         Lines, "Keepalived",       0o600, CONTROL_PLANE, MINORS;
    "endpoint/restart.conf",            Unit,  "-",                0o644, CONTROL_PLANE, MINORS;
    "etcd/etcd.conf",                   Lines, "EtcdBootstrap",    0o600, MEMBERS,       MINORS;
    "etcd/etcd.service",                Unit,  "EtcdUnit",         0o600, MEMBERS,       MINORS;
    "host/apt-updates.conf",            Lines, "AptUpdates",       0o644, EVERY,         MINORS;
    "host/audit.rules",                 Lines, "AuditRules",       0o600, EVERY,         MINORS;
    "host/chrony-servers.conf",         Lines, "ChronyServers",    0o644, EVERY,         MINORS;
    "host/chrony-whole.conf",           Lines, "ChronyWhole",      0o644, EVERY,         MINORS;
    "host/dnf-automatic.conf",          Unit,  "DnfAutomatic",     0o644, EVERY,         MINORS;
    "host/firewall.nft",                Lines, "Firewall",         0o600, EVERY,         MINORS;
    "host/firewall.sh",                 Shell, "-",                0o600, EVERY,         MINORS;
    "host/guard.sh",                    Shell, "-",                0o600, EVERY,         MINORS;
    "host/kubastion-audit.service",     Unit,  "-",                0o644, EVERY,         MINORS;
    "host/kubastion-firewall.service",  Unit,  "-",                0o644, EVERY,         MINORS;
    "host/kubastion-guard.service",     Unit,  "-",                0o644, EVERY,         MINORS;
    "host/kubernetes.pref",             Lines, "KubernetesPin",   0o644, KUBELET,       MINORS;
    "host/kubernetes.repo",             Unit,  "KubernetesRepo",   0o644, KUBELET,       MINORS;
    "host/kubernetes.sources",          Lines, "KubernetesSources", 0o644, KUBELET,     MINORS;
    "host/logrotate.conf",              Lines, "-",                0o644, EVERY,         MINORS;
    "host/modules.conf",                Lines, "Modules",          0o644, EVERY,         MINORS;
    "host/sshd.conf",                   Lines, "Sshd",             0o600, EVERY,         MINORS;
    "host/sysctl.conf",                 Lines, "Sysctl",           0o644, EVERY,         MINORS;
    "kubeadm/cluster.yaml",             Yaml,  "KubeadmCluster",   0o600, CONTROL_PLANE, MINORS;
    "kubeadm/coredns.yaml",             Yaml,  "-",                0o600, CONTROL_PLANE, MINORS;
    "kubeadm/init.yaml",                Yaml,  "KubeadmInit",      0o600, CONTROL_PLANE, MINORS;
    "kubeadm/join.yaml",                Yaml,  "KubeadmJoin",      0o600, KUBELET,       MINORS;
    "kubeadm/kube-proxy.yaml",          Yaml,  "KubeProxy",        0o600, CONTROL_PLANE, MINORS;
    "kubeadm/member.yaml",              Yaml,  "KubeadmMember",    0o600, KUBELET,       MINORS;
    "kubeadm/read-at-start.yaml",       Yaml,  "ReadAtStart",      0o600, CONTROL_PLANE, MINORS;
    "kubeadm/security-context.yaml",    Yaml,  "SecurityContext",  0o600, CONTROL_PLANE, MINORS;
    "kubelet/10-kubeadm.conf",          Unit,  "KubeletDropIn",    0o600, KUBELET,       MINORS;
    "kubelet/config.yaml",              Yaml,  "Kubelet",          0o600, CONTROL_PLANE, MINORS;
    "kubelet/kubelet.service",          Unit,  "-",                0o600, KUBELET,       MINORS;
    "kubelet/patch.yaml",               Yaml,  "KubeletPatch",     0o600, KUBELET,       MINORS;
    "runtime/bridge.conflist",          Json,  "BridgeNetwork",    0o600, KUBELET,       MINORS;
    "runtime/containerd-1.toml",        Toml,  "Containerd1",      0o600, KUBELET,       MINORS;
    "runtime/containerd-2.toml",        Toml,  "Containerd2",      0o600, KUBELET,       MINORS;
    "runtime/containerd.service",       Unit,  "ContainerdUnit",   0o600, KUBELET,       MINORS;
    "runtime/hosts.toml",               Toml,  "RegistryHosts",    0o600, KUBELET,       MINORS;
    "runtime/pod-routes.service",       Unit,  "PodRoutes",        0o600, KUBELET,       MINORS;
];

/// The row of a template.
///
/// # Panics
/// If there is none; a test walks all inputs.
pub(super) fn row(path: &str) -> &'static Template {
    TEMPLATES.iter().find(|t| t.path == path).expect("every input names a row; a test walks them")
}
