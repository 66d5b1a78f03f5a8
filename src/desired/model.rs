//! What a node should hold, as typed data.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use crate::inventory::NodeName;
use crate::plain::hex;
use crate::secret::Secret;

/// What all nodes should hold.
#[derive(Default)]
pub struct DesiredState {
    /// By node, sorted.
    pub nodes: BTreeMap<NodeName, NodeDesired>,
}

/// What one node should hold.
pub struct NodeDesired {
    /// In the order in which they are brought about.
    pub items: Vec<Item>,
    /// Things the operator should know before applying; never a reason to stop.
    pub notes: Vec<String>,
}

/// One thing that should be so.
pub struct Item {
    /// When it is brought about.
    pub phase: Phase,
    /// Ids of the controls that want it; empty for plumbing.
    pub controls: Vec<&'static str>,
    /// What should be so.
    pub kind: ItemKind,
}

/// Order of the work on a node. A later phase starts after the earlier ones are done on the node.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Where packages of Kubernetes come from, and who may have signed them.
    Repositories,
    /// Distribution packages. Not undone by rollback.
    Packages,
    /// Programs from a bundle.
    Software,
    /// Users, directories, kernel settings, firewall, sshd, time, runtime, staged Kubernetes files.
    Host,
    /// The etcd service.
    Etcd,
    /// Container images from a bundle. Not undone by rollback.
    Images,
    /// The node's part of the Kubernetes cluster.
    Kubernetes,
}

impl Phase {
    /// All phases in their order.
    pub const ALL: &[Phase] = &[
        Phase::Repositories,
        Phase::Packages,
        Phase::Software,
        Phase::Host,
        Phase::Etcd,
        Phase::Images,
        Phase::Kubernetes,
    ];

    /// Its name in plans, transaction ids and reports.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Repositories => "repositories",
            Phase::Packages => "packages",
            Phase::Software => "software",
            Phase::Host => "host",
            Phase::Etcd => "etcd",
            Phase::Images => "images",
            Phase::Kubernetes => "kubernetes",
        }
    }

    /// The phase that the id of a transaction names at its end; none of an id that is not one of ours.
    pub fn of_transaction(id: &str) -> Option<Self> {
        let (_, name) = id.rsplit_once('-')?;
        Self::ALL.iter().copied().find(|p| p.name() == name)
    }
}

/// Kinds of things that should be so. What a node lacks of each is worked out by `add` in `plan::diff`.
pub enum ItemKind {
    /// A distribution package is installed, in any version.
    Package {
        /// Name in the node's distribution.
        name: String,
    },
    /// A system user and group of the same name exist.
    User {
        /// User and group name.
        name: String,
        /// Home directory, not created.
        home: String,
    },
    /// A directory exists with owner and mode.
    Directory {
        /// Absolute path.
        path: String,
        /// Owner, group and mode.
        access: Access,
    },
    /// A file exists with this content, owner and mode.
    File {
        /// Absolute path.
        path: String,
        /// What it holds.
        content: Content,
        /// Owner, group and mode.
        access: Access,
        /// How the node tests it before it is switched in.
        check: FileCheck,
    },
    /// A file of a bundle is at this path. It is sent apart from everything else, since it is large.
    Program {
        /// Absolute path.
        path: String,
        /// What it holds.
        blob: Blob,
        /// Owner, group and mode.
        access: Access,
    },
    /// The images of an archive of a bundle are in containerd, in the namespace that the kubelet uses.
    Images {
        /// The archive.
        archive: Blob,
        /// References of the images in it.
        references: Vec<String>,
    },
    /// The node is part of the cluster, with its components as the watched files say.
    Kubeadm {
        /// How it becomes one.
        action: KubeadmAction,
        /// Files whose change means that the components are to be configured anew.
        watches: Vec<String>,
    },
    /// If the path exists, it has this owner and mode.
    Permissions {
        /// Absolute path.
        path: String,
        /// Owner, group and mode.
        access: Access,
    },
    /// The path does not exist.
    Absent {
        /// Absolute path.
        path: String,
    },
    /// The static pod of a component runs with its manifest.
    StaticPod {
        /// Name of the component, which is that of its process.
        component: String,
        /// Absolute path of the manifest, itself a [`ItemKind::File`].
        manifest: String,
    },
    /// etcd is no static pod of kubeadm's: a member that is one becomes a service, with its data.
    NoEtcdPod {
        /// Absolute path of its manifest.
        manifest: String,
    },
    /// A running kernel's setting. The file that keeps it over a reboot is an item of its own.
    Sysctl {
        /// Dotted key.
        key: String,
        /// Value as /proc/sys shows it.
        value: String,
    },
    /// A kernel module is loaded, or built in.
    Module {
        /// Module name.
        name: String,
    },
    /// No swap is active. Entries in /etc/fstab are commented out.
    SwapOff,
    /// Our nftables table is loaded from this file.
    Firewall {
        /// Absolute path of the rules file, itself a [`ItemKind::File`].
        path: String,
    },
    /// Our nftables table is not loaded.
    FirewallAbsent,
    /// A systemd unit is in this state.
    Unit {
        /// Unit name with its suffix.
        name: String,
        /// Enabled at boot.
        enabled: bool,
        /// Running now.
        active: bool,
        /// What happens when a watched file changes.
        on_change: OnChange,
        /// Files whose change matters to the running unit.
        watches: Vec<String>,
        /// Do not wait for the start to finish: a new etcd member starts only once its peers do.
        start: Start,
    },
}

