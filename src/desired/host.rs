//! The host beside Kubernetes: the guard, kernel settings, time, auditing, updates.

use super::places::STATE;
use std::collections::BTreeSet;

use super::collector::{Collector, Unit};
use super::context::Context;
use super::model::{Access, FileCheck, ItemKind, OnChange};
use super::packages::HELD;
use super::time;
use crate::controls::{KERNEL_SETTINGS, KernelSetting, of_interfaces};
use crate::inventory::Switch;
use crate::os::PackageManager;
use crate::render::Text;
use crate::render::input::host::{
    AptUpdates, AuditPermissions, AuditRules, AuditWatch, DnfAutomatic, Modules, Sysctl,
    SysctlSetting,
};

/// What brings a node back that goes down between a change and its confirmation. First of all items.
pub(super) fn guard(collector: &mut Collector<'_>) {
    collector.directory(&[], STATE, Access::root(0o700));
    collector.fixed(&[], "/var/lib/kubastion/guard.sh", "host/guard.sh");
    let unit = "/etc/systemd/system/kubastion-guard.service";
    collector.fixed(&[], unit, "host/kubastion-guard.service");
    // It runs at boot, and ends at once.
    let unit = Unit { active: false, ..Unit::running("kubastion-guard.service") };
    collector.unit(&[], unit);
}

const SYSCTLS: &[&str] = &["host-sysctls"];

/// Kernel modules of a kubelet's node.
const MODULES: &[&str] = &["br_netfilter", "overlay"];

/// Kernel settings, modules and swap. Of [`Purpose::Cluster`](super::collector::Purpose): kubeadm needs some of it.
pub(super) fn kernel(context: &Context<'_>, collector: &mut Collector<'_>) {
    let container = context.platform.container;
    if container && context.facts().is_some() {
        collector.note(
            "the node is a container: its host controls kernel.*, vm.* and fs.* settings, kernel modules, swap and the clock",
        );
    }
    // One list for the kernel and for its file: what is set now is there after a boot, too.
    let settings: Vec<&KernelSetting> = KERNEL_SETTINGS
        .iter()
        .filter(|s| s.is_for(context.inventory, context.node))
        .filter(|s| s.is_needed() || s.controls().iter().any(|c| context.on(c)))
        // A container's boot would set them for the whole machine.
        .filter(|s| !container || s.is_of_the_network())
        .collect();
    // A node that forwards goes by no router's advertisement any more, and loses its way out, unless told to.
    let forwards = settings.iter().any(|s| s.key == "net.ipv6.conf.all.forwarding");
    let by_routers: Vec<String> = context
        .facts()
        .filter(|_| forwards)
        .into_iter()
        .flat_map(|f| f.advertised.keys())
        .filter(|i| i.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)))
        .map(|i| crate::facts::parse::accept_ra(i))
        .collect();
    // First: the way out is lost at the moment at which forwarding is switched on.
    for key in &by_routers {
        collector.push(&[], ItemKind::Sysctl { key: key.clone(), value: "2".to_owned() });
    }
    if !settings.is_empty() {
        let controls: BTreeSet<&str> =
            settings.iter().flat_map(|s| s.controls()).copied().collect();
        let controls: Vec<&str> = controls.into_iter().collect();
        collector.template(&controls, "/etc/sysctl.d/90-kubastion.conf", |_| {
            // Interfaces that are there before the file is read do not go by `default`.
            let keys = |s: &&KernelSetting| {
                let value = Text::of(s.value);
                let keys = std::iter::once(s.key.to_owned()).chain(of_interfaces(s.key));
                keys.map(move |key| SysctlSetting { key: Text::of(key), value: value.clone() })
                    .collect::<Vec<_>>()
            };
            let setting = |key: &String| SysctlSetting { key: Text::of(key), value: Text::of("2") };
            let first = by_routers.iter().map(setting);
            Ok(Sysctl { settings: first.chain(settings.iter().flat_map(keys)).collect() })
        });
    }
    for s in &settings {
        let kind = ItemKind::Sysctl { key: s.key.to_owned(), value: s.value.to_owned() };
        collector.push(s.controls(), kind);
    }
    if !context.has_kubelet() || container {
        return;
    }
    collector.template(SYSCTLS, "/etc/modules-load.d/kubastion.conf", |_| {
        Ok(Modules { modules: Text::all(MODULES) })
    });
    for &name in MODULES {
        collector.push(SYSCTLS, ItemKind::Module { name: name.to_owned() });
    }
    // The kubelet does not start beside active swap unless told to.
    collector.push(&[], ItemKind::SwapOff);
}

