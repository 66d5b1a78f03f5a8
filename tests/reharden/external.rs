//! etcd that others keep apart from the API servers, and one CA for everything.

use std::sync::PoisonError;
use std::time::Instant;

use kubastion::lab::Lab;
use serde_json::Value;

use crate::ONE_LAB;
use crate::cluster::{Cluster, given, kubastion, say, text};

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
