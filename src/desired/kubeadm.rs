//! How a node registers with the cluster, and the flags of the control plane.

use super::places::AUDIT_DIR;
use super::places::CONFIG_DIR;
use super::places::ENC_DIR;
use super::places::PATCHES;
use std::net::IpAddr;

use super::context::Context;
use super::etcd::CIPHERS;
use super::firewall::{ETCD_CLIENT, in_url};
use super::model::Way;
use super::software;
use crate::inventory::{CaCustody, IpNetText, KeyAlgorithm, is_reserved_label};
use crate::pki::kubeconfig::API_PORT;
use crate::render::Text;
use crate::render::input::etcd::Flag;
use crate::render::input::kubernetes::{
    KubeProxy, KubeadmAlgorithm, KubeadmCluster, KubeadmInit, Registration, Taint, Volume,
    VolumeKind,
};

/// What an API server does with anonymous requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anonymous {
    /// Refuses them all; probes of the static pod are patched.
    Refused,
    /// Answers on the three health paths, by an AuthenticationConfiguration.
    HealthOnly,
    /// As Kubernetes comes.
    Stock,
}

/// `apiserver-authenticated-probes: off` chooses the health paths: the probes stay as they are.
pub(super) fn anonymous(context: &Context<'_>) -> Anonymous {
    if !context.on("apiserver-anonymous-auth") {
        Anonymous::Stock
    } else if context.on("apiserver-authenticated-probes") {
        Anonymous::Refused
    } else {
        Anonymous::HealthOnly
    }
}

/// Whether every image is pulled anew: only where the inventory names a registry that can be
/// reached, unless the control is switched by name.
pub(super) fn always_pull(context: &Context<'_>) -> bool {
    let named = context.inventory.hardening.controls.contains_key(ALWAYS_PULL);
    context.on(ALWAYS_PULL) && (named || !context.inventory.runtime.registry_mirrors.is_empty())
}

/// See [`always_pull`].
pub(super) const ALWAYS_PULL: &str = "apiserver-admission-alwayspullimages";

/// Controls that hold by what is not in the configuration.
pub(super) const BY_ABSENCE: [&str; 7] = [
    "apiserver-admission-namespacelifecycle",
    "apiserver-admission-no-alwaysadmit",
    "apiserver-no-alpha-features",
    "apiserver-no-insecure-port",
    "apiserver-no-static-credentials",
    "kcm-rotate-kubelet-server-cert",
    "apiserver-bootstrap-token-lifecycle",
];

/// A flag and the control that wants it.
type Row = (&'static str, String, &'static str);

/// Flags and their controls, without those that are switched off.
pub(super) struct Flags {
    pub flags: Vec<Flag>,
    pub controls: Vec<&'static str>,
}

fn flags(context: &Context<'_>, rows: Vec<Row>) -> Flags {
    let rows: Vec<Row> = rows.into_iter().filter(|(_, _, c)| context.on(c)).collect();
    let flag = |(name, value, _): &Row| Flag { name: Text::of(name), value: Text::of(value) };
    Flags {
        flags: rows.iter().map(flag).collect(),
        controls: rows.iter().map(|(_, _, c)| *c).collect(),
    }
}

const PKI: &str = "/etc/kubernetes/pki";

