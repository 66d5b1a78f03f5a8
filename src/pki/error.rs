//! What can go wrong with keys and certificates.

use std::path::PathBuf;

use super::entry::Entry;
use crate::error::Problem;

/// Something in the store that others could read or replace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offender {
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
    /// The command that mends it, if one does.
    pub mend: Option<String>,
}

/// What can go wrong with keys and certificates.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The store is open to others, or holds what cannot be trusted. All places at once.
    #[error("the key store is open to others")]
    Loose(Vec<Offender>),
    /// A file operation failed.
    #[error("{} cannot be {action}", path.display())]
    Io {
        /// What was tried, as a participle.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Another process writes to the store.
    #[error("the key store {} is in use by another process", .0.display())]
    Busy(PathBuf),
    /// The store is of another cluster.
    #[error("the key store {} belongs to cluster `{found}`, not `{wanted}`", dir.display())]
    OtherCluster {
        /// The store.
        dir: PathBuf,
        /// Cluster of the store.
        found: String,
        /// Cluster of the inventory.
        wanted: String,
    },
    /// The store is encrypted in another way than the inventory says.
    #[error("the key store {} has encryption `{found}`, but the inventory says `{wanted}`", dir.display())]
    OtherEncryption {
        /// The store.
        dir: PathBuf,
        /// How the store is encrypted.
        found: String,
        /// How the inventory wants it.
        wanted: String,
    },
    /// A file of the store is not what it should be.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file of accepted CAs holds something that cannot be accepted.
    #[error("the accepted CAs in {} cannot be used: {why}", path.display())]
    NotAcceptable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// No passphrase could be had.
    #[error("no passphrase for the key store")]
    Passphrase(#[source] std::io::Error),
    /// A key file did not open.
    #[error("{} cannot be decrypted with this passphrase or identity", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
        /// What age says.
        source: age::DecryptError,
    },
    /// The age identity or recipients cannot be used.
    #[error("{0}")]
    Identity(String),
    /// A key could not be encrypted.
    #[error("a private key cannot be encrypted")]
    Encrypt(#[source] age::EncryptError),
    /// A CA is there in part.
    #[error("the {ca} CA is incomplete: {why}")]
    CaIncomplete {
        /// Name of the CA.
        ca: &'static str,
        /// What is missing.
        why: String,
    },
    /// A key that the cluster's data or tokens depend on is not there any more.
    #[error("the {what} is missing at {file}, but API servers already have certificates")]
    KeyLost {
        /// Which.
        what: String,
        /// Its place in the store, without the ending.
        file: String,
    },
    /// The cluster has its own, which the store lacks.
    #[error("the {what} is not in the key store {}, and kubastion does not create a new one", dir.display())]
    Imported {
        /// What is missing.
        what: String,
        /// The store.
        dir: PathBuf,
    },
    /// Certificates are due from a CA whose key the store does not have.
    #[error(
        "the key of the {ca} CA is not in the key store, and certificates are due: {certificates}"
    )]
    SignedElsewhere {
        /// Name of the CA.
        ca: &'static str,
        /// Which ones.
        certificates: String,
    },
    /// The store that was to be filled has something.
    #[error("the key store {} already holds keys or certificates", .0.display())]
    NotEmpty(PathBuf),
    /// A CA has expired.
    #[error("the {ca} CA expired on {not_after}")]
    CaExpired {
        /// Name of the CA.
        ca: &'static str,
        /// Its last day.
        not_after: String,
    },
    /// A certificate could not be signed.
    #[error("{name} cannot be issued")]
    Sign {
        /// Which.
        name: String,
        /// Why.
        source: rcgen::Error,
    },
    /// A key could not be made or read.
    #[error("the private key of {name} cannot be used")]
    Key {
        /// Whose.
        name: String,
        /// Why.
        source: openssl::error::ErrorStack,
    },
    /// Something is to be issued first.
    #[error("{0} is not in the key store")]
    Missing(String),
}

impl PkiError {
    /// As the user sees it.
    pub fn problems(&self) -> Vec<Problem> {
        if let PkiError::Loose(offenders) = self {
            let problem = |o: &Offender| {
                let mut p = Problem::new("the key store is open to others")
                    .at(o.path.display().to_string())
                    .because(&o.what)
                    .left("nothing was read or written");
                p.hint = o.mend.clone();
                p
            };
            return offenders.iter().map(problem).collect();
        }
        if let PkiError::NotAcceptable { path, why } = self {
            let problem = Problem::new("the accepted CAs of the key store cannot be used")
                .at(path.display().to_string())
                .because(why)
                .left("the key store and the nodes were not changed")
                .hint(
                    "the file may contain only CA certificates (PEM), no certificates of the store's own CAs and \
                     no keys: remove everything else, then run `kubastion pki status`",
                );
            return vec![problem];
        }
        let chain = std::iter::successors(std::error::Error::source(self), |e| e.source());
        let mut problem = Problem::new(self.to_string());
        problem.why.extend(chain.map(ToString::to_string));
        problem.hint = self.hint().map(str::to_owned);
        vec![problem]
    }

    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            PkiError::Busy(_) => {
                "wait for the other run to end; the lock is released when its process exits"
            }
            PkiError::OtherCluster { .. } => "give each cluster its own `pki.dir`",
            PkiError::OtherEncryption { .. } => {
                "change `pki.store` to match the key store, or move the store away and start a new PKI"
            }
            PkiError::Passphrase(_) => "run in a terminal, or set `pki.store.passphrase_file`",
            PkiError::CaIncomplete { .. } => {
                "restore the file from a backup of the store; a CA is never created a second time"
            }
            PkiError::KeyLost { file, .. } if file == Entry::EncryptionKeys.file().as_str() => {
                "restore the file from a backup of the store: data encrypted with the old key cannot be read with a new one. If \
                 a KMS plugin encrypts the data, keep `encryption.provider: kms`: moving to another provider is not supported yet"
            }
            PkiError::KeyLost { .. } => {
                "restore the file from a backup of the store; with a new key, everything encrypted or signed with the old key is lost"
            }
            PkiError::Imported { .. } => {
                "the inventory says `pki.cas: imported`: the cluster already has its own CAs and keys. Set `pki.dir` to their key \
                 store, or restore it from a backup"
            }
            PkiError::SignedElsewhere { .. } => {
                "have them signed by that CA and put each with its key below `nodes/NODE/` or `operator/` of the key store \
                 (names and uses: `kubastion pki status`), or put the CA's key into the store"
            }
            PkiError::NotEmpty(_) => "give each cluster its own directory",
            PkiError::CaExpired { .. } => "rotate the CA: nodes that trust it need a new CA",
            PkiError::Damaged { .. } => "restore the file from a backup of the store",
            PkiError::Missing(_) => "run `kubastion pki ensure`",
            _ => return None,
        })
    }
}
