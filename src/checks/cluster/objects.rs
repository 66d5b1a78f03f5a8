//! Rules about objects of the Kubernetes API, judged on what was read of them.
//!
//! What could not be read is unknown. A kind of which there is nothing passes only where nothing is
//! what should be there; where something is to be protected, an empty list proves that nobody looked.

use crate::checks::cluster::reading::Cluster;
use crate::checks::cluster::reading::full_name;
use crate::checks::cluster::reading::is_steady;
use crate::checks::cluster::reading::none_of;
use crate::checks::cluster::reading::of;
use crate::checks::cluster::reading::user_namespaces;
use std::collections::BTreeMap;

use serde_json::Value;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::checks::cluster::addons;
use crate::checks::cluster::extensions;
use crate::checks::cluster::kept::{self};
use crate::checks::cluster::network_policies;
use crate::checks::cluster::quotas;
use crate::checks::cluster::rbac;
use crate::checks::cluster::services;
use crate::checks::cluster::workloads;
use crate::checks::model::Verdict;
use crate::checks::rule::shown;
use crate::checks::{ANONYMOUS, gives_a_node};
use crate::controls::ApiRule;
use crate::desired::differences::is_as_desired;
use crate::desired::objects::{POLICY, mount_nothing};
use crate::facts::cluster::{CLUSTER_INFO, ClusterFacts, ObjectKind, list, name, namespace, text};
use crate::inventory::Role;

/// Judges a rule.
pub fn judge_objects(rule: ApiRule, on: &Cluster<'_>) -> Verdict {
    let facts = on.facts;
    let judged = match rule {
        ApiRule::NoAnonymousBindings => no_anonymous_bindings(facts),
        ApiRule::NoJoinTokens => no_join_tokens(facts),
        ApiRule::NoBootstrapBindings => no_bootstrap_bindings(facts),
        ApiRule::DefaultAccountsMountNothing => default_accounts(facts),
        ApiRule::NewAccountsMountNothing => new_accounts(facts),
        ApiRule::DefaultDeny => network_policies::default_deny(on),
        ApiRule::ImagesPinned => images_pinned(facts),
        ApiRule::NamespacesClean => namespaces_clean(facts),
        ApiRule::NoRetiredAddOns => no_retired_add_ons(facts),
        ApiRule::MinimalRbac => rbac::minimal(on),
        ApiRule::QuotasAndLimits => quotas::quotas_and_limits(facts),
        ApiRule::SecretsNotInEnvironment => extensions::secrets_not_in_environment(facts),
        ApiRule::SystemPodsHardened => system_pods_hardened(facts),
        ApiRule::NamespaceLevels => workloads::namespace_levels(on),
        ApiRule::PodsWithinStandard => workloads::pods_within_standard(on),
        ApiRule::WebhooksKnown => extensions::webhooks_known(on),
        ApiRule::AggregatedApisKnown => extensions::aggregated_apis_known(on),
        ApiRule::NodesKnown => nodes_known(on),
        ApiRule::NoLastingTokens => no_lasting_tokens(facts),
        ApiRule::NoPendingChange => no_pending_change(on),
        ApiRule::KubeadmConfiguration => kept::kubeadm_configuration(on),
        ApiRule::ClusterInfo => kept::cluster_info(on),
        ApiRule::ProxyKubeconfig => kept::proxy_kubeconfig(on),
        ApiRule::ProxyConfiguration => addons::proxy(on),
        ApiRule::ExtensionCas => kept::extension_cas(on),
        ApiRule::DnsConfiguration => kept::dns(on),
        ApiRule::ControllersLead => controllers_lead(on),
        ApiRule::RuntimeClassesKnown => kept::runtime_classes(on),
        ApiRule::FlowControlKnown => kept::flow_control(on),
        ApiRule::ServiceEndpointsKnown => services::endpoints_known(on),
    };
    judged.unwrap_or_else(|unknown| unknown)
}

/// What `plan` would do to objects. A kind that could not be read is one that a plan could not be made of.
fn no_pending_change(on: &Cluster<'_>) -> Result<Verdict, Verdict> {
    for kind in ObjectKind::for_a_plan(on.inventory.cluster.kubernetes.minor) {
        of(on.facts, kind)?;
    }
    let due = on.reference.pending.clone();
    let due = due.ok_or_else(|| Verdict::unknown("no plan of the cluster's objects was made"))?;
    Ok(none_of("an empty plan (run `kubastion apply`)", due, "a plan would change nothing".into()))
}

