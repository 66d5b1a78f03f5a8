//! What must hold before a node is planned at all: found here, it costs nothing; found in the middle
//! of an apply, it costs a rollback.

use crate::desired::ENDPOINT_STATUS_PORT;
use crate::error::Problem;
use crate::facts::NodeFacts;
use crate::inventory::{Inventory, Node, Role, SoftwareSource};
use crate::plan::{NodePlan, Step};

/// Free space below which nothing is begun: images of the old state and new files must both fit.
const MIN_FREE_BYTES: u64 = 200 * 1024 * 1024;

/// Clocks further apart than this break certificates that were just issued (`notBefore` lies five
/// minutes back) and etcd's leases.
const MAX_SKEW_S: i64 = 240;

/// Commands that the node-side programs need.
const NEEDED: [&str; 3] = ["flock", "sha256sum", "tar"];

/// Everything that stands in the way on one node.
///
/// `reference_epoch_s` is the median of all nodes' clocks, so that one wrong clock (also the
/// operator's) stands out instead of condemning the others.
pub fn check(
    inventory: &Inventory,
    node: &Node,
    facts: &NodeFacts,
    reference_epoch_s: i64,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut report = |what: String, hint: &str| {
        problems.push(Problem::new(what).at(node.name.to_string()).hint(hint));
    };
    if !facts.systemd {
        report("PID 1 is not systemd".into(), "only systems with systemd are supported");
    }
    if facts.os.family().is_none() {
        report(
            format!("{} is not supported", facts.os.pretty),
            "supported are the Debian and Red Hat families",
        );
    }
    for command in NEEDED.iter().filter(|c| !facts.commands.contains(**c)) {
        report(
            format!("the command `{command}` is missing"),
            "install util-linux, coreutils and tar",
        );
    }
    if facts.hostname != node.name.as_str() {
        report(
            format!("the host name is `{}`", facts.hostname),
            "make the inventory's name and the host name equal: the kubelet registers under it \
             (CIS 4.2.7)",
        );
    }
    if facts.var_free_bytes < MIN_FREE_BYTES {
        report(
            format!("{} MB are free on the file system of /var/lib", facts.var_free_bytes >> 20),
            "200 MB are needed, for the images of the old state and the new files",
        );
    }
    let skew = facts.clock_epoch_s - reference_epoch_s;
    if skew.abs() > MAX_SKEW_S {
        report(
            format!("the clock is {skew} s off the median of all nodes"),
            "synchronize it first: certificates would not be valid yet, or not any more",
        );
    }
    if facts.cgroup_version == 1 && !inventory.host.lab {
        report(
            "the cgroup hierarchy is version 1".into(),
            "Kubernetes 1.35 and later refuse it; boot with systemd.unified_cgroup_hierarchy=1",
        );
    }
    if let Some(software) = &inventory.kubernetes.software
        && software.machine != facts.arch
    {
        report(
            format!("the machine is {}, and the bundle is for {}", facts.arch, software.machine),
            "name a bundle for this architecture under `kubernetes.bundle.path`",
        );
    }
    if inventory.kubernetes.source == SoftwareSource::Preinstalled
        && (node.has_role(Role::ControlPlane) || node.has_role(Role::Worker))
    {
        for program in ["kubeadm", "kubelet"].iter().filter(|p| !facts.commands.contains(**p)) {
            report(
                format!("`{program}` is not on the node, and the inventory says that it is"),
                "install it, or name another `kubernetes.source`",
            );
        }
    }
    for (port, daemon) in taken(inventory, node, facts) {
        report(
            format!("port {port} is taken, and not by a {daemon} that is known here"),
            "`ss -lntp` on the node shows who listens; it has to go first",
        );
    }
    for t in facts.open_transactions.iter().filter(|t| t.state == "incomplete") {
        report(
            format!("transaction {} of an earlier run could not be undone", t.id),
            "see /var/lib/kubastion/txn on the node; when it is mended by hand, write `reverted` to its state file",
        );
    }
    problems
}

/// Ports that the node's daemons will need (<https://kubernetes.io/docs/reference/networking/ports-and-protocols/>),
/// and that something else listens on. A daemon that runs already is not in its own way.
fn taken(inventory: &Inventory, node: &Node, facts: &NodeFacts) -> Vec<(u16, &'static str)> {
    let control_plane = node.has_role(Role::ControlPlane);
    let kubelet = control_plane || node.has_role(Role::Worker);
    let brings_up = inventory.kubernetes.source != SoftwareSource::None;
    let member = inventory.is_etcd_member(node);
    let mut rows = vec![
        (2379, "etcd", "etcd", member),
        (2380, "etcd", "etcd", member),
        (6443, "kube-apiserver", "kube-apiserver", control_plane && brings_up),
        (10250, "kubelet", "kubelet", kubelet && brings_up),
        (10256, "kube-proxy", "kube-proxy", kubelet && brings_up),
        (10257, "kube-controller", "kube-controller-manager", control_plane && brings_up),
        (10259, "kube-scheduler", "kube-scheduler", control_plane && brings_up),
    ];
    if let Some(endpoint) = inventory.cluster.virtual_address() {
        rows.push((endpoint.port, "haproxy", "haproxy", control_plane));
        rows.push((ENDPOINT_STATUS_PORT, "haproxy", "haproxy", control_plane));
    }
    let listening = |port: u16| {
        facts.listeners.iter().flatten().any(|l| l.port == port && l.protocol.starts_with("tcp"))
    };
    rows.into_iter()
        .filter(|(port, process, _, needed)| {
            *needed && listening(*port) && !facts.processes.contains_key(*process)
        })
        .map(|(port, _, daemon, _)| (port, daemon))
        .collect()
}

