//! What is to be done to objects of the cluster's API: facts against what should be, as pure data.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::objects::{self, Difference};
pub use crate::desired::objects::Wanted;
use crate::facts::cluster::{ClusterFacts, Kind, list, name, namespace, text};
use crate::inventory::{Inventory, Node, NodeName};
use crate::plain::plain_line;

/// One change of an object. Each names all it does: apply decides nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ApiChange {
    /// Delete a join token: nodes join with their own certificates.
    DeleteToken {
        /// Name of the Secret in kube-system.
        name: String,
    },
    /// Delete a binding that lets the holder of a bootstrap token become a node.
    DeleteBootstrapBinding {
        /// Its name.
        name: String,
    },
    /// Delete a binding that gives a role to whoever asks, and to nobody else.
    DeleteRoleBinding {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Take the anonymous subjects out of a binding, and keep Kubernetes from putting them back into one of
    /// its own.
    KeepSubjects {
        /// Namespace of a RoleBinding; empty for a ClusterRoleBinding.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        namespace: String,
        /// Its name.
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
    /// Write kubeadm's ConfigMaps and kube-proxy's anew, from the files on a control plane: kubeadm-config, kubelet-config and
    /// kube-proxy in kube-system.
    UploadConfiguration,
    /// Make an object that should exist, or change what differs in it, by server-side apply.
    Apply {
        /// Which of both.
        action: Action,
        /// What is sent.
        object: Value,
        /// What is changed; apply changes nothing else. Empty for an object that is made.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        differs: Vec<Difference>,
        /// The name of another object of its namespace: if that could not be sent in the same run, this is not either.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        /// Controls that want it.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        controls: BTreeSet<String>,
    },
}

/// What becomes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// There is none yet.
    Create,
    /// Fields of it get another value.
    Change,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Create => "create",
            Action::Change => "change",
        })
    }
}

impl fmt::Display for ApiChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApiChange::DeleteToken { name } => {
                write!(f, "delete join token {}", plain_line(name))
            }
            ApiChange::DeleteBootstrapBinding { name } => {
                let name = plain_line(name);
                write!(
                    f,
                    "delete ClusterRoleBinding {name}, which lets bootstrap tokens become nodes"
                )
            }
            ApiChange::DeleteRoleBinding { namespace, name } => {
                let (namespace, name) = (plain_line(namespace), plain_line(name));
                write!(f, "delete RoleBinding {namespace}/{name}, which names anonymous users")
            }
            ApiChange::KeepSubjects { namespace, name, keep } => {
                let keep = if keep.is_empty() {
                    "nobody".to_owned()
                } else {
                    plain_line(&keep.join(", "))
                };
                let name = plain_line(name);
                match namespace.as_str() {
                    "" => write!(f, "leave only {keep} in ClusterRoleBinding {name}"),
                    space => {
                        write!(f, "leave only {keep} in RoleBinding {}/{name}", plain_line(space))
                    }
                }
            }
            ApiChange::Approve { name, node } => {
                write!(f, "approve {}, a serving certificate for {node}", plain_line(name))
            }
            ApiChange::UploadConfiguration => f.write_str(
                "write kubeadm's ConfigMaps in kube-system as its files on control planes say",
            ),
            ApiChange::Apply { action, object, differs, .. } => {
                write!(f, "{action} {}", called(object))?;
                for (i, difference) in differs.iter().take(SHOWN).enumerate() {
                    write!(f, "{} {difference}", if i == 0 { ":" } else { ";" })?;
                }
                match differs.len().checked_sub(SHOWN) {
                    None | Some(0) => Ok(()),
                    Some(more) => write!(f, "; and {more} more"),
                }
            }
        }
    }
}

/// How many differences one line names; the plan's JSON and `--verbose` have all of them.
const SHOWN: usize = 3;

/// Kind, namespace and name of an object.
pub(super) fn called(object: &Value) -> String {
    let (word, name) = (text(object, "/kind"), name(object));
    plain_line(&match namespace(object) {
        "" => format!("{word} {name}"),
        space => format!("{word} {space}/{name}"),
    })
}

/// Subjects that stand for whoever asks.
pub const ANONYMOUS: [&str; 2] = ["system:anonymous", "system:unauthenticated"];

/// Roles that let an unknown machine become a node (Kubernetes documentation, "TLS bootstrapping").
const BOOTSTRAP_ROLES: [&str; 2] = [
    "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
    "system:node-bootstrapper",
];

/// Whether a binding lets the holder of a bootstrap token become a node. Nodes join with certificates from the operator.
pub fn gives_a_node(binding: &Value) -> bool {
    text(binding, "/roleRef/kind") == "ClusterRole"
        && BOOTSTRAP_ROLES.contains(&text(binding, "/roleRef/name"))
        && !list(binding, "/subjects").is_empty()
}

