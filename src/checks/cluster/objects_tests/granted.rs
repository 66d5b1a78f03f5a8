//! What the inventory grants by name, and until when.

use super::*;

#[test]
fn volumes_of_nodes_are_where_nodes_keep_volumes() {
    let of = |path: &str, hardening: &str| {
        let volume = json!({"metadata": {"name": "v"}, "spec": {"local": {"path": path}}});
        with(ObjectKind::PersistentVolumes, volume, hardening, ApiRule::PodsWithinStandard)
            .outcome()
    };
    for path in [
        "/",
        "//",
        "//etc",
        "/./root",
        "/sbin",
        "/bin",
        "/lib64",
        "/var/spool/cron",
        "/mnt/../etc",
        "/var/lib/kubelet/pods",
        "/var/lib",
        "/opt",
        "/mntx",
        "/datax",
        "etc",
        "/tmp",
        "/root/mnt",
        "/var/lib/rookery",
        "/.",
    ] {
        assert_eq!(of(path, "{}"), Outcome::Fail, "{path}");
    }
    for path in [
        "/mnt/disks/ssd1",
        "//mnt//x/",
        "/mnt",
        "/srv/./x",
        "/data1/pv",
        "/disks/7",
        "/mnt/.x",
        "/opt/local-path-provisioner/pvc-1",
        "/var/local/x",
        "/var/lib/longhorn/x",
    ] {
        assert_eq!(of(path, "{}"), Outcome::Pass, "{path}");
    }
    let granted = "allowed_objects: [{kind: PersistentVolume, name: v, reason: r, owner: o, \
                   expires: 2026-01-15}]";
    assert_eq!(of("/opt/x", granted), Outcome::Pass);
    assert_eq!(of("/opt/x", &granted.replace("name: v", "name: w")), Outcome::Fail);
    assert_eq!(of("/opt/x", &granted.replace("01-15", "01-14")), Outcome::Fail);
}

/// One that is allowed hides no other.
#[test]
fn bindings_are_allowed_by_name() {
    let allow = |kind: &str, name: &str, last: &str| {
        format!(
            "allowed_objects: [{{kind: {kind}, name: {name}, reason: r, owner: o, expires: {last}}}]"
        )
    };
    let app = json!([{"kind": "ServiceAccount", "namespace": "shop", "name": "app"}]);
    let rows = [
        (
            ObjectKind::ClusterRoleBindings,
            binding("m", "cluster-admin", app),
            "ClusterRoleBinding",
            "m",
        ),
        (
            ObjectKind::RoleBindings,
            role_binding("kube-system", "m", "edit"),
            "RoleBinding",
            "kube-system/m",
        ),
    ];
    for (kind, object, word, named) in rows {
        let of = |h: &str| with(kind, object.clone(), h, ApiRule::MinimalRbac).outcome();
        assert_eq!(of(&allow(word, named, "2026-01-15")), Outcome::Pass, "{word}");
        assert_eq!(of(&allow(word, named, "2026-01-14")), Outcome::Fail, "{word}");
        assert_eq!(of(&allow(word, "other", "2026-01-15")), Outcome::Fail, "{word}");
        assert_eq!(of(&allow("APIService", named, "2026-01-15")), Outcome::Fail, "{word}");
    }
    // Whoever asks is nobody in particular.
    for who in ["system:authenticated", "system:serviceaccounts"] {
        let all = json!([{"kind": "Group", "name": who}]);
        let grant = allow("ClusterRoleBinding", "m", "2026-01-15");
        let bound = binding("m", "cluster-admin", all);
        let judged = with(ObjectKind::ClusterRoleBindings, bound, &grant, ApiRule::MinimalRbac);
        assert_eq!(judged.outcome(), Outcome::Fail, "{who}");
    }
    // So is a role of wildcards, by the binding that it is for.
    let all = role("all", &["*"], &["*"], &["*"]);
    let mut lists = good();
    let mut push =
        |kind, object| lists.iter_mut().find(|(k, _)| *k == kind).unwrap().1.push(object);
    let eve = json!([{"kind": "User", "name": "eve"}]);
    push(ObjectKind::ClusterRoles, all);
    push(ObjectKind::ClusterRoleBindings, binding("m", "all", eve.clone()));
    let of = |lists: &[(ObjectKind, Vec<Value>)]| {
        let granted = granting(&allow("ClusterRoleBinding", "m", "2026-01-15"));
        judge_with(&granted, ApiRule::MinimalRbac, &facts(lists.to_vec())).outcome()
    };
    assert_eq!(of(&lists), Outcome::Pass);
    lists
        .iter_mut()
        .find(|(k, _)| *k == ObjectKind::ClusterRoleBindings)
        .unwrap()
        .1
        .push(binding("n", "all", eve));
    assert_eq!(of(&lists), Outcome::Fail);
    for (kind, object, word) in [
        (ObjectKind::FlowSchemas, flow_schema("m", 3, "exempt", "x"), "FlowSchema"),
        (ObjectKind::PriorityLevels, priority_level("m", 100_000), "PriorityLevelConfiguration"),
    ] {
        let of = |h: &str| with(kind, object.clone(), h, ApiRule::FlowControlKnown).outcome();
        assert_eq!(of(&allow(word, "m", "2026-01-15")), Outcome::Pass, "{word}");
        assert_eq!(of(&allow(word, "m", "2026-01-14")), Outcome::Fail, "{word}");
    }
}

