//! What is in an image archive: `docker save` and OCI layout tarballs, plain or gzip.
//!
//! An archive is read as containerd imports it (`ctr images import`): an OCI layout goes by its
//! `index.json`, anything else by docker's `manifest.json`. What is missing or damaged in it would
//! only show on a node, where it costs a failed start, so it is looked for here.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Read};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::model::Sha256Hex;

/// Most bytes that an archive may unpack to.
const MAX_UNPACKED: u64 = 16 << 30;
/// Largest JSON document in an archive in bytes.
const MAX_JSON: u64 = 4 << 20;
/// Bytes of all JSON documents that are kept.
const MAX_JSON_TOTAL: u64 = 64 << 20;
/// Largest name of an entry in bytes, with what a tar extension wraps around it.
const MAX_NAME: u64 = 64 << 10;
/// Most entries of an archive.
const MAX_ENTRIES: usize = 100_000;

/// Why an image archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It is no tar file, or a damaged one.
    #[error("it is not an image archive")]
    Tar(#[source] io::Error),
    /// It is compressed in a way that is not read here.
    #[error("it is compressed with zstd; decompress it first (`zstd -d`)")]
    Zstd,
    /// It has more than any image has.
    #[error("it is too large: {0}")]
    TooLarge(&'static str),
    /// It is neither of the formats.
    #[error("it has neither index.json (OCI layout) nor manifest.json (docker save)")]
    NoIndex,
    /// A document in it cannot be read.
    #[error("{document} in it cannot be read")]
    Json {
        /// Which.
        document: String,
        /// Why.
        source: serde_json::Error,
    },
    /// Something that it refers to is not in it.
    #[error("{0}, which its index lists, is missing in it")]
    Missing(String),
    /// A blob is not what its name says.
    #[error("{0} in it is damaged: its SHA-256 differs")]
    Damaged(String),
    /// No image in it has a full name.
    #[error("no image in it has a name with registry and tag")]
    NoReference,
}

/// An image in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Full reference, as in `registry.k8s.io/pause:3.10.2`.
    pub reference: String,
    /// Architectures for which the archive is complete, as in `amd64`.
    pub architectures: BTreeSet<String>,
}

/// Reads an archive to its end and returns its images, sorted by reference.
///
/// Every blob of an OCI layout is compared with its digest, and every layer that a manifest names
/// must be there. The content of layers is not looked into.
///
/// # Errors
/// See [`ImageError`].
pub fn inspect(archive: impl Read) -> Result<Vec<Image>, ImageError> {
    let mut archive = BufReader::with_capacity(1 << 18, archive);
    let start = archive.fill_buf().map_err(ImageError::Tar)?;
    let entries = if start.starts_with(&[0x1f, 0x8b]) {
        Entries::read(flate2::bufread::MultiGzDecoder::new(archive))?
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Err(ImageError::Zstd);
    } else {
        Entries::read(archive)?
    };
    let mut images = if entries.present.contains("index.json") {
        entries.oci()?
    } else if entries.present.contains("manifest.json") {
        entries.docker()?
    } else {
        return Err(ImageError::NoIndex);
    };
    if images.is_empty() {
        return Err(ImageError::NoReference);
    }
    images.sort_by(|a, b| a.reference.cmp(&b.reference));
    images.dedup();
    Ok(images)
}

/// Whether a text is a full reference: registry, repository and tag.
pub fn is_reference(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-/:".contains(&c);
    let Some((registry, rest)) = text.split_once('/') else { return false };
    let Some((repository, tag)) = rest.rsplit_once(':') else { return false };
    let is_part = |p: &str| !p.is_empty() && !p.starts_with(['.', '-']);
    text.len() <= 512
        && text.bytes().all(plain)
        && (registry.contains(['.', ':']) || registry == "localhost")
        && is_part(registry)
        && repository.split('/').all(is_part)
        && !repository.contains(':')
        && !tag.contains('/')
        && is_part(tag)
}

/// The full form of a name as docker shortens it: `busybox:1` is `docker.io/library/busybox:1`.
/// `None` for what has no tag, and for a tag alone.
pub(super) fn full_reference(name: &str) -> Option<String> {
    let full = match name.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    };
    let tagged = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    (tagged && is_reference(&full)).then_some(full)
}

/// What an archive holds: the names of all entries and the content of the documents.
#[derive(Default)]
struct Entries {
    present: BTreeSet<String>,
    documents: BTreeMap<String, Vec<u8>>,
}

