//! Requests to an API server or a kubelet as somebody, and what the answers mean.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::api::Client;
use crate::checks::Verdict;
use crate::digest::Digest;
use crate::error::chain;
use crate::inventory::NodeName;
use crate::secret::Secret;
use crate::transport::http::HttpAnswer;
pub(super) use crate::transport::http::HttpRequest as Call;
use crate::transport::tls::ClientIdentity;
use crate::transport::{Transport, tail};

/// How long all requests over one connection may take together.
const BATCH: Duration = Duration::from_secs(20);

/// A client certificate and its key, PEM.
pub type Identity = (String, Secret<Vec<u8>>);

/// Identities with which the cluster's API is tried.
pub struct ApiKeys {
    /// The cluster CA, PEM.
    pub ca: String,
    /// The administrator: positive controls, and what attempts are made with.
    pub admin: Identity,
    /// The health probes of an API server: a name without any group.
    pub probes: BTreeMap<NodeName, Identity>,
    /// The kubelets as clients.
    pub kubelets: BTreeMap<NodeName, Identity>,
}

/// Whom a request is made as.
#[derive(Clone, Copy)]
pub(super) enum Who<'a> {
    /// Without a certificate; a token, if there is one, is the only name.
    Nobody,
    /// With a certificate.
    Known(&'a Identity),
}

/// What came of a request.
pub(super) type Answered = Result<HttpAnswer, String>;

/// A server, seen from a node.
pub(super) struct Caller<'a> {
    pub through: &'a mut dyn Transport,
    pub host: String,
    pub port: u16,
    /// CA of the server's certificate; `None` where it signed itself.
    pub ca: Option<&'a str>,
}

impl Caller<'_> {
    fn client<'c>(&'c mut self, who: Who<'c>) -> Client<'c> {
        let identity = match who {
            Who::Nobody => None,
            Who::Known((certificate_pem, key_pem)) => {
                Some(ClientIdentity { certificate_pem, key_pem })
            }
        };
        let (host, port, ca_pem) = (self.host.clone(), self.port, self.ca);
        Client { through: &mut *self.through, host, port, ca_pem, identity }
    }

    /// Makes requests one after another, over one connection as long as it holds.
    pub fn batch(&mut self, who: Who<'_>, calls: &[&Call]) -> Vec<Answered> {
        let answers = self.client(who).batch(calls, BATCH);
        answers.into_iter().map(|a| a.map_err(|e| e.to_string())).collect()
    }

    /// What a server sends over a WebSocket, until it holds a text.
    pub fn listen(&mut self, who: Who<'_>, path: &str, until: &[u8]) -> Answered {
        let mut client = self.client(who);
        let mut connection = client.connect(BATCH).map_err(|e| e.to_string())?;
        // Kubernetes documentation, "Transition from SPDY to WebSockets".
        connection
            .listen(path, "v5.channel.k8s.io, v4.channel.k8s.io", until)
            .map_err(|e| chain(&e))
    }

    /// One request.
    pub fn one(&mut self, who: Who<'_>, call: Call) -> Answered {
        let mut answers = self.batch(who, &[&call]);
        answers.pop().unwrap_or_else(|| Err("no request was made".into()))
    }

    /// One request whose answer has to be 2xx and JSON.
    pub fn json(&mut self, who: Who<'_>, call: Call) -> Result<Value, String> {
        self.json_heard(who, call).map(|(value, _)| value)
    }

    /// The same, with the digest of the answer.
    pub fn json_heard(&mut self, who: Who<'_>, call: Call) -> Result<(Value, Digest), String> {
        let what = call.words();
        let answer = self.one(who, call)?;
        if !(200..300).contains(&answer.status) {
            return Err(format!("{what}: {}", said(&answer)));
        }
        let value = serde_json::from_slice(&answer.body).map_err(|e| format!("{what}: {e}"))?;
        Ok((value, answer.digest()))
    }
}

/// What has to come of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    /// This HTTP status.
    Status(u16),
    /// 403, with these words: another refusal would prove nothing about what is tried.
    Denied(&'static str),
}

/// Status and message of an answer; of a body that is no `Status` object, nothing.
pub(super) fn said(answer: &HttpAnswer) -> String {
    let message = serde_json::from_slice::<Value>(&answer.body).ok();
    let message = message
        .filter(|m| m.get("kind").is_some_and(|k| k == "Status"))
        .and_then(|m| Some(m.get("message")?.as_str()?.chars().take(160).collect::<String>()));
    match message {
        Some(message) if !message.is_empty() => {
            format!("HTTP status {}: {}", answer.status, tail(message.as_bytes()))
        }
        _ => format!("HTTP status {}", answer.status),
    }
}

