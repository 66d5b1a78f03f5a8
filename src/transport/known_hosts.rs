//! OpenSSH known_hosts files (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT").
//!
//! Parsed here because libssh2 ignores `@revoked` and `@cert-authority` (libssh2 issue 508): a
//! revoked key would be trusted.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;

/// A parsed known_hosts file.
#[derive(Debug, Clone, Default)]
pub struct KnownHosts {
    lines: Vec<Line>,
}

#[derive(Debug, Clone)]
struct Line {
    marker: Marker,
    hosts: Hosts,
    key: Key,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    None,
    Revoked,
    CertAuthority,
}

#[derive(Debug, Clone)]
enum Hosts {
    Patterns(Vec<String>),
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Algorithm name, as in `ssh-ed25519`.
    pub algorithm: String,
    /// Wire format.
    pub blob: Vec<u8>,
}

/// What a file says about one host.
#[derive(Debug, Clone, Default)]
pub struct Entries {
    /// Trusted keys.
    pub keys: Vec<Key>,
    /// Keys that must never be trusted.
    pub revoked: Vec<Key>,
    /// Whether a certificate authority is named for the host.
    pub cert_authority: bool,
}

/// A line that is not of the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: &'static str,
}

impl KnownHosts {
    /// Parses a file.
    ///
    /// # Errors
    /// The first line that is not of the format. OpenSSH skips such lines; a skipped line could be
    /// the one that revokes a key, so it is an error here.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut lines = Vec::new();
        for (i, raw) in text.lines().enumerate() {
            let raw = raw.trim();
            if raw.is_empty() || raw.starts_with('#') {
                continue;
            }
            let line = parse_line(raw).map_err(|reason| ParseError { line: i + 1, reason })?;
            lines.push(line);
        }
        Ok(Self { lines })
    }

    /// What the file says about a host and port.
    pub fn lookup(&self, host: &str, port: u16) -> Entries {
        let host = host.to_ascii_lowercase();
        let name = if port == 22 { host } else { format!("[{host}]:{port}") };
        let mut found = Entries::default();
        for line in self.lines.iter().filter(|l| l.hosts.matches(&name)) {
            match line.marker {
                Marker::None => found.keys.push(line.key.clone()),
                Marker::Revoked => found.revoked.push(line.key.clone()),
                Marker::CertAuthority => found.cert_authority = true,
            }
        }
        found
    }
}

fn parse_line(raw: &str) -> Result<Line, &'static str> {
    let mut words = raw.split_ascii_whitespace();
    let mut word = words.next().ok_or("is empty")?;
    let marker = match word {
        "@revoked" => Marker::Revoked,
        "@cert-authority" => Marker::CertAuthority,
        w if w.starts_with('@') => return Err("has an unknown marker"),
        _ => Marker::None,
    };
    if marker != Marker::None {
        word = words.next().ok_or("has a marker and nothing else")?;
    }
    let hosts = if let Some(hashed) = word.strip_prefix("|1|") {
        let (salt, hash) = hashed.split_once('|').ok_or("has half a hashed host name")?;
        Hosts::Hashed {
            salt: STANDARD.decode(salt).map_err(|_| "has a salt that is not base64")?,
            hash: STANDARD.decode(hash).map_err(|_| "has a hash that is not base64")?,
        }
    } else if word.starts_with('|') {
        return Err("has an unknown kind of hashed host name");
    } else {
        Hosts::Patterns(word.split(',').map(str::to_ascii_lowercase).collect())
    };
    let algorithm = words.next().ok_or("has no key type")?.to_owned();
    let blob = STANDARD
        .decode(words.next().ok_or("has no key")?)
        .map_err(|_| "has a key that is not base64")?;
    let named = blob
        .first_chunk::<4>()
        .map(|n| u32::from_be_bytes(*n) as usize)
        .and_then(|n| blob.get(4..4usize.checked_add(n)?));
    if named != Some(algorithm.as_bytes()) {
        return Err("has a key that does not match its type");
    }
    Ok(Line { marker, hosts, key: Key { algorithm, blob } })
}

impl Hosts {
    fn matches(&self, name: &str) -> bool {
        match self {
            Hosts::Hashed { salt, hash } => {
                hmac_sha1(salt, name.as_bytes()).is_some_and(|mac| crate::secret::equal(&mac, hash))
            }
            Hosts::Patterns(patterns) => {
                let mut matched = false;
                for p in patterns {
                    match p.strip_prefix('!') {
                        Some(p) if glob(p.as_bytes(), name.as_bytes()) => return false,
                        Some(_) => {}
                        None => matched |= glob(p.as_bytes(), name.as_bytes()),
                    }
                }
                matched
            }
        }
    }
}

