//! The live state of a node, as typed data.

use std::collections::{BTreeMap, BTreeSet};

use crate::facts::answers::Answers;

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiveRequest {
    /// Names of programs whose processes are looked at, by the file that runs and by the process' name.
    pub programs: BTreeSet<String>,
    /// systemd units.
    pub units: BTreeSet<String>,
    /// Absolute paths: who may write them, and when they were changed. Ask for their parents, too.
    pub paths: BTreeSet<String>,
    /// Kernel settings of each interface: `ipv4` or `ipv6`, and the last part of the key.
    pub interface_keys: BTreeSet<(String, String)>,
    /// Directories that are searched for kubeconfigs.
    pub homes: BTreeSet<String>,
}

/// Values by family and key, then by interface.
pub type InterfaceSettings = BTreeMap<(String, String), BTreeMap<String, String>>;

/// SHA-256 in hexadecimal by absolute path.
pub type FileDigests = BTreeMap<String, String>;

/// What is in effect.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LiveFacts {
    /// Processes of the programs that were asked for, on the node and in pods.
    pub processes: Vec<LiveProcess>,
    /// Files of configuration and keys with their SHA-256, by path, as the node sees them; empty if no process is in a
    /// mount namespace of its own.
    pub files: FileDigests,
    /// The same as each process sees them that is in a mount namespace of its own, by process id.
    pub inside: BTreeMap<u32, FileDigests>,
    /// Listening sockets with their owners; `None` if the node could not tell.
    pub sockets: Option<Vec<LiveSocket>>,
    /// Units.
    pub units: BTreeMap<String, LiveUnit>,
    /// The paths that were asked for and are there; of links also where they lead.
    pub paths: BTreeMap<String, PathAccess>,
    /// Mounts over directories of configuration and programs that came or went since the boot; `None` if the journal was not
    /// read.
    pub mounts: Option<Vec<MountChange>>,
    /// Programs in /usr/local/sbin and /usr/local/bin of a name that the directories of packages have, too; `None` if these
    /// were not looked through.
    pub shadows: Option<Vec<String>>,
    /// What is below directories that others put files into.
    pub trees: BTreeMap<String, PathAccess>,
    /// Paths of keys and configuration with an access control list (acl(5)), which gives rights that the mode does not show; `None`
    /// if they were not listed.
    pub acls: Option<Vec<String>>,
    /// Settings of each interface, by family and key (`ipv4`, `send_redirects`), then by interface; `all` and
    /// `default` among them.
    pub interfaces: InterfaceSettings,
    /// The files of sysctl.d(5) with their texts, of which the first 64 KiB are read and one byte more if there is more: /usr/lib
    /// first, /etc last.
    pub sysctl_files: Vec<(String, String)>,
    /// Our table, as `nft -j list table` prints it.
    pub rules: Option<serde_json::Value>,
    /// Chains of other tables with their rules, as `nft -j list chain` prints them, but for those of kube-proxy and of
    /// pods' networks; `None` if nft gave no answer.
    pub foreign_rules: Option<Vec<serde_json::Value>>,
    /// Lines of iptables-save(8) of the older kind, whose rules nft does not show; `None` if there are none.
    pub legacy_rules: Option<Vec<String>>,
    /// Containers of containerd that belong to no pod, as `NAMESPACE/ID`; `None` if containerd was not asked or gave no answer.
    pub other_containers: Option<Vec<String>>,
    /// What is no regular file where programs read all that they find; `None` if nobody looked.
    pub irregular: Option<Vec<Irregular>>,
    /// Names of variables that systemd gives to everything that it starts; `None` if it told none.
    pub manager: Option<Vec<String>>,
    /// Files of systemd's own configuration that set such variables, with names in them.
    pub manager_files: Vec<(String, Vec<String>)>,
    /// Files that daemons run, that answer for names and that OpenSSL loads, and that no package brought; `None` if no package
    /// manager answered.
    pub unowned: Option<BTreeSet<String>>,
    /// What OpenSSL's configuration loads: the file that says so, and the module.
    pub openssl_modules: Option<Vec<(String, String)>>,
    /// Files of packages that differ from what the packages brought, of some packages: the manager's letters and the path;
    /// `None` if they were not compared.
    pub changed_files: Option<Vec<(String, String)>>,
    /// Programs that run as their owner or group; `None` if not all were found in time.
    pub set_id: Option<Vec<SetId>>,
    /// Programs with file capabilities, and which those are (`None` if that could not be read); `None` if not all were found.
    pub capable: Option<Vec<(String, Option<u64>)>>,
    /// Files with a private key that everybody can read, outside of the system's directories; `None` if not all were found.
    pub readable_keys: Option<Vec<String>>,
    /// The node's clock, seconds since 1970-01-01 UTC.
    pub now_s: f64,
    /// From when to when the journal of this boot tells; `None` if it is empty or was not read.
    pub journal: Option<Journal>,
    /// Accounts as /etc/passwd and /etc/shadow have them.
    pub accounts: Option<Accounts>,
    /// apt's settings about updates: name and value, lists with one row an item.
    pub apt: Option<Vec<(String, String)>>,
    /// Files with sources of apt's and their texts, of which the first 64 KiB are read and one byte more if there is more.
    pub apt_sources: Vec<(String, String)>,
    /// Packages that are not upgraded (`apt-mark hold`).
    pub held: Vec<String>,
    /// Priorities of apt's package sources, but for what is installed; `None` if apt told nothing.
    pub sources: Option<Vec<i64>>,
    /// Kubeconfigs in home directories; `None` if they were too many or could not be read to the end in time.
    pub kubeconfigs: Option<Vec<HomeKubeconfig>>,
    /// What our firewall file makes of a network without rules, as `nft -j list table` prints it.
    pub file_rules: Option<serde_json::Value>,
    /// Libraries that stand before one of the same name in a directory of the distribution; `None` if ldconfig told nothing.
    pub shadowed_libraries: Option<Vec<String>>,
    /// Packages that want a reboot; `None` if none is due.
    pub reboot_required: Option<Vec<String>>,
    /// Digests of the answer that all this was read from.
    pub answers: Answers,
}

