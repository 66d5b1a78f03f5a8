//! Signatures over manifests, in OpenSSH's format (PROTOCOL.sshsig), made with the operator's
//! ed25519 key.
//!
//! The operator has such a key already and knows how to keep it, and anybody can check a bundle
//! without this program:
//!
//! ```text
//! echo "ops namespaces=\"kubastion-bundle\" ssh-ed25519 AAAA..." > allowed
//! ssh-keygen -Y verify -f allowed -I ops -n kubastion-bundle -s manifest.json.sig < manifest.json
//! ```

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

use super::fault::Fault;
use crate::inventory::SignerKey;
use crate::secret::Secret;

/// The namespace of signatures: one made for another purpose is none of a bundle.
pub const NAMESPACE: &str = "kubastion-bundle";
/// Largest key or signature file in bytes; real ones have less than 1 kB.
const MAX_FILE: u64 = 64 << 10;

/// The operator's key, opened. It is wiped when dropped.
pub struct SigningKey {
    path: PathBuf,
    key: PrivateKey,
}

/// Asks for the passphrase of an encrypted key.
pub type AskPassphrase<'a> = &'a dyn Fn() -> std::io::Result<Secret<String>>;

impl SigningKey {
    /// Reads an OpenSSH private key; `ask` is called only if it is encrypted.
    ///
    /// # Errors
    /// A file that is missing, open to others (ssh refuses such a key too), not an OpenSSH private
    /// key, not ed25519, or that the passphrase does not open.
    pub fn read(path: &Path, ask: AskPassphrase<'_>) -> Result<Self, Fault> {
        let unusable = |why: String, hint| Fault::Key { path: path.to_owned(), why, hint };
        let file = File::open(path).map_err(Fault::io("opened", path))?;
        let metadata = file.metadata().map_err(Fault::io("read", path))?;
        if !metadata.is_file() {
            return Err(unusable("it is not a file".to_owned(), "set --key to a private key"));
        }
        if metadata.mode() & 0o077 != 0 {
            let why = format!("others can read it (mode {:04o})", metadata.mode() & 0o7777);
            return Err(unusable(
                why,
                "check who may have read the key, then run `chmod 600` on it",
            ));
        }
        // Room for all of it at once: a growing buffer would leave copies behind.
        let mut text = Vec::with_capacity(MAX_FILE as usize);
        let read = file.take(MAX_FILE).read_to_end(&mut text);
        let text = Secret::new(text);
        read.map_err(Fault::io("read", path))?;
        const MAKE: &str = "create one with `ssh-keygen -t ed25519`; the private key is the file \
                            without `.pub`";
        let mut key = PrivateKey::from_openssh(text.expose())
            .map_err(|e| unusable(format!("it is not an OpenSSH private key ({e})"), MAKE))?;
        if key.algorithm() != Algorithm::Ed25519 {
            return Err(unusable(format!("it is a key of type {}", key.algorithm()), MAKE));
        }
        if key.is_encrypted() {
            let passphrase = ask().map_err(|e| {
                unusable(format!("no passphrase for it ({e})"), "run in a terminal")
            })?;
            key = key
                .decrypt(passphrase.expose().as_bytes())
                .map_err(|_| unusable("wrong passphrase".to_owned(), "try again"))?;
        }
        Ok(Self { path: path.to_owned(), key })
    }

    /// The public half, as it stands in `kubernetes.bundle.signers` of an inventory.
    pub fn signer(&self) -> SignerKey {
        let public = PublicKey::new(self.key.public_key().key_data().clone(), "");
        let text = public.to_openssh().expect("an ed25519 key has a text");
        text.trim_end().parse().expect("an ed25519 public key is a signer")
    }

    /// The signature file for a text.
    ///
    /// # Errors
    /// If the key cannot sign.
    pub(super) fn sign(&self, text: &[u8]) -> Result<String, Fault> {
        let sign = || self.key.sign(NAMESPACE, HashAlg::Sha512, text)?.to_pem(LineEnding::LF);
        sign().map_err(|e| Fault::Key {
            path: self.path.clone(),
            why: e.to_string(),
            hint: "try another key",
        })
    }
}

/// Fingerprint as `ssh-keygen -l` prints it.
pub fn fingerprint(signer: &SignerKey) -> String {
    public(signer).fingerprint(HashAlg::Sha256).to_string()
}

fn public(signer: &SignerKey) -> PublicKey {
    PublicKey::from_openssh(signer.as_str()).expect("a signer was parsed before")
}

/// Whom a signature must be from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Trust<'a> {
    /// One of these keys.
    Signers(&'a [SignerKey]),
    /// Anybody: only that the text is what somebody signed.
    Anybody,
}

/// Checks a signature file and says whose it is.
pub(super) fn check(text: &[u8], signature: &[u8], trust: Trust<'_>) -> Result<String, Fault> {
    let signature = SshSig::from_pem(signature).map_err(Fault::SignatureMalformed)?;
    let signer = PublicKey::new(signature.public_key().clone(), "");
    let found = signer.fingerprint(HashAlg::Sha256).to_string();
    if let Trust::Signers(signers) = trust
        && !signers.iter().any(|s| public(s).key_data() == signer.key_data())
    {
        let trusted = signers.iter().map(fingerprint).collect();
        return Err(Fault::UnknownSigner { found, trusted });
    }
    if signer.algorithm() != Algorithm::Ed25519 {
        let algorithm = signer.algorithm();
        return Err(Fault::SignatureWrong(ssh_key::Error::AlgorithmUnsupported { algorithm }));
    }
    signer.verify(NAMESPACE, text, &signature).map_err(Fault::SignatureWrong)?;
    Ok(found)
}

/// Reads a small file of a bundle; `None` if there is none. Links are not followed.
pub(super) fn read_small(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Fault> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let open = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path);
    let file = match open {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Fault::io("opened", path)(e)),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(Fault::io("read", path))?;
    if bytes.len() as u64 > limit {
        let too_large = std::io::Error::other(format!("it is larger than {limit} bytes"));
        return Err(Fault::io("read", path)(too_large));
    }
    Ok(Some(bytes))
}

/// Reads the signature of a bundle.
pub(super) fn read_signature(path: &Path) -> Result<Vec<u8>, Fault> {
    read_small(path, MAX_FILE)?.ok_or(Fault::Unsigned)
}