/// An exemption for one agent is for its pods alone.
#[test]
fn an_exemption_may_be_for_some_workloads() {
    let granted = |workloads: &str| {
        granting(&format!(
            "pod_security: {{exemptions: [{{namespace: kube-system, level: privileged, \
             workloads: [{workloads}], reason: r, owner: o, expires: 2026-01-15}}]}}"
        ))
    };
    let mut agent = breaking("kube-system");
    agent["metadata"]["ownerReferences"] = json!([owner("DaemonSet", "agent")]);
    let mut lists = good();
    let mut push =
        |kind, object| lists.iter_mut().find(|(k, _)| *k == kind).unwrap().1.push(object);
    push(ObjectKind::Pods, agent.clone());
    push(ObjectKind::DaemonSets, maker("kube-system", "agent", &agent));
    let judged = |inventory: &Inventory, lists: &[(ObjectKind, Vec<Value>)]| {
        judge_with(inventory, ApiRule::PodsWithinStandard, &facts(lists.to_vec())).outcome()
    };
    assert_eq!(judged(&granted("DaemonSet/agent"), &lists), Outcome::Pass);
    assert_eq!(judged(&granted(""), &lists), Outcome::Pass);
    assert_eq!(judged(&granted("DaemonSet/other"), &lists), Outcome::Fail);
    assert_eq!(judged(&granted("Deployment/agent"), &lists), Outcome::Fail);
    // Beside it, and one that says it is of it.
    let mut posing = breaking("kube-system");
    posing["metadata"]["ownerReferences"] = json!([owner("DaemonSet", "agent")]);
    posing["metadata"]["ownerReferences"][0]["uid"] = json!("of-another");
    // One that names its owner rightly, and is something else than that describes.
    let mut named = agent.clone();
    named["metadata"]["name"] = json!("impostor");
    named["spec"]["hostIPC"] = json!(true);
    let mut later = lists.clone();
    later.iter_mut().find(|(k, _)| *k == ObjectKind::Pods).unwrap().1.push(named);
    assert_eq!(judged(&granted("DaemonSet/agent"), &later), Outcome::Fail);
    // A Deployment makes ReplicaSets: one that runs nothing may be of an earlier description, and no pod is made by it alone.
    let mut by_deployment = agent.clone();
    by_deployment["metadata"]["ownerReferences"] = json!([owner("Deployment", "web")]);
    let mut earlier = maker("kube-system", "web-1", &breaking("kube-system"));
    earlier["metadata"]["ownerReferences"] = json!([owner("Deployment", "web")]);
    earlier["spec"]["template"]["spec"]["hostIPC"] = json!(true);
    for (replicas, pods, wanted) in [
        (0, vec![], Outcome::Pass),
        (1, vec![], Outcome::Fail),
        (0, vec![by_deployment], Outcome::Fail),
    ] {
        let mut lists = good();
        let mut push =
            |kind, object| lists.iter_mut().find(|(k, _)| *k == kind).unwrap().1.push(object);
        push(ObjectKind::Deployments, maker("kube-system", "web", &agent));
        earlier["spec"]["replicas"] = json!(replicas);
        push(ObjectKind::ReplicaSets, earlier.clone());
        pods.into_iter().for_each(|pod| push(ObjectKind::Pods, pod));
        assert_eq!(judged(&granted("Deployment/web"), &lists), wanted, "{replicas}");
    }
    for other in [breaking("kube-system"), posing] {
        let mut lists = lists.clone();
        lists.iter_mut().find(|(k, _)| *k == ObjectKind::Pods).unwrap().1.push(other);
        assert_eq!(judged(&granted("DaemonSet/agent"), &lists), Outcome::Fail);
        assert_eq!(judged(&granted("DaemonSet/agent, Pod/x"), &lists), Outcome::Pass);
    }
}

