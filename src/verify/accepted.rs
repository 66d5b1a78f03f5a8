//! The client CAs that a server accepts, as named in its TLS handshake (RFC 8446 section 4.2.4, RFC 5246 section 7.4.4).
//! That is what it loaded, whatever its file holds now.

use std::sync::{Arc, Mutex};

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, ring::default_provider, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, sign};
use x509_parser::prelude::FromDer;

use super::tls::{Answer, no_way};
use super::{CONNECT_TIMEOUT, Judged};
use crate::checks::Verdict;
use crate::checks::node::certificates::{all, subject};
use crate::digest::Digest;
use crate::transport::{Stream, Transport};

/// The verdict on the CAs that a server names, against those that it is to take.
pub(super) fn accepted(
    through: &mut dyn Transport,
    host: &str,
    port: u16,
    wanted: Option<&[String]>,
) -> Judged {
    let Some(wanted) = wanted else {
        return Judged::unknown("there is no CA to compare with");
    };
    let wanted: Option<Vec<Vec<u8>>> = wanted
        .iter()
        .map(|bundle| all(bundle)?.iter().map(|der| subject(der)).collect::<Option<Vec<_>>>())
        .collect::<Option<Vec<_>>>()
        .map(|of| of.into_iter().flatten().collect());
    let Some(wanted) = wanted else {
        return Judged::unknown("a CA to compare with cannot be read");
    };
    let stream = match through.dial(host, port, CONNECT_TIMEOUT) {
        Ok(stream) => stream,
        Err(e) => return Judged::unknown(no_way(&e).why().err().unwrap_or_default()),
    };
    match asked(stream, host) {
        Err(answer) => {
            let heard = answer.digest();
            Judged::by(heard, Verdict::unknown(answer.why().err().unwrap_or_default()))
        }
        Ok(None) => Judged::by(
            Digest::of("the server does not ask for a client certificate"),
            Verdict::fail(
                "the server asks clients for a certificate",
                "the server does not ask for a client certificate",
            ),
        ),
        Ok(Some(named)) => {
            let heard = Digest::of_pieces(named.iter().map(Vec::as_slice));
            Judged::by(heard, judge(wanted, named))
        }
    }
}

/// Each CA counts as often as it is named: another one of the same name is another one.
fn judge(mut wanted: Vec<Vec<u8>>, named: Vec<Vec<u8>>) -> Verdict {
    if named.is_empty() {
        return Verdict::unknown("the server does not list its client CAs");
    }
    let count = named.len();
    let mut others = Vec::new();
    for name in named {
        match wanted.iter().position(|w| *w == name) {
            Some(at) => {
                wanted.swap_remove(at);
            }
            None => others.push(words(&name)),
        }
    }
    let expected = "only certificates of the cluster's CAs";
    if !others.is_empty() {
        return Verdict::fail(
            expected,
            format!("it also accepts certificates of {}", others.join(", ")),
        );
    }
    if let Some(missing) = wanted.first() {
        return Verdict::fail(
            expected,
            format!("it does not accept certificates of {}", words(missing)),
        );
    }
    Verdict::pass(format!("only certificates of the cluster's {count} CAs"))
}

/// A distinguished name for a report.
fn words(name: &[u8]) -> String {
    let text = x509_parser::x509::X509Name::from_der(name).map(|(_, n)| n.to_string());
    let text = text.unwrap_or_else(|_| "a CA without a readable name".to_owned());
    crate::checks::rule::shown(Some(&text)).trim_matches('`').to_owned()
}

/// Shakes hands without a certificate. The names of the CAs, or `None` if the server wants no certificate.
fn asked(stream: Box<dyn Stream + '_>, host: &str) -> Result<Option<Vec<Vec<u8>>>, Answer> {
    let provider = Arc::new(default_provider());
    let nobody = Arc::new(Nobody::default());
    let setup = |e: String| Answer::Nothing(format!("this machine's TLS cannot be set up: {e}"));
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| setup(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_client_cert_resolver(nobody.clone());
    config.enable_sni = false;
    let name = ServerName::try_from(host.to_owned()).map_err(|e| setup(e.to_string()))?;
    let mut client =
        ClientConnection::new(Arc::new(config), name).map_err(|e| setup(e.to_string()))?;
    let mut stream = stream;
    let mut ended = None;
    // The names come in the handshake; that the server then refuses us is what it should do.
    while client.is_handshaking() && ended.is_none() {
        ended = client.complete_io(&mut stream).err();
    }
    let named = nobody.named.lock().map(|n| n.clone()).unwrap_or_default();
    match (named, ended) {
        (Some(named), _) => Ok(Some(named)),
        (None, None) => Ok(None),
        (None, Some(e)) => Err(Answer::Refused(e.to_string())),
    }
}

/// Shows no certificate, and remembers whose would be taken.
#[derive(Debug, Default)]
struct Nobody {
    named: Mutex<Option<Vec<Vec<u8>>>>,
}

impl ResolvesClientCert for Nobody {
    fn resolve(&self, names: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<sign::CertifiedKey>> {
        if let Ok(mut named) = self.named.lock() {
            *named = Some(names.iter().map(|n| n.to_vec()).collect());
        }
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Takes any server, as an attacker would: nothing is told to it.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Outcome;

    #[test]
    fn one_ca_more_and_one_of_the_same_name_are_both_noticed() {
        let (a, b) = (vec![1], vec![2]);
        let of = |named: &[&Vec<u8>]| {
            judge(vec![a.clone(), b.clone()], named.iter().map(|n| (*n).clone()).collect())
                .outcome()
        };
        assert_eq!(of(&[&b, &a]), Outcome::Pass);
        assert_eq!(of(&[&b, &a, &a]), Outcome::Fail);
        assert_eq!(of(&[&b, &a, &vec![3]]), Outcome::Fail);
        assert_eq!(of(&[&a]), Outcome::Fail);
        assert_eq!(of(&[]), Outcome::Unknown);
    }
}
