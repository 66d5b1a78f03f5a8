//! Who holds rights over the whole cluster, beside those that Kubernetes and kubeadm give.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use crate::api::certificate_requests::matches_inventory;
use crate::checks::ANONYMOUS;
use crate::checks::cluster::default_roles;
use crate::checks::cluster::powers::*;
use crate::checks::cluster::reading::{Cluster, full_name, none_of, of};
use crate::checks::cluster::workloads;
use crate::checks::model::Verdict;
use crate::facts::cluster::{ObjectKind, list, name, namespace, text};
use crate::inventory::{AllowedKind, PodLevel};

/// Bindings that kubeadm makes (`kubeadm:*`), and those of Kubernetes that are not called like their
/// role: name, role, subjects. Those that are follow [`is_bootstrap_default`].
const KNOWN: &[(&str, &str, &[&str])] = &[
    ("cluster-admin", "cluster-admin", &["Group system:masters"]),
    (
        "kubeadm:apiserver-kubelet-client",
        "system:kubelet-api-admin",
        &["User kube-apiserver-kubelet-client"],
    ),
    ("kubeadm:cluster-admins", "cluster-admin", &["Group kubeadm:cluster-admins"]),
    ("kubeadm:get-nodes", "kubeadm:get-nodes", &[BOOTSTRAPPERS]),
    ("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", &[BOOTSTRAPPERS]),
    (
        "kubeadm:node-autoapprove-bootstrap",
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &[BOOTSTRAPPERS],
    ),
    (
        "kubeadm:node-autoapprove-certificate-rotation",
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &["Group system:nodes"],
    ),
    ("kubeadm:node-proxier", "system:node-proxier", &["ServiceAccount kube-system/kube-proxy"]),
    ("system:basic-user", "system:basic-user", &["Group system:authenticated"]),
    ("system:coredns", "system:coredns", &["ServiceAccount kube-system/coredns"]),
    ("system:discovery", "system:discovery", &["Group system:authenticated"]),
    (
        "system:kube-controller-manager",
        "system:kube-controller-manager",
        &["User system:kube-controller-manager"],
    ),
    ("system:kube-dns", "system:kube-dns", &["ServiceAccount kube-system/kube-dns"]),
    ("system:kube-scheduler", "system:kube-scheduler", &["User system:kube-scheduler"]),
    ("system:monitoring", "system:monitoring", &["Group system:monitoring"]),
    ("system:node", "system:node", &[]),
    ("system:node-proxier", "system:node-proxier", &["User system:kube-proxy"]),
    (
        "system:public-info-viewer",
        "system:public-info-viewer",
        // Anonymous ones are another rule's matter.
        &["Group system:authenticated", "Group system:unauthenticated"],
    ),
    (
        "system:service-account-issuer-discovery",
        "system:service-account-issuer-discovery",
        &["Group system:serviceaccounts"],
    ),
    ("system:volume-scheduler", "system:volume-scheduler", &["User system:kube-scheduler"]),
    ("kubeadm:kubelet-config", "kubeadm:kubelet-config", &["Group system:nodes", BOOTSTRAPPERS]),
    (
        "kubeadm:nodes-kubeadm-config",
        "kubeadm:nodes-kubeadm-config",
        &["Group system:nodes", BOOTSTRAPPERS],
    ),
    ("kube-proxy", "kube-proxy", &[BOOTSTRAPPERS]),
    (
        "system::extension-apiserver-authentication-reader",
        "extension-apiserver-authentication-reader",
        &["User system:kube-controller-manager", "User system:kube-scheduler"],
    ),
];

const BOOTSTRAPPERS: &str = "Group system:bootstrappers:kubeadm:default-node-token";

/// Whom a subject stands for, if for more than one person, account or component, or for a kubelet. A default binding may name such a
/// group, another may not: whoever comes new has the role unasked.
fn group_description(subject: &str) -> Option<String> {
    const ALL: &str = "every user";
    let who = match subject {
        "Group system:authenticated" | "Group system:unauthenticated" | "User system:anonymous" => {
            ALL.to_owned()
        }
        "Group system:serviceaccounts" => "every ServiceAccount".to_owned(),
        "Group system:nodes" => "every kubelet".to_owned(),
        other => {
            // Kubelets have what the Node authorizer gives them.
            if let Some(node) = other.strip_prefix("User system:node:") {
                format!("the kubelet of {node}")
            } else if let Some(space) = other.strip_prefix("Group system:serviceaccounts:") {
                format!("every ServiceAccount of {space}")
            } else if other.starts_with("Group system:bootstrappers") {
                "every holder of a bootstrap token".to_owned()
            } else {
                return None;
            }
        }
    };
    Some(who)
}