/// Flags of the API server. Those that kubeadm sets by itself are here too where a control wants
/// them: what is written can be judged.
pub(super) fn apiserver(context: &Context<'_>) -> Flags {
    let pki = |file: &str| format!("{PKI}/{file}");
    let config = |file: &str| format!("{CONFIG_DIR}/{file}");
    let audit = &context.inventory.audit;
    let mut rows: Vec<Row> = vec![
        ("kubelet-certificate-authority", pki("ca.crt"), "apiserver-kubelet-ca"),
        (
            "kubelet-client-certificate",
            pki("apiserver-kubelet-client.crt"),
            "apiserver-kubelet-client-cert",
        ),
        (
            "kubelet-client-key",
            pki("apiserver-kubelet-client.key"),
            "apiserver-kubelet-client-cert",
        ),
        ("authorization-mode", "Node,RBAC".into(), "apiserver-authorization-node-rbac"),
        ("profiling", "false".into(), "apiserver-profiling-off"),
        ("audit-policy-file", config("audit-policy.yaml"), "apiserver-audit-policy"),
        ("audit-log-path", format!("{AUDIT_DIR}/audit.log"), "apiserver-audit-log-path"),
        ("audit-log-maxage", audit.max_age_days.to_string(), "apiserver-audit-log-rotation"),
        ("audit-log-maxbackup", audit.max_backups.to_string(), "apiserver-audit-log-rotation"),
        ("audit-log-maxsize", audit.max_size_mb.to_string(), "apiserver-audit-log-rotation"),
        ("request-timeout", "60s".into(), "apiserver-request-timeout"),
        ("service-account-lookup", "true".into(), "apiserver-service-account-lookup"),
        ("service-account-key-file", pki("sa.pub"), "apiserver-service-account-key"),
        ("service-account-signing-key-file", pki("sa.key"), "apiserver-service-account-key"),
        (
            "service-account-max-token-expiration",
            format!("{}h0m0s", context.inventory.hardening.service_account_token_hours),
            "apiserver-sa-token-expiration",
        ),
        (
            "service-account-extend-token-expiration",
            "false".into(),
            "apiserver-sa-token-expiration",
        ),
        ("etcd-cafile", pki("etcd/ca.crt"), "apiserver-etcd-mtls"),
        ("etcd-certfile", pki("apiserver-etcd-client.crt"), "apiserver-etcd-mtls"),
        ("etcd-keyfile", pki("apiserver-etcd-client.key"), "apiserver-etcd-mtls"),
        ("tls-cert-file", pki("apiserver.crt"), "apiserver-tls-serving"),
        ("tls-private-key-file", pki("apiserver.key"), "apiserver-tls-serving"),
        ("client-ca-file", pki("ca.crt"), "apiserver-client-ca"),
        // kubeadm switches it on. Nodes join with certificates of the operator's.
        ("enable-bootstrap-token-auth", "false".into(), "apiserver-bootstrap-tokens-off"),
        ("tls-cipher-suites", CIPHERS.into(), "apiserver-tls-ciphers"),
        ("tls-min-version", "VersionTLS12".into(), "apiserver-tls-min-version"),
        (
            "encryption-provider-config",
            format!("{ENC_DIR}/encryption.yaml"),
            "apiserver-encryption-config",
        ),
        (
            "encryption-provider-config-automatic-reload",
            "true".into(),
            "apiserver-encryption-config",
        ),
    ];
    match anonymous(context) {
        Anonymous::Refused => {
            rows.push(("anonymous-auth", "false".into(), "apiserver-anonymous-auth"))
        }
        Anonymous::HealthOnly => {
            let file = config("authentication.yaml");
            rows.push(("authentication-config", file, "apiserver-anonymous-auth"));
        }
        Anonymous::Stock => {}
    }
    let mut all = flags(context, rows);
    all.flags.push(Flag {
        name: Text::of("shutdown-watch-termination-grace-period"),
        value: Text::of(WATCHES_END),
    });
    let plugins: Vec<(&str, &'static str)> = ADMISSION
        .iter()
        .copied()
        .filter(|(_, c)| context.on(c) && (*c != ALWAYS_PULL || always_pull(context)))
        .collect();
    if !plugins.is_empty() {
        let names: Vec<&str> = plugins.iter().map(|(name, _)| *name).collect();
        let value = Text::of(names.join(","));
        all.flags.push(Flag { name: Text::of("enable-admission-plugins"), value });
        all.controls.extend(plugins.iter().map(|(_, c)| *c));
    }
    if has_admission_config(context) {
        let value = Text::of(config("admission.yaml"));
        all.flags.push(Flag { name: Text::of("admission-control-config-file"), value });
    }
    all
}

/// How long an API server that ends takes to end its watches, so that their clients turn to another one. By default
/// it ends none of them, waits for them to end by themselves, and is killed by the kubelet after 30 s: as long it
/// answers nobody, the node's scheduler and controller manager lose their leases, and start anew with longer and longer
/// pauses (kube-apiserver reference, 1.36).
const WATCHES_END: &str = "2s";

/// Admission plugins by name. kubeadm's own default is replaced, so that its one plugin is here.
const ADMISSION: [(&str, &str); 9] = [
    ("NodeRestriction", "apiserver-admission-noderestriction"),
    ("PodSecurity", "policy-pod-security"),
    ("ServiceAccount", "apiserver-admission-serviceaccount"),
    ("NamespaceLifecycle", "apiserver-admission-namespacelifecycle"),
    ("EventRateLimit", "apiserver-admission-eventratelimit"),
    ("AlwaysPullImages", ALWAYS_PULL),
    ("DenyServiceExternalIPs", "apiserver-admission-denyexternalips"),
    ("ValidatingAdmissionWebhook", "apiserver-admission-validatingwebhook"),
    ("MutatingAdmissionWebhook", "apiserver-admission-validatingwebhook"),
];

/// Whether an AdmissionConfiguration is written.
pub(super) fn has_admission_config(context: &Context<'_>) -> bool {
    context.on("apiserver-admission-eventratelimit") || context.on("policy-pod-security")
}

/// Flags of the controller manager.
pub(super) fn controller_manager(context: &Context<'_>) -> Flags {
    let hours = context.inventory.pki.leaf_days * 24;
    flags(
        context,
        vec![
            ("profiling", "false".into(), "kcm-profiling-off"),
            ("terminated-pod-gc-threshold", "1000".into(), "kcm-terminated-pod-gc"),
            ("use-service-account-credentials", "true".into(), "kcm-sa-credentials"),
            ("service-account-private-key-file", format!("{PKI}/sa.key"), "kcm-sa-private-key"),
            ("root-ca-file", format!("{PKI}/ca.crt"), "kcm-root-ca"),
            ("bind-address", "127.0.0.1".into(), "kcm-bind-localhost"),
            ("tls-min-version", "VersionTLS12".into(), "kcm-tls-min-version"),
            ("tls-cipher-suites", CIPHERS.into(), "kcm-tls-min-version"),
            ("cluster-signing-duration", format!("{hours}h0m0s"), "pki-key-algorithm-and-lifetime"),
        ],
    )
}

/// Flags of the scheduler.
pub(super) fn scheduler(context: &Context<'_>) -> Flags {
    flags(
        context,
        vec![
            ("profiling", "false".into(), "scheduler-profiling-off"),
            // From files: one that asks an API server for the CAs of clients when it starts ends where none answers yet,
            // and is started again ever later; or, if told to go on, takes every certificate for anonymous.
            ("client-ca-file", format!("{PKI}/ca.crt"), "scheduler-client-ca"),
            (
                "requestheader-client-ca-file",
                format!("{PKI}/front-proxy-ca.crt"),
                "scheduler-client-ca",
            ),
            ("requestheader-allowed-names", "front-proxy-client".into(), "scheduler-client-ca"),
            ("bind-address", "127.0.0.1".into(), "scheduler-bind-localhost"),
            ("tls-min-version", "VersionTLS12".into(), "scheduler-tls-min-version"),
            ("tls-cipher-suites", CIPHERS.into(), "scheduler-tls-min-version"),
        ],
    )
}

/// Joined with commas.
fn list(networks: &[IpNetText]) -> Text {
    Text::of(networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}

pub(super) fn cluster(context: &Context<'_>) -> KubeadmCluster {
    let inventory = context.inventory;
    let cluster = &inventory.cluster;
    let mut sans: Vec<String> = vec!["127.0.0.1".into(), cluster.endpoint.host.to_string()];
    sans.extend(cluster.extra_sans.iter().map(ToString::to_string));
    sans.sort();
    sans.dedup();
    let urls = inventory
        .etcd_members()
        .map(|n| format!("https://{}:{ETCD_CLIENT}", in_url(n.internal_ip())));
    KubeadmCluster {
        cluster_name: Text::of(&cluster.name),
        kubernetes_version: Text::of(format!("v{}", cluster.kubernetes)),
        endpoint: Text::of(&cluster.endpoint),
        algorithm: algorithm(inventory.pki.algorithm, context.minor()),
        leaf_hours: inventory.pki.leaf_days * 24,
        ca_hours: inventory.pki.ca_days * 24,
        domain: Text::of(&cluster.domain),
        pod_subnets: list(&cluster.pod_networks),
        service_subnets: list(&cluster.service_networks),
        etcd_endpoints: Text::all(urls),
        cert_sans: Text::all(sans),
        apiserver_args: apiserver(context).flags,
        apiserver_volumes: volumes(context),
        controller_manager_args: controller_manager(context).flags,
        scheduler_args: scheduler(context).flags,
        scheduler_volumes: scheduler_volumes(context),
    }
}

/// `ECDSA-P384` is a value from 1.36 on.
fn algorithm(wanted: KeyAlgorithm, minor: u16) -> KubeadmAlgorithm {
    match wanted {
        KeyAlgorithm::EcdsaP384 if minor >= 36 => KubeadmAlgorithm::EcdsaP384,
        KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 => KubeadmAlgorithm::EcdsaP256,
        KeyAlgorithm::Rsa3072 => KubeadmAlgorithm::Rsa3072,
        KeyAlgorithm::Rsa4096 => KubeadmAlgorithm::Rsa4096,
    }
}

fn volumes(context: &Context<'_>) -> Vec<Volume> {
    let volume = |name: &str, path: &str, read_only| Volume {
        name: Text::of(name),
        path: Text::of(path),
        read_only,
        kind: VolumeKind::Directory,
    };
    let mut volumes = vec![volume("kubastion-config", CONFIG_DIR, true)];
    if context.on("apiserver-audit-log-path") {
        volumes.push(volume("kubastion-audit", AUDIT_DIR, false));
    }
    if context.on("apiserver-encryption-config") {
        volumes.push(volume("kubastion-enc", ENC_DIR, true));
        // The plugin makes its socket anew when it starts, so that the directory is what is mounted.
        if let Some(directory) = context.inventory.encryption.kms_directory() {
            volumes.push(volume("kubastion-kms", directory, true));
        }
    }
    volumes
}

/// kubeadm gives the scheduler its kubeconfig alone.
fn scheduler_volumes(context: &Context<'_>) -> Vec<Volume> {
    let file = |name: &str, path: String| Volume {
        name: Text::of(name),
        path: Text::of(path),
        read_only: true,
        kind: VolumeKind::File,
    };
    match context.on("scheduler-client-ca") {
        true => vec![
            file("kubastion-ca", format!("{PKI}/ca.crt")),
            file("kubastion-front-proxy-ca", format!("{PKI}/front-proxy-ca.crt")),
        ],
        false => Vec::new(),
    }
}

pub(super) fn kube_proxy(context: &Context<'_>) -> KubeProxy {
    KubeProxy {
        cluster_cidr: list(&context.inventory.cluster.pod_networks),
        lab: context.inventory.host.lab,
    }
}

/// How the node is started, also where it joins: what is made from it by phases is the same.
pub(super) fn init(context: &Context<'_>) -> KubeadmInit {
    KubeadmInit {
        advertise_address: Text::of(context.node.internal_ip()),
        bind_port: API_PORT,
        node: registration(context, Way::Init),
        patches: Text::of(PATCHES),
    }
}

/// What the node registers with. kubeadm is told what it will find and should not mind.
pub(super) fn registration(context: &Context<'_>, way: Way) -> Registration {
    let node = context.node;
    let addresses: Vec<String> = node.addresses.iter().map(IpAddr::to_string).collect();
    let mut args = vec![("node-ip", addresses.join(","))];
    // The others are refused by NodeRestriction; they are set through the API.
    let labels = node.labels.iter().filter(|(k, _)| !is_reserved_label(k));
    let labels: Vec<String> = labels.map(|(k, v)| format!("{k}={v}")).collect();
    if !labels.is_empty() {
        args.push(("node-labels", labels.join(",")));
    }
    let mut taints: Vec<Taint> = node.taints.iter().filter_map(|t| taint(t)).collect();
    if context.is_control_plane() && !node.has_role(crate::inventory::Role::Worker) {
        taints.extend(taint("node-role.kubernetes.io/control-plane:NoSchedule"));
    }
    let mut ignored = Vec::new();
    if context.inventory.host.lab {
        ignored.push("SystemVerification");
    }
    if context.is_control_plane() && software::bundled(context, "etcd") {
        // It asks every member, and one that is away must not keep others from joining. What it wants
        // to know is said by the bundle; whether there is a quorum, by the gate before.
        ignored.push("ExternalEtcdVersion");
    }
    if way == Way::Join {
        // Files that were put there on purpose.
        ignored.push("FileAvailable--etc-kubernetes-kubelet.conf");
        if !context.is_control_plane() {
            ignored.push("FileAvailable--etc-kubernetes-pki-ca.crt");
        }
    }
    let flag = |(name, value): (&str, String)| Flag { name: Text::of(name), value: value.into() };
    Registration {
        name: Text::of(&node.name),
        taints,
        kubelet_args: args.into_iter().map(flag).collect(),
        ignored_preflight: Text::all(ignored),
    }
}

/// `key=value:Effect` or `key:Effect`.
fn taint(text: &str) -> Option<Taint> {
    let (left, effect) = text.rsplit_once(':')?;
    let (key, value) = left.split_once('=').unwrap_or((left, ""));
    Some(Taint { key: Text::of(key), value: Text::of(value), effect: Text::of(effect) })
}

/// Whether the cluster CA's key is on the control planes; kubelets' certificates are then renewed
/// by the cluster itself.
pub(super) fn cluster_signs(context: &Context<'_>) -> bool {
    context.inventory.pki.ca_custody == CaCustody::ControlPlane
}
