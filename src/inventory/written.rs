//! An inventory as a file for people: what is no default, in the order of `inventory init`, with comments.

use std::collections::BTreeMap;

use serde_json::Value as Schema;

use super::check::schema;
use super::model::Inventory;
use crate::yaml::{self, Mapping, Value};

/// Sections in the order of the file.
const ORDER: &[&str] = &[
    "version",
    "cluster",
    "kubernetes",
    "hardening",
    "firewall",
    "ssh",
    "nodes",
    "etcd",
    "audit",
    "encryption",
    "pki",
    "runtime",
    "api_server",
    "controller_manager",
    "scheduler",
    "kubelet",
    "kube_proxy",
    "host",
];

/// Comments, by section; those of the whole file are under the empty name.
pub type Comments = BTreeMap<&'static str, Vec<String>>;

/// The text. A section that is all defaults stands there if it has a comment, as a comment alone.
pub fn text(inventory: &Inventory, comments: &Comments) -> String {
    let schema = schema();
    let mut out = String::new();
    let comment = |out: &mut String, section: &str| {
        for line in comments.get(section).into_iter().flatten().flat_map(|c| c.lines()) {
            out.push_str(format!("# {line}").trim_end());
            out.push('\n');
        }
    };
    comment(&mut out, "");
    let Some(Value::Mapping(all)) = yaml::to_value(inventory) else { return out };
    for section in ORDER {
        let property = &schema["properties"][*section];
        let value = all.get(*section).and_then(|value| lean(value, property, &schema["$defs"]));
        let has_comment = comments.contains_key(section);
        if value.is_none() && !has_comment {
            continue;
        }
        if *section != "version" {
            out.push('\n');
        }
        comment(&mut out, section);
        if let Some(value) = value {
            let section: Mapping = [(Value::from(*section), value)].into_iter().collect();
            out.push_str(&yaml::to_text(&section));
        }
    }
    out
}

/// A value without what is its default; `None` if nothing is left that has to be said.
fn lean(value: &Value, property: &Schema, definitions: &Schema) -> Option<Value> {
    let default = property.get("default").and_then(yaml::to_value);
    if value.is_null() || default.as_ref() == Some(value) {
        return None;
    }
    let of = followed(property, definitions);
    let lean_value = match value {
        Value::Mapping(entries) => {
            let properties = &of["properties"];
            let required = of["required"].as_array();
            let kept = entries.iter().filter_map(|(key, value)| {
                let name = key.as_str()?;
                let inner = &properties[name];
                if inner.is_null() {
                    // A key that somebody chose.
                    return Some((key.clone(), value.clone()));
                }
                let is_required =
                    required.is_some_and(|r| r.iter().any(|k| k.as_str() == Some(name)));
                let value = match lean(value, inner, definitions) {
                    None if is_required => value.clone(),
                    other => other?,
                };
                Some((key.clone(), value))
            });
            let kept: Mapping = kept.collect();
            if kept.is_empty() && default.is_some() {
                return None;
            }
            Value::Mapping(kept)
        }
        Value::Sequence(items) => {
            let item = |i: &Value| lean(i, &of["items"], definitions).unwrap_or_else(|| i.clone());
            Value::Sequence(items.iter().map(item).collect())
        }
        other => other.clone(),
    };
    Some(lean_value)
}

/// The schema that a property refers to, directly or beside null.
fn followed<'s>(property: &'s Schema, definitions: &'s Schema) -> &'s Schema {
    let choices =
        property["anyOf"].as_array().into_iter().chain(property["allOf"].as_array()).flatten();
    let target = std::iter::once(property).chain(choices).find_map(|p| p["$ref"].as_str());
    match target.and_then(|t| t.strip_prefix("#/$defs/")) {
        Some(name) => &definitions[name],
        None => property,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::testing;

    #[test]
    fn what_is_written_is_what_it_was_and_no_default_stands_there() {
        let mut inventory = testing::two_and_two();
        inventory.kubelet = yaml::from_text("extra: {maxPods: 60, a: {b: null}}\n").unwrap();
        inventory.audit.max_age_days = 60;
        let comments = [("", vec!["Head".to_owned()]), ("firewall", vec!["Who?\nAll.".to_owned()])];
        let text = text(&inventory, &comments.into_iter().collect());
        assert!(text.starts_with("# Head\nversion: kubastion/v1\n\ncluster:\n"), "{text}");
        assert!(text.contains("\n# Who?\n# All.\n"), "{text}");
        assert!(text.contains("\naudit:\n  max_age_days: 60\n"), "{text}");
        for default in ["max_backups", "encryption", "runtime", "labels", "agent: null", "taints"] {
            assert!(!text.contains(default), "{default}:\n{text}");
        }
        let again: Inventory = yaml::from_text(&text).unwrap();
        assert_eq!(again, inventory);
    }

    #[test]
    fn every_section_has_its_place() {
        let schema = schema();
        for section in schema["properties"].as_object().unwrap().keys() {
            assert!(ORDER.contains(&section.as_str()), "{section}");
        }
    }
}
