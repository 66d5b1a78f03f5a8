//! `impact`: it lists what others planted, and nothing else of theirs.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::cluster::text;
use crate::stock::{Stock, assert_same};

/// What others have in their cluster, for `impact` to find.
const PLANTED: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: deployer, namespace: shop}
---
apiVersion: v1
kind: Secret
type: kubernetes.io/service-account-token
metadata: {name: ci, namespace: shop, annotations: {kubernetes.io/service-account.name: deployer}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: zero, namespace: shop}
spec:
  replicas: 0
  selector: {matchLabels: {app: zero}}
  template:
    metadata: {labels: {app: zero}}
    spec:
      containers: [{name: c, image: "registry.example/zero:1", securityContext: {privileged: true}}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: shop}
spec:
  schedule: "0 3 * * *"
  suspend: true
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          automountServiceAccountToken: false
          volumes: [{name: etc, hostPath: {path: /etc}}]
          containers: [{name: c, image: "registry.example/nightly:1"}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {type: NodePort, selector: {app: zero}, ports: [{port: 80, nodePort: 30080}]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: open}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:anonymous"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: checks}
webhooks:
- name: checks.shop.example
  failurePolicy: Ignore
  sideEffects: None
  admissionReviewVersions: [v1]
  clientConfig: {service: {namespace: shop, name: gone}}
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
"#;

/// `impact` lists exactly that, beside what kubeadm makes.
pub fn what_others_planted_is_listed(s: &Stock, here: &dyn Fn() -> BTreeSet<std::ffi::OsString>) {
    let planted = s.c.inside(
        "cp1",
        &format!("cat >/run/planted.yaml <<'END'\n{PLANTED}\nEND\nchmod 0600 /run/planted.yaml"),
    );
    assert!(planted.status.success(), "{}", text(&planted));
    let applied = s.c.kubectl("cp1", "apply -f /run/planted.yaml");
    assert!(applied.status.success(), "{}", text(&applied));
    let token = "-n shop get secret ci -o jsonpath='{.data.token}'";
    s.c.until("the token of the account", 30, || s.c.kubectl("cp1", token).stdout.len() > 100);
    let token = String::from_utf8_lossy(&s.c.kubectl("cp1", token).stdout).into_owned();
    s.rests();
    // It asks about machines as `assess` does.
    assert_eq!(s.run("impact", &["cp1"], &[]).status.code(), Some(2));

    let before = (s.state(), here());
    let said = s.run("impact", &["cp1", "w1"], &[]);
    assert_eq!(said.status.code(), Some(0), "{}", text(&said));
    assert_same(&before.0, &s.state());
    assert_eq!(before.1, here(), "something was written on the operator's machine");

    let report: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(report["format"], "kubastion-impact/v1");
    let items = |id: &str| -> Vec<Value> {
        let rows = report["noticed"].as_array().unwrap();
        let row = rows.iter().find(|r| r["id"] == id).unwrap_or_else(|| panic!("{id}"));
        row["items"].as_array().unwrap_or_else(|| panic!("{row}")).clone()
    };
    let names = |id: &str| -> Vec<String> {
        let of = items(id);
        let others = of.iter().filter(|i| i["of_kubernetes"] == false);
        let word = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        others
            .map(|i| format!("{} {}/{}", word(&i["kind"]), word(&i["namespace"]), word(&i["name"])))
            .collect()
    };
    for (row, wanted) in [
        ("pod-security", &["CronJob shop/nightly", "Deployment shop/zero"][..]),
        ("pod-security-labels", &[]),
        ("node-ports", &["Service shop/web"]),
        ("service-addresses", &[]),
        ("host-ports", &[]),
        ("listeners", &[]),
        ("anonymous-bindings", &["ClusterRoleBinding /open"]),
        ("anonymous-api", &["Node /cp1"]),
        ("anonymous-kubelets", &[]),
        ("kubelet-read-only-ports", &[]),
        ("static-credentials", &[]),
        ("account-tokens", &["Secret shop/ci"]),
        ("default-tokens", &["Deployment shop/zero"]),
        ("webhooks", &["ValidatingWebhookConfiguration /checks"]),
        ("aggregated-apis", &[]),
        ("unencrypted", &["Secret /", "ConfigMap /"]),
    ] {
        assert_eq!(names(row), wanted, "{row}");
    }
    let tokens = names("join-tokens");
    let of_kubeadm = |n: &String| n.starts_with("Secret kube-system/bootstrap-token-");
    assert!(!tokens.is_empty() && tokens.iter().all(of_kubeadm), "{tokens:?}");
    assert_eq!(items("pod-security")[0]["state"], "suspended");
    assert_eq!(items("pod-security")[1]["state"], "scaled to zero");
    let refused = items("pod-security")[0]["seen"].to_string();
    assert!(refused.contains("hostPath /etc"), "{refused}");
    let count = s.c.kubectl("cp1", "get secrets -A -o name");
    let count = String::from_utf8_lossy(&count.stdout).lines().count();
    assert_eq!(items("unencrypted")[0]["count"], count);
    assert!(token.len() > 100 && !text(&said).contains(&token[..40]), "a token was said");
    assert!(s.c.inside("cp1", "rm /run/planted.yaml").status.success());
}
