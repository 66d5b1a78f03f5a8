//! What a kubelet is configured from: staged for kubeadm, and file modes of what kubeadm writes.

use super::collector::Collector;
use super::context::Context;
use super::kubeadm::{self};
use super::model::{Access, Content, FileCheck, ItemKind, KubeadmAction};
use super::order;
use super::places::{KUBELET_UNIT, PATCHES, STAGED, UPGRADE};
use super::software::{self, PROGRAMS};
use crate::controls::Config;
use crate::facts::NodeFacts;
use crate::inventory::{IpNetText, SoftwareSource};
use crate::pki::kubeconfig::API_PORT;
use crate::render::Text;
use crate::render::input::kubernetes::{
    ComponentConfig, ComponentKind, JoinKind, KubeadmJoin, KubeadmMember, KubeletDropIn,
    KubeletPatch, Shape,
};

/// Files that kubeadm writes, the control that wants their mode, and the mode.
const MODES: &[(&str, &str, u32)] = &[
    ("/etc/kubernetes/bootstrap-kubelet.conf", "files-kubelet-kubeconfig", 0o600),
    ("/etc/kubernetes/proxy.conf", "files-proxy-kubeconfig", 0o600),
    (KUBELET_UNIT, "files-kubelet-service", 0o600),
    ("/usr/lib/systemd/system/kubelet.service", "files-kubelet-service", 0o600),
    ("/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf", "files-kubelet-service", 0o600),
    ("/var/lib/kubelet/config.yaml", "files-kubelet-config", 0o600),
    ("/var/lib/kubelet/instance-config.yaml", "files-kubelet-config", 0o600),
    ("/var/lib/kubelet/kubeadm-flags.env", "files-kubelet-config", 0o600),
];

pub(super) fn items(context: &Context<'_>, collector: &mut Collector<'_>) {
    if !context.has_kubelet() {
        return;
    }
    collector.directory(&[], STAGED, Access::root(0o700));
    collector.directory(&[], PATCHES, Access::root(0o700));
    let no_static_pods =
        !context.is_control_plane() && context.on("kubelet-no-static-pods-on-workers");
    let mut controls = vec!["kubelet-read-only-port", "kubelet-reserved-resources"];
    if no_static_pods {
        controls.push("kubelet-no-static-pods-on-workers");
    }
    collector.template(
        &controls,
        &format!("{PATCHES}/kubeletconfiguration0+json.yaml"),
        |source| {
            Ok(KubeletPatch {
                remove_static_pods: no_static_pods,
                reserved_mib: reserved_mib(source.facts.memory_bytes),
                resolv_conf: Text::of(resolv_conf(source.facts)),
            })
        },
    );
    let path = format!("{STAGED}/kubeadm-kubelet.yaml");
    let shared = context.shared;
    collector.content(&[], &path, Access::root(0o600), FileCheck::None, |source| {
        let init = kubeadm::init(context);
        let cluster = KubeadmMember {
            kubernetes_version: Text::of(format!("v{}", context.inventory.cluster.kubernetes)),
            no_certificates: Text::of(format!("{STAGED}/none")),
        };
        let documents = [
            shared.rendered(&path, &init)?,
            shared.rendered(&path, &cluster)?,
            shared.rendered(&path, &config(context, source.facts))?,
        ];
        Ok(Content::Text(shared.joined(&documents)?))
    });
    let joins = ["apiserver-bootstrap-token-lifecycle", "kubelet-no-hostname-override"];
    collector.template(&joins, &format!("{STAGED}/kubeadm-join.yaml"), |_| Ok(join(context)));
    collector.template(&[], UPGRADE, |_| Ok(kubeadm::upgrade(context)));
    let drop_in = "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf";
    collector.template(&["files-kubelet-service"], drop_in, |source| {
        let variables = format!("{}/kubelet", context.os().service_variables);
        let program = program(context, source.facts);
        Ok(KubeletDropIn { variables: Text::of(variables), program: Text::of(program) })
    });
    for &(path, control, mode) in MODES {
        // A file of ours has its mode already.
        if path == KUBELET_UNIT && software::bundled(context, "kubelet") {
            continue;
        }
        collector.permissions(&[control], path, mode);
    }
    if !context.is_control_plane() {
        // kubeadm makes it on every node, and nothing is read from it here.
        let path = "/etc/kubernetes/manifests".to_owned();
        let access = Access::root(0o700);
        collector.push(&["files-static-pod-manifests"], ItemKind::Permissions { path, access });
    }
}

