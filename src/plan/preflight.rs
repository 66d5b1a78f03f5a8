//! What must hold before a node is planned at all: found here, it costs nothing; found in the middle
//! of an apply, it costs a rollback.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::controls::daemons::ENDPOINT_STATUS_PORT;
use crate::desired::{CONFLIST, tunnel_closed};
use crate::error::Problem;
use crate::facts::{FileFacts, InputKept, Login, NodeFacts};
use crate::inventory::{Inventory, Node, Role, Software, SoftwareSource};
use crate::plan::diff::CLUSTER_MARK;
use crate::plan::{NodePlan, Step, stored_data};
use crate::runs::record::run_of;

/// Free space below which nothing is begun: images of the old state and new files must both fit.
const MIN_FREE_BYTES: u64 = 200 * 1024 * 1024;

/// Clocks further apart than this break certificates that were just issued (`notBefore` lies five
/// minutes back) and etcd's leases.
const MAX_SKEW_S: i64 = 240;

/// What `kubeadm init` and `join` want for a control plane (ControlPlaneNumCPU and ControlPlaneMem of
/// kubeadm's constants, 1.36); they would say so after everything was sent.
const PLANE_CPUS: u64 = 2;
const PLANE_MEMORY_BYTES: u64 = 1700 << 20;

/// Commands that the node-side programs need.
const NEEDED: &[&str] = &["fallocate", "flock", "sha256sum", "stat", "tar"];

