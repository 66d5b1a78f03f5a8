//! Controls of the container runtime.

use super::check::{Check, Daemon, IfMissing, NodeRule, PathRule};
use super::disruption::{Affected, affects, restart};
use super::model::{ALL_MINORS, Component, Control, Needs, Profiles, References, Severity};
use super::scope::Scope;

/// Sorted by id.
pub(super) const ROWS: &[Control] = &[
    Control {
        id: "containerd-config-permissions",
        component: Component::Containerd,
        title: "Only root can access the container runtime",
        severity: Severity::High,
        references: References {
            nsa: "Kubernetes Pod security > Hardening container environments",
            cis: &[],
            stig: &[],
            kubescape: &["C-0074"],
        },
        profiles: Profiles::All,
        scope: Scope::Kubelet,
        minors: ALL_MINORS,
        needs: Needs::Host,
        disruption: restart(&[Daemon::Containerd]).affecting(Affected::LocalUsers),
        checks: &[
            Check::Path(PathRule {
                path: "/etc/containerd/config.toml",
                mode: 0o600,
                owner: "root",
                missing: IfMissing::Fails,
            }),
            Check::Path(PathRule {
                path: "/run/containerd/containerd.sock",
                mode: 0o660,
                owner: "root",
                missing: IfMissing::Fails,
            }),
            Check::Node(NodeRule::ContainerdNoTcp),
        ],
    },
    Control {
        id: "containerd-files-known",
        component: Component::Containerd,
        title: "Registries, CNI, NRI and CDI contain only what the inventory names",
        severity: Severity::High,
        references: References {
            nsa: "Kubernetes Pod security > Hardening container environments",
            cis: &[],
            stig: &[],
            kubescape: &[],
        },
        profiles: Profiles::All,
        scope: Scope::Kubelet,
        minors: ALL_MINORS,
        needs: Needs::Host,
        disruption: restart(&[Daemon::Containerd]).affecting(Affected::NewPods),
        checks: &[Check::Node(NodeRule::ForeignFiles)],
    },
    Control {
        id: "containerd-only-pods",
        component: Component::Containerd,
        title: "The container runtime runs only pods",
        severity: Severity::High,
        references: References {
            nsa: "Kubernetes Pod security > Hardening container environments",
            cis: &[],
            stig: &[],
            kubescape: &[],
        },
        profiles: Profiles::All,
        scope: Scope::Kubelet,
        minors: ALL_MINORS,
        needs: Needs::Host,
        disruption: affects(Affected::NodePods),
        checks: &[Check::Node(NodeRule::OnlyPods)],
    },
    Control {
        id: "containerd-runtime-hardening",
        component: Component::Containerd,
        title: "The container runtime is supported and confined",
        severity: Severity::Medium,
        references: References {
            nsa: "Kubernetes Pod security > Hardening container environments",
            cis: &[],
            stig: &[],
            kubescape: &["C-0087", "C-0079"],
        },
        profiles: Profiles::All,
        scope: Scope::Kubelet,
        minors: ALL_MINORS,
        needs: Needs::Host,
        disruption: restart(&[Daemon::Containerd]),
        checks: &[
            Check::Node(NodeRule::ContainerdRelease),
            Check::Node(NodeRule::ContainerdRuntime),
        ],
    },
];
