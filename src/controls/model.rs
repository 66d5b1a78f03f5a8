//! What a control is: one row of the catalogue.

use serde::Serialize;

use super::check::Check;
use super::disruption::Disruption;
use super::scope::Scope;
use crate::inventory::{Inventory, KubernetesVersion, Profile, Switch};

/// One control: something that is to hold, which benchmark wants it, and how it is judged.
#[derive(Debug, Serialize)]
pub struct Control {
    /// Name in inventories and reports; never changes its meaning.
    pub id: &'static str,
    /// What it is about.
    pub component: Component,
    /// One line for people.
    pub title: &'static str,
    /// How bad it is when it does not hold.
    pub severity: Severity,
    /// Which benchmark wants it.
    pub references: References,
    /// Profiles that switch it on.
    pub profiles: Profiles,
    /// Nodes it is judged on.
    pub scope: Scope,
    /// First and last Kubernetes minor release of the 1.x line that it holds for.
    pub minors: (u16, u16),
    /// What has to be there before it can be judged.
    pub needs: Needs,
    /// What restarts, and who is affected, when it is made to hold on a running cluster.
    #[serde(rename = "mending")]
    pub disruption: Disruption,
    /// How it is judged. All of them have to pass.
    #[serde(skip)]
    pub checks: &'static [Check],
}

/// Every minor release that this program knows.
pub const ALL_MINORS: (u16, u16) =
    (*KubernetesVersion::SUPPORTED_MINORS.start(), *KubernetesVersion::SUPPORTED_MINORS.end());

/// Part of a cluster that a control is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// kube-apiserver.
    Apiserver,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// etcd.
    Etcd,
    /// kubelet.
    Kubelet,
    /// kube-proxy.
    KubeProxy,
    /// Container runtime.
    Containerd,
    /// Operating system of a node.
    Host,
    /// Firewall, CNI and network policies.
    Network,
    /// Keys and certificates.
    Pki,
    /// Objects of the Kubernetes API.
    Policy,
}

impl std::fmt::Display for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Component::Apiserver => "apiserver",
            Component::ControllerManager => "controller-manager",
            Component::Scheduler => "scheduler",
            Component::Etcd => "etcd",
            Component::Kubelet => "kubelet",
            Component::KubeProxy => "kube-proxy",
            Component::Containerd => "containerd",
            Component::Host => "host",
            Component::Network => "network",
            Component::Pki => "pki",
            Component::Policy => "policy",
        })
    }
}

/// How bad it is when a control does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Depth of defence.
    Low,
    /// Makes an attack easier.
    Medium,
    /// Opens a way with one more mistake.
    High,
    /// Opens the cluster.
    Critical,
}

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        })
    }
}

/// Where a control comes from.
#[derive(Debug, Serialize)]
pub struct References {
    /// Section of the NSA/CISA Kubernetes Hardening Guidance 1.2; empty if it names none.
    pub nsa: &'static str,
    /// Recommendations of the CIS Kubernetes Benchmark 1.12.
    pub cis: &'static [&'static str],
    /// Vulnerability ids of the DISA Kubernetes STIG.
    pub stig: &'static [&'static str],
    /// Controls of kubescape.
    pub kubescape: &'static [&'static str],
}

impl References {
    /// All ids on one line, as in `CIS 1.2.1, STIG V-242390`; the NSA section if there are no ids.
    pub fn line(&self) -> String {
        let mut parts = Vec::new();
        for (name, ids) in [("CIS", self.cis), ("STIG", self.stig), ("kubescape", self.kubescape)] {
            match ids {
                [] => {}
                [a, b, c, _, ..] => parts.push(format!("{name} {a} {b} {c} ...")),
                few => parts.push(format!("{name} {}", few.join(" "))),
            }
        }
        if parts.is_empty() && !self.nsa.is_empty() {
            parts.push(format!("NSA/CISA {}", self.nsa));
        }
        parts.join(", ")
    }
}

/// Profiles that switch a control on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profiles {
    /// Every profile.
    All,
    /// Every profile, where the inventory names a registry mirror that images can be pulled from.
    WithRegistry,
    /// `stig` only.
    Stig,
    /// None: it is on only where the inventory says so.
    OptIn,
}

/// What has to be there before a control can be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Needs {
    /// The node.
    Host,
    /// A running etcd.
    Etcd,
    /// Kubernetes on the node.
    Kubernetes,
    /// A cluster whose API answers.
    ClusterApi,
}

impl Control {
    /// Whether the inventory wants the control: its own switch, else the profile.
    pub fn wanted(&self, inventory: &Inventory) -> bool {
        let hardening = &inventory.hardening;
        match hardening.controls.get(self.id) {
            Some(switch) => switch.state == Switch::On,
            None => match self.profiles {
                Profiles::All => true,
                Profiles::WithRegistry => !inventory.runtime.registry_mirrors.is_empty(),
                Profiles::Stig => hardening.profile == Profile::Stig,
                Profiles::OptIn => false,
            },
        }
    }
}
