//! What is to be done to objects of the cluster's API: facts against what should be, as pure data.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::policy;
use crate::controls;
use crate::facts::cluster::{ClusterFacts, Kind, list, name, namespace, text};
use crate::inventory::{Inventory, Node, NodeName, Role, is_reserved_label};
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
    /// Keep a default ServiceAccount from mounting its token into pods that do not ask for it.
    UnmountDefaultAccount {
        /// Its namespace.
        namespace: String,
    },
    /// Have new default ServiceAccounts mount no token, by an admission policy.
    MountNothingInNewNamespaces,
    /// Create policies that let nothing into and out of a namespace's pods but questions to DNS.
    DenyByDefault {
        /// The namespace; no pod is in it.
        namespace: String,
    },
    /// Create a ResourceQuota and a LimitRange.
    LimitResources {
        /// The namespace; no pod is in it.
        namespace: String,
    },
    /// Put an object of kubastion's back as it was created.
    Restore {
        /// Its kind.
        kind: String,
        /// Its namespace.
        namespace: String,
        /// Its name, which is kubastion's own.
        name: String,
    },
    /// Write kubeadm's ConfigMaps and kube-proxy's anew, from the files on a control plane: kubeadm-config, kubelet-config and
    /// kube-proxy in kube-system.
    UploadConfiguration,
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
            ApiChange::DeleteBootstrapBinding { name } => {
                let name = plain_line(name);
                write!(
                    f,
                    "delete ClusterRoleBinding {name}, which lets bootstrap tokens become nodes"
                )
            }
            ApiChange::DeleteRoleBinding { namespace, name } => {
                let name = plain_line(name);
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
                    space => write!(f, "leave only {keep} in RoleBinding {space}/{name}"),
                }
            }
            ApiChange::Approve { name, node } => {
                write!(f, "approve {name}, a serving certificate for {node}")
            }
            ApiChange::UnmountDefaultAccount { namespace } => {
                write!(f, "mount no token of the default ServiceAccount of {namespace}")
            }
            ApiChange::MountNothingInNewNamespaces => {
                let name = policy::NAME;
                write!(f, "mount no token in namespaces to come (MutatingAdmissionPolicy {name})")
            }
            ApiChange::DenyByDefault { namespace } => {
                write!(f, "deny traffic of pods in {namespace} by default, DNS excepted")
            }
            ApiChange::LimitResources { namespace } => {
                write!(f, "create a ResourceQuota and a LimitRange in {namespace}")
            }
            ApiChange::Restore { kind, namespace, name } => {
                write!(f, "put {kind} {namespace}/{name} back as kubastion creates it")
            }
            ApiChange::UploadConfiguration => f.write_str(
                "write kubeadm's ConfigMaps in kube-system as its files on control planes say",
            ),
            ApiChange::Label { node, labels } => {
                let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
                write!(f, "label {node} {}", labels.join(" "))
            }
        }
    }
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
    changes.extend(namespaces(facts, wanted));
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
    /// Whether a plan holds it: word for word, or, of what nobody can name before, by its kind.
    pub fn is_in(
        &self,
        plan: &[ApiChange],
        starts: bool,
        configured: impl Fn(&NodeName) -> bool,
    ) -> bool {
        plan.contains(self)
            || match self {
                ApiChange::DeleteToken { .. } => starts,
                // The kubelet of a node that the plan makes part of the cluster, or starts again, asks when it starts.
                ApiChange::Approve { node, .. } => configured(node),
                _ => false,
            }
    }
}

/// Which kinds of changes the controls of the inventory ask for.
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

