//! What is to be done to objects of the cluster's API: facts against what should be, as pure data.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::facts::cluster::{ClusterFacts, Kind, list, name, namespace, text};
use crate::inventory::{Inventory, Node, NodeName, Role, is_reserved_label};

/// One change of an object. Each names all it does: apply decides nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ApiChange {
    /// Delete a join token: nodes join with their own certificates.
    DeleteToken {
        /// Name of the Secret in kube-system.
        name: String,
    },
    /// Delete a binding that gives a role to whoever asks.
    DeleteRoleBinding {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Take subjects out of a binding that Kubernetes itself makes, and keep it from putting them back.
    KeepSubjects {
        /// Name of the ClusterRoleBinding.
        name: String,
        /// Names of the groups and users that stay.
        keep: Vec<String>,
    },
    /// Sign a kubelet's request for a serving certificate that says what the inventory says.
    Approve {
        /// Name of the CertificateSigningRequest.
        name: String,
        /// The node that asked.
        node: NodeName,
    },
    /// Set labels that a kubelet may not set for itself.
    Label {
        /// The node.
        node: NodeName,
        /// Labels by key.
        labels: BTreeMap<String, String>,
    },
}

impl fmt::Display for ApiChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApiChange::DeleteToken { name } => write!(f, "delete join token {name}"),
            ApiChange::DeleteRoleBinding { namespace, name } => {
                write!(f, "delete RoleBinding {namespace}/{name}, which names anonymous users")
            }
            ApiChange::KeepSubjects { name, keep } => {
                write!(f, "leave only {} in ClusterRoleBinding {name}", keep.join(", "))
            }
            ApiChange::Approve { name, node } => {
                write!(f, "approve {name}, a serving certificate for {node}")
            }
            ApiChange::Label { node, labels } => {
                let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
                write!(f, "label {node} {}", labels.join(" "))
            }
        }
    }
}

/// Subjects that stand for whoever asks.
pub const ANONYMOUS: [&str; 2] = ["system:anonymous", "system:unauthenticated"];

/// What is to be done. What could not be read is left alone.
pub fn changes(inventory: &Inventory, facts: &ClusterFacts, wanted: Wanted) -> Vec<ApiChange> {
    let of = |kind| facts.of(kind).unwrap_or_default();
    let mut changes = Vec::new();
    if wanted.no_tokens {
        let tokens = of(Kind::JoinTokens).iter().map(|t| name(t).to_owned());
        changes.extend(tokens.map(|name| ApiChange::DeleteToken { name }));
    }
    if wanted.no_anonymous {
        for binding in of(Kind::RoleBindings).iter().filter(|b| has_anonymous(b)) {
            changes.push(ApiChange::DeleteRoleBinding {
                namespace: namespace(binding).to_owned(),
                name: name(binding).to_owned(),
            });
        }
        for binding in of(Kind::ClusterRoleBindings).iter().filter(|b| has_anonymous(b)) {
            let keep = list(binding, "/subjects")
                .iter()
                .map(|s| text(s, "/name").to_owned())
                .filter(|s| !ANONYMOUS.contains(&s.as_str()))
                .collect();
            changes.push(ApiChange::KeepSubjects { name: name(binding).to_owned(), keep });
        }
    }
    for request in of(Kind::SigningRequests) {
        if let Some(node) = serving_request(inventory, request) {
            let (name, node) = (name(request).to_owned(), node.name.clone());
            changes.push(ApiChange::Approve { name, node });
        }
    }
    for object in of(Kind::Nodes) {
        let Some(node) = inventory.nodes.iter().find(|n| n.name.as_str() == name(object)) else {
            continue;
        };
        let has = |k: &str, v: &str| {
            object.pointer("/metadata/labels").and_then(|l| l.get(k)).and_then(Value::as_str)
                == Some(v)
        };
        let labels: BTreeMap<String, String> =
            reserved_labels(node).into_iter().filter(|(k, v)| !has(k, v)).collect();
        if !labels.is_empty() {
            changes.push(ApiChange::Label { node: node.name.clone(), labels });
        }
    }
    changes
}

/// Which kinds of changes the controls of the inventory ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// No join token stays.
    pub no_tokens: bool,
    /// No role is granted to anonymous users.
    pub no_anonymous: bool,
}

