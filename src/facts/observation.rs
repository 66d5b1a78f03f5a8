//! What a node has recorded while its cluster is observed. Input is hostile: whoever connects chooses what is recorded.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Observation {
    /// Connections that the firewall would have turned away; `None` where it does not record them.
    pub flows: Option<Flows>,
    /// Whether the node runs an API server.
    pub has_apiserver: bool,
    /// Requests that would have ended otherwise; `None` where no audit log was read.
    pub requests: Option<Requests>,
}

/// Connections that a firewall that only logs would have turned away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    /// Since when they are recorded, seconds since 1970-01-01 UTC by the node's clock: the rules are loaded anew when they change,
    /// and at a boot.
    pub since_epoch_s: i64,
    /// Some may be missing, since the kernel keeps no more.
    pub is_full: bool,
    /// Each once.
    pub flows: Vec<Flow>,
}

/// Packets of one client to one port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Flow {
    /// From where.
    pub from: IpAddr,
    /// To which address; `None` for the node itself.
    pub to: Option<IpAddr>,
    /// `tcp`, `udp`, or another protocol's name or number.
    pub protocol: String,
    /// To which port, of a protocol that has ports.
    pub port: Option<u16>,
    /// How many packets.
    pub packets: u64,
}

/// Requests of an API server's audit log that would have ended otherwise on a hardened cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Since when the log tells, RFC 3339.
    pub since: String,
    /// Some were not read, since they are too many or the log could not be read to its end.
    pub is_cut: bool,
    /// The audit policy is somebody else's, and may leave requests out.
    pub is_by_other_policy: bool,
    /// Each kind once, with how many there were.
    pub requests: Vec<(AuditedRequest, usize)>,
}

/// Requests that are alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AuditedRequest {
    /// Why they are listed.
    pub about: About,
    /// Who asked: the account of a token, the maker of a pod; empty for nobody.
    pub who: String,
    /// From which address.
    pub from: String,
    /// With which program, as it says itself.
    pub agent: String,
    /// What for: a path without its query, or a pod's namespace.
    pub what: String,
}

/// Why a request is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum About {
    /// It had no credentials.
    Anonymous,
    /// It had a token of a ServiceAccount that never ends, out of a Secret.
    LegacyToken,
    /// It had a token whose end was put off for old clients.
    StaleToken,
    /// It made a pod that Pod Security would refuse.
    RefusedPod,
}

/// Annotations of audit events that say so
/// (<https://kubernetes.io/docs/reference/labels-annotations-taints/audit-annotations/>).
const ANNOTATIONS: &[(&str, About)] = &[
    ("authentication.k8s.io/legacy-token", About::LegacyToken),
    ("authentication.k8s.io/stale-token", About::StaleToken),
    ("pod-security.kubernetes.io/audit-violations", About::RefusedPod),
];

/// The audit policy that kubastion writes.
const OWN_POLICY: &str = "/etc/kubernetes/config/audit-policy.yaml";

/// Sets that `templates/host/firewall.nft` makes where it only logs begin so.
const RECORDS: &str = "would_drop_";

/// As many elements as such a set has.
const FULL: usize = 4096;

/// Longest text that is kept of what a client says of itself.
const LONGEST: usize = 120;

/// Lines of the extra `observation`.
pub(super) fn parse(lines: &[&str]) -> Observation {
    let value = |key: &str| lines.iter().find_map(|l| l.strip_prefix(key));
    let rules = value("rules=").and_then(|text| serde_json::from_str(text).ok());
    let since_epoch_s = value("rules_since=").and_then(|v| v.parse().ok());
    Observation {
        flows: rules.zip(since_epoch_s).and_then(|(rules, since)| flows(&rules, since)),
        has_apiserver: value("apiserver=") == Some("yes"),
        requests: requests(lines),
    }
}

fn flows(rules: &Value, since_epoch_s: i64) -> Option<Flows> {
    let all = rules.get("nftables")?.as_array()?;
    let sets = all.iter().filter_map(|entry| entry.get("set"));
    let mut records = sets
        .filter(|set| set["name"].as_str().is_some_and(|name| name.starts_with(RECORDS)))
        .peekable();
    records.peek()?;
    let mut found = Flows { since_epoch_s, is_full: false, flows: Vec::new() };
    for set in records {
        let elements = set.get("elem").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        found.is_full |= elements.len() >= FULL;
        let flows: Vec<Flow> = elements.iter().filter_map(flow).collect();
        // What cannot be read is not taken for nothing.
        found.is_full |= flows.len() < elements.len();
        found.flows.extend(flows);
    }
    found.flows.sort();
    Some(found)
}

