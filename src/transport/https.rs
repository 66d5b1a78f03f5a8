//! HTTPS requests over a stream: for health gates and probes, over a connection that a node
//! opens, so that the question comes from inside the cluster's firewall.

use std::io::{BufRead, BufReader, Read, Write};

use openssl::pkey::PKey;
use openssl::ssl::{HandshakeError, SslConnector, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;

use super::Stream;
use crate::secret::Secret;

/// The certificate a client presents.
pub struct ClientIdentity<'a> {
    /// Certificate, PEM.
    pub certificate_pem: &'a str,
    /// Private key, PEM (PKCS#8).
    pub key_pem: &'a Secret<Vec<u8>>,
}

/// Whom to expect and how to appear.
pub struct TlsClient<'a> {
    /// CA certificate that the server's must chain to, PEM. `None` accepts any: only for probes that
    /// want to see a refusal.
    pub ca_pem: Option<&'a str>,
    /// Name or address that the server's certificate must hold.
    pub server: &'a str,
    /// The client's certificate, if one is presented.
    pub identity: Option<ClientIdentity<'a>>,
    /// Highest TLS version to offer; `None` offers all that are current.
    pub max_version: Option<SslVersion>,
    /// OpenSSL cipher list for TLS 1.2 and below; `None` offers the defaults.
    pub ciphers: Option<&'a str>,
}

/// The list of all pods of a large cluster takes some megabytes.
pub(crate) const MAX_ANSWER: u64 = 64 * 1024 * 1024;

/// How a TLS exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// The client's own material cannot be used.
    #[error("the client side cannot be set up")]
    Setup(#[source] openssl::error::ErrorStack),
    /// The handshake was refused, or the server's certificate is not the expected one.
    #[error("TLS handshake failed: {0}")]
    Handshake(String),
    /// The connection ended after the handshake. With TLS 1.3 a missing client certificate shows
    /// only here.
    #[error("the connection ended before an answer")]
    Closed(#[source] std::io::Error),
    /// What came back is not HTTP.
    #[error("the answer is not HTTP: {0}")]
    NotHttp(String),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    /// Status code.
    pub status: u16,
    /// Body, 64 MiB at most.
    pub body: Vec<u8>,
    /// The server's certificate, DER.
    pub server_certificate: Vec<u8>,
}

/// Connects TLS over a stream and hands back the TLS stream.
///
/// # Errors
/// See [`HttpsError`].
pub fn connect<'s>(
    stream: Box<dyn Stream + 's>,
    client: &TlsClient<'_>,
) -> Result<openssl::ssl::SslStream<Box<dyn Stream + 's>>, HttpsError> {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(HttpsError::Setup)?;
    let setup =
        |b: &mut openssl::ssl::SslConnectorBuilder| -> Result<(), openssl::error::ErrorStack> {
            match client.ca_pem {
                Some(pem) => {
                    let mut store = X509StoreBuilder::new()?;
                    store.add_cert(X509::from_pem(pem.as_bytes())?)?;
                    b.set_verify_cert_store(store.build())?;
                    b.set_verify(SslVerifyMode::PEER);
                }
                None => b.set_verify(SslVerifyMode::NONE),
            }
            if let Some(identity) = &client.identity {
                b.set_certificate(&*X509::from_pem(identity.certificate_pem.as_bytes())?)?;
                b.set_private_key(&*PKey::private_key_from_pem(identity.key_pem.expose())?)?;
            }
            if let Some(version) = client.max_version {
                // Old versions and ciphers are offered only to see them refused.
                b.set_security_level(0);
                b.set_min_proto_version(None)?;
                b.set_max_proto_version(Some(version))?;
            }
            if let Some(ciphers) = client.ciphers {
                b.set_security_level(0);
                b.set_cipher_list(ciphers)?;
            }
            Ok(())
        };
    setup(&mut builder).map_err(HttpsError::Setup)?;
    let mut configuration = builder.build().configure().map_err(HttpsError::Setup)?;
    if client.ca_pem.is_none() {
        configuration.set_verify_hostname(false);
    }
    configuration.connect(client.server, stream).map_err(|e| match e {
        HandshakeError::SetupFailure(e) => HttpsError::Setup(e),
        HandshakeError::Failure(s) | HandshakeError::WouldBlock(s) => {
            HttpsError::Handshake(s.error().to_string())
        }
    })
}

/// Sends one request with an optional JSON body and reads the answer.
///
/// # Errors
/// See [`HttpsError`].
pub fn request(
    stream: Box<dyn Stream + '_>,
    client: &TlsClient<'_>,
    method: &str,
    path: &str,
    json: Option<&str>,
) -> Result<HttpAnswer, HttpsError> {
    let mut tls = connect(stream, client)?;
    let server_certificate =
        tls.ssl().peer_certificate().and_then(|c| c.to_der().ok()).unwrap_or_default();
    let body = json.unwrap_or("");
    let host = super::address(client.server, 443);
    let kind = content_type(method);
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
        host.trim_end_matches(":443"),
        body.len()
    );
    tls.write_all(text.as_bytes()).and_then(|()| tls.flush()).map_err(HttpsError::Closed)?;
    let mut raw = Vec::new();
    match tls.take(MAX_ANSWER).read_to_end(&mut raw) {
        Ok(_) => {}
        // Some servers close without a close_notify; what came is judged by itself.
        Err(e) if raw.is_empty() => return Err(HttpsError::Closed(e)),
        Err(_) => {}
    }
    parse(&raw, server_certificate)
}

