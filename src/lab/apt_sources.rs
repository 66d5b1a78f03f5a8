//! The host's apt sources: where a root filesystem is downloaded from.
//!
//! Both formats of sources.list(5) are read: one line per source (`*.list`) and deb822 stanzas
//! (`*.sources`). Only what offers `main` of the host's own release is kept, so that third-party
//! repositories do not get into the nodes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::error::Error;

/// One deb822 stanza, reduced to what a download needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Source {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    /// Path, fingerprint or embedded key: the raw value of the field, lines joined with newlines.
    signed_by: Option<String>,
    trusted: bool,
}

/// Reads `/etc/apt` and returns the sources of a release as one deb822 file.
pub(super) fn of_host(etc_apt: &Path, codename: &str) -> Result<String, Error> {
    let mut sources = Vec::new();
    let mut files = vec![etc_apt.join("sources.list")];
    let parts = etc_apt.join("sources.list.d");
    if let Ok(entries) = std::fs::read_dir(&parts) {
        let mut found: Vec<_> = entries.filter_map(Result::ok).map(|e| e.path()).collect();
        found.sort();
        files.extend(found);
    }
    for file in files {
        let parse = match file.extension().and_then(|e| e.to_str()) {
            Some("list") => parse_lines,
            Some("sources") => parse_stanzas,
            // apt ignores every other name.
            _ => continue,
        };
        match std::fs::read_to_string(&file) {
            Ok(text) => sources.extend(parse(&text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("read", file)(e)),
        }
    }
    let kept: Vec<Source> = sources.into_iter().filter_map(|s| of_release(s, codename)).collect();
    if kept.is_empty() {
        return Err(Error::NoMirror { codename: codename.to_owned() });
    }
    Ok(kept.iter().map(stanza).collect::<Vec<_>>().join("\n"))
}

/// Keeps the suites of a release and the component `main`.
fn of_release(mut source: Source, codename: &str) -> Option<Source> {
    source.suites.retain(|suite| {
        ["", "-updates", "-security"]
            .iter()
            .any(|pocket| suite.strip_suffix(pocket) == Some(codename))
    });
    source.components.retain(|c| c == "main");
    let usable = !source.suites.is_empty() && !source.components.is_empty();
    usable.then_some(source)
}

fn stanza(source: &Source) -> String {
    let mut text = String::from("Types: deb\n");
    let fields =
        [("URIs", &source.uris), ("Suites", &source.suites), ("Components", &source.components)];
    for (name, values) in fields {
        let _ = writeln!(text, "{name}: {}", values.join(" "));
    }
    if let Some(key) = &source.signed_by {
        let _ = writeln!(text, "Signed-By: {key}");
    }
    if source.trusted {
        text.push_str("Trusted: yes\n");
    }
    text
}

/// The one-line format: `deb [option=value ...] uri suite [component ...]`.
fn parse_lines(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let mut rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let mut source = Source::default();
    if let Some(after) = rest.strip_prefix('[') {
        let (options, after) = after.split_once(']')?;
        for option in options.split_whitespace() {
            match option.split_once('=') {
                Some(("signed-by", key)) => source.signed_by = Some(key.to_owned()),
                Some(("trusted", yes)) => source.trusted = is_yes(yes),
                _ => {}
            }
        }
        rest = after;
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    source.uris = vec![words.next()?];
    source.suites = vec![words.next()?];
    source.components = words.collect();
    Some(source)
}

/// The deb822 format: stanzas of `Field: value`, continued on indented lines.
fn parse_stanzas(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    let mut last = None;
    // An empty line behind the text ends the last stanza.
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            // A comment may stand inside a stanza and does not end it.
        } else if line.trim().is_empty() {
            sources.extend(from_fields(&std::mem::take(&mut fields)));
            last = None;
        } else if line.starts_with([' ', '\t']) {
            if let Some(value) = last.as_ref().and_then(|name| fields.get_mut(name)) {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            let name = name.trim().to_ascii_lowercase();
            fields.insert(name.clone(), value.trim().to_owned());
            last = Some(name);
        }
    }
    sources
}

fn from_fields(fields: &BTreeMap<String, String>) -> Option<Source> {
    let list = |name: &str| -> Vec<String> {
        let value = fields.get(name).map(String::as_str).unwrap_or_default();
        value.split_whitespace().map(str::to_owned).collect()
    };
    let enabled = fields.get("enabled").is_none_or(|v| is_yes(v));
    if !enabled || !list("types").iter().any(|t| t == "deb") {
        return None;
    }
    Some(Source {
        uris: list("uris"),
        suites: list("suites"),
        components: list("components"),
        signed_by: fields.get("signed-by").cloned(),
        trusted: fields.get("trusted").is_some_and(|v| is_yes(v)),
    })
}

fn is_yes(value: &str) -> bool {
    // apt's own words for true (StringToBool in apt-pkg/contrib/strutl.cc).
    ["yes", "true", "with", "on", "enable", "1"]
        .contains(&value.trim().to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str, parse: fn(&str) -> Vec<Source>) -> String {
        let sources = parse(text).into_iter().filter_map(|s| of_release(s, "bookworm"));
        sources.map(|s| stanza(&s)).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn stanzas_with_comments_embedded_keys_and_foreign_repositories() {
        let text = "Types: deb deb-src\n# where it was\nURIs: http://mirror.example/debian\n\
            Suites: bookworm bookworm-updates bookworm-backports\nComponents: main contrib\n\
            Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n\n\
            Types: deb\nURIs: http://other.example\nSuites: nodistro\nComponents: main\n\n\
            Types: deb\nURIs: http://third.example\nSuites: bookworm\nComponents: stable\n\n\
            Types: deb\nEnabled: no\nURIs: http://off.example\nSuites: bookworm\nComponents: main\n";
        assert_eq!(
            kept(text, parse_stanzas),
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\
             Components: main\nSigned-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n"
        );
    }

    #[test]
    fn lines_with_options_and_comments() {
        let text = "# deb http://no.example bookworm main\n\
            deb [arch=amd64 signed-by=/k.gpg] http://m.example/debian bookworm main contrib # tail\n\
            deb-src http://m.example/debian bookworm main\n\
            deb [trusted=yes] http://s.example bookworm-security main\n\
            deb http://m.example/debian bookwormish main\n";
        assert_eq!(
            kept(text, parse_lines),
            "Types: deb\nURIs: http://m.example/debian\nSuites: bookworm\nComponents: main\n\
             Signed-By: /k.gpg\n\nTypes: deb\nURIs: http://s.example\nSuites: bookworm-security\n\
             Components: main\nTrusted: yes\n"
        );
    }

    #[test]
    fn a_host_without_a_mirror_for_its_release_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("sources.list"), "deb http://m.example sid main\n").unwrap();
        let e = of_host(dir.path(), "bookworm").unwrap_err();
        assert!(matches!(e, Error::NoMirror { .. }), "{e:?}");
    }
}