/// Time, auditing, logs and updates.
pub(super) fn services(context: &Context<'_>, collector: &mut Collector<'_>) {
    time::items(context, collector);
    audit(context, collector);
    collector.fixed(&[], "/etc/logrotate.d/kubastion", "host/logrotate.conf");
    collector.packaged_unit(&[], "logrotate", Unit::running("logrotate.timer"));
    if context.inventory.host.security_updates == Switch::On {
        updates(context, collector);
    }
}

/// Paths whose changes are recorded on every node, and the key under which they are found.
const AUDITED: &[(&str, AuditPermissions, &str)] = &[
    ("/etc/kubernetes", AuditPermissions::Wa, "kubernetes"),
    ("/etc/cni", AuditPermissions::Wa, "cni"),
    ("/etc/containerd", AuditPermissions::Wa, "containerd"),
    ("/etc/ssh", AuditPermissions::Wa, "ssh"),
    ("/etc/systemd/system", AuditPermissions::Wa, "units"),
    ("/var/lib/kubelet/config.yaml", AuditPermissions::Wa, "kubelet"),
    ("/var/lib/kubastion", AuditPermissions::Wa, "kubastion"),
    ("/usr/bin/kubeadm", AuditPermissions::X, "kubeadm"),
    ("/usr/bin/containerd", AuditPermissions::Wa, "containerd"),
    // Programs of a bundle, and whatever else is put there before those of packages.
    ("/usr/local/bin", AuditPermissions::Wa, "programs"),
    ("/usr/local/sbin", AuditPermissions::Wa, "programs"),
    ("/usr/local/bin/kubeadm", AuditPermissions::X, "kubeadm"),
    ("/etc/passwd", AuditPermissions::Wa, "identity"),
    ("/etc/group", AuditPermissions::Wa, "identity"),
    ("/etc/shadow", AuditPermissions::Wa, "identity"),
    ("/etc/sudoers", AuditPermissions::Wa, "identity"),
    ("/etc/sudoers.d", AuditPermissions::Wa, "identity"),
];
/// And on etcd members.
const AUDITED_ON_MEMBERS: &[(&str, AuditPermissions, &str)] = &[
    ("/etc/etcd", AuditPermissions::Wa, "etcd"),
    // Attributes only: every write of the database would be an event.
    ("/var/lib/etcd", AuditPermissions::A, "etcd"),
];

fn audit(context: &Context<'_>, collector: &mut Collector<'_>) {
    const CONTROLS: &[&str] = &["host-auditd"];
    let rules = "/etc/audit/rules.d/90-kubastion.rules";
    collector.template(CONTROLS, rules, |_| {
        let members = if context.has_etcd_service() { AUDITED_ON_MEMBERS } else { &[] };
        let watch = |w: &(&str, AuditPermissions, &str)| AuditWatch {
            path: Text::of(w.0),
            permissions: w.1,
            key: Text::of(w.2),
        };
        Ok(AuditRules { watches: AUDITED.iter().chain(members).map(watch).collect() })
    });
    if context.platform.container || !context.platform.audit {
        if context.facts().is_some() && context.warns_about(CONTROLS[0]) {
            collector.note(
                "the kernel's audit subsystem is not available on this node: audit rules are written but not loaded",
            );
        }
        return;
    }
    let path = "/etc/systemd/system/kubastion-audit.service";
    collector.fixed(CONTROLS, path, "host/kubastion-audit.service");
    collector.packaged_unit(CONTROLS, context.os().packages.audit, Unit::running("auditd.service"));
    let watches = vec![rules.to_owned()];
    let unit =
        Unit { on_change: OnChange::Restart, watches, ..Unit::running("kubastion-audit.service") };
    collector.unit(CONTROLS, unit);
}

fn updates(context: &Context<'_>, collector: &mut Collector<'_>) {
    const CONTROLS: &[&str] = &["host-updates"];
    let package = context.os().packages.updates;
    match context.os().manager {
        PackageManager::Apt => {
            let path = "/etc/apt/apt.conf.d/52kubastion-updates";
            collector.checked_template(CONTROLS, path, FileCheck::None, |_| {
                Ok(AptUpdates { held: Text::all(HELD) })
            });
            for timer in ["apt-daily.timer", "apt-daily-upgrade.timer"] {
                collector.packaged_unit(CONTROLS, package, Unit::running(timer));
            }
        }
        PackageManager::Dnf => {
            collector.template(CONTROLS, "/etc/dnf/automatic.conf", |_| {
                Ok(DnfAutomatic { held: Text::all(HELD) })
            });
            collector.packaged_unit(CONTROLS, package, Unit::running("dnf-automatic.timer"));
        }
    }
}
