//! An etcd cluster's members, alarms and database size, from its JSON gateway (etcd documentation, "gRPC gateway"). The
//! answers come from a node, so they are only compared and shown.

use serde::{Deserialize, Deserializer};

/// More members than any cluster has (etcd documentation, "FAQ": seven at most).
const MAX_MEMBERS: usize = 64;

/// The answers of one member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roster {
    /// Every member, voting or not, sorted by id.
    pub members: Vec<Listed>,
    /// What stops it.
    pub alarms: Vec<Alarm>,
    /// Size of the database on the disk of the member that was asked, in bytes.
    pub db_bytes: u64,
    /// Its quota in bytes; zero where its release does not tell.
    pub quota_bytes: u64,
}

/// A member as the cluster lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id, which is never reused after a removal.
    pub id: u64,
    /// Empty until it has started once, but for those that the cluster began with.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Whether it has ever run: it says then where clients reach it.
    pub started: bool,
    /// Takes what is written, and does not count for a quorum.
    pub learner: bool,
}

impl Listed {
    /// The id as `etcdctl` shows and takes it.
    pub fn hex(&self) -> String {
        format!("{:x}", self.id)
    }
}

/// An alarm of a member: the whole cluster takes no writes, or nothing at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// The member's id.
    pub member: u64,
    /// `NOSPACE`, `CORRUPT`, or what a later release has.
    pub kind: String,
}

/// The gateway writes 64-bit numbers as strings, and leaves out what is zero.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

#[derive(Deserialize)]
struct Members {
    #[serde(default)]
    members: Vec<Member>,
}

#[derive(Deserialize)]
struct Member {
    #[serde(rename = "ID", deserialize_with = "number")]
    id: u64,
    #[serde(default)]
    name: String,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Vec<String>,
    #[serde(rename = "clientURLs", default)]
    client_urls: Vec<String>,
    #[serde(rename = "isLearner", default)]
    is_learner: bool,
}

#[derive(Deserialize)]
struct Alarms {
    #[serde(default)]
    alarms: Vec<RawAlarm>,
}

#[derive(Deserialize)]
struct RawAlarm {
    #[serde(rename = "memberID", deserialize_with = "number", default)]
    member: u64,
    #[serde(default)]
    alarm: String,
}

#[derive(Deserialize)]
struct Status {
    #[serde(rename = "dbSize", deserialize_with = "number", default)]
    db_bytes: u64,
    #[serde(rename = "dbSizeQuota", deserialize_with = "number", default)]
    quota_bytes: u64,
}

#[derive(Deserialize)]
struct Added {
    member: Member,
}

impl From<Member> for Listed {
    fn from(m: Member) -> Self {
        let started = !m.client_urls.is_empty();
        Self { id: m.id, name: m.name, peer_urls: m.peer_urls, started, learner: m.is_learner }
    }
}

fn parsed<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|e| e.to_string())
}

/// The answer to `/v3/cluster/member/list`.
///
/// # Errors
/// What is wrong with it. A list without a member is none.
pub fn members(body: &[u8]) -> Result<Vec<Listed>, String> {
    let list: Members = parsed(body)?;
    let mut all: Vec<Listed> = list.members.into_iter().map(Listed::from).collect();
    if all.is_empty() || all.len() > MAX_MEMBERS {
        return Err(format!("a list of {} members", all.len()));
    }
    all.sort_by_key(|m| m.id);
    if all.windows(2).any(|pair| pair[0].id == pair[1].id) {
        return Err("two members of one id".into());
    }
    Ok(all)
}

/// The answer to `/v3/maintenance/alarm`. `NONE` is none.
///
/// # Errors
/// What is wrong with it.
pub fn alarms(body: &[u8]) -> Result<Vec<Alarm>, String> {
    let list: Alarms = parsed(body)?;
    let raised = list.alarms.into_iter().filter(|a| a.alarm != "NONE");
    let mut all: Vec<Alarm> =
        raised.map(|a| Alarm { member: a.member, kind: a.alarm }).take(2 * MAX_MEMBERS).collect();
    all.sort_by(|a, b| (&a.kind, a.member).cmp(&(&b.kind, b.member)));
    Ok(all)
}

/// Size and quota of the database, from the answer to `/v3/maintenance/status`.
///
/// # Errors
/// What is wrong with it.
pub fn room(body: &[u8]) -> Result<(u64, u64), String> {
    let status: Status = parsed(body)?;
    Ok((status.db_bytes, status.quota_bytes))
}

/// The id of a member that was added, from the answer to `/v3/cluster/member/add`.
///
/// # Errors
/// What is wrong with it.
pub fn added(body: &[u8]) -> Result<u64, String> {
    Ok(parsed::<Added>(body)?.member.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_gateway_says_is_read() {
        let list = br#"{"header":{"cluster_id":"1"},"members":[
            {"ID":"16640857468120498210","name":"cp2","peerURLs":["https://10.0.0.2:2380"],"clientURLs":["x"]},
            {"ID":"7","peerURLs":["https://10.0.0.3:2380"],"isLearner":true}]}"#;
        let all = members(list).unwrap();
        assert_eq!((all[0].id, all[0].learner, all[0].started), (7, true, false));
        assert_eq!(all[1].hex(), "e6f033b3413a8022");
        assert!(all[1].started && !all[1].learner);
        let raised = alarms(
            br#"{"header":{},"alarms":[{"memberID":"7","alarm":"NOSPACE"},{"alarm":"NONE"}]}"#,
        );
        assert_eq!(raised, Ok(vec![Alarm { member: 7, kind: "NOSPACE".into() }]));
        assert_eq!(alarms(br#"{"header":{}}"#), Ok(vec![]));
        assert_eq!(room(br#"{"dbSize":"20480","dbSizeQuota":"8589934592"}"#), Ok((20480, 8 << 30)));
        assert_eq!(room(br#"{"dbSize":"20480"}"#), Ok((20480, 0)));
        assert_eq!(added(br#"{"member":{"ID":"9","peerURLs":["u"]},"members":[]}"#), Ok(9));
    }

    #[test]
    fn an_answer_of_another_shape_is_an_error() {
        for bad in [
            &b"{}"[..],
            b"",
            b"[]",
            br#"{"members":[]}"#,
            br#"{"members":[{"ID":"-1"}]}"#,
            br#"{"members":[{"ID":"99999999999999999999"}]}"#,
            br#"{"members":[{"name":"x"}]}"#,
            br#"{"members":[{"ID":"1"},{"ID":"1"}]}"#,
        ] {
            assert!(members(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert!(alarms(br#"{"alarms":"x"}"#).is_err() && room(br#"{"dbSize":"x"}"#).is_err());
        assert!(added(br#"{"members":[]}"#).is_err());
        let many: Vec<String> = (0..65).map(|i| format!(r#"{{"ID":"{i}"}}"#)).collect();
        let many = format!(r#"{{"members":[{}]}}"#, many.join(","));
        assert!(members(many.as_bytes()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = (members(&body), alarms(&body), room(&body), added(&body));
        }
    }
}
