//! The shape of the file: unknown, missing and duplicate keys, wrong types and malformed values.
//!
//! The JSON schema, itself derived from the types of `model`, is the one table: what the schema
//! does not know is refused here. The walk never stops at a problem; it leaves out what is wrong
//! and goes on, so that the rules about meaning can run over the rest.

use std::collections::BTreeSet;

use serde_json::Value as Schema;

use super::diagnostic::{Diagnostic, Path, Segment, nearest};
use super::model::Inventory;
use super::names::{TEXT_TYPES, TextType};
use super::passthrough::ANY_FORMAT;
use crate::yaml::tree::{Entry, Node, Value};
use crate::yaml::{self, Mapping, Value as Yaml};

/// The JSON schema of an inventory (draft 2020-12), derived from the types.
pub fn schema() -> Schema {
    schemars::schema_for!(Inventory).to_value()
}

/// What is left of a file after everything malformed was left out.
pub(super) struct Checked {
    /// All problems, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    /// What is well-formed. Required values that were not are replaced by examples.
    pub rest: Option<Yaml>,
    /// For each node in `rest`, its position in the file.
    pub nodes: Vec<usize>,
    /// Top-level keys under which a value was left out or replaced.
    pub incomplete: BTreeSet<String>,
}

/// Checks the shape of a file.
pub(super) fn check(root: &Node) -> Checked {
    let schema = schema();
    let mut walk = Walk {
        definitions: &schema["$defs"],
        diagnostics: Vec::new(),
        nodes: Vec::new(),
        incomplete: BTreeSet::new(),
    };
    let rest = walk.value(&schema, root, &Path::root());
    Checked { diagnostics: walk.diagnostics, rest, nodes: walk.nodes, incomplete: walk.incomplete }
}

struct Walk<'a> {
    definitions: &'a Schema,
    diagnostics: Vec<Diagnostic>,
    nodes: Vec<usize>,
    incomplete: BTreeSet<String>,
}

/// A schema with its references followed.
struct Resolved<'a> {
    schema: &'a Schema,
    text_type: Option<&'static TextType>,
    /// Whether null may stand in its place.
    optional: bool,
}

