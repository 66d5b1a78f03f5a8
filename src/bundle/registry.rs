//! Pulls an image for one machine from a registry (OCI distribution specification 1.1) and writes it
//! as an OCI layout archive.
//!
//! The blobs stay byte for byte what the registry serves, so that the image on a node has the digest
//! that its project published and signed. The archives beside Kubernetes releases would not do: the
//! names in them end in the architecture, and pause and CoreDNS have none.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use ureq::http::{StatusCode, header};

use super::fetch::{Ask, Client, Download, FILE_LIMIT, FetchError};
use super::image;
use super::model::{Architecture, Sha256Hex};
use crate::event::Sink;
use crate::secret::Secret;

/// Largest manifest in bytes; the specification wants registries to take 4 MiB.
const MAX_MANIFEST: u64 = 4 << 20;
/// Largest answer of a token service in bytes.
const MAX_TOKEN: u64 = 64 << 10;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Why an image could not be pulled.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It could not be fetched.
    #[error("{what} cannot be fetched")]
    Fetch {
        /// Address or blob.
        what: String,
        /// Why.
        source: FetchError,
    },
    /// The registry wants a login that is not offered here.
    #[error("the registry requires a login, but only public images are supported")]
    Login,
    /// What came is not what the digest or the specification says.
    #[error("{what} is malformed: {why}")]
    Malformed {
        /// Which document.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// There is none for the machine.
    #[error("there is no image for linux/{0}")]
    NoPlatform(Architecture),
    /// The archive could not be written.
    #[error("{} cannot be written", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// An image by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Host and optional port.
    registry: String,
    /// Path in the registry.
    repository: String,
    tag: String,
    /// What the tag must stand for, if it is pinned.
    digest: Option<Sha256Hex>,
}

impl Reference {
    /// The name under which nodes will know it.
    pub fn name(&self) -> String {
        format!("{}/{}:{}", self.registry, self.repository, self.tag)
    }

    /// A file name for its archive.
    pub fn file_name(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
        let path: String = self.repository.chars().map(plain).collect();
        format!("{path}-{}.tar", self.tag.chars().map(plain).collect::<String>())
    }

    /// Address of its manifest, by tag.
    pub(super) fn address(&self) -> String {
        self.url("manifests", &self.tag)
    }

    fn url(&self, kind: &str, what: &str) -> String {
        let host = match self.registry.as_str() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        format!("https://{host}/v2/{}/{kind}/{what}", self.repository)
    }
}

impl std::str::FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = || {
            format!(
                "found {text:?}; an image is registry/path:tag, with @sha256:... if it is pinned"
            )
        };
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                let hex = digest.strip_prefix("sha256:").ok_or_else(allowed)?;
                (name, Some(hex.parse().map_err(|_| allowed())?))
            }
            None => (text, None),
        };
        let name = image::full_reference(name).ok_or_else(allowed)?;
        let (registry, rest) = name.split_once('/').ok_or_else(allowed)?;
        let (repository, tag) = rest.rsplit_once(':').ok_or_else(allowed)?;
        Ok(Self {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            tag: tag.to_owned(),
            digest,
        })
    }
}

/// What was pulled.
#[derive(Debug)]
pub struct Pulled {
    /// Address of the manifest by digest.
    pub origin: String,
}

/// Pulls an image. Blobs go to `blobs`, where a later run finds them; the archive to `to`.
///
/// # Errors
/// See [`RegistryError`].
pub fn pull(
    client: &Client,
    reference: &Reference,
    architecture: Architecture,
    blobs: &Path,
    to: &Path,
    sink: &dyn Sink,
) -> Result<Pulled, RegistryError> {
    let mut session = Session { client, reference, token: None };
    let named = match &reference.digest {
        Some(digest) => format!("sha256:{digest}"),
        None => reference.tag.clone(),
    };
    let mut document = session.manifest(&named)?;
    if let Some(index) = document.index()? {
        let chosen = index.into_iter().find(|d| d.is_for(architecture));
        let chosen = chosen.ok_or(RegistryError::NoPlatform(architecture))?;
        let digest = chosen.sha256("index")?;
        document = session.manifest(&format!("sha256:{digest}"))?;
    }
    let manifest: ImageManifest = document.parse()?;
    let mut archive = Archive { reference, document: &document, blobs: Vec::new() };
    for descriptor in std::iter::once(&manifest.config).chain(&manifest.layers) {
        if !descriptor.urls.is_empty() {
            return Err(document.malformed("a layer is kept elsewhere"));
        }
        let digest = descriptor.sha256("manifest")?;
        let path = blobs.join(digest.as_str());
        session.blob(&digest, descriptor.size, &path, sink)?;
        // A layer may stand in a manifest twice.
        if archive.blobs.iter().all(|(d, _)| *d != digest) {
            archive.blobs.push((digest, path));
        }
    }
    archive.write(to).map_err(|source| RegistryError::Disk { path: to.to_owned(), source })?;
    Ok(Pulled { origin: reference.url("manifests", &format!("sha256:{}", document.digest)) })
}

