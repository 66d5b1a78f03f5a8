//! A cluster as it should be fulfils every rule about objects, and one thing wrong breaks exactly the
//! rule that is about it.

use serde_json::{Value, json};

use super::model::{Outcome, Verdict};
use super::objects::{judge_objects, proxy_configuration};
use crate::controls::ApiRule;
use crate::facts::cluster::{ClusterFacts, Kind};
use crate::plan::cluster::PROBE_LABEL;
use crate::plan::policy;

fn binding(name: &str, role: &str, subjects: Value) -> Value {
    json!({"metadata": {"name": name}, "roleRef": {"kind": "ClusterRole", "name": role},
           "subjects": subjects})
}

fn role(name: &str, groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({"metadata": {"name": name},
           "rules": [{"apiGroups": groups, "resources": resources, "verbs": verbs}]})
}

fn container(image: &str) -> Value {
    json!({"name": "c", "image": image, "securityContext": {
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]}}})
}

fn pod(space: &str, name: &str, labels: Value, image: &str) -> Value {
    json!({"metadata": {"namespace": space, "name": name, "labels": labels},
           "spec": {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [container(image)]}})
}

fn named(space: &str, name: &str) -> Value {
    json!({"metadata": {"namespace": space, "name": name}})
}

/// Lists of a cluster that fulfils every rule, with one user namespace beside `default`.
fn good() -> Vec<(Kind, Vec<Value>)> {
    let admin = json!([{"kind": "Group", "name": "system:masters"}]);
    let controller = json!([{"kind": "ServiceAccount", "namespace": "kube-system", "name": "namespace-controller"}]);
    let alice = json!([{"kind": "User", "name": "alice"}]);
    let deny = |space: &str| {
        json!({"metadata": {"namespace": space, "name": "deny"},
               "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}})
    };
    let mut account = named("shop", "default");
    account["automountServiceAccountToken"] = json!(false);
    let [policy, binding_of_it] =
        policy::mount_nothing().map(|(kind, object)| (kind, vec![object]));
    vec![
        policy,
        binding_of_it,
        (Kind::JoinTokens, vec![]),
        (
            Kind::ConfigMaps,
            vec![
                named("default", "kube-root-ca.crt"),
                json!({"metadata": {"namespace": "kube-public", "name": "cluster-info"},
                       "data": {"kubeconfig": "x"}}),
                json!({"metadata": {"namespace": "kube-system", "name": "kube-proxy"},
                       "data": {"config.conf": "metricsBindAddress: 127.0.0.1:10249\n"}}),
            ],
        ),
        (Kind::Roles, vec![]),
        (
            Kind::RoleBindings,
            vec![json!({"metadata": {"namespace": "shop", "name": "edit"},
                "roleRef": {"kind": "ClusterRole", "name": "edit"}, "subjects": alice.clone()})],
        ),
        (
            Kind::ClusterRoles,
            vec![
                role("cluster-admin", &["*"], &["*"], &["*"]),
                role("edit", &[""], &["secrets", "pods"], &["get", "list", "create"]),
                role("view-nodes", &[""], &["nodes"], &["get", "list"]),
                role("system:controller:namespace-controller", &["*"], &["*"], &["delete", "list"]),
            ],
        ),
        (
            Kind::ClusterRoleBindings,
            vec![
                binding("cluster-admin", "cluster-admin", admin),
                binding(
                    "system:controller:namespace-controller",
                    "system:controller:namespace-controller",
                    controller,
                ),
                binding("nodes", "view-nodes", alice),
            ],
        ),
        (
            Kind::Namespaces,
            vec![
                named("", "default"),
                named("", "kube-system"),
                named("", "shop"),
                json!({"metadata": {"name": "gone"}, "status": {"phase": "Terminating"}}),
                json!({"metadata": {"name": "kubastion-probe-1", "labels": {PROBE_LABEL: "true"}}}),
            ],
        ),
        (
            Kind::ServiceAccounts,
            vec![account, named("kubastion-probe-1", "default"), named("gone", "default")],
        ),
        (Kind::NetworkPolicies, vec![deny("default"), deny("shop")]),
        (Kind::ResourceQuotas, vec![named("default", "q"), named("shop", "q")]),
        (Kind::LimitRanges, vec![named("default", "l"), named("shop", "l")]),
        (
            Kind::Pods,
            vec![
                pod("kube-system", "api", json!({"tier": "control-plane"}), "r.io/api:v1.36.2"),
                pod("kube-system", "dns", json!({"k8s-app": "kube-dns"}), "r.io/d@sha256:00"),
                pod("shop", "web", json!({}), "r.io:5000/web:latest"),
            ],
        ),
        (Kind::Services, vec![named("default", "kubernetes"), named("shop", "web")]),
        (
            Kind::ValidatingPolicies,
            vec![json!({"metadata": {"name": "env"}, "spec": {
                "matchConstraints": {"resourceRules": [{"resources": ["pods"]}]},
                "validations": [{"expression": "secretKeyRef"}, {"expression": "secretRef"}]}})],
        ),
        (
            Kind::ValidatingBindings,
            vec![json!({"metadata": {"name": "env"}, "spec": {"policyName": "env"}})],
        ),
    ]
}

fn facts(lists: Vec<(Kind, Vec<Value>)>) -> ClusterFacts {
    let mut facts = ClusterFacts::default();
    for (kind, items) in lists {
        facts.insert(kind, &mut json!({"items": items})).unwrap();
    }
    facts
}

fn failing(facts: &ClusterFacts) -> Vec<ApiRule> {
    let rules = ApiRule::ALL.into_iter().map(|(rule, _)| rule);
    rules.filter(|r| judge_objects(*r, facts).outcome() == Outcome::Fail).collect()
}

#[test]
fn a_cluster_as_it_should_be_fulfils_every_rule() {
    let facts = facts(good());
    for (rule, _) in ApiRule::ALL {
        let verdict = judge_objects(rule, &facts);
        assert_eq!(verdict.outcome(), Outcome::Pass, "{rule:?}: {verdict:?}");
    }
    let proxy = proxy_configuration(&facts).unwrap();
    assert_eq!(proxy["metricsBindAddress"], "127.0.0.1:10249");
}

/// Something added to a list, and the rules that it breaks.
fn additions() -> Vec<(Kind, Value, Vec<ApiRule>)> {
    let everybody = json!([{"kind": "Group", "name": "system:authenticated"}]);
    let anonymous = json!([{"kind": "User", "name": "system:anonymous"}]);
    let app = json!([{"kind": "ServiceAccount", "namespace": "shop", "name": "app"}]);
    let mut bare = pod("kube-system", "kcm", json!({"tier": "control-plane"}), "r.io/kcm:v1.36.2");
    bare["spec"]["containers"][0]["securityContext"] = json!({"allowPrivilegeEscalation": false});
    let mut init = pod("kube-system", "cni", json!({}), "r.io/cni:v1.2");
    init["spec"]["initContainers"] = json!([{"image": "r.io/cni"}]);
    vec![
        (Kind::JoinTokens, named("kube-system", "bootstrap-token-x"), vec![ApiRule::NoJoinTokens]),
        (
            Kind::ClusterRoleBindings,
            binding("anon", "view-nodes", anonymous),
            vec![ApiRule::NoAnonymousBindings, ApiRule::MinimalRbac],
        ),
        (
            Kind::ClusterRoleBindings,
            binding("app", "cluster-admin", app.clone()),
            vec![ApiRule::MinimalRbac],
        ),
        (
            // The name of a default does not make one.
            Kind::ClusterRoleBindings,
            binding("kubeadm:cluster-admins", "cluster-admin", app.clone()),
            vec![ApiRule::MinimalRbac],
        ),
        (Kind::ClusterRoleBindings, binding("app", "edit", app), vec![ApiRule::MinimalRbac]),
        (
            Kind::ClusterRoleBindings,
            binding("all", "view-nodes", everybody),
            vec![ApiRule::MinimalRbac],
        ),
        (Kind::ClusterRoles, role("more", &["*"], &["*"], &["*"]), vec![ApiRule::MinimalRbac]),
        (
            Kind::ServiceAccounts,
            named("default", "default"),
            vec![ApiRule::DefaultAccountsMountNothing],
        ),
        (Kind::Namespaces, named("", "new"), vec![ApiRule::DefaultDeny, ApiRule::QuotasAndLimits]),
        (
            // Nor is a name of Kubernetes' kind a way to hide one.
            Kind::Namespaces,
            named("", "kube-attic"),
            vec![ApiRule::DefaultDeny, ApiRule::QuotasAndLimits],
        ),
        (
            // Whoever may label a namespace must not be able to hide it.
            Kind::Namespaces,
            json!({"metadata": {"name": "new", "labels": {PROBE_LABEL: "true"}}}),
            vec![ApiRule::DefaultDeny, ApiRule::QuotasAndLimits],
        ),
        (
            Kind::Pods,
            pod("kube-system", "x", json!({}), "r.io:5000/x"),
            vec![ApiRule::ImagesPinned],
        ),
        (Kind::Pods, init, vec![ApiRule::ImagesPinned]),
        (Kind::Pods, bare, vec![ApiRule::SystemPodsHardened]),
        (Kind::Pods, pod("default", "x", json!({}), "r.io/x:v1.0"), vec![ApiRule::NamespacesClean]),
        (Kind::Services, named("kube-public", "x"), vec![ApiRule::NamespacesClean]),
        (
            Kind::Pods,
            pod("ui", "d", json!({"k8s-app": "kubernetes-dashboard"}), "r.io/d:v1.0"),
            vec![ApiRule::NoRetiredAddOns],
        ),
    ]
}

#[test]
fn one_thing_wrong_breaks_exactly_its_rule() {
    for (kind, object, mut expected) in additions() {
        let mut lists = good();
        let list = lists.iter_mut().find(|(k, _)| *k == kind).unwrap();
        list.1.push(object.clone());
        let mut failing = failing(&facts(lists));
        failing.sort();
        expected.sort();
        assert_eq!(failing, expected, "{object}");
    }
}

#[test]
fn what_is_there_has_to_do_what_it_is_for() {
    type Change = fn(&mut Value);
    let table: [(Kind, Change, ApiRule); 9] = [
        (
            Kind::NetworkPolicies,
            |p| p["spec"]["podSelector"] = json!({"matchLabels": {"a": "b"}}),
            ApiRule::DefaultDeny,
        ),
        (
            Kind::NetworkPolicies,
            |p| p["spec"]["policyTypes"] = json!(["Ingress"]),
            ApiRule::DefaultDeny,
        ),
        (Kind::NetworkPolicies, |p| p["spec"]["egress"] = json!([{}]), ApiRule::DefaultDeny),
        (
            Kind::ServiceAccounts,
            |a| a["automountServiceAccountToken"] = json!(true),
            ApiRule::DefaultAccountsMountNothing,
        ),
        (
            Kind::MutatingPolicies,
            |p| p["spec"]["mutations"] = json!([]),
            ApiRule::NewAccountsMountNothing,
        ),
        (
            Kind::MutatingBindings,
            |b| b["spec"]["policyName"] = json!("other"),
            ApiRule::NewAccountsMountNothing,
        ),
        (
            Kind::ValidatingBindings,
            |b| b["spec"]["policyName"] = json!("other"),
            ApiRule::SecretsNotInEnvironment,
        ),
        (
            Kind::ClusterRoleBindings,
            |b| b["subjects"] = json!([{"kind": "Group", "name": "devs"}]),
            ApiRule::MinimalRbac,
        ),
        (Kind::Pods, |p| p["spec"]["securityContext"] = json!({}), ApiRule::SystemPodsHardened),
    ];
    for (kind, change, rule) in table {
        let mut lists = good();
        change(&mut lists.iter_mut().find(|(k, _)| *k == kind).unwrap().1[0]);
        assert_eq!(failing(&facts(lists)), [rule]);
    }
    let mut signed = good();
    let maps = &mut signed.iter_mut().find(|(k, _)| *k == Kind::ConfigMaps).unwrap().1;
    maps[1]["data"]["jws-kubeconfig-abcdef"] = json!("x");
    assert_eq!(failing(&facts(signed)), [ApiRule::NoJoinTokens]);
}

/// `good()` with a default binding of `subject` to a role that holds `rule`.
fn with_default_role(called: &str, subject: Value, resource: &str, verb: &str) -> ClusterFacts {
    let mut lists = good();
    let mut put = |kind, object| lists.iter_mut().find(|(k, _)| *k == kind).unwrap().1.push(object);
    put(Kind::ClusterRoles, role(called, &["", "apps"], &[resource], &[verb]));
    put(Kind::ClusterRoleBindings, binding(called, called, json!([subject])));
    facts(lists)
}

#[test]
fn a_default_role_that_has_grown_is_no_default() {
    let everybody = || json!({"kind": "Group", "name": "system:authenticated"});
    let account =
        |name: &str| json!({"kind": "ServiceAccount", "namespace": "kube-system", "name": name});
    let grown = with_default_role("system:basic-user", everybody(), "secrets", "get");
    assert_eq!(failing(&grown), [ApiRule::MinimalRbac]);
    let as_it_comes =
        with_default_role("system:basic-user", everybody(), "selfsubjectreviews", "create");
    assert!(failing(&as_it_comes).is_empty());
    // Called like a controller of Kubernetes, which it is not.
    for (resource, verb) in [("secrets", "list"), ("daemonsets", "create")] {
        let posing =
            with_default_role("system:controller:backdoor", account("backdoor"), resource, verb);
        assert_eq!(failing(&posing), [ApiRule::MinimalRbac], "{resource}");
    }
    let name = "system:controller:job-controller";
    let own = with_default_role(name, account("job-controller"), "pods", "create");
    assert!(failing(&own).is_empty());

    let mut lists = good();
    let mut put = |kind, object| lists.iter_mut().find(|(k, _)| *k == kind).unwrap().1.push(object);
    let called = "system::leader-locking-backdoor";
    let mut own = role(called, &[""], &["secrets"], &["get"]);
    let mut by = binding(called, called, json!([account("backdoor")]));
    by["roleRef"]["kind"] = json!("Role");
    for object in [&mut own, &mut by] {
        object["metadata"]["namespace"] = json!("kube-system");
    }
    put(Kind::Roles, own);
    put(Kind::RoleBindings, by);
    assert_eq!(failing(&facts(lists)), [ApiRule::MinimalRbac]);
}

#[test]
fn what_could_not_be_read_is_unknown() {
    for (rule, _) in ApiRule::ALL {
        let verdict = judge_objects(rule, &ClusterFacts::default());
        assert_eq!(verdict.outcome(), Outcome::Unknown, "{rule:?}");
    }
    // One list fewer never makes a failure, and an empty answer proves nothing.
    let empty = facts(good().into_iter().map(|(k, _)| (k, Vec::new())).collect());
    let holds = [ApiRule::NoJoinTokens, ApiRule::NamespacesClean];
    for (rule, _) in ApiRule::ALL.into_iter().filter(|(r, _)| !holds.contains(r)) {
        let verdict = judge_objects(rule, &empty);
        assert!(!matches!(verdict, Verdict::Pass { .. }), "{rule:?}: {verdict:?}");
    }
    assert!(proxy_configuration(&empty).is_err());
}
