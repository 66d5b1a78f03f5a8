//! Rules for single values: the text of a flag, a setting, a YAML scalar.

use std::net::IpAddr;

use crate::checks::model::Verdict;
use crate::controls::Rule;

/// What the value is to be, in words.
pub fn expectation(rule: &Rule) -> String {
    match rule {
        Rule::Is(v) => format!("`{v}`"),
        Rule::OneOf(vs) => format!("one of {}", vs.join(", ")),
        Rule::OneOfOrAbsent(vs) => format!("not set, or one of {}", vs.join(", ")),
        Rule::IsOrAbsent(v) => format!("not set, or `{v}`"),
        Rule::Absent => "not set".to_owned(),
        Rule::Given => "given".to_owned(),
        Rule::Has(v) => format!("a list with {v}"),
        Rule::Lacks(v) => format!("a list without {v}"),
        Rule::Within(_) => "only suites with forward secrecy and AEAD".to_owned(),
        Rule::AtLeast(n) => format!("{n} or more"),
        Rule::Seconds(low, high) => format!("a duration from {low} s to {high} s"),
        Rule::Https => "https:// only".to_owned(),
        Rule::LoopbackUrls | Rule::Loopback => "a loopback address".to_owned(),
    }
}

/// Whether a rule takes a list, so that a flag given twice adds to it.
pub fn is_list(rule: &Rule) -> bool {
    matches!(
        rule,
        Rule::Has(_) | Rule::Lacks(_) | Rule::Within(_) | Rule::Https | Rule::LoopbackUrls
    )
}

/// Whether a rule wants a truth value: such a flag takes its value only after `=`.
pub fn is_bool(rule: &Rule) -> bool {
    matches!(rule, Rule::Is("true" | "false") | Rule::IsOrAbsent("true" | "false"))
}

/// Judges one value; `None` means that it is not given.
pub fn judge(rule: &Rule, value: Option<&str>) -> Verdict {
    if holds(rule, value) {
        Verdict::pass(shown(value))
    } else {
        Verdict::fail(expectation(rule), shown(value))
    }
}

/// A value for a report: bounded, and without control characters.
pub fn shown(value: Option<&str>) -> String {
    match value {
        None => "not set".to_owned(),
        Some("") => "empty".to_owned(),
        Some(v) => {
            let clean: String =
                v.chars().take(160).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
            if clean.len() < v.len() { format!("`{clean}...`") } else { format!("`{clean}`") }
        }
    }
}

fn holds(rule: &Rule, value: Option<&str>) -> bool {
    let list = |v: &str| -> Vec<String> {
        v.split(',').map(|i| i.trim().to_owned()).filter(|i| !i.is_empty()).collect()
    };
    match (rule, value) {
        (Rule::Absent | Rule::IsOrAbsent(_) | Rule::OneOfOrAbsent(_) | Rule::Lacks(_), None) => {
            true
        }
        (Rule::Absent, Some(_)) | (_, None) => false,
        (Rule::Is(want) | Rule::IsOrAbsent(want), Some(v)) => v == *want,
        (Rule::OneOf(wants) | Rule::OneOfOrAbsent(wants), Some(v)) => wants.contains(&v),
        (Rule::Given, Some(v)) => !v.trim().is_empty(),
        (Rule::Has(want), Some(v)) => list(v).iter().any(|i| i == want),
        (Rule::Lacks(not), Some(v)) => !list(v).iter().any(|i| i == not),
        (Rule::Within(set), Some(v)) => {
            let items = list(v);
            !items.is_empty() && items.iter().all(|i| set.contains(&i.as_str()))
        }
        (Rule::AtLeast(least), Some(v)) => v.trim().parse::<i64>().is_ok_and(|n| n >= *least),
        (Rule::Seconds(low, high), Some(v)) => {
            seconds(v).is_some_and(|s| s >= *low as f64 && s <= *high as f64)
        }
        (Rule::Https, Some(v)) => {
            let items = list(v);
            !items.is_empty() && items.iter().all(|i| i.starts_with("https://"))
        }
        (Rule::LoopbackUrls, Some(v)) => {
            let items = list(v);
            !items.is_empty()
                && items.iter().all(|i| i.split_once("://").is_some_and(|(_, a)| loopback(a)))
        }
        (Rule::Loopback, Some(v)) => loopback(v),
    }
}

/// Whether an address, with or without a port, is a loopback one. A name is not: what it resolves
/// to is for the node to say.
pub fn loopback(text: &str) -> bool {
    let text = text.trim_end_matches('/');
    let ip = |t: &str| t.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let address = ip(text).or_else(|| ip(text.rsplit_once(':')?.0));
    address.is_some_and(|a| match a {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.to_ipv4_mapped().is_some_and(|m| m.is_loopback()),
    })
}

