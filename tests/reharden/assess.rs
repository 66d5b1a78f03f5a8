//! `assess`: what it asks before it logs in, what it says, and that it writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Instant;

use serde_json::Value;

use crate::ONE_LAB;
use crate::cluster::{Cluster, given, kubastion, say, text};
use crate::impact::what_others_planted_is_listed;
use crate::observe::who_asks_is_recorded;
use crate::stock::{Stock, assert_same};

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

/// Verdicts by control and subject.
fn verdicts(verification: &Value) -> BTreeMap<(String, String), String> {
    let word = |v: &Value| v.as_str().unwrap().to_owned();
    let findings = verification["findings"].as_array().unwrap().iter();
    findings
        .map(|f| ((word(&f["control"]), f["subject"].to_string()), word(&f["verdict"])))
        .collect()
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

    s.rests();
    let before = s.state();
    let here = || -> BTreeSet<_> {
        std::fs::read_dir(&s.c.dir).unwrap().map(|e| e.unwrap().file_name()).collect()
    };
    let files = here();
    let said = s.assess(&["cp1", "w1"], &[]);
    assert_eq!(said.status.code(), Some(5), "{}", text(&said));
    assert_same(&before, &s.state());
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

    who_asks_is_recorded(&s);
    say(began, "it is observed, and who would notice is named");
}
