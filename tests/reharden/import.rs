//! `import`: settings, CAs and keys are taken over or named, and nothing is written on the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::process::Output;
use std::sync::PoisonError;
use std::time::Instant;

use serde_json::Value;

use crate::ONE_LAB;
use crate::cluster::{Cluster, given, kubastion, say, text};
use crate::harden::it_is_hardened_where_it_runs;
use crate::stock::{Stock, assert_same};

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
    s.rests();
    let before = s.state();
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
    assert_same(&before, &s.state());
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
