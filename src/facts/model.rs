//! Facts about one node, as typed data.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::answers::Answers;
use super::observation::Observation;
use crate::inventory::NodeName;
use crate::os::OsFamily;

/// What to look at on a node, beside what is asked of every node: the kernel and its mounts, /etc/passwd, sockets,
/// addresses, sshd's settings, nftables, and what earlier runs left below /var/lib/kubastion.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WatchList {
    /// Absolute paths: type, owner, mode, size and, for regular files, SHA-256.
    pub files: BTreeSet<String>,
    /// Those of the files that are large: where the node recorded their digest, that is taken if
    /// nothing about the file has changed since.
    pub programs: BTreeSet<String>,
    /// Digests of image archives.
    pub images: BTreeSet<String>,
    /// systemd units.
    pub units: BTreeSet<String>,
    /// sysctl keys in dotted form.
    pub sysctls: BTreeSet<String>,
    /// Kernel modules or built-in features.
    pub modules: BTreeSet<String>,
    /// Distribution packages.
    pub packages: BTreeSet<String>,
    /// Local users.
    pub users: BTreeSet<String>,
    /// Absolute paths of files whose text is read, each of them also in `files`. What looks like a
    /// secret is taken out on the node; ask for no file that is one.
    pub texts: BTreeSet<String>,
    /// The same for people to see, and not for checks: what others may not read, and kubastion did not
    /// write, stays on the node.
    pub shown: BTreeSet<String>,
    /// Absolute paths of directories of which everything below is listed, without following links
    /// or entering other file systems.
    pub trees: BTreeSet<String>,
    /// What sshd is to be told: `=SHA256 PATH` of the file, and its settings, `KEY VALUE`. Who would not get in with them is
    /// asked for as long as the file is another one.
    pub sshd: BTreeSet<String>,
    /// What costs programs of its own.
    pub extras: BTreeSet<Extra>,
}

/// Facts that cost programs of their own and are read only where they are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extra {
    /// Security modules of the kernel.
    Lsm,
    /// Whether the clock is synchronized.
    Time,
    /// Loaded audit rules.
    Audit,
    /// What sshd's files say of some connections only.
    SshdMatches,
    /// Whether the encryption keys are those of the key store.
    EncryptionKeys,
    /// What was recorded while the cluster is observed: the firewall's sets, and requests in the audit log.
    Observation,
}

impl WatchList {
    /// Everything that either list names.
    pub fn extend(&mut self, other: WatchList) {
        let WatchList {
            files,
            programs,
            images,
            units,
            sysctls,
            modules,
            packages,
            users,
            texts,
            shown,
            trees,
            sshd,
            extras,
        } = other;
        self.files.extend(files);
        self.programs.extend(programs);
        self.images.extend(images);
        self.units.extend(units);
        self.sysctls.extend(sysctls);
        self.modules.extend(modules);
        self.packages.extend(packages);
        self.users.extend(users);
        self.texts.extend(texts);
        self.shown.extend(shown);
        self.trees.extend(trees);
        self.sshd.extend(sshd);
        self.extras.extend(extras);
    }
}

