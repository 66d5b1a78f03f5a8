//! TLS over a stream. By OpenSSL, since probes have to offer versions and suites that must be refused.

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{
    HandshakeError, SslConnector, SslConnectorBuilder, SslMethod, SslStream, SslVerifyMode,
    SslVersion,
};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;

use super::Stream;
use crate::secret::Secret;

/// The certificate a client presents.
#[derive(Clone, Copy)]
pub struct ClientIdentity<'a> {
    /// Certificate, PEM.
    pub certificate_pem: &'a str,
    /// Private key, PEM (PKCS#8).
    pub key_pem: &'a Secret<Vec<u8>>,
}

/// Whom to expect and how to appear.
pub struct TlsClient<'a> {
    /// CA certificates, PEM, to one of which the server's must chain. `None` accepts any: only for probes that
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

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The client's own material cannot be used.
    #[error("the client side cannot be set up")]
    Setup(#[source] ErrorStack),
    /// The handshake was refused, or the server's certificate is not the expected one.
    #[error("TLS handshake failed: {0}")]
    Handshake(String),
}

/// Shakes hands over a stream and hands back the TLS stream.
///
/// # Errors
/// See [`TlsError`].
pub fn connect<'s>(
    stream: Box<dyn Stream + 's>,
    client: &TlsClient<'_>,
) -> Result<SslStream<Box<dyn Stream + 's>>, TlsError> {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(TlsError::Setup)?;
    set_up(&mut builder, client).map_err(TlsError::Setup)?;
    let mut configuration = builder.build().configure().map_err(TlsError::Setup)?;
    if client.ca_pem.is_none() {
        configuration.set_verify_hostname(false);
    }
    configuration.connect(client.server, stream).map_err(|e| match e {
        HandshakeError::SetupFailure(e) => TlsError::Setup(e),
        HandshakeError::Failure(s) | HandshakeError::WouldBlock(s) => {
            TlsError::Handshake(s.error().to_string())
        }
    })
}

fn set_up(builder: &mut SslConnectorBuilder, client: &TlsClient<'_>) -> Result<(), ErrorStack> {
    match client.ca_pem {
        Some(pem) => {
            let mut store = X509StoreBuilder::new()?;
            let cas = X509::stack_from_pem(pem.as_bytes())?;
            if cas.is_empty() {
                // With its reason: without any, every server would seem to be at fault.
                X509::from_pem(pem.as_bytes())?;
            }
            for ca in cas {
                store.add_cert(ca)?;
            }
            builder.set_verify_cert_store(store.build())?;
            builder.set_verify(SslVerifyMode::PEER);
        }
        None => builder.set_verify(SslVerifyMode::NONE),
    }
    if let Some(identity) = &client.identity {
        builder.set_certificate(&*X509::from_pem(identity.certificate_pem.as_bytes())?)?;
        builder.set_private_key(&*PKey::private_key_from_pem(identity.key_pem.expose())?)?;
    }
    if let Some(version) = client.max_version {
        // Old versions and ciphers are offered only to see them refused.
        builder.set_security_level(0);
        builder.set_min_proto_version(None)?;
        builder.set_max_proto_version(Some(version))?;
    }
    if let Some(ciphers) = client.ciphers {
        builder.set_security_level(0);
        builder.set_cipher_list(ciphers)?;
    }
    Ok(())
}
