//! An API server that answers as a test says, with the certificates of a real key store.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kubastion::api::ApiAccess;
use kubastion::clock::Clock;
use kubastion::inventory::{Inventory, LoadContext, NodeName, load_bytes};
use kubastion::pki::{self, Ca, CertificateKind};
use kubastion::transport::{Output, Request, Rounds, Stream, Transport, TransportError};
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use serde_json::Value;

const INVENTORY: &str = "
version: kubastion/v1
cluster: { name: t, kubernetes: 1.36.2, endpoint: \"192.0.2.11:6443\" }
ssh: { agent: true, known_hosts: kh }
nodes:
  - { name: cp1, addresses: [192.0.2.11], roles: [control-plane] }
  - { name: w1, addresses: [192.0.2.21], roles: [worker] }
";

/// A request that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Over which connection, from 1 on.
    pub connection: usize,
    /// Method and path with its query.
    pub line: String,
    /// Media type of what came with it, or nothing.
    pub media: String,
    /// The JSON that came with it, or null.
    pub body: Value,
}

/// The server, and whom it takes for the administrator.
pub(crate) struct FakeApi {
    /// The cluster that it is of.
    pub inventory: Inventory,
    /// How it is asked.
    pub access: ApiAccess,
    /// What it was asked.
    pub asked: Arc<Mutex<Vec<Asked>>>,
    port: u16,
}

type Answer = dyn FnMut(&Asked) -> (u16, Value) + Send;

impl FakeApi {
    /// Serves until the test process ends. Each connection is cut, without a word, after so many answers.
    pub(crate) fn start(
        cut_after: usize,
        answer: impl FnMut(&Asked) -> (u16, Value) + Send + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::System;
        let ids = kubastion::controls::ids::ALL;
        let context = LoadContext {
            clock,
            known_controls: &ids,
            critical_controls: &kubastion::controls::ids::CRITICAL,
            impact_rows: kubastion::impact::IDS,
            conflicts: kubastion::controls::conflict,
            home: None,
            host_keys_optional: false,
        };
        let text = INVENTORY.as_bytes();
        let inventory = load_bytes(text, Path::new("i"), dir.path(), &context).unwrap().inventory;
        let ask: pki::AskPassphrase<'_> = &|_| Err(std::io::Error::other("no passphrase"));
        let mut store = pki::Store::open(&inventory.pki, &inventory.cluster.name, ask).unwrap();
        let (material, _) = pki::ensure(&inventory, &mut store, ask, clock).unwrap();
        let cp1: NodeName = "cp1".parse().unwrap();
        let ca_pem = material.trust(Ca::Cluster).bundle().to_owned();

        let own = material.node(CertificateKind::Apiserver, &cp1).unwrap();
        let mut b = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        b.set_certificate(&X509::from_pem(own.cert_pem.as_bytes()).unwrap()).unwrap();
        b.set_private_key(&PKey::private_key_from_pem(own.key_pem.expose()).unwrap()).unwrap();
        let mut clients = X509StoreBuilder::new().unwrap();
        clients.add_cert(X509::from_pem(ca_pem.as_bytes()).unwrap()).unwrap();
        b.set_verify_cert_store(clients.build()).unwrap();
        b.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        let acceptor = b.build();

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let mut answer: Box<Answer> = Box::new(answer);
        std::thread::spawn(move || {
            for (i, stream) in listener.incoming().flatten().enumerate() {
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                // One connection after the other, as the client has them.
                let Ok(tls) = acceptor.accept(stream) else { continue };
                let mut tls = BufReader::new(tls);
                for _ in 0..cut_after {
                    let Some(request) = read(&mut tls, i + 1) else { break };
                    log.lock().unwrap().push(request.clone());
                    let (status, body) = answer(&request);
                    let body = body.to_string();
                    let head =
                        format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
                    if tls.get_mut().write_all((head + &body).as_bytes()).is_err() {
                        break;
                    }
                }
            }
        });
        let admin = material.operator(CertificateKind::Admin).unwrap();
        let access = ApiAccess {
            servers: vec![(cp1, "192.0.2.11".parse().unwrap())],
            ca_pem,
            front_proxy_ca_pem: material.trust(Ca::FrontProxy).bundle().to_owned(),
            certificate_pem: admin.cert_pem.clone(),
            key_pem: admin.key_pem.clone(),
        };
        Self { inventory, access, asked, port }
    }

    /// A connection to the node that the server runs on.
    pub(crate) fn node(&self) -> impl Transport + use<> {
        Beside(self.port)
    }

    /// The lines of all requests so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|a| a.line.clone()).collect()
    }
}

fn read(stream: &mut impl BufRead, connection: usize) -> Option<Asked> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|n| *n > 0)?;
        if line == "\r\n" {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let header = |name: &str| {
        lines.iter().find_map(|l| l.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)))
    };
    let length = header("content-length").map_or(0, |(_, length)| length.parse().unwrap());
    let media = header("content-type").map(|(_, media)| media.to_owned()).unwrap_or_default();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let line = lines[0].trim_end_matches(" HTTP/1.1").to_owned();
    Some(Asked { connection, line, media, body: serde_json::from_slice(&body).unwrap_or_default() })
}

/// A node on which every address is the fake's.
struct Beside(u16);

impl Transport for Beside {
    fn run(&mut self, _: Request<'_>, _: &mut dyn FnMut(&str)) -> Result<Output, TransportError> {
        panic!("nothing is run")
    }

    fn dial(
        &mut self,
        _: &str,
        _: u16,
        timeout: Duration,
    ) -> Result<Box<dyn Stream + '_>, TransportError> {
        let stream = TcpStream::connect(("127.0.0.1", self.0)).unwrap();
        stream.set_read_timeout(Some(timeout)).unwrap();
        Ok(Box::new(stream))
    }

    fn host_key(&self) -> &str {
        ""
    }

    fn rounds(&self) -> Rounds {
        Rounds::default()
    }
}
