//! A stock cluster, and one with what operators set.

use serde_json::json;

use super::super::cluster::tests::{STOCK, found, objects, stacked};
use super::documents::KUBELET_FILE;
use super::*;
use crate::facts::ProcessFacts;
use crate::facts::cluster::KUBELET_CONFIG;
use crate::inventory::text;

const ODD: &str = "
apiServer:
  certSANs: [api.lab.example, 192.0.2.11]
  extraArgs:
  - {name: event-ttl, value: 3h0m0s}
  - {name: service-account-issuer, value: 'https://a.example'}
  - {name: service-account-issuer, value: 'https://b.example'}
  - {name: audit-policy-file, value: /etc/kubernetes/audit/policy.yaml}
  - {name: audit-log-path, value: /var/log/kubernetes/audit.log}
  - {name: audit-log-maxage, value: '60'}
  - {name: tls-min-version, value: VersionTLS12}
  - {name: advertise-address, value: 192.0.2.99}
  extraVolumes:
  - {name: audit, hostPath: /etc/kubernetes/audit, mountPath: /etc/kubernetes/audit, pathType: DirectoryOrCreate, readOnly: true}
  - {name: k8s-certs, hostPath: /x, mountPath: /x}
  extraEnvs: [{name: HTTPS_PROXY, value: 'http://proxy.example'}]
apiVersion: kubeadm.k8s.io/v1beta4
certificateValidityPeriod: 4800h0m0s
clusterName: kubernetes
controllerManager:
  extraArgs: [{name: node-cidr-mask-size, value: '25'}]
controlPlaneEndpoint: 192.0.2.11:6443
encryptionAlgorithm: ECDSA-P384
etcd:
  local:
    dataDir: /var/lib/etcd
    extraArgs: [{name: quota-backend-bytes, value: '1'}]
imageRepository: mirror.example/k8s
kind: ClusterConfiguration
kubernetesVersion: v1.36.2
networking: {dnsDomain: cluster.local, podSubnet: 10.244.0.0/16, serviceSubnet: 10.96.0.0/12}
scheduler: {}
";

const KUBELET: &str = "
apiVersion: kubelet.config.k8s.io/v1beta1
authentication: {anonymous: {enabled: false}, webhook: {cacheTTL: 0s, enabled: true}, x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}}
authorization: {mode: Webhook, webhook: {cacheAuthorizedTTL: 0s}}
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
kind: KubeletConfiguration
logging: {flushFrequency: 0, options: {json: {infoBufferSize: '0'}}, verbosity: 0}
maxPods: 60
evictionHard: {memory.available: 200Mi}
seccompDefault: false
memorySwap: {}
rotateCertificates: true
staticPodPath: /etc/kubernetes/manifests
";

const PROXY: &str = "
apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
clientConnection: {burst: 0, kubeconfig: /var/lib/kube-proxy/kubeconfig.conf}
clusterCIDR: 10.244.0.0/16
conntrack: {maxPerCore: 0, min: null, tcpBeLiberal: false}
iptables: {localhostNodePorts: null, syncPeriod: 0s}
kind: KubeProxyConfiguration
mode: nftables
nodePortAddresses: null
";

fn pod(program: &str, more: &str) -> String {
    format!(
        "spec:\n  containers:\n  - name: {program}\n    image: registry.k8s.io/{program}:v1.36.2\n    command:\n    - {program}\n    - --service-account-issuer=https://kubernetes.default.svc.cluster.local\n{more}"
    )
}

