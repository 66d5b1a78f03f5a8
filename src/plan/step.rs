//! The steps of a transaction: what a node can be told to do, as data, as a line of the node's program and in words.

use crate::controls::IdList;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::why::Why;

use crate::desired::{Access, Blob, KubeadmAction, OnChange, Start};
use crate::os::PackageManager;

/// One step, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// What is done.
    pub step: Step,
    /// Controls that want it.
    #[serde(default, skip_serializing_if = "IdList::is_empty")]
    pub controls: IdList,
    /// What is different now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<Why>,
}

impl Action {
    /// What is different now, in words; empty for a step that goes with others.
    pub fn why_text(&self) -> String {
        let all: Vec<String> = self.why.iter().map(ToString::to_string).collect();
        all.join(", ")
    }
}

/// What a node can be told to do. `apply/node/txn.sh` has a branch of `run_step` for each, and one of
/// `take_images` for each that touches something: what was there goes into records, which `restore` reads (the
/// way back). A step without the latter is not undone. A test below wants a branch, or a row that says why
/// there is none; whether the way back leads there, `tests/apply.rs` says on nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    /// Install packages.
    Packages {
        /// `apt` or `dnf`.
        manager: PackageManager,
        /// Package names.
        names: Vec<String>,
    },
    /// Make a system user and group.
    User {
        /// Its name.
        name: String,
        /// Its home directory.
        home: String,
    },
    /// Make a directory, or set its owner and mode.
    Directory {
        /// Absolute path.
        path: String,
        /// Owner, group and mode.
        access: Access,
    },
    /// Set owner and mode of something that exists.
    Permissions {
        /// Absolute path.
        path: String,
        /// Owner, group and mode.
        access: Access,
    },
    /// Put files into one directory, each at once.
    Files {
        /// The directory.
        directory: String,
        /// By file name.
        files: BTreeMap<String, NewFile>,
    },
    /// Put a file of a bundle into its place. It was sent to the node before.
    Program {
        /// Absolute path.
        path: String,
        /// What it holds.
        blob: Blob,
        /// Owner, group and mode.
        access: Access,
    },
    /// Take the images of an archive into containerd. It was sent to the node before.
    Images {
        /// The archive.
        archive: Blob,
        /// References of the images in it.
        references: Vec<String>,
    },
    /// Make the node part of the cluster, or configure its components anew.
    #[serde(rename = "member")]
    Kubeadm {
        /// How it becomes one.
        action: KubeadmAction,
        /// Digest of the configuration, recorded when it took effect.
        mark: String,
    },
    /// Start an etcd without data once with the current members, so that it joins them. Data of a former member is
    /// moved aside.
    EtcdJoin {
        /// `NAME=PEER-URL` of every member and of itself, with commas between.
        members: String,
    },
    /// Stop etcd's static pod, and give its data to the user of the service that goes on with them.
    EtcdFromPod {
        /// Absolute path of its manifest.
        manifest: String,
    },
    /// Wait until the static pod of a component runs with the manifest that was put in place, and answers.
    StaticPod {
        /// Name of the component.
        component: String,
        /// Absolute path of its manifest.
        manifest: String,
    },
    /// Note that a daemon runs with changes made on the node: what would show that is mended by this
    /// transaction, and the daemon is started again by a later one, which may not come.
    MarkStale {
        /// Unit name, or that of the member's mark.
        unit: String,
    },
    /// Delete a file.
    Remove {
        /// Absolute path.
        path: String,
    },
    /// From here on, the node rolls back by itself.
    Arm {
        /// Seconds until it does.
        within_s: u32,
    },
    /// `systemctl daemon-reload`.
    DaemonReload,
    /// Set a running kernel's value.
    Sysctl {
        /// Dotted key.
        key: String,
        /// Value.
        value: String,
    },
    /// Load a kernel module.
    Module {
        /// Its name.
        name: String,
    },
    /// Switch swap off, also in /etc/fstab.
    SwapOff,
    /// Load our nftables table in one nft transaction.
    Firewall {
        /// Rules file on the node.
        path: String,
    },
    /// Remove our nftables table.
    FirewallAbsent,
    /// `sshd -t`.
    CheckSshd,
    /// Check that every login that works now still works, by sshd's own answer, before it reloads.
    CheckLogins {
        /// Logins that will stop working, as the plan's notes say.
        without: Vec<String>,
    },
    /// Bring a systemd unit into a state.
    Unit {
        /// Unit name.
        name: String,
        /// Enable or disable; absent leaves it.
        enable: Option<bool>,
        /// Start or stop; absent leaves it.
        run: Option<bool>,
        /// What to do to it if it runs already.
        change: OnChange,
        /// Digest of its configuration, recorded when it was started with it.
        mark: Option<String>,
        /// Whether to wait for it.
        start: Start,
    },
    /// Read back the digests of all files that were put in place.
    Verify,
    /// Load what a boot would load, and hold established connections to the new rules until the confirmation.
    Prove,
}

