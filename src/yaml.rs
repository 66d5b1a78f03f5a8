//! YAML: one parser for everything that is read, and one writer.
//!
//! [`tree`] reads, for the inventory as for what nodes, the cluster and a bundle hold, and for what is rendered. It knows
//! where each value stands and takes less than YAML allows. serde_yaml gives values their types and writes them; its own
//! parser reads nothing but tests, and no other file names it.
//!
//! What Kubernetes reads too, it reads by YAML 1.1, where `yes` and `off` are truth values: [`parse`] and [`documents`] find the
//! same values, or an error. In texts of our own those are words: [`from_text`], and the inventory by its schema.

mod error;
pub mod tree;

pub use self::error::{Place, Refused, YamlError};
use serde::Serialize;
use serde::de::DeserializeOwned;
pub use serde_yaml::{Mapping, Value};

/// Bounds of what is not an inventory. The schemas of custom resources in a bundle nest some forty levels deep.
const BOUNDS: tree::Bounds = tree::Bounds { depth: 128, values: 2_000_000 };

/// Reads a text of one document that Kubernetes reads too; an empty one is null.
///
/// # Errors
/// The first thing that is not accepted: see [`Refused`].
pub fn parse(text: &str) -> Result<Value, YamlError> {
    one(text, as_kubernetes)
}

fn one(text: &str, plain: fn(String) -> Value) -> Result<Value, YamlError> {
    let (root, problems) = tree::parse(text, BOUNDS);
    match (root, problems.into_iter().next()) {
        (Some(root), None) => value(root, plain),
        (None, Some(YamlError { why: Refused::Empty, .. }) | None) => Ok(Value::Null),
        (_, Some(problem)) => Err(problem),
    }
}

/// Reads a text of any number of documents that Kubernetes reads too.
///
/// # Errors
/// The first thing that is not accepted in any of them: nothing is known of the others then.
pub fn documents(text: &str) -> Result<Vec<Value>, YamlError> {
    tree::documents(text, BOUNDS)?.into_iter().map(|root| value(root, as_kubernetes)).collect()
}

/// Reads a text of our own, as [`to_text`] writes it.
///
/// # Errors
/// Those of [`parse`] and [`from_value`].
pub fn from_text<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    from_value(one(text, as_core)?)
}

/// Gives a value a type.
///
/// # Errors
/// A value of another type, without its place; the message has words of the value.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, YamlError> {
    serde_yaml::from_value(value).map_err(|e| YamlError::of_type(&e))
}

/// Anything as a value; `None` for what has no form in YAML.
pub fn to_value(of: &impl Serialize) -> Option<Value> {
    serde_yaml::to_value(of).ok()
}

/// Writes a value as a document that [`tree`] accepts.
///
/// # Panics
/// If a part of the value refuses to be written, which types of ours do not do.
pub fn to_text(of: &impl Serialize) -> String {
    const INVARIANT: &str = "these types have text keys and no failing parts";
    let text = serde_yaml::to_string(of).expect(INVARIANT);
    if tree::unreadable(&text).is_none() {
        return text;
    }
    // serde_yaml writes U+2028 and the like as they are. JSON is YAML, and its texts may have escapes for them.
    let mut text = String::new();
    for c in serde_json::to_string(of).expect(INVARIANT).chars() {
        match tree::unreadable(c.encode_utf8(&mut [0; 4])) {
            Some(_) => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            None => text.push(c),
        }
    }
    text + "\n"
}

/// A part of a text of our own that is handed on to Kubernetes as it is, and so means what it means there.
///
/// # Errors
/// A key that is listed twice.
pub fn for_kubernetes(node: &tree::Node) -> Result<Value, YamlError> {
    value(node.clone(), as_kubernetes)
}

/// A tree without its places; `plain` says what a scalar without quotes is.
fn value(node: tree::Node, plain: fn(String) -> Value) -> Result<Value, YamlError> {
    Ok(match node.value {
        tree::Value::Scalar { text, quoted: true } => Value::String(text),
        tree::Value::Scalar { text, .. } => plain(text),
        tree::Value::Sequence(items) => {
            let items = items.into_iter().map(|item| value(item, plain));
            Value::Sequence(items.collect::<Result<_, _>>()?)
        }
        tree::Value::Mapping(entries) => {
            let mut mapping = Mapping::with_capacity(entries.len());
            for entry in entries {
                if mapping.insert(Value::String(entry.key), value(entry.value, plain)?).is_some() {
                    return Err(YamlError::at(entry.place, Refused::KeyTwice));
                }
            }
            Value::Mapping(mapping)
        }
    })
}

/// Words that are true or false in YAML 1.1 and text in YAML 1.2
/// (<https://yaml.org/type/bool.html>; sigs.k8s.io/yaml, goyaml.v2/resolve.go).
const TRUTHS: &[(bool, &[&str])] = &[
    (true, &["y", "Y", "yes", "Yes", "YES", "on", "On", "ON"]),
    (false, &["n", "N", "no", "No", "NO", "off", "Off", "OFF"]),
];

/// A scalar without quotes, as Kubernetes reads it.
fn as_kubernetes(text: String) -> Value {
    if let Some((truth, _)) = TRUTHS.iter().find(|(_, words)| words.contains(&text.as_str())) {
        return Value::Bool(*truth);
    }
    // A leading zero makes an octal number in YAML 1.1, and text in YAML 1.2.
    let octal = text.strip_prefix('0').filter(|rest| rest.bytes().all(|c| c.is_ascii_digit()));
    if let Some(Ok(number)) = octal.map(|digits| u64::from_str_radix(digits, 8)) {
        return Value::Number(number.into());
    }
    as_core(text)
}

/// A scalar without quotes by YAML 1.2's core schema.
fn as_core(text: String) -> Value {
    match text.as_str() {
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        null if tree::is_null(null) => return Value::Null,
        _ => {}
    }
    match text.parse::<serde_yaml::Number>() {
        Ok(number) => Value::Number(number),
        Err(_) => Value::String(text),
    }
}

#[cfg(test)]
mod tests;