/// Everything that was read from one node in one batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// Name in the inventory.
    pub node: NodeName,
    /// Host name as the kernel has it.
    pub hostname: String,
    /// Operating system, from /etc/os-release.
    pub os: Os,
    /// Machine architecture, `uname -m`.
    pub arch: String,
    /// Kernel release, `uname -r`.
    pub kernel: String,
    /// Changes at every boot.
    pub boot_id: String,
    /// The node's clock, seconds since 1970-01-01 UTC.
    pub clock_epoch_s: i64,
    /// Whether PID 1 is systemd.
    pub systemd: bool,
    /// Container technology the node runs in (`systemd-nspawn`, ...), if any.
    pub container: Option<String>,
    /// cgroup hierarchy at /sys/fs/cgroup: 1 or 2.
    pub cgroup_version: u8,
    /// Whether the kernel's audit subsystem can be used from this node.
    pub audit_usable: bool,
    /// Whether it is switched on, as `auditctl -s` says: 0, 1, or 2 where the rules are locked; `None` if
    /// it was not said.
    #[serde(default)]
    pub audit_enabled: Option<u8>,
    /// Whether sudo records the input of programs.
    #[serde(default)]
    pub input_kept: InputKept,
    /// Free bytes on the file system of /var/lib.
    pub var_free_bytes: u64,
    /// The file systems of the directories below /var/lib that grow (containerd's, etcd's, the
    /// kubelet's and ours), and of /var/lib itself, by directory; only those that are there.
    #[serde(default)]
    pub disks: BTreeMap<String, Disk>,
    /// Total memory in bytes.
    pub memory_bytes: u64,
    /// Processors that may be used.
    pub cpus: u64,
    /// Commands found in PATH, of those that later stages ask for; of the kubelet, which its unit names by it, each path too.
    pub commands: BTreeSet<String>,
    /// What containerd and etcd say about their version where no package manager installed them:
    /// the first line of `--version`, by program.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
    /// Installed versions of the watched packages; absent means not installed.
    pub packages: BTreeMap<String, String>,
    /// Those of the watched image archives whose images are all in containerd.
    #[serde(default)]
    pub images: BTreeSet<String>,
    /// State of the watched units.
    pub units: BTreeMap<String, UnitFacts>,
    /// Values of the watched sysctls; absent means that the kernel has no such key.
    pub sysctls: BTreeMap<String, String>,
    /// Watched modules that are loaded or built in.
    pub modules: BTreeSet<String>,
    /// Active swap areas.
    pub swaps: Vec<String>,
    /// State of every watched path.
    pub files: BTreeMap<String, FileFacts>,
    /// The watched users that exist, with uid and gid.
    pub users: BTreeMap<String, UserFacts>,
    /// Listening sockets; `None` if the node could not tell.
    pub listeners: Option<Vec<Listener>>,
    /// Addresses of the node's interfaces; empty if the node could not tell.
    #[serde(default)]
    pub addresses: Vec<InterfaceAddress>,
    /// Interfaces whose way out was told by a router (RFC 4861), with `accept_ra` as the kernel has it (1, or 2: also when
    /// they forward).
    #[serde(default)]
    pub advertised: BTreeMap<String, u8>,
    /// Effective sshd settings (`sshd -T`): lower-case key to values in order.
    pub sshd: BTreeMap<String, Vec<String>>,
    /// What sshd's files set below `Match` lines, which is not among the effective settings; `None` if
    /// the node could not tell.
    #[serde(default)]
    pub sshd_matches: Option<Vec<SshdMatch>>,
    /// Logins that work now, if sshd's settings are to change ([`WatchList::sshd`]); `None` if not asked, or if the node gave no
    /// answer.
    #[serde(default)]
    pub logins: Option<Vec<Login>>,
    /// Our nftables table, and the names of all others.
    pub nft: NftFacts,
    /// Digest of the configuration each managed unit was last (re)started with.
    pub unit_marks: BTreeMap<String, String>,
    /// Full command lines of the watched daemons, by process name.
    pub processes: BTreeMap<String, Vec<ProcessFacts>>,
    /// Transactions on the node that are not finished.
    pub open_transactions: Vec<OpenTransaction>,
    /// The text of every watched file that is there; `None` if it could not be read as text, or is
    /// longer than 5,000 lines.
    pub texts: BTreeMap<String, Option<String>>,
    /// Every watched directory that is there, with all below it.
    pub trees: BTreeMap<String, TreeFacts>,
    /// What was recorded of the cluster while it is observed, if it was asked for.
    #[serde(default)]
    pub observation: Option<Observation>,
    /// Security modules, if they were asked for.
    pub lsm: Option<LsmFacts>,
    /// Clock synchronization, if it was asked for.
    pub time: Option<TimeFacts>,
    /// SHA-256 of the secrets of the API server's encryption configuration, each on a line, in their order: they are
    /// random, so that it gives nothing away. `None` if not asked for or not there.
    #[serde(default)]
    pub encryption_keys_sha256: Option<String>,
    /// Whether every API server that runs was started after its encryption configuration was changed last, and so has it in
    /// effect; `None` if not asked for, if there is no file, or if none runs.
    #[serde(default)]
    pub encryption_in_effect: Option<bool>,
    /// Loaded audit rules as `auditctl -l` prints them; `None` if not asked for or not to be had.
    pub audit_rules: Option<Vec<String>>,
    /// Digests of the answer that all this was read from.
    #[serde(skip)]
    pub answers: Answers,
}

