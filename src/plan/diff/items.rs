//! What a node lacks of each item: `add` has one arm for each [`ItemKind`].

use crate::controls::IdList;
use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::known::{Known, access_differs};
use super::logins::shut_out;
use super::marks::{CHANGED, CLUSTER_MARK, GUARD_UNIT, KUBELET_CONFIG};
use super::pending::Pending;
use crate::controls::of_interfaces;
use crate::desired::{
    Access, Blob, Content, FileCheck, Item, ItemKind, KubeadmAction, OnChange, Start,
};
use crate::facts::{FileFacts, NodeFacts, ancestors};
use crate::plain::hex;
use crate::plan::step::{Action, NewFile, Step};
use crate::plan::why::Why;

/// Something that should be done and cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// The package manager is not known.
    #[error(
        "{0} belongs neither to the Debian nor to the Red Hat family: packages cannot be installed"
    )]
    Distribution(String),
    /// Something else is where a file or directory should be.
    #[error("{path} is {found}, and should be a {wanted}")]
    InTheWay {
        /// The path.
        path: String,
        /// What is there.
        found: &'static str,
        /// What should be there.
        wanted: &'static str,
    },
}

pub(super) fn add(pending: &mut Pending, item: &Item, known: &Known<'_>) -> Result<(), Obstacle> {
    let Known { facts, contents, .. } = known;
    let controls: IdList = item.controls.iter().copied().collect();
    let action = |step, why: Why| Action { step, controls: controls.clone(), why: vec![why] };
    match &item.kind {
        ItemKind::Package { name } => {
            if !facts.packages.contains_key(name) {
                let Some(family) = facts.os.family() else {
                    return Err(Obstacle::Distribution(facts.os.pretty.clone()));
                };
                let manager = family.row().manager;
                let step = Step::Packages { manager, names: vec![name.clone()] };
                pending.packages.push(action(step, Why::NotInstalled));
            }
        }
        ItemKind::User { name, home } => {
            if !facts.users.contains_key(name) {
                let step = Step::User { name: name.clone(), home: home.clone() };
                pending.users.push(action(step, Why::DoesNotExist));
            }
        }
        ItemKind::Directory { path, access } => {
            let why = match facts.files.get(path) {
                None | Some(FileFacts::Absent) => Some(Why::DoesNotExist),
                Some(FileFacts::Directory { mode, owner, group }) => {
                    access_differs(access, *mode, owner, group)
                }
                Some(other) => return Err(in_the_way(path, other, "directory")),
            };
            if let Some(why) = why {
                parents(pending, path, known);
                let step = Step::Directory { path: path.clone(), access: access.clone() };
                pending.directories.insert(path.clone(), action(step, why));
            }
        }
        ItemKind::File { path, content, access, check } => {
            add_file(pending, path, content, access, *check, known, &controls)?;
        }
        ItemKind::Program { path, blob, access } => {
            add_program(pending, path, blob, access, known, &controls)?;
        }
        ItemKind::Images { archive, references } => {
            if !facts.images.contains(&archive.sha256) {
                let (archive, references) = (archive.clone(), references.clone());
                let step = Step::Images { archive, references };
                pending.images.push(action(step, Why::ImagesMissing));
            }
        }
        ItemKind::Kubeadm { action: wanted, watches } => {
            let mark = config_digest(watches, contents);
            let found = facts.unit_marks.get(CLUSTER_MARK);
            // One that somebody else's kubeadm made a member has no mark.
            let configured =
                matches!(facts.files.get(KUBELET_CONFIG), Some(FileFacts::File { .. }));
            let (kubeadm, why) = match found {
                Some(found) if *found == mark && !known.is_changed(watches) => return Ok(()),
                Some(found) if found == CHANGED || *found == mark => {
                    (KubeadmAction::Configure, Why::RunsChanged)
                }
                Some(_) => (KubeadmAction::Configure, Why::RunsOlder),
                None if configured => (KubeadmAction::Configure, Why::RunsForeign),
                None => (*wanted, Why::NotInCluster),
            };
            pending.kubeadm.push(action(Step::Kubeadm { action: kubeadm, mark }, why));
        }
        ItemKind::Permissions { path, access } => {
            let why = match facts.files.get(path) {
                Some(
                    FileFacts::File { mode, owner, group, .. }
                    | FileFacts::Directory { mode, owner, group }
                    | FileFacts::Other { mode, owner, group },
                ) => access_differs(access, *mode, owner, group),
                _ => None,
            };
            if let Some(why) = why {
                let step = Step::Permissions { path: path.clone(), access: access.clone() };
                pending.permissions.push(action(step, why));
            }
        }
        ItemKind::Absent { path } => match facts.files.get(path) {
            None | Some(FileFacts::Absent) => {}
            Some(FileFacts::Directory { .. }) => {
                return Err(Obstacle::InTheWay {
                    path: path.clone(),
                    found: "a directory",
                    wanted: "path that does not exist",
                });
            }
            Some(_) => {
                pending.removals.push(action(Step::Remove { path: path.clone() }, Why::Exists));
            }
        },
        ItemKind::StaticPod { component, manifest } => {
            if known.is_changed(std::slice::from_ref(manifest)) {
                let (component, manifest) = (component.clone(), manifest.clone());
                let step = Step::StaticPod { component, manifest };
                pending.static_pods.push(action(step, Why::RunsOlder));
            }
        }
        ItemKind::NoEtcdPod { manifest } => {
            if !matches!(facts.files.get(manifest), None | Some(FileFacts::Absent)) {
                let step = Step::EtcdFromPod { manifest: manifest.clone() };
                pending.from_pod.push(action(step, Why::RunsAsPod));
            }
        }
        ItemKind::Sysctl { key, value } => {
            // A key that the kernel does not have (yet) is verified later and never guessed at.
            let own = facts.sysctls.get_key_value(key);
            for (key, found) in own.into_iter().chain(of_each_interface(key, facts)) {
                if found != value {
                    let step = Step::Sysctl { key: key.clone(), value: value.clone() };
                    pending.cuts_access |= key.starts_with("net.");
                    pending.sysctls.push(action(step, Why::Is(found.clone())));
                }
            }
        }
        ItemKind::Module { name } => {
            if !facts.modules.contains(name) {
                let step = Step::Module { name: name.clone() };
                pending.modules.push(action(step, Why::NotLoaded));
            }
        }
        ItemKind::SwapOff => {
            if !facts.swaps.is_empty() {
                let why = Why::SwapActive { areas: facts.swaps.clone() };
                pending.swap.push(action(Step::SwapOff, why));
            }
        }
        ItemKind::Firewall { path } => {
            let wanted = contents.get(path.as_str()).map(String::as_str).unwrap_or_default();
            let nft = &facts.nft;
            let why = match (&nft.own_listing_sha256, &nft.recorded) {
                (None, _) => Some(Why::NotLoaded),
                (Some(_), None) => Some(Why::LoadedByAnother),
                (Some(listing), Some(r)) if *listing != r.listing_sha256 => {
                    Some(Why::ChangedSinceLoaded)
                }
                (Some(_), Some(r)) if r.file_sha256 != wanted => Some(Why::OlderRules),
                _ => None,
            };
            if let Some(why) = why {
                pending.cuts_access = true;
                let step = Step::Firewall { path: path.clone() };
                pending.firewall.push(action(step, why));
            }
        }
        ItemKind::FirewallAbsent => {
            if facts.nft.own_listing_sha256.is_some() {
                pending.cuts_access = true;
                pending.firewall.push(action(Step::FirewallAbsent, Why::Loaded));
            }
        }
        ItemKind::Unit { name, enabled, active, on_change, watches, start } => {
            if let Some(step) =
                unit_step(name, *enabled, *active, *on_change, watches, *start, known)
            {
                let ssh = name.starts_with("ssh");
                pending.cuts_access |= ssh;
                pending.sshd_check |= ssh;
                let act = Action { step: step.0, controls: controls.clone(), why: step.1 };
                if name == GUARD_UNIT {
                    pending.guard_unit = Some(act);
                } else {
                    pending.units.push(act);
                }
            }
        }
    }
    Ok(())
}

