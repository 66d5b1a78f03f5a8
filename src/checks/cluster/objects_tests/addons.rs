//! kube-proxy, CoreDNS and the Services of Kubernetes itself.

use super::*;

#[test]
fn kubernetes_own_services_stay_as_they_are() {
    for (at, value) in [
        ("/spec/type", json!("LoadBalancer")),
        ("/spec/clusterIP", json!("10.96.0.11")),
        ("/spec/clusterIPs", json!([])),
        ("/spec/sessionAffinity", json!("ClientIP")),
        ("/spec/internalTrafficPolicy", json!("Local")),
        ("/spec/trafficDistribution", json!("PreferClose")),
        ("/spec/publishNotReadyAddresses", json!(true)),
        ("/spec/externalIPs", json!(["10.0.0.1"])),
        ("/spec/ports/0/targetPort", json!(5353)),
        ("/spec/ports/0/protocol", json!("TCP")),
        ("/spec/ports/+", json!({"port": 53, "protocol": "TCP", "targetPort": 53})),
        ("/spec/ports", json!([])),
        ("/spec/selector", json!({"k8s-app": "x"})),
        ("/metadata/name", json!("other")),
    ] {
        let mut lists = good();
        let services = &mut lists.iter_mut().find(|(k, _)| *k == ObjectKind::Services).unwrap().1;
        put(&mut services[2], at, value.clone());
        if at == "/spec/clusterIPs" {
            put(&mut services[2], "/spec/clusterIP", json!(""));
        }
        let verdict = judge(ApiRule::ServiceEndpointsKnown, &facts(lists));
        assert_eq!(verdict.outcome(), Outcome::Fail, "{at} {value}");
    }
    // By the names of CoreDNS' ports.
    let mut lists = good();
    let services = &mut lists.iter_mut().find(|(k, _)| *k == ObjectKind::Services).unwrap().1;
    put(&mut services[2], "/spec/ports/0/targetPort", json!("dns"));
    let verdict = judge(ApiRule::ServiceEndpointsKnown, &facts(lists));
    assert_eq!(verdict.outcome(), Outcome::Pass, "{verdict:?}");
}

#[test]
fn a_pod_with_the_label_of_dns_is_no_dns() {
    let mut lists = good();
    let mut push =
        |kind, object| lists.iter_mut().find(|(k, _)| *k == kind).unwrap().1.push(object);
    let mut posing = dns_pod();
    posing["metadata"]["ownerReferences"] = json!([]);
    posing["status"] = json!({"podIP": "10.244.9.9"});
    push(ObjectKind::Pods, posing);
    push(ObjectKind::EndpointSlices, slice("kube-system", "kube-dns", "10.244.9.9"));
    assert_eq!(failing(&facts(lists)), [ApiRule::ServiceEndpointsKnown]);
    // One that says it is the Deployment's, which makes none by itself, and one of the ReplicaSet with another configuration.
    let other_map = |pod: &mut Value| {
        pod["spec"]["volumes"] = json!([{"name": "c", "configMap": {"name": "evil"}}])
    };
    for (owners, wanted) in [
        (json!([owner("Deployment", "coredns")]), vec![ApiRule::ServiceEndpointsKnown]),
        (dns_pod()["metadata"]["ownerReferences"].clone(), vec![ApiRule::PodsWithinStandard]),
    ] {
        let mut lists = good();
        let mut push =
            |kind, object| lists.iter_mut().find(|(k, _)| *k == kind).unwrap().1.push(object);
        let mut posing = dns_pod();
        other_map(&mut posing);
        posing["metadata"]["ownerReferences"] = owners;
        posing["status"] = json!({"podIP": "10.244.9.9"});
        push(ObjectKind::Pods, posing);
        push(ObjectKind::EndpointSlices, slice("kube-system", "kube-dns", "10.244.9.9"));
        assert_eq!(failing(&facts(lists)), wanted);
    }
}

