//! What a hostile tenant, or an administrator in a hurry, leaves in a cluster: planted, named by `verify` thing by
//! thing, and taken away again.

use super::cluster::{Cluster, text};

/// Objects to plant, the control that has to fail by them, and what it has to say.
const PLANTED: &[(&str, &str, &[&str])] = &[
    (
        "{apiVersion: v1, kind: Namespace, metadata: {name: open, labels:
          {pod-security.kubernetes.io/enforce: privileged}}}",
        "policy-pod-security-in-force",
        &["open enforces privileged"],
    ),
    (
        "{apiVersion: v1, kind: Pod, metadata: {name: root, namespace: open}, spec: {hostPID: true,
          automountServiceAccountToken: false, containers: [{name: c, image: registry.k8s.io/pause:3.10,
          imagePullPolicy: Never, securityContext: {privileged: true}}],
          volumes: [{name: root, hostPath: {path: /}}]}}",
        "policy-pod-security-in-force",
        &["open/root (hostPID, container c is privileged, hostPath /"],
    ),
    (
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: all,
          namespace: open}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole,
          name: cluster-admin}, subjects: [{kind: ServiceAccount, name: app, namespace: open}]}",
        "policy-rbac-minimal",
        &["ServiceAccount open/app may do everything in open through open/all"],
    ),
    (
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: any-token},
          rules: [{apiGroups: [''], resources: ['*/token'], verbs: [create]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: any-token},
          roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: any-token},
          subjects: [{kind: ServiceAccount, name: app, namespace: open}]}",
        "policy-rbac-minimal",
        &["ServiceAccount open/app may issue tokens through any-token"],
    ),
    (
        "{apiVersion: v1, kind: Secret, type: kubernetes.io/service-account-token, metadata: {name: for-ever,
          namespace: kube-system, annotations: {kubernetes.io/service-account.name:
          clusterrole-aggregation-controller}}}",
        "policy-no-lasting-tokens",
        &["Secret kube-system/for-ever of ServiceAccount clusterrole-aggregation-controller"],
    ),
    (
        "{apiVersion: batch/v1, kind: CronJob, metadata: {name: at-three, namespace: kube-system}, spec:
          {schedule: '0 3 * * *', jobTemplate: {spec: {template: {spec: {hostPID: true, restartPolicy: Never,
          containers: [{name: c, image: registry.k8s.io/pause:3.10}]}}}}}}",
        "policy-pod-security-in-force",
        &["CronJob kube-system/at-three (hostPID"],
    ),
    (
        "{apiVersion: v1, kind: PersistentVolume, metadata: {name: root}, spec: {capacity: {storage: 1Gi},
          accessModes: [ReadWriteOnce], hostPath: {path: /}}}",
        "policy-pod-security-in-force",
        &["PersistentVolume root is / of the node"],
    ),
    (
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: allow-everything,
          namespace: default}, spec: {podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}],
          egress: [{}]}}",
        "network-default-deny",
        &[
            "default allows ingress by NetworkPolicy allow-everything",
            "default allows egress by NetworkPolicy allow-everything",
        ],
    ),
    (
        "{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingWebhookConfiguration,
          metadata: {name: watcher}, webhooks: [{name: secrets.example.com, failurePolicy: Ignore,
          sideEffects: None, timeoutSeconds: 1, admissionReviewVersions: [v1],
          clientConfig: {url: 'https://192.0.2.1/'}, namespaceSelector: {matchLabels: {nobody: has}},
          rules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [secrets]}]}]}",
        "policy-webhooks-known",
        &["MutatingWebhookConfiguration watcher sees and changes secrets"],
    ),
    (
        "{apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata:
          {name: v1.example.com}, spec: {group: example.com, version: v1, groupPriorityMinimum: 100,
          versionPriority: 100, insecureSkipTLSVerify: true, service: {name: x, namespace: open}}}",
        "policy-aggregated-apis-known",
        &["APIService v1.example.com is served by open/x"],
    ),
    (
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: janitor},
          rules: [{apiGroups: [''], resources: [namespaces], verbs: [delete]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: janitor},
          roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: janitor},
          subjects: [{kind: Group, name: 'system:serviceaccounts:open',
          apiGroup: rbac.authorization.k8s.io}]}",
        "policy-rbac-minimal",
        &["Group system:serviceaccounts:open may delete namespaces through janitor"],
    ),
    (
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: half-one,
          namespace: default}, spec: {podSelector: {}, policyTypes: [Egress], egress: [{to:
          [{ipBlock: {cidr: 0.0.0.0/1}}]}]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: half-two,
          namespace: default}, spec: {podSelector: {}, policyTypes: [Egress], egress: [{to:
          [{ipBlock: {cidr: 128.0.0.0/1}}]}]}}",
        "network-default-deny",
        &["default allows egress by NetworkPolicy half-one"],
    ),
    (
        "{apiVersion: v1, kind: ResourceQuota, metadata: {name: nothing, namespace: open}, spec: {hard: {}}}",
        "policy-resource-quotas",
        &["no ResourceQuota of open bounds pods, CPU, memory"],
    ),
    (
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: stray,
          namespace: kube-system, labels: {kubernetes.io/service-name: stray}}, addressType: IPv4,
          endpoints: [{addresses: [192.0.2.7]}], ports: []}",
        "network-service-endpoints",
        &["Service kube-system/stray has foreign endpoint 192.0.2.7"],
    ),
    (
        "{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: bare}, handler: bare}",
        "policy-cluster-configuration",
        &["RuntimeClass bare has handler bare"],
    ),
    (
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: see-more,
          labels: {rbac.authorization.k8s.io/aggregate-to-view: 'true'}},
          rules: [{apiGroups: [''], resources: [nodes/proxy], verbs: [get]}]}",
        "policy-rbac-minimal",
        &["ClusterRole see-more is aggregated into view and adds: control kubelets"],
    ),
    (
        "{apiVersion: v1, kind: Node, metadata: {name: stranger}}",
        "policy-nodes-known",
        &["Node stranger"],
    ),
    (
        "{apiVersion: v1, kind: Secret, metadata: {name: bootstrap-token-abcdef, namespace: kube-system},
          type: bootstrap.kubernetes.io/token, stringData: {token-id: abcdef,
          token-secret: 0123456789abcdef, usage-bootstrap-authentication: 'true'}}",
        "apiserver-bootstrap-token-lifecycle",
        &["Secret kube-system/bootstrap-token-abcdef"],
    ),
    (
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: joiners},
          roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole,
          name: system:node-bootstrapper}, subjects: [{kind: Group, name: joiners,
          apiGroup: rbac.authorization.k8s.io}]}",
        "apiserver-bootstrap-token-lifecycle",
        &["joiners"],
    ),
    (
        "{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: coredns-evil, namespace: kube-system}, spec:
          {replicas: 0, selector: {matchLabels: {a: evil}}, template: {metadata: {labels: {a: evil}}, spec:
          {automountServiceAccountToken: false, containers: [{name: coredns,
          image: registry.k8s.io/pause:3.10, securityContext: {runAsUser: 0}}]}}}}",
        "policy-pod-security-in-force",
        &["ReplicaSet kube-system/coredns-evil (container coredns may raise its privileges"],
    ),
    (
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: as-a-node},
          rules: [{apiGroups: [authentication.k8s.io], resources: [nodes],
          verbs: ['impersonate:associated-node']}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: as-a-node},
          roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: as-a-node},
          subjects: [{kind: ServiceAccount, name: app, namespace: open}]}",
        "policy-rbac-minimal",
        &["ServiceAccount open/app may impersonate through as-a-node"],
    ),
    (
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: a-kubelet,
          namespace: open}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view},
          subjects: [{kind: User, name: 'system:node:nobody', apiGroup: rbac.authorization.k8s.io}]}",
        "policy-rbac-minimal",
        &["open/a-kubelet grants view to the kubelet of nobody"],
    ),
    (
        "{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {name: more}, spec:
          {cidrs: [198.51.100.0/24]}}",
        "network-service-endpoints",
        &["ServiceCIDR more adds 198.51.100.0/24"],
    ),
    (
        "{apiVersion: v1, kind: PersistentVolume, metadata: {name: twice}, spec: {capacity: {storage: 1Gi},
          accessModes: [ReadWriteOnce], hostPath: {path: //etc}}}",
        "policy-pod-security-in-force",
        &["PersistentVolume twice is //etc of the node"],
    ),
    (
        "{apiVersion: flowcontrol.apiserver.k8s.io/v1, kind: FlowSchema, metadata: {name: first}, spec:
          {matchingPrecedence: 3, priorityLevelConfiguration: {name: exempt}, rules: [{subjects:
          [{kind: ServiceAccount, serviceAccount: {name: app, namespace: open}}], resourceRules:
          [{verbs: ['*'], apiGroups: ['*'], resources: ['*'], namespaces: ['*']}]}]}}",
        "policy-cluster-configuration",
        &["FlowSchema first exempts requests of open/app"],
    ),
    (
        "{apiVersion: storage.k8s.io/v1, kind: CSIDriver, metadata: {name: taker.example.com}, spec:
          {tokenRequests: [{audience: ''}]}}",
        "policy-webhooks-known",
        &["CSIDriver taker.example.com receives pod tokens"],
    ),
    (
        "{apiVersion: v1, kind: Service, metadata: {name: stray, namespace: kube-public},
          spec: {ports: [{port: 80}]}}",
        "policy-namespaces-clean",
        &["Service kube-public/stray"],
    ),
];

