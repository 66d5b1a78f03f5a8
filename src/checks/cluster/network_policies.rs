//! What the NetworkPolicies of a namespace allow together (Kubernetes documentation, "Network Policies").
//!
//! Policies are additive: one that denies everything denies nothing that another one allows.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde_json::Value;

use crate::checks::cluster::reading::{Cluster, none_of, of, user_namespaces};
use crate::checks::model::Verdict;
use crate::facts::cluster::{ObjectKind, list, name, namespace, text};
use crate::inventory::IpNetText;

/// A direction: its name, where its rules are, and what they call the others.
const WAYS: [(&str, &str, &str); 2] =
    [("Ingress", "/spec/ingress", "/from"), ("Egress", "/spec/egress", "/to")];

pub(in crate::checks) fn default_deny(on: &Cluster<'_>) -> Result<Verdict, Verdict> {
    let facts = on.facts;
    let spaces = user_namespaces(facts)?;
    let all = of(facts, ObjectKind::Namespaces)?;
    let policies = of(facts, ObjectKind::NetworkPolicies)?;
    let around = PeerContext { spaces: all, pods: networks(&on.inventory.cluster.pod_networks) };
    let mut wrong = Vec::new();
    for space in &spaces {
        let own: Vec<&Value> = policies.iter().filter(|p| namespace(p) == *space).collect();
        let denied = |way: usize| own.iter().any(|p| denies(p)[way]);
        match (denied(0), denied(1)) {
            (true, true) => {}
            (true, false) => wrong.push(format!("{space} allows egress")),
            (false, true) => wrong.push(format!("{space} allows ingress")),
            (false, false) => wrong.push(format!("{space} allows all traffic")),
        }
        for (way, (kind, ..)) in WAYS.iter().enumerate().filter(|(way, _)| denied(*way)) {
            let kind = kind.to_lowercase();
            let (open, rest): (Vec<&Value>, Vec<&Value>) =
                own.iter().copied().partition(|p| opens(&[*p], way, space, &around));
            for policy in open {
                wrong.push(format!("{space} allows {kind} by NetworkPolicy {}", name(policy)));
            }
            if opens(&rest, way, space, &around) {
                let rest = rest.iter().filter(|p| !rules(p, way).is_empty());
                let names: Vec<&str> = rest.map(|p| name(p)).collect();
                wrong.push(format!(
                    "{space} allows {kind} by NetworkPolicies {} together",
                    names.join(" and ")
                ));
            }
        }
    }
    let expected = "a NetworkPolicy for all pods that allows nothing, and none that allow everything, alone or together";
    Ok(none_of(expected, wrong, format!("denied in {}", spaces.join(", "))))
}

/// What a rule's peers are looked for in.
struct PeerContext<'c> {
    /// Every namespace.
    spaces: &'c [Value],
    /// Networks of pods.
    pods: Vec<IpNet>,
}

fn networks(texts: &[IpNetText]) -> Vec<IpNet> {
    texts.iter().filter_map(|t| t.to_string().parse().ok()).collect()
}

/// Rules of a policy in a direction, if it is about it.
fn rules(policy: &Value, way: usize) -> &[Value] {
    if is_about(policy, way) { list(policy, WAYS[way].1) } else { &[] }
}

/// Whether a policy is about a direction. One that does not say is about ingress, and about egress if it has rules
/// for it.
fn is_about(policy: &Value, way: usize) -> bool {
    let (kind, rules, _) = WAYS[way];
    let types = list(policy, "/spec/policyTypes");
    if types.is_empty() {
        way == 0 || policy.pointer(rules).is_some()
    } else {
        types.iter().any(|t| t == kind)
    }
}

/// Whether a policy selects every pod and lets nothing through, each way.
fn denies(policy: &Value) -> [bool; 2] {
    let selects_all = policy.pointer("/spec/podSelector").is_none_or(is_empty_selector);
    [0, 1].map(|way| selects_all && is_about(policy, way) && list(policy, WAYS[way].1).is_empty())
}