#[test]
fn a_dns_pod_that_is_older_than_its_corefile_is_unknown() {
    let judged = |started: &str, written: &str| {
        let mut lists = good();
        fn of(lists: &mut [(ObjectKind, Vec<Value>)], kind: ObjectKind) -> &mut Vec<Value> {
            &mut lists.iter_mut().find(|(k, _)| *k == kind).unwrap().1
        }
        let dns = |p: &&mut Value| p["metadata"]["labels"]["k8s-app"] == "kube-dns";
        let pod = of(&mut lists, ObjectKind::Pods).iter_mut().find(dns).unwrap();
        pod["status"]["containerStatuses"] =
            json!([{"name": "coredns", "state": {"running": {"startedAt": started}}}]);
        let mut maps = of(&mut lists, ObjectKind::ConfigMaps).iter_mut();
        let map = maps.find(|m| m["metadata"]["name"] == "coredns");
        let metadata = &mut map.unwrap()["metadata"];
        metadata["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        metadata["managedFields"] = json!([{"time": written}, {"time": "2026-01-01T00:00:00Z"}]);
        judge_with(&inventory(), ApiRule::DnsConfiguration, &facts(lists)).outcome()
    };
    assert_eq!(judged("2026-01-02T00:00:00Z", "2026-01-01T12:00:00Z"), Outcome::Pass);
    assert_eq!(judged("2026-01-02T00:00:00Z", "2026-01-02T00:00:01Z"), Outcome::Unknown);
    // Made anew.
    assert_eq!(judged("2025-12-31T00:00:00Z", ""), Outcome::Unknown);
}

/// Without them they run on with what they knew, and nobody sees a Service that is new.
#[test]
fn add_ons_need_their_roles() {
    for (account, rule) in
        [("kube-proxy", ApiRule::ProxyConfiguration), ("coredns", ApiRule::DnsConfiguration)]
    {
        type Change = fn(&mut Vec<Value>, usize);
        let changes: &[Change] = &[
            |all, at| drop(all.remove(at)),
            |all, at| all[at]["subjects"] = json!([]),
            |all, at| all[at]["subjects"][0]["namespace"] = json!("shop"),
            |all, at| all[at]["roleRef"]["name"] = json!("view-nodes"),
        ];
        for change in changes {
            let mut lists = good();
            let bindings =
                lists.iter_mut().find(|(k, _)| *k == ObjectKind::ClusterRoleBindings).unwrap();
            let of_it = |b: &Value| b["subjects"][0]["name"] == account;
            let at = bindings.1.iter().position(of_it).unwrap();
            change(&mut bindings.1, at);
            let verdict = judge(rule, &facts(lists));
            let Verdict::Fail { actual, .. } = verdict else { panic!("{verdict:?}") };
            assert!(actual.contains(&format!("ServiceAccount kube-system/{account}")), "{actual}");
        }
    }
}

/// What is not there is as wrong as what should not be there: pods would get the answers of other resolvers.
#[test]
fn a_corefile_without_the_cluster_is_named() {
    let judged = |text: &str| {
        let mut lists = good();
        let maps = &mut lists.iter_mut().find(|(k, _)| *k == ObjectKind::ConfigMaps).unwrap().1;
        let map = maps.iter_mut().find(|m| m["metadata"]["name"] == "coredns").unwrap();
        map["data"]["Corefile"] = json!(text);
        judge(ApiRule::DnsConfiguration, &facts(lists)).outcome()
    };
    assert_eq!(judged(COREFILE), Outcome::Pass);
    let kubernetes = "kubernetes cluster.local in-addr.arpa ip6.arpa {";
    for without in [kubernetes, ".:53 {"] {
        assert_eq!(judged(&COREFILE.replace(without, "")), Outcome::Fail, "{without}");
    }
    assert_eq!(judged(""), Outcome::Fail);
    assert_eq!(judged(&format!("{COREFILE}{COREFILE}")), Outcome::Fail);
}

#[test]
fn add_ons_run_as_kubeadm_makes_them() {
    let extra = json!({"name": "x", "configMap": {"name": "x"}});
    let both = [
        ("/containers/+", json!({"name": "second"})),
        ("/initContainers", json!([{"name": "first"}])),
        ("/containers/0/args", json!(["-c", "x"])),
        ("/containers/0/command", json!(["/bin/sh"])),
        ("/containers/0/image", json!("r.io/coredns:v1.14.2")),
        ("/containers/0/image", json!("registry.k8s.io/kube-proxy-x:v1.36.2")),
        ("/containers/0/image", json!("registry.k8s.io/coredns/coredns.x:v1")),
        ("/containers/0/image", json!("registry.k8s.io/coredns/coredns")),
        ("/containers/0/image", json!("registry.k8s.io/kube-proxy:v1.35.0")),
        ("/containers/0/name", json!("x")),
        ("/containers/0/workingDir", json!("/tmp")),
        ("/containers/0/volumeMounts", json!([])),
        ("/containers/0/volumeMounts/0/subPath", json!("x")),
        ("/containers/0/volumeMounts/0/mountPath", json!("/tmp")),
        ("/containers/0/volumeMounts/+", json!({"name": "x", "mountPath": "/usr"})),
        ("/containers/0/volumeDevices", json!([{"name": "x", "devicePath": "/dev/x"}])),
        ("/volumes/0/configMap/name", json!("other")),
        ("/volumes/0/configMap/items", json!([{"key": "other", "path": "Corefile"}])),
        ("/volumes/0", json!({"name": "x", "secret": {"secretName": "x"}})),
        ("/volumes/+", extra),
        ("/volumes/+", json!({"name": "x", "hostPath": {"path": "/etc"}})),
        ("/serviceAccountName", json!("other")),
        ("/schedulerName", json!("other")),
        ("/shareProcessNamespace", json!(true)),
        ("/runtimeClassName", json!("other")),
        ("/dnsConfig", json!({"nameservers": ["192.0.2.1"]})),
        ("/hostAliases", json!([{"ip": "192.0.2.1", "hostnames": ["a.b"]}])),
    ];
    let dns = [("/dnsPolicy", json!("None")), ("/hostNetwork", json!(true))];
    let proxy = [("/hostNetwork", json!(false))];
    let rows = |kind, index, rule, own: Vec<(&'static str, Value)>| {
        let all = both.clone().into_iter().chain(own);
        all.map(|(at, value)| (kind, index, rule, at, value)).collect::<Vec<_>>()
    };
    let dns = rows(ObjectKind::Deployments, 1, ApiRule::DnsConfiguration, dns.into());
    let proxy = rows(ObjectKind::DaemonSets, 0, ApiRule::ProxyConfiguration, proxy.into());
    for (kind, index, rule, at, value) in dns.into_iter().chain(proxy) {
        let mut lists = good();
        let list = &mut lists.iter_mut().find(|(k, _)| *k == kind).unwrap().1;
        put(&mut list[index], &format!("/spec/template/spec{at}"), value.clone());
        let verdict = judge(rule, &facts(lists));
        assert_eq!(verdict.outcome(), Outcome::Fail, "{rule:?} {at} {value}");
    }
    // A digest besides, another placement, and bounds.
    for (at, value) in [
        ("/containers/0/image", json!("registry.k8s.io/coredns/coredns:v1.13.1@sha256:00")),
        ("/tolerations", json!([{"operator": "Exists"}])),
        ("/containers/0/resources", json!({"limits": {"memory": "1Gi"}})),
        ("/volumes/0/configMap/items", json!([])),
    ] {
        let mut lists = good();
        let list = &mut lists.iter_mut().find(|(k, _)| *k == ObjectKind::Deployments).unwrap().1;
        put(&mut list[1], &format!("/spec/template/spec{at}"), value);
        let verdict = judge(ApiRule::DnsConfiguration, &facts(lists));
        assert_eq!(verdict.outcome(), Outcome::Pass, "{at}: {verdict:?}");
    }
    for kind in [ObjectKind::Deployments, ObjectKind::DaemonSets] {
        let mut lists = good();
        lists.iter_mut().find(|(k, _)| *k == kind).unwrap().1.clear();
        let rules = [ApiRule::DnsConfiguration, ApiRule::ProxyConfiguration];
        let facts = facts(lists);
        assert!(rules.iter().any(|r| judge(*r, &facts).outcome() == Outcome::Fail), "{kind:?}");
    }
}

#[test]
fn dns_that_answers_nobody_is_a_finding() {
    let of = |at: &str, value: Value, since: &str| {
        let mut lists = good();
        let list = &mut lists.iter_mut().find(|(k, _)| *k == ObjectKind::Deployments).unwrap().1;
        put(&mut list[1], at, value);
        list[1]["status"]["conditions"] =
            json!([{"type": "Available", "status": "False", "lastTransitionTime": since}]);
        judge(ApiRule::DnsConfiguration, &facts(lists)).outcome()
    };
    let (now, before) = ("2026-01-15T11:59:00Z", "2026-01-15T11:50:00Z");
    assert_eq!(of("/status/readyReplicas", json!(0), before), Outcome::Fail);
    assert_eq!(of("/status/readyReplicas", json!(1), before), Outcome::Pass);
    // It just started.
    assert_eq!(of("/status/readyReplicas", json!(0), now), Outcome::Pass);
    assert_eq!(of("/spec/replicas", json!(0), now), Outcome::Fail);
}

#[test]
fn what_runs_beside_the_program_of_a_system_pod_is_named() {
    for (key, value) in [
        ("lifecycle", json!({"postStart": {"exec": {"command": ["sh"]}}})),
        ("livenessProbe", json!({"exec": {"command": ["sh"]}})),
        ("readinessProbe", json!({"exec": {"command": ["sh"]}})),
        ("startupProbe", json!({"exec": {"command": ["sh"]}})),
        ("envFrom", json!([{"configMapRef": {"name": "x"}}])),
        ("env", json!([{"name": "NODE_NAME", "value": "other"}])),
        ("env", json!([{"name": "GODEBUG", "value": "x"}])),
    ] {
        for (kind, index) in
            [(ObjectKind::Pods, 1), (ObjectKind::DaemonSets, 0), (ObjectKind::Deployments, 1)]
        {
            let mut lists = good();
            let list = &mut lists.iter_mut().find(|(k, _)| *k == kind).unwrap().1;
            let at = if kind == ObjectKind::Pods { "/spec" } else { "/spec/template/spec" };
            list[index].pointer_mut(at).unwrap()["containers"][0][key] = value.clone();
            let failing = failing(&facts(lists));
            assert_eq!(failing, [ApiRule::PodsWithinStandard], "{kind:?} {key}");
        }
    }
}
