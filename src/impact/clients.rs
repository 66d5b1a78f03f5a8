//! Who asks the API or kubelets without credentials, or with such as end.

use serde_json::Value;

use super::model::{Item, Seen};
use crate::checks::{ANONYMOUS, Verdict, gives_a_node, gives_certificates, has_anonymous};
use crate::facts::cluster::{ObjectKind, list, name, namespace, text};
use crate::plan::api_change::ApiChange;
use crate::plan::cluster::just_started;

/// Kind and name of a binding's role.
fn role(binding: &Value) -> String {
    format!("{} {}", text(binding, "/roleRef/kind"), text(binding, "/roleRef/name"))
}

fn kind_of(binding: &Value) -> &'static str {
    if namespace(binding).is_empty() { "ClusterRoleBinding" } else { "RoleBinding" }
}

/// Whether kubeadm makes a binding of this name for the same of these subjects.
fn is_kubeadms(seen: &Seen<'_>, kind: ObjectKind, binding: &Value, meant: &[&str]) -> bool {
    let fresh = just_started(seen.inventory.cluster.kubernetes.minor);
    let own = fresh.of(kind).unwrap_or_default();
    let own = own.iter().find(|b| (namespace(b), name(b)) == (namespace(binding), name(binding)));
    let subjects = |b: &Value| -> Vec<String> {
        let all = list(b, "/subjects").iter().map(|s| text(s, "/name"));
        all.filter(|s| meant.is_empty() || meant.contains(s)).map(str::to_owned).collect()
    };
    own.is_some_and(|own| subjects(binding).iter().all(|s| subjects(own).contains(s)))
}

/// What a plan does with an object, by its own words.
fn planned(seen: &Seen<'_>, is_it: impl Fn(&ApiChange) -> bool) -> String {
    let mut all = seen.changes.iter().filter(|c| is_it(c)).map(ToString::to_string);
    all.next().unwrap_or_else(|| "nothing".to_owned())
}

/// Bindings that give something to whoever asks.
pub(super) fn anonymous_bindings(seen: &Seen<'_>) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    for kind in [ObjectKind::ClusterRoleBindings, ObjectKind::RoleBindings] {
        for binding in seen.all(kind)?.iter().filter(|b| has_anonymous(b)) {
            let place = (namespace(binding), name(binding));
            let subjects = list(binding, "/subjects").iter().map(|s| text(s, "/name"));
            let subjects: Vec<&str> = subjects.filter(|s| ANONYMOUS.contains(s)).collect();
            let then = planned(seen, |c| match c {
                ApiChange::KeepSubjects { namespace, name, .. }
                | ApiChange::DeleteRoleBinding { namespace, name } => {
                    (namespace.as_str(), name.as_str()) == place
                }
                _ => false,
            });
            let item = Item::new(kind_of(binding), place.0, place.1)
                .saying("gives", role(binding))
                .saying("to", subjects.join(", "))
                .saying("then", then);
            let of_kubernetes = is_kubeadms(seen, kind, binding, ANONYMOUS);
            items.push(Item { of_kubernetes, ..item });
        }
    }
    Ok(items)
}

/// Tokens by which machines join, and what makes nodes of their holders.
pub(super) fn join_tokens(seen: &Seen<'_>) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    for token in seen.all(ObjectKind::JoinTokens)? {
        let then =
            planned(seen, |c| matches!(c, ApiChange::DeleteToken { name: n } if n == name(token)));
        items.push(Item::new("Secret", namespace(token), name(token)).saying("then", then));
    }
    let kind = ObjectKind::ClusterRoleBindings;
    for binding in seen.all(kind)?.iter().filter(|b| gives_a_node(b)) {
        let is_it = |c: &ApiChange| matches!(c, ApiChange::DeleteBootstrapBinding { name: n } if n == name(binding));
        let item = Item::new(kind_of(binding), "", name(binding))
            .saying("gives", role(binding))
            .saying("then", planned(seen, is_it));
        items.push(Item { of_kubernetes: is_kubeadms(seen, kind, binding, &[]), ..item });
    }
    for binding in seen.all(ObjectKind::RoleBindings)?.iter().filter(|b| gives_certificates(b)) {
        let is_it = |c: &ApiChange| matches!(c, ApiChange::DeleteCertificatesBinding { .. });
        let item = Item::new(kind_of(binding), namespace(binding), name(binding))
            .saying("gives", role(binding))
            .saying("then", planned(seen, is_it));
        items.push(Item { of_kubernetes: true, ..item });
    }
    Ok(items)
}

/// Tokens of ServiceAccounts that lie in Secrets and never end. Of their values, nothing is read.
pub(super) fn account_tokens(seen: &Seen<'_>) -> Result<Vec<Item>, String> {
    let item = |secret: &Value| {
        let annotations = secret.pointer("/metadata/annotations");
        let account = annotations.and_then(|a| a.get("kubernetes.io/service-account.name"));
        let account = account.and_then(Value::as_str).unwrap_or_default();
        let account = format!("{}/{account}", namespace(secret));
        Item::new("Secret", namespace(secret), name(secret)).saying("account", account)
    };
    Ok(seen.all(ObjectKind::AccountTokens)?.iter().map(item).collect())
}

/// Nodes on which a control does not hold, with what was seen there: of what `what` names, or of what the check looked at.
fn by_control(seen: &Seen<'_>, control: &str, what: Option<&str>) -> Vec<Item> {
    let mut items = Vec::new();
    for finding in seen.findings.iter().filter(|f| f.control == control) {
        let Some(node) = finding.node() else { continue };
        let mut item = Item::new("Node", "", node.as_str());
        for evidence in &finding.evidence {
            if let Verdict::Fail { actual, .. } = evidence.verdict() {
                item = item.saying(what.unwrap_or(evidence.what()), actual);
            }
        }
        if !item.seen.is_empty() {
            items.push(item);
        }
    }
    items
}

/// API servers that answer whoever asks.
pub(super) fn anonymous_servers(seen: &Seen<'_>) -> Result<Vec<Item>, String> {
    Ok(by_control(
        seen,
        "apiserver-anonymous-auth",
        Some("--anonymous-auth=false, or --authentication-config with only health paths"),
    ))
}

/// Kubelets that answer whoever asks.
pub(super) fn anonymous_kubelets(seen: &Seen<'_>) -> Result<Vec<Item>, String> {
    Ok(by_control(seen, "kubelet-anonymous-auth", None))
}

/// API servers that take passwords or tokens from a file.
pub(super) fn static_credentials(seen: &Seen<'_>) -> Result<Vec<Item>, String> {
    Ok(by_control(seen, "apiserver-no-static-credentials", None))
}
