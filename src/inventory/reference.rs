//! The inventory's reference, as Markdown, from the same schema that files are checked against.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// All keys, by object, in the order in which they are reached from the top.
///
/// Takes what [`super::schema`] gives.
pub fn reference(schema: &Value) -> String {
    let mut pages = Pages { schema, done: Vec::new(), text: String::new() };
    pages.text.push_str(HEAD);
    let mut waiting = vec![("The file".to_owned(), schema.clone())];
    while !waiting.is_empty() {
        let (title, object) = waiting.remove(0);
        waiting.extend(pages.section(&title, &object));
    }
    pages.text
}

const HEAD: &str = "# The inventory, key by key

Written by `kubastion inventory reference`; a test holds it to the program. A key without a default has
to be there. `kubastion inventory schema` gives the same as a JSON schema, for editors.
";

struct Pages<'s> {
    schema: &'s Value,
    done: Vec<String>,
    text: String,
}

impl Pages<'_> {
    /// Writes one object, and says which objects it leads to.
    fn section(&mut self, title: &str, object: &Value) -> Vec<(String, Value)> {
        let empty = Map::new();
        let properties = object.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let required: Vec<&str> =
            list(object, "required").iter().filter_map(Value::as_str).collect();
        // Writing to a String cannot fail.
        _ = write!(self.text, "\n## {title}\n\n{}\n\n", words(object));
        self.text.push_str("| key | value | default | meaning |\n|---|---|---|---|\n");
        let mut next = Vec::new();
        for (key, property) in properties {
            let default = match property.get("default") {
                _ if required.contains(&key.as_str()) => "".to_owned(),
                None | Some(Value::Null) => "-".to_owned(),
                Some(Value::Object(_)) => "see there".to_owned(),
                Some(value) => format!("`{value}`").replace('"', ""),
            };
            let value = self.value(property, &mut next);
            let meaning = words(property);
            _ = writeln!(self.text, "| `{key}` | {value} | {default} | {} |", cell(&meaning));
        }
        next
    }

    /// What may stand there, in words; objects that are met for the first time are to be written.
    fn value(&mut self, property: &Value, next: &mut Vec<(String, Value)>) -> String {
        let choices = list(property, "anyOf");
        if choices.len() > 1 && choices.iter().all(|c| c.get("type").is_none_or(|t| t != "null")) {
            let each: Vec<String> = choices.iter().map(|c| self.value(c, next)).collect();
            return each.join(" or ");
        }
        if let Some(name) = target(property) {
            let Some(object) = self.schema.pointer(&format!("/$defs/{name}")).cloned() else {
                return name.to_owned();
            };
            if object.get("properties").is_none() {
                return simple(&object);
            }
            if !self.done.iter().any(|d| d == name) {
                self.done.push(name.to_owned());
                next.push((name.to_owned(), object));
            }
            return format!("[{name}](#{})", name.to_lowercase());
        }
        if let Some(items) = property.get("items") {
            return format!("list of {}", self.value(items, next));
        }
        if let Some(values) = property.get("additionalProperties").filter(|v| v.is_object()) {
            return format!("map to {}", self.value(values, next));
        }
        simple(property)
    }
}

/// Name of the definition that a property refers to, directly or beside `null`.
fn target(property: &Value) -> Option<&str> {
    let options = list(property, "anyOf").iter().chain(list(property, "allOf"));
    let mut references =
        std::iter::once(property).chain(options).filter_map(|v| v.get("$ref")?.as_str());
    references.next()?.strip_prefix("#/$defs/")
}

/// A value that holds no others.
fn simple(schema: &Value) -> String {
    let choices: Vec<String> = list(schema, "oneOf")
        .iter()
        .chain(list(schema, "enum"))
        .filter_map(|c| c.get("const").unwrap_or(c).as_str())
        .map(|c| format!("`{c}`"))
        .collect();
    if !choices.is_empty() {
        return choices.join(", ");
    }
    let name = match schema.get("type") {
        Some(Value::String(name)) => name.as_str(),
        Some(Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).find(|n| *n != "null").unwrap_or_default()
        }
        _ => "",
    };
    match name {
        "integer" => "number".to_owned(),
        "boolean" => "`true`, `false`".to_owned(),
        "string" | "" => "text".to_owned(),
        other => other.to_owned(),
    }
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn words(schema: &Value) -> String {
    schema.get("description").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// One cell of a table.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}
