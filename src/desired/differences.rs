//! Objects of the cluster's API as they should be against those that are there, field by field.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::objects::{DesiredObject, Extra, Owner};
use crate::facts::cluster::{FIELD_MANAGER, list, name, namespace, text};
use crate::plain::{hex, plain_line};

/// A field of an object that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// Where, as `spec.hard.pods`, `spec.egress[0].ports` or `metadata.labels[a.example/b]`.
    pub path: String,
    /// The value now, as JSON; of a long one the beginning, and its digest. Absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<String>,
    /// The value that is wanted. Absent if there should be none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |v: &Option<String>| plain_line(v.as_deref().unwrap_or("(none)"));
        write!(f, "{}: {} -> {}", plain_line(&self.path), value(&self.is), value(&self.wanted))
    }
}

/// A value in a plan: it may come from anybody, and be of any size.
fn shown(value: &Value) -> String {
    const WHOLE: usize = 200;
    const BEGINNING: usize = 80;
    let text = value.to_string();
    if text.len() <= WHOLE {
        return text;
    }
    let beginning: String = text.chars().take(BEGINNING).collect();
    format!("{beginning}... (sha256 {})", hex(&Sha256::digest(text.as_bytes())))
}

/// In what an object is not as it should be. Nothing is said of fields that are nobody's business: see [`Owner`].
pub fn differences(desired: &DesiredObject, found: Option<&Value>) -> Vec<Difference> {
    let mut all = Vec::new();
    let found = found.unwrap_or(&Value::Null);
    let extras = desired.owner == Owner::Kubastion(Extra::Any);
    for (key, wanted) in fields(&desired.body) {
        let here = found.get(key);
        if extras && key == "spec" {
            let here = without_nothing(here.unwrap_or(&Value::Null));
            compare(key, &without_nothing(wanted), Some(&here), Others::Count, &mut all);
        } else {
            compare(key, wanted, here, Others::Overlook, &mut all);
        }
    }
    for (pointer, is) in not_wanted(desired, found) {
        all.push(Difference { path: dotted(&pointer), is: Some(shown(is)), wanted: None });
    }
    all
}

/// In what an object is not as the API server would make it of what is sent. Of a `Secret`, no value is said.
pub fn changes_by_sending(is: &Value, would_be: &Value) -> Vec<Difference> {
    let mut all = Vec::new();
    for key in fields(is).chain(fields(would_be)).map(|(k, _)| k).collect::<BTreeSet<_>>() {
        // What others say of it is nobody's wish.
        if key == "status" {
            continue;
        }
        let of = |object: &Value| {
            let mut value = object.get(key).cloned().unwrap_or_default();
            if let (true, Some(fields)) = (key == "metadata", value.as_object_mut()) {
                fields.retain(|k, _| !KEPT_BY_THE_SERVER.contains(&k.as_str()));
            }
            value
        };
        let (is, would_be) = (of(is), of(would_be));
        if is.is_null() || would_be.is_null() {
            if is != would_be {
                let some = |v: &Value| (!v.is_null()).then(|| shown(v));
                all.push(Difference { path: key.into(), is: some(&is), wanted: some(&would_be) });
            }
            continue;
        }
        compare(key, &would_be, Some(&is), Others::Count, &mut all);
    }
    if text(would_be, "/kind") == "Secret" {
        for value in all.iter_mut().flat_map(|d| [&mut d.is, &mut d.wanted]).flatten() {
            *value = "(hidden)".into();
        }
    }
    all
}

/// Fields of `metadata` that the server writes, which differ between two answers to one question.
const KEPT_BY_THE_SERVER: &[&str] =
    &["creationTimestamp", "generation", "managedFields", "resourceVersion", "uid"];

/// Whether an object of the name is among those that are there, and is as it should be.
pub fn is_as_desired(desired: &DesiredObject, listed: &[Value]) -> bool {
    find(desired, listed).is_some_and(|o| differences(desired, Some(o)).is_empty())
}

pub(crate) fn find<'v>(desired: &DesiredObject, listed: &'v [Value]) -> Option<&'v Value> {
    let same = |o: &&Value| (namespace(o), name(o)) == (desired.namespace(), desired.name());
    listed.iter().find(same)
}

/// What is compared of an object: all but what it is found by.
fn fields(body: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let all = body.as_object().into_iter().flatten();
    all.map(|(k, v)| (k.as_str(), v)).filter(|(k, _)| !["apiVersion", "kind"].contains(k))
}

/// What becomes of fields that nobody wants.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    Count,
    Overlook,
}

fn compare(
    path: &str,
    wanted: &Value,
    found: Option<&Value>,
    others: Others,
    all: &mut Vec<Difference>,
) {
    let below = |key: &str| {
        let plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if plain { format!("{path}.{key}") } else { format!("{path}[{key}]") }
    };
    match (wanted, found) {
        (Value::Object(fields), None | Some(Value::Null | Value::Object(_)))
            if !fields.is_empty() || found.is_some_and(Value::is_object) =>
        {
            for (key, wanted) in fields {
                let here = found.and_then(|f| f.get(key));
                // By these it was found, and lists name neither.
                if path == "metadata" && matches!(key.as_str(), "name" | "namespace") {
                    continue;
                }
                compare(&below(key), wanted, here, others, all);
            }
            let here = found.and_then(Value::as_object).into_iter().flatten();
            for (key, value) in here.filter(|(k, _)| !fields.contains_key(*k)) {
                if others == Others::Count {
                    all.push(Difference { path: below(key), is: Some(shown(value)), wanted: None });
                }
            }
        }
        (Value::Array(wanted), Some(Value::Array(found))) if wanted.len() == found.len() => {
            for (i, (wanted, found)) in wanted.iter().zip(found).enumerate() {
                compare(&format!("{path}[{i}]"), wanted, Some(found), others, all);
            }
        }
        (wanted, Some(found)) if wanted == found => {}
        (wanted, found) => all.push(Difference {
            path: path.to_owned(),
            is: found.filter(|f| !f.is_null()).map(shown),
            wanted: Some(shown(wanted)),
        }),
    }
}

