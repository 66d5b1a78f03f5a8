//! kubastion's side: the library's own way from an inventory to a plan, and to nodes that hold the files,
//! in a process of its own, which is this bench started again.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use kubastion::apply::{Execution, execute};
use kubastion::clock::Clock;
use kubastion::controls::ids;
use kubastion::desired::{
    self, Access, Content, DesiredState, FileCheck, FileText, Item, ItemKind, NodeDesired, Phase,
};
use kubastion::event::Silent;
use kubastion::facts::WatchList;
use kubastion::inventory::{Files, Inventory, LoadContext, Node, load};
use kubastion::plan::order::{EtcdState, stages};
use kubastion::plan::{Group, Plan, diff, node_plan};
use kubastion::runs::record::{Journal, RunKind};
use kubastion::transport::ssh::SshDialer;
use kubastion::workflow::observe::{self, Fleet};

use crate::files::{FILES, State, path};
use crate::world::{Way, World};

/// The first argument of the process that is measured.
pub const CHILD: &str = "--as-kubastion";

/// The most memory at a time, in megabytes, that the process had by the kernel's own count.
pub fn peak_mb(said: &str) -> f64 {
    said.trim().parse::<f64>().unwrap() / 1000.0
}

/// An inventory as an operator would have written it; the nodes are reached as the way says.
pub fn inventory(world: &World, way: &Way) -> String {
    let mut text = format!(
        "version: kubastion/v1\n\
         cluster: {{ name: bench, kubernetes: 1.36.2, endpoint: \"api.example:6443\", pod_networks: [11.0.0.0/8] }}\n\
         ssh: {{ user: root, key_file: {} }}\nhost: {{ lab: true }}\nnodes:\n",
        world.key_file().display()
    );
    for (i, address) in way.addresses.iter().enumerate() {
        let role = if i == 0 { "control-plane" } else { "worker" };
        text.push_str(&format!(
            "  - {{ name: n{i:04}, addresses: [198.18.{}.{}], roles: [{role}], ssh: {{ host: {}, port: {}, \
             host_keys: [\"{}\"] }} }}\n",
            i / 250,
            i % 250 + 1,
            address.ip(),
            address.port(),
            world.fingerprint
        ));
    }
    text
}

/// The process that plans, or plans and applies.
pub fn command(inventory: &Path, work: &str, state: State) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([CHILD, work, &state.word()]).arg(inventory);
    command
}

/// What that process does.
pub fn child(args: &[String]) {
    let [work, state, file] = args else { panic!("{args:?}") };
    let state = State::of(state);
    let context = LoadContext {
        clock: Clock::System,
        known_controls: &ids::ALL,
        critical_controls: &ids::CRITICAL,
        impact_rows: kubastion::impact::IDS,
        conflicts: kubastion::controls::conflict,
        home: None,
        host_keys_optional: false,
    };
    kubastion::transport::fleet::raise_open_files();
    let inventory = load(Path::new(file), &context).unwrap().inventory;
    match work.as_str() {
        "check" => assert!(plan(&inventory, state).0.is_empty()),
        "apply" => apply(&inventory, state),
        other => panic!("{other}"),
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    println!("{}", peak.trim().trim_end_matches(" kB"));
}

/// The texts of a state, made once for all nodes as the command does.
fn texts(state: State) -> Vec<FileText> {
    (0..FILES).map(|number| state.content(number).into()).collect()
}

fn items(texts: &[FileText]) -> Vec<Item> {
    (0..FILES)
        .map(|number| Item {
            phase: Phase::Host,
            controls: Vec::new(),
            kind: ItemKind::File {
                path: format!("/etc/kubastion-bench/{}", path(number)),
                content: Content::Text(texts[number].clone()),
                access: Access::root(0o600),
                check: FileCheck::None,
            },
        })
        .collect()
}

/// Facts as a real plan asks for them, and the files beside. What the files hold does not matter here.
fn watch(inventory: &Inventory, files: &Files, node: &Node) -> WatchList {
    let mut watch = desired::watch(inventory, files, node);
    watch.extend(diff::watch_list(&items(&texts(State { generation: 0, one_changed: false }))));
    watch
}

fn plan(inventory: &Inventory, state: State) -> (Plan, DesiredState, Fleet) {
    let nodes: Vec<&Node> = inventory.nodes.iter().collect();
    let fleet = observe::read_nodes_for(
        inventory,
        &Files::default(),
        &nodes,
        &SshDialer::default(),
        watch,
        observe::KEPT,
    );
    assert!(fleet.facts.failed.is_empty(), "{:?}", fleet.facts.failed);
    let mut desired = DesiredState { nodes: BTreeMap::new() };
    let mut plans = BTreeMap::new();
    let texts = texts(state);
    for (name, seen) in &fleet.facts.answered {
        let wanted = NodeDesired { items: items(&texts), notes: Vec::new() };
        let plan = node_plan(&wanted, &seen.facts, &seen.host_key).unwrap();
        // As the command does.
        if !plan.transactions.is_empty() {
            desired.nodes.insert(name.clone(), wanted);
        }
        plans.insert(name.clone(), plan);
    }
    let mut stages = stages(inventory, &plans, EtcdState::Down, &[]);
    // All at once, as the others do: what is compared is the transfer, not the canary.
    for stage in &mut stages {
        stage.groups = vec![Group::together(stage.tasks().cloned().collect::<Vec<_>>())];
    }
    (Plan::new("bench".into(), String::new(), plans, stages), desired, fleet)
}

fn apply(inventory: &Inventory, state: State) {
    let (plan, desired, fleet) = plan(inventory, state);
    let record = tempfile::tempdir().unwrap();
    let journal =
        Journal::begin(record.path(), RunKind::Apply, None, "bench", Clock::System).unwrap();
    let dialer = SshDialer::default();
    let execution = Execution {
        plan: &plan,
        desired: &desired,
        inventory,
        dialer: &dialer,
        etcd: None,
        api: None,
        bundle: None,
        bundled: &[],
        sink: &Silent,
        say: &|_| {},
        journal: &journal,
        clock: Clock::System,
    };
    let outcomes = execute(&execution, fleet.sessions).unwrap().outcomes;
    assert_eq!(outcomes.len(), inventory.nodes.len());
    assert!(outcomes.values().flat_map(|p| p.values()).all(|o| o.is_good()), "{outcomes:?}");
}
