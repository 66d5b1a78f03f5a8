//! The parser against serde_yaml's, whose scanner is libyaml's, as is that of Kubernetes' parser.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

/// All documents of a text, as libyaml reads them.
fn by_libyaml(text: &str) -> Result<Vec<Value>, serde_yaml::Error> {
    serde_yaml::Deserializer::from_str(text).map(Value::deserialize).collect()
}

/// All documents of a text by the parser of this file, words and numbers as libyaml's owner takes them.
fn by_tree(text: &str) -> Result<Vec<Value>, YamlError> {
    tree::documents(text, BOUNDS)?.into_iter().map(|root| value(root, as_core)).collect()
}

fn why(text: &str) -> Refused {
    parse(text).unwrap_err().why
}

#[test]
fn a_line_break_of_one_parser_alone_is_refused_with_its_place() {
    for c in ['\u{85}', '\u{2028}', '\u{2029}', '\u{feff}', '\r', '\u{0}', '\u{7f}'] {
        let text = format!("a: x\nb: y # note{c}firewall: {{mode: off}}\n");
        let place = Some(Place { line: 2, column: 12 });
        let refused = YamlError { place, why: Refused::Character(c) };
        assert_eq!(parse(&text), Err(refused.clone()), "{c:?}");
        assert_eq!(documents(&text), Err(refused), "{c:?}");
    }
    assert!(parse("a: x\r\nb: 'ü 日本 €' # ¾\r\n").is_ok());
}

#[test]
fn what_parsers_or_readers_may_take_differently_is_refused() {
    for (text, refused) in [
        ("a: &x {b: 1}\n", Refused::Anchor),
        ("a: *x\n", Refused::Syntax("while parsing node, found unknown anchor".into())),
        ("a: &x 1\nb: *x\n", Refused::Anchor),
        ("a: !!str 1\n", Refused::Tag),
        ("a: {<<: {b: 1}}\n", Refused::MergeKey),
        ("? [a]\n: b\n", Refused::KeyNotText),
        ("a: 1\nb: 2\na: 3\n", Refused::KeyTwice),
        ("a: {\"b\": 1, b: 2}\n", Refused::KeyTwice),
        (">\n---\na: 1\n", Refused::BlockAsDocument),
        ("a: 1\n---\na: 1\n", Refused::SecondDocument),
        (&"[".repeat(129), Refused::Depth(128)),
        (&"- ".repeat(100_000), Refused::Depth(128)),
    ] {
        assert_eq!(why(text), refused, "{}", &text[..text.len().min(20)]);
    }
    assert_eq!(documents("a: 1\n---\na: 1\n").unwrap().len(), 2);
    // One of them spoils all.
    assert!(documents("a: 1\n---\na: &x 1\n").is_err() && documents("a: 1\n---\na: [\n").is_err());
}

#[test]
fn an_error_does_not_say_what_stands_there() {
    for text in ["a: 1\nhidden: 2\nhidden: 3\n", "a: &hidden 1\n", "a: !hidden 1\n", "hidden: [\n"]
    {
        let said = parse(text).unwrap_err().to_string();
        assert!(!said.contains("hidden") && said.starts_with("line "), "{said}");
    }
}

#[test]
fn scalars_are_read_as_kubernetes_reads_them() {
    for (text, value) in [
        ("", Value::Null),
        ("~", Value::Null),
        ("true", true.into()),
        ("yes", true.into()),
        ("On", true.into()),
        ("off", false.into()),
        ("n", false.into()),
        ("'off'", "off".into()),
        ("\"true\"", "true".into()),
        ("yEs", "yEs".into()),
        ("0", 0.into()),
        ("17", 17.into()),
        ("-1", (-1).into()),
        ("0x1f", 31.into()),
        ("0644", 420.into()),
        ("0689", "0689".into()),
        ("1.5", 1.5.into()),
        ("1.36.2", "1.36.2".into()),
        ("2026-01-15", "2026-01-15".into()),
        ("|\n  on\n", "on\n".into()),
    ] {
        let document = format!("a: {text}\n");
        assert_eq!(parse(&document).unwrap()["a"], value, "{text}");
    }
    assert_eq!(parse("").unwrap(), Value::Null);
    assert_eq!(parse("# nothing\n").unwrap(), Value::Null);
    // Keys are text, as in JSON.
    assert_eq!(parse("1: {on: x}\n").unwrap()["1"]["on"], "x");
}

