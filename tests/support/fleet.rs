//! A lab shared by all tests of one run, and nodes lent to one test at a time.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};
use std::time::Duration;

use kubastion::apply::{Execution, Report, execute};
use kubastion::clock::Clock;
use kubastion::desired::{DesiredState, Item, NodeDesired, Phase};
use kubastion::event::Silent;
use kubastion::facts::{NodeFacts, WatchList, collect};
use kubastion::inventory::{Inventory, Node, NodeName};
use kubastion::lab::{Lab, Spec, preflight, quiet};
use kubastion::plan::order::{EtcdState, stages};
use kubastion::plan::{self, NodePlan, Plan, diff, node_plan};
use kubastion::runs::outcome::Outcome;
use kubastion::runs::record::{Journal, RunKind};
use kubastion::transport::ssh::SshDialer;
use kubastion::transport::{Dialer, Request, Transport};

/// Where the shared lab lives. It stays up after the tests, for the next run; `make clean-lab`
/// takes it down.
fn lab_dir() -> PathBuf {
    std::env::var_os("KUBASTION_TEST_LAB")
        .map_or_else(|| "/var/tmp/kubastion-test-lab".into(), PathBuf::from)
}

/// Workers that tests take by their names, and those that are alike to them.
const NAMED: u8 = 2;
const SPARE: u8 = 4;

/// The shared lab: one control plane and workers. Most tests wait for a node most of the time, so there are several.
///
/// `None`, after saying why, where this machine cannot carry one. `KUBASTION_REQUIRE_LAB` makes
/// that a failure.
pub fn lab(test: &str) -> Option<&'static Lab> {
    static LAB: OnceLock<Result<Lab, String>> = OnceLock::new();
    let lab = LAB.get_or_init(|| {
        let missing = preflight();
        if !missing.is_empty() {
            return Err(missing
                .iter()
                .map(|m| m.problem().to_string())
                .collect::<Vec<_>>()
                .join("\n"));
        }
        Lab::up(&Spec::new(lab_dir(), 1, NAMED + SPARE), &quiet).map_err(|e| {
            e.problems().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        })
    });
    match lab {
        Ok(lab) => Some(lab),
        Err(why) => {
            super::skip::skipped(test, why);
            None
        }
    }
}

/// A node of the shared lab, for one test.
pub struct Lent {
    pub lab: &'static Lab,
    pub name: NodeName,
    pub inventory: Inventory,
    pub dialer: SshDialer,
    pub state_dir: tempfile::TempDir,
    _guard: MutexGuard<'static, ()>,
}

/// A lock for each node of the lab, in its order.
fn locks() -> &'static [Mutex<()>] {
    static LOCKS: OnceLock<Vec<Mutex<()>>> = OnceLock::new();
    LOCKS.get_or_init(|| (0..=NAMED + SPARE).map(|_| Mutex::new(())).collect())
}