#[test]
fn what_the_inventory_grants_is_no_finding_until_its_last_day() {
    let level = |level: &str, last: &str| {
        format!(
            "pod_security: {{exemptions: [{{namespace: shop, level: {level}, reason: r, owner: o, \
             expires: {last}}}]}}"
        )
    };
    let of_pod = |hardening: &str| {
        with(ObjectKind::Pods, breaking("shop"), hardening, ApiRule::PodsWithinStandard).outcome()
    };
    assert_eq!(of_pod(&level("privileged", "2026-01-15")), Outcome::Pass);
    assert_eq!(of_pod(&level("baseline", "2026-01-15")), Outcome::Fail);
    assert_eq!(of_pod(&level("privileged", "2026-01-14")), Outcome::Fail);
    let labelled = |to: &str, hardening: &str| {
        let mut lists = good();
        let spaces = &mut lists.iter_mut().find(|(k, _)| *k == ObjectKind::Namespaces).unwrap().1;
        let shop = spaces.iter_mut().find(|n| n["metadata"]["name"] == "shop").unwrap();
        shop["metadata"]["labels"] = json!({"pod-security.kubernetes.io/enforce": to});
        judge_with(&granting(hardening), ApiRule::NamespaceLevels, &facts(lists)).outcome()
    };
    assert_eq!(labelled("privileged", &level("privileged", "2026-01-15")), Outcome::Pass);
    assert_eq!(labelled("baseline", &level("baseline", "2026-01-15")), Outcome::Pass);
    assert_eq!(labelled("privileged", &level("baseline", "2026-01-15")), Outcome::Fail);
    assert_eq!(labelled("privileged", &level("privileged", "2026-01-14")), Outcome::Fail);

    let allow = |kind: &str, name: &str, last: &str| {
        format!(
            "allowed_objects: [{{kind: {kind}, name: {name}, reason: r, owner: o, expires: {last}}}]"
        )
    };
    let rows = [
        (ObjectKind::ValidatingWebhooks, webhook("w", "Fail"), "ValidatingWebhookConfiguration"),
        (ObjectKind::MutatingWebhooks, webhook("w", "Ignore"), "MutatingWebhookConfiguration"),
        (ObjectKind::MutatingPolicies, named("", "w"), "MutatingAdmissionPolicy"),
        (
            ObjectKind::CustomResources,
            converted("w", json!({"url": "https://192.0.2.1/"})),
            "CustomResourceDefinition",
        ),
        (
            ObjectKind::CsiDrivers,
            json!({"metadata": {"name": "w"}, "spec": {"tokenRequests": [{}]}}),
            "CSIDriver",
        ),
    ];
    for (kind, object, word) in rows {
        let of = |h: &str| with(kind, object.clone(), h, ApiRule::WebhooksKnown).outcome();
        assert_eq!(of(&allow(word, "w", "2026-01-15")), Outcome::Pass, "{word}");
        assert_eq!(of(&allow(word, "w", "2026-01-14")), Outcome::Fail, "{word}");
        assert_eq!(of(&allow(word, "v", "2026-01-15")), Outcome::Fail, "{word}");
        assert_eq!(of(&allow("APIService", "w", "2026-01-15")), Outcome::Fail, "{word}");
    }
    // One that fails open enforces nothing.
    let named_one = allow("ValidatingWebhookConfiguration", "w", "2026-01-15");
    let ignoring = webhook("w", "Ignore");
    let verdict =
        with(ObjectKind::ValidatingWebhooks, ignoring, &named_one, ApiRule::WebhooksKnown);
    assert_eq!(verdict.outcome(), Outcome::Fail);

    let mut api = json!({"metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": {
        "service": {"namespace": "kube-system", "name": "metrics-server"}}});
    let granted = allow("APIService", "v1beta1.metrics.k8s.io", "2026-01-15");
    let of = |api: &Value| {
        with(ObjectKind::ApiServices, api.clone(), &granted, ApiRule::AggregatedApisKnown).outcome()
    };
    assert_eq!(of(&api), Outcome::Pass);
    api["spec"]["insecureSkipTLSVerify"] = json!(true);
    assert_eq!(of(&api), Outcome::Fail);
}
