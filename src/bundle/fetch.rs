//! Files over HTTPS: resumed where they broke off, limited, and compared with a checksum.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::http::{HeaderMap, StatusCode, Uri, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::model::{MAX_FILE, Sha256Hex};
use crate::event::{Event, Sink};
use crate::secret::Secret;

/// Redirects that are followed; release hosts need two.
const MAX_REDIRECTS: usize = 5;
/// Times that a file is asked for before it is given up.
const ATTEMPTS: u32 = 5;
/// Deadline for a connection with its TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Deadline for the head of an answer, and for each further piece of it.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Attempts to reach a host: one dropped connection does not make it unreachable.
const REACH_ATTEMPTS: u32 = 2;
/// Deadline of each attempt, with name resolution, connection and TLS handshake. Shorter than a download's, so that a
/// machine without a network fails fast.
const REACH_TIMEOUT: Duration = Duration::from_secs(10);
/// Deadline for one attempt at one file.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3600);
/// Bytes between two events.
const STEP: u64 = 1 << 20;

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The address is none.
    #[error("{0} is not an HTTPS URL")]
    NotHttps(String),
    /// It leads on and on.
    #[error("it redirects more than {MAX_REDIRECTS} times")]
    TooManyRedirects,
    /// It leads nowhere.
    #[error("it redirects without a location")]
    NoLocation,
    /// The server says no.
    #[error("the server answers {0}")]
    Status(StatusCode),
    /// No answer.
    #[error("no answer from {host}")]
    Transport {
        /// Who was asked, where redirects have led to.
        host: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// The file holds no certificates.
    #[error("it contains no certificate")]
    NoCertificate,
    /// A certificate is malformed.
    #[error("it contains a malformed certificate")]
    Certificate(#[source] Box<ureq::Error>),
    /// The answer broke off.
    #[error("the answer is incomplete")]
    Body(#[source] io::Error),
    /// More than is allowed.
    #[error("it is larger than {0} bytes")]
    TooLarge(u64),
    /// The text is none.
    #[error("the answer is not text")]
    NotText,
    /// The checksum text does not name the file.
    #[error("the published checksums do not list {0}")]
    NoChecksum(String),
    /// What came is something else.
    #[error("its SHA-256 is {found}, not {expected}")]
    Checksum {
        /// What was published.
        expected: String,
        /// What came.
        found: String,
    },
    /// It could not be written.
    #[error("{} cannot be written", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was tried often enough.
    #[error("given up after {attempts} attempts")]
    GivenUp {
        /// How often it was tried.
        attempts: u32,
        /// How the last one ended.
        source: Box<FetchError>,
    },
}

impl FetchError {
    fn disk(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| FetchError::Disk { path, source }
    }

    fn is_timeout(&self) -> bool {
        matches!(self, FetchError::Transport { source, .. }
            if matches!(**source, ureq::Error::Timeout(_)))
    }

    /// Whether another attempt may end better.
    fn may_pass(&self) -> bool {
        match self {
            FetchError::Body(_) => true,
            FetchError::Status(code) => {
                code.is_server_error()
                    || matches!(*code, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
            }
            FetchError::Transport { source, .. } => match &**source {
                // A certificate that is not trusted stays so.
                ureq::Error::Io(e) => e.kind() != io::ErrorKind::InvalidData,
                ureq::Error::Timeout(_)
                | ureq::Error::ConnectionFailed
                | ureq::Error::Protocol(_) => true,
                _ => false,
            },
            _ => false,
        }
    }
}

/// An unreachable host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreached {
    /// Its name, with the port if it is not the default.
    pub host: String,
    /// Why, in a few words.
    pub why: String,
}

/// How to reach hosts.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Addresses that are asked instead of `https://HOST`, by host.
    pub mirrors: BTreeMap<String, String>,
    /// CA certificates beside the system's, PEM.
    pub extra_ca_pem: Option<Vec<u8>>,
    /// Pause after the first failed attempt; it doubles with each further one.
    pub pause: Duration,
    /// Deadline for a host's first answer.
    pub patience: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            mirrors: BTreeMap::new(),
            extra_ca_pem: None,
            pause: Duration::from_secs(1),
            patience: REACH_TIMEOUT,
        }
    }
}