/// Every blocker on one node.
///
/// `reference_epoch_s` is the median of all nodes' clocks, so that one wrong clock (also the
/// operator's) is reported instead of all others.
pub fn check(
    inventory: &Inventory,
    software: Option<&Software>,
    node: &Node,
    facts: &NodeFacts,
    reference_epoch_s: i64,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut report = |what: String, hint: &str| {
        problems.push(Problem::new(what).at(node.name.to_string()).hint(hint));
    };
    if !facts.systemd {
        report("PID 1 is not systemd".into(), "only systemd is supported");
    }
    if facts.os.family().is_none() {
        report(
            format!("{} is not supported", facts.os.pretty),
            "only the Debian and Red Hat families are supported",
        );
    }
    for command in NEEDED.iter().filter(|c| !facts.commands.contains(**c)) {
        report(
            format!("the command `{command}` is missing"),
            "install util-linux, coreutils and tar",
        );
    }
    if facts.input_kept == InputKept::Yes {
        let user = inventory.ssh.for_node(node).user;
        report(
            "sudo records its input (`log_input`), which includes private keys".into(),
            &format!(
                "add `Defaults:{user} !log_input` to a file in /etc/sudoers.d on the node; run `sudo -l -U \
                 {user}` to see whether another line sets it"
            ),
        );
    }
    if facts.hostname != node.name.as_str() {
        report(
            format!(
                "the host name is `{}`, and the inventory says `{}`",
                facts.hostname, node.name
            ),
            "make the node's name in the inventory and its host name equal: the kubelet registers under the host \
             name (CIS 4.2.7)",
        );
    }
    let known = |a: &std::net::IpAddr| facts.addresses.iter().any(|i| i.network.addr() == *a);
    for address in node.addresses.iter().filter(|a| !facts.addresses.is_empty() && !known(a)) {
        report(
            format!("the node has no interface with the address {address}"),
            "`addresses` lists the addresses that nodes use among each other; set `ssh.host` for an address that \
             only SSH uses",
        );
    }
    let full =
        |free: u64, of: &str| format!("{} MB are free on the file system of {of}", free >> 20);
    const FULL: &str = "200 MB are needed for the images of the old state and for the new files";
    if facts.var_free_bytes < MIN_FREE_BYTES {
        report(full(facts.var_free_bytes, VAR), FULL);
    }
    for (directory, disk) in facts.disks.iter().filter(|(d, _)| own_disk(facts, d)) {
        if disk.free_bytes < MIN_FREE_BYTES {
            report(full(disk.free_bytes, directory), FULL);
        }
    }
    let skew = facts.clock_epoch_s - reference_epoch_s;
    if skew.abs() > MAX_SKEW_S {
        report(
            format!("the clock is {skew} s off the median of all nodes"),
            "synchronize the clock first: certificates would be not yet valid, or expired",
        );
    }
    if facts.cgroup_version == 1 && !inventory.host.lab {
        report(
            "the node uses cgroup v1".into(),
            "Kubernetes 1.35 and later refuse cgroup v1; boot with systemd.unified_cgroup_hierarchy=1",
        );
    }
    if let Some(software) = software
        && software.machine != facts.arch
    {
        report(
            format!("the machine is {}, and the bundle is for {}", facts.arch, software.machine),
            "set `kubernetes.bundle.path` to a bundle for this architecture",
        );
    }
    if inventory.kubernetes.source == SoftwareSource::Preinstalled
        && (node.has_role(Role::ControlPlane) || node.has_role(Role::Worker))
    {
        for program in ["kubeadm", "kubelet"].iter().filter(|p| !facts.commands.contains(**p)) {
            report(
                format!(
                    "`{program}` is not on the node, but the inventory says that it is preinstalled"
                ),
                "install it, or set another `kubernetes.source`",
            );
        }
    }
    if node.has_role(Role::ControlPlane)
        && inventory.kubernetes.source != SoftwareSource::None
        && !facts.unit_marks.contains_key(CLUSTER_MARK)
    {
        if facts.cpus < PLANE_CPUS {
            report(
                format!("the node has {} CPU", facts.cpus),
                "kubeadm requires two or more for a control plane",
            );
        }
        if facts.memory_bytes < PLANE_MEMORY_BYTES {
            report(
                format!("the node has {} MB of memory", facts.memory_bytes >> 20),
                "kubeadm requires 1700 MB or more for a control plane",
            );
        }
    }
    if let Some(socket) = inventory.encryption.kms_socket()
        && node.has_role(Role::ControlPlane)
        && inventory.kubernetes.source != SoftwareSource::None
        && !matches!(facts.files.get(socket), Some(FileFacts::Other { .. }))
    {
        report(
            format!("the KMS plugin's socket {socket} is missing"),
            "start the plugin of `encryption.kms_endpoint` first: without it, the API server does not start and \
             cannot read Secrets",
        );
    }
    if let Some(why) = tunnel_closed(inventory, node, facts) {
        report(
            why,
            "open the tunnel's port with a rule in `firewall.extra_rules`; otherwise access ends when the tunnel's \
             established connection does",
        );
    }
    let own = inventory.ssh.for_node(node).user;
    let lost = facts.logins.iter().flatten().find(|l| l.name == own.as_str() && l.lost.is_some());
    if let Some(Login { name, lost: Some(why), .. }) = lost {
        report(
            format!("login `{name}`, which kubastion uses, would stop working: {why}"),
            "give the login its own key, or set `ssh.user` to another login",
        );
    }
    for (port, daemon) in taken(inventory, node, facts) {
        report(
            format!("port {port} is in use, but not by {daemon}"),
            "run `ss -lntp` on the node to see which process listens, and stop it",
        );
    }
    for t in facts.open_transactions.iter().filter(|t| t.is_incomplete()) {
        let run = run_of(&t.id);
        report(
            format!("transaction {} of an earlier run could not be undone", t.id),
            &format!(
                "fix the cause (restore.out in /var/lib/kubastion/txn/{} names it), then run `kubastion rollback \
                 {run}`, or add --accept-present to keep the node as it is. If `kubastion reset --nodes {}` was \
                 running, run it again",
                t.id, node.name
            ),
        );
    }
    problems.extend(stored_data::found(inventory, node, facts));
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

/// Where everything below lies, unless a directory is a disk of its own.
const VAR: &str = "/var/lib";
/// Where files of a bundle arrive, and where those are kept that they replace.
const OURS: &str = "/var/lib/kubastion";
/// Where images are unpacked.
const CONTAINERD: &str = "/var/lib/containerd";

/// Whether a directory does not share the room of /var/lib.
fn own_disk(facts: &NodeFacts, directory: &str) -> bool {
    let id = |d| facts.disks.get(d).map(|d| &d.id);
    id(directory).is_some() && id(directory) != id(VAR)
}

/// What is missing for a plan's files of a bundle to find room on the node, for each file system.
pub fn room(plan: &NodePlan, facts: &NodeFacts) -> Vec<Problem> {
    let mut needed: BTreeMap<&str, u64> = BTreeMap::new();
    let mut need = |directory: &'static str, bytes: u64| {
        let of = if own_disk(facts, directory) { directory } else { VAR };
        *needed.entry(of).or_default() += bytes;
    };
    for action in plan.transactions.iter().flat_map(|t| &t.steps) {
        match &action.step {
            // It is moved to its place; one that is there is kept for the way back.
            Step::Program { blob, .. } => need(OURS, blob.size * 2),
            // The archive, its content in containerd, and what is unpacked from that.
            Step::Images { archive, .. } => {
                need(OURS, archive.size);
                need(CONTAINERD, archive.size * 2);
            }
            _ => {}
        }
    }
    let free = |directory: &str| match facts.disks.get(directory) {
        Some(disk) if directory != VAR => disk.free_bytes,
        _ => facts.var_free_bytes,
    };
    needed
        .into_iter()
        .map(|(directory, bytes)| (directory, free(directory), bytes + MIN_FREE_BYTES))
        .filter(|(_, free, wanted)| free < wanted)
        .map(|(directory, free, wanted)| {
            let (free, wanted) = (free >> 20, wanted >> 20);
            Problem::new(format!("{free} MB are free on the file system of {directory}"))
                .hint(format!("{wanted} MB are needed for the software of the bundle"))
        })
        .collect()
}

