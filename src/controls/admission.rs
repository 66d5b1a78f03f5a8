//! Controls of admission plugins of kube-apiserver. Its list of plugins takes the place of kubeadm's, so that kubeadm's one is
//! among them.

use super::check::{Attack, Check, Daemon, NodeRule, Rule};
use super::disruption::{Affected, restart};
use super::model::{ALL_MINORS, Component, Control, Needs, Profiles, References, Severity};
use super::scope::Scope;
use super::set::Set;

/// Sorted by id.
pub(super) const ROWS: &[Control] = &[
    Control {
        id: "apiserver-admission-alwayspullimages",
        component: Component::Apiserver,
        title: "Cached images are pulled again, with credentials",
        severity: Severity::Medium,
        references: References {
            nsa: "Kubernetes Pod security > Building secure container images",
            cis: &["1.2.11"],
            stig: &[],
            kubescape: &["C-0123"],
        },
        profiles: Profiles::WithRegistry,
        scope: Scope::ControlPlane,
        minors: ALL_MINORS,
        needs: Needs::Kubernetes,
        disruption: restart(&[Daemon::Apiserver]).affecting(Affected::NewPods),
        checks: &[
            Check::Flag(
                Daemon::Apiserver,
                "enable-admission-plugins",
                Rule::Has("AlwaysPullImages"),
                Set::AsJudged,
            ),
            Check::Attack(Attack::PullPolicy),
        ],
    },
    Control {
        id: "apiserver-admission-denyexternalips",
        component: Component::Apiserver,
        title: "Services cannot claim external IPs",
        severity: Severity::Medium,
        references: References {
            nsa: "Network separation and hardening > Network policies",
            cis: &["1.2.3"],
            stig: &[],
            kubescape: &["C-0283"],
        },
        profiles: Profiles::All,
        scope: Scope::ControlPlane,
        minors: ALL_MINORS,
        needs: Needs::Kubernetes,
        disruption: restart(&[Daemon::Apiserver]).affecting(Affected::ApiClients),
        checks: &[
            Check::Flag(
                Daemon::Apiserver,
                "enable-admission-plugins",
                Rule::Has("DenyServiceExternalIPs"),
                Set::AsJudged,
            ),
            Check::Attack(Attack::ExternalIps),
        ],
    },
    Control {
        id: "apiserver-admission-eventratelimit",
        component: Component::Apiserver,
        title: "Events are rate-limited at admission",
        severity: Severity::Low,
        references: References {
            nsa: "Network separation and hardening > Resource policies",
            cis: &["1.2.9"],
            stig: &[],
            kubescape: &["C-0121"],
        },
        profiles: Profiles::All,
        scope: Scope::ControlPlane,
        minors: ALL_MINORS,
        needs: Needs::Kubernetes,
        disruption: restart(&[Daemon::Apiserver]).affecting(Affected::ApiClients),
        checks: &[
            Check::Flag(
                Daemon::Apiserver,
                "enable-admission-plugins",
                Rule::Has("EventRateLimit"),
                Set::AsJudged,
            ),
            Check::Flag(
                Daemon::Apiserver,
                "admission-control-config-file",
                Rule::Given,
                Set::To("/etc/kubernetes/config/admission.yaml"),
            ),
            Check::Node(NodeRule::EventRateLimit),
            Check::Attack(Attack::EventRateLimit),
        ],
    },
    Control {
        id: "apiserver-admission-namespacelifecycle",
        component: Component::Apiserver,
        title: "NamespaceLifecycle admission stays on",
        severity: Severity::Medium,
        references: References {
            nsa: "Network separation and hardening > Namespaces",
            cis: &["1.2.13"],
            stig: &[],
            kubescape: &["C-0126"],
        },
        profiles: Profiles::All,
        scope: Scope::ControlPlane,
        minors: ALL_MINORS,
        needs: Needs::Kubernetes,
        disruption: restart(&[Daemon::Apiserver]).affecting(Affected::ApiClients),
        checks: &[
            Check::Flag(
                Daemon::Apiserver,
                "disable-admission-plugins",
                Rule::Lacks("NamespaceLifecycle"),
                Set::AsJudged,
            ),
            Check::Attack(Attack::MissingNamespace),
        ],
    },
    Control {
        id: "apiserver-admission-no-alwaysadmit",
        component: Component::Apiserver,
        title: "AlwaysAdmit is off",
        severity: Severity::High,
        references: References {
            nsa: "Network separation and hardening > Control plane hardening",
            cis: &["1.2.10"],
            stig: &[],
            kubescape: &["C-0122"],
        },
        profiles: Profiles::All,
        scope: Scope::ControlPlane,
        minors: ALL_MINORS,
        needs: Needs::Kubernetes,
        disruption: restart(&[Daemon::Apiserver]).affecting(Affected::ApiClients),
        checks: &[
            Check::Flag(
                Daemon::Apiserver,
                "enable-admission-plugins",
                Rule::Lacks("AlwaysAdmit"),
                Set::AsJudged,
            ),
            Check::Attack(Attack::PodSecurity),
        ],
    },
    Control {
        id: "apiserver-admission-noderestriction",
        component: Component::Apiserver,
        title: "Kubelets can change only their own objects",
        severity: Severity::High,
        references: References {
            nsa: "Authentication and authorization > Role-based access control",
            cis: &["1.2.14"],
            stig: &[],
            kubescape: &["C-0127"],
        },
        profiles: Profiles::All,
        scope: Scope::ControlPlane,
        minors: ALL_MINORS,
        needs: Needs::Kubernetes,
        disruption: restart(&[Daemon::Apiserver]).affecting(Affected::ApiClients),
        checks: &[
            Check::Flag(
                Daemon::Apiserver,
                "enable-admission-plugins",
                Rule::Has("NodeRestriction"),
                Set::AsJudged,
            ),
            Check::Attack(Attack::NodeRestriction),
        ],
    },
    Control {
        id: "apiserver-admission-serviceaccount",
        component: Component::Apiserver,
        title: "ServiceAccount admission stays on",
        severity: Severity::Medium,
        references: References {
            nsa: "Kubernetes Pod security > Protecting Pod service account tokens",
            cis: &["1.2.12"],
            stig: &[],
            kubescape: &["C-0125"],
        },
        profiles: Profiles::All,
        scope: Scope::ControlPlane,
        minors: ALL_MINORS,
        needs: Needs::Kubernetes,
        disruption: restart(&[Daemon::Apiserver]).affecting(Affected::NewPods),
        checks: &[
            Check::Flag(
                Daemon::Apiserver,
                "disable-admission-plugins",
                Rule::Lacks("ServiceAccount"),
                Set::AsJudged,
            ),
            Check::Attack(Attack::MissingServiceAccount),
        ],
    },
    Control {
        id: "apiserver-admission-validatingwebhook",
        component: Component::Apiserver,
        title: "ValidatingAdmissionWebhook is listed among the admission plugins",
        severity: Severity::Medium,
        references: References {
            nsa: "Network separation and hardening > Control plane hardening",
            cis: &[],
            stig: &["V-242436"],
            kubescape: &[],
        },
        profiles: Profiles::All,
        scope: Scope::ControlPlane,
        minors: ALL_MINORS,
        needs: Needs::Kubernetes,
        disruption: restart(&[Daemon::Apiserver]),
        checks: &[
            Check::Flag(
                Daemon::Apiserver,
                "enable-admission-plugins",
                Rule::Has("ValidatingAdmissionWebhook"),
                Set::AsJudged,
            ),
            Check::Flag(
                Daemon::Apiserver,
                "disable-admission-plugins",
                Rule::Lacks("ValidatingAdmissionWebhook"),
                Set::AsJudged,
            ),
        ],
    },
];
