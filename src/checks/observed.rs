//! What checks look at: a node, or what was rendered for one.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::checks::cluster::sources::Lists;
use crate::checks::model::Verdict;
use crate::checks::node::staged::{KUBEADM_INIT, Staged};
use crate::checks::source::{Machine, Source, SourceKind};
use crate::controls::Daemon;
use crate::desired::{Access, Content, Item, ItemKind, NodeDesired};
use crate::digest::Digest;
use crate::facts::answers::{Answers, Part, Program};
use crate::facts::cluster::{self, ClusterFacts, ObjectKind};
use crate::facts::live::LiveFacts;
use crate::facts::{
    FileFacts, Listener, LsmFacts, NftFacts, NodeFacts, ProcessFacts, SshdMatch, TimeFacts,
    TreeFacts, UnitFacts,
};

use crate::inventory::NodeName;

/// Unit file of etcd, whose command line is judged before there is a process.
pub(super) const ETCD_UNIT: &str = "/etc/systemd/system/etcd.service";
/// Our rules file.
pub(super) const FIREWALL_FILE: &str = "/etc/kubastion/firewall.nft";
/// Packages that bring containerd.
pub(super) const CONTAINERD_PACKAGES: &[&str] = &["containerd", "containerd.io"];
/// Our sshd drop-in.
pub(super) const SSHD_DROP_IN: &str = "/etc/ssh/sshd_config.d/00-kubastion.conf";

/// Where an [`Observed`] comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A node answered.
    Node,
    /// Rendered for a node that may not exist yet.
    Rendered,
}

/// Everything a check can look at. `None` means that it could not be looked at.
#[derive(Debug, Clone)]
pub struct Observed {
    /// Where it comes from.
    pub origin: Origin,
    /// State of paths.
    pub files: BTreeMap<String, FileFacts>,
    /// Text of files.
    pub texts: BTreeMap<String, Option<String>>,
    /// Everything below some directories.
    pub trees: Option<BTreeMap<String, TreeFacts>>,
    /// sysctl values.
    pub sysctls: BTreeMap<String, String>,
    /// systemd units.
    pub units: BTreeMap<String, UnitFacts>,
    /// Installed packages; before apply, those that will be installed.
    pub packages: BTreeMap<String, String>,
    /// What programs that no package brought say about their version.
    pub versions: BTreeMap<String, String>,
    /// Effective settings of sshd.
    pub sshd: Option<BTreeMap<String, Vec<String>>>,
    /// What its files set for some connections only.
    pub sshd_matches: Option<Vec<SshdMatch>>,
    /// Listening sockets.
    pub listeners: Option<Vec<Listener>>,
    /// Processes of daemons, by process name.
    pub processes: Option<BTreeMap<String, Vec<ProcessFacts>>>,
    /// Active swap areas.
    pub swaps: Option<Vec<String>>,
    /// nftables.
    pub nft: Option<NftFacts>,
    /// SHA-256 of the rules file that the inventory makes for the node; `None` if that is not known.
    pub wanted_firewall_sha256: Option<String>,
    /// Certificates (DER) that each file of CAs should hold, by path; `None` without the key store.
    pub trusted_cas: Option<BTreeMap<&'static str, Vec<Vec<u8>>>>,
    /// Security modules.
    pub lsm: Option<LsmFacts>,
    /// Clock synchronization.
    pub time: Option<TimeFacts>,
    /// Loaded audit rules.
    pub audit_rules: Option<Vec<String>>,
    /// Whether the kernel's audit subsystem can be used.
    pub audit_usable: bool,
    /// Whether it is switched on (1, 2 with rules that are locked).
    pub audit_enabled: Option<u8>,
    /// Container technology the node runs in.
    pub container: Option<String>,
    /// cgroup hierarchy.
    pub cgroup_version: Option<u8>,
    /// Configuration that is on the node for daemons that do not run yet.
    pub staged: Staged,
    /// By the word of the cluster's API: whether it knows the node. What the node itself shows of
    /// Kubernetes is not asked for this.
    pub registered: bool,
    /// kube-proxy's configuration, which lives in the cluster's API; `None` if nobody asked.
    pub proxy_config: Option<Result<crate::yaml::Value, Verdict>>,
    /// Pods of the node and Services, to try to reach as a stranger.
    pub inner: Vec<crate::checks::InnerAddress>,
    /// The live state, as opposed to files; `None` if it was not read.
    pub live: Option<LiveFacts>,
    /// Why a node that was asked for its live state did not tell it.
    pub live_error: Option<String>,
    /// What a plan made now would do on the node, or why there is none; `None` if none was tried.
    pub pending: Option<Result<Vec<String>, String>>,
    /// The machine that answered; `None` for what was only rendered.
    pub machine: Option<Arc<Machine>>,
    /// Digests of its answer.
    pub answers: Answers,
    /// Digests of what the cluster's API answered.
    pub lists: Lists,
}

