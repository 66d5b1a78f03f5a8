//! Rights that give, or lead to, control of the cluster or of a node, matched as RBAC matches them.

use serde_json::Value;

use crate::facts::cluster::list;

pub(super) const EVERYTHING: &str = "do everything";
pub(super) const READ_SECRETS: &str = "read every Secret";
pub(super) const WRITE_SECRETS: &str = "write Secrets, and so create tokens";
pub(super) const CREATE_PODS: &str = "create pods";
pub(super) const CHANGE_PODS: &str = "change pods";
pub(super) const RUN: &str = "run programs in pods";
pub(super) const KUBELETS: &str = "drive kubelets";
pub(super) const NODES: &str = "change Nodes";
pub(super) const TOKENS: &str = "issue tokens";
pub(super) const IMPERSONATE: &str = "impersonate";
pub(super) const RAISE: &str = "raise its own rights";
pub(super) const ROLES: &str = "change roles";
pub(super) const GRANT: &str = "grant rights";
pub(super) const APPROVE: &str = "approve certificates";
pub(super) const JOIN: &str = "become a node";
pub(super) const ADMISSION: &str = "change admission";
pub(super) const APIS: &str = "take over APIs";
pub(super) const VOLUMES: &str = "mount any path of a node";
pub(super) const LABELS: &str = "take a namespace out of Pod Security";
pub(super) const CONFIGURATION: &str = "change the configuration of Kubernetes' daemons";

/// Where rights are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// By a ClusterRoleBinding.
    Cluster,
    /// By a RoleBinding.
    Namespace {
        /// kube-system, whose accounts and Secrets are the cluster's.
        system: bool,
        /// Nothing keeps its pods from the node.
        unconfined: bool,
    },
}

/// Where a right has to be held to lead further.
#[derive(Clone, Copy)]
enum Reach {
    /// For the whole cluster: the objects are in no namespace.
    Cluster,
    /// There, or in kube-system.
    System,
    /// There, or in a namespace whose pods may do anything on their node.
    Pods,
    /// Anywhere.
    Anywhere,
}

impl Reach {
    fn is_held(self, place: Place) -> bool {
        match (place, self) {
            (Place::Cluster, _) | (_, Reach::Anywhere) => true,
            (_, Reach::Cluster) => false,
            (Place::Namespace { system, .. }, Reach::System) => system,
            (Place::Namespace { system, unconfined }, Reach::Pods) => system || unconfined,
        }
    }
}

/// What a rule is worth that holds for named objects only.
#[derive(Clone, Copy)]
enum Named {
    /// Nothing: names of what is created are not known, or others of the kind are harmless.
    Nothing,
    /// As much as the whole: one of them is enough.
    Enough,
    /// As much as the named object is.
    If(fn(&str) -> bool),
    /// As much as the named role.
    Role,
}

struct Power {
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    named: Named,
    reach: Reach,
    words: &'static str,
}

const WRITE: &[&str] = &["create", "update", "patch"];
const CHANGE: &[&str] = &["update", "patch"];
/// What is taken away there does not keep anybody from anything any more.
const ANY_WRITE: &[&str] = &["create", "update", "patch", "delete", "deletecollection"];
const OPEN: &[&str] = &["create", "get"];

const RBAC: &str = "rbac.authorization.k8s.io";
const CERTIFICATES: &str = "certificates.k8s.io";
const REGISTRATION: &str = "admissionregistration.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";

const fn power(
    (group, resource): (&'static str, &'static str),
    verbs: &'static [&'static str],
    named: Named,
    reach: Reach,
    words: &'static str,
) -> Power {
    Power { group, resource, verbs, named, reach, words }
}