impl Entries {
    fn read(unpacked: impl Read) -> Result<Self, ImageError> {
        let mut entries = Entries::default();
        let mut kept = 0;
        let mut archive = tar::Archive::new(Limited { inner: unpacked, left: MAX_UNPACKED });
        let mut long_name = None;
        // Raw: otherwise names in extensions are read whole, however long they are said to be, and some
        // kilobytes of gzip unpack to gigabytes of memory.
        for entry in archive.entries().map_err(ImageError::Tar)?.raw(true) {
            let mut entry = entry.map_err(ImageError::Tar)?;
            let kind = entry.header().entry_type();
            if kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions() {
                if entry.size() > MAX_NAME {
                    return Err(ImageError::TooLarge("a name"));
                }
                long_name = extended_name(&mut entry)?.or(long_name);
                continue;
            }
            let name = long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
            let name = String::from_utf8_lossy(&name).into_owned();
            let name = name.trim_start_matches("./").trim_end_matches('/').to_owned();
            if kind.is_dir() {
                continue;
            }
            // Old versions of docker link a layer that several images share.
            if kind.is_file() && entry.size() > 0 {
                let blob = name.strip_prefix("blobs/sha256/").map(str::to_owned);
                let keep = entry.size() <= MAX_JSON && (blob.is_some() || name.ends_with(".json"));
                let (digest, content) = entries.digest(&mut entry, keep)?;
                if blob.is_some_and(|b| b != digest.as_str()) {
                    return Err(ImageError::Damaged(name));
                }
                if let Some(content) = content {
                    kept += content.len() as u64;
                    if kept > MAX_JSON_TOTAL {
                        return Err(ImageError::TooLarge("documents"));
                    }
                    entries.documents.insert(name.clone(), content);
                }
            }
            if !kind.is_file() && !kind.is_symlink() && !kind.is_hard_link() {
                let odd = io::Error::other(format!("{name} is neither a file nor a link"));
                return Err(ImageError::Tar(odd));
            }
            entries.present.insert(name);
            if entries.present.len() > MAX_ENTRIES {
                return Err(ImageError::TooLarge("entries"));
            }
        }
        Ok(entries)
    }

    /// Reads an entry; keeps it if it is wanted and begins as JSON objects and lists do.
    fn digest(
        &self,
        entry: &mut impl Read,
        keep: bool,
    ) -> Result<(Sha256Hex, Option<Vec<u8>>), ImageError> {
        let mut digest = Sha256::new();
        let mut content = keep.then(Vec::new);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = entry.read(&mut buffer).map_err(ImageError::Tar)?;
            if count == 0 {
                return Ok((Sha256Hex::of(digest.finalize()), content));
            }
            digest.update(&buffer[..count]);
            if let Some(kept) = &mut content {
                kept.extend_from_slice(&buffer[..count]);
                if !matches!(kept[0], b'{' | b'[' | b' ' | b'\n') {
                    content = None;
                }
            }
        }
    }

    fn document<'a, T: Deserialize<'a>>(&'a self, name: &str) -> Result<T, ImageError> {
        let bytes = self.documents.get(name).ok_or_else(|| ImageError::Missing(name.to_owned()))?;
        serde_json::from_slice(bytes)
            .map_err(|source| ImageError::Json { document: name.to_owned(), source })
    }

    fn docker(&self) -> Result<Vec<Image>, ImageError> {
        let manifests: Vec<DockerManifest> = self.document("manifest.json")?;
        let mut images = Vec::new();
        for manifest in manifests {
            for layer in &manifest.layers {
                self.require(layer)?;
            }
            let configuration: Configuration = self.document(&manifest.config)?;
            let names = manifest.repo_tags.unwrap_or_default();
            images.extend(names.iter().filter_map(|n| full_reference(n)).map(|reference| Image {
                reference,
                architectures: BTreeSet::from([configuration.architecture.clone()]),
            }));
        }
        Ok(images)
    }

    fn oci(&self) -> Result<Vec<Image>, ImageError> {
        let index: Index = self.document("index.json")?;
        let mut images = Vec::new();
        for descriptor in &index.manifests {
            let names = &descriptor.annotations;
            let name = names
                .get("io.containerd.image.name")
                .or_else(|| names.get("org.opencontainers.image.ref.name"));
            let mut architectures = BTreeSet::new();
            self.architectures(descriptor, 0, &mut architectures)?;
            if let Some(reference) = name.and_then(|n| full_reference(n)) {
                images.push(Image { reference, architectures });
            }
        }
        Ok(images)
    }

    /// Architectures of a manifest, or of the manifests of an index that are there: an archive of
    /// one platform may still name the others.
    fn architectures(
        &self,
        descriptor: &Descriptor,
        depth: usize,
        found: &mut BTreeSet<String>,
    ) -> Result<(), ImageError> {
        let name = descriptor.blob();
        let manifest: OciManifest = self.document(&name)?;
        for inner in &manifest.manifests {
            // An index in an index is allowed; deeper ones are nobody's.
            if depth < 2 && self.present.contains(&inner.blob()) {
                self.architectures(inner, depth + 1, found)?;
            }
        }
        let Some(configuration) = &manifest.config else { return Ok(()) };
        for layer in &manifest.layers {
            self.require(&layer.blob())?;
        }
        let configuration: Configuration = self.document(&configuration.blob())?;
        if configuration.os == "linux" {
            found.insert(configuration.architecture);
        }
        Ok(())
    }

    fn require(&self, name: &str) -> Result<(), ImageError> {
        match self.present.contains(name) {
            true => Ok(()),
            false => Err(ImageError::Missing(name.to_owned())),
        }
    }
}

