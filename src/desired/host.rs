//! The host beside Kubernetes: the guard, kernel settings, time, auditing, updates.

use super::context::Context;
use super::model::{Access, FileCheck, ItemKind, OnChange};
use super::packages::HELD;
use super::sink::{Sink, Unit};
use crate::inventory::Switch;
use crate::render::Text;
use crate::render::input::host::{
    AptUpdates, AuditPermissions, AuditRules, AuditWatch, ChronyServers, ChronyWhole, DnfAutomatic,
    Modules, Sysctl, SysctlSetting,
};

/// Directory of everything that this tool keeps on a node.
const STATE: &str = "/var/lib/kubastion";

/// What brings a node back that goes down between a change and its confirmation. First of all items.
pub(super) fn guard(sink: &mut Sink<'_>) {
    sink.directory(&[], STATE, Access::root(0o700));
    sink.fixed(&[], "/var/lib/kubastion/guard.sh", "host/guard.sh");
    let unit = "/etc/systemd/system/kubastion-guard.service";
    sink.fixed(&[], unit, "host/kubastion-guard.service");
    // It runs at boot, and ends at once.
    let unit = Unit { active: false, ..Unit::running("kubastion-guard.service") };
    sink.unit(&[], unit);
}

/// Who a kernel setting is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    Every,
    Kubelet,
    KubeletWithIpv6,
}

/// A kernel setting.
struct Setting {
    key: &'static str,
    value: &'static str,
    scope: For,
}

const SYSCTLS: &[&str] = &["host-sysctls"];
const KERNEL_DEFAULTS: &[&str] = &["host-sysctls", "kubelet-protect-kernel-defaults"];

/// Kernel settings, by key.
///
/// What the kubelet insists on with protectKernelDefaults is its own list (setupKernelTunables in
/// pkg/kubelet/cm). `rp_filter` is not among them: Cilium and multi-homed nodes need it off, and
/// what a loose filter would drop a CNI may have sent.
#[rustfmt::skip]
const SETTINGS: [Setting; 31] = [
    Setting { key: "fs.protected_hardlinks",             value: "1",        scope: For::Every },
    Setting { key: "fs.protected_symlinks",              value: "1",        scope: For::Every },
    Setting { key: "fs.suid_dumpable",                   value: "0",        scope: For::Every },
    Setting { key: "kernel.dmesg_restrict",              value: "1",        scope: For::Every },
    Setting { key: "kernel.keys.root_maxbytes",          value: "25000000", scope: For::Kubelet },
    Setting { key: "kernel.keys.root_maxkeys",           value: "1000000",  scope: For::Kubelet },
    Setting { key: "kernel.kptr_restrict",               value: "1",        scope: For::Every },
    Setting { key: "kernel.panic",                       value: "10",       scope: For::Kubelet },
    Setting { key: "kernel.panic_on_oops",               value: "1",        scope: For::Kubelet },
    Setting { key: "kernel.randomize_va_space",          value: "2",        scope: For::Every },
    Setting { key: "net.bridge.bridge-nf-call-ip6tables", value: "1",       scope: For::Kubelet },
    Setting { key: "net.bridge.bridge-nf-call-iptables", value: "1",        scope: For::Kubelet },
    // Before the settings below: switching it sets some of them anew.
    Setting { key: "net.ipv4.ip_forward",                value: "1",        scope: For::Kubelet },
    Setting { key: "net.ipv6.conf.all.forwarding",       value: "1",        scope: For::KubeletWithIpv6 },
    Setting { key: "net.ipv4.conf.all.accept_redirects", value: "0",        scope: For::Every },
    Setting { key: "net.ipv4.conf.all.accept_source_route", value: "0",     scope: For::Every },
    Setting { key: "net.ipv4.conf.all.secure_redirects", value: "0",        scope: For::Every },
    Setting { key: "net.ipv4.conf.all.send_redirects",   value: "0",        scope: For::Every },
    Setting { key: "net.ipv4.conf.default.accept_redirects", value: "0",    scope: For::Every },
    Setting { key: "net.ipv4.conf.default.accept_source_route", value: "0", scope: For::Every },
    Setting { key: "net.ipv4.conf.default.secure_redirects", value: "0",    scope: For::Every },
    Setting { key: "net.ipv4.conf.default.send_redirects", value: "0",      scope: For::Every },
    Setting { key: "net.ipv4.icmp_echo_ignore_broadcasts", value: "1",      scope: For::Every },
    Setting { key: "net.ipv4.icmp_ignore_bogus_error_responses", value: "1", scope: For::Every },
    Setting { key: "net.ipv4.tcp_syncookies",            value: "1",        scope: For::Every },
    Setting { key: "net.ipv6.conf.all.accept_redirects", value: "0",        scope: For::Every },
    Setting { key: "net.ipv6.conf.all.accept_source_route", value: "0",     scope: For::Every },
    Setting { key: "net.ipv6.conf.default.accept_redirects", value: "0",    scope: For::Every },
    Setting { key: "net.ipv6.conf.default.accept_source_route", value: "0", scope: For::Every },
    Setting { key: "vm.overcommit_memory",               value: "1",        scope: For::Kubelet },
    Setting { key: "vm.panic_on_oom",                    value: "0",        scope: For::Kubelet },
];