/// What is missing for a plan's files of a bundle to find room on the node.
pub fn room(plan: &NodePlan, facts: &NodeFacts) -> Option<Problem> {
    let steps = plan.transactions.iter().flat_map(|t| &t.steps);
    let needed: u64 = steps
        .map(|a| match &a.step {
            // It is moved to its place; one that is there is kept for the way back.
            Step::Program { blob, .. } => blob.size * 2,
            // The archive, its content in containerd, and what is unpacked from that.
            Step::Images { archive, .. } => archive.size * 3,
            _ => 0,
        })
        .sum();
    let wanted = needed + MIN_FREE_BYTES;
    (needed > 0 && facts.var_free_bytes < wanted).then(|| {
        let (free, wanted) = (facts.var_free_bytes >> 20, wanted >> 20);
        Problem::new(format!("{free} MB are free on the file system of /var/lib"))
            .hint(format!("{wanted} MB are needed for what comes out of the bundle"))
    })
}

/// The middle one of all clocks.
pub fn median(mut clocks: Vec<i64>) -> i64 {
    clocks.sort_unstable();
    clocks.get(clocks.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::desired::{Blob, Phase};
    use crate::facts::Listener;
    use crate::inventory::testing;
    use crate::plan::{Action, Transaction};

    fn inventory(source: &str) -> Inventory {
        testing::with(&format!(
            "kubernetes: {{source: {source}}}\n\
             nodes:\n- {{name: n, addresses: [10.0.0.1], roles: [control-plane]}}\n"
        ))
    }

    /// A node with nothing wrong, of the tests of the desired state.
    fn facts() -> NodeFacts {
        let mut facts = crate::desired::tests::facts("n", "debian 12", None);
        facts.commands =
            ["flock", "kubeadm", "kubelet", "sha256sum", "tar"].map(str::to_owned).into();
        facts.var_free_bytes = 10 << 30;
        facts
    }

    fn said(inventory: &Inventory, facts: &NodeFacts) -> String {
        let problems = check(inventory, &inventory.nodes[0], facts, facts.clock_epoch_s);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_port_that_somebody_else_has_is_found_before_anything_is_begun() {
        let listener = |port| Listener { protocol: "tcp".into(), address: "::".into(), port };
        let mut facts = facts();
        facts.processes = BTreeMap::new();
        facts.listeners = Some(vec![listener(6443), listener(10250), listener(2379)]);
        let found = said(&inventory("bundle"), &facts);
        for port in ["6443", "10250", "2379"] {
            assert!(found.contains(&format!("port {port} is taken")), "{found}");
        }
        // Where no cluster is brought up, only etcd's are needed.
        let found = said(&inventory("none"), &facts);
        assert!(found.contains("2379") && !found.contains("6443"), "{found}");
        // A cluster that runs is not in its own way.
        for process in ["etcd", "kube-apiserver", "kubelet"] {
            facts.processes.insert(process.into(), Vec::new());
        }
        assert_eq!(said(&inventory("bundle"), &facts), "");
    }

    #[test]
    fn what_is_said_to_be_installed_has_to_be_there() {
        let mut facts = facts();
        facts.listeners = Some(Vec::new());
        facts.commands.remove("kubeadm");
        facts.commands.remove("kubelet");
        let found = said(&inventory("preinstalled"), &facts);
        assert!(found.contains("kubeadm") && found.contains("kubelet"), "{found}");
        assert_eq!(said(&inventory("bundle"), &facts), "");
    }

    #[test]
    fn a_bundle_that_does_not_fit_is_refused() {
        let step = Step::Images {
            archive: Blob { sha256: "a".repeat(64), size: 1 << 30 },
            references: vec!["r".into()],
        };
        let action = Action { step, controls: Default::default(), why: String::new() };
        let transaction = Transaction {
            phase: Phase::Images,
            confirm_within_s: None,
            steps: vec![action],
            expect: BTreeMap::new(),
        };
        let plan = NodePlan { transactions: vec![transaction], ..NodePlan::default() };
        let mut facts = facts();
        assert!(room(&plan, &facts).is_none());
        facts.var_free_bytes = 2 << 30;
        assert!(room(&plan, &facts).unwrap().to_string().contains("MB are free"));
        assert!(room(&NodePlan::default(), &facts).is_none());
    }
}
