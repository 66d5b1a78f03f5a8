//! What the cluster's API holds, as far as plans and checks depend on it.
//!
//! Objects are kept as the API server sends them; the accessors here say what is read of them. Of
//! Secrets only those that hold tokens are asked for, and their data is not kept.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::digest::Digest;
use crate::inventory::NodeName;

/// A kind of object, and where its list is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// `Secret`s of type bootstrap.kubernetes.io/token; without their data.
    JoinTokens,
    /// `Secret`s of type kubernetes.io/service-account-token, in all namespaces; without their data.
    AccountTokens,
    /// `ConfigMap`s; only the data of Kubernetes' own is kept.
    ConfigMaps,
    /// `Role`s.
    Roles,
    /// `RoleBinding`s.
    RoleBindings,
    /// `ClusterRole`s.
    ClusterRoles,
    /// `ClusterRoleBinding`s.
    ClusterRoleBindings,
    /// `CertificateSigningRequest`s.
    SigningRequests,
    /// `Node`s.
    Nodes,
    /// `Namespace`s.
    Namespaces,
    /// `ServiceAccount`s.
    ServiceAccounts,
    /// `NetworkPolicy` objects.
    NetworkPolicies,
    /// `ResourceQuota`s.
    ResourceQuotas,
    /// `LimitRange`s.
    LimitRanges,
    /// `Pod`s.
    Pods,
    /// `PersistentVolume`s.
    PersistentVolumes,
    /// `DaemonSet`s.
    DaemonSets,
    /// `Deployment`s.
    Deployments,
    /// `StatefulSet`s.
    StatefulSets,
    /// `ReplicaSet`s.
    ReplicaSets,
    /// `ReplicationController`s.
    ReplicationControllers,
    /// `Job`s.
    Jobs,
    /// `CronJob`s.
    CronJobs,
    /// `Service`s.
    Services,
    /// `EndpointSlice`s: where kube-proxy sends what is for a Service.
    EndpointSlices,
    /// `ServiceCIDR`s: from where Services get their addresses.
    ServiceCidrs,
    /// `FlowSchema`s: which requests wait behind which.
    FlowSchemas,
    /// `PriorityLevelConfiguration`s: how many requests are answered at a time.
    PriorityLevels,
    /// `Lease`s of kube-system: who leads among controller managers and schedulers.
    Leases,
    /// `RuntimeClass`es.
    RuntimeClasses,
    /// `MutatingAdmissionPolicy` objects, where the release has them.
    MutatingPolicies,
    /// `MutatingAdmissionPolicyBinding` objects, where the release has them.
    MutatingBindings,
    /// `ValidatingAdmissionPolicy` objects.
    ValidatingPolicies,
    /// `ValidatingAdmissionPolicyBinding` objects.
    ValidatingBindings,
    /// `ValidatingWebhookConfiguration`s.
    ValidatingWebhooks,
    /// `MutatingWebhookConfiguration`s.
    MutatingWebhooks,
    /// `APIService`s: who answers for each group of the API.
    ApiServices,
    /// `CustomResourceDefinition`s; only who converts their objects is kept.
    CustomResources,
    /// `CSIDriver`s: who mounts volumes, and with what of the pods.
    CsiDrivers,
}

