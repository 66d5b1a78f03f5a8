//! Settings that are in effect, as daemons themselves tell them: `/flagz`, and `/configz` of kubelets and kube-proxy.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::checks::node::staged::scalar;
use crate::checks::{Verdict, flag_words, rule, setting_words};
use crate::controls::{CATALOGUE, Check, Config, Daemon, Rule};
use crate::inventory::{Component, Inventory, Node, fields};

/// Flags as `/flagz` lists them. The page promises no format: name and value are parted by a colon,
/// an equals sign or a space.
pub(super) fn parse_flagz(page: &str) -> BTreeMap<String, String> {
    let mut flags = BTreeMap::new();
    for line in page.lines() {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        let Some(end) = line.find(|c| !is_name(c)) else { continue };
        let (name, rest) = line.split_at(end);
        if name.is_empty() || !rest.starts_with([':', '=', ' ']) {
            continue;
        }
        flags.insert(name.replace('_', "-"), rest[1..].trim().to_owned());
    }
    flags
}

/// A value in one of the ways that flags are written: lists without brackets, sorted where order says
/// nothing, durations in seconds.
fn plain(name: &str, value: &str) -> String {
    let value = value.trim().trim_matches('"');
    let inner = value.strip_prefix('[').and_then(|v| v.strip_suffix(']')).unwrap_or(value);
    let ordered = matches!(name, "authorization-mode" | "etcd-servers");
    if inner.contains(',') && !ordered {
        let mut items: Vec<&str> = inner.split(',').map(str::trim).collect();
        items.sort_unstable();
        return items.join(",");
    }
    match rule::seconds(inner) {
        Some(seconds) if inner.ends_with(|c: char| c.is_ascii_alphabetic()) => {
            format!("{seconds} s")
        }
        _ => inner.to_owned(),
    }
}

/// Each flag of a command line against what the daemon says is in effect.
pub(super) fn flags(
    daemon: Daemon,
    argv: &[String],
    page: Result<&str, &str>,
) -> Vec<(String, Verdict)> {
    let mut wanted: BTreeMap<String, String> = BTreeMap::new();
    for word in argv.iter().skip(1) {
        if let Some((name, value)) = word.strip_prefix("--").and_then(|f| f.split_once('=')) {
            // A flag that is repeated is one list there.
            let all = wanted.entry(name.replace('_', "-")).or_default();
            if !all.is_empty() {
                all.push(',');
            }
            all.push_str(value);
        }
    }
    let effective = page.map(parse_flagz);
    let judged = wanted.into_iter().map(|(name, wanted)| {
        let verdict = match &effective {
            Err(why) => Verdict::unknown((*why).to_owned()),
            Ok(flags) if flags.is_empty() => Verdict::unknown("/flagz lists no flag"),
            Ok(flags) => match flags.get(&name) {
                None => Verdict::unknown("/flagz does not list it"),
                Some(actual) if plain(&name, actual) == plain(&name, &wanted) => {
                    Verdict::pass(rule::shown(Some(actual)))
                }
                Some(actual) => {
                    Verdict::fail(rule::shown(Some(&wanted)), rule::shown(Some(actual)))
                }
            },
        };
        (flag_words(daemon, &name), verdict)
    });
    judged.collect()
}

/// The value of a key, whose first letters kube-proxy writes as Go does: its `/configz` shows its own structures.
fn get<'v>(object: &'v Value, key: &str) -> Option<&'v Value> {
    let object = object.as_object()?;
    object.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v)
}

/// Each setting of a configuration file that a control is about, in the configuration that is in effect.
pub(super) fn settings(
    of: Config,
    inventory: &Inventory,
    node: &Node,
    config: Result<&Value, &str>,
) -> Vec<(String, Verdict)> {
    let rows = CATALOGUE.iter().filter(|c| c.scope.holds(inventory, node) && c.wanted(inventory));
    let checks = rows.flat_map(|c| c.checks);
    let mut judged = BTreeMap::new();
    for check in checks {
        let Check::Setting(config_file, path, wanted, ..) = check else { continue };
        if *config_file != of {
            continue;
        }
        let verdict = match config {
            Err(why) => Verdict::unknown(why.to_owned()),
            Ok(config) => {
                let value = path.iter().try_fold(config, |v, key| get(v, key));
                let value = value.and_then(crate::yaml::to_value);
                // Go leaves zero values out.
                let value = value.as_ref().and_then(scalar).or(match wanted {
                    Rule::Is(zero @ ("0" | "false")) => Some((*zero).to_owned()),
                    _ => None,
                });
                rule::judge(wanted, value.as_deref())
            }
        };
        judged.insert(setting_words(of, path), verdict);
    }
    judged.extend(passed(of, inventory, config));
    judged.into_iter().collect()
}

/// Each field that the inventory passes through, in the configuration that is in effect.
fn passed<'i>(
    of: Config,
    inventory: &'i Inventory,
    config: Result<&'i Value, &'i str>,
) -> impl Iterator<Item = (String, Verdict)> + 'i {
    let component = match of {
        Config::Kubelet => Component::Kubelet,
        Config::KubeProxy => Component::KubeProxy,
    };
    fields(inventory.extra_fields(component)).into_iter().map(move |(way, wanted)| {
        let verdict = match config {
            Err(why) => Verdict::unknown(why.to_owned()),
            Ok(config) => {
                let actual = way.iter().try_fold(config, |v, key| get(v, key));
                let words = |v: &Value| rule::shown(Some(&plain_json(v)));
                match actual {
                    Some(actual) if is_same(wanted, actual) => Verdict::pass(words(actual)),
                    // Go leaves zero values out.
                    None if is_zero(wanted) => Verdict::pass("not set"),
                    Some(actual) => Verdict::fail(words(wanted), words(actual)),
                    None => Verdict::fail(words(wanted), "not set"),
                }
            }
        };
        (setting_words(of, &way), verdict)
    })
}

