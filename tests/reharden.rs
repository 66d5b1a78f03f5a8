//! A cluster that others built: kubeadm's own, with etcd beside the API server and everything else by default.
//!
//! `KUBASTION_E2E_BUNDLE` names the bundle of the cluster, as for `e2e`.

// A failed step is to be seen at once.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kubastion::facts::cluster::ObjectKind;
use kubastion::lab::Lab;
use serde_json::Value;

use cluster::{Cluster, given, kubastion, say, text};

#[path = "support/cluster.rs"]
#[allow(dead_code)] // the other tests need more of it
mod cluster;

/// Controls that `verify` with an inventory and a key store that are not the cluster's judges otherwise than `assess`, which has
/// neither, and why. What one of them does not know, the other may.
const JUDGED_OTHERWISE: &[(&str, &str)] = &[
    // `verify` wants the key store's CAs, `assess` the cluster's own.
    ("apiserver-accepted-cas", "pass"),
    ("etcd-accepted-cas", "pass"),
    ("kubelet-accepted-cas", "pass"),
    ("etcd-client-cert-auth", "pass"),
    // And there is no certificate to compare with that should be served.
    ("etcd-peer-tls", "unknown"),
    ("etcd-server-tls", "unknown"),
    // The lab's inventory wants the bridge network and the bundle's programs; that of `assess`, what is there.
    ("containerd-files-known", "pass"),
    ("host-no-shadowed-programs", "fail"),
];

/// One lab at a time: two clusters on the same cores take longer than they are waited for.
static ONE_LAB: Mutex<()> = Mutex::new(());

struct Stock {
    c: Cluster,
    /// Address and host key of each node, by name.
    nodes: BTreeMap<String, (String, String)>,
}

impl Stock {
    /// `assess`, by the control plane, with host keys of some nodes.
    fn assess(&self, known: &[&str], more: &[&str]) -> Output {
        self.run("assess", known, more)
    }

    /// A verb that finds the cluster by the control plane, with host keys of some nodes.
    fn run(&self, verb: &str, known: &[&str], more: &[&str]) -> Output {
        let (address, _) = &self.nodes["cp1"];
        let mut args = vec!["--format".to_owned(), "json".to_owned(), verb.to_owned()];
        args.push(format!("ssh://root@{address}"));
        args.extend(["--identity", "ssh/id_ed25519"].map(str::to_owned));
        for name in known {
            let (address, key) = &self.nodes[*name];
            args.extend(["--host-key".to_owned(), format!("{address}={key}")]);
        }
        args.extend(more.iter().map(|m| (*m).to_owned()));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        kubastion(&self.c.dir, &args).output().unwrap()
    }

    /// Everything on a node's disk but for what runs writes there all the time: data of etcd and containerd, volumes of pods, and
    /// what a login leaves.
    fn disk(&self, node: &str) -> BTreeSet<String> {
        const VOLATILE: &[&str] = &[
            " /var/lib/etcd",
            " /var/lib/kubelet/pods",
            " /var/lib/containerd",
            " /var/lib/kubelet/device-plugins",
        ];
        let mut all = self.c.tree(node);
        all.retain(|line| !VOLATILE.iter().any(|v| line.contains(v)));
        let script = "find /var/cache /var/tmp /home /opt /var/spool -xdev -printf '%y %m %u:%g %s %p\\n'
            find /opt /var/cache /var/lib/kubelet -xdev -path /var/lib/kubelet/pods -prune -o -type f -exec sha256sum {} +
            ip netns list; nft list ruleset | grep -v counter";
        let out = self.c.inside(node, script);
        assert!(out.status.success(), "{}", text(&out));
        // systemd starts timedated for whoever asks for the time's state, and ends it by itself.
        let lines = String::from_utf8_lossy(&out.stdout).into_owned();
        all.extend(
            lines.lines().filter(|l| !l.contains("-systemd-timedated.service-")).map(str::to_owned),
        );
        all
    }

    /// Every object of the API, but for what the cluster itself writes all the time.
    fn objects(&self) -> BTreeMap<String, Value> {
        let mut all = BTreeMap::new();
        let mut paths: Vec<String> =
            ObjectKind::ALL.iter().map(|(_, path)| (*path).to_owned()).collect();
        paths.push("/api/v1/secrets".to_owned());
        for path in paths.iter().filter(|p| !p.contains("leases")) {
            let out = self.c.kubectl("cp1", &format!("get --raw '{path}'"));
            assert!(out.status.success(), "{path}: {}", text(&out));
            let list: Value = serde_json::from_slice(&out.stdout).unwrap();
            for mut object in list["items"].as_array().unwrap().clone() {
                let metadata = object["metadata"].as_object_mut().unwrap();
                metadata.remove("resourceVersion");
                metadata.remove("managedFields");
                let called = format!(
                    "{path} {} {}",
                    metadata.get("namespace").unwrap_or(&Value::Null),
                    metadata["name"]
                );
                // Nodes say every few minutes that they are there.
                for condition in object
                    .pointer_mut("/status/conditions")
                    .and_then(Value::as_array_mut)
                    .into_iter()
                    .flatten()
                {
                    condition.as_object_mut().unwrap().remove("lastHeartbeatTime");
                }
                // Kubelets read them out of control groups, and find a limit or none there.
                if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
                    status.remove("resources");
                    for container in status.get_mut("containerStatuses").into_iter().flat_map(|c| {
                        c.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut)
                    }) {
                        container.remove("resources");
                    }
                }
                all.insert(called, object);
            }
        }
        assert!(all.len() > 150, "{}", all.len());
        all
    }
}

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

