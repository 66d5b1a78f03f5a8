//! sshd's settings as they are in effect: `sshd -T`, and what `Match` lines say of some connections.

use std::collections::BTreeMap;

use crate::checks::basis::Basis;
use crate::checks::model::Verdict;
use crate::checks::observed::{Origin, SSHD_DROP_IN, sshd_settings};
use crate::checks::rule::{self, shown};
use crate::controls::Rule;

pub(in crate::checks) fn setting(key: &str, rule: &Rule, on: &Basis<'_>) -> Verdict {
    let Some(settings) = &on.seen.sshd else {
        return on.seen.blind("sshd -T gave no settings");
    };
    match settings.get(key) {
        // Effective settings name every keyword that this release knows; a drop-in does not.
        None if on.seen.origin == Origin::Rendered => on.seen.blind(key),
        values => {
            let value = values.map(|v| v.join(" ").to_ascii_lowercase());
            let verdict = rule::judge(rule, value.as_deref());
            let holds = matches!(verdict, Verdict::Pass { .. });
            if holds && on.seen.origin == Origin::Node {
                return for_some(key, on, |value| rule::judge(rule, Some(value)))
                    .unwrap_or(verdict);
            }
            verdict
        }
    }
}

/// The verdict where sshd's files say something else for some connections. Whether there will be such
/// connections is not asked: a `Match` line can be about anything that a client brings along.
fn for_some(key: &str, on: &Basis<'_>, judge: impl Fn(&str) -> Verdict) -> Option<Verdict> {
    let Some(settings) = &on.seen.sshd_matches else {
        return Some(Verdict::unknown("sshd's files could not be searched for `Match` lines"));
    };
    let weaker = settings.iter().filter(|s| keyword(&s.key) == key).find_map(|s| {
        let verdict = judge(&s.value.to_ascii_lowercase());
        let Verdict::Fail { expected, actual } = verdict else { return None };
        let file = rule::shown(Some(&s.file));
        Some(Verdict::fail(
            expected,
            format!("{actual} for some connections, by a `Match` line in {file}"),
        ))
    });
    let included = || {
        let include = settings.iter().find(|s| s.key == "include")?;
        let file = rule::shown(Some(&include.file));
        Some(Verdict::unknown(format!(
            "a `Match` line in {file} includes files that were not read"
        )))
    };
    weaker.or_else(included)
}

/// A keyword under the name that `sshd -T` has for it.
fn keyword(key: &str) -> &str {
    match key {
        "challengeresponseauthentication" | "skeyauthentication" => "kbdinteractiveauthentication",
        key => key,
    }
}

/// Keywords that have to have these values whatever our file on the node says by now.
const ALWAYS: &[(&str, &str)] = &[
    ("gatewayports", "no"),
    ("hostbasedauthentication", "no"),
    ("ignorerhosts", "yes"),
    ("permittunnel", "no"),
    ("permituserenvironment", "no"),
    ("strictmodes", "yes"),
];

/// Every setting of our file is in effect, or a stricter one. That the file is the one that the inventory makes is a plan's
/// to say.
pub(in crate::checks) fn settings(on: &Basis<'_>) -> Verdict {
    let text = match on.seen.text(SSHD_DROP_IN) {
        Ok(text) => text,
        Err(verdict) => return verdict,
    };
    let Some(effective) = &on.seen.sshd else {
        return on.seen.blind("sshd -T gave no settings");
    };
    let ours = sshd_settings(text);
    let ours = ours.iter().map(|(key, values)| (key.as_str(), values.join(" ")));
    let always = ALWAYS.iter().map(|&(key, value)| (key, value.to_owned()));
    let all: BTreeMap<&str, String> = ours.chain(always).collect();
    let (mut wrong, mut unknown) = (Vec::new(), None);
    for (key, wanted) in &all {
        let Some(value) = effective.get(*key).map(|v| v.join(" ")) else {
            // Older releases have another name for it, and a row of its own judges it.
            if *key != "kbdinteractiveauthentication" {
                unknown = Some(Verdict::unknown(format!("sshd -T does not print {key}")));
            }
            continue;
        };
        let judge = |value: &str| match is_as_strict(key, wanted, value) {
            true => Verdict::pass(value),
            false => Verdict::fail(wanted.as_str(), format!("{key} is {}", shown(Some(value)))),
        };
        let verdict = match judge(&value) {
            Verdict::Pass { .. } if on.seen.origin == Origin::Node => for_some(key, on, judge),
            verdict => Some(verdict),
        };
        match verdict {
            Some(Verdict::Fail { expected, actual }) => {
                wrong.push(format!("{actual}, expected {expected}"));
            }
            Some(verdict @ Verdict::Unknown { .. }) => unknown = Some(verdict),
            _ => {}
        }
    }
    // Of every session, root's too: LD_PRELOAD, for example (sshd_config(5), SetEnv).
    let set: Vec<&String> = effective.get("setenv").into_iter().flatten().collect();
    if let Some(first) = set.first() {
        wrong.push(format!("setenv is {}, expected none", shown(Some(first))));
    } else if on.seen.origin == Origin::Node {
        match for_some("setenv", on, |value| {
            Verdict::fail("none", format!("setenv is {}", shown(Some(value))))
        }) {
            Some(Verdict::Fail { expected, actual }) => {
                wrong.push(format!("{actual}, expected {expected}"));
            }
            Some(verdict) => unknown = Some(verdict),
            None => {}
        }
    }
    // Of a session, from the client: BASH_ENV, for example, where a command is forced.
    let accepted = effective.get("acceptenv").into_iter().flatten();
    let others: Vec<&str> =
        accepted.flat_map(|v| v.split_whitespace()).filter(|v| !is_harmless(v)).collect();
    if !others.is_empty() {
        let value = shown(Some(&others.join(" ")));
        wrong.push(format!(
            "acceptenv has {value}, expected no more than {HARMLESS_TEXT} (take it out of sshd's files)"
        ));
    } else if on.seen.origin == Origin::Node {
        match for_some("acceptenv", on, |value| match value.split_whitespace().all(is_harmless) {
            true => Verdict::pass(value),
            false => Verdict::fail(HARMLESS_TEXT, format!("acceptenv has {}", shown(Some(value)))),
        }) {
            Some(Verdict::Fail { expected, actual }) => {
                wrong.push(format!("{actual}, expected no more than {expected}"));
            }
            Some(verdict) => unknown = Some(verdict),
            None => {}
        }
    }
    match unknown {
        Some(verdict) if wrong.is_empty() => verdict,
        _ => crate::checks::model::verdict(
            "the settings of kubastion's file, or stricter ones",
            wrong,
            || format!("{} settings", all.len()),
        ),
    }
}