/// An HTTPS client: TLS by rustls with ring, the system's CA certificates, and the proxy that
/// HTTPS_PROXY and NO_PROXY name.
pub struct Client {
    agent: ureq::Agent,
    options: ClientOptions,
    /// One for each file that is written: images share layers, and are fetched at the same time.
    files: Mutex<BTreeMap<PathBuf, Arc<Mutex<()>>>>,
}

/// An answer with status 2xx.
pub(super) struct Answer {
    pub headers: HeaderMap,
    pub status: StatusCode,
    body: ureq::Body,
}

/// What a request says beside the address.
#[derive(Default)]
pub(super) struct Ask<'a> {
    pub headers: Vec<(header::HeaderName, String)>,
    /// For the first host only: where it leads to, the token is nobody's business.
    pub token: Option<&'a Secret<String>>,
    /// Deadline for each answer, where it is another one than the client's.
    pub deadline: Option<Duration>,
}

/// A file to download.
pub(super) struct Download<'a> {
    pub url: &'a str,
    /// Where it goes; `.part` and `.etag` beside it belong to a download that broke off.
    pub to: &'a Path,
    pub sha256: &'a Sha256Hex,
    /// Name in progress events.
    pub what: &'a str,
    pub limit: u64,
    pub token: Option<&'a Secret<String>>,
}