/// A string without its quotes, all else as JSON.
fn plain_json(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || rule::seconds(text) == Some(0.0),
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        Value::Bool(true) => false,
    }
}

/// Whether a daemon means what was written: durations are spelled in another way.
fn is_same(wanted: &Value, actual: &Value) -> bool {
    let seconds = |v: &Value| v.as_str().and_then(rule::seconds);
    let durations = seconds(wanted).is_some() && seconds(wanted) == seconds(actual);
    wanted == actual || durations || (is_zero(wanted) && is_zero(actual))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::checks::Outcome;
    use crate::inventory::{Role, testing};

    const PAGE: &str = "\napiserver flagz\nWarning: not meant to be machine parseable\n\n\
        anonymous-auth:false\nauthorization-mode=[Node,RBAC]\nrequest-timeout 1m0s\n\
        tls-cipher-suites:[B,A]\nfeature-gates:\nprofiling: true\n";

    #[test]
    fn each_difference_is_named() {
        let argv = [
            "kube-apiserver",
            "--anonymous-auth=false",
            "--authorization-mode=Node,RBAC",
            "--request-timeout=60s",
            "--tls-cipher-suites=A,B",
            "--profiling=false",
            "--unheard-of=1",
        ];
        let argv: Vec<String> = argv.iter().map(|a| (*a).to_owned()).collect();
        let outcomes = |page| -> BTreeMap<String, Outcome> {
            let judged = flags(Daemon::Apiserver, &argv, page);
            judged.into_iter().map(|(what, v)| (what, v.outcome())).collect()
        };
        let made = outcomes(Ok(PAGE));
        let of = |name: &str| made[&flag_words(Daemon::Apiserver, name)];
        for name in ["anonymous-auth", "authorization-mode", "request-timeout", "tls-cipher-suites"]
        {
            assert_eq!(of(name), Outcome::Pass, "{name}");
        }
        assert_eq!(of("profiling"), Outcome::Fail);
        assert_eq!(of("unheard-of"), Outcome::Unknown);
        assert!(outcomes(Err("404")).values().all(|o| *o == Outcome::Unknown));
        assert!(outcomes(Ok("<html>")).values().all(|o| *o == Outcome::Unknown));
        let swapped = PAGE.replace("Node,RBAC", "RBAC,Node");
        let made = outcomes(Ok(&swapped));
        assert_eq!(made[&flag_words(Daemon::Apiserver, "authorization-mode")], Outcome::Fail);
    }

    #[test]
    fn what_the_kubelet_says_is_judged_by_the_rules_of_its_rows() {
        let inventory = testing::of_nodes([("cp1", Role::ControlPlane), ("w1", Role::Worker)]);
        let config = json!({
            "staticPodPath": "/etc/kubernetes/manifests",
            "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": true}},
            "streamingConnectionIdleTimeout": "5m0s", "podPidsLimit": 4096,
        });
        let made: BTreeMap<String, Outcome> =
            settings(Config::Kubelet, &inventory, &inventory.nodes[0], Ok(&config))
                .into_iter()
                .map(|(w, v)| (w, v.outcome()))
                .collect();
        let of = |path: &[&str]| made[&setting_words(Config::Kubelet, path)];
        assert_eq!(of(&["authentication", "anonymous", "enabled"]), Outcome::Fail);
        assert_eq!(of(&["authentication", "webhook", "enabled"]), Outcome::Pass);
        assert_eq!(of(&["streamingConnectionIdleTimeout"]), Outcome::Pass);
        assert_eq!(of(&["readOnlyPort"]), Outcome::Pass, "a zero that is left out");
        assert_eq!(of(&["protectKernelDefaults"]), Outcome::Fail);
        assert!(
            !made.contains_key(&setting_words(Config::Kubelet, &["staticPodPath"])),
            "a control plane has one"
        );
        let worker: BTreeMap<_, _> =
            settings(Config::Kubelet, &inventory, &inventory.nodes[1], Ok(&config))
                .into_iter()
                .collect();
        assert_eq!(
            worker[&setting_words(Config::Kubelet, &["staticPodPath"])].outcome(),
            Outcome::Fail
        );
        let mut passed = inventory.clone();
        passed.kubelet = crate::yaml::from_text(
            "extra: {podPidsLimit: 4096, a: {b: 5m0s, c: [1]}, d: false, e: 1}\n",
        )
        .unwrap();
        let config = json!({"a": {"b": "300s", "c": [1, 2]}});
        let made: BTreeMap<String, Outcome> =
            settings(Config::Kubelet, &passed, &passed.nodes[1], Ok(&config))
                .into_iter()
                .map(|(w, v)| (w, v.outcome()))
                .collect();
        let of = |path: &[&str]| made[&setting_words(Config::Kubelet, path)];
        assert_eq!((of(&["a", "b"]), of(&["d"])), (Outcome::Pass, Outcome::Pass));
        assert_eq!((of(&["a", "c"]), of(&["e"])), (Outcome::Fail, Outcome::Fail));
        assert!(
            settings(Config::Kubelet, &inventory, &inventory.nodes[0], Err("x"))
                .iter()
                .all(|(_, v)| v.outcome() == Outcome::Unknown)
        );
    }
}
