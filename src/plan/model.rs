//! A plan as data: versioned, canonical, without secrets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::climb::Climb;
use super::stage::{EtcdChange, Stage, Task};
use super::step::{Action, Step};
use super::why::HeldBack;
use crate::desired::{Blob, KubeadmAction, Phase};
use crate::inventory::NodeName;
use crate::plain::hex;
use crate::plan::api_change::ApiChange;

/// The format that this version writes, and the only one it reads.
pub const FORMAT: u32 = 2;

/// A change that is carried out by the executor: of an apply, a rollback, a reset, or of what an earlier run left open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Format of this value.
    pub format: u32,
    /// Lower-case hexadecimal SHA-256 of the canonical JSON of everything else.
    pub id: String,
    /// Version of the program that made it.
    pub made_by: String,
    /// Cluster name.
    pub cluster: String,
    /// SHA-256 of the inventory file.
    pub inventory_sha256: String,
    /// Every node that was looked at, also those with nothing to do.
    pub nodes: BTreeMap<NodeName, NodePlan>,
    /// Order of the work: stages one after another.
    pub stages: Vec<Stage>,
    /// What it does on the way to encrypted objects; the rungs above follow in the same run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Climb>,
}

/// What is to be done on one node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodePlan {
    /// Fingerprint of the host key that the node was verified by.
    pub host_key: String,
    /// In their order. The stages name them by number, from 1.
    pub transactions: Vec<Transaction>,
    /// Things to know that are not changes.
    pub notes: Vec<String>,
    /// Why some of what the node should hold is not begun, though nothing is wrong with the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_back: Vec<HeldBack>,
}

impl NodePlan {
    /// Takes a phase out, and says whether it was there.
    fn remove(&mut self, phase: Phase) -> bool {
        let before = self.transactions.len();
        self.transactions.retain(|t| t.phase != phase);
        self.transactions.len() < before
    }

    /// Leaves phases for a later plan, and keeps why if it had any of them.
    pub fn hold_back(&mut self, phases: &[Phase], why: HeldBack) {
        if phases.iter().filter(|p| self.remove(**p)).count() > 0 {
            self.held_back.push(why);
        }
    }

    /// The files of a bundle that are sent to the node, by digest.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.transactions.iter().flat_map(|t| &t.steps).filter_map(|a| match &a.step {
            Step::Program { blob, .. } | Step::Images { archive: blob, .. } => Some(blob),
            _ => None,
        })
    }

    /// Whether it makes the node part of the cluster, or configures what is.
    pub fn is_about_membership(&self) -> bool {
        let mut steps = self.transactions.iter().flat_map(|t| &t.steps);
        steps.any(|a| matches!(a.step, Step::Kubeadm { .. }))
    }

    /// Whether it starts the cluster.
    pub fn starts_cluster(&self) -> bool {
        let mut steps = self.transactions.iter().flat_map(|t| &t.steps);
        steps.any(|a| matches!(a.step, Step::Kubeadm { action: KubeadmAction::Init, .. }))
    }
}

/// Steps that succeed or are undone together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transaction {
    /// What it is about.
    pub phase: Phase,
    /// Seconds after which the node goes back by itself unless a new connection confirms; absent
    /// where nothing in it can cut access.
    pub confirm_within_s: Option<u32>,
    /// The steps in order.
    pub steps: Vec<Action>,
    /// Digests that the node's files must still have when the transaction begins; `None` for a path
    /// that must not exist.
    pub expect: BTreeMap<String, Option<String>>,
}

impl Plan {
    /// Puts a plan together and gives it its id.
    pub fn new(
        cluster: String,
        inventory_sha256: String,
        nodes: BTreeMap<NodeName, NodePlan>,
        stages: Vec<Stage>,
    ) -> Self {
        let plan = Self {
            format: FORMAT,
            id: String::new(),
            made_by: env!("CARGO_PKG_VERSION").to_owned(),
            cluster,
            inventory_sha256,
            nodes,
            stages,
            encryption: None,
        };
        plan.sealed()
    }

