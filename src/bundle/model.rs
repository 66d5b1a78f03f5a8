//! What a bundle is, as data.
//!
//! The manifest is canonical: the same content has one text only, so that what was signed can be
//! made again from what was read, and nothing can hide between the two.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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
    pub kind: Kind,
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
pub enum Kind {
    /// A program, `files/bin/`.
    Binary,
    /// A CNI plugin, `files/cni/`.
    CniPlugin,
    /// An image archive (docker save or OCI layout), `files/images/`.
    Image,
    /// A Kubernetes manifest, `files/manifests/`.
    Manifest,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 4] = [Kind::Binary, Kind::CniPlugin, Kind::Image, Kind::Manifest];

    /// Directory of such files, below `files/` and in a directory that is imported.
    pub fn directory(self) -> &'static str {
        match self {
            Kind::Binary => "bin",
            Kind::CniPlugin => "cni",
            Kind::Image => "images",
            Kind::Manifest => "manifests",
        }
    }

    /// Permissions of such files.
    pub fn mode(self) -> Mode {
        match self {
            Kind::Binary | Kind::CniPlugin => Mode(0o755),
            Kind::Image | Kind::Manifest => Mode(0o644),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Binary => "binary",
            Kind::CniPlugin => "cni-plugin",
            Kind::Image => "image",
            Kind::Manifest => "manifest",
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
    pub const ALL: [Architecture; 2] = [Architecture::Amd64, Architecture::Arm64];

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
        let known = Self::ALL.into_iter().find(|a| a.as_str() == s);
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
    kind: Kind,
}

const PATH_ALLOWED: &str =
    "a path is bin/, cni/, images/ or manifests/ and a name of letters, digits, `.`, `_` and `-`";

impl FilePath {
    /// The path of a file of a kind.
    ///
    /// # Errors
    /// A name that is not letters, digits, `.`, `_` and `-`, that begins with `.` or `-`, or that
    /// has more than 100 characters.
    pub fn new(kind: Kind, name: &str) -> Result<Self, ValueError> {
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
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl FromStr for FilePath {
    type Err = ValueError;

    fn from_str(s: &str) -> Result<Self, ValueError> {
        let bad = || ValueError::new(s, PATH_ALLOWED);
        let (directory, name) = s.split_once('/').ok_or_else(bad)?;
        let kind = Kind::ALL.into_iter().find(|k| k.directory() == directory).ok_or_else(bad)?;
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

/// How the version of a component is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionStyle {
    /// `v1.2.3`, as in release tags.
    Tag,
    /// `3.10` or `3.10.2`.
    Plain,
}

impl VersionStyle {
    /// Whether a text is a version of this style. A suffix such as `-rc.1` is part of it.
    pub fn accepts(self, version: &str) -> bool {
        let (prefix, lengths) = match self {
            VersionStyle::Tag => ("v", 3..=3),
            VersionStyle::Plain => ("", 2..=3),
        };
        let Some(rest) = version.strip_prefix(prefix) else { return false };
        let (numbers, suffix) = match rest.split_once('-') {
            Some((numbers, suffix)) => (numbers, Some(suffix)),
            None => (rest, None),
        };
        let number =
            |n: &str| !n.is_empty() && n.len() <= 6 && n.bytes().all(|c| c.is_ascii_digit());
        let plain = |s: &str| {
            !s.is_empty()
                && s.len() <= 32
                && s.bytes().all(|c| c.is_ascii_alphanumeric() || b".-".contains(&c))
        };
        lengths.contains(&numbers.split('.').count())
            && numbers.split('.').all(number)
            && suffix.is_none_or(plain)
    }

    /// What is accepted, as a phrase.
    pub fn allowed(self) -> &'static str {
        match self {
            VersionStyle::Tag => "a version is written as its release tag, as in \"v3.6.8\"",
            VersionStyle::Plain => "a version is two or three numbers in quotes, as in \"3.10.2\"",
        }
    }
}

/// A component that bundles know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComponentRow {
    /// Name in manifests, `versions.yaml` and on the command line.
    pub name: &'static str,
    /// How its version is written.
    pub style: VersionStyle,
    /// Programs that it brings, and whether a bundle must have them.
    pub binaries: &'static [(&'static str, Need)],
    /// Images that it brings, without tag; the tag is the component's version.
    pub images: &'static [&'static str],
}

