//! Which lists of the cluster's API each rule is judged from: a table, exhaustive over the rules. A test takes away each
//! list, and wants another verdict of the rules that name it here and of no others.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::checks::cluster::reading::Reference;
use crate::checks::model::Subject;
use crate::checks::source::{Machine, Source, SourceKind, Sources};
use crate::controls::ApiRule;
#[cfg(test)]
use crate::digest::Digest;
use crate::facts::cluster::{
    AUTHENTICATION_CONFIG, CLUSTER_INFO, ClusterFacts, ListAnswer, ObjectKind, PROXY_CONFIG,
};

/// What an API server answered, list by list.
#[derive(Debug, Clone, Default)]
pub struct Lists {
    answers: BTreeMap<ObjectKind, ListAnswer>,
    machine: Option<Arc<Machine>>,
}

impl Lists {
    /// Those that were read, over the connection to a machine.
    pub fn new(facts: &ClusterFacts, machine: Option<Arc<Machine>>) -> Self {
        Self { answers: facts.answers.clone(), machine }
    }

    /// Answers to some lists, for tests of what comes after them.
    #[cfg(test)]
    pub(in crate::checks) fn played(lists: impl IntoIterator<Item = (ObjectKind, Digest)>) -> Self {
        let read = time::macros::datetime!(2026-02-01 11:59:59 UTC);
        let answer = |(kind, sha256)| (kind, ListAnswer { sha256, read });
        Self { answers: lists.into_iter().map(answer).collect(), machine: None }
    }

    /// One list.
    pub(in crate::checks) fn source(&self, kind: ObjectKind) -> Source {
        let answer = self.answers.get(&kind);
        Source {
            kind: SourceKind::Request,
            what: format!("GET {}", kind.path()).into(),
            sha256: answer.map(|a| a.sha256),
            read: answer.map(|a| a.read),
            machine: answer.and_then(|_| self.machine.clone()),
        }
    }
}

impl Lists {
    /// What a rule was judged from, in a minor release.
    pub(in crate::checks) fn of(
        &self,
        rule: ApiRule,
        minor: u16,
        reference: &Reference,
    ) -> Sources {
        let named = lists_of(rule);
        let asked = named.iter().filter(|kind| kind.since_minor() <= minor);
        // A rule about what a release lacks is not judged there.
        let lists = if asked.clone().next().is_some() {
            asked.collect()
        } else {
            named.iter().collect::<Vec<_>>()
        };
        let of_nodes = match rule {
            // They are compared with kubeadm's files on the control planes.
            ApiRule::KubeadmConfiguration => reference.kubeadm_sources.as_slice(),
            _ => &[],
        };
        let lists = lists.into_iter().map(|kind| self.source(*kind));
        Sources::of(lists.chain(of_nodes.iter().cloned())).expect("each rule reads a list")
    }
}

/// The lists that a rule reads: one or more. Of a release that lacks a kind nobody reads it.
pub(super) fn lists_of(rule: ApiRule) -> &'static [ObjectKind] {
    use ObjectKind::*;
    match rule {
        ApiRule::NoAnonymousBindings | ApiRule::NoBootstrapBindings => {
            &[ClusterRoleBindings, RoleBindings]
        }
        ApiRule::NoJoinTokens => &[JoinTokens, ConfigMaps],
        ApiRule::DefaultAccountsMountNothing => &[
            ServiceAccounts,
            Namespaces,
            Pods,
            DaemonSets,
            Deployments,
            StatefulSets,
            ReplicaSets,
            ReplicationControllers,
            Jobs,
            CronJobs,
        ],
        ApiRule::NewAccountsMountNothing => &[MutatingPolicies, MutatingBindings],
        ApiRule::DefaultDeny => &[NetworkPolicies, Namespaces],
        ApiRule::ImagesPinned | ApiRule::NoRetiredAddOns | ApiRule::SystemPodsHardened => &[Pods],
        ApiRule::NamespacesClean => &[ConfigMaps, Pods, ServiceAccounts, Services],
        ApiRule::MinimalRbac => &[
            Roles,
            RoleBindings,
            ClusterRoles,
            ClusterRoleBindings,
            SigningRequests,
            Namespaces,
            Pods,
            DaemonSets,
            Deployments,
            StatefulSets,
            ReplicaSets,
            ReplicationControllers,
            Jobs,
            CronJobs,
        ],
        ApiRule::QuotasAndLimits => &[ResourceQuotas, LimitRanges, Namespaces],
        ApiRule::SecretsNotInEnvironment => &[ValidatingPolicies, ValidatingBindings],
        ApiRule::NamespaceLevels => &[Namespaces],
        ApiRule::PodsWithinStandard => &[
            Pods,
            DaemonSets,
            Deployments,
            StatefulSets,
            ReplicaSets,
            ReplicationControllers,
            Jobs,
            CronJobs,
            PersistentVolumes,
            Nodes,
        ],
        ApiRule::WebhooksKnown => {
            &[ValidatingWebhooks, MutatingWebhooks, MutatingPolicies, CustomResources, CsiDrivers]
        }
        ApiRule::AggregatedApisKnown => &[ApiServices],
        ApiRule::NodesKnown => &[Nodes],
        ApiRule::NoLastingTokens => &[AccountTokens],
        ApiRule::NoPendingChange => ObjectKind::FOR_A_PLAN,
        ApiRule::KubeadmConfiguration
        | ApiRule::ClusterInfo
        | ApiRule::ProxyKubeconfig
        | ApiRule::ExtensionCas => &[ConfigMaps],
        ApiRule::ProxyConfiguration => &[ConfigMaps, DaemonSets, ClusterRoleBindings],
        ApiRule::DnsConfiguration => &[ConfigMaps, Deployments, Pods, ClusterRoleBindings],
        ApiRule::ControllersLead => &[Leases],
        ApiRule::RuntimeClassesKnown => &[RuntimeClasses],
        ApiRule::FlowControlKnown => &[FlowSchemas, PriorityLevels],
        ApiRule::ServiceEndpointsKnown => &[
            Services,
            EndpointSlices,
            ServiceCidrs,
            Pods,
            DaemonSets,
            Deployments,
            StatefulSets,
            ReplicaSets,
            ReplicationControllers,
            Jobs,
            CronJobs,
            Nodes,
        ],
    }
}

/// The one object that a rule is about, if there is one.
pub(in crate::checks) fn object_of(rule: ApiRule) -> Option<Subject> {
    let map = |full: &'static str| {
        let (namespace, name) = full.split_once('/')?;
        Some(Subject::Object { kind: "ConfigMap", namespace, name })
    };
    match rule {
        ApiRule::ClusterInfo => map(CLUSTER_INFO),
        ApiRule::ProxyKubeconfig => map(PROXY_CONFIG),
        ApiRule::ExtensionCas => map(AUTHENTICATION_CONFIG),
        _ => None,
    }
}
