//! What a plan is made from: the nodes as they answered.

use std::collections::{BTreeMap, BTreeSet};

use super::diff::{CLUSTER_MARK, KUBELET_CONFIG};
use super::stored_data;
use crate::error::Problem;
use crate::facts::etcd::Roster;
use crate::facts::stored::Stored;
use crate::facts::{FileFacts, NodeFacts};
use crate::inventory::NodeName;

/// A node that answered.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The fingerprint of the host key that was accepted.
    pub host_key: String,
    /// What it answered.
    pub facts: NodeFacts,
}

impl Answered {
    /// Whether the node is part of a cluster.
    pub fn is_member(&self) -> bool {
        self.facts.unit_marks.contains_key(CLUSTER_MARK)
            || self.facts.processes.contains_key("kube-apiserver")
    }

    /// Whether any kubeadm has configured a kubelet here.
    pub fn has_kubelet_config(&self) -> bool {
        matches!(self.facts.files.get(KUBELET_CONFIG), Some(FileFacts::File { .. }))
    }
}

/// All nodes after the facts were read.
#[derive(Debug, Clone, Default)]
pub struct FleetFacts {
    /// Those that answered.
    pub answered: BTreeMap<NodeName, Answered>,
    /// Those that did not, or that no plan can be made for, and why.
    pub failed: BTreeMap<NodeName, Problem>,
    /// Those that answered and are part of no cluster, also where something else is wrong with them.
    pub outside: BTreeSet<NodeName>,
    /// Those that answered and hold no data of the cluster's etcd, also where something else is wrong with them.
    pub without_etcd_data: BTreeSet<NodeName>,
    /// etcd's member list and alarms, or why they could not be read. `None` before etcd is asked, or if none runs.
    pub etcd: Option<Result<Roster, String>>,
    /// What etcd holds of resources, as far as it was counted, or why it could not be.
    pub stored: BTreeMap<String, Result<Stored, String>>,
}

impl FleetFacts {
    /// Adds a node's answer.
    pub fn insert(&mut self, name: NodeName, node: Answered) {
        if !node.is_member() {
            self.outside.insert(name.clone());
        }
        if !stored_data::has_our_etcd_data(&node.facts) {
            self.without_etcd_data.insert(name.clone());
        }
        self.answered.insert(name, node);
    }

    /// What one of the control planes encrypts stored objects with, without the keys.
    pub fn encryption(&self) -> Option<&str> {
        let members = self.answered.values().filter(|n| n.is_member());
        let mut texts = members.filter_map(|n| n.facts.texts.get(stored_data::ENCRYPTION));
        texts.find_map(Option::as_deref)
    }

    /// Removes a node whose state is no longer certain.
    pub fn forget(&mut self, name: NodeName, why: Problem) {
        self.answered.remove(&name);
        self.outside.remove(&name);
        self.without_etcd_data.remove(&name);
        self.failed.insert(name, why);
    }

    /// Removes nodes that no plan can be made for. Their answers about the cluster and etcd stay known.
    pub fn leave_out(&mut self, failed: BTreeMap<NodeName, Problem>) {
        for (name, why) in failed {
            self.answered.remove(&name);
            self.failed.insert(name, why);
        }
    }
}
