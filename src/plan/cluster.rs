//! Changes of the cluster's API objects: facts against the desired state, as pure data.

use serde_json::{Value, json};

use super::api_change::ApiChange;
use super::bundled;
use super::fleet::FleetFacts;
use super::model::{NodePlan, Plan};
use super::objects;
use crate::checks::{ANONYMOUS, gives_a_node, gives_certificates, has_anonymous};
use crate::checks::{Cluster, Reference, has_to_be_uploaded};
use crate::clock::Clock;
use crate::desired;
use crate::desired::cluster_cas::CaPlace;
pub use crate::desired::objects::Wanted;
use crate::facts::cluster::{ClusterFacts, ObjectKind, list, name, namespace, text};
use crate::inventory::{Inventory, Loaded, Node, Role};
use crate::pki::{Ca, Material};

/// What is to be done. What could not be read is left alone.
pub fn changes(inventory: &Inventory, facts: &ClusterFacts, wanted: Wanted) -> Vec<ApiChange> {
    let of = |kind| facts.of(kind).unwrap_or_default();
    let mut changes = Vec::new();
    if wanted.no_tokens {
        let tokens = of(ObjectKind::JoinTokens).iter().map(|t| name(t).to_owned());
        changes.extend(tokens.map(|name| ApiChange::DeleteToken { name }));
        let bindings = of(ObjectKind::ClusterRoleBindings).iter().filter(|b| gives_a_node(b));
        let names = bindings.map(|b| name(b).to_owned());
        changes.extend(names.map(|name| ApiChange::DeleteBootstrapBinding { name }));
        let bindings = of(ObjectKind::RoleBindings).iter().filter(|b| gives_certificates(b));
        let names = bindings.map(|b| name(b).to_owned());
        changes.extend(names.map(|name| ApiChange::DeleteCertificatesBinding { name }));
    }
    if wanted.no_anonymous {
        let all = of(ObjectKind::RoleBindings).iter().chain(of(ObjectKind::ClusterRoleBindings));
        for binding in all.filter(|b| has_anonymous(b)) {
            let keep: Vec<String> = list(binding, "/subjects")
                .iter()
                .map(|s| text(s, "/name").to_owned())
                .filter(|s| !ANONYMOUS.contains(&s.as_str()))
                .collect();
            let (namespace, name) = (namespace(binding).to_owned(), name(binding).to_owned());
            // A ClusterRoleBinding may be one that Kubernetes would recreate.
            changes.push(if keep.is_empty() && !namespace.is_empty() {
                ApiChange::DeleteRoleBinding { namespace, name }
            } else {
                ApiChange::KeepSubjects { namespace, name, keep }
            });
        }
    }
    changes.extend(objects::changes(inventory, facts, wanted));
    changes.extend(bundled::changes(facts));
    for request in of(ObjectKind::SigningRequests) {
        if let Some(node) = serving_request(inventory, request) {
            let (name, node) = (name(request).to_owned(), node.name.clone());
            changes.push(ApiChange::Approve { name, node });
        }
    }
    changes
}

/// What is to be done with the CAs that the cluster keeps in ConfigMaps of its own.
pub fn cas(facts: &ClusterFacts, material: &Material) -> Vec<ApiChange> {
    let maps = facts.of(ObjectKind::ConfigMaps).unwrap_or_default();
    let change = |place: CaPlace| {
        let ca = match place {
            CaPlace::ClusterInfo | CaPlace::Clients => Ca::Cluster,
            CaPlace::FrontProxy => Ca::FrontProxy,
        };
        let (adds, drops) = place.change(place.text(maps)?, material.trust(ca).bundle())?;
        Some(ApiChange::SetCas { place, adds, drops })
    };
    CaPlace::ALL.iter().copied().filter_map(change).collect()
}

