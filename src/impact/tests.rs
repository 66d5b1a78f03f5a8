//! A cluster with one thing for each row to find, and what is no such thing beside it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use time::macros::datetime;

use super::rows::items;
use super::*;
use crate::facts::cluster::{ClusterFacts, ObjectKind};
use crate::facts::{Listener, NodeFacts, ProcessFacts};
use crate::inventory::{EtcdPlacement, Inventory, IpNetText, NodeName, Role, testing};
use crate::plan::Answered;

fn meta(space: &str, name: &str) -> Value {
    json!({"namespace": space, "name": name, "uid": format!("{space}/{name}")})
}

/// A pod that fulfils the restricted standard and holds no token.
fn good() -> Value {
    let container = json!({"name": "c", "securityContext": {
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}});
    json!({"automountServiceAccountToken": false, "containers": [container],
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}})
}

fn privileged() -> Value {
    let mut pod = good();
    pod["containers"][0]["securityContext"]["privileged"] = json!(true);
    pod
}

fn maker(space: &str, name: &str, spec: Value) -> Value {
    json!({"metadata": meta(space, name), "spec": {"replicas": 1, "template": {"spec": spec}}})
}

fn owned(mut object: Value, kind: &str, of: &Value) -> Value {
    object["metadata"]["ownerReferences"] = json!([{"kind": kind, "controller": true,
        "name": of["metadata"]["name"], "uid": of["metadata"]["uid"]}]);
    object
}

fn pod(space: &str, name: &str, spec: Value) -> Value {
    json!({"metadata": meta(space, name), "spec": spec, "status": {"phase": "Running"}})
}

/// Every kind is read, and empty but for what every cluster has.
pub(super) fn bare() -> ClusterFacts {
    let mut facts = ClusterFacts::default();
    for (kind, _) in ObjectKind::ALL {
        facts.objects.insert(*kind, Vec::new());
    }
    let space =
        |n: &str| json!({"metadata": {"name": n, "labels": {"kubernetes.io/metadata.name": n}}});
    facts
        .objects
        .insert(ObjectKind::Namespaces, ["default", "kube-system", "shop"].map(space).into());
    facts
}

fn put(facts: &mut ClusterFacts, kind: ObjectKind, object: Value) {
    facts.objects.get_mut(&kind).unwrap().push(object);
}

pub(super) fn inventory() -> Inventory {
    let mut inventory = testing::of_nodes([("cp1", Role::ControlPlane), ("w1", Role::Worker)]);
    inventory.etcd.placement = EtcdPlacement::Stacked;
    let net = |n: &str| -> Vec<IpNetText> { vec![n.parse().unwrap()] };
    inventory.cluster.pod_networks = net("10.244.0.0/16");
    inventory.cluster.service_networks = net("10.96.0.0/12");
    inventory.firewall.admin_networks = net("192.0.2.0/24");
    inventory
}

pub(super) fn nodes() -> BTreeMap<NodeName, Answered> {
    let of = |name: &str| {
        let mut facts = NodeFacts::bare(name);
        facts.listeners = Some(Vec::new());
        (facts.node.clone(), Answered { host_key: "SHA256:x".into(), facts })
    };
    [of("cp1"), of("w1")].into()
}

fn shown<'n>(nodes: &'n mut BTreeMap<NodeName, Answered>, name: &str) -> &'n mut NodeFacts {
    &mut nodes.get_mut(&name.parse().unwrap()).unwrap().facts
}

pub(super) fn seen_with(
    inventory: &Inventory,
    facts: &ClusterFacts,
    nodes: &BTreeMap<NodeName, Answered>,
) -> Impact {
    impact(&Reading {
        inventory,
        objects: Ok(facts),
        nodes,
        secrets: Ok(7),
        now: datetime!(2026-06-01 12:00 UTC),
    })
}

fn seen(facts: &ClusterFacts) -> Impact {
    seen_with(&inventory(), facts, &nodes())
}

