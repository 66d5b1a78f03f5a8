//! What nodes have recorded while the cluster is observed: connections and requests.

use super::model::{Item, Seen};
use crate::facts::observation::{About, AuditedRequest, Observation};
use crate::inventory::{Node, NodeName, Role};

/// What it takes, where nothing was recorded.
pub(super) const TAKES: &str =
    "needs observation: set `hardening.stage: observe` in the inventory and run `kubastion apply`";

/// What the chosen nodes have recorded.
///
/// # Errors
/// The first node of them that has recorded nothing.
fn recorded<'s>(
    seen: &'s Seen<'_>,
    which: impl Fn(&Node) -> bool,
    has: impl Fn(&Observation) -> bool,
) -> Result<Vec<(&'s NodeName, &'s Observation)>, String> {
    let mut all = Vec::new();
    for node in seen.inventory.nodes.iter().filter(|n| which(n)) {
        let Some(answered) = seen.nodes.get(&node.name) else { continue };
        match answered.facts.observation.as_ref().filter(|o| has(o)) {
            Some(observation) => all.push((&answered.facts.node, observation)),
            // It is hardened: what it turns away now is not for this list.
            None if seen.is_hardened(&node.name) => {}
            None => return Err(format!("{TAKES}; {} has recorded nothing yet", node.name)),
        }
    }
    Ok(all)
}

/// Says that some of what a node has recorded is missing. It has a name, so that it can be acknowledged.
fn not_all(node: &NodeName, why: &str) -> Item {
    Item::new("Record", "", &format!("{node}/incomplete")).saying("why", why)
}

/// Connections that the firewall has let through and would not, by the rules that the inventory makes now.
pub(super) fn flows(seen: &Seen<'_>) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    // Where no table is loaded that drops, there is nothing to record.
    let drops = |n: &Node| !matches!(seen.doors.get(&n.name), Some(Ok(None)));
    for (node, observation) in recorded(seen, drops, |o| o.flows.is_some())? {
        let Some(flows) = &observation.flows else { continue };
        if flows.is_full {
            items.push(not_all(
                node,
                "the kernel keeps no more entries: some connections are missing",
            ));
        }
        let doors = match seen.doors.get(node) {
            Some(Ok(Some(doors))) => doors,
            Some(Ok(None)) => continue,
            Some(Err(why)) => return Err(format!("{node}: {why}")),
            None => continue,
        };
        let facts = &seen.nodes[node].facts;
        for flow in flows.flows.iter().filter(|f| !doors.let_in(f, facts)) {
            let to = flow.to.map(|to| format!("/{to}")).unwrap_or_default();
            let port = flow.port.map(|port| format!("/{port}")).unwrap_or_default();
            let name = format!("{node}{to}/{}{port}/{}", flow.protocol, flow.from);
            let place = match flow.to {
                Some(to) => format!("{to}, through {node}"),
                None => node.to_string(),
            };
            let port = flow.port.map(|port| format!("{port}/")).unwrap_or_default();
            items.push(
                Item::new("Connection", "", &name)
                    .saying("from", flow.from.to_string())
                    .saying("to", format!("{place}, {port}{}", flow.protocol))
                    .saying("packets", flow.packets.to_string()),
            );
        }
    }
    Ok(items)
}

/// Requests of one kind, each kind of client once.
fn requests(
    seen: &Seen<'_>,
    about: About,
    item: fn(&AuditedRequest) -> (&'static str, String),
) -> Result<Vec<Item>, String> {
    let planes = |n: &Node| n.has_role(Role::ControlPlane);
    let mut items: Vec<Item> = Vec::new();
    // Nobody will ever record any: it has a name instead.
    if !seen.keeps_audit_log() {
        let silent =
            seen.inventory.nodes.iter().filter(|n| planes(n) && !seen.is_hardened(&n.name));
        let silent = silent.filter(|n| {
            let observation = seen.nodes.get(&n.name).and_then(|a| a.facts.observation.as_ref());
            observation.is_none_or(|o| o.requests.is_none())
        });
        items.extend(silent.map(|n| {
            not_all(&n.name, "apiserver-audit-policy is off, and the API server keeps no audit log")
        }));
    }
    let is_silent = |n: &Node| items.iter().any(|i| i.name == format!("{}/incomplete", n.name));
    let all = recorded(seen, |n| planes(n) && !is_silent(n), |o| o.requests.is_some())?;
    for (node, observation) in all {
        let Some(requests) = &observation.requests else { continue };
        if requests.is_cut {
            items.push(not_all(node, "too many requests to read: older ones are missing"));
        } else if requests.is_by_other_policy {
            items.push(not_all(
                node,
                "the API server has its own audit policy, which may omit such requests",
            ));
        }
        for (request, count) in requests.requests.iter().filter(|(r, _)| r.about == about) {
            let (kind, name) = item(request);
            let own = is_own(seen, request);
            // The same client may ask several servers.
            match items.iter_mut().find(|i| i.name == name) {
                Some(there) => {
                    there.seen.push(("at".into(), node.to_string()));
                    if let Some((n, _)) = &mut there.count {
                        *n += count;
                    }
                    there.of_kubernetes &= own;
                }
                None => {
                    let mut new = Item::new(kind, "", &name).saying("at", node.to_string());
                    for (what, said) in [("from", &request.from), ("with", &request.agent)] {
                        if !said.is_empty() {
                            new = new.saying(what, said.clone());
                        }
                    }
                    items.push(Item {
                        count: Some((*count, "request")),
                        of_kubernetes: own,
                        ..new
                    });
                }
            }
        }
    }
    Ok(items)
}

/// A probe of the kubelet's for the API server of its own node, which is made otherwise where the cluster is hardened.
fn is_own(seen: &Seen<'_>, request: &AuditedRequest) -> bool {
    let from = request.from.parse();
    let is_node = from.is_ok_and(|a: std::net::IpAddr| {
        a.is_loopback() || seen.inventory.nodes.iter().any(|n| n.addresses.contains(&a))
    });
    is_node
        && request.agent.starts_with("kube-probe/")
        && ["/livez", "/readyz", "/healthz"].contains(&request.what.as_str())
}

/// Requests without credentials.
pub(super) fn anonymous(seen: &Seen<'_>) -> Result<Vec<Item>, String> {
    requests(seen, About::Anonymous, |r| ("Client", format!("{}{}", r.from, r.what)))
}

/// Requests with a token out of a Secret.
pub(super) fn legacy_tokens(seen: &Seen<'_>) -> Result<Vec<Item>, String> {
    requests(seen, About::LegacyToken, |r| ("Client", format!("{}/{}", r.from, r.what)))
}

/// Requests with a token whose end was put off.
pub(super) fn stale_tokens(seen: &Seen<'_>) -> Result<Vec<Item>, String> {
    requests(seen, About::StaleToken, |r| ("Client", format!("{}/{}", r.from, r.what)))
}

/// Pods that were made and would have been refused, by who made them.
pub(super) fn refused_pods(seen: &Seen<'_>) -> Result<Vec<Item>, String> {
    requests(seen, About::RefusedPod, |r| ("Maker", format!("{}/{}", r.what, r.who)))
}