/// Path of the kubelet: of one that others installed, where it runs from, or else where it is.
fn program(context: &Context<'_>, facts: &NodeFacts) -> String {
    let (ours, packaged) = (format!("{PROGRAMS}/kubelet"), "/usr/bin/kubelet".to_owned());
    if software::bundled(context, "kubelet") {
        return ours;
    }
    if context.inventory.kubernetes.source != SoftwareSource::Preinstalled {
        return packaged;
    }
    let runs = |path: &String| {
        let processes = facts.processes.get("kubelet").into_iter().flatten();
        processes.filter_map(|p| p.argv.first()).any(|program| program == path)
    };
    let mut there: Vec<String> =
        [ours, packaged.clone()].into_iter().filter(|p| facts.commands.contains(p)).collect();
    there.sort_by_key(|path| !runs(path));
    there.into_iter().next().unwrap_or(packaged)
}

/// A twentieth of the memory, 128 MiB to 1 GiB. In steps of 64, since a kernel update may change the total by some kB.
fn reserved_mib(memory_bytes: u64) -> u64 {
    ((memory_bytes >> 20) / 20 / 64 * 64).clamp(128, 1024)
}

fn join(context: &Context<'_>) -> KubeadmJoin {
    let control_plane = context.is_control_plane();
    KubeadmJoin {
        kind: if control_plane { JoinKind::ControlPlane } else { JoinKind::Worker },
        discovery: Text::of(format!("{STAGED}/discovery.conf")),
        advertise_address: Text::of(context.node.internal_ip()),
        bind_port: API_PORT,
        node: kubeadm::registration(context, KubeadmAction::Join),
        patches: Text::of(PATCHES),
    }
}

/// The cluster's KubeletConfiguration, as `kubeadm init` takes it.
pub(super) fn config(context: &Context<'_>, facts: &NodeFacts) -> ComponentConfig {
    let cluster = &context.inventory.cluster;
    let driver = if facts.cgroup_version == 2 { "systemd" } else { "cgroupfs" };
    let also: Vec<(&'static [&'static str], Shape)> = vec![
        (&["cgroupDriver"], Shape::Word(Text::of(driver))),
        (&["failCgroupV1"], Shape::Switch(!context.inventory.host.lab)),
        (&["clusterDomain"], Shape::Quoted(Text::of(&cluster.domain))),
        (&["clusterDNS"], Shape::List(Text::all(cluster.service_networks.iter().map(dns)))),
        (&["healthzPort"], Shape::Number(10248)),
    ];
    let settings = order::settings(context, Config::Kubelet, also);
    let kind = ComponentKind::KubeletConfiguration;
    // Who says it for himself is not told by the lab.
    let inventory = context.inventory;
    let lab = inventory.host.lab && !inventory.kubelet.extra.contains_key("evictionHard");
    ComponentConfig { kind, settings, lab }
}

/// The unit that keeps a file of name servers beside /etc/resolv.conf, which names itself.
pub(super) const RESOLVED: &str = "systemd-resolved.service";

/// Where a node has the name servers that its pods can ask: with systemd-resolved, /etc/resolv.conf names an address that
/// answers on the node alone.
fn resolv_conf(facts: &NodeFacts) -> &'static str {
    if facts.units.get(RESOLVED).is_some_and(|u| u.active == "active") {
        "/run/systemd/resolve/resolv.conf"
    } else {
        "/etc/resolv.conf"
    }
}

/// The cluster's DNS has the tenth address of the Service network (kubeadm).
pub fn dns(network: &IpNetText) -> std::net::IpAddr {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    match network.0.network() {
        IpAddr::V4(a) => Ipv4Addr::from_bits(a.to_bits() + 10).into(),
        IpAddr::V6(a) => Ipv6Addr::from_bits(a.to_bits() + 10).into(),
    }
}
