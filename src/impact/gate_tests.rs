//! When a cluster may be hardened: by what its nodes have recorded, and what the inventory acknowledges.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::gate::{Obstacles, is_due, obstacles};
use super::tests::{bare, inventory, nodes, seen_with};
use crate::facts::observation::{About, AuditedRequest, Flow, Flows, Observation, Requests};
use crate::facts::{CLUSTER_MARK, FileFacts, NftRecord, cluster::ClusterFacts};
use crate::inventory::{Acknowledged, Inventory, NodeName, Stage};
use crate::plan::Answered;

/// The node's clock; observation began so many minutes before.
const NOW: i64 = 1_780_315_200;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn flow(from: &str, to: Option<&str>, protocol: &str, port: Option<u16>) -> Flow {
    let (from, to) = (address(from), to.map(address));
    Flow { from, to, protocol: protocol.into(), port, packets: 1 }
}

fn observed(
    minutes: i64,
    flows: Vec<Flow>,
    requests: Vec<AuditedRequest>,
) -> BTreeMap<NodeName, Answered> {
    let mut nodes = nodes();
    for (name, answered) in &mut nodes {
        let facts = &mut answered.facts;
        facts.clock_epoch_s = NOW;
        let file = FileFacts::File {
            mode: 0o644,
            owner: "root".into(),
            group: "root".into(),
            size: 1,
            sha256: String::new(),
        };
        facts.files.insert("/var/lib/kubelet/config.yaml".into(), file);
        let (file_sha256, listing_sha256) = ("f".to_owned(), "a".to_owned());
        facts.nft.own_listing_sha256 = Some(listing_sha256.clone());
        facts.nft.recorded = Some(NftRecord { file_sha256, listing_sha256 });
        let since = NOW - minutes * 60;
        let at = time::OffsetDateTime::from_unix_timestamp(since).unwrap();
        let is_plane = name.as_str() == "cp1";
        facts.observation = Some(Observation {
            flows: Some(Flows { since_epoch_s: since, is_full: false, flows: flows.clone() }),
            has_apiserver: is_plane,
            requests: is_plane.then(|| Requests {
                since: at.format(&time::format_description::well_known::Rfc3339).unwrap(),
                is_cut: false,
                is_by_other_policy: false,
                requests: requests.iter().map(|r| (r.clone(), 2)).collect(),
            }),
        });
    }
    nodes
}

fn enforcing() -> Inventory {
    let mut inventory = inventory();
    inventory.hardening.stage = Some(Stage::Enforce);
    inventory.hardening.observe_minutes = 60;
    inventory
}

fn judge(
    inventory: &Inventory,
    facts: &ClusterFacts,
    nodes: &BTreeMap<NodeName, Answered>,
) -> Obstacles {
    assert!(is_due(inventory, nodes));
    obstacles(inventory, nodes, &seen_with(inventory, facts, nodes))
}

/// Names of flows that are in the way.
fn flows(inventory: &Inventory, seen: Vec<Flow>) -> Vec<String> {
    let all = judge(inventory, &bare(), &observed(60, seen, vec![])).unacknowledged;
    all.into_iter().filter(|n| n.starts_with("flows/w1")).collect()
}

#[test]
fn a_cluster_is_observed_for_as_long_as_the_inventory_says() {
    let i = enforcing();
    let short = judge(&i, &bare(), &observed(59, vec![], vec![])).unobserved;
    assert_eq!(
        short,
        [
            "cp1: connections were observed for 59 of 60 minutes",
            "cp1: requests were observed for 59 of 60 minutes",
            "w1: connections were observed for 59 of 60 minutes"
        ]
    );
    assert!(judge(&i, &bare(), &observed(60, vec![], vec![])).unobserved.is_empty());
    // A node that has recorded nothing is not one that has seen nobody.
    let mut nodes = observed(60, vec![], vec![]);
    let w1: NodeName = "w1".parse().unwrap();
    let facts = &mut nodes.get_mut(&w1).unwrap().facts;
    (facts.observation, facts.nft.own_listing_sha256) = (None, None);
    assert_eq!(judge(&i, &bare(), &nodes).unobserved, ["w1: connections were not observed"]);
    // And what cannot be read is not nothing.
    let mut unread = bare();
    unread.objects.remove(&crate::facts::cluster::ObjectKind::Deployments);
    let seen = judge(&i, &unread, &observed(60, vec![], vec![]));
    assert!(seen.unobserved.iter().any(|w| w.starts_with("pod-security: ")), "{seen:?}");
}

