//! kubastion against bare OpenSSH, pyinfra and Ansible, side by side in one run: the same nodes, the same
//! files, the same machine.
//!
//! `make bench` runs it (root on Debian: it brings its own lab up). What is measured is in
//! docs/benchmarks.md. `cargo bench --bench fleet -- --nodes 1,10 --rtt 0,50 --only kubastion,OpenSSH` runs a
//! part; `--save` writes table and plots to docs/benchmarks.

// A bench is test code: what fails is to be seen at once.
#![allow(clippy::unwrap_used, missing_docs)]

mod files;
mod measure;
mod others;
mod ours;
mod proxy;
mod report;
mod world;

use std::path::{Path, PathBuf};
use std::time::Duration;

use files::State;
use measure::Cost;
use others::Work;
use proxy::Traffic;
use report::Row;
use world::{Way, World};

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum Contender {
    #[serde(rename = "kubastion")]
    Kubastion,
    #[serde(rename = "OpenSSH")]
    OpenSsh,
    #[serde(rename = "pyinfra")]
    Pyinfra,
    #[serde(rename = "Ansible")]
    Ansible,
}

impl Contender {
    pub const ALL: &[Self] = &[Self::Kubastion, Self::OpenSsh, Self::Pyinfra, Self::Ansible];

    pub fn name(self) -> &'static str {
        match self {
            Self::Kubastion => "kubastion",
            Self::OpenSsh => "OpenSSH",
            Self::Pyinfra => "pyinfra",
            Self::Ansible => "Ansible",
        }
    }

    /// How often it is measured, for the median. The slow ones only where the whole ends within a coffee
    /// break: Ansible takes minutes for ten nodes.
    fn rounds(self, nodes: usize, rtt: Duration) -> usize {
        match (self, nodes) {
            (Self::Kubastion | Self::OpenSsh, ..=10) => 5,
            (Self::Kubastion | Self::OpenSsh, ..=100) => 3,
            (Self::Kubastion | Self::OpenSsh, ..=500) => 1,
            // What this size is for is kubastion's memory.
            (Self::Kubastion, _) => 1,
            (Self::Pyinfra, ..=10) => 1,
            (Self::Pyinfra, ..=100) if rtt.is_zero() => 1,
            (Self::Ansible, 1) => 1,
            (Self::Ansible, ..=10) if rtt.is_zero() => 1,
            _ => 0,
        }
    }
}

/// What to run.
struct Wanted {
    nodes: Vec<usize>,
    rtt: Vec<Duration>,
    only: Vec<Contender>,
    save: bool,
}

impl Wanted {
    fn of(args: &[String]) -> Self {
        let value = |name: &str, default: &str| {
            let at = args.iter().position(|a| a == name);
            let value = at.map_or(default, |i| args[i + 1].as_str());
            value.split(',').map(str::to_owned).collect::<Vec<_>>()
        };
        let all = Contender::ALL.iter().map(|c| c.name()).collect::<Vec<_>>().join(",");
        let only = value("--only", &all);
        Self {
            nodes: value("--nodes", "1,10,100,500,1000")
                .iter()
                .map(|n| n.parse().unwrap())
                .collect(),
            rtt: value("--rtt", "0,10,50")
                .iter()
                .map(|ms| Duration::from_millis(ms.parse().unwrap()))
                .collect(),
            only: Contender::ALL
                .iter()
                .copied()
                .filter(|c| only.iter().any(|o| o == c.name()))
                .collect(),
            save: args.iter().any(|a| a == "--save"),
        }
    }
}

/// More nodes than this wait for a proxy without delay only: there is nothing new to learn.
const MOST_WITH_DELAY: usize = 100;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|a| a == ours::CHILD) {
        return ours::child(&args[1..]);
    }
    // `cargo test --benches` builds and starts benches too; there is nothing to test here.
    if !args.iter().any(|a| a == "--bench") {
        return;
    }
    let wanted = Wanted::of(&args);
    measure::adopt_orphans();
    let python = others::python();
    if let Err(why) = &python {
        println!("pyinfra and Ansible are SKIPPED: {why}");
    }
    let begun = std::time::Instant::now();
    let mut world = World::up(*wanted.nodes.iter().max().unwrap());
    eprintln!("{} nodes are up after {:.0} s", world.nodes, begun.elapsed().as_secs_f64());
    let rows = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut rows = Vec::new();
        for rtt in &wanted.rtt {
            for nodes in &wanted.nodes {
                if *nodes <= MOST_WITH_DELAY || rtt.is_zero() {
                    let python = python.as_deref().ok();
                    rows.extend(size(&mut world, *nodes, *rtt, &wanted.only, python));
                }
            }
        }
        rows
    }));
    world.down();
    match rows {
        Ok(rows) => report::write(&rows, wanted.save),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// What a run took, and what passed where a proxy lies between.
type Run = (Cost, Option<Traffic>);

/// All contenders at one number of nodes and one latency. They take turns, so that a machine whose speed
/// drifts slows all.
fn size(
    world: &mut World,
    nodes: usize,
    rtt: Duration,
    only: &[Contender],
    python: Option<&Path>,
) -> Vec<Row> {
    let way = world.way(nodes, rtt);
    let mut taken: Vec<(Contender, Work, Vec<Run>)> = Vec::new();
    for round in 0..5 {
        for contender in only.iter().filter(|c| round < c.rounds(nodes, rtt)) {
            let needs_python = matches!(contender, Contender::Pyinfra | Contender::Ansible);
            if needs_python && python.is_none() {
                continue;
            }
            world.clean(nodes);
            for &work in Work::ALL {
                let one = run(world, &way, *contender, work, python);
                match taken.iter_mut().find(|t| t.0 == *contender && t.1 == work) {
                    Some(t) => t.2.push(one),
                    None => taken.push((*contender, work, vec![one])),
                }
            }
        }
    }
    taken.sort_by_key(|t| (t.1 as u8, t.0));
    let rows =
        taken.into_iter().map(|(contender, work, all)| Row::of(contender, work, nodes, rtt, all));
    rows.inspect(Row::print).collect()
}

fn run(world: &World, way: &Way, contender: Contender, work: Work, python: Option<&Path>) -> Run {
    let dir: PathBuf = world.dir.path().join("run");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir(&dir).unwrap();
    let state = State { generation: 1, one_changed: work == Work::OneChanged };
    let mut command = match contender {
        Contender::Kubastion => {
            let file = dir.join("inventory.yaml");
            std::fs::write(&file, ours::inventory(world, way)).unwrap();
            ours::command(&file, if work == Work::NoOp { "check" } else { "apply" }, state)
        }
        Contender::OpenSsh => others::openssh(world, way, work, state, &dir),
        Contender::Pyinfra => others::pyinfra(python.unwrap(), world, way, state, &dir),
        Contender::Ansible => others::ansible(python.unwrap(), world, way, state, &dir),
    };
    if let Some(proxy) = &way.proxy {
        proxy.take();
    }
    let end = || others::end_kept_connections(&dir);
    let (mut cost, said) = measure::run(&mut command, world.control(), end);
    if contender == Contender::Kubastion {
        cost.memory_mb = ours::peak_mb(&said);
    }
    // What is still on its way through the proxy belongs to this run.
    std::thread::sleep(Duration::from_millis(if way.proxy.is_some() { 200 } else { 0 }));
    (cost, way.proxy.as_ref().map(proxy::Proxy::take))
}
