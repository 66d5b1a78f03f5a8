//! The cluster's API, asked through a node: here a server that answers as each test says.

use std::time::Duration;

use kubastion::apply::cluster::Server;
use kubastion::apply::drain::{DrainError, Patience, allow_pods, drain};
use kubastion::facts::cluster::{ClusterFacts, Kind};
use serde_json::{Value, json};

use crate::support::api::FakeApi;

fn facts(api: &FakeApi, kinds: &[Kind]) -> ClusterFacts {
    let (_, address) = api.access.servers[0];
    Server { through: &mut api.node(), address, access: &api.access }.facts(kinds)
}

fn connections(api: &FakeApi) -> Vec<usize> {
    api.asked.lock().unwrap().iter().map(|a| a.connection).collect()
}

#[test]
fn lists_are_read_over_one_connection_page_by_page() {
    let api = FakeApi::start(usize::MAX, |asked| match asked.line.as_str() {
        "GET /api/v1/pods?limit=40" => {
            (200, json!({"metadata": {"continue": "more"}, "items": [{"metadata": {"name": "a"}}]}))
        }
        "GET /api/v1/pods?limit=40&continue=more" => {
            (200, json!({"metadata": {}, "items": [{"metadata": {"name": "b"}}]}))
        }
        line if line.starts_with("GET /api/v1/nodes") => (403, json!({"kind": "Status"})),
        _ => (200, json!({"items": []})),
    });
    let facts = facts(&api, &[Kind::Namespaces, Kind::Pods, Kind::Nodes, Kind::Services]);
    assert_eq!(facts.of(Kind::Pods).unwrap().len(), 2);
    assert!(facts.of(Kind::Nodes).unwrap_err().contains("403"));
    assert!(facts.of(Kind::Services).unwrap().is_empty(), "a refusal is no end");
    assert_eq!(connections(&api), [1; 5]);
}

#[test]
fn a_server_that_hangs_up_in_between_is_asked_again() {
    let kinds = Kind::for_a_plan(36);
    let api = FakeApi::start(4, |_| (200, json!({"items": []})));
    let facts = facts(&api, &kinds);
    assert!(facts.unread.is_empty(), "{:?}", facts.unread);
    assert_eq!(facts.objects.len(), kinds.len());
    let wanted: Vec<usize> = (0..kinds.len()).map(|i| i / 4 + 1).collect();
    assert_eq!(connections(&api), wanted, "a connection is used as long as it holds");
}

#[test]
fn a_server_that_never_answers_is_not_asked_for_ever() {
    let api = FakeApi::start(0, |_| (200, json!({"items": []})));
    let facts = facts(&api, &[Kind::Pods, Kind::Nodes]);
    assert!(facts.objects.is_empty());
    assert_eq!(facts.unread.keys().copied().collect::<Vec<_>>(), [Kind::Nodes, Kind::Pods]);
}

const PATIENCE: Patience =
    Patience { within: Duration::from_secs(20), pause: Duration::from_millis(1) };
const LIST: &str = "GET /api/v1/pods?fieldSelector=spec.nodeName%3Dw1&limit=40";

fn pod(name: &str, owner: Option<&str>) -> Value {
    let owners = owner.map(|kind| json!({"kind": kind, "controller": true}));
    json!({
        "metadata": {
            "namespace": "shop", "name": name, "uid": format!("uid-of-{name}"),
            "ownerReferences": owners.into_iter().collect::<Vec<_>>(),
        },
        "status": {"phase": "Running"},
    })
}

/// A worker with one pod of each sort.
fn all_sorts() -> Vec<Value> {
    let mut mirror = pod("static", Some("Node"));
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    let mut ended = pod("ended", Some("Job"));
    ended["status"]["phase"] = "Succeeded".into();
    let daemon = pod("daemon", Some("DaemonSet"));
    vec![pod("web", Some("ReplicaSet")), pod("alone", None), daemon, mirror, ended]
}

fn drain_w1(api: &FakeApi, patience: Patience) -> (Result<Vec<String>, DrainError>, Vec<String>) {
    let (_, address) = api.access.servers[0];
    let mut through = api.node();
    let mut server = Server { through: &mut through, address, access: &api.access };
    let mut said = Vec::new();
    let result =
        drain(&mut server, &"w1".parse().unwrap(), patience, &mut |what| said.push(what.into()));
    (result, said)
}