/// Variables that a client may set: they choose languages and colours.
const HARMLESS: &[&str] = &["lang", "language", "lc_*", "colorterm", "no_color", "xmodifiers"];
const HARMLESS_TEXT: &str = "LANG LC_* COLORTERM NO_COLOR";

/// Whether a pattern of variables that a client may set is one of these, or a single variable of theirs.
fn is_harmless(pattern: &str) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    let is_plain = |name: &str| !name.contains(['*', '?', '!']);
    HARMLESS.contains(&pattern.as_str()) || pattern.strip_prefix("lc_").is_some_and(is_plain)
}

/// Whether a setting in effect allows no more than the wanted one.
fn is_as_strict(key: &str, wanted: &str, value: &str) -> bool {
    let (wanted, value) = (wanted.to_ascii_lowercase(), value.to_ascii_lowercase());
    if wanted == value {
        return true;
    }
    match key {
        "ciphers" | "macs" | "kexalgorithms" | "hostkeyalgorithms" | "pubkeyacceptedalgorithms" => {
            allows_no_more(&wanted, &value)
        }
        // 0 is no limit, but of sessions, where it is none of them.
        "maxauthtries"
        | "maxsessions"
        | "logingracetime"
        | "clientaliveinterval"
        | "clientalivecountmax" => {
            let number = |text: &str| text.parse::<u32>().ok();
            let least = u32::from(key != "maxsessions");
            number(&value).zip(number(&wanted)).is_some_and(|(v, w)| v >= least && v <= w)
        }
        "permitrootlogin" => {
            let with_keys = |v: &str| matches!(v, "prohibit-password" | "without-password");
            value == "no" || with_keys(&value) && with_keys(&wanted)
        }
        // Forwarding is `local` for the sake of nodes that are reached through this one.
        "allowtcpforwarding" => value == "no",
        _ => false,
    }
}

/// Whether algorithms in effect are among the wanted ones, which are a list, or after `-` patterns for what is taken away
/// from sshd's own (sshd_config(5)).
fn allows_no_more(wanted: &str, value: &str) -> bool {
    // What a `Match` line or a drop-in adds to sshd's own list is none.
    if value.is_empty() || value.starts_with(['-', '+', '^']) {
        return false;
    }
    match wanted.strip_prefix('-') {
        Some(patterns) => {
            !value.split(',').any(|name| patterns.split(',').any(|p| is_match(p, name)))
        }
        None => value.split(',').all(|name| wanted.split(',').any(|w| w == name)),
    }
}

/// A pattern of ssh_config(5), without negation.
fn is_match(pattern: &str, name: &str) -> bool {
    match pattern.chars().next() {
        None => name.is_empty(),
        Some('*') => {
            let rest = &pattern[1..];
            (0..=name.len()).any(|at| name.is_char_boundary(at) && is_match(rest, &name[at..]))
        }
        Some(c) => {
            let mut names = name.chars();
            names.next().is_some_and(|n| c == '?' || n == c)
                && is_match(&pattern[c.len_utf8()..], names.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_algorithms_are_sets() {
        assert!(allows_no_more("-aes*-cbc,3des-cbc", "aes256-ctr,aes128-gcm@openssh.com"));
        assert!(!allows_no_more("-aes*-cbc,3des-cbc", "aes256-ctr,aes128-cbc"));
        assert!(allows_no_more("a,b", "b"));
        assert!(!allows_no_more("a,b", "b,c"));
        assert!(!allows_no_more("-x", "+3des-cbc"));
    }

    #[test]
    fn a_client_may_set_its_language_and_nothing_else() {
        assert!(["LANG", "LC_*", "LC_ALL", "COLORTERM", "NO_COLOR"].into_iter().all(is_harmless));
        assert!(!["*", "L*", "LANG*", "BASH_ENV", "LC_?*"].into_iter().any(is_harmless));
    }

    #[test]
    fn zero_is_no_limit() {
        for key in ["logingracetime", "clientaliveinterval", "clientalivecountmax", "maxauthtries"]
        {
            assert!(!is_as_strict(key, "30", "0"), "{key}");
            assert!(is_as_strict(key, "30", "29") && !is_as_strict(key, "30", "31"), "{key}");
        }
        assert!(is_as_strict("maxsessions", "10", "0"));
        assert!(is_as_strict("permitrootlogin", "prohibit-password", "without-password"));
        assert!(!is_as_strict("permitrootlogin", "no", "without-password"));
    }
}
