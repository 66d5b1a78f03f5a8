//! The order of a plan: stages one after another, groups of tasks in each, and gates around the groups.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::desired::Phase;
use crate::inventory::{Inventory, Node, NodeName};
use crate::plan::api_change::ApiChange;
use crate::plan::why::HeldBack;

/// A part of the work that ends before the next begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// What it is called in plans and records, as in `host`.
    pub name: String,
    /// Groups one after another.
    pub groups: Vec<Group>,
    /// What must hold around each group of transactions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
    /// What a task that failed keeps from beginning. The rest of its node's work never begins.
    pub on_failure: OnFailure,
}

/// Tasks that are begun together. Those of one node, and those of the cluster, go one after another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Whether it goes alone, because others depend on its nodes: see [`OnFailure`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
    /// Why it is not begun, though it is part of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_back: Option<HeldBack>,
    /// The tasks.
    pub tasks: Vec<Task>,
}

impl Group {
    /// Tasks that are begun together.
    pub fn together(tasks: impl IntoIterator<Item = Task>) -> Self {
        Self { alone: false, held_back: None, tasks: tasks.into_iter().collect() }
    }

    /// A task that others wait for.
    pub fn alone(task: Task) -> Self {
        Self { alone: true, held_back: None, tasks: vec![task] }
    }
}

/// What a task that failed keeps from beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// Nothing else.
    GoOn,
    /// After a group that goes alone, and before anything of the stage has ended well (a canary): the rest of the stage.
    /// Later, after one that goes alone: every further one of the stage that does.
    StopStage,
    /// Every further group of the stage that goes alone.
    StopAlone,
    /// Every further group that goes alone, of this and of all later stages, whichever group failed.
    KeepServing,
    /// Everything.
    StopPlan,
}

/// What must hold around a group of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// A new connection to each node, by every way that was open before.
    Reachable,
    /// All members of a new etcd cluster are healthy afterwards.
    EtcdForms,
    /// Before: every other member is healthy, so that quorum outlives the one that stops.
    /// Afterwards: the member is healthy again.
    EtcdQuorum,
    /// Afterwards: the nodes are registered and Ready, and the API servers among them answer.
    NodesReady,
}

/// One piece of work. The executor has a file for each kind; all of them are recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Task {
    /// A transaction of the node's plan is carried out, or undone.
    Transaction {
        /// The node.
        node: NodeName,
        /// Which of its transactions, from 1.
        number: usize,
    },
    /// The same, of a node that becomes a member of a running etcd by it: as a learner, promoted once it has caught up.
    JoinEtcd {
        /// The node.
        node: NodeName,
        /// Which of its transactions, from 1.
        number: usize,
        /// Where its peers reach it.
        peer_url: String,
    },
    /// A transaction that an earlier run left open is settled.
    Settle {
        /// The node.
        node: NodeName,
        /// Transaction id.
        transaction: String,
        /// The phase that the id names; none of what another program wrote.
        phase: Option<Phase>,
        /// How it was left.
        left: String,
    },
    /// A transaction is rolled back.
    TakeBack(TakeBack),
    /// What a rollback could not undo is accepted: the node stays as it is.
    Accept {
        /// The node.
        node: NodeName,
        /// Transaction id.
        transaction: String,
        /// What it was about.
        phase: Phase,
        /// The run that it is part of.
        run: String,
    },
    /// No new pods are put on the nodes.
    Cordon {
        /// The node.
        node: NodeName,
    },
    /// The pods of a node leave it.
    Drain {
        /// The node.
        node: NodeName,
        /// How long that may take, in seconds.
        within_s: u64,
        /// Whether the node's work goes on if some stay.
        or_leave: bool,
    },
    /// Everything ever done on a node is rolled back.
    Reset {
        /// The node.
        node: NodeName,
        /// What happens to etcd's data.
        data: EtcdData,
        /// What the node must be.
        taken_for: TakenFor,
    },
    /// The cluster's object of a node that has left is deleted.
    Forget {
        /// The node.
        node: NodeName,
    },
    /// A change of etcd's members.
    Etcd(EtcdChange),
    /// Every object of a resource is written again, so that it is stored with the key that writes.
    Rewrite {
        /// As the inventory names it, as in `secrets`.
        resource: String,
    },
    /// A change of an object of the cluster's API.
    Object(ApiChange),
}

impl Task {
    /// The node that it is about; none for one of the cluster.
    pub fn node(&self) -> Option<&NodeName> {
        match self {
            Task::Transaction { node, .. }
            | Task::JoinEtcd { node, .. }
            | Task::Settle { node, .. }
            | Task::TakeBack(TakeBack { node, .. })
            | Task::Accept { node, .. }
            | Task::Cordon { node }
            | Task::Drain { node, .. }
            | Task::Reset { node, .. }
            | Task::Forget { node }
            | Task::Etcd(EtcdChange::Promote { node, .. } | EtcdChange::Add { node, .. }) => {
                Some(node)
            }
            Task::Etcd(EtcdChange::Remove { node, .. }) => node.as_ref(),
            Task::Rewrite { .. } | Task::Object(_) => None,
        }
    }

