//! How often nobody answers at the API's endpoint while a plan is carried out: said before, and counted by a test.

use super::model::NodePlan;
use super::step::Step;
use crate::desired::KubeadmAction;
use crate::inventory::{Inventory, Node, Role};

/// What clients notice of a plan, if they reach one API server alone: that of this node.
pub(super) fn note(inventory: &Inventory, node: &Node, plan: &NodePlan) -> Option<String> {
    if !node.has_role(Role::ControlPlane) || inventory.cluster.virtual_address().is_some() {
        return None;
    }
    let steps = plan.transactions.iter().flat_map(|t| &t.steps);
    let restarts = steps.filter(|a| restarts_api_server(&a.step)).count();
    let host = inventory.cluster.endpoint.host.as_str();
    let is_alone = inventory.with_role(Role::ControlPlane).count() == 1;
    let why = match node.addresses.iter().any(|a| host == a.to_string()) {
        true => "the API endpoint is this node's own address",
        false if is_alone => "the cluster has one API server",
        false => return None,
    };
    match restarts {
        0 => None,
        1 => Some(format!("{why}: the API is unreachable while its API server restarts, once")),
        n => {
            Some(format!("{why}: the API is unreachable while its API server restarts, {n} times"))
        }
    }
}

fn restarts_api_server(step: &Step) -> bool {
    match step {
        Step::Kubeadm { action, .. } => *action == KubeadmAction::Configure,
        Step::StaticPod { component, .. } => component == "kube-apiserver",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Phase;
    use crate::inventory::testing;
    use crate::plan::{Action, Transaction};

    fn plan(steps: Vec<Step>) -> NodePlan {
        let action = |step| Action { step, controls: Default::default(), why: Vec::new() };
        let transaction = Transaction {
            phase: Phase::Kubernetes,
            confirm_within_s: None,
            steps: steps.into_iter().map(action).collect(),
            expect: Default::default(),
        };
        NodePlan { transactions: vec![transaction], ..NodePlan::default() }
    }

    #[test]
    fn who_reaches_one_api_server_alone_is_told_how_often_it_is_away() {
        let mut one = testing::of_nodes([("cp1", Role::ControlPlane), ("w1", Role::Worker)]);
        let configure = || Step::Kubeadm { action: KubeadmAction::Configure, mark: "m".into() };
        let pod = |component: &str| Step::StaticPod {
            component: component.into(),
            manifest: "/m.yaml".into(),
        };
        let said = |i: &Inventory, n: usize, steps| note(i, &i.nodes[n], &plan(steps));
        let once = said(&one, 0, vec![configure()]).unwrap();
        assert!(once.starts_with("the cluster has one API server: ") && once.ends_with(", once"));
        let twice = said(&one, 0, vec![configure(), pod("kube-apiserver")]).unwrap();
        assert!(twice.ends_with(", 2 times"), "{twice}");
        assert_eq!(said(&one, 0, vec![pod("kube-scheduler"), Step::Verify]), None);
        assert_eq!(said(&one, 1, vec![configure()]), None);
        // With several, whoever asks another one notices nothing.
        let planes = [("cp1", Role::ControlPlane), ("cp2", Role::ControlPlane)];
        let mut two = testing::of_nodes(planes);
        assert_eq!(said(&two, 0, vec![configure()]), None);
        let own = two.nodes[0].addresses[0];
        for i in [&mut one, &mut two] {
            i.cluster.endpoint = format!("{own}:6443").parse().unwrap();
        }
        let own = said(&two, 0, vec![configure()]).unwrap();
        assert!(own.starts_with("the API endpoint is this node's own address: "), "{own}");
        assert_eq!(said(&two, 1, vec![configure()]), None);
    }
}
