//! A cluster as it should be fulfils every rule about objects, and one thing wrong breaks exactly the
//! rule that is about it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use time::macros::{date, datetime};

use super::kept::Reference;
use super::model::{Outcome, Verdict};
use super::objects::{Cluster, judge_objects, proxy_configuration};
use crate::controls::ApiRule;
use crate::facts::cluster::{ClusterFacts, Kind};
use crate::inventory::{Inventory, testing};
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

/// A pod that fulfils the restricted standard.
fn pod(space: &str, name: &str, labels: Value, image: &str) -> Value {
    json!({"metadata": {"namespace": space, "name": name, "labels": labels},
           "spec": {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"},
                                        "runAsNonRoot": true},
                    "containers": [container(image)]}})
}

/// A static pod as kubeadm makes it.
fn static_pod(name: &str, node: &str, image: &str) -> Value {
    let full = format!("{name}-{node}");
    let mut pod = pod("kube-system", &full, json!({"tier": "control-plane"}), image);
    pod["metadata"]["ownerReferences"] = json!([owner("Node", node)]);
    pod["metadata"]["annotations"] =
        json!({"kubernetes.io/config.mirror": "00", "kubernetes.io/config.source": "file"});
    pod["spec"]["nodeName"] = json!(node);
    pod["spec"]["containers"][0]["name"] = json!(name);
    pod["spec"]["hostNetwork"] = json!(true);
    pod["spec"]["securityContext"].as_object_mut().unwrap().remove("runAsNonRoot");
    pod["spec"]["volumes"] = json!([{"name": "pki", "hostPath": {"path": "/etc/kubernetes/pki"}}]);
    pod
}

/// What makes such pods.
fn maker(space: &str, name: &str, pod: &Value) -> Value {
    json!({"metadata": {"namespace": space, "name": name, "uid": format!("uid-of-{name}")},
           "spec": {"template": {"spec": pod["spec"]}}})
}

/// A reference to what controls an object.
fn owner(kind: &str, name: &str) -> Value {
    json!({"kind": kind, "name": name, "uid": format!("uid-of-{name}"), "controller": true})
}

/// A request for a certificate, approved by somebody.
fn approved(organization: &str, name: &str) -> Value {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut asked = rcgen::CertificateParams::default();
    asked.distinguished_name = rcgen::DistinguishedName::new();
    asked.distinguished_name.push(rcgen::DnType::OrganizationName, organization);
    asked.distinguished_name.push(rcgen::DnType::CommonName, name);
    let pem = asked.serialize_request(&key).unwrap().pem().unwrap();
    json!({"metadata": {"name": "by-hand"},
           "spec": {"signerName": "kubernetes.io/kube-apiserver-client",
                    "request": BASE64_STANDARD.encode(pem)},
           "status": {"conditions": [{"type": "Approved"}]}})
}

/// What a kubelet asked for, and who approved it saw to.
fn of_a_kubelet(signer: &str, node: &str, names: &[&str]) -> Value {
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut asked = rcgen::CertificateParams::new(names).unwrap();
    asked.distinguished_name = rcgen::DistinguishedName::new();
    asked.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
    let user = format!("system:node:{node}");
    asked.distinguished_name.push(rcgen::DnType::CommonName, user.clone());
    let pem = asked.serialize_request(&key).unwrap().pem().unwrap();
    let usage = if signer == "kubelet-serving" { "server auth" } else { "client auth" };
    json!({"metadata": {"name": format!("csr-{node}")},
           "spec": {"signerName": format!("kubernetes.io/{signer}"), "username": user,
                    "usages": ["digital signature", usage], "request": BASE64_STANDARD.encode(pem)},
           "status": {"conditions": [{"type": "Approved"}]}})
}

static REQUESTS: LazyLock<[Value; 3]> = LazyLock::new(|| {
    [
        of_a_kubelet("kubelet-serving", "w1", &["w1", "10.0.0.3"]),
        of_a_kubelet("kube-apiserver-client-kubelet", "w1", &[]),
        // Its node has left.
        of_a_kubelet("kubelet-serving", "w9", &["w9", "10.0.0.9"]),
    ]
});

