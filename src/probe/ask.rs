//! One HTTPS request with a client certificate and a deadline for all of it.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::args::Args;

/// The most that is read of an answer, in bytes. The list of an API server's checks is shorter.
const MAX_ANSWER: u64 = 64 * 1024;

/// Why the server does not count as healthy. `Display` says all of it: the program prints one line.
#[derive(Debug)]
pub(crate) enum NotHealthy {
    /// A named file cannot be used.
    File(PathBuf, String),
    /// The certificate and the key cannot be used together, or no cipher suite is there.
    Setup(String),
    /// No connection.
    Connect(SocketAddr, io::Error),
    /// The handshake, the request or the answer broke off.
    Exchange(io::Error),
    /// The deadline passed.
    Deadline(Duration, &'static str),
    /// The answer is no HTTP.
    Garbage,
    /// Another status than 200, and the checks that the server names as failed.
    Status(u16, String),
}

impl std::fmt::Display for NotHealthy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path, why) => write!(f, "{}: {why}", path.display()),
            Self::Setup(why) => write!(f, "the client certificate cannot be used: {why}"),
            Self::Connect(server, e) => write!(f, "no connection to {server}: {e}"),
            Self::Exchange(e) => write!(f, "the connection broke: {e}"),
            Self::Deadline(all, doing) => {
                write!(f, "no answer within {} s: timed out while {doing}", all.as_secs())
            }
            Self::Garbage => write!(f, "the answer is not HTTP"),
            Self::Status(status, checks) if checks.is_empty() => write!(f, "status {status}"),
            Self::Status(status, checks) => write!(f, "status {status}: {checks}"),
        }
    }
}

/// Asks once. `Ok` means that the server showed a certificate of the CA for the address, and
/// answered 200.
///
/// Not checked: revocation, for which Kubernetes has no lists.
pub(crate) fn ask(args: &Args) -> Result<(), NotHealthy> {
    let end = Instant::now() + args.timeout;
    let late = |doing| NotHealthy::Deadline(args.timeout, doing);
    let config = config(args)?;
    let name = ServerName::from(args.server.ip());
    let tls = ClientConnection::new(Arc::new(config), name)
        .map_err(|e| NotHealthy::Setup(e.to_string()))?;

    let left = left(end).map_err(|_| late("connecting"))?;
    let tcp = TcpStream::connect_timeout(&args.server, left).map_err(|e| match e.kind() {
        ErrorKind::TimedOut => late("connecting"),
        _ => NotHealthy::Connect(args.server, e),
    })?;
    let mut stream = StreamOwned::new(tls, Timed { tcp, end });
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: kubastion-probe\r\nConnection: close\r\n\r\n",
        args.path, args.server
    );
    let broken = |doing| {
        move |e: io::Error| match e.kind() {
            ErrorKind::TimedOut => late(doing),
            _ => NotHealthy::Exchange(e),
        }
    };
    stream.write_all(request.as_bytes()).map_err(broken("doing the TLS handshake"))?;
    stream.flush().map_err(broken("asking"))?;
    answer(&mut stream.take(MAX_ANSWER)).map_err(|e| match e {
        Unanswered::Io(e) => broken("waiting for the answer")(e),
        Unanswered::NotHealthy(e) => e,
    })
}

/// What is left of the time; never zero.
fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A connection whose every call ends with the deadline. A timeout of the socket alone would start
/// anew with every byte that a slow server sends.
struct Timed {
    tcp: TcpStream,
    end: Instant,
}

/// A socket says `WouldBlock` when its timeout has passed.
fn timed_out(e: io::Error) -> io::Error {
    if e.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { e }
}

impl Read for Timed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.tcp.set_read_timeout(Some(left(self.end)?))?;
        self.tcp.read(into).map_err(timed_out)
    }
}

impl Write for Timed {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.tcp.set_write_timeout(Some(left(self.end)?))?;
        self.tcp.write(from).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

fn config(args: &Args) -> Result<ClientConfig, NotHealthy> {
    let mut roots = RootCertStore::empty();
    for ca in certificates(&args.ca)? {
        roots.add(ca).map_err(|e| NotHealthy::File(args.ca.clone(), e.to_string()))?;
    }
    let chain = certificates(&args.cert)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&args.key)?)
        .map_err(|e| NotHealthy::File(args.key.clone(), pem_words(&e, "private key")))?;
    let setup = |e: rustls::Error| NotHealthy::Setup(e.to_string());
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(setup)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(setup)
}

fn read(path: &Path) -> Result<Vec<u8>, NotHealthy> {
    fs::read(path).map_err(|e| NotHealthy::File(path.to_owned(), e.to_string()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, NotHealthy> {
    let text = read(path)?;
    let file = |why| NotHealthy::File(path.to_owned(), why);
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|e| file(pem_words(&e, "certificate")))?;
    if all.is_empty() { Err(file("it contains no certificate".into())) } else { Ok(all) }
}

fn pem_words(e: &pem::Error, what: &str) -> String {
    match e {
        pem::Error::NoItemsFound => format!("it contains no {what}"),
        _ => "it is not PEM".to_owned(),
    }
}

/// Why an answer does not say "healthy".
enum Unanswered {
    /// Reading it broke off.
    Io(io::Error),
    /// It was read.
    NotHealthy(NotHealthy),
}

/// Reads an answer as far as it matters.
fn answer(stream: &mut impl Read) -> Result<(), Unanswered> {
    let mut seen = Vec::new();
    let mut part = [0; 4096];
    let status = loop {
        // "HTTP/1.1 200 OK": RFC 9112, section 4.
        if seen.len() >= STATUS_LENGTH {
            let garbage = Unanswered::NotHealthy(NotHealthy::Garbage);
            break status(&seen).ok_or(garbage)?;
        }
        match stream.read(&mut part) {
            Ok(0) => return Err(Unanswered::NotHealthy(NotHealthy::Garbage)),
            Ok(n) => seen.extend_from_slice(part.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(Unanswered::Io(e)),
        }
    };
    if status == 200 {
        return Ok(());
    }
    // The verdict stands; the rest only says more about it, as far as it comes.
    while let Ok(n) = stream.read(&mut part) {
        if n == 0 {
            break;
        }
        seen.extend_from_slice(part.get(..n).unwrap_or_default());
    }
    Err(Unanswered::NotHealthy(NotHealthy::Status(status, failed_checks(&seen))))
}

/// Bytes up to the status and the one after it.
const STATUS_LENGTH: usize = "HTTP/1.1 200 ".len();

fn status(answer: &[u8]) -> Option<u16> {
    let (version, rest) = answer.first_chunk::<STATUS_LENGTH>()?.split_at("HTTP/1.".len());
    match rest {
        [b'0' | b'1', b' ', digits @ .., b' ' | b'\r']
            if version == b"HTTP/1." && digits.iter().all(u8::is_ascii_digit) =>
        {
            std::str::from_utf8(digits).ok()?.parse().ok()
        }
        _ => None,
    }
}

/// The checks that an API server lists as failed, as in `[-]etcd failed: reason withheld`.
fn failed_checks(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let names = text
        .lines()
        .filter_map(|l| l.strip_prefix("[-]")?.split_whitespace().next())
        .map(|name| name.chars().filter(|c| !c.is_control()).take(80).collect::<String>());
    let names: Vec<String> = names.take(20).collect();
    if names.is_empty() { String::new() } else { format!("{} failed", names.join(", ")) }
}
