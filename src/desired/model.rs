//! What a node should hold, as typed data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::inventory::NodeName;
use crate::plain::hex;
use crate::secret::Secret;

/// What all nodes should hold.
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
    pub const ALL: [Phase; 7] = [
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
    Member {
        /// How it becomes one.
        way: Way,
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
pub enum Way {
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
    /// May be shown in a diff. Shared: see [`SharedTexts`].
    Text(Arc<str>),
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
        hex(&Sha256::digest(self.bytes()))
    }
}

/// Texts of files that many nodes have alike, kept once. A thousand workers are a thousand times the same
/// audit rules.
#[derive(Default)]
pub struct SharedTexts(BTreeSet<Arc<str>>);

impl SharedTexts {
    /// Replaces texts that an earlier node has too by that node's.
    pub fn share(&mut self, node: &mut NodeDesired) {
        for item in &mut node.items {
            let ItemKind::File { content: Content::Text(text), .. } = &mut item.kind else {
                continue;
            };
            match self.0.get(text) {
                Some(same) => *text = Arc::clone(same),
                None => {
                    self.0.insert(Arc::clone(text));
                }
            }
        }
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
    fn what_nodes_have_alike_is_kept_once() {
        let node = |text: &str| NodeDesired {
            items: vec![Item {
                phase: Phase::Host,
                controls: vec![],
                kind: ItemKind::File {
                    path: "/etc/motd".into(),
                    content: Content::Text(text.into()),
                    access: Access::root(0o644),
                    check: FileCheck::None,
                },
            }],
            notes: vec![],
        };
        let mut nodes = [node("same"), node("same"), node("other")];
        let mut texts = SharedTexts::default();
        nodes.iter_mut().for_each(|n| texts.share(n));
        let place = |n: &NodeDesired| match &n.items[0].kind {
            ItemKind::File { content: Content::Text(text), .. } => text.as_ptr(),
            _ => unreachable!(),
        };
        assert_eq!(place(&nodes[0]), place(&nodes[1]));
        assert_ne!(place(&nodes[0]), place(&nodes[2]));
    }
}
