//! A cluster as it should be fulfils every rule about objects, and one thing wrong breaks exactly the
//! rule that is about it.

mod addons;
mod good;
mod granted;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use time::macros::{date, datetime};

use crate::checks::cluster::objects::judge_objects;
use crate::checks::cluster::reading::Reference;
use crate::checks::cluster::reading::{Cluster, proxy_configuration};
use crate::checks::cluster::sources::lists_of;
use crate::checks::model::{Outcome, Verdict};
use crate::controls::ApiRule;
use crate::desired::objects::mount_nothing;
use crate::facts::cluster::PROBE_LABEL;
use crate::facts::cluster::{ClusterFacts, Kind};
use crate::inventory::{Inventory, Software, SoftwareFile, SoftwareKind, testing};
use good::*;

#[test]
fn a_cluster_as_it_should_be_fulfils_every_rule() {
    let facts = facts(good());
    for (rule, _) in ApiRule::ALL {
        let verdict = judge(rule, &facts);
        assert_eq!(verdict.outcome(), Outcome::Pass, "{rule:?}: {verdict:?}");
    }
    let proxy = proxy_configuration(&facts).unwrap();
    assert_eq!(proxy["metricsBindAddress"], "127.0.0.1:10249");
}

/// A pod with the node's root directory.
fn breaking(space: &str) -> Value {
    let mut pod = pod(space, "x", json!({}), "r.io/x:v1.0");
    pod["spec"]["hostPID"] = json!(true);
    pod["spec"]["containers"][0]["securityContext"]["privileged"] = json!(true);
    pod["spec"]["volumes"] = json!([{"name": "root", "hostPath": {"path": "/"}}]);
    pod
}

fn role_binding(space: &str, name: &str, role: &str) -> Value {
    json!({"metadata": {"namespace": space, "name": name},
           "roleRef": {"kind": "ClusterRole", "name": role},
           "subjects": [{"kind": "ServiceAccount", "namespace": "shop", "name": "app"}]})
}

fn webhook(name: &str, failure_policy: &str) -> Value {
    json!({"metadata": {"name": name}, "webhooks": [{
        "name": "a.b.c", "failurePolicy": failure_policy,
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "operations": ["*"]}]}]})
}