impl ObjectKind {
    /// Every kind, with the path of its list.
    pub const ALL: &[(ObjectKind, &str)] = &[
        (
            ObjectKind::JoinTokens,
            "/api/v1/namespaces/kube-system/secrets?fieldSelector=type%3Dbootstrap.kubernetes.io%2Ftoken",
        ),
        (
            ObjectKind::AccountTokens,
            "/api/v1/secrets?fieldSelector=type%3Dkubernetes.io%2Fservice-account-token",
        ),
        (ObjectKind::ConfigMaps, "/api/v1/configmaps"),
        (ObjectKind::Roles, "/apis/rbac.authorization.k8s.io/v1/roles"),
        (ObjectKind::RoleBindings, "/apis/rbac.authorization.k8s.io/v1/rolebindings"),
        (ObjectKind::ClusterRoles, "/apis/rbac.authorization.k8s.io/v1/clusterroles"),
        (ObjectKind::ClusterRoleBindings, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
        (ObjectKind::SigningRequests, "/apis/certificates.k8s.io/v1/certificatesigningrequests"),
        (ObjectKind::Nodes, "/api/v1/nodes"),
        (ObjectKind::Namespaces, "/api/v1/namespaces"),
        (ObjectKind::ServiceAccounts, "/api/v1/serviceaccounts"),
        (ObjectKind::NetworkPolicies, "/apis/networking.k8s.io/v1/networkpolicies"),
        (ObjectKind::ResourceQuotas, "/api/v1/resourcequotas"),
        (ObjectKind::LimitRanges, "/api/v1/limitranges"),
        (ObjectKind::Pods, "/api/v1/pods"),
        // Right after the pods that they lead to.
        (ObjectKind::EndpointSlices, "/apis/discovery.k8s.io/v1/endpointslices"),
        (ObjectKind::PersistentVolumes, "/api/v1/persistentvolumes"),
        (ObjectKind::DaemonSets, "/apis/apps/v1/daemonsets"),
        (ObjectKind::Deployments, "/apis/apps/v1/deployments"),
        (ObjectKind::StatefulSets, "/apis/apps/v1/statefulsets"),
        (ObjectKind::ReplicaSets, "/apis/apps/v1/replicasets"),
        (ObjectKind::ReplicationControllers, "/api/v1/replicationcontrollers"),
        (ObjectKind::Jobs, "/apis/batch/v1/jobs"),
        (ObjectKind::CronJobs, "/apis/batch/v1/cronjobs"),
        (ObjectKind::Services, "/api/v1/services"),
        (ObjectKind::ServiceCidrs, "/apis/networking.k8s.io/v1/servicecidrs"),
        (ObjectKind::FlowSchemas, "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas"),
        (
            ObjectKind::PriorityLevels,
            "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations",
        ),
        (ObjectKind::Leases, "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"),
        (ObjectKind::RuntimeClasses, "/apis/node.k8s.io/v1/runtimeclasses"),
        (
            ObjectKind::MutatingPolicies,
            "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies",
        ),
        (
            ObjectKind::MutatingBindings,
            "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings",
        ),
        (
            ObjectKind::ValidatingPolicies,
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
        ),
        (
            ObjectKind::ValidatingBindings,
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
        ),
        (
            ObjectKind::ValidatingWebhooks,
            "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
        ),
        (
            ObjectKind::MutatingWebhooks,
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
        ),
        (ObjectKind::ApiServices, "/apis/apiregistration.k8s.io/v1/apiservices"),
        (ObjectKind::CustomResources, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"),
        (ObjectKind::CsiDrivers, "/apis/storage.k8s.io/v1/csidrivers"),
    ];

    /// What a plan depends on; checks ask for everything.
    pub const FOR_A_PLAN: &[ObjectKind] = &[
        ObjectKind::ConfigMaps,
        ObjectKind::Namespaces,
        ObjectKind::ServiceAccounts,
        ObjectKind::NetworkPolicies,
        ObjectKind::ResourceQuotas,
        ObjectKind::LimitRanges,
        ObjectKind::Pods,
        ObjectKind::JoinTokens,
        ObjectKind::RoleBindings,
        ObjectKind::ClusterRoleBindings,
        ObjectKind::SigningRequests,
        ObjectKind::Nodes,
        ObjectKind::MutatingPolicies,
        ObjectKind::MutatingBindings,
    ];

    /// The first minor release whose API server has it by default; 0 for all that are supported.
    pub fn since_minor(self) -> u16 {
        match self {
            // In v1, and switched on: enhancement 3962.
            ObjectKind::MutatingPolicies | ObjectKind::MutatingBindings => 36,
            _ => 0,
        }
    }

    /// What a plan for a minor release depends on.
    pub fn for_a_plan(minor: u16) -> Vec<ObjectKind> {
        Self::FOR_A_PLAN.iter().copied().filter(|kind| kind.since_minor() <= minor).collect()
    }

    /// Everything that a minor release has.
    pub fn for_checks(minor: u16) -> Vec<ObjectKind> {
        Self::ALL.iter().map(|(kind, _)| *kind).filter(|k| k.since_minor() <= minor).collect()
    }

    /// The kind of objects that are called so in manifests; only of those that kubastion sends.
    pub fn of_word(word: &str) -> Option<ObjectKind> {
        const WORDS: &[(&str, ObjectKind)] = &[
            ("LimitRange", ObjectKind::LimitRanges),
            ("MutatingAdmissionPolicy", ObjectKind::MutatingPolicies),
            ("MutatingAdmissionPolicyBinding", ObjectKind::MutatingBindings),
            ("NetworkPolicy", ObjectKind::NetworkPolicies),
            ("Node", ObjectKind::Nodes),
            ("ResourceQuota", ObjectKind::ResourceQuotas),
            ("ServiceAccount", ObjectKind::ServiceAccounts),
        ];
        WORDS.iter().find(|(w, _)| *w == word).map(|(_, kind)| *kind)
    }

    /// The path of its list.
    pub fn path(self) -> &'static str {
        let row = Self::ALL.iter().find(|(k, _)| *k == self);
        row.expect("a test walks all kinds").1
    }
}

/// Whose fields those are that kubastion sends (Kubernetes documentation, "Server-Side Apply": managers).
pub const FIELD_MANAGER: &str = "kubastion";

/// The ConfigMap that kubeadm's join tokens sign.
pub const CLUSTER_INFO: &str = "kube-public/cluster-info";
/// The ConfigMap with kube-proxy's configuration.
pub const PROXY_CONFIG: &str = "kube-system/kube-proxy";
/// The ConfigMap with CoreDNS' Corefile.
pub const DNS_CONFIG: &str = "kube-system/coredns";
/// The ConfigMap by which kubeadm joins and upgrades control planes.
pub const KUBEADM_CONFIG: &str = "kube-system/kubeadm-config";
/// The ConfigMap from which joining nodes take their kubelet's configuration.
pub const KUBELET_CONFIG: &str = "kube-system/kubelet-config";
/// The ConfigMap from which aggregated API servers, the controller manager and the scheduler take the CAs of clients.
pub const AUTHENTICATION_CONFIG: &str = "kube-system/extension-apiserver-authentication";
/// `ConfigMap`s whose data is kept.
const KEPT: &[&str] = &[
    CLUSTER_INFO,
    PROXY_CONFIG,
    DNS_CONFIG,
    KUBEADM_CONFIG,
    KUBELET_CONFIG,
    AUTHENTICATION_CONFIG,
];

/// What the API answered.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ClusterFacts {
    /// Objects by kind. A kind that could not be listed is not there: what depends on it is unknown.
    pub objects: BTreeMap<ObjectKind, Vec<Value>>,
    /// Why a kind could not be listed.
    pub unread: BTreeMap<ObjectKind, String>,
    /// What was answered for each kind that was listed.
    pub answers: BTreeMap<ObjectKind, ListAnswer>,
    /// The node over whose connection its own API server was asked; `None` of what nobody was asked.
    pub server: Option<NodeName>,
    /// Objects of the bundle's manifests, in the order in which they are sent.
    pub bundled: Vec<BundledFact>,
    /// Why it is not known which of them are there.
    pub unread_bundled: Option<String>,
}