impl Client {
    /// A client. The system's CA certificates are read now.
    ///
    /// # Errors
    /// If the extra CA file holds no certificate.
    pub fn new(options: ClientOptions) -> Result<Self, FetchError> {
        // What cannot be read among the system's certificates is not trusted, which is the safe side.
        let mut roots: Vec<Certificate<'static>> = rustls_native_certs::load_native_certs()
            .certs
            .iter()
            .map(|c| Certificate::from_der(c).to_owned())
            .collect();
        if let Some(pem) = &options.extra_ca_pem {
            let before = roots.len();
            for item in ureq::tls::parse_pem(pem) {
                if let ureq::tls::PemItem::Certificate(certificate) =
                    item.map_err(|e| FetchError::Certificate(Box::new(e)))?
                {
                    roots.push(certificate);
                }
            }
            if roots.len() == before {
                return Err(FetchError::NoCertificate);
            }
        }
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::from(roots))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let agent = ureq::Agent::config_builder()
            .tls_config(tls)
            .https_only(true)
            .http_status_as_error(false)
            // Followed below, where each target is looked at.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("kubastion/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(READ_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .timeout_global(Some(ATTEMPT_TIMEOUT))
            .build()
            .new_agent();
        Ok(Self { agent, options, files: Mutex::default() })
    }

    /// The address that is really asked.
    fn mirrored(&self, url: &str) -> Result<Uri, FetchError> {
        let original = parse_https(url)?;
        let host = original.authority().map(|a| a.as_str()).unwrap_or_default();
        match self.options.mirrors.get(host) {
            None => Ok(original),
            Some(base) => {
                let path = original.path_and_query().map_or("/", |p| p.as_str());
                parse_https(&format!("{}{path}", base.trim_end_matches('/')))
            }
        }
    }

    /// Asks, following redirects to HTTPS addresses. Answers with any status.
    pub(super) fn ask(&self, url: &str, ask: &Ask<'_>) -> Result<Answer, FetchError> {
        let first = self.mirrored(url)?;
        let mut target = first.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut request =
                self.agent.get(target.clone()).header(header::ACCEPT_ENCODING, "identity");
            for (name, value) in &ask.headers {
                request = request.header(name, value);
            }
            if let Some(token) = ask.token
                && target.authority() == first.authority()
            {
                let value = Secret::new(format!("Bearer {}", token.expose()));
                request = request.header(header::AUTHORIZATION, value.expose());
            }
            if let Some(deadline) = ask.deadline {
                request = request.config().timeout_global(Some(deadline)).build();
            }
            let silent = |e| FetchError::Transport { host: host(&target), source: Box::new(e) };
            let (parts, body) = request.call().map_err(silent)?.into_parts();
            let is_redirect = matches!(parts.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            if !is_redirect {
                return Ok(Answer { headers: parts.headers, status: parts.status, body });
            }
            let location = parts.headers.get(header::LOCATION).and_then(|l| l.to_str().ok());
            target = resolve(&target, location.ok_or(FetchError::NoLocation)?)?;
        }
        Err(FetchError::TooManyRedirects)
    }

    /// Checks that a host, and those it redirects to, answer at all; any status will do.
    ///
    /// # Errors
    /// No answer, or one that is not trusted; [`Client::unreached`] tells them apart.
    pub(super) fn reach(&self, url: &str) -> Result<(), FetchError> {
        let ask = Ask { deadline: Some(self.options.patience), ..Ask::default() };
        let mut attempt = 1;
        loop {
            match self.ask(url, &ask) {
                // A timeout is not retried: it would take as long again.
                Err(e) if attempt < REACH_ATTEMPTS && e.may_pass() && !e.is_timeout() => {
                    std::thread::sleep(self.options.pause);
                    attempt += 1;
                }
                other => return other.map(drop),
            }
        }
    }

    /// The unreachable host, if that was the error: no name, no connection, no answer in time, or a proxy that refuses
    /// the connection. A host with an untrusted certificate did answer.
    pub(super) fn unreached(&self, error: &FetchError) -> Option<Unreached> {
        let FetchError::Transport { host, source } = error else { return None };
        let why = match &**source {
            ureq::Error::Io(e) if e.kind() != io::ErrorKind::InvalidData => e.to_string(),
            ureq::Error::Timeout(_) => format!("no answer within {:?}", self.options.patience),
            ureq::Error::HostNotFound => "its name does not resolve".to_owned(),
            ureq::Error::ConnectionFailed => "no connection".to_owned(),
            ureq::Error::ConnectProxyFailed(why) => why.clone(),
            _ => return None,
        };
        // The reason may be the proxy's.
        let target: Option<Uri> = format!("https://{host}/").parse().ok();
        let proxy = self.agent.config().proxy();
        let why = match proxy.filter(|p| !target.is_some_and(|t| p.is_no_proxy(&t))) {
            None => why,
            Some(proxy) => format!("{why} (through the proxy {}:{})", proxy.host(), proxy.port()),
        };
        Some(Unreached { host: host.clone(), why })
    }

    /// Repeats what may pass.
    pub(super) fn retry<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, FetchError>,
    ) -> Result<T, FetchError> {
        for number in 1.. {
            match attempt() {
                Err(e) if e.may_pass() && number < ATTEMPTS => {
                    std::thread::sleep(self.options.pause * 2u32.pow(number - 1));
                }
                Err(e) if e.may_pass() => {
                    return Err(FetchError::GivenUp { attempts: number, source: Box::new(e) });
                }
                done => return done,
            }
        }
        unreachable!("the last attempt returns")
    }

    /// A small text, such as a file of checksums.
    pub(super) fn text(&self, url: &str, limit: u64) -> Result<String, FetchError> {
        self.retry(|| {
            let answer = self.ask(url, &Ask::default())?.success()?;
            String::from_utf8(answer.bytes(limit)?).map_err(|_| FetchError::NotText)
        })
    }

    /// Downloads a file. One that is there with the right digest is not fetched again, and one that
    /// broke off goes on where it did, if the server says that it still is the same file.
    ///
    /// # Errors
    /// See [`FetchError`]. What came is kept for the next run, unless its digest is wrong.
    pub(super) fn download(&self, file: &Download<'_>, sink: &dyn Sink) -> Result<(), FetchError> {
        let file_lock = {
            let mut files = self.files.lock().expect("no thread panics while holding it");
            files.entry(file.to.to_owned()).or_default().clone()
        };
        // Who waited here finds the file.
        let _held = file_lock.lock().expect("no thread panics while holding it");
        if digest(file.to).is_ok_and(|d| d == *file.sha256) {
            return Ok(());
        }
        let part = PartialFile::beside(file.to);
        self.retry(|| self.attempt(file, &part, sink))?;
        let found = digest(&part.data).map_err(FetchError::disk(&part.data))?;
        if found != *file.sha256 {
            part.remove();
            let expected = file.sha256.to_string();
            return Err(FetchError::Checksum { expected, found: found.to_string() });
        }
        std::fs::rename(&part.data, file.to).map_err(FetchError::disk(file.to))?;
        part.remove();
        Ok(())
    }

    fn attempt(
        &self,
        file: &Download<'_>,
        part: &PartialFile,
        sink: &dyn Sink,
    ) -> Result<(), FetchError> {
        let disk = || FetchError::disk(&part.data);
        let mut have = std::fs::metadata(&part.data).map_or(0, |m| m.len());
        let mut ask = Ask { token: file.token, ..Ask::default() };
        match part.etag() {
            Some(etag) if have > 0 => {
                // RFC 9110, 13.1.5: the rest, but of another file the whole.
                ask.headers.push((header::RANGE, format!("bytes={have}-")));
                ask.headers.push((header::IF_RANGE, etag));
            }
            _ => have = 0,
        }
        let mut answer = self.ask(file.url, &ask)?;
        if answer.status == StatusCode::RANGE_NOT_SATISFIABLE {
            // What we have is no beginning of what they have.
            part.remove();
            have = 0;
            answer = self.ask(file.url, &Ask { token: file.token, ..Ask::default() })?;
        }
        let answer = answer.success()?;
        if answer.status != StatusCode::PARTIAL_CONTENT || answer.range_start() != Some(have) {
            if answer.status == StatusCode::PARTIAL_CONTENT {
                part.remove();
                let odd = io::Error::other("the server sent a different range than requested");
                return Err(FetchError::Body(odd));
            }
            have = 0;
        }
        let length = answer.body.content_length();
        let total = length.map(|l| l + have);
        if total.unwrap_or(have) > file.limit {
            return Err(FetchError::TooLarge(file.limit));
        }
        part.keep_etag(&answer.headers).map_err(disk())?;
        let mut out = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&part.data)
            .map_err(disk())?;
        out.set_len(have).map_err(disk())?;
        out.seek(SeekFrom::Start(have)).map_err(disk())?;
        let mut done = have;
        let send = |done_bytes| {
            let what = file.what.to_owned();
            sink.send(Event::Transfer { what, done_bytes, total_bytes: total });
        };
        send(done);
        let mut body = answer.body.into_with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = body.read(&mut buffer).map_err(FetchError::Body)?;
            if count == 0 {
                break;
            }
            let before = done;
            done += count as u64;
            if done > file.limit {
                part.remove();
                return Err(FetchError::TooLarge(file.limit));
            }
            out.write_all(&buffer[..count]).map_err(disk())?;
            if before / STEP != done / STEP {
                send(done);
            }
        }
        if total.is_some_and(|t| t != done) {
            return Err(FetchError::Body(io::ErrorKind::UnexpectedEof.into()));
        }
        send(done);
        out.sync_all().map_err(disk())
    }
}