/// The table (Kubernetes documentation, "RBAC good practices": privilege escalation risks; CIS 5.1.1 to 5.1.13).
const POWERS: [Power; 50] = {
    use Named::{Enough, If, Nothing, Role};
    use Reach::{Anywhere, Cluster, Pods, System};
    [
        power(("", "secrets"), &["get", "list", "watch"], Nothing, System, READ_SECRETS),
        power(("", "secrets"), WRITE, Nothing, System, WRITE_SECRETS),
        power(("", "pods"), &["create"], Nothing, Pods, CREATE_PODS),
        power(("", "replicationcontrollers"), WRITE, Enough, Pods, CREATE_PODS),
        power(("apps", "daemonsets"), WRITE, Enough, Pods, CREATE_PODS),
        power(("apps", "deployments"), WRITE, Enough, Pods, CREATE_PODS),
        power(("apps", "replicasets"), WRITE, Enough, Pods, CREATE_PODS),
        power(("apps", "statefulsets"), WRITE, Enough, Pods, CREATE_PODS),
        power(("batch", "cronjobs"), WRITE, Enough, Pods, CREATE_PODS),
        power(("batch", "jobs"), WRITE, Enough, Pods, CREATE_PODS),
        power(("", "pods"), CHANGE, Enough, Pods, CHANGE_PODS),
        power(("", "pods/exec"), OPEN, Enough, Pods, RUN),
        power(("", "pods/attach"), OPEN, Enough, Pods, RUN),
        power(("", "pods/portforward"), OPEN, Enough, Pods, RUN),
        power(("", "pods/ephemeralcontainers"), CHANGE, Enough, Pods, RUN),
        power(
            ("", "nodes/proxy"),
            &["get", "create", "update", "patch", "delete"],
            Enough,
            Cluster,
            KUBELETS,
        ),
        power(("", "nodes"), WRITE, Enough, Cluster, NODES),
        power(("", "serviceaccounts/token"), &["create"], Enough, System, TOKENS),
        power(("", "users"), &["impersonate"], If(is_mighty_user), Cluster, IMPERSONATE),
        power(("", "groups"), &["impersonate"], If(is_mighty_group), Cluster, IMPERSONATE),
        power(("", "serviceaccounts"), &["impersonate"], Enough, System, IMPERSONATE),
        // Enhancement 5284: a verb for each kind of identity.
        power(
            (AUTHENTICATION, "users"),
            &["impersonate:user-info"],
            If(is_mighty_user),
            Cluster,
            IMPERSONATE,
        ),
        power(
            (AUTHENTICATION, "groups"),
            &["impersonate:user-info"],
            If(is_mighty_group),
            Cluster,
            IMPERSONATE,
        ),
        power(
            (AUTHENTICATION, "serviceaccounts"),
            &["impersonate:serviceaccount"],
            Enough,
            System,
            IMPERSONATE,
        ),
        power(
            (AUTHENTICATION, "nodes"),
            &["impersonate:arbitrary-node"],
            Enough,
            Cluster,
            IMPERSONATE,
        ),
        power((RBAC, "clusterroles"), &["bind"], Role, Anywhere, RAISE),
        power((RBAC, "roles"), &["bind"], Nothing, Anywhere, RAISE),
        power((RBAC, "clusterroles"), &["escalate"], Enough, Cluster, RAISE),
        power((RBAC, "roles"), &["escalate"], Enough, Anywhere, RAISE),
        power((RBAC, "clusterroles"), WRITE, Enough, Cluster, ROLES),
        power((RBAC, "roles"), WRITE, Enough, System, ROLES),
        power((RBAC, "clusterrolebindings"), WRITE, Enough, Cluster, GRANT),
        power((RBAC, "rolebindings"), WRITE, Enough, System, GRANT),
        power(
            (CERTIFICATES, "certificatesigningrequests/approval"),
            CHANGE,
            Enough,
            Cluster,
            APPROVE,
        ),
        power(
            (CERTIFICATES, "certificatesigningrequests/status"),
            CHANGE,
            Enough,
            Cluster,
            APPROVE,
        ),
        power((CERTIFICATES, "signers"), &["approve", "sign"], If(is_own_signer), Cluster, APPROVE),
        power(
            (CERTIFICATES, "certificatesigningrequests/nodeclient"),
            &["create"],
            Enough,
            Cluster,
            JOIN,
        ),
        power(
            (REGISTRATION, "mutatingwebhookconfigurations"),
            ANY_WRITE,
            Enough,
            Cluster,
            ADMISSION,
        ),
        power(
            (REGISTRATION, "validatingwebhookconfigurations"),
            ANY_WRITE,
            Enough,
            Cluster,
            ADMISSION,
        ),
        power((REGISTRATION, "mutatingadmissionpolicies"), ANY_WRITE, Enough, Cluster, ADMISSION),
        power(
            (REGISTRATION, "mutatingadmissionpolicybindings"),
            ANY_WRITE,
            Enough,
            Cluster,
            ADMISSION,
        ),
        power((REGISTRATION, "validatingadmissionpolicies"), ANY_WRITE, Enough, Cluster, ADMISSION),
        power(
            (REGISTRATION, "validatingadmissionpolicybindings"),
            ANY_WRITE,
            Enough,
            Cluster,
            ADMISSION,
        ),
        power(("apiregistration.k8s.io", "apiservices"), WRITE, Enough, Cluster, APIS),
        power(("", "persistentvolumes"), &["create"], Nothing, Cluster, VOLUMES),
        // A namespace is in itself: whoever may patch namespaces in it may patch it. Labels come along with its status.
        power(("", "namespaces"), CHANGE, Enough, Anywhere, LABELS),
        power(("", "namespaces/finalize"), CHANGE, Enough, Anywhere, LABELS),
        power(("", "namespaces/status"), CHANGE, Enough, Anywhere, LABELS),
        power(("", "configmaps"), WRITE, If(is_read_by_daemons), System, CONFIGURATION),
        power(("", "nodes/status"), CHANGE, Enough, Cluster, NODES),
    ]
};

