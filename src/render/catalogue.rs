//! The one table of templates.

use super::format::Format;

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
}

macro_rules! rows {
    ($($path:literal, $format:ident, $input:literal, $mode:literal;)*) => {
        &[$(Template {
            path: $path,
            text: include_str!(concat!("../../templates/", $path)),
            format: Format::$format,
            input: $input,
            mode: $mode,
        }),*]
    };
}

/// Every file under templates/, sorted.
#[rustfmt::skip]
pub const TEMPLATES: &[Template] = rows![
    "apiserver/admission.yaml",         Yaml,  "Admission",        0o600;
    "apiserver/audit-balanced.yaml",    Yaml,  "-",                0o600;
    "apiserver/audit-stig.yaml",        Yaml,  "-",                0o600;
    "apiserver/authentication.yaml",    Yaml,  "-",                0o600;
    "apiserver/encryption.yaml",        Yaml,  "EncryptionConfig", 0o600;
    "apiserver/probes-exec.yaml",       Yaml,  "ApiserverExecProbes", 0o600;
    "apiserver/probes.yaml",            Yaml,  "ApiserverProbes",  0o600;
    "endpoint/check.sh",                Shell, "-",                0o755;
    "endpoint/haproxy.cfg",             Lines, "Haproxy",          0o600;
    "endpoint/keepalived.conf",         Lines, "Keepalived",       0o600;
    "endpoint/restart.conf",            Unit,  "-",                0o644;
    "etcd/etcd.conf",                   Lines, "EtcdBootstrap",    0o600;
    "etcd/etcd.service",                Unit,  "EtcdUnit",         0o600;
    "host/apt-updates.conf",            Lines, "AptUpdates",       0o644;
    "host/audit.rules",                 Lines, "AuditRules",       0o600;
    "host/chrony-servers.conf",         Lines, "ChronyServers",    0o644;
    "host/chrony-whole.conf",           Lines, "ChronyWhole",      0o644;
    "host/dnf-automatic.conf",          Unit,  "DnfAutomatic",     0o644;
    "host/firewall.nft",                Lines, "Firewall",         0o600;
    "host/firewall.sh",                 Shell, "-",                0o600;
    "host/guard.sh",                    Shell, "-",                0o600;
    "host/kubastion-audit.service",     Unit,  "-",                0o644;
    "host/kubastion-firewall.service",  Unit,  "-",                0o644;
    "host/kubastion-guard.service",     Unit,  "-",                0o644;
    "host/kubernetes.pref",             Lines, "KubernetesPin",   0o644;
    "host/kubernetes.repo",             Unit,  "KubernetesRepo",   0o644;
    "host/kubernetes.sources",          Lines, "KubernetesSources", 0o644;
    "host/logrotate.conf",              Lines, "-",                0o644;
    "host/modules.conf",                Lines, "Modules",          0o644;
    "host/sshd.conf",                   Lines, "Sshd",             0o600;
    "host/sysctl.conf",                 Lines, "Sysctl",           0o644;
    "host/timesyncd.conf",              Unit,  "TimesyncdServers", 0o644;
    "kubeadm/cluster.yaml",             Yaml,  "KubeadmCluster",   0o600;
    "kubeadm/component.yaml",           Yaml,  "ComponentConfig",  0o600;
    "kubeadm/coredns.yaml",             Yaml,  "-",                0o600;
    "kubeadm/init.yaml",                Yaml,  "KubeadmInit",      0o600;
    "kubeadm/join.yaml",                Yaml,  "KubeadmJoin",      0o600;
    "kubeadm/member.yaml",              Yaml,  "KubeadmMember",    0o600;
    "kubeadm/read-at-start.yaml",       Yaml,  "ReadAtStart",      0o600;
    "kubeadm/security-context.yaml",    Yaml,  "SecurityContext",  0o600;
    "kubeadm/upgrade.yaml",             Yaml,  "KubeadmUpgrade",   0o600;
    "kubelet/10-kubeadm.conf",          Unit,  "KubeletDropIn",    0o600;
    "kubelet/kubelet.service",          Unit,  "-",                0o600;
    "kubelet/patch.yaml",               Yaml,  "KubeletPatch",     0o600;
    "runtime/bridge.conflist",          Json,  "BridgeNetwork",    0o600;
    "runtime/containerd-1.toml",        Toml,  "Containerd1",      0o600;
    "runtime/containerd-2.toml",        Toml,  "Containerd2",      0o600;
    "runtime/containerd.service",       Unit,  "ContainerdUnit",   0o600;
    "runtime/hosts.toml",               Toml,  "RegistryHosts",    0o600;
    "runtime/pod-routes",               Lines, "PodRouteList",     0o600;
    "runtime/pod-routes.service",       Unit,  "PodRouteUnit",     0o600;
    "runtime/pod-routes.sh",            Shell, "-",                0o600;
];

/// The row of a template.
///
/// # Panics
/// If there is none; a test walks all inputs.
pub(super) fn row(path: &str) -> &'static Template {
    TEMPLATES.iter().find(|t| t.path == path).expect("every input names a row; a test walks them")
}
