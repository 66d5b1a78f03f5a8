//! What a node is before it is hardened, and when that has begun.

use crate::facts::{CLUSTER_MARK, FileFacts, NodeFacts};

/// Whether hardening a node has begun: its members were configured, or its firewall turns away.
pub(super) fn is_hardened(facts: &NodeFacts) -> bool {
    let records = facts.observation.as_ref().is_some_and(|o| o.flows.is_some());
    facts.unit_marks.contains_key(CLUSTER_MARK)
        || (facts.nft.own_listing_sha256.is_some() && !records)
}

/// Whether a node is part of a cluster that works without kubastion.
pub(super) fn is_of_others(facts: &NodeFacts) -> bool {
    matches!(facts.files.get("/var/lib/kubelet/config.yaml"), Some(FileFacts::File { .. }))
}
