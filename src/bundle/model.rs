//! What a bundle is, as data.
//!
//! The manifest is canonical: the same content has one text only, so that what was signed can be
//! made again from what was read, and nothing can hide between the two.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::component::COMPONENTS;
use crate::inventory::KubernetesVersion;

/// Where a bundle lies unless something else is said.
pub const DEFAULT_DIR: &str = "/var/cache/kubastion/bundle";
/// Name of the manifest in a bundle.
pub const MANIFEST: &str = "manifest.json";
/// Name of the manifest's signature in a bundle.
pub const SIGNATURE: &str = "manifest.json.sig";
/// Directory of the files in a bundle.
pub const FILES: &str = "files";
/// Version of the on-disk format.
pub const FORMAT: u32 = 1;
/// Largest manifest in bytes; a real one has about 20 kB.
pub const MAX_MANIFEST: u64 = 4 << 20;
/// Largest single file of a bundle in bytes.
pub const MAX_FILE: u64 = 4 << 30;
/// Component of images and manifests that belong to none of [`COMPONENTS`], such as Calico's.
pub const ADD_ON: &str = "add-on";

/// What a bundle holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the on-disk format; [`FORMAT`] is the only one so far.
    pub format: u32,
    /// When the bundle was made, RFC 3339 in UTC.
    pub created: String,
    /// Machine that binaries and images are for.
    pub architecture: Architecture,
    /// Kubernetes release.
    pub kubernetes: KubernetesVersion,
    /// Versions by component name; see [`COMPONENTS`].
    pub components: BTreeMap<String, Component>,
    /// Every file, sorted by path.
    pub files: Vec<File>,
}

/// A component and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// Version as its project writes it, as in `v3.6.8`.
    pub version: String,
    /// URL, or [`IMPORTED`].
    pub origin: String,
}

/// Origin of what was imported from a directory.
pub const IMPORTED: &str = "imported";

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Path below `files/`.
    pub path: FilePath,
    /// What it is.
    pub kind: ArtifactKind,
    /// A name of [`COMPONENTS`], or [`ADD_ON`].
    pub component: String,
    /// SHA-256 of its content.
    pub sha256: Sha256Hex,
    /// Size in bytes.
    pub size: u64,
    /// Permissions.
    pub mode: Mode,
    /// URL that it comes from, or [`IMPORTED`].
    pub origin: String,
    /// For an image archive: the references in it, as in `registry.k8s.io/pause:3.10.2`, sorted.
    pub images: Vec<String>,
}

impl File {
    /// The last part of the path, as in `kubelet` or `calico.yaml`.
    pub fn name(&self) -> &str {
        self.path.name()
    }
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArtifactKind {
    /// A program, `files/bin/`.
    Binary,
    /// A CNI plugin, `files/cni/`.
    CniPlugin,
    /// An image archive (docker save or OCI layout), `files/images/`.
    Image,
    /// A Kubernetes manifest, `files/manifests/`.
    Manifest,
}

impl ArtifactKind {
    /// Every kind.
    pub const ALL: &[ArtifactKind] = &[
        ArtifactKind::Binary,
        ArtifactKind::CniPlugin,
        ArtifactKind::Image,
        ArtifactKind::Manifest,
    ];

    /// Directory of such files, below `files/` and in a directory that is imported.
    pub fn directory(self) -> &'static str {
        match self {
            ArtifactKind::Binary => "bin",
            ArtifactKind::CniPlugin => "cni",
            ArtifactKind::Image => "images",
            ArtifactKind::Manifest => "manifests",
        }
    }

    /// Permissions of such files.
    pub fn mode(self) -> Mode {
        match self {
            ArtifactKind::Binary | ArtifactKind::CniPlugin => Mode(0o755),
            ArtifactKind::Image | ArtifactKind::Manifest => Mode(0o644),
        }
    }
}

impl fmt::Display for ArtifactKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ArtifactKind::Binary => "binary",
            ArtifactKind::CniPlugin => "cni-plugin",
            ArtifactKind::Image => "image",
            ArtifactKind::Manifest => "manifest",
        })
    }
}

/// A machine architecture, under the name that Kubernetes and OCI images use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// AArch64.
    Arm64,
}

