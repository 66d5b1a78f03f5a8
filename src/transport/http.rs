//! HTTP/1.1 over a stream, one request after another (RFC 9112).
//!
//! What is sent is written, and what comes is understood, by `ureq-proto`, the state machine of ureq. It does no input
//! and output of its own: a stream here is a channel of an SSH connection, which it borrows.

use std::borrow::Borrow;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use openssl::ssl::SslStream;
use serde_json::Value;
use ureq_proto::BodyMode;
use ureq_proto::client::{Call, RecvBodyResult, RecvResponseResult, SendRequestResult, state};
use ureq_proto::http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE};
use ureq_proto::http::{HeaderValue, Method, Request, StatusCode, header};

use super::deadline::WithDeadline;
use super::tls::{self, ClientIdentity, TlsClient, TlsError};
use super::{Stream, Transport, TransportError, tail};
use crate::digest::Digest;
use crate::secret::Secret;

/// Bytes of an answer. The list of all pods of a large cluster takes some megabytes.
pub const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// Bytes of what comes before a body, and of what comes between two parts of one.
const MAX_HEAD: usize = 64 * 1024;
/// How long a connection may take to be made.
const DIAL_WITHIN: Duration = Duration::from_secs(5);

/// How an exchange failed. After an error the connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// There is no TLS connection.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The request cannot be written: its path or token has characters that none may have.
    #[error("the request cannot be sent: {0}")]
    Request(String),
    /// The connection ended before an answer. With TLS 1.3 a missing client certificate shows only here.
    #[error("the connection ended before an answer")]
    Closed(#[source] io::Error),
    /// The connection ended in the middle of an answer: the server has answered, but not all of it is known.
    #[error("the connection ended in the middle of an answer")]
    Incomplete {
        /// What came of it.
        answer: HttpAnswer,
        /// How it ended.
        #[source]
        source: io::Error,
    },
    /// What came back is not HTTP.
    #[error("the answer is not HTTP: {0}")]
    NotHttp(String),
    /// The answer does not end.
    #[error("the answer is larger than {} MiB", MAX_ANSWER >> 20)]
    TooLarge,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    /// Status code.
    pub status: u16,
    /// Body, 64 MiB at most.
    pub body: Vec<u8>,
}

impl HttpAnswer {
    /// Whether the server did what it was asked for (RFC 9110 section 15.3).
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Of what came back: the status on a line of its own, and the body.
    pub fn digest(&self) -> Digest {
        digest(self.status, &self.body)
    }
}

/// See [`HttpAnswer::digest`].
pub fn digest(status: u16, body: &[u8]) -> Digest {
    Digest::of_pieces([format!("HTTP status {status}\n").as_bytes(), body])
}

/// A request. Without `Debug`: it may hold a token.
pub struct HttpRequest {
    method: Method,
    path: String,
    token: Option<Secret<String>>,
    /// Media type of the answer, where another one than the server's own is wanted.
    accept: Option<&'static str>,
    /// Media type, and the bytes.
    body: Option<(&'static str, Vec<u8>)>,
}

impl HttpRequest {
    fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), token: None, accept: None, body: None }
    }

    fn with_json(
        method: Method,
        path: impl Into<String>,
        media: &'static str,
        body: impl Borrow<Value>,
    ) -> Self {
        let body = Some((media, body.borrow().to_string().into_bytes()));
        Self { body, ..Self::new(method, path) }
    }

    /// GET. The path, here and below, may have a query, and must need no escaping.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// DELETE.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// DELETE with JSON, as the API's `DeleteOptions`.
    pub fn delete_with(path: impl Into<String>, body: impl Borrow<Value>) -> Self {
        Self::with_json(Method::DELETE, path, "application/json", body)
    }

    /// POST of JSON.
    pub fn post(path: impl Into<String>, body: impl Borrow<Value>) -> Self {
        Self::with_json(Method::POST, path, "application/json", body)
    }

    /// PUT of JSON.
    pub fn put(path: impl Into<String>, body: impl Borrow<Value>) -> Self {
        Self::with_json(Method::PUT, path, "application/json", body)
    }

    /// PATCH by a JSON merge patch (RFC 7396).
    pub fn merge_patch(path: impl Into<String>, body: impl Borrow<Value>) -> Self {
        Self::with_json(Method::PATCH, path, "application/merge-patch+json", body)
    }

    /// PATCH by server-side apply (Kubernetes documentation, "Server-Side Apply"). JSON is YAML.
    pub fn apply_patch(path: impl Into<String>, body: impl Borrow<Value>) -> Self {
        Self::with_json(Method::PATCH, path, "application/apply-patch+yaml", body)
    }

    /// With the media type that the answer has to have.
    #[must_use]
    pub fn accepting(mut self, media: &'static str) -> Self {
        self.accept = Some(media);
        self
    }

    /// With a token for `Authorization: Bearer`.
    #[must_use]
    pub fn with_token(mut self, token: &Secret<String>) -> Self {
        self.token = Some(token.clone());
        self
    }

    /// Method and path, without the query: how a message calls the request.
    pub fn words(&self) -> String {
        format!("{} {}", self.method, self.path.split('?').next().unwrap_or_default())
    }
}