/// A plan with the changes of API objects, for the cluster that was read, or the one that the plan starts.
pub fn with_objects(
    loaded: &Loaded,
    plan: Plan,
    fleet: &FleetFacts,
    read: Option<ClusterFacts>,
    material: &Material,
) -> Plan {
    let inventory = &loaded.inventory;
    // No control plane was read: only what joining nodes need is known.
    let joins_alone = read.is_none() && !plan.nodes.values().any(NodePlan::starts_cluster);
    let mut facts = read.unwrap_or_else(|| ClusterFacts {
        bundled: bundled::none_of(&loaded.files.bundled),
        ..just_started(inventory.cluster.kubernetes.minor)
    });
    // Nodes that the plan joins will exist by then.
    let nodes = facts.objects.entry(ObjectKind::Nodes).or_default();
    for (node, _) in plan.nodes.iter().filter(|(_, n)| n.is_about_membership()) {
        if !nodes.iter().any(|n| name(n) == node.as_str()) {
            nodes.push(json!({"metadata": {"name": node.as_str()}}));
        }
    }
    let mut all = changes(inventory, &facts, Wanted::of(inventory));
    all.extend(cas(&facts, material));
    if joins_alone {
        all.retain(ApiChange::is_about_a_node);
    } else if !configures_a_control_plane(inventory, &plan)
        && is_configuration_stale(loaded, &facts, fleet, material)
    {
        all.push(ApiChange::UploadConfiguration);
    }
    plan.with_api(all)
}

/// What is due in a cluster whose nodes are done.
pub fn due(
    loaded: &Loaded,
    facts: &ClusterFacts,
    fleet: &FleetFacts,
    material: &Material,
) -> Vec<ApiChange> {
    let inventory = &loaded.inventory;
    let mut all = changes(inventory, facts, Wanted::of(inventory));
    all.extend(cas(facts, material));
    if is_configuration_stale(loaded, facts, fleet, material) {
        all.push(ApiChange::UploadConfiguration);
    }
    all
}

/// Whether a step of the plan writes kubeadm's ConfigMaps anyway.
fn configures_a_control_plane(inventory: &Inventory, plan: &Plan) -> bool {
    inventory
        .with_role(Role::ControlPlane)
        .any(|n| plan.nodes.get(&n.name).is_some_and(NodePlan::is_about_membership))
}

/// Whether kubeadm's ConfigMaps or kube-proxy's say something else than its files on control planes, by the rules that `verify`
/// has: after a rollback, or because somebody changed them. Where no control plane was looked at, nobody can tell.
fn is_configuration_stale(
    loaded: &Loaded,
    facts: &ClusterFacts,
    fleet: &FleetFacts,
    material: &Material,
) -> bool {
    let Loaded { inventory, files, .. } = loaded;
    let init = |node: &Node| {
        let answered = fleet.answered.get(&node.name).filter(|n| n.is_member())?;
        desired::kubeadm_init(inventory, files, node, &answered.facts, material)
    };
    let kubeadm: Vec<String> = inventory.with_role(Role::ControlPlane).filter_map(init).collect();
    if kubeadm.is_empty() {
        return false;
    }
    let reference = Reference { kubeadm, ..Reference::default() };
    let now = Clock::System.now();
    let cluster = Cluster { facts, inventory, reference: &reference, today: now.date(), now };
    has_to_be_uploaded(&cluster)
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
    for kind in ObjectKind::for_a_plan(minor) {
        let items = match kind {
            ObjectKind::JoinTokens => vec![json!({"metadata": {"name": KUBEADMS_TOKEN}})],
            ObjectKind::RoleBindings => vec![binding(
                "kube-public",
                "kubeadm:bootstrap-signer-clusterinfo",
                "",
                &["system:anonymous"],
            )],
            ObjectKind::ClusterRoleBindings => vec![
                binding(
                    "",
                    "system:public-info-viewer",
                    "system:public-info-viewer",
                    &["system:authenticated", "system:unauthenticated"],
                ),
                binding("", "kubeadm:kubelet-bootstrap", "system:node-bootstrapper", &[JOINING]),
                binding("", "kubeadm:node-autoapprove-bootstrap", APPROVE_NODES, &[JOINING]),
            ],
            ObjectKind::Namespaces => spaces.map(|n| json!({"metadata": {"name": n}})).into(),
            _ => Vec::new(),
        };
        facts.objects.insert(kind, items);
    }
    facts
}

