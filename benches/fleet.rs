//! kubastion against bare OpenSSH, side by side in one run: the same nodes, the same files.
//!
//! `make bench` runs it (root on Debian: it brings its own lab of ten nodes up). What is measured is
//! in docs/benchmarks.md. Each figure is a wall-clock time; the pairs alternate, so that a machine
//! whose speed drifts slows both.

// A bench is test code: what fails is to be seen at once.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use kubastion::apply::record::Journal;
use kubastion::apply::{Controls, execute};
use kubastion::cli::pipeline;
use kubastion::clock::Clock;
use kubastion::desired::{
    self, Access, Content, DesiredState, FileCheck, Item, ItemKind, NodeDesired, Phase,
};
use kubastion::event::Silent;
use kubastion::facts::{WatchList, collect};
use kubastion::inventory::{Inventory, Node};
use kubastion::lab::{Lab, Spec, quiet};
use kubastion::plan::order::{EtcdState, stages};
use kubastion::plan::{Plan, diff, node_plan};
use kubastion::transport::fleet;
use kubastion::transport::ssh::SshDialer;
use kubastion::transport::{Dialer, Transport};

const ROUNDS: usize = 7;
const FILES: usize = 40;
const FILE_BYTES: usize = 4096;

fn main() {
    // `cargo test --benches` builds and starts benches too; there is nothing to test here.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let dir = Path::new("/var/tmp/kubastion-bench-lab");
    let lab = Lab::up(&Spec::new(dir, 10, 0), &quiet).unwrap();
    let result = std::panic::catch_unwind(|| measure(&lab));
    lab.down(&quiet).unwrap();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn measure(lab: &Lab) {
    std::fs::copy(lab.known_hosts(), known_hosts(lab)).unwrap();
    let inventory = inventory(lab);
    let nodes: Vec<&Node> = inventory.nodes.iter().collect();
    println!("| what | nodes | kubastion | OpenSSH | ratio |");
    println!("|---|---|---|---|---|");

    let mut generation = 0;
    compare("apply of 40 files", nodes.len(), || {
        generation += 1;
        let content = generation;
        (
            timed(|| apply(&inventory, &nodes, content)),
            timed(|| openssh_apply(lab, &nodes, content)),
        )
    });
    compare("no-op check of 40 files", nodes.len(), || {
        (
            timed(|| assert!(plan(&inventory, &nodes, generation).0.is_empty())),
            timed(|| openssh_check(lab, &nodes)),
        )
    });

    // A hundred addresses of one machine: what costs is connecting and asking.
    let many = hundred(lab, &inventory);
    let hundred: Vec<&Node> = many.nodes.iter().collect();
    compare("no-op check of 40 files", hundred.len(), || {
        (
            timed(|| assert!(plan(&many, &hundred, generation).0.is_empty())),
            timed(|| openssh_check(lab, &hundred)),
        )
    });
    let (seconds, rounds) = {
        let begun = Instant::now();
        let (_, _, rounds) = plan(&inventory, &nodes, generation);
        (begun.elapsed(), rounds)
    };
    println!();
    println!(
        "One no-op check of {} nodes: {} connections, {} execs, {} bytes up, {} bytes down, {:.2} s.",
        nodes.len(),
        nodes.len(),
        rounds.execs,
        rounds.sent_bytes,
        rounds.received_bytes,
        seconds.as_secs_f64()
    );
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn compare(what: &str, nodes: usize, mut pair: impl FnMut() -> (Duration, Duration)) {
    pair();
    let mut pairs: Vec<(f64, f64)> = (0..ROUNDS)
        .map(|_| {
            let (a, b) = pair();
            (a.as_secs_f64(), b.as_secs_f64())
        })
        .collect();
    let mut median = |key: fn(&(f64, f64)) -> f64| {
        pairs.sort_by(|x, y| key(x).total_cmp(&key(y)));
        key(&pairs[pairs.len() / 2])
    };
    let (ours, theirs, ratio) = (median(|p| p.0), median(|p| p.1), median(|p| p.0 / p.1));
    println!("| {what} | {nodes} | {ours:.3} s | {theirs:.3} s | {ratio:.2} |");
}

fn inventory(lab: &Lab) -> Inventory {
    let text = std::fs::read_to_string(lab.inventory()).unwrap();
    let mut inventory: Inventory = serde_yaml::from_str(&text).unwrap();
    inventory.ssh.key_file = Some(lab.key_file());
    inventory
}

fn content(number: usize, generation: usize) -> String {
    let line = format!("file {number} of generation {generation}\n");
    line.repeat(FILE_BYTES / line.len())
}

fn items(generation: usize) -> Vec<Item> {
    (0..FILES)
        .map(|number| Item {
            phase: Phase::Host,
            controls: Vec::new(),
            kind: ItemKind::File {
                path: format!("/etc/kubastion-bench/d{}/f{number}.conf", number % 8),
                content: Content::Text(content(number, generation)),
                access: Access::root(0o600),
                check: FileCheck::None,
            },
        })
        .collect()
}

type Planned = (Plan, DesiredState, kubastion::transport::Rounds);

/// Facts as a real plan asks for them, and the files beside.
fn watch(inventory: &Inventory, node: &Node, items: &[Item]) -> WatchList {
    let mut watch = desired::watch(inventory, node);
    let own = diff::watch_list(items);
    watch.files.extend(own.files);
    watch
}

fn plan(inventory: &Inventory, nodes: &[&Node], generation: usize) -> Planned {
    let (plan, desired, rounds, _) = plan_with_sessions(inventory, nodes, generation);
    (plan, desired, rounds)
}

fn plan_with_sessions(
    inventory: &Inventory,
    nodes: &[&Node],
    generation: usize,
) -> (Plan, DesiredState, kubastion::transport::Rounds, pipeline::Fleet) {
    let dialer = SshDialer::default();
    let seen = fleet::each(nodes.to_vec(), fleet::WINDOW, |node| {
        let mut session: Box<dyn Transport> =
            dialer.connect(&inventory.ssh.for_node(node)).unwrap();
        let facts =
            collect(session.as_mut(), &node.name, &watch(inventory, node, &items(generation)))
                .unwrap();
        (node.name.clone(), pipeline::Seen { session, facts })
    });
    let (seen, lost) = (seen.into_iter().collect(), Default::default());
    let fleet = pipeline::Fleet { seen, lost, bare: Default::default() };
    let mut desired = DesiredState { nodes: Default::default() };
    let mut plans = std::collections::BTreeMap::new();
    for (name, seen) in &fleet.seen {
        let wanted = NodeDesired { items: items(generation), notes: Vec::new() };
        plans.insert(
            name.clone(),
            node_plan(&wanted, &seen.facts, seen.session.host_key()).unwrap(),
        );
        desired.nodes.insert(name.clone(), wanted);
    }
    let stages = stages(inventory, &plans, EtcdState::Down);
    // All at once, as the other side does: what is compared is the transfer, not the canary.
    let stages = stages
        .into_iter()
        .map(|mut s| {
            s.groups = vec![s.groups.concat()];
            s
        })
        .collect();
    let plan = Plan::new("bench".into(), String::new(), plans, stages);
    let rounds = fleet.rounds();
    (plan, desired, rounds, fleet)
}

fn apply(inventory: &Inventory, nodes: &[&Node], generation: usize) {
    let (plan, desired, _, fleet) = plan_with_sessions(inventory, nodes, generation);
    let state = tempfile::tempdir().unwrap();
    let journal = Journal::begin(state.path(), "apply", None, "bench", Clock::System).unwrap();
    let controls = Controls {
        plan: &plan,
        desired: &desired,
        inventory,
        dialer: &SshDialer::default(),
        etcd: None,
        api: None,
        bundle: None,
        sink: &Silent,
        journal: &journal,
        clock: Clock::System,
    };
    let outcomes = execute(&controls, fleet.into_sessions()).unwrap();
    assert_eq!(outcomes.len(), nodes.len());
    assert!(outcomes.values().flat_map(|p| p.values()).all(|o| o.is_good()), "{outcomes:?}");
}

/// The lab's own file is left as it is.
fn known_hosts(lab: &Lab) -> std::path::PathBuf {
    lab.dir().join("ssh/bench_known_hosts")
}

fn ssh(lab: &Lab, node: &Node) -> String {
    format!(
        "ssh -F none -i {} -o UserKnownHostsFile={} -o BatchMode=yes root@{}",
        lab.key_file().display(),
        known_hosts(lab).display(),
        node.internal_ip()
    )
}

/// One `ssh` a node, 32 at once: tar over the pipe straight into place, and one check of the
/// digests. No staging, no way back, no record: the least that can be called an apply.
fn openssh_apply(lab: &Lab, nodes: &[&Node], generation: usize) {
    let tree = tempfile::tempdir().unwrap();
    for number in 0..FILES {
        let dir = tree.path().join(format!("files/d{}", number % 8));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(format!("f{number}.conf")), content(number, generation)).unwrap();
    }
    shell(
        tree.path(),
        "find files -type f | sort | xargs sha256sum > SUMS; tar -cf all.tar SUMS files",
    );
    let remote = "mkdir -p /etc/openssh-bench && cd /etc/openssh-bench && tar -xf - && sha256sum -c SUMS >/dev/null";
    let sends: Vec<String> =
        nodes.iter().map(|n| format!("{} '{remote}' < all.tar", ssh(lab, n))).collect();
    all_at_once(tree.path(), &sends);
}

fn openssh_check(lab: &Lab, nodes: &[&Node]) {
    let checks: Vec<String> = nodes
        .iter()
        .map(|n| {
            format!(
                "{} 'cd /etc/openssh-bench && sha256sum -c SUMS >/dev/null' </dev/null",
                ssh(lab, n)
            )
        })
        .collect();
    all_at_once(Path::new("/"), &checks);
}

fn all_at_once(dir: &Path, commands: &[String]) {
    let failed = fleet::each(commands.iter().collect(), fleet::WINDOW, |command: &String| {
        let status = Command::new("sh").args(["-c", command]).current_dir(dir).status();
        !status.unwrap().success()
    });
    assert!(!failed.contains(&true), "an ssh failed");
}

fn shell(dir: &Path, script: &str) {
    assert!(Command::new("sh").args(["-c", script]).current_dir(dir).status().unwrap().success());
}

/// A hundred more addresses on the first node, each in the inventory as a node of its own.
fn hundred(lab: &Lab, inventory: &Inventory) -> Inventory {
    let mut many = inventory.clone();
    let template = many.nodes[0].clone();
    let std::net::IpAddr::V4(first) = template.internal_ip() else { unreachable!("labs are IPv4") };
    let [a, b, c, _] = first.octets();
    let mut script = String::from(
        "printf 'MaxStartups 400\\n' > /etc/ssh/sshd_config.d/bench.conf; systemctl reload ssh; ",
    );
    many.nodes = (0..100)
        .map(|i| {
            let ip = std::net::Ipv4Addr::new(a, b, c, 140 + i);
            script.push_str(&format!("ip address add {ip}/24 dev eth0; "));
            let mut node = template.clone();
            node.name = format!("many{i}").parse().unwrap();
            node.addresses = vec![ip.into()];
            node
        })
        .collect();
    let name = template.name.as_str();
    let status = lab.command(name, &["sh", "-c", &script]).unwrap().status().unwrap();
    assert!(status.success());
    let key = std::fs::read_to_string(lab.known_hosts()).unwrap();
    let key = key
        .lines()
        .find(|l| l.contains(&first.to_string()))
        .unwrap()
        .split_once(' ')
        .unwrap()
        .1
        .to_owned();
    let lines: String = many.nodes.iter().map(|n| format!("{} {key}\n", n.internal_ip())).collect();
    let known = std::fs::read_to_string(known_hosts(lab)).unwrap();
    std::fs::write(known_hosts(lab), known + &lines).unwrap();
    many
}