/// Sends a GET without TLS, to a daemon on a loopback address, and reads the answer.
///
/// # Errors
/// See [`HttpsError`].
pub fn get_without_tls(
    mut stream: Box<dyn Stream + '_>,
    host: &str,
    path: &str,
) -> Result<HttpAnswer, HttpsError> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).and_then(|()| stream.flush()).map_err(HttpsError::Closed)?;
    read_answer(&mut BufReader::new(stream), Vec::new())
}

/// One request of a [`Conversation`].
pub struct HttpRequest<'a> {
    /// Method.
    pub method: &'a str,
    /// Path and query; must need no escaping.
    pub path: &'a str,
    /// A token for `Authorization: Bearer`.
    pub token: Option<&'a str>,
    /// A JSON body.
    pub json: Option<&'a str>,
}

/// A connection that takes one request after another (RFC 9112 section 9.3): the handshake, and the
/// program on the node that carries the bytes, are paid for once.
pub struct Conversation<'s> {
    stream: BufReader<openssl::ssl::SslStream<Box<dyn Stream + 's>>>,
    host: String,
    server_certificate: Vec<u8>,
}

impl<'s> Conversation<'s> {
    /// Shakes hands.
    ///
    /// # Errors
    /// See [`HttpsError`].
    pub fn open(stream: Box<dyn Stream + 's>, client: &TlsClient<'_>) -> Result<Self, HttpsError> {
        let tls = connect(stream, client)?;
        let server_certificate =
            tls.ssl().peer_certificate().and_then(|c| c.to_der().ok()).unwrap_or_default();
        let host = super::address(client.server, 443).trim_end_matches(":443").to_owned();
        Ok(Self { stream: BufReader::new(tls), host, server_certificate })
    }

    /// Asks and reads the whole answer. After an error the connection is of no use any more.
    ///
    /// # Errors
    /// See [`HttpsError`].
    pub fn ask(&mut self, request: &HttpRequest<'_>) -> Result<HttpAnswer, HttpsError> {
        let body = request.json.unwrap_or("");
        let kind = content_type(request.method);
        let token = request.token.map(|t| format!("Authorization: Bearer {t}\r\n"));
        let head = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\n{}Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            request.method,
            request.path,
            self.host,
            token.unwrap_or_default(),
            body.len()
        );
        let tls = self.stream.get_mut();
        tls.write_all(head.as_bytes()).and_then(|()| tls.flush()).map_err(HttpsError::Closed)?;
        read_answer(&mut self.stream, self.server_certificate.clone())
    }
}

impl Conversation<'_> {
    /// Opens a WebSocket (RFC 6455) for one of `protocols` and reads what the server sends until it
    /// ends or holds `until`. The frames are handed back as they came: what a server sends is not
    /// masked. The connection is of no use afterwards.
    ///
    /// # Errors
    /// See [`HttpsError`]. A server that does not open one has answered, without a body.
    pub fn listen(
        &mut self,
        path: &str,
        protocols: &str,
        until: &[u8],
    ) -> Result<HttpAnswer, HttpsError> {
        const MAX: u64 = 64 * 1024;
        // Against caches that know no WebSockets; nothing here depends on its being random.
        let key = "a3ViYXN0aW9uLXByb2JlLQ==";
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\
             Sec-WebSocket-Protocol: {protocols}\r\n\r\n",
            self.host,
        );
        let tls = self.stream.get_mut();
        tls.write_all(head.as_bytes()).and_then(|()| tls.flush()).map_err(HttpsError::Closed)?;
        let mut answer = read_answer(&mut self.stream, self.server_certificate.clone())?;
        if answer.status == 101 {
            let mut stream = (&mut self.stream).take(MAX);
            let mut piece = [0; 4096];
            // A server that hangs up has said what it had to say.
            while let Ok(n @ 1..) = stream.read(&mut piece) {
                answer.body.extend_from_slice(&piece[..n]);
                if answer.body.windows(until.len()).any(|w| w == until) {
                    break;
                }
            }
        }
        Ok(answer)
    }
}

/// Says goodbye (RFC 8446 section 6.1): the server closes its end, so that nothing on the node waits for
/// it until the server's patience ends.
impl Drop for Conversation<'_> {
    fn drop(&mut self) {
        // Of a connection that is broken there is nothing to end.
        let _ = self.stream.get_mut().shutdown();
    }
}

/// RFC 7396; what Kubernetes takes a plain JSON body of a PATCH for is an error.
fn content_type(method: &str) -> &'static str {
    if method == "PATCH" { "application/merge-patch+json" } else { "application/json" }
}

