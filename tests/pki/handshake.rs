//! Real mutual-TLS handshakes: a rustls client and a rustls server, joined in memory.

use std::sync::Arc;
use std::time::Duration as StdDuration;

use super::*;
use kubastion::pki::Pair;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use rustls::{SupportedProtocolVersion, version};

#[derive(Debug)]
struct At(OffsetDateTime);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = self.0.unix_timestamp().try_into().unwrap();
        Some(UnixTime::since_unix_epoch(StdDuration::from_secs(seconds)))
    }
}

fn roots(ca: &Pair) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.cert_pem.as_bytes()).unwrap()).unwrap();
    Arc::new(roots)
}

fn identity(pair: &Pair) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let cert = CertificateDer::from_pem_slice(pair.cert_pem.as_bytes()).unwrap();
    (vec![cert], PrivateKeyDer::from_pem_slice(pair.key_pem.expose()).unwrap())
}

/// Who meets whom.
struct Meeting<'a> {
    server: &'a Pair,
    /// Under which name the client knows the server.
    name: &'a str,
    /// The CA that the client trusts.
    client_trusts: &'a Pair,
    client: Option<&'a Pair>,
    /// The CA that the server trusts.
    server_trusts: &'a Pair,
    tls: &'static SupportedProtocolVersion,
}

/// Shakes hands and sends a word each way.
fn meet(m: &Meeting<'_>) -> Result<(), rustls::Error> {
    let provider = Arc::new(default_provider());
    let time: Arc<dyn TimeProvider> = Arc::new(At(NOW));
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots(m.server_trusts), provider.clone())
            .build()
            .unwrap();
    let (certs, key) = identity(m.server);
    let server = ServerConfig::builder_with_details(provider.clone(), time.clone())
        .with_protocol_versions(&[m.tls])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certs, key)?;
    let client = ClientConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[m.tls])?
        .with_root_certificates(roots(m.client_trusts));
    let client = match m.client {
        Some(pair) => {
            let (certs, key) = identity(pair);
            client.with_client_auth_cert(certs, key)?
        }
        None => client.with_no_client_auth(),
    };
    let name = ServerName::try_from(m.name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    std::io::Write::write_all(&mut client.writer(), b"ping").unwrap();
    let mut heard = Vec::new();
    // Six flights are enough for any handshake; more would be a loop.
    for _ in 0..6 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            server.read_tls(&mut wire).unwrap();
            server.process_new_packets()?;
        }
        let mut buffer = [0u8; 16];
        if let Ok(n) = std::io::Read::read(&mut server.reader(), &mut buffer) {
            heard.extend_from_slice(&buffer[..n]);
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            client.read_tls(&mut wire).unwrap();
            client.process_new_packets()?;
        }
    }
    assert_eq!(heard, b"ping", "the handshake ended and nothing was heard");
    Ok(())
}

pub(super) fn every_profile_shakes_hands_and_strangers_are_refused(material: &Material) {
    let cp = "cp-1".parse().unwrap();
    let pair = |kind: CertificateKind| {
        material.node(kind, &cp).or_else(|| material.operator(kind)).unwrap()
    };
    let mut met = 0;
    for tls in [&version::TLS13, &version::TLS12] {
        for profile in PROFILES {
            let usages = format!("{:?}", profile.ext_key_usages);
            let own_ca = material.ca(profile.issuer).unwrap();
            // The partner from the same side of the cluster.
            let (server, client) = match profile.issuer {
                Ca::Etcd => (CertificateKind::EtcdServer, CertificateKind::ApiserverEtcdClient),
                Ca::Cluster | Ca::FrontProxy => {
                    (CertificateKind::Apiserver, CertificateKind::ApiserverKubeletClient)
                }
            };
            if usages.contains("ServerAuth") {
                let good = Meeting {
                    server: pair(profile.kind),
                    name: "192.0.2.11",
                    client_trusts: own_ca,
                    client: Some(pair(client)),
                    server_trusts: own_ca,
                    tls,
                };
                meet(&good).unwrap_or_else(|e| panic!("{}: {e}", profile.file));
                for ca in Ca::ALL.iter().copied().filter(|ca| *ca != profile.issuer) {
                    let client_trusts = material.ca(ca).unwrap();
                    assert!(meet(&Meeting { client_trusts, ..good }).is_err());
                }
                assert!(meet(&Meeting { client: None, ..good }).is_err(), "anonymous");
                assert!(meet(&Meeting { name: "other.example", ..good }).is_err());
                met += 1;
            }
            if usages.contains("ClientAuth") {
                let good = Meeting {
                    server: pair(server),
                    name: "192.0.2.11",
                    client_trusts: material.ca(server.profile().issuer).unwrap(),
                    client: Some(pair(profile.kind)),
                    server_trusts: own_ca,
                    tls,
                };
                meet(&good).unwrap_or_else(|e| panic!("{}: {e}", profile.file));
                for ca in Ca::ALL.iter().copied().filter(|ca| *ca != profile.issuer) {
                    let server_trusts = material.ca(ca).unwrap();
                    assert!(meet(&Meeting { server_trusts, ..good }).is_err(), "{}", profile.file);
                }
                met += 1;
            } else {
                // A server's certificate is no client's.
                let m = Meeting {
                    server: pair(server),
                    name: "192.0.2.11",
                    client_trusts: own_ca,
                    client: Some(pair(profile.kind)),
                    server_trusts: own_ca,
                    tls,
                };
                assert!(meet(&m).is_err(), "{} as a client", profile.file);
            }
        }
    }
    // Four rows serve, twelve are clients, in two versions of TLS.
    assert_eq!(met, 32);
}
