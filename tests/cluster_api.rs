//! The cluster's API, asked through a node: here a server that answers as each test says.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kubastion::api::Client;
use kubastion::apply::change_error::ChangeError;
use kubastion::apply::drain::{DrainError, Patience, allow_pods, drain};
use kubastion::apply::objects::change;
use kubastion::desired::cluster_cas::CaPlace;
use kubastion::desired::objects::resources;
use kubastion::digest::Digest;
use kubastion::facts::cluster::{ClusterFacts, ObjectKind};
use kubastion::plan::api_change::{Action, ApiChange};
use kubastion::plan::cluster::{Wanted, changes};
use serde_json::{Value, json};

use crate::support::api::{Asked, FakeApi};

fn facts(api: &FakeApi, kinds: &[ObjectKind]) -> ClusterFacts {
    let (_, address) = api.access.servers[0];
    Client::new(&mut api.node(), address, &api.access).facts(kinds)
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
    let facts = facts(
        &api,
        &[ObjectKind::Namespaces, ObjectKind::Pods, ObjectKind::Nodes, ObjectKind::Services],
    );
    assert_eq!(facts.of(ObjectKind::Pods).unwrap().len(), 2);
    assert!(facts.of(ObjectKind::Nodes).unwrap_err().contains("403"));
    assert!(facts.of(ObjectKind::Services).unwrap().is_empty(), "a refusal is no end");
    // The digest of a list is that of its pages as they came.
    let pages = [
        json!({"metadata": {"continue": "more"}, "items": [{"metadata": {"name": "a"}}]}),
        json!({"metadata": {}, "items": [{"metadata": {"name": "b"}}]}),
    ];
    let pages = pages.map(|page| page.to_string()).concat();
    assert_eq!(facts.answers[&ObjectKind::Pods].sha256, Digest::of(pages));
    assert!(!facts.answers.contains_key(&ObjectKind::Nodes), "a refusal is no list");
    assert_eq!(connections(&api), [1; 5]);
}

#[test]
fn a_server_that_hangs_up_in_between_is_asked_again() {
    let kinds = ObjectKind::for_a_plan(36);
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
    let facts = facts(&api, &[ObjectKind::Pods, ObjectKind::Nodes]);
    assert!(facts.objects.is_empty());
    assert_eq!(
        facts.unread.keys().copied().collect::<Vec<_>>(),
        [ObjectKind::Nodes, ObjectKind::Pods]
    );
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
    let mut client = Client::new(&mut through, address, &api.access);
    let mut said = Vec::new();
    let result =
        drain(&mut client, &"w1".parse().unwrap(), patience, &mut |what| said.push(what.into()));
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
        let mut client = Client::new(&mut through, address, &api.access);
        let before = allow_pods(&mut client, &"w1".parse().unwrap(), allow);
        assert_eq!(before, Ok(Some(!closed)));
        let asked = api.asked.lock().unwrap();
        assert_eq!(asked.len() == 2, patched);
        if patched {
            assert!(asked[1].line.starts_with("PATCH /api/v1/nodes/w1?"), "{}", asked[1].line);
            assert_eq!(asked[1].media, "application/merge-patch+json");
            assert_eq!(asked[1].body, json!({"spec": {"unschedulable": !allow}}));
        }
    }
    let api = FakeApi::start(usize::MAX, |_| (404, json!({})));
    let (_, address) = api.access.servers[0];
    let mut through = api.node();
    let mut client = Client::new(&mut through, address, &api.access);
    assert_eq!(allow_pods(&mut client, &"w1".parse().unwrap(), false), Ok(None));
}

/// What became of a planned change, and the requests that were sent for it.
type Sent = (Result<(), ChangeError>, Vec<Asked>);

