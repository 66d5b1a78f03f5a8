//! A second etcd beside a running cluster.

use crate::error::Problem;
use crate::facts::NodeFacts;
use crate::inventory::{Inventory, Node};
use crate::plan::stored_data::{self, has_our_etcd_data};

/// Members without data beside a cluster that runs: they would start a second, empty etcd.
pub(super) fn started(inventory: &Inventory, nodes: &[(&Node, &NodeFacts)]) -> Option<Problem> {
    let is_wanted = |node: &Node| inventory.is_etcd_member(node);
    let wanted = || nodes.iter().filter(|(node, _)| is_wanted(node));
    let holds = |(_, facts): &&(&Node, &NodeFacts)| has_our_etcd_data(facts);
    let all_checked = wanted().count() == inventory.etcd_members().count();
    if !all_checked || wanted().any(|n| holds(&n)) {
        return None;
    }
    let names = |all: &[&(&Node, &NodeFacts)]| {
        all.iter().map(|(node, _)| node.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let elsewhere: Vec<_> = nodes.iter().filter(|n| !is_wanted(n.0)).filter(holds).collect();
    let in_cluster: Vec<_> =
        nodes.iter().filter(|(_, facts)| stored_data::is_member(facts)).collect();
    let why = match (elsewhere.is_empty(), in_cluster.is_empty()) {
        (false, _) => format!("etcd's data is on {}", names(&elsewhere)),
        (true, false) => format!(
            "the cluster of {} runs with another etcd, or lost its data",
            names(&in_cluster)
        ),
        (true, true) => return None,
    };
    let members = names(&wanted().collect::<Vec<_>>());
    Some(
        Problem::new(format!("etcd would start without data on {members}, beside a running cluster"))
            .at("etcd")
            .because(why)
            .because("the API servers would serve an empty cluster")
            .left("no plan was made")
            .hint(
                "restore `etcd.placement` and `roles`; if the data is lost, see docs/recovery.md, and reset the nodes first",
            ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::with_files;
    use super::*;
    use crate::inventory::testing;
    use crate::plan::diff::CLUSTER_MARK;

    /// What becomes of etcd where its members are others by the inventory.
    #[test]
    fn no_second_etcd_starts_beside_a_running_cluster() {
        use crate::plan::stored_data::{ETCD_DATA_MARK, ETCD_MEMBER};
        let inventory = testing::with(
            "etcd: {placement: dedicated}\nnodes:\n\
             - {name: cp, addresses: [10.0.0.1], roles: [control-plane]}\n\
             - {name: e, addresses: [10.0.0.2], roles: [etcd]}\n",
        );
        let member = || with_files(&[ETCD_MEMBER, ETCD_DATA_MARK]);
        let mut in_cluster = NodeFacts::bare("n");
        in_cluster.unit_marks.insert(CLUSTER_MARK.into(), "m".into());
        let bare = NodeFacts::bare("n");
        let said = |cp: Option<&NodeFacts>, e: Option<&NodeFacts>| {
            let nodes = [(&inventory.nodes[0], cp), (&inventory.nodes[1], e)];
            let nodes: Vec<_> = nodes.into_iter().filter_map(|(n, f)| Some((n, f?))).collect();
            started(&inventory, &nodes).map(|p| p.why.join("; "))
        };
        assert_eq!(said(Some(&bare), Some(&bare)), None, "a new cluster");
        assert_eq!(said(Some(&in_cluster), Some(&member())), None);
        let moved = said(Some(&member()), Some(&bare)).unwrap();
        assert!(moved.starts_with("etcd's data is on cp"), "{moved}");
        assert!(said(Some(&in_cluster), Some(&bare)).unwrap().contains("lost its data"));
        assert!(said(None, Some(&in_cluster)).is_some(), "the member alone was checked");
        assert_eq!(said(Some(&in_cluster), None), None, "the member was not checked");
    }
}