fn has_anonymous(binding: &Value) -> bool {
    list(binding, "/subjects").iter().any(|s| ANONYMOUS.contains(&text(s, "/name")))
}

/// Labels of a node that its kubelet is not allowed to set (admission plugin NodeRestriction), and
/// the role by which people know a worker.
fn reserved_labels(node: &Node) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> = node
        .labels
        .iter()
        .filter(|(k, _)| is_reserved_label(k))
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
    if node.has_role(Role::Worker) {
        labels.entry("node-role.kubernetes.io/worker".into()).or_default();
    }
    labels
}

/// The node that a pending request for a serving certificate is from, if requester and signer are
/// right. What the certificate would say is looked at where the request is signed, in `apply::cluster`:
/// that takes a parser of its bytes.
fn serving_request<'i>(inventory: &'i Inventory, request: &Value) -> Option<&'i Node> {
    if text(request, "/spec/signerName") != "kubernetes.io/kubelet-serving"
        || !list(request, "/status/conditions").is_empty()
    {
        return None;
    }
    let node = text(request, "/spec/username").strip_prefix("system:node:")?;
    inventory.nodes.iter().find(|n| n.name.as_str() == node)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn inventory() -> Inventory {
        serde_yaml::from_str(
            "version: kubastion/v1\ncluster: {name: c, kubernetes: 1.36.2, endpoint: 'api:6443'}\n\
             nodes:\n- {name: cp1, addresses: [10.0.0.1], roles: [control-plane]}\n\
             - {name: w1, addresses: [10.0.0.2], roles: [worker]}\n",
        )
        .unwrap()
    }

    const ALL: Wanted = Wanted { no_tokens: true, no_anonymous: true };

    fn facts() -> ClusterFacts {
        let mut facts = ClusterFacts::default();
        let mut put =
            |kind, items: Value| facts.insert(kind, &mut json!({"items": items})).unwrap();
        put(Kind::JoinTokens, json!([{"metadata": {"name": "bootstrap-token-abcdef"}}]));
        put(
            Kind::RoleBindings,
            json!([
                {"metadata": {"namespace": "kube-public", "name": "kubeadm:bootstrap-signer-clusterinfo"},
                 "subjects": [{"kind": "User", "name": "system:anonymous"}]},
                {"metadata": {"namespace": "a", "name": "b"}, "subjects": [{"name": "alice"}]},
            ]),
        );
        put(
            Kind::ClusterRoleBindings,
            json!([{"metadata": {"name": "system:public-info-viewer"}, "subjects": [
                {"name": "system:authenticated"}, {"name": "system:unauthenticated"}]}]),
        );
        put(
            Kind::SigningRequests,
            json!([
                {"metadata": {"name": "csr-1"}, "spec": {"signerName": "kubernetes.io/kubelet-serving",
                 "username": "system:node:w1"}},
                {"metadata": {"name": "csr-2"}, "spec": {"signerName": "kubernetes.io/kubelet-serving",
                 "username": "system:node:stranger"}},
                {"metadata": {"name": "csr-3"}, "spec": {"signerName": "kubernetes.io/kube-apiserver-client",
                 "username": "system:node:w1"}},
            ]),
        );
        put(Kind::Nodes, json!([{"metadata": {"name": "w1", "labels": {}}}]));
        facts
    }

    #[test]
    fn what_kubeadm_leaves_behind_is_found() {
        let said: Vec<String> =
            changes(&inventory(), &facts(), ALL).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "delete join token bootstrap-token-abcdef",
                "delete RoleBinding kube-public/kubeadm:bootstrap-signer-clusterinfo, which names anonymous users",
                "leave only system:authenticated in ClusterRoleBinding system:public-info-viewer",
                "approve csr-1, a serving certificate for w1",
                "label w1 node-role.kubernetes.io/worker=",
            ]
        );
        let less =
            changes(&inventory(), &facts(), Wanted { no_tokens: false, no_anonymous: false });
        assert_eq!(less.len(), 2, "{less:?}");
    }

    #[test]
    fn what_could_not_be_read_is_left_alone() {
        assert_eq!(changes(&inventory(), &ClusterFacts::default(), ALL), []);
    }
}