/// Plans against `listed`, and carries out the one change of an object that comes of it.
fn send(listed: &[(ObjectKind, Value)], name: &str, api: &FakeApi) -> Sent {
    let mut facts = ClusterFacts::default();
    for kind in ObjectKind::for_a_plan(36) {
        let mine = listed.iter().filter(|(k, _)| *k == kind).map(|(_, o)| o.clone());
        facts.objects.insert(kind, mine.collect());
    }
    let planned = changes(&api.inventory, &facts, Wanted::of(&api.inventory));
    let planned = planned.iter().find(|c| c.object().is_some_and(|(_, n)| n == name)).unwrap();
    let (_, address) = api.access.servers[0];
    let mut through = api.node();
    let mut client = Client::new(&mut through, address, &api.access);
    let result = change(&mut client, &api.inventory, &api.access, planned);
    drop(client);
    (result, api.asked.lock().unwrap().clone())
}

const QUOTA: &str = "/api/v1/namespaces/default/resourcequotas/kubastion-quota";

/// The quota as an API server hands it out, with so many pods.
fn quota(pods: &str, version: &str) -> Value {
    let [_, quota] = resources();
    let mut quota = quota.body;
    quota["spec"]["hard"]["pods"] = pods.into();
    quota["metadata"]["resourceVersion"] = version.into();
    quota
}

#[test]
fn an_object_that_is_missing_is_applied_and_nobody_is_overruled() {
    let api = FakeApi::start(usize::MAX, |asked| match asked.line.starts_with("GET") {
        true => (404, json!({"kind": "Status", "reason": "NotFound"})),
        false => (201, quota("100", "1")),
    });
    let (result, asked) = send(&[], "kubastion-quota", &api);
    result.unwrap();
    let [look, sent] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!(look.line, format!("GET {QUOTA}"));
    let query = "fieldManager=kubastion&fieldValidation=Strict&force=false";
    assert_eq!(sent.line, format!("PATCH {QUOTA}?{query}"));
    assert_eq!(sent.media, "application/apply-patch+yaml");
    let [_, quota] = resources();
    assert_eq!(sent.body, quota.body);
}

#[test]
fn what_the_plan_showed_is_put_back_and_only_in_the_object_that_it_saw() {
    let api = FakeApi::start(usize::MAX, |asked| match asked.line.starts_with("GET") {
        // A status that somebody wrote meanwhile is another version of the same.
        true => (200, quota("100000", "8")),
        false => (200, quota("100", "9")),
    });
    let (result, asked) =
        send(&[(ObjectKind::ResourceQuotas, quota("100000", "7"))], "kubastion-quota", &api);
    result.unwrap();
    let [_, sent] = asked.as_slice() else { panic!("{asked:?}") };
    assert!(sent.line.ends_with("force=true"), "{}", sent.line);
    assert_eq!(sent.body, quota("100", "8"));
}

#[test]
fn fields_that_another_manager_added_go_by_a_patch() {
    let mut weak = quota("100", "1");
    weak["spec"]["scopes"] = json!(["BestEffort"]);
    weak["spec"]["hard"]["secrets"] = "1".into();
    let answers = weak.clone();
    let api = FakeApi::start(usize::MAX, move |asked| {
        let mut answer = answers.clone();
        match asked.media.as_str() {
            "application/merge-patch+json" => (200, quota("100", "3")),
            "" => (200, answer),
            _ => {
                answer["metadata"]["resourceVersion"] = "2".into();
                (200, answer)
            }
        }
    });
    let (result, asked) = send(&[(ObjectKind::ResourceQuotas, weak)], "kubastion-quota", &api);
    result.unwrap();
    let [_, _, patch] = asked.as_slice() else { panic!("{asked:?}") };
    let wanted = json!({
        "metadata": {"resourceVersion": "2"}, "spec": {"hard": {"secrets": null}, "scopes": null},
    });
    assert_eq!(patch.body, wanted);
}