/// The same setting of each interface that there is. One whose name has a dot, as VLANs have, gets its value at the next
/// boot: dots part the words of a key.
pub(super) fn of_each_interface<'f>(
    key: &str,
    facts: &'f NodeFacts,
) -> impl Iterator<Item = (&'f String, &'f String)> {
    let parts = of_interfaces(key);
    facts.sysctls.iter().filter(move |(found, _)| {
        let Some((head, tail)) = parts.as_ref().and_then(|p| p.split_once('*')) else {
            return false;
        };
        let name = found.strip_prefix(head).and_then(|r| r.strip_suffix(tail));
        name.is_some_and(|n| !n.contains('.') && !matches!(n, "all" | "default" | "lo"))
    })
}

pub(super) fn add_file(
    pending: &mut Pending,
    path: &str,
    content: &Content,
    access: &Access,
    check: FileCheck,
    known: &Known<'_>,
    controls: &IdList,
) -> Result<(), Obstacle> {
    let wanted = content.sha256();
    let found = known.facts.files.get(path).unwrap_or(&FileFacts::Absent);
    let (why, replaces) = match found {
        FileFacts::Absent => (Why::DoesNotExist, false),
        FileFacts::File { sha256, .. } if *sha256 != wanted => (Why::Differs, true),
        FileFacts::File { mode, owner, group, .. } => {
            if let Some(why) = access_differs(access, *mode, owner, group) {
                let step = Step::Permissions { path: path.to_owned(), access: access.clone() };
                let why = vec![why];
                pending.permissions.push(Action { step, controls: controls.clone(), why });
            }
            return Ok(());
        }
        // A link is replaced, not followed: what it points to is not ours.
        FileFacts::Symlink { target } => (Why::Link { target: target.clone() }, true),
        other => return Err(in_the_way(path, other, "file")),
    };
    if check == FileCheck::Sshd {
        pending.cuts_access = true;
        pending.sshd_check = true;
        pending.logins = Some(shut_out(known.facts));
    }
    parents(pending, path, known);
    let (directory, name) = path.rsplit_once('/').expect("every path is absolute");
    let directory = if directory.is_empty() { "/" } else { directory };
    let groups = if path.contains("kubastion-guard") || path.ends_with("/guard.sh") {
        &mut pending.guard_files
    } else {
        &mut pending.files
    };
    let group = groups.entry(directory.to_owned()).or_default();
    group.controls.extend(controls.ids().iter().copied());
    group.why.push(Why::File { name: name.to_owned(), why: Box::new(why) });
    group.files.insert(
        name.to_owned(),
        NewFile {
            sha256: wanted,
            size: content.bytes().len() as u64,
            access: access.clone(),
            secret: matches!(content, Content::Secret(_)),
            replaces,
        },
    );
    let expected = match found {
        FileFacts::Absent => Some(None),
        FileFacts::File { sha256, .. } => Some(Some(sha256.clone())),
        _ => None,
    };
    if let Some(expected) = expected {
        pending.expect.insert(path.to_owned(), expected);
    }
    Ok(())
}

