//! How a node registers with the cluster, and the flags of the control plane.

use super::places::AUDIT_DIR;
use super::places::CONFIG_DIR;
use super::places::ENC_DIR;
use super::places::ISSUING_CA;
use super::places::PATCHES;
use std::net::IpAddr;

use super::context::Context;
use super::etcd_pod;
use super::firewall::{ETCD_CLIENT, in_url};
use super::model::KubeadmAction;
use super::order::{self, Flags};
use super::software;
use crate::controls::{Config, Daemon};
use crate::inventory::{
    ArgumentValues, Component, ExtraVolume, IpNetText, KeyAlgorithm, PathType, is_reserved_label,
};
use crate::kubernetes::Release;
use crate::pki::kubeconfig::API_PORT;
use crate::render::Text;
use crate::render::input::etcd::Flag;
use crate::render::input::kubernetes::{
    ComponentConfig, ComponentKind, EtcdTopology, KubeadmAlgorithm, KubeadmCluster, KubeadmInit,
    KubeadmUpgrade, Registration, Shape, Taint, Volume, VolumeKind,
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

/// Pulls every image anew: on only where the inventory names a registry that can be reached, unless it is switched by name.
pub(super) const ALWAYS_PULL: &str = "apiserver-admission-alwayspullimages";

/// Controls that hold by what is not in the configuration, and are about no flag of it.
pub(super) const BY_ABSENCE: &[&str] =
    &["apiserver-no-alpha-features", "apiserver-bootstrap-token-lifecycle"];

const PKI: &str = "/etc/kubernetes/pki";

/// Flags of a part of the control plane. Those that kubeadm sets by itself are among them where a control wants them: what
/// is written can be judged.
pub(super) fn flags<'a>(context: &Context<'a>, daemon: Daemon) -> Flags<'a> {
    let also: &[(&str, &str)] = match daemon {
        Daemon::Apiserver => &[("shutdown-watch-termination-grace-period", WATCHES_END)],
        // By default it is `ca.crt`.
        Daemon::ControllerManager if context.signs_apart() => {
            &[("cluster-signing-cert-file", ISSUING_CA)]
        }
        _ => &[],
    };
    order::flags(context, daemon, also)
}

fn args(context: &Context<'_>, daemon: Daemon) -> Vec<Flag> {
    let flag = |(name, value): (&str, String)| Flag { name: Text::of(name), value: value.into() };
    flags(context, daemon).flags.into_iter().map(flag).collect()
}

/// How long an API server that ends takes to end its watches, so that their clients turn to another one. By default
/// it ends none of them, waits for them to end by themselves, and is killed by the kubelet after 30 s: as long it
/// answers nobody, the node's scheduler and controller manager lose their leases, and start anew with longer and longer
/// pauses (kube-apiserver reference, 1.36).
const WATCHES_END: &str = "2s";

/// Whether an AdmissionConfiguration is written.
pub(super) fn has_admission_config(context: &Context<'_>) -> bool {
    context.on("apiserver-admission-eventratelimit") || context.on("policy-pod-security")
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
        etcd: etcd(context),
        cert_sans: Text::all(sans),
        apiserver_args: args(context, Daemon::Apiserver),
        apiserver_volumes: volumes(context),
        controller_manager_args: args(context, Daemon::ControllerManager),
        controller_manager_volumes: passed(context, Component::ControllerManager),
        scheduler_args: args(context, Daemon::Scheduler),
        scheduler_volumes: scheduler_volumes(context),
    }
}

/// What kubeadm is told of etcd.
fn etcd(context: &Context<'_>) -> EtcdTopology {
    let inventory = context.inventory;
    if inventory.has_stacked_etcd() {
        return etcd_pod::topology(context);
    }
    let urls = inventory
        .etcd_members()
        .map(|n| format!("https://{}:{ETCD_CLIENT}", in_url(n.internal_ip())));
    EtcdTopology::External { endpoints: Text::all(urls) }
}

fn algorithm(wanted: KeyAlgorithm, minor: u16) -> KubeadmAlgorithm {
    match wanted {
        KeyAlgorithm::EcdsaP384 if Release::of(minor).kubeadm_p384 => KubeadmAlgorithm::EcdsaP384,
        KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 => KubeadmAlgorithm::EcdsaP256,
        KeyAlgorithm::Rsa3072 => KubeadmAlgorithm::Rsa3072,
        KeyAlgorithm::Rsa4096 => KubeadmAlgorithm::Rsa4096,
    }
}