/// An object of a bundle's manifest, and what the cluster has of it.
#[derive(Debug, Clone, PartialEq)]
pub struct BundledFact {
    /// The manifest's name.
    pub file: String,
    /// The object, as the manifest has it.
    pub object: Value,
    /// As it is, and as it would be if it were sent, by the server's own word; `None` if there is none.
    pub seen: Option<(Value, Value)>,
}

/// The answer to the request for a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListAnswer {
    /// Of the bodies of all its pages, one after the other, as they came.
    pub sha256: Digest,
    /// When the last page was there, by this machine's clock.
    pub read: OffsetDateTime,
}

impl ClusterFacts {
    /// Takes a list in.
    ///
    /// # Errors
    /// If the answer is not a list, or not all of one.
    pub fn insert(&mut self, kind: ObjectKind, list: &mut Value) -> Result<(), String> {
        if list.pointer("/metadata/continue").and_then(Value::as_str).is_some_and(|c| !c.is_empty())
        {
            return Err("the list is incomplete".into());
        }
        let Some(Value::Array(items)) = list.get_mut("items").map(Value::take) else {
            return Err("the answer has no items".into());
        };
        let mut items = items;
        if matches!(kind, ObjectKind::JoinTokens | ObjectKind::AccountTokens) {
            for item in &mut items {
                if let Some(object) = item.as_object_mut() {
                    object.remove("data");
                }
            }
        }
        if kind == ObjectKind::CustomResources {
            // Schemas are most of it, and are large.
            for item in &mut items {
                let conversion = item.pointer("/spec/conversion").cloned();
                item["spec"] = json!({ "conversion": conversion });
            }
        }
        if kind == ObjectKind::ConfigMaps {
            // Others' may be large, or hold what should be in a Secret.
            for item in &mut items {
                let is_kept =
                    KEPT.contains(&format!("{}/{}", namespace(item), name(item)).as_str());
                if let Some(object) = item.as_object_mut().filter(|_| !is_kept) {
                    object.remove("data");
                    object.remove("binaryData");
                }
            }
        }
        self.objects.insert(kind, items);
        Ok(())
    }