/// What becomes of a cluster by a decision about all conflicts.
fn imported(configuration: &str, decision: Decision) -> Settled {
    let mut facts = stacked();
    let (cp, w) = ("cp1".parse().unwrap(), "w1".parse().unwrap());
    let plane: &mut NodeFacts = facts.get_mut(&cp).unwrap();
    for (name, more) in [
        ("kube-apiserver", "    - --v=3\n    - --anonymous-auth=true\n"),
        ("kube-controller-manager", ""),
        ("kube-scheduler", "    env: [{name: HTTPS_PROXY, value: 'http://proxy.example'}]\n"),
    ] {
        let path = format!("/etc/kubernetes/manifests/{name}.yaml");
        plane.texts.insert(path, Some(pod(name, more)));
    }
    plane.texts.insert(KUBELET_FILE.into(), Some(KUBELET.into()));
    let own = KUBELET.replace("maxPods: 60", "maxPods: 30");
    facts.get_mut(&w).unwrap().texts.insert(KUBELET_FILE.into(), Some(own));
    for (node, more) in [(&cp, "--v=2"), (&w, "--provider-id=x")] {
        let argv =
            ["/usr/bin/kubelet", "--config=/var/lib/kubelet/config.yaml", "--node-ip=::", more];
        let process = ProcessFacts {
            pid: 1,
            user: "root".into(),
            argv: argv.iter().map(|a| (*a).to_owned()).collect(),
        };
        facts.get_mut(node).unwrap().processes.insert("kubelet".into(), vec![process]);
    }
    let mut found = found(configuration, &facts);
    for label in ["zone.example/rack", "kubernetes.io/arch"] {
        found.nodes[0].labels.insert(label.into(), "r1".into());
    }
    let mut objects = objects(configuration);
    let (_, kubelet) = KUBELET_CONFIG.split_once('/').unwrap();
    for (name, key, text) in [(kubelet, "kubelet", KUBELET), ("kube-proxy", "config.conf", PROXY)] {
        let map =
            json!({"metadata": {"namespace": "kube-system", "name": name}, "data": {key: text}});
        objects.objects.get_mut(&ObjectKind::ConfigMaps).unwrap().push(map);
    }
    for node in objects.objects.get_mut(&ObjectKind::Nodes).unwrap() {
        let taint = |key: &str| json!({"key": key, "effect": "NoSchedule"});
        node["spec"]["taints"] = json!([taint("dedicated"), taint("node.kubernetes.io/not-ready")]);
    }
    let texts = [("/etc/kubernetes/audit/policy.yaml".to_owned(), "a policy".to_owned())].into();
    let key = format!("SHA256:{}", "A".repeat(43));
    let source = Source {
        found: &found,
        objects: &objects,
        facts: &facts,
        host_keys: &[(cp, key.clone()), (w, key)].into(),
        access: &SshAccess { known_hosts: Some("/k".into()), ..SshAccess::default() },
        named: &BTreeMap::new(),
        profile: Profile::Nsa,
        texts: &texts,
    };
    let grant = Grant { owner: "ops".into(), expires: "2026-03-01".into() };
    let decide = &mut |_: &OpenConflict| Ok::<_, ()>(decision);
    settle(import(&source), &grant, decide).unwrap()
}

fn loads(settled: &Settled) -> Inventory {
    let written = text(&settled.inventory, &BTreeMap::new());
    let context = crate::inventory::LoadContext {
        clock: crate::clock::Clock::Fixed(time::macros::datetime!(2026-02-01 12:00 UTC)),
        known_controls: &crate::controls::ids::ALL,
        critical_controls: &crate::controls::ids::CRITICAL,
        impact_rows: crate::impact::IDS,
        conflicts: crate::controls::conflict,
        home: None,
        host_keys_optional: false,
    };
    let (file, base) = (std::path::Path::new("i.yaml"), std::path::Path::new("/i"));
    let loaded = crate::inventory::load_bytes(written.as_bytes(), file, base, &context);
    loaded.unwrap_or_else(|e| panic!("{:#?}\n{written}", e.problems())).inventory
}

fn has(lines: &[Line], what: &str, value: &str) -> bool {
    lines.iter().any(|l| l.what == what && l.value.contains(value))
}