/// kube-proxy's pod, which has to change the node's rules, as kubeadm 1.36 makes it.
fn proxy_pod() -> Value {
    json!({"metadata": {"namespace": "kube-system", "name": "kube-proxy-x",
               "ownerReferences": [owner("DaemonSet", "kube-proxy")]},
           "spec": {"hostNetwork": true, "dnsPolicy": "ClusterFirst", "restartPolicy": "Always",
                    "serviceAccountName": "kube-proxy", "securityContext": {},
                    "nodeSelector": {"kubernetes.io/os": "linux"}, "tolerations": [{"operator": "Exists"}],
                    "volumes": [{"name": "kube-proxy", "configMap": {"name": "kube-proxy", "defaultMode": 420}},
                                {"name": "x", "hostPath": {"path": "/run/xtables.lock", "type": "FileOrCreate"}},
                                {"name": "m", "hostPath": {"path": "/lib/modules", "type": ""}}],
                    "containers": [{"name": "kube-proxy", "image": "registry.k8s.io/kube-proxy:v1.36.2",
                                    "command": ["/usr/local/bin/kube-proxy",
                                        "--config=/var/lib/kube-proxy/config.conf",
                                        "--hostname-override=$(NODE_NAME)"],
                                    "env": [{"name": "NODE_NAME", "valueFrom": {"fieldRef":
                                        {"apiVersion": "v1", "fieldPath": "spec.nodeName"}}}],
                                    "resources": {}, "volumeMounts": [
                                        {"name": "kube-proxy", "mountPath": "/var/lib/kube-proxy"},
                                        {"name": "x", "mountPath": "/run/xtables.lock"},
                                        {"name": "m", "mountPath": "/lib/modules", "readOnly": true}],
                                    "securityContext": {"privileged": true}}]}})
}

/// CoreDNS' pod, as kubeadm 1.36 makes it with kubastion's patch.
fn dns_pod() -> Value {
    let label = json!({"k8s-app": "kube-dns"});
    let mut dns =
        pod("kube-system", "coredns-1-x", label, "registry.k8s.io/coredns/coredns:v1.14.2");
    dns["metadata"]["ownerReferences"] = json!([owner("ReplicaSet", "coredns-1")]);
    dns["status"] = json!({"podIP": "10.244.0.2", "podIPs": [{"ip": "10.244.0.2"}]});
    dns["spec"]["serviceAccountName"] = json!("coredns");
    dns["spec"]["dnsPolicy"] = json!("Default");
    dns["spec"]["priorityClassName"] = json!("system-cluster-critical");
    dns["spec"]["volumes"] = json!([{"name": "config-volume", "configMap": {"name": "coredns",
        "items": [{"key": "Corefile", "path": "Corefile"}]}}]);
    let container = &mut dns["spec"]["containers"][0];
    container["name"] = json!("coredns");
    container["args"] = json!(["-conf", "/etc/coredns/Corefile"]);
    container["livenessProbe"] = json!({"httpGet": {"path": "/health", "port": "liveness-probe"}});
    container["volumeMounts"] =
        json!([{"name": "config-volume", "mountPath": "/etc/coredns", "readOnly": true}]);
    dns
}

