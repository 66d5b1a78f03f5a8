//! The CAs and keys of an existing cluster, as a key store takes them over: unchanged, and nothing is created in their place.

use std::collections::BTreeSet;

use base64::prelude::{BASE64_STANDARD, Engine};
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use rcgen::Issuer;
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::entry::{ENCRYPTION_KEYS, Entry, SERVICE_ACCOUNT};
use super::error::PkiError;
use super::inspect::inspect_der;
use super::issue::CaKey;
use super::material::{self, EncryptionKey};
use super::profile::Ca;
use super::seal::AskPassphrase;
use super::store::{NewFile, Store};
use super::trust::{Anchor, anchor};
use crate::inventory::EncryptionProvider;
use crate::plain::{hex, plain_line};
use crate::secret::Secret;

/// What the nodes hold of one CA.
#[derive(Default)]
pub struct FoundCa {
    /// Files with its certificates, PEM.
    pub certificates: Vec<Vec<u8>>,
    /// Files that may be its key.
    pub keys: Vec<Secret<Vec<u8>>>,
}

/// What the API servers encrypt with.
pub enum FoundEncryption {
    /// Nothing: they have no such configuration.
    None,
    /// With one provider and these keys, the one that writes first.
    Keys(EncryptionProvider, Vec<EncryptionKey>),
    /// Something that the store cannot hold, and why.
    Other(String),
}

/// Everything that was found.
pub struct FoundKeys {
    /// Of each CA.
    pub cas: Vec<(Ca, FoundCa)>,
    /// The files that service-account tokens may be signed with.
    pub service_account: Vec<Secret<Vec<u8>>>,
    /// The API server's encryption at rest.
    pub encryption: FoundEncryption,
}

/// What became of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// What.
    pub entry: Entry,
    /// SHA-256 of the certificate.
    pub sha256: Option<String>,
    /// Why it is not taken over, or not whole; none if it is.
    pub lacks: Option<String>,
}

/// What a store will hold.
pub struct TakenOver {
    files: Vec<NewFile>,
    /// What became of each thing that was found.
    pub taken: Vec<Taken>,
}

impl TakenOver {
    /// Whether the key of a CA is among them.
    pub fn issues(&self, ca: Ca) -> bool {
        let is = |t: &Taken| t.entry == Entry::Ca(ca) && t.sha256.is_some() && t.lacks.is_none();
        self.taken.iter().any(is)
    }

    /// Writes them into a store that has nothing yet.
    ///
    /// # Errors
    /// [`PkiError::NotEmpty`], and a store that cannot be written.
    pub fn keep(&self, store: &mut Store, ask: AskPassphrase<'_>) -> Result<(), PkiError> {
        let lock = store.lock(ask)?;
        if !store.read_all()?.is_empty() {
            return Err(PkiError::NotEmpty(store.dir().to_owned()));
        }
        store.write(&lock, &self.files, "import")
    }
}

/// Makes of what was found what a store will hold.
///
/// # Errors
/// A key that cannot be written as text.
pub fn take_over(found: &FoundKeys) -> Result<TakenOver, PkiError> {
    let mut over = TakenOver { files: Vec::new(), taken: Vec::new() };
    for (ca, found) in &found.cas {
        take_ca(*ca, found, &mut over);
    }
    take_service_account(&found.service_account, &mut over)?;
    let (ring, lacks) = match &found.encryption {
        FoundEncryption::None => (Some(material::new_key_ring()), None),
        FoundEncryption::Keys(_, keys) => (Some(material::key_ring(keys)), None),
        FoundEncryption::Other(why) => (None, Some(why.clone())),
    };
    let path = format!("{ENCRYPTION_KEYS}.json");
    over.files.extend(ring.map(|bytes| NewFile::Secret { path, bytes }));
    if !matches!(found.encryption, FoundEncryption::None) {
        over.taken.push(Taken { entry: Entry::EncryptionKeys, sha256: None, lacks });
    }
    Ok(over)
}

