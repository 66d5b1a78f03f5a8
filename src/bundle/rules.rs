//! What a manifest must say beside what its types demand: of one that was read, and of one that is
//! being made.

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::component::{COMPONENTS, ComponentRow, Need};
use super::fault::Fault;
use super::image;
use super::model::{
    ADD_ON, ArtifactKind, FILES, File, FilePath, MANIFEST, MAX_FILE, Manifest, in_bundle,
};

/// What a manifest must say beside what its types demand. Also judges one that is being made.
pub(super) fn check_manifest(manifest: &Manifest, faults: &mut Vec<Fault>) {
    let mut fault = |field: String, what: &str, why: String| {
        faults.push(Fault::entry(format!("{MANIFEST}: {field}"), what).why(why));
    };
    if !matches!(OffsetDateTime::parse(&manifest.created, &Rfc3339), Ok(t) if t.offset().is_utc()) {
        fault("created".into(), "is not a time", "allowed: RFC 3339 in UTC".into());
    }
    for (name, component) in &manifest.components {
        let field = format!("components.{name}");
        match ComponentRow::find(name) {
            None => fault(field.clone(), "no such component", known_components()),
            Some(row) if !row.style.accepts(&component.version) => {
                let why = format!("found {:?}; {}", component.version, row.style.allowed());
                fault(field.clone(), "malformed version", why);
            }
            Some(_) => {}
        }
        if !is_origin(&component.origin) {
            fault(field, "malformed origin", format!("found {:?}", component.origin));
        }
    }
    for row in COMPONENTS {
        let is_needed =
            !row.images.is_empty() || row.binaries.iter().any(|(_, need)| *need == Need::Always);
        if is_needed && !manifest.components.contains_key(row.name) {
            fault(format!("components.{}", row.name), "is missing", "every bundle needs it".into());
        }
    }
    if let Some(kubernetes) = manifest.components.get("kubernetes")
        && kubernetes.version != format!("v{}", manifest.kubernetes)
    {
        let why = format!("{} and {}", kubernetes.version, manifest.kubernetes);
        fault("components.kubernetes".into(), "two Kubernetes versions", why);
    }
    for pair in manifest.files.windows(2) {
        if pair[0].path == pair[1].path {
            fault(in_bundle(&pair[1].path), "is listed twice", "list each path once".into());
        } else if pair[0].path > pair[1].path {
            let why = format!("it comes before {}", in_bundle(&pair[0].path));
            fault(in_bundle(&pair[1].path), "is not in sorted order", why);
        }
    }
    for file in &manifest.files {
        check_file(manifest, file, &mut fault);
    }
    check_complete(manifest, faults);
}

fn known_components() -> String {
    let names: Vec<&str> = COMPONENTS.iter().map(|c| c.name).collect();
    format!("allowed: {}", names.join(", "))
}

fn check_file(manifest: &Manifest, file: &File, fault: &mut impl FnMut(String, &str, String)) {
    let path = in_bundle(&file.path);
    if file.kind != file.path.kind() {
        let why = format!("kind {} under {}/", file.kind, file.path.kind().directory());
        fault(path.clone(), "does not have the kind of its directory", why);
    }
    if file.mode != file.kind.mode() {
        let why = format!("{} instead of {}", file.mode, file.kind.mode());
        fault(path.clone(), "has the wrong mode for its kind", why);
    }
    if file.size > MAX_FILE {
        fault(path.clone(), "is too large", format!("{} bytes; allowed: {MAX_FILE}", file.size));
    }
    let of_table = match file.kind {
        ArtifactKind::Binary => ComponentRow::of_binary(file.name()).map(|(row, _)| row.name),
        ArtifactKind::CniPlugin => Some("cni-plugins"),
        ArtifactKind::Image | ArtifactKind::Manifest => Some(file.component.as_str()),
    };
    match of_table {
        None => fault(path.clone(), "is a program of no known component", known_programs()),
        Some(name) if name != file.component => {
            fault(
                path.clone(),
                "belongs to another component",
                format!("{} and {name}", file.component),
            );
        }
        Some(name) if name != ADD_ON && !manifest.components.contains_key(name) => {
            fault(path.clone(), "belongs to a component without a version", name.to_owned());
        }
        Some(_) => {}
    }
    if !is_origin(&file.origin) {
        fault(path.clone(), "malformed origin", format!("found {:?}", file.origin));
    }
    if (file.kind == ArtifactKind::Image) == file.images.is_empty() {
        let why = "only image archives have references, and each has at least one";
        fault(path.clone(), "references do not match the kind", why.into());
    }
    if !file.images.is_sorted() || !file.images.iter().all(|i| image::is_reference(i)) {
        let why = format!("found {}", file.images.join(", "));
        fault(path, "malformed image references", why);
    }
}

fn known_programs() -> String {
    let names: Vec<&str> =
        COMPONENTS.iter().flat_map(|c| c.binaries.iter().map(|(name, _)| *name)).collect();
    format!("allowed: {}", names.join(", "))
}

/// A short text on one line.
fn is_origin(text: &str) -> bool {
    !text.is_empty() && text.len() <= 2048 && text.bytes().all(|c| c.is_ascii_graphic())
}

/// Required programs and images.
fn check_complete(manifest: &Manifest, faults: &mut Vec<Fault>) {
    let has: BTreeSet<&str> =
        manifest.files.iter().filter(|f| f.kind == ArtifactKind::Binary).map(File::name).collect();
    let programs = || COMPONENTS.iter().flat_map(|row| row.binaries);
    let has_runtime = programs().any(|(n, need)| *need == Need::WithRuntime && has.contains(n));
    for (name, need) in programs() {
        let why = match need {
            Need::Always => "every bundle needs it",
            Need::WithRuntime if has_runtime => "the container runtime must be complete or absent",
            Need::WithRuntime | Need::Optional => continue,
        };
        if !has.contains(name) {
            faults.push(Fault::entry(format!("{FILES}/bin/{name}"), "is missing").why(why));
        }
    }
    let mut owners: BTreeMap<&str, &FilePath> = BTreeMap::new();
    for file in &manifest.files {
        for reference in &file.images {
            if let Some(first) = owners.insert(reference, &file.path) {
                let why = format!("{reference} is also in {}", in_bundle(first));
                faults.push(
                    Fault::entry(
                        in_bundle(&file.path),
                        "contains an image that is already in another file",
                    )
                    .why(why),
                );
            }
        }
    }
    for reference in manifest.required_images() {
        if !owners.contains_key(reference.as_str()) {
            let suffix = format!("-{}:", manifest.architecture);
            let other = owners.keys().find(|r| r.replacen(&suffix, ":", 1) == reference);
            let fault = Fault::entry(format!("{FILES}/images"), format!("{reference} is missing"))
                .why("a cluster of this version does not start without it");
            faults.push(match other {
                Some(other) => fault.hint(format!(
                    "an archive has it as {other}: load it into a container engine, tag it {reference} and save \
                     it again"
                )),
                None => fault,
            });
        }
    }
}