/// An element: `{"elem": {"val": {"concat": [...]}, "counter": {...}}}` (libnftables-json(5)). By its length it is of `would_drop_`
/// (an address, a protocol, a port), of `_pods_` (two addresses) or of `_other_` (no port).
fn flow(element: &Value) -> Option<Flow> {
    let element = element.get("elem")?;
    let parts = element.get("val")?.get("concat")?.as_array()?;
    let address = |v: &Value| v.as_str()?.parse::<IpAddr>().ok();
    let protocol = |v: &Value| match v {
        Value::String(name) => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let port = |v: &Value| u16::try_from(v.as_u64()?).ok();
    let packets = element.get("counter").and_then(|c| c["packets"].as_u64()).unwrap_or_default();
    Some(match parts.as_slice() {
        [from, of] => {
            Flow { from: address(from)?, to: None, protocol: protocol(of)?, port: None, packets }
        }
        [from, of, at] => Flow {
            from: address(from)?,
            to: None,
            protocol: protocol(of)?,
            port: Some(port(at)?),
            packets,
        },
        [from, to, of, at] => Flow {
            from: address(from)?,
            to: Some(address(to)?),
            protocol: protocol(of)?,
            port: Some(port(at)?),
            packets,
        },
        _ => return None,
    })
}

fn requests(lines: &[&str]) -> Option<Requests> {
    let since = lines.iter().find_map(|l| l.strip_prefix("audit_since="))?;
    let since = since.strip_prefix("\"requestReceivedTimestamp\":\"")?.strip_suffix('"')?;
    let count: usize = lines.iter().find_map(|l| l.strip_prefix("audit_count="))?.parse().ok()?;
    OffsetDateTime::parse(since, &Rfc3339).ok()?;
    let events: Vec<&str> = lines.iter().filter_map(|l| l.strip_prefix("audit_event=")).collect();
    let read: Vec<Value> = events.iter().filter_map(|e| serde_json::from_str(e).ok()).collect();
    let mut found: BTreeMap<AuditedRequest, usize> = BTreeMap::new();
    for event in &read {
        for request in listed(event) {
            *found.entry(request).or_default() += 1;
        }
    }
    Some(Requests {
        since: since.to_owned(),
        // The log goes on between the count and the reading.
        is_cut: read.len() < count || read.len() < events.len(),
        is_by_other_policy: lines
            .iter()
            .filter_map(|l| l.strip_prefix("audit_policy="))
            .any(|policy| policy != OWN_POLICY),
        requests: found.into_iter().collect(),
    })
}

/// What an event is listed for.
fn listed(event: &Value) -> Vec<AuditedRequest> {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let short = |text: &str| text.chars().take(LONGEST).collect::<String>();
    let request = |about, who: &str, what: &str| AuditedRequest {
        about,
        who: short(who),
        from: short(text("/sourceIPs/0")),
        agent: short(text("/userAgent")),
        what: short(what),
    };
    let mut found = Vec::new();
    let path = text("/requestURI").split('?').next().unwrap_or_default();
    // What is refused already stays so.
    let is_refused = event.pointer("/responseStatus/code").and_then(Value::as_u64) == Some(401);
    if text("/user/username") == "system:anonymous" && !is_refused {
        found.push(request(About::Anonymous, "", path));
    }
    for (annotation, about) in ANNOTATIONS {
        let Some(said) = event.get("annotations").and_then(|a| a.get(annotation)) else { continue };
        let said = said.as_str().unwrap_or_default();
        found.push(match about {
            About::RefusedPod => AuditedRequest {
                // A controller is the maker of all pods of a kind, wherever it runs.
                from: String::new(),
                agent: String::new(),
                ..request(*about, text("/user/username"), &place(event))
            },
            // The same client asks for many paths.
            _ => AuditedRequest {
                what: short(account(said)),
                ..request(*about, text("/user/username"), "")
            },
        });
    }
    found
}

/// Namespace and kind of the object that a request was about.
fn place(event: &Value) -> String {
    let part = |key: &str| event.pointer(&format!("/objectRef/{key}")).and_then(Value::as_str);
    format!("{}/{}", part("namespace").unwrap_or_default(), part("resource").unwrap_or("pods"))
}

/// Of `subject: system:serviceaccount:ns:name, seconds after warning threshold: 12` the subject alone.
fn account(said: &str) -> &str {
    let subject = said.strip_prefix("subject: ").unwrap_or(said);
    subject.split(',').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nft 1.0.6 says it.
    const RULES: &str = r#"rules={"nftables": [{"metainfo": {"version": "1.0.6"}}, {"table": {"family": "inet", "name": "kubastion"}}, {"set": {"name": "would_drop_v4", "type": ["ipv4_addr", "inet_proto", "inet_service"], "flags": ["dynamic"], "elem": [{"elem": {"val": {"concat": ["192.0.2.9", "tcp", 8080]}, "counter": {"packets": 3, "bytes": 180}}}]}}, {"set": {"name": "would_drop_pods_v4", "elem": [{"elem": {"val": {"concat": ["192.0.2.9", "10.244.0.7", "udp", 53]}, "counter": {"packets": 1, "bytes": 60}}}]}}, {"set": {"name": "would_drop_other_v6", "elem": [{"elem": {"val": {"concat": ["2001:db8::1", "gre"]}, "counter": {"packets": 2, "bytes": 120}}}]}}]}"#;

    fn event(user: &str, code: u16, annotations: &str) -> String {
        format!(
            r#"audit_event={{"kind":"Event","requestURI":"/version?timeout=5s","user":{{"username":"{user}"}},"sourceIPs":["192.0.2.9"],"userAgent":"curl/8","objectRef":{{"resource":"pods","namespace":"shop","name":"a"}},"responseStatus":{{"code":{code}}},"annotations":{{{annotations}}}}}"#
        )
    }

    const SINCE: &str = r#"audit_since="requestReceivedTimestamp":"2026-11-30T20:45:33.000001Z""#;

    #[test]
    fn what_the_firewall_would_turn_away_is_read_with_its_counts() {
        let seen = parse(&[RULES, "rules_since=1764600000"]).flows.unwrap();
        assert!(!seen.is_full && seen.since_epoch_s == 1_764_600_000);
        let words: Vec<String> = seen
            .flows
            .iter()
            .map(|f| format!("{} {:?} {} {:?} {}", f.from, f.to, f.protocol, f.port, f.packets))
            .collect();
        assert_eq!(
            words,
            [
                "192.0.2.9 None tcp Some(8080) 3",
                "192.0.2.9 Some(10.244.0.7) udp Some(53) 1",
                "2001:db8::1 None gre None 2"
            ]
        );
        // A table that drops records nothing, and so does none.
        let enforcing = RULES.replace("would_drop_", "nodes_");
        assert!(parse(&[&enforcing, "rules_since=1"]).flows.is_none());
        assert!(parse(&[RULES]).flows.is_none(), "since when is not known");
        assert!(parse(&[]).flows.is_none());
        let odd = RULES.replace("\"tcp\", 8080", "\"tcp\", \"http\"");
        assert!(parse(&[&odd, "rules_since=1"]).flows.unwrap().is_full);
    }

    #[test]
    fn requests_of_the_audit_log_are_counted_by_who_asked() {
        let [anonymous, refused] = [200, 401].map(|code| event("system:anonymous", code, ""));
        let legacy = event(
            "system:serviceaccount:shop:ci",
            200,
            r#""authentication.k8s.io/legacy-token":"system:serviceaccount:shop:ci""#,
        );
        let pod = event(
            "system:serviceaccount:kube-system:replicaset-controller",
            201,
            r#""pod-security.kubernetes.io/audit-violations":"would violate PodSecurity \"restricted:latest\": privileged""#,
        );
        let lines = [
            "apiserver=yes",
            SINCE,
            "audit_count=5",
            &anonymous,
            &anonymous,
            &refused,
            &legacy,
            &pod,
        ];
        let seen = parse(&lines);
        assert!(seen.has_apiserver);
        let seen = seen.requests.unwrap();
        assert!(!seen.is_cut);
        let words: Vec<String> = seen
            .requests
            .iter()
            .map(|(r, n)| format!("{n} {:?} {} {} {} {}", r.about, r.who, r.from, r.agent, r.what))
            .collect();
        assert_eq!(
            words,
            [
                "2 Anonymous  192.0.2.9 curl/8 /version",
                "1 LegacyToken system:serviceaccount:shop:ci 192.0.2.9 curl/8 system:serviceaccount:shop:ci",
                "1 RefusedPod system:serviceaccount:kube-system:replicaset-controller   shop/pods"
            ]
        );
        // A line that was cut off, and lines that did not come.
        assert!(parse(&[SINCE, "audit_count=1", &anonymous[..90]]).requests.unwrap().is_cut);
        assert!(parse(&[SINCE, "audit_count=9", &anonymous]).requests.unwrap().is_cut);
        // A policy of others may leave out what is looked for.
        let with = |policy: &str| parse(&[SINCE, "audit_count=0", policy]).requests.unwrap();
        assert!(with("audit_policy=/etc/audit/policy.yaml").is_by_other_policy);
        assert!(!with("audit_policy=/etc/kubernetes/config/audit-policy.yaml").is_by_other_policy);
        // An empty log tells since nothing.
        assert!(parse(&["audit_since=", "audit_count=0"]).requests.is_none());
    }
}
