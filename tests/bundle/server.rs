//! Release hosts and registries on loopback: HTTPS with a CA of their own, and a proxy before them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Host and path without port, as in `dl.k8s.io/release/...`.
    pub target: String,
    pub headers: BTreeMap<String, String>,
}

/// What a server does beside serving the file.
#[derive(Debug, Clone)]
pub(crate) enum Twist {
    /// Sends so many bytes of the body and hangs up.
    CutAfter(usize),
    /// Answers with this status and header.
    Status(u16, &'static str, String),
    /// Claims this length.
    ClaimLength(u64),
    /// Wants a token from this address, which must be sent.
    Token(String),
}

/// What the hosts hold.
#[derive(Default)]
pub(crate) struct World {
    pub files: Mutex<BTreeMap<String, Vec<u8>>>,
    pub types: Mutex<BTreeMap<String, &'static str>>,
    pub twists: Mutex<BTreeMap<String, Vec<Twist>>>,
    pub log: Mutex<Vec<Request>>,
}

impl World {
    pub fn put(&self, target: &str, bytes: impl Into<Vec<u8>>) {
        self.files.lock().unwrap().insert(target.to_owned(), bytes.into());
    }

    /// The twists of a target, one for each request; the last one stays if `forever`.
    pub fn twist(&self, target: &str, twists: Vec<Twist>) {
        self.twists.lock().unwrap().insert(target.to_owned(), twists);
    }

    pub fn requests(&self, target: &str) -> Vec<Request> {
        self.log.lock().unwrap().iter().filter(|r| r.target == target).cloned().collect()
    }
}

pub(crate) struct Server {
    pub world: Arc<World>,
    pub port: u16,
    pub ca_pem: String,
}

pub(crate) const HOSTS: &[&str] = &["dl.k8s.io", "github.com", "registry.k8s.io"];

/// Starts the hosts. They end with the test binary.
pub(crate) fn start() -> Server {
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "a CA of the tests");
    let ca = params.self_signed(&ca_key).unwrap();
    let ca_pem = ca.pem();
    let issuer = Issuer::new(params, ca_key);
    let mut names: Vec<String> = HOSTS.iter().copied().map(str::to_owned).collect();
    names.extend(["localhost".to_owned(), "127.0.0.1".to_owned()]);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    let config = Arc::new(config);
    let world = Arc::new(World::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let shared = world.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, world) = (config.clone(), shared.clone());
            std::thread::spawn(move || {
                stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                let connection = rustls::ServerConnection::new(config).unwrap();
                let mut tls = rustls::StreamOwned::new(connection, stream);
                // A client that hangs up is no failure of the server.
                while serve(&mut tls, &world).is_some() {}
            });
        }
    });
    Server { world, port, ca_pem }
}

type Tls = rustls::StreamOwned<rustls::ServerConnection, TcpStream>;

/// Serves one request; `None` if the connection is over.
fn serve(tls: &mut Tls, world: &World) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if tls.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|l| l.split_once(": "))
        .map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()))
        .collect();
    let host = headers["host"].split(':').next()?;
    // A mirror names the host as the first part of the path.
    let target = if host == "localhost" {
        path.trim_start_matches('/').to_owned()
    } else {
        format!("{host}{path}")
    };
    let request = Request { target: target.clone(), headers };
    world.log.lock().unwrap().push(request.clone());
    let twist = {
        let mut twists = world.twists.lock().unwrap();
        let left = twists.get_mut(&target);
        left.filter(|l| !l.is_empty()).map(|l| l.remove(0))
    };
    let file = world.files.lock().unwrap().get(&target).cloned();
    answer(tls, world, &request, file, twist)
}

fn answer(
    tls: &mut Tls,
    world: &World,
    request: &Request,
    file: Option<Vec<u8>>,
    twist: Option<Twist>,
) -> Option<()> {
    let mut plain = |status: &str, header: &str| {
        let text = format!("HTTP/1.1 {status}\r\n{header}Content-Length: 0\r\n\r\n");
        tls.write_all(text.as_bytes()).ok()
    };
    match &twist {
        Some(Twist::Status(status, name, value)) => {
            let header = match *name {
                "" => String::new(),
                name => format!("{name}: {value}\r\n"),
            };
            return plain(&format!("{status} x"), &header);
        }
        Some(Twist::Token(realm)) if !request.headers.contains_key("authorization") => {
            let challenge = format!(
                "WWW-Authenticate: Bearer realm=\"{realm}\",service=\"test\",scope=\"x\"\r\n"
            );
            return plain("401 x", &challenge);
        }
        _ => {}
    }
    let Some(file) = file else { return plain("404 Not Found", "") };
    let etag = format!("\"{}\"", super::archive::sha256(&file));
    let wanted = request.headers.get("range").and_then(|range| {
        let start = range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok()?;
        (request.headers.get("if-range") == Some(&etag) && start < file.len()).then_some(start)
    });
    let start = wanted.unwrap_or(0);
    let body = &file[start..];
    let length = match twist {
        Some(Twist::ClaimLength(length)) => length,
        _ => body.len() as u64,
    };
    let status = match wanted {
        Some(start) => format!(
            "206 Partial Content\r\nContent-Range: bytes {start}-{}/{}",
            file.len() - 1,
            file.len()
        ),
        None => "200 OK".to_owned(),
    };
    let kind = world.types.lock().unwrap().get(&request.target).copied();
    let kind = kind.unwrap_or("application/octet-stream");
    let head = format!(
        "HTTP/1.1 {status}\r\nETag: {etag}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    );
    tls.write_all(head.as_bytes()).ok()?;
    let count = match twist {
        Some(Twist::CutAfter(count)) => count.min(body.len()),
        _ => body.len(),
    };
    tls.write_all(&body[..count]).ok()?;
    tls.flush().ok()?;
    if count < body.len() {
        // Hangs up in the middle, without a goodbye of TLS.
        tls.sock.shutdown(std::net::Shutdown::Both).ok()?;
        return None;
    }
    Some(())
}

/// A proxy that brings every CONNECT to the server, and remembers for whom.
pub(crate) struct Proxy {
    pub port: u16,
    pub asked: Arc<Mutex<Vec<String>>>,
}

pub(crate) fn proxy(to: u16) -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let shared = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let shared = shared.clone();
            std::thread::spawn(move || tunnel(stream, to, &shared));
        }
    });
    Proxy { port, asked }
}

fn tunnel(stream: TcpStream, to: u16, asked: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 2 {
        line.clear();
    }
    let target = first.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned();
    asked.lock().unwrap().push(target);
    let server = TcpStream::connect(("127.0.0.1", to)).ok()?;
    (&stream).write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    let (mut up, mut down) = (server.try_clone().ok()?, server);
    std::thread::spawn(move || {
        std::io::copy(&mut reader, &mut up).ok();
        up.shutdown(std::net::Shutdown::Write).ok();
    });
    std::io::copy(&mut down, &mut &stream).ok();
    stream.shutdown(std::net::Shutdown::Both).ok()
}