impl Architecture {
    /// Every architecture.
    pub const ALL: &[Architecture] = &[Architecture::Amd64, Architecture::Arm64];

    /// `e_machine` of ELF files (System V ABI, EM_X86_64 and EM_AARCH64).
    pub fn elf_machine(self) -> u16 {
        match self {
            Architecture::Amd64 => 62,
            Architecture::Arm64 => 183,
        }
    }

    /// The name in URLs and image configurations.
    pub fn as_str(self) -> &'static str {
        match self {
            Architecture::Amd64 => "amd64",
            Architecture::Arm64 => "arm64",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Architecture {
    type Err = ValueError;

    fn from_str(s: &str) -> Result<Self, ValueError> {
        let known = Self::ALL.iter().copied().find(|a| a.as_str() == s);
        known.ok_or_else(|| ValueError::new(s, "an architecture is amd64 or arm64"))
    }
}

/// Why a text could not be one of the types in this module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("found {found:?}; {allowed}")]
pub struct ValueError {
    /// The text.
    pub found: String,
    /// What is allowed, as a phrase.
    pub allowed: &'static str,
}

impl ValueError {
    pub(super) fn new(found: &str, allowed: &'static str) -> Self {
        Self { found: found.to_owned(), allowed }
    }
}

/// A path below `files/`: `DIRECTORY/NAME`, both of plain characters.
///
/// Nothing else is a path of a bundle, so `..`, an absolute path or a name that begins with `-`
/// cannot even be written down.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FilePath {
    text: String,
    kind: ArtifactKind,
}

const PATH_ALLOWED: &str =
    "a path is bin/, cni/, images/ or manifests/ and a name of letters, digits, `.`, `_` and `-`";

impl FilePath {
    /// The path of a file of a kind.
    ///
    /// # Errors
    /// A name that is not letters, digits, `.`, `_` and `-`, that begins with `.` or `-`, or that
    /// has more than 100 characters.
    pub fn new(kind: ArtifactKind, name: &str) -> Result<Self, ValueError> {
        format!("{}/{name}", kind.directory()).parse()
    }

    /// The text, with `/`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part after the directory.
    pub fn name(&self) -> &str {
        &self.text[self.kind.directory().len() + 1..]
    }

    /// The kind of file that lies under its directory.
    pub fn kind(&self) -> ArtifactKind {
        self.kind
    }
}

/// The path of a file from the bundle's directory.
pub(super) fn in_bundle(path: &FilePath) -> String {
    format!("{FILES}/{path}")
}

impl FromStr for FilePath {
    type Err = ValueError;