#[test]
fn hardening_that_has_begun_goes_on_and_new_nodes_wait_for_nobody() {
    let i = enforcing();
    let mut nodes = observed(1, vec![], vec![]);
    for answered in nodes.values_mut() {
        answered.facts.unit_marks.insert(CLUSTER_MARK.into(), "x".into());
    }
    assert!(!is_due(&i, &nodes));
    // Its firewall turns away: nothing is recorded there any more.
    let mut nodes = observed(1, vec![], vec![]);
    nodes.values_mut().for_each(|n| n.facts.observation = Some(Observation::default()));
    assert!(!is_due(&i, &nodes));
    // But not where somebody has changed the table, or loaded another one.
    nodes.values_mut().for_each(|n| n.facts.nft.own_listing_sha256 = Some("b".into()));
    assert!(is_due(&i, &nodes));
    let said = judge(&i, &bare(), &nodes).unobserved;
    assert!(said.contains(&"w1: connections were not observed".to_owned()), "{said:?}");
    nodes.values_mut().for_each(|n| n.facts.nft.recorded = None);
    assert!(is_due(&i, &nodes));
    let mut nodes = observed(1, vec![], vec![]);
    nodes.values_mut().for_each(|n| n.facts.files.clear());
    assert!(!is_due(&i, &nodes));
    for stage in [None, Some(Stage::Observe)] {
        let mut i = enforcing();
        i.hardening.stage = stage;
        assert!(!is_due(&i, &observed(60, vec![], vec![])));
    }
    assert!(is_due(&i, &observed(60, vec![], vec![])));
}

#[test]
fn connections_are_listed_until_a_rule_lets_them_in() {
    let mut i = enforcing();
    let outside = || vec![flow("198.51.100.9", None, "tcp", Some(8080))];
    assert_eq!(flows(&i, outside()), ["flows/w1/tcp/8080/198.51.100.9"]);
    // What the rules let in needs no word, whoever recorded it.
    assert!(flows(&i, vec![flow("192.0.2.7", None, "tcp", Some(22))]).is_empty());
    assert!(flows(&i, vec![flow("192.0.2.7", None, "tcp", Some(30123))]).is_empty());
    assert_eq!(
        flows(&i, vec![flow("198.51.100.9", None, "tcp", Some(30123))]),
        ["flows/w1/tcp/30123/198.51.100.9"]
    );
    let pod = |from| vec![flow(from, Some("10.244.0.7"), "tcp", Some(80))];
    assert_eq!(flows(&i, pod("198.51.100.9")), ["flows/w1/10.244.0.7/tcp/80/198.51.100.9"]);
    assert!(flows(&i, pod("10.244.1.1")).is_empty());
    assert_eq!(
        flows(&i, vec![flow("198.51.100.9", None, "gre", None)]),
        ["flows/w1/gre/198.51.100.9"]
    );
    // From inside of the cluster, too: the metadata service is closed to pods.
    let metadata = vec![flow("10.244.1.1", Some("169.254.169.254"), "tcp", Some(80))];
    assert_eq!(flows(&i, metadata), ["flows/w1/169.254.169.254/tcp/80/10.244.1.1"]);
    i.firewall.extra_rules = vec![crate::inventory::FirewallRule {
        name: "app".into(),
        protocol: crate::inventory::FirewallProtocol::Tcp,
        ports: vec![8080],
        from: vec!["198.51.100.0/24".parse().unwrap()],
        roles: vec![],
    }];
    assert!(flows(&i, outside()).is_empty());
    assert_eq!(
        flows(&i, vec![flow("203.0.113.1", None, "tcp", Some(8080))]),
        ["flows/w1/tcp/8080/203.0.113.1"]
    );
}