fn hmac_sha1(key: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    let key = PKey::hmac(key).ok()?;
    let mut signer = Signer::new(MessageDigest::sha1(), &key).ok()?;
    signer.sign_oneshot_to_vec(data).ok()
}

/// `*` and `?` as ssh_config(5) has them. Linear: remembers only the last star.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((sp, st)) => {
                    p = sp + 1;
                    t = st + 1;
                    star = Some((sp, t));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::host_key::{Policy, Refusal, fingerprint, judge};

    const ED: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPg1Uq2l8SdwBDbLSXwG5ooZsX6KCUFYZcLUqqhKSjfF";

    fn blob(line: &str) -> Vec<u8> {
        STANDARD.decode(line.split(' ').nth(1).unwrap()).unwrap()
    }

    fn other() -> Vec<u8> {
        let mut b = blob(ED);
        *b.last_mut().unwrap() ^= 1;
        b
    }

    fn keys(text: &str, host: &str, port: u16) -> usize {
        KnownHosts::parse(text).unwrap().lookup(host, port).keys.len()
    }

    #[test]
    fn names_ports_patterns_and_negation() {
        let text = format!("*.example.org,!bad.example.org,[h]:2222 {ED} comment\n# note\n\n");
        assert_eq!(keys(&text, "A.example.org", 22), 1);
        assert_eq!(keys(&text, "bad.example.org", 22), 0);
        assert_eq!(keys(&text, "h", 2222), 1);
        assert_eq!(keys(&text, "h", 22), 0);
    }

    #[test]
    fn hashed_names_as_ssh_keygen_writes_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kh");
        std::fs::write(&path, format!("node1 {ED}\n[node2]:2200 {ED}\n")).unwrap();
        let ok = std::process::Command::new("ssh-keygen").arg("-H").arg("-f").arg(&path).output();
        assert!(ok.unwrap().status.success());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("node1"), "the names are hashed");
        assert_eq!(keys(&text, "node1", 22), 1);
        assert_eq!(keys(&text, "node2", 2200), 1);
        assert_eq!(keys(&text, "node3", 22), 0);
    }

    #[test]
    fn a_revoked_key_is_refused_even_where_the_inventory_promises_it() {
        let known = KnownHosts::parse(&format!("@revoked * {ED}\nn {ED}\n")).unwrap();
        let prints = [fingerprint(&blob(ED)).parse().unwrap()];
        for fingerprints in [&prints[..], &[]] {
            let policy = Policy { fingerprints, known_hosts: Some(&known), host: "n", port: 22 };
            assert!(matches!(judge(&policy, &blob(ED)), Err(Refusal::Revoked(_))));
        }
    }

    #[test]
    fn only_a_promised_key_is_trusted() {
        let known = KnownHosts::parse(&format!("n {ED}\n@cert-authority ca {ED}\n")).unwrap();
        let policy = |host| Policy { fingerprints: &[], known_hosts: Some(&known), host, port: 22 };
        assert!(judge(&policy("n"), &blob(ED)).is_ok());
        assert!(matches!(judge(&policy("n"), &other()), Err(Refusal::Mismatch(_))));
        assert!(matches!(judge(&policy("m"), &blob(ED)), Err(Refusal::Unknown(_))));
        let refusal = judge(&policy("ca"), &blob(ED)).unwrap_err();
        assert!(refusal.reason().contains("@cert-authority"), "{refusal:?}");
        let nothing = Policy { fingerprints: &[], known_hosts: None, host: "n", port: 22 };
        assert!(matches!(judge(&nothing, &blob(ED)), Err(Refusal::Unknown(_))));
    }

    #[test]
    fn malformed_lines_are_errors_with_their_number() {
        for bad in [
            "n",
            "n ssh-ed25519",
            "n ssh-ed25519 %%%",
            "@what n ssh-rsa AAAA",
            "|2|a|b x y",
            "n ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIPg1Uq2l8SdwBDbLSXwG5ooZsX6KCUFYZcLUqqhKSjfF",
        ] {
            let e = KnownHosts::parse(&format!("# first\n{bad}\n")).unwrap_err();
            assert_eq!(e.line, 2, "{bad}");
        }
    }
}