/// The group of nodes that join with a token of kubeadm.
const JOINING: &str = "system:bootstrappers:kubeadm:default-node-token";
/// The role by which requests of joining nodes are approved.
const APPROVE_NODES: &str = "system:certificates.k8s.io:certificatesigningrequests:nodeclient";

/// Placeholder for the token of `kubeadm init`, whose name is not known in advance.
const KUBEADMS_TOKEN: &str = "bootstrap-token-...";

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
    use crate::controls::IdList;

    use super::*;
    use crate::desired::differences::Difference;
    use crate::inventory::{Role, testing};
    use crate::plan::api_change::Action;

    fn inventory() -> Inventory {
        testing::of_nodes([("cp1", Role::ControlPlane), ("w1", Role::Worker)])
    }

    fn facts() -> ClusterFacts {
        let mut facts = ClusterFacts::default();
        let mut put =
            |kind, items: Value| facts.insert(kind, &mut json!({"items": items})).unwrap();
        put(ObjectKind::JoinTokens, json!([{"metadata": {"name": "bootstrap-token-abcdef"}}]));
        put(
            ObjectKind::RoleBindings,
            json!([
                {"metadata": {"namespace": "kube-public", "name": "kubeadm:bootstrap-signer-clusterinfo"},
                 "subjects": [{"kind": "User", "name": "system:anonymous"}]},
                {"metadata": {"namespace": "a", "name": "b"}, "subjects": [{"name": "alice"}]},
                {"metadata": {"namespace": "a", "name": "c"},
                 "subjects": [{"name": "bob"}, {"name": "system:unauthenticated"}]},
            ]),
        );
        put(
            ObjectKind::ClusterRoleBindings,
            json!([{"metadata": {"name": "system:public-info-viewer"}, "subjects": [
                {"name": "system:authenticated"}, {"name": "system:unauthenticated"}]},
                {"metadata": {"name": "kubeadm:kubelet-bootstrap"}, "subjects": [{"name": "joining"}],
                 "roleRef": {"kind": "ClusterRole", "name": "system:node-bootstrapper"}},
                {"metadata": {"name": "kubeadm:node-autoapprove-certificate-rotation"},
                 "subjects": [{"name": "system:nodes"}], "roleRef": {"kind": "ClusterRole",
                 "name": "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"}}]),
        );
        put(
            ObjectKind::SigningRequests,
            json!([
                {"metadata": {"name": "csr-1"}, "spec": {"signerName": "kubernetes.io/kubelet-serving",
                 "username": "system:node:w1"}},
                {"metadata": {"name": "csr-2"}, "spec": {"signerName": "kubernetes.io/kubelet-serving",
                 "username": "system:node:stranger"}},
                {"metadata": {"name": "csr-3"}, "spec": {"signerName": "kubernetes.io/kube-apiserver-client",
                 "username": "system:node:w1"}},
            ]),
        );
        put(ObjectKind::Nodes, json!([{"metadata": {"name": "w1", "labels": {}}}]));
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
                "delete ClusterRoleBinding kubeadm:kubelet-bootstrap, which lets holders of bootstrap tokens become nodes",
                "delete RoleBinding kube-public/kubeadm:bootstrap-signer-clusterinfo, which names anonymous users",
                "keep only bob in RoleBinding a/c",
                "keep only system:authenticated in ClusterRoleBinding system:public-info-viewer",
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
                controls: IdList::default(),
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
