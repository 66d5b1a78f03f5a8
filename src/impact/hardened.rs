//! What a node is before it is hardened, and when that has begun.

use crate::facts::{CLUSTER_MARK, FileFacts, NodeFacts};

/// Whether hardening a node has begun: its components were configured, or its firewall drops. A table that is not as it was loaded
/// says nothing: somebody may have taken out what records.
pub(super) fn is_hardened(facts: &NodeFacts) -> bool {
    let records = facts.observation.as_ref().is_some_and(|o| o.flows.is_some());
    let (nft, recorded) = (&facts.nft, facts.nft.recorded.as_ref());
    let is_as_loaded = recorded.is_some()
        && recorded.map(|r| &r.listing_sha256) == nft.own_listing_sha256.as_ref();
    facts.unit_marks.contains_key(CLUSTER_MARK) || (is_as_loaded && !records)
}

/// Whether a node is part of a cluster that works without kubastion.
pub(super) fn is_of_others(facts: &NodeFacts) -> bool {
    matches!(facts.files.get("/var/lib/kubelet/config.yaml"), Some(FileFacts::File { .. }))
}
