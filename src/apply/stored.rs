//! What etcd holds of a resource, read over the JSON gateway of its client port (etcd documentation, "gRPC gateway").

use std::net::IpAddr;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use super::gate::{ETCD_CLIENT_PORT, EtcdAccess};
use crate::error::chain;
use crate::facts::cluster::{list, text};
use crate::facts::stored::Stored;
use crate::transport::http::HttpRequest;
use crate::transport::{Transport, address, tail};

/// Values on one page: as many of the largest that etcd takes (`--max-request-bytes`), in base64, fit into an answer.
const PAGE: usize = 30;
/// How long all pages of a resource may take.
const WITHIN: Duration = Duration::from_secs(300);
/// What is looked at of a value, in base64.
const HEAD: usize = 256;

/// Counts the values below a prefix by what they begin with. Everything else of them is dropped as it comes.
///
/// # Errors
/// What the member or the connection to it reported instead.
pub fn count(
    through: &mut dyn Transport,
    member: IpAddr,
    access: &EtcdAccess,
    prefix: &str,
    wanted: &[String],
) -> Result<Stored, String> {
    let at = address(&member.to_string(), ETCD_CLIENT_PORT);
    let mut member =
        access.connect(through, member, WITHIN).map_err(|e| format!("{at}: {}", chain(&e)))?;
    let mut ask = |body: &Value| -> Result<Value, String> {
        let answer = member.send(&HttpRequest::post("/v3/kv/range", body));
        let answer = answer.map_err(|e| format!("{at}: {}", chain(&e)))?;
        if !answer.is_success() {
            let said = tail(&answer.body[..answer.body.len().min(300)]);
            return Err(format!("{at}: /v3/kv/range answers {}: {said}", answer.status));
        }
        serde_json::from_slice(&answer.body).map_err(|e| format!("{at}: /v3/kv/range: {e}"))
    };
    count_pages(&mut ask, prefix, wanted)
}

fn count_pages(
    ask: &mut dyn FnMut(&Value) -> Result<Value, String>,
    prefix: &str,
    wanted: &[String],
) -> Result<Stored, String> {
    let mut stored = Stored::default();
    let mut from = prefix.as_bytes().to_vec();
    // Every prefix ends in a slash, after which comes another byte.
    let mut end = from.clone();
    *end.last_mut().ok_or("there is no prefix")? += 1;
    let end = BASE64_STANDARD.encode(end);
    loop {
        let key = BASE64_STANDARD.encode(&from);
        // Numbers of 64 bits are text (protobuf's JSON).
        let answer = ask(&json!({"key": key, "range_end": end, "limit": PAGE.to_string()}))?;
        let found = list(&answer, "/kvs");
        for pair in found {
            let value = text(pair, "/value");
            // A part that is whole groups of four is base64 by itself.
            let head = value.get(..HEAD).unwrap_or(value);
            let head = BASE64_STANDARD
                .decode(head)
                .map_err(|e| format!("etcd's answer is not base64: {e}"))?;
            stored.count(&head, wanted);
        }
        let more = answer.get("more").and_then(Value::as_bool).unwrap_or_default();
        let Some(last) = found.last().filter(|_| more) else { return Ok(stored) };
        let last = BASE64_STANDARD
            .decode(text(last, "/key"))
            .map_err(|e| format!("etcd's answer is not base64: {e}"))?;
        if last < from {
            return Err("etcd's answer goes back to keys before".into());
        }
        from = last;
        from.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pages_are_counted_and_each_value_once() {
        let b64 = |text: &str| BASE64_STANDARD.encode(text);
        let all: Vec<(String, String)> = (0..70)
            .map(|n| {
                let head = if n % 7 == 0 { "k8s\0" } else { "k8s:enc:secretbox:v1:k1:" };
                (format!("/registry/secrets/a/{n:03}"), format!("{head}{}", "x".repeat(1000)))
            })
            .collect();
        let mut asked = 0;
        let mut etcd = |body: &Value| {
            asked += 1;
            let from = BASE64_STANDARD.decode(text(body, "/key")).unwrap();
            let end = BASE64_STANDARD.decode(text(body, "/range_end")).unwrap();
            assert_eq!(end, b"/registry/secrets0");
            let limit: usize = text(body, "/limit").parse().unwrap();
            let rest: Vec<_> = all.iter().filter(|(k, _)| k.as_bytes() >= &from[..]).collect();
            let kvs: Vec<Value> = rest
                .iter()
                .take(limit)
                .map(|(k, v)| json!({"key": b64(k), "value": b64(v)}))
                .collect();
            Ok(json!({"kvs": kvs, "more": rest.len() > limit}))
        };
        let wanted = ["k8s:enc:secretbox:v1:k1:".to_owned()];
        let stored = count_pages(&mut etcd, "/registry/secrets/", &wanted).unwrap();
        assert_eq!((stored.objects, stored.plain, stored.other.len()), (70, 10, 0));
        assert_eq!(asked, 3);
        let mut empty = |_: &Value| Ok(json!({"header": {}}));
        assert_eq!(count_pages(&mut empty, "/registry/a/", &wanted).unwrap(), Stored::default());
        let mut stuck = |_: &Value| {
            Ok(json!({"kvs": [{"key": b64("/registry/A"), "value": ""}], "more": true}))
        };
        assert!(count_pages(&mut stuck, "/registry/a/", &wanted).is_err());
    }
}
