//! What was found of a cluster as the inventory of it that somebody keeps: addresses, roles, labels and taints, and each setting
//! that is not kubeadm's default. What the inventory has no key for is passed through; what a control would set otherwise is a
//! conflict, for somebody to decide; what neither can hold is named, with its place. Nothing is left out without a word.

mod defaults;
mod documents;
mod kubeadm;
mod pods;
mod reading;
mod settle;

use std::collections::BTreeMap;

use super::cluster::{EtcdPlace, Found};
use super::inventory::inventory as in_memory;
use super::nodes::FoundNode;
use super::target::{SshAccess, Target};
use crate::facts::NodeFacts;
use crate::facts::cluster::{ClusterFacts, ObjectKind, list, name, text};
use crate::inventory::{
    CaOrigin, EtcdPlacement, HostKeyFingerprint, Inventory, NodeName, Profile, Role,
};

pub use reading::{Draft, Line};
pub use settle::{Answer, Decision, Grant, OpenConflict, Settled, settle};

use reading::Reading;

use defaults::{CONDITIONS, CONTROL_PLANE_TAINT, LABELS};

/// What a cluster is imported from.
pub struct Source<'a> {
    /// The cluster as it was found.
    pub found: &'a Found,
    /// What its API holds.
    pub objects: &'a ClusterFacts,
    /// What its nodes show.
    pub facts: &'a BTreeMap<NodeName, NodeFacts>,
    /// The host key of each node that answered.
    pub host_keys: &'a BTreeMap<NodeName, String>,
    /// How machines are reached.
    pub access: &'a SshAccess,
    /// The named machines.
    pub named: &'a BTreeMap<NodeName, Target>,
    /// Which controls are wanted.
    pub profile: Profile,
    /// Texts of files that the inventory can name: the audit policy.
    pub texts: &'a BTreeMap<String, String>,
}

/// Reads everything.
pub fn import(source: &Source<'_>) -> Draft {
    let Source { found, objects, facts, access, .. } = *source;
    let mut inventory = in_memory(found, access, source.named, source.profile);
    let mut reading = Reading::default();
    for note in &found.notes {
        reading.not_taken_over("a part of the cluster", "", "the cluster", note);
    }
    inventory.etcd.placement = match &found.etcd {
        EtcdPlace::Stacked => EtcdPlacement::Stacked,
        EtcdPlace::OnControlPlanes | EtcdPlace::Unseen => EtcdPlacement::ControlPlane,
        EtcdPlace::Dedicated | EtcdPlace::Outside(_) => EtcdPlacement::Dedicated,
    };
    if found.release.trim_start_matches('v') != found.judged_as.to_string() {
        let why = format!("the inventory says {}, the nearest supported release", found.judged_as);
        reading.not_taken_over("the release", &found.release, "the cluster", &why);
    }
    inventory.pki.dir = "pki".into();
    inventory.pki.cas = CaOrigin::Imported;
    nodes(&mut inventory, source, &mut reading);
    let mut files = BTreeMap::new();
    kubeadm::read(objects, &mut inventory, &mut reading);
    documents::read(objects, facts, &mut reading);
    pods::read(&inventory, facts, &mut reading);
    kubeadm::keys(source.texts, &mut inventory, &mut files, &mut reading);
    Draft { inventory, files, reading }
}

/// Roles, labels and taints as Node objects have them, and the host keys by which nodes were met.
fn nodes(inventory: &mut Inventory, source: &Source<'_>, reading: &mut Reading) {
    let defaults = source.access.defaults();
    let objects = source.objects.of(ObjectKind::Nodes).unwrap_or_default();
    for node in &mut inventory.nodes {
        let at = format!("Node {}", node.name);
        let object = objects.iter().find(|o| name(o) == node.name.as_str());
        let found: Option<&FoundNode> = source.found.nodes.iter().find(|f| f.name == node.name);
        for (key, value) in found.into_iter().flat_map(|f| &f.labels) {
            if !LABELS.contains(&key.as_str()) {
                node.labels.insert(key.clone(), value.clone());
                reading.taken_over(format!("label {key}"), value, &at, "nodes[].labels");
            }
        }
        let mut is_kept_free = false;
        for taint in object.into_iter().flat_map(|o| list(o, "/spec/taints")) {
            let (key, value) = (text(taint, "/key"), text(taint, "/value"));
            let written = match value {
                "" => format!("{key}:{}", text(taint, "/effect")),
                value => format!("{key}={value}:{}", text(taint, "/effect")),
            };
            if written == CONTROL_PLANE_TAINT {
                is_kept_free = true;
            } else if !CONDITIONS.iter().any(|c| key.starts_with(c)) {
                reading.taken_over("taint", &written, &at, "nodes[].taints");
                node.taints.push(written);
            }
        }
        if node.has_role(Role::ControlPlane) && object.is_some() && !is_kept_free {
            node.roles.push(Role::Worker);
            reading.taken_over("workloads on a control plane", "", &at, "nodes[].roles");
        }
        if let Some(Ok(key)) =
            source.host_keys.get(&node.name).map(|k| k.parse::<HostKeyFingerprint>())
        {
            node.ssh.host_keys = vec![key];
        }
        // What all nodes have stands once.
        let ssh = &mut node.ssh;
        let first = node.addresses.first().map(ToString::to_string);
        ssh.host = ssh.host.take().filter(|h| Some(h.as_str()) != first.as_deref());
        ssh.user = ssh.user.take().filter(|u| *u != defaults.user);
        ssh.port = ssh.port.filter(|p| *p != defaults.port);
        ssh.sudo = ssh.sudo.filter(|s| *s != defaults.sudo);
    }
}

#[cfg(test)]
mod tests;