impl Wanted {
    /// What the controls of an inventory want.
    pub fn of(inventory: &Inventory) -> Self {
        let on = |id| controls::find(id).is_some_and(|c| c.wanted(inventory));
        Self {
            no_tokens: on("apiserver-bootstrap-token-lifecycle"),
            no_anonymous: on("apiserver-anonymous-rbac-removed"),
            no_default_tokens: on("policy-default-sa-automount"),
            default_deny: on("network-default-deny"),
            quotas: on("policy-resource-quotas"),
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

/// What is to be done in namespaces. Where pods rely on what is to go, nothing is: their owners have
/// to do it, and a check goes on saying so.
fn namespaces(facts: &ClusterFacts, wanted: Wanted) -> Vec<ApiChange> {
    let of = |kind| facts.of(kind).unwrap_or_default();
    let mut changes = Vec::new();
    let stands = |(kind, wanted): &(Kind, Value)| {
        facts.of(*kind).map(|all| all.iter().any(|o| policy::says(o, wanted)))
    };
    // Of releases without the policy nothing could be read.
    let standing: Result<Vec<bool>, _> = policy::mount_nothing().iter().map(stands).collect();
    if wanted.no_default_tokens && standing.is_ok_and(|all| all.contains(&false)) {
        changes.push(ApiChange::MountNothingInNewNamespaces);
    }
    // Not knowing what runs, nothing is touched.
    let Ok(pods) = facts.of(Kind::Pods) else { return changes };
    // Namespaces, not accounts, are walked: the controller manager makes the account of a new namespace a
    // moment later, and pods must not come between.
    if let (true, Ok(accounts)) = (wanted.no_default_tokens, facts.of(Kind::ServiceAccounts)) {
        let done = |space: &str| {
            accounts.iter().any(|a| {
                (namespace(a), name(a)) == (space, "default")
                    && a.get("automountServiceAccountToken") == Some(&Value::Bool(false))
            })
        };
        let mounting = of(Kind::Namespaces)
            .iter()
            .map(name)
            .filter(|space| is_steady(facts, space) && !done(space))
            .filter(|space| !pods.iter().any(|p| namespace(p) == *space && mounts_default(p)));
        changes
            .extend(mounting.map(|n| ApiChange::UnmountDefaultAccount { namespace: n.to_owned() }));
    }
    // Of namespaces of users, only the one that every cluster has.
    let space = "default";
    let in_use = pods.iter().any(|p| namespace(p) == space);
    if wanted.default_deny {
        let all = ApiChange::DenyByDefault { namespace: space.to_owned() };
        changes.extend(in_namespace(facts, space, in_use, &policy::traffic(), all));
    }
    if wanted.quotas {
        let all = ApiChange::LimitResources { namespace: space.to_owned() };
        changes.extend(in_namespace(facts, space, in_use, &policy::resources(), all));
    }
    changes
}

/// What is to be done with objects of kubastion's in a namespace. One that says something else is put back. One that is
/// missing is created only before the namespace is in use, and only if nobody has an object of the same kind there.
fn in_namespace(
    facts: &ClusterFacts,
    space: &str,
    in_use: bool,
    own: &[policy::NamespaceObject],
    all: ApiChange,
) -> Vec<ApiChange> {
    let is_own = |o: &Value| own.iter().any(|w| w.name() == name(o));
    let (mut other, mut missing, mut untouched) = (Vec::new(), Vec::new(), true);
    for object in own {
        // Of what could not be read, nothing is said.
        let Ok(listed) = facts.of(object.kind) else { continue };
        let here: Vec<&Value> = listed.iter().filter(|o| namespace(o) == space).collect();
        let restore = || ApiChange::Restore {
            kind: object.word().to_owned(),
            namespace: space.to_owned(),
            name: object.name().to_owned(),
        };
        untouched &= !here.iter().any(|o| is_own(o));
        match here.iter().find(|o| name(o) == object.name()) {
            Some(found) if object.is(found) => {}
            Some(_) => other.push(restore()),
            None if in_use || !here.iter().all(|o| is_own(o)) => {}
            None => missing.push(restore()),
        }
    }
    if untouched && !missing.is_empty() {
        return vec![all];
    }
    other.extend(missing);
    other
}

/// Whether a namespace is there to stay.
fn is_steady(facts: &ClusterFacts, space: &str) -> bool {
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

/// Whether a pod holds a token of the default ServiceAccount.
fn mounts_default(pod: &Value) -> bool {
    matches!(text(pod, "/spec/serviceAccountName"), "" | "default")
        && list(pod, "/spec/volumes").iter().any(|v| {
            list(v, "/projected/sources").iter().any(|s| s.get("serviceAccountToken").is_some())
        })
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
                "approve csr-1, a serving certificate for w1",
                "label w1 node-role.kubernetes.io/worker=",
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

    /// Facts about namespaces alone.
    fn spaces(pods: Value) -> ClusterFacts {
        let mut facts = ClusterFacts::default();
        let mut put =
            |kind, items: Value| facts.insert(kind, &mut json!({"items": items})).unwrap();
        let account = |space: &str| json!({"metadata": {"namespace": space, "name": "default"}});
        let mut done = account("done");
        done["automountServiceAccountToken"] = json!(false);
        put(
            Kind::Namespaces,
            json!([
                {"metadata": {"name": "default"}}, {"metadata": {"name": "shop"}},
                {"metadata": {"name": "done"}},
                {"metadata": {"name": "kubastion-probe-p", "labels": {PROBE_LABEL: "true"}}},
                {"metadata": {"name": "t"}, "status": {"phase": "Terminating"}},
            ]),
        );
        put(
            Kind::ServiceAccounts,
            // The account of `shop` is not made yet.
            json!([account("default"), done, account("kubastion-probe-p"), account("t")]),
        );
        for kind in [Kind::NetworkPolicies, Kind::ResourceQuotas, Kind::LimitRanges] {
            put(kind, json!([]));
        }
        put(Kind::Pods, pods);
        facts
    }

    #[test]
    fn namespaces_in_use_are_left_to_their_owners() {
        let said = |facts: &ClusterFacts| -> Vec<String> {
            changes(&inventory(), facts, Wanted::ALL).iter().map(ToString::to_string).collect()
        };
        let of_default = "mount no token of the default ServiceAccount of default";
        let of_shop = "mount no token of the default ServiceAccount of shop";
        assert_eq!(
            said(&spaces(json!([]))),
            [
                of_default,
                of_shop,
                "deny traffic of pods in default by default, DNS excepted",
                "create a ResourceQuota and a LimitRange in default",
            ]
        );
        let token = json!([{"projected": {"sources": [{"serviceAccountToken": {}}]}}]);
        let pod = |space: &str| {
            json!({"metadata": {"namespace": space, "name": "x"},
            "spec": {"serviceAccountName": "default", "volumes": token.clone()}})
        };
        assert_eq!(said(&spaces(json!([pod("default")]))), [of_shop]);
        assert_eq!(said(&spaces(json!([pod("shop")])))[..1], [of_default]);
        let mut unread = spaces(json!([]));
        unread.objects.remove(&Kind::Pods);
        assert!(said(&unread).is_empty());
        let mut blind = spaces(json!([]));
        blind.objects.remove(&Kind::ServiceAccounts);
        assert_eq!(said(&blind).len(), 2);
        let mut partly = spaces(json!([]));
        partly.objects.remove(&Kind::NetworkPolicies);
        assert_eq!(said(&partly).len(), 3);
    }

    #[test]
    fn an_object_of_kubastion_that_was_changed_is_put_back_and_those_of_others_are_left_alone() {
        type Objects = Vec<(Kind, Value)>;
        const LISTS: [Kind; 3] = [Kind::NetworkPolicies, Kind::ResourceQuotas, Kind::LimitRanges];
        let own = || policy::traffic().into_iter().chain(policy::resources());
        // Every object of ours in `default`, which is in use, as somebody changed them.
        let said = |in_use: bool, change: &dyn Fn(&mut Objects)| -> Vec<String> {
            let pods = match in_use {
                true => json!([{"metadata": {"namespace": "default", "name": "x"}}]),
                false => json!([]),
            };
            let mut facts = spaces(pods);
            let mut objects: Objects = own().map(|o| (o.kind, o.wanted)).collect();
            objects.iter_mut().for_each(|(_, o)| o["metadata"]["namespace"] = json!("default"));
            change(&mut objects);
            for kind in LISTS {
                let items = objects.iter().filter(|(k, _)| *k == kind).map(|(_, o)| o.clone());
                facts.objects.insert(kind, items.collect());
            }
            let all = changes(&inventory(), &facts, Wanted::ALL).into_iter();
            all.filter(|c| !matches!(c, ApiChange::UnmountDefaultAccount { .. }))
                .map(|c| c.to_string())
                .collect()
        };
        for in_use in [true, false] {
            assert_eq!(said(in_use, &|_| ()), Vec::<String>::new());
            for (i, object) in own().enumerate() {
                let put_back = format!(
                    "put {} default/{} back as kubastion creates it",
                    object.word(),
                    object.name()
                );
                let changed = said(in_use, &|all| all[i].1["spec"]["more"] = json!("x"));
                assert_eq!(changed, std::slice::from_ref(&put_back));
                // Putting it back could cut off pods that were created since.
                let gone = said(in_use, &|all| drop(all.remove(i)));
                let mended = if in_use { vec![] } else { vec![put_back] };
                assert_eq!(gone, mended, "{}", object.name());
                // Somebody wants another one.
                let replaced = said(in_use, &|all| all[i].1["metadata"]["name"] = json!("mine"));
                assert_eq!(replaced, Vec::<String>::new());
            }
        }
        assert_eq!(
            said(false, &|all| all.clear()),
            [
                "deny traffic of pods in default by default, DNS excepted",
                "create a ResourceQuota and a LimitRange in default",
            ]
        );
        let off = Wanted { default_deny: false, quotas: false, ..Wanted::ALL };
        let mut facts = spaces(json!([]));
        facts.objects.insert(
            Kind::NetworkPolicies,
            vec![json!({"metadata":
            {"namespace": "default", "name": "kubastion-default-deny"}})],
        );
        assert!(!changes(&inventory(), &facts, off).iter().any(|c| c.to_string().contains("put")));
    }

    #[test]
    fn a_name_cannot_steer_the_terminal_that_shows_the_plan() {
        let name = "a\u{1b}[2K\r\u{202e}b".to_owned();
        let namespace = "n".to_owned();
        for change in [
            ApiChange::DeleteRoleBinding { namespace: namespace.clone(), name: name.clone() },
            ApiChange::KeepSubjects { namespace, name: name.clone(), keep: vec![name.clone()] },
        ] {
            let said = change.to_string();
            assert!(!said.contains(['\u{1b}', '\r', '\u{202e}']), "{said:?}");
        }
    }

    #[test]
    fn a_label_alone_hides_no_namespace() {
        let mut facts = spaces(json!([]));
        let shop = &mut facts.objects.get_mut(&Kind::Namespaces).unwrap()[1];
        assert_eq!(name(shop), "shop");
        shop["metadata"]["labels"] = json!({PROBE_LABEL: "true"});
        let wanted = ApiChange::UnmountDefaultAccount { namespace: "shop".into() };
        assert!(changes(&inventory(), &facts, Wanted::ALL).contains(&wanted));
    }

    #[test]
    fn namespaces_to_come_have_their_policy_where_the_release_knows_it() {
        let said = |policies: Option<Vec<Value>>| {
            let mut facts = ClusterFacts::default();
            if let Some(objects) = policies {
                for kind in [Kind::MutatingPolicies, Kind::MutatingBindings] {
                    facts.insert(kind, &mut json!({"items": objects})).unwrap();
                }
            }
            changes(&inventory(), &facts, Wanted::ALL)
        };
        let objects = policy::mount_nothing().map(|(_, o)| o);
        assert_eq!(said(None), []);
        assert_eq!(said(Some(vec![])), [ApiChange::MountNothingInNewNamespaces]);
        assert_eq!(said(Some(objects[..1].to_vec())), [ApiChange::MountNothingInNewNamespaces]);
        assert_eq!(said(Some(objects.to_vec())), []);
    }

    #[test]
    fn what_could_not_be_read_is_left_alone() {
        assert_eq!(changes(&inventory(), &ClusterFacts::default(), Wanted::ALL), []);
    }
}
