//! What is written where: a Secret in etcd, and requests in the audit log.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use super::caller::{Call, Caller, Identity, Who};
use crate::checks::Verdict;
use crate::digest::Digest;
use crate::error::chain;
use crate::facts::cluster::text;
use crate::inventory::{AuditPolicy, EncryptionProvider, Inventory, Profile};
use crate::secret::Secret;
use crate::transport::{Request, Transport};

/// Reads a Secret's value as etcd holds it, over its JSON gateway (etcd documentation, "gRPC gateway").
pub(super) fn raw_value(
    etcd: &mut Caller<'_>,
    who: &Identity,
    space: &str,
    name: &str,
) -> Result<Vec<u8>, String> {
    let key = format!("/registry/secrets/{space}/{name}");
    let body = json!({"key": BASE64_STANDARD.encode(key)});
    let answer = etcd.json(Who::Known(who), Call::post("/v3/kv/range", body))?;
    let value = text(&answer, "/kvs/0/value");
    if value.is_empty() {
        return Err("etcd has no such key".into());
    }
    BASE64_STANDARD.decode(value).map_err(|e| format!("etcd's answer is not base64: {e}"))
}

/// Judges what etcd holds of a Secret. `readable` says whether the API gives the value back.
pub(super) fn encrypted(
    raw: Result<Vec<u8>, String>,
    plain: &str,
    provider: EncryptionProvider,
    readable: Result<(), String>,
) -> Verdict {
    let raw = match raw {
        Ok(raw) => raw,
        Err(why) => return Verdict::unknown(why),
    };
    let prefix = match provider {
        EncryptionProvider::Secretbox => "k8s:enc:secretbox:v1:",
        EncryptionProvider::Aescbc => "k8s:enc:aescbc:v1:",
        EncryptionProvider::Kms => "k8s:enc:kms:v2:",
    };
    let holds = |needle: &[u8]| raw.windows(needle.len()).any(|w| w == needle);
    if holds(plain.as_bytes()) || holds(BASE64_STANDARD.encode(plain).as_bytes()) {
        return Verdict::fail("ciphertext in etcd", "the value in plain text");
    }
    if !raw.starts_with(prefix.as_bytes()) {
        let start: String = String::from_utf8_lossy(&raw[..raw.len().min(24)])
            .chars()
            .map(|c| if c.is_control() { '.' } else { c })
            .collect();
        return Verdict::fail(prefix, format!("a value that starts with `{start}`"));
    }
    if let Err(why) = readable {
        return Verdict::unknown(format!("the Secret cannot be read back through the API: {why}"));
    }
    // Prefix, version, name of the key.
    let head = raw.split(|b| *b == b':').take(5).collect::<Vec<_>>().join(&b':');
    Verdict::pass(format!("etcd holds {}", crate::transport::tail(&head)))
}

/// Finds lines of the audit log by a marker: nothing else leaves the node.
const AUDIT_SCRIPT: &str = r#"
IFS= read -r marker || exit 2
IFS= read -r plain || exit 2
log=/var/log/kubernetes/audit/audit.log
[ -r "$log" ] || exit 3
n=0
# The event of a request may be written a moment after its answer.
while [ $n -lt 20 ]; do
    if tail -n 4000 "$log" | grep -F -e "$marker" | grep -q -F '"stage":"ResponseComplete"'; then
        break
    fi
    n=$((n + 1))
    sleep 0.1
done
tail -n 4000 "$log" | grep -F -e "$marker" | tail -n 50
echo end
# Only a shell's own word for the text: it is in nobody's arguments.
if [ -n "$plain" ] && printf '%s\n' "$plain" | grep -q -F -f - "$log"; then
    echo leaked
fi
"#;

/// What the audit log of a node says about a marker.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Logged {
    /// Events with the marker.
    pub events: Vec<Value>,
    /// Whether the text that must not be there is.
    pub leaked: bool,
    /// Of what the search printed.
    pub heard: Digest,
}

/// Searches the audit log. `plain` is what must be nowhere in it.
pub(super) fn search(
    through: &mut dyn Transport,
    marker: &str,
    plain: &Secret<String>,
) -> Result<Logged, String> {
    let input = Secret::new(format!("{marker}\n{}\n", plain.expose()));
    let output = through
        .run(
            Request {
                script: AUDIT_SCRIPT,
                input: &mut input.expose().as_bytes(),
                deadline: Duration::from_secs(20),
                max_output: 4 << 20,
                stays: false,
            },
            &mut |_| {},
        )
        .map_err(|e| chain(&e))?;
    match output.status {
        3 => return Err("no audit log exists".into()),
        0 | 1 => {}
        status => return Err(format!("the search ended with status {status}")),
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let Some((lines, rest)) = said.split_once("end\n") else {
        return Err(format!("the search was interrupted: {}", output.stderr_tail()));
    };
    let events = lines.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    Ok(Logged { events, leaked: rest.contains("leaked"), heard: Digest::of(&output.stdout) })
}

/// How much of a request with a Secret in it the policy of an inventory records; `None` for a policy
/// of its own.
fn level(inventory: &Inventory) -> Option<&'static str> {
    match (inventory.audit.policy, inventory.hardening.profile) {
        (AuditPolicy::Custom, _) => None,
        (AuditPolicy::Stig, _) | (AuditPolicy::Profile, Profile::Stig) => Some("RequestResponse"),
        _ => Some("Metadata"),
    }
}

