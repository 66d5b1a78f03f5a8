//! Facts against desired items: what has to be done on one node, in which order.
//!
//! `add` has one arm for each [`ItemKind`]; the order of a transaction's steps is that of `Pending::finish`.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::model::{NodePlan, Transaction};
use super::step::{Action, NewFile, Step, is_word};
use crate::controls::of_interfaces;
use crate::desired::{
    Access, Blob, Content, FileCheck, Item, ItemKind, NodeDesired, OnChange, Phase, Start, Way,
};
use crate::facts::ancestors;
use crate::facts::{FileFacts, Login, NodeFacts};
use crate::plain::hex;

pub use crate::desired::watch_list;

/// Seconds a node waits for a confirmation after a change that can cut access.
pub const CONFIRM_HOST_S: u32 = 60;
/// Seconds an etcd member waits: its peers have to start, elect a leader and answer.
pub const CONFIRM_ETCD_S: u32 = 240;

/// Unit that undoes an unconfirmed transaction when the node boots.
pub const GUARD_UNIT: &str = "kubastion-guard.service";

/// Name of the mark of a node that is part of the cluster, among those of units.
pub const MEMBER_MARK: &str = "kubernetes";
/// What a mark says of a daemon that may run with what was changed on the node ([`Step::Stale`]), and what
/// the facts say where kubeadm's files are not as they were then.
const CHANGED: &str = "changed";

const OLDER: &str = "runs with an older configuration";
const CHANGED_THERE: &str = "runs with what was changed on the node";

/// What a kubelet that is part of a cluster runs by.
pub const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";

/// Something that should be done and cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The package manager is not known.
    #[error("{0} is neither of the Debian nor of the Red Hat family: packages cannot be installed")]
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

/// Work of one transaction by kind.
#[derive(Default)]
struct Pending {
    packages: Vec<Action>,
    users: Vec<Action>,
    directories: BTreeMap<String, Action>,
    guard_files: BTreeMap<String, FileGroup>,
    stale: Vec<Action>,
    permissions: Vec<Action>,
    files: BTreeMap<String, FileGroup>,
    programs: Vec<Action>,
    removals: Vec<Action>,
    modules: Vec<Action>,
    sysctls: Vec<Action>,
    swap: Vec<Action>,
    firewall: Vec<Action>,
    sshd_check: bool,
    /// Who will not get in any more, where a file of sshd changes.
    logins: Option<Vec<String>>,
    guard_unit: Option<Action>,
    images: Vec<Action>,
    member: Vec<Action>,
    units: Vec<Action>,
    expect: BTreeMap<String, Option<String>>,
    cuts_access: bool,
}

#[derive(Default)]
struct FileGroup {
    files: BTreeMap<String, NewFile>,
    controls: BTreeSet<String>,
    why: Vec<String>,
}

/// What is on the node, and what an item has to know of others, whatever their phase.
struct Known<'d> {
    facts: &'d NodeFacts,
    /// Digests of what files will hold.
    contents: BTreeMap<&'d str, String>,
    /// When they are put in place.
    phases: BTreeMap<&'d str, Phase>,
    directories: BTreeMap<&'d str, &'d Access>,
    /// Who may read and write files.
    access: BTreeMap<&'d str, &'d Access>,
}

impl<'d> Known<'d> {
    fn of(desired: &'d NodeDesired, facts: &'d NodeFacts) -> Self {
        let mut known = Self {
            facts,
            contents: BTreeMap::new(),
            phases: BTreeMap::new(),
            directories: BTreeMap::new(),
            access: BTreeMap::new(),
        };
        for item in &desired.items {
            match &item.kind {
                ItemKind::File { path, content, access, .. } => {
                    known.access.insert(path, access);
                    known.contents.insert(path, content.sha256());
                    known.phases.insert(path, item.phase);
                }
                ItemKind::Program { path, blob, access } => {
                    known.access.insert(path, access);
                    known.contents.insert(path, blob.sha256.clone());
                    known.phases.insert(path, item.phase);
                }
                ItemKind::Directory { path, access } => {
                    known.directories.insert(path, access);
                }
                _ => {}
            }
        }
        known
    }