/// Whether sudo records the input of the programs that it runs (`log_input` of sudoers(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputKept {
    /// It does not, or there is no sudo.
    #[default]
    No,
    /// It does.
    Yes,
    /// There is a sudo, but this could not be determined.
    Unknown,
}

/// A file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// What the kernel tells file systems apart by, as statfs(2) has it; two directories with the same
    /// id share their room.
    pub id: String,
    /// Bytes that are free to others than root.
    pub free_bytes: u64,
}

/// Everything below a directory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TreeFacts {
    /// Whether the listing is whole and every line of it made sense.
    pub complete: bool,
    /// By path, the directory itself included.
    pub entries: BTreeMap<String, TreeEntry>,
}

/// An entry of a directory tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeEntry {
    /// Its type.
    pub kind: EntryKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner's name.
    pub owner: String,
    /// Group's name.
    pub group: String,
}

/// Type of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Socket, device or pipe.
    Other,
}

/// Security modules of the running kernel, from /sys.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LsmFacts {
    /// Names of active modules; empty if the kernel does not list them.
    pub active: Vec<String>,
    /// Whether AppArmor is enabled; `None` if the kernel has none.
    pub apparmor: Option<bool>,
    /// Whether SELinux enforces; `None` if the kernel has none.
    pub selinux_enforcing: Option<bool>,
}

/// Clock synchronization.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TimeFacts {
    /// The kernel's flag, as systemd tells it (`NTPSynchronized`).
    pub synchronized: Option<bool>,
    /// chrony's leap status (`chronyc tracking`), `Normal` when synchronized.
    pub chrony: Option<String>,
}

/// Operating system, from os-release(5).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Os {
    /// `ID`.
    pub id: String,
    /// `ID_LIKE`, split at spaces.
    pub like: Vec<String>,
    /// `VERSION_ID`.
    pub version: String,
    /// `PRETTY_NAME`.
    pub pretty: String,
}

impl Os {
    /// The family, or `None` for a system that is not supported.
    pub fn family(&self) -> Option<OsFamily> {
        OsFamily::of(std::iter::once(self.id.as_str()).chain(self.like.iter().map(String::as_str)))
    }
}

/// State of a systemd unit, in systemd's own words.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UnitFacts {
    /// `LoadState`: loaded, not-found, masked ...
    pub load: String,
    /// `ActiveState`: active, inactive, failed ...
    pub active: String,
    /// `SubState`: running, exited, dead ...
    pub sub: String,
    /// How it is started at boot: enabled, enabled-runtime, disabled, static, indirect, alias, masked
    /// or generated, as `systemctl is-enabled` says it, but that only links in places that the unit's own file names make it
    /// enabled, and ours need all of them; empty if there is no unit file. Enablement that
    /// only a drop-in's `[Install]` asks for is not looked at.
    pub file: String,
}

/// State of one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum FileFacts {
    /// Nothing is there.
    Absent,
    /// A regular file.
    File {
        /// Permission bits, as in 0o600.
        mode: u32,
        /// Owner's name, or uid where it has none.
        owner: String,
        /// Group's name, or gid where it has none.
        group: String,
        /// Size in bytes.
        size: u64,
        /// Lower-case hexadecimal SHA-256.
        sha256: String,
    },
    /// A directory.
    Directory {
        /// Permission bits.
        mode: u32,
        /// Owner's name.
        owner: String,
        /// Group's name.
        group: String,
    },
    /// A symbolic link. It is not followed.
    Symlink {
        /// Where it points.
        target: String,
    },
    /// A socket, device or pipe.
    Other {
        /// Permission bits.
        mode: u32,
        /// Owner's name.
        owner: String,
        /// Group's name.
        group: String,
    },
}