/// The first minor release whose API has what a rule is about; 0 for all.
pub fn since_minor(rule: ApiRule) -> u16 {
    match rule {
        ApiRule::NewAccountsMountNothing => {
            let kinds = mount_nothing().into_iter().map(|o| o.kind.since_minor());
            kinds.max().unwrap_or_default()
        }
        _ => 0,
    }
}

/// Pods that run or may still run.
fn pods(facts: &ClusterFacts) -> Result<Vec<&Value>, Verdict> {
    let all = of(facts, ObjectKind::Pods)?;
    Ok(all.iter().filter(|p| !matches!(text(p, "/status/phase"), "Succeeded" | "Failed")).collect())
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let kinds = ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"];
    kinds.into_iter().flat_map(|k| list(pod, k))
}

/// Bindings of the cluster and of namespaces. Every cluster has some: an empty list proves that nobody looked.
fn bindings(facts: &ClusterFacts) -> Result<Vec<&Value>, Verdict> {
    let all: Vec<&Value> = of(facts, ObjectKind::ClusterRoleBindings)?
        .iter()
        .chain(of(facts, ObjectKind::RoleBindings)?)
        .collect();
    if all.is_empty() {
        return Err(Verdict::unknown("the list of bindings is empty"));
    }
    Ok(all)
}

fn no_anonymous_bindings(facts: &ClusterFacts) -> Result<Verdict, Verdict> {
    let all = bindings(facts)?;
    let wrong = all
        .iter()
        .filter(|b| list(b, "/subjects").iter().any(|s| ANONYMOUS.contains(&text(s, "/name"))))
        .map(|b| full_name(b))
        .collect();
    Ok(none_of("no such binding", wrong, format!("{} bindings", all.len())))
}

fn no_join_tokens(facts: &ClusterFacts) -> Result<Verdict, Verdict> {
    let mut wrong: Vec<String> = of(facts, ObjectKind::JoinTokens)?
        .iter()
        .map(|t| format!("Secret {}", full_name(t)))
        .collect();
    let maps = of(facts, ObjectKind::ConfigMaps)?;
    let info = maps.iter().find(|m| full_name(m) == CLUSTER_INFO);
    let data = info.and_then(|m| m.get("data")).and_then(Value::as_object);
    let signatures = data.into_iter().flatten().map(|(key, _)| key);
    wrong.extend(
        signatures
            .filter(|key| key.starts_with("jws-kubeconfig-"))
            .map(|key| format!("{key} in kube-public/cluster-info")),
    );
    Ok(none_of("no token and no signature", wrong, "neither a token nor a signature".into()))
}

/// Nodes join with certificates of the operator's. Who may write Secrets of kube-system could make a token for
/// himself, and a node of it.
fn no_bootstrap_bindings(facts: &ClusterFacts) -> Result<Verdict, Verdict> {
    let all = bindings(facts)?;
    let leads = |b: &&&Value| gives_a_node(b);
    let wrong = all.iter().filter(leads).map(|b| full_name(b)).collect();
    Ok(none_of("no such binding", wrong, format!("{} bindings", all.len())))
}

/// What keeps pods off control planes.
const CONTROL_PLANE_TAINT: &str = "node-role.kubernetes.io/control-plane";

/// Why a Node is not Ready. What else the API tells of such a node, and of its pods, may be old.
fn unready(node: &Value) -> Option<&str> {
    let conditions = list(node, "/status/conditions");
    let Some(ready) = conditions.iter().find(|c| text(c, "/type") == "Ready") else {
        return Some("no condition Ready");
    };
    match (text(ready, "/status"), text(ready, "/reason")) {
        ("True", _) => None,
        (_, "") => Some("no reason given"),
        (_, reason) => Some(reason),
    }
}