/// What is to be done. What could not be read is left alone.
pub fn changes(inventory: &Inventory, facts: &ClusterFacts, wanted: Wanted) -> Vec<ApiChange> {
    let of = |kind| facts.of(kind).unwrap_or_default();
    let mut changes = Vec::new();
    if wanted.no_tokens {
        let tokens = of(Kind::JoinTokens).iter().map(|t| name(t).to_owned());
        changes.extend(tokens.map(|name| ApiChange::DeleteToken { name }));
        let bindings = of(Kind::ClusterRoleBindings).iter().filter(|b| gives_a_node(b));
        let names = bindings.map(|b| name(b).to_owned());
        changes.extend(names.map(|name| ApiChange::DeleteBootstrapBinding { name }));
    }
    if wanted.no_anonymous {
        let all = of(Kind::RoleBindings).iter().chain(of(Kind::ClusterRoleBindings));
        for binding in all.filter(|b| has_anonymous(b)) {
            let keep: Vec<String> = list(binding, "/subjects")
                .iter()
                .map(|s| text(s, "/name").to_owned())
                .filter(|s| !ANONYMOUS.contains(&s.as_str()))
                .collect();
            let (namespace, name) = (namespace(binding).to_owned(), name(binding).to_owned());
            // One of the cluster may be Kubernetes' own, which would make it anew.
            changes.push(if keep.is_empty() && !namespace.is_empty() {
                ApiChange::DeleteRoleBinding { namespace, name }
            } else {
                ApiChange::KeepSubjects { namespace, name, keep }
            });
        }
    }
    changes.extend(objects::changes(inventory, facts, wanted));
    for request in of(Kind::SigningRequests) {
        if let Some(node) = serving_request(inventory, request) {
            let (name, node) = (name(request).to_owned(), node.name.clone());
            changes.push(ApiChange::Approve { name, node });
        }
    }
    changes
}

/// What kubeadm leaves behind in a cluster that it has just started, as far as [`changes`] goes by it: with that, a plan
/// that starts a cluster says beforehand what will be done in it.
pub fn just_started(minor: u16) -> ClusterFacts {
    let binding = |namespace: &str, name: &str, role: &str, subjects: &[&str]| {
        let subjects: Vec<Value> = subjects.iter().map(|s| json!({ "name": s })).collect();
        json!({"metadata": {"namespace": namespace, "name": name}, "subjects": subjects,
               "roleRef": {"kind": "ClusterRole", "name": role}})
    };
    let spaces = ["default", "kube-node-lease", "kube-public", "kube-system"];
    let mut facts = ClusterFacts::default();
    for kind in Kind::for_a_plan(minor) {
        let items = match kind {
            Kind::JoinTokens => vec![json!({"metadata": {"name": KUBEADMS_TOKEN}})],
            Kind::RoleBindings => vec![binding(
                "kube-public",
                "kubeadm:bootstrap-signer-clusterinfo",
                "",
                &["system:anonymous"],
            )],
            Kind::ClusterRoleBindings => vec![
                binding(
                    "",
                    "system:public-info-viewer",
                    "system:public-info-viewer",
                    &["system:authenticated", "system:unauthenticated"],
                ),
                binding("", "kubeadm:kubelet-bootstrap", "system:node-bootstrapper", &[JOINING]),
                binding("", "kubeadm:node-autoapprove-bootstrap", APPROVE_NODES, &[JOINING]),
            ],
            Kind::Namespaces => spaces.map(|n| json!({"metadata": {"name": n}})).into(),
            _ => Vec::new(),
        };
        facts.objects.insert(kind, items);
    }
    facts
}

/// The group of whoever joins with a token of kubeadm.
const JOINING: &str = "system:bootstrappers:kubeadm:default-node-token";
/// The role by which requests of joining nodes are approved.
const APPROVE_NODES: &str = "system:certificates.k8s.io:certificatesigningrequests:nodeclient";

/// Placeholder for the token of `kubeadm init`, whose name is not known in advance.
const KUBEADMS_TOKEN: &str = "bootstrap-token-...";

impl ApiChange {
    /// Whether a plan holds it: word for word, or, of what nobody can name before, by its kind. Of an object, less may be left
    /// to change than the plan shows, and nothing else.
    pub fn is_in(
        &self,
        plan: &[ApiChange],
        starts: bool,
        configured: impl Fn(&NodeName) -> bool,
    ) -> bool {
        plan.iter().any(|planned| self == planned || self.is_part_of(planned))
            || match self {
                ApiChange::DeleteToken { .. } => starts,
                // The kubelet of a node that the plan makes part of the cluster, or starts again, asks when it starts.
                ApiChange::Approve { node, .. } => configured(node),
                _ => false,
            }
    }

