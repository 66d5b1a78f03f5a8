//! A bundle from a directory of programs, image archives and manifests.

use std::collections::BTreeMap;
use std::fs::File as DiskFile;
use std::io::Read;
use std::path::Path;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::assemble::Assembly;
use super::component::ComponentRow;
use super::fault::{BundleError, Fault};
use super::image;
use super::layout::{self, Layout, VERSIONS};
use super::model::{
    ADD_ON, Architecture, ArtifactKind, Component, FORMAT, File, FilePath, IMPORTED, MANIFEST,
    Manifest,
};
use super::objects;
use super::rules::check_manifest;
use super::sign::SigningKey;
use super::verify::Bundle;
use crate::event::{Event, Sink};
use crate::plain::counted;

/// What to import.
pub struct ImportRequest<'a> {
    /// Directory with the layout of [`super::layout`].
    pub from: &'a Path,
    /// Where the bundle is to be. A bundle that is there is replaced once the new one is complete.
    pub out: &'a Path,
    /// Signs the manifest.
    pub key: &'a SigningKey,
    /// Machine that everything must be for; that of `bin/kubelet` if absent.
    pub architecture: Option<Architecture>,
    /// When the bundle is made, in UTC.
    pub created: OffsetDateTime,
    /// Origins by path, and of components by name, where they are not [`IMPORTED`].
    pub origins: &'a BTreeMap<String, String>,
}

/// Makes a bundle from a directory. Nothing is written to that directory.
///
/// Programs are copied and then judged: what is judged is what is in the bundle.
///
/// # Errors
/// Everything that is wrong, at once; OUT is then as it was.
pub fn import(request: &ImportRequest<'_>, sink: &dyn Sink) -> Result<Bundle, BundleError> {
    let mut faults = Vec::new();
    let layout = layout::read(request.from, &mut faults);
    let made = Assembly::begin(request.out).map(|assembly| {
        let manifest = collect(request, &layout, &assembly, &mut faults, sink);
        (assembly, manifest)
    });
    for fault in &mut faults {
        say_it_of_the_directory(fault);
    }
    let error = |faults| BundleError::new(request.from, faults).left("no bundle was written");
    match made {
        Err(fault) => {
            faults.push(fault);
            Err(error(faults))
        }
        Ok((assembly, Some(manifest))) if faults.is_empty() => {
            assembly.finish(&manifest, request.key).map_err(|e| e.left("no bundle was written"))
        }
        Ok(_) => Err(error(faults)),
    }
}

/// What is wrong with the manifest to be is wrong with the directory it is made from.
fn say_it_of_the_directory(fault: &mut Fault) {
    if let Fault::Entry { place, .. } = fault {
        let versions = format!("{MANIFEST}: components.");
        if let Some(component) = place.strip_prefix(&versions) {
            *place = format!("{VERSIONS}: {component}");
        } else if let Some(path) = place.strip_prefix("files/") {
            *place = path.to_owned();
        }
    }
}