    /// The change of etcd's members that it is, or makes on its way.
    pub fn etcd_change(&self) -> Option<EtcdChange> {
        match self {
            Task::Etcd(change) => Some(change.clone()),
            Task::JoinEtcd { node, peer_url, .. } => {
                Some(EtcdChange::Add { node: node.clone(), peer_url: peer_url.clone() })
            }
            _ => None,
        }
    }
}

/// A transaction that is taken back, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakeBack {
    /// The node.
    pub node: NodeName,
    /// Transaction id.
    pub transaction: String,
    /// What it was about.
    pub phase: Phase,
    /// How it ended.
    pub ended: Ended,
    /// Whether all that others count on go back together.
    pub peers: Peers,
    /// The run that reset the node since, as far as records tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_by: Option<String>,
}

/// How a transaction ended, by the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// No record says so.
    Unknown,
    /// It left something on its node, or may have.
    InPlace,
    /// It left nothing.
    WithoutChange,
}

/// Whether all that others count on go back together, which a node wants to know before it leaves them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peers {
    /// They do.
    Together,
    /// Some of them stay.
    Stay,
}

/// What happens to etcd's data at a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EtcdData {
    /// It stays where it is.
    Keep,
    /// It is deleted for good.
    Delete,
}

/// What a node must be to be reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TakenFor {
    /// No other node depends on it: refused if it runs an API server or etcd.
    Worker,
    /// A control plane or an etcd member, which goes together with all others.
    Member,
}

impl TakenFor {
    /// What a node has to be by the inventory.
    pub fn of(inventory: &Inventory, node: &Node) -> Self {
        if inventory.serves(node) { TakenFor::Member } else { TakenFor::Worker }
    }
}

/// A change of etcd's members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum EtcdChange {
    /// A member is removed for good.
    Remove {
        /// The node that leaves with it; none if the inventory has none for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<NodeName>,
        /// Its name as etcd has it; empty if it never started.
        name: String,
        /// Its id, hexadecimal.
        id: String,
        /// Where its peers reach it.
        peer_urls: Vec<String>,
        /// Why.
        why: String,
    },
    /// A node becomes a member: a learner first, promoted once it has caught up.
    Add {
        /// The node.
        node: NodeName,
        /// Where its peers reach it.
        peer_url: String,
    },
    /// A learner becomes a voting member.
    Promote {
        /// The node.
        node: NodeName,
        /// Its id, hexadecimal.
        id: String,
    },
}

impl fmt::Display for EtcdChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EtcdChange::Remove { name, id, peer_urls, why, .. } => {
                let name = if name.is_empty() { "never started" } else { name };
                write!(f, "remove member {id} ({name}, {}) from etcd: {why}", peer_urls.join(", "))
            }
            EtcdChange::Add { node, peer_url } => {
                write!(
                    f,
                    "add {node} ({peer_url}) to etcd as a learner, and promote it once it has caught up"
                )
            }
            EtcdChange::Promote { node, .. } => {
                write!(f, "promote {node} to a voting member of etcd")
            }
        }
    }
}

impl Stage {
    /// Changes of etcd's members, one after the other. Where one fails nothing begins that was to follow: the new firewall
    /// of the remaining nodes no longer lets removed members in.
    pub fn etcd_removals(changes: impl IntoIterator<Item = EtcdChange>) -> Self {
        let groups = changes.into_iter().map(|c| Group::alone(Task::Etcd(c))).collect();
        let gates = vec![Gate::EtcdQuorum];
        Self { name: "etcd members".into(), groups, gates, on_failure: OnFailure::StopPlan }
    }

    /// Learners that an earlier run left become members.
    pub fn etcd_promotions(changes: impl IntoIterator<Item = EtcdChange>) -> Self {
        let groups = changes.into_iter().map(|c| Group::alone(Task::Etcd(c))).collect();
        let (gates, on_failure) = (Vec::new(), OnFailure::GoOn);
        Self { name: "etcd members".into(), groups, gates, on_failure }
    }

    /// Every object of some resources is written again.
    pub fn rewrite<'r>(resources: impl IntoIterator<Item = &'r String>) -> Self {
        let task = |r: &String| Group::alone(Task::Rewrite { resource: r.clone() });
        let groups = resources.into_iter().map(task).collect();
        let (gates, on_failure) = (Vec::new(), OnFailure::GoOn);
        Self { name: "rewrite".into(), groups, gates, on_failure }
    }

    /// Changes of objects of the cluster's API, in their order.
    pub fn objects(changes: impl IntoIterator<Item = ApiChange>) -> Self {
        let groups = vec![Group::together(changes.into_iter().map(Task::Object))];
        let (gates, on_failure) = (Vec::new(), OnFailure::GoOn);
        Self { name: "objects".into(), groups, gates, on_failure }
    }

    /// All its tasks, in order.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.groups.iter().flat_map(|g| &g.tasks)
    }

    /// The nodes that it is about.
    pub fn nodes(&self) -> BTreeSet<&NodeName> {
        self.tasks().filter_map(Task::node).collect()
    }
}
