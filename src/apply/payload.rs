//! What is sent to a node for one transaction: a tar stream with the program, the steps and the
//! files. The only place where file contents leave the controller.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{MEMBER_SCRIPT, TXN_SCRIPT};
use crate::desired::{FileCheck, ItemKind, NodeDesired};
use crate::plain::hex;
use crate::plan::{Action, Step, Transaction, UnfitField};

/// Why a payload could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// The plan names a file that the desired state does not have, or has with other content.
    #[error("{0} is not what the plan was made from")]
    Content(String),
    /// A path or name cannot be written as a step.
    #[error("a step cannot be written")]
    Unfit(#[source] UnfitField),
    /// The tar stream could not be put together.
    #[error("the tar stream could not be built")]
    Tar(#[source] std::io::Error),
}

/// A transaction as the tar stream that a node takes in.
///
/// `now_epoch_s` becomes the modification time of the files.
///
/// # Errors
/// If the desired state does not hold what the plan promises, or a path is not fit for a step line.
pub fn build(
    transaction: &Transaction,
    desired: &NodeDesired,
    now_epoch_s: u64,
) -> Result<Zeroizing<Vec<u8>>, PayloadError> {
    let contents: BTreeMap<&str, (&crate::desired::Content, FileCheck)> = desired
        .items
        .iter()
        .filter_map(|i| match &i.kind {
            ItemKind::File { path, content, check, .. } => Some((path.as_str(), (content, *check))),
            _ => None,
        })
        .collect();

    let mut steps = String::new();
    let mut checks = String::new();
    let mut finals = String::new();
    // What is not to be there has no place in images either, also where it was taken away before.
    let mut forget = String::new();
    for item in desired.items.iter().filter(|i| i.phase == transaction.phase) {
        if let ItemKind::Absent { path } = &item.kind
            && names_secret(path)
        {
            let step = Step::Remove { path: path.clone() };
            step.line(0).map_err(PayloadError::Unfit)?;
            let _ = writeln!(forget, "{path}");
        }
    }
    // Name in the archive, content, mode. Contents, which may be secret, have no copy but the one in the archive.
    let mut members: Vec<(String, Cow<'_, [u8]>, u32)> = Vec::new();
    for (group, action) in transaction.steps.iter().enumerate() {
        let line = action.step.line(group).map_err(PayloadError::Unfit)?;
        match &action.step {
            Step::Program { path, blob, .. } => {
                let _ = writeln!(finals, "{}  {path}", blob.sha256);
            }
            Step::Kubeadm { .. } | Step::StaticPod { .. } => {
                members.push(("member.sh".into(), MEMBER_SCRIPT.as_bytes().into(), 0o600));
            }
            _ => {}
        }
        let _ = writeln!(steps, "{line}{}", row(&transaction.steps, group));
        let Step::Files { directory, files } = &action.step else { continue };
        let mut owners = String::new();
        for (name, file) in files {
            let path = format!("{}/{name}", directory.trim_end_matches('/'));
            let (content, check) =
                contents.get(path.as_str()).ok_or_else(|| PayloadError::Content(path.clone()))?;
            if content.sha256() != file.sha256 || name.starts_with('.') {
                return Err(PayloadError::Content(path));
            }
            let member = format!("files/{group}{path}");
            if *check == FileCheck::Nft {
                let _ = writeln!(checks, "nft|{member}");
            }
            let _ = writeln!(finals, "{}  {path}", file.sha256);
            if file.access.owner != "root" || file.access.group != "root" {
                let a = &file.access;
                let _ = writeln!(owners, "{name}|{}|{}|{:04o}", a.owner, a.group, a.mode);
            }
            members.push((member, content.bytes().into(), file.access.mode));
        }
        if !owners.is_empty() {
            members.push((format!("owners.{group}"), owned(owners), 0o600));
        }
    }
    let (mut expect, mut absent) = (String::new(), String::new());
    for (path, sum) in &transaction.expect {
        let _ = match sum {
            Some(sum) => writeln!(expect, "{sum}  {path}"),
            None => writeln!(absent, "{path}"),
        };
    }
    members.push(("steps".into(), owned(steps), 0o600));
    members.push(("checks".into(), owned(checks), 0o600));
    members.push(("expect".into(), owned(expect), 0o600));
    members.push(("absent".into(), owned(absent), 0o600));
    members.push(("final".into(), owned(finals), 0o600));
    if !forget.is_empty() {
        members.push(("forget".into(), owned(forget), 0o600));
    }
    members.push(("state".into(), b"staged\n".into(), 0o600));
    members.push(("txn.sh".into(), TXN_SCRIPT.as_bytes().into(), 0o600));
    let manifest: String = members
        .iter()
        .map(|(name, bytes, _)| format!("{}  {name}\n", hex(&Sha256::digest(bytes))))
        .collect();
    members.push(("MANIFEST".into(), owned(manifest), 0o600));

    let size: usize = members.iter().map(|(_, b, _)| b.len() + 1024).sum();
    let archive = Vec::with_capacity(size + 4096);
    let mut tar = tar::Builder::new(archive);
    for (name, bytes, mode) in &members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(now_epoch_s);
        header.set_entry_type(tar::EntryType::Regular);
        tar.append_data(&mut header, name, &**bytes).map_err(PayloadError::Tar)?;
    }
    Ok(Zeroizing::new(tar.into_inner().map_err(PayloadError::Tar)?))
}

/// What the first of several steps of the same kind says besides, so that one program does them all. Every program
/// that is started costs a node a millisecond.
fn row(steps: &[Action], at: usize) -> String {
    match steps.get(at).map(|a| &a.step) {
        Some(Step::Directory { .. }) => row_of_directories(steps, at),
        Some(Step::Files { .. }) => row_of_files(steps, at),
        _ => String::new(),
    }
}

/// Groups of files that are all root's, with their directories.
fn row_of_files(steps: &[Action], at: usize) -> String {
    row_of(at, |i| match &steps.get(i)?.step {
        Step::Files { directory, files }
            if files.values().all(|f| f.access.owner == "root" && f.access.group == "root") =>
        {
            Some(format!("{i}={}", directory.trim_end_matches('/')))
        }
        _ => None,
    })
}

/// Directories with the same access, root's: all their paths.
fn row_of_directories(steps: &[Action], at: usize) -> String {
    let plain = |i: usize| match &steps.get(i)?.step {
        Step::Directory { path, access } if access.owner == "root" && access.group == "root" => {
            Some((path.as_str(), access.mode))
        }
        _ => None,
    };
    let Some((_, mode)) = plain(at) else { return String::new() };
    row_of(at, |i| plain(i).filter(|(_, m)| *m == mode).map(|(path, _)| path.to_owned()))
}

/// The words of a row that begins here, if it has more than one. `word` is none where a step is not of the row.
fn row_of(at: usize, word: impl Fn(usize) -> Option<String>) -> String {
    if at > 0 && word(at - 1).is_some() {
        return String::new();
    }
    let row: Vec<String> = (at..).map_while(word).collect();
    if row.len() > 1 { format!("|{}", row.join(" ")) } else { String::new() }
}

/// Whether a path's name says that it holds a secret: if such a file is removed, its images are deleted too.
fn names_secret(path: &str) -> bool {
    // Keys, and kubeconfigs with a key in them.
    path.ends_with(".key") || (path.starts_with("/etc/kubernetes/") && path.ends_with(".conf"))
}

fn owned(s: String) -> Cow<'static, [u8]> {
    s.into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Access;
    use crate::plan::NewFile;

    #[test]
    fn what_is_removed_and_held_a_secret_leaves_the_images_too() {
        use crate::desired::{Item, Phase};
        let forgotten = |phase, path: &str| {
            let transaction = Transaction {
                phase: Phase::Kubernetes,
                confirm_within_s: None,
                steps: Vec::new(),
                expect: BTreeMap::new(),
            };
            let item =
                Item { phase, controls: Vec::new(), kind: ItemKind::Absent { path: path.into() } };
            let desired = NodeDesired { items: vec![item], notes: Vec::new() };
            let archive = build(&transaction, &desired, 0).unwrap();
            let mut archive = tar::Archive::new(archive.as_slice());
            let mut text = String::new();
            for entry in archive.entries().unwrap() {
                let mut entry = entry.unwrap();
                if entry.path().unwrap().to_str() == Some("forget") {
                    std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
                }
            }
            text
        };
        for secret in ["/etc/kubernetes/pki/ca.key", "/etc/kubernetes/super-admin.conf"] {
            assert_eq!(forgotten(Phase::Kubernetes, secret), format!("{secret}\n"));
            // It is still there.
            assert_eq!(forgotten(Phase::Host, secret), "");
        }
        for plain in ["/etc/kubernetes/pki/ca.crt", "/etc/sysctl.d/50-kubastion.conf"] {
            assert_eq!(forgotten(Phase::Kubernetes, plain), "");
        }
    }

    #[test]
    fn the_first_files_of_a_row_name_them_all() {
        let files = |directory: &str, owner: &str| {
            let access = Access { owner: owner.into(), ..Access::root(0o600) };
            let file =
                NewFile { sha256: String::new(), size: 0, access, secret: false, replaces: false };
            Step::Files { directory: directory.into(), files: [("f".to_owned(), file)].into() }
        };
        let steps = [
            files("/a", "root"),
            files("/b/", "root"),
            files("/c", "etcd"),
            files("/d", "root"),
            Step::Verify,
        ]
        .map(|step| Action { step, controls: Default::default(), why: Vec::new() });
        let rows: Vec<String> = (0..steps.len()).map(|i| row(&steps, i)).collect();
        assert_eq!(rows, ["|0=/a 1=/b", "", "", "", ""]);
    }

    #[test]
    fn the_first_directory_of_a_row_names_them_all() {
        let step = |path: &str, access: Access| Action {
            step: Step::Directory { path: path.into(), access },
            controls: Default::default(),
            why: Vec::new(),
        };
        let theirs = Access { owner: "etcd".into(), ..Access::root(0o755) };
        let steps = [
            step("/a", Access::root(0o755)),
            step("/a/b", Access::root(0o755)),
            step("/c", Access::root(0o700)),
            step("/d", theirs),
            step("/e", Access::root(0o755)),
            Action { step: Step::Verify, controls: Default::default(), why: Vec::new() },
            step("/f", Access::root(0o755)),
            step("/g", Access::root(0o755)),
        ];
        let rows: Vec<String> = (0..steps.len()).map(|i| row_of_directories(&steps, i)).collect();
        assert_eq!(rows, ["|/a /a/b", "", "", "", "", "", "|/f /g", ""]);
    }
}