/// Why there is no connection to a server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The node cannot reach it.
    #[error(transparent)]
    Dial(#[from] TransportError),
    /// The handshake failed.
    #[error(transparent)]
    Http(#[from] HttpError),
}

/// A server that speaks HTTPS, and the node that reaches it.
pub struct Endpoint<'t, 'c> {
    /// The node's connection.
    pub through: &'t mut dyn Transport,
    /// Name or address, which the server's certificate must hold.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// CA certificates, PEM, to one of which the server's must chain. `None` accepts any.
    pub ca_pem: Option<&'c str>,
}

impl<'t> Endpoint<'t, '_> {
    /// Connects and shakes hands. All that is asked over the connection has to be answered `within`.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn connect(
        self,
        identity: Option<ClientIdentity<'_>>,
        within: Duration,
    ) -> Result<Connection<'t>, ConnectError> {
        let stream = self.through.dial(&self.host, self.port, DIAL_WITHIN)?;
        let stream = Box::new(WithDeadline { stream, deadline: Instant::now() + within });
        let client = TlsClient {
            ca_pem: self.ca_pem,
            server: &self.host,
            identity,
            max_version: None,
            ciphers: None,
        };
        Ok(Connection::open(stream, &client)?)
    }
}

/// A connection that takes one request after another (RFC 9112 section 9.3): the handshake, and the
/// program on the node that carries the bytes, are paid for once.
pub struct Connection<'s> {
    wire: Wire<SslStream<Box<dyn Stream + 's>>>,
    origin: String,
}

impl<'s> Connection<'s> {
    /// Shakes hands.
    ///
    /// # Errors
    /// See [`HttpError::Tls`].
    pub fn open(stream: Box<dyn Stream + 's>, client: &TlsClient<'_>) -> Result<Self, HttpError> {
        let wire = Wire::new(tls::connect(stream, client)?);
        Ok(Self { wire, origin: format!("https://{}", authority(client.server)) })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// See [`HttpError`]. A status that says no is an answer.
    pub fn send(&mut self, request: &HttpRequest) -> Result<HttpAnswer, HttpError> {
        self.wire.exchange(&self.origin, request, &[])
    }

    /// Opens a WebSocket (RFC 6455) for one of `protocols` and reads what the server sends until it
    /// ends or holds `until`. The frames are handed back as they came: what a server sends is not
    /// masked. The connection is of no use afterwards.
    ///
    /// # Errors
    /// See [`HttpError`]. A server that does not open one has answered, without a body.
    pub fn listen(
        &mut self,
        path: &str,
        protocols: &'static str,
        until: &[u8],
    ) -> Result<HttpAnswer, HttpError> {
        const MAX: usize = 64 * 1024;
        let upgrade = [
            (CONNECTION, "Upgrade"),
            (header::UPGRADE, "websocket"),
            (header::SEC_WEBSOCKET_VERSION, "13"),
            // Against caches that know no WebSockets; nothing here depends on its being random.
            (header::SEC_WEBSOCKET_KEY, "a3ViYXN0aW9uLXByb2JlLQ=="),
            (header::SEC_WEBSOCKET_PROTOCOL, protocols),
        ];
        let mut answer = self.wire.exchange(&self.origin, &HttpRequest::get(path), &upgrade)?;
        if answer.status == StatusCode::SWITCHING_PROTOCOLS.as_u16() {
            answer.body = self.wire.read_until(until, MAX);
        }
        Ok(answer)
    }
}

/// Says goodbye (RFC 8446 section 6.1): the server closes its end, so that nothing on the node waits for
/// it until the server's patience ends.
impl Drop for Connection<'_> {
    fn drop(&mut self) {
        // Of a connection that is broken there is nothing to end.
        let _ = self.wire.stream.shutdown();
    }
}