/// The same with the token that the API server puts into every pod.
fn with_token(mut pod: Value) -> Value {
    let volume = json!({"name": "kube-api-access-x", "projected": {"sources": [
        {"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "kube-root-ca.crt"}}]}});
    pod["spec"]["volumes"].as_array_mut().unwrap().push(volume);
    let mount = json!({"name": "kube-api-access-x", "readOnly": true,
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"});
    pod["spec"]["containers"][0]["volumeMounts"].as_array_mut().unwrap().push(mount);
    pod
}

const CA: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const FRONT_PROXY_CA: &str = "-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n";

/// kubeadm's file on a control plane.
const INIT: &str = "kind: InitConfiguration
---
kind: ClusterConfiguration
apiServer: {extraArgs: [{name: anonymous-auth, value: 'false'}]}
---
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}}
protectKernelDefaults: false
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clusterCIDR: 10.244.0.0/16
metricsBindAddress: 127.0.0.1:10249
nodePortAddresses: [primary]
iptables: {localhostNodePorts: false}
";

/// The Corefile of kubeadm 1.36.
const COREFILE: &str = ".:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
       disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
";

/// What kubeadm 1.36 puts into kube-proxy's ConfigMap.
const PROXY: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: \"\"
  burst: 0
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
detectLocal:
  bridgeInterface: \"\"
enableProfiling: false
iptables:
  localhostNodePorts: false
  masqueradeAll: false
  masqueradeBit: null
kind: KubeProxyConfiguration
metricsBindAddress: 127.0.0.1:10249
mode: \"\"
nodePortAddresses:
- primary
oomScoreAdj: null
";
const PROXY_KUBECONFIG: &str = "apiVersion: v1
kind: Config
clusters:
- cluster:
    certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
    server: https://api:6443
  name: default
contexts:
- context:
    cluster: default
    namespace: default
    user: default
  name: default
current-context: default
users:
- name: default
  user:
    tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token
";

/// A ConfigMap of kube-system.
fn config(name: &str, key: &str, text: &str) -> Value {
    json!({"metadata": {"namespace": "kube-system", "name": name}, "data": {key: text}})
}

/// What cluster-info says.
fn cluster_info() -> String {
    format!(
        "{{apiVersion: v1, kind: Config, contexts: null, users: null, current-context: '', preferences: {{}}, \
         clusters: [{{name: '', cluster: {{server: 'https://api:6443', \
         certificate-authority-data: {}}}}}]}}",
        BASE64_STANDARD.encode(CA)
    )
}

/// An EndpointSlice of a Service.
fn slice(space: &str, service: &str, address: &str) -> Value {
    json!({"metadata": {"namespace": space, "name": format!("{service}-x"),
               "labels": {"kubernetes.io/service-name": service}},
           "addressType": "IPv4", "endpoints": [{"addresses": [address]}],
           "ports": [{"port": if service == "kubernetes" { 6443 } else { 53 }}]})
}

/// A kind of objects that somebody converts.
fn converted(name: &str, by: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"group": "example.com",
           "conversion": {"strategy": "Webhook", "webhook": {"clientConfig": by}}}})
}

/// A FlowSchema for a group.
fn flow_schema(name: &str, precedence: u64, level: &str, group: &str) -> Value {
    json!({"metadata": {"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}},
           "spec": {"matchingPrecedence": precedence, "priorityLevelConfiguration": {"name": level},
                    "rules": [{"subjects": [{"kind": "Group", "group": {"name": group}}],
                        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]}]}})
}

fn priority_level(name: &str, shares: u64) -> Value {
    json!({"metadata": {"name": name},
           "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": shares}}})
}

fn inventory() -> Inventory {
    testing::two_and_two()
}

fn judge(rule: ApiRule, facts: &ClusterFacts) -> Verdict {
    judge_with(&inventory(), rule, facts)
}

fn judge_with(inventory: &Inventory, rule: ApiRule, facts: &ClusterFacts) -> Verdict {
    let reference = Reference {
        ca_pem: Some(CA.into()),
        front_proxy_ca_pem: Some(FRONT_PROXY_CA.into()),
        kubeadm: vec![INIT.into()],
    };
    judge_objects(
        rule,
        &Cluster {
            facts,
            inventory,
            reference: &reference,
            today: date!(2026 - 01 - 15),
            now: datetime!(2026-01-15 12:00 UTC),
        },
    )
}