impl Observed {
    /// What a node answered, over a connection that was verified by a host key with this fingerprint.
    pub fn from_facts(facts: &NodeFacts, host_key: &str) -> Self {
        let machine = Machine { host_key: host_key.to_owned(), boot_id: facts.boot_id.clone() };
        Self {
            origin: Origin::Node,
            files: facts.files.clone(),
            staged: Staged::from_texts(
                facts.texts.iter().filter_map(|(p, t)| Some((p.as_str(), t.as_deref()?))),
            ),
            texts: facts.texts.clone(),
            trees: Some(facts.trees.clone()),
            sysctls: facts.sysctls.clone(),
            units: facts.units.clone(),
            packages: facts.packages.clone(),
            versions: facts.versions.clone(),
            sshd: (!facts.sshd.is_empty()).then(|| facts.sshd.clone()),
            sshd_matches: facts.sshd_matches.clone(),
            listeners: facts.listeners.clone(),
            processes: Some(facts.processes.clone()),
            swaps: Some(facts.swaps.clone()),
            nft: Some(facts.nft.clone()),
            wanted_firewall_sha256: None,
            trusted_cas: None,
            lsm: facts.lsm.clone(),
            time: facts.time.clone(),
            audit_rules: facts.audit_rules.clone(),
            audit_usable: facts.audit_usable,
            audit_enabled: facts.audit_enabled,
            container: facts.container.clone(),
            cgroup_version: Some(facts.cgroup_version),
            registered: false,
            proxy_config: None,
            inner: Vec::new(),
            live: None,
            live_error: None,
            pending: None,
            machine: Some(Arc::new(machine)),
            answers: facts.answers.clone(),
            lists: Lists::default(),
        }
    }

    /// Adds what the cluster's API holds about a node, and by which answers.
    pub fn add_objects(&mut self, node: &NodeName, facts: &ClusterFacts, lists: &Lists) {
        self.lists = lists.clone();
        let nodes = facts.of(ObjectKind::Nodes).unwrap_or_default();
        self.registered = nodes.iter().any(|n| cluster::name(n) == node.as_str());
        self.proxy_config = Some(crate::checks::cluster::reading::proxy_configuration(facts));
        self.inner = crate::checks::cluster::reachable::inner(node, facts);
    }

    /// What was rendered for a node. `facts` are those of the node it is for.
    pub fn from_desired(desired: &NodeDesired, facts: &NodeFacts) -> Self {
        let mut seen = Self {
            origin: Origin::Rendered,
            files: BTreeMap::new(),
            texts: BTreeMap::new(),
            trees: None,
            sysctls: BTreeMap::new(),
            units: BTreeMap::new(),
            packages: facts.packages.clone(),
            versions: facts.versions.clone(),
            sshd: None,
            sshd_matches: None,
            listeners: None,
            processes: None,
            swaps: None,
            nft: None,
            wanted_firewall_sha256: None,
            trusted_cas: None,
            lsm: None,
            time: None,
            audit_rules: None,
            audit_usable: facts.audit_usable,
            audit_enabled: None,
            container: facts.container.clone(),
            cgroup_version: Some(facts.cgroup_version),
            staged: Staged::default(),
            registered: false,
            proxy_config: None,
            inner: Vec::new(),
            live: None,
            live_error: None,
            pending: None,
            machine: None,
            answers: Answers::default(),
            lists: Lists::default(),
        };
        for item in &desired.items {
            seen.take(item);
        }
        seen.sshd =
            seen.texts.get(SSHD_DROP_IN).and_then(|text| Some(sshd_settings(text.as_deref()?)));
        seen.processes = seen.texts.get(ETCD_UNIT).and_then(|text| {
            let process = unit_process(text.as_deref()?)?;
            Some([(Daemon::Etcd.comm().to_owned(), vec![process])].into())
        });
        seen.staged = Staged::from_texts(
            seen.texts.iter().filter_map(|(p, t)| Some((p.as_str(), t.as_deref()?))),
        );
        seen
    }