/// That an account of kube-system does not have a role of the whole cluster, if so: what runs as it asks the API server in vain, and
/// goes on with what it knew.
pub(super) fn lacks_role(
    on: &Cluster<'_>,
    account: &str,
    role: &str,
) -> Result<Option<String>, Verdict> {
    let is_account = |s: &Value| {
        (text(s, "/kind"), text(s, "/namespace"), text(s, "/name"))
            == ("ServiceAccount", "kube-system", account)
    };
    let gives = |b: &&Value| {
        (text(b, "/roleRef/kind"), text(b, "/roleRef/name")) == ("ClusterRole", role)
            && list(b, "/subjects").iter().any(is_account)
    };
    let all = of(on.facts, ObjectKind::ClusterRoleBindings)?;
    Ok((!all.iter().any(|b| gives(&b))).then(|| {
        format!("no ClusterRoleBinding gives ServiceAccount kube-system/{account} the role {role}")
    }))
}

/// A subject as `Kind name`, with its namespace if it has one.
fn subjects(binding: &Value) -> Vec<String> {
    list(binding, "/subjects")
        .iter()
        .map(|s| {
            let (kind, who) = (text(s, "/kind"), text(s, "/name"));
            match text(s, "/namespace") {
                "" => format!("{kind} {who}"),
                space => format!("{kind} {space}/{who}"),
            }
        })
        .collect()
}

/// `system:controller:X` gives the role of that name to the controller X alone; leader locks go to
/// the daemons and their accounts.
fn is_bootstrap_default(binding: &Value, subjects: &[String]) -> bool {
    let (called, role) = (name(binding), text(binding, "/roleRef/name"));
    if called != role {
        return false;
    }
    if let Some(controller) = called.strip_prefix("system:controller:") {
        let own = format!("ServiceAccount kube-system/{controller}");
        return subjects.iter().all(|s| *s == own);
    }
    if let Some(daemon) = called.strip_prefix("system::leader-locking-") {
        let own = [
            format!("User system:{daemon}"),
            format!("ServiceAccount kube-system/{daemon}"),
            "ServiceAccount kube-system/leader-election-controller".to_owned(),
        ];
        return namespace(binding) == "kube-system" && subjects.iter().all(|s| own.contains(s));
    }
    false
}

/// A binding as Kubernetes or kubeadm makes it, of a role that they bring: one that is only called so is nobody's default.
fn is_default(binding: &Value, subjects: &[String]) -> bool {
    let (called, role) = (name(binding), text(binding, "/roleRef/name"));
    if !default_roles::is_known(&full_role(binding, role)) {
        return false;
    }
    let known = KNOWN.iter().any(|(n, r, who)| {
        *n == called && *r == role && subjects.iter().all(|s| who.contains(&s.as_str()))
    });
    known || is_bootstrap_default(binding, subjects)
}

/// The role of a RoleBinding, with its namespace if it has one.
fn full_role(binding: &Value, role: &str) -> String {
    match text(binding, "/roleRef/kind") {
        "ClusterRole" => role.to_owned(),
        _ => format!("{}/{role}", namespace(binding)),
    }
}

/// Roles of Kubernetes that hold wildcards of every verb.
const ALMIGHTY: &[&str] = &["cluster-admin"];