    fn is_part_of(&self, planned: &ApiChange) -> bool {
        use ApiChange::Apply;
        let (Apply { action, object, differs, .. }, Apply { action: a, object: o, differs: d, .. }) =
            (self, planned)
        else {
            return false;
        };
        (action, object) == (a, o) && differs.iter().all(|one| d.contains(one))
    }

    /// Namespace and name of the object that it sends.
    pub fn object(&self) -> Option<(&str, &str)> {
        match self {
            ApiChange::Apply { object, .. } => Some((namespace(object), name(object))),
            _ => None,
        }
    }

    /// Namespace and name of the object that has to be there before.
    pub fn after(&self) -> Option<(&str, &str)> {
        match self {
            ApiChange::Apply { object, after: Some(first), .. } => Some((namespace(object), first)),
            _ => None,
        }
    }

    /// Whether it is about a `Node`.
    pub fn is_about_a_node(&self) -> bool {
        matches!(self, ApiChange::Apply { object, .. } if text(object, "/kind") == "Node")
    }
}

/// Whether a namespace is there to stay.
pub(super) fn is_steady(facts: &ClusterFacts, space: &str) -> bool {
    let all = facts.of(Kind::Namespaces).unwrap_or_default();
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

fn has_anonymous(binding: &Value) -> bool {
    list(binding, "/subjects").iter().any(|s| ANONYMOUS.contains(&text(s, "/name")))
}

/// The node that a pending request for a serving certificate is from, if requester and signer are
/// right. What the certificate would say is looked at where the request is signed, in
/// `api::certificate_requests`:
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
    use super::*;
    use crate::inventory::{Role, testing};

    fn inventory() -> Inventory {
        testing::of_nodes([("cp1", Role::ControlPlane), ("w1", Role::Worker)])
    }

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
                {"metadata": {"namespace": "a", "name": "c"},
                 "subjects": [{"name": "bob"}, {"name": "system:unauthenticated"}]},
            ]),
        );
        put(
            Kind::ClusterRoleBindings,
            json!([{"metadata": {"name": "system:public-info-viewer"}, "subjects": [
                {"name": "system:authenticated"}, {"name": "system:unauthenticated"}]},
                {"metadata": {"name": "kubeadm:kubelet-bootstrap"}, "subjects": [{"name": "joining"}],
                 "roleRef": {"kind": "ClusterRole", "name": "system:node-bootstrapper"}},
                {"metadata": {"name": "kubeadm:node-autoapprove-certificate-rotation"},
                 "subjects": [{"name": "system:nodes"}], "roleRef": {"kind": "ClusterRole",
                 "name": "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"}}]),
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
            changes(&inventory(), &facts(), Wanted::ALL).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "delete join token bootstrap-token-abcdef",
                "delete ClusterRoleBinding kubeadm:kubelet-bootstrap, which lets bootstrap tokens become nodes",
                "delete RoleBinding kube-public/kubeadm:bootstrap-signer-clusterinfo, which names anonymous users",
                "leave only bob in RoleBinding a/c",
                "leave only system:authenticated in ClusterRoleBinding system:public-info-viewer",
                "change Node w1: metadata.labels[node-role.kubernetes.io/worker]: (none) -> \"\"",
                "approve csr-1, a serving certificate for w1",
            ]
        );
        let nothing = Wanted {
            no_tokens: false,
            no_anonymous: false,
            no_default_tokens: false,
            default_deny: false,
            quotas: false,
        };
        let less = changes(&inventory(), &facts(), nothing);
        assert_eq!(less.len(), 2, "{less:?}");
    }

    #[test]
    fn a_name_cannot_steer_the_terminal_that_shows_the_plan() {
        let name = "a\u{1b}[2K\r\u{202e}b".to_owned();
        let namespace = name.clone();
        for change in [
            ApiChange::DeleteToken { name: name.clone() },
            ApiChange::Approve { name: name.clone(), node: "w1".parse().unwrap() },
            ApiChange::DeleteRoleBinding { namespace: name.clone(), name: name.clone() },
            ApiChange::KeepSubjects { namespace, name: name.clone(), keep: vec![name.clone()] },
            ApiChange::Apply {
                action: Action::Change,
                object: json!({"kind": "Node", "metadata": {"name": name}}),
                differs: vec![Difference {
                    path: name.clone(),
                    is: Some(name.clone()),
                    wanted: Some(name.clone()),
                }],
                after: None,
                controls: BTreeSet::new(),
            },
        ] {
            let said = change.to_string();
            assert!(!said.contains(['\u{1b}', '\r', '\u{202e}']), "{said:?}");
        }
    }

    #[test]
    fn what_could_not_be_read_is_left_alone() {
        assert_eq!(changes(&inventory(), &ClusterFacts::default(), Wanted::ALL), []);
    }
}
