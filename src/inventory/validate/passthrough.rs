//! Rules about what is passed through to daemons.

use std::collections::BTreeSet;

use super::super::diagnostic::Path;
use super::super::model::Inventory;
use super::super::passed::{Component, Conflict, Passed, fields as fields_of};
use super::super::passthrough::KUBEADM_VOLUMES;
use super::review::{Review, section};

/// Longest name of a volume, a DNS label (RFC 1123).
const MAX_VOLUME_NAME: usize = 63;

/// Flags are well-formed, and nobody else sets them.
pub(super) fn arguments(inventory: &Inventory, review: &mut Review<'_>) {
    for component in Component::ALL.iter().copied() {
        let path = section(component.section()).then("extra_args");
        for (name, values) in inventory.extra_args(component) {
            let path = path.then(name);
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
            if !begins || !name.bytes().all(plain) || name.ends_with('-') {
                review
                    .error(&path, "malformed name of a flag")
                    .found(format!("{name:?}"))
                    .allowed("lower-case letters, digits and `-`, without the leading dashes");
                continue;
            }
            if values.0.is_empty() {
                review
                    .error(&path, "a flag without a value")
                    .found("an empty list")
                    .allowed("one value, or several in a list");
                continue;
            }
            if values.0.iter().any(|v| v.chars().any(char::is_control)) {
                review
                    .error(&path, "a value with a control character")
                    .allowed("text on one line, as in `2h0m0s`");
                continue;
            }
            let passed = Passed::Flag(component, name, &values.0);
            if let Some(conflict) = (review.conflicts)(inventory, &passed) {
                refuse(&path, &format!("--{name}"), conflict, review);
            }
        }
    }
}

/// Fields have names that can be written without quotes, and nobody else sets them.
pub(super) fn fields(inventory: &Inventory, review: &mut Review<'_>) {
    for component in Component::ALL.iter().copied() {
        let start = section(component.section()).then("extra");
        for (way, value) in fields_of(inventory.extra_fields(component)) {
            let path = way.iter().fold(start.clone(), |path, key| path.then(*key));
            if let Some(key) = way.iter().find(|key| !is_field(key)) {
                review
                    .error(&path, "malformed name of a field")
                    .found(format!("{key:?}"))
                    .allowed("letters, digits and `._-/`, beginning with a letter");
                continue;
            }
            if let Some(conflict) =
                (review.conflicts)(inventory, &Passed::Field(component, &way, value))
            {
                refuse(&path, &way.join("."), conflict, review);
            }
        }
    }
}

/// A name that every reader of YAML takes for text.
fn is_field(key: &str) -> bool {
    const WORDS: &[&str] =
        &["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf"];
    key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b))
        && !WORDS.contains(&key.to_ascii_lowercase().as_str())
}

fn refuse(path: &Path, what: &str, conflict: Conflict, review: &mut Review<'_>) {
    let Conflict { control, wants, .. } = conflict;
    let message = match control {
        Some(id) => format!("{what} conflicts with control {id}"),
        None => format!("{what} is not passed through"),
    };
    let hint = match control {
        Some(id) if review.critical_controls.contains(&id) => format!(
            "remove it, or switch the control off: `hardening.controls.{id}: {{state: off, reason: ..., owner: ..., expires: YYYY-MM-DD}}`"
        ),
        Some(id) => {
            format!("remove it, or switch the control off: `hardening.controls.{id}: off`")
        }
        None => "remove it".to_owned(),
    };
    review.error(path, message).allowed(wants).hint(hint);
}

/// Volumes have names of their own and absolute paths.
pub(super) fn volumes(inventory: &Inventory, review: &mut Review<'_>) {
    for component in Component::ALL.iter().copied() {
        let start = section(component.section()).then("extra_volumes");
        let (mut names, mut mounts) = (BTreeSet::new(), BTreeSet::new());
        for (n, volume) in inventory.extra_volumes(component).iter().enumerate() {
            let path = start.then(n);
            let name = volume.name.as_str();
            let label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            let is_label = (1..=MAX_VOLUME_NAME).contains(&name.len())
                && name.bytes().all(label)
                && !name.starts_with('-')
                && !name.ends_with('-');
            if !is_label {
                review
                    .error(&path.then("name"), "malformed name of a volume")
                    .found(format!("{name:?}"))
                    .allowed("up to 63 lower-case letters, digits and `-`");
            } else if name.starts_with("kubastion-") || KUBEADM_VOLUMES.contains(&name) {
                review
                    .error(&path.then("name"), "the name of another volume of the pod")
                    .found(name)
                    .allowed("a name that neither kubeadm nor kubastion uses");
            } else if !names.insert(name) {
                review.error(&path.then("name"), "the name is listed twice").found(name);
            }
            for (key, place) in
                [("host_path", Some(&volume.host_path)), ("mount_path", volume.mount_path.as_ref())]
            {
                if let Some(place) = place.filter(|p| !is_absolute(p)) {
                    review
                        .error(&path.then(key), "malformed path")
                        .found(format!("{place:?}"))
                        .allowed("an absolute path without `..`");
                }
            }
            if !mounts.insert(volume.mount_path()) {
                review
                    .error(&path, "two volumes at the same path in the pod")
                    .found(volume.mount_path());
            }
        }
    }
}

fn is_absolute(path: &str) -> bool {
    path.len() > 1
        && path.starts_with('/')
        && !path.chars().any(char::is_control)
        && path.split('/').all(|part| part != "..")
}