/// Nodes of the inventory, and no others, each of them Ready.
fn nodes_known(on: &Cluster<'_>) -> Result<Verdict, Verdict> {
    let nodes = of(on.facts, ObjectKind::Nodes)?;
    if nodes.is_empty() {
        return Err(Verdict::unknown("the list of Nodes is empty"));
    }
    let known = |n: &Value| on.inventory.nodes.iter().any(|i| i.name.as_str() == name(n));
    let mut wrong: Vec<String> =
        nodes.iter().filter(|n| !known(n)).map(|n| format!("Node {}", name(n))).collect();
    // Taken out of the cluster, a node keeps its kubelet, its credentials and what runs on it.
    let members = on.inventory.nodes.iter();
    let members = members.filter(|n| n.has_role(Role::ControlPlane) || n.has_role(Role::Worker));
    for member in members.filter(|m| !nodes.iter().any(|n| name(n) == m.name.as_str())) {
        wrong.push(format!(
            "{} is in the inventory but not in the cluster (run `kubastion apply`, or `systemctl restart \
             kubelet` on the node)",
            member.name
        ));
    }
    for node in nodes.iter().filter(|n| known(n)) {
        if let Some(why) = unready(node) {
            wrong.push(format!("Node {} is not Ready: {why}", name(node)));
        }
    }
    // A control plane that takes pods of everybody, unless it is to be a worker too.
    let planes = on.inventory.with_role(Role::ControlPlane).filter(|n| !n.has_role(Role::Worker));
    for plane in planes {
        let taints = |n: &Value| {
            list(n, "/spec/taints").iter().any(|t| {
                text(t, "/key") == CONTROL_PLANE_TAINT && text(t, "/effect") == "NoSchedule"
            })
        };
        let found = nodes.iter().find(|n| name(n) == plane.name.as_str());
        if found.is_some_and(|n| !taints(n)) {
            wrong.push(format!("Node {} lacks taint {CONTROL_PLANE_TAINT}:NoSchedule", plane.name));
        }
    }
    Ok(none_of(
        "the nodes of the inventory, no others, Ready and with their taints",
        wrong,
        format!("{} nodes", nodes.len()),
    ))
}

/// How far a Lease's last renewal may be from the reader's clock. Who leads renews every two seconds.
const RENEWED_WITHIN: Duration = Duration::minutes(5);

/// A Lease that a stranger holds keeps the controller manager or the scheduler from all of its work: nothing is expired,
/// deleted or placed any more.
fn controllers_lead(on: &Cluster<'_>) -> Result<Verdict, Verdict> {
    let leases = of(on.facts, ObjectKind::Leases)?;
    if leases.is_empty() {
        return Err(Verdict::unknown("the list of Leases is empty"));
    }
    let mut wrong = Vec::new();
    for daemon in ["kube-controller-manager", "kube-scheduler"] {
        let held = |l: &&Value| (namespace(l), name(l)) == ("kube-system", daemon);
        let Some(lease) = leases.iter().find(held) else {
            wrong.push(format!("Lease {daemon} is missing"));
            continue;
        };
        // The node's name, and what a process adds to it.
        let holder = text(lease, "/spec/holderIdentity");
        let host = holder.rsplit_once('_').map_or(holder, |(host, _)| host);
        if !on.inventory.with_role(Role::ControlPlane).any(|n| n.name.as_str() == host) {
            wrong.push(format!("Lease {daemon} is held by {}", shown(Some(holder))));
        }
        let renewed = text(lease, "/spec/renewTime");
        let is_recent = OffsetDateTime::parse(renewed, &Rfc3339)
            .is_ok_and(|t| (on.now - t).abs() <= RENEWED_WITHIN);
        if !is_recent {
            wrong.push(format!("Lease {daemon} has renewTime {}", shown(Some(renewed))));
        }
    }
    let expected = "Leases of control planes, renewed in the last five minutes";
    Ok(none_of(expected, wrong, "kube-controller-manager and kube-scheduler".into()))
}