/// Kernel modules of a kubelet's node.
const MODULES: [&str; 2] = ["br_netfilter", "overlay"];

/// Kernel settings, modules and swap.
pub(super) fn kernel(context: &Context<'_>, sink: &mut Sink<'_>) {
    let container = context.traits.container;
    if container && context.facts().is_some() {
        sink.note(
            "the node is a container: kernel.*, vm.* and fs.* settings, kernel modules, swap and the clock are its host's and are left alone",
        );
    }
    let ipv6 = context.inventory.cluster.pod_networks.iter().any(|n| n.0.addr().is_ipv6());
    let settings: Vec<&Setting> = SETTINGS
        .iter()
        .filter(|s| match s.scope {
            For::Every => true,
            For::Kubelet => context.has_kubelet(),
            For::KubeletWithIpv6 => context.has_kubelet() && ipv6,
        })
        // A container's boot would set them for the whole machine.
        .filter(|s| !container || s.key.starts_with("net."))
        .collect();
    sink.template(SYSCTLS, "/etc/sysctl.d/90-kubastion.conf", |_| {
        let setting =
            |s: &&Setting| SysctlSetting { key: Text::of(s.key), value: Text::of(s.value) };
        Ok(Sysctl { settings: settings.iter().map(setting).collect() })
    });
    for setting in &settings {
        let kubelets = setting.scope == For::Kubelet && !setting.key.starts_with("net.");
        let kind =
            ItemKind::Sysctl { key: setting.key.to_owned(), value: setting.value.to_owned() };
        sink.push(if kubelets { KERNEL_DEFAULTS } else { SYSCTLS }, kind);
    }
    if !context.has_kubelet() || container {
        return;
    }
    sink.template(SYSCTLS, "/etc/modules-load.d/kubastion.conf", |_| {
        Ok(Modules { modules: Text::all(MODULES) })
    });
    for name in MODULES {
        sink.push(SYSCTLS, ItemKind::Module { name: name.to_owned() });
    }
    // The kubelet does not start beside active swap unless told to.
    sink.push(&[], ItemKind::SwapOff);
}

/// Time, auditing, logs and updates.
pub(super) fn services(context: &Context<'_>, sink: &mut Sink<'_>) {
    time(context, sink);
    audit(context, sink);
    sink.fixed(&[], "/etc/logrotate.d/kubastion", "host/logrotate.conf");
    sink.packaged_unit(&[], "logrotate", Unit::running("logrotate.timer"));
    if context.inventory.host.security_updates == Switch::On {
        updates(context, sink);
    }
}