/// When something must be in a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Always.
    Always,
    /// If any other of the container runtime is: the runtime comes whole or from the distribution.
    WithRuntime,
    /// Never.
    Optional,
}

/// Every component, sorted by name.
pub const COMPONENTS: [ComponentRow; 7] = [
    ComponentRow { name: "cni-plugins", style: VersionStyle::Tag, binaries: &[], images: &[] },
    ComponentRow {
        name: "containerd",
        style: VersionStyle::Tag,
        binaries: &[
            ("containerd", Need::WithRuntime),
            ("containerd-shim-runc-v2", Need::WithRuntime),
            ("ctr", Need::WithRuntime),
        ],
        images: &[],
    },
    ComponentRow {
        name: "coredns",
        style: VersionStyle::Tag,
        binaries: &[],
        images: &["registry.k8s.io/coredns/coredns"],
    },
    ComponentRow {
        name: "etcd",
        style: VersionStyle::Tag,
        binaries: &[("etcd", Need::Always), ("etcdctl", Need::Always), ("etcdutl", Need::Optional)],
        images: &[],
    },
    ComponentRow {
        name: "kubernetes",
        style: VersionStyle::Tag,
        binaries: &[
            ("kubeadm", Need::Always),
            ("kubectl", Need::Always),
            ("kubelet", Need::Always),
        ],
        images: &[
            "registry.k8s.io/kube-apiserver",
            "registry.k8s.io/kube-controller-manager",
            "registry.k8s.io/kube-proxy",
            "registry.k8s.io/kube-scheduler",
        ],
    },
    ComponentRow {
        name: "pause",
        style: VersionStyle::Plain,
        binaries: &[],
        images: &["registry.k8s.io/pause"],
    },
    ComponentRow {
        name: "runc",
        style: VersionStyle::Tag,
        binaries: &[("runc", Need::WithRuntime)],
        images: &[],
    },
];

impl ComponentRow {
    /// The component of a name.
    pub fn find(name: &str) -> Option<&'static ComponentRow> {
        COMPONENTS.iter().find(|c| c.name == name)
    }

    /// The component that brings a program, and when the program is needed.
    pub fn of_binary(program: &str) -> Option<(&'static ComponentRow, Need)> {
        COMPONENTS.iter().find_map(|row| {
            let found = row.binaries.iter().find(|(name, _)| *name == program);
            found.map(|(_, need)| (row, *need))
        })
    }

    /// The component that brings an image.
    pub fn of_image(reference: &str) -> Option<&'static ComponentRow> {
        let name = reference.rsplit_once(':').map_or(reference, |(name, _)| name);
        COMPONENTS.iter().find(|row| row.images.contains(&name))
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
        self.files.iter().map(|f| f.size).sum()
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
    fn versions_are_written_in_one_way() {
        for good in ["v1.36.2", "v3.6.0-rc.1", "v10.0.0"] {
            assert!(VersionStyle::Tag.accepts(good), "{good}");
        }
        for bad in ["1.36.2", "v1.36", "v1.36.2.1", "v1..2", "v1.2.x", "v1.2.3-", "v1.2.3-a/b", ""]
        {
            assert!(!VersionStyle::Tag.accepts(bad), "{bad}");
        }
        assert!(VersionStyle::Plain.accepts("3.10") && VersionStyle::Plain.accepts("3.10.2"));
        assert!(!VersionStyle::Plain.accepts("v3.10") && !VersionStyle::Plain.accepts("3"));
    }

    #[test]
    fn the_table_of_components_is_sorted_and_without_overlaps() {
        assert!(COMPONENTS.is_sorted_by_key(|c| c.name));
        let mut names: Vec<&str> =
            COMPONENTS.iter().flat_map(|c| c.binaries.iter().map(|(n, _)| *n)).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
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
