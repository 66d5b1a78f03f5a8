//! Plans that are carried out on nodes that are played.

use crate::controls::IdList;
use std::sync::Condvar;
use std::time::Duration;

use super::*;
use crate::apply::{CALL_SCRIPT, STAGE_SCRIPT};
use crate::clock::Clock;
use crate::desired::{DesiredState, NodeDesired};
use crate::event::Silent;
use crate::facts::{NodeFacts, OpenTransaction};
use crate::inventory::{Inventory, SshTarget, testing};
use crate::plan::order::{EtcdState, stages};
use crate::plan::{Action, EtcdData, NodePlan, Plan, TakenFor, Transaction, accept, settle};
use crate::runs::outcome::NodeOutcomes;
use crate::runs::record::{Journal, read_all, testing as records};
use crate::transport::played::Played;
use crate::transport::{Dialer, Transport, TransportError};

/// What becomes of a plan whose nodes a dialer plays.
fn executed(inventory: &Inventory, plan: &Plan, dialer: &dyn Dialer) -> Outcomes {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::begin(dir.path(), RunKind::Apply, None, "c", Clock::System).unwrap();
    recorded(inventory, plan, dialer, &journal, &|_| {}).outcomes
}

/// The same, with the record that is made of it.
fn recorded(
    inventory: &Inventory,
    plan: &Plan,
    dialer: &dyn Dialer,
    journal: &Journal,
    say: &(dyn Fn(&str) + Sync),
) -> Report {
    let empty = || NodeDesired { items: vec![], notes: vec![] };
    let nodes = inventory.nodes.iter().map(|n| (n.name.clone(), empty())).collect();
    let execution = Execution {
        plan,
        desired: &DesiredState { nodes },
        inventory,
        dialer,
        etcd: None,
        api: None,
        bundle: None,
        bundled: &[],
        sink: &Silent,
        say,
        journal,
        clock: Clock::System,
    };
    execute(&execution, Sessions::new()).unwrap()
}

/// All nodes of a group begin together.
fn host(names: &[NodeName]) -> Stage {
    let task = |node: &NodeName| Task::Transaction { node: node.clone(), number: 1 };
    Stage {
        name: "host".into(),
        groups: vec![Group::together(names.iter().map(task))],
        gates: vec![Gate::Reachable],
        on_failure: OnFailure::StopStage,
    }
}

/// Whether the fast node was confirmed.
static CONFIRMED: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

/// Nodes that answer as `txn.sh` does; `slow` is done only once `fast` was confirmed.
fn fast_and_slow(host: &str, script: &str, input: &[u8]) -> String {
    let line = String::from_utf8_lossy(input);
    let verb = line.split(' ').nth(1).unwrap_or_default();
    let (lock, changed) = &CONFIRMED;
    match (script, verb) {
        (STAGE_SCRIPT, verb) if verb.starts_with("switch\n") => {
            let begun = "@prepared\n@step 1 begin\n";
            if host.ends_with('2') {
                let confirmed = lock.lock().unwrap();
                let wait = Duration::from_secs(5);
                let (confirmed, _) = changed.wait_timeout_while(confirmed, wait, |c| !*c).unwrap();
                if !*confirmed {
                    return format!("{begun}@state reverted\n");
                }
            }
            format!("{begun}@armed x 60\n@state switched\n")
        }
        (CALL_SCRIPT, "confirm") => {
            *lock.lock().unwrap() = true;
            changed.notify_all();
            "@state committed\n".into()
        }
        other => panic!("{other:?}"),
    }
}

/// Lets in until the change is made, and then by the first address alone.
struct FirstAddressAlone;

static SWITCHED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

fn switches(_: &str, script: &str, input: &[u8]) -> String {
    let line = String::from_utf8_lossy(input);
    match (script, line.split(' ').nth(1).unwrap_or_default()) {
        (STAGE_SCRIPT, verb) if verb.starts_with("switch\n") => {
            SWITCHED.store(true, std::sync::atomic::Ordering::SeqCst);
            "@prepared\n@step 1 begin\n@armed x 60\n@state switched\n".into()
        }
        (CALL_SCRIPT, "confirm") => "@state committed\n".into(),
        (CALL_SCRIPT, "revert") => "@state reverted\n".into(),
        other => panic!("{other:?}"),
    }
}

