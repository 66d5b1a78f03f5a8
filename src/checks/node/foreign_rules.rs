//! nftables rules of others that change what ours judge.
//!
//! What other tables drop is dropped, and what they accept ours still see (nft(8), "verdict statements"). But a rule of theirs that
//! gives a packet another address or port, or keeps it from connection tracking, makes another packet of it before ours
//! look. Rules of kube-proxy and of CNI plugins, known by the names of their chains, are not looked at.

use serde_json::Value;

use crate::checks::basis::Basis;
use crate::checks::basis::live;
use crate::checks::model::Verdict;
use crate::checks::model::verdict;
use crate::checks::rule::plain_path;
use crate::inventory::FirewallMode;

/// Chains that may be jumped to: those of kube-proxy, the kubelet and CNI plugins, by the beginnings of their names.
const KNOWN_CHAINS: &[&str] = &["KUBE-", "CNI-", "cali-", "CILIUM_"];

/// Statements that change nothing that ours go by (libnftables-json(5)). Source addresses are rewritten after our rules.
const HARMLESS: &[&str] = &[
    "match",
    "counter",
    "log",
    "comment",
    "limit",
    "quota",
    "ct count",
    "accept",
    "drop",
    "reject",
    "return",
    "continue",
    "jump",
    "goto",
    "vmap",
    "set",
    "map",
    "meter",
    "masquerade",
    "snat",
];

/// iptables targets of that kind (iptables-extensions(8)).
const HARMLESS_TARGETS: &[&str] =
    &["LOG", "NFLOG", "REJECT", "MASQUERADE", "SNAT", "TCPMSS", "CHECKSUM", "MARK"];

pub(in crate::checks) fn judge(on: &Basis<'_>) -> Verdict {
    if on.inventory.firewall_mode() == FirewallMode::Off {
        return Verdict::not_applicable("the inventory says `firewall.mode: off`");
    }
    let live = match live(on) {
        Ok(live) => live,
        Err(verdict) => return verdict,
    };
    let Some(documents) = &live.foreign_rules else {
        return Verdict::unknown("nft did not list the rules of other tables");
    };
    let mut entries = Vec::new();
    for document in documents {
        match document.get("nftables").and_then(Value::as_array) {
            Some(found) => entries.extend(found),
            None => return Verdict::unknown("nft's output cannot be parsed"),
        }
    }
    let rules: Vec<&Value> = entries.into_iter().filter_map(|e| e.get("rule")).collect();
    let mut wrong: Vec<String> = Vec::new();
    for rule in &rules {
        let text = |key: &str| rule.get(key).and_then(Value::as_str).unwrap_or_default();
        let Some(expressions) = rule.get("expr").and_then(Value::as_array) else {
            return Verdict::unknown("nft listed a rule without its statements");
        };
        let Some(does) = changes(expressions) else { continue };
        let (family, table, chain) = (text("family"), text("table"), text("chain"));
        let found =
            format!("chain {} of table {family} {} {does}", plain_path(chain), plain_path(table));
        if !wrong.contains(&found) {
            wrong.push(found);
        }
    }
    match legacy(live.legacy_rules.as_deref()) {
        Ok(more) => wrong.extend(more),
        Err(verdict) => return verdict,
    }
    verdict("no foreign rule that rewrites packets", wrong, || format!("{} rules", rules.len()))
}

/// Targets of iptables that decide about a packet (iptables(8)).
const VERDICTS: &[&str] = &["ACCEPT", "DROP", "RETURN", "QUEUE"];

/// Rules of the older iptables that rewrite packets, as iptables-save(8) writes them.
fn legacy(lines: Option<&[String]>) -> Result<Vec<String>, Verdict> {
    let Some(lines) = lines else { return Ok(Vec::new()) };
    let chains: Vec<&str> =
        lines.iter().filter_map(|l| l.strip_prefix(':')?.split(' ').next()).collect();
    if chains.is_empty() {
        let why = "iptables tables are in use, and iptables-save did not list them";
        return Err(Verdict::unknown(why));
    }
    let mut table = "";
    let mut wrong = Vec::new();
    for line in lines {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        }
        let Some(rule) = line.strip_prefix("-A ") else { continue };
        let words: Vec<&str> = rule.split(' ').collect();
        let target = words.windows(2).rfind(|w| w[0] == "-j" || w[0] == "-g").map(|w| w[1]);
        let Some(target) = target else { continue };
        let harmless = VERDICTS.contains(&target)
            || HARMLESS_TARGETS.contains(&target)
            || KNOWN_CHAINS.iter().any(|known| target.starts_with(known))
            || chains.contains(&target);
        let found = format!("chain {} of iptables table {} does {target}", words[0], table);
        let found = plain_path(&found);
        if !harmless && !wrong.contains(&found) {
            wrong.push(found);
        }
    }
    Ok(wrong)
}

