//! What a certificate says, read from its bytes.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use rcgen::{ExtendedKeyUsagePurpose as Ext, KeyUsagePurpose as Usage};
use time::OffsetDateTime;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::X509Certificate;

/// A subject alternative name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum San {
    /// DNS name, lower case.
    Dns(String),
    /// IP address, as an address and not as text.
    Ip(IpAddr),
    /// Any other kind; no profile has one.
    Other(String),
}

impl San {
    /// A host as the inventory names it.
    pub fn from_host(host: &str) -> Self {
        match host.parse() {
            Ok(ip) => San::Ip(ip),
            Err(_) => San::Dns(host.to_ascii_lowercase()),
        }
    }
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            San::Dns(name) | San::Other(name) => f.write_str(name),
            San::Ip(ip) => write!(f, "{ip}"),
        }
    }
}

/// What a certificate says.
#[derive(Debug)]
pub(super) struct Inspected {
    pub der: Vec<u8>,
    pub common_name: Vec<String>,
    pub organizations: Vec<String>,
    /// Subject attributes beside common name and organization.
    pub other_subject: usize,
    pub sans: BTreeSet<San>,
    /// Bits of RFC 5280 4.2.1.3, the first one lowest. None if the extension is absent.
    pub key_usage: Option<u16>,
    pub key_usage_critical: bool,
    /// Dotted or short names, sorted.
    pub ext_key_usages: BTreeSet<String>,
    /// Whether it is a CA by critical basic constraints, and how long a path may follow.
    pub ca: Option<Option<u32>>,
    pub subject_key_id: Option<Vec<u8>>,
    pub authority_key_id: Option<Vec<u8>>,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

/// Reads one PEM certificate.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn inspect(pem: &[u8]) -> Result<Inspected, String> {
    let pem = pem::parse(pem).map_err(|e| format!("it is not PEM ({e})"))?;
    if pem.tag() != "CERTIFICATE" {
        return Err(format!("it holds a {}, not a certificate", pem.tag()));
    }
    inspect_der(pem.into_contents())
}

/// Reads one certificate, DER.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn inspect_der(der: Vec<u8>) -> Result<Inspected, String> {
    let (rest, cert) = x509_parser::parse_x509_certificate(&der)
        .map_err(|e| format!("it is not an X.509 certificate ({e})"))?;
    if !rest.is_empty() {
        return Err("there is data after the certificate".to_owned());
    }
    let mut inspected = Inspected {
        der: Vec::new(),
        common_name: texts(cert.subject().iter_common_name()),
        organizations: texts(cert.subject().iter_organization()),
        other_subject: 0,
        sans: BTreeSet::new(),
        key_usage: None,
        key_usage_critical: false,
        ext_key_usages: BTreeSet::new(),
        ca: None,
        subject_key_id: None,
        authority_key_id: None,
        not_before: cert.validity().not_before.to_datetime(),
        not_after: cert.validity().not_after.to_datetime(),
    };
    let known = inspected.common_name.len() + inspected.organizations.len();
    inspected.other_subject = cert.subject().iter_attributes().count() - known;
    read_extensions(&cert, &mut inspected);
    drop(cert);
    inspected.der = der;
    Ok(inspected)
}

fn texts<'a>(
    attributes: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
) -> Vec<String> {
    attributes.map(|a| a.as_str().unwrap_or("(not text)").to_owned()).collect()
}

fn read_extensions(cert: &X509Certificate<'_>, into: &mut Inspected) {
    for extension in cert.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => {
                into.sans = names.general_names.iter().map(san).collect();
            }
            ParsedExtension::KeyUsage(usage) => {
                into.key_usage = Some(usage.flags);
                into.key_usage_critical = extension.critical;
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                let named = [
                    (usage.any, "any"),
                    (usage.server_auth, "serverAuth"),
                    (usage.client_auth, "clientAuth"),
                    (usage.code_signing, "codeSigning"),
                    (usage.email_protection, "emailProtection"),
                    (usage.time_stamping, "timeStamping"),
                    (usage.ocsp_signing, "OCSPSigning"),
                ];
                let set = named.iter().filter(|(is, _)| *is).map(|(_, n)| (*n).to_owned());
                into.ext_key_usages =
                    set.chain(usage.other.iter().map(ToString::to_string)).collect();
            }
            ParsedExtension::BasicConstraints(basic) if basic.ca && extension.critical => {
                into.ca = Some(basic.path_len_constraint);
            }
            ParsedExtension::SubjectKeyIdentifier(id) => into.subject_key_id = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                into.authority_key_id = id.key_identifier.as_ref().map(|k| k.0.to_vec());
            }
            _ => {}
        }
    }
}

fn san(name: &GeneralName<'_>) -> San {
    match name {
        GeneralName::DNSName(name) => San::Dns((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
                (Ok(v4), _) => San::Ip(v4.into()),
                (_, Ok(v6)) => San::Ip(v6.into()),
                _ => San::Other(format!("address of {} bytes", bytes.len())),
            }
        }
        other => San::Other(other.to_string()),
    }
}

/// The bits of a key-usage extension, the first one of RFC 5280 4.2.1.3 lowest.
pub(super) fn usage_bits(usages: &[Usage]) -> u16 {
    usages.iter().fold(0, |bits, usage| {
        bits | 1
            << match usage {
                Usage::DigitalSignature => 0,
                Usage::ContentCommitment => 1,
                Usage::KeyEncipherment => 2,
                Usage::DataEncipherment => 3,
                Usage::KeyAgreement => 4,
                Usage::KeyCertSign => 5,
                Usage::CrlSign => 6,
                Usage::EncipherOnly => 7,
                Usage::DecipherOnly => 8,
            }
    })
}

/// The names under which [`inspect`] reports extended key usages.
pub(super) fn ext_names(usages: &[Ext]) -> BTreeSet<String> {
    let name = |usage: &Ext| match usage {
        Ext::ServerAuth => "serverAuth".to_owned(),
        Ext::ClientAuth => "clientAuth".to_owned(),
        other => format!("{other:?}"),
    };
    usages.iter().map(name).collect()
}