/// Verdicts by control and subject.
fn verdicts(verification: &Value) -> BTreeMap<(String, String), String> {
    let word = |v: &Value| v.as_str().unwrap().to_owned();
    let findings = verification["findings"].as_array().unwrap().iter();
    findings
        .map(|f| ((word(&f["control"]), f["subject"].to_string()), word(&f["verdict"])))
        .collect()
}

/// A step that fails says what the component said last, and leaves the nodes up.
#[test]
fn a_stock_cluster_that_fails_says_why_and_leaves_its_nodes() {
    let _one = ONE_LAB.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((bundle, dir)) = given("reharden") else { return };
    let c = Cluster { dir };
    // Somebody else has the API server's port as soon as the node is there.
    let up = ["lab", "up", "--stock", "--control-planes", "1", "--workers", "0", "--dir", "."];
    let up = [&up[..], &["--bundle", &bundle]].concat();
    let taken = AtomicBool::new(false);
    let said = std::thread::scope(|scope| {
        scope.spawn(|| {
            let thief = "systemd-run -q --unit thief nc -lk 6443";
            let deadline = Instant::now() + Duration::from_secs(120);
            while Instant::now() < deadline && !taken.load(Ordering::Relaxed) {
                let exec = ["lab", "exec", "--dir", ".", "cp1", "--", "sh", "-c", thief];
                let done = kubastion(&c.dir, &exec).output().unwrap().status.success();
                taken.store(done, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        kubastion(&c.dir, &up).output().unwrap()
    });
    assert!(taken.into_inner(), "nobody took the port");
    assert_eq!(said.status.code(), Some(1), "{}", text(&said));
    let dir = c.dir.display();
    for words in [
        "error: cp1: the stock cluster could not be created: step `init`",
        "Port 6443 is in use",
        "kept for inspection",
        &format!("`kubastion lab exec --dir {dir} cp1 -- less /var/log/kubeadm.log`"),
        "lab down --dir .",
    ] {
        assert!(text(&said).contains(words), "{words}: {}", text(&said));
    }
    assert!(!c.dir.join("software").exists());
    assert!(c.inside("cp1", "grep -q 'Port 6443' /var/log/kubeadm.log").status.success());
    // What is half-made is not taken for a cluster.
    let again = kubastion(&c.dir, &up).output().unwrap();
    assert_eq!(again.status.code(), Some(3), "{}", text(&again));
    assert!(text(&again).contains("its creation did not finish"), "{}", text(&again));
}

#[test]
fn a_cluster_of_others_is_assessed_and_nothing_is_written() {
    let _one = ONE_LAB.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((bundle, dir)) = given("reharden") else { return };
    let began = Instant::now();
    let c = Cluster { dir };
    let up = ["lab", "up", "--stock", "--control-planes", "1", "--workers", "1", "--dir", "."];
    let up = [&up[..], &["--bundle", &bundle]].concat();
    let said = kubastion(&c.dir, &up).output().unwrap();
    assert_eq!(said.status.code(), Some(0), "{}", text(&said));
    // Everything was waited for.
    assert!(c.all_ready("cp1", 2));
    let pods = text(&c.kubectl("cp1", "-n kube-system get pods --no-headers"));
    let running = pods.lines().filter(|l| l.contains(" 1/1 ") && l.contains(" Running "));
    assert_eq!(running.count(), 8, "{pods}");
    assert!(!c.dir.join("software").exists(), "what was taken out of the bundle is left");
    let left = c.inside("cp1", "cat /run/lab-kubeadm.yaml");
    assert!(!left.status.success(), "a token and a key are left: {}", text(&left));
    say(began, "a stock cluster is up");

    // What it says is next works as it stands, with nobody at a terminal.
    let next = String::from_utf8_lossy(&said.stderr).into_owned();
    let next = next.lines().find_map(|l| l.trim().strip_prefix("kubastion ")).unwrap().to_owned();
    let next: Vec<&str> = next.split(' ').collect();
    assert_eq!(next[0], "assess");
    c.ends(5, &next);
    say(began, "the command that it names works");

    // The same again changes nothing, and another lab is not made of it.
    let again = kubastion(&c.dir, &up).output().unwrap();
    assert_eq!(again.status.code(), Some(0), "{}", text(&again));
    assert!(text(&again).contains("already up"), "{}", text(&again));
    c.ends(3, &["lab", "up", "--control-planes", "1", "--workers", "1", "--dir", "."]);
    let inventory = std::fs::read_to_string(c.dir.join("inventory.yaml")).unwrap();
    let inventory: kubastion::yaml::Value = kubastion::yaml::from_text(&inventory).unwrap();
    let word = |v: &kubastion::yaml::Value| v.as_str().unwrap().to_owned();
    let nodes = inventory["nodes"].as_sequence().unwrap().iter();
    let nodes = nodes
        .map(|n| (word(&n["name"]), (word(&n["addresses"][0]), word(&n["ssh"]["host_keys"][0]))))
        .collect();
    let s = Stock { c, nodes };
    let logins = |node: &str| {
        let out = s.c.inside(node, "journalctl -q -u ssh -g 'Accepted publickey' | wc -l");
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    };

    // Nobody is at a terminal: a machine whose key nobody has compared is not logged in to.
    let before = [logins("cp1"), logins("w1")];
    let said = s.assess(&[], &[]);
    assert_eq!(said.status.code(), Some(2), "{}", text(&said));
    let (address, key) = &s.nodes["cp1"];
    assert!(text(&said).contains(&format!("--host-key {address}={key}")), "{}", text(&said));
    let other = format!("{address}=SHA256:{}", "A".repeat(43));
    let said = s.assess(&[], &["--host-key", &other]);
    assert_eq!(said.status.code(), Some(6), "{}", text(&said));
    assert!(text(&said).contains("a different host key than expected"), "{}", text(&said));
    assert_eq!([logins("cp1"), logins("w1")], before);
    // Neither is one that only the API names.
    let said = s.assess(&["cp1"], &[]);
    assert_eq!(said.status.code(), Some(2), "{}", text(&said));
    let (address, key) = &s.nodes["w1"];
    assert!(text(&said).contains(&format!("--host-key {address}={key}")), "{}", text(&said));
    assert_eq!(logins("w1"), before[1]);
    assert_ne!(logins("cp1"), before[0], "the count of logins counts none");
    say(began, "host keys are asked for, of machines that are named and of those that are found");

    // A young cluster still writes what it finds out of its pods: three looks in a row have to be alike.
    let last = std::cell::RefCell::new((s.objects(), 0));
    s.c.until("the cluster to be at rest", 120, || {
        let (now, mut last) = (s.objects(), last.borrow_mut());
        let alike = if now == last.0 { last.1 + 1 } else { 0 };
        *last = (now, alike);
        alike == 3
    });
    let before = ([s.disk("cp1"), s.disk("w1")], s.objects());
    let here = || -> BTreeSet<_> {
        std::fs::read_dir(&s.c.dir).unwrap().map(|e| e.unwrap().file_name()).collect()
    };
    let files = here();
    let said = s.assess(&["cp1", "w1"], &[]);
    assert_eq!(said.status.code(), Some(5), "{}", text(&said));
    let after = ([s.disk("cp1"), s.disk("w1")], s.objects());
    for (before, after) in before.0.iter().zip(&after.0) {
        let difference: Vec<_> = before.symmetric_difference(after).collect();
        assert!(difference.is_empty(), "{difference:#?}");
    }
    for (name, object) in &before.1 {
        assert_eq!(after.1.get(name), Some(object), "{name}");
    }
    assert_eq!(before.1.len(), after.1.len());
    assert_eq!(here(), files, "something was written on the operator's machine");
    say(began, "nodes, the API and the operator's machine are as they were");

    let report: Value = serde_json::from_slice(&said.stdout).unwrap();
    let cluster = &report["cluster"];
    assert_eq!(cluster["distribution"], "kubeadm");
    assert_eq!(cluster["changes"], "possible");
    assert_eq!(cluster["etcd"], "stacked");
    assert_eq!(cluster["answered_by"], serde_json::json!({"type": "node", "name": "cp1"}));
    assert_eq!(cluster["pod_networks"], serde_json::json!(["10.244.0.0/16"]));
    assert_eq!(cluster["cni"], serde_json::json!(["10-bridge.conflist"]));
    assert_eq!(cluster["notes"], serde_json::json!([]));
    let gaps = report["gaps"].as_array().unwrap();
    let gap = |id: &str| gaps.iter().find(|g| g["control"] == id).unwrap_or_else(|| panic!("{id}"));
    assert_eq!(gap("apiserver-profiling-off")["restarts"], serde_json::json!(["apiserver"]));
    assert_eq!(
        gap("apiserver-profiling-off")["mend"],
        serde_json::json!(["kube-apiserver --profiling=false"])
    );
    assert!(gap("host-firewall-worker")["weak"][0]["node"] == "w1");
    // The administrator's key was read, and is nowhere.
    let admin = s.c.inside("cp1", "sed -n 's/.*client-key-data: *//p' /etc/kubernetes/admin.conf");
    let admin = String::from_utf8_lossy(&admin.stdout).trim().to_owned();
    assert!(admin.len() > 100 && !text(&said).contains(&admin));

    // The same nodes by an inventory, with a key store that is not the cluster's.
    let file = s.c.dir.join("inventory.yaml");
    let lab = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{lab}etcd: {{placement: stacked}}\n")).unwrap();
    s.c.ends(0, &["pki", "ensure"]);
    let verified =
        kubastion(&s.c.dir, &["--format", "json", "verify", "--read-only"]).output().unwrap();
    assert_eq!(verified.status.code(), Some(5), "{}", text(&verified));
    let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
    let (assessed, verified) = (verdicts(&report["verification"]), verdicts(&verified));
    assert_eq!(
        assessed.keys().collect::<Vec<_>>(),
        verified.keys().collect::<Vec<_>>(),
        "other controls were judged"
    );
    let mut otherwise = BTreeSet::new();
    for (of, verdict) in &assessed {
        let known = JUDGED_OTHERWISE.iter().find(|(control, _)| *control == of.0);
        match (known, verified[of].as_str()) {
            (Some((control, wanted)), _) => {
                assert_eq!(verdict, wanted, "{of:?}");
                otherwise.insert(*control);
            }
            // It reads what `verify` cannot, with a key store that is another cluster's.
            (None, "unknown") => {}
            (None, other) => assert_eq!(verdict, other, "{of:?}"),
        }
    }
    assert_eq!(otherwise.len(), JUDGED_OTHERWISE.len());
    let count =
        |all: &BTreeMap<_, String>, verdict: &str| all.values().filter(|v| *v == verdict).count();
    assert!(count(&assessed, "unknown") < 20, "{}", count(&assessed, "unknown"));
    assert!(count(&assessed, "unknown") < count(&verified, "unknown"));
    say(began, "it agrees with verify");

    what_others_planted_is_listed(&s, &here);
    say(began, "what others planted is listed by name, and nothing is written");

    // Without what leads to the API, the machine that was named is assessed alone, and that is said.
    let moved = s.c.inside("cp1", "mkdir /root/kept && mv /etc/kubernetes/admin.conf /etc/kubernetes/kubelet.conf /root/kept/");
    assert!(moved.status.success());
    let said = s.assess(&["cp1"], &[]);
    let back = s.c.inside("cp1", "mv /root/kept/* /etc/kubernetes/ && rmdir /root/kept");
    assert!(back.status.success());
    assert_eq!(said.status.code(), Some(5), "{}", text(&said));
    let report: Value = serde_json::from_slice(&said.stdout).unwrap();
    let names: Vec<&Value> =
        report["cluster"]["nodes"].as_array().unwrap().iter().map(|n| &n["name"]).collect();
    assert_eq!(names, ["cp1"]);
    let notes = report["cluster"]["notes"].to_string();
    assert!(notes.contains("assessing only the named machines"), "{notes}");

    // A sudo that keeps what programs print would keep the administrator's key.
    let keeps = "useradd -m keeper && mkdir -p /home/keeper/.ssh && cp /root/.ssh/authorized_keys /home/keeper/.ssh/ &&
        chown -R keeper /home/keeper/.ssh && printf '%s\\n' 'keeper ALL=(ALL) NOPASSWD: ALL' 'Defaults log_output' >/etc/sudoers.d/keeper";
    let made = s.c.inside("cp1", keeps);
    assert!(made.status.success(), "{}", text(&made));
    let (plane, of_plane) = &s.nodes["cp1"];
    let (target, host_key) = (format!("ssh://keeper@{plane}"), format!("{plane}={of_plane}"));
    let args = ["assess", &target, "--identity", "ssh/id_ed25519", "--host-key", &host_key];
    let said = kubastion(&s.c.dir, &args).output().unwrap();
    assert_eq!(said.status.code(), Some(5), "{}", text(&said));
    assert!(text(&said).contains("sudo records program output"), "{}", text(&said));
    // The beginning of a kubeconfig, in base64.
    let kept = "[ -n \"$(find /var/log/sudo-io -name stdout)\" ] || exit 1
        ! find /var/log/sudo-io -name stdout -exec zcat -f {} + | grep -q YXBpVmVyc2lv || exit 2
        rm /etc/sudoers.d/keeper; userdel -r keeper 2>/dev/null || true";
    let kept = s.c.inside("cp1", kept);
    assert!(kept.status.success(), "{}", text(&kept));

    // By way of a worker, whose kubelet may not list Nodes, it is assessed alone; with a control plane beside it, all are.
    let (worker, key) = &s.nodes["w1"];
    let keys = [format!("{worker}={key}"), host_key];
    let (worker, plane) = (format!("ssh://root@{worker}"), format!("ssh://root@{plane}"));
    let by = |machines: &[&str]| -> Value {
        let first = [&["--format", "json", "assess"], machines].concat();
        let rest = ["--identity", "ssh/id_ed25519", "--host-key", &keys[0], "--host-key", &keys[1]];
        let said = kubastion(&s.c.dir, &[&first[..], &rest].concat()).output().unwrap();
        assert_eq!(said.status.code(), Some(5), "{}", text(&said));
        serde_json::from_slice(&said.stdout).unwrap()
    };
    let nodes = |report: &Value| report["cluster"]["nodes"].as_array().unwrap().len();
    let alone = by(&[&worker]);
    assert_eq!((nodes(&alone), &alone["cluster"]["nodes"][0]["role"]), (1, &"worker".into()));
    let both = by(&[&worker, &plane]);
    assert_eq!(nodes(&both), 2);
    let unread = both["unknown"].as_array().unwrap().iter();
    let unread = unread.filter(|u| u["why"].as_str().unwrap().contains("the API cannot be read"));
    assert_eq!(unread.count(), 0);
    say(began, "it is assessed by way of a worker, too");
}

/// `impact` lists exactly that, beside what kubeadm makes.
fn what_others_planted_is_listed(s: &Stock, here: &dyn Fn() -> BTreeSet<std::ffi::OsString>) {
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
    let last = std::cell::RefCell::new((s.objects(), 0));
    s.c.until("the cluster to be at rest", 120, || {
        let (now, mut last) = (s.objects(), last.borrow_mut());
        let alike = if now == last.0 { last.1 + 1 } else { 0 };
        *last = (now, alike);
        alike == 3
    });
    // It asks about machines as `assess` does.
    assert_eq!(s.run("impact", &["cp1"], &[]).status.code(), Some(2));

    let before = ([s.disk("cp1"), s.disk("w1")], s.objects(), here());
    let said = s.run("impact", &["cp1", "w1"], &[]);
    assert_eq!(said.status.code(), Some(0), "{}", text(&said));
    let after = ([s.disk("cp1"), s.disk("w1")], s.objects(), here());
    for (before, after) in before.0.iter().zip(&after.0) {
        let difference: Vec<_> = before.symmetric_difference(after).collect();
        assert!(difference.is_empty(), "{difference:#?}");
    }
    assert!(before.1 == after.1, "objects were changed");
    assert_eq!(before.2, after.2, "something was written on the operator's machine");

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

/// etcd that others keep apart from the API servers, and a company's one CA for everything.
#[test]
fn a_cluster_with_external_etcd_and_a_single_ca_is_seen_as_such() {
    let _one = ONE_LAB.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((bundle, dir)) = given("reharden") else { return };
    let began = Instant::now();
    let c = Cluster { dir };
    let up = "lab up --stock --stock-etcd external --stock-variant single-ca --control-planes 1 --workers 0 --dir .";
    let up: Vec<&str> = up.split(' ').chain(["--bundle", &bundle]).collect();
    c.ends(0, &up);
    say(began, "a stock cluster with external etcd is up");
    let pods = text(&c.kubectl("cp1", "-n kube-system get pods --no-headers"));
    assert!(!pods.contains("etcd"), "{pods}");

    let address = Lab::open(&c.dir).unwrap().address("cp1").unwrap();
    let login = format!("ssh://root@{address}");
    let words = ["--format", "json", "assess", &login, "--identity", "ssh/id_ed25519"];
    let said =
        kubastion(&c.dir, &[&words[..], &["--known-hosts", "ssh/known_hosts"]].concat()).output();
    let said = said.unwrap();
    assert_eq!(said.status.code(), Some(5), "{}", text(&said));
    let report: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(report["cluster"]["etcd"], "on-control-planes");
    let gaps = report["gaps"].as_array().unwrap();
    let gap = |id: &str| gaps.iter().find(|g| g["control"] == id).unwrap_or_else(|| panic!("{id}"));
    for id in ["pki-separate-cas", "etcd-run-as-user"] {
        assert_eq!(gap(id)["weak"][0]["node"], "cp1", "{id}");
    }
    let shared = gap("pki-separate-cas").to_string();
    assert!(
        shared.contains(
            "/etc/kubernetes/pki/ca.crt, /etc/kubernetes/pki/etcd/ca.crt, /etc/kubernetes/pki/front-proxy-ca.crt share one"
        ),
        "{shared}"
    );
    say(began, "it is seen as it is");

    // Its CAs are taken over, etcd's from where the API server says it is, and no others are made.
    let words = ["--format", "json", "import", &login, "--identity", "ssh/id_ed25519"];
    let more = ["--known-hosts", "ssh/known_hosts", "--out", "kept", "--conflicts", "keep"];
    let said = kubastion(&c.dir, &[&words[..], &more].concat()).output().unwrap();
    assert_eq!(said.status.code(), Some(0), "{}", text(&said));
    let print = |file: &str| {
        let sum = c.inside("cp1", &format!("sed '/^-/d' {file} | base64 -d | sha256sum"));
        text(&sum).split_whitespace().next().unwrap().to_owned()
    };
    let (one, of_etcd) = (print("/etc/kubernetes/pki/ca.crt"), print("/etc/etcd/pki/ca.crt"));
    let status = ["-i", "kept/inventory.yaml", "--format", "json", "pki", "status"];
    let ensured = kubastion(&c.dir, &["-i", "kept/inventory.yaml", "pki", "ensure"]).output();
    let ensured = ensured.unwrap();
    assert_eq!(ensured.status.code(), Some(0), "{}", text(&ensured));
    let status = kubastion(&c.dir, &status).output().unwrap();
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    let rows = status["entries"].as_array().unwrap();
    let cas = rows.iter().filter(|r| r["name"].as_str().unwrap().ends_with(" CA"));
    let cas: Vec<&Value> = cas.map(|r| &r["sha256"]).collect();
    assert_eq!(cas, [&one, &of_etcd, &one]);
    // Without etcd's key, its certificates have to be signed elsewhere, and that is said.
    std::fs::remove_file(c.dir.join("kept/pki/etcd/ca.key")).unwrap();
    for kind in ["crt", "key"] {
        std::fs::remove_file(c.dir.join(format!("kept/pki/nodes/cp1/etcd/peer.{kind}"))).unwrap();
    }
    let refused = kubastion(&c.dir, &["-i", "kept/inventory.yaml", "pki", "ensure"]).output();
    let refused = refused.unwrap();
    assert_ne!(refused.status.code(), Some(0), "{}", text(&refused));
    let due = "certificates are due: etcd/peer of cp1";
    assert!(text(&refused).contains(due), "{}", text(&refused));
    assert!(!c.dir.join("kept/pki/etcd/ca.key").exists());
    say(began, "its CAs are in the key store, and no others are made");
}

/// Its settings are in the inventory or named, the inventory loads, and nothing was written anywhere else.
#[test]
fn a_cluster_of_others_is_imported_and_nothing_is_written_on_it() {
    let _one = ONE_LAB.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((bundle, dir)) = given("reharden") else { return };
    let began = Instant::now();
    let c = Cluster { dir };
    let up = ["lab", "up", "--stock", "--stock-variant", "odd", "--control-planes", "1"];
    let up = [&up[..], &["--workers", "1", "--dir", ".", "--bundle", &bundle]].concat();
    let said = kubastion(&c.dir, &up).output().unwrap();
    assert_eq!(said.status.code(), Some(0), "{}", text(&said));
    say(began, "an odd stock cluster is up");
    let inventory = std::fs::read_to_string(c.dir.join("inventory.yaml")).unwrap();
    let inventory: kubastion::yaml::Value = kubastion::yaml::from_text(&inventory).unwrap();
    let address = inventory["nodes"][0]["addresses"][0].as_str().unwrap().to_owned();
    let s = Stock { c, nodes: BTreeMap::new() };
    let last = std::cell::RefCell::new((s.objects(), 0));
    s.c.until("the cluster to be at rest", 120, || {
        let (now, mut last) = (s.objects(), last.borrow_mut());
        let alike = if now == last.0 { last.1 + 1 } else { 0 };
        *last = (now, alike);
        alike == 3
    });
    let before = ([s.disk("cp1"), s.disk("w1")], s.objects());
    let target = format!("ssh://root@{address}");
    let by = ["--identity", "ssh/id_ed25519", "--known-hosts", "ssh/known_hosts", "--out", "kept"];
    let import = |more: &[&str]| -> Output {
        let args = [&["--format", "json", "import", &target], &by[..], more].concat();
        kubastion(&s.c.dir, &args).output().unwrap()
    };
    // Nobody is at a terminal to decide, and nothing is written then.
    let said = import(&[]);
    assert_eq!(said.status.code(), Some(3), "{}", text(&said));
    assert!(text(&said).contains("apiserver-audit-log-path"), "{}", text(&said));
    assert!(!s.c.dir.join("kept").exists());
    let said = import(&["--conflicts", "keep", "--owner", "ops"]);
    assert_eq!(said.status.code(), Some(0), "{}", text(&said));
    let after = ([s.disk("cp1"), s.disk("w1")], s.objects());
    for (before, after) in before.0.iter().zip(&after.0) {
        let difference: Vec<_> = before.symmetric_difference(after).collect();
        assert!(difference.is_empty(), "{difference:#?}");
    }
    for (name, object) in &before.1 {
        assert_eq!(after.1.get(name), Some(object), "{name}");
    }
    assert_eq!(before.1.len(), after.1.len());
    say(began, "it is imported, and nodes and the API are as they were");

    let imported = text(&said);
    let report: Value = serde_json::from_slice(&said.stdout).unwrap();
    let of = |list: &str| -> BTreeSet<String> {
        let lines = report[list].as_array().unwrap().iter();
        lines.map(|l| format!("{} {}", l["what"], l["value"]).replace('"', "")).collect()
    };
    // The five settings of the lab, and what its nodes need that are containers.
    assert!(of("taken_over").contains("name in the API server's certificate api.lab.example"));
    assert!(of("taken_over").iter().any(|l| l.starts_with("etcd CA ")));
    assert!(of("taken_over").contains("--audit-policy-file /etc/kubernetes/audit/policy.yaml"));
    let passed = of("passed_through");
    for setting in [
        "--event-ttl 3h0m0s",
        "--feature-gates HPAScaleToZero=true",
        "--audit-log-path /var/log/kubernetes/audit.log",
        "maxPods 60",
        "volume audit-policy /etc/kubernetes/audit",
        "conntrack.maxPerCore 0",
    ] {
        assert!(passed.contains(setting), "{setting}: {passed:#?}");
    }
    assert_eq!(report["conflicts"][0]["control"], "apiserver-audit-log-path");
    assert_eq!(of("not_taken_over"), BTreeSet::from(["failCgroupV1 false".to_owned()]));
    let policy = s.c.inside("cp1", "cat /etc/kubernetes/audit/policy.yaml");
    assert_eq!(std::fs::read(s.c.dir.join("kept/audit-policy.yaml")).unwrap(), policy.stdout);

    // It is an inventory like any other, and it is not written twice.
    let kept = "kept/inventory.yaml";
    s.c.ends(0, &["-i", kept, "inventory", "check"]);
    let said = import(&["--conflicts", "harden"]);
    assert_eq!(said.status.code(), Some(3), "{}", text(&said));
    assert!(text(&said).contains("already exists"), "{}", text(&said));
    // What is passed through is expected as it runs; what is neither that nor kubeadm's is not.
    let verify = ["-i", kept, "--format", "json", "verify", "--read-only"];
    let said = kubastion(&s.c.dir, &verify).output().unwrap();
    assert_eq!(said.status.code(), Some(5), "{}", text(&said));
    let verified: Value = serde_json::from_slice(&said.stdout).unwrap();
    let findings = verified["findings"].as_array().unwrap().iter();
    let in_effect = findings.filter(|f| f["control"] == "apiserver-in-effect");
    let in_effect: Vec<String> = in_effect.map(ToString::to_string).collect();
    assert!(!in_effect.is_empty());
    for flag in ["--event-ttl", "--feature-gates"] {
        assert!(!in_effect.iter().any(|f| f.contains(flag)), "{in_effect:?}");
    }
    say(began, "its inventory loads, and verify goes by it");

    // Its CAs and keys are in the key store as they are on the node, and nowhere else.
    let store = s.c.dir.join("kept/pki");
    let mut dirs = vec![store.clone()];
    while let Some(dir) = dirs.pop() {
        assert_eq!(std::fs::metadata(&dir).unwrap().mode() & 0o7777, 0o700, "{dir:?}");
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => dirs.push(path),
                false => {
                    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600, "{path:?}")
                }
            }
        }
    }
    let on_node = |file: &str| {
        let held = s.c.inside("cp1", &format!("cat /etc/kubernetes/pki/{file}"));
        assert!(held.status.success(), "{file}");
        held.stdout
    };
    let inventory = std::fs::read_to_string(s.c.dir.join(kept)).unwrap();
    assert!(inventory.contains("cas: imported"), "{inventory}");
    let said = format!("{imported}{inventory}");
    for file in ["ca.key", "etcd/ca.key", "front-proxy-ca.key", "sa.key"] {
        let key = on_node(file);
        assert!(std::fs::read(store.join(file)).unwrap() == key, "{file}");
        for line in String::from_utf8(key).unwrap().lines().filter(|l| !l.starts_with("-----")) {
            assert!(!said.contains(line), "a line of {file} was said");
        }
    }
    let mut cas = BTreeMap::new();
    for (name, file) in [
        ("cluster CA", "ca.crt"),
        ("etcd CA", "etcd/ca.crt"),
        ("front-proxy CA", "front-proxy-ca.crt"),
    ] {
        let sum = format!("sed '/^-/d' /etc/kubernetes/pki/{file} | base64 -d | sha256sum");
        let sum = text(&s.c.inside("cp1", &sum)).split_whitespace().next().unwrap().to_owned();
        assert_eq!(sum.len(), 64, "{sum}");
        assert_eq!(std::fs::read(store.join(file)).unwrap(), on_node(file), "{file}");
        cas.insert(name, sum);
    }
    let status = || -> Value {
        let args = ["-i", kept, "--format", "json", "pki", "status"];
        let said = kubastion(&s.c.dir, &args).output().unwrap();
        serde_json::from_slice(&said.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&said)))
    };
    let prints = || {
        let status = status();
        let rows = status["entries"].as_array().unwrap().clone();
        for (name, sum) in &cas {
            let row = rows.iter().find(|r| r["name"] == *name).unwrap();
            assert_eq!(
                (&row["sha256"], &row["state"]),
                (&sum.as_str().into(), &"ok".into()),
                "{row}"
            );
        }
    };
    prints();
    // Certificates are issued by these CAs, and no others are made.
    s.c.ends(0, &["-i", kept, "pki", "ensure"]);
    prints();
    s.c.ends(0, &["-i", kept, "pki", "status"]);
    assert!(std::fs::read(store.join("ca.key")).unwrap() == on_node("ca.key"));
    std::fs::rename(&store, s.c.dir.join("elsewhere")).unwrap();
    let said = kubastion(&s.c.dir, &["-i", kept, "pki", "ensure"]).output().unwrap();
    assert_ne!(said.status.code(), Some(0), "{}", text(&said));
    assert!(text(&said).contains("`pki.cas: imported`"), "{}", text(&said));
    assert!(!store.exists());
    std::fs::rename(s.c.dir.join("elsewhere"), &store).unwrap();
    say(began, "its CAs and keys are in the key store, and no others are made");

    it_is_hardened_where_it_runs(&s, kept, began);
}

