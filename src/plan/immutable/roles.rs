//! The role of a node that is in a cluster.

use crate::desired::INIT;
use crate::error::Problem;
use crate::facts::{FileFacts, NodeFacts};
use crate::inventory::{Node, Role};
use crate::plan::diff::{CLUSTER_MARK, KUBELET_CONFIG};
use crate::plan::stored_data::APISERVER_POD;

/// Files that a control plane has and a worker has not.
const OF_A_CONTROL_PLANE: &[&str] = &[
    INIT,
    APISERVER_POD,
    "/etc/kubernetes/controller-manager.conf",
    "/etc/kubernetes/pki/apiserver.crt",
];

/// A worker that is to be a control plane, or the other way round: a kubelet that was told to run no static pods would start no API
/// server, and an API server that is no longer wanted would go on. kubeadm cannot convert a node either.
pub(super) fn changed(node: &Node, facts: &NodeFacts) -> Option<Problem> {
    let is_file = |path: &str| matches!(facts.files.get(path), Some(FileFacts::File { .. }));
    let in_cluster = facts.unit_marks.contains_key(CLUSTER_MARK) || is_file(KUBELET_CONFIG);
    // One file that somebody put there or took away decides nothing.
    let there: Vec<&str> =
        OF_A_CONTROL_PLANE.iter().copied().filter(|path| is_file(path)).collect();
    let was = there.len() * 2 >= OF_A_CONTROL_PLANE.len();
    let is = node.has_role(Role::ControlPlane);
    if !in_cluster || was == is {
        return None;
    }
    let role = |plane: bool| if plane { "a control plane" } else { "a worker" };
    let evidence = match there.is_empty() {
        true => "it has no files of a control plane".to_owned(),
        false => format!("it has {}", there.join(", ")),
    };
    Some(
        Problem::new(format!(
            "the node is {} of the cluster, but the inventory makes it {}",
            role(was),
            role(is)
        ))
        .at(node.name.to_string())
        .because(evidence)
        .because("kubeadm cannot convert a node that is in a cluster")
        .left("no plan was made")
        .hint(format!(
            "restore `roles`; to convert the node, run `kubastion reset --nodes {}` with the old roles first",
            node.name
        )),
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::with_files;
    use super::*;
    use crate::inventory::testing;

    #[test]
    fn a_node_in_a_cluster_keeps_its_role() {
        let with = |role: &str, paths: &[&str]| {
            let inventory = testing::with(&format!(
                "nodes:\n- {{name: n, addresses: [10.0.0.1], roles: [{role}]}}\n"
            ));
            changed(&inventory.nodes[0], &with_files(paths)).map(|p| p.what)
        };
        let worker = [KUBELET_CONFIG];
        let mut plane = vec![KUBELET_CONFIG];
        plane.extend(OF_A_CONTROL_PLANE);
        assert_eq!(with("worker", &worker), None);
        assert_eq!(with("control-plane", &plane), None);
        assert_eq!(with("control-plane", &[]), None, "it is part of nothing yet");
        assert!(with("control-plane", &worker).unwrap().contains("is a worker of the cluster"));
        assert!(with("worker", &plane).unwrap().contains("is a control plane of the cluster"));
        // A file that somebody put there, and two that somebody took away.
        assert_eq!(with("worker", &[KUBELET_CONFIG, INIT]), None);
        assert_eq!(with("control-plane", &plane[..3]), None);
    }
}