pub(super) fn add_program(
    pending: &mut Pending,
    path: &str,
    blob: &Blob,
    access: &Access,
    known: &Known<'_>,
    controls: &IdList,
) -> Result<(), Obstacle> {
    let action = |step, why| Action { step, controls: controls.clone(), why: vec![why] };
    let found = known.facts.files.get(path).unwrap_or(&FileFacts::Absent);
    let (why, expected) = match found {
        FileFacts::Absent => (Why::DoesNotExist, Some(None)),
        FileFacts::File { sha256, .. } if *sha256 != blob.sha256 => {
            (Why::OtherVersion, Some(Some(sha256.clone())))
        }
        FileFacts::File { mode, owner, group, .. } => {
            if let Some(why) = access_differs(access, *mode, owner, group) {
                let step = Step::Permissions { path: path.to_owned(), access: access.clone() };
                pending.permissions.push(action(step, why));
            }
            return Ok(());
        }
        // A link is replaced, not followed: what it points to is not ours.
        FileFacts::Symlink { target } => (Why::Link { target: target.clone() }, None),
        other => return Err(in_the_way(path, other, "file")),
    };
    parents(pending, path, known);
    let (path, blob, access) = (path.to_owned(), blob.clone(), access.clone());
    pending.expect.extend(expected.map(|e| (path.clone(), e)));
    pending.programs.push(action(Step::Program { path, blob, access }, why));
    Ok(())
}

