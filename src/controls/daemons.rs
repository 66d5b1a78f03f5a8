//! How each daemon runs: its unit, program, environment, flags, files and ports, one row per daemon. Running daemons are
//! judged by this table, in addition to controls on single flags.

use super::check::{Daemon, Rule};
use super::disruption::{Affected, Disruption};
use crate::inventory::Inventory;

/// What haproxy goes by.
pub const HAPROXY_CONFIG: &str = "/etc/haproxy/haproxy.cfg";

/// What keepalived goes by.
pub const KEEPALIVED_CONFIG: &str = "/etc/keepalived/keepalived.conf";

/// Where haproxy tells keepalived about itself, on the loopback only; templates/endpoint names it too.
pub const ENDPOINT_STATUS_PORT: u16 = 10262;

/// How a daemon is started and configured.
#[derive(Debug)]
pub struct DaemonRow {
    /// The daemon.
    pub daemon: Daemon,
    /// Its unit; `None` for a pod.
    pub unit: Option<&'static str>,
    /// Where its program may be, as it sees it itself; empty for one out of an image.
    pub programs: &'static [&'static str],
    /// Beginnings of names of environment variables that change what it does.
    pub environment: &'static [&'static str],
    /// Those of them that its own unit sets.
    pub own_environment: &'static [&'static str],
    /// Flags that kubeadm or the unit gives it and that no control is about. Any other flag is unexpected.
    pub flags: &'static [(&'static str, Rule)],
    /// Whether values stand behind their flags as words of their own.
    pub values_apart: bool,
    /// Whether it starts processes of its own program, which count as one with it.
    pub forks: bool,
    /// Files and directories that it reads when it starts, and never again. The manifests of static pods are not among
    /// them: the kubelet watches them, starts a pod anew for another content, and leaves it for the same one written again.
    pub reads_at_start: &'static [&'static str],
    /// Files and directories that it reads when it starts and when its unit is reloaded. Certificates, whose owner and mode
    /// others may set after that, are not among them.
    pub reads_on_reload: &'static [&'static str],
    /// Ports that it may listen on.
    pub ports: &'static [u16],
    /// Whether more ports may be open on loopback addresses.
    pub loopback: Loopback,
    /// Whom its restart affects.
    pub restart_affects: Affected,
}

/// Whether a daemon may listen on loopback addresses beside its ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loopback {
    /// On its ports alone.
    Strict,
    /// On any.
    Any,
}

/// Environment variables that change what a program does: ld.so(8), Go's runtime, whom it asks in place of the server that
/// it means (golang.org/x/net/http/httpproxy) and whose certificates it believes (crypto/x509).
pub const ANY_PROGRAM: &[&str] = &[
    "LD_",
    "GODEBUG",
    "GOTRACEBACK",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_",
];

impl DaemonRow {
    /// The row of a daemon.
    pub fn of(daemon: Daemon) -> &'static DaemonRow {
        let row = DAEMONS.iter().find(|r| r.daemon == daemon);
        row.expect("a test walks all daemons")
    }

    /// The row of a daemon, as an inventory has it run.
    pub fn by(inventory: &Inventory, daemon: Daemon) -> &'static DaemonRow {
        match daemon {
            Daemon::Etcd if inventory.has_stacked_etcd() => &ETCD_POD,
            _ => Self::of(daemon),
        }
    }
}

impl Disruption {
    /// Everyone who is affected, also by the restarts; empty for nobody.
    pub fn everyone_affected(&self) -> Vec<Affected> {
        let of = |daemon: &Daemon| DaemonRow::of(*daemon).restart_affects;
        let mut all: Vec<Affected> = self.restarts.iter().map(of).chain([self.affects]).collect();
        all.retain(|n| *n != Affected::Nobody);
        all.sort();
        all.dedup();
        all
    }
}