pub(in crate::checks) fn minimal(on: &Cluster<'_>) -> Result<Verdict, Verdict> {
    let facts = on.facts;
    let roles = of(facts, ObjectKind::ClusterRoles)?;
    let bindings = of(facts, ObjectKind::ClusterRoleBindings)?;
    let own_roles = of(facts, ObjectKind::Roles)?;
    let role_bindings = of(facts, ObjectKind::RoleBindings)?;
    let spaces = of(facts, ObjectKind::Namespaces)?;
    if !bindings.iter().any(|b| name(b) == "cluster-admin") || roles.is_empty() {
        return Err(Verdict::unknown("the list of ClusterRoleBindings lacks `cluster-admin`"));
    }
    let rules_of = |role: &str| {
        roles.iter().find(|r| name(r) == role).map(|r| list(r, "/rules")).unwrap_or_default()
    };
    let mut wrong = Vec::new();
    // Roles of bindings that the inventory allows: any other binding of them is judged.
    let mut granted: Vec<&str> = Vec::new();
    for binding in bindings.iter().chain(role_bindings) {
        let subjects = subjects(binding);
        if subjects.is_empty() {
            continue;
        }
        let (role, called) = (text(binding, "/roleRef/name"), full_name(binding));
        let rules = if text(binding, "/roleRef/kind") == "ClusterRole" {
            rules_of(role)
        } else {
            let own = own_roles.iter();
            let mut own = own.filter(|r| namespace(r) == namespace(binding) && name(r) == role);
            own.next().map(|r| list(r, "/rules")).unwrap_or_default()
        };
        let place = match namespace(binding) {
            "" => Place::Cluster,
            space => Place::Namespace {
                space: Space::called(space),
                // Of one that is not listed, or no more, nothing is known.
                unconfined: spaces
                    .iter()
                    .find(|n| name(n) == space)
                    .is_none_or(|n| workloads::enforced(on, n) == PodLevel::Privileged),
            },
        };
        let held = powers(rules, place, &rules_of);
        // What has been added to a default role is looked at below.
        if is_default(binding, &subjects) {
            continue;
        }
        let kind = match namespace(binding) {
            "" => AllowedKind::ClusterRoleBinding,
            _ => AllowedKind::RoleBinding,
        };
        // A grant is for somebody in particular, and these are whoever asks.
        let of_all = list(binding, "/subjects").iter().any(|s| {
            text(s, "/kind") == "Group" && text(s, "/name").starts_with("system:")
                || ANONYMOUS.contains(&text(s, "/name"))
        });
        if !of_all && crate::checks::cluster::reading::is_allowed(on, kind, &called) {
            granted.extend((text(binding, "/roleRef/kind") == "ClusterRole").then_some(role));
            continue;
        }
        if !held.is_empty() {
            let place = match namespace(binding) {
                "" => String::new(),
                space => format!(" in {space}"),
            };
            wrong.push(format!(
                "{} may {}{place} through {called}",
                subjects.join(" and "),
                few(&held)
            ));
        } else if let Some(who) = subjects.iter().find_map(|s| group_description(s)) {
            wrong.push(format!("{called} grants {role} to {who}"));
        }
    }
    let minor = on.inventory.cluster.kubernetes.minor;
    for role in roles.iter().chain(own_roles) {
        let full = full_name(role);
        if let Some(more) = default_roles::added(&full, role, roles, minor) {
            wrong.push(format!("role {full} has an extra rule: {more}"));
        }
        if let Some((to, more)) = default_roles::aggregated_excess(role, &rules_of) {
            wrong.push(format!(
                "ClusterRole {full} is aggregated into {to} and adds: {}",
                few(&more)
            ));
        }
    }
    let by_name = |r: &&Value| ALMIGHTY.contains(&name(r)) || granted.contains(&name(r));
    for role in roles.iter().filter(|r| !by_name(r)) {
        let all = |at, rule: &Value| list(rule, at).iter().any(|v| v == "*");
        let full = |r: &Value| all("/verbs", r) && all("/resources", r) && all("/apiGroups", r);
        if list(role, "/rules").iter().any(full) {
            wrong.push(format!("role {} may do everything", name(role)));
        }
    }
    for request in of(facts, ObjectKind::SigningRequests)? {
        if let Some(who) = signed_for_the_cluster(request) {
            wrong.push(format!(
                "CertificateSigningRequest {} was approved for {who}",
                name(request)
            ));
        }
    }
    for request in of(facts, ObjectKind::SigningRequests)?.iter().filter(|r| is_approved(r)) {
        if let Some(why) = not_of_its_node(on, request) {
            wrong.push(format!("CertificateSigningRequest {} was approved: {why}", name(request)));
        }
    }
    wrong.extend(pods_of_controllers(on)?);
    wrong.extend(crate::checks::cluster::reading::over(on, AllowedKind::ClusterRoleBinding));
    wrong.extend(crate::checks::cluster::reading::over(on, AllowedKind::RoleBinding));
    let expected =
        "only the defaults of Kubernetes and kubeadm, and what `hardening.allowed_objects` names";
    let looked_at = format!("{} bindings", bindings.len() + role_bindings.len());
    Ok(none_of(expected, wrong, looked_at))
}

