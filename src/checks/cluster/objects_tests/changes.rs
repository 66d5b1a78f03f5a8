//! What somebody may make weaker in an object that is there, and the rule that it breaks.

use super::*;

pub(super) type Change = fn(&mut Value);

/// Something made weaker in the first object of a list, and the rule that it breaks.
pub(super) fn changes() -> Vec<(ObjectKind, Change, ApiRule)> {
    vec![
        (
            ObjectKind::NetworkPolicies,
            |p| p["spec"]["podSelector"] = json!({"matchLabels": {"a": "b"}}),
            ApiRule::DefaultDeny,
        ),
        (
            ObjectKind::NetworkPolicies,
            |p| p["spec"]["policyTypes"] = json!(["Ingress"]),
            ApiRule::DefaultDeny,
        ),
        (ObjectKind::NetworkPolicies, |p| p["spec"]["egress"] = json!([{}]), ApiRule::DefaultDeny),
        (ObjectKind::ResourceQuotas, |q| q["spec"]["hard"] = json!({}), ApiRule::QuotasAndLimits),
        (
            ObjectKind::ResourceQuotas,
            |q| q["spec"]["hard"]["pods"] = json!("100000000"),
            ApiRule::QuotasAndLimits,
        ),
        (
            ObjectKind::ResourceQuotas,
            |q| q["spec"]["scopes"] = json!(["BestEffort"]),
            ApiRule::QuotasAndLimits,
        ),
        (ObjectKind::LimitRanges, |l| l["spec"]["limits"] = json!([]), ApiRule::QuotasAndLimits),
        (
            ObjectKind::ServiceAccounts,
            |a| a["automountServiceAccountToken"] = json!(true),
            ApiRule::DefaultAccountsMountNothing,
        ),
        (
            ObjectKind::MutatingPolicies,
            |p| p["spec"]["mutations"] = json!([]),
            ApiRule::NewAccountsMountNothing,
        ),
        (
            // An account is in a namespace.
            ObjectKind::MutatingPolicies,
            |p| {
                p["spec"]["matchConstraints"]["resourceRules"][0]["scope"] = json!("Cluster");
            },
            ApiRule::NewAccountsMountNothing,
        ),
        (
            ObjectKind::MutatingBindings,
            |b| b["spec"]["policyName"] = json!("other"),
            ApiRule::NewAccountsMountNothing,
        ),
        (
            ObjectKind::ValidatingBindings,
            |b| b["spec"]["policyName"] = json!("other"),
            ApiRule::SecretsNotInEnvironment,
        ),
        (
            ObjectKind::ValidatingBindings,
            |b| b["spec"]["validationActions"] = json!(["Audit", "Warn"]),
            ApiRule::SecretsNotInEnvironment,
        ),
        (
            ObjectKind::ValidatingBindings,
            |b| {
                b["spec"]["matchResources"]["namespaceSelector"] =
                    json!({"matchLabels": {"checked": "yes"}});
            },
            ApiRule::SecretsNotInEnvironment,
        ),
        (
            ObjectKind::ValidatingBindings,
            |b| b["spec"]["paramRef"] = json!({"name": "x"}),
            ApiRule::SecretsNotInEnvironment,
        ),
        (
            ObjectKind::ValidatingPolicies,
            |p| p["spec"]["failurePolicy"] = json!("Ignore"),
            ApiRule::SecretsNotInEnvironment,
        ),
        (
            ObjectKind::ValidatingPolicies,
            |p| {
                p["spec"]["matchConstraints"]["namespaceSelector"] =
                    json!({"matchLabels": {"checked": "yes"}});
            },
            ApiRule::SecretsNotInEnvironment,
        ),
        (
            ObjectKind::ValidatingPolicies,
            |p| p["spec"]["matchConditions"] = json!([{"name": "never", "expression": "false"}]),
            ApiRule::SecretsNotInEnvironment,
        ),
        (
            ObjectKind::ValidatingPolicies,
            |p| {
                p["spec"]["matchConstraints"]["resourceRules"][0]["operations"] = json!(["DELETE"]);
            },
            ApiRule::SecretsNotInEnvironment,
        ),
        (
            ObjectKind::ClusterRoleBindings,
            |b| b["subjects"] = json!([{"kind": "Group", "name": "devs"}]),
            ApiRule::MinimalRbac,
        ),
        (
            ObjectKind::Pods,
            |p| p["spec"]["securityContext"] = json!({}),
            ApiRule::SystemPodsHardened,
        ),
        (
            // One of Kubernetes' own may do what it needs, and no more.
            ObjectKind::Pods,
            |p| p["spec"]["hostPID"] = json!(true),
            ApiRule::PodsWithinStandard,
        ),
        (
            ObjectKind::Pods,
            |p| p["metadata"]["ownerReferences"] = json!([{"kind": "Node", "name": "stranger"}]),
            ApiRule::PodsWithinStandard,
        ),
        (
            ObjectKind::Pods,
            |p| p["metadata"]["ownerReferences"] = json!([]),
            ApiRule::PodsWithinStandard,
        ),
        (
            // Warnings keep nobody from anything.
            ObjectKind::Namespaces,
            |n| {
                n["metadata"]["labels"] = json!({"pod-security.kubernetes.io/warn": "restricted",
                    "pod-security.kubernetes.io/audit": "restricted",
                    "pod-security.kubernetes.io/enforce": "baseline"});
            },
            ApiRule::NamespaceLevels,
        ),
        (
            ObjectKind::Namespaces,
            |n| {
                n["metadata"]["labels"] = json!({"pod-security.kubernetes.io/enforce": "restricted",
                    "pod-security.kubernetes.io/enforce-version": "v1.20"});
            },
            ApiRule::NamespaceLevels,
        ),
        (
            ObjectKind::Namespaces,
            |n| n["metadata"]["labels"] = json!({"pod-security.kubernetes.io/enforce": "strict"}),
            ApiRule::NamespaceLevels,
        ),
        (
            ObjectKind::ApiServices,
            |s| s["spec"]["service"] = json!({"namespace": "shop", "name": "api"}),
            ApiRule::AggregatedApisKnown,
        ),
        (ObjectKind::Nodes, |n| n["spec"]["taints"] = json!([]), ApiRule::NodesKnown),
        (
            ObjectKind::Nodes,
            |n| n["status"]["conditions"][1]["status"] = json!("False"),
            ApiRule::NodesKnown,
        ),
        (ObjectKind::Nodes, |n| n["status"]["conditions"] = json!([]), ApiRule::NodesKnown),
        (
            ObjectKind::EndpointSlices,
            |s| s["endpoints"][0]["addresses"] = json!(["192.0.2.7"]),
            ApiRule::ServiceEndpointsKnown,
        ),
        (
            ObjectKind::Leases,
            |l| l["spec"]["holderIdentity"] = json!("stranger"),
            ApiRule::ControllersLead,
        ),
        (
            // A worker.
            ObjectKind::Leases,
            |l| l["spec"]["holderIdentity"] = json!("w1_1"),
            ApiRule::ControllersLead,
        ),
        (
            ObjectKind::Leases,
            |l| l["spec"]["renewTime"] = json!("2026-01-15T11:50:00.000000Z"),
            ApiRule::ControllersLead,
        ),
        (
            ObjectKind::Leases,
            |l| l["spec"]["renewTime"] = json!("2999-01-15T11:50:00.000000Z"),
            ApiRule::ControllersLead,
        ),
        (ObjectKind::Leases, |l| l["metadata"]["name"] = json!("other"), ApiRule::ControllersLead),
        (
            ObjectKind::EndpointSlices,
            |s| s["ports"][0]["port"] = json!(8443),
            ApiRule::ServiceEndpointsKnown,
        ),
        (
            ObjectKind::Services,
            |s| s["spec"]["type"] = json!("NodePort"),
            ApiRule::ServiceEndpointsKnown,
        ),
        (
            ObjectKind::Services,
            |s| s["spec"]["clusterIPs"] = json!(["10.96.0.7"]),
            ApiRule::ServiceEndpointsKnown,
        ),
        (
            ObjectKind::Services,
            |s| s["spec"]["sessionAffinity"] = json!("ClientIP"),
            ApiRule::ServiceEndpointsKnown,
        ),
        (
            ObjectKind::Services,
            |s| s["spec"]["ports"][0]["targetPort"] = json!(8443),
            ApiRule::ServiceEndpointsKnown,
        ),
        (
            ObjectKind::Services,
            |s| {
                s["spec"]["ports"].as_array_mut().unwrap().push(json!({"port": 80}));
            },
            ApiRule::ServiceEndpointsKnown,
        ),
        (
            ObjectKind::Services,
            |s| s["spec"]["externalIPs"] = json!(["192.0.2.7"]),
            ApiRule::ServiceEndpointsKnown,
        ),
        (
            // Of a type that no balancer answers for.
            ObjectKind::Services,
            |s| s["status"]["loadBalancer"]["ingress"] = json!([{"ip": "192.0.2.7"}]),
            ApiRule::ServiceEndpointsKnown,
        ),
    ]
}