    fn take(&mut self, item: &Item) {
        match &item.kind {
            ItemKind::File { path, content, access, .. } => {
                let size = content.bytes().len() as u64;
                self.files.insert(path.clone(), file(access, size, content.sha256()));
                let text = match content {
                    Content::Text(text) => Some(text.to_string()),
                    Content::Bytes(_) => None,
                    Content::Secret(bytes) => {
                        std::str::from_utf8(bytes.expose()).ok().map(without_secrets)
                    }
                };
                self.texts.insert(path.clone(), text);
            }
            ItemKind::Program { path, blob, access } => {
                let file = file(access, blob.size, blob.sha256.clone());
                self.files.insert(path.clone(), file);
                if path.ends_with("/containerd") {
                    // What is there now is not what will run.
                    self.versions.remove("containerd");
                    self.packages.retain(|name, _| !CONTAINERD_PACKAGES.contains(&name.as_str()));
                }
            }
            ItemKind::Directory { path, access } => {
                let (owner, group) = (access.owner.clone(), access.group.clone());
                let facts = FileFacts::Directory { mode: access.mode, owner, group };
                self.files.insert(path.clone(), facts);
            }
            ItemKind::Absent { path } | ItemKind::NoEtcdPod { manifest: path } => {
                self.files.insert(path.clone(), FileFacts::Absent);
            }
            ItemKind::Sysctl { key, value } => {
                self.sysctls.insert(key.clone(), value.clone());
            }
            ItemKind::Package { name } => {
                self.packages.entry(name.clone()).or_default();
            }
            ItemKind::Unit { name, enabled, active, .. } => {
                let state = |is: bool, yes: &str, no: &str| {
                    if is { yes.to_owned() } else { no.to_owned() }
                };
                self.units.insert(
                    name.clone(),
                    UnitFacts {
                        load: "loaded".to_owned(),
                        active: state(*active, "active", "inactive"),
                        sub: String::new(),
                        file: state(*enabled, "enabled", "disabled"),
                    },
                );
            }
            ItemKind::SwapOff => self.swaps = Some(Vec::new()),
            // Says nothing about whether the path is there.
            ItemKind::StaticPod { .. }
            | ItemKind::Permissions { .. }
            | ItemKind::User { .. }
            | ItemKind::Module { .. }
            | ItemKind::Images { .. }
            | ItemKind::Kubeadm { .. }
            | ItemKind::Firewall { .. }
            | ItemKind::FirewallAbsent => {}
        }
    }

    /// The verdict where something could not be looked at: on a node it is unknown; before apply
    /// only the node can tell.
    pub fn blind(&self, what: &str) -> Verdict {
        match self.origin {
            Origin::Node => Verdict::unknown(what),
            Origin::Rendered => Verdict::not_applicable("only the running node can show this"),
        }
    }

    /// The live state.
    ///
    /// # Errors
    /// It was not read; the verdict says why.
    pub fn live(&self) -> Result<&LiveFacts, Verdict> {
        self.live.as_ref().ok_or_else(|| match &self.live_error {
            Some(why) => self.blind(&format!("the live state was not read: {why}")),
            None => self.blind("the live state was not read"),
        })
    }

    /// The digest of a part of what the node answered; `None` if it gave no answer to it.
    pub(super) fn digest(&self, part: Part) -> Option<Digest> {
        match part.program() {
            Program::Collect => self.answers.of(part),
            Program::Live => self.live.as_ref().and_then(|live| live.answers.of(part)),
        }
    }

    /// Whether something is at a path that was looked at.
    pub fn exists(&self, path: &str) -> bool {
        !matches!(self.files.get(path), None | Some(FileFacts::Absent))
    }

    /// Running processes of a daemon; empty if none runs, `None` if nobody looked.
    pub fn running(&self, daemon: Daemon) -> Option<Vec<&ProcessFacts>> {
        let all = self.processes.as_ref()?;
        let found = all.get(daemon.comm()).map(Vec::as_slice).unwrap_or_default();
        Some(found.iter().filter(|p| is_program(p, daemon)).collect())
    }

    /// Whether a daemon runs.
    pub fn runs(&self, daemon: Daemon) -> bool {
        self.running(daemon).is_some_and(|p| !p.is_empty())
    }

    /// Whether Kubernetes was set up on the node, running or not.
    pub fn kubernetes_is_set_up(&self) -> bool {
        self.registered
            || self.runs(Daemon::Apiserver)
            || self.runs(Daemon::Kubelet)
            || self.exists("/etc/kubernetes/manifests/kube-apiserver.yaml")
            || self.exists("/var/lib/kubelet/config.yaml")
    }