/// Sends one request over TLS, and reads the answer.
///
/// # Errors
/// See [`HttpError`].
pub fn request(
    stream: Box<dyn Stream + '_>,
    client: &TlsClient<'_>,
    request: &HttpRequest,
) -> Result<HttpAnswer, HttpError> {
    let mut tls = Connection::open(stream, client)?;
    tls.wire.exchange(&tls.origin, request, &[(CONNECTION, "close")])
}

/// Sends a GET without TLS, to a daemon on a loopback address, and reads the answer.
///
/// # Errors
/// See [`HttpError`].
pub fn get_without_tls(
    stream: Box<dyn Stream + '_>,
    host: &str,
    path: &str,
) -> Result<HttpAnswer, HttpError> {
    let origin = format!("http://{}", authority(host));
    Wire::new(stream).exchange(&origin, &HttpRequest::get(path), &[(CONNECTION, "close")])
}

/// A host in a URI (RFC 3986 section 3.2.2).
fn authority(host: &str) -> String {
    match host.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => host.to_owned(),
    }
}

/// A stream, and what came over it that nobody has taken yet.
struct Wire<S> {
    stream: S,
    unread: Vec<u8>,
    /// Whether another request may follow.
    open: bool,
}

type Headers<'a> = [(header::HeaderName, &'a str)];

impl<S: Read + Write> Wire<S> {
    fn new(stream: S) -> Self {
        Self { stream, unread: Vec::new(), open: true }
    }

    fn exchange(
        &mut self,
        origin: &str,
        request: &HttpRequest,
        headers: &Headers<'_>,
    ) -> Result<HttpAnswer, HttpError> {
        if !self.open {
            return Err(HttpError::Closed(io::ErrorKind::NotConnected.into()));
        }
        // Until all of the answer is there.
        self.open = false;
        let (call, bytes) = prepare(origin, request, headers)?;
        let sent = self.stream.write_all(&bytes).and_then(|()| self.stream.flush());
        sent.map_err(HttpError::Closed)?;
        self.receive(call)
    }

    /// Reads one answer and not a byte more (RFC 9112 section 6.3).
    fn receive(&mut self, mut call: Call<state::RecvResponse>) -> Result<HttpAnswer, HttpError> {
        let status = self.head(&mut call)?;
        let mut answer = HttpAnswer { status, body: Vec::new() };
        self.open = match call.proceed() {
            Some(RecvResponseResult::RecvBody(mut call)) => {
                self.body(&mut call, &mut answer)?;
                match call.proceed() {
                    Some(RecvBodyResult::Cleanup(call)) => !call.must_close_connection(),
                    // To where it leads is not followed.
                    Some(RecvBodyResult::Redirect(call)) => !call.must_close_connection(),
                    None => false,
                }
            }
            Some(RecvResponseResult::Cleanup(call)) => !call.must_close_connection(),
            Some(RecvResponseResult::Redirect(call)) => !call.must_close_connection(),
            None => false,
        };
        Ok(answer)
    }

    fn head(&mut self, call: &mut Call<state::RecvResponse>) -> Result<u16, HttpError> {
        // Answers that only announce another one count, too.
        let mut taken = 0;
        loop {
            let (used, response) =
                call.try_response(&self.unread, false).map_err(|_| self.not_http())?;
            taken += used;
            if let Some(response) = response {
                self.unread.drain(..used);
                return Ok(response.status().as_u16());
            }
            self.unread.drain(..used);
            if taken + self.unread.len() > MAX_HEAD {
                return Err(HttpError::NotHttp("the header is too long".into()));
            }
            if used > 0 {
                continue;
            }
            match self.more() {
                Ok(()) => {}
                Err(e) if self.unread.is_empty() => return Err(HttpError::Closed(e)),
                Err(_) => return Err(self.not_http()),
            }
        }
    }