/// The items of a row, as `Kind namespace/name`.
fn names(impact: &Impact, id: &str) -> Vec<String> {
    let word = |i: &Item| format!("{} {}/{}", i.kind, i.namespace, i.name);
    items(impact, id).iter().map(word).collect()
}

fn said<'i>(item: &'i Item, what: &str) -> &'i str {
    let one = item.seen.iter().find(|(w, _)| w == what);
    &one.unwrap_or_else(|| panic!("{what}: {item:?}")).1
}

#[test]
fn of_a_bare_cluster_nothing_is_listed() {
    let impact = seen(&bare());
    for listed in &impact.listed {
        match listed.row.is_recorded {
            // Nobody has recorded anything yet.
            true => assert!(listed.found.is_err(), "{}", listed.row.id),
            false => assert_eq!(listed.found.as_deref(), Ok(&[][..]), "{}", listed.row.id),
        }
    }
    assert!(impact.is_whole() && impact.not_seen.len() > 3);
    let ids: std::collections::BTreeSet<&str> = ROWS.iter().map(|r| r.id).collect();
    assert_eq!(ids.len(), ROWS.len());
    assert!(ROWS.is_sorted_by_key(|r| r.section));
}

#[test]
fn what_cannot_be_read_is_no_empty_list() {
    for (kind, row) in [
        (ObjectKind::CronJobs, "pod-security"),
        (ObjectKind::Namespaces, "pod-security-labels"),
        (ObjectKind::Services, "node-ports"),
        (ObjectKind::ClusterRoleBindings, "anonymous-bindings"),
        (ObjectKind::AccountTokens, "account-tokens"),
        (ObjectKind::ValidatingWebhooks, "webhooks"),
        (ObjectKind::ApiServices, "aggregated-apis"),
    ] {
        let mut facts = bare();
        facts.objects.remove(&kind);
        facts.unread.insert(kind, "a reason".into());
        let impact = seen(&facts);
        let listed = impact.listed.iter().find(|l| l.row.id == row).unwrap();
        assert!(listed.found.is_err() && !impact.is_whole(), "{row}");
        let why = impact.not_seen.iter().find(|n| n.what == listed.row.title).unwrap();
        assert!(why.why.contains("a reason"), "{why:?}");
    }
}

/// Nodes tell what they tell, also where no API server does.
#[test]
fn without_the_api_what_nodes_show_is_listed() {
    let mut nodes = nodes();
    let argv = vec!["kube-apiserver".to_owned()];
    let process = ProcessFacts { pid: 1, user: "root".into(), argv };
    shown(&mut nodes, "cp1").processes.insert("kube-apiserver".into(), vec![process]);
    let impact = impact(&Reading {
        inventory: &inventory(),
        objects: Err("nobody answered"),
        nodes: &nodes,
        secrets: Err("nobody answered".into()),
        now: datetime!(2026-06-01 12:00 UTC),
    });
    assert_eq!(names(&impact, "anonymous-api"), ["Node /cp1"]);
    let unread = impact.listed.iter().filter(|l| l.found.is_err()).map(|l| l.row.id);
    let unread: std::collections::BTreeSet<&str> = unread.collect();
    assert!(["pod-security", "webhooks", "unencrypted"].iter().all(|r| unread.contains(r)));
    assert!(!unread.contains("listeners") && !impact.is_whole());
}

/// What waits is refused as well, once its hour comes.
#[test]
fn templates_that_make_no_pod_now_are_listed() {
    let mut facts = bare();
    let mut zero = maker("shop", "zero", privileged());
    zero["spec"]["replicas"] = json!(0);
    put(&mut facts, ObjectKind::Deployments, zero);
    let suspended = json!({"metadata": meta("shop", "nightly"), "spec": {"suspend": true,
        "jobTemplate": {"spec": {"template": {"spec": privileged()}}}}});
    put(&mut facts, ObjectKind::CronJobs, suspended);
    let impact = seen(&facts);
    assert_eq!(names(&impact, "pod-security"), ["CronJob shop/nightly", "Deployment shop/zero"]);
    let states: Vec<_> = items(&impact, "pod-security").iter().map(|i| i.state).collect();
    assert_eq!(states, [Some("suspended"), Some("scaled to zero")]);
    for item in items(&impact, "pod-security") {
        assert_eq!(item.count, Some((0, "pod")));
        assert_eq!(said(item, "level"), "restricted");
        assert_eq!(said(item, "privileged"), "container c is privileged");
    }
}

