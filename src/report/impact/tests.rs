use std::collections::BTreeMap;

use serde_json::json;
use time::macros::datetime;

use super::*;
use crate::discovery::{self, Found};
use crate::error::Problem;
use crate::facts::cluster::{ClusterFacts, ObjectKind};
use crate::impact::{Impact, Reading, Subject, impact};
use crate::inventory::{NodeName, testing};

fn objects(workloads: usize) -> ClusterFacts {
    let mut facts = ClusterFacts::default();
    for (kind, _) in ObjectKind::ALL {
        facts.objects.insert(*kind, Vec::new());
    }
    let node = json!({"metadata": {"name": "cp1", "labels": {"node-role.kubernetes.io/control-plane": ""}},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.11"}],
            "nodeInfo": {"kubeletVersion": "v1.36.2"}}});
    facts.objects.insert(ObjectKind::Nodes, vec![node]);
    facts.objects.insert(ObjectKind::Namespaces, vec![json!({"metadata": {"name": "shop"}})]);
    let deployment = |n: usize| {
        json!({"metadata": {"namespace": "shop", "name": format!("web-{n:02}\u{1b}[2J"), "uid": n.to_string()},
            "spec": {"replicas": 0, "template": {"spec": {"hostNetwork": true, "hostPID": true, "hostIPC": true, "volumes": [{"name": "v", "hostPath": {"path": "/"}}], "containers": [{"name": "c\nd"}]}}}})
    };
    facts.objects.insert(ObjectKind::Deployments, (0..workloads).map(deployment).collect());
    facts
}

fn found(facts: &ClusterFacts) -> Found {
    let (nodes, notes) = discovery::nodes::found(facts).unwrap();
    let asked = "192.0.2.11:6443".parse().unwrap();
    discovery::describe(facts, nodes, notes, &BTreeMap::new(), &asked)
}

fn of(facts: &ClusterFacts) -> Impact {
    let inventory = testing::two_and_two();
    impact(&Reading {
        inventory: &inventory,
        objects: Ok(facts),
        nodes: &BTreeMap::new(),
        secrets: Err("no".into()),
        now: datetime!(2026-06-01 12:00 UTC),
    })
}

#[test]
fn people_see_a_few_by_namespace_and_all_on_demand() {
    let facts = objects(12);
    let (found, impact) = (Subject::from(&found(&facts)), of(&facts));
    let unreachable: BTreeMap<NodeName, Problem> =
        [("w1".parse().unwrap(), Problem::new("x").because("no route"))].into();
    let short = text(&found, &impact, None, &unreachable, Detail::Short);
    assert!(short.contains("\nWORKLOADS\n\n  pod-security  "), "{short}");
    assert!(
        short.contains("\n    shop\n      Deployment web-00\u{fffd}[2J (scaled to zero, 0 pods)\n"),
        "{short}"
    );
    assert!(
        short.contains("        level: restricted\n        host-network: hostNetwork\n"),
        "{short}"
    );
    assert!(short.contains("\n    and 4 more (--verbose)\n"), "{short}");
    assert!(short.contains("\n        and 3 more (--verbose)\n"), "{short}");
    assert!(!short.contains('\u{1b}') && !short.contains("web-11"), "{short:?}");
    assert!(short.contains("\nNothing found for: pod-security-labels, "), "{short}");
    assert!(short.contains("  w1: no route\n") && short.contains("needs observation"), "{short}");
    let whole = text(&found, &impact, None, &unreachable, Detail::Everything);
    assert!(whole.contains("web-11") && !whole.contains("--verbose"), "{whole}");
    assert!(whole.contains("container c d may run as root"), "{whole}");
}

#[test]
fn machines_read_all_of_it() {
    let facts = objects(12);
    let (found, impact) = (Subject::from(&found(&facts)), of(&facts));
    let unreachable = [("w1".parse().unwrap(), Problem::new("x").because("no route"))].into();
    let json = serde_json::to_value(json(&found, &impact, None, &unreachable)).unwrap();
    assert_eq!(json["format"], "kubastion-impact/v1");
    assert_eq!(json["time"], "2026-06-01T12:00:00Z");
    assert_eq!((&json["profile"], &json["cluster"]["nodes"]), (&json!("nsa"), &json!(["cp1"])));
    assert_eq!(json["unreachable"]["w1"], "no route");
    let rows = json["noticed"].as_array().unwrap();
    assert_eq!(rows.len(), crate::impact::ROWS.len());
    let row = &rows[0];
    assert_eq!((&row["id"], &row["section"]), (&json!("pod-security"), &json!("workloads")));
    let items = row["items"].as_array().unwrap();
    assert_eq!((items.len(), &items[0]["state"]), (12, &json!("scaled to zero")));
    assert_eq!(items[0]["seen"][0], json!({"what": "level", "said": "restricted"}));
    assert_eq!((&items[0]["count"], &items[0]["of_kubernetes"]), (&json!(0), &json!(false)));
    // What is not known is no empty list.
    let mut facts = objects(0);
    facts.objects.remove(&ObjectKind::Services);
    let impact = of(&facts);
    let json = serde_json::to_value(super::json(&found, &impact, None, &BTreeMap::new())).unwrap();
    let row = json["noticed"].as_array().unwrap().iter().find(|r| r["id"] == "node-ports").unwrap();
    assert!(row.get("items").is_none(), "{row}");
    assert!(json["not_seen"][0]["why"].as_str().unwrap().contains("Services"), "{json}");
}
