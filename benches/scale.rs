//! What the controller computes, by the number of nodes: load, PKI, render, plan. No node is asked;
//! `benches/fleet` is about that.
//!
//! `cargo bench --bench scale` runs all, with a filter (`-- plan/1000`) a part. `KUBASTION_BENCH_NODES=10,100`
//! chooses other sizes.

// A bench is test code: what fails is to be seen at once.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{
    AxisScale, BatchSize, BenchmarkId, Criterion, PlotConfiguration, SamplingMode, Throughput,
};
use kubastion::clock::Clock;
use kubastion::controls::ids;
use kubastion::desired::{self, ItemKind, NodeDesired, Shared};
use kubastion::facts::{FileFacts, NodeFacts};
use kubastion::inventory::{Inventory, LoadContext, Loaded, Node, load_bytes};
use kubastion::pki::{self, Material, Store};
use kubastion::plan::node_plan;
use kubastion::plan::order::{EtcdState, stages};
use kubastion::plan::{Answered, FleetFacts, planner};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let sizes = std::env::var("KUBASTION_BENCH_NODES").unwrap_or("10,100,1000,5000".into());
    for nodes in sizes.split(',').map(|n| n.trim().parse().unwrap()) {
        measure(&mut criterion, nodes);
    }
    criterion.final_summary();
}

/// What is made once for a size, and only if a bench of it is chosen.
struct World {
    text: String,
    dir: tempfile::TempDir,
}

fn measure(criterion: &mut Criterion, nodes: usize) {
    let world = World { text: inventory(nodes), dir: tempfile::tempdir().unwrap() };
    let base = std::sync::OnceLock::new();
    let base = || base.get_or_init(|| Base::of(&world));

    each(criterion, "load", nodes, |b| b.iter(|| load(black_box(&world.text), world.dir.path())));
    each(criterion, "pki", nodes, |b| {
        // A store of its own each time: all certificates are issued and written.
        b.iter_batched(
            || tempfile::tempdir().unwrap(),
            |dir| {
                let material = issue(&load_inventory(&world.text, dir.path()));
                (material, dir)
            },
            BatchSize::PerIteration,
        );
    });
    each(criterion, "render", nodes, |b| {
        b.iter(|| {
            let (base, shared) = (base(), Shared::default());
            for node in &base.loaded.inventory.nodes {
                black_box(desired::watch(&base.loaded.inventory, &base.loaded.files, node));
                // A node on which there is nothing yet.
                black_box(base.resolve(node, &facts(node), &shared));
            }
        });
    });
    each(criterion, "plan", nodes, |b| {
        let (base, shared) = (base(), Shared::default());
        let desired: Vec<NodeDesired> =
            base.settled().map(|(n, f)| base.resolve(n, f, &shared)).collect();
        b.iter(|| {
            let plans: BTreeMap<_, _> = desired
                .iter()
                .zip(base.settled())
                .map(|(d, (node, f))| (node.name.clone(), node_plan(d, f, "").unwrap()))
                .collect();
            stages(&base.loaded.inventory, &plans, EtcdState::Down, &[])
        });
    });
    // All that `kubastion plan` computes once the nodes have answered.
    each(criterion, "whole-plan", nodes, |b| {
        let base = base();
        b.iter(|| {
            let planned = planner::plan(&base.loaded, &base.fleet, &base.material);
            assert_eq!(planned.plan.nodes.len(), nodes, "{:?}", planned.failed);
            planned
        });
    });
    if let Some(peak) = peak_megabytes() {
        println!("{nodes} nodes: {peak} MB of memory at most so far (VmHWM)");
    }
}

/// The most memory that this process has had, in MB (proc_pid_status(5)).
fn peak_megabytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? / 1024)
}

/// One bench at one size. Where a single pass takes seconds, ten of them must do.
fn each(
    criterion: &mut Criterion,
    what: &str,
    nodes: usize,
    run: impl FnMut(&mut criterion::Bencher<'_>),
) {
    let mut run = run;
    let mut group = criterion.benchmark_group(what);
    group.plot_config(PlotConfiguration::default().summary_scale(AxisScale::Logarithmic));
    group.throughput(Throughput::Elements(nodes as u64));
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(if nodes < 1000 { 300 } else { 1 }));
    group.measurement_time(Duration::from_millis(if nodes < 1000 { 1500 } else { 1 }));
    group.bench_function(BenchmarkId::from_parameter(nodes), |b| run(b));
    group.finish();
}

