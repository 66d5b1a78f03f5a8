//! What later stages take out of the store, by what it is for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::entry::{ENCRYPTION_KEYS, SERVICE_ACCOUNT};
use super::error::PkiError;
use super::profile::{Ca, CertId, CertificateKind, wanted};
use super::store::Contents;
#[cfg(test)]
use super::trust::Anchor;
use super::trust::{Trust, trusts};
use crate::inventory::{CaOrigin, EncryptionProvider, Inventory, NodeName};
use crate::secret::Secret;

/// Bytes of a secretbox or aescbc key.
pub(super) const KEY_LEN: usize = 32;

/// A certificate and its key, both PEM.
pub struct Pair {
    /// The certificate.
    pub cert_pem: String,
    /// The private key: PKCS#8, or as others made it.
    pub key_pem: Secret<Vec<u8>>,
}

/// A key of the API server's encryption at rest.
pub struct EncryptionKey {
    /// Its name in the configuration: `k1`, `k2` and so on. It is written into every encrypted value.
    pub name: String,
    /// 32 random bytes.
    pub secret: Secret<Vec<u8>>,
}

/// Everything that nodes and kubeconfigs need. The keys of CAs are in it too; which of them may
/// reach a node is `pki.ca_custody`'s to say.
pub struct Material {
    cas: BTreeMap<Ca, Pair>,
    trusts: BTreeMap<Ca, Trust>,
    leaves: BTreeMap<CertId, Pair>,
    service_account: Pair,
    encryption_keys: Vec<EncryptionKey>,
}

impl Material {
    /// Takes out of a store what the inventory wants. Whether it is any good is for
    /// [`super::assess`] to say.
    ///
    /// # Errors
    /// The first entry that is not there; accepted CAs that cannot be used.
    pub fn from_contents(inventory: &Inventory, contents: &Contents) -> Result<Self, PkiError> {
        let elsewhere = |ca: Ca| {
            inventory.pki.cas == CaOrigin::Imported
                && contents.public.contains_key(&format!("{}.crt", ca.file()))
                && !contents.secret.contains_key(&format!("{}.key", ca.file()))
        };
        let cas = Ca::ALL.iter().copied().filter(|ca| !elsewhere(*ca));
        let cas = cas.map(|ca| Ok((ca, pair(contents, ca.file(), "crt")?)));
        let leaves = wanted(inventory).into_iter().map(|w| {
            let pair = pair(contents, &w.id.file(), "crt")?;
            Ok((w.id, pair))
        });
        let encryption_keys = match inventory.encryption.provider {
            EncryptionProvider::Kms => Vec::new(),
            EncryptionProvider::Secretbox | EncryptionProvider::Aescbc => {
                let file = format!("{ENCRYPTION_KEYS}.json");
                let ring = contents.secret.get(&file);
                let ring = ring.ok_or_else(|| PkiError::Missing(file.clone()))?;
                parse_key_ring(ring.expose())
                    .map_err(|why| PkiError::Damaged { path: PathBuf::from(file), why })?
            }
        };
        Ok(Self {
            cas: cas.collect::<Result<_, PkiError>>()?,
            trusts: trusts(&inventory.pki.dir, contents)?,
            leaves: leaves.collect::<Result<_, PkiError>>()?,
            service_account: pair(contents, SERVICE_ACCOUNT, "pub")?,
            encryption_keys,
        })
    }

    /// Material for tests: certificates and keys are texts that name themselves, always the same.
    #[cfg(test)]
    pub(crate) fn fixture(inventory: &Inventory) -> Self {
        Self::fixture_accepting(inventory, |_| Vec::new())
    }

    /// The same with CAs that are accepted.
    #[cfg(test)]
    pub(crate) fn fixture_accepting(
        inventory: &Inventory,
        accepted: impl Fn(Ca) -> Vec<Anchor>,
    ) -> Self {
        let pair = |name: &str| Pair {
            cert_pem: format!("CERTIFICATE {name}\n"),
            key_pem: Secret::new(format!("PLANTED KEY {name}\n").into_bytes()),
        };
        let key = |n: u8| EncryptionKey {
            name: format!("k{n}"),
            secret: Secret::new(vec![b'0' + n; KEY_LEN]),
        };
        Self {
            cas: Ca::ALL.iter().map(|&ca| (ca, pair(ca.file()))).collect(),
            trusts: Ca::ALL
                .iter()
                .map(|&ca| (ca, Trust::new(pair(ca.file()).cert_pem, accepted(ca))))
                .collect(),
            leaves: wanted(inventory)
                .into_iter()
                .map(|w| (w.id.clone(), pair(&w.id.file())))
                .collect(),
            service_account: pair("sa"),
            encryption_keys: vec![key(1), key(2)],
        }
    }

