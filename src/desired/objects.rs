//! Objects of the cluster's API that should exist, or have certain fields.
//!
//! What is of kubastion's own name is its own, and is sent whole: what somebody else wants there is an object of another
//! name, which is left alone. Of what is others' (a default `ServiceAccount`, a `Node`) only the fields are sent that are
//! wanted.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::controls;
use crate::facts::cluster::{ObjectKind, name, namespace, text};
use crate::inventory::{Inventory, Node, Role, is_reserved_label};

/// An object as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredObject {
    /// Its kind, as facts list it.
    pub kind: ObjectKind,
    /// What is sent: `apiVersion`, `kind`, `metadata` with name and namespace, and the fields that are wanted.
    pub body: Value,
    /// Whose it is.
    pub owner: Owner,
    /// When it may be made or changed.
    pub when: When,
    /// The name of another object of its namespace that has to be there before this one is made.
    pub after: Option<&'static str>,
    /// Ids of the controls that want it.
    pub controls: &'static [&'static str],
}

/// Whose an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Kubastion's, by its name.
    Kubastion(Extra),
    /// Somebody else's: of fields that are not wanted, nothing is said.
    Others,
}

/// Which fields that nobody wants count in an object of kubastion's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// All in `spec` but empty ones: whatever is added opens or bounds something.
    Any,
    /// Those that narrow it: the API server adds others by itself.
    Only(&'static [&'static str]),
}

/// When an object may be made or changed. Where pods rely on what is to go, nothing is done: their owners have to do it,
/// and a check goes on saying so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Always.
    Always,
    /// Made only before a pod is in its namespace, and only if nobody has an object of its kind there.
    NamespaceUnused,
    /// Changed only while no pod of its namespace has a token of the default ServiceAccount.
    NoTokenMounted,
    /// Changed only if it is there: others make it.
    Exists,
}

impl DesiredObject {
    /// `kind` as it is written in manifests.
    pub fn word(&self) -> &str {
        text(&self.body, "/kind")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        name(&self.body)
    }

    /// Its namespace; empty for one without.
    pub fn namespace(&self) -> &str {
        namespace(&self.body)
    }
}

/// What the controls of an inventory ask for in the cluster's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// No join token stays, and no binding that needs one.
    pub no_tokens: bool,
    /// No role is granted to anonymous users.
    pub no_anonymous: bool,
    /// Default ServiceAccounts mount no token.
    pub no_default_tokens: bool,
    /// Traffic is denied by default.
    pub default_deny: bool,
    /// Namespaces have quotas and limits.
    pub quotas: bool,
}

const ACCOUNTS: &str = "policy-default-sa-automount";
const TRAFFIC: &str = "network-default-deny";
const RESOURCES: &str = "policy-resource-quotas";

impl Wanted {
    /// What the controls of an inventory want.
    pub fn of(inventory: &Inventory) -> Self {
        let on = |id| controls::find(id).is_some_and(|c| c.wanted(inventory));
        Self {
            no_tokens: on("apiserver-bootstrap-token-lifecycle"),
            no_anonymous: on("apiserver-anonymous-rbac-removed"),
            no_default_tokens: on(ACCOUNTS),
            default_deny: on(TRAFFIC),
            quotas: on(RESOURCES),
        }
    }

    /// What an inventory asks for that switches nothing off.
    pub const ALL: Wanted = Wanted {
        no_tokens: true,
        no_anonymous: true,
        no_default_tokens: true,
        default_deny: true,
        quotas: true,
    };
}