fn is_mighty_group(name: &str) -> bool {
    // All accounts of the cluster are as good as the mightiest.
    const GROUPS: [&str; 5] = [
        "system:masters",
        "system:nodes",
        "kubeadm:cluster-admins",
        "system:serviceaccounts",
        "system:serviceaccounts:kube-system",
    ];
    GROUPS.contains(&name)
}

fn is_mighty_user(name: &str) -> bool {
    const USERS: [&str; 5] = [
        "kubernetes-admin",
        "kubernetes-super-admin",
        "kube-apiserver-kubelet-client",
        "system:kube-controller-manager",
        "system:kube-scheduler",
    ];
    USERS.contains(&name)
        || name.starts_with("system:node:")
        || name.starts_with("system:serviceaccount:kube-system:")
}

fn is_own_signer(name: &str) -> bool {
    // `domain/*` stands for all signers of a domain.
    name.starts_with("kubernetes.io/")
}

fn is_read_by_daemons(name: &str) -> bool {
    const MAPS: [&str; 5] = [
        "coredns",
        "extension-apiserver-authentication",
        "kube-proxy",
        "kubeadm-config",
        "kubelet-config",
    ];
    MAPS.contains(&name)
}

/// Whether a rule of a role holds for a verb and a resource (RBAC documentation, "Referring to resources";
/// `ResourceMatches` of rbac/v1 in Kubernetes): a star is everything, and `*/sub` a subresource of everything.
fn holds(rule: &Value, verb: &str, group: &str, resource: &str) -> bool {
    let among = |at: &str, wanted: &str| {
        list(rule, at).iter().filter_map(Value::as_str).any(|v| v == wanted || v == "*")
    };
    let of_everything = resource.split_once('/').map(|(_, sub)| format!("*/{sub}"));
    among("/verbs", verb)
        && among("/apiGroups", group)
        && (among("/resources", resource)
            || of_everything.is_some_and(|all| list(rule, "/resources").iter().any(|r| *r == all)))
}

/// Whether a rule leaves nothing out that matters.
fn is_wildcard(rule: &Value) -> bool {
    let any = |at| list(rule, at).iter().any(|v| v == "*");
    any("/verbs") && (any("/resources") || any("/nonResourceURLs"))
}

