//! What this machine has for the nodes: the bundle that the inventory or a lab names, and the health-check program.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::bundle::{self, Bundle};
use crate::error::Problem;
use crate::inventory::{Loaded, SignerKey, SoftwareSource};
use crate::lab::LabBundle;
use crate::plain::hex;
use crate::workflow::command_error::{CommandError, Exit};

/// Puts beside the inventory what this machine has for the nodes: the probe of the API server, and what is
/// in the bundle that the inventory names. `None` where the software comes from elsewhere.
///
/// # Errors
/// A probe that is no static program. A bundle that is missing, not signed by a key of the inventory, or of another Kubernetes version.
pub fn bundle(loaded: &mut Loaded) -> Result<Option<Bundle>, CommandError> {
    let kubernetes = &loaded.inventory.kubernetes;
    loaded.files.probe = super::probe::find()?;
    if kubernetes.source != SoftwareSource::Bundle {
        return Ok(None);
    }
    let dir = kubernetes.bundle.path.clone().unwrap_or_else(|| bundle::DEFAULT_DIR.into());
    let dir = loaded.base_dir.join(dir);
    let bundle = Bundle::open(&dir, &kubernetes.bundle.signers)
        .map_err(|e| CommandError { exit: Exit::InvalidInput, problems: e.problems() })?;
    let manifest = bundle.manifest();
    let pinned = kubernetes.bundle.manifest_sha256.as_deref();
    let found = hex(&Sha256::digest(manifest.canonical()));
    if let Some(pinned) = pinned.filter(|p| !p.eq_ignore_ascii_case(&found)) {
        let problem = Problem::new("the bundle is not the one that the inventory pins")
            .at(dir.display().to_string())
            .because(format!("the SHA-256 of its manifest.json is {found}, not {pinned}"))
            .left("nothing was changed")
            .hint("it may have been replaced with an older bundle; if it is the right one, update `kubernetes.bundle.manifest_sha256`");
        return Err(CommandError::one(Exit::InvalidInput, problem));
    }
    let wanted = &loaded.inventory.cluster.kubernetes;
    if manifest.kubernetes != *wanted {
        let what = format!(
            "the bundle contains Kubernetes {}, but the inventory says {wanted}",
            manifest.kubernetes
        );
        let problem = Problem::new(what)
            .at(dir.display().to_string())
            .left("nothing was changed")
            .hint("change `cluster.kubernetes`, or set `kubernetes.bundle.path` to another bundle");
        return Err(CommandError::one(Exit::InvalidInput, problem));
    }
    loaded.files.bundled = bundle
        .objects()
        .map_err(|e| CommandError { exit: Exit::InvalidInput, problems: e.problems() })?;
    loaded.files.software = Some(manifest.software());
    Ok(Some(bundle))
}

/// What the inventory of a lab says of a bundle. Whether every file is right is looked at when the
/// bundle is used.
///
/// # Errors
/// A bundle that is missing or signed by another key, or without a file of keys beside it.
pub fn bundle_of_a_lab(dir: &Path) -> Result<LabBundle, CommandError> {
    let stop = |problem: Problem| CommandError::one(Exit::InvalidInput, problem);
    let dir = std::path::absolute(dir).map_err(|e| {
        stop(Problem::from_error("the bundle's path", &e).at(dir.display().to_string()))
    })?;
    let mut file = dir.clone().into_os_string();
    file.push(".signers");
    let file = PathBuf::from(file);
    let text = std::fs::read_to_string(&file).map_err(|e| {
        let problem =
            Problem::from_error("the trusted signing keys of the bundle cannot be read", &e);
        stop(
            problem
                .at(file.display().to_string())
                .hint("write the trusted public keys to this file, one per line"),
        )
    })?;
    let mut signers: Vec<SignerKey> = Vec::new();
    for line in text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#')) {
        // Without the comment behind the key.
        let key: Vec<&str> = line.split_ascii_whitespace().take(2).collect();
        signers.push(key.join(" ").parse().map_err(|e| {
            stop(Problem::from_error("this is not a public key", &e).at(file.display().to_string()))
        })?);
    }
    let bundle = Bundle::open(&dir, &signers)
        .map_err(|e| CommandError { exit: Exit::InvalidInput, problems: e.problems() })?;
    Ok(LabBundle {
        dir,
        kubernetes: bundle.manifest().kubernetes.to_string(),
        signers: signers.iter().map(ToString::to_string).collect(),
    })
}
