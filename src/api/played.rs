//! An API server that is played, over TLS as a real one, for unit tests.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod};
use serde_json::Value;

use super::client::Client;
use crate::transport::{Output, Request, Rounds, Stream, Transport, TransportError};

type Play = dyn Fn(&str, &str, &Value) -> (u16, Value) + Send + Sync;

/// The node that reaches the server, and the server.
pub struct Server {
    play: Arc<Play>,
    asked: Arc<Mutex<Vec<String>>>,
    acceptor: SslAcceptor,
}

impl Server {
    /// One that answers a method, a path with its query, and a body with a status and a body.
    pub fn new(play: impl Fn(&str, &str, &Value) -> (u16, Value) + Send + Sync + 'static) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(vec!["api".to_owned()]).unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (cert, pem) = (dir.path().join("cert"), dir.path().join("key"));
        std::fs::write(&cert, certificate.pem()).unwrap();
        std::fs::write(&pem, key.serialize_pem()).unwrap();
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        acceptor.set_certificate_file(&cert, SslFiletype::PEM).unwrap();
        acceptor.set_private_key_file(&pem, SslFiletype::PEM).unwrap();
        let asked = Arc::default();
        Self { play: Arc::new(play), asked, acceptor: acceptor.build() }
    }

    /// A client of it, who is nobody.
    pub fn client(&mut self) -> Client<'_> {
        let host = "api".to_owned();
        Client { through: self, host, port: 6443, ca_pem: None, identity: None }
    }

    /// Method and path of what it was asked so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Transport for Server {
    fn run(&mut self, _: Request<'_>, _: &mut dyn FnMut(&str)) -> Result<Output, TransportError> {
        unreachable!("nothing but the API is asked")
    }

    fn dial(
        &mut self,
        _: &str,
        _: u16,
        _: Duration,
    ) -> Result<Box<dyn Stream + '_>, TransportError> {
        let (near, far) = UnixStream::pair().unwrap();
        let (play, asked) = (Arc::clone(&self.play), Arc::clone(&self.asked));
        let acceptor = self.acceptor.clone();
        std::thread::spawn(move || {
            // A client that hangs up ends it.
            let Ok(mut stream) = acceptor.accept(far) else { return };
            while let Some((method, path, body)) = heard(&mut stream) {
                asked.lock().unwrap().push(format!("{method} {path}"));
                let (status, answer) = play(&method, &path, &body);
                let answer = answer.to_string();
                let head =
                    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", answer.len());
                if stream.write_all((head + &answer).as_bytes()).is_err() {
                    return;
                }
            }
        });
        Ok(Box::new(near))
    }

    fn host_key(&self) -> &str {
        "SHA256:played"
    }

    fn rounds(&self) -> Rounds {
        Rounds::default()
    }
}

/// The next request; none at the end of the connection.
fn heard(stream: &mut impl Read) -> Option<(String, String, Value)> {
    let mut reader = BufReader::with_capacity(1, stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|n| *n > 0)?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((method, path, serde_json::from_slice(&body).unwrap_or_default()))
}