/// The certificate whose key is there issues; without one, the first, which kubeadm takes for the CA. The others are accepted.
fn take_ca(ca: Ca, found: &FoundCa, over: &mut TakenOver) {
    let entry = Entry::Ca(ca);
    let mut seen = BTreeSet::new();
    let mut lost = Vec::new();
    let mut anchors: Vec<(Anchor, Vec<u8>)> = Vec::new();
    for file in &found.certificates {
        let blocks = pem::parse_many(file).unwrap_or_default();
        for block in blocks.into_iter().filter(|b| b.tag() == "CERTIFICATE") {
            let der = block.into_contents();
            if !seen.insert(hex(&Sha256::digest(&der))) {
                continue;
            }
            match anchor(&der) {
                Ok(anchor) => anchors.push((anchor, der)),
                Err(why) => lost.push(format!("a certificate in its file was skipped: {why}")),
            }
        }
    }
    if anchors.is_empty() {
        let lacks = lost
            .pop()
            .unwrap_or_else(|| "its certificate was not found on any node that answered".into());
        over.taken.push(Taken { entry, sha256: None, lacks: Some(lacks) });
        return;
    }
    let mut lacks =
        "its key was not found on any node that answered: certificates must be signed elsewhere"
            .to_owned();
    let mut issuing = None;
    'keys: for secret in &found.keys {
        for (at, (_, der)) in anchors.iter().enumerate() {
            match usable(secret, der) {
                Ok(()) => {
                    issuing = Some((at, secret));
                    break 'keys;
                }
                Err(why) => lacks = why,
            }
        }
    }
    let (at, lacks) = match issuing {
        Some((at, secret)) => {
            let path = format!("{}.key", ca.file());
            over.files.push(NewFile::Secret { path, bytes: secret.clone() });
            (at, None)
        }
        None => (0, Some(lacks)),
    };
    let (issues, _) = anchors.remove(at);
    // A file with nothing else in it stays as it is, byte for byte.
    let same = |f: &&Vec<u8>| pem::parse_many(f).is_ok_and(|b| b.len() == 1) && seen.len() == 1;
    let bytes = found.certificates.iter().find(same).cloned();
    let bytes = bytes.unwrap_or_else(|| issues.pem.clone().into_bytes());
    over.files.push(NewFile::Public { path: format!("{}.crt", ca.file()), bytes });
    over.taken.push(Taken { entry, sha256: Some(issues.sha256), lacks });
    let text: String = anchors.iter().map(|(a, _)| a.pem.as_str()).collect();
    if !text.is_empty() {
        let path = format!("{}.crt", Entry::Accepted(ca).file());
        over.files.push(NewFile::Public { path, bytes: text.into_bytes() });
    }
    let accepted = |sha256, lacks| Taken { entry: Entry::Accepted(ca), sha256, lacks };
    over.taken.extend(anchors.into_iter().map(|(a, _)| accepted(Some(a.sha256), None)));
    over.taken.extend(lost.into_iter().map(|why| accepted(None, Some(why))));
}

/// Whether a key is that of a certificate, and can sign.
fn usable(secret: &Secret<Vec<u8>>, der: &[u8]) -> Result<(), String> {
    let key = plain_key(secret)?;
    let public = X509::from_der(der).and_then(|x| x.public_key());
    let public = public.map_err(|_| "its certificate's key cannot be read".to_owned())?;
    if !key.public_eq(&public) {
        return Err("the key next to it belongs to another CA".to_owned());
    }
    let kind = || "its key type is not supported for signing (RSA, P-256 and P-384 are)".to_owned();
    let key = CaKey::new(key).map_err(|_| kind())?;
    inspect_der(der.to_vec())?;
    Issuer::from_ca_cert_der(&der.to_vec().into(), key)
        .map_err(|e| format!("its certificate cannot sign: {}", plain_line(&e.to_string())))?;
    Ok(())
}

/// A private key that nobody encrypted. OpenSSL would ask a terminal for a passphrase.
fn plain_key(secret: &Secret<Vec<u8>>) -> Result<PKey<Private>, String> {
    let asks = |_: &mut [u8]| Err(openssl::error::ErrorStack::get());
    PKey::private_key_from_pem_callback(secret.expose(), asks)
        .map_err(|_| "its key is encrypted, or not a PEM private key".to_owned())
}