fn is_empty_selector(selector: &Value) -> bool {
    ["/matchLabels", "/matchExpressions"].iter().all(|at| match selector.pointer(at) {
        None | Some(Value::Null) => true,
        Some(Value::Array(a)) => a.is_empty(),
        Some(Value::Object(o)) => o.is_empty(),
        Some(_) => false,
    })
}

/// Whether policies of a namespace together let pods talk with everybody, or most, on most ports. For which pods they do
/// does not matter: tenants set labels, and a pod may have those of two policies.
fn opens(policies: &[&Value], way: usize, space: &str, around: &PeerContext<'_>) -> bool {
    let peers = WAYS[way].2;
    let (mut of_pods, mut of_addresses) = (vec![Ports::default(); around.spaces.len()], Vec::new());
    for rule in policies.iter().flat_map(|p| rules(p, way)) {
        let ports = Ports::of(rule);
        let named = list(rule, peers);
        if named.is_empty() && ports.are_most() {
            return true;
        }
        if named.is_empty() {
            // Everybody, on these ports.
            of_pods.iter_mut().for_each(|p| p.add(&ports));
            for all in ["0.0.0.0/0", "::/0"] {
                of_addresses.extend(addresses(all).map(|range| (range, ports.clone())));
            }
        }
        for peer in named {
            let blocks = peer.get("ipBlock").into_iter().flat_map(ranges);
            of_addresses.extend(blocks.map(|range| (range, ports.clone())));
            if peer.get("ipBlock").is_some() || !selects_unlabelled(peer.get("podSelector")) {
                continue;
            }
            let namespaces = peer.get("namespaceSelector").filter(|s| !s.is_null());
            for (n, open) in around.spaces.iter().zip(&mut of_pods) {
                if namespaces.map_or(name(n) == space, |selector| selects(selector, n)) {
                    open.add(&ports);
                }
            }
        }
    }
    // No pod of anybody's runs in these two.
    let is_user_namespace = |n: &Value| !["kube-node-lease", "kube-public"].contains(&name(n));
    let mut spaces =
        around.spaces.iter().zip(&of_pods).filter(|(n, _)| is_user_namespace(n)).peekable();
    (spaces.peek().is_some() && spaces.all(|(_, ports)| ports.are_most()))
        || open_addresses(of_addresses, around)
}

/// Whether a selector of pods selects one that has no labels: whatever together selects every pod has such a part.
fn selects_unlabelled(selector: Option<&Value>) -> bool {
    selector.is_none_or(|s| s.is_null() || selects(s, &Value::Null))
}

/// Ports by protocol, as ranges.
#[derive(Debug, Clone, Default)]
struct Ports([BTreeSet<(u16, u16)>; 3]);

const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];

impl Ports {
    /// Those of a rule; all if it names none.
    fn of(rule: &Value) -> Self {
        let named = list(rule, "/ports");
        let mut ports = Self::default();
        if named.is_empty() {
            ports.0.iter_mut().for_each(|of| of.extend([(0, u16::MAX)]));
        }
        for port in named {
            let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or(PROTOCOLS[0]);
            let number =
                |key| port.get(key).and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok());
            let range = match (number("port"), number("endPort")) {
                (Some(first), last) => (first, last.unwrap_or(first)),
                (None, _) if port.get("port").is_none_or(Value::is_null) => (0, u16::MAX),
                // One with a name is one port of a pod's.
                (None, _) => continue,
            };
            if let Some(at) = PROTOCOLS.iter().position(|p| *p == protocol) {
                ports.0[at].insert(range);
            }
        }
        ports
    }

    fn add(&mut self, other: &Self) {
        for (own, more) in self.0.iter_mut().zip(&other.0) {
            own.extend(more);
        }
    }

    /// Whether more than a quarter of a protocol's ports is among them: no application listens on as many.
    fn are_most(&self) -> bool {
        self.0.iter().any(|ranges| counted(ranges) > u32::from(u16::MAX / 4))
    }
}

/// How many ports are in ranges, which are sorted.
fn counted(ranges: &BTreeSet<(u16, u16)>) -> u32 {
    let (mut count, mut next) = (0, 0_u32);
    for (first, last) in ranges {
        let (first, end) = (u32::from(*first).max(next), u32::from(*last) + 1);
        count += end.saturating_sub(first);
        next = next.max(end);
    }
    count
}

