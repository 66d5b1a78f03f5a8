//! The decision whether a host key is trusted. There is no way around it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha2::{Digest, Sha256};

use super::known_hosts::KnownHosts;
use crate::inventory::HostKeyFingerprint;

/// Fingerprint of a host key blob as OpenSSH prints it (`SHA256:` and unpadded base64).
pub fn fingerprint(blob: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(blob)))
}

/// What the operator promised about a host's keys.
pub struct Policy<'a> {
    /// Fingerprints from the inventory. If there is any, known_hosts is asked for revocations only.
    pub fingerprints: &'a [HostKeyFingerprint],
    /// The known_hosts file, if one is named.
    pub known_hosts: Option<&'a KnownHosts>,
    /// Host as the inventory writes it.
    pub host: &'a str,
    /// TCP port.
    pub port: u16,
}

/// Why a key is not trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It is marked `@revoked`.
    Revoked(String),
    /// Another key was promised. A key of another type may still match.
    Mismatch(String),
    /// Nothing was promised.
    Unknown(String),
}

impl Refusal {
    /// The reason as text.
    pub fn reason(&self) -> &str {
        match self {
            Self::Revoked(r) | Self::Mismatch(r) | Self::Unknown(r) => r,
        }
    }
}

/// Decides about a presented key.
///
/// # Errors
/// A [`Refusal`]. Certificates (`@cert-authority`) are not understood by libssh2: a host that has
/// only such a line is refused.
pub fn judge(policy: &Policy<'_>, blob: &[u8]) -> Result<String, Refusal> {
    let print = fingerprint(blob);
    let entries = policy.known_hosts.map(|k| k.lookup(policy.host, policy.port));
    if entries.as_ref().is_some_and(|e| e.revoked.iter().any(|k| k.blob == blob)) {
        return Err(Refusal::Revoked(format!("{print} is marked @revoked in known_hosts")));
    }
    if !policy.fingerprints.is_empty() {
        if policy.fingerprints.iter().any(|f| f.as_str() == print) {
            return Ok(print);
        }
        let promised: Vec<&str> = policy.fingerprints.iter().map(|f| f.as_str()).collect();
        return Err(Refusal::Mismatch(format!(
            "it presented {print}, the inventory names {}",
            promised.join(" or ")
        )));
    }
    let Some(entries) = entries else {
        return Err(Refusal::Unknown(format!(
            "it presented {print}, but the inventory has neither `host_keys` nor `known_hosts` for it"
        )));
    };
    if entries.keys.iter().any(|k| k.blob == blob) {
        return Ok(print);
    }
    if !entries.keys.is_empty() {
        let promised: Vec<String> = entries.keys.iter().map(|k| fingerprint(&k.blob)).collect();
        return Err(Refusal::Mismatch(format!(
            "it presented {print}, known_hosts lists {}",
            promised.join(" or ")
        )));
    }
    Err(Refusal::Unknown(if entries.cert_authority {
        format!(
            "it presented {print}, but known_hosts has only an @cert-authority line for it, which is not \
             supported: add the key itself"
        )
    } else {
        format!("it presented {print}, but known_hosts has no line for it")
    }))
}
