//! Filters of our own: one way of quoting per file format. Each refuses what it cannot quote.

use std::fmt::Write;

use tera::{Kwargs, State, Tera, TeraResult};

/// Registers all of them.
pub(super) fn register(tera: &mut Tera) {
    tera.register_filter("json_encode", |s: &str, _: Kwargs, _: &State<'_>| json(s));
    tera.register_filter("word", |s: &str, _: Kwargs, _: &State<'_>| word(s));
    tera.register_filter("yaml_word", |s: &str, _: Kwargs, _: &State<'_>| yaml_word(s));
    tera.register_filter("unit_word", |s: &str, _: Kwargs, _: &State<'_>| {
        // `%` starts a specifier (systemd.unit(5)).
        if s.contains('%') { Err(tera::Error::message("a value has a `%`")) } else { word(s) }
    });
    tera.register_filter("quoted", |s: &str, _: Kwargs, _: &State<'_>| quoted(s));
}

/// A JSON string, which YAML and TOML read as the same string.
///
/// Beyond JSON, everything is escaped that YAML does not allow in a file or folds as a line break
/// (YAML 1.2, 5.1 and 5.4).
fn json(s: &str) -> TeraResult<String> {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control()
                || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') =>
            {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    Ok(out)
}

/// One word of a line-based format, as it is.
fn word(s: &str) -> TeraResult<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:/@%+,=~*[]".contains(c);
    if !s.is_empty() && s.chars().all(plain) {
        Ok(s.to_owned())
    } else {
        Err(tera::Error::message("a value is not one plain word"))
    }
}

/// A plain scalar of YAML that is a string for every reader: no number, and none of the words that YAML 1.1 takes for a truth
/// value or for nothing.
fn yaml_word(s: &str) -> TeraResult<String> {
    const NO_STRINGS: &[&str] =
        &["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf"];
    let begins = s.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    // An address; a number has one dot at most.
    let dots = s.split('.').count() > 3;
    // A duration, as of Go: no number ends in a letter, but for those that begin with 0x or 0b, or an exponent.
    let unit = s.ends_with(['h', 'm', 's']) && !s.starts_with('0');
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
    let word = !NO_STRINGS.contains(&s.to_ascii_lowercase().as_str());
    if (begins || dots || unit) && word && s.chars().all(plain) && !s.ends_with(':') {
        Ok(s.to_owned())
    } else {
        Err(tera::Error::message("a value is not a plain string of YAML"))
    }
}

/// Text between double quotes in a format that has no escapes (nftables comments, apt.conf).
fn quoted(s: &str) -> TeraResult<String> {
    let plain = |c: char| !c.is_control() && !matches!(c, '"' | '\\' | '\u{2028}' | '\u{2029}');
    if s.chars().all(plain) {
        Ok(format!("\"{s}\""))
    } else {
        Err(tera::Error::message("a value cannot be put between quotes"))
    }
}