/// A range of addresses of a family (true for IPv6): its first one, and the one after its last.
type Addresses = (bool, u128, u128);

/// Addresses are counted by the 64 bits that lead, so that none is beyond the last one.
fn range(net: IpNet) -> Addresses {
    let (six, first, last) = match net {
        IpNet::V4(net) => {
            let of = |a: std::net::Ipv4Addr| u128::from(u32::from(a)) << 32;
            (false, of(net.network()), of(net.broadcast()))
        }
        IpNet::V6(net) => {
            let of = |a: std::net::Ipv6Addr| u128::from(a) >> 64;
            (true, of(net.network()), of(net.broadcast()))
        }
    };
    let end = if six { last + 1 } else { last + (1 << 32) };
    (six, first, end)
}

fn addresses(text: &str) -> Option<Addresses> {
    text.parse::<IpNet>().ok().map(range)
}

/// What a block holds without its exceptions.
fn ranges(block: &Value) -> Vec<Addresses> {
    let Some((six, first, end)) = addresses(text(block, "/cidr")) else { return Vec::new() };
    let except = list(block, "/except").iter().filter_map(Value::as_str).filter_map(addresses);
    let mut except: Vec<Addresses> = except.filter(|(family, ..)| *family == six).collect();
    except.sort_unstable();
    let (mut left, mut from) = (Vec::new(), first);
    for (_, begin, over) in except {
        if begin > from {
            left.push((six, from, begin.min(end)));
        }
        from = from.max(over);
    }
    if from < end {
        left.push((six, from, end));
    }
    left
}

/// Whether addresses that are open on most ports are a sixteenth of a family or more, as everything but some is, or hold
/// a whole network of pods.
fn open_addresses(blocks: Vec<(Addresses, Ports)>, around: &PeerContext<'_>) -> bool {
    const ALL: u128 = 1 << 64;
    let pods: Vec<Addresses> = around.pods.iter().map(|net| range(*net)).collect();
    [false, true].into_iter().any(|family| {
        let mut edges: BTreeMap<u128, Vec<(bool, usize)>> = BTreeMap::new();
        for (i, ((six, first, end), _)) in blocks.iter().enumerate() {
            if *six == family {
                edges.entry(*first).or_default().push((true, i));
                edges.entry(*end).or_default().push((false, i));
            }
        }
        // Ports that are open from an edge to the next, each with the number of blocks that open it.
        let mut active: BTreeMap<(usize, u16, u16), usize> = BTreeMap::new();
        let (mut open, mut since, mut sum): (Vec<(u128, u128)>, Option<u128>, u128) =
            (Vec::new(), None, 0);
        for (at, changes) in edges {
            for (begins, i) in changes {
                for (protocol, ranges) in blocks[i].1.0.iter().enumerate() {
                    for (first, last) in ranges {
                        let count = active.entry((protocol, *first, *last)).or_default();
                        *count = if begins { *count + 1 } else { count.saturating_sub(1) };
                    }
                }
            }
            active.retain(|_, count| *count > 0);
            let mut ports = Ports::default();
            for (protocol, first, last) in active.keys() {
                ports.0[*protocol].insert((*first, *last));
            }
            match (since, ports.are_most()) {
                (None, true) => since = Some(at),
                (Some(first), false) => {
                    open.push((first, at));
                    sum += at - first;
                    since = None;
                }
                _ => {}
            }
        }
        let holds = |(six, first, end): &Addresses| {
            *six == family && open.iter().any(|(from, to)| from <= first && end <= to)
        };
        sum >= ALL / 16 || pods.iter().any(holds)
    })
}