fn take_service_account(found: &[Secret<Vec<u8>>], over: &mut TakenOver) -> Result<(), PkiError> {
    let entry = Entry::ServiceAccountKey;
    let mut keys: Vec<(&Secret<Vec<u8>>, PKey<Private>)> = Vec::new();
    let mut lacks =
        (found.is_empty()).then(|| "not found on any control plane that answered".to_owned());
    for secret in found {
        match plain_key(secret) {
            Ok(key) if keys.iter().any(|(_, k)| k.public_eq(&key)) => {}
            Ok(key) => keys.push((secret, key)),
            Err(why) => lacks = Some(why),
        }
    }
    if keys.len() > 1 {
        lacks = Some("control planes sign with different keys".to_owned());
    }
    if let (None, Some((secret, key))) = (&lacks, keys.first()) {
        let failed = |source| PkiError::Key { name: "service accounts".to_owned(), source };
        let public = key.public_key_to_pem().map_err(failed)?;
        let bytes = (*secret).clone();
        over.files.push(NewFile::Secret { path: format!("{SERVICE_ACCOUNT}.key"), bytes });
        over.files.push(NewFile::Public { path: format!("{SERVICE_ACCOUNT}.pub"), bytes: public });
    }
    over.taken.push(Taken { entry, sha256: None, lacks });
    Ok(())
}

/// As kube-apiserver reads it (`EncryptionConfiguration` of apiserver.config.k8s.io/v1).
#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    resources: Vec<Resources>,
}

#[derive(Deserialize)]
struct Resources {
    #[serde(default)]
    providers: Vec<Provider>,
}

#[derive(Deserialize)]
struct Provider {
    secretbox: Option<Keys>,
    aescbc: Option<Keys>,
    aesgcm: Option<IgnoredAny>,
    kms: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Keys {
    #[serde(default)]
    keys: Vec<Key>,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct Key {
    #[zeroize(skip)]
    name: String,
    secret: String,
}

/// Reads the configuration of an API server's encryption.
pub fn found_encryption(file: &Secret<Vec<u8>>) -> FoundEncryption {
    let text = std::str::from_utf8(file.expose()).unwrap_or_default();
    // What the parser says could quote the file.
    let Ok(all) = crate::yaml::from_text::<Configuration>(text) else {
        return FoundEncryption::Other("its configuration cannot be read".to_owned());
    };
    let mut provider = None;
    let mut keys: Vec<EncryptionKey> = Vec::new();
    for one in all.resources.iter().flat_map(|r| &r.providers) {
        if one.aesgcm.is_some() || one.kms.is_some() {
            let name = if one.kms.is_some() { "kms" } else { "aesgcm" };
            return FoundEncryption::Other(format!("provider {name} cannot be imported"));
        }
        let (which, held) = match (&one.secretbox, &one.aescbc) {
            (Some(held), None) => (EncryptionProvider::Secretbox, held),
            (None, Some(held)) => (EncryptionProvider::Aescbc, held),
            (None, None) => continue,
            (Some(_), Some(_)) => {
                return FoundEncryption::Other("an entry has two providers".into());
            }
        };
        if *provider.get_or_insert(which) != which {
            let why = "secretbox and aescbc are both in use, but the inventory can name only one";
            return FoundEncryption::Other(why.to_owned());
        }
        for key in &held.keys {
            let secret = BASE64_STANDARD.decode(&key.secret).map(Secret::new).ok();
            let Some(secret) = secret.filter(|s| s.expose().len() == material::KEY_LEN) else {
                return FoundEncryption::Other("one of its keys is not 32 bytes".to_owned());
            };
            match keys.iter().find(|k| k.name == key.name) {
                None => keys.push(EncryptionKey { name: key.name.clone(), secret }),
                Some(known) if crate::secret::equal(known.secret.expose(), secret.expose()) => {}
                Some(_) => {
                    return FoundEncryption::Other("two of its keys have one name".to_owned());
                }
            }
        }
    }
    match provider {
        Some(provider) if !keys.is_empty() => FoundEncryption::Keys(provider, keys),
        _ => FoundEncryption::None,
    }
}

#[cfg(test)]
mod tests;