/// What a rule does to a packet that ours see later, if anything.
fn changes(expressions: &[Value]) -> Option<String> {
    let statements = || expressions.iter().filter_map(|e| e.as_object()?.iter().next());
    let to_known = statements().any(|(kind, value)| {
        let target = value.get("target").and_then(Value::as_str).unwrap_or_default();
        matches!(kind.as_str(), "jump" | "goto")
            && KNOWN_CHAINS.iter().any(|known| target.starts_with(known))
    });
    let has_verdict = statements().any(|(kind, _)| {
        ["accept", "drop", "reject", "return", "jump", "goto", "masquerade"]
            .contains(&kind.as_str())
    });
    statements().find_map(|(kind, value)| match kind.as_str() {
        kind if HARMLESS.contains(&kind) => None,
        // Marks, priorities and options of TCP are nothing that our rules go by.
        "mangle" => {
            let key = value.get("key")?.as_object()?.keys().next()?.as_str();
            (!["meta", "ct", "tcp option"].contains(&key)).then(|| "rewrites packets".to_owned())
        }
        "xt" => match (value.get("type").and_then(Value::as_str), value.get("name")) {
            (Some("match"), _) => None,
            (Some("target"), Some(name)) if HARMLESS_TARGETS.iter().any(|t| name == t) => None,
            (Some("target"), Some(name)) => {
                Some(format!("jumps to target {}", plain_path(name.as_str().unwrap_or_default())))
            }
            // nft before 1.0.7 does not say what it is: beside a verdict it can only be a match.
            _ if to_known || has_verdict => None,
            _ => Some("has a rule that nft cannot decode".to_owned()),
        },
        "notrack" => Some("keeps packets from connection tracking".to_owned()),
        other => Some(format!("does {}", plain_path(other))),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_of_the_older_iptables_are_judged_too() {
        let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
        let judged = |text: &str| legacy(Some(&lines(text))).map_err(|v| v.outcome());
        assert!(legacy(None).unwrap().is_empty());
        assert_eq!(judged(""), Err(crate::checks::Outcome::Unknown));
        let good = "*nat\n:PREROUTING ACCEPT [0:0]\n:own - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n\
                    -A PREROUTING -p tcp -j own\n-A own -j RETURN\n-A POSTROUTING -j MASQUERADE\nCOMMIT";
        assert_eq!(judged(good), Ok(Vec::new()));
        let wrong = "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -j CT --notrack\nCOMMIT\n\
                     *nat\n-A PREROUTING -p tcp --dport 8443 -j REDIRECT --to-ports 22";
        assert_eq!(
            judged(wrong).unwrap(),
            [
                "chain PREROUTING of iptables table raw does CT",
                "chain PREROUTING of iptables table nat does REDIRECT"
            ]
        );
    }

    #[test]
    fn what_rewrites_a_packet_is_named_and_what_does_not_passes() {
        let jump = |to: &str| json!({"jump": {"target": to}});
        let port = json!({"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 443}});
        for harmless in [
            json!([port, {"accept": null}]),
            json!([{"counter": {"packets": 0, "bytes": 0}}, jump("KUBE-SERVICES")]),
            json!([{"xt": null}, jump("CNI-HOSTPORT-DNAT")]),
            json!([{"xt": {"type": "match", "name": "comment"}}, {"drop": null}]),
            json!([{"xt": {"type": "target", "name": "TCPMSS"}}]),
            json!([{"mangle": {"key": {"meta": {"key": "mark"}}, "value": 1}}]),
            json!([{"masquerade": null}]),
            json!([jump("own")]),
        ] {
            assert_eq!(changes(harmless.as_array().unwrap()), None, "{harmless}");
        }
        for (wrong, words) in [
            (json!([port, {"dnat": {"addr": "10.0.0.9", "port": 22}}]), "does dnat"),
            (json!([port, {"redirect": {"port": 22}}]), "does redirect"),
            (json!([{"notrack": null}]), "keeps packets from connection tracking"),
            (
                json!([{"mangle": {"key": {"payload": {"protocol": "ip", "field": "saddr"}}, "value": "10.0.0.1"}}]),
                "rewrites packets",
            ),
            (json!([{"tproxy": {"port": 1}}, {"accept": null}]), "does tproxy"),
            (json!([{"fwd": {"dev": "eth1"}}]), "does fwd"),
            (json!([{"xt": {"type": "target", "name": "REDIRECT"}}]), "jumps to target REDIRECT"),
            (json!([{"xt": null}]), "has a rule that nft cannot decode"),
        ] {
            assert_eq!(changes(wrong.as_array().unwrap()).as_deref(), Some(words), "{wrong}");
        }
    }
}
