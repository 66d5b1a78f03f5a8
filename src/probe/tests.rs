//! The program against real TLS servers.

// Everything here is test code, also the functions that clippy cannot tell for it.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params =
            CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        (params.unwrap().signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        Arc::new(roots)
    }
}

/// Three files of a client, and the CAs they come from.
struct Files {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap(), authority: Authority::new() };
        let (cert, key) = files.authority.issue(&[]);
        files.put("ca.crt", &files.authority.pem);
        files.put("probe.crt", &cert);
        files.put("probe.key", &key);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Exit status and standard error. Nothing but the arguments is given to the program.
    fn ask(&self, server: SocketAddr, timeout_s: u64) -> (Option<i32>, String) {
        let flag = |flag: &str, file| format!("--{flag}={}", self.path(file).display());
        let output = Command::new(env!("CARGO_BIN_EXE_probe"))
            .env_clear()
            .args([flag("ca", "ca.crt"), flag("cert", "probe.crt"), flag("key", "probe.key")])
            .args([&format!("--timeout-s={timeout_s}"), &server.to_string(), "/livez"])
            .output()
            .unwrap();
        assert!(output.stdout.is_empty());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.lines().count() == usize::from(!output.status.success()), "{said}");
        (output.status.code(), said)
    }
}

/// How a server treats certificates of clients.
enum Clients {
    /// Only those of a CA.
    Of(Arc<RootCertStore>),
    /// Nobody is asked for one.
    Any,
}

/// Serves one connection.
fn serve(
    authority: &Authority,
    names: &[&str],
    clients: Clients,
    handle: impl FnOnce(&mut StreamOwned<ServerConnection, TcpStream>) + Send + 'static,
) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        Clients::Any => builder.with_no_client_auth(),
        Clients::Of(roots) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap(),
        ),
    };
    let (cert, key) = authority.issue(names);
    let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = Arc::new(builder.with_single_cert(chain, key).unwrap());
    accept(move |tcp| {
        let tls = ServerConnection::new(config).unwrap();
        handle(&mut StreamOwned::new(tls, tcp));
    })
}

fn accept(handle: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || handle(listener.accept().unwrap().0));
    address
}

/// Reads a request, returns it, and answers.
fn answer(stream: &mut StreamOwned<ServerConnection, TcpStream>, text: &str) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => request.push(byte[0]),
            _ => return String::new(),
        }
    }
    stream.write_all(text.as_bytes()).unwrap();
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    String::from_utf8(request).unwrap()
}

/// What the program makes of an answer.
fn answered(text: &'static str) -> (Option<i32>, String) {
    let files = Files::new();
    let clients = Clients::Of(files.authority.roots());
    let server = serve(&files.authority, &["127.0.0.1"], clients, |stream| {
        answer(stream, text);
    });
    files.ask(server, 10)
}

