//! What happens during a run, as data: the executor sends events, one monitor draws them.

use serde::Serialize;

use crate::inventory::NodeName;

/// Something that happened on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A part of the work begins.
    Begin {
        /// The node.
        node: NodeName,
        /// What, as in `host: 14 steps`.
        what: String,
        /// Number of steps, if known.
        steps: usize,
    },
    /// A step begins.
    Step {
        /// The node.
        node: NodeName,
        /// Counted from 1.
        number: usize,
        /// What the step does.
        what: String,
    },
    /// The node waits for something.
    Waiting {
        /// The node.
        node: NodeName,
        /// For what.
        what: String,
    },
    /// An object of the cluster's API was changed, or could not be.
    Object {
        /// The change.
        what: String,
        /// Why it was not made.
        #[serde(skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
    },
    /// Bytes are read, written or fetched on the operator's side.
    Transfer {
        /// Which, as in `kubelet`.
        what: String,
        /// Bytes so far.
        done_bytes: u64,
        /// Bytes in all, if known.
        total_bytes: Option<u64>,
    },
    /// A transfer is over.
    TransferEnd {
        /// Which.
        what: String,
        /// How it ended, in a few words.
        how: String,
        /// Whether that is as wanted.
        good: bool,
    },
    /// The node's part is over.
    End {
        /// The node.
        node: NodeName,
        /// How it ended, in a few words.
        how: String,
        /// Whether that is as wanted.
        good: bool,
    },
}

/// Where events go.
pub trait Sink: Sync {
    /// Takes one event. Must not block for long: nodes wait for it.
    fn send(&self, event: Event);
}

/// Drops every event.
pub struct Silent;

impl Sink for Silent {
    fn send(&self, _: Event) {}
}
