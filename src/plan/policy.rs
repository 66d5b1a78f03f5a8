//! Objects that kubastion gives a cluster, as they have to be there.
//!
//! A `MutatingAdmissionPolicy` (Kubernetes documentation, "Mutating Admission Policy"; v1 and on by
//! default since 1.36) keeps the default `ServiceAccount` of every namespace to come from mounting its
//! token: without it, a namespace is open until the next apply.

use serde_json::{Value, json};

use crate::facts::cluster::{Kind, name, text};

/// Name of the policy and of its binding.
pub const NAME: &str = "kubastion-default-service-accounts";

/// The policy and what puts it in force, in the order in which they are created.
///
/// Who says `automountServiceAccountToken: true` on creating an account has asked for it.
pub fn mount_nothing() -> [(Kind, Value); 2] {
    const VERSION: &str = "admissionregistration.k8s.io/v1";
    let policy = json!({
        "apiVersion": VERSION, "kind": "MutatingAdmissionPolicy", "metadata": {"name": NAME},
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"],
                "operations": ["CREATE"], "resources": ["serviceaccounts"],
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
        "apiVersion": VERSION, "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": NAME},
        "spec": {"policyName": NAME},
    });
    [(Kind::MutatingPolicies, policy), (Kind::MutatingBindings, binding)]
}

/// An object that kubastion puts into a namespace. The name is its own: what somebody else wants there is an object of
/// another name, which is left alone.
#[derive(Debug, Clone)]
pub struct NamespaceObject {
    /// Its kind, as facts list it.
    pub kind: Kind,
    /// What is created.
    pub wanted: Value,
}

impl NamespaceObject {
    /// `kind` as it is written in manifests.
    pub fn word(&self) -> &str {
        text(&self.wanted, "/kind")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        name(&self.wanted)
    }

    /// Whether an object of that name is as it was created. Empty fields are as good as none; anything else that is
    /// different, or added, opens or bounds something.
    pub fn is(&self, object: &Value) -> bool {
        let said = |o: &Value| without_nothing(o.get("spec").unwrap_or(&Value::Null));
        said(object) == said(&self.wanted)
    }
}

/// A value without fields that are null or empty lists.
fn without_nothing(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, v)| !v.is_null() && **v != json!([]));
            Value::Object(kept.map(|(k, v)| (k.clone(), without_nothing(v))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nothing).collect()),
        other => other.clone(),
    }
}

/// What denies traffic by default, in the order in which it is created.
pub fn traffic() -> [NamespaceObject; 2] {
    [allow_dns(), deny_all()].map(|wanted| NamespaceObject { kind: Kind::NetworkPolicies, wanted })
}

/// What bounds the resources of a namespace, in the order in which it is created.
pub fn resources() -> [NamespaceObject; 2] {
    [
        NamespaceObject { kind: Kind::LimitRanges, wanted: limit_range() },
        NamespaceObject { kind: Kind::ResourceQuotas, wanted: resource_quota() },
    ]
}

/// The object of a kind and a name, if it is kubastion's.
pub fn of_a_namespace(kind: &str, name: &str) -> Option<NamespaceObject> {
    traffic().into_iter().chain(resources()).find(|o| o.word() == kind && o.name() == name)
}

/// Lets nothing in and out of any pod (Kubernetes documentation, "Network Policies": default deny all
/// ingress and all egress traffic).
fn deny_all() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "kubastion-default-deny"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    })
}

/// Policies add up: pods may ask the cluster's DNS, or nothing that is allowed later would be found.
fn allow_dns() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "kubastion-allow-dns"},
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
    })
}

/// What a container gets that names no requests and limits.
fn limit_range() -> Value {
    json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "kubastion-limits"},
        "spec": {"limits": [{
            "type": "Container",
            "defaultRequest": {"cpu": "50m", "memory": "64Mi"},
            "default": {"cpu": "500m", "memory": "512Mi"},
        }]},
    })
}

/// Wide enough for a first application, and an end for one that runs away. People who need more say
/// so by an object of their own: one that is there stays as it is.
fn resource_quota() -> Value {
    json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "kubastion-quota"},
        "spec": {"hard": {
            "pods": "100", "requests.cpu": "16", "requests.memory": "32Gi",
            "limits.cpu": "32", "limits.memory": "64Gi",
        }},
    })
}