/// Plants everything, has `verify` name it, and takes it away.
pub fn is_named(c: &Cluster, on: &str) {
    let all: Vec<&str> = PLANTED.iter().map(|(object, ..)| *object).collect();
    let all = all.join("\n---\n");
    let with = |verb: &str| {
        let kubectl = "/usr/local/bin/kubectl --kubeconfig /etc/kubernetes/admin.conf";
        c.inside(on, &format!("{kubectl} {verb} -f - <<'END'\n{all}\nEND\n"))
    };
    let planted = with("create");
    assert!(planted.status.success(), "{}", text(&planted));
    let said = c.ends(5, &["verify", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    let findings = report["findings"].as_array().unwrap();
    for &(object, control, words) in PLANTED {
        let finding = findings.iter().find(|f| f["control"] == control).unwrap();
        assert_eq!(finding["verdict"], "fail", "{control}: {finding:#}");
        let evidence = finding["evidence"].as_array().unwrap();
        for words in words {
            let named = evidence.iter().any(|e| e["actual"].as_str().unwrap_or("").contains(words));
            assert!(named, "{object}\nis not named by {control}: {finding:#}");
        }
    }
    let gone = with("delete --grace-period=0 --force --ignore-not-found");
    assert!(gone.status.success(), "{}", text(&gone));
}
