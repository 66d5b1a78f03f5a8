//! Small value types of the inventory: parsed once at the edge, valid ever after.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kubernetes::{NEWEST, OLDEST, VERSION_ALLOWED};

/// Why a value could not be one of the types in this module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("found `{found}`; {allowed}")]
pub struct NameError {
    /// The text as written.
    pub found: String,
    /// What is allowed, as a phrase.
    pub allowed: &'static str,
}

fn is_dns_label(s: &str) -> bool {
    let b = s.as_bytes();
    let alnum = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    !b.is_empty()
        && b.len() <= 63
        && alnum(b[0])
        && alnum(b[b.len() - 1])
        && b.iter().all(|&c| alnum(c) || c == b'-')
}

fn is_dns_name(s: &str) -> bool {
    s.len() <= 253 && s.split('.').all(is_dns_label)
}

/// A schema of its own name, so that [`TEXT_TYPES`] can be found from it.
macro_rules! text_schema {
    ($name:ident, $allowed:expr) => {
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": $allowed })
            }
        }
    };
}

macro_rules! text_type {
    ($(#[doc = $doc:literal])* $name:ident, $check:expr, $allowed:literal) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        text_schema!($name, $allowed);

        impl $name {
            /// The text as written in the inventory.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> bool = $check;
                if check(s) {
                    Ok(Self(s.to_owned()))
                } else {
                    Err(NameError { found: s.to_owned(), allowed: $allowed })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(s: String) -> Result<Self, NameError> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(v: $name) -> String {
                v.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

text_type!(
    /// A node's name: equal to its host name and its Kubernetes node name (RFC 1123 subdomain, 63 characters at most).
    NodeName,
    |s| is_dns_name(s) && s.len() <= 63,
    "a node name is lower-case letters, digits, `-` and `.`, 63 characters at most (RFC 1123)"
);
text_type!(
    /// A cluster's name (RFC 1123 label).
    ClusterName,
    is_dns_label,
    "a cluster name is lower-case letters, digits and `-`, 63 characters at most (RFC 1123)"
);
text_type!(
    /// A DNS domain such as `cluster.local`.
    DnsDomain,
    is_dns_name,
    "a domain is dot-separated labels of lower-case letters, digits and `-` (RFC 1123)"
);
text_type!(
    /// The SHA-256 fingerprint of an SSH host key as `ssh-keygen -l` prints it: `SHA256:` and 43 base64 characters.
    HostKeyFingerprint,
    |s| s.strip_prefix("SHA256:").is_some_and(|b| {
        b.len() == 43 && b.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'+' || c == b'/')
    }),
    "a host-key fingerprint is `SHA256:` and 43 base64 characters, as `ssh-keygen -lf` prints it"
);
text_type!(
    /// A POSIX user name.
    UserName,
    |s| !s.is_empty()
        && s.len() <= 32
        && !s.starts_with(['-', '.'])
        && s.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c)),
    "a user name is letters, digits, `.`, `_` and `-`, 32 characters at most"
);
text_type!(
    /// An ed25519 public key in OpenSSH's text form: `ssh-ed25519`, base64, and a comment if one is
    /// wanted. Who signed a bundle is compared with it.
    SignerKey,
    |s| !s.contains('\n')
        && ssh_key::PublicKey::from_openssh(s)
            .is_ok_and(|k| k.algorithm() == ssh_key::Algorithm::Ed25519),
    "a signer is an ed25519 public key as in a `.pub` file: `ssh-ed25519 AAAA... comment`"
);
text_type!(
    /// A host: a DNS name or an IP address without brackets.
    Host,
    |s| s.parse::<std::net::IpAddr>().is_ok() || is_dns_name(&s.to_ascii_lowercase()),
    "a host is a DNS name or an IP address"
);

/// `host:port`; an IPv6 host stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    /// DNS name or IP address.
    pub host: Host,
    /// TCP port.
    pub port: u16,
}

text_schema!(Endpoint, ENDPOINT_ALLOWED);
text_schema!(KubernetesVersion, VERSION_ALLOWED);

const ENDPOINT_ALLOWED: &str =
    "an endpoint is `host:port`, with an IPv6 address in brackets, as in `10.0.0.10:6443`";

impl FromStr for Endpoint {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        let bad = || NameError { found: s.to_owned(), allowed: ENDPOINT_ALLOWED };
        let (host, port) = s.rsplit_once(':').ok_or_else(bad)?;
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => v6,
            Some(_) => return Err(bad()),
            None if host.contains(':') => return Err(bad()),
            None => host,
        };
        match port.parse::<u16>() {
            Ok(port) if port != 0 => Ok(Self { host: host.parse().map_err(|_| bad())?, port }),
            _ => Err(bad()),
        }
    }
}