    /// Whether a watched file is not what it should be: whoever changed it may have started the daemon
    /// with it, and putting the file right would not reach that. The same goes for one that others could write.
    fn is_changed(&self, watches: &[String]) -> bool {
        self.changed(watches).next().is_some()
    }

    fn changed<'a>(&'a self, watches: &'a [String]) -> impl Iterator<Item = &'a str> {
        watches.iter().map(String::as_str).filter(|path| {
            self.contents.get(path).is_some_and(|wanted| match self.facts.files.get(*path) {
                Some(FileFacts::File { sha256, mode, owner, group, .. }) => {
                    let access = self.access.get(path);
                    let differs = access.and_then(|a| access_differs(a, *mode, owner, group));
                    sha256 != wanted || differs.is_some()
                }
                _ => true,
            })
        })
    }

    /// The phases that put right what an item of a later one watches. The file would tell of the change no
    /// more if that later phase did not come, or failed.
    fn mended_before(&self, phase: Phase, watches: &[String]) -> BTreeSet<Phase> {
        let phases = self.changed(watches).filter_map(|path| self.phases.get(path).copied());
        phases.filter(|p| *p < phase).collect()
    }
}

/// Plans one node.
///
/// # Errors
/// Everything that stands in the way, not only the first.
pub fn node_plan(
    desired: &NodeDesired,
    facts: &NodeFacts,
    host_key: &str,
) -> Result<NodePlan, Vec<Missing>> {
    let mut problems = Vec::new();
    let mut phases: BTreeMap<Phase, Pending> = BTreeMap::new();
    let known = Known::of(desired, facts);
    for item in &desired.items {
        let pending = phases.entry(item.phase).or_default();
        if let Err(problem) = add(pending, item, &known) {
            problems.push(problem);
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    for item in &desired.items {
        let (unit, watches) = match &item.kind {
            ItemKind::Member { watches, .. } => (MEMBER_MARK, watches),
            ItemKind::Unit { name, watches, .. } => (name.as_str(), watches),
            _ => continue,
        };
        // Without its mark, nothing else is needed to have it started again.
        if facts.unit_marks.get(unit) != Some(&config_digest(watches, &known.contents)) {
            continue;
        }
        for phase in known.mended_before(item.phase, watches) {
            let step = Step::Stale { unit: unit.to_owned() };
            let action = Action { step, controls: BTreeSet::new(), why: CHANGED_THERE.to_owned() };
            phases.entry(phase).or_default().stale.push(action);
        }
    }
    let mut notes = desired.notes.clone();
    if phases.values().any(|p| p.logins.is_some()) {
        notes.extend(of_logins(facts));
    }
    Ok(NodePlan {
        host_key: host_key.to_owned(),
        transactions: phases.into_iter().filter_map(|(phase, p)| p.finish(phase)).collect(),
        notes,
        held_back: Vec::new(),
    })
}

/// Logins that will stop working. A name that does not fit into a step is left out, so its change is undone.
fn shut_out(facts: &NodeFacts) -> Vec<String> {
    let lost = facts.logins.iter().flatten().filter(|l| l.lost.is_some());
    let names: BTreeSet<&String> = lost.map(|l| &l.name).collect();
    names.into_iter().filter(|n| is_word(n)).cloned().collect()
}

/// Notes on logins that will stop working, and why.
fn of_logins(facts: &NodeFacts) -> Vec<String> {
    let Some(logins) = &facts.logins else {
        return vec![
            "logins that will no longer work could not be determined: `sshd -T` gave no answer, or more than 100 accounts \
             have a login shell"
                .to_owned(),
        ];
    };
    let said = |l: &Login| {
        let why = l.lost.as_ref()?;
        let by_methods =
            why.starts_with("AuthenticationMethods") || why.starts_with("no enabled method");
        let hint = if by_methods {
            ": password and keyboard-interactive authentication will be off. First give it a key, or enable what it needs in a `Match` block of its own"
        } else {
            ""
        };
        Some(format!("login `{}` from {} will no longer work ({why}){hint}", l.name, l.address))
    };
    let mut notes: Vec<String> = logins.iter().filter_map(said).collect();
    notes.dedup();
    notes
}

fn add(pending: &mut Pending, item: &Item, known: &Known<'_>) -> Result<(), Missing> {
    let Known { facts, contents, .. } = known;
    let controls: BTreeSet<String> = item.controls.iter().map(|c| (*c).to_owned()).collect();
    let action = |step, why: String| Action { step, controls: controls.clone(), why };
    match &item.kind {
        ItemKind::Package { name } => {
            if !facts.packages.contains_key(name) {
                let Some(family) = facts.os.family() else {
                    return Err(Missing::Distribution(facts.os.pretty.clone()));
                };
                let manager = family.row().manager;
                let step = Step::Packages { manager, names: vec![name.clone()] };
                pending.packages.push(action(step, "is not installed".into()));
            }
        }
        ItemKind::User { name, home } => {
            if !facts.users.contains_key(name) {
                let step = Step::User { name: name.clone(), home: home.clone() };
                pending.users.push(action(step, "does not exist".into()));
            }
        }
        ItemKind::Directory { path, access } => {
            let why = match facts.files.get(path) {
                None | Some(FileFacts::Absent) => Some("does not exist".to_owned()),
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
                pending.images.push(action(step, "not all are there".into()));
            }
        }
        ItemKind::Member { way, watches } => {
            let mark = config_digest(watches, contents);
            let found = facts.unit_marks.get(MEMBER_MARK);
            // One that somebody else's kubeadm made a member has no mark.
            let configured =
                matches!(facts.files.get(KUBELET_CONFIG), Some(FileFacts::File { .. }));
            let (way, why) = match found {
                Some(found) if *found == mark && !known.is_changed(watches) => return Ok(()),
                Some(found) if found == CHANGED || *found == mark => {
                    (Way::Configure, CHANGED_THERE)
                }
                Some(_) => (Way::Configure, OLDER),
                None if configured => {
                    (Way::Configure, "runs with a configuration that is not ours")
                }
                None => (*way, "is not part of the cluster"),
            };
            pending.member.push(action(Step::Member { way, mark }, why.into()));
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
                return Err(Missing::InTheWay {
                    path: path.clone(),
                    found: "a directory",
                    wanted: "path that does not exist",
                });
            }
            Some(_) => {
                pending.removals.push(action(Step::Remove { path: path.clone() }, "exists".into()));
            }
        },
        ItemKind::Sysctl { key, value } => {
            // A key that the kernel does not have (yet) is verified later and never guessed at.
            let own = facts.sysctls.get_key_value(key);
            for (key, found) in own.into_iter().chain(of_each_interface(key, facts)) {
                if found != value {
                    let step = Step::Sysctl { key: key.clone(), value: value.clone() };
                    pending.cuts_access |= key.starts_with("net.");
                    pending.sysctls.push(action(step, format!("is {found}")));
                }
            }
        }
        ItemKind::Module { name } => {
            if !facts.modules.contains(name) {
                let step = Step::Module { name: name.clone() };
                pending.modules.push(action(step, "is not loaded".into()));
            }
        }
        ItemKind::SwapOff => {
            if !facts.swaps.is_empty() {
                let why = format!("active: {}", facts.swaps.join(" "));
                pending.swap.push(action(Step::SwapOff, why));
            }
        }
        ItemKind::Firewall { path } => {
            let wanted = contents.get(path.as_str()).map(String::as_str).unwrap_or_default();
            let nft = &facts.nft;
            let why = match (&nft.own_listing_sha256, &nft.recorded) {
                (None, _) => Some("is not loaded"),
                (Some(_), None) => Some("was loaded by another program"),
                (Some(listing), Some(r)) if *listing != r.listing_sha256 => {
                    Some("was changed since it was loaded")
                }
                (Some(_), Some(r)) if r.file_sha256 != wanted => Some("is an older one"),
                _ => None,
            };
            if let Some(why) = why {
                pending.cuts_access = true;
                let step = Step::Firewall { path: path.clone() };
                pending.firewall.push(action(step, why.into()));
            }
        }
        ItemKind::FirewallAbsent => {
            if facts.nft.own_listing_sha256.is_some() {
                pending.cuts_access = true;
                pending.firewall.push(action(Step::FirewallAbsent, "is loaded".into()));
            }
        }
        ItemKind::Unit { name, enabled, active, on_change, watches, start } => {
            if let Some(step) =
                unit_step(name, *enabled, *active, *on_change, watches, *start, known)
            {
                let ssh = name.starts_with("ssh");
                pending.cuts_access |= ssh;
                pending.sshd_check |= ssh;
                let act = action(step.0, step.1);
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
fn of_each_interface<'f>(
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

fn add_file(
    pending: &mut Pending,
    path: &str,
    content: &Content,
    access: &Access,
    check: FileCheck,
    known: &Known<'_>,
    controls: &BTreeSet<String>,
) -> Result<(), Missing> {
    let wanted = content.sha256();
    let found = known.facts.files.get(path).unwrap_or(&FileFacts::Absent);
    let (why, replaces) = match found {
        FileFacts::Absent => ("does not exist".to_owned(), false),
        FileFacts::File { sha256, .. } if *sha256 != wanted => ("differs".to_owned(), true),
        FileFacts::File { mode, owner, group, .. } => {
            if let Some(why) = access_differs(access, *mode, owner, group) {
                let step = Step::Permissions { path: path.to_owned(), access: access.clone() };
                pending.permissions.push(Action { step, controls: controls.clone(), why });
            }
            return Ok(());
        }
        // A link is replaced, not followed: what it points to is not ours.
        FileFacts::Symlink { target } => (format!("is a link to {target}"), true),
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
    group.controls.extend(controls.iter().cloned());
    group.why.push(format!("{name} {why}"));
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

fn add_program(
    pending: &mut Pending,
    path: &str,
    blob: &Blob,
    access: &Access,
    known: &Known<'_>,
    controls: &BTreeSet<String>,
) -> Result<(), Missing> {
    let action = |step, why| Action { step, controls: controls.clone(), why };
    let found = known.facts.files.get(path).unwrap_or(&FileFacts::Absent);
    let (why, expected) = match found {
        FileFacts::Absent => ("does not exist".to_owned(), Some(None)),
        FileFacts::File { sha256, .. } if *sha256 != blob.sha256 => {
            ("is another version".to_owned(), Some(Some(sha256.clone())))
        }
        FileFacts::File { mode, owner, group, .. } => {
            if let Some(why) = access_differs(access, *mode, owner, group) {
                let step = Step::Permissions { path: path.to_owned(), access: access.clone() };
                pending.permissions.push(action(step, why));
            }
            return Ok(());
        }
        // A link is replaced, not followed: what it points to is not ours.
        FileFacts::Symlink { target } => (format!("is a link to {target}"), None),
        other => return Err(in_the_way(path, other, "file")),
    };
    parents(pending, path, known);
    let (path, blob, access) = (path.to_owned(), blob.clone(), access.clone());
    pending.expect.extend(expected.map(|e| (path.clone(), e)));
    pending.programs.push(action(Step::Program { path, blob, access }, why));
    Ok(())
}

/// Missing ancestors of a path are made as they are wanted, also where that is an earlier phase's to do;
/// others as `root:root 0755`.
fn parents(pending: &mut Pending, path: &str, known: &Known<'_>) {
    for parent in ancestors(path) {
        if matches!(known.facts.files.get(parent), Some(FileFacts::Absent)) {
            let access = known.directories.get(parent).map(|a| (*a).clone());
            let access = access.unwrap_or_else(|| Access::root(0o755));
            pending.directories.entry(parent.to_owned()).or_insert_with(|| Action {
                step: Step::Directory { path: parent.to_owned(), access },
                controls: BTreeSet::new(),
                why: "does not exist".into(),
            });
        }
    }
}

fn access_differs(wanted: &Access, mode: u32, owner: &str, group: &str) -> Option<String> {
    (wanted.mode != mode || wanted.owner != owner || wanted.group != group)
        .then(|| format!("is {mode:04o} {owner}:{group}"))
}

fn in_the_way(path: &str, found: &FileFacts, wanted: &'static str) -> Missing {
    let found = match found {
        FileFacts::Absent => "absent",
        FileFacts::File { .. } => "a file",
        FileFacts::Directory { .. } => "a directory",
        FileFacts::Symlink { .. } => "a symbolic link",
        FileFacts::Other { .. } => "a socket, device or pipe",
    };
    Missing::InTheWay { path: path.to_owned(), found, wanted }
}

/// Digest of all files whose change matters to a unit.
fn config_digest(watches: &[String], contents: &BTreeMap<&str, String>) -> String {
    let mut hash = Sha256::new();
    for path in watches {
        hash.update(path.as_bytes());
        hash.update([0]);
        hash.update(contents.get(path.as_str()).map(String::as_bytes).unwrap_or_default());
        hash.update([0]);
    }
    hex(&hash.finalize())
}

fn unit_step(
    name: &str,
    enabled: bool,
    active: bool,
    on_change: OnChange,
    watches: &[String],
    start: Start,
    known: &Known<'_>,
) -> Option<(Step, String)> {
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
        why.push(if is_enabled { "is enabled".to_owned() } else { "is not enabled".to_owned() });
    }
    if active != is_active {
        why.push(format!("is {}", if found.active.is_empty() { "unknown" } else { &found.active }));
    } else if run.is_some() {
        let is_noted = facts.unit_marks.get(name).is_some_and(|m| m == CHANGED);
        why.push(if older && !is_noted { OLDER } else { CHANGED_THERE }.to_owned());
    }
    let change = if run == Some(true) { on_change } else { OnChange::Nothing };
    let mark = if run == Some(true) { mark } else { None };
    let step = Step::Unit { name: name.to_owned(), enable, run, change, mark, start };
    Some((step, why.join(", ")))
}

impl Pending {
    fn finish(self, phase: Phase) -> Option<Transaction> {
        let plain = |step| Action { step, controls: BTreeSet::new(), why: String::new() };
        let group = |(directory, g): (String, FileGroup)| Action {
            step: Step::Files { directory, files: g.files },
            controls: g.controls,
            why: g.why.join(", "),
        };
        let guarded = self.cuts_access || (phase == Phase::Etcd && !self.units.is_empty());
        let confirm_within_s = guarded.then_some(match phase {
            Phase::Etcd => CONFIRM_ETCD_S,
            _ => CONFIRM_HOST_S,
        });
        let new_units = self.files.keys().any(|d| d.starts_with("/etc/systemd/system"));
        let new_guard = !self.guard_files.is_empty();
        let loads = |a: &Action| match &a.step {
            Step::Firewall { .. } => true,
            Step::Sysctl { key, .. } => key.starts_with("net."),
            _ => false,
        };
        let proves = self.firewall.iter().chain(&self.sysctls).any(loads);
        let has_files = !self.files.is_empty() || !self.programs.is_empty() || new_guard;

        let mut steps = merge_packages(self.packages);
        steps.extend(self.users);
        steps.extend(self.directories.into_values());
        // The guard is in place before anything that it guards.
        steps.extend(self.guard_files.into_iter().map(group));
        if new_guard {
            steps.push(plain(Step::DaemonReload));
        }
        steps.extend(self.guard_unit);
        if let Some(within_s) = confirm_within_s {
            steps.push(plain(Step::Arm { within_s }));
        }
        steps.extend(self.stale);
        steps.extend(self.permissions);
        steps.extend(self.files.into_iter().map(group));
        steps.extend(self.programs);
        steps.extend(self.removals);
        if new_units {
            steps.push(plain(Step::DaemonReload));
        }
        steps.extend(self.modules);
        steps.extend(self.sysctls);
        steps.extend(self.swap);
        steps.extend(self.firewall);
        if self.sshd_check {
            steps.push(plain(Step::CheckSshd));
        }
        if let Some(without) = self.logins {
            steps.push(plain(Step::CheckLogins { without }));
        }
        steps.extend(self.images);
        steps.extend(self.member);
        steps.extend(self.units);
        if has_files {
            steps.push(plain(Step::Verify));
        }
        if guarded && proves {
            steps.push(plain(Step::Prove));
        }
        let works = steps.iter().any(|a| !matches!(a.step, Step::Arm { .. } | Step::CheckSshd));
        works.then_some(Transaction { phase, confirm_within_s, steps, expect: self.expect })
    }
}

/// One call of the package manager for all packages.
fn merge_packages(packages: Vec<Action>) -> Vec<Action> {
    let mut merged: Option<Action> = None;
    for package in packages {
        match (&mut merged, package.step) {
            (
                Some(Action { step: Step::Packages { names, .. }, controls, .. }),
                Step::Packages { names: more, .. },
            ) => {
                names.extend(more);
                controls.extend(package.controls);
            }
            (_, step) => {
                merged =
                    Some(Action { step, controls: package.controls, why: "not installed".into() })
            }
        }
    }
    merged.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is to be done with a node that runs with this mark, and has this kubelet configuration.
    fn way(mark: Option<&str>, configured: bool) -> Option<Way> {
        let mut facts = crate::desired::tests::facts("n", "debian 12", None);
        facts.unit_marks.extend(mark.map(|m| (MEMBER_MARK.to_owned(), m.to_owned())));
        let (mode, owner, group) = (0o600, "root".to_owned(), "root".to_owned());
        let file = FileFacts::File { mode, owner, group, size: 0, sha256: String::new() };
        let found = if configured { file } else { FileFacts::Absent };
        facts.files.insert(KUBELET_CONFIG.to_owned(), found);
        let kind = ItemKind::Member { way: Way::Join, watches: Vec::new() };
        let item = Item { phase: Phase::Kubernetes, controls: Vec::new(), kind };
        let mut pending = Pending::default();
        let desired = NodeDesired { items: vec![item], notes: vec![] };
        add(&mut pending, &desired.items[0], &Known::of(&desired, &facts)).unwrap();
        match pending.member.as_slice() {
            [] => None,
            [Action { step: Step::Member { way, .. }, .. }] => Some(*way),
            other => panic!("{other:?}"),
        }
    }

    /// A file of a later phase lies where an earlier one makes the directory.
    #[test]
    fn a_missing_directory_is_made_as_it_is_wanted() {
        let mut facts = crate::desired::tests::facts("n", "debian 12", None);
        for path in ["/a", "/a/b", "/a/b/f"] {
            facts.files.insert(path.to_owned(), FileFacts::Absent);
        }
        let item = |phase, kind| Item { phase, controls: Vec::new(), kind };
        let directory =
            ItemKind::Directory { path: "/a/b".to_owned(), access: Access::root(0o700) };
        let file = ItemKind::File {
            path: "/a/b/f".to_owned(),
            content: Content::Text("".into()),
            access: Access::root(0o600),
            check: FileCheck::None,
        };
        let items = vec![item(Phase::Host, directory), item(Phase::Kubernetes, file)];
        let plan = node_plan(&NodeDesired { items, notes: vec![] }, &facts, "").unwrap();
        for transaction in &plan.transactions {
            let modes: Vec<(&str, u32)> = transaction
                .steps
                .iter()
                .filter_map(|a| match &a.step {
                    Step::Directory { path, access } => Some((path.as_str(), access.mode)),
                    _ => None,
                })
                .collect();
            assert_eq!(modes, [("/a", 0o755), ("/a/b", 0o700)], "{:?}", transaction.phase);
        }
        assert_eq!(plan.transactions.len(), 2);
    }

    #[test]
    fn a_member_is_configured_and_never_joined_again() {
        let current = config_digest(&[], &BTreeMap::new());
        assert_eq!(way(None, false), Some(Way::Join));
        assert_eq!(way(None, true), Some(Way::Configure), "somebody else's member");
        assert_eq!(way(Some("older"), true), Some(Way::Configure));
        assert_eq!(way(Some("older"), false), Some(Way::Configure));
        assert_eq!(way(Some(&current), true), None);
        assert_eq!(way(Some(CHANGED), true), Some(Way::Configure), "its static pods");
    }

    /// The file is mended in one transaction, its daemon started again in a later one. If that one does
    /// not come, the file is as it should be, and the mark has to tell.
    #[test]
    fn what_was_changed_is_not_forgotten_between_two_transactions() {
        let path = "/etc/x.conf".to_owned();
        let item = |phase, kind| Item { phase, controls: Vec::new(), kind };
        let file = ItemKind::File {
            path: path.clone(),
            content: Content::Text("ours\n".into()),
            access: Access::root(0o600),
            check: FileCheck::None,
        };
        let member = ItemKind::Member { way: Way::Join, watches: vec![path.clone()] };
        let unit = ItemKind::Unit {
            name: "x.service".into(),
            enabled: true,
            active: true,
            on_change: OnChange::Restart,
            watches: vec![path.clone()],
            start: Start::Wait,
        };
        let items =
            vec![item(Phase::Host, file), item(Phase::Etcd, unit), item(Phase::Kubernetes, member)];
        let desired = NodeDesired { items, notes: vec![] };
        let mut facts = crate::desired::tests::facts("n", "debian 12", None);
        let (mark, wanted) = {
            let known = Known::of(&desired, &facts);
            let digest = config_digest(std::slice::from_ref(&path), &known.contents);
            (digest, known.contents[path.as_str()].clone())
        };
        let found = |sha256: &str| FileFacts::File {
            mode: 0o600,
            owner: "root".to_owned(),
            group: "root".to_owned(),
            size: 5,
            sha256: sha256.to_owned(),
        };
        facts.files.insert(path.clone(), found("theirs"));
        for name in ["x.service", MEMBER_MARK] {
            facts.unit_marks.insert(name.into(), mark.clone());
        }
        let plan = node_plan(&desired, &facts, "").unwrap();
        let steps = &plan.transactions[0].steps;
        let noted: Vec<&str> = steps
            .iter()
            .filter_map(|a| match &a.step {
                Step::Stale { unit } => Some(unit.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(
            (plan.transactions[0].phase, noted),
            (Phase::Host, vec!["x.service", "kubernetes"])
        );
        let at = |wanted: fn(&Step) -> bool| steps.iter().position(|a| wanted(&a.step)).unwrap();
        assert!(at(|s| matches!(s, Step::Stale { .. })) < at(|s| matches!(s, Step::Files { .. })));
        // The first transaction alone was made.
        facts.files.insert(path, found(&wanted));
        for mark in facts.unit_marks.values_mut() {
            *mark = CHANGED.to_owned();
        }
        let plan = node_plan(&desired, &facts, "").unwrap();
        let again: Vec<&str> =
            plan.transactions.iter().flat_map(|t| &t.steps).map(|a| a.why.as_str()).collect();
        assert!(again.iter().filter(|why| **why == CHANGED_THERE).count() == 1, "{again:?}");
        assert!(again.iter().any(|why| why.ends_with(CHANGED_THERE)), "{again:?}");
        let phases: Vec<Phase> = plan.transactions.iter().map(|t| t.phase).collect();
        assert_eq!(phases, [Phase::Etcd, Phase::Kubernetes]);
    }

    /// Somebody changed a file and started the daemon with it: the file alone is not enough.
    #[test]
    fn what_runs_with_a_changed_file_is_started_again() {
        let path = "/etc/x.conf".to_owned();
        let file = ItemKind::File {
            path: path.clone(),
            content: Content::Text("ours\n".into()),
            access: Access::root(0o600),
            check: FileCheck::None,
        };
        let unit = ItemKind::Unit {
            name: "x.service".into(),
            enabled: true,
            active: true,
            on_change: OnChange::Restart,
            watches: vec![path.clone()],
            start: Start::Wait,
        };
        let member = ItemKind::Member { way: Way::Join, watches: vec![path.clone()] };
        let items = [file, unit, member].map(|kind| Item {
            phase: Phase::Host,
            controls: Vec::new(),
            kind,
        });
        let desired = NodeDesired { items: items.into(), notes: vec![] };
        let mut facts = crate::desired::tests::facts("n", "debian 12", None);
        let known = Known::of(&desired, &facts);
        let (mark, wanted) = (
            config_digest(std::slice::from_ref(&path), &known.contents),
            known.contents[path.as_str()].clone(),
        );
        for name in ["x.service", MEMBER_MARK] {
            facts.unit_marks.insert(name.into(), mark.clone());
        }
        let unit = crate::facts::UnitFacts {
            file: "enabled".into(),
            active: "active".into(),
            ..Default::default()
        };
        facts.units.insert("x.service".into(), unit);
        let mut started = |sha256: String| {
            let (owner, group) = ("root".to_owned(), "root".to_owned());
            let found = FileFacts::File { mode: 0o600, owner, group, size: 5, sha256 };
            facts.files.insert(path.clone(), found);
            let plan = node_plan(&desired, &facts, "").unwrap();
            let steps: Vec<Action> = plan.transactions.into_iter().flat_map(|t| t.steps).collect();
            let is_start = |s: &&Action| {
                matches!(
                    &s.step,
                    Step::Member { .. }
                        | Step::Unit { run: Some(true), change: OnChange::Restart, .. }
                )
            };
            steps.iter().filter(is_start).map(|s| s.why.clone()).collect::<Vec<_>>()
        };
        assert_eq!(started("theirs".into()), [CHANGED_THERE, CHANGED_THERE]);
        assert!(started(wanted).is_empty());
    }

    #[test]
    fn who_will_not_get_in_is_named_and_given_up_by_name() {
        let path = "/etc/ssh/sshd_config.d/00-a.conf".to_owned();
        let content = Content::Text("PasswordAuthentication no\n".into());
        let kind =
            ItemKind::File { path, content, access: Access::root(0o600), check: FileCheck::Sshd };
        let item = Item { phase: Phase::Host, controls: Vec::new(), kind };
        let desired = NodeDesired { items: vec![item], notes: Vec::new() };
        let mut facts = crate::desired::tests::facts("n", "debian 12", None);
        let of = |facts: &NodeFacts| {
            let plan = node_plan(&desired, facts, "").unwrap();
            let steps: Vec<Step> =
                plan.transactions.into_iter().flat_map(|t| t.steps).map(|a| a.step).collect();
            let without = steps.iter().find_map(|s| match s {
                Step::CheckLogins { without } => Some(without.join(" ")),
                _ => None,
            });
            (plan.notes.join("\n"), without.unwrap())
        };
        assert!(of(&facts).0.contains("could not be determined"));
        let login = |name: &str, lost: Option<&str>| Login {
            name: name.into(),
            address: "192.0.2.9".into(),
            lost: lost.map(str::to_owned),
        };
        facts.logins = Some(vec![login("a", None)]);
        assert_eq!(of(&facts), (String::new(), String::new()));
        // What cannot be part of a step is named, and its change taken back on the node.
        let why = Some("AuthenticationMethods publickey,password");
        facts.logins = Some(vec![login("b", why), login("c|d", why), login("a", None)]);
        let (notes, without) = of(&facts);
        assert!(notes.contains("login `b` from 192.0.2.9 will no longer work"), "{notes}");
        assert!(notes.contains("`c|d`") && !notes.contains("`a`"), "{notes}");
        assert_eq!(without, "b");
    }

    #[test]
    fn swap_that_is_on_is_switched_off() {
        let item = Item { phase: Phase::Host, controls: Vec::new(), kind: ItemKind::SwapOff };
        let desired = NodeDesired { items: vec![item], notes: Vec::new() };
        let mut facts = crate::desired::tests::facts("n", "debian 12", None);
        assert!(node_plan(&desired, &facts, "").unwrap().transactions.is_empty());
        facts.swaps = vec!["/swapfile".into()];
        let plan = node_plan(&desired, &facts, "").unwrap();
        let steps: Vec<&Action> = plan.transactions.iter().flat_map(|t| &t.steps).collect();
        assert!(matches!(steps[..], [Action { step: Step::SwapOff, .. }]), "{steps:?}");
        assert_eq!(steps[0].why, "active: /swapfile");
    }
}
