//! Follows a packet through the rules in the kernel, as `nft -j` prints them (libnftables-json(5)).
//!
//! Only the first packet of a new connection is followed, through the base chains of one table. A rule that is not understood
//! here, or only holds at times (a limit), counts if it accepts and does not count if it drops. So a packet that is reported
//! as dropped is always dropped.

use std::net::IpAddr;

use serde_json::Value;

/// The first packet of a connection that comes in over the network.
#[derive(Debug, Clone, Copy)]
pub(in crate::checks) struct Packet {
    pub from: IpAddr,
    pub to: IpAddr,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    pub port: u16,
}

/// How sure a match is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Matches {
    Yes,
    No,
    Maybe,
}

/// Whether a chain with this hook drops the packet, and if not, why.
pub(in crate::checks) fn dropped(table: &Value, hook: &str, packet: Packet) -> Result<(), String> {
    let Some(entries) = table.get("nftables").and_then(Value::as_array) else {
        return Err("nft's output cannot be parsed".to_owned());
    };
    let of = |kind: &'static str| entries.iter().filter_map(move |e| e.get(kind));
    let chains = of("chain").filter(|c| c.get("hook").and_then(Value::as_str) == Some(hook));
    let mut why = format!("no chain with hook {hook}");
    for chain in chains {
        let name = chain.get("name").and_then(Value::as_str).unwrap_or_default();
        let rules = of("rule").filter(|r| r.get("chain").and_then(Value::as_str) == Some(name));
        match through(entries, rules, packet) {
            Some(true) => return Ok(()),
            Some(false) => why = format!("a rule of chain {name} accepts it"),
            None if chain.get("policy").and_then(Value::as_str) == Some("drop") => return Ok(()),
            None => why = format!("no rule of chain {name} drops it"),
        }
    }
    Err(why)
}

/// Whether the rules of a chain drop the packet, or let it through; `None` if no rule is about it.
fn through<'r>(
    entries: &[Value],
    rules: impl Iterator<Item = &'r Value>,
    packet: Packet,
) -> Option<bool> {
    for rule in rules {
        let expressions = rule.get("expr").and_then(Value::as_array)?;
        let mut holds = Matches::Yes;
        let mut verdict = None;
        for expression in expressions {
            let Some((kind, value)) = expression.as_object().and_then(|o| o.iter().next()) else {
                continue;
            };
            match kind.as_str() {
                "match" => match matches(entries, value, packet) {
                    Matches::No => holds = Matches::No,
                    Matches::Maybe if holds == Matches::Yes => holds = Matches::Maybe,
                    _ => {}
                },
                "drop" | "reject" => verdict = Some(true),
                "counter" | "log" | "comment" | "continue" => {}
                // It goes on elsewhere, or it is not known where.
                "accept" | "jump" | "goto" | "return" | "queue" | "vmap" => verdict = Some(false),
                "limit" | "quota" => {
                    if holds == Matches::Yes {
                        holds = Matches::Maybe;
                    }
                }
                // A statement that changes the packet or the connection: what comes after it is not known.
                _ => {
                    if holds == Matches::Yes {
                        holds = Matches::Maybe;
                    }
                    verdict = verdict.or(Some(false));
                }
            }
        }
        match (holds, verdict) {
            (Matches::Yes, Some(verdict)) => return Some(verdict),
            (Matches::Maybe, Some(false)) => return Some(false),
            _ => {}
        }
    }
    None
}

fn matches(entries: &[Value], value: &Value, packet: Packet) -> Matches {
    let (Some(op), Some(left), Some(right)) =
        (value.get("op").and_then(Value::as_str), value.get("left"), value.get("right"))
    else {
        return Matches::Maybe;
    };
    let positive = match left.as_object().and_then(|o| o.iter().next()) {
        Some((kind, key)) => side(entries, kind, key, right, packet),
        None => Matches::Maybe,
    };
    match (op, positive) {
        ("==" | "in", found) => found,
        ("!=", Matches::Yes) => Matches::No,
        ("!=", Matches::No) => Matches::Yes,
        _ => Matches::Maybe,
    }
}