/// What is written is read as the same, also where words look like something else.
#[test]
fn what_is_written_reads_back() {
    for text in [
        "a",
        "true",
        "",
        "017",
        "1e3",
        "~",
        "a: b",
        "- a",
        "#",
        "a\nb\n",
        " a ",
        "ü\t",
        "'\"",
        "x\u{2028}y",
        "\u{85}",
    ] {
        let value: Value = Value::Sequence(vec![text.into()]);
        assert_eq!(parse(&to_text(&value)).unwrap(), value, "{text:?}");
    }
}

/// Files that nodes get, and manifests in tests, as Kubernetes' scanner sees them.
#[test]
fn golden_files_are_the_same_to_libyaml() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut open, mut read) = (vec![root.join("tests/golden"), root.join("inventory")], 0);
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "yaml") {
                let text = std::fs::read_to_string(&path).unwrap();
                let other = by_libyaml(&text).unwrap();
                assert_eq!(by_tree(&text).unwrap(), other, "{}", path.display());
                read += 1;
            }
        }
    }
    assert!(read > 20, "{read} files were found");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// What is accepted is the same tree to both parsers.
    #[test]
    fn both_parsers_see_the_same_tree(
        comment in "([ -~]|[\\u{80}-\\u{ff}]|[\\u{2020}-\\u{2030}]|[\\t\\r\\u{b}\\u{c}\\u{feff}]|\\n# ){0,12}",
        text in "[a-z \\u{80}-\\u{ff}\\u{2020}-\\u{2030}#:'\"\\t\\r]{0,10}",
    ) {
        let quoted = format!("'{}'", text.replace('\'', "''"));
        for document in [
            format!("a: x # {comment}\nb: [z, 'z'] # {comment}\nc:\n  d: {quoted}\n"),
            format!("# {comment}\na: {quoted} # {comment}\nfirewall: {{ mode: enforce }}\n"),
        ] {
            if let Ok(ours) = by_tree(&document) {
                prop_assert_eq!(ours, by_libyaml(&document).unwrap(), "{:?}", document);
            }
        }
    }

    /// Whatever the text: where both read something, it is the same. Keys are text here. A block of text at the very end of a
    /// file without a last line feed has one here, and none to libyaml.
    #[test]
    fn any_text_is_the_same_tree_to_both_parsers(
        text in "([ab:,'\"?#|>&*!%@{}\\[\\]\\-]|\\n|\\n  |\\n- |\\n    |: |- |\\t|---\\n|\\.\\.\\.\\n|\\\\){0,24}",
    ) {
        for text in [format!("{text}\n"), format!("a:\n  - b: {text}\nc: d\n")] {
            let (ours, other) = (by_tree(&text), by_libyaml(&text));
            if let (Ok(ours @ [_, ..]), Ok(other)) = (ours.as_deref(), other) {
                let other: Vec<Value> = other.into_iter().map(with_text_keys).collect();
                prop_assert_eq!(ours, other.as_slice(), "{:?}", text);
            }
        }
    }
}

fn with_text_keys(value: Value) -> Value {
    match value {
        Value::Sequence(items) => Value::Sequence(items.into_iter().map(with_text_keys).collect()),
        Value::Mapping(entries) => {
            let key = |key: Value| match key {
                Value::Null => Value::String(String::new()),
                other => other,
            };
            let entries = entries.into_iter().map(|(k, v)| (key(k), with_text_keys(v)));
            Value::Mapping(entries.collect())
        }
        other => other,
    }
}
