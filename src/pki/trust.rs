//! Whose certificates are believed: one CA issues, and further ones are accepted meanwhile.
//!
//! The old CA during a rotation is an accepted one, or the CA of an imported cluster. The store holds
//! their certificates in a file beside that of the CA, and no keys: what is not there cannot issue.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_parser::prelude::X509Certificate;

use super::entry::Entry;
use super::error::PkiError;
use super::inspect::{Inspected, inspect_der};
use super::profile::Ca;
use super::store::Contents;
use crate::plain::{hex, plain_line};

/// A CA that is accepted and does not issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// Its subject, printable.
    pub subject: String,
    /// SHA-256 of its certificate (DER), as `openssl x509 -fingerprint -sha256` has it but for colons and case.
    pub sha256: String,
    /// Its certificate, PEM.
    pub pem: String,
    /// First moment of the certificate.
    pub not_before: OffsetDateTime,
    /// Last moment of the certificate.
    pub not_after: OffsetDateTime,
    /// SHA-256 of its public key.
    key: [u8; 32],
}

/// Whom nodes believe in place of one of the CAs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    issues: String,
    accepted: Vec<Anchor>,
    bundle: String,
}

impl Trust {
    /// Of an issuing CA's certificate, PEM, and of accepted ones. Accepted ones stand behind it by their
    /// fingerprints, whatever their order in the file: another order would be another file on every node.
    pub(super) fn new(issues: String, accepted: Vec<Anchor>) -> Self {
        let by_print: BTreeMap<String, Anchor> =
            accepted.into_iter().map(|a| (a.sha256.clone(), a)).collect();
        let mut bundle = issues.clone();
        if !by_print.is_empty() && !bundle.ends_with('\n') {
            bundle.push('\n');
        }
        by_print.values().for_each(|a| bundle.push_str(&a.pem));
        Self { issues, accepted: by_print.into_values().collect(), bundle }
    }

    /// The certificate of the CA that issues, PEM.
    pub fn issues(&self) -> &str {
        &self.issues
    }

    /// The CAs that are accepted beside it, in the order of the bundle.
    pub fn accepted(&self) -> &[Anchor] {
        &self.accepted
    }

    /// All of them, PEM: the issuing one first, as kubeadm takes the first certificate of `ca.crt` for the CA
    /// (cmd/kubeadm/app/util/pkiutil, `TryLoadCertFromDisk`, 1.34 to 1.36). Without accepted ones it is the store's
    /// own file, byte for byte.
    pub fn bundle(&self) -> &str {
        &self.bundle
    }

    /// Whether a file of CA certificates on a node is of this cluster: by its SHA-256, or, where its text was read, by a
    /// certificate that is also here. A CA that was accepted until now still stands beside ours in it.
    pub fn recognizes(&self, sha256: &str, text: Option<&str>) -> bool {
        let digest = |text: &str| hex(&Sha256::digest(text));
        if sha256 == digest(&self.bundle) || sha256 == digest(&self.issues) {
            return true;
        }
        let ours = certificates(&self.bundle).unwrap_or_default();
        let held = text.and_then(certificates).unwrap_or_default();
        held.iter().any(|der| ours.contains(der))
    }
}

/// Every certificate of a PEM text, DER, in order; `None` if it holds something else, or half of one.
pub fn certificates(text: &str) -> Option<Vec<Vec<u8>>> {
    let blocks = pem::parse_many(text).ok()?;
    let whole = blocks.len() == text.matches("-----BEGIN").count();
    let all = whole && blocks.iter().all(|b| b.tag() == "CERTIFICATE");
    all.then(|| blocks.into_iter().map(pem::Pem::into_contents).collect())
}

/// Path of the accepted certificates of a CA in the store.
pub(super) fn accepted_file(ca: Ca) -> String {
    format!("{}.crt", Entry::Accepted(ca).file())
}

/// What the store accepts, and what it holds in such a file that nobody can accept.
#[derive(Default)]
pub(super) struct Accepted {
    pub good: BTreeMap<Ca, Vec<Anchor>>,
    pub faults: Vec<(Ca, String)>,
}

/// Reads the accepted certificates of all CAs. Dates are for [`super::assess`] to judge: nothing is refused because time
/// has gone by.
pub(super) fn accepted(contents: &Contents) -> Accepted {
    let mut all = Accepted::default();
    for &ca in Ca::ALL {
        let Some(bytes) = contents.public.get(&accepted_file(ca)) else { continue };
        match anchors(bytes, issuing(contents, ca)) {
            Ok(anchors) => {
                all.good.insert(ca, anchors);
            }
            Err(why) => all.faults.push((ca, why)),
        }
    }
    // A client of one CA is a stranger to the others; one key for two would make it none.
    let keys_of = |ca: Ca| -> BTreeSet<[u8; 32]> {
        let own = issuing(contents, ca).and_then(|der| Some(key_of(&parsed(&der)?)));
        all.good.get(&ca).into_iter().flatten().map(|a| a.key).chain(own).collect()
    };
    let keys: BTreeMap<Ca, BTreeSet<[u8; 32]>> =
        Ca::ALL.iter().map(|&ca| (ca, keys_of(ca))).collect();
    let mut shared = Vec::new();
    for (ca, anchors) in &all.good {
        for anchor in anchors {
            let other = keys.iter().find(|(o, held)| *o != ca && held.contains(&anchor.key));
            if let Some((other, _)) = other {
                let why = format!(
                    "{} has the same key as the {} CA, but each of the three CAs must have its own keys",
                    anchor.subject,
                    other.name()
                );
                shared.push((*ca, why));
            }
        }
    }
    all.good.retain(|ca, _| !shared.iter().any(|(of, _)| of == ca));
    all.faults.extend(shared);
    all
}

