//! Roles that Kubernetes and kubeadm bring, rule by rule, and what somebody has added to them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::checks::cluster::powers::{Place, Space, powers};
use crate::facts::cluster::{list, name, namespace};

const ROLES: &str = include_str!("default-roles.txt");

/// Roles made of others, and from which labels (RBAC documentation, "Aggregated ClusterRoles"). Each takes what the one
/// after it takes.
const AGGREGATED: &[&str] = &["admin", "edit", "view"];

static DEFAULTS: LazyLock<BTreeMap<String, Vec<Value>>> = LazyLock::new(|| {
    let mut roles: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut role = String::new();
    for line in ROLES.lines().filter(|l| !l.starts_with('#')) {
        match line.strip_prefix(' ') {
            None => role = line.to_owned(),
            Some(said) => roles.entry(role.clone()).or_default().push(rule(said)),
        }
    }
    for (i, aggregated) in AGGREGATED.iter().enumerate() {
        let parts = AGGREGATED[i..].iter().map(|of| format!("system:aggregate-to-{of}"));
        let rules = parts.flat_map(|part| roles.get(&part).cloned().unwrap_or_default()).collect();
        roles.insert((*aggregated).to_owned(), rules);
    }
    roles
});

/// A rule, from its line.
fn rule(line: &str) -> Value {
    let mut words = line.split(' ');
    let mut word = || -> Vec<&str> {
        let all = words.next().into_iter().flat_map(|w| w.split(','));
        all.map(|w| if w == "core" { "" } else { w }).collect()
    };
    let (verbs, groups, resources, names) = (word(), word(), word(), word());
    match groups[..] {
        ["url"] => json!({"verbs": verbs, "nonResourceURLs": resources}),
        _ => json!({"verbs": verbs, "apiGroups": groups, "resources": resources,
                    "resourceNames": names}),
    }
}

/// The rules of a default role, by its name, or by namespace and name.
fn rules(role: &str) -> Option<&'static [Value]> {
    DEFAULTS.get(role).map(Vec::as_slice)
}

/// Whether it is a role of Kubernetes or of kubeadm.
pub(in crate::checks) fn is_known(role: &str) -> bool {
    DEFAULTS.contains_key(role)
}

/// Whether an account of kube-system is one by which the controller manager runs a controller: the controller X has the
/// role `system:controller:X`. It asks for their tokens itself, and runs no pod with them.
pub(in crate::checks) fn is_a_controllers(account: &str) -> bool {
    let role = format!("system:controller:{account}");
    is_known(&role)
        || DEFAULTS.keys().any(|known| known.split_once('/').is_some_and(|(_, r)| r == role))
}

/// Everything that a rule allows, one thing at a time: verb, group and resource (or path), name.
fn single(rule: &Value) -> Vec<[&str; 4]> {
    let words = |at| list(rule, at).iter().filter_map(Value::as_str).collect::<Vec<_>>();
    let names = match words("/resourceNames") {
        none if none.is_empty() => vec!["*"],
        names => names,
    };
    let mut all = Vec::new();
    for verb in words("/verbs") {
        for path in words("/nonResourceURLs") {
            all.push([verb, "url", path, "*"]);
        }
        for group in words("/apiGroups") {
            for resource in words("/resources") {
                all.extend(names.iter().map(|name| [verb, group, resource, name]));
            }
        }
    }
    all
}

/// Whether one of some rules allows a thing too (`Covers` of pkg/registry/rbac/validation in Kubernetes).
fn covers(rules: &[&Value], [verb, group, resource, name]: [&str; 4]) -> bool {
    rules.iter().any(|rule| {
        single(rule).iter().any(|[v, g, r, n]| {
            let resource_is_among = *r == resource
                || if group == "url" {
                    r.strip_suffix('*').is_some_and(|begin| resource.starts_with(begin))
                } else {
                    let sub = resource.split_once('/').map(|(_, sub)| sub);
                    *r == "*" || r.strip_prefix("*/").is_some_and(|s| Some(s) == sub)
                };
            let is_among = |has: &str, wanted: &str| has == "*" || has == wanted;
            // A path is no resource of any group.
            let of_group =
                if group == "url" { *g == "url" } else { is_among(g, group) && *g != "url" };
            is_among(v, verb) && of_group && resource_is_among && is_among(n, name)
        })
    })
}