/// What a lab cannot give, and what of others' is not kubastion's to change: the only controls that fail afterwards.
const STAYS_WEAK: &[&str] = &[
    // The network's files are others', and its program writes them.
    "files-cni",
    // A lab has the programs of packages, and those of the bundle before them.
    "host-no-shadowed-programs",
    // kubeadm's CAs have RSA keys of 2048 bits.
    "pki-key-algorithm-and-lifetime",
    // Requests of nodes that joined with a token: the controller manager deletes them after an hour.
    "policy-rbac-minimal",
    // The audit log stays where they have it: the conflict was decided so.
    "apiserver-audit-log-permissions",
    "apiserver-audit-policy",
    "host-secrets-unreadable",
];

/// Hardened in place, and taken back to what it was: it stays the same cluster all the time.
fn it_is_hardened_where_it_runs(s: &Stock, kept: &str, began: Instant) {
    let c = &s.c;
    let file = c.dir.join(kept);
    let lab = std::fs::read_to_string(c.dir.join("inventory.yaml")).unwrap();
    let part = |from: &str, to: &str| {
        let at = lab.find(from).unwrap();
        lab[at..at + lab[at..].find(to).unwrap()].to_owned()
    };
    let imported = std::fs::read_to_string(&file).unwrap();
    // Their audit policy leaves out what the control wants in the log, for which no plan is made: the profile's takes its place.
    let at = imported.find("audit:\n").unwrap();
    let end = at + imported[at..].find("\n\n").unwrap();
    let imported = format!("{}{}", &imported[..at], &imported[end..]);
    let (exceptions, off) = ("  exceptions:\n", "  controls:\n");
    assert!(imported.contains(exceptions) && imported.contains(off), "{imported}");
    let of_lab = part("    - control: kubelet-protect-kernel-defaults", "nodes:\n");
    let of_lab: String = of_lab.lines().map(|l| format!("{}\n", &l[2..])).collect();
    let inventory = imported.replace(exceptions, &format!("{exceptions}{of_lab}"))
        + &part("firewall:", "host:")
        + "host:\n  lab: true\n";
    let plain = "{state: off, reason: later, owner: ops, expires: 2999-01-01}";
    let days = (time::OffsetDateTime::now_utc() + time::Duration::days(30)).date();
    let plain = plain.replace("2999-01-01", &days.to_string());
    let unencrypted = inventory.replace(
        off,
        &format!(
            "{off}    apiserver-encryption-config: {plain}\n    apiserver-encryption-provider: {plain}\n"
        ),
    );
    std::fs::write(&file, &unencrypted).unwrap();
    let uids = || -> BTreeMap<String, String> {
        let all = s.objects().into_iter();
        // Pods, what ends by itself, and what hardening deletes.
        let stays = |name: &String| {
            ![
                "/pods ",
                "events",
                "endpointslices",
                "certificatesigningrequests",
                "bootstrap",
                "replicasets",
            ]
            .iter()
            .any(|w| name.contains(w))
        };
        all.filter(|(name, _)| stays(name))
            .map(|(name, object)| (name, object["metadata"]["uid"].to_string()))
            .collect()
    };
    let etcdctl = |args: &str| {
        let pki = "/etc/kubernetes/pki";
        let script = format!(
            "etcdctl --endpoints https://127.0.0.1:2379 --cacert {pki}/etcd/ca.crt --cert {pki}/apiserver-etcd-client.crt \
             --key {pki}/apiserver-etcd-client.key {args}"
        );
        let out = c.inside("cp1", &format!("PATH=/usr/local/bin:$PATH; {script}"));
        assert!(out.status.success(), "{}", text(&out));
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let cluster = || -> (Value, Value) {
        let status: Value = serde_json::from_str(&etcdctl("endpoint status -w json")).unwrap();
        let header = &status[0]["Status"]["header"];
        (header["cluster_id"].clone(), header["member_id"].clone())
    };
    let (was, members, disks) = (uids(), cluster(), [s.disk("cp1"), s.disk("w1")]);
    let same = |when: &str| {
        let now = uids();
        let changed: Vec<&String> = was
            .iter()
            .filter(|(n, uid)| now.get(*n).is_some_and(|u| u != *uid))
            .map(|(n, _)| n)
            .collect();
        assert!(changed.is_empty(), "{when}: {changed:#?}");
        assert_eq!(cluster(), members, "{when}");
    };
    let failing = || -> BTreeSet<String> {
        let args = ["-i", kept, "--format", "json", "verify"];
        let said = kubastion(&c.dir, &args).output().unwrap();
        assert_eq!(said.status.code(), Some(5), "{}", text(&said));
        let verified: Value = serde_json::from_slice(&said.stdout).unwrap();
        let findings = verified["findings"].as_array().unwrap().iter();
        let weak = findings.filter(|f| f["verdict"] != "pass" && f["verdict"] != "not-applicable");
        let weak = weak.filter(|f| f["exception"].is_null());
        weak.map(|f| f["control"].as_str().unwrap().to_owned()).collect()
    };

    c.ends(4, &["-i", kept, "plan", "--exit-code"]);
    c.ends(0, &["-i", kept, "apply", "--yes"]);
    c.ends(0, &["-i", kept, "plan", "--exit-code"]);
    same("hardened");
    let weak = failing();
    let unencrypted = BTreeSet::from(["files-apiserver-aux-configs".to_owned()]);
    let stays: BTreeSet<String> = STAYS_WEAK.iter().map(|c| (*c).to_owned()).collect();
    assert_eq!(weak, stays.union(&unencrypted).cloned().collect());
    let argv = c.inside("cp1", "tr '\\0' '\\n' </proc/$(pidof etcd)/cmdline");
    assert!(text(&argv).contains("--cipher-suites="), "{}", text(&argv));
    // kubeadm goes on with it.
    let expiry = c.inside("cp1", "PATH=/usr/local/bin:$PATH kubeadm certs check-expiration");
    assert!(expiry.status.success() && text(&expiry).contains("etcd-server"), "{}", text(&expiry));
    let refused =
        kubastion(&c.dir, &["-i", kept, "reset", "--yes", "--keep-etcd-data"]).output().unwrap();
    assert_ne!(refused.status.code(), Some(0));
    assert!(
        text(&refused).contains("it was part of a cluster before kubastion"),
        "{}",
        text(&refused)
    );
    assert!(c.all_ready("cp1", 2), "a reset that was refused has changed something");
    say(began, "it is hardened in place, and the same cluster");

    c.ends(0, &["-i", kept, "rollback", "--yes"]);
    c.until("all nodes to be Ready as they were", 120, || c.all_ready("cp1", 2));
    same("taken back");
    for (node, before) in ["cp1", "w1"].iter().zip(&disks) {
        let now = s.disk(node);
        // Pods, their networks and package lists go on; what nodes are configured by is below /etc.
        let left = |l: &&String| l.contains(" /etc/") && !GIVEN_UP.iter().any(|g| l.contains(g));
        let changed: Vec<_> = before.symmetric_difference(&now).filter(left).collect();
        assert!(changed.is_empty(), "{node}: {changed:#?}");
    }
    say(began, "files of the nodes are what they were");
}

/// What is not as it was: keys that are removed for good with their images, what runs and writes, and records of what was done.
const GIVEN_UP: &[&str] = &[
    "/var/lib/kubastion",
    "/etc/kubernetes/pki/etcd/ca.key",
    "/etc/kubernetes/pki/front-proxy-ca.key",
    "/etc/kubernetes/super-admin.conf",
];