/// Tokens that the API server issues end; one that lies in a Secret does not (Kubernetes, "Managing Service Accounts",
/// v1.36, "Manual Secret management").
fn no_lasting_tokens(facts: &ClusterFacts) -> Result<Verdict, Verdict> {
    let secrets = of(facts, ObjectKind::AccountTokens)?;
    let account = |s: &Value| {
        let annotations = s.pointer("/metadata/annotations");
        let account = annotations.and_then(|a| a.get("kubernetes.io/service-account.name"));
        account.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let word = |s: &Value| format!("Secret {} of ServiceAccount {}", full_name(s), account(s));
    let wrong = secrets.iter().map(word).collect();
    Ok(none_of("no token that never expires", wrong, "no such Secret in any namespace".into()))
}

fn default_accounts(facts: &ClusterFacts) -> Result<Verdict, Verdict> {
    let spaces = of(facts, ObjectKind::Namespaces)?;
    let leaving = |s: &str| spaces.iter().any(|n| name(n) == s && !is_steady(n));
    let accounts: Vec<&Value> = of(facts, ObjectKind::ServiceAccounts)?
        .iter()
        .filter(|a| name(a) == "default" && !leaving(namespace(a)))
        .collect();
    if accounts.is_empty() {
        return Err(Verdict::unknown("no default ServiceAccount was listed"));
    }
    let mounts = |a: &Value| a.get("automountServiceAccountToken") != Some(&Value::Bool(false));
    let mut wrong: Vec<String> =
        accounts.iter().filter(|a| mounts(a)).map(|a| full_name(a)).collect();
    // A pod decides for itself.
    let spaces = user_namespaces(facts)?;
    let asks = |pod: &Value| {
        pod.pointer("/spec/automountServiceAccountToken") == Some(&Value::Bool(true))
            && matches!(text(pod, "/spec/serviceAccountName"), "" | "default")
    };
    let pods = of(facts, ObjectKind::Pods)?.iter().map(|pod| ("Pod", pod, Some(pod)));
    let mut all: Vec<(&str, &Value, Option<&Value>)> = pods.collect();
    for &(kind, called, at) in crate::checks::cluster::owners::MAKERS {
        all.extend(of(facts, kind)?.iter().map(|o| (called, o, o.pointer(at))));
    }
    for (called, object, pod) in all {
        if spaces.contains(&namespace(object)) && pod.is_some_and(asks) {
            wrong.push(format!("{called} {} asks for its token", full_name(object)));
        }
    }
    let expected = "automountServiceAccountToken: false";
    Ok(none_of(expected, wrong, format!("{} default ServiceAccounts", accounts.len())))
}

fn new_accounts(facts: &ClusterFacts) -> Result<Verdict, Verdict> {
    let mut wrong = Vec::new();
    for wanted in mount_nothing() {
        if !is_as_desired(&wanted, of(facts, wanted.kind)?) {
            wrong.push(format!("no {} that says so", wanted.word()));
        }
    }
    let expected = format!("a MutatingAdmissionPolicy {POLICY} and its binding");
    Ok(none_of(&expected, wrong, format!("policy and binding {POLICY}")))
}

/// Whether an image's reference cannot come to mean something else: a digest, or a tag that is a
/// whole version (`v1.36.2`, `3.10`), which registries do not move by custom.
fn is_pinned(image: &str) -> bool {
    if image.contains("@sha256:") {
        return true;
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    let Some((_, tag)) = last.rsplit_once(':') else { return false };
    let version = tag.strip_prefix('v').unwrap_or(tag);
    version.starts_with(|c: char| c.is_ascii_digit()) && version.contains('.')
}

fn images_pinned(facts: &ClusterFacts) -> Result<Verdict, Verdict> {
    let pods = pods(facts)?;
    let system = pods.iter().filter(|p| namespace(p).starts_with("kube-"));
    let images: Vec<&str> = system.flat_map(|p| containers(p)).map(|c| text(c, "/image")).collect();
    if images.is_empty() {
        return Err(Verdict::unknown("no pod of a system namespace was listed"));
    }
    let mut wrong: Vec<String> =
        images.iter().filter(|i| !is_pinned(i)).map(|i| (*i).to_owned()).collect();
    wrong.extend(images_that_differ(&pods));
    Ok(none_of("a version or a digest", wrong, format!("images of {} containers", images.len())))
}

/// Images of system pods that have one name and are not the same: a name can be given to another image on a node. Pulled ones
/// are known by their repository's digest, imported ones by that of their configuration, and these cannot be compared.
pub(in crate::checks) fn images_that_differ(pods: &[&Value]) -> Vec<String> {
    let mut found: BTreeMap<(&str, bool), BTreeMap<&str, String>> = BTreeMap::new();
    for pod in pods.iter().filter(|p| namespace(p).starts_with("kube-")) {
        let statuses = ["/status/initContainerStatuses", "/status/containerStatuses"];
        for status in statuses.iter().flat_map(|at| list(pod, at)) {
            let of = containers(pod).find(|c| text(c, "/name") == text(status, "/name"));
            let id = text(status, "/imageID");
            if let Some(container) = of.filter(|_| !id.is_empty()) {
                let image = (text(container, "/image"), id.contains('@'));
                found.entry(image).or_default().entry(id).or_insert_with(|| full_name(pod));
            }
        }
    }
    let differing = found.into_iter().filter(|(_, ids)| ids.len() > 1);
    differing
        .map(|((image, _), ids)| {
            let pods: Vec<String> = ids.into_values().collect();
            format!("{image} is not the same image in {}", pods.join(" and "))
        })
        .collect()
}

/// What Kubernetes and kubeadm put into namespaces that nobody else has to use, by kind and name.
const BUILT_IN: &[(ObjectKind, &str, &[&str])] = &[
    (ObjectKind::Pods, "Pod", &[]),
    (ObjectKind::Services, "Service", &["default/kubernetes"]),
    (
        ObjectKind::ConfigMaps,
        "ConfigMap",
        &[
            "default/kube-root-ca.crt",
            "kube-node-lease/kube-root-ca.crt",
            "kube-public/kube-root-ca.crt",
            "kube-public/cluster-info",
        ],
    ),
    (
        ObjectKind::ServiceAccounts,
        "ServiceAccount",
        &["default/default", "kube-node-lease/default", "kube-public/default"],
    ),
];

fn namespaces_clean(facts: &ClusterFacts) -> Result<Verdict, Verdict> {
    let mut wrong = Vec::new();
    for &(kind, word, known) in BUILT_IN {
        for object in of(facts, kind)? {
            let of_interest = ["default", "kube-public", "kube-node-lease"];
            let full = full_name(object);
            if of_interest.contains(&namespace(object)) && !known.contains(&full.as_str()) {
                wrong.push(format!("{word} {full}"));
            }
        }
    }
    Ok(none_of("no user objects", wrong, "only objects that Kubernetes creates there".into()))
}

/// Parts of image names and values of labels by which retired add-ons are known.
const RETIRED: &[&str] =
    &["kubernetes-dashboard", "kubernetesui/", "ingress-nginx", "nginx-ingress-controller"];

fn no_retired_add_ons(facts: &ClusterFacts) -> Result<Verdict, Verdict> {
    let pods = pods(facts)?;
    if pods.is_empty() {
        return Err(Verdict::unknown("the list of pods is empty"));
    }
    let retired = |pod: &&&Value| {
        let labels = ["k8s-app", "app", "app.kubernetes.io/name", "app.kubernetes.io/part-of"];
        let labels = labels.into_iter().filter_map(|key| {
            pod.pointer("/metadata/labels").and_then(|l| l.get(key)).and_then(Value::as_str)
        });
        let mut said = labels.chain(containers(pod).map(|c| text(c, "/image")));
        said.any(|text| RETIRED.iter().any(|r| text.contains(r)))
    };
    let wrong = pods.iter().filter(retired).map(|p| format!("Pod {}", full_name(p))).collect();
    Ok(none_of("no such pod", wrong, format!("none among {} pods", pods.len())))
}

/// Pods of the control plane and of DNS: the labels that kubeadm gives them.
fn is_system(pod: &Value) -> bool {
    let label = |key| text(pod, &format!("/metadata/labels/{key}"));
    namespace(pod) == "kube-system"
        && (label("tier") == "control-plane" || label("k8s-app") == "kube-dns")
}

fn system_pods_hardened(facts: &ClusterFacts) -> Result<Verdict, Verdict> {
    let pods = pods(facts)?;
    let system: Vec<&&Value> = pods.iter().filter(|p| is_system(p)).collect();
    if system.is_empty() {
        return Err(Verdict::unknown("no pod of the control plane was listed"));
    }
    let mut wrong = Vec::new();
    for pod in &system {
        for container in containers(pod) {
            let own = |key: &str| container.pointer(&format!("/securityContext/{key}"));
            let drops = list(container, "/securityContext/capabilities/drop");
            let seccomp = own("seccompProfile/type")
                .or_else(|| pod.pointer("/spec/securityContext/seccompProfile/type"));
            let held = [
                (own("allowPrivilegeEscalation") == Some(&Value::Bool(false)), "escalation"),
                (own("readOnlyRootFilesystem") == Some(&Value::Bool(true)), "a writable root"),
                (drops.iter().any(|d| d == "ALL"), "capabilities"),
                (seccomp.is_some_and(|s| s == "RuntimeDefault" || s == "Localhost"), "no seccomp"),
                (own("privileged") != Some(&Value::Bool(true)), "privileged"),
            ];
            let kept: Vec<&str> = held.iter().filter(|(h, _)| !h).map(|(_, what)| *what).collect();
            if !kept.is_empty() {
                wrong.push(format!("{} has {}", full_name(pod), kept.join(" and ")));
            }
        }
    }
    let expected =
        "no privilege escalation, a read-only root, capabilities dropped, a seccomp profile";
    Ok(none_of(expected, wrong, format!("{} pods", system.len())))
}
