//! Controls of kube-proxy.

use super::check::{Attack, Check, Config, Daemon, IfMissing, PathRule, Rule};
use super::disruption::{Affected, affects, restart};
use super::model::{ALL_MINORS, Component, Control, Needs, Profiles, References, Severity};
use super::scope::Scope;
use super::set::Set;

/// Sorted by id.
pub(super) const ROWS: &[Control] = &[
    Control {
        id: "files-proxy-kubeconfig",
        component: Component::KubeProxy,
        title: "Only root can access a kubeconfig of kube-proxy",
        severity: Severity::Low,
        references: References {
            nsa: "Network separation and hardening > Kubeconfig files",
            cis: &["4.1.3", "4.1.4"],
            stig: &["V-242447", "V-242448"],
            kubescape: &["C-0164", "C-0165"],
        },
        profiles: Profiles::All,
        scope: Scope::Kubelet,
        minors: ALL_MINORS,
        needs: Needs::Kubernetes,
        disruption: affects(Affected::LocalUsers),
        checks: &[Check::Path(PathRule {
            path: "/etc/kubernetes/proxy.conf",
            mode: 0o600,
            owner: "root",
            missing: IfMissing::Fine,
        })],
    },
    Control {
        id: "kube-proxy-healthz-firewalled",
        component: Component::KubeProxy,
        title: "kube-proxy's health port is not open to everyone",
        severity: Severity::Low,
        references: References {
            nsa: "Network separation and hardening > Worker node segmentation",
            cis: &[],
            stig: &[],
            kubescape: &[],
        },
        profiles: Profiles::All,
        scope: Scope::Kubelet,
        minors: ALL_MINORS,
        needs: Needs::Kubernetes,
        disruption: affects(Affected::NodeClients),
        checks: &[Check::Attack(Attack::ClosedToOperator)],
    },
    Control {
        id: "kube-proxy-metrics-local",
        component: Component::KubeProxy,
        title: "kube-proxy's metrics are local",
        severity: Severity::Medium,
        references: References {
            nsa: "Network separation and hardening > Worker node segmentation",
            cis: &["4.3.1"],
            stig: &[],
            kubescape: &["C-0291"],
        },
        profiles: Profiles::All,
        scope: Scope::Kubelet,
        minors: ALL_MINORS,
        needs: Needs::Kubernetes,
        disruption: restart(&[Daemon::KubeProxy]).affecting(Affected::Scrapers),
        checks: &[
            Check::Setting(
                Config::KubeProxy,
                &["metricsBindAddress"],
                Rule::Loopback,
                Some("metrics-bind-address"),
                Set::To("127.0.0.1:10249"),
            ),
            Check::LoopbackOnly(Daemon::KubeProxy, 10249),
        ],
    },
];