/// Every daemon. Flags are those of kubeadm 1.34 to 1.37 (cmd/kubeadm/app/phases/controlplane/manifests.go).
pub static DAEMONS: &[DaemonRow] = &[
    DaemonRow {
        daemon: Daemon::Apiserver,
        unit: None,
        programs: &[],
        environment: &[],
        own_environment: &[],
        flags: &[
            ("advertise-address", Rule::Given),
            ("allow-privileged", Rule::Is("true")),
            ("authorization-mode", Rule::Is("Node,RBAC")),
            ("client-ca-file", Rule::Is("/etc/kubernetes/pki/ca.crt")),
            ("enable-admission-plugins", Rule::Has("NodeRestriction")),
            ("etcd-cafile", Rule::Given),
            ("etcd-certfile", Rule::Given),
            ("etcd-keyfile", Rule::Given),
            ("etcd-servers", Rule::Https),
            (
                "kubelet-client-certificate",
                Rule::Is("/etc/kubernetes/pki/apiserver-kubelet-client.crt"),
            ),
            ("kubelet-client-key", Rule::Is("/etc/kubernetes/pki/apiserver-kubelet-client.key")),
            ("kubelet-preferred-address-types", Rule::Is("InternalIP,ExternalIP,Hostname")),
            ("proxy-client-cert-file", Rule::Is("/etc/kubernetes/pki/front-proxy-client.crt")),
            ("proxy-client-key-file", Rule::Is("/etc/kubernetes/pki/front-proxy-client.key")),
            ("requestheader-allowed-names", Rule::Is("front-proxy-client")),
            ("requestheader-client-ca-file", Rule::Is("/etc/kubernetes/pki/front-proxy-ca.crt")),
            ("requestheader-extra-headers-prefix", Rule::Is("X-Remote-Extra-")),
            ("requestheader-group-headers", Rule::Is("X-Remote-Group")),
            ("requestheader-username-headers", Rule::Is("X-Remote-User")),
            ("requestheader-uid-headers", Rule::Is("X-Remote-Uid")),
            ("secure-port", Rule::Is("6443")),
            ("service-account-issuer", Rule::Given),
            ("service-account-key-file", Rule::Is("/etc/kubernetes/pki/sa.pub")),
            ("service-account-signing-key-file", Rule::Is("/etc/kubernetes/pki/sa.key")),
            ("service-cluster-ip-range", Rule::Given),
            ("tls-cert-file", Rule::Is("/etc/kubernetes/pki/apiserver.crt")),
            ("tls-private-key-file", Rule::Is("/etc/kubernetes/pki/apiserver.key")),
        ],
        values_apart: false,
        forks: false,
        // The encryption and authentication configuration, CAs and certificates are read again when they change
        // (https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/).
        reads_at_start: &[
            "/etc/kubernetes/config/admission.yaml",
            "/etc/kubernetes/config/audit-policy.yaml",
            "/etc/kubernetes/config/eventratelimit.yaml",
            "/etc/kubernetes/config/podsecurity.yaml",
            "/etc/kubernetes/pki/sa.pub",
            "/etc/kubernetes/pki/sa.key",
        ],
        reads_on_reload: &[],
        ports: &[6443],
        loopback: Loopback::Strict,
        restart_affects: Affected::ServerClients,
    },
    DaemonRow {
        daemon: Daemon::ControllerManager,
        unit: None,
        programs: &[],
        environment: &[],
        own_environment: &[],
        flags: &[
            ("allocate-node-cidrs", Rule::Is("true")),
            ("authentication-kubeconfig", Rule::Is("/etc/kubernetes/controller-manager.conf")),
            ("authorization-kubeconfig", Rule::Is("/etc/kubernetes/controller-manager.conf")),
            ("bind-address", Rule::Loopback),
            ("client-ca-file", Rule::Is("/etc/kubernetes/pki/ca.crt")),
            ("cluster-cidr", Rule::Given),
            ("cluster-name", Rule::Given),
            (
                "cluster-signing-cert-file",
                Rule::OneOf(&[
                    "",
                    "/etc/kubernetes/pki/ca.crt",
                    "/etc/kubernetes/pki/ca-issuing.crt",
                ]),
            ),
            ("cluster-signing-key-file", Rule::OneOf(&["", "/etc/kubernetes/pki/ca.key"])),
            ("controllers", Rule::Given),
            ("kubeconfig", Rule::Is("/etc/kubernetes/controller-manager.conf")),
            ("leader-elect", Rule::Is("true")),
            ("requestheader-client-ca-file", Rule::Is("/etc/kubernetes/pki/front-proxy-ca.crt")),
            ("root-ca-file", Rule::Is("/etc/kubernetes/pki/ca.crt")),
            ("service-account-private-key-file", Rule::Is("/etc/kubernetes/pki/sa.key")),
            ("service-cluster-ip-range", Rule::Given),
            ("use-service-account-credentials", Rule::Is("true")),
        ],
        values_apart: false,
        forks: false,
        reads_at_start: &["/etc/kubernetes/pki/sa.key", "/etc/kubernetes/controller-manager.conf"],
        reads_on_reload: &[],
        ports: &[10257],
        loopback: Loopback::Strict,
        restart_affects: Affected::Nobody,
    },
    DaemonRow {
        daemon: Daemon::Scheduler,
        unit: None,
        programs: &[],
        environment: &[],
        own_environment: &[],
        flags: &[
            ("authentication-kubeconfig", Rule::Is("/etc/kubernetes/scheduler.conf")),
            ("authorization-kubeconfig", Rule::Is("/etc/kubernetes/scheduler.conf")),
            ("bind-address", Rule::Loopback),
            ("kubeconfig", Rule::Is("/etc/kubernetes/scheduler.conf")),
            ("leader-elect", Rule::Is("true")),
        ],
        values_apart: false,
        forks: false,
        reads_at_start: &["/etc/kubernetes/scheduler.conf"],
        reads_on_reload: &[],
        ports: &[10259],
        loopback: Loopback::Strict,
        restart_affects: Affected::Nobody,
    },
    DaemonRow {
        daemon: Daemon::Etcd,
        unit: Some("etcd.service"),
        programs: &["/usr/local/bin/etcd", "/usr/bin/etcd"],
        // etcd passes over its flags where ETCD_CONFIG_FILE names a file
        // (https://etcd.io/docs/v3.6/op-guide/configuration/).
        environment: &["ETCD_"],
        own_environment: &[
            "ETCD_INITIAL_CLUSTER",
            "ETCD_INITIAL_CLUSTER_STATE",
            "ETCD_INITIAL_CLUSTER_TOKEN",
        ],
        // Its unit is ours: the command line is compared with that, word by word.
        flags: &[],
        values_apart: false,
        forks: false,
        // Certificates and keys are read again at each handshake, the CA is not.
        reads_at_start: &["/etc/etcd/pki/ca.crt", "/etc/systemd/system/etcd.service"],
        reads_on_reload: &[],
        ports: &[2379, 2380, 2381],
        loopback: Loopback::Strict,
        restart_affects: Affected::EtcdClients,
    },
    DaemonRow {
        daemon: Daemon::Kubelet,
        unit: Some("kubelet.service"),
        programs: &["/usr/local/bin/kubelet", "/usr/bin/kubelet"],
        environment: &[],
        own_environment: &[
            "KUBELET_KUBECONFIG_ARGS",
            "KUBELET_CONFIG_ARGS",
            "KUBELET_KUBEADM_ARGS",
        ],
        flags: &[
            ("bootstrap-kubeconfig", Rule::Is("/etc/kubernetes/bootstrap-kubelet.conf")),
            ("config", Rule::Is("/var/lib/kubelet/config.yaml")),
            ("kubeconfig", Rule::Is("/etc/kubernetes/kubelet.conf")),
            ("container-runtime-endpoint", Rule::Is("unix:///run/containerd/containerd.sock")),
            ("node-ip", Rule::Given),
            ("node-labels", Rule::Given),
            ("register-with-taints", Rule::Given),
            ("pod-infra-container-image", Rule::Given),
        ],
        values_apart: false,
        forks: false,
        reads_at_start: &[
            "/var/lib/kubelet/config.yaml",
            "/var/lib/kubelet/instance-config.yaml",
            "/var/lib/kubelet/kubeadm-flags.env",
            "/etc/default/kubelet",
            "/etc/sysconfig/kubelet",
        ],
        reads_on_reload: &[],
        ports: &[10248, 10250],
        loopback: Loopback::Any,
        restart_affects: Affected::Sessions,
    },
    DaemonRow {
        daemon: Daemon::KubeProxy,
        unit: None,
        programs: &[],
        environment: &[],
        own_environment: &[],
        flags: &[
            ("config", Rule::Is("/var/lib/kube-proxy/config.conf")),
            ("hostname-override", Rule::Given),
        ],
        values_apart: false,
        forks: false,
        reads_at_start: &[],
        reads_on_reload: &[],
        ports: &[10249, 10256],
        loopback: Loopback::Any,
        restart_affects: Affected::Nobody,
    },
    DaemonRow {
        daemon: Daemon::Containerd,
        unit: Some("containerd.service"),
        programs: &["/usr/local/bin/containerd", "/usr/bin/containerd"],
        environment: &["CONTAINERD_"],
        own_environment: &[],
        flags: &[("config", Rule::Is("/etc/containerd/config.toml"))],
        values_apart: true,
        forks: false,
        reads_at_start: &["/etc/containerd/config.toml", "/etc/containerd/conf.d"],
        reads_on_reload: &[],
        ports: &[],
        loopback: Loopback::Any,
        restart_affects: Affected::Sessions,
    },
    // haproxy(1), "Options"; its packaged units start a main process, which starts itself anew at a reload (`-sf`, `-x`) and
    // has workers.
    DaemonRow {
        daemon: Daemon::Haproxy,
        unit: Some("haproxy.service"),
        programs: &["/usr/sbin/haproxy"],
        environment: &[],
        own_environment: &[],
        flags: &[
            ("Ws", Rule::Given),
            // The second is what RHEL's unit adds.
            ("f", Rule::OneOf(&[HAPROXY_CONFIG, "/etc/haproxy/haproxy.cfg,/etc/haproxy/conf.d"])),
            ("p", Rule::Given),
            ("S", Rule::Is("/run/haproxy-master.sock")),
            ("sf", Rule::Given),
            ("x", Rule::Given),
        ],
        values_apart: true,
        forks: true,
        reads_at_start: &["/etc/default/haproxy", "/etc/sysconfig/haproxy"],
        reads_on_reload: &[HAPROXY_CONFIG, "/etc/haproxy/conf.d"],
        ports: &[ENDPOINT_STATUS_PORT],
        loopback: Loopback::Strict,
        restart_affects: Affected::EndpointClients,
    },
    DaemonRow {
        daemon: Daemon::Keepalived,
        unit: Some("keepalived.service"),
        programs: &["/usr/sbin/keepalived"],
        environment: &[],
        own_environment: &[],
        // Of Debian's and RHEL's units (keepalived(8)): `-D` logs more.
        flags: &[("dont-fork", Rule::Given), ("D", Rule::Given)],
        values_apart: false,
        forks: true,
        reads_at_start: &["/etc/default/keepalived", "/etc/sysconfig/keepalived"],
        reads_on_reload: &[KEEPALIVED_CONFIG],
        ports: &[],
        loopback: Loopback::Strict,
        restart_affects: Affected::EndpointClients,
    },
];

