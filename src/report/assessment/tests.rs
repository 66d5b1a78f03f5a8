use std::collections::BTreeMap;

use serde_json::json;
use time::OffsetDateTime;

use super::json::Parts;
use super::*;
use crate::checks::{Asked, Evidence, Finding, Source, SourceKind, Subject, Verdict, Verification};
use crate::controls::find;
use crate::digest::Digest;
use crate::discovery::{self, Found};
use crate::facts::cluster::{ClusterFacts, ObjectKind};
use crate::inventory::{NodeName, testing};

fn found(kubelet: &str) -> Found {
    let node = |name: &str, address: &str, labels: serde_json::Value| {
        json!({
            "metadata": {"name": name, "labels": labels},
            "status": {
                "addresses": [{"type": "InternalIP", "address": address}],
                "nodeInfo": {"kubeletVersion": kubelet, "containerRuntimeVersion": "containerd://2.1.9",
                    "osImage": "Debian GNU/Linux 12 (bookworm)"},
            },
        })
    };
    let mut objects = ClusterFacts::default();
    objects.objects.insert(
        ObjectKind::Nodes,
        vec![
            node("cp1", "192.0.2.11", json!({"node-role.kubernetes.io/control-plane": ""})),
            node("w1", "192.0.2.21", json!({})),
        ],
    );
    let (nodes, notes) = discovery::nodes::found(&objects).unwrap();
    let asked = "192.0.2.11:6443".parse().unwrap();
    discovery::describe(&objects, nodes, notes, &BTreeMap::new(), &asked)
}

fn finding(id: &str, node: Option<&str>, verdicts: &[(&str, Verdict)]) -> Finding {
    let evidence = verdicts.iter().map(|(what, verdict)| {
        let asked = Asked { what: (*what).into(), check: (*what).into(), expected: "e".into() };
        let source = Source {
            sha256: Some(Digest::of("x")),
            ..Source::without_answer(SourceKind::File, "f")
        };
        Evidence::new(asked, verdict.clone(), source.into())
    });
    let subject = node.map_or(Subject::Cluster, |n| Subject::Node(n.parse().unwrap()));
    Finding::new(find(id).unwrap(), subject, evidence.collect())
}

fn report(lost: &[(&str, &str)]) -> Verification {
    let flag = |actual: &str| {
        vec![("kube-controller-manager --profiling", Verdict::fail("`false`", actual))]
    };
    let found = vec![
        finding("kcm-profiling-off", Some("cp1"), &flag("not set")),
        finding(
            "etcd-data-dir",
            Some("cp1"),
            &[
                ("/var/lib/etcd", Verdict::fail("etcd:etcd, mode 0700", "root:root, mode 0700")),
                ("/var/lib/etcd/member", Verdict::pass("mode 0700")),
            ],
        ),
        finding(
            "kubelet-pod-pids-limit",
            Some("w1"),
            &[("podPidsLimit", Verdict::fail("1 or more", "evil\u{1b}[2J\nCRITICAL: 0 gaps"))],
        ),
        finding(
            "kubelet-pod-pids-limit",
            Some("cp1"),
            &[("podPidsLimit", Verdict::fail("1 or more", "evil\u{1b}[2J\nCRITICAL: 0 gaps"))],
        ),
        finding("network-default-deny", None, &[("policies", Verdict::unknown("not read"))]),
        finding("host-accounts", Some("w1"), &[("passwd", Verdict::pass("root"))]),
    ];
    let lost = lost.iter().map(|(n, why)| (n.parse::<NodeName>().unwrap(), (*why).to_owned()));
    let now = OffsetDateTime::UNIX_EPOCH;
    Verification::new(&testing::two_and_two(), now, found, Vec::new(), lost.collect())
}

#[test]
fn people_read_what_is_weak_what_mends_it_and_who_notices() {
    let said = text(&found("v1.36.2"), &report(&[]), Detail::Short);
    assert_eq!(
        said,
        "\
Cluster kubernetes, Kubernetes v1.36.2, profile nsa, 1970-01-01T00:00:00Z
  distribution  unknown, recognized by nothing that kubastion knows
  changes       refused; assess can still judge hosts, API objects and network attempts
  endpoint      192.0.2.11:6443, cp1's own address: the API is unreachable while that node is down
  etcd          not found
  network       pods 10.244.0.0/16, Services 10.96.0.0/12, no CNI configuration found

  NODE  ADDRESS     ROLE           KUBELET  RUNTIME             SYSTEM
  cp1   192.0.2.11  control-plane  v1.36.2  containerd://2.1.9  Debian GNU/Linux 12 (bookworm)
  w1    192.0.2.21  worker         v1.36.2  containerd://2.1.9  Debian GNU/Linux 12 (bookworm)
"
        .to_owned()
            + &said[said.find("\n  note: ").unwrap()..]
    );
    let gaps = &said[said.find("\nHIGH").unwrap()..];
    assert_eq!(gaps, include_str!("../../../tests/fixtures/assess-gaps.txt"), "{gaps}");
}

#[test]
fn a_cluster_of_others_is_refused_with_what_can_still_be_judged() {
    let said = text(&found("v1.36.2+k3s1"), &report(&[]), Detail::Short);
    assert!(
        said.contains("distribution  k3s, recognized by the kubelet's version (`+k3s`)\n"),
        "{said}"
    );
    assert!(said.contains("changes       refused; assess can still judge hosts"), "{said}");
    assert!(said.contains("all daemons run in one process"), "{said}");
}

#[test]
fn what_is_unknown_is_counted_and_named_on_demand() {
    let lost = report(&[("w1", "no route")]);
    let short = text(&found("v1.36.2"), &lost, Detail::Short);
    assert!(
        short.contains("UNREACHABLE: every control of these nodes is unknown\n  w1: no route\n")
    );
    assert!(short.contains("  1 control: not read\n") && !short.contains("network-default-deny"));
    let whole = text(&found("v1.36.2"), &lost, Detail::Everything);
    assert!(whole.contains("    network-default-deny  high  cluster\n"), "{whole}");
}

#[test]
fn machines_read_the_same() {
    let (found, report) = (found("v1.36.2"), report(&[]));
    let parts = Parts::of(&report);
    let json = serde_json::to_value(json(&found, &report, &parts)).unwrap();
    assert_eq!(json["format"], "kubastion-assessment/v1");
    let cluster = &json["cluster"];
    assert_eq!(cluster["changes"], "refused");
    assert_eq!(cluster["endpoint"], "192.0.2.11:6443");
    assert_eq!(cluster["answered_by"], json!({"type": "node", "name": "cp1"}));
    assert_eq!(cluster["etcd"], "unseen");
    assert_eq!(cluster["nodes"][0]["role"], "control-plane");
    let gaps = json["gaps"].as_array().unwrap();
    let profiling = gaps.iter().find(|g| g["control"] == "kcm-profiling-off").unwrap();
    assert_eq!(profiling["restarts"], json!(["controller-manager"]));
    assert_eq!(profiling["noticed_by"], json!(["scrapers"]));
    assert_eq!(profiling["mend"], json!(["kube-controller-manager --profiling=false"]));
    assert_eq!(
        profiling["weak"],
        json!([{"node": "cp1", "seen": [{"what": "kube-controller-manager --profiling",
            "expected": "`false`", "observed": "not set"}]}])
    );
    assert_eq!(json["unknown"][0]["control"], "network-default-deny");
    assert_eq!(json["verification"]["format"], "kubastion-verification/v1");
    assert_eq!(json["verification"]["summary"]["fail"], 4);
}
