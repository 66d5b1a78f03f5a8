//! Bindings that give rights to whoever asks, or make a machine a node.

use serde_json::Value;

use crate::facts::cluster::{list, name, namespace, text};

/// Subjects that stand for whoever asks.
pub const ANONYMOUS: &[&str] = &["system:anonymous", "system:unauthenticated"];

/// Roles that let an unknown machine become a node (Kubernetes documentation, "TLS bootstrapping").
const BOOTSTRAP_ROLES: &[&str] = &[
    "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
    "system:node-bootstrapper",
];

/// Whether a binding lets the holder of a bootstrap token become a node. Nodes join with certificates from the operator.
pub fn gives_a_node(binding: &Value) -> bool {
    text(binding, "/roleRef/kind") == "ClusterRole"
        && BOOTSTRAP_ROLES.contains(&text(binding, "/roleRef/name"))
        && !list(binding, "/subjects").is_empty()
}

/// kubeadm's binding for control planes that join: they read the uploaded keys (`kubeadm init --upload-certs`).
pub const CERTIFICATES_BINDING: &str = "kubeadm:kubeadm-certs";

/// Whether a RoleBinding lets the holder of a bootstrap token read the keys of control planes, and is for nobody else.
pub fn gives_certificates(binding: &Value) -> bool {
    let groups = list(binding, "/subjects");
    namespace(binding) == "kube-system"
        && name(binding) == CERTIFICATES_BINDING
        && !groups.is_empty()
        && groups.iter().all(|s| {
            text(s, "/kind") == "Group" && text(s, "/name").starts_with("system:bootstrappers")
        })
}

/// Whether a binding gives rights to whoever asks.
pub fn has_anonymous(binding: &Value) -> bool {
    list(binding, "/subjects").iter().any(|s| ANONYMOUS.contains(&text(s, "/name")))
}
