//! Objects that kubastion gives a cluster, as they have to be there.
//!
//! A `MutatingAdmissionPolicy` (Kubernetes documentation, "Mutating Admission Policy"; v1 and on by
//! default since 1.36) keeps the default `ServiceAccount` of every namespace to come from mounting its
//! token: without it, a namespace is open until the next apply.

use serde_json::{Value, json};

use crate::facts::cluster::Kind;

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
