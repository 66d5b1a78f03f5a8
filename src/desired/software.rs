//! What comes out of a bundle: programs, CNI plugins and images.
//!
//! Where the inventory names no bundle, or the bundle has no container runtime, packages bring it.

use super::collector::Collector;
use super::context::Context;
use super::model::{Access, Blob, ItemKind};
use crate::inventory::{Cni, Software, SoftwareFile, SoftwareKind};

/// Where programs of a bundle go: before what a package brings, and never in its way.
pub(super) const PROGRAMS: &str = "/usr/local/bin";
/// Where CNI plugins of a bundle go, as their makers have it.
pub(super) const CNI_PLUGINS: &str = "/opt/cni/bin";

/// Which nodes get a program or image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Kubelet,
    ControlPlane,
    Member,
}

/// Programs, which nodes need them, and the controls that they serve.
#[rustfmt::skip]
const PROGRAM_ROWS: &[(&str, Need, &[&str])] = &[
    ("containerd",              Need::Kubelet,      RUNTIME),
    ("containerd-shim-runc-v2", Need::Kubelet,      RUNTIME),
    ("ctr",                     Need::Kubelet,      RUNTIME),
    ("runc",                    Need::Kubelet,      RUNTIME),
    ("kubeadm",                 Need::Kubelet,      &[]),
    ("kubelet",                 Need::Kubelet,      &[]),
    ("kubectl",                 Need::ControlPlane, &[]),
    ("etcd",                    Need::Member,       ETCD),
    ("etcdctl",                 Need::Member,       ETCD),
    ("etcdutl",                 Need::Member,       ETCD),
];

const RUNTIME: &[&str] = &["containerd-runtime-hardening"];
const ETCD: &[&str] = &["etcd-run-as-user"];

/// Images that only control planes run, by the last part of their name. Everything else may be
/// scheduled anywhere.
const CONTROL_PLANE_IMAGES: &[&str] =
    &["kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// What the bridge network calls.
const BRIDGE_PLUGINS: &[&str] = &["bridge", "host-local", "loopback", "portmap"];

pub(super) fn programs(context: &Context<'_>, collector: &mut Collector<'_>) {
    let Some(software) = software(context) else { return };
    for &(name, need, controls) in PROGRAM_ROWS {
        let Some(file) = software.program(name).filter(|_| needs(context, need)) else { continue };
        program(collector, controls, PROGRAMS, file);
    }
    let plugins: Vec<&SoftwareFile> = software
        .of(SoftwareKind::CniPlugin)
        .filter(|p| {
            context.inventory.runtime.cni != Cni::Bridge
                || BRIDGE_PLUGINS.contains(&p.name.as_str())
        })
        .collect();
    if !plugins.is_empty() && context.has_kubelet() {
        collector.directory(&["files-cni"], CNI_PLUGINS, Access::root(0o755));
        for plugin in plugins {
            program(collector, &["files-cni"], CNI_PLUGINS, plugin);
        }
    }
}

fn program(
    collector: &mut Collector<'_>,
    controls: &[&'static str],
    directory: &str,
    file: &SoftwareFile,
) {
    let path = format!("{directory}/{}", file.name);
    collector
        .push(controls, ItemKind::Program { path, blob: blob(file), access: Access::root(0o755) });
}

pub(super) fn images(context: &Context<'_>, collector: &mut Collector<'_>) {
    let Some(software) = software(context).filter(|_| context.has_kubelet()) else { return };
    for file in software.of(SoftwareKind::Images) {
        if file.images.iter().all(|i| is_control_plane_image(i)) && !context.is_control_plane() {
            continue;
        }
        let (archive, references) = (blob(file), file.images.clone());
        collector.push(&[], ItemKind::Images { archive, references });
    }
}

fn is_control_plane_image(reference: &str) -> bool {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    let name = name.split([':', '@']).next().unwrap_or(name);
    CONTROL_PLANE_IMAGES.contains(&name)
}

fn needs(context: &Context<'_>, need: Need) -> bool {
    match need {
        Need::Kubelet => context.has_kubelet(),
        Need::ControlPlane => context.is_control_plane(),
        Need::Member => context.has_etcd_service(),
    }
}

fn blob(file: &SoftwareFile) -> Blob {
    Blob { sha256: file.sha256.clone(), size: file.size }
}

fn software<'a>(context: &Context<'a>) -> Option<&'a Software> {
    context.files.software.as_ref()
}

/// Whether a program of this name comes out of a bundle, and not out of a package.
pub(super) fn bundled(context: &Context<'_>, program: &str) -> bool {
    software(context).is_some_and(|s| s.program(program).is_some())
}

/// Whether the CNI plugins come out of a bundle.
pub(super) fn bundled_plugins(context: &Context<'_>) -> bool {
    software(context).is_some_and(|s| s.of(SoftwareKind::CniPlugin).next().is_some())
}

/// Version of a component of the bundle, as in `v2.1.9`.
pub(super) fn version<'a>(context: &Context<'a>, component: &str) -> Option<&'a str> {
    software(context)?.versions.get(component).map(String::as_str)
}