/// The name that an extension gives to the entry after it, if it does.
fn extended_name<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Option<Vec<u8>>, ImageError> {
    let kind = entry.header().entry_type();
    if kind.is_gnu_longlink() {
        return Ok(None);
    }
    if kind.is_gnu_longname() {
        let mut name = Vec::new();
        entry.read_to_end(&mut name).map_err(ImageError::Tar)?;
        name.truncate(name.iter().position(|b| *b == 0).unwrap_or(name.len()));
        return Ok(Some(name));
    }
    let mut name = None;
    for extension in entry.pax_extensions().map_err(ImageError::Tar)?.into_iter().flatten() {
        let extension = extension.map_err(ImageError::Tar)?;
        match extension.key_bytes() {
            b"path" => name = Some(extension.value_bytes().to_owned()),
            // Of entries beyond 8 GiB, and of archives that parsers read differently.
            b"size" => return Err(ImageError::TooLarge("an entry")),
            _ => {}
        }
    }
    Ok(name)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Path of the blob in a layout, by the OCI image-layout specification.
    fn blob(&self) -> String {
        format!("blobs/{}", self.digest.replacen(':', "/", 1))
    }
}

/// A manifest or an index, told apart by what they have.
#[derive(Deserialize)]
struct OciManifest {
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Configuration {
    /// Empty in the configurations of attestations, which are no images.
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

/// An error instead of an end, so that a cut archive is not taken for a whole one.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| io::Error::other("it unpacks to more than 16 GiB"))?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_full_names_with_a_tag() {
        for good in ["registry.k8s.io/pause:3.10", "r.example:5000/a/b:v1", "localhost/x:y"] {
            assert!(is_reference(good), "{good}");
        }
        for bad in
            ["pause:3.10", "r.io/a", "r.io/:v", "r.io/a:", "r.io/a b:v", "a/b:v", "r.io/../a:v"]
        {
            assert!(!is_reference(bad), "{bad}");
        }
        assert_eq!(full_reference("busybox:1").unwrap(), "docker.io/library/busybox:1");
        assert_eq!(full_reference("calico/node:v3").unwrap(), "docker.io/calico/node:v3");
        assert_eq!(full_reference("r.io:5000/a"), None);
        assert_eq!(full_reference("v1.2"), None);
    }

    fn archive_with(extension: tar::EntryType, content: &[u8]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(extension);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, "extension", content).unwrap();
        let index = br#"{"manifests":[]}"#;
        let mut header = tar::Header::new_gnu();
        header.set_size(index.len() as u64);
        builder.append_data(&mut header, "short", &index[..]).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn a_name_is_read_from_its_extension_and_no_more_than_a_name() {
        use tar::EntryType;
        let pax = b"19 path=index.json\n";
        for (kind, content) in
            [(EntryType::GNULongName, &b"index.json\0"[..]), (EntryType::XHeader, &pax[..])]
        {
            let found = inspect(&archive_with(kind, content)[..]);
            assert!(matches!(found, Err(ImageError::NoReference)), "{kind:?}: {found:?}");
        }
        for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
            let found = inspect(&archive_with(kind, &vec![0; 65 << 10])[..]);
            assert!(matches!(found, Err(ImageError::TooLarge(_))), "{kind:?}: {found:?}");
        }
        let sized = inspect(&archive_with(EntryType::XHeader, b"9 size=1\n")[..]);
        assert!(matches!(sized, Err(ImageError::TooLarge(_))), "{sized:?}");
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2000)) {
            let _ = inspect(&bytes[..]);
        }
    }
}