    fn body(
        &mut self,
        call: &mut Call<state::RecvBody>,
        answer: &mut HttpAnswer,
    ) -> Result<(), HttpError> {
        let until_closed = call.body_mode() == BodyMode::CloseDelimited;
        if matches!(call.body_mode(), BodyMode::LengthDelimited(n) if n > MAX_ANSWER as u64) {
            return Err(HttpError::TooLarge);
        }
        let mut piece = [0; 16 * 1024];
        // With the sizes of chunks: those alone may go on for ever.
        let mut taken = 0;
        while until_closed || !call.can_proceed() {
            let read = call.read(&self.unread, &mut piece);
            let (used, n) = read.map_err(|e| HttpError::NotHttp(tail(e.to_string().as_bytes())))?;
            answer.body.extend_from_slice(&piece[..n]);
            self.unread.drain(..used);
            taken += used;
            if taken > MAX_ANSWER {
                return Err(HttpError::TooLarge);
            }
            if used > 0 {
                continue;
            }
            if self.unread.len() > MAX_HEAD {
                return Err(HttpError::NotHttp("a chunk without an end".into()));
            }
            match self.more() {
                Ok(()) => {}
                Err(e) if until_closed && e.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(source) => {
                    let answer =
                        std::mem::replace(answer, HttpAnswer { status: 0, body: Vec::new() });
                    return Err(HttpError::Incomplete { answer, source });
                }
            }
        }
        Ok(())
    }

    /// What comes until it holds something, or ends, or is too much. A server that hangs up has said what it had to say.
    fn read_until(&mut self, until: &[u8], max: usize) -> Vec<u8> {
        while !self.unread.windows(until.len()).any(|w| w == until)
            && self.unread.len() < max
            && self.more().is_ok()
        {}
        std::mem::take(&mut self.unread)
    }

    /// Reads once. An end is an error of its own kind.
    fn more(&mut self) -> io::Result<()> {
        let mut piece = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    self.unread.extend_from_slice(&piece[..n]);
                    return Ok(());
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn not_http(&self) -> HttpError {
        HttpError::NotHttp(tail(&self.unread[..self.unread.len().min(200)]))
    }
}

/// The bytes of a request, and what reads its answer.
fn prepare(
    origin: &str,
    request: &HttpRequest,
    headers: &Headers<'_>,
) -> Result<(Call<state::RecvResponse>, Vec<u8>), HttpError> {
    let no = |e: &dyn std::fmt::Display| HttpError::Request(tail(e.to_string().as_bytes()));
    if !request.path.starts_with('/') {
        return Err(no(&"its path does not begin with /"));
    }
    let mut built =
        Request::builder().method(&request.method).uri(format!("{origin}{}", request.path));
    for (name, value) in headers {
        built = built.header(name, *value);
    }
    if let Some(media) = request.accept {
        built = built.header(header::ACCEPT, media);
    }
    if let Some(token) = &request.token {
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
            .map_err(|_| no(&"the token is malformed"))?;
        value.set_sensitive(true);
        built = built.header(AUTHORIZATION, value);
    }
    let mut bytes = vec![0; MAX_HEAD];
    let mut body: &[u8] = &[];
    if let Some((media, content)) = &request.body {
        built = built.header(CONTENT_TYPE, *media).header(CONTENT_LENGTH, content.len());
        body = content;
    }
    let mut call = Call::new(built.body(()).map_err(|e| no(&e))?).map_err(|e| no(&e))?;
    if request.body.is_some() {
        // Also of a DELETE.
        call.force_send_body();
    }
    let mut call = call.proceed();
    let mut written = 0;
    while !call.can_proceed() {
        written += call.write(&mut bytes[written..]).map_err(|e| no(&e))?;
    }
    bytes.truncate(written);
    bytes.extend_from_slice(body);
    let call = match call.proceed().map_err(|e| no(&e))? {
        Some(SendRequestResult::RecvResponse(call)) => Some(call),
        Some(SendRequestResult::SendBody(mut call)) => {
            call.consume_direct_write(body.len()).map_err(|e| no(&e))?;
            call.proceed()
        }
        Some(SendRequestResult::Await100(_)) | None => None,
    };
    Ok((call.ok_or_else(|| no(&"it is not complete"))?, bytes))
}

#[cfg(test)]
mod tests;
