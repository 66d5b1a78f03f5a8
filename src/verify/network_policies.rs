//! What the NetworkPolicies of a namespace allow together (Kubernetes documentation, "Network Policies").
//!
//! Policies are additive: one that denies everything denies nothing that another one allows.

use serde_json::Value;

use super::model::Verdict;
use super::objects::{none_of, of, user_namespaces};
use crate::facts::cluster::{ClusterFacts, Kind, list, name, namespace, text};

/// A direction: its name, where its rules are, and what they call the others.
const WAYS: [(&str, &str, &str); 2] =
    [("Ingress", "/spec/ingress", "/from"), ("Egress", "/spec/egress", "/to")];

pub(super) fn default_deny(facts: &ClusterFacts) -> Result<Verdict, Verdict> {
    let spaces = user_namespaces(facts)?;
    let all = of(facts, Kind::Namespaces)?;
    let policies = of(facts, Kind::NetworkPolicies)?;
    let mut wrong = Vec::new();
    for space in &spaces {
        let own: Vec<&Value> = policies.iter().filter(|p| namespace(p) == *space).collect();
        let denied = |way: usize| own.iter().any(|p| denies(p)[way]);
        match (denied(0), denied(1)) {
            (true, true) => {}
            (true, false) => wrong.push(format!("{space} lets egress through")),
            (false, true) => wrong.push(format!("{space} lets ingress through")),
            (false, false) => wrong.push(format!("{space} lets everything through")),
        }
        for (way, (kind, ..)) in WAYS.iter().enumerate().filter(|(way, _)| denied(*way)) {
            let kind = kind.to_lowercase();
            for policy in own.iter().filter(|p| opens(p, way, all)) {
                wrong
                    .push(format!("{space} lets {kind} through by NetworkPolicy {}", name(policy)));
            }
        }
    }
    let expected =
        "a NetworkPolicy for all pods that allows nothing, and none that allows everything";
    Ok(none_of(expected, wrong, format!("denied in {}", spaces.join(", "))))
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

/// Whether a policy lets pods talk with everybody, on every port. For which pods it does is nobody's promise: labels
/// are theirs to set.
fn opens(policy: &Value, way: usize, spaces: &[Value]) -> bool {
    let (_, rules, peers) = WAYS[way];
    if !is_about(policy, way) {
        return false;
    }
    let wide: Vec<&Value> = list(policy, rules).iter().filter(|r| every_port(r)).collect();
    // What single rules name adds up: two halves of all addresses are all of them.
    let blocks: Vec<&Value> =
        wide.iter().flat_map(|r| list(r, peers)).filter_map(|p| p.get("ipBlock")).collect();
    let nobody_named = |rule: &&&Value| list(rule, peers).is_empty();
    let everybody = |peer: &Value| {
        let namespaces = peer.get("namespaceSelector").filter(|s| !s.is_null());
        let pods = peer.get("podSelector").filter(|s| !s.is_null());
        namespaces.is_some_and(|s| spaces.iter().all(|n| selects(s, n)))
            && pods.is_none_or(is_empty_selector)
    };
    wide.iter().any(|r| nobody_named(&r))
        || wide.iter().flat_map(|r| list(r, peers)).any(everybody)
        || most_addresses(&blocks)
}

/// Whether a rule holds for most ports of a protocol, or for all of them.
fn every_port(rule: &Value) -> bool {
    let ports = list(rule, "/ports");
    let number = |p: &Value, key: &str| p.get(key).and_then(Value::as_u64);
    let any = |p: &&Value| p.get("port").is_none_or(Value::is_null);
    let count = |p: &Value| {
        // A port with a name is one port of a pod's.
        let (first, last) = (number(p, "port")?, number(p, "endPort"));
        Some(last.map_or(1, |last| (last + 1).saturating_sub(first)))
    };
    let counted: u64 = ports.iter().filter_map(count).fold(0, u64::saturating_add);
    ports.is_empty() || ports.iter().any(|p| any(&p)) || counted > u64::from(u16::MAX / 2)
}

/// Whether blocks hold half of all addresses of a family or more: exceptions from everything leave that.
fn most_addresses(blocks: &[&Value]) -> bool {
    let size = |text: &str| -> Option<(bool, f64)> {
        let net = text.parse::<ipnet::IpNet>().ok()?;
        // The part of all addresses that it is.
        Some((net.addr().is_ipv6(), (-f64::from(net.prefix_len())).exp2()))
    };
    [false, true].iter().any(|family| {
        let part: f64 = blocks
            .iter()
            .filter_map(|block| {
                let (six, whole) = size(text(block, "/cidr"))?;
                let except = list(block, "/except").iter().filter_map(Value::as_str);
                let without: f64 = except.filter_map(size).map(|(_, part)| part).sum();
                (six == *family).then_some(whole - without)
            })
            .sum();
        part >= 0.5
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

    fn open(spec: Value) -> [bool; 2] {
        let policy = json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": spec});
        [0, 1].map(|way| opens(&policy, way, &spaces()))
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
            json!([{"ipBlock": {"cidr": "10.0.0.0/8"}}]),
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