#[test]
fn pods_are_evicted_as_budgets_allow_and_waited_for() {
    let mut pods = all_sorts();
    let mut refused = 0;
    let api = FakeApi::start(usize::MAX, move |asked| match asked.line.as_str() {
        LIST => {
            let list = json!({"items": pods});
            // What ends is gone at the next look.
            pods.retain(|p| p["metadata"].get("deletionTimestamp").is_none());
            (200, list)
        }
        line if line.ends_with("/web/eviction") && refused < 2 => {
            refused += 1;
            (429, json!({"kind": "Status", "message": "it would violate the budget"}))
        }
        line => {
            let name = line.split('/').nth(6).unwrap();
            let pod = pods.iter_mut().find(|p| p["metadata"]["name"] == name).unwrap();
            pod["metadata"]["deletionTimestamp"] = "now".into();
            (201, json!({}))
        }
    });
    let (result, said) = drain_w1(&api, PATIENCE);
    assert_eq!(result, Ok(vec!["shop/alone".to_owned()]), "nothing makes that one anew");
    assert!(said[0].contains("shop/web: it would violate the budget (status 429)"), "{said:?}");
    let evict = |name: &str| format!("POST /api/v1/namespaces/shop/pods/{name}/eviction");
    let (web, alone, list) = (evict("web"), evict("alone"), LIST.to_owned());
    let wanted = [
        // Which ones have to go.
        &list, //
        &list, &alone, &web, // The budget keeps the second.
        &list, &web, // And still does.
        &list, &web,  // It may go.
        &list, // It is ending.
        &list, // It is gone.
    ];
    assert_eq!(api.lines().iter().collect::<Vec<_>>(), wanted);
    let asked = api.asked.lock().unwrap();
    let first = asked.iter().find(|a| a.line == alone).unwrap();
    assert_eq!(first.body["kind"], "Eviction");
    assert_eq!(first.body["deleteOptions"]["preconditions"]["uid"], "uid-of-alone");
}

#[test]
fn a_pod_that_a_budget_keeps_is_named_when_time_is_over() {
    let api = FakeApi::start(usize::MAX, |asked| match asked.line.as_str() {
        LIST => (200, json!({"items": all_sorts()})),
        _ => (429, json!({"kind": "Status", "message": "it would violate the budget"})),
    });
    let (result, _) = drain_w1(&api, Patience { within: Duration::ZERO, ..PATIENCE });
    let said = result.unwrap_err().to_string();
    assert!(said.contains("after 0 s") && said.contains("shop/web: it would violate"), "{said}");
    assert!(!said.contains("daemon") && !said.contains("static"), "{said}");
}

#[test]
fn what_is_not_known_of_a_node_is_said_at_once() {
    let api = FakeApi::start(0, |_| (200, json!({})));
    assert!(matches!(drain_w1(&api, PATIENCE), (Err(DrainError::Unreachable(_)), _)));
    let api = FakeApi::start(usize::MAX, |_| (403, json!({"message": "no"})));
    assert!(matches!(drain_w1(&api, PATIENCE), (Err(DrainError::Unreachable(_)), _)));
}

#[test]
fn a_server_that_is_away_for_a_moment_does_not_end_a_drain() {
    let mut looks = 0;
    let api = FakeApi::start(1, move |asked| {
        assert_eq!(asked.line, LIST);
        looks += 1;
        match looks {
            1 => (200, json!({"items": [pod("web", Some("ReplicaSet"))]})),
            2 => (500, json!({})),
            _ => (200, json!({"items": []})),
        }
    });
    let (result, said) = drain_w1(&api, PATIENCE);
    assert_eq!(result, Ok(vec![]));
    assert!(said[0].contains("answers 500"), "{said:?}");
}

#[test]
fn a_node_is_closed_and_opened_where_that_is_another_thing() {
    for (closed, allow, patched) in
        [(false, false, true), (true, false, false), (true, true, true), (false, true, false)]
    {
        let api = FakeApi::start(usize::MAX, move |asked| {
            (200, json!({"spec": {"unschedulable": closed}, "asked": asked.line}))
        });
        let (_, address) = api.access.servers[0];
        let mut through = api.node();
        let mut server = Server { through: &mut through, address, access: &api.access };
        let before = allow_pods(&mut server, &"w1".parse().unwrap(), allow);
        assert_eq!(before, Ok(Some(!closed)));
        let asked = api.asked.lock().unwrap();
        assert_eq!(asked.len() == 2, patched);
        if patched {
            assert_eq!(asked[1].line, "PATCH /api/v1/nodes/w1");
            assert_eq!(asked[1].body, json!({"spec": {"unschedulable": !allow}}));
        }
    }
    let api = FakeApi::start(usize::MAX, |_| (404, json!({})));
    let (_, address) = api.access.servers[0];
    let mut through = api.node();
    let mut server = Server { through: &mut through, address, access: &api.access };
    assert_eq!(allow_pods(&mut server, &"w1".parse().unwrap(), false), Ok(None));
}