/// All objects, in the order in which they are sent. `namespaces` are those that are there to stay.
pub fn objects<'n>(
    inventory: &Inventory,
    namespaces: impl IntoIterator<Item = &'n str>,
    wanted: Wanted,
) -> Vec<DesiredObject> {
    let mut all = Vec::new();
    if wanted.no_default_tokens {
        all.extend(mount_nothing());
        // Namespaces, not accounts, are walked: the controller manager makes the account of a new namespace a
        // moment later, and pods must not come between.
        all.extend(namespaces.into_iter().map(default_account));
    }
    // Of namespaces of users, only the one that every cluster has.
    if wanted.default_deny {
        all.extend(traffic());
    }
    if wanted.quotas {
        all.extend(resources());
    }
    all.extend(inventory.nodes.iter().map(labels));
    all
}

/// Name of the policy for default ServiceAccounts, and of its binding.
pub const POLICY: &str = "kubastion-default-service-accounts";

/// What narrows an admission policy or its binding, or leaves something out.
const NARROWING: Extra = Extra::Only(&[
    "/spec/matchResources",
    "/spec/paramKind",
    "/spec/paramRef",
    "/spec/matchConstraints/excludeResourceRules",
    "/spec/matchConstraints/namespaceSelector",
    "/spec/matchConstraints/objectSelector",
    "/spec/matchConstraints/resourceRules/0/resourceNames",
]);

/// The policy for the default `ServiceAccount` of every namespace to come, and what puts it in force: without it, a namespace
/// is open until the next apply (Kubernetes documentation, "Mutating Admission Policy"; v1 and on by default since 1.36).
///
/// Who says `automountServiceAccountToken: true` on creating an account has asked for it.
pub fn mount_nothing() -> [DesiredObject; 2] {
    const VERSION: &str = "admissionregistration.k8s.io/v1";
    let policy = json!({
        "apiVersion": VERSION, "kind": "MutatingAdmissionPolicy", "metadata": {"name": POLICY},
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"],
                "operations": ["CREATE"], "resources": ["serviceaccounts"],
                // The server's default. All other scopes leave out what is in namespaces.
                "scope": "*",
            }]},
            "matchConditions": [{
                "name": "default-account-that-does-not-say",
                "expression":
                    "object.metadata.name == 'default' && !has(object.automountServiceAccountToken)",
            }],
            "mutations": [{
                "patchType": "ApplyConfiguration",
                "applyConfiguration": {"expression": "Object{automountServiceAccountToken: false}"},
            }],
        },
    });
    let binding = json!({
        "apiVersion": VERSION, "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": POLICY},
        "spec": {"policyName": POLICY},
    });
    let own = |kind, body, after| DesiredObject {
        kind,
        body,
        owner: Owner::Kubastion(NARROWING),
        when: When::Always,
        after,
        controls: &[ACCOUNTS],
    };
    [
        own(ObjectKind::MutatingPolicies, policy, None),
        own(ObjectKind::MutatingBindings, binding, Some(POLICY)),
    ]
}

/// The default ServiceAccount of a namespace mounts its token into no pod that does not ask for it.
fn default_account(namespace: &str) -> DesiredObject {
    DesiredObject {
        kind: ObjectKind::ServiceAccounts,
        body: json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": namespace},
            "automountServiceAccountToken": false,
        }),
        owner: Owner::Others,
        when: When::NoTokenMounted,
        after: None,
        controls: &[ACCOUNTS],
    }
}

/// Labels of a node that its kubelet is not allowed to set (admission plugin NodeRestriction), and the role by which people
/// know a worker.
fn labels(node: &Node) -> DesiredObject {
    let mut labels: BTreeMap<String, String> = node
        .labels
        .iter()
        .filter(|(k, _)| is_reserved_label(k))
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
    if node.has_role(Role::Worker) {
        labels.entry("node-role.kubernetes.io/worker".into()).or_default();
    }
    let mut metadata = json!({"name": node.name.as_str()});
    // One that should have none is compared, too: what was applied once is taken away.
    if !labels.is_empty() {
        metadata["labels"] = json!(labels);
    }
    DesiredObject {
        kind: ObjectKind::Nodes,
        body: json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata}),
        owner: Owner::Others,
        when: When::Exists,
        after: None,
        controls: &[],
    }
}