/// Borrows a node by its name; other tests that want it wait.
pub fn borrow(test: &str, name: &str) -> Option<Lent> {
    let lab = lab(test)?;
    let index = lab.node_names().iter().position(|n| *n == name).expect("the lab has this node");
    // A test that failed while it held the node says so itself.
    let guard = locks()[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    Some(lend(lab, name, guard))
}

/// Borrows a worker, whichever is free.
pub fn borrow_any(test: &str) -> Option<Lent> {
    let lab = lab(test)?;
    loop {
        for (name, lock) in lab.node_names().into_iter().zip(locks()).skip(1 + usize::from(NAMED)) {
            let guard = match lock.try_lock() {
                Ok(guard) => guard,
                Err(TryLockError::Poisoned(failed)) => failed.into_inner(),
                Err(TryLockError::WouldBlock) => continue,
            };
            return Some(lend(lab, name, guard));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn lend(lab: &'static Lab, name: &str, guard: MutexGuard<'static, ()>) -> Lent {
    let lent = Lent {
        lab,
        name: name.parse().unwrap(),
        inventory: read_inventory(&lab.inventory()),
        dialer: SshDialer::default(),
        state_dir: tempfile::tempdir().unwrap(),
        _guard: guard,
    };
    lent.sh(BARE);
    lent
}

/// Undoes what earlier tests did, newest first by the node's own count: ids of the same second say nothing.
const BARE: &str = "
cd /var/lib/kubastion/txn 2>/dev/null || exit 0
for t in $(for d in *; do echo \"$(cat $d/sequence 2>/dev/null || echo 0) $d\"; done | sort -rn | cut -d' ' -f2); do
    case $(cat $t/state) in reverted) ;; *) sh $t/txn.sh undo >/dev/null ;; esac
done
rm -rf /var/lib/kubastion
nft delete table inet foreign 2>/dev/null
exit 0
";

/// The lab's inventory with absolute paths.
pub fn read_inventory(path: &Path) -> Inventory {
    let text = std::fs::read_to_string(path).unwrap();
    let mut inventory: Inventory = kubastion::yaml::from_text(&text).unwrap();
    let base = path.parent().unwrap();
    inventory.ssh.key_file = inventory.ssh.key_file.map(|k| base.join(k));
    inventory
}

impl Lent {
    pub fn node(&self) -> &Node {
        self.inventory.nodes.iter().find(|n| n.name == self.name).unwrap()
    }

    pub fn connect(&self) -> Box<dyn Transport> {
        self.dialer.connect(&self.inventory.ssh.for_node(self.node())).unwrap()
    }

    /// Runs a shell program on the node and returns its standard output.
    pub fn sh(&self, script: &str) -> String {
        run(self.connect().as_mut(), script)
    }

    pub fn facts(&self, watch: &WatchList) -> NodeFacts {
        collect(self.connect().as_mut(), &self.name, watch).unwrap()
    }

    /// The plan that brings the node to these items.
    pub fn plan(&self, items: Vec<Item>) -> (Plan, DesiredState) {
        let facts = self.facts(&diff::watch_list(&items));
        let desired = NodeDesired { items, notes: Vec::new() };
        let plan = node_plan(&desired, &facts, "").unwrap();
        (self.plan_of(plan), state_of(&self.name, desired))
    }

    pub fn plan_of(&self, plan: NodePlan) -> Plan {
        let nodes = [(self.name.clone(), plan)].into();
        let stages = stages(&self.inventory, &nodes, EtcdState::Down, &[]);
        Plan::new("lab".into(), String::new(), nodes, stages)
    }

    /// Applies a plan and returns how each phase ended.
    pub fn apply(&self, plan: &Plan, desired: &DesiredState) -> Vec<(Phase, Outcome)> {
        self.apply_with(plan, desired, &self.dialer)
    }

    pub fn apply_with(
        &self,
        plan: &Plan,
        desired: &DesiredState,
        dialer: &dyn Dialer,
    ) -> Vec<(Phase, Outcome)> {
        self.apply_over(self.connect(), plan, desired, dialer)
    }

    /// Applies a plan over a connection that is there; the dialer is for those that come later.
    pub fn apply_over(
        &self,
        session: Box<dyn Transport>,
        plan: &Plan,
        desired: &DesiredState,
        dialer: &dyn Dialer,
    ) -> Vec<(Phase, Outcome)> {
        let mut report = self.execute(RunKind::Apply, session, plan, desired, dialer);
        let outcomes = report.outcomes.remove(&self.name).unwrap_or_default();
        outcomes.iter().map(|(phase, outcome)| (phase, outcome.clone())).collect()
    }

    /// Brings to an end what earlier runs left open, as the next apply does.
    pub fn settle(&self) -> Report {
        let facts = self.facts(&WatchList::default());
        let plan = plan::settle::plan("lab", [(&self.name, &facts)]);
        let (session, desired) = (self.connect(), DesiredState::default());
        self.execute(RunKind::Settle, session, &plan, &desired, &self.dialer)
    }

    fn execute(
        &self,
        kind: RunKind,
        session: Box<dyn Transport>,
        plan: &Plan,
        desired: &DesiredState,
        dialer: &dyn Dialer,
    ) -> Report {
        let (base, id) = (self.state_dir.path(), Some(&*plan.id));
        let journal = Journal::begin(base, kind, id, "lab", Clock::System).unwrap();
        let execution = Execution {
            plan,
            desired,
            inventory: &self.inventory,
            dialer,
            etcd: None,
            api: None,
            bundle: None,
            bundled: &[],
            sink: &Silent,
            say: &|_| {},
            journal: &journal,
            clock: Clock::System,
        };
        let sessions = [(self.name.clone(), session)].into();
        execute(&execution, sessions).unwrap()
    }

    /// Every path below some directories with type, mode, owner, size, link target and digest.
    pub fn tree(&self, paths: &str) -> String {
        self.sh(&format!(
            "find {paths} \\( -type f -o -type l -o -type d \\) -printf '%y %m %U:%G %p %l\\n' | sort; \
             find {paths} -type f -print0 | sort -z | xargs -0 -r sha256sum"
        ))
    }
}

pub fn state_of(name: &NodeName, desired: NodeDesired) -> DesiredState {
    DesiredState { nodes: [(name.clone(), desired)].into() }
}

pub fn run(transport: &mut dyn Transport, script: &str) -> String {
    let request = Request {
        script,
        input: &mut std::io::empty(),
        deadline: Duration::from_secs(60),
        max_output: 64 << 20,
        stays: false,
    };
    let output = transport.run(request, &mut |_| {}).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status, 0, "{script}\n{text}\n{}", output.stderr_tail());
    text
}