/// A Go duration (<https://pkg.go.dev/time#ParseDuration>) in seconds.
pub fn seconds(text: &str) -> Option<f64> {
    const UNITS: &[(&str, f64)] =
        &[("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
    if text == "0" {
        return Some(0.0);
    }
    let (mut rest, mut sum) = (text, 0.0);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let (unit, factor) = UNITS.iter().find(|(u, _)| rest[end..].starts_with(u))?;
        sum += number * factor;
        rest = &rest[end + unit.len()..];
    }
    Some(sum)
}

/// A path of the node in a message.
pub(super) fn plain_path(path: &str) -> String {
    shown(Some(path)).trim_matches('`').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controls::STRONG_SUITES;

    /// A rule, a value that holds, and values that do not.
    type Row = (Rule, Option<&'static str>, &'static [Option<&'static str>]);

    const TABLE: &[Row] = &[
        (Rule::Is("false"), Some("false"), &[None, Some("true"), Some(""), Some("False ")]),
        (Rule::OneOf(&["a", "b"]), Some("b"), &[None, Some("c"), Some("a,b")]),
        (Rule::OneOfOrAbsent(&["a"]), None, &[Some("b"), Some("")]),
        (Rule::IsOrAbsent("0"), None, &[Some("1"), Some("")]),
        (Rule::Absent, None, &[Some(""), Some("x")]),
        (Rule::Given, Some("x"), &[None, Some(""), Some(" ")]),
        (Rule::Has("A"), Some("B, A"), &[None, Some("AA"), Some("B")]),
        (Rule::Lacks("A"), Some("AA,B"), &[Some("A"), Some("B, A")]),
        (Rule::Lacks("A"), None, &[Some("A,B")]),
        (
            Rule::Within(STRONG_SUITES),
            Some("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
            &[
                None,
                Some(""),
                Some("TLS_RSA_WITH_AES_128_CBC_SHA"),
                Some("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_RSA_WITH_AES_128_GCM_SHA256"),
            ],
        ),
        (Rule::AtLeast(30), Some("30"), &[None, Some("29"), Some("-1"), Some("30d"), Some("")]),
        (
            Rule::Seconds(300, 600),
            Some("5m0s"),
            &[None, Some("0s"), Some("4h"), Some("5"), Some("")],
        ),
        (Rule::Https, Some("https://a,https://b"), &[None, Some(""), Some("https://a,http://b")]),
        (
            Rule::LoopbackUrls,
            Some("http://127.0.0.1:2381,http://[::1]:2381"),
            &[None, Some("http://10.0.0.1:2381"), Some("http://127.0.0.1:1,http://0.0.0.0:2")],
        ),
        (
            Rule::Loopback,
            Some("127.0.0.1:10249"),
            &[None, Some("0.0.0.0:10249"), Some("localhost")],
        ),
        (Rule::Loopback, Some("[::1]:10249"), &[Some("[::]:10249"), Some(":10249")]),
        (Rule::Loopback, Some("::1"), &[Some("::"), Some("")]),
    ];

    #[test]
    fn each_rule_passes_what_it_should_and_nothing_else() {
        for (rule, good, bad) in TABLE {
            assert!(matches!(judge(rule, *good), Verdict::Pass { .. }), "{rule:?} {good:?}");
            for value in *bad {
                assert!(matches!(judge(rule, *value), Verdict::Fail { .. }), "{rule:?} {value:?}");
            }
        }
    }

    /// What a row sets has to hold by its own rule: nothing else would notice before a node fails.
    #[test]
    fn what_a_row_sets_is_what_it_is_judged_by() {
        use crate::controls::set::{SUITES, Set};
        use crate::controls::{CATALOGUE, Check};
        let suites = SUITES.join(",");
        let mut judged_rows = 0;
        for c in CATALOGUE {
            for check in c.checks {
                let (Check::Flag(_, _, rule, set) | Check::Setting(_, _, rule, _, set)) = check
                else {
                    continue;
                };
                let value = match *set {
                    Set::To(v) | Set::Always(v) | Set::Listed(v) | Set::Switch { on: v, .. } => {
                        Some(v)
                    }
                    Set::Suites => Some(suites.as_str()),
                    Set::Nothing => None,
                    Set::AsJudged | Set::Inventory(..) | Set::Elsewhere(_) => continue,
                };
                assert!(holds(rule, value), "{}: {}", c.id, crate::checks::check_words(check));
                judged_rows += 1;
            }
        }
        assert!(judged_rows > 40, "{judged_rows}");
    }

    #[test]
    fn go_durations() {
        for (text, want) in [("1h0m0s", 3600.0), ("500ms", 0.5), ("168h", 604_800.0), ("0", 0.0)] {
            assert_eq!(seconds(text), Some(want), "{text}");
        }
        for text in ["", "5", "m", "1x", "-5m", "1.2.3s"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
