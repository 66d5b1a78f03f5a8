//! Makes keys and signs certificates.

use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::Signer;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, PublicKeyData, SerialNumber,
    SigningKey, SubjectPublicKeyInfo,
};
use time::{Duration, OffsetDateTime};

use super::error::PkiError;
use super::inspect::San;
use super::profile::{CA_USAGES, Ca, Wanted, leaf_usages};
use crate::clock;
use crate::inventory::{KeyAlgorithm, Pki};
use crate::secret::Secret;

/// How far a certificate reaches back, for nodes whose clock is behind.
const BACKDATE: Duration = Duration::minutes(5);

/// A new certificate and its key.
pub(super) struct NewPair {
    pub cert_pem: String,
    pub key_pem: Secret<Vec<u8>>,
}

/// A CA that can sign.
pub(super) struct Signatory {
    pub issuer: Issuer<'static, CaKey>,
    pub not_after: OffsetDateTime,
}

/// The key of a CA. OpenSSL holds it: its RSA can be generated, and it wipes what it frees.
pub(super) struct CaKey {
    key: PKey<Private>,
    public: SubjectPublicKeyInfo,
    algorithm: &'static rcgen::SignatureAlgorithm,
    digest: MessageDigest,
}

impl CaKey {
    pub(super) fn new(key: PKey<Private>) -> Result<Self, rcgen::Error> {
        let der = key.public_key_to_der().map_err(remote)?;
        let (algorithm, digest) = match (key.id(), key.bits()) {
            (Id::EC, 256) => (&rcgen::PKCS_ECDSA_P256_SHA256, MessageDigest::sha256()),
            (Id::EC, 384) => (&rcgen::PKCS_ECDSA_P384_SHA384, MessageDigest::sha384()),
            (Id::RSA, _) => (&rcgen::PKCS_RSA_SHA256, MessageDigest::sha256()),
            _ => return Err(rcgen::Error::UnsupportedSignatureAlgorithm),
        };
        Ok(Self { public: SubjectPublicKeyInfo::from_der(&der)?, key, algorithm, digest })
    }
}

fn remote(_: ErrorStack) -> rcgen::Error {
    rcgen::Error::RemoteKeyError
}

impl PublicKeyData for CaKey {
    fn der_bytes(&self) -> &[u8] {
        self.public.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.algorithm
    }
}

impl SigningKey for CaKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let mut signer = Signer::new(self.digest, &self.key).map_err(remote)?;
        signer.sign_oneshot_to_vec(message).map_err(remote)
    }
}

/// Makes a key.
pub(super) fn generate_key(algorithm: KeyAlgorithm) -> Result<PKey<Private>, ErrorStack> {
    let ec = |curve| {
        let group = EcGroup::from_curve_name(curve)?;
        PKey::from_ec_key(EcKey::generate(&group)?)
    };
    match algorithm {
        KeyAlgorithm::EcdsaP256 => ec(Nid::X9_62_PRIME256V1),
        KeyAlgorithm::EcdsaP384 => ec(Nid::SECP384R1),
        KeyAlgorithm::Rsa3072 => PKey::from_rsa(Rsa::generate(3072)?),
        KeyAlgorithm::Rsa4096 => PKey::from_rsa(Rsa::generate(4096)?),
    }
}

/// A private key as PKCS#8 PEM, which kubeadm, Kubernetes and etcd read.
pub(super) fn key_pem(key: &PKey<Private>) -> Result<Secret<Vec<u8>>, ErrorStack> {
    key.private_key_to_pem_pkcs8().map(Secret::new)
}

/// Makes a CA: self-signed, for leaves only.
pub(super) fn issue_ca(
    ca: Ca,
    cluster: &str,
    pki: &Pki,
    now: OffsetDateTime,
) -> Result<(NewPair, Signatory), PkiError> {
    let name = || format!("the {} CA", ca.name());
    let key =
        generate_key(pki.algorithm).map_err(|source| PkiError::Key { name: name(), source })?;
    let pem = key_pem(&key).map_err(|source| PkiError::Key { name: name(), source })?;
    let sign = |source| PkiError::Sign { name: name(), source };
    let key = CaKey::new(key).map_err(sign)?;

    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, cluster);
    params.distinguished_name.push(DnType::CommonName, ca.common_name());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = CA_USAGES.to_vec();
    validity(&mut params, now, now + Duration::days(pki.ca_days.into()));

    let cert = params.self_signed(&key).map_err(sign)?;
    let not_after = params.not_after;
    let pair = NewPair { cert_pem: cert.pem(), key_pem: pem };
    Ok((pair, Signatory { issuer: Issuer::new(params, key), not_after }))
}

/// Makes a leaf. It never outlives its CA.
pub(super) fn issue_leaf(
    wanted: &Wanted,
    signatory: &Signatory,
    pki: &Pki,
    now: OffsetDateTime,
) -> Result<NewPair, PkiError> {
    let name = || wanted.id.to_string();
    let key = generate_key(pki.algorithm);
    let key = key.map_err(|source| PkiError::Key { name: name(), source })?;
    let sign = |source| PkiError::Sign { name: name(), source };
    let der = key.public_key_to_der();
    let der = der.map_err(|source| PkiError::Key { name: name(), source })?;
    let public = SubjectPublicKeyInfo::from_der(&der).map_err(sign)?;

    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(organization) = &wanted.organization {
        params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
    }
    params.distinguished_name.push(DnType::CommonName, wanted.common_name.as_str());
    params.subject_alt_names = wanted
        .sans
        .iter()
        .map(|san| {
            Ok(match san {
                San::Ip(ip) => rcgen::SanType::IpAddress(*ip),
                San::Dns(name) | San::Other(name) => {
                    rcgen::SanType::DnsName(name.as_str().try_into()?)
                }
            })
        })
        .collect::<Result<_, rcgen::Error>>()
        .map_err(sign)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = leaf_usages(pki.algorithm).to_vec();
    params.extended_key_usages = wanted.id.kind.profile().ext_key_usages.to_vec();
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, now, leaf_end(pki, now, signatory.not_after));

    let cert = params.signed_by(&public, &signatory.issuer).map_err(sign)?;
    let pem = key_pem(&key).map_err(|source| PkiError::Key { name: name(), source })?;
    Ok(NewPair { cert_pem: cert.pem(), key_pem: pem })
}

/// Last moment of a leaf that is issued now.
pub(super) fn leaf_end(pki: &Pki, now: OffsetDateTime, ca_end: OffsetDateTime) -> OffsetDateTime {
    (now + Duration::days(pki.leaf_days.into())).min(ca_end)
}

/// Dates and serial number.
fn validity(params: &mut CertificateParams, now: OffsetDateTime, end: OffsetDateTime) {
    // X.509 counts whole seconds.
    let whole = |t: OffsetDateTime| t.replace_nanosecond(0).expect("0 is a nanosecond");
    params.not_before = whole(now - BACKDATE);
    params.not_after = whole(end);
    // RFC 5280 4.1.2.2: positive, at most 20 octets. The second bit fixes the length at 16, so
    // that no encoder has leading zeros to drop.
    let mut serial = clock::random_bytes::<16>();
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
}
