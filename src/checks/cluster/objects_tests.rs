//! A cluster as it should be fulfils every rule about objects, and one thing wrong breaks exactly the
//! rule that is about it.

mod additions;
mod addons;
mod changes;
mod config_maps;
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
use crate::facts::cluster::{ClusterFacts, ObjectKind};
use crate::inventory::{Inventory, Software, SoftwareFile, SoftwareKind, testing};
use additions::*;
use changes::*;
use config_maps::*;
use good::*;

#[test]
fn a_cluster_as_it_should_be_fulfils_every_rule() {
    let facts = facts(good());
    for &(rule, _) in ApiRule::ALL {
        let verdict = judge(rule, &facts);
        assert_eq!(verdict.outcome(), Outcome::Pass, "{rule:?}: {verdict:?}");
    }
    let proxy = proxy_configuration(&facts).unwrap();
    assert_eq!(proxy["metricsBindAddress"], "127.0.0.1:10249");
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
    let accounts = lists.iter_mut().find(|(k, _)| *k == ObjectKind::ServiceAccounts).unwrap();
    for account in &mut accounts.1 {
        account["automountServiceAccountToken"] = json!(true);
    }
    let verdict = judge(ApiRule::NoPendingChange, &facts(lists.clone()));
    assert!(
        format!("{verdict:?}").contains("automountServiceAccountToken: true -> false"),
        "{verdict:?}"
    );
    let mut part = facts(lists);
    part.objects.remove(&ObjectKind::SigningRequests);
    assert_eq!(judge(ApiRule::NoPendingChange, &part).outcome(), Outcome::Unknown);
}

/// Without its Node, a kubelet runs on, and is judged by nobody.
#[test]
fn a_node_that_is_not_in_the_cluster_is_named() {
    for gone in ["w1", "cp2"] {
        let mut lists = good();
        let nodes = &mut lists.iter_mut().find(|(k, _)| *k == ObjectKind::Nodes).unwrap().1;
        nodes.retain(|n| n["metadata"]["name"] != gone);
        let verdict = judge(ApiRule::NodesKnown, &facts(lists));
        let Verdict::Fail { actual, .. } = verdict else { panic!("{verdict:?}") };
        let said = format!("{gone} is in the inventory but not in the cluster");
        assert!(actual.contains(&said), "{actual}");
    }
}

/// Its kubelet may have been dead for days: what else the cluster says of the node is old.
#[test]
fn a_node_that_is_not_ready_is_named() {
    let ready =
        |status: &str, reason: &str| json!([{"type": "Ready", "status": status, "reason": reason}]);
    for (conditions, why) in [
        (ready("Unknown", "NodeStatusUnknown"), "NodeStatusUnknown"),
        (ready("False", "KubeletNotReady"), "KubeletNotReady"),
        (ready("False", ""), "no reason given"),
        (json!([{"type": "MemoryPressure", "status": "True"}]), "no condition Ready"),
        (Value::Null, "no condition Ready"),
    ] {
        let mut lists = good();
        let nodes = &mut lists.iter_mut().find(|(k, _)| *k == ObjectKind::Nodes).unwrap().1;
        for node in nodes.iter_mut().filter(|n| n["metadata"]["name"] != "cp1") {
            node["status"]["conditions"] = conditions.clone();
        }
        let verdict = judge(ApiRule::NodesKnown, &facts(lists));
        let Verdict::Fail { actual, .. } = verdict else { panic!("{verdict:?}") };
        let said = ["cp2", "w1", "w2"].map(|node| format!("Node {node} is not Ready: {why}"));
        assert_eq!(actual, said.join(", "));
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
    for &(rule, _) in ApiRule::ALL {
        assert!(broken.contains(&rule), "nothing breaks {rule:?}: add to additions() or changes()");
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
    let maps = &mut signed.iter_mut().find(|(k, _)| *k == ObjectKind::ConfigMaps).unwrap().1;
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
    put(ObjectKind::ClusterRoles, role(called, &[group], &[resource], &[verb]));
    put(ObjectKind::ClusterRoleBindings, binding(called, called, json!([subject])));
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
    put(ObjectKind::Roles, own);
    put(ObjectKind::RoleBindings, by);
    assert_eq!(failing(&facts(lists)), [ApiRule::MinimalRbac]);
}

/// A kind that no list is asked for would leave its rule unknown on every cluster, and nobody would notice here.
#[test]
fn every_kind_that_is_judged_is_asked_for() {
    let judged: std::collections::BTreeSet<ObjectKind> =
        good().into_iter().map(|(k, _)| k).collect();
    assert_eq!(judged, ObjectKind::for_checks(u16::MAX).into_iter().collect());
}

#[test]
fn what_could_not_be_read_is_unknown() {
    for &(rule, _) in ApiRule::ALL {
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
    for (rule, _) in ApiRule::ALL.iter().copied().filter(|(r, _)| !holds.contains(r)) {
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
    for &(rule, _) in ApiRule::ALL {
        let before = judge_by(&inventory(), &by, rule, &whole);
        let mut counts = std::collections::BTreeSet::new();
        for kind in whole.objects.keys() {
            let mut fewer = whole.clone();
            fewer.objects.remove(kind);
            if judge_by(&inventory(), &by, rule, &fewer) != before {
                counts.insert(*kind);
            }
        }
        let named: std::collections::BTreeSet<ObjectKind> =
            lists_of(rule).iter().copied().collect();
        if counts != named {
            wrong.push(format!("{rule:?}: {named:?} are named, and {counts:?} count"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What a list holds more, and what an inventory grants.
fn with(kind: ObjectKind, object: Value, hardening: &str, rule: ApiRule) -> Verdict {
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
        put(ObjectKind::NetworkPolicies, deny);
        put(ObjectKind::Namespaces, json!({"metadata": {"name": "open", "labels": labels}}));
        put(ObjectKind::RoleBindings, role_binding("open", "app", "edit"));
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
    let said = |kind: ObjectKind, object: Value, rule: ApiRule| {
        let mut lists = good();
        lists.iter_mut().find(|(k, _)| *k == kind).unwrap().1.push(object);
        match judge(rule, &facts(lists)) {
            Verdict::Fail { actual, .. } => actual,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        said(ObjectKind::Pods, breaking("shop"), ApiRule::PodsWithinStandard),
        "shop/x (hostPID, container c is privileged, hostPath /, volume root of type hostPath)"
    );
    let mut other = proxy_pod();
    other["spec"]["containers"][0]["image"] = json!("r.io/x:v1.0");
    let other = said(ObjectKind::Pods, other, ApiRule::PodsWithinStandard);
    let of = "kube-system/kube-proxy-x (differs from DaemonSet kube-proxy, hostNetwork, ";
    assert!(other.starts_with(of), "{other}");
    assert_eq!(
        said(
            ObjectKind::RoleBindings,
            role_binding("shop", "app", "cluster-admin"),
            ApiRule::MinimalRbac
        ),
        "ServiceAccount shop/app may do everything in shop through shop/app"
    );
    assert_eq!(
        said(ObjectKind::MutatingWebhooks, webhook("w", "Fail"), ApiRule::WebhooksKnown),
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
        for &(missing, _) in ObjectKind::ALL {
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