/// The bridge that pods of a node are on (templates/runtime/bridge.conflist).
const BRIDGE: &str = "cni0";

/// Whether pods of a node would get addresses of another part of the pod network: those that run keep the old ones, which by
/// then are another node's. `conflist` is what the plan writes. The bridge tells where pods are, whatever somebody made of the
/// file; without a bridge no pod has run, and another file is one of another network.
pub fn moves_pods(plan: &NodePlan, facts: &NodeFacts, conflist: Option<&str>) -> bool {
    let is_conflist = |directory: &str, name: &str| {
        CONFLIST.strip_prefix(directory).is_some_and(|rest| rest.strip_prefix('/') == Some(name))
    };
    let written = plan.transactions.iter().flat_map(|t| &t.steps).find_map(|a| match &a.step {
        Step::Files { directory, files } => {
            files.iter().find(|(name, _)| is_conflist(directory, name)).map(|(_, file)| file)
        }
        _ => None,
    });
    let Some(file) = written.filter(|_| facts.unit_marks.contains_key(CLUSTER_MARK)) else {
        return false;
    };
    let is_local = |a: &IpAddr| matches!(a, IpAddr::V6(a) if a.is_unicast_link_local());
    let on_bridge = facts.addresses.iter().filter(|a| a.interface == BRIDGE);
    let pods: Vec<IpAddr> = on_bridge.map(|a| a.network.addr()).filter(|a| !is_local(a)).collect();
    if pods.is_empty() {
        return file.replaces;
    }
    let wanted = conflist.map(subnets).unwrap_or_default();
    pods.iter().any(|pod| !wanted.iter().any(|subnet| subnet.contains(pod)))
}

/// The subnets of a network of containerd's.
fn subnets(conflist: &str) -> Vec<IpNet> {
    let network: serde_json::Value = serde_json::from_str(conflist).unwrap_or_default();
    let ranges = network.pointer("/plugins/0/ipam/ranges").and_then(|r| r.as_array());
    let ranges = ranges.into_iter().flatten().filter_map(|r| r.as_array()).flatten();
    ranges.filter_map(|r| r["subnet"].as_str()?.parse().ok()).collect()
}