/// Labels by which a role becomes part of others.
fn parts_of(role: &Value) -> impl Iterator<Item = &'static str> {
    let labels = role.pointer("/metadata/labels");
    AGGREGATED.iter().copied().filter(move |of| {
        let label = format!("rbac.authorization.k8s.io/aggregate-to-{of}");
        labels.and_then(|l| l.get(label)).is_some_and(|l| l == "true")
    })
}

/// Whether a role becomes part of an aggregated one, by its label or by that of another aggregated one.
fn becomes_part(role: &Value, aggregated: &str) -> bool {
    let first = AGGREGATED.iter().position(|a| *a == aggregated);
    first.is_some_and(|i| parts_of(role).any(|of| AGGREGATED[i..].contains(&of)))
}

/// The last minor release whose roles are in the list.
const LAST_MINOR: u16 = 36;

/// What a default role allows beyond what the release gives it, in words. `all` are the cluster's roles. A later release
/// may give harmless rights that the list lacks: there, only those count that lead further.
pub(in crate::checks) fn added(
    called: &str,
    role: &Value,
    all: &[Value],
    minor: u16,
) -> Option<String> {
    const SHOWN: usize = 2;
    let mut known: Vec<&Value> = rules(called)?.iter().collect();
    // What a role of others adds to an aggregated one is judged by itself.
    let others = all.iter().filter(|r| !is_known(name(r)) && becomes_part(r, called));
    known.extend(others.flat_map(|r| list(r, "/rules")));
    let more: Vec<String> = list(role, "/rules")
        .iter()
        .flat_map(single)
        .filter(|one| !covers(&known, *one))
        .filter(|one| minor <= LAST_MINOR || leads_further(*one, namespace(role)))
        .map(|[verb, group, resource, name]| {
            let group =
                if matches!(group, "" | "url") { String::new() } else { format!(".{group}") };
            let name = if name == "*" { String::new() } else { format!(" {name}") };
            format!("{verb} {resource}{group}{name}")
        })
        .collect();
    if more.is_empty() {
        return None;
    }
    let left = more.len().saturating_sub(SHOWN);
    let left = if left > 0 { format!(" and {left} more") } else { String::new() };
    Some(format!("{}{left}", more[..more.len().min(SHOWN)].join(", ")))
}

fn leads_further([verb, group, resource, name]: [&str; 4], space: &str) -> bool {
    let names: &[&str] = if name == "*" { &[] } else { &[name] };
    let rule = match group {
        "url" => json!({"verbs": [verb], "nonResourceURLs": [resource]}),
        _ => json!({"verbs": [verb], "apiGroups": [group], "resources": [resource],
                    "resourceNames": names}),
    };
    let place = match space {
        "" => Place::Cluster,
        space => Place::Namespace { space: Space::called(space), unconfined: true },
    };
    !powers(&[rule], place, &|_| &[]).is_empty()
}

