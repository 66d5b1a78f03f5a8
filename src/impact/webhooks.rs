//! Programs that API servers ask: webhooks, converters of custom resources, and aggregated API servers.

use std::net::IpAddr;

use serde_json::Value;

use super::model::{Item, Seen};
use super::ports::open_to_servers;
use crate::facts::cluster::{ObjectKind, list, name, namespace, text};

/// What hardening sends to the API, or has the cluster make anew: the words, group, resource and operation, and the namespace if
/// it is one alone.
struct Sent {
    words: &'static str,
    group: &'static str,
    resource: &'static str,
    operations: &'static [&'static str],
    namespace: Option<&'static str>,
}

const SENT: &[Sent] = &[
    Sent {
        words: "static pods in kube-system, which control plane restarts recreate",
        group: "",
        resource: "pods",
        operations: &["CREATE"],
        namespace: Some("kube-system"),
    },
    Sent {
        words: "default ServiceAccounts",
        group: "",
        resource: "serviceaccounts",
        operations: &["UPDATE"],
        namespace: None,
    },
    Sent {
        words: "Nodes (labels)",
        group: "",
        resource: "nodes",
        operations: &["UPDATE"],
        namespace: Some(""),
    },
    Sent {
        words: "NetworkPolicies in default",
        group: "networking.k8s.io",
        resource: "networkpolicies",
        operations: &["CREATE"],
        namespace: Some("default"),
    },
    Sent {
        words: "a LimitRange in default",
        group: "",
        resource: "limitranges",
        operations: &["CREATE"],
        namespace: Some("default"),
    },
    Sent {
        words: "a ResourceQuota in default",
        group: "",
        resource: "resourcequotas",
        operations: &["CREATE"],
        namespace: Some("default"),
    },
];

fn words<'v>(rule: &'v Value, key: &str) -> Vec<&'v str> {
    list(rule, key).iter().filter_map(Value::as_str).collect()
}

/// Whether a rule of a webhook is about something (Kubernetes documentation, "Dynamic Admission Control": matching requests).
fn is_about(rule: &Value, sent: &Sent) -> bool {
    let has = |key: &str, wanted: &str| words(rule, key).iter().any(|w| *w == wanted || *w == "*");
    let scope = text(rule, "/scope");
    let is_in_scope = match sent.namespace {
        Some("") => scope != "Namespaced",
        _ => scope != "Cluster",
    };
    has("/apiGroups", sent.group)
        && (has("/resources", sent.resource) || has("/resources", "*/*"))
        && sent.operations.iter().any(|o| has("/operations", o))
        && is_in_scope
}

/// Whether labels are what a selector asks for (Kubernetes documentation, "Labels and Selectors"). An empty one asks for nothing.
fn selects(selector: &Value, labels: &Value) -> bool {
    let label = |key: &str| labels.get(key).and_then(Value::as_str);
    let wanted = selector.get("matchLabels").and_then(Value::as_object);
    let mut equal = wanted.into_iter().flatten().map(|(k, v)| label(k) == v.as_str());
    let of_expression = |e: &Value| {
        let (own, values) = (label(text(e, "/key")), words(e, "/values"));
        let is_in = own.is_some_and(|l| values.contains(&l));
        match text(e, "/operator") {
            "In" => is_in,
            "NotIn" => !is_in,
            "Exists" => own.is_some(),
            "DoesNotExist" => own.is_none(),
            // Of what nobody knows, the worse is taken.
            _ => true,
        }
    };
    equal.all(|is| is) && list(selector, "/matchExpressions").iter().all(of_expression)
}

/// The namespaces that a webhook is asked about.
fn spaces<'n>(webhook: &Value, all: &'n [Value]) -> Vec<&'n str> {
    let selector = webhook.get("namespaceSelector").unwrap_or(&Value::Null);
    let none = Value::Null;
    let is_meant = |n: &&Value| selects(selector, n.pointer("/metadata/labels").unwrap_or(&none));
    all.iter().filter(is_meant).map(name).collect()
}

fn rules(webhook: &Value) -> String {
    let of = |rule: &Value| {
        let groups = words(rule, "/apiGroups");
        let groups: Vec<&str> = groups.into_iter().filter(|g| !g.is_empty()).collect();
        let of =
            if groups.is_empty() { String::new() } else { format!(" of {}", groups.join(", ")) };
        let (does, what) =
            (words(rule, "/operations").join(","), words(rule, "/resources").join(","));
        format!("{does} {what}{of}")
    };
    list(webhook, "/rules").iter().map(of).collect::<Vec<_>>().join("; ")
}

/// Where something answers, and whether API servers reach it through the firewall.
fn backend(seen: &Seen<'_>, service: Option<&Value>, url: &str) -> Result<[String; 2], String> {
    let Some(service) = service.filter(|s| !s.is_null()) else {
        return Ok([url.to_owned(), of_url(seen, url)]);
    };
    let place = (text(service, "/namespace"), text(service, "/name"));
    let at = format!("Service {}/{}", place.0, place.1);
    let services = seen.all(ObjectKind::Services)?;
    if !services.iter().any(|s| (namespace(s), name(s)) == place) {
        return Ok([at, "the Service does not exist, with or without hardening".to_owned()]);
    }
    let slices = seen.all(ObjectKind::EndpointSlices)?.iter().filter(|s| {
        let of = s.pointer("/metadata/labels").and_then(|l| l.get("kubernetes.io/service-name"));
        namespace(s) == place.0 && of.and_then(Value::as_str) == Some(place.1)
    });
    let mut said: Vec<String> = Vec::new();
    for slice in slices {
        let ports = list(slice, "/ports").iter().filter_map(|p| p.get("port")?.as_u64());
        let ports: Vec<u16> = ports.filter_map(|p| u16::try_from(p).ok()).collect();
        let addresses = list(slice, "/endpoints").iter().flat_map(|e| list(e, "/addresses"));
        for address in addresses.filter_map(Value::as_str) {
            let one = of_endpoint(seen, address, &ports);
            if !said.contains(&one) {
                said.push(one);
            }
        }
    }
    if said.is_empty() {
        said.push("the Service has no endpoints, with or without hardening".to_owned());
    }
    Ok([at, said.join("; ")])
}