/// Whether a label selector selects an object.
fn selects(selector: &Value, object: &Value) -> bool {
    let label = |key: &str| object.pointer("/metadata/labels")?.get(key)?.as_str();
    let wanted = selector.get("matchLabels").and_then(Value::as_object);
    let same =
        wanted.into_iter().flatten().all(|(k, v)| label(k).is_some() && label(k) == v.as_str());
    same && list(selector, "/matchExpressions").iter().all(|e| {
        let (has, values) = (label(text(e, "/key")), list(e, "/values"));
        let among = has.is_some_and(|h| values.iter().any(|v| v == h));
        match text(e, "/operator") {
            "In" => among,
            "NotIn" => !among,
            "Exists" => has.is_some(),
            "DoesNotExist" => has.is_none(),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spaces() -> Vec<Value> {
        ["default", "kube-system", "shop"]
            .map(|n| json!({"metadata": {"name": n, "labels": {"kubernetes.io/metadata.name": n}}}))
            .into()
    }

    fn policy(spec: Value) -> Value {
        json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": spec})
    }

    fn open(spec: Value) -> [bool; 2] {
        together(&[spec])
    }

    fn together(specs: &[Value]) -> [bool; 2] {
        let policies: Vec<Value> = specs.iter().cloned().map(policy).collect();
        let policies: Vec<&Value> = policies.iter().collect();
        let spaces = spaces();
        let pods = vec!["10.244.0.0/16".parse().unwrap(), "fd00:244::/56".parse().unwrap()];
        let around = PeerContext { spaces: &spaces, pods };
        [0, 1].map(|way| opens(&policies, way, "shop", &around))
    }

    /// A policy for egress to some peers on some ports; none are all.
    fn to(peers: Value, ports: Value) -> Value {
        json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": peers, "ports": ports}]})
    }

    fn block(cidr: &str) -> Value {
        json!({"ipBlock": {"cidr": cidr}})
    }

    fn space(key: &str, operator: &str, values: &[&str]) -> Value {
        json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]})
    }

    #[test]
    fn what_lets_everybody_through_together_is_seen_however_it_is_cut() {
        const NAME: &str = "kubernetes.io/metadata.name";
        let all = || json!([]);
        let tcp = |first: u16, last: u16| json!([{"port": first, "endPort": last}]);
        let but =
            |cidr: &str, except: &str| json!([{"ipBlock": {"cidr": cidr, "except": [except]}}]);
        let of = |selector: Value| json!([{"namespaceSelector": selector}]);
        let cut = [
            vec![to(json!([block("0.0.0.0/1")]), all()), to(json!([block("128.0.0.0/1")]), all())],
            vec![
                to(but("0.0.0.0/0", "0.0.0.0/1"), all()),
                to(but("0.0.0.0/0", "128.0.0.0/1"), all()),
            ],
            // A block with a hole, and what fills it.
            vec![
                to(but("0.0.0.0/1", "64.0.0.0/3"), all()),
                to(json!([block("64.0.0.0/3")]), all()),
            ],
            vec![to(all(), tcp(1, 10000)), to(all(), tcp(10001, 20000))],
            vec![
                to(json!([block("0.0.0.0/0")]), tcp(1, 32767)),
                to(json!([block("0.0.0.0/0")]), tcp(32768, 65535)),
            ],
            // Ports cut differently for each half of the addresses.
            vec![
                to(json!([block("0.0.0.0/1")]), tcp(1, 15000)),
                to(json!([block("0.0.0.0/0")]), tcp(15001, 30000)),
                to(json!([block("128.0.0.0/1")]), tcp(1, 15000)),
            ],
            // All of IPv6 that is routed.
            vec![to(json!([block("2000::/3")]), all())],
            // All pods, by their addresses.
            vec![to(json!([block("10.0.0.0/8")]), all())],
            vec![
                to(json!([block("10.244.0.0/17")]), all()),
                to(json!([block("10.244.128.0/17")]), all()),
            ],
            // Every namespace there is, one way or another.
            vec![
                to(of(space(NAME, "In", &["default", "kube-system"])), all()),
                to(of(space(NAME, "In", &["shop"])), all()),
            ],
            vec![
                to(of(space(NAME, "NotIn", &["shop"])), all()),
                to(json!([{"podSelector": {}}]), all()),
            ],
            vec![to(of(json!({})), tcp(1, 10000)), to(of(json!({})), tcp(10001, 20000))],
            // Pods by a label that they have, and by its absence.
            vec![
                to(
                    json!([{"namespaceSelector": {}, "podSelector": space("a", "Exists", &[])}]),
                    all(),
                ),
                to(
                    json!([{"namespaceSelector": {}, "podSelector": space("a", "DoesNotExist", &[])}]),
                    all(),
                ),
            ],
        ];
        for specs in cut {
            assert_eq!(together(&specs), [false, true], "{specs:?}");
        }
    }

    #[test]
    fn what_lets_some_through_does_so_together_too() {
        let all = || json!([]);
        let some = [
            vec![
                to(json!([block("10.1.0.0/16")]), all()),
                to(json!([block("192.168.0.0/16")]), all()),
            ],
            vec![
                to(all(), json!([{"port": 443}])),
                to(all(), json!([{"port": 80}, {"port": "dns", "protocol": "UDP"}])),
            ],
            vec![
                to(
                    json!([{"namespaceSelector": space("kubernetes.io/metadata.name", "In", &["kube-system"])}]),
                    all(),
                ),
                to(json!([{"podSelector": {}}]), all()),
            ],
            // Many ports of few, and few of many.
            vec![
                to(json!([block("192.0.2.0/24")]), all()),
                to(all(), json!([{"port": 30000, "endPort": 32767}])),
            ],
        ];
        for specs in some {
            assert_eq!(together(&specs), [false, false], "{specs:?}");
        }
        // What is denied to all is not opened by a direction that a policy is not about.
        let ingress = json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]});
        assert_eq!(together(&[ingress]), [true, false]);
    }

    #[test]
    fn what_lets_everybody_through_is_seen_however_it_is_written() {
        let peers = [
            json!([]),
            json!([{"ipBlock": {"cidr": "0.0.0.0/0"}}]),
            json!([{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["192.0.2.1/32"]}}]),
            json!([{"ipBlock": {"cidr": "0.0.0.0/1"}}, {"ipBlock": {"cidr": "128.0.0.0/1"}}]),
            json!([{"ipBlock": {"cidr": "::/0"}}]),
            json!([{"namespaceSelector": {}}]),
            json!([{"namespaceSelector": {}, "podSelector": {}}]),
            json!([{"namespaceSelector": {"matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "Exists"}]}}]),
            json!([{"namespaceSelector": {"matchExpressions": [
                {"key": "no-such-label", "operator": "DoesNotExist"}]}}]),
            json!([{"podSelector": {}}, {"namespaceSelector": {"matchLabels": {}}}]),
        ];
        for peers in peers {
            assert_eq!(
                open(json!({"podSelector": {}, "policyTypes": ["Ingress"],
                "ingress": [{"from": peers}]})),
                [true, false],
                "{peers}"
            );
            assert_eq!(
                open(json!({"podSelector": {"matchLabels": {"a": "b"}},
                "policyTypes": ["Egress"], "egress": [{"to": peers}]})),
                [false, true],
                "{peers}"
            );
        }
        assert_eq!(open(json!({"podSelector": {}, "ingress": [{}]})), [true, false]);
        assert_eq!(open(json!({"podSelector": {}, "egress": [{}]})), [false, true]);
        for ports in [json!([{"protocol": "TCP"}]), json!([{"port": 1, "endPort": 65535}])] {
            assert_eq!(
                open(json!({"podSelector": {}, "policyTypes": ["Ingress"],
                "ingress": [{"ports": ports}]})),
                [true, false]
            );
        }
    }

    #[test]
    fn what_lets_some_through_is_no_opening() {
        let peers = [
            json!([{"ipBlock": {"cidr": "10.0.0.0/16"}}]),
            json!([{"podSelector": {}}]),
            json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}}]),
            json!([{"namespaceSelector": {}, "podSelector": {"matchLabels": {"a": "b"}}}]),
        ];
        for peers in peers {
            assert_eq!(
                open(json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": peers}], "egress": [{"to": peers}]})),
                [false; 2],
                "{peers}"
            );
        }
        for ports in [json!([{"port": 443}]), json!([{"port": "https"}])] {
            assert_eq!(open(json!({"podSelector": {}, "ingress": [{"ports": ports}]})), [false; 2]);
        }
        // Rules of a direction that the policy is not about are not looked at by the API server either.
        assert_eq!(
            open(json!({"podSelector": {}, "policyTypes": ["Egress"], "ingress": [{}]})),
            [false; 2]
        );
    }
}