#[test]
fn what_is_acknowledged_by_name_is_in_nobodys_way() {
    let mut i = enforcing();
    let request = |what: &str, agent: &str, from: &str| AuditedRequest {
        about: About::Anonymous,
        who: String::new(),
        from: from.into(),
        agent: agent.into(),
        what: what.into(),
    };
    let own = i.nodes[0].addresses[0].to_string();
    let requests = vec![
        request("/version", "curl/8", "198.51.100.9"),
        request("/readyz", "kube-probe/1.36", &own),
        // Somebody else's program may call itself so.
        request("/readyz", "kube-probe/1.36", "198.51.100.9"),
    ];
    let names = |i: &Inventory| {
        let nodes = observed(60, vec![], requests.clone());
        let all = judge(i, &bare(), &nodes).unacknowledged.into_iter();
        all.filter(|n| n.starts_with("anonymous-requests/")).collect::<Vec<_>>()
    };
    let (version, ready) =
        ("anonymous-requests/198.51.100.9/version", "anonymous-requests/198.51.100.9/readyz");
    assert_eq!(names(&i), [version, ready]);
    let acknowledge = |item: &str| Acknowledged {
        item: item.into(),
        reason: "r".into(),
        owner: "o".into(),
        expires: "2999-01-01".into(),
    };
    i.hardening.acknowledged = vec![acknowledge(version)];
    assert_eq!(names(&i), [ready]);
    i.hardening.acknowledged.push(acknowledge("anonymous-requests/198.51.100.9"));
    assert_eq!(names(&i), [ready], "half a name is none");
    i.hardening.acknowledged.push(acknowledge(ready));
    assert!(names(&i).is_empty());
}

#[test]
fn records_that_are_not_whole_are_in_the_way_by_a_name_of_their_own() {
    let i = enforcing();
    let mut nodes = observed(60, vec![], vec![]);
    for answered in nodes.values_mut() {
        let observation = answered.facts.observation.as_mut().unwrap();
        observation.flows.as_mut().unwrap().is_full = true;
        observation.requests.iter_mut().for_each(|r| r.is_cut = true);
    }
    let names = judge(&i, &bare(), &nodes).unacknowledged;
    let policy = |nodes: &mut BTreeMap<NodeName, Answered>, other: bool| {
        for observation in nodes.values_mut().filter_map(|n| n.facts.observation.as_mut()) {
            observation.requests.iter_mut().for_each(|r| {
                (r.is_cut, r.is_by_other_policy) = (false, other);
            });
        }
    };
    let by = |other| {
        let mut nodes = nodes.clone();
        policy(&mut nodes, other);
        judge(&i, &bare(), &nodes)
            .unacknowledged
            .contains(&"anonymous-requests/cp1/incomplete".to_owned())
    };
    assert!(by(true) && !by(false));
    for name in ["flows/cp1/incomplete", "flows/w1/incomplete", "anonymous-requests/cp1/incomplete"]
    {
        assert!(names.iter().any(|n| n == name), "{name}: {names:?}");
    }
}

/// Without a firewall that drops, or an audit log, there is nothing to wait for: it must not be waited for in vain.
#[test]
fn what_will_never_be_recorded_is_not_waited_for() {
    let mut i = enforcing();
    let mut nodes = observed(60, vec![], vec![]);
    for answered in nodes.values_mut() {
        answered.facts.observation = Some(Observation::default());
        (answered.facts.nft.own_listing_sha256, answered.facts.nft.recorded) = (None, None);
    }
    let names = |o: &Obstacles| -> Vec<String> {
        let all = o.unacknowledged.iter();
        all.filter(|n| n.ends_with("/incomplete")).cloned().collect()
    };
    assert_eq!(judge(&i, &bare(), &nodes).unobserved.len(), 3);
    i.firewall.mode = crate::inventory::FirewallMode::Off;
    assert_eq!(judge(&i, &bare(), &nodes).unobserved, ["cp1: requests were not observed"]);
    i.hardening
        .controls
        .insert("apiserver-audit-policy".into(), crate::inventory::Switch::Off.into());
    let seen = judge(&i, &bare(), &nodes);
    assert!(seen.unobserved.is_empty(), "{seen:?}");
    // That nobody knows who asks is for somebody to accept.
    let rows = ["refused-pods", "anonymous-requests", "stale-tokens"];
    assert_eq!(names(&seen), rows.map(|row| format!("{row}/cp1/incomplete")));
}