/// What a role of others gives aggregated roles that they do not have as they come.
pub(in crate::checks) fn aggregated_excess<'v>(
    role: &Value,
    rules_of: &dyn Fn(&str) -> &'v [Value],
) -> Option<(&'static str, Vec<&'static str>)> {
    if is_known(name(role)) {
        return None;
    }
    // The least of them shows the most.
    let to = parts_of(role).last()?;
    let own = powers(rules(to).unwrap_or_default(), Place::Cluster, rules_of);
    let held = powers(list(role, "/rules"), Place::Cluster, rules_of);
    let more: Vec<&str> = held.into_iter().filter(|p| !own.contains(p)).collect();
    (!more.is_empty()).then_some((to, more))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(called: &str, rule: Value) -> Value {
        json!({"metadata": {"name": called}, "rules": [rule]})
    }

    #[test]
    fn every_default_role_has_rules_that_are_read_whole() {
        assert!(DEFAULTS.len() > 70, "{}", DEFAULTS.len());
        for (role, rules) in &*DEFAULTS {
            assert!(!rules.is_empty(), "{role}");
            for rule in rules {
                assert!(!single(rule).is_empty(), "{role}: {rule}");
            }
            let whole = json!({"metadata": {"name": role}, "rules": rules});
            assert_eq!(added(role, &whole, &[], LAST_MINOR), None, "{role}");
        }
        for line in ROLES.lines().filter_map(|l| l.strip_prefix(' ')) {
            assert!((3..=4).contains(&line.split(' ').count()), "{line}");
        }
    }

    #[test]
    fn whatever_is_added_to_a_default_role_is_named() {
        let of = |called: &str, rule: Value| added(called, &role(called, rule), &[], LAST_MINOR);
        let get =
            |resource: &str| json!({"apiGroups": [""], "resources": [resource], "verbs": ["get"]});
        let more = of("system:node-proxier", get("configmaps"));
        assert_eq!(more.as_deref(), Some("get configmaps"));
        assert_eq!(of("system:node-proxier", get("nodes")), None);
        // A whole kind, where the release gives one object.
        assert!(of("kube-system/kube-proxy", get("configmaps")).is_some());
        let one = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"],
                         "resourceNames": ["kube-proxy"]});
        assert_eq!(of("kube-system/kube-proxy", one), None);
        let path = |path: &str| json!({"nonResourceURLs": [path], "verbs": ["get"]});
        assert_eq!(of("system:discovery", path("/apis/apps")), None);
        assert_eq!(
            of("system:discovery", path("/debug/pprof/*")).as_deref(),
            Some("get /debug/pprof/*")
        );
        assert_eq!(of("system:discovery", path("*")).as_deref(), Some("get *"));
        // What leads nowhere by itself is nobody's to add either.
        let events = json!({"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["get", "list"]});
        let more = of("system:basic-user", events);
        assert_eq!(more.as_deref(), Some("get events, get events.events.k8s.io and 2 more"));
        assert_eq!(of("system:no-such-role", get("secrets")), None);
        // Of a later release only what leads further is known not to be its own.
        let later = |resource: &str| {
            let grown = role("system:node-proxier", get(resource));
            added("system:node-proxier", &grown, &[], LAST_MINOR + 1)
        };
        assert_eq!(later("configmaps"), None);
        assert_eq!(later("secrets").as_deref(), Some("get secrets"));
    }

    #[test]
    fn a_role_that_is_aggregated_lends_no_more_than_its_label_promises() {
        let label =
            |of: &str| json!({format!("rbac.authorization.k8s.io/aggregate-to-{of}"): "true"});
        let part = |of: &str, resource: &str, verb: &str| {
            let mut part = role(
                "more",
                json!({"apiGroups": ["", "example.com"],
                "resources": [resource], "verbs": [verb]}),
            );
            part["metadata"]["labels"] = label(of);
            part
        };
        let lent = |role: &Value| aggregated_excess(role, &|_| &[]).map(|(to, _)| to);
        assert_eq!(lent(&part("view", "widgets", "get")), None);
        assert_eq!(lent(&part("view", "secrets", "get")), Some("view"));
        assert_eq!(lent(&part("edit", "secrets", "get")), None);
        assert_eq!(lent(&part("admin", "nodes/proxy", "get")), Some("admin"));
        // What the aggregated role has by it is its own affair.
        let widgets = part("view", "widgets", "get");
        let with = |called: &str| {
            let rule =
                json!({"apiGroups": ["example.com"], "resources": ["widgets"], "verbs": ["get"]});
            added(called, &role(called, rule), std::slice::from_ref(&widgets), LAST_MINOR)
        };
        assert_eq!(["view", "edit", "admin"].map(with), [None, None, None]);
        let of_admin = part("admin", "widgets", "get");
        let view =
            role("view", json!({"apiGroups": [""], "resources": ["widgets"], "verbs": ["get"]}));
        assert!(added("view", &view, &[of_admin], LAST_MINOR).is_some());
    }
}
