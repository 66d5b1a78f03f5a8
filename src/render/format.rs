//! The formats of our files, read back into one kind of tree.
//!
//! The parsers are as strict as our own templates; they are no general readers of these formats.

use crate::yaml::{self, Value};

/// Format of a template's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML, one or several documents.
    Yaml,
    /// JSON.
    Json,
    /// TOML 1.0.
    Toml,
    /// systemd.syntax(7): sections with `key=value`, keys may repeat. Also dnf's ini files.
    Unit,
    /// Lines of words; double quotes hold a word together, braces nest, `#` begins a comment:
    /// nftables, sysctl.d, sshd_config, audit rules, chrony, logrotate.
    Lines,
    /// A shell program without inputs.
    Shell,
}

/// What is wrong with an output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct FormatError {
    /// Line, from 1; 0 where the parser does not say.
    pub line: usize,
    /// What was found.
    pub what: String,
}

impl Format {
    /// Reads an output. Equal trees mean equal configuration.
    ///
    /// # Errors
    /// The first thing that does not belong there.
    pub fn parse(self, text: &str) -> Result<Value, FormatError> {
        match self {
            Format::Yaml => of_yaml(text),
            Format::Json => serde_json::from_str::<Value>(text)
                .map_err(|e| FormatError { line: e.line(), what: "not JSON".into() }),
            Format::Toml => toml::from_str::<Value>(text)
                .map_err(|e| FormatError { line: 0, what: e.message().to_owned() }),
            Format::Unit => unit(text),
            Format::Lines => lines(text),
            Format::Shell => Ok(Value::String(text.to_owned())),
        }
    }
}

fn of_yaml(text: &str) -> Result<Value, FormatError> {
    yaml::documents(text)
        .map(Value::Sequence)
        .map_err(|e| FormatError { line: e.place.map_or(0, |p| p.line), what: "not YAML".into() })
}

fn unit(text: &str) -> Result<Value, FormatError> {
    let mut sections: Vec<(String, Vec<Value>)> = Vec::new();
    let mut continued: Option<String> = None;
    for (n, line) in text.lines().enumerate() {
        let error = |what: &str| FormatError { line: n + 1, what: what.to_owned() };
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(error("a control character"));
        }
        // A comment between continued lines is skipped, as systemd does.
        if line.starts_with(['#', ';']) {
            continue;
        }
        let line = match continued.take() {
            Some(before) => format!("{before} {}", line.trim()),
            None => line.trim().to_owned(),
        };
        if let Some(more) = line.strip_suffix('\\') {
            continued = Some(more.trim_end().to_owned());
            continue;
        }
        if line.is_empty() {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            let name = name.strip_suffix(']').ok_or_else(|| error("an unclosed section name"))?;
            sections.push((name.to_owned(), Vec::new()));
            continue;
        }
        let (key, value) = line.split_once('=').ok_or_else(|| error("neither key nor section"))?;
        let (_, entries) = sections.last_mut().ok_or_else(|| error("a key before any section"))?;
        entries.push(strings([key.trim(), value.trim()]));
    }
    if continued.is_some() {
        return Err(FormatError { line: 0, what: "ends in the middle of a line".into() });
    }
    let sections = sections
        .into_iter()
        .map(|(name, entries)| Value::Sequence(vec![name.into(), Value::Sequence(entries)]));
    Ok(Value::Sequence(sections.collect()))
}

fn lines(text: &str) -> Result<Value, FormatError> {
    let mut all = Vec::new();
    let mut depth = 0usize;
    for (n, line) in text.lines().enumerate() {
        let words = words(line).map_err(|what| FormatError { line: n + 1, what })?;
        for word in &words {
            match word.as_str() {
                "{" => depth += 1,
                "}" | "};" => {
                    depth = depth.checked_sub(1).ok_or_else(|| FormatError {
                        line: n + 1,
                        what: "an extra closing brace".into(),
                    })?;
                }
                _ => {}
            }
        }
        if !words.is_empty() {
            all.push(strings(words.iter().map(String::as_str)));
        }
    }
    if depth > 0 {
        return Err(FormatError { line: 0, what: "an unclosed brace".into() });
    }
    Ok(Value::Sequence(all))
}

fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut open = false;
    for c in line.chars() {
        match c {
            '"' => {
                word.push(c);
                open = !open;
            }
            c if c.is_control() && c != '\t' => return Err("a control character".into()),
            c if open => word.push(c),
            '#' if word.is_empty() => break,
            c if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if open {
        return Err("an unclosed quote".into());
    }
    if !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

fn strings<'a>(items: impl IntoIterator<Item = &'a str>) -> Value {
    Value::Sequence(items.into_iter().map(Value::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_know_quotes_braces_and_comments() {
        let parsed = Format::Lines.parse("a \"b # c\" { # d\n  e;\n}\n# f\n").unwrap();
        let text = serde_json::to_string(&parsed).unwrap();
        assert_eq!(text, r#"[["a","\"b # c\"","{"],["e;"],["}"]]"#);
        assert!(Format::Lines.parse("a {\n").is_err());
        assert!(Format::Lines.parse("}\n").is_err());
        assert!(Format::Lines.parse("a \"b\n").is_err());
    }

    #[test]
    fn units_have_sections_repeated_keys_and_continued_lines() {
        let parsed = Format::Unit.parse("[A]\nx=1\nx=2 \\\n 3\n[B]\ny=\n").unwrap();
        let text = serde_json::to_string(&parsed).unwrap();
        assert_eq!(text, r#"[["A",[["x","1"],["x","2 3"]]],["B",[["y",""]]]]"#);
        assert!(Format::Unit.parse("x=1\n").is_err());
        assert!(Format::Unit.parse("[A]\nx\n").is_err());
    }

    #[test]
    fn a_key_that_stands_twice_is_no_yaml() {
        assert!(Format::Yaml.parse("a: 1\na: 2\n").is_err());
    }
}
