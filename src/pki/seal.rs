//! Private keys at rest, encrypted with age (<https://age-encryption.org/v1>).
//!
//! A passphrase does not encrypt every file: scrypt is slow on purpose, and a cluster has hundreds
//! of keys. It encrypts one identity of the store, and that encrypts the files.

use std::io::{Read, Write};
use std::path::Path;

use age::secrecy::{ExposeSecret, SecretString};
use age::x25519::{Identity, Recipient};
use zeroize::Zeroize;

use super::error::PkiError;
use crate::inventory::{PkiStore, StoreEncryption};
use crate::secret::Secret;

/// Work factor of scrypt as a power of two, that of the age command.
const SCRYPT_LOG_N: u8 = 18;

/// Why a passphrase is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// For a new store: asked twice.
    New,
    /// To open a store.
    Open,
}

/// Where passphrases come from: a file or a terminal, never argv or the environment.
pub type AskPassphrase<'a> = &'a dyn Fn(Ask) -> std::io::Result<Secret<String>>;

/// How the private keys of a store are encrypted, opened.
pub(super) enum Seal {
    /// Not at all.
    None,
    /// To these recipients; opened by one of their identities.
    Age { identities: Vec<Identity>, recipients: Vec<Recipient> },
}

impl Seal {
    /// Opens by recipients: reads the identity file.
    pub fn from_recipients(store: &PkiStore, identity_file: &[u8]) -> Result<Self, PkiError> {
        let parse = |r: &String| {
            r.parse::<Recipient>()
                .map_err(|e| PkiError::Identity(format!("recipient `{r}` cannot be used: {e}")))
        };
        let recipients = store.recipients.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let no_identity =
            || PkiError::Identity("the identity file contains no age identity".to_owned());
        let text = std::str::from_utf8(identity_file).map_err(|_| no_identity())?;
        let lines = text.lines().map(str::trim).filter(|l| l.starts_with("AGE-SECRET-KEY-1"));
        // The line itself must not get into a message.
        let identities = lines
            .map(|l| l.parse::<Identity>().map_err(|_| no_identity()))
            .collect::<Result<Vec<_>, _>>()?;
        if identities.is_empty() {
            return Err(no_identity());
        }
        let own: Vec<String> = identities.iter().map(|i| i.to_public().to_string()).collect();
        if !recipients.iter().any(|r| own.contains(&r.to_string())) {
            let what = "the identity file matches none of the recipients: new keys could be written but never \
                        read";
            return Err(PkiError::Identity(what.to_owned()));
        }
        Ok(Seal::Age { identities, recipients })
    }

    /// Opens by passphrase: decrypts the identity of the store.
    pub fn from_passphrase(
        path: &Path,
        sealed: &[u8],
        passphrase: &Secret<String>,
    ) -> Result<Self, PkiError> {
        let mut key = age::scrypt::Identity::new(secret_string(passphrase));
        key.set_max_work_factor(SCRYPT_LOG_N + 2);
        let text = decrypt(path, sealed, &[&key])?;
        let damaged = || PkiError::Damaged {
            path: path.to_owned(),
            why: "it contains no age identity".to_owned(),
        };
        let text = std::str::from_utf8(text.expose()).map_err(|_| damaged())?;
        let identity: Identity = text.trim().parse().map_err(|_| damaged())?;
        Ok(Self::own(identity))
    }

    /// A new identity of the store: the seal, and the identity encrypted with the passphrase.
    pub fn generate(passphrase: &Secret<String>) -> Result<(Self, Vec<u8>), PkiError> {
        let identity = Identity::generate();
        let mut key = age::scrypt::Recipient::new(secret_string(passphrase));
        key.set_work_factor(SCRYPT_LOG_N);
        let text = identity.to_string();
        let sealed = encrypt(text.expose_secret().as_bytes(), &[&key])?;
        Ok((Self::own(identity), sealed))
    }

    fn own(identity: Identity) -> Self {
        let recipients = vec![identity.to_public()];
        Seal::Age { identities: vec![identity], recipients }
    }

    /// What is written for a secret.
    pub fn close(&self, plain: &[u8]) -> Result<Vec<u8>, PkiError> {
        match self {
            Seal::None => Ok(plain.to_vec()),
            Seal::Age { recipients, .. } => {
                let to: Vec<&dyn age::Recipient> = recipients.iter().map(|r| r as _).collect();
                encrypt(plain, &to)
            }
        }
    }

    /// The secret from what was written.
    pub fn open(&self, path: &Path, stored: Vec<u8>) -> Result<Secret<Vec<u8>>, PkiError> {
        match self {
            Seal::None => Ok(Secret::new(stored)),
            Seal::Age { identities, .. } => {
                let with: Vec<&dyn age::Identity> = identities.iter().map(|i| i as _).collect();
                decrypt(path, &stored, &with)
            }
        }
    }

    /// Ending of file names of secrets.
    pub fn suffix(&self) -> &'static str {
        match self {
            Seal::None => "",
            Seal::Age { .. } => ".age",
        }
    }
}

/// The word of the inventory for a kind of encryption.
pub(super) fn word(encryption: StoreEncryption) -> &'static str {
    match encryption {
        StoreEncryption::None => "none",
        StoreEncryption::AgeRecipients => "age-recipients",
        StoreEncryption::AgePassphrase => "age-passphrase",
    }
}

fn secret_string(passphrase: &Secret<String>) -> SecretString {
    SecretString::from(passphrase.expose().clone())
}

fn encrypt(plain: &[u8], to: &[&dyn age::Recipient]) -> Result<Vec<u8>, PkiError> {
    let encryptor =
        age::Encryptor::with_recipients(to.iter().copied()).map_err(PkiError::Encrypt)?;
    let mut sealed = Vec::new();
    let io = |e| PkiError::Encrypt(age::EncryptError::Io(e));
    let mut writer = encryptor.wrap_output(&mut sealed).map_err(io)?;
    writer.write_all(plain).map_err(io)?;
    writer.finish().map_err(io)?;
    Ok(sealed)
}

fn decrypt(
    path: &Path,
    sealed: &[u8],
    with: &[&dyn age::Identity],
) -> Result<Secret<Vec<u8>>, PkiError> {
    let locked = |source| PkiError::Locked { path: path.to_owned(), source };
    let decryptor = age::Decryptor::new(sealed).map_err(locked)?;
    let mut reader = decryptor.decrypt(with.iter().copied()).map_err(locked)?;
    // Room for all of it at once: a growing buffer would leave copies behind.
    let mut plain = Vec::with_capacity(sealed.len());
    if let Err(e) = reader.read_to_end(&mut plain) {
        plain.zeroize();
        return Err(locked(age::DecryptError::Io(e)));
    }
    Ok(Secret::new(plain))
}