    fn from_str(s: &str) -> Result<Self, ValueError> {
        let bad = || ValueError::new(s, PATH_ALLOWED);
        let (directory, name) = s.split_once('/').ok_or_else(bad)?;
        let kind = ArtifactKind::ALL
            .iter()
            .copied()
            .find(|k| k.directory() == directory)
            .ok_or_else(bad)?;
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
        let good = !name.is_empty()
            && name.len() <= 100
            && !name.starts_with(['.', '-'])
            && name.bytes().all(plain);
        if good { Ok(Self { text: s.to_owned(), kind }) } else { Err(bad()) }
    }
}

impl TryFrom<String> for FilePath {
    type Error = ValueError;
    fn try_from(s: String) -> Result<Self, ValueError> {
        s.parse()
    }
}

impl From<FilePath> for String {
    fn from(p: FilePath) -> String {
        p.text
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

/// A SHA-256 as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256Hex(String);

impl Sha256Hex {
    /// From a finished digest.
    pub fn of(digest: impl AsRef<[u8]>) -> Self {
        Self(digest.as_ref().iter().map(|b| format!("{b:02x}")).collect())
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Sha256Hex {
    type Err = ValueError;

    fn from_str(s: &str) -> Result<Self, ValueError> {
        let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if s.len() == 64 && s.bytes().all(digit) {
            Ok(Self(s.to_owned()))
        } else {
            Err(ValueError::new(s, "a SHA-256 is 64 lower-case hexadecimal digits"))
        }
    }
}

impl TryFrom<String> for Sha256Hex {
    type Error = ValueError;
    fn try_from(s: String) -> Result<Self, ValueError> {
        s.parse()
    }
}

impl From<Sha256Hex> for String {
    fn from(s: Sha256Hex) -> String {
        s.0
    }
}

impl fmt::Display for Sha256Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Permission bits, written as four octal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mode(u32);

impl Mode {
    /// The bits.
    pub fn bits(self) -> u32 {
        self.0
    }

    pub(super) fn of(metadata: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::PermissionsExt;
        Self(metadata.permissions().mode() & 0o7777)
    }
}

impl TryFrom<String> for Mode {
    type Error = ValueError;

    fn try_from(s: String) -> Result<Self, ValueError> {
        let octal = |c: u8| (b'0'..=b'7').contains(&c);
        let bits = (s.len() == 4 && s.bytes().all(octal)).then(|| u32::from_str_radix(&s, 8));
        match bits {
            Some(Ok(bits)) => Ok(Self(bits)),
            _ => Err(ValueError::new(&s, "a mode is four octal digits, as in 0755")),
        }
    }
}

impl From<Mode> for String {
    fn from(m: Mode) -> String {
        m.to_string()
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl Manifest {
    /// The one text of this manifest, which is what gets signed.
    ///
    /// JSON with sorted keys and without white space between tokens, a line feed at the end; all
    /// numbers are whole. Beside that line feed this is what RFC 8785 says for such values.
    pub fn canonical(&self) -> Vec<u8> {
        let value = serde_json::to_value(self).expect("a manifest has text keys and whole numbers");
        let mut text = value.to_string();
        text.push('\n');
        text.into_bytes()
    }

    /// References of all images, sorted.
    pub fn images(&self) -> Vec<&str> {
        let mut all: Vec<&str> =
            self.files.iter().flat_map(|f| f.images.iter().map(String::as_str)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Images that a cluster of these versions cannot start without, sorted.
    pub fn required_images(&self) -> Vec<String> {
        let mut all: Vec<String> = COMPONENTS
            .iter()
            .filter_map(|row| Some((row, self.components.get(row.name)?)))
            .flat_map(|(row, c)| row.images.iter().map(move |i| format!("{i}:{}", c.version)))
            .collect();
        all.sort();
        all
    }

    /// Size of all files in bytes.
    pub fn total_size(&self) -> u64 {
        // Also asked of a manifest that is about to be refused, whose sizes may be anything.
        self.files.iter().fold(0, |sum: u64, f| sum.saturating_add(f.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_outside_of_a_bundle_cannot_be_written_down() {
        for good in ["bin/kubelet", "images/kube-apiserver_v1.tar", "manifests/a.yaml", "cni/x"] {
            assert_eq!(good.parse::<FilePath>().unwrap().as_str(), good);
        }
        let bad = [
            "",
            "/",
            "bin",
            "bin/",
            "/bin/x",
            "bin//x",
            "../bin/x",
            "bin/../x",
            "bin/..",
            "bin/.",
            "bin/.hidden",
            "bin/-rf",
            "lib/x",
            "bin/a/b",
            "bin/a b",
            "bin/a\n",
            "bin/ä",
            "bin/\0",
        ];
        for bad in bad {
            assert!(bad.parse::<FilePath>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sizes_that_nobody_has_do_not_overflow() {
        let file = |name: &str| {
            serde_json::json!({
                "path": format!("bin/{name}"), "kind": "binary", "component": "etcd",
                "sha256": "0".repeat(64), "size": u64::MAX, "mode": "0755", "origin": "x",
                "images": [],
            })
        };
        let manifest: Manifest = serde_json::from_value(serde_json::json!({
            "format": 1, "created": "", "architecture": "amd64", "kubernetes": "1.36.2",
            "components": {}, "files": [file("a"), file("b")],
        }))
        .unwrap();
        assert_eq!(manifest.total_size(), u64::MAX);
    }

    #[test]
    fn modes_are_four_octal_digits() {
        let mode = Mode::try_from("0755".to_owned()).unwrap();
        assert_eq!((mode.bits(), mode.to_string().as_str()), (0o755, "0755"));
        for bad in ["755", "0o755", "0888", "+755", "07555"] {
            assert!(Mode::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