#[test]
fn what_was_changed_since_the_plan_stays_as_it_is() {
    let seen = [(ObjectKind::ResourceQuotas, quota("100000", "1"))];
    for (found, why) in [
        ((200, quota("5", "2")), "spec.hard.pods: \"5\" -> \"100\""),
        ((404, json!({})), "it was deleted"),
        ((403, json!({"kind": "Status", "message": "not you"})), "answers 403: not you"),
    ] {
        let answer = found.clone();
        let api = FakeApi::start(usize::MAX, move |_| answer.clone());
        let (result, asked) = send(&seen, "kubastion-quota", &api);
        let said = result.unwrap_err().to_string();
        assert!(said.contains(why), "{said}");
        assert_eq!(asked.len(), 1, "{asked:?}");
    }
    // Somebody made one meanwhile.
    let api = FakeApi::start(usize::MAX, |_| (200, quota("5", "2")));
    let (result, asked) = send(&[], "kubastion-quota", &api);
    assert!(matches!(result, Err(ChangeError::NotAsPlanned(_))));
    assert_eq!(asked.len(), 1);
    // Or between the look and the change: the server says so.
    let api = FakeApi::start(usize::MAX, |asked| match asked.line.starts_with("GET") {
        true => (200, quota("100000", "2")),
        false => (409, json!({"kind": "Status", "reason": "Conflict", "message": "modified"})),
    });
    let (result, asked) = send(&seen, "kubastion-quota", &api);
    let Err(ChangeError::Api(e)) = result else { panic!("{result:?}") };
    assert_eq!((e.status(), asked.len()), (Some(409), 2));
}

#[test]
fn a_server_that_says_yes_and_does_no_such_thing_is_not_believed() {
    let api = FakeApi::start(usize::MAX, |_| (200, quota("100000", "1")));
    let seen = [(ObjectKind::ResourceQuotas, quota("100000", "1"))];
    let (result, _) = send(&seen, "kubastion-quota", &api);
    assert!(matches!(result, Err(ChangeError::StillDiffers(_))), "{result:?}");
}

#[test]
fn of_a_node_only_the_labels_are_sent_and_only_to_the_same_node() {
    let node = |labels: Value| json!({"metadata": {"name": "w1", "uid": "u", "labels": labels}});
    let wanted = json!({"node-role.kubernetes.io/worker": ""});
    let (before, after) = (node(json!({"a": "b"})), node(wanted.clone()));
    let api = FakeApi::start(usize::MAX, move |asked| match asked.line.starts_with("GET") {
        true => (200, before.clone()),
        false => (200, after.clone()),
    });
    let seen = [(ObjectKind::Nodes, node(json!({})))];
    let (result, asked) = send(&seen, "w1", &api);
    result.unwrap();
    let [_, sent] = asked.as_slice() else { panic!("{asked:?}") };
    assert!(sent.line.starts_with("PATCH /api/v1/nodes/w1?") && sent.line.ends_with("force=false"));
    let metadata = json!({"name": "w1", "uid": "u", "labels": wanted});
    assert_eq!(sent.body, json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata}));
    // One that has left is not made by this.
    let api = FakeApi::start(usize::MAX, |_| (404, json!({})));
    let (result, asked) = send(&seen, "w1", &api);
    assert!(matches!(result, Err(ChangeError::NotAsPlanned(_))));
    assert_eq!(asked.len(), 1);
}

#[test]
fn a_plan_sends_nothing_that_the_inventory_does_not_ask_for() {
    let api = FakeApi::start(usize::MAX, |_| (200, json!({})));
    let (_, address) = api.access.servers[0];
    let mut through = api.node();
    let mut client = Client::new(&mut through, address, &api.access);
    let mut object = quota("100000", "1");
    object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let foreign = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}});
    for object in [object, foreign] {
        let planned = ApiChange::Apply {
            action: Action::Change,
            object,
            differs: Vec::new(),
            after: None,
            controls: Default::default(),
        };
        let result = change(&mut client, &api.inventory, &api.access, &planned);
        assert!(matches!(result, Err(ChangeError::NotWanted)), "{result:?}");
    }
    assert!(api.lines().is_empty());
}

