//! What a bundle brings, as far as the desired state depends on it: plain data, so that stages that
//! touch no disk can work with it.

use std::collections::BTreeMap;

/// The files of an opened bundle.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Software {
    /// Machine that it is for, as `uname -m` says it.
    pub machine: String,
    /// Version by component, as in `containerd` -> `v2.1.9`.
    pub versions: BTreeMap<String, String>,
    /// The files, sorted as in the bundle.
    pub files: Vec<SoftwareFile>,
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoftwareFile {
    /// What it is.
    pub kind: SoftwareKind,
    /// Its name, as in `kubelet` or `calico.yaml`.
    pub name: String,
    /// Lower-case hexadecimal SHA-256.
    pub sha256: String,
    /// Size in bytes.
    pub size: u64,
    /// References in an image archive.
    pub images: Vec<String>,
}

/// What a file of a bundle is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SoftwareKind {
    /// A program.
    Program,
    /// A CNI plugin.
    CniPlugin,
    /// An image archive.
    Images,
    /// A Kubernetes manifest.
    Manifest,
}

/// An object of a manifest of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundledObject {
    /// The manifest's name, as in `calico.yaml`.
    pub file: String,
    /// The object, with `apiVersion`, `kind` and a name.
    pub object: serde_json::Value,
}

impl Software {
    /// A program by its name.
    pub fn program(&self, name: &str) -> Option<&SoftwareFile> {
        self.of(SoftwareKind::Program).find(|f| f.name == name)
    }

    /// The files of a kind.
    pub fn of(&self, kind: SoftwareKind) -> impl Iterator<Item = &SoftwareFile> {
        self.files.iter().filter(move |f| f.kind == kind)
    }
}
