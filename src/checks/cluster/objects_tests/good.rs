//! A cluster whose objects are as they should be, and what it is made of.

use super::*;

pub(super) fn binding(name: &str, role: &str, subjects: Value) -> Value {
    json!({"metadata": {"name": name}, "roleRef": {"kind": "ClusterRole", "name": role},
           "subjects": subjects})
}

pub(super) fn role(name: &str, groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({"metadata": {"name": name},
           "rules": [{"apiGroups": groups, "resources": resources, "verbs": verbs}]})
}

pub(super) fn container(image: &str) -> Value {
    json!({"name": "c", "image": image, "securityContext": {
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]}}})
}

/// A pod that fulfils the restricted standard.
pub(super) fn pod(space: &str, name: &str, labels: Value, image: &str) -> Value {
    json!({"metadata": {"namespace": space, "name": name, "labels": labels},
           "spec": {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"},
                                        "runAsNonRoot": true},
                    "containers": [container(image)]}})
}

/// A static pod as kubeadm makes it.
pub(super) fn static_pod(name: &str, node: &str, image: &str) -> Value {
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
pub(super) fn maker(space: &str, name: &str, pod: &Value) -> Value {
    json!({"metadata": {"namespace": space, "name": name, "uid": format!("uid-of-{name}")},
           "spec": {"template": {"spec": pod["spec"]}}})
}

/// A reference to what controls an object.
pub(super) fn owner(kind: &str, name: &str) -> Value {
    json!({"kind": kind, "name": name, "uid": format!("uid-of-{name}"), "controller": true})
}

/// A request for a certificate, approved by somebody.
pub(super) fn approved(organization: &str, name: &str) -> Value {
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
pub(super) fn of_a_kubelet(signer: &str, node: &str, names: &[&str]) -> Value {
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

pub(super) static REQUESTS: LazyLock<[Value; 3]> = LazyLock::new(|| {
    [
        of_a_kubelet("kubelet-serving", "w1", &["w1", "10.0.0.3"]),
        of_a_kubelet("kube-apiserver-client-kubelet", "w1", &[]),
        // Its node has left.
        of_a_kubelet("kubelet-serving", "w9", &["w9", "10.0.0.9"]),
    ]
});

/// kube-proxy's pod, which has to change the node's rules, as kubeadm 1.36 makes it.
pub(super) fn proxy_pod() -> Value {
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
pub(super) fn dns_pod() -> Value {
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
pub(super) fn with_token(mut pod: Value) -> Value {
    let volume = json!({"name": "kube-api-access-x", "projected": {"sources": [
        {"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "kube-root-ca.crt"}}]}});
    pod["spec"]["volumes"].as_array_mut().unwrap().push(volume);
    let mount = json!({"name": "kube-api-access-x", "readOnly": true,
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"});
    pod["spec"]["containers"][0]["volumeMounts"].as_array_mut().unwrap().push(mount);
    pod
}

pub(super) const CA: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
pub(super) const FRONT_PROXY_CA: &str =
    "-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n";

/// kubeadm's file on a control plane.
pub(super) const INIT: &str = "kind: InitConfiguration
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
pub(super) const COREFILE: &str = ".:53 {
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
pub(super) const PROXY: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1
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
pub(super) const PROXY_KUBECONFIG: &str = "apiVersion: v1
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
pub(super) fn config(name: &str, key: &str, text: &str) -> Value {
    json!({"metadata": {"namespace": "kube-system", "name": name}, "data": {key: text}})
}

/// What cluster-info says.
pub(super) fn cluster_info() -> String {
    format!(
        "{{apiVersion: v1, kind: Config, contexts: null, users: null, current-context: '', preferences: {{}}, \
         clusters: [{{name: '', cluster: {{server: 'https://api:6443', \
         certificate-authority-data: {}}}}}]}}",
        BASE64_STANDARD.encode(CA)
    )
}

/// An EndpointSlice of a Service.
pub(super) fn slice(space: &str, service: &str, address: &str) -> Value {
    json!({"metadata": {"namespace": space, "name": format!("{service}-x"),
               "labels": {"kubernetes.io/service-name": service}},
           "addressType": "IPv4", "endpoints": [{"addresses": [address]}],
           "ports": [{"port": if service == "kubernetes" { 6443 } else { 53 }}]})
}

/// A kind of objects that somebody converts.
pub(super) fn converted(name: &str, by: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"group": "example.com",
           "conversion": {"strategy": "Webhook", "webhook": {"clientConfig": by}}}})
}

/// A FlowSchema for a group.
pub(super) fn flow_schema(name: &str, precedence: u64, level: &str, group: &str) -> Value {
    json!({"metadata": {"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}},
           "spec": {"matchingPrecedence": precedence, "priorityLevelConfiguration": {"name": level},
                    "rules": [{"subjects": [{"kind": "Group", "group": {"name": group}}],
                        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]}]}})
}

pub(super) fn priority_level(name: &str, shares: u64) -> Value {
    json!({"metadata": {"name": name},
           "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": shares}}})
}

pub(super) fn inventory() -> Inventory {
    testing::two_and_two()
}

pub(super) fn judge(rule: ApiRule, facts: &ClusterFacts) -> Verdict {
    judge_with(&inventory(), rule, facts)
}

pub(super) fn judge_with(inventory: &Inventory, rule: ApiRule, facts: &ClusterFacts) -> Verdict {
    judge_by(inventory, &reference(inventory, facts), rule, facts)
}

pub(super) fn reference(inventory: &Inventory, facts: &ClusterFacts) -> Reference {
    let wanted = crate::desired::objects::Wanted::of(inventory);
    let due = crate::plan::cluster::changes(inventory, facts, wanted);
    Reference {
        ca_pem: Some(CA.into()),
        front_proxy_ca_pem: Some(FRONT_PROXY_CA.into()),
        kubeadm: vec![INIT.into()],
        kubeadm_sources: Vec::new(),
        pending: Some(due.iter().map(ToString::to_string).collect()),
        software: None,
    }
}

pub(super) fn judge_by(
    inventory: &Inventory,
    reference: &Reference,
    rule: ApiRule,
    facts: &ClusterFacts,
) -> Verdict {
    judge_objects(
        rule,
        &Cluster {
            facts,
            inventory,
            reference,
            today: date!(2026 - 01 - 15),
            now: datetime!(2026-01-15 12:00 UTC),
        },
    )
}

/// An inventory with something below `hardening`.
pub(super) fn granting(hardening: &str) -> Inventory {
    let mut inventory = inventory();
    inventory.hardening = crate::yaml::from_text(hardening).unwrap();
    inventory
}

pub(super) fn named(space: &str, name: &str) -> Value {
    json!({"metadata": {"namespace": space, "name": name}})
}

/// Lists of a cluster that fulfils every rule, with one user namespace beside `default`.
pub(super) fn good() -> Vec<(ObjectKind, Vec<Value>)> {
    let admin = json!([{"kind": "Group", "name": "system:masters"}]);
    let controller = json!([{"kind": "ServiceAccount", "namespace": "kube-system", "name": "namespace-controller"}]);
    let alice = json!([{"kind": "User", "name": "alice"}]);
    let own = |account: &str| json!([{"kind": "ServiceAccount", "namespace": "kube-system", "name": account}]);
    let deny = |space: &str| {
        json!({"metadata": {"namespace": space, "name": "deny"},
               "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}})
    };
    let account = |space: &str| {
        let mut account = named(space, "default");
        account["automountServiceAccountToken"] = json!(false);
        account
    };
    let [policy, binding_of_it] = mount_nothing().map(|o| (o.kind, vec![o.body]));
    vec![
        policy,
        binding_of_it,
        (ObjectKind::JoinTokens, vec![]),
        (ObjectKind::AccountTokens, vec![]),
        (
            ObjectKind::ConfigMaps,
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
        (ObjectKind::Roles, vec![]),
        (
            ObjectKind::RoleBindings,
            vec![json!({"metadata": {"namespace": "shop", "name": "edit"},
                "roleRef": {"kind": "ClusterRole", "name": "edit"}, "subjects": alice.clone()})],
        ),
        (
            ObjectKind::ClusterRoles,
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
            ObjectKind::ClusterRoleBindings,
            vec![
                binding("cluster-admin", "cluster-admin", admin),
                binding(
                    "system:controller:namespace-controller",
                    "system:controller:namespace-controller",
                    controller,
                ),
                binding("nodes", "view-nodes", alice),
                binding("kubeadm:node-proxier", "system:node-proxier", own("kube-proxy")),
                binding("system:coredns", "system:coredns", own("coredns")),
            ],
        ),
        (
            ObjectKind::Namespaces,
            vec![
                named("", "default"),
                named("", "kube-system"),
                named("", "shop"),
                json!({"metadata": {"name": "gone"}, "status": {"phase": "Terminating"}}),
                json!({"metadata": {"name": "kubastion-probe-1", "labels": {PROBE_LABEL: "true"}}}),
            ],
        ),
        (
            ObjectKind::ServiceAccounts,
            vec![
                account("shop"),
                account("default"),
                account("kube-system"),
                named("kubastion-probe-1", "default"),
                named("gone", "default"),
            ],
        ),
        (ObjectKind::NetworkPolicies, vec![deny("default"), deny("shop")]),
        (
            ObjectKind::ResourceQuotas,
            ["default", "shop"]
                .map(|space| {
                    json!({"metadata": {"namespace": space, "name": "q"}, "spec": {"hard": {
                        "pods": "10", "requests.cpu": "4", "requests.memory": "8Gi"}}})
                })
                .into(),
        ),
        (
            ObjectKind::LimitRanges,
            ["default", "shop"]
                .map(|space| {
                    json!({"metadata": {"namespace": space, "name": "l"}, "spec": {"limits": [{
                        "type": "Container", "default": {"cpu": "1", "memory": "1Gi"}}]}})
                })
                .into(),
        ),
        (
            ObjectKind::Pods,
            vec![
                static_pod("kube-apiserver", "cp1", "r.io/api:v1.36.2"),
                with_token(proxy_pod()),
                with_token(dns_pod()),
                pod("shop", "web", json!({}), "r.io:5000/web:latest"),
            ],
        ),
        (ObjectKind::PersistentVolumes, vec![]),
        (ObjectKind::DaemonSets, vec![maker("kube-system", "kube-proxy", &proxy_pod())]),
        (
            ObjectKind::Deployments,
            vec![maker("shop", "web", &pod("shop", "web", json!({}), "r.io/web:v1")), {
                let mut dns = maker("kube-system", "coredns", &dns_pod());
                dns["spec"]["replicas"] = json!(2);
                dns["status"] = json!({"readyReplicas": 2});
                dns
            }],
        ),
        (ObjectKind::StatefulSets, vec![]),
        (
            ObjectKind::ReplicaSets,
            vec![{
                let mut dns = maker("kube-system", "coredns-1", &dns_pod());
                dns["metadata"]["ownerReferences"] = json!([owner("Deployment", "coredns")]);
                dns
            }],
        ),
        (ObjectKind::ReplicationControllers, vec![]),
        (ObjectKind::Jobs, vec![]),
        (ObjectKind::CronJobs, vec![]),
        (
            ObjectKind::Services,
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
            ObjectKind::EndpointSlices,
            vec![
                slice("default", "kubernetes", "10.0.0.1"),
                slice("kube-system", "kube-dns", "10.244.0.2"),
                slice("kube-system", "kubelet", "10.0.0.3"),
                // What a tenant's own Service leads to is its own affair.
                slice("shop", "web", "192.0.2.1"),
            ],
        ),
        (
            ObjectKind::ServiceCidrs,
            vec![json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/12"]}})],
        ),
        (
            ObjectKind::FlowSchemas,
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
            ObjectKind::PriorityLevels,
            vec![
                json!({"metadata": {"name": "exempt"}, "spec": {"type": "Exempt",
                    "exempt": {"nominalConcurrencyShares": 0}}}),
                priority_level("workload-low", 100),
            ],
        ),
        (
            ObjectKind::Leases,
            ["kube-controller-manager", "kube-scheduler"]
                .map(|daemon| {
                    json!({"metadata": {"namespace": "kube-system", "name": daemon}, "spec": {
                        "holderIdentity": "cp2_6ba7b810-9dad-11d1-80b4-00c04fd430c8",
                        "renewTime": "2026-01-15T12:00:01.000000Z"}})
                })
                .into(),
        ),
        (
            ObjectKind::RuntimeClasses,
            vec![json!({"metadata": {"name": "plain"}, "handler": "runc"})],
        ),
        (
            ObjectKind::ValidatingPolicies,
            vec![json!({"metadata": {"name": "env"}, "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {
                    "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {},
                    "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "scope": "*",
                        "operations": ["CREATE", "UPDATE"], "resources": ["pods"]}]},
                "validations": [{"expression": "secretKeyRef"}, {"expression": "secretRef"}]}})],
        ),
        (
            ObjectKind::ValidatingBindings,
            vec![json!({"metadata": {"name": "env"}, "spec": {
                "policyName": "env", "validationActions": ["Deny"],
                "matchResources": {"matchPolicy": "Equivalent", "namespaceSelector": {}}}})],
        ),
        (ObjectKind::ValidatingWebhooks, vec![]),
        (ObjectKind::MutatingWebhooks, vec![]),
        (
            ObjectKind::CustomResources,
            vec![converted("a.example.com", json!({"service": {"name": "x"}}))],
        ),
        (
            ObjectKind::CsiDrivers,
            vec![json!({"metadata": {"name": "a"}, "spec": {"podInfoOnMount": true}})],
        ),
        (
            ObjectKind::ApiServices,
            vec![
                json!({"metadata": {"name": "v1."}, "spec": {"service": null}}),
                json!({"metadata": {"name": "v1.apps"}, "spec": {}}),
            ],
        ),
        (
            ObjectKind::Nodes,
            vec![
                json!({"metadata": {"name": "cp1", "uid": "uid-of-cp1"}, "status": ready(), "spec": {"taints": [
                    {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]}}),
                json!({"metadata": {"name": "cp2"}, "status": ready(), "spec": {"taints": [
                    {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]}}),
                json!({"metadata": {"name": "w1", "uid": "uid-of-w1", "labels": {"node-role.kubernetes.io/worker": ""}},
                    "status": ready()}),
                json!({"metadata": {"name": "w2", "labels": {"node-role.kubernetes.io/worker": ""}},
                    "status": ready()}),
            ],
        ),
        (ObjectKind::SigningRequests, REQUESTS.to_vec()),
    ]
}

/// The status of a Node whose kubelet reports.
fn ready() -> Value {
    json!({"conditions": [
        {"type": "MemoryPressure", "status": "False", "reason": "KubeletHasSufficientMemory"},
        {"type": "Ready", "status": "True", "reason": "KubeletReady"}]})
}

pub(super) fn facts(lists: Vec<(ObjectKind, Vec<Value>)>) -> ClusterFacts {
    let mut facts = ClusterFacts::default();
    for (kind, items) in lists {
        facts.insert(kind, &mut json!({"items": items})).unwrap();
    }
    facts
}

/// Rules that do not hold. That a plan would mend some of it follows from them, and has a test of its own.
pub(super) fn failing(facts: &ClusterFacts) -> Vec<ApiRule> {
    let rules = ApiRule::ALL.iter().map(|&(rule, _)| rule);
    let rules = rules.filter(|r| *r != ApiRule::NoPendingChange);
    rules.filter(|r| judge(*r, facts).outcome() == Outcome::Fail).collect()
}