/// Something added to a list, and the rules that it breaks.
fn additions() -> Vec<(Kind, Value, Vec<ApiRule>)> {
    let group = |name: &str| json!([{"kind": "Group", "name": name}]);
    let everybody = group("system:authenticated");
    let anonymous = json!([{"kind": "User", "name": "system:anonymous"}]);
    let app = json!([{"kind": "ServiceAccount", "namespace": "shop", "name": "app"}]);
    let mut bare = static_pod("kube-controller-manager", "cp1", "r.io/kcm:v1.36.2");
    bare["spec"]["containers"][0]["securityContext"] = json!({"allowPrivilegeEscalation": false});
    let mut init = pod("kube-system", "cni", json!({}), "r.io/cni:v1.2");
    init["spec"]["initContainers"] = json!([{"image": "r.io/cni"}]);
    vec![
        (Kind::JoinTokens, named("kube-system", "bootstrap-token-x"), vec![ApiRule::NoJoinTokens]),
        (
            Kind::AccountTokens,
            named("kube-system", "clusterrole-aggregation-controller-token"),
            vec![ApiRule::NoLastingTokens],
        ),
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
        (Kind::RoleBindings, role_binding("shop", "app", "janitor"), vec![ApiRule::MinimalRbac]),
        (
            Kind::ClusterRoleBindings,
            binding("shop", "view-nodes", group("system:serviceaccounts:shop")),
            vec![ApiRule::MinimalRbac],
        ),
        (
            Kind::ClusterRoleBindings,
            binding("nodes", "view-nodes", group("system:nodes")),
            vec![ApiRule::MinimalRbac],
        ),
        (
            Kind::ClusterRoleBindings,
            binding("w1", "view-nodes", json!([{"kind": "User", "name": "system:node:w1"}])),
            vec![ApiRule::MinimalRbac],
        ),
        (
            Kind::RoleBindings,
            {
                let mut binding = role_binding("shop", "w1", "view-nodes");
                binding["subjects"] = json!([{"kind": "User", "name": "system:node:w1"}]);
                binding
            },
            vec![ApiRule::MinimalRbac],
        ),
        (
            Kind::ClusterRoleBindings,
            binding("joining", "view-nodes", group("system:bootstrappers:mine")),
            vec![ApiRule::MinimalRbac],
        ),
        (
            // A default role that allows more than it came with, however harmless.
            Kind::ClusterRoles,
            role("system:basic-user", &[""], &["events"], &["get"]),
            vec![ApiRule::MinimalRbac],
        ),
        (
            Kind::Roles,
            {
                let mut reader = role("kube-proxy", &[""], &["configmaps"], &["get"]);
                reader["metadata"]["namespace"] = json!("kube-system");
                reader
            },
            vec![ApiRule::MinimalRbac],
        ),
        (
            // What `view` is made of.
            Kind::ClusterRoles,
            {
                let mut part = role("see-more", &[""], &["secrets"], &["get"]);
                part["metadata"]["labels"] =
                    json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
                part
            },
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
        (Kind::Pods, init, vec![ApiRule::ImagesPinned, ApiRule::PodsWithinStandard]),
        (Kind::Pods, bare, vec![ApiRule::SystemPodsHardened]),
        (Kind::Pods, pod("default", "x", json!({}), "r.io/x:v1.0"), vec![ApiRule::NamespacesClean]),
        (Kind::Pods, breaking("shop"), vec![ApiRule::PodsWithinStandard]),
        (Kind::Pods, breaking("kube-system"), vec![ApiRule::PodsWithinStandard]),
        (
            // Called like a static pod, and made by somebody.
            Kind::Pods,
            {
                let mut posing = static_pod("kube-scheduler", "cp1", "r.io/ks:v1.36.2");
                posing["metadata"]["annotations"] = json!({});
                posing
            },
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            Kind::Pods,
            {
                let mut posing = static_pod("kube-scheduler", "cp1", "r.io/ks:v1.36.2");
                posing["metadata"]["ownerReferences"][0]["uid"] = json!("of-another");
                posing
            },
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            Kind::Pods,
            {
                let mut posing = static_pod("kube-scheduler", "cp1", "r.io/ks:v1.36.2");
                posing["metadata"]["ownerReferences"][0]["controller"] = json!(false);
                posing
            },
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            // No static pod of a worker is Kubernetes', and etcd is none.
            Kind::Pods,
            static_pod("kube-scheduler", "w1", "r.io/ks:v1.36.2"),
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            Kind::Pods,
            static_pod("etcd", "cp1", "r.io/etcd:v3.6.8"),
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            // However harmless it looks: what the file says is not known.
            Kind::Pods,
            {
                let mut mirror = pod("shop", "web-w1", json!({}), "r.io/web:v1.0");
                mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "00",
                    "kubernetes.io/config.source": "file"});
                mirror
            },
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            Kind::Pods,
            {
                let mut other = proxy_pod();
                other["spec"]["containers"][0]["image"] = json!("r.io/kube-proxy:v1.36.2");
                other
            },
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            Kind::Pods,
            {
                let mut other = proxy_pod();
                other["spec"]["containers"][0]["command"] = json!(["/bin/sh"]);
                other
            },
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            Kind::Pods,
            {
                let mut other = with_token(proxy_pod());
                other["spec"]["volumes"][3]["projected"]["sources"][0] =
                    json!({"secret": {"name": "x"}});
                other
            },
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            // Beside the one that the Deployment made.
            Kind::ReplicaSets,
            {
                let mut root = dns_pod();
                root["spec"]["securityContext"]["runAsNonRoot"] = json!(false);
                maker("kube-system", "coredns-evil", &root)
            },
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            // What has ended was let in all the same.
            Kind::Pods,
            {
                let mut ended = breaking("shop");
                ended["status"] = json!({"phase": "Succeeded"});
                ended
            },
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            Kind::NetworkPolicies,
            json!({"metadata": {"namespace": "shop", "name": "allow"}, "spec": {
                "podSelector": {}, "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"namespaceSelector": {}}]}]}}),
            vec![ApiRule::DefaultDeny],
        ),
        (
            // Ports of two rules; `network_policies` has those of several policies.
            Kind::NetworkPolicies,
            json!({"metadata": {"namespace": "shop", "name": "halves"}, "spec": {
                "podSelector": {}, "policyTypes": ["Egress"], "egress": [
                    {"ports": [{"port": 1, "endPort": 30000}]},
                    {"ports": [{"port": 30001, "endPort": 60000}]}]}}),
            vec![ApiRule::DefaultDeny],
        ),
        (
            Kind::Namespaces,
            json!({"metadata": {"name": "kubastion-probe-2", "labels": {
                PROBE_LABEL: "true", "pod-security.kubernetes.io/enforce": "privileged"}}}),
            vec![ApiRule::NamespaceLevels],
        ),
        (
            Kind::RoleBindings,
            role_binding("shop", "app", "cluster-admin"),
            vec![ApiRule::MinimalRbac],
        ),
        (
            Kind::RoleBindings,
            role_binding("kube-system", "app", "edit"),
            vec![ApiRule::MinimalRbac],
        ),
        (
            Kind::ClusterRoleBindings,
            binding(
                "kubeadm:kubelet-bootstrap",
                "system:node-bootstrapper",
                json!([{"kind": "Group", "name": "system:bootstrappers:kubeadm:default-node-token"}]),
            ),
            vec![ApiRule::NoBootstrapBindings],
        ),
        (Kind::ValidatingWebhooks, webhook("look", "Fail"), vec![ApiRule::WebhooksKnown]),
        (Kind::MutatingWebhooks, webhook("change", "Fail"), vec![ApiRule::WebhooksKnown]),
        (Kind::MutatingPolicies, named("", "change"), vec![ApiRule::WebhooksKnown]),
        (
            Kind::CustomResources,
            converted("b.example.com", json!({"url": "https://192.0.2.1/"})),
            vec![ApiRule::WebhooksKnown],
        ),
        (
            Kind::CsiDrivers,
            json!({"metadata": {"name": "b"}, "spec": {"tokenRequests": [{"audience": ""}]}}),
            vec![ApiRule::WebhooksKnown],
        ),
        (
            Kind::ApiServices,
            json!({"metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": {
                "service": {"namespace": "kube-system", "name": "metrics-server"}}}),
            vec![ApiRule::AggregatedApisKnown],
        ),
        (Kind::Nodes, named("", "stranger"), vec![ApiRule::NodesKnown]),
        (
            Kind::SigningRequests,
            approved("kubeadm:cluster-admins", "x"),
            vec![ApiRule::MinimalRbac],
        ),
        (
            // Another node's address.
            Kind::SigningRequests,
            of_a_kubelet("kubelet-serving", "w1", &["w1", "10.0.0.1"]),
            vec![ApiRule::MinimalRbac],
        ),
        (
            Kind::SigningRequests,
            {
                let mut client = of_a_kubelet("kube-apiserver-client-kubelet", "w1", &[]);
                client["spec"]["username"] = json!("alice");
                client
            },
            vec![ApiRule::MinimalRbac],
        ),
        (
            // One node for another.
            Kind::SigningRequests,
            {
                let mut client = of_a_kubelet("kube-apiserver-client-kubelet", "w1", &[]);
                client["spec"]["username"] = json!("system:node:w2");
                client
            },
            vec![ApiRule::MinimalRbac],
        ),
        (
            Kind::SigningRequests,
            approved("x", "system:kube-controller-manager"),
            vec![ApiRule::MinimalRbac],
        ),
        (
            Kind::PersistentVolumes,
            json!({"metadata": {"name": "root"}, "spec": {"hostPath": {"path": "/"}}}),
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            Kind::PersistentVolumes,
            json!({"metadata": {"name": "etc"}, "spec": {"local": {"path": "/srv/../etc"}}}),
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            Kind::Pods,
            {
                let mut asking = pod("shop", "x", json!({}), "r.io/x:v1.0");
                asking["spec"]["automountServiceAccountToken"] = json!(true);
                asking
            },
            vec![ApiRule::DefaultAccountsMountNothing],
        ),
        (
            Kind::Deployments,
            {
                let mut asking = pod("shop", "x", json!({}), "r.io/x:v1.0");
                asking["spec"]["serviceAccountName"] = json!("default");
                asking["spec"]["automountServiceAccountToken"] = json!(true);
                maker("shop", "x", &asking)
            },
            vec![ApiRule::DefaultAccountsMountNothing],
        ),
        (
            // Scaled to nothing for now.
            Kind::Deployments,
            maker("shop", "zero", &json!({"spec": {"hostPID": true, "containers": []}})),
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            Kind::CronJobs,
            json!({"metadata": {"namespace": "kube-system", "name": "at-three"}, "spec": {"jobTemplate":
                {"spec": {"template": {"spec": {"hostPID": true, "containers": []}}}}}}),
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            // Another one's name, and not its container.
            Kind::DaemonSets,
            maker("kube-system", "kube-proxy", &{
                let mut two = proxy_pod();
                let second = json!({"name": "second", "securityContext": {"privileged": true}});
                two["spec"]["containers"].as_array_mut().unwrap().push(second);
                two
            }),
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            Kind::DaemonSets,
            maker("kube-system", "kube-proxy", &{
                let mut whole = proxy_pod();
                whole["spec"]["volumes"] = json!([{"name": "m", "hostPath": {"path": "/"}}]);
                whole
            }),
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            Kind::EndpointSlices,
            slice("kube-system", "kube-dns", "192.0.2.7"),
            vec![ApiRule::ServiceEndpointsKnown],
        ),
        (
            // A node's address is no pod of CoreDNS.
            Kind::EndpointSlices,
            slice("kube-system", "kube-dns", "10.0.0.3"),
            vec![ApiRule::ServiceEndpointsKnown],
        ),
        (
            Kind::EndpointSlices,
            {
                let mut other = slice("kube-system", "kube-dns", "10.244.0.2");
                other["ports"] = json!([{"port": 5353}]);
                other
            },
            vec![ApiRule::ServiceEndpointsKnown],
        ),
        (
            // A pod of somebody else's.
            Kind::EndpointSlices,
            slice("kube-system", "stray", "10.244.9.9"),
            vec![ApiRule::ServiceEndpointsKnown],
        ),
        (
            Kind::Services,
            json!({"metadata": {"namespace": "shop", "name": "taker"},
                   "spec": {"type": "LoadBalancer"},
                   "status": {"loadBalancer": {"ingress": [{"ip": "10.96.0.10"}]}}}),
            vec![ApiRule::ServiceEndpointsKnown],
        ),
        (
            Kind::Services,
            json!({"metadata": {"namespace": "kube-system", "name": "away"},
                   "spec": {"type": "ExternalName", "externalName": "x.example.com"}}),
            vec![ApiRule::ServiceEndpointsKnown],
        ),
        (
            Kind::ServiceCidrs,
            json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.0.0.0/24"]}}),
            vec![ApiRule::ServiceEndpointsKnown],
        ),
        (
            // Wider than what it is in.
            Kind::ServiceCidrs,
            json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.0.0.0/8"]}}),
            vec![ApiRule::ServiceEndpointsKnown],
        ),
        (
            Kind::Services,
            json!({"metadata": {"namespace": "shop", "name": "taker"}, "spec": {
                "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}}),
            vec![ApiRule::ServiceEndpointsKnown],
        ),
        (
            Kind::FlowSchemas,
            flow_schema("first", 3, "exempt", "system:serviceaccounts:shop"),
            vec![ApiRule::FlowControlKnown],
        ),
        (
            Kind::FlowSchemas,
            flow_schema("first", 3, "workload-high", "system:unauthenticated"),
            vec![ApiRule::FlowControlKnown],
        ),
        (
            Kind::FlowSchemas,
            {
                let mut any = flow_schema("first", 3, "workload-high", "x");
                any["spec"]["rules"][0]["subjects"] =
                    json!([{"kind": "User", "user": {"name": "*"}}]);
                any
            },
            vec![ApiRule::FlowControlKnown],
        ),
        (
            Kind::FlowSchemas,
            {
                let mut kept = flow_schema("system-node-high", 400, "catch-all", "system:nodes");
                kept["metadata"]["annotations"] =
                    json!({"apf.kubernetes.io/autoupdate-spec": "false"});
                kept
            },
            vec![ApiRule::FlowControlKnown],
        ),
        (Kind::PriorityLevels, priority_level("wide", 100_000), vec![ApiRule::FlowControlKnown]),
        (
            Kind::RuntimeClasses,
            json!({"metadata": {"name": "bare"}, "handler": "bare"}),
            vec![ApiRule::RuntimeClassesKnown],
        ),
        (
            Kind::RuntimeClasses,
            json!({"metadata": {"name": "anywhere"}, "handler": "runc",
                   "scheduling": {"tolerations": [{"operator": "Exists"}]}}),
            vec![ApiRule::RuntimeClassesKnown],
        ),
        (
            // Restricted, and with the rights of a controller.
            Kind::Pods,
            {
                let mut pod = pod("kube-system", "x", json!({}), "r.io/x:v1.0");
                pod["spec"]["serviceAccountName"] = json!("clusterrole-aggregation-controller");
                pod
            },
            vec![ApiRule::MinimalRbac],
        ),
        (
            Kind::Deployments,
            {
                let mut pod = pod("kube-system", "x", json!({}), "r.io/x:v1.0");
                pod["spec"]["serviceAccountName"] = json!("token-cleaner");
                maker("kube-system", "x", &pod)
            },
            vec![ApiRule::MinimalRbac],
        ),
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
fn what_a_plan_would_change_is_a_finding() {
    let mut lists = good();
    let accounts = lists.iter_mut().find(|(k, _)| *k == Kind::ServiceAccounts).unwrap();
    for account in &mut accounts.1 {
        account["automountServiceAccountToken"] = json!(true);
    }
    let verdict = judge(ApiRule::NoPendingChange, &facts(lists.clone()));
    assert!(
        format!("{verdict:?}").contains("automountServiceAccountToken: true -> false"),
        "{verdict:?}"
    );
    let mut part = facts(lists);
    part.objects.remove(&Kind::SigningRequests);
    assert_eq!(judge(ApiRule::NoPendingChange, &part).outcome(), Outcome::Unknown);
}

/// Without its Node, a kubelet runs on, and is judged by nobody.
#[test]
fn a_node_that_is_not_in_the_cluster_is_named() {
    for gone in ["w1", "cp2"] {
        let mut lists = good();
        let nodes = &mut lists.iter_mut().find(|(k, _)| *k == Kind::Nodes).unwrap().1;
        nodes.retain(|n| n["metadata"]["name"] != gone);
        let verdict = judge(ApiRule::NodesKnown, &facts(lists));
        let Verdict::Fail { actual, .. } = verdict else { panic!("{verdict:?}") };
        let said = format!("{gone} is in the inventory and not in the cluster");
        assert!(actual.contains(&said), "{actual}");
    }
}

/// Every rule has a way to be false of its own: one that nothing breaks proves nothing.
#[test]
fn every_rule_can_be_broken() {
    let added = additions().into_iter().flat_map(|(_, _, rules)| rules);
    let changed = changes().into_iter().map(|(_, _, rule)| rule);
    let by_a_plan = std::iter::once(ApiRule::NoPendingChange);
    let in_maps = MAP_CHANGES.iter().map(|(.., rule)| *rule);
    let broken: BTreeSet<ApiRule> = added.chain(changed).chain(in_maps).chain(by_a_plan).collect();
    for (rule, _) in ApiRule::ALL {
        assert!(broken.contains(&rule), "nothing breaks {rule:?}: add to additions() or changes()");
    }
}

type Change = fn(&mut Value);

/// Something made weaker in the first object of a list, and the rule that it breaks.
fn changes() -> Vec<(Kind, Change, ApiRule)> {
    vec![
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
        (Kind::ResourceQuotas, |q| q["spec"]["hard"] = json!({}), ApiRule::QuotasAndLimits),
        (
            Kind::ResourceQuotas,
            |q| q["spec"]["hard"]["pods"] = json!("100000000"),
            ApiRule::QuotasAndLimits,
        ),
        (
            Kind::ResourceQuotas,
            |q| q["spec"]["scopes"] = json!(["BestEffort"]),
            ApiRule::QuotasAndLimits,
        ),
        (Kind::LimitRanges, |l| l["spec"]["limits"] = json!([]), ApiRule::QuotasAndLimits),
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
            // An account is in a namespace.
            Kind::MutatingPolicies,
            |p| {
                p["spec"]["matchConstraints"]["resourceRules"][0]["scope"] = json!("Cluster");
            },
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
            Kind::ValidatingBindings,
            |b| b["spec"]["validationActions"] = json!(["Audit", "Warn"]),
            ApiRule::SecretsNotInEnvironment,
        ),
        (
            Kind::ValidatingBindings,
            |b| {
                b["spec"]["matchResources"]["namespaceSelector"] =
                    json!({"matchLabels": {"checked": "yes"}});
            },
            ApiRule::SecretsNotInEnvironment,
        ),
        (
            Kind::ValidatingBindings,
            |b| b["spec"]["paramRef"] = json!({"name": "x"}),
            ApiRule::SecretsNotInEnvironment,
        ),
        (
            Kind::ValidatingPolicies,
            |p| p["spec"]["failurePolicy"] = json!("Ignore"),
            ApiRule::SecretsNotInEnvironment,
        ),
        (
            Kind::ValidatingPolicies,
            |p| {
                p["spec"]["matchConstraints"]["namespaceSelector"] =
                    json!({"matchLabels": {"checked": "yes"}});
            },
            ApiRule::SecretsNotInEnvironment,
        ),
        (
            Kind::ValidatingPolicies,
            |p| p["spec"]["matchConditions"] = json!([{"name": "never", "expression": "false"}]),
            ApiRule::SecretsNotInEnvironment,
        ),
        (
            Kind::ValidatingPolicies,
            |p| {
                p["spec"]["matchConstraints"]["resourceRules"][0]["operations"] = json!(["DELETE"]);
            },
            ApiRule::SecretsNotInEnvironment,
        ),
        (
            Kind::ClusterRoleBindings,
            |b| b["subjects"] = json!([{"kind": "Group", "name": "devs"}]),
            ApiRule::MinimalRbac,
        ),
        (Kind::Pods, |p| p["spec"]["securityContext"] = json!({}), ApiRule::SystemPodsHardened),
        (
            // One of Kubernetes' own may do what it needs, and no more.
            Kind::Pods,
            |p| p["spec"]["hostPID"] = json!(true),
            ApiRule::PodsWithinStandard,
        ),
        (
            Kind::Pods,
            |p| p["metadata"]["ownerReferences"] = json!([{"kind": "Node", "name": "stranger"}]),
            ApiRule::PodsWithinStandard,
        ),
        (Kind::Pods, |p| p["metadata"]["ownerReferences"] = json!([]), ApiRule::PodsWithinStandard),
        (
            // Warnings keep nobody from anything.
            Kind::Namespaces,
            |n| {
                n["metadata"]["labels"] = json!({"pod-security.kubernetes.io/warn": "restricted",
                    "pod-security.kubernetes.io/audit": "restricted",
                    "pod-security.kubernetes.io/enforce": "baseline"});
            },
            ApiRule::NamespaceLevels,
        ),
        (
            Kind::Namespaces,
            |n| {
                n["metadata"]["labels"] = json!({"pod-security.kubernetes.io/enforce": "restricted",
                    "pod-security.kubernetes.io/enforce-version": "v1.20"});
            },
            ApiRule::NamespaceLevels,
        ),
        (
            Kind::Namespaces,
            |n| n["metadata"]["labels"] = json!({"pod-security.kubernetes.io/enforce": "strict"}),
            ApiRule::NamespaceLevels,
        ),
        (
            Kind::ApiServices,
            |s| s["spec"]["service"] = json!({"namespace": "shop", "name": "api"}),
            ApiRule::AggregatedApisKnown,
        ),
        (Kind::Nodes, |n| n["spec"]["taints"] = json!([]), ApiRule::NodesKnown),
        (
            Kind::EndpointSlices,
            |s| s["endpoints"][0]["addresses"] = json!(["192.0.2.7"]),
            ApiRule::ServiceEndpointsKnown,
        ),
        (
            Kind::Leases,
            |l| l["spec"]["holderIdentity"] = json!("stranger"),
            ApiRule::ControllersLead,
        ),
        (
            // A worker.
            Kind::Leases,
            |l| l["spec"]["holderIdentity"] = json!("w1_1"),
            ApiRule::ControllersLead,
        ),
        (
            Kind::Leases,
            |l| l["spec"]["renewTime"] = json!("2026-01-15T11:50:00.000000Z"),
            ApiRule::ControllersLead,
        ),
        (
            Kind::Leases,
            |l| l["spec"]["renewTime"] = json!("2999-01-15T11:50:00.000000Z"),
            ApiRule::ControllersLead,
        ),
        (Kind::Leases, |l| l["metadata"]["name"] = json!("other"), ApiRule::ControllersLead),
        (
            Kind::EndpointSlices,
            |s| s["ports"][0]["port"] = json!(8443),
            ApiRule::ServiceEndpointsKnown,
        ),
        (Kind::Services, |s| s["spec"]["type"] = json!("NodePort"), ApiRule::ServiceEndpointsKnown),
        (
            Kind::Services,
            |s| s["spec"]["clusterIPs"] = json!(["10.96.0.7"]),
            ApiRule::ServiceEndpointsKnown,
        ),
        (
            Kind::Services,
            |s| s["spec"]["sessionAffinity"] = json!("ClientIP"),
            ApiRule::ServiceEndpointsKnown,
        ),
        (
            Kind::Services,
            |s| s["spec"]["ports"][0]["targetPort"] = json!(8443),
            ApiRule::ServiceEndpointsKnown,
        ),
        (
            Kind::Services,
            |s| {
                s["spec"]["ports"].as_array_mut().unwrap().push(json!({"port": 80}));
            },
            ApiRule::ServiceEndpointsKnown,
        ),
        (
            Kind::Services,
            |s| s["spec"]["externalIPs"] = json!(["192.0.2.7"]),
            ApiRule::ServiceEndpointsKnown,
        ),
        (
            // Of a type that no balancer answers for.
            Kind::Services,
            |s| s["status"]["loadBalancer"]["ingress"] = json!([{"ip": "192.0.2.7"}]),
            ApiRule::ServiceEndpointsKnown,
        ),
    ]
}

/// A ConfigMap of Kubernetes' own, something that is changed in it, and the rule that this breaks.
const MAP_CHANGES: [(&str, &str, &str, ApiRule); 41] = {
    use ApiRule::{
        ClusterInfo, DnsConfiguration, ExtensionCas, KubeadmConfiguration, ProxyConfiguration,
        ProxyKubeconfig,
    };
    const EXTENSION: &str = "extension-apiserver-authentication";
    const ANOTHER: &str = "-----BEGIN CERTIFICATE-----\nCCCC\n-----END CERTIFICATE-----\n-----B";
    [
        (EXTENSION, "-----B", ANOTHER, ExtensionCas),
        (EXTENSION, "AAAA", "CCCC", ExtensionCas),
        (EXTENSION, "BBBB", "AAAA", ExtensionCas),
        ("kube-proxy", "https://api:6443", "https://192.0.2.1:6443", ProxyKubeconfig),
        (
            "kube-proxy",
            "    server",
            "    insecure-skip-tls-verify: true\n    server",
            ProxyKubeconfig,
        ),
        (
            "kube-proxy",
            "    server",
            "    proxy-url: http://192.0.2.1\n    server",
            ProxyKubeconfig,
        ),
        ("kube-proxy", "serviceaccount/ca.crt", "serviceaccount/token", ProxyKubeconfig),
        ("kube-proxy", "serviceaccount/token", "other/token", ProxyKubeconfig),
        ("kube-proxy", "/kubeconfig.conf", "/other.conf", ProxyKubeconfig),
        ("kube-proxy", "enableProfiling: false", "enableProfiling: true", ProxyConfiguration),
        ("kube-proxy", "masqueradeAll: false", "masqueradeAll: true", ProxyConfiguration),
        ("kube-proxy", "10.244.0.0/16", "0.0.0.0/0", ProxyConfiguration),
        ("kube-proxy", "- primary", "- 0.0.0.0/0", ProxyConfiguration),
        ("kube-proxy", "bindAddress: 0.0.0.0", "bindAddress: 192.0.2.1", ProxyConfiguration),
        ("kube-proxy", "  burst: 0", "  burst: 7", ProxyConfiguration),
        ("coredns", "/etc/resolv.conf", "192.0.2.1", DnsConfiguration),
        ("coredns", "    loop", "    rewrite name a.b c.d", DnsConfiguration),
        ("coredns", "    loop", "    hosts {\n 192.0.2.1 a.b\n}", DnsConfiguration),
        ("coredns", "    loop", "    import custom/*", DnsConfiguration),
        ("coredns", "}\n", "}\nexample.com:53 {\n}\n", DnsConfiguration),
        ("coredns", "cluster.local in", "other.local in", DnsConfiguration),
        ("cluster-info", "api:6443", "192.0.2.1:6443", ClusterInfo),
        (
            "cluster-info",
            "certificate-authority-data: L",
            "certificate-authority-data: M",
            ClusterInfo,
        ),
        ("cluster-info", "clusters: [", "users: [", ClusterInfo),
        ("cluster-info", "users: null", "users: [{name: x, user: {token: y}}]", ClusterInfo),
        ("cluster-info", "{server", "{proxy-url: 'http://192.0.2.1', server", ClusterInfo),
        ("cluster-info", "{server", "{insecure-skip-tls-verify: true, server", ClusterInfo),
        ("cluster-info", "{server", "{tls-server-name: x, server", ClusterInfo),
        (
            "cluster-info",
            "clusters: [",
            "clusters: [{name: x, cluster: {server: 'https://192.0.2.1'}}, ",
            ClusterInfo,
        ),
        (EXTENSION, "front-proxy-client\"", "front-proxy-client\", \"x\"", ExtensionCas),
        (EXTENSION, "[\"front-proxy-client\"]", "[]", ExtensionCas),
        (EXTENSION, "X-Remote-User", "X-User", ExtensionCas),
        (EXTENSION, "X-Remote-Group\"", "X-Remote-Group\", \"X-Group\"", ExtensionCas),
        (EXTENSION, "X-Remote-Extra-", "X-Extra-", ExtensionCas),
        ("kubeadm-config", "'false'", "'true'", KubeadmConfiguration),
        ("kubeadm-config", "}]}", "}, {name: token-auth-file, value: x}]}", KubeadmConfiguration),
        ("kubeadm-config", "registry.k8s.io", "registry.example.com", KubeadmConfiguration),
        ("kubeadm-config", "kind: Cl", "]", KubeadmConfiguration),
        ("kubelet-config", "enabled: false", "enabled: true", KubeadmConfiguration),
        ("kubelet-config", "syncFrequency: 0s", "readOnlyPort: 10255", KubeadmConfiguration),
        ("kubelet-config", "syncFrequency: 0s", "staticPodURL: http://a", KubeadmConfiguration),
    ]
};

#[test]
fn configuration_that_was_changed_in_the_cluster_is_named() {
    let mut seen = BTreeSet::new();
    for (map, from, to, rule) in MAP_CHANGES {
        let mut lists = good();
        let maps = &mut lists.iter_mut().find(|(k, _)| *k == Kind::ConfigMaps).unwrap().1;
        let found = maps.iter_mut().find(|m| m["metadata"]["name"] == map).unwrap();
        let data = found["data"].as_object_mut().unwrap();
        let text = data.values_mut().find(|t| t.as_str().unwrap().contains(from)).unwrap();
        let changed = text.as_str().unwrap().replacen(from, to, 1);
        assert_ne!(*text, json!(changed), "{map}: {from}");
        *text = json!(changed);
        assert_eq!(failing(&facts(lists)), [rule], "{map}: {to}");
        seen.insert(map);
    }
    // What is gone is not as it was either; a node that joins by nothing is misled by nothing.
    for map in seen {
        let mut lists = good();
        let maps = &mut lists.iter_mut().find(|(k, _)| *k == Kind::ConfigMaps).unwrap().1;
        maps.retain(|m| m["metadata"]["name"] != map);
        let wrong = failing(&facts(lists));
        assert_eq!(wrong.len(), usize::from(map != "cluster-info"), "{map}: {wrong:?}");
    }
    // Nothing to compare with proves nothing.
    let reference = Reference::default();
    let (facts, inventory) = (facts(good()), inventory());
    let (today, now) = (date!(2026 - 01 - 15), datetime!(2026-01-15 12:00 UTC));
    let on = Cluster { facts: &facts, inventory: &inventory, reference: &reference, today, now };
    for rule in [ApiRule::KubeadmConfiguration, ApiRule::ClusterInfo, ApiRule::ExtensionCas] {
        assert_eq!(judge_objects(rule, &on).outcome(), Outcome::Unknown, "{rule:?}");
    }
}

/// Puts a value at a path, or takes what is there away.
fn put(object: &mut Value, at: &str, value: Value) {
    let (parent, key) = at.rsplit_once('/').unwrap();
    match object.pointer_mut(parent).unwrap() {
        Value::Array(items) if key == "+" => items.push(value),
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        object => object[key] = value,
    }
}

#[test]
fn what_is_there_has_to_do_what_it_is_for() {
    for (kind, change, rule) in changes() {
        let mut lists = good();
        let object = &mut lists.iter_mut().find(|(k, _)| *k == kind).unwrap().1[0];
        change(object);
        let object = object.clone();
        assert_eq!(failing(&facts(lists)), [rule], "{object}");
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
    let group = match resource {
        "selfsubjectreviews" => "authentication.k8s.io",
        "daemonsets" => "apps",
        _ => "",
    };
    put(Kind::ClusterRoles, role(called, &[group], &[resource], &[verb]));
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

/// A kind that no list is asked for would leave its rule unknown on every cluster, and nobody would notice here.
#[test]
fn every_kind_that_is_judged_is_asked_for() {
    let judged: std::collections::BTreeSet<Kind> = good().into_iter().map(|(k, _)| k).collect();
    assert_eq!(judged, Kind::for_checks(u16::MAX).into_iter().collect());
}

#[test]
fn what_could_not_be_read_is_unknown() {
    for (rule, _) in ApiRule::ALL {
        let verdict = judge(rule, &ClusterFacts::default());
        assert_eq!(verdict.outcome(), Outcome::Unknown, "{rule:?}");
    }
    // One list fewer never makes a failure, and an empty answer proves nothing.
    let empty = facts(good().into_iter().map(|(k, _)| (k, Vec::new())).collect());
    let holds = [
        ApiRule::NoJoinTokens,
        ApiRule::NamespacesClean,
        ApiRule::WebhooksKnown,
        ApiRule::NoLastingTokens,
        ApiRule::RuntimeClassesKnown,
    ];
    for (rule, _) in ApiRule::ALL.into_iter().filter(|(r, _)| !holds.contains(r)) {
        let verdict = judge(rule, &empty);
        assert!(!matches!(verdict, Verdict::Pass { .. }), "{rule:?}: {verdict:?}");
    }
    assert!(proxy_configuration(&empty).is_err());
}

#[test]
fn a_rule_is_judged_from_the_lists_that_its_sources_name_and_no_others() {
    let whole = facts(good());
    // A plan is made of what is there: one that was made before says nothing about a list that is gone.
    let by = reference(&inventory(), &whole);
    let mut wrong = Vec::new();
    for (rule, _) in ApiRule::ALL {
        let before = judge_by(&inventory(), &by, rule, &whole);
        let mut counts = std::collections::BTreeSet::new();
        for kind in whole.objects.keys() {
            let mut fewer = whole.clone();
            fewer.objects.remove(kind);
            if judge_by(&inventory(), &by, rule, &fewer) != before {
                counts.insert(*kind);
            }
        }
        let named: std::collections::BTreeSet<Kind> = lists_of(rule).iter().copied().collect();
        if counts != named {
            wrong.push(format!("{rule:?}: {named:?} are named, and {counts:?} count"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What a list holds more, and what an inventory grants.
fn with(kind: Kind, object: Value, hardening: &str, rule: ApiRule) -> Verdict {
    let mut lists = good();
    lists.iter_mut().find(|(k, _)| *k == kind).unwrap().1.push(object);
    judge_with(&granting(hardening), rule, &facts(lists))
}

#[test]
fn without_a_default_a_namespace_needs_a_label() {
    let off = granting("controls: {policy-pod-security: off}");
    let verdict = judge_with(&off, ApiRule::NamespaceLevels, &facts(good()));
    assert_eq!(verdict.outcome(), Outcome::Fail);
}

#[test]
fn pods_of_a_namespace_without_bounds_lead_to_the_node() {
    let create = |labels: Value| {
        let mut lists = good();
        let mut put =
            |kind, object| lists.iter_mut().find(|(k, _)| *k == kind).unwrap().1.push(object);
        let deny = json!({"metadata": {"namespace": "open", "name": "deny"},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}});
        put(Kind::NetworkPolicies, deny);
        put(Kind::Namespaces, json!({"metadata": {"name": "open", "labels": labels}}));
        put(Kind::RoleBindings, role_binding("open", "app", "edit"));
        judge(ApiRule::MinimalRbac, &facts(lists))
    };
    assert_eq!(create(json!({})).outcome(), Outcome::Pass);
    let open = create(json!({"pod-security.kubernetes.io/enforce": "privileged"}));
    let Verdict::Fail { actual, .. } = open else { panic!("{open:?}") };
    assert_eq!(actual, "ServiceAccount shop/app may create pods in open through open/app");
}

/// What a tenant planted beside twenty harmless findings is named all the same, and what a report says of it
/// says what is wrong.
#[test]
fn a_hostile_tenant_is_named_thing_by_thing() {
    let said = |kind: Kind, object: Value, rule: ApiRule| {
        let mut lists = good();
        lists.iter_mut().find(|(k, _)| *k == kind).unwrap().1.push(object);
        match judge(rule, &facts(lists)) {
            Verdict::Fail { actual, .. } => actual,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        said(Kind::Pods, breaking("shop"), ApiRule::PodsWithinStandard),
        "shop/x (hostPID, container c is privileged, hostPath /, volume root of type hostPath)"
    );
    let mut other = proxy_pod();
    other["spec"]["containers"][0]["image"] = json!("r.io/x:v1.0");
    let other = said(Kind::Pods, other, ApiRule::PodsWithinStandard);
    let of = "kube-system/kube-proxy-x (not what DaemonSet kube-proxy describes, hostNetwork, ";
    assert!(other.starts_with(of), "{other}");
    assert_eq!(
        said(
            Kind::RoleBindings,
            role_binding("shop", "app", "cluster-admin"),
            ApiRule::MinimalRbac
        ),
        "ServiceAccount shop/app may do everything in shop through shop/app"
    );
    assert_eq!(
        said(Kind::MutatingWebhooks, webhook("w", "Fail"), ApiRule::WebhooksKnown),
        "MutatingWebhookConfiguration w sees and changes secrets, pods, serviceaccounts"
    );
}

/// A list that was not read never makes good what is wrong.
#[test]
fn no_rule_passes_by_what_was_not_read() {
    for (kind, object, rules) in additions() {
        let mut lists = good();
        lists.iter_mut().find(|(k, _)| *k == kind).unwrap().1.push(object.clone());
        let whole = facts(lists);
        for (missing, _) in Kind::ALL {
            let mut part = whole.clone();
            part.objects.remove(&missing);
            for rule in &rules {
                let outcome = judge(*rule, &part).outcome();
                let is_read = missing != kind;
                assert_ne!(outcome, Outcome::Pass, "{rule:?} without {missing:?}: {object}");
                assert!(is_read || outcome == Outcome::Unknown, "{rule:?} without {missing:?}");
            }
        }
    }
}

/// An add-on's image may be another one than Kubernetes' own only where the bundle brings it.
#[test]
fn an_image_of_an_addon_may_come_out_of_the_bundle() {
    let mut facts = facts(good());
    let image = "mirror.example/kube-proxy:v1.36.2-1";
    // In the pod, and in the DaemonSet that describes it.
    for object in facts.objects.values_mut().flatten() {
        let text = object.to_string().replace("registry.k8s.io/kube-proxy:v1.36.2", image);
        *object = serde_json::from_str(&text).unwrap();
    }
    let brought = |image: &str| Software {
        files: vec![SoftwareFile {
            kind: SoftwareKind::Images,
            name: "images.tar".into(),
            sha256: "0".repeat(64),
            size: 1,
            images: vec![image.into()],
        }],
        ..Software::default()
    };
    for (software, outcome) in [
        (None, Outcome::Fail),
        (Some(brought("mirror.example/other:v1")), Outcome::Fail),
        (Some(brought(image)), Outcome::Pass),
    ] {
        let reference = Reference { software, ..reference(&inventory(), &facts) };
        let verdict = judge_by(&inventory(), &reference, ApiRule::ProxyConfiguration, &facts);
        assert_eq!(verdict.outcome(), outcome, "{verdict:?}");
    }
}

#[test]
fn an_image_that_is_another_one_on_a_node_is_named() {
    let of = |node: &str, id: &str| {
        let mut pod = static_pod("kube-apiserver", node, "registry.k8s.io/kube-apiserver:v1.36.2");
        pod["status"]["containerStatuses"] = json!([{"name": "kube-apiserver", "imageID": id}]);
        pod
    };
    let said = |ids: [&str; 3]| {
        let pods = ["cp1", "cp2", "cp3"].into_iter().zip(ids).map(|(n, id)| of(n, id));
        let pods: Vec<Value> = pods.collect();
        crate::checks::cluster::objects::images_that_differ(&pods.iter().collect::<Vec<_>>())
    };
    assert!(said(["sha256:a", "sha256:a", "sha256:a"]).is_empty());
    assert_eq!(
        said(["sha256:a", "sha256:a", "sha256:b"]),
        ["registry.k8s.io/kube-apiserver:v1.36.2 is not the same image in \
             kube-system/kube-apiserver-cp1 and kube-system/kube-apiserver-cp3"]
    );
    // Pulled on one node and imported on another; not started yet on the third.
    assert!(said(["sha256:a", "registry.k8s.io/kube-apiserver@sha256:c", ""]).is_empty());
}