    /// The file that kubeadm starts the cluster with and tells it of changes, on a control plane.
    pub fn kubeadm_init(&self) -> Option<(&str, Source)> {
        let text = self.texts.get(KUBEADM_INIT)?.as_deref()?;
        Some((text, self.file(KUBEADM_INIT)))
    }

    /// A file of the node as a source.
    pub(super) fn file(&self, path: &str) -> Source {
        match self.files.get(path) {
            Some(FileFacts::File { sha256, .. }) => Source {
                kind: SourceKind::File,
                what: path.to_owned().into(),
                sha256: Digest::from_hex(sha256),
                read: self.answers.read,
                machine: self.machine.clone(),
            },
            _ => Source::without_answer(SourceKind::File, path.to_owned()),
        }
    }

    /// A text that is there and could be read; else why not.
    ///
    /// # Errors
    /// The verdict for a text that cannot be judged.
    pub fn text(&self, path: &str) -> Result<&str, Verdict> {
        match self.texts.get(path) {
            Some(Some(text)) => Ok(text),
            Some(None) => Err(Verdict::unknown(format!("{path} could not be read as text"))),
            None if matches!(self.files.get(path), Some(FileFacts::Absent)) => {
                Err(Verdict::fail(format!("{path} with the settings"), "the file does not exist"))
            }
            None if self.exists(path) => {
                Err(Verdict::unknown(format!("{path} is not a regular file")))
            }
            None => Err(self.blind(&format!("{path} was not checked"))),
        }
    }
}

/// The kernel keeps 15 characters of a name, so that `kube-controllers` of a CNI looks like
/// `kube-controller-manager`; the program's path tells them apart.
fn is_program(process: &ProcessFacts, daemon: Daemon) -> bool {
    let program = process.argv.first().map(String::as_str).unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default();
    daemon.program().len() <= 15 || name == daemon.program()
}

/// Lines of sshd_config(5), for a file that sorts first: the first value of a keyword holds.
pub(super) fn sshd_settings(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut settings = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (key, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let key = key.to_ascii_lowercase();
        settings.entry(key).or_insert_with(|| vec![value.trim().to_owned()]);
    }
    settings
}

/// The process that a unit file will start: `ExecStart=` over continued lines, and `User=`.
pub(super) fn unit_process(text: &str) -> Option<ProcessFacts> {
    let joined = text.replace("\\\n", " ");
    let value = |key: &str| joined.lines().find_map(|l| l.trim().strip_prefix(key));
    let argv: Vec<String> = value("ExecStart=")?
        .split_whitespace()
        .map(|w| w.trim_matches('"').replace("%%", "%"))
        .collect();
    let user = value("User=").unwrap_or("root").to_owned();
    Some(ProcessFacts { pid: 0, user, argv })
}

/// As `collect.sh` does on a node, for what is rendered here: values of keys named like secrets never
/// get into a report.
fn without_secrets(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let cut = ["secret", "key-data", "token", "password"]
            .iter()
            .filter_map(|k| line.find(&format!("{k}:")).map(|at| at + k.len() + 1))
            .min();
        match cut {
            Some(at) => {
                out.push_str(&line[..at]);
                out.push_str(" \"(redacted)\"");
            }
            None => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

/// A file as it will be on the node.
fn file(access: &Access, size: u64, sha256: String) -> FileFacts {
    let (owner, group) = (access.owner.clone(), access.group.clone());
    FileFacts::File { mode: access.mode, owner, group, size, sha256 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_file_is_a_command_line() {
        let unit = "[Service]\nUser=etcd\nExecStart=/usr/bin/etcd \\\n  --a=b \\\n  --c=d%%\nX=y\n";
        let p = unit_process(unit).unwrap();
        assert_eq!(p.user, "etcd");
        assert_eq!(p.argv, ["/usr/bin/etcd", "--a=b", "--c=d%"]);
        assert!(unit_process("[Service]\n").is_none());
    }

    #[test]
    fn what_looks_like_a_secret_is_taken_out() {
        let text = without_secrets("keys:\n- secret: abc\nclient-key-data: xyz\n");
        assert!(!text.contains("abc") && !text.contains("xyz"), "{text}");
        assert!(crate::yaml::parse(&text).is_ok());
    }

    #[test]
    fn the_first_value_of_a_keyword_holds() {
        let s = sshd_settings("# x\nPasswordAuthentication no\nPasswordAuthentication yes\n");
        assert_eq!(s["passwordauthentication"], ["no"]);
    }
}