/// The median of all clocks.
pub fn median(mut clocks: Vec<i64>) -> i64 {
    clocks.sort_unstable();
    clocks.get(clocks.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::{Blob, Phase};
    use crate::facts::{Disk, Listener};
    use crate::facts::{InterfaceAddress, LostLogin};
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
            NEEDED.iter().chain(&["kubeadm", "kubelet"]).map(|c| (*c).to_owned()).collect();
        facts.var_free_bytes = 10 << 30;
        facts
    }

    fn said(inventory: &Inventory, facts: &NodeFacts) -> String {
        let problems = check(inventory, None, &inventory.nodes[0], facts, facts.clock_epoch_s);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_the_programs_on_nodes_refuse_to_go_without_is_asked_for_before() {
        let list =
            crate::apply::STAGE_SCRIPT.lines().find_map(|l| l.strip_prefix("for command in "));
        let mut listed: Vec<&str> =
            list.unwrap().strip_suffix("; do").unwrap().split(' ').collect();
        listed.sort_unstable();
        assert_eq!(listed, NEEDED);
        assert!(NEEDED.iter().all(|c| crate::facts::COMMANDS.contains(c)));
    }

    #[test]
    fn an_api_server_is_not_started_without_its_kms_plugin() {
        let with = |source: &str| {
            testing::with(&format!(
                "kubernetes: {{source: {source}}}\n\
                 encryption: {{provider: kms, kms_endpoint: 'unix:///run/kms/plugin.sock'}}\n\
                 nodes:\n- {{name: n, addresses: [10.0.0.1], roles: [control-plane]}}\n"
            ))
        };
        let is_missing =
            |facts: &NodeFacts| said(&with("bundle"), facts).contains("/run/kms/plugin.sock");
        let mut facts = facts();
        let (owner, group) = ("root".to_owned(), "root".to_owned());
        let socket = FileFacts::Other { mode: 0o600, owner: owner.clone(), group: group.clone() };
        let directory = FileFacts::Directory { mode: 0o700, owner, group };
        assert!(is_missing(&facts), "nobody looked");
        for (found, missing) in [(FileFacts::Absent, true), (directory, true), (socket, false)] {
            facts.files.insert("/run/kms/plugin.sock".into(), found.clone());
            assert_eq!(is_missing(&facts), missing, "{found:?}");
        }
        facts.files.clear();
        assert_eq!(said(&with("none"), &facts), "", "nothing is started there");
    }

    #[test]
    fn a_control_plane_too_small_for_kubeadm_is_not_begun() {
        let mut small = facts();
        (small.cpus, small.memory_bytes) = (1, 1 << 30);
        let found = said(&inventory("bundle"), &small);
        assert!(found.contains("1 CPU") && found.contains("1024 MB of memory"), "{found}");
        assert_eq!(said(&inventory("none"), &small), "", "nothing is started there");
        // One that is there already runs with what it has.
        small.unit_marks.insert(CLUSTER_MARK.into(), "m".into());
        assert_eq!(said(&inventory("bundle"), &small), "");
    }

    /// Before anything secret is sent.
    #[test]
    fn a_sudo_that_keeps_what_it_is_sent_is_given_nothing() {
        let mut facts = facts();
        facts.input_kept = InputKept::Yes;
        let found = said(&inventory("none"), &facts);
        assert!(
            found.contains("`log_input`") && found.contains("Defaults:root !log_input"),
            "{found}"
        );
        facts.input_kept = InputKept::Unknown;
        assert_eq!(said(&inventory("none"), &facts), "", "a note of the plan says it");
    }

    #[test]
    fn a_port_that_somebody_else_has_is_found_before_anything_is_begun() {
        let listener = |port| Listener { protocol: "tcp".into(), address: "::".into(), port };
        let mut facts = facts();
        facts.processes = BTreeMap::new();
        facts.listeners = Some(vec![listener(6443), listener(10250), listener(2379)]);
        let found = said(&inventory("bundle"), &facts);
        for port in ["6443", "10250", "2379"] {
            assert!(found.contains(&format!("port {port} is in use")), "{found}");
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

    fn plan_of(step: Step) -> NodePlan {
        let action = Action { step, controls: Default::default(), why: Vec::new() };
        let transaction = Transaction {
            phase: Phase::Images,
            confirm_within_s: None,
            steps: vec![action],
            expect: BTreeMap::new(),
        };
        NodePlan { transactions: vec![transaction], ..NodePlan::default() }
    }

    #[test]
    fn a_bundle_that_does_not_fit_is_refused() {
        let step = Step::Images {
            archive: Blob { sha256: "a".repeat(64), size: 1 << 30 },
            references: vec!["r".into()],
        };
        let plan = plan_of(step);
        let mut facts = facts();
        let said = |facts: &NodeFacts| -> String {
            room(&plan, facts).iter().map(ToString::to_string).collect()
        };
        assert_eq!(said(&facts), "");
        facts.var_free_bytes = 2 << 30;
        assert!(said(&facts).contains("MB are free on the file system of /var/lib\n"));
        assert!(room(&NodePlan::default(), &facts).is_empty());
        // A disk of its own for containerd takes two thirds of it, and has to have them.
        let disk = |id: &str, free_bytes| Disk { id: id.into(), free_bytes };
        facts.disks =
            [(VAR.into(), disk("a", 2 << 30)), (CONTAINERD.into(), disk("b", 3 << 30))].into();
        assert_eq!(said(&facts), "");
        facts.disks.insert(CONTAINERD.into(), disk("b", 1 << 30));
        assert!(said(&facts).contains("file system of /var/lib/containerd\n"), "{}", said(&facts));
        facts.disks.insert(CONTAINERD.into(), disk("a", 3 << 30));
        assert!(said(&facts).contains("file system of /var/lib\n"), "they share it");
    }

    #[test]
    fn a_full_disk_is_found_wherever_it_is() {
        let mut facts = facts();
        facts.listeners = Some(Vec::new());
        let disk = |id: &str, free_bytes| Disk { id: id.into(), free_bytes };
        facts.disks =
            [(VAR.into(), disk("a", 10 << 30)), ("/var/lib/etcd".into(), disk("b", 1 << 20))]
                .into();
        let found = said(&inventory("bundle"), &facts);
        assert!(found.contains("1 MB are free on the file system of /var/lib/etcd"), "{found}");
        facts.disks.remove("/var/lib/etcd");
        facts.var_free_bytes = 1 << 20;
        let found = said(&inventory("bundle"), &facts);
        assert!(found.contains("1 MB are free on the file system of /var/lib\n"), "{found}");
    }

    #[test]
    fn a_node_that_is_not_what_the_inventory_says_is_not_begun_with() {
        let mut facts = facts();
        facts.listeners = Some(Vec::new());
        let inventory = inventory("bundle");
        let node = &inventory.nodes[0];
        let at = |facts: &NodeFacts, reference| -> String {
            check(&inventory, None, node, facts, reference)
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        let now = facts.clock_epoch_s;
        assert_eq!(at(&facts, now), "");
        assert!(at(&facts, now - 600).contains("the clock is 600 s off the median"));
        assert!(at(&facts, now + 600).contains("the clock is -600 s off the median"));
        facts.hostname = "elsewhere".into();
        assert!(at(&facts, now).contains("host name is `elsewhere`, and the inventory says `n`"));
        facts.hostname = "n".into();
        facts.cgroup_version = 1;
        assert!(at(&facts, now).contains("the node uses cgroup v1"));
        let mut lab = inventory.clone();
        lab.host.lab = true;
        assert!(check(&lab, None, node, &facts, now).is_empty(), "a lab may have it");
        let software = Software { machine: "riscv64".into(), ..Software::default() };
        let problems = check(&lab, Some(&software), node, &facts, now);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].what.contains("and the bundle is for riscv64"), "{problems:?}");
    }

    /// A new connection in a tunnel rides on what is established: it would be confirmed, and nobody got in later.
    #[test]
    fn a_way_in_through_a_tunnel_that_would_be_closed_is_not_begun_with() {
        let mut facts = facts();
        facts.listeners =
            Some(vec![Listener { protocol: "udp".into(), address: "0.0.0.0".into(), port: 51821 }]);
        let tunnel = |name: &str| crate::facts::InterfaceAddress {
            interface: name.into(),
            network: "10.0.0.1/24".parse().unwrap(),
        };
        facts.addresses = vec![tunnel("eth0")];
        assert_eq!(said(&inventory("bundle"), &facts), "");
        facts.addresses = vec![tunnel("wg0")];
        let found = said(&inventory("bundle"), &facts);
        assert!(
            found.contains(
                "10.0.0.1 is an address of tunnel wg0, and the firewall would close 51821/udp"
            ),
            "{found}"
        );
        let mut named = inventory("bundle");
        named.firewall.extra_rules = vec![crate::inventory::FirewallRule {
            name: "vpn".into(),
            roles: Vec::new(),
            protocol: crate::inventory::FirewallProtocol::Udp,
            ports: vec![51821],
            from: Vec::new(),
        }];
        assert_eq!(said(&named, &facts), "");
    }

    #[test]
    fn the_login_of_the_inventory_is_not_shut_out() {
        let mut facts = facts();
        facts.listeners = Some(Vec::new());
        let user = inventory("bundle").ssh.for_node(&inventory("bundle").nodes[0]).user;
        let login = |name: &str, lost: Option<&str>| Login {
            name: name.into(),
            address: "192.0.2.9".into(),
            lost: lost.map(|why| LostLogin::Other(why.to_owned())),
        };
        let why = Some("no enabled method");
        facts.logins = Some(vec![login(user.as_str(), None), login("other", why)]);
        assert_eq!(said(&inventory("bundle"), &facts), "");
        facts.logins = Some(vec![login(user.as_str(), why)]);
        let found = said(&inventory("bundle"), &facts);
        assert!(found.contains("would stop working: no enabled method"), "{found}");
    }

    #[test]
    fn pods_of_a_member_keep_their_network() {
        let moves = |is_member: bool, path: &str, replaces: bool, bridge: Option<&str>| {
            let mut facts = facts();
            if is_member {
                facts.unit_marks.insert(CLUSTER_MARK.into(), "m".into());
            }
            let (directory, name) = path.rsplit_once('/').unwrap();
            let (sha256, access) = (String::new(), crate::desired::Access::root(0o600));
            let file = crate::plan::NewFile { sha256, size: 1, access, secret: false, replaces };
            let step =
                Step::Files { directory: directory.into(), files: [(name.into(), file)].into() };
            facts.addresses.extend(bridge.map(|network| InterfaceAddress {
                interface: BRIDGE.into(),
                network: network.parse().unwrap(),
            }));
            let text = r#"{"plugins": [{"ipam": {"ranges": [[{"subnet": "10.244.1.0/24"}]]}}]}"#;
            moves_pods(&plan_of(step), &facts, Some(text))
        };
        assert!(moves(true, CONFLIST, true, None));
        assert!(!moves(false, CONFLIST, true, None), "nothing runs there yet");
        assert!(!moves(true, CONFLIST, false, None), "it was not there");
        assert!(!moves(true, "/etc/cni/net.d/99-other.conflist", true, None));
        // The bridge has the last word: over a file that somebody changed, and over one that somebody removed.
        let (own, other) = (Some("10.244.1.1/24"), Some("10.99.1.1/24"));
        assert!(!moves(true, CONFLIST, true, own) && !moves(true, CONFLIST, false, own));
        assert!(moves(true, CONFLIST, true, other) && moves(true, CONFLIST, false, other));
        assert!(!moves(false, CONFLIST, true, other));
    }
}