#[test]
fn each_setting_of_an_odd_cluster_is_kept_or_named() {
    let settled = imported(ODD, Decision::Harden);
    let i = loads(&settled);
    assert_eq!(i.etcd.placement, EtcdPlacement::Stacked);
    let args = &i.api_server.extra_args;
    assert_eq!(args["event-ttl"].0, ["3h0m0s"]);
    assert_eq!(args["service-account-issuer"].0, ["https://a.example", "https://b.example"]);
    assert_eq!(args["v"].0, ["3"], "of the static pod");
    assert_eq!(args.len(), 3, "{args:?}");
    assert_eq!(i.controller_manager.extra_args["node-cidr-mask-size"].0, ["25"]);
    assert_eq!(i.api_server.extra_volumes.len(), 1);
    assert_eq!(i.audit.max_age_days, 60);
    assert_eq!(i.audit.policy, crate::inventory::AuditPolicy::Custom);
    assert_eq!(settled.files["audit-policy.yaml"], "a policy");
    assert_eq!(i.cluster.extra_sans.len(), 1, "the endpoint is there anyway");
    assert_eq!(
        (i.pki.leaf_days, i.pki.algorithm),
        (200, crate::inventory::KeyAlgorithm::EcdsaP384)
    );
    let kubelet = serde_json::to_value(&i.kubelet.extra).unwrap();
    assert_eq!(kubelet, json!({"maxPods": 60, "evictionHard": {"memory.available": "200Mi"}}));
    let proxy = serde_json::to_value(&i.kube_proxy.extra).unwrap();
    assert_eq!(proxy, json!({"mode": "nftables", "conntrack": {"maxPerCore": 0}}));
    let cp1 = &i.nodes[0];
    assert_eq!(cp1.roles, [Role::ControlPlane, Role::Worker], "nothing keeps workloads away");
    assert_eq!(
        (cp1.labels.len(), cp1.taints.as_slice()),
        (1, &["dedicated:NoSchedule".to_owned()][..])
    );
    assert_eq!(cp1.ssh.host_keys.len(), 1);
    // The same as a control sets, and what is in conflict.
    assert!(has(&settled.taken_over, "--tls-min-version", "VersionTLS12"));
    let conflicts: Vec<&str> = settled.conflicts.iter().map(|a| a.conflict.control).collect();
    assert_eq!(conflicts.len(), 3, "{conflicts:?}");
    for control in
        ["apiserver-audit-log-path", "apiserver-anonymous-auth", "kubelet-seccomp-default"]
    {
        assert!(conflicts.contains(&control), "{control}: {conflicts:?}");
    }
    // What can be held nowhere.
    for (what, value) in [
        ("--advertise-address", "192.0.2.99"),
        ("volume k8s-certs", "/x"),
        ("apiServer.extraEnvs", "HTTPS_PROXY"),
        ("environment variable HTTPS_PROXY", "proxy.example"),
        ("etcd.local.extraArgs", "quota-backend-bytes"),
        ("imageRepository", "mirror.example/k8s"),
        ("maxPods", "30"),
        ("--v", "2"),
        ("--provider-id", "x"),
    ] {
        assert!(has(&settled.not_taken_over, what, value), "{what}: {:#?}", settled.not_taken_over);
    }
}

#[test]
fn what_is_kept_switches_its_control_off_with_a_last_day() {
    let settled = imported(ODD, Decision::Keep);
    let i = loads(&settled);
    assert_eq!(i.api_server.extra_args["audit-log-path"].0, ["/var/log/kubernetes/audit.log"]);
    assert_eq!(i.api_server.extra_args["anonymous-auth"].0, ["true"]);
    let off = i.hardening.controls["apiserver-anonymous-auth"].granted.as_ref().unwrap();
    assert_eq!((off.owner.as_str(), off.expires.as_str()), ("ops", "2026-03-01"));
    // What kubelets get where it is off.
    assert!(i.hardening.controls.contains_key("kubelet-seccomp-default"));
    assert!(!i.kubelet.extra.contains_key("seccompDefault"));
    assert!(settled.conflicts.iter().all(|a| a.decision == "keep"));
}

/// Of kubeadm's defaults nothing is written down.
#[test]
fn a_stock_cluster_passes_nothing_through_of_what_kubeadm_was_told() {
    let settled = imported(STOCK, Decision::Harden);
    let i = loads(&settled);
    let args: Vec<&String> = i.api_server.extra_args.keys().collect();
    assert_eq!(args, ["v"], "somebody edited its static pod");
    assert!(i.controller_manager.extra_args.is_empty() && i.scheduler.extra_args.is_empty());
    assert!(i.api_server.extra_volumes.is_empty() && i.cluster.extra_sans.is_empty());
}

/// kubeadm's earlier API has a mapping.
#[test]
fn arguments_of_an_earlier_api_are_read_too() {
    let old = STOCK.replace("v1beta4", "v1beta3")
        + "apiServer: {extraArgs: {event-ttl: 2h, max-requests-inflight: '9'}, timeoutForControlPlane: 4m0s}\n";
    let i = loads(&imported(&old, Decision::Harden));
    assert_eq!(i.api_server.extra_args["event-ttl"].0, ["2h"]);
    assert_eq!(i.api_server.extra_args["max-requests-inflight"].0, ["9"]);
}