fn side(entries: &[Value], kind: &str, key: &Value, right: &Value, packet: Packet) -> Matches {
    let word = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default();
    match (kind, word("protocol"), word("field"), word("key")) {
        ("payload", family @ ("ip" | "ip6"), field @ ("saddr" | "daddr"), _) => {
            let address = if field == "saddr" { packet.from } else { packet.to };
            if address.is_ipv4() == (family == "ip") {
                address_in(entries, address, right)
            } else {
                Matches::No
            }
        }
        ("payload", protocol @ ("tcp" | "udp" | "th"), "dport", _) => {
            if protocol == "th" || protocol == packet.protocol {
                number_in(u64::from(packet.port), right)
            } else {
                Matches::No
            }
        }
        ("payload", "icmp" | "icmpv6", ..) => Matches::No,
        ("meta", _, _, "l4proto") => word_in(packet.protocol, right),
        ("meta", _, _, "iif" | "iifname") if right.as_str() == Some("lo") => Matches::No,
        ("ct", _, _, "state") => word_in("new", right),
        _ => Matches::Maybe,
    }
}

/// The members of a value that may be a list.
fn members(right: &Value) -> Vec<&Value> {
    match right {
        Value::Array(all) => all.iter().collect(),
        Value::Object(o) => match o.get("set") {
            Some(Value::Array(all)) => all.iter().collect(),
            Some(one) => vec![one],
            None => vec![right],
        },
        one => vec![one],
    }
}

fn any(found: impl Iterator<Item = Matches>) -> Matches {
    found.fold(Matches::No, |all, one| match (all, one) {
        (Matches::Yes, _) | (_, Matches::Yes) => Matches::Yes,
        (Matches::Maybe, _) | (_, Matches::Maybe) => Matches::Maybe,
        _ => Matches::No,
    })
}

fn yes(is: bool) -> Matches {
    if is { Matches::Yes } else { Matches::No }
}

fn word_in(word: &str, right: &Value) -> Matches {
    any(members(right).into_iter().map(|m| m.as_str().map_or(Matches::Maybe, |m| yes(m == word))))
}

fn number_in(number: u64, right: &Value) -> Matches {
    any(members(right).into_iter().map(|m| match m {
        Value::Number(n) => yes(n.as_u64() == Some(number)),
        Value::Object(o) => match o.get("range").and_then(Value::as_array).map(Vec::as_slice) {
            Some([Value::Number(from), Value::Number(to)]) => {
                yes((from.as_u64()..=to.as_u64()).contains(&Some(number)))
            }
            _ => Matches::Maybe,
        },
        _ => Matches::Maybe,
    }))
}

fn address_in(entries: &[Value], address: IpAddr, right: &Value) -> Matches {
    if let Some(name) = right.as_str().and_then(|r| r.strip_prefix('@')) {
        let sets = entries.iter().filter_map(|e| e.get("set"));
        let Some(set) =
            sets.into_iter().find(|s| s.get("name").and_then(Value::as_str) == Some(name))
        else {
            return Matches::Maybe;
        };
        let elements =
            set.get("elem").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        return any(elements.iter().map(|e| address_is(address, e)));
    }
    any(members(right).into_iter().map(|m| address_is(address, m)))
}