/// Reads one answer and not a byte more (RFC 9112 section 6.3).
fn read_answer(
    stream: &mut dyn BufRead,
    server_certificate: Vec<u8>,
) -> Result<HttpAnswer, HttpsError> {
    const MAX_HEAD: usize = 64 * 1024;
    let mut head = Vec::new();
    let mut stream = stream.take(MAX_ANSWER);
    while !head.ends_with(b"\r\n\r\n") {
        let n = stream.read_until(b'\n', &mut head).map_err(HttpsError::Closed)?;
        if n == 0 {
            return Err(HttpsError::Closed(std::io::ErrorKind::UnexpectedEof.into()));
        }
        if head.len() > MAX_HEAD {
            return Err(HttpsError::NotHttp("an endless head".into()));
        }
    }
    let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let header = |name: &str| {
        text.split("\r\n").find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let mut raw = head.clone();
    if header("transfer-encoding") == Some("chunked") {
        loop {
            let start = raw.len();
            stream.read_until(b'\n', &mut raw).map_err(HttpsError::Closed)?;
            let line = String::from_utf8_lossy(&raw[start..]).into_owned();
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16)
                .map_err(|_| HttpsError::NotHttp("a chunk without a size".into()))?;
            // The chunk and the end of its line.
            let read = stream.by_ref().take(size.saturating_add(2)).read_to_end(&mut raw);
            let read = read.map_err(HttpsError::Closed)?;
            if (read as u64) < size.saturating_add(2) {
                return Err(HttpsError::Closed(std::io::ErrorKind::UnexpectedEof.into()));
            }
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = header("content-length").and_then(|l| l.parse::<u64>().ok()) {
        let read =
            stream.by_ref().take(length).read_to_end(&mut raw).map_err(HttpsError::Closed)?;
        if (read as u64) < length {
            return Err(HttpsError::Closed(std::io::ErrorKind::UnexpectedEof.into()));
        }
    } else if !text.starts_with("http/1.1 204") && !text.starts_with("http/1.1 1") {
        stream.read_to_end(&mut raw).map_err(HttpsError::Closed)?;
    }
    parse(&raw, server_certificate)
}

fn parse(raw: &[u8], server_certificate: Vec<u8>) -> Result<HttpAnswer, HttpsError> {
    if raw.is_empty() {
        return Err(HttpsError::Closed(std::io::ErrorKind::UnexpectedEof.into()));
    }
    let not_http = || HttpsError::NotHttp(super::tail(&raw[..raw.len().min(200)]));
    let end = raw.windows(4).position(|w| w == b"\r\n\r\n").ok_or_else(not_http)?;
    let head = std::str::from_utf8(&raw[..end]).map_err(|_| not_http())?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .filter(|l| l.starts_with("HTTP/1."))
        .and_then(|l| l.split(' ').nth(1)?.parse().ok())
        .ok_or_else(not_http)?;
    let chunked =
        lines.any(|l| l.to_ascii_lowercase().replace(' ', "") == "transfer-encoding:chunked");
    let body = &raw[end + 4..];
    let body = if chunked { dechunk(body).ok_or_else(not_http)? } else { body.to_vec() };
    Ok(HttpAnswer { status, body, server_certificate })
}

/// RFC 9112 section 7.1.
fn dechunk(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let end = body.windows(2).position(|w| w == b"\r\n")?;
        let size = std::str::from_utf8(&body[..end]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        body = &body[end + 2..];
        if size == 0 {
            return Some(out);
        }
        out.extend_from_slice(body.get(..size)?);
        body = body.get(size.checked_add(2)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_with_length_and_in_chunks() {
        let plain = parse(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nbody", Vec::new()).unwrap();
        assert_eq!((plain.status, plain.body.as_slice()), (200, &b"body"[..]));
        let raw = b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n";
        let chunked = parse(raw, Vec::new()).unwrap();
        assert_eq!((chunked.status, chunked.body.as_slice()), (401, &b"abcde"[..]));
    }

    #[test]
    fn one_answer_ends_where_the_next_begins() {
        let mut wire: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc\
            HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n\
            HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort";
        let mut next = || read_answer(&mut wire, Vec::new());
        for (status, body) in [(200, &b"abc"[..]), (201, b"de"), (401, b"")] {
            let answer = next().unwrap();
            assert_eq!((answer.status, answer.body.as_slice()), (status, body));
        }
        assert!(matches!(next(), Err(HttpsError::Closed(_))), "half a body is none");
        assert!(matches!(next(), Err(HttpsError::Closed(_))));
    }

    #[test]
    fn a_chunk_as_large_as_numbers_go_is_no_answer() {
        let raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx\r\n";
        assert!(read_answer(&mut &raw[..], Vec::new()).is_err());
        assert!(parse(raw, Vec::new()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(raw in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            let _ = parse(&raw, Vec::new());
            let _ = read_answer(&mut raw.as_slice(), Vec::new());
            let chunked = [&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..], &raw].concat();
            let _ = read_answer(&mut chunked.as_slice(), Vec::new());
            let _ = dechunk(&raw);
        }
    }
}
