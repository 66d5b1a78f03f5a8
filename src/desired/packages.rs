//! Distribution packages.

use super::context::Context;
use super::model::ItemKind;
use super::sink::Sink;
use super::software;
use super::time::TimeDaemon;
use crate::facts::OsFamily;
use crate::inventory::{SoftwareSource, Switch};

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

/// What the node needs, and how the families call it.
struct Package {
    need: Need,
    /// Name in Debian and Ubuntu.
    debian: &'static str,
    /// Name in RHEL and its kin; empty where their own repositories have none.
    red_hat: &'static str,
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
const PACKAGES: [Package; 16] = [
    Package { need: Need::Every,   debian: "nftables",         red_hat: "nftables",         command: "",           controls: FIREWALL },
    Package { need: Need::Every,   debian: "chrony",           red_hat: "chrony",           command: "",           controls: &["host-time-sync"] },
    Package { need: Need::Every,   debian: "auditd",           red_hat: "audit",            command: "",           controls: &["host-auditd"] },
    Package { need: Need::Every,   debian: "logrotate",        red_hat: "logrotate",        command: "",           controls: &[] },
    Package { need: Need::Updates, debian: "unattended-upgrades", red_hat: "dnf-automatic", command: "",           controls: &["host-updates"] },
    Package { need: Need::Kubelet, debian: "containerd",       red_hat: "",                 command: "containerd", controls: RUNTIME },
    Package { need: Need::Kubelet, debian: "runc",             red_hat: "",                 command: "containerd", controls: RUNTIME },
    Package { need: Need::Kubelet, debian: "containernetworking-plugins", red_hat: "containernetworking-plugins", command: "", controls: &["files-cni"] },
    Package { need: Need::Kubelet, debian: "iptables",         red_hat: "iptables-nft",     command: "",           controls: &[] },
    Package { need: Need::Kubelet, debian: "conntrack",        red_hat: "conntrack-tools",  command: "",           controls: &[] },
    Package { need: Need::Kubelet, debian: "ethtool",          red_hat: "ethtool",          command: "",           controls: &[] },
    Package { need: Need::Kubelet, debian: "socat",            red_hat: "socat",            command: "",           controls: &[] },
    Package { need: Need::Endpoint, debian: "haproxy",         red_hat: "haproxy",          command: "",           controls: &[] },
    Package { need: Need::Endpoint, debian: "keepalived",      red_hat: "keepalived",       command: "",           controls: &[] },
    Package { need: Need::Member,  debian: "etcd-server",      red_hat: "",                 command: "etcd",       controls: ETCD },
    Package { need: Need::Member,  debian: "etcd-client",      red_hat: "",                 command: "etcd",       controls: ETCD },
];

/// Other names of packages whose version decides something.
const ALSO: [&str; 2] = ["containerd.io", "etcd"];

/// Every package that is asked about on a node, also where the inventory leaves its item out: notes say what is
/// missing.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let both = PACKAGES.iter().flat_map(|p| [p.debian, p.red_hat]);
    both.filter(|n| !n.is_empty()).chain(ALSO)
}

/// Kubernetes and etcd change version when an upgrade says so, not at night.
pub(super) const HELD: [&str; 6] =
    ["cri-tools", "etcd-client", "etcd-server", "kubeadm", "kubectl", "kubelet"];

/// Packages of the Kubernetes project's repositories, and whether only control planes need them.
const KUBERNETES: [(&str, bool); 3] = [("kubeadm", false), ("kubectl", true), ("kubelet", false)];

/// For `source: packages`; the version is the repository's to pin.
fn kubernetes(context: &Context<'_>, sink: &mut Sink<'_>) {
    if context.inventory.kubernetes.source != SoftwareSource::Packages || !context.has_kubelet() {
        return;
    }
    for (name, control_plane) in KUBERNETES {
        if !control_plane || context.is_control_plane() {
            sink.push(&[], ItemKind::Package { name: name.to_owned() });
        }
    }
}

pub(super) fn items(context: &Context<'_>, sink: &mut Sink<'_>) {
    kubernetes(context, sink);
    let host = &context.inventory.host;
    let mut noted = std::collections::BTreeSet::new();
    for package in &PACKAGES {
        let needed = match package.need {
            Need::Every => true,
            Need::Kubelet => context.has_kubelet(),
            Need::Member => context.is_member(),
            Need::Endpoint => {
                context.is_control_plane() && context.inventory.cluster.virtual_address().is_some()
            }
            Need::Updates => host.security_updates == Switch::On,
        };
        let name = match context.traits.family {
            OsFamily::Debian => package.debian,
            OsFamily::RedHat => package.red_hat,
        };
        let bundled = match package.debian {
            "containernetworking-plugins" => software::bundled_plugins(context),
            _ => !package.command.is_empty() && software::bundled(context, package.command),
        };
        // Its package would take the node's own away.
        let has_own_clock = package.debian == "chrony"
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
                sink.note(format!(
                    "{} is needed, and the repositories of this distribution do not have it: install it from its makers' repository",
                    package.debian
                ));
            }
        } else if host.packages == Switch::Off {
            if context.facts().is_some() && !found {
                sink.note(format!("package {name} is missing, and `host.packages` is off"));
            }
        } else if context.facts().is_none_or(|f| {
            // Installed under another name (containerd.io): the distribution's would replace it.
            f.packages.contains_key(name) || !f.commands.contains(package.command)
        }) {
            sink.push(package.controls, ItemKind::Package { name: name.to_owned() });
        }
    }
}