impl Answer {
    /// An answer that is what was asked for.
    pub fn success(self) -> Result<Self, FetchError> {
        if self.status.is_success() { Ok(self) } else { Err(FetchError::Status(self.status)) }
    }

    /// The whole body.
    pub fn bytes(self, limit: u64) -> Result<Vec<u8>, FetchError> {
        let mut bytes = Vec::new();
        let body = self.body.into_with_config().limit(u64::MAX).reader();
        body.take(limit + 1).read_to_end(&mut bytes).map_err(FetchError::Body)?;
        if bytes.len() as u64 > limit { Err(FetchError::TooLarge(limit)) } else { Ok(bytes) }
    }

    /// A header as text.
    pub fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Start of a `Content-Range: bytes START-END/TOTAL` (RFC 9110, 14.4).
    fn range_start(&self) -> Option<u64> {
        let range = self.header(header::CONTENT_RANGE)?.strip_prefix("bytes ")?;
        range.split_once('-')?.0.parse().ok()
    }
}

/// A download that is not complete.
struct PartialFile {
    data: PathBuf,
    etag: PathBuf,
}

impl PartialFile {
    fn beside(to: &Path) -> Self {
        let with = |ending: &str| {
            let mut name = to.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        Self { data: with(".part"), etag: with(".etag") }
    }

    /// What the server called this version of the file. A weak name does not promise the same bytes.
    fn etag(&self) -> Option<String> {
        let etag = std::fs::read_to_string(&self.etag).ok()?;
        is_strong(&etag).then_some(etag)
    }

    fn keep_etag(&self, headers: &HeaderMap) -> io::Result<()> {
        let etag = headers.get(header::ETAG).and_then(|e| e.to_str().ok());
        std::fs::write(&self.etag, etag.filter(|e| is_strong(e)).unwrap_or_default())
    }

    fn remove(&self) {
        // What stays is truncated by the next attempt.
        let _ = std::fs::remove_file(&self.data);
        let _ = std::fs::remove_file(&self.etag);
    }
}

fn host(uri: &Uri) -> String {
    uri.authority().map_or_else(String::new, ToString::to_string)
}

fn is_strong(etag: &str) -> bool {
    etag.len() > 2 && etag.len() < 256 && etag.starts_with('"') && etag.ends_with('"')
}

fn digest(path: &Path) -> io::Result<Sha256Hex> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Sha256Hex::of(digest.finalize())),
            count => digest.update(&buffer[..count]),
        }
    }
}