/// A file to be put in place. Its content is not part of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewFile {
    /// Lower-case hexadecimal SHA-256 of the content.
    pub sha256: String,
    /// Size in bytes.
    pub size: u64,
    /// Owner, group and mode.
    pub access: Access,
    /// The content must never be shown.
    pub secret: bool,
    /// Whether a file is there already.
    pub replaces: bool,
}

/// A field that cannot be written as part of a step line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be part of a step: it is empty or contains `|`, a line break or another control character"
)]
pub struct UnfitField(String);

fn field(text: &str) -> Result<&str, UnfitField> {
    if text.is_empty() || text.contains('|') || text.chars().any(char::is_control) {
        Err(UnfitField(text.to_owned()))
    } else {
        Ok(text)
    }
}

/// Letters, digits and a few signs, not starting with `-`: for words that a command takes as arguments.
fn word(text: &str) -> Result<&str, UnfitField> {
    let fit = !text.is_empty()
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:@+~".contains(&b));
    if fit { Ok(text) } else { Err(UnfitField(text.to_owned())) }
}

/// Whether a text can be a word of a step.
pub(super) fn is_word(text: &str) -> bool {
    word(text).is_ok()
}

/// `NAME=URL`, with commas between; systemd reads them in a file of variables.
fn peers(text: &str) -> Result<&str, UnfitField> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/=,[]".contains(&b);
    let fit = !text.is_empty() && text.bytes().all(plain);
    if fit { Ok(text) } else { Err(UnfitField(text.to_owned())) }
}

fn path(text: &str) -> Result<&str, UnfitField> {
    let plain = text.starts_with('/')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:@+~/,=".contains(&b))
        && !text.split('/').any(|c| c == ".." || c == ".")
        // tar takes names without their first slash.
        && !text.starts_with("/-");
    if plain { Ok(text) } else { Err(UnfitField(text.to_owned())) }
}

impl Step {
    /// The line that `txn.sh` reads, without the row of which a step may be the first (`payload`). `group` numbers the
    /// staged tree of a [`Step::Files`].
    ///
    /// # Errors
    /// If a name or path holds anything that has a meaning of its own on the way.
    pub fn line(&self, group: usize) -> Result<String, UnfitField> {
        let access = |a: &Access| -> Result<String, UnfitField> {
            Ok(format!("{}|{}|{:04o}", word(&a.owner)?, word(&a.group)?, a.mode))
        };
        Ok(match self {
            Step::Packages { manager, names } => {
                let names: Result<Vec<&str>, _> = names.iter().map(|n| word(n)).collect();
                format!("package-{manager}|{}", names?.join(" "))
            }
            Step::User { name, home } => format!("user|{}|{}", word(name)?, path(home)?),
            Step::Directory { path: p, access: a } => format!("dir|{}|{}", path(p)?, access(a)?),
            Step::Permissions { path: p, access: a } => format!("mode|{}|{}", path(p)?, access(a)?),
            Step::Files { directory, .. } => format!("files|{group}|{}", path(directory)?),
            Step::Program { path: p, blob, access: a } => {
                format!("program|{}|{}|{}", word(&blob.sha256)?, path(p)?, access(a)?)
            }
            Step::Images { archive, references } => {
                format!("images|{}|{}", word(&archive.sha256)?, field(&references.join(" "))?)
            }
            Step::Kubeadm { action, mark } => {
                let verb = match action {
                    KubeadmAction::Init => "init",
                    KubeadmAction::Join => "join",
                    KubeadmAction::Configure => "configure",
                };
                format!("member|{verb}|{}", word(mark)?)
            }
            Step::EtcdJoin { members } => format!("etcd-join|{}", peers(members)?),
            Step::EtcdFromPod { manifest } => format!("etcd-from-pod|{}", path(manifest)?),
            Step::StaticPod { component, manifest } => {
                format!("static-pod|{}|{}", word(component)?, path(manifest)?)
            }
            Step::MarkStale { unit } => format!("stale|{}", word(unit)?),
            Step::Remove { path: p } => format!("remove|{}", path(p)?),
            Step::Arm { within_s } => format!("arm|{within_s}"),
            Step::DaemonReload => "daemon-reload".into(),
            Step::Sysctl { key, value } => format!("sysctl|{}|{}", word(key)?, field(value)?),
            Step::Module { name } => format!("module|{}", word(name)?),
            Step::SwapOff => "swapoff".into(),
            Step::Firewall { path: p } => format!("firewall|{}", path(p)?),
            Step::FirewallAbsent => "firewall-absent".into(),
            Step::CheckSshd => "check-sshd".into(),
            Step::CheckLogins { without } => {
                let names: Result<Vec<&str>, _> = without.iter().map(|n| word(n)).collect();
                format!("check-logins|{}", names?.join(","))
            }
            Step::Unit { name, enable, run, change, mark, start } => {
                let flag = |f: &Option<bool>| match f {
                    None => "-",
                    Some(true) => "yes",
                    Some(false) => "no",
                };
                format!(
                    "unit|{}|{}|{}|{}|{}|{}",
                    word(name)?,
                    flag(enable),
                    flag(run),
                    match change {
                        OnChange::Nothing => "-",
                        OnChange::Reload => "reload",
                        OnChange::Restart => "restart",
                    },
                    mark.as_deref().map_or(Ok("-"), word)?,
                    match start {
                        Start::Wait => "wait",
                        Start::NoWait => "nowait",
                    }
                )
            }
            Step::Verify => "verify".into(),
            Step::Prove => "prove".into(),
        })
    }
}