/// Requests to one repository, with the token that it wants.
struct Session<'a> {
    client: &'a Client,
    reference: &'a Reference,
    token: Option<Secret<String>>,
}

/// A manifest or index, as it came.
struct Document {
    what: String,
    digest: Sha256Hex,
    media_type: String,
    bytes: Vec<u8>,
}

impl Session<'_> {
    fn manifest(&mut self, named: &str) -> Result<Document, RegistryError> {
        let url = self.reference.url("manifests", named);
        let accept = [INDEX, MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].join(", ");
        let fetch = |source| RegistryError::Fetch { what: url.clone(), source };
        // Without a token the answer is a challenge, which is not a failure.
        let ask = |token: Option<&Secret<String>>| {
            self.client.retry(|| {
                let headers = vec![(header::ACCEPT, accept.clone())];
                let answer = self.client.ask(&url, &Ask { headers, token, deadline: None })?;
                match answer.status {
                    StatusCode::UNAUTHORIZED => Ok(answer),
                    _ => answer.success(),
                }
            })
        };
        let mut answer = ask(self.token.as_ref()).map_err(fetch)?;
        if answer.status == StatusCode::UNAUTHORIZED {
            let challenge = answer.header(header::WWW_AUTHENTICATE).unwrap_or_default().to_owned();
            self.token = Some(self.log_in(&challenge)?);
            answer = ask(self.token.as_ref()).map_err(fetch)?;
            if answer.status == StatusCode::UNAUTHORIZED {
                return Err(RegistryError::Login);
            }
        }
        let declared = answer.header(header::CONTENT_TYPE).unwrap_or_default().to_owned();
        let bytes = answer.bytes(MAX_MANIFEST).map_err(fetch)?;
        let digest = Sha256Hex::of(Sha256::digest(&bytes));
        let document = Document { what: url.clone(), digest, media_type: declared, bytes };
        match named.strip_prefix("sha256:") {
            Some(wanted) if wanted != document.digest.as_str() => {
                Err(document.malformed("its SHA-256 differs"))
            }
            _ => Ok(document),
        }
    }

    /// Asks the token service that a challenge names (RFC 6750, and the distribution project's token
    /// specification), as anybody.
    fn log_in(&self, challenge: &str) -> Result<Secret<String>, RegistryError> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let parameters = challenge.strip_prefix("Bearer ").ok_or(RegistryError::Login)?;
        let realm = parameter(parameters, "realm").ok_or(RegistryError::Login)?;
        let scope = format!("repository:{}:pull", self.reference.repository);
        let mut url = format!("{realm}?scope={}", encode(&scope));
        if let Some(service) = parameter(parameters, "service") {
            url.push_str(&format!("&service={}", encode(&service)));
        }
        let text = self
            .client
            .text(&url, MAX_TOKEN)
            .map_err(|source| RegistryError::Fetch { what: realm.clone(), source })?;
        let text = Secret::new(text);
        let answer: Answer = serde_json::from_str(text.expose()).map_err(|_| {
            RegistryError::Malformed { what: realm, why: "it is not a token".to_owned() }
        })?;
        answer.token.or(answer.access_token).map(Secret::new).ok_or(RegistryError::Login)
    }

    fn blob(
        &self,
        digest: &Sha256Hex,
        size: u64,
        to: &Path,
        sink: &dyn Sink,
    ) -> Result<(), RegistryError> {
        let url = self.reference.url("blobs", &format!("sha256:{digest}"));
        let what = self.reference.name();
        let download = Download {
            url: &url,
            to,
            sha256: digest,
            what: &what,
            limit: size.min(FILE_LIMIT),
            token: self.token.as_ref(),
        };
        self.client
            .download(&download, sink)
            .map_err(|source| RegistryError::Fetch { what: url.clone(), source })
    }
}

impl Document {
    fn malformed(&self, why: impl Into<String>) -> RegistryError {
        RegistryError::Malformed { what: self.what.clone(), why: why.into() }
    }

    fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, RegistryError> {
        serde_json::from_slice(&self.bytes).map_err(|e| self.malformed(e.to_string()))
    }

    /// The entries of an index; `None` for the manifest of an image.
    fn index(&self) -> Result<Option<Vec<Descriptor>>, RegistryError> {
        #[derive(Deserialize)]
        struct Either {
            manifests: Option<Vec<Descriptor>>,
        }
        Ok(self.parse::<Either>()?.manifests)
    }