fn parse_https(url: &str) -> Result<Uri, FetchError> {
    let uri: Uri = url.parse().map_err(|_| FetchError::NotHttps(url.to_owned()))?;
    let plain = uri.authority().is_some_and(|a| !a.as_str().contains('@'));
    if uri.scheme_str() == Some("https") && plain {
        Ok(uri)
    } else {
        Err(FetchError::NotHttps(url.to_owned()))
    }
}

/// The target of a redirect (RFC 9110, 10.2.2), which may be relative.
fn resolve(from: &Uri, location: &str) -> Result<Uri, FetchError> {
    let authority = from.authority().map(|a| a.as_str()).unwrap_or_default();
    if let Some(rest) = location.strip_prefix("//") {
        parse_https(&format!("https://{rest}"))
    } else if location.starts_with('/') {
        parse_https(&format!("https://{authority}{location}"))
    } else if location.contains("://") {
        parse_https(location)
    } else {
        let directory = from.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        parse_https(&format!("https://{authority}{directory}/{location}"))
    }
}

/// The default limit for files.
pub(super) const FILE_LIMIT: u64 = MAX_FILE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_to_https_only() {
        let from: Uri = "https://a.example/x/y?q=1".parse().unwrap();
        let to = |l: &str| resolve(&from, l).map(|u| u.to_string()).ok();
        assert_eq!(to("/z").as_deref(), Some("https://a.example/z"));
        assert_eq!(to("z").as_deref(), Some("https://a.example/x/z"));
        assert_eq!(to("//b.example/z?p").as_deref(), Some("https://b.example/z?p"));
        assert_eq!(to("https://b.example/z").as_deref(), Some("https://b.example/z"));
        for bad in
            ["http://a.example/z", "file:///etc/passwd", "https://u:p@b.example/", "https://"]
        {
            assert_eq!(to(bad), None, "{bad}");
        }
    }

    #[test]
    fn weak_names_of_a_version_do_not_resume() {
        assert!(is_strong("\"abc\""));
        for bad in ["W/\"abc\"", "abc", "\"\"", ""] {
            assert!(!is_strong(bad), "{bad}");
        }
    }
}