#[test]
fn a_binding_goes_only_as_it_was_read() {
    let binding = |subject: &str| {
        json!({
            "metadata": {"namespace": "a", "name": "b c", "uid": "u", "resourceVersion": "7"},
            "subjects": [{"name": "system:anonymous"}, {"name": subject}],
        })
    };
    let delete = ApiChange::DeleteRoleBinding { namespace: "a".into(), name: "b c".into() };
    let keep = ApiChange::KeepSubjects {
        namespace: "a".into(),
        name: "b c".into(),
        keep: vec!["alice".into()],
    };
    for (planned, subject, sent) in [
        (&delete, "system:unauthenticated", Some("DELETE")),
        (&delete, "alice", None),
        (&keep, "alice", Some("PATCH")),
    ] {
        let api = FakeApi::start(usize::MAX, move |_| (200, binding(subject)));
        let (_, address) = api.access.servers[0];
        let mut through = api.node();
        let mut client = Client::new(&mut through, address, &api.access);
        let result = change(&mut client, &api.inventory, &api.access, planned);
        assert_eq!(result.is_ok(), sent.is_some(), "{result:?}");
        let asked = api.asked.lock().unwrap();
        let Some(method) = sent else {
            assert_eq!(asked.len(), 1);
            continue;
        };
        let path = "/apis/rbac.authorization.k8s.io/v1/namespaces/a/rolebindings/b%20c";
        assert!(asked[1].line.starts_with(&format!("{method} {path}")), "{}", asked[1].line);
        let version = ["/preconditions/resourceVersion", "/metadata/resourceVersion"]
            .map(|at| asked[1].body.pointer(at).cloned().unwrap_or_default());
        assert!(version.contains(&json!("7")), "{:?}", asked[1].body);
    }
}

#[test]
fn a_ca_goes_out_of_a_config_map_only_if_the_plan_named_it() {
    let answers = Arc::new(Mutex::new([Value::Null, Value::Null]));
    let shown = Arc::clone(&answers);
    let api = FakeApi::start(usize::MAX, move |asked| {
        let [before, after] = &*shown.lock().unwrap();
        (200, if asked.line.starts_with("GET") { before.clone() } else { after.clone() })
    });
    let (own, other) = (&api.access.ca_pem, &api.access.front_proxy_ca_pem);
    let map = |text: &str| {
        json!({
            "metadata": {
                "namespace": "kube-system", "name": "extension-apiserver-authentication",
                "resourceVersion": "7",
            },
            "data": {"client-ca-file": text},
        })
    };
    let both = format!("{own}{other}");
    *answers.lock().unwrap() = [map(&both), map(own)];
    let place = CaPlace::Clients;
    let (adds, drops) = place.change(&both, own).unwrap();
    assert!(adds.is_empty() && drops.len() == 1);
    for (drops, is_sent) in [(vec!["0".repeat(64)], false), (drops, true)] {
        let (_, address) = api.access.servers[0];
        let mut through = api.node();
        let mut client = Client::new(&mut through, address, &api.access);
        let planned = ApiChange::SetCas { place, adds: Vec::new(), drops };
        let result = change(&mut client, &api.inventory, &api.access, &planned);
        assert_eq!(result.is_ok(), is_sent, "{result:?}");
    }
    let asked = api.asked.lock().unwrap();
    let [_, look, sent] = asked.as_slice() else { panic!("{asked:?}") };
    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    assert_eq!(look.line, format!("GET {path}"));
    assert!(sent.line.starts_with(&format!("PATCH {path}")), "{}", sent.line);
    let wanted = json!({"metadata": {"resourceVersion": "7"}, "data": {"client-ca-file": own}});
    assert_eq!(sent.body, wanted);
}

#[test]
fn what_is_missing_in_a_list_of_somebody_else_is_put_back_by_force() {
    let [wanted, _] = resources();
    let mut emptied = wanted.body.clone();
    emptied["spec"]["limits"] = json!([{"type": "Container"}]);
    let found = emptied.clone();
    let api = FakeApi::start(usize::MAX, move |asked| match asked.line.starts_with("GET") {
        true => (200, found.clone()),
        false => (200, wanted.body.clone()),
    });
    let (result, asked) = send(&[(ObjectKind::LimitRanges, emptied)], "kubastion-limits", &api);
    result.unwrap();
    assert!(asked[1].line.ends_with("force=true"), "{}", asked[1].line);
}