fn of_endpoint(seen: &Seen<'_>, address: &str, ports: &[u16]) -> String {
    let Ok(ip) = address.parse::<IpAddr>() else { return format!("unknown: {address}") };
    if let Some(node) = seen.inventory.nodes.iter().find(|n| n.addresses.contains(&ip)) {
        let closed: Vec<String> =
            ports.iter().filter_map(|port| open_to_servers(seen, node, *port)).collect();
        return match closed.is_empty() {
            true => format!("open, in the network of {}", node.name),
            false => closed.join("; "),
        };
    }
    let networks = &seen.inventory.cluster.pod_networks;
    match networks.iter().any(|n| n.0.contains(&ip)) {
        true => "open: nodes can reach pods".to_owned(),
        false => format!("unknown: {address} is neither a node nor in the pod network"),
    }
}

fn of_url(seen: &Seen<'_>, url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => (host, port.parse().unwrap_or(443)),
        _ => (authority, 443),
    };
    let host = host.trim_matches(['[', ']']);
    match host.parse::<IpAddr>() {
        Ok(ip) if ip.is_loopback() => "open: it is on the API server's own node".to_owned(),
        Ok(_) => of_endpoint(seen, host, &[port]),
        Err(_) => format!("unknown: {host} is not an IP address"),
    }
}

/// Webhooks of admission and of custom resources, those first without which requests fail.
pub(super) fn webhooks(seen: &Seen<'_>) -> Result<Vec<Item>, String> {
    let all = seen.all(ObjectKind::Namespaces)?;
    let kinds = [
        (ObjectKind::ValidatingWebhooks, "ValidatingWebhookConfiguration"),
        (ObjectKind::MutatingWebhooks, "MutatingWebhookConfiguration"),
    ];
    let mut items: Vec<(bool, Item)> = Vec::new();
    for (kind, called) in kinds {
        for object in seen.all(kind)? {
            for webhook in list(object, "/webhooks") {
                // v1's default.
                let fails = text(webhook, "/failurePolicy") != "Ignore";
                let spaces = spaces(webhook, all);
                let meant = |sent: &&Sent| {
                    let is_there = match sent.namespace {
                        Some("") => true,
                        Some(space) => spaces.contains(&space),
                        None => !spaces.is_empty(),
                    };
                    is_there && list(webhook, "/rules").iter().any(|r| is_about(r, sent))
                };
                let sent: Vec<&str> = SENT.iter().filter(meant).map(|s| s.words).collect();
                let config = webhook.get("clientConfig").unwrap_or(&Value::Null);
                let [at, network] = backend(seen, config.get("service"), text(config, "/url"))?;
                let policy = if fails {
                    "Fail: requests are rejected if the webhook does not answer"
                } else {
                    "Ignore"
                };
                let in_ = match spaces.len() == all.len() {
                    true => "all".to_owned(),
                    false => spaces.join(", "),
                };
                let narrowed = !webhook.get("objectSelector").is_none_or(is_empty)
                    || !list(webhook, "/matchConditions").is_empty();
                let item = Item::new(called, "", name(object))
                    .saying("webhook", text(webhook, "/name"))
                    .saying("failurePolicy", policy)
                    .saying("intercepts", rules(webhook))
                    .saying("namespaces", in_);
                let item = match narrowed {
                    true => item
                        .saying("objects", "unknown: it has an objectSelector or matchConditions"),
                    false => item,
                };
                let asked = match (sent.is_empty(), narrowed) {
                    (true, _) => "nothing".to_owned(),
                    (false, true) => format!("unknown, perhaps {}", sent.join(", ")),
                    (false, false) => sent.join(", "),
                };
                let item = item.saying("backend", at).saying("network", network);
                items.push((fails, item.saying("sent by hardening", asked)));
            }
        }
    }
    for object in seen.all(ObjectKind::CustomResources)? {
        let Some(config) = object.pointer("/spec/conversion/webhook/clientConfig") else {
            continue;
        };
        let [at, network] = backend(seen, config.get("service"), text(config, "/url"))?;
        let item = Item::new("CustomResourceDefinition", "", name(object))
            .saying(
                "failurePolicy",
                "Fail: objects are not converted if the webhook does not answer",
            )
            .saying("backend", at)
            .saying("network", network);
        items.push((true, item));
    }
    items.sort_by_key(|(fails, _)| !fails);
    Ok(items.into_iter().map(|(_, item)| item).collect())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(o) => o.values().all(is_empty),
        Value::Array(a) => a.is_empty(),
        _ => false,
    }
}

/// Parts of the API that others serve.
pub(super) fn aggregated(seen: &Seen<'_>) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    for object in seen.all(ObjectKind::ApiServices)? {
        let service = object.pointer("/spec/service").filter(|s| !s.is_null());
        if service.is_some() {
            let [at, network] = backend(seen, service, "")?;
            let item = Item::new("APIService", "", name(object));
            items.push(item.saying("backend", at).saying("network", network));
        }
    }
    Ok(items)
}