/// Copies and judges everything. `None` only together with a fault.
fn collect(
    request: &ImportRequest<'_>,
    layout: &Layout,
    assembly: &Assembly,
    faults: &mut Vec<Fault>,
    sink: &dyn Sink,
) -> Option<Manifest> {
    let total: u64 =
        layout.files.values().filter_map(|p| Some(std::fs::metadata(p).ok()?.len())).sum();
    let mut done = 0;
    let mut progress = |count: u64| {
        done += count;
        let what = "import".to_owned();
        sink.send(Event::Transfer { what, done_bytes: done, total_bytes: Some(total) });
    };
    let mut files = Vec::new();
    for (path, source) in &layout.files {
        let copied = DiskFile::open(source)
            .map_err(Fault::io("opened", source))
            .and_then(|mut f| assembly.copy(path, &mut f, &mut progress));
        match copied {
            Ok(written) => files.push(File {
                path: path.clone(),
                kind: path.kind(),
                component: String::new(),
                sha256: written.sha256,
                size: written.size,
                mode: path.kind().mode(),
                origin: origin(request, path.as_str()),
                images: Vec::new(),
            }),
            Err(fault) => faults.push(fault),
        }
    }
    let (how, good) = (format!("{}, {done} bytes", counted(files.len(), "file")), true);
    sink.send(Event::TransferEnd { what: "import".to_owned(), how, good });

    let architecture = request.architecture.or_else(|| machine_of_kubelet(assembly));
    for file in &mut files {
        judge(file, assembly, architecture, faults);
    }
    let components = layout.versions.iter().map(|(name, version)| {
        let component = Component { version: version.clone(), origin: origin(request, name) };
        (name.clone(), component)
    });
    let manifest = Manifest {
        format: FORMAT,
        created: request
            .created
            .to_offset(time::UtcOffset::UTC)
            .replace_nanosecond(0)
            .expect("zero is a nanosecond")
            .format(&Rfc3339)
            .expect("a year of four digits"),
        // Without a kubelet there is a fault already, and this is not looked at.
        architecture: architecture.unwrap_or(Architecture::Amd64),
        kubernetes: match layout.kubernetes {
            Some(version) => version,
            None => {
                if layout.versions.is_empty() && !faults.is_empty() {
                    return None;
                }
                faults.push(Fault::entry(format!("{VERSIONS}: kubernetes"), "is missing"));
                return None;
            }
        },
        components: components.collect(),
        files,
    };
    for name in unused(&manifest) {
        let fault = Fault::entry(format!("{VERSIONS}: {name}"), "names a component without files");
        faults.push(fault.hint("add its files, or remove the line"));
    }
    // A fault about a file says it all; complaints about what was not taken from it would follow.
    if faults.is_empty() {
        check_manifest(&manifest, faults);
    } else {
        check_manifest_beside(&manifest, faults);
    }
    Some(manifest)
}

/// Adds what is missing, without what only follows from faults that are known.
fn check_manifest_beside(manifest: &Manifest, faults: &mut Vec<Fault>) {
    let mut more = Vec::new();
    check_manifest(manifest, &mut more);
    let known: Vec<String> = faults.iter().filter_map(last_name).collect();
    more.retain(|f| last_name(f).is_none_or(|n| !known.contains(&n)));
    faults.append(&mut more);
}

/// The file name of the entry that a fault is about.
fn last_name(fault: &Fault) -> Option<String> {
    match fault {
        Fault::Entry { place, .. } => place.rsplit('/').next().map(str::to_owned),
        Fault::Io { path, .. } => path.file_name().map(|n| n.to_string_lossy().into_owned()),
        _ => None,
    }
}

fn origin(request: &ImportRequest<'_>, key: &str) -> String {
    request.origins.get(key).cloned().unwrap_or_else(|| IMPORTED.to_owned())
}

/// Components with a version of which there is nothing.
fn unused(manifest: &Manifest) -> Vec<&str> {
    let has_files = |name: &str| manifest.files.iter().any(|f| f.component == name);
    let is_optional = |name: &str| matches!(name, "cni-plugins" | "containerd" | "runc");
    let names = manifest.components.keys().map(String::as_str);
    names.filter(|n| is_optional(n) && !has_files(n)).collect()
}

