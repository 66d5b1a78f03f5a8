//! Rights that give, or lead to, control of the cluster or of a node, matched as RBAC matches them.

use serde_json::Value;

use crate::facts::cluster::list;

pub(in crate::checks) const EVERYTHING: &str = "do everything";
pub(in crate::checks) const READ_SECRETS: &str = "read every Secret";
pub(in crate::checks) const WRITE_SECRETS: &str = "write Secrets, and so create tokens";
pub(in crate::checks) const CREATE_PODS: &str = "create pods";
pub(in crate::checks) const CHANGE_PODS: &str = "change pods";
pub(in crate::checks) const RUN: &str = "exec into pods";
pub(in crate::checks) const KUBELETS: &str = "control kubelets";
pub(in crate::checks) const NODES: &str = "change or delete Nodes";
pub(in crate::checks) const TOKENS: &str = "issue tokens";
pub(in crate::checks) const ACCOUNTS: &str = "change ServiceAccounts of Kubernetes";
pub(in crate::checks) const IMPERSONATE: &str = "impersonate";
pub(in crate::checks) const RAISE: &str = "escalate its own rights";
pub(in crate::checks) const ROLES: &str = "change roles";
pub(in crate::checks) const GRANT: &str = "grant rights";
pub(in crate::checks) const APPROVE: &str = "approve certificates";
pub(in crate::checks) const JOIN: &str = "become a node";
pub(in crate::checks) const ADMISSION: &str = "change admission";
pub(in crate::checks) const APIS: &str = "take over APIs";
pub(in crate::checks) const VOLUMES: &str = "mount any path of a node";
pub(in crate::checks) const LABELS: &str = "take a namespace out of Pod Security";
pub(in crate::checks) const CONFIGURATION: &str = "change the configuration of Kubernetes' daemons";
pub(in crate::checks) const DELETE_SECRETS: &str = "delete Secrets";
pub(in crate::checks) const DELETE_NAMESPACES: &str = "delete namespaces";
pub(in crate::checks) const REACH: &str = "reach ports of pods through the API server";
pub(in crate::checks) const NODE_LOGS: &str = "read logs of nodes";
pub(in crate::checks) const TAKE_VOLUMES: &str = "take or delete volumes of others";
pub(in crate::checks) const ATTACH: &str = "attach volumes to any node";
pub(in crate::checks) const STORAGE: &str = "change storage drivers and classes";
pub(in crate::checks) const REDIRECT: &str = "redirect Services";
pub(in crate::checks) const LEASES: &str = "take the leases of Kubernetes' daemons";
pub(in crate::checks) const ISOLATION: &str = "change NetworkPolicies";
pub(in crate::checks) const LIMITS: &str = "lift quotas and limits";
pub(in crate::checks) const CRDS: &str = "change CustomResourceDefinitions";
pub(in crate::checks) const RUNTIMES: &str = "change RuntimeClasses";
pub(in crate::checks) const PREEMPT: &str = "preempt pods of others";
pub(in crate::checks) const STARVE: &str = "starve requests of others";
pub(in crate::checks) const TRUST: &str = "change trusted CAs";

/// Where rights are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::checks) enum Place {
    /// By a ClusterRoleBinding.
    Cluster,
    /// By a RoleBinding.
    Namespace {
        /// Where.
        space: Space,
        /// Nothing keeps its pods from the node.
        unconfined: bool,
    },
}

/// Namespaces that hold objects of Kubernetes' own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::checks) enum Space {
    /// kube-system, whose accounts and Secrets are the cluster's.
    System,
    /// kube-node-lease, by which nodes are taken for alive.
    Leases,
    /// kube-public, where joining nodes find the cluster's CA.
    Public,
    /// default, which holds the Service of the API servers.
    Default,
    /// All others.
    Other,
}

impl Space {
    pub(in crate::checks) fn called(name: &str) -> Self {
        match name {
            "kube-system" => Space::System,
            "kube-node-lease" => Space::Leases,
            "kube-public" => Space::Public,
            "default" => Space::Default,
            _ => Space::Other,
        }
    }
}