    /// The objects of a kind, or why they are not known.
    ///
    /// # Errors
    /// Why the list could not be read.
    pub fn of(&self, kind: ObjectKind) -> Result<&[Value], String> {
        self.objects.get(&kind).map(Vec::as_slice).ok_or_else(|| {
            self.unread.get(&kind).cloned().unwrap_or_else(|| "it was not requested".into())
        })
    }
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

/// `metadata.namespace`; empty for an object without one.
pub fn namespace(object: &Value) -> &str {
    object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default()
}

/// The array at a pointer (RFC 6901), or nothing.
pub fn list<'v>(object: &'v Value, pointer: &str) -> &'v [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The text at a pointer (RFC 6901), or nothing.
pub fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a namespace is there to stay.
pub fn is_steady(facts: &ClusterFacts, space: &str) -> bool {
    let all = facts.of(ObjectKind::Namespaces).unwrap_or_default();
    all.iter()
        .any(|n| name(n) == space && text(n, "/status/phase") != "Terminating" && !is_of_a_probe(n))
}

/// The label of what an attempt of `verify` makes and deletes.
pub const PROBE_LABEL: &str = "kubastion.io/probe";

/// How the names of such namespaces begin.
pub const PROBE_PREFIX: &str = "kubastion-probe-";

/// Whether a namespace is one that an attempt of `verify` made: both by name and by label, as it is when
/// the next run deletes it. The label alone would hide anybody's namespace.
pub fn is_of_a_probe(space: &Value) -> bool {
    let labelled = space.pointer("/metadata/labels").is_some_and(|l| l.get(PROBE_LABEL).is_some());
    name(space).starts_with(PROBE_PREFIX) && labelled
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_one_path() {
        let kinds: BTreeSet<ObjectKind> = ObjectKind::ALL.iter().map(|(k, _)| *k).collect();
        assert_eq!(kinds.len(), ObjectKind::ALL.len());
        assert!(kinds.iter().all(|k| k.path().starts_with("/api")));
    }

    #[test]
    fn a_release_is_not_asked_for_what_it_lacks() {
        for asked in [ObjectKind::for_a_plan, ObjectKind::for_checks] {
            assert!(!asked(35).contains(&ObjectKind::MutatingPolicies));
            assert!(asked(36).contains(&ObjectKind::MutatingPolicies));
            assert!(asked(35).contains(&ObjectKind::Pods));
        }
    }

    #[test]
    fn a_token_loses_its_data_and_half_a_list_is_none() {
        let mut facts = ClusterFacts::default();
        let mut list =
            json!({"items": [{"metadata": {"name": "t"}, "data": {"token-secret": "x"}}]});
        facts.insert(ObjectKind::JoinTokens, &mut list).unwrap();
        assert!(!facts.of(ObjectKind::JoinTokens).unwrap()[0].to_string().contains("token-secret"));
        let mut half = json!({"metadata": {"continue": "more"}, "items": []});
        assert!(facts.insert(ObjectKind::Pods, &mut half).is_err());
        assert!(facts.insert(ObjectKind::Pods, &mut json!({"kind": "Status"})).is_err());
        assert!(facts.of(ObjectKind::Pods).is_err());
    }
}
