//! How the parts of a run end on nodes.

use std::collections::BTreeMap;
use std::ops::Index;

use serde::{Deserialize, Serialize, Serializer};

use crate::desired::Phase;
use crate::inventory::NodeName;

/// How a transaction ended on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// The change is final.
    Committed,
    /// The node is as it was before.
    Reverted {
        /// Why.
        why: String,
    },
    /// Nothing was begun.
    Refused {
        /// Why.
        why: String,
    },
    /// The node could not be reached; nothing was begun.
    Unreachable {
        /// Why.
        why: String,
    },
    /// Left out because something before it failed.
    Skipped {
        /// What.
        why: String,
    },
    /// The change is final, and the node is not ready for its work yet: a later look, or run, tells.
    Unready {
        /// What is missing.
        why: String,
    },
    /// The node is neither as before nor as planned, or its state could not be learnt.
    Incomplete {
        /// What is known.
        why: String,
    },
}

impl Outcome {
    /// Whether this is what was wanted.
    pub fn is_good(&self) -> bool {
        matches!(self, Outcome::Committed)
    }
}

/// What a reset came to on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Transactions that the node took back, newest first. Where it is as it was, it knows none any more, not even
    /// those that are not named here.
    #[serde(default)]
    pub taken_back: Vec<String>,
}

/// How the transactions of a node ended, in the order in which they were come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeOutcomes(Vec<(Phase, Outcome)>);

impl NodeOutcomes {
    /// Adds the next one.
    pub fn push(&mut self, phase: Phase, outcome: Outcome) {
        self.0.push((phase, outcome));
    }

    /// Adds those of the next plan of the same run.
    pub fn extend(&mut self, next: NodeOutcomes) {
        self.0.extend(next.0);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Phase, &Outcome)> {
        self.0.iter().map(|(phase, outcome)| (*phase, outcome))
    }

    /// All of them, without their phase.
    pub fn values(&self) -> impl Iterator<Item = &Outcome> {
        self.0.iter().map(|(_, outcome)| outcome)
    }

    /// Whether all are as wanted.
    pub fn are_good(&self) -> bool {
        self.values().all(Outcome::is_good)
    }

    /// How a phase ended. Where it had several transactions: the first that is not as wanted, else the last.
    pub fn of(&self, phase: Phase) -> Option<&Outcome> {
        let all = || self.iter().filter(|(p, _)| *p == phase).map(|(_, outcome)| outcome);
        all().find(|o| !o.is_good()).or_else(|| all().last())
    }
}

impl Index<&Phase> for NodeOutcomes {
    type Output = Outcome;

    /// How a phase ended.
    ///
    /// # Panics
    /// If the run did not come to it.
    fn index(&self, phase: &Phase) -> &Outcome {
        self.of(*phase).unwrap_or_else(|| panic!("the run did not come to {}", phase.name()))
    }
}

/// By phase: see [`NodeOutcomes::of`].
impl Serialize for NodeOutcomes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let phases = Phase::ALL.iter().filter_map(|&p| Some((p, self.of(p)?)));
        serializer.collect_map(phases)
    }
}

/// The outcomes of a run, by node.
pub type Outcomes = BTreeMap<NodeName, NodeOutcomes>;