/// An inventory with something below `hardening`.
fn granting(hardening: &str) -> Inventory {
    let mut inventory = inventory();
    inventory.hardening = serde_yaml::from_str(hardening).unwrap();
    inventory
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
    let account = |space: &str| {
        let mut account = named(space, "default");
        account["automountServiceAccountToken"] = json!(false);
        account
    };
    let [policy, binding_of_it] =
        policy::mount_nothing().map(|(kind, object)| (kind, vec![object]));
    vec![
        policy,
        binding_of_it,
        (Kind::JoinTokens, vec![]),
        (Kind::AccountTokens, vec![]),
        (
            Kind::ConfigMaps,
            vec![
                named("default", "kube-root-ca.crt"),
                json!({"metadata": {"namespace": "kube-public", "name": "cluster-info"},
                       "data": {"kubeconfig": cluster_info()}}),
                config("coredns", "Corefile", COREFILE),
                config(
                    "kubeadm-config",
                    "ClusterConfiguration",
                    "{kind: ClusterConfiguration, dns: {}, imageRepository: registry.k8s.io, \
                     apiServer: {extraArgs: [{name: anonymous-auth, value: 'false'}]}}",
                ),
                config(
                    "kubelet-config",
                    "kubelet",
                    "{kind: KubeletConfiguration, syncFrequency: 0s, \
                     authentication: {anonymous: {enabled: false}}}",
                ),
                json!({"metadata": {"namespace": "kube-system",
                                    "name": "extension-apiserver-authentication"},
                       "data": {"client-ca-file": CA,
                                "requestheader-client-ca-file": FRONT_PROXY_CA,
                                "requestheader-allowed-names": r#"["front-proxy-client"]"#,
                                "requestheader-extra-headers-prefix": r#"["X-Remote-Extra-"]"#,
                                "requestheader-group-headers": r#"["X-Remote-Group"]"#,
                                "requestheader-username-headers": r#"["X-Remote-User"]"#}}),
                json!({"metadata": {"namespace": "kube-system", "name": "kube-proxy"},
                       "data": {"config.conf": PROXY, "kubeconfig.conf": PROXY_KUBECONFIG}}),
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
                // Bound to nobody.
                role("janitor", &[""], &["namespaces"], &["delete"]),
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
            vec![
                account("shop"),
                account("default"),
                account("kube-system"),
                named("kubastion-probe-1", "default"),
                named("gone", "default"),
            ],
        ),
        (Kind::NetworkPolicies, vec![deny("default"), deny("shop")]),
        (
            Kind::ResourceQuotas,
            ["default", "shop"]
                .map(|space| {
                    json!({"metadata": {"namespace": space, "name": "q"}, "spec": {"hard": {
                        "pods": "10", "requests.cpu": "4", "requests.memory": "8Gi"}}})
                })
                .into(),
        ),
        (
            Kind::LimitRanges,
            ["default", "shop"]
                .map(|space| {
                    json!({"metadata": {"namespace": space, "name": "l"}, "spec": {"limits": [{
                        "type": "Container", "default": {"cpu": "1", "memory": "1Gi"}}]}})
                })
                .into(),
        ),
        (
            Kind::Pods,
            vec![
                static_pod("kube-apiserver", "cp1", "r.io/api:v1.36.2"),
                with_token(proxy_pod()),
                with_token(dns_pod()),
                pod("shop", "web", json!({}), "r.io:5000/web:latest"),
            ],
        ),
        (Kind::PersistentVolumes, vec![]),
        (Kind::DaemonSets, vec![maker("kube-system", "kube-proxy", &proxy_pod())]),
        (
            Kind::Deployments,
            vec![maker("shop", "web", &pod("shop", "web", json!({}), "r.io/web:v1")), {
                let mut dns = maker("kube-system", "coredns", &dns_pod());
                dns["spec"]["replicas"] = json!(2);
                dns["status"] = json!({"readyReplicas": 2});
                dns
            }],
        ),
        (Kind::StatefulSets, vec![]),
        (
            Kind::ReplicaSets,
            vec![{
                let mut dns = maker("kube-system", "coredns-1", &dns_pod());
                dns["metadata"]["ownerReferences"] = json!([owner("Deployment", "coredns")]);
                dns
            }],
        ),
        (Kind::ReplicationControllers, vec![]),
        (Kind::Jobs, vec![]),
        (Kind::CronJobs, vec![]),
        (
            Kind::Services,
            vec![
                json!({"metadata": {"namespace": "default", "name": "kubernetes"}, "spec": {
                    "type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"],
                    "sessionAffinity": "None",
                    "ports": [{"port": 443, "protocol": "TCP", "targetPort": 6443}]}}),
                json!({"metadata": {"namespace": "shop", "name": "web"},
                       "spec": {"type": "LoadBalancer", "clusterIPs": ["10.97.3.4"]},
                       "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.10"}]}}}),
                json!({"metadata": {"namespace": "kube-system", "name": "kube-dns"},
                       "spec": {"selector": {"k8s-app": "kube-dns"}, "type": "ClusterIP",
                                "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
                                "ports": [{"port": 53, "protocol": "UDP", "targetPort": 53},
                                          {"port": 53, "protocol": "TCP", "targetPort": 53},
                                          {"port": 9153, "protocol": "TCP", "targetPort": 9153}]}}),
                json!({"metadata": {"namespace": "shop", "name": "headless"},
                       "spec": {"clusterIP": "None", "clusterIPs": ["None"]}}),
            ],
        ),
        (
            Kind::EndpointSlices,
            vec![
                slice("default", "kubernetes", "10.0.0.1"),
                slice("kube-system", "kube-dns", "10.244.0.2"),
                slice("kube-system", "kubelet", "10.0.0.3"),
                // What a tenant's own Service leads to is its own affair.
                slice("shop", "web", "192.0.2.1"),
            ],
        ),
        (
            Kind::ServiceCidrs,
            vec![json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/12"]}})],
        ),
        (
            Kind::FlowSchemas,
            vec![
                flow_schema("exempt", 1, "exempt", "system:masters"),
                flow_schema("system-nodes", 500, "system", "system:nodes"),
                flow_schema("shop", 5000, "workload-low", "system:serviceaccounts:shop"),
                flow_schema("global-default", 9900, "global-default", "system:unauthenticated"),
                json!({"metadata": {"name": "probes"}, "spec": {"matchingPrecedence": 2,
                    "priorityLevelConfiguration": {"name": "exempt"}, "rules": [{
                        "nonResourceRules": [{"nonResourceURLs": ["/healthz", "/readyz", "/livez"]}],
                        "subjects": [{"kind": "Group", "group": {"name": "system:unauthenticated"}}]}]}}),
            ],
        ),
        (
            Kind::PriorityLevels,
            vec![
                json!({"metadata": {"name": "exempt"}, "spec": {"type": "Exempt",
                    "exempt": {"nominalConcurrencyShares": 0}}}),
                priority_level("workload-low", 100),
            ],
        ),
        (
            Kind::Leases,
            ["kube-controller-manager", "kube-scheduler"]
                .map(|daemon| {
                    json!({"metadata": {"namespace": "kube-system", "name": daemon}, "spec": {
                        "holderIdentity": "cp2_6ba7b810-9dad-11d1-80b4-00c04fd430c8",
                        "renewTime": "2026-01-15T12:00:01.000000Z"}})
                })
                .into(),
        ),
        (Kind::RuntimeClasses, vec![json!({"metadata": {"name": "plain"}, "handler": "runc"})]),
        (
            Kind::ValidatingPolicies,
            vec![json!({"metadata": {"name": "env"}, "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {
                    "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {},
                    "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "scope": "*",
                        "operations": ["CREATE", "UPDATE"], "resources": ["pods"]}]},
                "validations": [{"expression": "secretKeyRef"}, {"expression": "secretRef"}]}})],
        ),
        (
            Kind::ValidatingBindings,
            vec![json!({"metadata": {"name": "env"}, "spec": {
                "policyName": "env", "validationActions": ["Deny"],
                "matchResources": {"matchPolicy": "Equivalent", "namespaceSelector": {}}}})],
        ),
        (Kind::ValidatingWebhooks, vec![]),
        (Kind::MutatingWebhooks, vec![]),
        (
            Kind::CustomResources,
            vec![converted("a.example.com", json!({"service": {"name": "x"}}))],
        ),
        (
            Kind::CsiDrivers,
            vec![json!({"metadata": {"name": "a"}, "spec": {"podInfoOnMount": true}})],
        ),
        (
            Kind::ApiServices,
            vec![
                json!({"metadata": {"name": "v1."}, "spec": {"service": null}}),
                json!({"metadata": {"name": "v1.apps"}, "spec": {}}),
            ],
        ),
        (
            Kind::Nodes,
            vec![
                json!({"metadata": {"name": "cp1", "uid": "uid-of-cp1"}, "spec": {"taints": [
                    {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]}}),
                json!({"metadata": {"name": "cp2"}, "spec": {"taints": [
                    {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]}}),
                json!({"metadata": {"name": "w1", "uid": "uid-of-w1", "labels": {"node-role.kubernetes.io/worker": ""}}}),
                json!({"metadata": {"name": "w2", "labels": {"node-role.kubernetes.io/worker": ""}}}),
            ],
        ),
        (Kind::SigningRequests, REQUESTS.to_vec()),
    ]
}