/// etcd as a static pod of kubeadm's 1.34 to 1.36 (cmd/kubeadm/app/phases/etcd/local.go).
static ETCD_POD: DaemonRow = DaemonRow {
    daemon: Daemon::Etcd,
    unit: None,
    programs: &[],
    environment: &["ETCD_"],
    own_environment: &[],
    flags: &[
        ("advertise-client-urls", Rule::Https),
        ("cert-file", Rule::Is("/etc/kubernetes/pki/etcd/server.crt")),
        ("client-cert-auth", Rule::Is("true")),
        ("data-dir", Rule::Is("/var/lib/etcd")),
        ("feature-gates", Rule::Is("InitialCorruptCheck=true")),
        ("initial-advertise-peer-urls", Rule::Https),
        ("initial-cluster", Rule::Given),
        ("initial-cluster-state", Rule::Is("existing")),
        ("key-file", Rule::Is("/etc/kubernetes/pki/etcd/server.key")),
        ("listen-client-urls", Rule::Https),
        ("listen-metrics-urls", Rule::LoopbackUrls),
        ("listen-peer-urls", Rule::Https),
        ("name", Rule::Given),
        ("peer-cert-file", Rule::Is("/etc/kubernetes/pki/etcd/peer.crt")),
        ("peer-client-cert-auth", Rule::Is("true")),
        ("peer-key-file", Rule::Is("/etc/kubernetes/pki/etcd/peer.key")),
        ("peer-trusted-ca-file", Rule::Is("/etc/kubernetes/pki/etcd/ca.crt")),
        ("snapshot-count", Rule::Given),
        ("tls-min-version", Rule::OneOf(&["TLS1.2", "TLS1.3"])),
        ("trusted-ca-file", Rule::Is("/etc/kubernetes/pki/etcd/ca.crt")),
        ("watch-progress-notify-interval", Rule::Given),
    ],
    values_apart: false,
    forks: false,
    // Certificates and keys are read again at each handshake, the CA is not.
    reads_at_start: &["/etc/kubernetes/pki/etcd/ca.crt"],
    reads_on_reload: &[],
    ports: &[2379, 2380, 2381],
    loopback: Loopback::Strict,
    restart_affects: Affected::EtcdClients,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_daemon_has_a_row_with_what_it_goes_by() {
        use Daemon::{
            Apiserver, Containerd, ControllerManager, Etcd, Haproxy, Keepalived, KubeProxy,
            Kubelet, Scheduler,
        };
        for daemon in [
            Apiserver,
            ControllerManager,
            Scheduler,
            Etcd,
            Kubelet,
            KubeProxy,
            Containerd,
            Haproxy,
            Keepalived,
        ] {
            let row = DaemonRow::of(daemon);
            assert_eq!(row.unit.is_some(), !row.programs.is_empty(), "{daemon:?}");
            assert!(row.flags.iter().all(|(name, _)| !name.starts_with('-')), "{daemon:?}");
        }
        assert!(DAEMONS.iter().flat_map(|d| d.reads_at_start).all(|p| p.starts_with('/')));
    }
}
