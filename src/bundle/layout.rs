//! A directory that a bundle is made from: what is in it, and what is wrong with that.
//!
//! ```text
//! versions.yaml     kubernetes: v1.36.2, etcd: v3.6.8, ... (names of COMPONENTS, strict)
//! bin/              programs that components bring
//! cni/              CNI plugins
//! images/*.tar      image archives, also .tar.gz and .tgz
//! manifests/*.yaml  Kubernetes manifests
//! ```

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::yaml::Value;

use super::component::{COMPONENTS, ComponentRow};
use super::fault::Fault;
use super::model::{ArtifactKind, FilePath};
use crate::inventory::{KubernetesVersion, diagnostic::nearest};

/// Name of the file with the versions.
pub const VERSIONS: &str = "versions.yaml";
/// Largest `versions.yaml` in bytes.
const MAX_VERSIONS: u64 = 64 << 10;

/// What a directory holds.
#[derive(Debug)]
pub(super) struct Layout {
    /// Kubernetes release, if `versions.yaml` names one.
    pub kubernetes: Option<KubernetesVersion>,
    /// Versions by component.
    pub versions: BTreeMap<String, String>,
    /// Files to take, sorted by path, with where they lie.
    pub files: BTreeMap<FilePath, PathBuf>,
}

/// Lists a directory. Everything that is wrong with it goes to `faults`.
pub(super) fn read(from: &Path, faults: &mut Vec<Fault>) -> Layout {
    let mut layout = Layout { kubernetes: None, versions: BTreeMap::new(), files: BTreeMap::new() };
    let entries = match names(from) {
        Ok(entries) => entries,
        Err(e) => {
            faults.push(Fault::io("listed", from)(e));
            return layout;
        }
    };
    if entries.iter().any(|e| e == VERSIONS) {
        read_versions(from, &mut layout, faults);
    } else {
        let fault =
            Fault::entry(VERSIONS, "is missing").why("it names the version of each component");
        faults.push(fault.hint("write one line per component, as in kubernetes: v1.36.2"));
    }
    let known: Vec<&str> =
        ArtifactKind::ALL.iter().map(|k| k.directory()).chain([VERSIONS]).collect();
    for name in entries.iter().filter(|e| *e != VERSIONS) {
        match ArtifactKind::ALL.iter().copied().find(|k| k.directory() == name) {
            Some(kind) => read_directory(from, kind, &mut layout, faults),
            None => faults.push(unknown(name.clone(), name, &known)),
        }
    }
    layout
}

fn names(directory: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn unknown(place: String, name: &str, known: &[&str]) -> Fault {
    let fault = Fault::entry(place, "is unknown").why(format!("allowed: {}", known.join(", ")));
    match nearest(name, known.iter().copied()) {
        Some(near) => fault.hint(format!("did you mean `{near}`?")),
        None => fault,
    }
}

fn read_directory(from: &Path, kind: ArtifactKind, layout: &mut Layout, faults: &mut Vec<Fault>) {
    let directory = from.join(kind.directory());
    let entries = match names(&directory) {
        Ok(entries) => entries,
        Err(e) => {
            faults.push(Fault::io("listed", &directory)(e));
            return;
        }
    };
    for name in entries {
        let place = format!("{}/{name}", kind.directory());
        let source = directory.join(&name);
        // Follows links: what counts is what is read through them.
        match std::fs::metadata(&source) {
            Ok(m) if m.is_file() => {}
            Ok(_) => {
                faults.push(Fault::entry(place, "is not a file"));
                continue;
            }
            Err(e) => {
                faults.push(Fault::io("read", &source)(e));
                continue;
            }
        }
        let path = match FilePath::new(kind, &name) {
            Ok(path) => path,
            Err(e) => {
                faults.push(Fault::entry(place, "has an invalid name").why(e.to_string()));
                continue;
            }
        };
        if let Some(fault) = misnamed(kind, &name, &place) {
            faults.push(fault);
        } else {
            layout.files.insert(path, source);
        }
    }
}

fn misnamed(kind: ArtifactKind, name: &str, place: &str) -> Option<Fault> {
    let endings: &[&str] = match kind {
        ArtifactKind::Binary => {
            let known: Vec<&str> =
                COMPONENTS.iter().flat_map(|c| c.binaries.iter().map(|(n, _)| *n)).collect();
            return (!known.contains(&name)).then(|| unknown(place.to_owned(), name, &known));
        }
        ArtifactKind::CniPlugin => return None,
        ArtifactKind::Image => &[".tar", ".tar.gz", ".tgz"],
        ArtifactKind::Manifest => &[".yaml", ".yml"],
    };
    let fits = endings.iter().any(|e| name.ends_with(e));
    let allowed = || format!("allowed: files that end in {}", endings.join(", "));
    (!fits).then(|| Fault::entry(place, "is unknown").why(allowed()))
}

fn read_versions(from: &Path, layout: &mut Layout, faults: &mut Vec<Fault>) {
    let file = from.join(VERSIONS);
    let mut text = String::new();
    let read =
        std::fs::File::open(&file).and_then(|f| f.take(MAX_VERSIONS).read_to_string(&mut text));
    if let Err(e) = read {
        faults.push(Fault::io("read", &file)(e));
        return;
    }
    // A mapping of its own type refuses keys that stand twice.
    let versions: crate::yaml::Mapping = match crate::yaml::from_text(&text) {
        Ok(versions) => versions,
        Err(e) => {
            faults.push(Fault::entry(VERSIONS, "cannot be read").why(e.to_string()));
            return;
        }
    };
    let known: Vec<&str> = COMPONENTS.iter().map(|c| c.name).collect();
    for (key, value) in versions {
        let name = match &key {
            Value::String(name) => name.clone(),
            other => {
                faults.push(
                    Fault::entry(VERSIONS, "has a key that is not text").why(format!("{other:?}")),
                );
                continue;
            }
        };
        let place = format!("{VERSIONS}: {name}");
        let Some(row) = ComponentRow::find(&name) else {
            faults.push(unknown(place, &name, &known));
            continue;
        };
        match value {
            Value::String(version) => {
                if let Err(fault) = check_version(row, &version, place) {
                    faults.push(fault);
                    continue;
                }
                if name == "kubernetes" {
                    layout.kubernetes = version.parse().ok();
                }
                layout.versions.insert(name, version);
            }
            _ => faults.push(Fault::entry(place, "is not text").why(row.style.allowed())),
        }
    }
}

/// Whether a version is written as its component's are, and for Kubernetes whether it is supported.
pub(super) fn check_version(row: &ComponentRow, version: &str, place: String) -> Result<(), Fault> {
    let malformed = |why: String| Err(Fault::entry(place, "malformed version").why(why));
    if !row.style.accepts(version) {
        return malformed(format!("found {version:?}; {}", row.style.allowed()));
    }
    match version.parse::<KubernetesVersion>() {
        Err(e) if row.name == "kubernetes" => malformed(e.to_string()),
        _ => Ok(()),
    }
}