/// Of what came back, if anything did.
pub(super) fn heard(answer: &Answered) -> Option<Digest> {
    answer.as_ref().ok().map(HttpAnswer::digest)
}

/// Judges an answer.
pub(super) fn judge(expect: Expect, answer: &Answered) -> Verdict {
    let answer = match answer {
        Ok(answer) => answer,
        Err(why) => return Verdict::unknown(why.clone()),
    };
    let actual = format!("HTTP status {}", answer.status);
    match (expect, answer.status) {
        // The server has no time or is not well: nothing was decided.
        (Expect::Status(wanted), 429 | 500..) if answer.status != wanted => {
            Verdict::unknown(said(answer))
        }
        (Expect::Denied(_), 429 | 500..) => Verdict::unknown(said(answer)),
        (Expect::Status(wanted), status) if status == wanted => Verdict::pass(actual),
        (Expect::Status(wanted), _) => Verdict::fail(format!("HTTP status {wanted}"), said(answer)),
        (Expect::Denied(words), 403) => {
            if String::from_utf8_lossy(&answer.body).contains(words) {
                Verdict::pass("denied")
            } else {
                Verdict::unknown(format!("denied for another reason: {}", said(answer)))
            }
        }
        (Expect::Denied(_), 200..300) => Verdict::fail("denied", "accepted"),
        (Expect::Denied(_), _) => Verdict::unknown(said(answer)),
    }
}

/// A refusal proves something only where the same way is open for what is allowed.
pub(super) fn only_if(positive: &Verdict, verdict: Verdict) -> Verdict {
    match (positive, &verdict) {
        (Verdict::Pass { .. }, _) | (_, Verdict::Fail { .. } | Verdict::Unknown { .. }) => verdict,
        (Verdict::Fail { actual: why, .. } | Verdict::Unknown { why }, _) => {
            Verdict::unknown(format!(
                "refused, but a request that should succeed was refused too, so this proves nothing: {why}"
            ))
        }
        (Verdict::NotApplicable { .. }, _) => verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Outcome;

    fn answer(status: u16, body: &str) -> Answered {
        Ok(HttpAnswer { status, body: body.into() })
    }

    #[test]
    fn only_the_refusal_that_is_meant_counts() {
        let violates =
            r#"{"kind":"Status","message":"pods \"p\" is forbidden: violates PodSecurity"}"#;
        let denied = Expect::Denied("violates PodSecurity");
        for (expect, answer, outcome) in [
            (denied, answer(403, violates), Outcome::Pass),
            (
                denied,
                answer(403, r#"{"kind":"Status","message":"exceeded quota"}"#),
                Outcome::Unknown,
            ),
            (denied, answer(201, "{}"), Outcome::Fail),
            (denied, answer(422, "{}"), Outcome::Unknown),
            (denied, answer(429, "{}"), Outcome::Unknown),
            (denied, Err("no way".into()), Outcome::Unknown),
            (Expect::Status(401), answer(401, ""), Outcome::Pass),
            (Expect::Status(401), answer(403, ""), Outcome::Fail),
            (Expect::Status(401), answer(200, ""), Outcome::Fail),
            (Expect::Status(401), answer(503, ""), Outcome::Unknown),
            (Expect::Status(404), answer(404, ""), Outcome::Pass),
        ] {
            assert_eq!(judge(expect, &answer).outcome(), outcome, "{expect:?} {answer:?}");
        }
    }

    #[test]
    fn without_what_has_to_work_a_refusal_proves_nothing() {
        let refused = Verdict::pass("denied");
        assert_eq!(only_if(&Verdict::pass("x"), refused.clone()).outcome(), Outcome::Pass);
        for positive in [Verdict::fail("a", "b"), Verdict::unknown("x")] {
            assert_eq!(only_if(&positive, refused.clone()).outcome(), Outcome::Unknown);
            let let_in = Verdict::fail("denied", "accepted");
            assert_eq!(only_if(&positive, let_in).outcome(), Outcome::Fail);
        }
    }

    #[test]
    fn an_answer_that_is_no_status_is_not_repeated() {
        let secret = answer(200, r#"{"kind":"Secret","data":{"a":"planted"}}"#).unwrap();
        assert_eq!(said(&secret), "HTTP status 200");
    }
}
