//! Questions over TLS, and what the answers mean.

use std::io::{Read, Write};

use openssl::ssl::SslVersion;

use super::{CONNECT_TIMEOUT, Judged};
use crate::checks::Verdict;
use crate::digest::Digest;
use crate::error::chain;
use crate::secret::Secret;
use crate::transport::http::{self, HttpError, HttpRequest, request};
use crate::transport::tls::{ClientIdentity, TlsClient, TlsError, connect};
use crate::transport::{DialFailure, Transport, TransportError};

/// TLS 1.2 suites that have to be refused: CBC, and key exchange without forward secrecy.
const WEAK: &str = "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:\
    ECDHE-RSA-AES256-SHA:ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:AES128-SHA:AES256-SHA:\
    AES128-SHA256:AES128-GCM-SHA256:AES256-GCM-SHA384";
/// TLS 1.2 suites that have to work, or a refusal of the weak ones means nothing.
const STRONG: &str = "ECDHE+AESGCM:ECDHE+CHACHA20";

/// An attacker's or a friend's side of a connection.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub host: &'a str,
    pub port: u16,
    /// CA that the server's certificate has to chain to; `None` accepts any, as an attacker would.
    pub ca: Option<&'a str>,
    /// Certificate and key to show.
    pub identity: Option<&'a (String, Secret<Vec<u8>>)>,
}

impl<'a> Side<'a> {
    fn client(&self, max_version: Option<SslVersion>, ciphers: Option<&'a str>) -> TlsClient<'a> {
        TlsClient {
            ca_pem: self.ca,
            server: self.host,
            identity: self
                .identity
                .map(|(certificate_pem, key_pem)| ClientIdentity { certificate_pem, key_pem }),
            max_version,
            ciphers,
        }
    }
}

/// What came of a question.
#[derive(Debug)]
pub(super) enum Answer {
    /// An HTTP answer: we were let in.
    Http { status: u16, body: Vec<u8> },
    /// The server refused, in or right after the handshake.
    Refused(String),
    /// There was no connection for the request.
    NoWay(String),
    /// Nothing can be concluded.
    Nothing(String),
}

impl Answer {
    /// Of what came back, or of the words for how it was refused; `None` where nothing can be concluded.
    pub(super) fn digest(&self) -> Option<Digest> {
        match self {
            Answer::Http { status, body } => Some(http::digest(*status, body)),
            Answer::Refused(why) => Some(Digest::of(why)),
            Answer::NoWay(_) | Answer::Nothing(_) => None,
        }
    }