    /// A node's certificate and key; none if the node's roles do not call for one.
    pub fn node(&self, kind: CertificateKind, node: &NodeName) -> Option<&Pair> {
        self.leaves.get(&CertId::node(kind, node))
    }

    /// A certificate and key of the operator; none for kinds that nodes hold.
    pub fn operator(&self, kind: CertificateKind) -> Option<&Pair> {
        self.leaves.get(&CertId::operator(kind))
    }

    /// Whom nodes believe in place of a CA: itself, and those that are accepted beside it.
    pub fn trust(&self, ca: Ca) -> &Trust {
        self.trusts.get(&ca).expect("material is made with all CAs")
    }

    /// The CA that issues, with its key; none if its certificates are signed elsewhere.
    pub fn ca(&self, ca: Ca) -> Option<&Pair> {
        self.cas.get(&ca)
    }

    /// The key that signs service-account tokens.
    pub fn service_account_key(&self) -> &Secret<Vec<u8>> {
        &self.service_account.key_pem
    }

    /// The public key that service-account tokens are verified with, PEM.
    pub fn service_account_public(&self) -> &str {
        &self.service_account.cert_pem
    }

    /// The keys of encryption at rest; the first one writes. Empty with a KMS.
    pub fn encryption_keys(&self) -> &[EncryptionKey] {
        &self.encryption_keys
    }
}

fn pair(contents: &Contents, file: &str, public: &str) -> Result<Pair, PkiError> {
    let (cert, key) = (format!("{file}.{public}"), format!("{file}.key"));
    let cert_pem = contents.public.get(&cert);
    let cert_pem = cert_pem.ok_or_else(|| PkiError::Missing(cert.clone()))?.clone();
    let cert_pem = String::from_utf8(cert_pem).map_err(|_| PkiError::Damaged {
        path: PathBuf::from(&cert),
        why: "it is not PEM".to_owned(),
    })?;
    let key_pem = contents.secret.get(&key).ok_or(PkiError::Missing(key))?.clone();
    Ok(Pair { cert_pem, key_pem })
}

/// The key ring as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRing {
    format: String,
    keys: Vec<StoredKey>,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    #[zeroize(skip)]
    name: String,
    secret: String,
}

const RING_FORMAT: &str = "kubastion-encryption-keys/v1";

/// A new ring with one key, `k1`.
pub(super) fn new_key_ring() -> Secret<Vec<u8>> {
    let secret = Secret::new(crate::clock::random_bytes::<KEY_LEN>());
    let key = StoredKey { name: "k1".to_owned(), secret: BASE64_STANDARD.encode(secret.expose()) };
    stored_ring(&StoredRing { format: RING_FORMAT.to_owned(), keys: vec![key] })
}

/// A ring of keys that others made.
pub(super) fn key_ring(keys: &[EncryptionKey]) -> Secret<Vec<u8>> {
    let stored = |k: &EncryptionKey| StoredKey {
        name: k.name.clone(),
        secret: BASE64_STANDARD.encode(k.secret.expose()),
    };
    let keys = keys.iter().map(stored).collect();
    stored_ring(&StoredRing { format: RING_FORMAT.to_owned(), keys })
}

fn stored_ring(ring: &StoredRing) -> Secret<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(ring).expect("texts are JSON");
    text.push(b'\n');
    Secret::new(text)
}

/// Reads a ring. Messages name no content.
pub(super) fn parse_key_ring(bytes: &[u8]) -> Result<Vec<EncryptionKey>, String> {
    let ring: StoredRing =
        serde_json::from_slice(bytes).map_err(|_| "it is not a key ring".to_owned())?;
    if ring.format != RING_FORMAT {
        return Err("its format is unknown".to_owned());
    }
    if ring.keys.is_empty() {
        return Err("it holds no key".to_owned());
    }
    let mut keys: Vec<EncryptionKey> = Vec::new();
    for stored in &ring.keys {
        let secret = BASE64_STANDARD.decode(&stored.secret).map(Secret::new);
        let secret = secret.ok().filter(|s| s.expose().len() == KEY_LEN);
        let secret = secret.ok_or_else(|| format!("key {} is not 32 bytes", keys.len() + 1))?;
        if stored.name.is_empty() || keys.iter().any(|k| k.name == stored.name) {
            return Err(format!("key {} has no unique name", keys.len() + 1));
        }
        keys.push(EncryptionKey { name: stored.name.clone(), secret });
    }
    Ok(keys)
}