fn time(context: &Context<'_>, sink: &mut Sink<'_>) {
    const CONTROLS: &[&str] = &["host-time-sync"];
    let servers = &context.inventory.host.ntp_servers;
    let mut watches = Vec::new();
    if !servers.is_empty() {
        // The Red Hat family's chrony.conf includes no directory below /etc.
        let path = if context.is_debian() {
            let path = "/etc/chrony/conf.d/kubastion.conf";
            sink.template(CONTROLS, path, |_| Ok(ChronyServers { servers: Text::all(servers) }));
            path
        } else {
            let path = "/etc/chrony.conf";
            sink.template(CONTROLS, path, |_| Ok(ChronyWhole { servers: Text::all(servers) }));
            path
        };
        watches.push(path.to_owned());
    } else if context.is_debian() {
        sink.gone("/etc/chrony/conf.d/kubastion.conf");
    }
    if context.traits.container {
        return;
    }
    let name = if context.is_debian() { "chrony.service" } else { "chronyd.service" };
    let on_change = if watches.is_empty() { OnChange::Nothing } else { OnChange::Restart };
    sink.packaged_unit(CONTROLS, "chrony", Unit { on_change, watches, ..Unit::running(name) });
}

/// Paths whose changes are recorded on every node, and the key under which they are found.
const AUDITED: [(&str, AuditPermissions, &str); 8] = [
    ("/etc/kubernetes", AuditPermissions::Wa, "kubernetes"),
    ("/etc/cni", AuditPermissions::Wa, "cni"),
    ("/etc/containerd", AuditPermissions::Wa, "containerd"),
    ("/etc/ssh", AuditPermissions::Wa, "ssh"),
    ("/etc/systemd/system", AuditPermissions::Wa, "units"),
    ("/var/lib/kubelet/config.yaml", AuditPermissions::Wa, "kubelet"),
    ("/usr/bin/kubeadm", AuditPermissions::X, "kubeadm"),
    ("/usr/bin/containerd", AuditPermissions::Wa, "containerd"),
];
/// And on etcd members.
const AUDITED_ON_MEMBERS: [(&str, AuditPermissions, &str); 2] = [
    ("/etc/etcd", AuditPermissions::Wa, "etcd"),
    // Attributes only: every write of the database would be an event.
    ("/var/lib/etcd", AuditPermissions::A, "etcd"),
];

fn audit(context: &Context<'_>, sink: &mut Sink<'_>) {
    const CONTROLS: &[&str] = &["host-auditd"];
    let rules = "/etc/audit/rules.d/90-kubastion.rules";
    sink.template(CONTROLS, rules, |_| {
        let members = if context.is_member() { &AUDITED_ON_MEMBERS[..] } else { &[] };
        let watch = |w: &(&str, AuditPermissions, &str)| AuditWatch {
            path: Text::of(w.0),
            permissions: w.1,
            key: Text::of(w.2),
        };
        Ok(AuditRules { watches: AUDITED.iter().chain(members).map(watch).collect() })
    });
    if context.traits.container || !context.traits.audit {
        if context.facts().is_some() && context.on(CONTROLS[0]) {
            sink.note(
                "the kernel's audit subsystem cannot be used from this node: audit rules are written and not loaded",
            );
        }
        return;
    }
    let path = "/etc/systemd/system/kubastion-audit.service";
    sink.fixed(CONTROLS, path, "host/kubastion-audit.service");
    let package = if context.is_debian() { "auditd" } else { "audit" };
    sink.packaged_unit(CONTROLS, package, Unit::running("auditd.service"));
    let watches = vec![rules.to_owned()];
    let unit =
        Unit { on_change: OnChange::Restart, watches, ..Unit::running("kubastion-audit.service") };
    sink.unit(CONTROLS, unit);
}

fn updates(context: &Context<'_>, sink: &mut Sink<'_>) {
    const CONTROLS: &[&str] = &["host-updates"];
    if context.is_debian() {
        let path = "/etc/apt/apt.conf.d/52kubastion-updates";
        sink.checked_template(CONTROLS, path, FileCheck::None, |_| {
            Ok(AptUpdates { held: Text::all(HELD) })
        });
        for timer in ["apt-daily.timer", "apt-daily-upgrade.timer"] {
            sink.packaged_unit(CONTROLS, "unattended-upgrades", Unit::running(timer));
        }
    } else {
        sink.template(CONTROLS, "/etc/dnf/automatic.conf", |_| {
            Ok(DnfAutomatic { held: Text::all(HELD) })
        });
        sink.packaged_unit(CONTROLS, "dnf-automatic", Unit::running("dnf-automatic.timer"));
    }
}