/// Whether an object says everything that is wanted of it, and nothing that narrows it. Other things
/// that the API server or somebody else added are not looked at.
pub fn says(object: &Value, wanted: &Value) -> bool {
    const NARROWING: [&str; 7] = [
        "/spec/matchResources",
        "/spec/paramKind",
        "/spec/paramRef",
        "/spec/matchConstraints/excludeResourceRules",
        "/spec/matchConstraints/namespaceSelector",
        "/spec/matchConstraints/objectSelector",
        "/spec/matchConstraints/resourceRules/0/resourceNames",
    ];
    let empty = [Value::Null, json!([]), json!({})];
    let narrows = |p: &str| object.pointer(p).is_some_and(|v| !empty.contains(v));
    // In a list, the API server names neither kind nor version.
    // All other scopes leave out what is in namespaces.
    let scope = object.pointer("/spec/matchConstraints/resourceRules/0/scope");
    if scope.is_some_and(|s| s != "*" && s != "Namespaced") {
        return false;
    }
    let same =
        |p| matches!((object.pointer(p), wanted.pointer(p)), (Some(o), Some(w)) if holds(o, w));
    same("/metadata") && same("/spec") && !NARROWING.iter().any(|p| narrows(p))
}

fn holds(object: &Value, wanted: &Value) -> bool {
    match (object, wanted) {
        (Value::Object(object), Value::Object(wanted)) => {
            wanted.iter().all(|(k, v)| object.get(k).is_some_and(|o| holds(o, v)))
        }
        (Value::Array(object), Value::Array(wanted)) => {
            object.len() == wanted.len() && object.iter().zip(wanted).all(|(o, w)| holds(o, w))
        }
        (object, wanted) => object == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_of_a_namespace_is_as_it_was_created_or_is_not() {
        for object in traffic().into_iter().chain(resources()) {
            assert_eq!(of_a_namespace(object.word(), object.name()).unwrap().wanted, object.wanted);
            let mut served = object.wanted.clone();
            served["metadata"]["uid"] = json!("x");
            served["spec"]["ingress"] = json!([]);
            served["spec"]["scopes"] = Value::Null;
            served["status"] = json!({"hard": {"pods": "1"}});
            assert!(object.is(&served), "{served}");
            served["spec"]["ingress"] = json!([{}]);
            assert!(!object.is(&served), "{served}");
            assert!(!object.is(&json!({"metadata": {}})));
        }
        let [_, deny] = traffic();
        let mut some = deny.wanted.clone();
        some["spec"]["podSelector"] = json!({"matchLabels": {"a": "b"}});
        assert!(!deny.is(&some));
        let [_, quota] = resources();
        let mut wide = quota.wanted.clone();
        wide["spec"]["hard"]["pods"] = json!("100000");
        assert!(!quota.is(&wide));
    }

    #[test]
    fn defaults_are_overlooked_and_weakening_is_not() {
        let [(_, policy), (_, binding)] = mount_nothing();
        let mut served = policy.clone();
        served["metadata"]["uid"] = json!("x");
        served.as_object_mut().unwrap().retain(|k, _| ["metadata", "spec"].contains(&k.as_str()));
        served["spec"]["matchConstraints"]["namespaceSelector"] = json!({});
        served["spec"]["matchConstraints"]["matchPolicy"] = json!("Equivalent");
        served["spec"]["matchConstraints"]["resourceRules"][0]["scope"] = json!("*");
        assert!(says(&served, &policy));
        let weakened: [fn(&mut Value); 6] = [
            |o| o["spec"]["failurePolicy"] = json!("Ignore"),
            |o| o["spec"]["matchConditions"][0]["expression"] = json!("false"),
            |o| {
                let more = json!({"name": "never", "expression": "false"});
                o["spec"]["matchConditions"].as_array_mut().unwrap().push(more);
            },
            |o| {
                o["spec"]["matchConstraints"]["excludeResourceRules"] =
                    json!([{"operations": ["*"]}])
            },
            |o| o["spec"]["mutations"] = json!([]),
            |o| o["metadata"]["name"] = json!("another"),
        ];
        for weaken in weakened {
            let mut object = served.clone();
            weaken(&mut object);
            assert!(!says(&object, &policy), "{object}");
        }
        let mut narrow = binding.clone();
        narrow["spec"]["matchResources"] =
            json!({"namespaceSelector": {"matchLabels": {"a": "b"}}});
        assert!(says(&binding, &binding) && !says(&narrow, &binding));
    }
}