fn in_default(
    kind: ObjectKind,
    mut body: Value,
    after: Option<&'static str>,
    controls: &'static [&'static str],
) -> DesiredObject {
    body["metadata"]["namespace"] = json!("default");
    let (owner, when) = (Owner::Kubastion(Extra::Any), When::NamespaceUnused);
    DesiredObject { kind, body, owner, when, after, controls }
}

const DNS: &str = "kubastion-allow-dns";
const LIMITS: &str = "kubastion-limits";

/// Policies that let nothing into and out of the pods of `default` but questions to DNS. DNS first: for a moment too much is
/// allowed, and never too little.
pub fn traffic() -> [DesiredObject; 2] {
    // Policies add up: pods may ask the cluster's DNS, or nothing that is allowed later would be found.
    let allow_dns = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": DNS},
        "spec": {
            "podSelector": {}, "policyTypes": ["Egress"],
            "egress": [{
                "to": [{
                    "namespaceSelector":
                        {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
                }],
                "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
            }],
        },
    });
    // Kubernetes documentation, "Network Policies": default deny all ingress and all egress traffic.
    let deny_all = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "kubastion-default-deny"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    });
    [
        in_default(ObjectKind::NetworkPolicies, allow_dns, None, &[TRAFFIC]),
        in_default(ObjectKind::NetworkPolicies, deny_all, Some(DNS), &[TRAFFIC]),
    ]
}

/// What bounds the resources of `default`. Limits first: with a quota alone, pods that name no limits would be refused.
pub fn resources() -> [DesiredObject; 2] {
    // What a container gets that names no requests and limits.
    let limits = json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": LIMITS},
        "spec": {"limits": [{
            "type": "Container",
            "defaultRequest": {"cpu": "50m", "memory": "64Mi"},
            "default": {"cpu": "500m", "memory": "512Mi"},
        }]},
    });
    // Wide enough for a first application, and an end for one that runs away. People who need more say so by an object of
    // their own: one that is there stays as it is.
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "kubastion-quota"},
        "spec": {"hard": {
            "pods": "100", "requests.cpu": "16", "requests.memory": "32Gi",
            "limits.cpu": "32", "limits.memory": "64Gi",
        }},
    });
    [
        in_default(ObjectKind::LimitRanges, limits, None, &[RESOURCES]),
        in_default(ObjectKind::ResourceQuotas, quota, Some(LIMITS), &[RESOURCES]),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::inventory::testing;

    #[test]
    fn every_object_is_one_that_can_be_sent_and_says_who_wants_it() {
        let inventory = testing::of_nodes([("cp1", Role::ControlPlane), ("w1", Role::Worker)]);
        let all = objects(&inventory, ["default", "shop"], Wanted::ALL);
        let names: Vec<(&str, &str, &str)> =
            all.iter().map(|o| (o.word(), o.namespace(), o.name())).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
        for (i, object) in all.iter().enumerate() {
            assert_eq!(ObjectKind::of_word(object.word()), Some(object.kind));
            assert!(!object.name().is_empty());
            let own = matches!(object.owner, Owner::Kubastion(_));
            assert_eq!(own, object.name().starts_with("kubastion-"), "{}", object.name());
            assert!(object.controls.iter().all(|id| controls::find(id).is_some()));
            // Whatever has to be there first is sent first.
            let mut before = all[..i].iter().filter(|o| o.namespace() == object.namespace());
            assert!(object.after.is_none_or(|first| before.any(|o| o.name() == first)));
        }
        let none = Wanted {
            no_tokens: false,
            no_anonymous: false,
            no_default_tokens: false,
            default_deny: false,
            quotas: false,
        };
        let left = objects(&inventory, ["default"], none);
        assert_eq!(left.iter().map(DesiredObject::word).collect::<Vec<_>>(), ["Node", "Node"]);
    }
}