impl fmt::Display for PackageManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            PackageManager::Apt => "apt",
            PackageManager::Dnf => "dnf",
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Packages { names, .. } => write!(f, "install {}", names.join(", ")),
            Step::User { name, .. } => write!(f, "create system user {name}"),
            Step::Directory { path, access } => write!(f, "create directory {path} {access}"),
            Step::Permissions { path, access } => write!(f, "set {path} to {access}"),
            Step::Files { directory, files } if files.len() == 1 => {
                let (name, file) = files.iter().next().expect("the guard says there is one");
                let verb = if file.replaces { "replace" } else { "write" };
                write!(f, "{verb} {}/{name} {}", directory.trim_end_matches('/'), file.access)
            }
            Step::Files { directory, files } => {
                let names: Vec<&str> = files.keys().map(String::as_str).collect();
                write!(f, "write {} files in {directory}: {}", files.len(), names.join(" "))
            }
            Step::Program { path, blob, access } => {
                write!(f, "install {path} {access} ({} MB)", blob.size.div_ceil(1_000_000))
            }
            Step::Images { archive, references } => {
                let size = archive.size.div_ceil(1_000_000);
                write!(f, "import {} ({size} MB)", references.join(", "))
            }
            Step::Kubeadm { action: KubeadmAction::Init, .. } => f.write_str("start the cluster (kubeadm init)"),
            Step::Kubeadm { action: KubeadmAction::Join, .. } => f.write_str("join the cluster (kubeadm join)"),
            Step::Kubeadm { action: KubeadmAction::Configure, .. } => {
                f.write_str("reconfigure the node's Kubernetes components (kubeadm init phase)")
            }
            Step::EtcdJoin { members } => write!(f, "join the etcd cluster {members}"),
            Step::EtcdFromPod { manifest } => {
                write!(f, "stop etcd's static pod, remove {manifest}, and give its data to user etcd")
            }
            Step::StaticPod { component, .. } => write!(f, "restart static pod {component} and wait until it is ready"),
            Step::MarkStale { unit } => write!(f, "mark {unit} for a restart"),
            Step::Remove { path } => write!(f, "remove {path}"),
            Step::Arm { within_s } => {
                write!(f, "arm: roll back automatically unless confirmed within {within_s} s")
            }
            Step::DaemonReload => f.write_str("reload systemd's unit files"),
            Step::Sysctl { key, value } => write!(f, "sysctl {key} = {value}"),
            Step::Module { name } => write!(f, "load module {name}"),
            Step::SwapOff => f.write_str("turn off swap"),
            Step::Firewall { path } => write!(f, "load nftables table inet kubastion from {path}"),
            Step::FirewallAbsent => f.write_str("remove nftables table inet kubastion"),
            Step::CheckSshd => f.write_str("test sshd's configuration"),
            Step::CheckLogins { without } => {
                f.write_str("check with sshd that every login still works")?;
                if without.is_empty() { Ok(()) } else { write!(f, ", except {}", without.join(", ")) }
            }
            Step::Unit { name, enable, run, change, .. } => {
                let mut words = Vec::new();
                match enable {
                    Some(true) => words.push("enable"),
                    Some(false) => words.push("disable"),
                    None => {}
                }
                match (run, change) {
                    (Some(true), OnChange::Restart) => words.push("(re)start"),
                    (Some(true), OnChange::Reload) => words.push("reload"),
                    (Some(true), OnChange::Nothing) => words.push("start"),
                    (Some(false), _) => words.push("stop"),
                    (None, _) => {}
                }
                write!(f, "{} {name}", words.join(" and "))
            }
            Step::Verify => f.write_str("verify all digests"),
            Step::Prove => f.write_str(
                "load what the next boot would load, and apply the new rules to existing connections until the confirmation",
            ),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o} {}:{}", self.mode, self.owner, self.group)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// One of each kind, by the one before: the compiler wants a row for a new one.
    fn next(step: Option<&Step>) -> Option<Step> {
        let path = || "/a".to_owned();
        let name = || "a".to_owned();
        let access = Access::root(0o600);
        let blob = Blob { sha256: name(), size: 1 };
        let Some(step) = step else {
            let names = vec![name()];
            return Some(Step::Packages { manager: PackageManager::Apt, names });
        };
        Some(match step {
            Step::Packages { manager: PackageManager::Apt, names } => {
                Step::Packages { manager: PackageManager::Dnf, names: names.clone() }
            }
            Step::Packages { .. } => Step::User { name: name(), home: path() },
            Step::User { .. } => Step::Directory { path: path(), access },
            Step::Directory { .. } => Step::Permissions { path: path(), access },
            Step::Permissions { .. } => Step::Files { directory: path(), files: BTreeMap::new() },
            Step::Files { .. } => Step::Program { path: path(), blob, access },
            Step::Program { .. } => Step::Images { archive: blob, references: vec![name()] },
            Step::Images { .. } => Step::Kubeadm { action: KubeadmAction::Init, mark: name() },
            Step::Kubeadm { .. } => Step::EtcdJoin { members: "a=https://[::1]:2380".into() },
            Step::EtcdJoin { .. } => Step::EtcdFromPod { manifest: path() },
            Step::EtcdFromPod { .. } => Step::StaticPod { component: name(), manifest: path() },
            Step::StaticPod { .. } => Step::MarkStale { unit: name() },
            Step::MarkStale { .. } => Step::Remove { path: path() },
            Step::Remove { .. } => Step::Arm { within_s: 1 },
            Step::Arm { .. } => Step::DaemonReload,
            Step::DaemonReload => Step::Sysctl { key: name(), value: name() },
            Step::Sysctl { .. } => Step::Module { name: name() },
            Step::Module { .. } => Step::SwapOff,
            Step::SwapOff => Step::Firewall { path: path() },
            Step::Firewall { .. } => Step::FirewallAbsent,
            Step::FirewallAbsent => Step::CheckSshd,
            Step::CheckSshd => Step::CheckLogins { without: vec![name()] },
            Step::CheckLogins { .. } => Step::Unit {
                name: name(),
                enable: None,
                run: None,
                change: OnChange::Nothing,
                mark: None,
                start: Start::Wait,
            },
            Step::Unit { .. } => Step::Verify,
            Step::Verify => Step::Prove,
            Step::Prove => return None,
        })
    }

    const TXN: &str = crate::apply::TXN_SCRIPT;

    /// The text of a function of `txn.sh`.
    fn function(name: &str) -> &'static str {
        let start = TXN.find(&format!("\n{name}() {{")).unwrap_or_else(|| panic!("no {name}"));
        let text = &TXN[start + 1..];
        &text[..text.find("\n}\n").unwrap()]
    }

    /// The first words of case branches with this indentation.
    fn branches(text: &str, indent: usize) -> BTreeSet<&str> {
        let label = |line: &'static str| -> Option<&'static str> {
            let rest = line.strip_prefix(&*" ".repeat(indent))?;
            let label = rest.split_once(')')?.0;
            let plain = |c: char| c.is_ascii_lowercase() || "-| ".contains(c);
            (!rest.starts_with(' ') && label.chars().all(plain)).then_some(label)
        };
        let start = TXN.find(text).unwrap();
        let text = &TXN[start..start + text.len()];
        text.lines().filter_map(label).flat_map(|l| l.split(" | ")).collect()
    }

    /// Steps that are not undone, and why.
    const NOT_UNDONE: &[(&str, &str)] = &[
        ("package-apt", "a package that is taken away takes along what needs it"),
        ("package-dnf", "the same"),
        ("images", "the kubelet collects what nothing uses"),
        ("static-pod", "its manifest is a file, and the kubelet starts what that says"),
        ("module", "others may use it meanwhile, and a boot does without"),
        ("arm", "it is the way back"),
        ("daemon-reload", "restore does it too"),
        ("check-sshd", "changes nothing"),
        ("check-logins", "changes nothing"),
        ("prove", "what it loads is loaded already, or is removed by the decision"),
        ("verify", "changes nothing"),
    ];

    #[test]
    fn every_step_is_carried_out_and_has_a_way_back_or_says_why_not() {
        let mut kinds = BTreeSet::new();
        let mut step = next(None);
        while let Some(s) = step {
            let line = s.line(0).unwrap();
            kinds.insert(line.split('|').next().unwrap().to_owned());
            step = next(Some(&s));
        }
        let kinds: BTreeSet<&str> = kinds.iter().map(String::as_str).collect();
        assert_eq!(branches(function("run_step"), 4), kinds);
        let images = branches(function("take_images"), 8);
        let lasting: BTreeSet<&str> = NOT_UNDONE.iter().map(|(kind, _)| *kind).collect();
        assert!(images.is_disjoint(&lasting), "{images:?}");
        assert_eq!(images.union(&lasting).copied().collect::<BTreeSet<_>>(), kinds);
    }

    #[test]
    fn every_record_of_what_was_there_is_read_on_the_way_back() {
        let takes =
            ["image_path", "image_unit", "image_tables", "take_images"].map(function).concat();
        // A record is the first word of what is written: `'word|...'`.
        let code = takes.lines().filter(|l| !l.trim_start().starts_with('#'));
        let quoted = code.flat_map(|l| l.split('\'').skip(1).step_by(2));
        let words = quoted.filter_map(|t| t.split_once('|'));
        let written: BTreeSet<&str> = words
            .map(|(word, _)| word)
            .filter(|w| !w.is_empty() && w.chars().all(|c| c.is_ascii_lowercase()))
            .collect();
        assert!(written.contains("sysctl") && written.len() > 8, "{written:?}");
        let restore = function("restore");
        let mut read = branches(restore, 8);
        read.extend(written.iter().filter(|w| restore.contains(&format!("'^{w}|"))));
        // What `restore` leaves to a node's way out of its cluster.
        let leaving = crate::apply::MEMBER_SCRIPT;
        read.extend(written.iter().filter(|w| leaving.contains(&format!("'s/^{w}|"))));
        // For a reset alone: what is in there is not ours to delete.
        read.insert("data");
        let unread: Vec<_> = written.difference(&read).collect();
        assert!(unread.is_empty(), "restore does not read {unread:?}");
    }

    #[test]
    fn nothing_that_means_something_to_the_node_gets_into_a_line() {
        let unit = |name: &str| Step::Unit {
            name: name.into(),
            enable: None,
            run: Some(true),
            change: OnChange::Restart,
            mark: None,
            start: Start::Wait,
        };
        assert_eq!(unit("etcd.service").line(0).unwrap(), "unit|etcd.service|-|yes|restart|-|wait");
        for bad in
            ["a b", "a|b", "a\nb", "$(reboot)", "`x`", "-f", "a;b", "a'b", "", "a\0b", "\u{e9}"]
        {
            assert!(unit(bad).line(0).is_err(), "{bad:?}");
            assert!(Step::Module { name: bad.into() }.line(0).is_err(), "{bad:?}");
            let packages = Step::Packages { manager: PackageManager::Apt, names: vec![bad.into()] };
            assert!(packages.line(0).is_err(), "{bad:?}");
            let path = format!("/etc/{bad}");
            if !bad.is_empty() && bad != "-f" {
                assert!(Step::Remove { path }.line(0).is_err(), "{bad:?}");
            }
        }
        for bad in ["etc/x", "/etc/../shadow", "/etc/./x", "", "/-x/y"] {
            assert!(Step::Remove { path: bad.into() }.line(0).is_err(), "{bad:?}");
        }
        let sysctl = |value: &str| Step::Sysctl { key: "net.x".into(), value: value.into() };
        assert_eq!(sysctl("1 2 3").line(0).unwrap(), "sysctl|net.x|1 2 3");
        assert!(sysctl("1|2").line(0).is_err() && sysctl("1\n2").line(0).is_err());
    }
}