/// A value without fields that are null or empty lists, which are as good as none.
pub(crate) fn without_nothing(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, v)| !v.is_null() && **v != json!([]));
            Value::Object(kept.map(|(k, v)| (k.clone(), without_nothing(v))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nothing).collect()),
        other => other.clone(),
    }
}

/// Fields that are there and should not be, beside those that [`compare`] finds.
fn not_wanted<'v>(desired: &DesiredObject, found: &'v Value) -> Vec<(String, &'v Value)> {
    let there = |pointer: &str| {
        let empty = [Value::Null, json!([]), json!({})];
        let value = found.pointer(pointer).filter(|v| !empty.contains(v))?;
        desired.body.pointer(pointer).is_none().then_some(value)
    };
    match desired.owner {
        Owner::Kubastion(Extra::Any) => Vec::new(),
        Owner::Kubastion(Extra::Only(pointers)) => {
            pointers.iter().filter_map(|p| Some(((*p).to_owned(), there(p)?))).collect()
        }
        // What kubastion applied once and does not want any more: the next apply takes it away.
        Owner::Others => {
            let mut owned = Vec::new();
            for entry in list(found, "/metadata/managedFields") {
                let ours = text(entry, "/manager") == FIELD_MANAGER
                    && text(entry, "/operation") == "Apply"
                    && text(entry, "/subresource").is_empty();
                if let (true, Some(fields)) = (ours, entry.get("fieldsV1")) {
                    leaves(fields, String::new(), &mut owned);
                }
            }
            let there = owned.into_iter().filter_map(|p| {
                let value = found.pointer(&p)?;
                desired.body.pointer(&p).is_none().then_some((p, value))
            });
            there.collect()
        }
    }
}

/// Pointers to the fields of a set (Kubernetes API reference, `FieldsV1`: `f:NAME` is a field). A list counts as a whole.
fn leaves(set: &Value, at: String, all: &mut Vec<String>) {
    // The API server nests no deeper than the object itself; somebody else might.
    const DEEPEST: usize = 32;
    let fields = set.as_object().into_iter().flatten();
    let fields: Vec<(&str, &Value)> =
        fields.filter_map(|(k, v)| Some((k.strip_prefix("f:")?, v))).collect();
    if fields.is_empty() || at.matches('/').count() >= DEEPEST {
        all.push(at);
        return;
    }
    for (name, set) in fields {
        let name = name.replace('~', "~0").replace('/', "~1");
        leaves(set, format!("{at}/{name}"), all);
    }
}

/// A pointer (RFC 6901) as people write it.
fn dotted(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        let number = part.bytes().all(|b| b.is_ascii_digit());
        if number || part.contains(['.', '/']) {
            path += &format!("[{part}]");
        } else {
            path += if path.is_empty() { "" } else { "." };
            path += &part;
        }
    }
    path
}

/// The merge patch that makes one value of another (RFC 7396).
pub fn merge_patch(from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else { return to.clone() };
    let mut patch = Map::new();
    for key in from.keys().filter(|k| !to.contains_key(*k)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, wanted) in to {
        match from.get(key) {
            Some(is) if is == wanted => {}
            Some(is @ Value::Object(_)) => {
                patch.insert(key.clone(), merge_patch(is, wanted));
            }
            _ => {
                patch.insert(key.clone(), wanted.clone());
            }
        }
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sending_would_change_is_named_and_what_the_server_writes_is_not() {
        let is = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "a", "resourceVersion": "1", "managedFields": [1], "labels": {"a": "b"}},
            "data": {"a": "1", "gone": "x"}, "status": {"ready": 1},
        });
        let mut same = is.clone();
        same["metadata"]["resourceVersion"] = json!("2");
        same["metadata"]["managedFields"] = json!([1, 2]);
        same["metadata"]["generation"] = json!(7);
        same["status"] = json!({});
        assert_eq!(changes_by_sending(&is, &same), []);
        let mut other = same;
        other["data"] = json!({"a": "2"});
        other["metadata"]["labels"] = json!({"a": "c"});
        other["immutable"] = json!(true);
        let said = |other: &Value| -> Vec<String> {
            changes_by_sending(&is, other).iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            said(&other),
            [
                "data.a: \"1\" -> \"2\"",
                "data.gone: \"x\" -> (none)",
                "immutable: (none) -> true",
                "metadata.labels.a: \"b\" -> \"c\"",
            ]
        );
        other["kind"] = json!("Secret");
        let all = said(&other);
        assert_eq!(all[0], "data.a: (hidden) -> (hidden)");
        assert!(all.iter().all(|line| !line.contains('"')), "{all:?}");
        for odd in [json!(null), json!([]), json!({"metadata": 1, "data": [1]})] {
            changes_by_sending(&is, &odd);
            changes_by_sending(&odd, &is);
        }
    }
}
