//! Controls of kube-scheduler.

use super::check::{Attack, Check, Daemon, Rule};
use super::disruption::{Affected, restart};
use super::model::{ALL_MINORS, Component, Control, Needs, Profiles, References, Severity};
use super::scope::Scope;
use super::set::Set;

/// Sorted by id.
pub(super) const ROWS: &[Control] = &[
    Control {
        id: "scheduler-bind-localhost",
        component: Component::Scheduler,
        title: "The scheduler listens on loopback only",
        severity: Severity::Medium,
        references: References {
            nsa: "Network separation and hardening > Control plane hardening",
            cis: &["1.4.2"],
            stig: &["V-242384"],
            kubescape: &["C-0152"],
        },
        profiles: Profiles::All,
        scope: Scope::ControlPlane,
        minors: ALL_MINORS,
        needs: Needs::Kubernetes,
        disruption: restart(&[Daemon::Scheduler]).affecting(Affected::Scrapers),
        checks: &[
            Check::Flag(Daemon::Scheduler, "bind-address", Rule::Loopback, Set::To("127.0.0.1")),
            Check::LoopbackOnly(Daemon::Scheduler, 10259),
        ],
    },
    Control {
        id: "scheduler-profiling-off",
        component: Component::Scheduler,
        title: "The scheduler serves no profiling data",
        severity: Severity::Medium,
        references: References {
            nsa: "Network separation and hardening > Control plane hardening",
            cis: &["1.4.1"],
            stig: &[],
            kubescape: &["C-0151"],
        },
        profiles: Profiles::All,
        scope: Scope::ControlPlane,
        minors: ALL_MINORS,
        needs: Needs::Kubernetes,
        disruption: restart(&[Daemon::Scheduler]).affecting(Affected::Scrapers),
        checks: &[
            Check::Flag(Daemon::Scheduler, "profiling", Rule::Is("false"), Set::AsJudged),
            Check::Flag(Daemon::Scheduler, "config", Rule::Absent, Set::AsJudged),
            Check::Attack(Attack::SchedulerProfiling),
        ],
    },
    Control {
        id: "scheduler-tls-min-version",
        component: Component::Scheduler,
        title: "The scheduler refuses TLS older than 1.2",
        severity: Severity::Low,
        references: References {
            nsa: "Network separation and hardening > Encryption",
            cis: &[],
            stig: &["V-242377"],
            kubescape: &[],
        },
        profiles: Profiles::All,
        scope: Scope::ControlPlane,
        minors: ALL_MINORS,
        needs: Needs::Kubernetes,
        disruption: restart(&[Daemon::Scheduler]).affecting(Affected::OldTlsClients),
        checks: &[Check::Flag(
            Daemon::Scheduler,
            "tls-min-version",
            Rule::OneOf(&["VersionTLS12", "VersionTLS13"]),
            Set::To("VersionTLS12"),
        )],
    },
];