impl TryFrom<String> for Endpoint {
    type Error = NameError;
    fn try_from(s: String) -> Result<Self, NameError> {
        s.parse()
    }
}

impl From<Endpoint> for String {
    fn from(e: Endpoint) -> String {
        e.to_string()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.as_str().contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A Kubernetes release, `major.minor.patch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KubernetesVersion {
    /// Minor release; major is always 1.
    pub minor: u16,
    /// Patch release.
    pub patch: u16,
}

impl KubernetesVersion {
    /// The oldest and newest minor release that the templates and controls know.
    pub const SUPPORTED_MINORS: std::ops::RangeInclusive<u16> = OLDEST..=NEWEST;
    /// The default release of new inventories, labs and bundles.
    pub const DEFAULT: Self = Self { minor: 36, patch: 2 };
}

impl FromStr for KubernetesVersion {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        let bad = || NameError { found: s.to_owned(), allowed: VERSION_ALLOWED };
        let mut parts = s.strip_prefix('v').unwrap_or(s).split('.');
        let (Some("1"), Some(minor), Some(patch), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let v = Self {
            minor: minor.parse().map_err(|_| bad())?,
            patch: patch.parse().map_err(|_| bad())?,
        };
        if Self::SUPPORTED_MINORS.contains(&v.minor) { Ok(v) } else { Err(bad()) }
    }
}

impl TryFrom<String> for KubernetesVersion {
    type Error = NameError;
    fn try_from(s: String) -> Result<Self, NameError> {
        s.parse()
    }
}

impl From<KubernetesVersion> for String {
    fn from(v: KubernetesVersion) -> String {
        v.to_string()
    }
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}.{}", self.minor, self.patch)
    }
}

/// A network in CIDR notation; that its host bits are zero is for validation to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IpNetText(pub ipnet::IpNet);

const NETWORK_ALLOWED: &str =
    "a network is an address, `/` and a prefix length, as in `10.244.0.0/16` or `fd00:10::/56`";

text_schema!(IpNetText, NETWORK_ALLOWED);

impl FromStr for IpNetText {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        s.parse().map(Self).map_err(|_| NameError { found: s.to_owned(), allowed: NETWORK_ALLOWED })
    }
}

impl fmt::Display for IpNetText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A type of text with a syntax of its own, as the check of the file sees it.
pub(super) struct TextType {
    /// Name of the type, which is also the name of its schema.
    pub name: &'static str,
    /// Says what is allowed, if the text is not.
    pub check: fn(&str) -> Result<(), NameError>,
    /// A valid value, to go on with after a bad one.
    pub example: &'static str,
}

fn parses<T: FromStr<Err = NameError>>(s: &str) -> Result<(), NameError> {
    s.parse::<T>().map(|_| ())
}

/// Every type of text with a syntax of its own.
pub(super) const TEXT_TYPES: &[TextType] = &[
    TextType { name: "NodeName", check: parses::<NodeName>, example: "node" },
    TextType { name: "ClusterName", check: parses::<ClusterName>, example: "cluster" },
    TextType { name: "DnsDomain", check: parses::<DnsDomain>, example: "cluster.local" },
    TextType {
        name: "HostKeyFingerprint",
        check: parses::<HostKeyFingerprint>,
        example: "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    },
    TextType { name: "UserName", check: parses::<UserName>, example: "root" },
    TextType {
        name: "SignerKey",
        check: parses::<SignerKey>,
        example: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f",
    },
    TextType { name: "Host", check: parses::<Host>, example: "host" },
    TextType { name: "Endpoint", check: parses::<Endpoint>, example: "host:6443" },
    TextType { name: "KubernetesVersion", check: parses::<KubernetesVersion>, example: "1.36.2" },
    TextType { name: "IpNetText", check: parses::<IpNetText>, example: "10.244.0.0/16" },
];