/// Finds out what a file is and whether it can be used.
fn judge(
    file: &mut File,
    assembly: &Assembly,
    architecture: Option<Architecture>,
    faults: &mut Vec<Fault>,
) {
    let place = file.path.to_string();
    let copy = assembly.path(&file.path);
    let open = || DiskFile::open(&copy).map_err(Fault::io("opened", &copy));
    file.component = match file.kind {
        ArtifactKind::Binary => {
            ComponentRow::of_binary(file.name()).map_or(ADD_ON, |(row, _)| row.name)
        }
        ArtifactKind::CniPlugin => "cni-plugins",
        ArtifactKind::Image | ArtifactKind::Manifest => ADD_ON,
    }
    .to_owned();
    let judged = open().and_then(|opened| match file.kind {
        ArtifactKind::Binary | ArtifactKind::CniPlugin => match (machine(opened), architecture) {
            (Ok(found), Some(wanted)) if found != wanted => {
                Err(Fault::entry(&place, "is for another architecture")
                    .why(format!("{found}, but the bundle is for {wanted}")))
            }
            (Ok(_), _) => Ok(()),
            (Err(why), _) => Err(Fault::entry(&place, "is not a program for Linux nodes").why(why)),
        },
        ArtifactKind::Image => {
            let images = image::inspect(opened)
                .map_err(|e| Fault::entry(&place, "cannot be used").why(chain(&e)))?;
            for image in &images {
                if let Some(wanted) = architecture
                    && !image.architectures.contains(wanted.as_str())
                {
                    let found = image.architectures.iter().cloned().collect::<Vec<_>>().join(", ");
                    return Err(Fault::entry(&place, "is for another architecture").why(format!(
                        "{} is for {found}, but the bundle is for {wanted}",
                        image.reference
                    )));
                }
            }
            let row = images.iter().find_map(|i| ComponentRow::of_image(&i.reference));
            if let Some(row) = row {
                file.component = row.name.to_owned();
            }
            file.images = images.into_iter().map(|i| i.reference).collect();
            Ok(())
        }
        ArtifactKind::Manifest => check_yaml(opened)
            .map_err(|why| Fault::entry(&place, "is not a Kubernetes manifest").why(why)),
    });
    faults.extend(judged.err());
}

fn chain(error: &dyn std::error::Error) -> String {
    let all = std::iter::successors(Some(error), |e| e.source());
    all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn machine_of_kubelet(assembly: &Assembly) -> Option<Architecture> {
    let path = FilePath::new(ArtifactKind::Binary, "kubelet").expect("a plain name");
    machine(DiskFile::open(assembly.path(&path)).ok()?).ok()
}

/// The machine of an ELF file (System V ABI, ELF header): 64 bits, little endian, executable or
/// shared (which position-independent programs are).
fn machine(mut program: impl Read) -> Result<Architecture, String> {
    let mut header = [0; 20];
    program.read_exact(&mut header).map_err(|_| "it is not an ELF file".to_owned())?;
    if !header.starts_with(b"\x7fELF") {
        return Err("it is not an ELF file".to_owned());
    }
    if header[4] != 2 || header[5] != 1 {
        return Err("it is an ELF file for 32-bit or big-endian machines".to_owned());
    }
    let word = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    if !matches!(word(16), 2 | 3) {
        return Err(format!("it is an ELF file of type {}, not a program", word(16)));
    }
    let known = Architecture::ALL.iter().copied().find(|a| a.elf_machine() == word(18));
    known.ok_or_else(|| format!("it is an ELF file for machine {}", word(18)))
}

/// Every document has a kind and an apiVersion; empty ones are allowed.
fn check_yaml(mut manifest: impl Read) -> Result<(), String> {
    let mut text = String::new();
    manifest.read_to_string(&mut text).map_err(|e| e.to_string())?;
    objects::objects(&text).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_read_from_elf_headers() {
        let mut header = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0";
        assert_eq!(machine(&header[..]), Ok(Architecture::Amd64));
        header[16] = 3;
        header[18] = 183;
        assert_eq!(machine(&header[..]), Ok(Architecture::Arm64));
        header[18] = 40;
        assert!(machine(&header[..]).is_err());
        header[4] = 1;
        assert!(machine(&header[..]).is_err());
        assert!(machine(&header[..12]).is_err());
        assert!(machine(&b"#!/bin/sh\nexec kubelet\n"[..]).is_err());
    }

    #[test]
    fn manifests_are_kubernetes_objects() {
        let good = "---\n# only a comment\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n";
        assert_eq!(check_yaml(good.as_bytes()), Ok(()));
        for bad in ["", "# nothing\n", "kind: Namespace\n", "a: [", "<html></html>"] {
            assert!(check_yaml(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