fn facts(lists: Vec<(Kind, Vec<Value>)>) -> ClusterFacts {
    let mut facts = ClusterFacts::default();
    for (kind, items) in lists {
        facts.insert(kind, &mut json!({"items": items})).unwrap();
    }
    facts
}

/// Rules that do not hold. That a plan would mend some of it follows from them, and has a test of its own.
fn failing(facts: &ClusterFacts) -> Vec<ApiRule> {
    let rules = ApiRule::ALL.into_iter().map(|(rule, _)| rule);
    let rules = rules.filter(|r| *r != ApiRule::NoPendingChange);
    rules.filter(|r| judge(*r, facts).outcome() == Outcome::Fail).collect()
}

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
    assert!(format!("{verdict:?}").contains("mount no token"), "{verdict:?}");
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
        let services = &mut lists.iter_mut().find(|(k, _)| *k == Kind::Services).unwrap().1;
        put(&mut services[2], at, value.clone());
        if at == "/spec/clusterIPs" {
            put(&mut services[2], "/spec/clusterIP", json!(""));
        }
        let verdict = judge(ApiRule::ServiceEndpointsKnown, &facts(lists));
        assert_eq!(verdict.outcome(), Outcome::Fail, "{at} {value}");
    }
    // By the names of CoreDNS' ports.
    let mut lists = good();
    let services = &mut lists.iter_mut().find(|(k, _)| *k == Kind::Services).unwrap().1;
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
    push(Kind::Pods, posing);
    push(Kind::EndpointSlices, slice("kube-system", "kube-dns", "10.244.9.9"));
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
        push(Kind::Pods, posing);
        push(Kind::EndpointSlices, slice("kube-system", "kube-dns", "10.244.9.9"));
        assert_eq!(failing(&facts(lists)), wanted);
    }
}