/// Volumes that the inventory passes through into a static pod.
fn passed(context: &Context<'_>, component: Component) -> Vec<Volume> {
    let volume = |v: &ExtraVolume| Volume {
        name: Text::of(&v.name),
        path: Text::of(&v.host_path),
        mount: Text::of(v.mount_path()),
        read_only: v.read_only,
        kind: match v.path_type {
            None => VolumeKind::Unset,
            Some(PathType::Directory) => VolumeKind::Directory,
            Some(PathType::DirectoryOrCreate) => VolumeKind::DirectoryOrCreate,
            Some(PathType::File) => VolumeKind::File,
            Some(PathType::FileOrCreate) => VolumeKind::FileOrCreate,
            Some(PathType::Socket) => VolumeKind::Socket,
        },
    };
    context.inventory.extra_volumes(component).iter().map(volume).collect()
}

fn volumes(context: &Context<'_>) -> Vec<Volume> {
    let volume = |name: &str, path: &str, read_only| Volume {
        name: Text::of(name),
        path: Text::of(path),
        mount: Text::of(path),
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
    volumes.extend(passed(context, Component::ApiServer));
    volumes
}

/// kubeadm gives the scheduler its kubeconfig alone.
fn scheduler_volumes(context: &Context<'_>) -> Vec<Volume> {
    let file = |name: &str, path: String| Volume {
        name: Text::of(name),
        path: Text::of(&path),
        mount: Text::of(&path),
        read_only: true,
        kind: VolumeKind::File,
    };
    let mut volumes = match context.on("scheduler-client-ca") {
        true => vec![
            file("kubastion-ca", format!("{PKI}/ca.crt")),
            file("kubastion-front-proxy-ca", format!("{PKI}/front-proxy-ca.crt")),
        ],
        false => Vec::new(),
    };
    volumes.extend(passed(context, Component::Scheduler));
    volumes
}

/// The cluster's KubeProxyConfiguration, as `kubeadm init` takes it.
pub(super) fn kube_proxy(context: &Context<'_>) -> ComponentConfig {
    let networks = list(&context.inventory.cluster.pod_networks);
    let also = vec![(&["clusterCIDR"][..], Shape::Quoted(networks))];
    ComponentConfig {
        kind: ComponentKind::KubeProxyConfiguration,
        settings: order::settings(context, Config::KubeProxy, also),
        // Who says it for himself is not told by the lab.
        lab: context.inventory.host.lab
            && !context.inventory.kube_proxy.extra.contains_key("conntrack"),
    }
}

/// How the node is started, also where it joins: what is made from it by phases is the same.
pub(super) fn init(context: &Context<'_>) -> KubeadmInit {
    KubeadmInit {
        advertise_address: Text::of(context.node.internal_ip()),
        bind_port: API_PORT,
        node: registration(context, KubeadmAction::Init),
        patches: Text::of(PATCHES),
    }
}

/// How the node is upgraded by whoever does it with kubeadm.
pub(super) fn upgrade(context: &Context<'_>) -> KubeadmUpgrade {
    let ignored = context.inventory.host.lab.then_some(SYSTEM_VERIFICATION);
    KubeadmUpgrade { patches: Text::of(PATCHES), ignored_preflight: Text::all(ignored) }
}

/// kubeadm's check of kernel and control groups: nodes of a lab have their host's.
const SYSTEM_VERIFICATION: &str = "SystemVerification";

/// What the node registers with. kubeadm is told what it will find and should not mind.
pub(super) fn registration(context: &Context<'_>, action: KubeadmAction) -> Registration {
    let node = context.node;
    let addresses: Vec<String> = node.addresses.iter().map(IpAddr::to_string).collect();
    let mut args = vec![("node-ip", addresses.join(","))];
    // The others are refused by NodeRestriction; they are set through the API.
    let labels = node.labels.iter().filter(|(k, _)| !is_reserved_label(k));
    let labels: Vec<String> = labels.map(|(k, v)| format!("{k}={v}")).collect();
    if !labels.is_empty() {
        args.push(("node-labels", labels.join(",")));
    }
    for (name, ArgumentValues(values)) in context.inventory.extra_args(Component::Kubelet) {
        args.extend(values.iter().map(|value| (name.as_str(), value.clone())));
    }
    let mut taints: Vec<Taint> = node.taints.iter().filter_map(|t| taint(t)).collect();
    if context.is_control_plane() && !node.has_role(crate::inventory::Role::Worker) {
        taints.extend(taint("node-role.kubernetes.io/control-plane:NoSchedule"));
    }
    let mut ignored = Vec::new();
    if context.inventory.host.lab {
        ignored.push(SYSTEM_VERIFICATION);
    }
    if context.is_control_plane() && software::bundled(context, "etcd") {
        // It asks every member, and one that is away must not keep others from joining. What it wants
        // to know is said by the bundle; whether there is a quorum, by the gate before.
        ignored.push("ExternalEtcdVersion");
    }
    if action == KubeadmAction::Join {
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
