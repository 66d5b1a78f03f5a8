//! Settings that are in effect, as daemons themselves tell them: `/flagz`, and `/configz` of kubelets and kube-proxy.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::checks::node::staged::scalar;
use crate::checks::{Verdict, flag_words, rule, setting_words};
use crate::controls::{CATALOGUE, Check, Config, Daemon, Rule};
use crate::inventory::{Inventory, Node};

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
            wanted.insert(name.replace('_', "-"), value.to_owned());
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
    judged.into_iter().collect()
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
        assert!(
            settings(Config::Kubelet, &inventory, &inventory.nodes[0], Err("x"))
                .iter()
                .all(|(_, v)| v.outcome() == Outcome::Unknown)
        );
    }
}