/// Where a right has to be held to lead further.
#[derive(Clone, Copy)]
enum Reach {
    /// For the whole cluster: the objects are in no namespace.
    Cluster,
    /// There, or in a namespace of these.
    In(&'static [Space]),
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
            (Place::Namespace { space, .. }, Reach::In(spaces)) => spaces.contains(&space),
            (Place::Namespace { space, unconfined }, Reach::Pods) => {
                space == Space::System || unconfined
            }
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
const DELETE: &[&str] = &["delete", "deletecollection"];
/// Of what is made anew when it is gone, or of what its creation alone does not harm.
const CHANGE_OR_DELETE: &[&str] = &["update", "patch", "delete", "deletecollection"];
const OPEN: &[&str] = &["create", "get"];
/// What the API server and the kubelet make of HTTP's methods.
const ANY_METHOD: &[&str] = &["get", "create", "update", "patch", "delete"];

const SYSTEM: Reach = Reach::In(&[Space::System]);
const SERVICES: Reach = Reach::In(&[Space::System, Space::Default]);

const RBAC: &str = "rbac.authorization.k8s.io";
const CERTIFICATES: &str = "certificates.k8s.io";
const REGISTRATION: &str = "admissionregistration.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";
const STORAGE_GROUP: &str = "storage.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const EXTENSIONS: &str = "apiextensions.k8s.io";
const FLOW_CONTROL: &str = "flowcontrol.apiserver.k8s.io";

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
///
/// Not in it, since nobody gains by them: events; evictions and deletions of pods, which are made anew; bindings of pods,
/// since a pod may name its node; what else kubelets tell of themselves (`nodes/metrics`, `nodes/stats`, `nodes/pods`,
/// `nodes/healthz`, `nodes/configz`). Writing NetworkPolicies is a right of `edit`: what such policies allow is judged by
/// `network-default-deny`.
const POWERS: &[Power] = {
    use Named::{Enough, If, Nothing, Role};
    use Reach::{Anywhere, Cluster, Pods};
    &[
        power(("", "secrets"), &["get", "list", "watch"], Nothing, SYSTEM, READ_SECRETS),
        power(("", "secrets"), WRITE, Nothing, SYSTEM, WRITE_SECRETS),
        power(("", "pods"), &["create"], Nothing, Pods, CREATE_PODS),
        power(("", "replicationcontrollers"), WRITE, Enough, Pods, CREATE_PODS),
        power(("apps", "daemonsets"), WRITE, Enough, Pods, CREATE_PODS),
        power(("apps", "deployments"), WRITE, Enough, Pods, CREATE_PODS),
        power(("apps", "replicasets"), WRITE, Enough, Pods, CREATE_PODS),
        power(("apps", "statefulsets"), WRITE, Enough, Pods, CREATE_PODS),
        // What the pods of a StatefulSet or DaemonSet are made of.
        power(("apps", "controllerrevisions"), CHANGE, Enough, Pods, CREATE_PODS),
        power(("batch", "cronjobs"), WRITE, Enough, Pods, CREATE_PODS),
        power(("batch", "jobs"), WRITE, Enough, Pods, CREATE_PODS),
        power(("", "pods"), CHANGE, Enough, Pods, CHANGE_PODS),
        power(("", "pods/exec"), OPEN, Enough, Pods, RUN),
        power(("", "pods/attach"), OPEN, Enough, Pods, RUN),
        power(("", "pods/portforward"), OPEN, Enough, Pods, REACH),
        power(("", "pods/ephemeralcontainers"), CHANGE, Enough, Pods, RUN),
        power(("", "pods/proxy"), ANY_METHOD, Enough, Pods, REACH),
        power(("", "services/proxy"), ANY_METHOD, Enough, Pods, REACH),
        power(("", "secrets"), DELETE, Nothing, SYSTEM, DELETE_SECRETS),
        power(("", "nodes/proxy"), ANY_METHOD, Enough, Cluster, KUBELETS),
        // Where a kubelet asks for finer rights than `nodes/proxy` (pkg/kubelet/server/auth.go in Kubernetes): what a
        // process holds in memory ends on the disk, and every file of /var/log is read.
        power(("", "nodes/checkpoint"), ANY_METHOD, Enough, Cluster, KUBELETS),
        power(("", "nodes/log"), ANY_METHOD, Enough, Cluster, NODE_LOGS),
        power(("", "nodes"), ANY_WRITE, Enough, Cluster, NODES),
        power(("", "serviceaccounts/token"), &["create"], Enough, SYSTEM, TOKENS),
        // A label keeps a token that the controller manager would take away, and an account can be told to mount one.
        power(("", "serviceaccounts"), CHANGE_OR_DELETE, Enough, SYSTEM, ACCOUNTS),
        power(("", "users"), &["impersonate"], If(is_mighty_user), Cluster, IMPERSONATE),
        power(("", "groups"), &["impersonate"], If(is_mighty_group), Cluster, IMPERSONATE),
        power(("", "serviceaccounts"), &["impersonate"], Enough, SYSTEM, IMPERSONATE),
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
            SYSTEM,
            IMPERSONATE,
        ),
        power(
            (AUTHENTICATION, "nodes"),
            &["impersonate:arbitrary-node"],
            Enough,
            Cluster,
            IMPERSONATE,
        ),
        // Each kubelet's, from a pod on its node.
        power(
            (AUTHENTICATION, "nodes"),
            &["impersonate:associated-node"],
            Enough,
            Cluster,
            IMPERSONATE,
        ),
        power((RBAC, "clusterroles"), &["bind"], Role, Anywhere, RAISE),
        power((RBAC, "roles"), &["bind"], Nothing, Anywhere, RAISE),
        power((RBAC, "clusterroles"), &["escalate"], Enough, Cluster, RAISE),
        power((RBAC, "roles"), &["escalate"], Enough, Anywhere, RAISE),
        power((RBAC, "clusterroles"), WRITE, Enough, Cluster, ROLES),
        power((RBAC, "roles"), WRITE, Enough, SYSTEM, ROLES),
        power((RBAC, "clusterrolebindings"), WRITE, Enough, Cluster, GRANT),
        power((RBAC, "rolebindings"), WRITE, Enough, SYSTEM, GRANT),
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
        power(("apiregistration.k8s.io", "apiservices"), ANY_WRITE, Enough, Cluster, APIS),
        power(("", "persistentvolumes"), &["create"], Nothing, Cluster, VOLUMES),
        // A namespace is in itself: whoever may patch namespaces in it may patch it. Labels come along with its status.
        power(("", "namespaces"), CHANGE, Enough, Anywhere, LABELS),
        power(("", "namespaces/finalize"), CHANGE, Enough, Anywhere, LABELS),
        power(("", "namespaces/status"), CHANGE, Enough, Anywhere, LABELS),
        power(("", "namespaces"), DELETE, Enough, Anywhere, DELETE_NAMESPACES),
        power(("", "configmaps"), ANY_WRITE, If(is_read_by_daemons), SYSTEM, CONFIGURATION),
        // Joining nodes take the cluster's CA and address from it.
        power(
            ("", "configmaps"),
            ANY_WRITE,
            If(is_cluster_info),
            Reach::In(&[Space::Public]),
            CONFIGURATION,
        ),
        power(("", "nodes/status"), CHANGE, Enough, Cluster, NODES),
        power(("", "persistentvolumes"), CHANGE_OR_DELETE, Enough, Cluster, TAKE_VOLUMES),
        power((STORAGE_GROUP, "volumeattachments"), ANY_WRITE, Enough, Cluster, ATTACH),
        // A driver is given tokens of the pods whose volumes it mounts, and a class names its Secrets.
        power((STORAGE_GROUP, "csidrivers"), ANY_WRITE, Enough, Cluster, STORAGE),
        power((STORAGE_GROUP, "csinodes"), ANY_WRITE, Enough, Cluster, STORAGE),
        power((STORAGE_GROUP, "storageclasses"), ANY_WRITE, Enough, Cluster, STORAGE),
        // CVE-2020-8554: by the address of a load balancer, a Service takes the traffic to that address in the whole
        // cluster. External addresses are refused by an admission plugin.
        power(("", "services/status"), CHANGE, Enough, Anywhere, REDIRECT),
        power(("", "services"), ANY_WRITE, Enough, SERVICES, REDIRECT),
        power(("", "endpoints"), ANY_WRITE, Enough, SERVICES, REDIRECT),
        power(("discovery.k8s.io", "endpointslices"), ANY_WRITE, Enough, SERVICES, REDIRECT),
        // EndpointSlices follow the address that a pod's status says.
        power(("", "pods/status"), CHANGE, Enough, SYSTEM, REDIRECT),
        power((NETWORKING, "servicecidrs"), ANY_WRITE, Enough, Cluster, REDIRECT),
        // Who leads, and which node is alive. One that is only created keeps nobody out.
        power(
            ("coordination.k8s.io", "leases"),
            CHANGE_OR_DELETE,
            If(is_lease_of_daemons),
            SYSTEM,
            LEASES,
        ),
        power(
            ("coordination.k8s.io", "leases"),
            CHANGE_OR_DELETE,
            Enough,
            Reach::In(&[Space::Leases]),
            LEASES,
        ),
        power((NETWORKING, "networkpolicies"), ANY_WRITE, Enough, SYSTEM, ISOLATION),
        power(
            ("policy.networking.k8s.io", "adminnetworkpolicies"),
            ANY_WRITE,
            Enough,
            Cluster,
            ISOLATION,
        ),
        power(
            ("policy.networking.k8s.io", "baselineadminnetworkpolicies"),
            ANY_WRITE,
            Enough,
            Cluster,
            ISOLATION,
        ),
        // Not even `admin` holds these: they bound what a namespace's owner may use.
        power(("", "resourcequotas"), ANY_WRITE, Enough, Anywhere, LIMITS),
        power(("", "limitranges"), ANY_WRITE, Enough, Anywhere, LIMITS),
        power((EXTENSIONS, "customresourcedefinitions"), ANY_WRITE, Enough, Cluster, CRDS),
        power((EXTENSIONS, "customresourcedefinitions/status"), CHANGE, Enough, Cluster, CRDS),
        power(("node.k8s.io", "runtimeclasses"), ANY_WRITE, Enough, Cluster, RUNTIMES),
        power(("scheduling.k8s.io", "priorityclasses"), WRITE, Enough, Cluster, PREEMPT),
        power((FLOW_CONTROL, "flowschemas"), ANY_WRITE, Enough, Cluster, STARVE),
        power((FLOW_CONTROL, "prioritylevelconfigurations"), ANY_WRITE, Enough, Cluster, STARVE),
        power((CERTIFICATES, "clustertrustbundles"), ANY_WRITE, Enough, Cluster, TRUST),
        power((CERTIFICATES, "signers"), &["attest"], If(is_own_signer), Cluster, TRUST),
    ]
};

fn is_mighty_group(name: &str) -> bool {
    // All accounts of the cluster are as good as the mightiest.
    const GROUPS: &[&str] = &[
        "system:masters",
        "system:nodes",
        "kubeadm:cluster-admins",
        "system:serviceaccounts",
        "system:serviceaccounts:kube-system",
    ];
    GROUPS.contains(&name)
}

fn is_mighty_user(name: &str) -> bool {
    const USERS: &[&str] = &[
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
    const MAPS: &[&str] = &[
        "coredns",
        "extension-apiserver-authentication",
        "kube-proxy",
        "kubeadm-config",
        "kubelet-config",
    ];
    MAPS.contains(&name)
}

fn is_cluster_info(name: &str) -> bool {
    name == "cluster-info"
}

/// Leases in kube-system: of those who lead, and of API servers.
fn is_lease_of_daemons(name: &str) -> bool {
    name.starts_with("kube-") || name.starts_with("apiserver-") || name.starts_with("cloud-")
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

/// Whether a rule has a verb of impersonation that no row knows: what may be done as another (`impersonate-on:...`), and what
/// a later release calls such rights.
fn impersonates(rule: &Value) -> bool {
    let known = |verb: &str| POWERS.iter().any(|p| p.verbs.contains(&verb));
    let verbs = list(rule, "/verbs").iter().filter_map(Value::as_str);
    verbs.into_iter().any(|v| v.starts_with("impersonate") && !known(v))
}

/// Whether a rule leaves nothing out that matters.
fn is_wildcard(rule: &Value) -> bool {
    let any = |at| list(rule, at).iter().any(|v| v == "*");
    // All of another group is worth what the table says of its resources; of somebody's own, that may be nothing.
    let of_core = || list(rule, "/apiGroups").iter().any(|g| g == "*" || g == "");
    any("/verbs") && (any("/nonResourceURLs") || any("/resources") && of_core())
}

/// What rules of a role are worth in a place, without doubles, the worst first.
pub(in crate::checks) fn powers<'v>(
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
    if rules.iter().any(impersonates) && !held.contains(&IMPERSONATE) {
        held.push(IMPERSONATE);
    }
    held
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HERE: Place = confined(Space::Other);
    const UNCONFINED: Place = Place::Namespace { space: Space::Other, unconfined: true };

    const fn confined(space: Space) -> Place {
        Place::Namespace { space, unconfined: false }
    }

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
        for power in POWERS {
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
                let held = |place| of(exact.clone(), place).contains(words);
                // Another row of the same resource may reach further.
                let reaches = |place| {
                    let same = POWERS.iter().filter(|p| {
                        (p.group, p.resource, p.words) == (*group, *resource, *words)
                            && p.verbs.contains(verb)
                    });
                    same.into_iter().any(|p| match (p.reach, place) {
                        (_, Place::Cluster) | (Reach::Anywhere, _) => true,
                        (Reach::Cluster, _) => false,
                        (Reach::In(spaces), Place::Namespace { space, .. }) => {
                            spaces.contains(&space)
                        }
                        (Reach::Pods, Place::Namespace { space, unconfined }) => {
                            unconfined || space == Space::System
                        }
                    })
                };
                let spaces =
                    [Space::System, Space::Leases, Space::Public, Space::Default].map(confined);
                for place in spaces.into_iter().chain([HERE, UNCONFINED]) {
                    assert_eq!(held(place), reaches(place), "{verb} {resource} in {place:?}");
                }
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
            ("", "configmaps", "patch", "cluster-info", "leases"),
            (CERTIFICATES, "signers", "attest", "kubernetes.io/kube-apiserver-serving", "a.b/c"),
        ] {
            assert!(named(group, resource, verb, mighty), "{verb} {mighty}");
            assert!(!named(group, resource, verb, harmless), "{verb} {harmless}");
        }
        let lease = |name: &str| {
            let rule = json!({"apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
                "verbs": ["update"], "resourceNames": [name]});
            of(rule, confined(Space::System))
        };
        assert_eq!(lease("kube-controller-manager"), [LEASES]);
        assert!(lease("cilium-operator").is_empty());
        assert!(named("", "serviceaccounts/token", "create", "clusterrole-aggregation-controller"));
        assert!(named("", "pods/exec", "create", "kube-proxy-x"));
        assert!(!named("", "secrets", "get", "my-certificate"));
    }

    /// Enhancement 5284, and what may come after it.
    #[test]
    fn every_verb_of_impersonation_is_a_power() {
        let held = |verb: &str, group: &str, resource: &str, place| {
            of(json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]}), place)
        };
        for verb in ["impersonate:arbitrary-node", "impersonate:associated-node"] {
            assert_eq!(held(verb, AUTHENTICATION, "nodes", Place::Cluster), [IMPERSONATE]);
        }
        for verb in ["impersonate-on:user-info:get", "impersonate:something-new"] {
            assert_eq!(held(verb, "", "pods", HERE), [IMPERSONATE], "{verb}");
        }
        assert!(held("impersonate", "", "serviceaccounts", HERE).is_empty());
    }

    #[test]
    fn all_of_ones_own_resources_is_not_everything() {
        let all = |group: &str| {
            of(json!({"apiGroups": [group], "resources": ["*"], "verbs": ["*"]}), Place::Cluster)
        };
        assert!(all("widgets.example.com").is_empty());
        for group in ["", "*"] {
            assert_eq!(all(group), [EVERYTHING], "{group:?}");
        }
        assert!(!all("rbac.authorization.k8s.io").is_empty());
    }

    #[test]
    fn wildcards_are_everything_in_any_namespace() {
        for place in [Place::Cluster, HERE, confined(Space::System)] {
            assert_eq!(of(ADMIN[0].clone(), place), [EVERYTHING]);
        }
    }
}
