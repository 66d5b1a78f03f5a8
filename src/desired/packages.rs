//! Distribution packages.

use super::collector::Collector;
use super::context::Context;
use super::model::ItemKind;
use super::software;
use super::time::TimeDaemon;
use crate::inventory::{SoftwareSource, Switch};
use crate::os::{FAMILIES, OsFamily, PackageNames};

/// Which nodes need a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Every,
    Kubelet,
    Member,
    /// Control planes that keep the endpoint's address.
    Endpoint,
    /// Where security updates are wanted.
    Updates,
}

impl Need {
    /// Whether a package is there for its controls alone. Kubernetes and etcd need theirs anyway.
    fn only_hardens(self) -> bool {
        matches!(self, Need::Every | Need::Updates)
    }
}

/// What the node needs. How the families call it is in their rows (`crate::os`).
struct Package {
    need: Need,
    /// Its name, out of those of a family.
    name: fn(&PackageNames) -> &'static str,
    /// A command that says that somebody else has installed it; empty where that does not matter.
    command: &'static str,
    controls: &'static [&'static str],
}

const FIREWALL: &[&str] = &["host-firewall-control-plane", "host-firewall-worker"];
const RUNTIME: &[&str] = &["containerd-runtime-hardening"];
const ETCD: &[&str] = &["etcd-run-as-user"];

/// kubeadm looks for conntrack, iptables, ethtool, socat and friends in its preflight
/// (<https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/install-kubeadm/>).
#[rustfmt::skip]
const PACKAGES: &[Package] = &[
    Package { need: Need::Every,    name: |n| n.nftables,     command: "",            controls: FIREWALL },
    Package { need: Need::Every,    name: |n| n.chrony,       command: "",            controls: &["host-time-sync"] },
    Package { need: Need::Every,    name: |n| n.audit,        command: "",            controls: &["host-auditd"] },
    Package { need: Need::Every,    name: |n| n.logrotate,    command: "",            controls: &[] },
    Package { need: Need::Updates,  name: |n| n.updates,      command: "",            controls: &["host-updates"] },
    Package { need: Need::Kubelet,  name: |n| n.containerd,   command: "containerd",  controls: RUNTIME },
    Package { need: Need::Kubelet,  name: |n| n.runc,         command: "containerd",  controls: RUNTIME },
    Package { need: Need::Kubelet,  name: |n| n.cni_plugins,  command: "",            controls: &["files-cni"] },
    Package { need: Need::Kubelet,  name: |n| n.iptables,     command: "",            controls: &[] },
    Package { need: Need::Kubelet,  name: |n| n.conntrack,    command: "",            controls: &[] },
    Package { need: Need::Kubelet,  name: |n| n.ethtool,      command: "",            controls: &[] },
    Package { need: Need::Kubelet,  name: |n| n.socat,        command: "",            controls: &[] },
    Package { need: Need::Endpoint, name: |n| n.haproxy,      command: "",            controls: &[] },
    Package { need: Need::Endpoint, name: |n| n.keepalived,   command: "",            controls: &[] },
    Package { need: Need::Member,   name: |n| n.etcd_server,  command: "etcd",        controls: ETCD },
    Package { need: Need::Member,   name: |n| n.etcd_client,  command: "etcd",        controls: ETCD },
];

/// Other names of packages whose version decides something.
const ALSO: &[&str] = &["containerd.io", "etcd"];

/// Every package that is asked about on a node, also where the inventory leaves its item out: notes say what is
/// missing.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let all = PACKAGES.iter().flat_map(|p| FAMILIES.iter().map(|os| (p.name)(&os.packages)));
    all.filter(|n| !n.is_empty()).chain(ALSO.iter().copied())
}

/// Kubernetes and etcd change version when an upgrade says so, not at night.
pub(super) const HELD: &[&str] =
    &["cri-tools", "etcd-client", "etcd-server", "kubeadm", "kubectl", "kubelet"];

/// Packages of the Kubernetes project's repositories, and whether only control planes need them.
const KUBERNETES: &[(&str, bool)] = &[("kubeadm", false), ("kubectl", true), ("kubelet", false)];

/// For `source: packages`; the version is the repository's to pin.
fn kubernetes(context: &Context<'_>, collector: &mut Collector<'_>) {
    if context.inventory.kubernetes.source != SoftwareSource::Packages || !context.has_kubelet() {
        return;
    }
    for &(name, control_plane) in KUBERNETES {
        if !control_plane || context.is_control_plane() {
            collector.push(&[], ItemKind::Package { name: name.to_owned() });
        }
    }
}

pub(super) fn items(context: &Context<'_>, collector: &mut Collector<'_>) {
    kubernetes(context, collector);
    let host = &context.inventory.host;
    let mut noted = std::collections::BTreeSet::new();
    for package in PACKAGES {
        let needed = match package.need {
            Need::Every => true,
            Need::Kubelet => context.has_kubelet(),
            Need::Member => context.has_etcd_service(),
            Need::Endpoint => {
                context.is_control_plane() && context.inventory.cluster.virtual_address().is_some()
            }
            Need::Updates => host.security_updates == Switch::On,
        };
        let names = &context.os().packages;
        let name = (package.name)(names);
        let bundled = match name == names.cni_plugins {
            true => software::bundled_plugins(context),
            false => !package.command.is_empty() && software::bundled(context, package.command),
        };
        // Its package would take the node's own away.
        let has_own_clock = name == names.chrony
            && context.facts().is_some_and(|f| TimeDaemon::of(f) != TimeDaemon::Chrony);
        if !needed
            || bundled
            || has_own_clock
            || (package.need.only_hardens()
                && !package.controls.is_empty()
                && !package.controls.iter().any(|c| context.on(c)))
        {
            continue;
        }
        let found = context
            .facts()
            .is_some_and(|f| f.packages.contains_key(name) || f.commands.contains(package.command));
        if name.is_empty() {
            // One program of a kind stands for all: makers ship them together.
            if context.facts().is_some() && !found && noted.insert(package.command) {
                collector.note(format!(
                    "{} is required, but the repositories of this distribution do not have it: install it from its vendor's repository",
                    // The family has no name for it; its makers' is Debian's.
                    (package.name)(&OsFamily::Debian.row().packages)
                ));
            }
        } else if host.packages == Switch::Off {
            if context.facts().is_some() && !found {
                collector.note(format!("package {name} is missing, and `host.packages` is off"));
            }
        } else if context.facts().is_none_or(|f| {
            // Installed under another name (containerd.io): the distribution's would replace it.
            f.packages.contains_key(name) || !f.commands.contains(package.command)
        }) {
            collector.push(package.controls, ItemKind::Package { name: name.to_owned() });
        }
    }
}