/// What rules of a role are worth in a place, without doubles, the worst first.
pub(super) fn powers<'v>(
    rules: &[Value],
    place: Place,
    role: &dyn Fn(&str) -> &'v [Value],
) -> Vec<&'static str> {
    if rules.iter().any(is_wildcard) {
        return vec![EVERYTHING];
    }
    let mut held = Vec::new();
    for power in POWERS.iter().filter(|p| p.reach.is_held(place)) {
        let worth = |rule: &Value| {
            let names = list(rule, "/resourceNames");
            let any = |is: &dyn Fn(&str) -> bool| names.iter().filter_map(Value::as_str).any(is);
            names.is_empty()
                || match power.named {
                    Named::Nothing => false,
                    Named::Enough => true,
                    Named::If(is) => any(&is),
                    // What can be bound is worth what it holds where it is bound.
                    Named::Role => any(&|name| {
                        let rules = role(name);
                        let by_binding = |r: &Value| holds(r, "bind", RBAC, "clusterroles");
                        // One that is not there may come.
                        rules.is_empty()
                            || rules.iter().any(by_binding)
                            || !powers(rules, place, &|_| &[]).is_empty()
                    }),
                }
        };
        let allowed = rules.iter().any(|r| {
            power.verbs.iter().any(|v| holds(r, v, power.group, power.resource)) && worth(r)
        });
        if allowed && !held.contains(&power.words) {
            held.push(power.words);
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HERE: Place = Place::Namespace { system: false, unconfined: false };
    const SYSTEM: Place = Place::Namespace { system: true, unconfined: false };
    const UNCONFINED: Place = Place::Namespace { system: false, unconfined: true };

    fn of(rule: Value, place: Place) -> Vec<&'static str> {
        powers(&[rule], place, &|role| match role {
            "cluster-admin" => ADMIN.as_slice(),
            _ => VIEW.as_slice(),
        })
    }

    static ADMIN: std::sync::LazyLock<Vec<Value>> = std::sync::LazyLock::new(|| {
        vec![json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]})]
    });
    static VIEW: std::sync::LazyLock<Vec<Value>> = std::sync::LazyLock::new(|| {
        vec![json!({"apiGroups": [""], "resources": ["services"], "verbs": ["get"]})]
    });

    #[test]
    fn each_power_is_seen_by_its_name_by_stars_and_where_it_reaches() {
        for power in &POWERS {
            let Power { group, resource, verbs, words, .. } = power;
            for verb in *verbs {
                let by = |group: &str, resource: &str, verb: &str| {
                    let (groups, resources, verbs) = ([group], [resource], [verb]);
                    json!({"apiGroups": groups, "resources": resources, "verbs": verbs})
                };
                let exact = by(group, resource, verb);
                assert!(of(exact.clone(), Place::Cluster).contains(words), "{verb} {resource}");
                assert!(of(by("*", resource, verb), Place::Cluster).contains(words));
                assert!(of(by(group, resource, "*"), Place::Cluster).contains(words));
                assert!(of(by(group, "*", verb), Place::Cluster).contains(words));
                if let Some((base, sub)) = resource.split_once('/') {
                    assert!(
                        of(by(group, &format!("*/{sub}"), verb), Place::Cluster).contains(words)
                    );
                    // Not a form that RBAC knows.
                    assert!(
                        !of(by(group, &format!("{base}/*"), verb), Place::Cluster).contains(words)
                    );
                }
                assert!(!of(by("example.com", resource, verb), Place::Cluster).contains(words));
                let (here, system, unconfined) = match power.reach {
                    Reach::Cluster => (false, false, false),
                    Reach::System => (false, true, false),
                    Reach::Pods => (false, true, true),
                    Reach::Anywhere => (true, true, true),
                };
                assert_eq!(of(exact.clone(), HERE).contains(words), here, "{verb} {resource}");
                assert_eq!(of(exact.clone(), SYSTEM).contains(words), system);
                assert_eq!(of(exact, UNCONFINED).contains(words), unconfined);
            }
        }
    }

    #[test]
    fn rights_on_named_objects_are_worth_what_those_are() {
        let named = |group: &str, resource: &str, verb: &str, name: &str| {
            let rule = json!({"apiGroups": [group], "resources": [resource], "verbs": [verb],
                "resourceNames": [name]});
            !of(rule, Place::Cluster).is_empty()
        };
        for (group, resource, verb, mighty, harmless) in [
            ("", "groups", "impersonate", "system:masters", "developers"),
            ("", "users", "impersonate", "system:node:cp1", "alice"),
            (RBAC, "clusterroles", "bind", "cluster-admin", "view"),
            (CERTIFICATES, "signers", "approve", "kubernetes.io/*", "example.com/*"),
            (CERTIFICATES, "signers", "sign", "kubernetes.io/kube-apiserver-client", "a.b/c"),
            ("", "configmaps", "update", "extension-apiserver-authentication", "leases"),
        ] {
            assert!(named(group, resource, verb, mighty), "{verb} {mighty}");
            assert!(!named(group, resource, verb, harmless), "{verb} {harmless}");
        }
        assert!(named("", "serviceaccounts/token", "create", "clusterrole-aggregation-controller"));
        assert!(named("", "pods/exec", "create", "kube-proxy-x"));
        assert!(!named("", "secrets", "get", "my-certificate"));
    }

    #[test]
    fn wildcards_are_everything_in_any_namespace() {
        for place in [Place::Cluster, HERE, SYSTEM] {
            assert_eq!(of(ADMIN[0].clone(), place), [EVERYTHING]);
        }
    }
}