impl Dialer for FirstAddressAlone {
    fn connect(&self, target: &SshTarget) -> Result<Box<dyn Transport>, TransportError> {
        let switched = SWITCHED.load(std::sync::atomic::Ordering::SeqCst);
        if switched && target.host.as_str().contains(':') {
            return Err(TransportError::Deadline { what: "connecting", timeout_s: 5 });
        }
        Played(&switches).connect(target)
    }
}

#[test]
fn a_change_that_shuts_another_way_in_is_taken_back() {
    let inventory =
        testing::with("nodes:\n- {name: n, addresses: [10.0.0.1, 'fd00::1'], roles: [worker]}\n");
    let step = Action { step: Step::SwapOff, controls: IdList::default(), why: Vec::new() };
    let transaction = Transaction {
        phase: Phase::Host,
        confirm_within_s: Some(60),
        steps: vec![step],
        expect: BTreeMap::new(),
    };
    let names: Vec<NodeName> = inventory.nodes.iter().map(|n| n.name.clone()).collect();
    let node = NodePlan { transactions: vec![transaction], ..NodePlan::default() };
    let plans = names.iter().map(|n| (n.clone(), node.clone())).collect();
    let stage = host(&names);
    let plan = Plan::new("c".into(), String::new(), plans, vec![stage]);
    let outcomes = executed(&inventory, &plan, &FirstAddressAlone);
    match &outcomes[&names[0]][&Phase::Host] {
        Outcome::Reverted { why } => {
            assert!(why.contains("no longer reaches n at fd00::1"), "{why}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_slow_node_does_not_use_up_the_time_of_the_others_to_be_confirmed() {
    let inventory = testing::of_nodes([("fast", Role::Worker), ("slow", Role::Worker)]);
    let step = Action { step: Step::SwapOff, controls: IdList::default(), why: Vec::new() };
    let transaction = Transaction {
        phase: Phase::Host,
        confirm_within_s: Some(60),
        steps: vec![step],
        expect: BTreeMap::new(),
    };
    let names: Vec<NodeName> = inventory.nodes.iter().map(|n| n.name.clone()).collect();
    let node = NodePlan { transactions: vec![transaction], ..NodePlan::default() };
    let plans = names.iter().map(|n| (n.clone(), node.clone())).collect();
    let stage = host(&names);
    let plan = Plan::new("c".into(), String::new(), plans, vec![stage]);
    let outcomes = executed(&inventory, &plan, &Played(&fast_and_slow));
    assert!(outcomes.values().all(NodeOutcomes::are_good), "{outcomes:?}");
}

/// They would get the configuration of before, and no later plan would tell.
#[test]
fn nobody_joins_while_the_cluster_keeps_an_older_configuration() {
    let nodes = [("a", Role::ControlPlane), ("b", Role::ControlPlane), ("w", Role::Worker)];
    let inventory = testing::of_nodes(nodes);
    let plan_of = |action| {
        let step = Step::Kubeadm { action, mark: "m".into() };
        let action = Action { step, controls: IdList::default(), why: Vec::new() };
        let transaction = Transaction {
            phase: Phase::Kubernetes,
            confirm_within_s: None,
            steps: vec![action],
            expect: BTreeMap::new(),
        };
        NodePlan { transactions: vec![transaction], ..NodePlan::default() }
    };
    let plans: BTreeMap<NodeName, NodePlan> =
        [("a", KubeadmAction::Join), ("b", KubeadmAction::Configure), ("w", KubeadmAction::Join)]
            .map(|(n, action)| (n.parse().unwrap(), plan_of(action)))
            .into();
    let stages = stages(&inventory, &plans, EtcdState::Running, &[]);
    let first = stages[0].tasks().next().and_then(Task::node).unwrap();
    assert_eq!(first.as_str(), "b", "it tells the cluster first");
    let plan = Plan::new("c".into(), String::new(), plans, stages);
    let played = Played(&|host, _, _| match host {
        "10.0.0.2" => "@prepared\n@step 1 begin\n@state reverted\n".into(),
        other => panic!("{other} is to be left alone"),
    });
    let outcomes = executed(&inventory, &plan, &played);
    for joining in ["a", "w"] {
        let outcome = &outcomes[&joining.parse::<NodeName>().unwrap()][&Phase::Kubernetes];
        assert!(matches!(outcome, Outcome::Skipped { .. }), "{joining}: {outcome:?}");
    }
}

#[test]
fn nobody_joins_a_cluster_that_was_not_started() {
    let nodes = [("a", Role::ControlPlane), ("b", Role::ControlPlane), ("w", Role::Worker)];
    let inventory = testing::of_nodes(nodes);
    /// The first node's machine is gone; nobody else is to be asked for anything.
    struct Gone;
    impl Dialer for Gone {
        fn connect(
            &self,
            target: &crate::inventory::SshTarget,
        ) -> Result<Box<dyn Transport>, TransportError> {
            assert_eq!(target.host.to_string(), "10.0.0.1");
            let source = std::io::ErrorKind::TimedOut.into();
            Err(TransportError::Connect { address: "10.0.0.1:22".into(), source })
        }
    }
    let plan_of = |action| {
        let step = Step::Kubeadm { action, mark: String::new() };
        let action = Action { step, controls: IdList::default(), why: Vec::new() };
        let transaction = Transaction {
            phase: Phase::Kubernetes,
            confirm_within_s: None,
            steps: vec![action],
            expect: BTreeMap::new(),
        };
        NodePlan { transactions: vec![transaction], ..NodePlan::default() }
    };
    let name = |n: &str| n.parse::<NodeName>().unwrap();
    let plans: BTreeMap<NodeName, NodePlan> =
        [("a", KubeadmAction::Init), ("b", KubeadmAction::Join), ("w", KubeadmAction::Join)]
            .map(|(n, action)| (name(n), plan_of(action)))
            .into();
    let stages = stages(&inventory, &plans, EtcdState::Running, &[]);
    let plan = Plan::new("c".into(), String::new(), plans, stages);
    let outcomes = executed(&inventory, &plan, &Gone);
    let of = |n: &str| &outcomes[&name(n)][&Phase::Kubernetes];
    assert!(matches!(of("a"), Outcome::Unreachable { .. }), "{outcomes:?}");
    for joining in ["b", "w"] {
        let wanted = Outcome::Skipped { why: "a did not start the cluster".into() };
        assert_eq!(*of(joining), wanted);
    }
}

#[test]
fn what_was_left_open_goes_back_and_a_node_that_cannot_is_named() {
    let inventory = testing::two_and_two();
    let answers = Played(&|_, script, input| match (script, input) {
        (CALL_SCRIPT, b"1-a-host revert left-open\n") => "@state reverted\n".into(),
        (CALL_SCRIPT, b"2-b-host revert left-open\n") => {
            "@said no room\n@state incomplete\n".into()
        }
        (_, other) => panic!("{}", String::from_utf8_lossy(other)),
    });
    let open = |id: &str, state: &str| OpenTransaction { id: id.into(), state: state.into() };
    let facts = |node: &str, open: Vec<OpenTransaction>| NodeFacts {
        open_transactions: open,
        ..NodeFacts::bare(node)
    };
    let nodes = [
        // The third is not begun: the node could not undo the second.
        facts(
            "cp1",
            vec![
                open("1-a-host", "switched"),
                open("2-b-host", "switching"),
                open("3-c-host", "switched"),
            ],
        ),
        facts("cp2", vec![open("1-a-host", "switched")]),
        // Nothing is done about that one, which needs manual repair.
        facts("w1", vec![open("3-c-host", "incomplete")]),
    ];
    let plan = settle::plan("c", nodes.iter().map(|facts| (&facts.node, facts)));
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::begin(dir.path(), RunKind::Settle, None, "c", Clock::System).unwrap();
    let said = Mutex::new(Vec::new());
    let say = |text: &str| said.lock().unwrap().push(text.to_owned());
    let report = recorded(&inventory, &plan, &answers, &journal, &say);
    let mut said = said.into_inner().unwrap();
    said.sort();
    let line = |node| {
        format!(
            "{node}: transaction 1-a-host of an earlier run was unfinished; it is now rolled back"
        )
    };
    assert_eq!(said, [line("cp1"), line("cp2")]);
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    let problem = report.problems[0].to_string();
    for words in [
        "unfinished transaction of an earlier run cannot be undone",
        "2-b-host (switching)",
        "no room",
    ] {
        assert!(problem.contains(words), "{words}: {problem}");
    }
    let run = &read_all(dir.path()).unwrap().runs[0];
    let ids: Vec<_> = run.transactions.iter().map(|t| (t.node.as_str(), &*t.id)).collect();
    let mut ids = ids;
    ids.sort();
    assert_eq!(ids, [("cp1", "1-a-host"), ("cp1", "2-b-host"), ("cp2", "1-a-host")]);
}

#[test]
fn what_came_of_a_reset_node_is_recorded_before_the_others_are_done() {
    let inventory = testing::two_and_two();
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::begin(dir.path(), RunKind::Reset, None, "c", Clock::System).unwrap();
    static BASE: std::sync::OnceLock<std::path::PathBuf> = std::sync::OnceLock::new();
    BASE.set(dir.path().to_owned()).unwrap();
    let on_record = || read_all(BASE.get().unwrap()).unwrap().runs[0].reset.len();
    let answers = Played(&|host, _, _| {
        let on_record = || read_all(BASE.get().unwrap()).unwrap().runs[0].reset.len();
        let mut tries = 0;
        while host == "10.0.0.4" && on_record() < 3 {
            std::thread::sleep(Duration::from_millis(10));
            tries += 1;
            assert!(tries < 1000, "nothing is recorded as long as one is not done");
        }
        "@undone 1-host\n@state clean\n".to_owned()
    });
    let reset = |node: &NodeName| Task::Reset {
        node: node.clone(),
        data: EtcdData::Keep,
        taken_for: TakenFor::Member,
    };
    let names = inventory.nodes.iter().map(|n| &n.name);
    let stage = Stage {
        groups: vec![Group::together(names.map(reset))],
        on_failure: OnFailure::GoOn,
        ..host(&[])
    };
    let plan = Plan::new("c".into(), String::new(), BTreeMap::new(), vec![stage]);
    let report = recorded(&inventory, &plan, &answers, &journal, &|_| {});
    assert_eq!(report.resets.len(), 4);
    assert!(report.resets.values().all(|r| r.taken_back == ["1-host"]));
    assert_eq!(on_record(), 4);
}

#[test]
fn what_a_node_does_not_accept_is_recorded_and_its_earlier_transactions_are_left() {
    let inventory = testing::two_and_two();
    let answers = Played(&|_, script, input| match (script, input) {
        (CALL_SCRIPT, b"2-etcd accept 2\n") => {
            "@refused its rollback was not started: there is nothing to accept\n".into()
        }
        (CALL_SCRIPT, b"1-host accept 2\n") => "@state reverted\n".into(),
        (_, other) => panic!("{}", String::from_utf8_lossy(other)),
    });
    let run = records::run("2", RunKind::Apply, "", Outcome::Committed);
    let open = [
        records::done("cp1", Phase::Host, "1-host", None),
        records::done("cp1", Phase::Etcd, "2-etcd", None),
        records::done("w1", Phase::Host, "1-host", None),
    ];
    let plan = accept::plan(&run, &open);
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::begin(dir.path(), RunKind::Accept, None, "c", Clock::System).unwrap();
    let report = recorded(&inventory, &plan, &answers, &journal, &|_| {});
    let of = |node: &str| &report.outcomes[&node.parse::<NodeName>().unwrap()];
    let why = "its rollback was not started: there is nothing to accept".to_owned();
    assert_eq!(of("cp1")[&Phase::Etcd], Outcome::Refused { why });
    let skipped = &of("cp1")[&Phase::Host];
    assert!(matches!(skipped, Outcome::Skipped { why } if why == "accept failed on cp1"));
    assert!(of("w1").are_good());
    let run = &read_all(dir.path()).unwrap().runs[0];
    let begun: Vec<&str> = run.transactions.iter().map(|t| &*t.id).collect();
    assert_eq!(begun, ["2-etcd", "1-host"], "one that is not begun is no transaction of the run");
}
