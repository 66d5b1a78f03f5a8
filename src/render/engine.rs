//! Renders a template, and proves that its structure does not depend on the strings in it.

use std::sync::LazyLock;

use crate::yaml::Value;
use serde::Serialize;
use serde_json::Value as Json;
use tera::{Context, Tera};
use zeroize::Zeroizing;

use super::catalogue::{self, Template};
use super::format::FormatError;
use super::text::{MARK, Text};
use super::{catalogue::TEMPLATES, filters};
use crate::secret::Secret;

/// The one input of a template.
pub trait Input: Serialize {
    /// Its path below templates/.
    const TEMPLATE: &'static str;
    /// Its own name, as the catalogue has it.
    const NAME: &'static str;
}

/// Why a file could not be rendered. Messages hold no input.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The engine refused.
    #[error("template {template} cannot be rendered: {why}")]
    Engine {
        /// The template.
        template: &'static str,
        /// In the words of the engine.
        why: String,
    },
    /// The output is not what its format allows.
    #[error("the output of template {template} is malformed")]
    Malformed {
        /// The template.
        template: &'static str,
        /// What was found.
        #[source]
        source: FormatError,
    },
    /// A string of the input would change more than a value.
    #[error("a string of the input changes the structure of template {template}")]
    Structure {
        /// The template.
        template: &'static str,
    },
    /// A string in the input is not a [`Text`].
    #[error("the input of template {template} holds a bare string or a missing value")]
    Bare {
        /// The template.
        template: &'static str,
    },
}

/// All templates, parsed once.
static ENGINE: LazyLock<Tera> = LazyLock::new(|| {
    let mut tera = Tera::default();
    tera.autoescape_on(Vec::<&str>::new());
    filters::register(&mut tera);
    tera.add_raw_templates(TEMPLATES.iter().map(|t| (t.path, t.text)))
        .expect("templates are compiled in; a test parses them");
    tera
});

/// Renders an input with its template.
///
/// # Errors
/// See [`RenderError`]; nothing that does not parse back to the same structure is returned.
pub fn render<I: Input>(input: &I) -> Result<String, RenderError> {
    let row = row::<I>();
    let template = row.path;
    let engine = |why: String| RenderError::Engine { template, why };
    let value = serde_json::to_value(input).map_err(|e| engine(e.to_string()))?;
    let mut texts = Vec::new();
    let real = unmark(&value, &mut |text| {
        texts.push(text.to_owned());
        text.to_owned()
    });
    let mut count = 0;
    let masked = unmark(&value, &mut |_| {
        count += 1;
        mask(count)
    });
    let (Some(real), Some(masked)) = (real, masked) else {
        return Err(RenderError::Bare { template });
    };
    let text = run(row, &real)?;
    let malformed = |source| RenderError::Malformed { template, source };
    let parsed = row.format.parse(&text).map_err(malformed)?;
    let mut expected = row.format.parse(&run(row, &masked)?).map_err(malformed)?;
    fill(&mut expected, &texts);
    if parsed == expected { Ok(text) } else { Err(RenderError::Structure { template }) }
}

/// Renders an input whose secrets stand in it as names, and puts each secret in place of its name.
///
/// No secret passes through the engine, which would leave copies in memory. A secret may hold
/// base64 characters only, and a name occurs nowhere else in the output.
///
/// # Errors
/// See [`render`].
pub fn render_secret<I: Input>(
    input: &I,
    secrets: &[(String, Secret<String>)],
) -> Result<Secret<Vec<u8>>, RenderError> {
    let text = render(input)?;
    let size = text.len() + secrets.iter().map(|(_, s)| s.expose().len()).sum::<usize>();
    let mut bytes = Zeroizing::new(Vec::with_capacity(size));
    let mut rest = text.as_str();
    'text: while !rest.is_empty() {
        let next = secrets
            .iter()
            .filter_map(|(n, s)| Some((rest.find(n.as_str())?, n, s)))
            .min_by_key(|f| f.0);
        let Some((at, name, secret)) = next else {
            bytes.extend_from_slice(rest.as_bytes());
            break 'text;
        };
        let base64 = |c: u8| c.is_ascii_alphanumeric() || b"+/=".contains(&c);
        if !secret.expose().bytes().all(base64) {
            return Err(RenderError::Structure { template: I::TEMPLATE });
        }
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        bytes.extend_from_slice(secret.expose().as_bytes());
        rest = &rest[at + name.len()..];
    }
    Ok(Secret::new(std::mem::take(&mut *bytes)))
}

/// The text of a file that takes no input.
///
/// # Panics
/// If the path is not in the catalogue; a test walks all uses.
pub fn fixed(path: &'static str) -> &'static str {
    catalogue::row(path).text
}

fn row<I: Input>() -> &'static Template {
    catalogue::row(I::TEMPLATE)
}

fn run(row: &'static Template, value: &Json) -> Result<String, RenderError> {
    let engine = |e: tera::Error| RenderError::Engine { template: row.path, why: e.to_string() };
    let context = Context::from_serialize(value).map_err(engine)?;
    ENGINE.render(row.path, &context).map_err(engine)
}

/// Letters and digits only, and no beginning of another one.
fn mask(n: usize) -> String {
    format!("mask{n:05}mask")
}

/// A copy with every [`Text`] replaced; none if there is another string than a variant's name, or
/// a null.
fn unmark(value: &Json, text: &mut impl FnMut(&str) -> String) -> Option<Json> {
    Some(match value {
        Json::Object(map) => match map.get(MARK) {
            Some(Json::String(s)) => Json::String(text(s)),
            _ => {
                let entries = map.iter().map(|(k, v)| Some((k.clone(), unmark(v, text)?)));
                Json::Object(entries.collect::<Option<_>>()?)
            }
        },
        Json::Array(items) => {
            Json::Array(items.iter().map(|v| unmark(v, text)).collect::<Option<_>>()?)
        }
        Json::String(s) => {
            let name = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
            s.bytes().all(name).then(|| value.clone())?
        }
        Json::Null => return None,
        Json::Bool(_) | Json::Number(_) => value.clone(),
    })
}

/// Puts the texts in place of their marks, in every string of a tree.
fn fill(value: &mut Value, texts: &[String]) {
    match value {
        Value::String(s) => {
            let mut out = String::with_capacity(s.len());
            let mut rest = s.as_str();
            while let Some(at) = rest.find("mask") {
                out.push_str(&rest[..at]);
                let digits = rest[at + 4..].bytes().take_while(u8::is_ascii_digit).count();
                let end = at + 4 + digits;
                let text = rest[at + 4..end]
                    .parse::<usize>()
                    .ok()
                    .and_then(|n| texts.get(n.wrapping_sub(1)));
                match text {
                    Some(text) if rest[end..].starts_with("mask") => {
                        out.push_str(text);
                        rest = &rest[end + 4..];
                    }
                    _ => {
                        out.push_str("mask");
                        rest = &rest[at + 4..];
                    }
                }
            }
            out.push_str(rest);
            *s = out;
        }
        Value::Sequence(items) => items.iter_mut().for_each(|v| fill(v, texts)),
        Value::Mapping(map) => {
            let entries = std::mem::take(map);
            for (mut k, mut v) in entries {
                fill(&mut k, texts);
                fill(&mut v, texts);
                map.insert(k, v);
            }
        }
        _ => {}
    }
}

impl From<String> for Text {
    fn from(s: String) -> Self {
        Text::of(s)
    }
}

#[cfg(test)]
mod tests;
