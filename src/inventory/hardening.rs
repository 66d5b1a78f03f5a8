//! Which controls are wanted, how far a cluster is hardened, and who may deviate until when.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::granted::{AllowedObject, ControlSwitch, PodSecurity};
use super::names::NodeName;

/// Which controls are wanted, and which exceptions are granted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hardening {
    /// Set of controls and values to start from.
    pub profile: Profile,
    /// Switches single controls on or off, by control id. A critical control is switched off only with a reason, an
    /// owner and an expiry date.
    pub controls: BTreeMap<String, ControlSwitch>,
    /// Controls that some nodes may fail for now, with a reason and an expiry date.
    pub exceptions: Vec<Exception>,
    /// How far an existing cluster is hardened: `observe` records who would notice, and changes nothing that anyone can notice;
    /// `enforce` hardens it once nobody would notice, or every item is acknowledged. Without a stage, as for a new cluster, it
    /// is hardened at once.
    pub stage: Option<Stage>,
    /// How long a cluster is observed before `stage: enforce` hardens it, in minutes.
    #[schemars(range(min = 1, max = 525600))]
    pub observe_minutes: u32,
    /// Accepted effects of `stage: enforce`. `kubastion impact` lists their names.
    pub acknowledged: Vec<Acknowledged>,
    /// Exemptions from Pod Security.
    pub pod_security: PodSecurity,
    /// Allowed webhooks, mutating policies, aggregated APIs, role bindings, volumes on nodes and flow-control rules. All
    /// others are findings.
    pub allowed_objects: Vec<AllowedObject>,
    /// Longest lifetime of a service account token, in hours (`--service-account-max-token-expiration`).
    #[schemars(range(min = 1, max = 8760))]
    pub service_account_token_hours: u32,
}

impl Default for Hardening {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            controls: BTreeMap::new(),
            exceptions: Vec::new(),
            stage: None,
            observe_minutes: 24 * 60,
            acknowledged: Vec::new(),
            pod_security: PodSecurity::default(),
            allowed_objects: Vec::new(),
            service_account_token_hours: 24,
        }
    }
}

impl Hardening {
    /// The exceptions of a control on a node; without a node, those that name none. Whether they are over is
    /// not looked at: an inventory with one that is cannot be used.
    pub fn exceptions_of<'h>(
        &'h self,
        control: &'h str,
        node: Option<&'h NodeName>,
    ) -> impl Iterator<Item = &'h Exception> {
        let is_for = move |e: &&Exception| {
            e.control == control
                && (e.nodes.is_empty() || node.is_some_and(|n| e.nodes.contains(n)))
        };
        self.exceptions.iter().filter(is_for)
    }
}

/// A set of controls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// NSA/CISA Kubernetes Hardening Guidance 1.2, which also passes CIS 1.12.
    #[default]
    Nsa,
    /// CIS Kubernetes Benchmark 1.12.
    Cis,
    /// DISA STIG for Kubernetes.
    Stig,
}

/// How far an existing cluster is hardened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The firewall logs and counts what it would drop, and API servers record requests and warn about pods that they would
    /// reject. Nothing else is changed.
    Observe,
    /// Every control is applied, once the cluster was observed for `observe_minutes` and every item that `kubastion impact`
    /// lists is fixed or acknowledged.
    Enforce,
}

/// An effect of hardening that somebody would notice, accepted until a given day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Acknowledged {
    /// Its name in `kubastion impact`, as in `pod-security/shop/CronJob/nightly`.
    pub item: String,
    /// Why it is accepted.
    pub reason: String,
    /// Who is responsible for it.
    pub owner: String,
    /// Last day of the acknowledgement, `YYYY-MM-DD` in UTC.
    pub expires: String,
}

/// A control that some nodes may fail until a given day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// Control id.
    pub control: String,
    /// The check that may fail, as named in `kubastion controls show` and in reports. Required if the control has several
    /// checks: an exception for one must not hide another.
    #[serde(default)]
    pub check: Option<String>,
    /// Nodes the exception applies to; empty means all.
    #[serde(default)]
    pub nodes: Vec<NodeName>,
    /// Why.
    pub reason: String,
    /// Who is responsible for it.
    pub owner: String,
    /// Last day of the exception, `YYYY-MM-DD` in UTC.
    pub expires: String,
}