    /// Why, unless somebody was let in.
    pub(super) fn why(self) -> Result<(), String> {
        match self {
            Answer::Http { .. } => Ok(()),
            Answer::Refused(why) | Answer::NoWay(why) | Answer::Nothing(why) => Err(why),
        }
    }
}

/// OpenSSL's words for what our own side cannot do.
const OURS: &[&str] =
    &["no protocols available", "no ciphers available", "no cipher match", "no shared cipher list"];

fn no_tls(e: &TlsError) -> Answer {
    match e {
        TlsError::Setup(_) => Answer::Nothing(chain(e)),
        TlsError::Handshake(why) if OURS.iter().any(|o| why.contains(o)) => {
            Answer::Nothing(format!("this machine's OpenSSL cannot make the attempt: {why}"))
        }
        TlsError::Handshake(_) => Answer::Refused(chain(e)),
    }
}

fn no_answer(e: HttpError) -> Answer {
    match e {
        HttpError::Tls(e) => no_tls(&e),
        // Whoever answers with half of a body has let us in.
        HttpError::Incomplete { answer, .. } => {
            Answer::Http { status: answer.status, body: answer.body }
        }
        HttpError::Closed(e) if e.kind() == std::io::ErrorKind::TimedOut => {
            Answer::Nothing("no answer in time".to_owned())
        }
        HttpError::Closed(_) => Answer::Refused(chain(&e)),
        HttpError::Request(_) | HttpError::NotHttp(_) | HttpError::TooLarge => {
            Answer::Nothing(chain(&e))
        }
    }
}

pub(super) fn no_way(e: &TransportError) -> Answer {
    let how = match e {
        TransportError::Dial { failure, .. } => match failure {
            DialFailure::Refused => "connection refused",
            DialFailure::TimedOut => "no answer",
            DialFailure::Unreachable => "no route to the address",
            DialFailure::NotTried => "the node has no bash for the attempt",
            DialFailure::Other => "the attempt failed",
        }
        .to_owned(),
        other => chain(other),
    };
    Answer::NoWay(format!("no connection for the request: {how}"))
}

/// Sends a GET over TLS, from the node that `through` leads to.
pub(super) fn ask(through: &mut dyn Transport, side: Side<'_>, path: &str) -> Answer {
    let stream = match through.dial(side.host, side.port, CONNECT_TIMEOUT) {
        Ok(stream) => stream,
        Err(e) => return no_way(&e),
    };
    match request(stream, &side.client(None, None), &HttpRequest::get(path)) {
        Ok(answer) => Answer::Http { status: answer.status, body: answer.body },
        Err(e) => no_answer(e),
    }
}

/// Shakes hands only. The server's certificate, DER, if it let us in.
fn shake(
    through: &mut dyn Transport,
    side: Side<'_>,
    max: Option<SslVersion>,
    ciphers: Option<&str>,
) -> Result<Vec<u8>, Answer> {
    let stream = through.dial(side.host, side.port, CONNECT_TIMEOUT).map_err(|e| no_way(&e))?;
    match connect(stream, &side.client(max, ciphers)) {
        Ok(tls) => {
            Ok(tls.ssl().peer_certificate().and_then(|c| c.to_der().ok()).unwrap_or_default())
        }
        Err(e) => Err(no_tls(&e)),
    }
}

/// The certificate a server presents, DER.
pub(super) fn served(through: &mut dyn Transport, side: Side<'_>) -> Result<Vec<u8>, Answer> {
    match shake(through, side, None, None)? {
        der if der.is_empty() => {
            Err(Answer::Nothing("the server presented no certificate".to_owned()))
        }
        der => Ok(der),
    }
}

/// A refusal proves something only where the same way is open for those who may.
pub(super) fn refusal(answer: Answer, positive: &Result<(), String>, expected: &str) -> Judged {
    let heard = answer.digest();
    let verdict = match (answer, positive) {
        (Answer::Http { status, .. }, _) => {
            Verdict::fail(expected, format!("let in: HTTP status {status}"))
        }
        (Answer::Refused(why), Ok(())) => Verdict::pass(format!("refused ({why})")),
        (Answer::Refused(_), Err(why)) => Verdict::unknown(format!(
            "refused, but a request that should succeed was refused too, so this proves nothing: {why}"
        )),
        (Answer::NoWay(why) | Answer::Nothing(why), _) => Verdict::unknown(why),
    };
    Judged::by(heard, verdict)
}

/// Whether TLS 1.1, and weak suites of TLS 1.2, are refused while strong ones work.
pub(super) fn floor(through: &mut dyn Transport, side: Side<'_>) -> [Judged; 2] {
    let positive = match shake(through, side, Some(SslVersion::TLS1_2), Some(STRONG)) {
        Ok(_) => Ok(()),
        Err(Answer::NoWay(why)) => return [Judged::unknown(why.clone()), Judged::unknown(why)],
        Err(answer) => answer.why(),
    };
    let mut tried = |max, ciphers, expected: &str| match shake(through, side, Some(max), ciphers) {
        Ok(certificate) => {
            Judged::by(Digest::of(certificate), Verdict::fail(expected, "the handshake succeeded"))
        }
        Err(answer) => refusal(answer, &positive, expected),
    };
    [
        // Without a list of our own, OpenSSL offers what it has at its lowest security level.
        tried(SslVersion::TLS1_1, Some("ALL:@SECLEVEL=0"), "TLS 1.1 refused"),
        tried(SslVersion::TLS1_2, Some(WEAK), "CBC and static RSA suites refused"),
    ]
}

/// Sends a request without TLS. By hand: what a server of TLS answers is no HTTP, and is looked at byte by byte.
pub(super) fn plain(through: &mut dyn Transport, host: &str, port: u16, path: &str) -> Answer {
    let mut stream = match through.dial(host, port, CONNECT_TIMEOUT) {
        Ok(stream) => stream,
        Err(e) => return no_way(&e),
    };
    let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    if let Err(e) = stream.write_all(text.as_bytes()).and_then(|()| stream.flush()) {
        return Answer::Refused(e.to_string());
    }
    let mut raw = Vec::new();
    // A reset in the middle is a refusal; what came before it is judged.
    let ended = stream.take(64 * 1024).read_to_end(&mut raw);
    let head = String::from_utf8_lossy(&raw[..raw.len().min(64)]).into_owned();
    let status = head.strip_prefix("HTTP/1.").and_then(|h| h.split(' ').nth(1)?.parse().ok());
    match (status, ended) {
        // Go's servers tell a client in plain text that they speak TLS only.
        (Some(400), _) => Answer::Refused("status 400: the server requires TLS".to_owned()),
        (Some(status), _) => Answer::Http { status, body: raw },
        (None, Err(e)) if raw.is_empty() && e.kind() == std::io::ErrorKind::TimedOut => {
            Answer::Nothing("no answer in time".to_owned())
        }
        (None, Err(e)) if raw.is_empty() => Answer::Refused(e.to_string()),
        (None, _) if raw.is_empty() => Answer::Refused("the connection was closed".to_owned()),
        // A TLS alert record (RFC 8446 section 5.1).
        (None, _) if raw.first() == Some(&21) => Answer::Refused("a TLS alert".to_owned()),
        (None, _) => Answer::Nothing("an answer that is neither HTTP nor TLS".to_owned()),
    }
}
