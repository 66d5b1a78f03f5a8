//! What somebody may add to a cluster, and the rules that it breaks.

use super::*;

/// A pod with the node's root directory.
pub(super) fn breaking(space: &str) -> Value {
    let mut pod = pod(space, "x", json!({}), "r.io/x:v1.0");
    pod["spec"]["hostPID"] = json!(true);
    pod["spec"]["containers"][0]["securityContext"]["privileged"] = json!(true);
    pod["spec"]["volumes"] = json!([{"name": "root", "hostPath": {"path": "/"}}]);
    pod
}

pub(super) fn role_binding(space: &str, name: &str, role: &str) -> Value {
    json!({"metadata": {"namespace": space, "name": name},
           "roleRef": {"kind": "ClusterRole", "name": role},
           "subjects": [{"kind": "ServiceAccount", "namespace": "shop", "name": "app"}]})
}

pub(super) fn webhook(name: &str, failure_policy: &str) -> Value {
    json!({"metadata": {"name": name}, "webhooks": [{
        "name": "a.b.c", "failurePolicy": failure_policy,
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "operations": ["*"]}]}]})
}

/// Something added to a list, and the rules that it breaks.
pub(super) fn additions() -> Vec<(ObjectKind, Value, Vec<ApiRule>)> {
    let group = |name: &str| json!([{"kind": "Group", "name": name}]);
    let everybody = group("system:authenticated");
    let anonymous = json!([{"kind": "User", "name": "system:anonymous"}]);
    let app = json!([{"kind": "ServiceAccount", "namespace": "shop", "name": "app"}]);
    let mut bare = static_pod("kube-controller-manager", "cp1", "r.io/kcm:v1.36.2");
    bare["spec"]["containers"][0]["securityContext"] = json!({"allowPrivilegeEscalation": false});
    let mut init = pod("kube-system", "cni", json!({}), "r.io/cni:v1.2");
    init["spec"]["initContainers"] = json!([{"image": "r.io/cni"}]);
    vec![
        (
            ObjectKind::JoinTokens,
            named("kube-system", "bootstrap-token-x"),
            vec![ApiRule::NoJoinTokens],
        ),
        (
            ObjectKind::AccountTokens,
            named("kube-system", "clusterrole-aggregation-controller-token"),
            vec![ApiRule::NoLastingTokens],
        ),
        (
            ObjectKind::ClusterRoleBindings,
            binding("anon", "view-nodes", anonymous),
            vec![ApiRule::NoAnonymousBindings, ApiRule::MinimalRbac],
        ),
        (
            ObjectKind::ClusterRoleBindings,
            binding("app", "cluster-admin", app.clone()),
            vec![ApiRule::MinimalRbac],
        ),
        (
            // The name of a default does not make one.
            ObjectKind::ClusterRoleBindings,
            binding("kubeadm:cluster-admins", "cluster-admin", app.clone()),
            vec![ApiRule::MinimalRbac],
        ),
        (ObjectKind::ClusterRoleBindings, binding("app", "edit", app), vec![ApiRule::MinimalRbac]),
        (
            ObjectKind::ClusterRoleBindings,
            binding("all", "view-nodes", everybody),
            vec![ApiRule::MinimalRbac],
        ),
        (
            ObjectKind::RoleBindings,
            role_binding("shop", "app", "janitor"),
            vec![ApiRule::MinimalRbac],
        ),
        (
            ObjectKind::ClusterRoleBindings,
            binding("shop", "view-nodes", group("system:serviceaccounts:shop")),
            vec![ApiRule::MinimalRbac],
        ),
        (
            ObjectKind::ClusterRoleBindings,
            binding("nodes", "view-nodes", group("system:nodes")),
            vec![ApiRule::MinimalRbac],
        ),
        (
            ObjectKind::ClusterRoleBindings,
            binding("w1", "view-nodes", json!([{"kind": "User", "name": "system:node:w1"}])),
            vec![ApiRule::MinimalRbac],
        ),
        (
            ObjectKind::RoleBindings,
            {
                let mut binding = role_binding("shop", "w1", "view-nodes");
                binding["subjects"] = json!([{"kind": "User", "name": "system:node:w1"}]);
                binding
            },
            vec![ApiRule::MinimalRbac],
        ),
        (
            ObjectKind::ClusterRoleBindings,
            binding("joining", "view-nodes", group("system:bootstrappers:mine")),
            vec![ApiRule::MinimalRbac],
        ),
        (
            // A default role that allows more than it came with, however harmless.
            ObjectKind::ClusterRoles,
            role("system:basic-user", &[""], &["events"], &["get"]),
            vec![ApiRule::MinimalRbac],
        ),
        (
            ObjectKind::Roles,
            {
                let mut reader = role("kube-proxy", &[""], &["configmaps"], &["get"]);
                reader["metadata"]["namespace"] = json!("kube-system");
                reader
            },
            vec![ApiRule::MinimalRbac],
        ),
        (
            // What `view` is made of.
            ObjectKind::ClusterRoles,
            {
                let mut part = role("see-more", &[""], &["secrets"], &["get"]);
                part["metadata"]["labels"] =
                    json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
                part
            },
            vec![ApiRule::MinimalRbac],
        ),
        (
            ObjectKind::ClusterRoles,
            role("more", &["*"], &["*"], &["*"]),
            vec![ApiRule::MinimalRbac],
        ),
        (
            ObjectKind::ServiceAccounts,
            named("default", "default"),
            vec![ApiRule::DefaultAccountsMountNothing],
        ),
        (
            ObjectKind::Namespaces,
            named("", "new"),
            vec![ApiRule::DefaultDeny, ApiRule::QuotasAndLimits],
        ),
        (
            // Nor is a name of Kubernetes' kind a way to hide one.
            ObjectKind::Namespaces,
            named("", "kube-attic"),
            vec![ApiRule::DefaultDeny, ApiRule::QuotasAndLimits],
        ),
        (
            // Whoever may label a namespace must not be able to hide it.
            ObjectKind::Namespaces,
            json!({"metadata": {"name": "new", "labels": {PROBE_LABEL: "true"}}}),
            vec![ApiRule::DefaultDeny, ApiRule::QuotasAndLimits],
        ),
        (
            ObjectKind::Pods,
            pod("kube-system", "x", json!({}), "r.io:5000/x"),
            vec![ApiRule::ImagesPinned],
        ),
        (ObjectKind::Pods, init, vec![ApiRule::ImagesPinned, ApiRule::PodsWithinStandard]),
        (ObjectKind::Pods, bare, vec![ApiRule::SystemPodsHardened]),
        (
            ObjectKind::Pods,
            pod("default", "x", json!({}), "r.io/x:v1.0"),
            vec![ApiRule::NamespacesClean],
        ),
        (ObjectKind::Pods, breaking("shop"), vec![ApiRule::PodsWithinStandard]),
        (ObjectKind::Pods, breaking("kube-system"), vec![ApiRule::PodsWithinStandard]),
        (
            // Called like a static pod, and made by somebody.
            ObjectKind::Pods,
            {
                let mut posing = static_pod("kube-scheduler", "cp1", "r.io/ks:v1.36.2");
                posing["metadata"]["annotations"] = json!({});
                posing
            },
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            ObjectKind::Pods,
            {
                let mut posing = static_pod("kube-scheduler", "cp1", "r.io/ks:v1.36.2");
                posing["metadata"]["ownerReferences"][0]["uid"] = json!("of-another");
                posing
            },
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            ObjectKind::Pods,
            {
                let mut posing = static_pod("kube-scheduler", "cp1", "r.io/ks:v1.36.2");
                posing["metadata"]["ownerReferences"][0]["controller"] = json!(false);
                posing
            },
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            // No static pod of a worker is Kubernetes', and etcd is none.
            ObjectKind::Pods,
            static_pod("kube-scheduler", "w1", "r.io/ks:v1.36.2"),
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            ObjectKind::Pods,
            static_pod("etcd", "cp1", "r.io/etcd:v3.6.8"),
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            // However harmless it looks: what the file says is not known.
            ObjectKind::Pods,
            {
                let mut mirror = pod("shop", "web-w1", json!({}), "r.io/web:v1.0");
                mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "00",
                    "kubernetes.io/config.source": "file"});
                mirror
            },
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            ObjectKind::Pods,
            {
                let mut other = proxy_pod();
                other["spec"]["containers"][0]["image"] = json!("r.io/kube-proxy:v1.36.2");
                other
            },
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            ObjectKind::Pods,
            {
                let mut other = proxy_pod();
                other["spec"]["containers"][0]["command"] = json!(["/bin/sh"]);
                other
            },
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            ObjectKind::Pods,
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
            ObjectKind::ReplicaSets,
            {
                let mut root = dns_pod();
                root["spec"]["securityContext"]["runAsNonRoot"] = json!(false);
                maker("kube-system", "coredns-evil", &root)
            },
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            // What has ended was let in all the same.
            ObjectKind::Pods,
            {
                let mut ended = breaking("shop");
                ended["status"] = json!({"phase": "Succeeded"});
                ended
            },
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            ObjectKind::NetworkPolicies,
            json!({"metadata": {"namespace": "shop", "name": "allow"}, "spec": {
                "podSelector": {}, "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"namespaceSelector": {}}]}]}}),
            vec![ApiRule::DefaultDeny],
        ),
        (
            // Ports of two rules; `network_policies` has those of several policies.
            ObjectKind::NetworkPolicies,
            json!({"metadata": {"namespace": "shop", "name": "halves"}, "spec": {
                "podSelector": {}, "policyTypes": ["Egress"], "egress": [
                    {"ports": [{"port": 1, "endPort": 30000}]},
                    {"ports": [{"port": 30001, "endPort": 60000}]}]}}),
            vec![ApiRule::DefaultDeny],
        ),
        (
            ObjectKind::Namespaces,
            json!({"metadata": {"name": "kubastion-probe-2", "labels": {
                PROBE_LABEL: "true", "pod-security.kubernetes.io/enforce": "privileged"}}}),
            vec![ApiRule::NamespaceLevels],
        ),
        (
            ObjectKind::RoleBindings,
            role_binding("shop", "app", "cluster-admin"),
            vec![ApiRule::MinimalRbac],
        ),
        (
            ObjectKind::RoleBindings,
            role_binding("kube-system", "app", "edit"),
            vec![ApiRule::MinimalRbac],
        ),
        (
            ObjectKind::ClusterRoleBindings,
            binding(
                "kubeadm:kubelet-bootstrap",
                "system:node-bootstrapper",
                json!([{"kind": "Group", "name": "system:bootstrappers:kubeadm:default-node-token"}]),
            ),
            vec![ApiRule::NoBootstrapBindings],
        ),
        (ObjectKind::ValidatingWebhooks, webhook("look", "Fail"), vec![ApiRule::WebhooksKnown]),
        (ObjectKind::MutatingWebhooks, webhook("change", "Fail"), vec![ApiRule::WebhooksKnown]),
        (ObjectKind::MutatingPolicies, named("", "change"), vec![ApiRule::WebhooksKnown]),
        (
            ObjectKind::CustomResources,
            converted("b.example.com", json!({"url": "https://192.0.2.1/"})),
            vec![ApiRule::WebhooksKnown],
        ),
        (
            ObjectKind::CsiDrivers,
            json!({"metadata": {"name": "b"}, "spec": {"tokenRequests": [{"audience": ""}]}}),
            vec![ApiRule::WebhooksKnown],
        ),
        (
            ObjectKind::ApiServices,
            json!({"metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": {
                "service": {"namespace": "kube-system", "name": "metrics-server"}}}),
            vec![ApiRule::AggregatedApisKnown],
        ),
        (ObjectKind::Nodes, named("", "stranger"), vec![ApiRule::NodesKnown]),
        (
            ObjectKind::SigningRequests,
            approved("kubeadm:cluster-admins", "x"),
            vec![ApiRule::MinimalRbac],
        ),
        (
            // Another node's address.
            ObjectKind::SigningRequests,
            of_a_kubelet("kubelet-serving", "w1", &["w1", "10.0.0.1"]),
            vec![ApiRule::MinimalRbac],
        ),
        (
            ObjectKind::SigningRequests,
            {
                let mut client = of_a_kubelet("kube-apiserver-client-kubelet", "w1", &[]);
                client["spec"]["username"] = json!("alice");
                client
            },
            vec![ApiRule::MinimalRbac],
        ),
        (
            // One node for another.
            ObjectKind::SigningRequests,
            {
                let mut client = of_a_kubelet("kube-apiserver-client-kubelet", "w1", &[]);
                client["spec"]["username"] = json!("system:node:w2");
                client
            },
            vec![ApiRule::MinimalRbac],
        ),
        (
            ObjectKind::SigningRequests,
            approved("x", "system:kube-controller-manager"),
            vec![ApiRule::MinimalRbac],
        ),
        (
            ObjectKind::PersistentVolumes,
            json!({"metadata": {"name": "root"}, "spec": {"hostPath": {"path": "/"}}}),
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            ObjectKind::PersistentVolumes,
            json!({"metadata": {"name": "etc"}, "spec": {"local": {"path": "/srv/../etc"}}}),
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            ObjectKind::Pods,
            {
                let mut asking = pod("shop", "x", json!({}), "r.io/x:v1.0");
                asking["spec"]["automountServiceAccountToken"] = json!(true);
                asking
            },
            vec![ApiRule::DefaultAccountsMountNothing],
        ),
        (
            ObjectKind::Deployments,
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
            ObjectKind::Deployments,
            maker("shop", "zero", &json!({"spec": {"hostPID": true, "containers": []}})),
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            ObjectKind::CronJobs,
            json!({"metadata": {"namespace": "kube-system", "name": "at-three"}, "spec": {"jobTemplate":
                {"spec": {"template": {"spec": {"hostPID": true, "containers": []}}}}}}),
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            // Another one's name, and not its container.
            ObjectKind::DaemonSets,
            maker("kube-system", "kube-proxy", &{
                let mut two = proxy_pod();
                let second = json!({"name": "second", "securityContext": {"privileged": true}});
                two["spec"]["containers"].as_array_mut().unwrap().push(second);
                two
            }),
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            ObjectKind::DaemonSets,
            maker("kube-system", "kube-proxy", &{
                let mut whole = proxy_pod();
                whole["spec"]["volumes"] = json!([{"name": "m", "hostPath": {"path": "/"}}]);
                whole
            }),
            vec![ApiRule::PodsWithinStandard],
        ),
        (
            ObjectKind::EndpointSlices,
            slice("kube-system", "kube-dns", "192.0.2.7"),
            vec![ApiRule::ServiceEndpointsKnown],
        ),
        (
            // A node's address is no pod of CoreDNS.
            ObjectKind::EndpointSlices,
            slice("kube-system", "kube-dns", "10.0.0.3"),
            vec![ApiRule::ServiceEndpointsKnown],
        ),
        (
            ObjectKind::EndpointSlices,
            {
                let mut other = slice("kube-system", "kube-dns", "10.244.0.2");
                other["ports"] = json!([{"port": 5353}]);
                other
            },
            vec![ApiRule::ServiceEndpointsKnown],
        ),
        (
            // A pod of somebody else's.
            ObjectKind::EndpointSlices,
            slice("kube-system", "stray", "10.244.9.9"),
            vec![ApiRule::ServiceEndpointsKnown],
        ),
        (
            ObjectKind::Services,
            json!({"metadata": {"namespace": "shop", "name": "taker"},
                   "spec": {"type": "LoadBalancer"},
                   "status": {"loadBalancer": {"ingress": [{"ip": "10.96.0.10"}]}}}),
            vec![ApiRule::ServiceEndpointsKnown],
        ),
        (
            ObjectKind::Services,
            json!({"metadata": {"namespace": "kube-system", "name": "away"},
                   "spec": {"type": "ExternalName", "externalName": "x.example.com"}}),
            vec![ApiRule::ServiceEndpointsKnown],
        ),
        (
            ObjectKind::ServiceCidrs,
            json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.0.0.0/24"]}}),
            vec![ApiRule::ServiceEndpointsKnown],
        ),
        (
            // Wider than what it is in.
            ObjectKind::ServiceCidrs,
            json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.0.0.0/8"]}}),
            vec![ApiRule::ServiceEndpointsKnown],
        ),
        (
            ObjectKind::Services,
            json!({"metadata": {"namespace": "shop", "name": "taker"}, "spec": {
                "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}}),
            vec![ApiRule::ServiceEndpointsKnown],
        ),
        (
            ObjectKind::FlowSchemas,
            flow_schema("first", 3, "exempt", "system:serviceaccounts:shop"),
            vec![ApiRule::FlowControlKnown],
        ),
        (
            ObjectKind::FlowSchemas,
            flow_schema("first", 3, "workload-high", "system:unauthenticated"),
            vec![ApiRule::FlowControlKnown],
        ),
        (
            ObjectKind::FlowSchemas,
            {
                let mut any = flow_schema("first", 3, "workload-high", "x");
                any["spec"]["rules"][0]["subjects"] =
                    json!([{"kind": "User", "user": {"name": "*"}}]);
                any
            },
            vec![ApiRule::FlowControlKnown],
        ),
        (
            ObjectKind::FlowSchemas,
            {
                let mut kept = flow_schema("system-node-high", 400, "catch-all", "system:nodes");
                kept["metadata"]["annotations"] =
                    json!({"apf.kubernetes.io/autoupdate-spec": "false"});
                kept
            },
            vec![ApiRule::FlowControlKnown],
        ),
        (
            ObjectKind::PriorityLevels,
            priority_level("wide", 100_000),
            vec![ApiRule::FlowControlKnown],
        ),
        (
            ObjectKind::RuntimeClasses,
            json!({"metadata": {"name": "bare"}, "handler": "bare"}),
            vec![ApiRule::RuntimeClassesKnown],
        ),
        (
            ObjectKind::RuntimeClasses,
            json!({"metadata": {"name": "anywhere"}, "handler": "runc",
                   "scheduling": {"tolerations": [{"operator": "Exists"}]}}),
            vec![ApiRule::RuntimeClassesKnown],
        ),
        (
            // Restricted, and with the rights of a controller.
            ObjectKind::Pods,
            {
                let mut pod = pod("kube-system", "x", json!({}), "r.io/x:v1.0");
                pod["spec"]["serviceAccountName"] = json!("clusterrole-aggregation-controller");
                pod
            },
            vec![ApiRule::MinimalRbac],
        ),
        (
            ObjectKind::Deployments,
            {
                let mut pod = pod("kube-system", "x", json!({}), "r.io/x:v1.0");
                pod["spec"]["serviceAccountName"] = json!("token-cleaner");
                maker("kube-system", "x", &pod)
            },
            vec![ApiRule::MinimalRbac],
        ),
        (ObjectKind::Services, named("kube-public", "x"), vec![ApiRule::NamespacesClean]),
        (
            ObjectKind::Pods,
            pod("ui", "d", json!({"k8s-app": "kubernetes-dashboard"}), "r.io/d:v1.0"),
            vec![ApiRule::NoRetiredAddOns],
        ),
    ]
}