#[test]
fn a_healthy_server_is_asked_with_the_certificate() {
    let files = Files::new();
    let (send, receive) = std::sync::mpsc::channel();
    let clients = Clients::Of(files.authority.roots());
    let server = serve(&files.authority, &["127.0.0.1"], clients, move |stream| {
        let request = answer(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        send.send((request, stream.conn.peer_certificates().map(<[_]>::len))).unwrap();
    });
    assert_eq!(files.ask(server, 10), (Some(0), String::new()));
    let (request, certificates) = receive.recv().unwrap();
    assert!(request.starts_with("GET /livez HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("\r\nHost: {server}\r\n")), "{request}");
    assert_eq!(certificates, Some(1));
}

#[test]
fn other_answers_are_said() {
    for (text, wanted) in [
        ("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "status 401"),
        ("HTTP/1.1 403 Forbidden\r\n\r\nlivez \u{1b}[31m", "status 403"),
        (
            "HTTP/1.1 500 Internal Server Error\r\n\r\n[+]ping ok\n[-]etcd failed: reason withheld\n[-]x\u{1b}y failed\nlivez check failed\n",
            "status 500: etcd, xy failed",
        ),
        ("HTTP/1.0 302 Found\r\nLocation: https://127.0.0.1/\r\n\r\n", "status 302"),
        ("HTTP/1.1 2000 OK\r\n\r\n", "the answer is not HTTP"),
        ("HTTP/1.1 +20 OK\r\n\r\n", "the answer is not HTTP"),
        ("SSH-2.0-OpenSSH_10.0 and more\r\n", "the answer is not HTTP"),
        ("HTTP/1.1 200", "the answer is not HTTP"),
        ("", "the answer is not HTTP"),
    ] {
        let (code, said) = answered(text);
        assert_eq!(code, Some(1), "{text}");
        assert_eq!(said, format!("kubastion-probe: {wanted}\n"), "{text}");
    }
}

#[test]
fn a_server_of_another_ca_is_not_believed() {
    let files = Files::new();
    let server = serve(&Authority::new(), &["127.0.0.1"], Clients::Any, |stream| {
        answer(stream, "HTTP/1.1 200 OK\r\n\r\n");
    });
    let (code, said) = files.ask(server, 10);
    assert_eq!(code, Some(1));
    assert!(said.contains("UnknownIssuer") || said.contains("BadSignature"), "{said}");
}

#[test]
fn a_server_of_another_name_is_not_believed() {
    let files = Files::new();
    let names = ["127.0.0.2", "localhost"];
    let server = serve(&files.authority, &names, Clients::Any, |stream| {
        answer(stream, "HTTP/1.1 200 OK\r\n\r\n");
    });
    let (code, said) = files.ask(server, 10);
    assert_eq!(code, Some(1));
    assert!(said.contains("not valid for name"), "{said}");
}

#[test]
fn a_refused_certificate_is_said() {
    let files = Files::new();
    let others = Clients::Of(Authority::new().roots());
    let server = serve(&files.authority, &["127.0.0.1"], others, |stream| {
        answer(stream, "HTTP/1.1 200 OK\r\n\r\n");
    });
    let (code, said) = files.ask(server, 10);
    assert_eq!(code, Some(1));
    assert!(said.contains("alert"), "{said}");
}

/// A byte now and then must not keep the program waiting.
#[test]
fn the_deadline_holds_for_everything_together() {
    let files = Files::new();
    let silent = accept(|mut tcp| {
        let _ = tcp.read_to_end(&mut Vec::new());
    });
    let clients = Clients::Of(files.authority.roots());
    let mute = serve(&files.authority, &["127.0.0.1"], clients, |stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let clients = Clients::Of(files.authority.roots());
    let slow = serve(&files.authority, &["127.0.0.1"], clients, |stream| {
        // Every byte comes well before the next is given up on; together they take twelve seconds.
        for byte in b"HTTP/1.1 200 ".chunks(1) {
            if stream.write_all(byte).and_then(|()| stream.flush()).is_err() {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(900));
        }
    });
    for (server, doing) in [
        (silent, "doing the TLS handshake"),
        (mute, "waiting for the answer"),
        (slow, "waiting for the"),
    ] {
        let begin = Instant::now();
        let (code, said) = files.ask(server, 1);
        assert_eq!(code, Some(1));
        assert!(said.contains("no answer within 1 s") && said.contains(doing), "{said}");
        let took = begin.elapsed();
        assert!(took >= Duration::from_millis(990) && took < Duration::from_secs(20), "{took:?}");
    }
}

#[test]
fn a_closed_port_and_a_clear_one_are_said() {
    let files = Files::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, said) = files.ask(closed, 10);
    assert_eq!(code, Some(1));
    assert!(said.contains(&format!("no connection to {closed}")), "{said}");

    let clear = accept(|mut tcp| {
        let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = tcp.read_to_end(&mut Vec::new());
    });
    let (code, said) = files.ask(clear, 10);
    assert_eq!(code, Some(1));
    assert!(said.contains("the connection broke"), "{said}");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let nobody: SocketAddr = "127.0.0.1:9".parse().unwrap();
    for (file, text, wanted) in [
        ("ca.crt", Some(""), "it contains no certificate"),
        ("ca.crt", None, "No such file"),
        ("probe.crt", Some("-----BEGIN CERTIFICATE-----\nnothing\n"), "it is not PEM"),
        ("probe.key", Some("text"), "it contains no private key"),
    ] {
        let files = Files::new();
        match text {
            Some(text) => files.put(file, text),
            None => std::fs::remove_file(files.path(file)).unwrap(),
        }
        let (code, said) = files.ask(nobody, 10);
        assert_eq!(code, Some(1), "{file} {text:?}");
        assert!(said.contains(file) && said.contains(wanted), "{said}");
    }
    let files = Files::new();
    files.put("probe.key", &KeyPair::generate().unwrap().serialize_pem());
    let (code, said) = files.ask(nobody, 10);
    assert_eq!(code, Some(1));
    assert!(said.contains("the client certificate cannot be used"), "{said}");
}

#[test]
fn wrong_arguments_end_with_one() {
    let output = Command::new(env!("CARGO_BIN_EXE_probe")).arg("--help").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("usage: "));
}