/// Judges the events of one request, made with `verb`, to an object that held a secret.
pub(super) fn event(inventory: &Inventory, verb: &str, logged: Result<Logged, String>) -> Verdict {
    let logged = match logged {
        Ok(logged) => logged,
        Err(why) => return Verdict::unknown(why),
    };
    let level = level(inventory);
    let expected =
        level.map_or("exactly one event".to_owned(), |l| format!("exactly one event of level {l}"));
    let complete: Vec<&Value> = logged
        .events
        .iter()
        .filter(|e| text(e, "/stage") == "ResponseComplete" && text(e, "/verb") == verb)
        .collect();
    let [event] = complete.as_slice() else {
        return Verdict::fail(expected, format!("{} events", complete.len()));
    };
    let actual = text(event, "/level");
    if level.is_some_and(|l| l != actual) {
        return Verdict::fail(expected, format!("one of level {actual}"));
    }
    let bodies = ["requestObject", "responseObject"].iter().any(|k| event.get(*k).is_some());
    if level == Some("Metadata") && (bodies || logged.leaked) {
        return Verdict::fail("no content of Secrets in the log", "the log contains it");
    }
    Verdict::pass(format!("one event of level {actual}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Outcome;
    use crate::inventory::testing;

    #[test]
    fn only_ciphertext_of_the_right_provider_that_can_be_read_back_will_do() {
        use EncryptionProvider::{Aescbc, Secretbox};
        let cipher = || Ok(b"k8s:enc:secretbox:v1:k1:\x00\x01\x02".to_vec());
        let judge =
            |raw, provider, readable| encrypted(raw, "planted", provider, readable).outcome();
        assert_eq!(judge(cipher(), Secretbox, Ok(())), Outcome::Pass);
        assert_eq!(judge(cipher(), Aescbc, Ok(())), Outcome::Fail);
        assert_eq!(judge(cipher(), Secretbox, Err("404".into())), Outcome::Unknown);
        assert_eq!(judge(Err("no such key".into()), Secretbox, Ok(())), Outcome::Unknown);
        assert_eq!(judge(Ok(b"k8s\0\n\x0cv1 planted".to_vec()), Secretbox, Ok(())), Outcome::Fail);
        let with = [&b"k8s:enc:secretbox:v1:k1:"[..], b"planted"].concat();
        assert_eq!(judge(Ok(with), Secretbox, Ok(())), Outcome::Fail);
        assert_eq!(judge(Ok(b"k8s\0\n\x0cv1".to_vec()), Secretbox, Ok(())), Outcome::Fail);
        assert_eq!(judge(Ok(Vec::new()), Secretbox, Ok(())), Outcome::Fail);
    }

    fn inventory(policy: &str) -> Inventory {
        testing::with(&format!("audit: {{policy: {policy}}}\n"))
    }

    #[test]
    fn one_event_without_content() {
        let event_of =
            |level: &str| json!({"stage": "ResponseComplete", "verb": "create", "level": level});
        let with_body = {
            let mut e = event_of("Metadata");
            e["requestObject"] = json!({"data": {}});
            e
        };
        let received = json!({"stage": "RequestReceived", "verb": "create", "level": "Metadata"});
        let logged = |events, leaked| Ok(Logged { events, leaked, heard: Digest::of("x") });
        for (policy, found, outcome) in [
            ("balanced", logged(vec![event_of("Metadata")], false), Outcome::Pass),
            (
                "balanced",
                logged(vec![received.clone(), event_of("Metadata")], false),
                Outcome::Pass,
            ),
            ("balanced", logged(vec![received], false), Outcome::Fail),
            ("balanced", logged(Vec::new(), false), Outcome::Fail),
            ("balanced", logged(vec![event_of("Metadata"); 2], false), Outcome::Fail),
            ("balanced", logged(vec![event_of("Request")], false), Outcome::Fail),
            ("balanced", logged(vec![event_of("Metadata")], true), Outcome::Fail),
            ("balanced", logged(vec![with_body], false), Outcome::Fail),
            ("balanced", Err("no log".into()), Outcome::Unknown),
            ("stig", logged(vec![event_of("RequestResponse")], true), Outcome::Pass),
            ("stig", logged(vec![event_of("Metadata")], false), Outcome::Fail),
        ] {
            let verdict = event(&inventory(policy), "create", found.clone());
            assert_eq!(verdict.outcome(), outcome, "{policy} {found:?}: {verdict:?}");
        }
    }
}