/// Accounts of which there should be no other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accounts {
    /// Names with user id 0.
    pub root: Vec<String>,
    /// Names with an empty password.
    pub without_password: Vec<String>,
    /// Names in root's group beside root, or with it as their own and a shell.
    pub of_root_group: Vec<String>,
}

/// A pipe, socket or device in a directory of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Irregular {
    /// What it is, in a word.
    pub kind: &'static str,
    /// Its path.
    pub path: String,
}

/// A program that runs as its owner or group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetId {
    /// Permission bits.
    pub mode: u32,
    /// Owner's name.
    pub owner: String,
    /// Group's name.
    pub group: String,
    /// Its path.
    pub path: String,
}

/// What the journal reaches from and to, of this boot.
#[derive(Debug, Clone, PartialEq)]
pub struct Journal {
    /// Its first entry, seconds since 1970-01-01 UTC.
    pub began_s: f64,
    /// Its last entry.
    pub ended_s: f64,
    /// Whether journald has put aside a file that was full.
    pub was_rotated: bool,
    /// Whether systemd writes to it of what it mounts.
    pub has_mounts: bool,
}

/// A running process.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveProcess {
    /// Process id.
    pub pid: u32,
    /// Its parent.
    pub parent: u32,
    /// When it began, seconds since 1970-01-01 UTC by the node's clock as it goes now.
    pub began_s: f64,
    /// Name, as the kernel has it.
    pub comm: String,
    /// Owner.
    pub user: String,
    /// The file that it runs, with ` (deleted)` behind it if that was replaced since.
    pub program: String,
    /// Whether it is in the node's own network, and not in that of a pod.
    pub on_node: bool,
    /// Argument vector.
    pub argv: Vec<String>,
    /// Names of its environment variables.
    pub environment: BTreeSet<String>,
    /// The directories of its `PATH`; empty if it has none.
    pub path: Vec<String>,
    /// Files that it runs code of; empty if they could not be read, or if its root directory is not the node's.
    pub mapped: Vec<String>,
}

/// A listening socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSocket {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Local address; `0.0.0.0` and `::` mean any.
    pub address: String,
    /// Local port.
    pub port: u16,
    /// Process ids of those who hold it.
    pub owners: BTreeSet<u32>,
}

/// A unit, in systemd's words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiveUnit {
    /// `LoadState`.
    pub load: String,
    /// `ActiveState`.
    pub active: String,
    /// `FragmentPath`: the unit's file; empty if it has none.
    pub fragment: String,
    /// `DropInPaths`.
    pub drop_ins: Vec<String>,
    /// `NeedDaemonReload`: whether files were changed since systemd read them.
    pub needs_reload: bool,
    /// `MainPID`; 0 if there is none.
    pub main_pid: u32,
    /// When its state changed last (a reload changes it), seconds since 1970-01-01 UTC; `None` if never.
    pub changed_s: Option<StateChange>,
}

/// Seconds since 1970-01-01 UTC, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StateChange(pub i64);

/// Type of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Link,
    /// Socket, device or pipe.
    Other,
}

/// Who may write a path, and when it was changed.
#[derive(Debug, Clone, PartialEq)]
pub struct PathAccess {
    /// Its type; links are not followed.
    pub kind: PathKind,
    /// Permission bits. With an ACL the group's bits are the most that it gives to anybody (acl(5)).
    pub mode: u32,
    /// Owner's user id.
    pub uid: u32,
    /// Owner's name.
    pub owner: String,
    /// When content or access was changed last (st_ctime), seconds since 1970-01-01 UTC.
    pub changed_s: f64,
    /// Where a link leads.
    pub target: String,
}

/// A file system that was mounted or unmounted, as systemd noted in the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct MountChange {
    /// Where.
    pub path: String,
    /// When, seconds since 1970-01-01 UTC.
    pub at_s: f64,
}

/// A kubeconfig in a home directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeKubeconfig {
    /// Its path.
    pub path: String,
    /// Its client certificates, PEM.
    pub certificates: Vec<String>,
    /// Its permission bits; `None` if they were not read.
    pub mode: Option<u32>,
}
