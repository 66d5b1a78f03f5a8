//! The cluster's API, asked through a node: here a server that answers as each test says.

use kubastion::apply::cluster::Server;
use kubastion::facts::cluster::{ClusterFacts, Kind};
use serde_json::json;

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
        "GET /api/v1/pods?limit=500" => {
            (200, json!({"metadata": {"continue": "more"}, "items": [{"metadata": {"name": "a"}}]}))
        }
        "GET /api/v1/pods?limit=500&continue=more" => {
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
    let kinds = Kind::FOR_A_PLAN;
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