impl<'a> Walk<'a> {
    fn resolve(&self, schema: &'a Schema) -> Resolved<'a> {
        if let Some(choices) = schema["anyOf"].as_array() {
            // schemars writes an optional type as a choice between it and null.
            let some = choices.iter().find(|c| c["type"] != "null").unwrap_or(schema);
            let optional = choices.iter().any(|c| c["type"] == "null");
            return Resolved { optional, ..self.resolve(some) };
        }
        if let Some(name) = schema["$ref"].as_str().and_then(|r| r.strip_prefix("#/$defs/")) {
            let text_type = TEXT_TYPES.iter().find(|t| t.name == name);
            return Resolved { schema: &self.definitions[name], text_type, optional: false };
        }
        let optional =
            schema["type"].as_array().is_some_and(|types| types.contains(&"null".into()));
        Resolved { schema, text_type: None, optional }
    }

    /// Of a word, a list and a mapping that may stand in the same place, the one that is there.
    fn alternative(&self, schema: &'a Schema, node: &Node) -> &'a Schema {
        let fits = |kind: &str| match node.value {
            Value::Mapping(_) => kind == "object",
            Value::Sequence(_) => kind == "array",
            Value::Scalar { .. } => !matches!(kind, "object" | "array"),
        };
        let choices = schema["anyOf"].as_array().into_iter().flatten();
        let mut fitting =
            choices.filter(|c| c["type"] != "null").filter(|c| fits(kind(self.resolve(c).schema)));
        fitting.next().unwrap_or(schema)
    }

    /// The well-formed part of a value, or `None` if nothing of it is.
    fn value(&mut self, schema: &'a Schema, node: &Node, path: &Path) -> Option<Yaml> {
        // What may be left out is no choice: that nothing stands there is looked at first.
        let resolved = self.resolve(schema);
        let resolved = match resolved.optional {
            true => resolved,
            false => self.resolve(self.alternative(schema, node)),
        };
        let Resolved { schema, text_type, optional } = resolved;
        if optional && node.is_null() {
            return Some(Yaml::Null);
        }
        if schema["format"] == ANY_FORMAT {
            return self.any(node, path);
        }
        match kind(schema) {
            "object" => self.mapping(schema, node, path),
            "array" => self.sequence(schema, node, path),
            _ => self.scalar(schema, text_type, node, path),
        }
    }

    /// What Kubernetes knows the kind of, and nobody here.
    fn any(&mut self, node: &Node, path: &Path) -> Option<Yaml> {
        if node.is_null() {
            self.report(node, path, "wrong type").found(node.describe()).allowed("a value");
            return None;
        }
        match yaml::for_kubernetes(node) {
            Ok(value) => Some(value),
            Err(e) => {
                self.report(node, path, "the value cannot be read").found(e);
                None
            }
        }
    }

    fn mapping(&mut self, schema: &'a Schema, node: &Node, path: &Path) -> Option<Yaml> {
        let Value::Mapping(entries) = &node.value else {
            self.report(node, path, "wrong type").found(node.describe()).allowed("a mapping");
            return None;
        };
        let mut rest = Mapping::new();
        let properties = schema["properties"].as_object();
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        // What unknown keys seem to be meant for: that it is missing follows from the slip.
        let mut meant: BTreeSet<&str> = BTreeSet::new();
        for entry in entries {
            let (parent, path) = (path, path.then(&entry.key));
            if !seen.insert(&entry.key) {
                self.at_key(entry, &path, "the key is listed twice")
                    .found(format!("`{}`", entry.key))
                    .allowed("each key once");
                continue;
            }
            let known = properties.and_then(|p| p.get(&entry.key));
            let inner = known.or_else(|| Some(&schema["additionalProperties"]));
            let Some(inner) = inner.filter(|s| s.is_object()) else {
                let names = || properties.into_iter().flat_map(|p| p.keys().map(String::as_str));
                let allowed = names().collect::<Vec<_>>().join(", ");
                self.at_key(entry, &path, "unknown key")
                    .found(format!("`{}`", entry.key))
                    .allowed(allowed)
                    .nearest(&entry.key, names());
                if let Some(name) = nearest(&entry.key, names()) {
                    meant.insert(name);
                    self.leave_out(&parent.then(name));
                }
                continue;
            };
            match self.value(inner, &entry.value, &path) {
                Some(value) => {
                    rest.insert(entry.key.as_str().into(), value);
                }
                None => self.leave_out(&path),
            }
        }
        for name in required(schema) {
            if rest.contains_key(name) {
                continue;
            }
            let path = path.then(name);
            if !seen.contains(name) && !meant.contains(name) {
                self.report(node, &path, "required key is missing");
            }
            // A machine without a name or address is left out as a whole; the rest of the file is
            // judged with an example in place of what is missing.
            if path.segments().first() == Some(&"nodes".into()) && path.segments().len() > 1 {
                return None;
            }
            self.leave_out(&path);
            rest.insert(name.into(), self.example(&schema["properties"][name]));
        }
        Some(Yaml::Mapping(rest))
    }

    fn sequence(&mut self, schema: &'a Schema, node: &Node, path: &Path) -> Option<Yaml> {
        let Value::Sequence(items) = &node.value else {
            self.report(node, path, "wrong type").found(node.describe()).allowed("a list");
            return None;
        };
        let is_nodes = path.segments() == [Segment::from("nodes")];
        let mut rest = Vec::with_capacity(items.len());
        let mut complete = true;
        for (i, item) in items.iter().enumerate() {
            match self.value(&schema["items"], item, &path.then(i)) {
                Some(value) => {
                    rest.push(value);
                    if is_nodes {
                        self.nodes.push(i);
                    }
                }
                None => complete = false,
            }
        }
        if complete {
            return Some(Yaml::Sequence(rest));
        }
        self.leave_out(path);
        is_nodes.then_some(Yaml::Sequence(rest))
    }

    fn scalar(
        &mut self,
        schema: &Schema,
        text_type: Option<&TextType>,
        node: &Node,
        path: &Path,
    ) -> Option<Yaml> {
        let choices = choices(schema);
        let wanted = describe_type(schema, &choices);
        let Value::Scalar { text, quoted } = &node.value else {
            self.report(node, path, "wrong type").found(node.describe()).allowed(wanted);
            return None;
        };
        match kind(schema) {
            "boolean" if !quoted => match text.as_str() {
                "true" | "True" | "TRUE" => return Some(Yaml::Bool(true)),
                "false" | "False" | "FALSE" => return Some(Yaml::Bool(false)),
                _ => {}
            },
            "integer" if !quoted && is_decimal(text) => {
                let in_range = |n: &u64| {
                    *n <= maximum(schema) && *n >= schema["minimum"].as_u64().unwrap_or(0)
                };
                if let Some(n) = text.parse::<u64>().ok().filter(in_range) {
                    return Some(Yaml::Number(n.into()));
                }
                self.report(node, path, "out of range").found(node.describe()).allowed(wanted);
                return None;
            }
            "boolean" | "integer" => {}
            _ if node.is_null() => {}
            _ if !choices.is_empty() => {
                if choices.contains(&text.as_str()) {
                    return Some(Yaml::String(text.clone()));
                }
                self.report(node, path, "no such value")
                    .found(node.describe())
                    .allowed(wanted)
                    .nearest(text, choices);
                return None;
            }
            _ => {
                if let Err(allowed) = check_text(schema, text_type, text) {
                    self.report(node, path, "malformed value")
                        .found(node.describe())
                        .allowed(allowed);
                    return None;
                }
                return Some(Yaml::String(text.clone()));
            }
        }
        self.report(node, path, "wrong type").found(node.describe()).allowed(wanted);
        None
    }

    /// A value that is well-formed by the schema.
    fn example(&self, schema: &'a Schema) -> Yaml {
        let Resolved { schema, text_type, .. } = self.resolve(schema);
        match (kind(schema), text_type) {
            ("object", _) => {
                let required = required(schema)
                    .map(|name| (Yaml::from(name), self.example(&schema["properties"][name])));
                Yaml::Mapping(required.collect())
            }
            ("array", _) => Yaml::Sequence(Vec::new()),
            ("integer", _) => Yaml::Number(1.into()),
            ("boolean", _) => Yaml::Bool(false),
            (_, Some(text_type)) => text_type.example.into(),
            _ => choices(schema).first().copied().unwrap_or("example").into(),
        }
    }

    fn leave_out(&mut self, path: &Path) {
        if let Some(Segment::Key(section)) = path.segments().first() {
            self.incomplete.insert(section.clone());
        }
    }

    fn report(&mut self, node: &Node, path: &Path, message: &str) -> &mut Diagnostic {
        self.diagnostics.push(Diagnostic::new(Some(node.place), path, message));
        self.diagnostics.last_mut().expect("a diagnostic was just pushed")
    }

    fn at_key(&mut self, entry: &Entry, path: &Path, message: &str) -> &mut Diagnostic {
        self.diagnostics.push(Diagnostic::new(Some(entry.place), path, message));
        self.diagnostics.last_mut().expect("a diagnostic was just pushed")
    }
}

/// The JSON type of a schema; of several, the one that is not null.
fn kind(schema: &Schema) -> &str {
    match &schema["type"] {
        Schema::Array(types) => {
            types.iter().filter_map(Schema::as_str).find(|t| *t != "null").unwrap_or("string")
        }
        one => one.as_str().unwrap_or("string"),
    }
}

fn required(schema: &Schema) -> impl Iterator<Item = &str> {
    schema["required"].as_array().into_iter().flatten().filter_map(Schema::as_str)
}

/// The names of an enumeration; empty for every other schema.
fn choices(schema: &Schema) -> Vec<&str> {
    let documented = schema["oneOf"].as_array().into_iter().flatten();
    let names = documented.flat_map(|c| {
        let several = c["enum"].as_array().into_iter().flatten();
        c["const"].as_str().into_iter().chain(several.filter_map(Schema::as_str))
    });
    let plain = schema["enum"].as_array().into_iter().flatten().filter_map(Schema::as_str);
    names.chain(plain).collect()
}

fn maximum(schema: &Schema) -> u64 {
    schema["maximum"].as_u64().unwrap_or(match schema["format"].as_str() {
        Some("uint8") => u8::MAX.into(),
        Some("uint16") => u16::MAX.into(),
        _ => u32::MAX.into(),
    })
}

/// Digits without a leading zero: what YAML 1.1, YAML 1.2 and people read as the same number.
fn is_decimal(text: &str) -> bool {
    text.bytes().all(|c| c.is_ascii_digit())
        && !text.is_empty()
        && (text == "0" || !text.starts_with('0'))
}

fn describe_type(schema: &Schema, choices: &[&str]) -> String {
    match kind(schema) {
        "boolean" => "true or false".to_owned(),
        "integer" => {
            let minimum = schema["minimum"].as_u64().unwrap_or(0);
            format!("a whole number from {minimum} to {}", maximum(schema))
        }
        "object" => "a mapping".to_owned(),
        "array" => "a list".to_owned(),
        _ if !choices.is_empty() => choices.join(", "),
        _ => "text".to_owned(),
    }
}

fn check_text(
    schema: &Schema,
    text_type: Option<&TextType>,
    text: &str,
) -> Result<(), &'static str> {
    if let Some(text_type) = text_type {
        return (text_type.check)(text).map_err(|e| e.allowed);
    }
    if schema["format"] == "ip" && text.parse::<std::net::IpAddr>().is_err() {
        return Err("an IPv4 or IPv6 address, without prefix length or brackets");
    }
    Ok(())
}
