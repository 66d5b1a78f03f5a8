//! Who holds rights over the whole cluster, beside those that Kubernetes and kubeadm give.

use serde_json::Value;

use super::model::Verdict;
use super::objects::{full_name, none_of, of};
use crate::facts::cluster::{ClusterFacts, Kind, list, name, namespace, text};

/// Rights that amount to the whole cluster, or lead there (Kubernetes documentation, "RBAC good
/// practices": privilege escalation risks; CIS 5.1.1 to 5.1.13): API group, resource, verbs, words.
const POWERS: [(&str, &str, &[&str], &str); 16] = [
    ("", "secrets", &["get", "list", "watch"], "read every Secret"),
    ("", "pods", &["create"], "create pods everywhere"),
    ("apps", "daemonsets", WRITE, "create pods everywhere"),
    ("apps", "deployments", WRITE, "create pods everywhere"),
    ("apps", "replicasets", WRITE, "create pods everywhere"),
    ("apps", "statefulsets", WRITE, "create pods everywhere"),
    ("batch", "cronjobs", WRITE, "create pods everywhere"),
    ("batch", "jobs", WRITE, "create pods everywhere"),
    ("", "pods/exec", &["create", "get"], "run programs in every pod"),
    ("", "nodes/proxy", &["get", "create", "update", "patch", "delete"], "drive kubelets"),
    ("", "serviceaccounts/token", &["create"], "issue tokens for everybody"),
    ("", "users", &["impersonate"], "impersonate"),
    ("rbac.authorization.k8s.io", "clusterroles", &["bind", "escalate"], "raise its own rights"),
    (
        "rbac.authorization.k8s.io",
        "clusterrolebindings",
        &["create", "update", "patch"],
        "grant rights",
    ),
    (
        "certificates.k8s.io",
        "certificatesigningrequests/approval",
        &["update", "patch"],
        "approve certificates",
    ),
    (
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        &["create", "update", "patch"],
        "change every request",
    ),
];

/// What changes the pods of a workload.
const WRITE: &[&str] = &["create", "update", "patch"];

/// Default roles that hold such rights as they come (bootstrappolicy in Kubernetes' source). No other
/// may: when it starts, the API server adds what its roles lack, and takes away nothing that somebody
/// has added (Kubernetes documentation, "Auto-reconciliation").
const MIGHTY: [&str; 20] = [
    "cluster-admin",
    "system:controller:bootstrap-signer",
    "system:controller:certificate-controller",
    "system:controller:clusterrole-aggregation-controller",
    "system:controller:cronjob-controller",
    "system:controller:daemon-set-controller",
    "system:controller:deployment-controller",
    "system:controller:expand-controller",
    "system:controller:generic-garbage-collector",
    "system:controller:job-controller",
    "system:controller:namespace-controller",
    "system:controller:persistent-volume-binder",
    "system:controller:replicaset-controller",
    "system:controller:replication-controller",
    "system:controller:resourcequota-controller",
    "system:controller:statefulset-controller",
    "system:controller:token-cleaner",
    "system:kube-controller-manager",
    "system:kubelet-api-admin",
    "system:node",
];

/// Bindings that kubeadm makes (`kubeadm:*`), and those of Kubernetes that are not called like their
/// role: name, role, subjects. Those that are follow [`is_bootstrap_default`].
const KNOWN: [(&str, &str, &[&str]); 24] = [
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

/// Groups that hold everybody who can log in. A default binding may name them, another may not.
const EVERYBODY: [&str; 4] = [
    "Group system:authenticated",
    "Group system:unauthenticated",
    "Group system:serviceaccounts",
    "User system:anonymous",
];

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

fn is_default(binding: &Value, subjects: &[String]) -> bool {
    let (called, role) = (name(binding), text(binding, "/roleRef/name"));
    let known = KNOWN.iter().any(|(n, r, who)| {
        *n == called && *r == role && subjects.iter().all(|s| who.contains(&s.as_str()))
    });
    known || is_bootstrap_default(binding, subjects)
}

/// What a list of rules allows over all of an API: `None` if nothing of weight.
fn power(rules: &[Value]) -> Option<&'static str> {
    let has = |rule: &Value, at: &str, wanted: &str| {
        list(rule, at).iter().any(|v| v == wanted || v == "*")
    };
    let wildcard = |rule: &Value| {
        let any = |at| list(rule, at).iter().any(|v| v == "*");
        any("/verbs") && (any("/resources") || any("/nonResourceURLs"))
    };
    if rules.iter().any(wildcard) {
        return Some("do everything");
    }
    POWERS.iter().find_map(|(group, resource, verbs, words)| {
        let allowed = rules.iter().any(|r| {
            // Rights on objects that a rule names are not rights on all.
            list(r, "/resourceNames").is_empty()
                && has(r, "/apiGroups", group)
                && has(r, "/resources", resource)
                && verbs.iter().any(|v| has(r, "/verbs", v))
        });
        allowed.then_some(*words)
    })
}