    /// The media type, which the document says itself where the answer does not.
    fn media_type(&self) -> &str {
        let declared = self.media_type.split(';').next().unwrap_or_default().trim();
        if declared == DOCKER_MANIFEST { DOCKER_MANIFEST } else { MANIFEST }
    }
}

#[derive(Deserialize)]
struct ImageManifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    size: u64,
    #[serde(default)]
    urls: Vec<String>,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
    #[serde(default)]
    variant: String,
}

impl Descriptor {
    fn is_for(&self, architecture: Architecture) -> bool {
        self.platform.as_ref().is_some_and(|p| {
            p.os == "linux"
                && p.architecture == architecture.as_str()
                && matches!(p.variant.as_str(), "" | "v1" | "v8")
        })
    }

    fn sha256(&self, within: &str) -> Result<Sha256Hex, RegistryError> {
        let parsed = self.digest.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
        parsed.ok_or_else(|| RegistryError::Malformed {
            what: within.to_owned(),
            why: format!("{:?} is not a SHA-256", self.digest),
        })
    }
}

/// A parameter of a challenge, `name="value"` (RFC 9110, 11.4).
fn parameter(challenge: &str, name: &str) -> Option<String> {
    let mut rest = challenge;
    loop {
        let (key, after) = rest.split_once("=\"")?;
        let (value, further) = after.split_once('"')?;
        if key.trim_matches([' ', ',']).eq_ignore_ascii_case(name) {
            return Some(value.to_owned());
        }
        rest = further;
    }
}

/// Percent-encodes a query value (RFC 3986, 2.1).
fn encode(value: &str) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-._~/:".contains(&c);
    let one = |c: u8| if plain(c) { char::from(c).to_string() } else { format!("%{c:02X}") };
    value.bytes().map(one).collect()
}

/// An OCI layout to be written.
struct Archive<'a> {
    reference: &'a Reference,
    document: &'a Document,
    blobs: Vec<(Sha256Hex, PathBuf)>,
}

impl Archive<'_> {
    /// The same image gives the same bytes.
    fn write(&self, to: &Path) -> io::Result<()> {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [{
                "mediaType": self.document.media_type(),
                "digest": format!("sha256:{}", self.document.digest),
                "size": self.document.bytes.len(),
                "annotations": {
                    // containerd goes by the first, everybody else by the second.
                    "io.containerd.image.name": self.reference.name(),
                    "org.opencontainers.image.ref.name": self.reference.name(),
                },
            }],
        });
        let mut tar = tar::Builder::new(io::BufWriter::new(File::create(to)?));
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
        append(&mut tar, "oci-layout", layout.len() as u64, &layout[..])?;
        let index = index.to_string();
        append(&mut tar, "index.json", index.len() as u64, index.as_bytes())?;
        let manifest = &self.document.bytes;
        append(&mut tar, &blob_path(&self.document.digest), manifest.len() as u64, &manifest[..])?;
        for (digest, path) in &self.blobs {
            let file = File::open(path)?;
            let size = file.metadata()?.len();
            append(&mut tar, &blob_path(digest), size, file)?;
        }
        tar.into_inner()?.into_inner()?.sync_all()
    }
}

fn blob_path(digest: &Sha256Hex) -> String {
    format!("blobs/sha256/{digest}")
}

fn append(
    tar: &mut tar::Builder<impl Write>,
    path: &str,
    size: u64,
    content: impl Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    tar.append_data(&mut header, path, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_name_registry_path_and_tag() {
        let pause: Reference = "registry.k8s.io/pause:3.10".parse().unwrap();
        assert_eq!(
            pause.url("manifests", "3.10"),
            "https://registry.k8s.io/v2/pause/manifests/3.10"
        );
        assert_eq!(pause.file_name(), "pause-3.10.tar");
        let short: Reference = "busybox:1".parse().unwrap();
        assert_eq!(short.name(), "docker.io/library/busybox:1");
        assert!(short.url("blobs", "x").starts_with("https://registry-1.docker.io/v2/library/"));
        let pinned = format!("quay.io/a/b:v1@sha256:{}", "0".repeat(64));
        assert_eq!(pinned.parse::<Reference>().unwrap().name(), "quay.io/a/b:v1");
        for bad in ["quay.io/a", "quay.io/a@sha256:12", "quay.io/a:v1@md5:12", "", "a b:c"] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }

    #[test]
    fn challenges_are_taken_apart() {
        let text = r#"realm="https://a.example/token",service="r, x",scope="repository:a/b:pull""#;
        assert_eq!(parameter(text, "realm").as_deref(), Some("https://a.example/token"));
        assert_eq!(parameter(text, "Service").as_deref(), Some("r, x"));
        assert_eq!(parameter(text, "none"), None);
        assert_eq!(encode("r, x&y"), "r%2C%20x%26y");
    }
}