/// A local user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserFacts {
    /// Numeric user id.
    pub uid: u32,
    /// Numeric group id.
    pub gid: u32,
}

/// A listening socket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listener {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Local address; `0.0.0.0` and `::` mean any.
    pub address: String,
    /// Local port.
    pub port: u16,
}

/// A login that works over SSH now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Name of the account.
    pub name: String,
    /// Where they come from: where this was asked from, or where they came from last.
    pub address: String,
    /// Why it would no longer work with the new sshd settings; `None` if it would.
    pub lost: Option<LostLogin>,
}

/// Why a login would no longer work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LostLogin {
    /// What it authenticates with will be off; in the node's words.
    Method(String),
    /// Something else shuts it out; in the node's words.
    Other(String),
}

impl std::fmt::Display for LostLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LostLogin::Method(why) | LostLogin::Other(why) => f.write_str(why),
        }
    }
}

/// A setting of sshd for some connections only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshdMatch {
    /// The file that it is in.
    pub file: String,
    /// Keyword, in lower case.
    pub key: String,
    /// Value.
    pub value: String,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InterfaceAddress {
    /// Name of the interface.
    pub interface: String,
    /// The address with the length of its network.
    pub network: ipnet::IpNet,
}

/// nftables as seen on the node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NftFacts {
    /// Whether `nft list tables` worked.
    pub usable: bool,
    /// SHA-256 of `nft -s list table inet kubastion` without what is recorded there, if the table exists.
    pub own_listing_sha256: Option<String>,
    /// The listing digest recorded when a table was last loaded, and the digest of the file it came from.
    pub recorded: Option<NftRecord>,
    /// Names of the tables that are not ours, `family name`.
    pub foreign_tables: Vec<String>,
    /// Those of them that drop what none of their rules lets in: the hook and the table.
    #[serde(default)]
    pub foreign_drops: BTreeSet<(String, String)>,
}

/// What was recorded when our table was last loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NftRecord {
    /// SHA-256 of the rules file.
    pub file_sha256: String,
    /// SHA-256 of the listing right after loading it.
    pub listing_sha256: String,
}

/// Name of the mark of a node that kubastion has configured as a part of the cluster, among those of units.
pub const CLUSTER_MARK: &str = "kubernetes";

/// A running process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessFacts {
    /// Process id.
    pub pid: u32,
    /// User name of the real uid.
    pub user: String,
    /// Argument vector.
    pub argv: Vec<String>,
}

/// A transaction that was begun on the node and neither confirmed nor reverted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenTransaction {
    /// Its id.
    pub id: String,
    /// Its state as the node has it.
    pub state: String,
}

impl OpenTransaction {
    /// Whether its rollback failed in part: it needs an operator, since neither a run nor a timer finishes it.
    pub fn is_incomplete(&self) -> bool {
        self.state == "incomplete"
    }
}

impl NodeFacts {
    /// Whether an etcd member runs. A process of that name under another user is not one that a plan knows.
    pub fn runs_etcd(&self) -> bool {
        let ours = |p: &ProcessFacts| matches!(p.user.as_str(), "etcd" | "root");
        self.processes.get("etcd").is_some_and(|p| p.iter().any(ours))
    }
}

#[cfg(test)]
impl NodeFacts {
    /// A machine on which nothing was done yet. Benchmarks read the same fixture: what it lacks, every test
    /// that takes it notices.
    pub(crate) fn bare(node: &str) -> Self {
        let text = include_str!("../../tests/fixtures/bare-facts.json");
        let mut facts: Self = serde_json::from_str(text).expect("the fixture has every fact");
        facts.node = node.parse().expect("a test names nodes that can be");
        facts.hostname = node.to_owned();
        facts
    }
}

/// `/a/b/c` has `/a` and `/a/b`.
pub(crate) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').skip(1).map(|(i, _)| &path[..i])
}