/// The trust of each CA of which the store has a certificate.
///
/// # Errors
/// [`PkiError::NotAcceptable`] for the first file of accepted certificates that cannot be used.
pub fn trusts(dir: &Path, contents: &Contents) -> Result<BTreeMap<Ca, Trust>, PkiError> {
    let Accepted { mut good, faults } = accepted(contents);
    if let Some((ca, why)) = faults.into_iter().next() {
        return Err(PkiError::NotAcceptable { path: dir.join(accepted_file(ca)), why });
    }
    let mut trusts = BTreeMap::new();
    for &ca in Ca::ALL {
        let file = format!("{}.crt", ca.file());
        let Some(pem) = contents.public.get(&file) else { continue };
        let pem = String::from_utf8(pem.clone()).map_err(|_| PkiError::Damaged {
            path: file.into(),
            why: "it is not PEM".to_owned(),
        })?;
        trusts.insert(ca, Trust::new(pem, good.remove(&ca).unwrap_or_default()));
    }
    Ok(trusts)
}

/// The issuing CA's certificate, DER, if it can be read.
fn issuing(contents: &Contents, ca: Ca) -> Option<Vec<u8>> {
    let pem = contents.public.get(&format!("{}.crt", ca.file()))?;
    certificates(std::str::from_utf8(pem).ok()?)?.into_iter().next()
}

fn parsed(der: &[u8]) -> Option<X509Certificate<'_>> {
    x509_parser::parse_x509_certificate(der).ok().map(|(_, certificate)| certificate)
}

fn key_of(certificate: &X509Certificate<'_>) -> [u8; 32] {
    Sha256::digest(certificate.public_key().raw).into()
}

/// Reads a file of accepted certificates.
///
/// # Errors
/// What is wrong with it, in words.
fn anchors(bytes: &[u8], issuing: Option<Vec<u8>>) -> Result<Vec<Anchor>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not PEM".to_owned())?;
    let blocks = pem::parse_many(text).map_err(|e| format!("it is not PEM ({e})"))?;
    if let Some(other) = blocks.iter().find(|b| b.tag() != "CERTIFICATE") {
        let tag = plain_line(other.tag());
        return Err(format!("it contains a {tag}, but only certificates are allowed there"));
    }
    if blocks.is_empty() {
        return Err("it contains no certificate".to_owned());
    }
    if blocks.len() != text.matches("-----BEGIN").count() {
        return Err("one of its certificates is incomplete".to_owned());
    }
    let mut anchors: Vec<Anchor> = Vec::new();
    for (n, block) in blocks.into_iter().enumerate() {
        let der = block.into_contents();
        let at = |why: String| format!("certificate {}: {why}", n + 1);
        let anchor = anchor(&der).map_err(at)?;
        if issuing.as_ref() == Some(&der) {
            return Err(at("it is the certificate of the CA that issues".to_owned()));
        }
        if anchors.iter().any(|a| a.sha256 == anchor.sha256) {
            return Err(at("it is listed twice".to_owned()));
        }
        anchors.push(anchor);
    }
    Ok(anchors)
}

/// Bit of `keyCertSign` (RFC 5280, 4.2.1.3).
const SIGNS: u16 = 1 << 5;

pub(super) fn anchor(der: &[u8]) -> Result<Anchor, String> {
    let inspected: Inspected = inspect_der(der.to_vec())?;
    let certificate = parsed(der).ok_or("it is not an X.509 certificate")?;
    let subject = plain_line(&certificate.subject().to_string());
    if inspected.ca.is_none() || inspected.key_usage.is_some_and(|bits| bits & SIGNS == 0) {
        return Err(format!("{subject} is not a CA"));
    }
    Ok(Anchor {
        subject,
        sha256: hex(&Sha256::digest(der)),
        pem: encoded(der),
        not_before: inspected.not_before,
        not_after: inspected.not_after,
        key: key_of(&certificate),
    })
}

/// A certificate as PEM, with the line ends of every other file.
fn encoded(der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE", der), config)
}

/// A CA of nobody's, for tests: with a key that is thrown away.
#[cfg(test)]
pub(crate) fn made(name: &str) -> Anchor {
    anchor(&tests::authority(name, |_| {})).expect("a CA that was just made is one")
}

#[cfg(test)]
mod tests;
