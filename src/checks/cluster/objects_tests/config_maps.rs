//! The ConfigMaps of Kubernetes' own: a change in one breaks its rule, and is mended where kubeadm wrote it.

use super::*;

/// A ConfigMap of Kubernetes' own, something that is changed in it, and the rule that this breaks.
pub(super) const MAP_CHANGES: &[(&str, &str, &str, ApiRule)] = {
    use ApiRule::{
        ClusterInfo, DnsConfiguration, ExtensionCas, KubeadmConfiguration, ProxyConfiguration,
        ProxyKubeconfig,
    };
    const EXTENSION: &str = "extension-apiserver-authentication";
    const ANOTHER: &str = "-----BEGIN CERTIFICATE-----\nCCCC\n-----END CERTIFICATE-----\n-----B";
    &[
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

/// What a change by hand breaks in them, one `apply` mends: kubeadm writes its ConfigMaps and kube-proxy's anew.
#[test]
fn what_kubeadm_wrote_is_written_again_where_verify_fails() {
    use ApiRule::{KubeadmConfiguration, ProxyConfiguration, ProxyKubeconfig};
    let due = |facts: &ClusterFacts| {
        let inventory = inventory();
        let reference = reference(&inventory, facts);
        let now = datetime!(2026-01-15 12:00 UTC);
        let on =
            Cluster { facts, inventory: &inventory, reference: &reference, today: now.date(), now };
        crate::checks::has_to_be_uploaded(&on)
    };
    assert!(!due(&facts(good())));
    assert!(!due(&ClusterFacts::default()), "what was not read is left alone");
    let metrics = ("kube-proxy", "127.0.0.1:10249", "0.0.0.0:10249", ProxyConfiguration);
    for &(map, from, to, rule) in MAP_CHANGES.iter().chain([&metrics]) {
        let mut lists = good();
        let maps = &mut lists.iter_mut().find(|(k, _)| *k == ObjectKind::ConfigMaps).unwrap().1;
        let found = maps.iter_mut().find(|m| m["metadata"]["name"] == map).unwrap();
        for text in found["data"].as_object_mut().unwrap().values_mut() {
            *text = json!(text.as_str().unwrap().replacen(from, to, 1));
        }
        let is_kubeadms =
            matches!(rule, KubeadmConfiguration | ProxyConfiguration | ProxyKubeconfig);
        assert_eq!(due(&facts(lists.clone())), is_kubeadms, "{map}: {from}");
        // kubeadm leaves the ConfigMap alone where no kube-proxy runs: planned, it would be due for ever.
        let pods = &mut lists.iter_mut().find(|(k, _)| *k == ObjectKind::Pods).unwrap().1;
        pods.retain(|p| p["metadata"]["name"] != "kube-proxy-x");
        assert_eq!(due(&facts(lists)), rule == KubeadmConfiguration, "{map}: {from}");
    }
}

#[test]
fn configuration_that_was_changed_in_the_cluster_is_named() {
    let mut seen = BTreeSet::new();
    for &(map, from, to, rule) in MAP_CHANGES {
        let mut lists = good();
        let maps = &mut lists.iter_mut().find(|(k, _)| *k == ObjectKind::ConfigMaps).unwrap().1;
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
        let maps = &mut lists.iter_mut().find(|(k, _)| *k == ObjectKind::ConfigMaps).unwrap().1;
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