/// Obstacle ancestors of a path are made as they are wanted, also where that is an earlier phase's to do;
/// others as `root:root 0755`.
pub(super) fn parents(pending: &mut Pending, path: &str, known: &Known<'_>) {
    for parent in ancestors(path) {
        if matches!(known.facts.files.get(parent), Some(FileFacts::Absent)) {
            let access = known.directories.get(parent).map(|a| (*a).clone());
            let access = access.unwrap_or_else(|| Access::root(0o755));
            pending.directories.entry(parent.to_owned()).or_insert_with(|| Action {
                step: Step::Directory { path: parent.to_owned(), access },
                controls: IdList::default(),
                why: vec![Why::DoesNotExist],
            });
        }
    }
}

pub(super) fn in_the_way(path: &str, found: &FileFacts, wanted: &'static str) -> Obstacle {
    let found = match found {
        FileFacts::Absent => "absent",
        FileFacts::File { .. } => "a file",
        FileFacts::Directory { .. } => "a directory",
        FileFacts::Symlink { .. } => "a symbolic link",
        FileFacts::Other { .. } => "a socket, device or pipe",
    };
    Obstacle::InTheWay { path: path.to_owned(), found, wanted }
}

/// Digest of all files whose change matters to a unit.
pub(super) fn config_digest(watches: &[String], contents: &BTreeMap<&str, String>) -> String {
    let mut hash = Sha256::new();
    for path in watches {
        hash.update(path.as_bytes());
        hash.update([0]);
        hash.update(contents.get(path.as_str()).map(String::as_bytes).unwrap_or_default());
        hash.update([0]);
    }
    hex(&hash.finalize())
}

pub(super) fn unit_step(
    name: &str,
    enabled: bool,
    active: bool,
    on_change: OnChange,
    watches: &[String],
    start: Start,
    known: &Known<'_>,
) -> Option<(Step, Vec<Why>)> {
    let Known { facts, contents, .. } = known;
    let mark = (active && on_change != OnChange::Nothing).then(|| config_digest(watches, contents));
    let found = facts.units.get(name).cloned().unwrap_or_default();
    let is_enabled = matches!(found.file.as_str(), "enabled" | "static" | "alias" | "indirect");
    let is_active = matches!(found.active.as_str(), "active" | "reloading");
    let older = mark.is_some() && facts.unit_marks.get(name) != mark.as_ref();
    let stale = older || (mark.is_some() && known.is_changed(watches));
    let enable = (enabled != is_enabled).then_some(enabled);
    let run = (active != is_active || (active && stale)).then_some(active);
    if enable.is_none() && run.is_none() {
        return None;
    }
    let mut why = Vec::new();
    if enable.is_some() {
        why.push(if is_enabled { Why::Enabled } else { Why::NotEnabled });
    }
    if active != is_active {
        let state = if found.active.is_empty() { "unknown" } else { &found.active };
        why.push(Why::Is(state.to_owned()));
    } else if run.is_some() {
        let is_noted = facts.unit_marks.get(name).is_some_and(|m| m == CHANGED);
        why.push(if older && !is_noted { Why::RunsOlder } else { Why::RunsChanged });
    }
    let change = if run == Some(true) { on_change } else { OnChange::Nothing };
    let mark = if run == Some(true) { mark } else { None };
    let step = Step::Unit { name: name.to_owned(), enable, run, change, mark, start };
    Some((step, why))
}