#[test]
fn each_kind_that_makes_pods_is_listed_once_and_its_pods_are_counted() {
    let mut facts = bare();
    let deployment = maker("shop", "web", privileged());
    let set = owned(maker("shop", "web-1", privileged()), "Deployment", &deployment);
    for n in ["web-1-a", "web-1-b"] {
        put(&mut facts, ObjectKind::Pods, owned(pod("shop", n, privileged()), "ReplicaSet", &set));
    }
    put(&mut facts, ObjectKind::Deployments, deployment);
    put(&mut facts, ObjectKind::ReplicaSets, set);
    put(&mut facts, ObjectKind::ReplicaSets, maker("shop", "lone", privileged()));
    for (kind, name) in [
        (ObjectKind::StatefulSets, "db"),
        (ObjectKind::DaemonSets, "agent"),
        (ObjectKind::ReplicationControllers, "old"),
        (ObjectKind::Jobs, "once"),
    ] {
        put(&mut facts, kind, maker("shop", name, privileged()));
    }
    let mut done = maker("shop", "done", privileged());
    done["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
    put(&mut facts, ObjectKind::Jobs, done);
    put(&mut facts, ObjectKind::Pods, pod("shop", "bare", privileged()));
    let mut over = pod("shop", "over", privileged());
    over["status"]["phase"] = json!("Succeeded");
    put(&mut facts, ObjectKind::Pods, over);
    // Its owner is of a kind that nobody reads here.
    let mut of_operator = pod("shop", "step", privileged());
    of_operator["metadata"]["ownerReferences"] =
        json!([{"kind": "Workflow", "name": "w", "uid": "w", "controller": true}]);
    put(&mut facts, ObjectKind::Pods, of_operator);
    // Fine, or where it may.
    put(&mut facts, ObjectKind::Deployments, maker("shop", "good", good()));
    put(&mut facts, ObjectKind::Deployments, maker("kube-system", "cni", privileged()));
    let impact = seen(&facts);
    assert_eq!(
        names(&impact, "pod-security"),
        [
            "DaemonSet shop/agent",
            "Deployment shop/web",
            "Job shop/once",
            "Pod shop/bare",
            "Pod shop/step",
            "ReplicaSet shop/lone",
            "ReplicationController shop/old",
            "StatefulSet shop/db",
        ]
    );
    assert_eq!(items(&impact, "pod-security")[1].count, Some((2, "pod")));
}

#[test]
fn what_a_webhook_adds_to_pods_counts_for_what_makes_them() {
    let mut facts = bare();
    let set = maker("shop", "web", good());
    put(
        &mut facts,
        ObjectKind::Pods,
        owned(pod("shop", "web-a", privileged()), "ReplicaSet", &set),
    );
    put(&mut facts, ObjectKind::ReplicaSets, set);
    let impact = seen(&facts);
    assert_eq!(names(&impact, "pod-security"), ["ReplicaSet shop/web"]);
}

#[test]
fn a_label_of_a_namespace_stays_and_is_named_where_it_is_weaker() {
    let mut facts = bare();
    for (n, level) in [("loose", "baseline"), ("strict", "restricted")] {
        put(
            &mut facts,
            ObjectKind::Namespaces,
            json!({"metadata": {"name": n,
            "labels": {"pod-security.kubernetes.io/enforce": level}}}),
        );
        put(&mut facts, ObjectKind::Deployments, maker(n, "x", privileged()));
    }
    let impact = seen(&facts);
    assert_eq!(names(&impact, "pod-security"), [""; 0]);
    assert_eq!(names(&impact, "pod-security-labels"), ["Namespace /loose"]);
    let loose = &items(&impact, "pod-security-labels")[0];
    assert_eq!((said(loose, "level"), loose.count), ("baseline", Some((1, "workload"))));
    assert_eq!(said(loose, "not restricted"), "Deployment x");
}

fn service(name: &str, kind: &str, more: Value) -> Value {
    let mut spec = json!({"type": kind, "ports": [{"port": 80, "nodePort": 30080}]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"metadata": meta("shop", name), "spec": spec})
}

#[test]
fn node_ports_say_who_may_connect() {
    let mut facts = bare();
    put(&mut facts, ObjectKind::Services, service("web", "NodePort", json!({})));
    let inner = json!({"ports": [{"port": 80}]});
    put(&mut facts, ObjectKind::Services, service("inner", "ClusterIP", inner));
    let odd = json!({"ports": [{"port": 80, "nodePort": 20080, "protocol": "UDP"}]});
    put(&mut facts, ObjectKind::Services, service("odd", "NodePort", odd));
    let impact = seen(&facts);
    assert_eq!(names(&impact, "node-ports"), ["Service shop/odd", "Service shop/web"]);
    let [odd, web] = items(&impact, "node-ports") else { panic!() };
    let inside = "firewall.admin_networks, nodes, pods";
    assert_eq!(said(web, "node port"), format!("30080/TCP, open to {inside}"));
    assert_eq!(said(odd, "node port"), "20080/UDP, open to nodes, pods");
    // While nobody says where administrators are, they are everywhere; and without a firewall, everybody may.
    let mut open = inventory();
    open.firewall.admin_networks.clear();
    let impact = seen_with(&open, &facts, &nodes());
    assert_eq!(said(&items(&impact, "node-ports")[1], "node port"), "30080/TCP, open to everyone");
    open.firewall.mode = crate::inventory::FirewallMode::Off;
    let impact = seen_with(&open, &facts, &nodes());
    assert_eq!(said(&items(&impact, "node-ports")[0], "node port"), "20080/UDP, open to everyone");
    // Of a node that did not answer, nobody knows.
    let impact = seen_with(&inventory(), &facts, &BTreeMap::new());
    assert!(said(&items(&impact, "node-ports")[1], "node port").contains("unknown"));
}

#[test]
fn addresses_from_outside_are_listed_with_their_ports() {
    let mut facts = bare();
    put(
        &mut facts,
        ObjectKind::Services,
        service("out", "ClusterIP", json!({"externalIPs": ["198.51.100.7"]})),
    );
    let mut balanced = service("lb", "LoadBalancer", json!({"ports": [{"port": 443}]}));
    balanced["status"] = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.8"}]}});
    put(&mut facts, ObjectKind::Services, balanced);
    let impact = seen(&facts);
    let [lb, out] = items(&impact, "service-addresses") else { panic!() };
    assert_eq!(
        (said(lb, "load balancer"), said(out, "external IP")),
        ("198.51.100.8", "198.51.100.7")
    );
    assert_eq!(said(lb, "port"), "443/TCP, open to nodes, pods");
}

#[test]
fn ports_of_nodes_that_pods_have_are_listed_but_for_kubernetes_own() {
    let mut facts = bare();
    put(&mut facts, ObjectKind::Nodes, json!({"metadata": meta("", "cp1")}));
    let mut spec = good();
    spec["containers"][0]["ports"] =
        json!([{"containerPort": 8080, "hostPort": 8081}, {"containerPort": 9}]);
    put(&mut facts, ObjectKind::DaemonSets, maker("shop", "proxy", spec.clone()));
    spec["hostNetwork"] = json!(true);
    spec["containers"][0]["ports"] = json!([{"containerPort": 6443}, {"containerPort": 9100}]);
    put(&mut facts, ObjectKind::DaemonSets, maker("shop", "exporter", spec.clone()));
    spec["nodeName"] = json!("cp1");
    for called in ["etcd", "kube-apiserver", "stranger"] {
        let mut own = pod("kube-system", &format!("{called}-cp1"), spec.clone());
        own["spec"]["containers"][0]["name"] = json!(called);
        own["metadata"]["annotations"] =
            json!({"kubernetes.io/config.mirror": "x", "kubernetes.io/config.source": "file"});
        put(
            &mut facts,
            ObjectKind::Pods,
            owned(own, "Node", &json!({"metadata": meta("", "cp1")})),
        );
    }
    let impact = seen(&facts);
    assert_eq!(
        names(&impact, "host-ports"),
        ["Pod kube-system/stranger-cp1", "DaemonSet shop/exporter", "DaemonSet shop/proxy"]
    );
    let [_, exporter, proxy] = items(&impact, "host-ports") else { panic!() };
    assert_eq!(said(proxy, "port"), "8081/TCP, open to nodes, pods");
    let ports: Vec<&str> = exporter.seen.iter().map(|(_, said)| said.as_str()).collect();
    assert_eq!(
        ports,
        [
            "6443/TCP, open to firewall.admin_networks, nodes, pods on cp1; nobody on w1",
            "9100/TCP, open to nobody",
            "also ports that it does not declare",
        ]
    );
}

#[test]
fn listeners_that_no_rule_opens_are_listed() {
    let mut nodes = nodes();
    let listener =
        |address: &str, port| Listener { protocol: "tcp".into(), address: address.into(), port };
    let own = [("0.0.0.0", 9090), ("127.0.0.1", 9091), ("0.0.0.0", 10250), ("*", 10255)];
    shown(&mut nodes, "w1").listeners =
        Some(own.map(|(address, port)| listener(address, port)).into());
    let impact = seen_with(&inventory(), &bare(), &nodes);
    let [w1] = items(&impact, "listeners") else { panic!() };
    assert_eq!((w1.name.as_str(), said(w1, "closes"), w1.seen.len()), ("w1", "9090/tcp", 1));
    assert_eq!(names(&impact, "kubelet-read-only-ports"), ["Node /w1"]);
    shown(&mut nodes, "w1").listeners = None;
    assert!(!seen_with(&inventory(), &bare(), &nodes).is_whole());
}

fn binding(name: &str, role: &str, subjects: &[&str]) -> Value {
    let subjects: Vec<Value> = subjects.iter().map(|s| json!({"name": s})).collect();
    json!({"metadata": {"name": name}, "subjects": subjects,
        "roleRef": {"kind": "ClusterRole", "name": role}})
}

#[test]
fn bindings_of_whoever_asks_say_what_becomes_of_them() {
    let mut facts = bare();
    let own = ["system:authenticated", "system:unauthenticated"];
    let bindings = ObjectKind::ClusterRoleBindings;
    put(
        &mut facts,
        bindings,
        binding("system:public-info-viewer", "system:public-info-viewer", &own),
    );
    put(&mut facts, bindings, binding("open", "view", &["system:anonymous", "alice"]));
    put(&mut facts, bindings, binding("named", "view", &["alice"]));
    let impact = seen(&facts);
    let [public, open] = items(&impact, "anonymous-bindings") else { panic!() };
    assert!(public.of_kubernetes && !open.of_kubernetes);
    assert_eq!((said(open, "gives"), said(open, "to")), ("ClusterRole view", "system:anonymous"));
    assert_eq!(said(open, "then"), "keep only alice in ClusterRoleBinding open");
}

#[test]
fn tokens_that_end_and_those_that_should_are_listed_without_their_values() {
    let mut facts = bare();
    put(
        &mut facts,
        ObjectKind::JoinTokens,
        json!({"metadata": meta("kube-system", "bootstrap-token-a")}),
    );
    put(
        &mut facts,
        ObjectKind::ClusterRoleBindings,
        binding(
            "kubeadm:kubelet-bootstrap",
            "system:node-bootstrapper",
            &["system:bootstrappers:kubeadm:default-node-token"],
        ),
    );
    let mut secret = json!({"metadata": meta("shop", "ci")});
    secret["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "deployer"});
    put(&mut facts, ObjectKind::AccountTokens, secret);
    let impact = seen(&facts);
    let [bootstrap, token] = items(&impact, "join-tokens") else { panic!() };
    assert!(said(token, "then").starts_with("delete join token"));
    assert!(
        bootstrap.of_kubernetes && said(bootstrap, "then").starts_with("delete ClusterRoleBinding")
    );
    assert_eq!(said(&items(&impact, "account-tokens")[0], "account"), "shop/deployer");
}

#[test]
fn pods_that_hold_a_default_token_unasked_are_listed() {
    let spec = |account: Option<&str>, mounts: Option<bool>| {
        let mut spec = good();
        spec["automountServiceAccountToken"] = json!(mounts);
        spec["serviceAccountName"] = json!(account);
        spec
    };
    let mut facts = bare();
    for (n, spec) in [
        ("unasked", spec(None, None)),
        ("named", spec(Some("default"), None)),
        ("asks", spec(None, Some(true))),
        ("refuses", spec(None, Some(false))),
        ("other", spec(Some("web"), None)),
    ] {
        put(&mut facts, ObjectKind::Deployments, maker("shop", n, spec));
    }
    put(&mut facts, ObjectKind::Deployments, maker("default", "quiet", spec(None, None)));
    put(&mut facts, ObjectKind::ServiceAccounts, json!({"metadata": meta("shop", "default")}));
    put(
        &mut facts,
        ObjectKind::ServiceAccounts,
        json!({"metadata": meta("default", "default"), "automountServiceAccountToken": false}),
    );
    let impact = seen(&facts);
    assert_eq!(
        names(&impact, "default-tokens"),
        ["Deployment shop/named", "Deployment shop/unasked"]
    );
    let goes =
        |impact: &Impact| said(&items(impact, "default-tokens")[0], "token removed").to_owned();
    assert!(goes(&impact).starts_with("by the next apply"));
    // A plan leaves the account alone while somebody relies on it.
    let mut holder = spec(None, None);
    holder["volumes"] =
        json!([{"name": "t", "projected": {"sources": [{"serviceAccountToken": {}}]}}]);
    put(&mut facts, ObjectKind::Pods, pod("shop", "holder", holder));
    assert!(goes(&seen(&facts)).starts_with("not while"));
}

fn process(argv: &[&str]) -> ProcessFacts {
    ProcessFacts {
        pid: 1,
        user: "root".into(),
        argv: argv.iter().map(|a| (*a).to_owned()).collect(),
    }
}

#[test]
fn api_servers_that_answer_anybody_or_take_files_of_credentials_are_listed() {
    let mut nodes = nodes();
    let run = |nodes: &mut BTreeMap<NodeName, Answered>, argv: &[&str]| {
        let facts = shown(nodes, "cp1");
        facts.processes.insert("kube-apiserver".into(), vec![process(argv)]);
    };
    run(&mut nodes, &["kube-apiserver", "--token-auth-file=/x"]);
    let impact = seen_with(&inventory(), &bare(), &nodes);
    for row in ["anonymous-api", "static-credentials"] {
        assert_eq!(names(&impact, row), ["Node /cp1"], "{row}");
    }
    let counts: Vec<_> = items(&impact, "unencrypted").iter().map(|i| (i.kind, i.count)).collect();
    assert_eq!(counts, [("Secret", Some((7, "object"))), ("ConfigMap", Some((0, "object")))]);
    run(
        &mut nodes,
        &["kube-apiserver", "--anonymous-auth=false", "--encryption-provider-config=/e"],
    );
    let impact = seen_with(&inventory(), &bare(), &nodes);
    for row in ["anonymous-api", "static-credentials"] {
        assert_eq!(names(&impact, row), [""; 0], "{row}");
    }
}

#[test]
fn kubelets_that_answer_anybody_are_listed() {
    let mut nodes = nodes();
    let facts = shown(&mut nodes, "w1");
    facts.processes.insert("kubelet".into(), vec![process(&["kubelet", "--anonymous-auth=true"])]);
    let impact = seen_with(&inventory(), &bare(), &nodes);
    assert_eq!(names(&impact, "anonymous-kubelets"), ["Node /w1"]);
}

/// A Service of `shop`, and where it answers.
fn answers(facts: &mut ClusterFacts, name: &str, address: &str, port: u16) {
    put(facts, ObjectKind::Services, json!({"metadata": meta("shop", name), "spec": {}}));
    put(
        facts,
        ObjectKind::EndpointSlices,
        json!({
        "metadata": {"namespace": "shop", "name": name, "labels": {"kubernetes.io/service-name": name}},
        "ports": [{"port": port}], "endpoints": [{"addresses": [address]}]}),
    );
}

#[test]
fn webhooks_say_what_they_are_asked_and_whether_they_are_reached() {
    let hook = |name: &str, policy: &str, config: Value, resources: &[&str], selector: Value| {
        json!({"metadata": {"name": name}, "webhooks": [{
            "name": format!("{name}.example"), "failurePolicy": policy, "clientConfig": config,
            "namespaceSelector": selector, "objectSelector": {},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                "resources": resources, "scope": "*"}]}]})
    };
    let at = |name: &str| json!({"service": {"namespace": "shop", "name": name}});
    let mut facts = bare();
    answers(&mut facts, "in-pod", "10.244.1.9", 8443);
    answers(&mut facts, "on-host", "10.0.0.2", 8443);
    let no_system = json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name",
        "operator": "NotIn", "values": ["kube-system"]}]});
    for (kind, one) in [
        (ObjectKind::ValidatingWebhooks, hook("a", "Ignore", at("in-pod"), &["pods"], no_system)),
        (ObjectKind::ValidatingWebhooks, hook("b", "Fail", at("on-host"), &["pods"], json!({}))),
        (
            ObjectKind::MutatingWebhooks,
            hook("c", "Fail", json!({"url": "https://h.example/x"}), &["nodes"], json!({})),
        ),
        (ObjectKind::MutatingWebhooks, hook("d", "Ignore", at("gone"), &["secrets"], json!({}))),
    ] {
        put(&mut facts, kind, one);
    }
    let conversion = json!({"webhook": {"clientConfig": at("in-pod")}});
    put(
        &mut facts,
        ObjectKind::CustomResources,
        json!({"metadata": {"name": "crd"}, "spec": {"conversion": conversion}}),
    );
    let impact = seen(&facts);
    let all = items(&impact, "webhooks");
    let order: Vec<&str> = all.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(order, ["b", "c", "crd", "a", "d"], "those that fail first");
    let of = |name: &str| all.iter().find(|i| i.name == name).unwrap();
    assert!(said(of("a"), "network").starts_with("open: nodes can reach pods"));
    assert_eq!(said(of("a"), "namespaces"), "default, shop");
    assert_eq!(said(of("a"), "sent by hardening"), "nothing");
    assert!(said(of("b"), "network").starts_with("closes:"), "{:?}", of("b"));
    assert!(said(of("b"), "sent by hardening").starts_with("static pods"));
    assert_eq!(said(of("b"), "namespaces"), "all");
    assert_eq!(said(of("c"), "network"), "unknown: h.example is not an IP address");
    assert!(said(of("c"), "sent by hardening").contains("Nodes"));
    assert!(said(of("d"), "network").contains("does not exist"));
}

#[test]
fn parts_of_the_api_that_others_serve_are_listed() {
    let mut facts = bare();
    answers(&mut facts, "metrics", "10.0.0.2", 4443);
    put(&mut facts, ObjectKind::ApiServices, json!({"metadata": {"name": "v1."}, "spec": {}}));
    put(
        &mut facts,
        ObjectKind::ApiServices,
        json!({"metadata": {"name": "v1.metrics"},
        "spec": {"service": {"namespace": "shop", "name": "metrics"}}}),
    );
    let impact = seen(&facts);
    assert_eq!(names(&impact, "aggregated-apis"), ["APIService /v1.metrics"]);
    assert!(said(&items(&impact, "aggregated-apis")[0], "network").starts_with("closes:"));
}