fn address_is(address: IpAddr, element: &Value) -> Matches {
    let parse = |v: &Value| v.as_str().and_then(|t| t.parse::<IpAddr>().ok());
    if let Some(one) = parse(element) {
        return yes(one == address);
    }
    if let Some(prefix) = element.get("prefix") {
        let net = prefix.get("addr").and_then(parse).zip(prefix.get("len").and_then(Value::as_u64));
        let net = net.and_then(|(a, len)| ipnet::IpNet::new(a, u8::try_from(len).ok()?).ok());
        return net.map_or(Matches::Maybe, |n| yes(n.contains(&address)));
    }
    if let Some([from, to]) = element.get("range").and_then(Value::as_array).map(Vec::as_slice) {
        return match (parse(from), parse(to)) {
            (Some(from), Some(to)) => yes((from..=to).contains(&address)),
            _ => Matches::Maybe,
        };
    }
    // An element with a timeout or a counter of its own.
    match element.get("elem").and_then(|e| e.get("val")) {
        Some(inner) => address_is(address, inner),
        None => Matches::Maybe,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table(rules: &[Value]) -> Value {
        let mut entries = vec![
            json!({"metainfo": {"json_schema_version": 1}}),
            json!({"set": {"name": "pods_v4", "elem": [{"prefix": {"addr": "10.244.0.0", "len": 16}}, "192.0.2.7"]}}),
            json!({"chain": {"name": "forward", "hook": "forward", "policy": "accept"}}),
        ];
        entries.extend(rules.iter().map(|r| json!({"rule": {"chain": "forward", "expr": r}})));
        json!({"nftables": entries})
    }

    fn saddr() -> Value {
        json!({"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@pods_v4"}})
    }

    fn daddr(to: &str) -> Value {
        json!({"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": to}})
    }

    fn is_dropped(rules: &[Value]) -> bool {
        let packet = Packet {
            from: "10.244.0.9".parse().unwrap(),
            to: "169.254.169.254".parse().unwrap(),
            protocol: "tcp",
            port: 80,
        };
        dropped(&table(rules), "forward", packet).is_ok()
    }

    #[test]
    fn verdicts_count_and_words_do_not() {
        let to = daddr("169.254.169.254");
        let drop = json!([saddr(), to, {"counter": {"packets": 0, "bytes": 0}}, {"drop": null}]);
        assert!(is_dropped(std::slice::from_ref(&drop)));
        // The word alone, as a log-only firewall writes it.
        let log = json!([saddr(), to, {"log": {"prefix": "kubastion would drop: "}}]);
        assert!(!is_dropped(&[log]));
        assert!(!is_dropped(&[
            json!([saddr(), to, {"limit": {"rate": 10, "per": "minute"}}, {"drop": null}])
        ]));
        assert!(!is_dropped(&[json!([saddr(), daddr("169.254.169.253"), {"drop": null}])]));
        // Other pods, another family, a later rule.
        assert!(!is_dropped(&[
            json!([{"match": {"op": "!=", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@pods_v4"}}, to, {"drop": null}])
        ]));
        assert!(!is_dropped(&[
            json!([{"match": {"op": "==", "left": {"payload": {"protocol": "ip6", "field": "saddr"}}, "right": "@pods_v4"}}, to, {"drop": null}])
        ]));
        for before in [
            json!([{"accept": null}]),
            json!([saddr(), {"accept": null}]),
            json!([{"match": {"op": "==", "left": {"meta": {"key": "mark"}}, "right": 7}}, {"accept": null}]),
            json!([{"jump": {"target": "x"}}]),
            json!([{"mangle": {}}]),
        ] {
            assert!(!is_dropped(&[before.clone(), drop.clone()]), "{before}");
        }
        for before in [
            json!([{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}, {"accept": null}]),
            json!([{"match": {"op": "==", "left": {"meta": {"key": "iif"}}, "right": "lo"}}, {"accept": null}]),
            json!([saddr(), to, {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": {"set": ["tcp", "udp"]}}}, {"match": {"op": "==", "left": {"payload": {"protocol": "th", "field": "dport"}}, "right": 53}}, {"accept": null}]),
        ] {
            assert!(is_dropped(&[before.clone(), drop.clone()]), "{before}");
        }
        assert!(!is_dropped(&[]));
        assert!(
            dropped(
                &json!({}),
                "forward",
                Packet {
                    from: "10.0.0.1".parse().unwrap(),
                    to: "10.0.0.2".parse().unwrap(),
                    protocol: "tcp",
                    port: 1
                }
            )
            .is_err()
        );
    }
}