/// Pods, and what makes pods, with an account of one of Kubernetes' controllers: those run in the controller manager.
fn pods_of_controllers(on: &Cluster<'_>) -> Result<Vec<String>, Verdict> {
    let account = |pod: &Value| {
        let said = ["/spec/serviceAccountName", "/spec/serviceAccount"].map(|at| text(pod, at));
        let mut said = said.into_iter().filter(|a| default_roles::is_a_controllers(a));
        said.next().map(str::to_owned)
    };
    let pods = of(on.facts, ObjectKind::Pods)?.iter().map(|pod| ("Pod", pod, Some(pod)));
    let mut all: Vec<(&str, &Value, Option<&Value>)> = pods.collect();
    for &(kind, called, at) in crate::checks::cluster::owners::MAKERS {
        all.extend(of(on.facts, kind)?.iter().map(|o| (called, o, o.pointer(at))));
    }
    let mut wrong = Vec::new();
    for (called, object, pod) in all.into_iter().filter(|(_, o, _)| namespace(o) == "kube-system") {
        if let Some(account) = pod.and_then(account) {
            wrong.push(format!("{called} {} runs as ServiceAccount {account}", full_name(object)));
        }
    }
    Ok(wrong)
}

/// Whom an approved request for a client certificate makes somebody of, whose name or group is Kubernetes' or kubeadm's own.
/// The certificate counts until it expires, whatever becomes of the request. Those of kubelets have other signers.
fn signed_for_the_cluster(request: &Value) -> Option<String> {
    if text(request, "/spec/signerName") != "kubernetes.io/kube-apiserver-client" {
        return None;
    }
    if !is_approved(request) {
        return None;
    }
    let (users, groups) = subject(request)?;
    let own: Vec<String> = users
        .into_iter()
        .chain(groups)
        .filter(|n| {
            n.starts_with("system:") || n.starts_with("kubeadm:") || *n == "kubernetes-admin"
        })
        .collect();
    (!own.is_empty()).then(|| own.join(", "))
}

fn is_approved(request: &Value) -> bool {
    list(request, "/status/conditions").iter().any(|c| text(c, "/type") == "Approved")
}

/// Common names and organizations that a request asks for.
fn subject(request: &Value) -> Option<(Vec<String>, Vec<String>)> {
    let pem = BASE64_STANDARD.decode(text(request, "/spec/request")).ok()?;
    let der = pem::parse(pem).ok()?;
    let (_, parsed) = X509CertificationRequest::from_der(der.contents()).ok()?;
    let subject = &parsed.certification_request_info.subject;
    let words =
        |n: &x509_parser::x509::AttributeTypeAndValue<'_>| n.as_str().ok().map(str::to_owned);
    let users = subject.iter_common_name().filter_map(words).collect();
    Some((users, subject.iter_organization().filter_map(words).collect()))
}

/// Why a request for a kubelet's certificate is not of that node's own kubelet, or asks for names of another. Those of nodes
/// that have left the inventory stay for an hour; their kubelets made them too.
fn not_of_its_node(on: &Cluster<'_>, request: &Value) -> Option<String> {
    let signer = text(request, "/spec/signerName").strip_prefix("kubernetes.io/")?;
    if !matches!(signer, "kubelet-serving" | "kube-apiserver-client-kubelet") {
        return None;
    }
    let requester = text(request, "/spec/username");
    let users = subject(request).map(|(users, _)| users).unwrap_or_default();
    let Some(node) = requester.strip_prefix("system:node:").filter(|_| users == [requester]) else {
        return Some(format!(
            "{requester} asked for the {signer} certificate of {}",
            users.join(", ")
        ));
    };
    let node = on.inventory.nodes.iter().find(|n| n.name.as_str() == node)?;
    let says = || matches_inventory(request, node).err();
    if signer == "kubelet-serving" { says() } else { None }
}

/// The first of some powers.
fn few(held: &[&'static str]) -> String {
    const SHOWN: usize = 2;
    let more = held.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", held[..held.len().min(SHOWN)].join(", "))
}
