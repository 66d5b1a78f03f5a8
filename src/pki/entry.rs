//! What a key store holds, by name.

use std::fmt;

use super::profile::{Ca, CertId};

pub(super) const SERVICE_ACCOUNT: &str = "sa";
pub(super) const ENCRYPTION_KEYS: &str = "enc/keys";

/// Something that the store should hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// A certificate authority.
    Ca(Ca),
    /// A certificate of a CA that is accepted in place of one of the CAs, and does not issue.
    Accepted(Ca),
    /// The key pair that signs service-account tokens.
    ServiceAccountKey,
    /// The keys of the API server's encryption at rest.
    EncryptionKeys,
    /// A leaf certificate.
    Leaf(CertId),
}

impl Entry {
    /// Path in the store without its extension.
    pub fn file(&self) -> String {
        match self {
            Entry::Ca(ca) => ca.file().to_owned(),
            Entry::Accepted(ca) => format!("{}-accepted", ca.file()),
            Entry::ServiceAccountKey => SERVICE_ACCOUNT.to_owned(),
            Entry::EncryptionKeys => ENCRYPTION_KEYS.to_owned(),
            Entry::Leaf(id) => id.file(),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Ca(ca) => write!(f, "{} CA", ca.name()),
            Entry::Accepted(ca) => write!(f, "{} CA, accepted", ca.name()),
            Entry::ServiceAccountKey => f.write_str("service-account key"),
            Entry::EncryptionKeys => f.write_str("encryption keys"),
            Entry::Leaf(id) => id.fmt(f),
        }
    }
}