/// A file of a bundle, by what it holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Blob {
    /// Lower-case hexadecimal SHA-256.
    pub sha256: String,
    /// Size in bytes.
    pub size: u64,
}

/// How a node becomes part of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KubeadmAction {
    /// `kubeadm init`: the first control plane of a new cluster.
    Init,
    /// `kubeadm join`, as the file for it says.
    Join,
    /// It is part of one: its components get the configuration that is staged now.
    Configure,
}

/// Owner, group and mode of a path.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Access {
    /// Owner's name.
    pub owner: String,
    /// Group's name.
    pub group: String,
    /// Permission bits, as in 0o600.
    pub mode: u32,
}

impl Access {
    /// `root:root` with a mode.
    pub fn root(mode: u32) -> Self {
        Self { owner: "root".into(), group: "root".into(), mode }
    }
}

/// What a file holds.
#[derive(Clone)]
pub enum Content {
    /// May be shown in a diff.
    Text(FileText),
    /// A program or the like: no secret, but nothing to show either.
    Bytes(Arc<[u8]>),
    /// Never shown: only its size and digest leave this type.
    Secret(Secret<Vec<u8>>),
}

impl Content {
    /// The bytes for the node.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Content::Text(t) => t.as_bytes(),
            Content::Bytes(b) => b,
            Content::Secret(s) => s.expose(),
        }
    }

    /// Lower-case hexadecimal SHA-256 of the bytes. Secrets here are random keys of 128 bits or
    /// more, so that the digest tells nothing about them.
    pub fn sha256(&self) -> String {
        match self {
            Content::Text(text) => text.sha256().to_owned(),
            Content::Bytes(_) | Content::Secret(_) => hex(&Sha256::digest(self.bytes())),
        }
    }
}

/// The text of a file. A copy shares it, and the digest, which is computed once: a thousand workers have a thousand times the same
/// audit rules.
#[derive(Clone)]
pub struct FileText(Arc<Shared>);

struct Shared {
    text: Box<str>,
    sha256: OnceLock<String>,
}

impl FileText {
    /// Lower-case hexadecimal SHA-256.
    pub fn sha256(&self) -> &str {
        self.0.sha256.get_or_init(|| hex(&Sha256::digest(self.as_bytes())))
    }

    /// Whether both are one text in memory.
    pub fn is_shared_with(&self, other: &FileText) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Deref for FileText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0.text
    }
}

impl From<String> for FileText {
    fn from(text: String) -> Self {
        Self(Arc::new(Shared { text: text.into(), sha256: OnceLock::new() }))
    }
}

impl From<&str> for FileText {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// How the node tests a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileCheck {
    /// Not at all.
    None,
    /// `sshd -t`, when it is in its place and the way back is armed, and before sshd takes it up.
    Sshd,
    /// `nft -c -f`, before anything is done.
    Nft,
}

/// What happens to a running unit when a file it watches changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnChange {
    /// Nothing.
    Nothing,
    /// `systemctl reload`.
    Reload,
    /// `systemctl restart`.
    Restart,
}

/// Whether starting a unit waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// Until systemd calls it started.
    Wait,
    /// Not at all; a gate looks at its health later.
    NoWait,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_a_text_share_it() {
        let text = FileText::from("same");
        assert!(text.clone().is_shared_with(&text));
        assert!(!FileText::from("same").is_shared_with(&text));
        // `printf same | sha256sum`
        let sum = "0967115f2813a3541eaef77de9d9d5773f1c0c04314b0bbfe4ff3b3b1c55b5d5";
        assert_eq!(Content::Text(text).sha256(), sum);
    }
}
