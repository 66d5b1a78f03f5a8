//! The node as a part of the cluster: the kubelet's service and what kubeadm makes of the staged files.

use super::apiserver::READ_AT_START;
use super::collector::{Collector, Unit};
use super::context::Context;
use super::model::{Blob, ItemKind, KubeadmAction, OnChange};
use super::places::{CONFIG_DIR, KUBELET_UNIT, PATCHES, STAGED};
use super::software::{self, PROGRAMS};
use crate::inventory::SoftwareSource;
use crate::pki::Ca;

/// The drop-in that both kinds of unit have.
const DROP_IN: &str = "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf";

/// Files of the host phase.
pub(super) fn unit_file(context: &Context<'_>, collector: &mut Collector<'_>) {
    if context.has_kubelet() && software::bundled(context, "kubelet") {
        collector.fixed(&["files-kubelet-service"], KUBELET_UNIT, "kubelet/kubelet.service");
    }
}

pub(super) fn items(context: &Context<'_>, collector: &mut Collector<'_>) {
    if !context.has_kubelet() {
        return;
    }
    if context.inventory.kubernetes.source == SoftwareSource::None {
        if context.facts().is_some() {
            collector.note("no source of Kubernetes is set (`kubernetes.source`): everything else is applied, but the node does not join a cluster");
        }
        return;
    }
    let mut watches = vec![
        DROP_IN.to_owned(),
        "/etc/kubernetes/kubelet.conf".to_owned(),
        format!("{STAGED}/kubeadm-kubelet.yaml"),
        format!("{PATCHES}/kubeletconfiguration0+json.yaml"),
    ];
    if software::bundled(context, "kubelet") {
        watches.extend([KUBELET_UNIT.to_owned(), format!("{PROGRAMS}/kubelet")]);
    }
    if context.is_control_plane() {
        watches.push(format!("{STAGED}/kubeadm-init.yaml"));
        // The files themselves too: of a change on the node, the digest does not tell.
        watches.push(READ_AT_START.to_owned());
        let once = ["admission", "audit-policy", "authentication"];
        watches.extend(once.map(|f| format!("{CONFIG_DIR}/{f}.yaml")));
        // Keys of accounts, and kubeconfigs, are read once as well.
        watches.extend(["sa.key", "sa.pub"].map(|f| format!("/etc/kubernetes/pki/{f}")));
        watches.extend(
            ["controller-manager", "scheduler"].map(|f| format!("/etc/kubernetes/{f}.conf")),
        );
        // With one CA alone they never change. The scheduler's are files that are mounted one by one: a new one is seen by a new
        // container alone.
        if context.accepts(Ca::ALL) {
            let cas = ["ca.crt", "etcd/ca.crt", "front-proxy-ca.crt"];
            watches.extend(cas.map(|f| format!("/etc/kubernetes/pki/{f}")));
        }
        let components = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
        watches.extend(components.map(|c| format!("{PATCHES}/{c}1+strategic.yaml")));
        if context.inventory.has_stacked_etcd() {
            watches.push(format!("{PATCHES}/etcd1+strategic.yaml"));
        }
        watches.push(format!("{PATCHES}/kube-apiserver0+json.yaml"));
    }
    collector.push(&[], ItemKind::Kubeadm { action: KubeadmAction::Join, watches });
    // kubeadm starts it; a change of what it watches is the business of the item above.
    collector.unit(
        &["files-kubelet-service"],
        Unit { on_change: OnChange::Nothing, ..Unit::running("kubelet.service") },
    );
}

/// Makes a node the one that starts the cluster.
pub fn start_cluster(items: &mut [super::model::Item]) {
    for item in items {
        if let ItemKind::Kubeadm { action, .. } = &mut item.kind {
            *action = KubeadmAction::Init;
        }
    }
}

/// The files of a bundle that an item needs on the node before it can be brought about.
pub fn blob(kind: &ItemKind) -> Option<&Blob> {
    match kind {
        ItemKind::Program { blob, .. } => Some(blob),
        ItemKind::Images { archive, .. } => Some(archive),
        _ => None,
    }
}
