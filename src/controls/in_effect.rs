//! Controls about what is in effect, beside what files say: daemons as they run, who may replace what root runs, CAs
//! that are accepted, what the next boot will set, and that nothing waits to be changed.

use super::check::{Check, Daemon, Fact, Probe, Rule};
use super::model::{ALL_MINORS, Component, Control, Needs, Profiles, References, Scope, Severity};

/// A row of this file: of every profile and release, with a section of the NSA/CISA guidance as its origin.
const fn row(
    id: &'static str,
    component: Component,
    title: &'static str,
    severity: Severity,
    nsa: &'static str,
    (scope, needs): (Scope, Needs),
    checks: &'static [Check],
) -> Control {
    Control {
        id,
        component,
        title,
        severity,
        references: References { nsa, cis: &[], stig: &[], kubescape: &[] },
        profiles: Profiles::All,
        scope,
        minors: ALL_MINORS,
        needs,
        checks,
    }
}

const CONTROL_PLANE: &str = "Network separation and hardening > Control plane hardening";
const ETCD: &str = "Network separation and hardening > Etcd";
const NODES: &str = "Network separation and hardening > Worker node segmentation";
const RUNTIME: &str = "Kubernetes Pod security > Hardening container environments";
const AUTHENTICATION: &str = "Authentication and authorization > Authentication";
const UPGRADES: &str = "Upgrading and application security practices";

/// Sorted by id.
pub(super) static ROWS: [Control; 17] = [
    row(
        "apiserver-accepted-cas",
        Component::Apiserver,
        "The API server accepts clients of the cluster's CAs alone",
        Severity::Critical,
        AUTHENTICATION,
        (Scope::ControlPlane, Needs::Kubernetes),
        &[Check::Probe(Probe::ApiserverAcceptedCas)],
    ),
    row(
        "apiserver-in-effect",
        Component::Apiserver,
        "The API server runs as it was configured",
        Severity::Critical,
        CONTROL_PLANE,
        (Scope::ControlPlane, Needs::Kubernetes),
        &[Check::InEffect(Daemon::Apiserver)],
    ),
    row(
        "containerd-in-effect",
        Component::Containerd,
        "The container runtime runs as it was configured",
        Severity::High,
        RUNTIME,
        (Scope::Kubelet, Needs::Host),
        &[Check::InEffect(Daemon::Containerd)],
    ),
    row(
        "etcd-accepted-cas",
        Component::Etcd,
        "etcd accepts clients and members of its CA alone",
        Severity::Critical,
        ETCD,
        (Scope::EtcdMember, Needs::Etcd),
        &[
            Check::Flag(Daemon::Etcd, "trusted-ca-file", Rule::Given),
            Check::Flag(Daemon::Etcd, "peer-trusted-ca-file", Rule::Given),
            Check::Probe(Probe::EtcdAcceptedCas),
            Check::Probe(Probe::EtcdPeerAcceptedCas),
        ],
    ),
    row(
        "etcd-in-effect",
        Component::Etcd,
        "etcd runs as it was configured",
        Severity::Critical,
        ETCD,
        (Scope::EtcdMember, Needs::Etcd),
        &[Check::InEffect(Daemon::Etcd)],
    ),
    row(
        "files-static-pods-known",
        Component::Host,
        "The kubelet starts no pods from files but the control plane's",
        Severity::Critical,
        NODES,
        (Scope::Kubelet, Needs::Host),
        &[Check::Fact(Fact::StaticPods)],
    ),
    row(
        "host-no-pending-change",
        Component::Host,
        "The node is as the inventory wants it",
        Severity::High,
        UPGRADES,
        (Scope::Every, Needs::Host),
        &[Check::Fact(Fact::NoPendingChange)],
    ),
    row(
        "host-root-owned-paths",
        Component::Host,
        "Only root can replace what root runs and what is judged",
        Severity::Critical,
        NODES,
        (Scope::Every, Needs::Host),
        &[Check::Fact(Fact::RootOwnedPaths)],
    ),
    row(
        "host-ssh-in-effect",
        Component::Host,
        "sshd runs with the settings of its files, once",
        Severity::Critical,
        NODES,
        (Scope::Every, Needs::Host),
        &[Check::Fact(Fact::SshdInEffect)],
    ),
    row(
        "host-sysctls-at-boot",
        Component::Host,
        "The next boot sets the same kernel settings",
        Severity::Medium,
        NODES,
        (Scope::Every, Needs::Host),
        &[Check::Fact(Fact::SysctlsAtBoot)],
    ),
    row(
        "host-units-as-written",
        Component::Host,
        "No drop-in of somebody else changes a unit of the cluster's",
        Severity::High,
        NODES,
        (Scope::Every, Needs::Host),
        &[Check::Fact(Fact::UnitsAsWritten)],
    ),
    row(
        "kcm-in-effect",
        Component::ControllerManager,
        "The controller manager runs as it was configured",
        Severity::High,
        CONTROL_PLANE,
        (Scope::ControlPlane, Needs::Kubernetes),
        &[Check::InEffect(Daemon::ControllerManager)],
    ),
    row(
        "kube-proxy-in-effect",
        Component::KubeProxy,
        "kube-proxy runs as it was configured",
        Severity::Medium,
        NODES,
        (Scope::Kubelet, Needs::Kubernetes),
        &[Check::InEffect(Daemon::KubeProxy)],
    ),
    row(
        "kubelet-accepted-cas",
        Component::Kubelet,
        "The kubelet accepts clients of the cluster CA alone",
        Severity::Critical,
        AUTHENTICATION,
        (Scope::Kubelet, Needs::Kubernetes),
        &[Check::Probe(Probe::KubeletAcceptedCas)],
    ),
    row(
        "kubelet-in-effect",
        Component::Kubelet,
        "The kubelet runs as it was configured",
        Severity::High,
        NODES,
        (Scope::Kubelet, Needs::Kubernetes),
        &[Check::InEffect(Daemon::Kubelet)],
    ),
    row(
        "pki-one-ca-per-file",
        Component::Pki,
        "Each CA file holds one certificate",
        Severity::Critical,
        AUTHENTICATION,
        (Scope::Every, Needs::Host),
        &[Check::Fact(Fact::OneCaPerFile)],
    ),
    row(
        "scheduler-in-effect",
        Component::Scheduler,
        "The scheduler runs as it was configured",
        Severity::High,
        CONTROL_PLANE,
        (Scope::ControlPlane, Needs::Kubernetes),
        &[Check::InEffect(Daemon::Scheduler)],
    ),
];