/// The role of a RoleBinding, with its namespace if it has one.
fn full_role(binding: &Value, role: &str) -> String {
    match text(binding, "/roleRef/kind") {
        "ClusterRole" => role.to_owned(),
        _ => format!("{}/{role}", namespace(binding)),
    }
}

/// Roles of Kubernetes that hold wildcards of every verb.
const ALMIGHTY: [&str; 1] = ["cluster-admin"];

pub(super) fn minimal(facts: &ClusterFacts) -> Result<Verdict, Verdict> {
    let roles = of(facts, Kind::ClusterRoles)?;
    let bindings = of(facts, Kind::ClusterRoleBindings)?;
    let own_roles = of(facts, Kind::Roles)?;
    let role_bindings = of(facts, Kind::RoleBindings)?;
    if !bindings.iter().any(|b| name(b) == "cluster-admin") || roles.is_empty() {
        return Err(Verdict::unknown("the list of ClusterRoleBindings lacks `cluster-admin`"));
    }
    let rules_of = |role: &str| {
        roles.iter().find(|r| name(r) == role).map(|r| list(r, "/rules")).unwrap_or_default()
    };
    let mut wrong = Vec::new();
    for binding in bindings {
        let subjects = subjects(binding);
        if subjects.is_empty() {
            continue;
        }
        let (role, called) = (text(binding, "/roleRef/name"), name(binding));
        let might = power(rules_of(role));
        if is_default(binding, &subjects) {
            if let Some(might) = might.filter(|_| !MIGHTY.contains(&role)) {
                wrong.push(format!("role {role} may {might}"));
            }
        } else if let Some(might) = might {
            wrong.push(format!("{} may {might} by {called}", subjects.join(" and ")));
        } else if subjects.iter().any(|s| EVERYBODY.contains(&s.as_str())) {
            wrong.push(format!("everybody holds {role} by {called}"));
        }
    }
    for binding in role_bindings {
        let subjects = subjects(binding);
        let everybody = subjects.iter().any(|s| EVERYBODY.contains(&s.as_str()));
        let role = text(binding, "/roleRef/name");
        let rules = if text(binding, "/roleRef/kind") == "ClusterRole" {
            rules_of(role)
        } else {
            let own = own_roles.iter();
            let mut own = own.filter(|r| namespace(r) == namespace(binding) && name(r) == role);
            own.next().map(|r| list(r, "/rules")).unwrap_or_default()
        };
        // Rights in kube-system lead to its accounts, and so to the cluster.
        let might = power(rules).filter(|_| namespace(binding) == "kube-system");
        if is_default(binding, &subjects) {
            if let Some(might) = might.filter(|_| !MIGHTY.contains(&role)) {
                wrong.push(format!("role {} may {might}", full_role(binding, role)));
            }
        } else if let Some(might) = might.filter(|_| !subjects.is_empty()) {
            let called = full_name(binding);
            wrong.push(format!("{} may {might} by {called}", subjects.join(" and ")));
        } else if everybody {
            wrong.push(format!("everybody holds {role} by {}", full_name(binding)));
        }
    }
    for role in roles.iter().filter(|r| !ALMIGHTY.contains(&name(r))) {
        let all = |at, rule: &Value| list(rule, at).iter().any(|v| v == "*");
        let full = |r: &Value| all("/verbs", r) && all("/resources", r) && all("/apiGroups", r);
        if list(role, "/rules").iter().any(full) {
            wrong.push(format!("role {} may do everything", name(role)));
        }
    }
    let expected = "only the defaults of Kubernetes and kubeadm";
    let looked_at = format!("{} bindings", bindings.len() + role_bindings.len());
    Ok(none_of(expected, wrong, looked_at))
}