#[test]
fn a_dns_pod_that_is_older_than_its_corefile_is_unknown() {
    let judged = |started: &str, written: &str| {
        let mut lists = good();
        fn of(lists: &mut [(Kind, Vec<Value>)], kind: Kind) -> &mut Vec<Value> {
            &mut lists.iter_mut().find(|(k, _)| *k == kind).unwrap().1
        }
        let dns = |p: &&mut Value| p["metadata"]["labels"]["k8s-app"] == "kube-dns";
        let pod = of(&mut lists, Kind::Pods).iter_mut().find(dns).unwrap();
        pod["status"]["containerStatuses"] =
            json!([{"name": "coredns", "state": {"running": {"startedAt": started}}}]);
        let mut maps = of(&mut lists, Kind::ConfigMaps).iter_mut();
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

#[test]
fn volumes_of_nodes_are_where_nodes_keep_volumes() {
    let of = |path: &str, hardening: &str| {
        let volume = json!({"metadata": {"name": "v"}, "spec": {"local": {"path": path}}});
        with(Kind::PersistentVolumes, volume, hardening, ApiRule::PodsWithinStandard).outcome()
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
        (Kind::ClusterRoleBindings, binding("m", "cluster-admin", app), "ClusterRoleBinding", "m"),
        (
            Kind::RoleBindings,
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
        let judged = with(Kind::ClusterRoleBindings, bound, &grant, ApiRule::MinimalRbac);
        assert_eq!(judged.outcome(), Outcome::Fail, "{who}");
    }
    // So is a role of wildcards, by the binding that it is for.
    let all = role("all", &["*"], &["*"], &["*"]);
    let mut lists = good();
    let mut push =
        |kind, object| lists.iter_mut().find(|(k, _)| *k == kind).unwrap().1.push(object);
    let eve = json!([{"kind": "User", "name": "eve"}]);
    push(Kind::ClusterRoles, all);
    push(Kind::ClusterRoleBindings, binding("m", "all", eve.clone()));
    let of = |lists: &[(Kind, Vec<Value>)]| {
        let granted = granting(&allow("ClusterRoleBinding", "m", "2026-01-15"));
        judge_with(&granted, ApiRule::MinimalRbac, &facts(lists.to_vec())).outcome()
    };
    assert_eq!(of(&lists), Outcome::Pass);
    lists
        .iter_mut()
        .find(|(k, _)| *k == Kind::ClusterRoleBindings)
        .unwrap()
        .1
        .push(binding("n", "all", eve));
    assert_eq!(of(&lists), Outcome::Fail);
    for (kind, object, word) in [
        (Kind::FlowSchemas, flow_schema("m", 3, "exempt", "x"), "FlowSchema"),
        (Kind::PriorityLevels, priority_level("m", 100_000), "PriorityLevelConfiguration"),
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
    push(Kind::Pods, agent.clone());
    push(Kind::DaemonSets, maker("kube-system", "agent", &agent));
    let judged = |inventory: &Inventory, lists: &[(Kind, Vec<Value>)]| {
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
    later.iter_mut().find(|(k, _)| *k == Kind::Pods).unwrap().1.push(named);
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
        push(Kind::Deployments, maker("kube-system", "web", &agent));
        earlier["spec"]["replicas"] = json!(replicas);
        push(Kind::ReplicaSets, earlier.clone());
        pods.into_iter().for_each(|pod| push(Kind::Pods, pod));
        assert_eq!(judged(&granted("Deployment/web"), &lists), wanted, "{replicas}");
    }
    for other in [breaking("kube-system"), posing] {
        let mut lists = lists.clone();
        lists.iter_mut().find(|(k, _)| *k == Kind::Pods).unwrap().1.push(other);
        assert_eq!(judged(&granted("DaemonSet/agent"), &lists), Outcome::Fail);
        assert_eq!(judged(&granted("DaemonSet/agent, Pod/x"), &lists), Outcome::Pass);
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
    let dns = rows(Kind::Deployments, 1, ApiRule::DnsConfiguration, dns.into());
    let proxy = rows(Kind::DaemonSets, 0, ApiRule::ProxyConfiguration, proxy.into());
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
        let list = &mut lists.iter_mut().find(|(k, _)| *k == Kind::Deployments).unwrap().1;
        put(&mut list[1], &format!("/spec/template/spec{at}"), value);
        let verdict = judge(ApiRule::DnsConfiguration, &facts(lists));
        assert_eq!(verdict.outcome(), Outcome::Pass, "{at}: {verdict:?}");
    }
    for kind in [Kind::Deployments, Kind::DaemonSets] {
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
        let list = &mut lists.iter_mut().find(|(k, _)| *k == Kind::Deployments).unwrap().1;
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
        for (kind, index) in [(Kind::Pods, 1), (Kind::DaemonSets, 0), (Kind::Deployments, 1)] {
            let mut lists = good();
            let list = &mut lists.iter_mut().find(|(k, _)| *k == kind).unwrap().1;
            let at = if kind == Kind::Pods { "/spec" } else { "/spec/template/spec" };
            list[index].pointer_mut(at).unwrap()["containers"][0][key] = value.clone();
            let failing = failing(&facts(lists));
            assert_eq!(failing, [ApiRule::PodsWithinStandard], "{kind:?} {key}");
        }
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

/// What a list holds more, and what an inventory grants.
fn with(kind: Kind, object: Value, hardening: &str, rule: ApiRule) -> Verdict {
    let mut lists = good();
    lists.iter_mut().find(|(k, _)| *k == kind).unwrap().1.push(object);
    judge_with(&granting(hardening), rule, &facts(lists))
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
        with(Kind::Pods, breaking("shop"), hardening, ApiRule::PodsWithinStandard).outcome()
    };
    assert_eq!(of_pod(&level("privileged", "2026-01-15")), Outcome::Pass);
    assert_eq!(of_pod(&level("baseline", "2026-01-15")), Outcome::Fail);
    assert_eq!(of_pod(&level("privileged", "2026-01-14")), Outcome::Fail);
    let labelled = |to: &str, hardening: &str| {
        let mut lists = good();
        let spaces = &mut lists.iter_mut().find(|(k, _)| *k == Kind::Namespaces).unwrap().1;
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
        (Kind::ValidatingWebhooks, webhook("w", "Fail"), "ValidatingWebhookConfiguration"),
        (Kind::MutatingWebhooks, webhook("w", "Ignore"), "MutatingWebhookConfiguration"),
        (Kind::MutatingPolicies, named("", "w"), "MutatingAdmissionPolicy"),
        (
            Kind::CustomResources,
            converted("w", json!({"url": "https://192.0.2.1/"})),
            "CustomResourceDefinition",
        ),
        (
            Kind::CsiDrivers,
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
    let verdict = with(Kind::ValidatingWebhooks, ignoring, &named_one, ApiRule::WebhooksKnown);
    assert_eq!(verdict.outcome(), Outcome::Fail);

    let mut api = json!({"metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": {
        "service": {"namespace": "kube-system", "name": "metrics-server"}}});
    let granted = allow("APIService", "v1beta1.metrics.k8s.io", "2026-01-15");
    let of = |api: &Value| {
        with(Kind::ApiServices, api.clone(), &granted, ApiRule::AggregatedApisKnown).outcome()
    };
    assert_eq!(of(&api), Outcome::Pass);
    api["spec"]["insecureSkipTLSVerify"] = json!(true);
    assert_eq!(of(&api), Outcome::Fail);
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
        super::objects::images_that_differ(&pods.iter().collect::<Vec<_>>())
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