    /// The plan with the id that the rest of it amounts to.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        self.id.clear();
        // Straight into the digest: the steps of a thousand nodes need no copy.
        let mut hasher = Hashing(Sha256::new());
        serde_json::to_writer(&mut hasher, &self)
            .expect("a plan has only strings, numbers and maps, and a digest takes all");
        self.id = hex(&hasher.0.finalize());
        self
    }

    /// The plan with changes of API objects, which come last. Those that it had before are replaced.
    #[must_use]
    pub fn with_api(mut self, api: Vec<ApiChange>) -> Self {
        self.stages.retain(|stage| !stage.tasks().any(|t| matches!(t, Task::Object(_))));
        if !api.is_empty() {
            self.stages.push(Stage::objects(api));
        }
        self.sealed()
    }

    /// The plan with what it does on the way to encrypted objects.
    #[must_use]
    pub fn with_encryption(mut self, climb: Option<Climb>) -> Self {
        self.encryption = climb;
        self.sealed()
    }

    /// A plan of the stages that are `wanted`. Its nodes have the transactions of these stages alone.
    pub fn part(&self, wanted: impl Fn(&Stage) -> bool) -> Self {
        let mut nodes = self.nodes.clone();
        nodes.values_mut().for_each(|node| node.transactions.clear());
        let mut stages: Vec<Stage> = self.stages.iter().filter(|s| wanted(s)).cloned().collect();
        for task in stages.iter_mut().flat_map(|s| &mut s.groups).flat_map(|g| &mut g.tasks) {
            let transaction = self.transaction(task).cloned();
            if let (
                Task::Transaction { node, number } | Task::JoinEtcd { node, number, .. },
                Some(t),
            ) = (task, transaction)
                && let Some(plan) = nodes.get_mut(node)
            {
                plan.transactions.push(t);
                *number = plan.transactions.len();
            }
        }
        let (cluster, inventory) = (self.cluster.clone(), self.inventory_sha256.clone());
        Self::new(cluster, inventory, nodes, stages).with_encryption(self.encryption.clone())
    }

    /// All its tasks, in order.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.stages.iter().flat_map(Stage::tasks)
    }

    /// Changes of objects of the cluster's API.
    pub fn api(&self) -> impl Iterator<Item = &ApiChange> {
        self.tasks().filter_map(|t| if let Task::Object(change) = t { Some(change) } else { None })
    }

    /// Changes of etcd's members.
    pub fn etcd(&self) -> impl Iterator<Item = EtcdChange> {
        self.tasks().filter_map(Task::etcd_change)
    }

    /// The transaction of a task, if it is about one of this plan.
    pub fn transaction(&self, task: &Task) -> Option<&Transaction> {
        match task {
            Task::Transaction { node, number } | Task::JoinEtcd { node, number, .. } => {
                self.nodes.get(node)?.transactions.get(number.checked_sub(1)?)
            }
            _ => None,
        }
    }

    /// Whether anything is to be done.
    pub fn is_empty(&self) -> bool {
        self.nodes.values().all(|n| n.transactions.is_empty()) && self.stages.is_empty()
    }

    /// Whether something that is to be done is left for a later plan.
    pub fn holds_back(&self) -> bool {
        self.nodes.values().any(|n| !n.held_back.is_empty())
    }

    /// Whether a node becomes part of the cluster, or has its components configured anew.
    pub fn has_members(&self) -> bool {
        let steps = self.nodes.values().flat_map(|n| &n.transactions).flat_map(|t| &t.steps);
        steps.into_iter().any(|a| matches!(a.step, Step::Kubeadm { .. }))
    }

    /// Number of steps on all nodes.
    pub fn step_count(&self) -> usize {
        self.nodes.values().flat_map(|n| &n.transactions).map(|t| t.steps.len()).sum()
    }
}

/// Takes in what is written.
struct Hashing(Sha256);

impl std::io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Access;
    use crate::plan::{Gate, Group, NewFile, OnFailure, Why};

    #[test]
    fn a_plan_reads_back_and_its_id_covers_every_part_of_it() {
        let file = NewFile {
            sha256: "ab".into(),
            size: 1,
            access: Access::root(0o600),
            secret: true,
            replaces: false,
        };
        let step = Step::Files { directory: "/etc".into(), files: [("a".into(), file)].into() };
        let transaction = Transaction {
            phase: Phase::Host,
            confirm_within_s: Some(60),
            steps: vec![Action {
                step,
                controls: ["host-sysctls"].into_iter().collect(),
                why: vec![Why::Differs],
            }],
            expect: [("/etc/a".into(), None)].into(),
        };
        let node = NodePlan {
            host_key: "SHA256:x".into(),
            transactions: vec![transaction],
            notes: vec![],
            held_back: vec![],
        };
        let stage = Stage {
            name: "host".into(),
            groups: vec![Group::together([Task::Transaction {
                node: "n".parse().unwrap(),
                number: 1,
            }])],
            gates: vec![Gate::Reachable],
            on_failure: OnFailure::StopStage,
        };
        let plan =
            Plan::new("c".into(), "i".into(), [("n".parse().unwrap(), node)].into(), vec![stage]);
        let text = serde_json::to_string(&plan).unwrap();
        let back: Plan = serde_json::from_str(&text).unwrap();
        assert_eq!(back, plan);
        assert_eq!(back.clone().sealed(), plan);
        for (from, to) in [
            ("SHA256:x", "SHA256:y"),
            ("\"ab\"", "\"cd\""),
            ("384", "420"),
            ("\"number\":1", "\"number\":2"),
            ("stop-stage", "go-on"),
            ("60", "61"),
        ] {
            let forged = text.replacen(from, to, 1);
            assert_ne!(forged, text, "{from}");
            let forged: Plan = serde_json::from_str(&forged).unwrap();
            assert_ne!(forged.clone().sealed().id, forged.id, "{from}");
        }
        let unknown = text.replacen("\"format\":2", "\"format\":2,\"run\":\"x\"", 1);
        assert!(serde_json::from_str::<Plan>(&unknown).is_err());
    }
}