/// Three control planes and workers, addresses from 172.16.0.0/12.
fn inventory(nodes: usize) -> String {
    let mut text = String::from(
        "version: kubastion/v1\n\
         cluster: { name: scale, kubernetes: 1.36.2, endpoint: \"api.example:6443\", pod_networks: [11.0.0.0/8] }\n\
         ssh: { agent: true, known_hosts: kh }\n\
         pki: { dir: pki }\n\
         nodes:\n",
    );
    for i in 0..nodes {
        let role = if i < 3 { "control-plane" } else { "worker" };
        let (a, b) = (i / 250, i % 250 + 1);
        let _ =
            writeln!(text, "  - {{ name: n{i:04}, addresses: [172.16.{a}.{b}], roles: [{role}] }}");
    }
    text
}

fn load(text: &str, dir: &Path) -> Loaded {
    let context = LoadContext {
        clock: Clock::System,
        known_controls: &ids::ALL,
        critical_controls: &ids::CRITICAL,
        impact_rows: kubastion::impact::IDS,
        conflicts: kubastion::controls::conflict,
        home: None,
        host_keys_optional: false,
    };
    load_bytes(text.as_bytes(), Path::new("scale.yaml"), dir, &context).unwrap()
}

fn load_inventory(text: &str, dir: &Path) -> Inventory {
    load(text, dir).inventory
}

fn issue(inventory: &Inventory) -> Material {
    let ask: pki::AskPassphrase<'_> = &|_| Err(std::io::Error::other("no passphrase"));
    let mut store = Store::open(&inventory.pki, &inventory.cluster.name, ask).unwrap();
    pki::ensure(inventory, &mut store, ask, Clock::System).unwrap().0
}

/// What rendering and planning start from.
struct Base {
    loaded: Loaded,
    material: Material,
    /// Nodes whose files are as they should be.
    fleet: FleetFacts,
}

impl Base {
    fn of(world: &World) -> Self {
        let loaded = load(&world.text, world.dir.path());
        let material = issue(&loaded.inventory);
        let mut base = Self { loaded, material, fleet: FleetFacts::default() };
        let shared = Shared::default();
        let answer = |n: &Node| {
            let bare = facts(n);
            let facts = with_files(&bare, &base.resolve(n, &bare, &shared));
            (n.name.clone(), Answered { host_key: "SHA256:none".into(), facts })
        };
        let answered = base.loaded.inventory.nodes.iter().map(answer).collect();
        base.fleet = FleetFacts { answered, ..FleetFacts::default() };
        base
    }

    /// The nodes with what they answered.
    fn settled(&self) -> impl Iterator<Item = (&Node, &NodeFacts)> {
        let nodes = self.loaded.inventory.nodes.iter();
        nodes.map(|n| (n, &self.fleet.answered[&n.name].facts))
    }

    fn resolve(&self, node: &Node, facts: &NodeFacts, shared: &Shared) -> NodeDesired {
        let Loaded { inventory, files, .. } = &self.loaded;
        desired::resolve(inventory, files, node, facts, &self.material, shared).unwrap()
    }
}

/// A Debian machine as it was installed.
fn facts(node: &Node) -> NodeFacts {
    // The fixture of the unit tests, so that a new fact is noticed by them.
    let text = include_str!("../tests/fixtures/bare-facts.json");
    let mut facts: NodeFacts = serde_json::from_str(text).unwrap();
    facts.node = node.name.clone();
    facts.hostname = node.name.to_string();
    facts.var_free_bytes = 1 << 40;
    facts.commands = kubastion::facts::COMMANDS.iter().map(|c| (*c).to_owned()).collect();
    facts
}

fn with_files(facts: &NodeFacts, desired: &NodeDesired) -> NodeFacts {
    let mut facts = facts.clone();
    for item in &desired.items {
        match &item.kind {
            ItemKind::File { path, content, access, .. } => {
                let file = FileFacts::File {
                    mode: access.mode,
                    owner: access.owner.clone(),
                    group: access.group.clone(),
                    size: content.bytes().len() as u64,
                    sha256: content.sha256(),
                };
                facts.files.insert(path.clone(), file);
            }
            ItemKind::Directory { path, access } => {
                let directory = FileFacts::Directory {
                    mode: access.mode,
                    owner: access.owner.clone(),
                    group: access.group.clone(),
                };
                facts.files.insert(path.clone(), directory);
            }
            _ => {}
        }
    }
    facts
}
