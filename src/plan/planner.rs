//! The plan of a run: every node's own, and what holds for all of them together.

use std::collections::{BTreeMap, BTreeSet};

use super::fleet::FleetFacts;
use super::membership::membership;
use super::why::HeldBack;
use crate::checks::{self, Basis, Observed, Verdict};
use crate::clock::Clock;
use crate::controls::Severity;
use crate::desired::forms::Form;
use crate::desired::{self, CONFLIST, Content, DesiredState, ItemKind, NodeDesired, Phase, Shared};
use crate::error::Problem;
use crate::facts::NodeFacts;
use crate::inventory::{Files, Inventory, Loaded, Node, NodeName, Role};
use crate::pki::Material;
use crate::plan::climb::Rung;
use crate::plan::diff::CLUSTER_MARK;
use crate::plan::encryption::{self, EncryptionProgress};
use crate::plan::order::{EtcdState, stages};
use crate::plan::{
    EtcdChange, NodePlan, Plan, Stage, Step, immutable, node_plan, outage, preflight, stored_data,
};
use crate::transport::fleet;

/// A plan, and what belongs to it.
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// What it sends those nodes that have work in it.
    pub desired: DesiredState,
    /// Nodes that no plan can be made for, and why.
    pub failed: BTreeMap<NodeName, Problem>,
}

/// Plans the nodes, as they answered. etcd should have been asked before, where it runs.
pub fn plan(loaded: &Loaded, fleet: &FleetFacts, material: &Material) -> Planned {
    let inventory = &loaded.inventory;
    let progress = encryption::progress(inventory, fleet, material);
    let mut planner = Planner {
        inventory,
        files: &loaded.files,
        material,
        fleet,
        plans: BTreeMap::new(),
        desired: DesiredState { nodes: BTreeMap::new() },
        shared: Shared::with_encryption_forms(progress.forms.clone()),
        progress,
        failed: refusals(loaded, fleet),
    };
    let first = first_node(inventory, planner.fleet, &planner.failed);
    planner.plan_nodes(first.as_ref().ok().and_then(Option::as_ref));
    planner.wait_for_first(&first);
    let etcd = planner.etcd_state();
    planner.wait_for_quorum(etcd);
    planner.keep_pod_networks();
    let changes = match inventory.observes() {
        true => Vec::new(),
        false => planner.change_members(),
    };
    planner.wait_for_start(&first);
    planner.finish(loaded, etcd, &changes)
}

/// A plan in the making. Each step takes nodes out, or phases out of nodes' plans.
struct Planner<'a> {
    inventory: &'a Inventory,
    files: &'a Files,
    material: &'a Material,
    fleet: &'a FleetFacts,
    plans: BTreeMap<NodeName, NodePlan>,
    desired: DesiredState,
    /// What is computed once for all nodes.
    shared: Shared,
    /// Where the cluster is on the way to encrypted objects.
    progress: EncryptionProgress,
    /// Nodes that get no plan, and why.
    failed: BTreeMap<NodeName, Problem>,
}

/// Nodes that get no plan whatever the keys are, and why: those that cannot reach their desired state, and all of a cluster
/// that cannot become what the inventory says, whichever node shows it.
pub fn refusals(loaded: &Loaded, fleet: &FleetFacts) -> BTreeMap<NodeName, Problem> {
    let Loaded { inventory, files, .. } = loaded;
    let (seen, software) = (&fleet.answered, files.software.as_ref());
    let clock = preflight::median(seen.values().map(|s| s.facts.clock_epoch_s).collect());
    let answered: Vec<(&Node, &NodeFacts)> =
        inventory.nodes.iter().filter_map(|n| Some((n, &seen.get(&n.name)?.facts))).collect();
    let mut refused = BTreeMap::new();
    for (node, facts) in &answered {
        let problems = preflight::check(inventory, software, node, facts, clock);
        if !problems.is_empty() {
            let problem = join(&node.name, "the node is not ready", problems);
            refused.insert(node.name.clone(), problem);
        }
    }
    let problems = immutable::found(inventory, answered.into_iter());
    if !problems.is_empty() {
        for name in seen.keys() {
            const WHAT: &str = "the inventory changes what a running cluster cannot change";
            let problem = || join(name, WHAT, problems.clone());
            refused.entry(name.clone()).or_insert_with(problem);
        }
    }
    refused
}

impl Planner<'_> {
    /// Each node by itself: what it should hold against what it does. On all cores, in the order of the inventory.
    fn plan_nodes(&mut self, first: Option<&NodeName>) {
        let nodes: Vec<_> = self
            .inventory
            .nodes
            .iter()
            .filter(|node| !self.failed.contains_key(&node.name))
            .filter_map(|node| {
                let seen = self.fleet.answered.get(&node.name)?;
                Some((node, &seen.facts, seen.host_key.as_str()))
            })
            .collect();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let input = NodeInput {
            inventory: self.inventory,
            files: self.files,
            material: self.material,
            shared: &self.shared,
            first,
            encryption: self.fleet.encryption(),
            progress: &self.progress,
        };
        let made = fleet::each(nodes, cores, |(node, facts, host_key)| {
            let made = input.plan_node(node, facts, host_key);
            // Without changes, the contents are not needed again.
            let made = made.map(|(plan, mut wanted)| {
                keep_contents(&mut wanted, &plan);
                let wanted = (!plan.transactions.is_empty()).then_some(wanted);
                (plan, wanted)
            });
            (node.name.clone(), made)
        });
        for (name, made) in made {
            match made {
                Ok((plan, wanted)) => {
                    self.desired.nodes.extend(wanted.map(|w| (name.clone(), w)));
                    self.plans.insert(name, plan);
                }
                Err(problem) => {
                    self.failed.insert(name, problem);
                }
            }
        }
    }

    /// No node joins a cluster that no control plane can start.
    fn wait_for_first(&mut self, first: &Result<Option<NodeName>, HeldBack>) {
        match first {
            Ok(Some(first)) if self.failed.contains_key(first) => {
                let why = HeldBack::FirstNotReady { node: first.clone() };
                hold_back(&mut self.plans, &[Phase::Kubernetes], &why);
            }
            Ok(_) => {}
            Err(why) => hold_back(&mut self.plans, &[Phase::Kubernetes], why),
        }
    }

    /// Whether etcd runs on a member that was looked at.
    fn etcd_state(&self) -> EtcdState {
        let mut members =
            self.inventory.etcd_members().filter_map(|n| self.fleet.answered.get(&n.name));
        if members.any(|s| s.facts.runs_etcd()) { EtcdState::Running } else { EtcdState::Down }
    }

    /// etcd is only started where a quorum of its members can be.
    fn wait_for_quorum(&mut self, etcd: EtcdState) {
        if etcd == EtcdState::Running {
            return;
        }
        // Members that are known not to run, and will not after this run either.
        let away = |n: &&Node| {
            let left_out =
                self.fleet.outside.contains(&n.name) && !self.fleet.answered.contains_key(&n.name);
            self.failed.contains_key(&n.name) || left_out
        };
        let members = || self.inventory.etcd_members();
        let (all, away) = (members().count(), members().filter(away).count());
        if away > 0 && all - away <= all / 2 {
            let why = HeldBack::NoQuorum { ready: all - away, members: all };
            hold_back(&mut self.plans, &[Phase::Etcd, Phase::Kubernetes], &why);
        }
    }

    /// No plan moves running pods into another network.
    fn keep_pod_networks(&mut self) {
        let moved: Vec<&str> = self
            .plans
            .iter()
            .filter(|(name, plan)| {
                let facts = &self.fleet.answered[*name].facts;
                preflight::moves_pods(plan, facts, self.text(name, CONFLIST))
            })
            .map(|(name, _)| name.as_str())
            .collect();
        if moved.is_empty() {
            return;
        }
        let problem = Problem::new("the pod network of running nodes would change")
            .because(format!("parts of `pod_networks` or {CONFLIST} changed: {}", moved.join(", ")))
            .left("no plan was made")
            .hint(
                "restore `cluster.pod_networks` and the order of `nodes`: the bridge network assigns subnets in that \
                 order, so add new nodes at the end; to move a node, run `kubastion reset --nodes` for it first",
            );
        self.fail_all(|name| problem.clone().at(name.to_string()));
    }

    /// What the plan writes to a file of a node, if it is a text.
    fn text(&self, node: &NodeName, wanted: &str) -> Option<&str> {
        self.desired.nodes.get(node)?.items.iter().find_map(|item| match &item.kind {
            ItemKind::File { path, content: Content::Text(text), .. } if path == wanted => {
                Some(text.as_ref())
            }
            _ => None,
        })
    }

    /// Changes of etcd's membership; no plan for any node if they cannot be made.
    fn change_members(&mut self) -> Vec<EtcdChange> {
        let (changes, unfit) = membership(self.inventory, self.fleet, &mut self.plans);
        if let Some(problem) = unfit {
            self.fail_all(|name| {
                let at = problem.place.clone().unwrap_or_else(|| name.to_string());
                problem.clone().at(at)
            });
        }
        changes
    }

    fn fail_all(&mut self, problem: impl Fn(&NodeName) -> Problem) {
        for name in std::mem::take(&mut self.plans).into_keys() {
            let problem = problem(&name);
            self.failed.insert(name, problem);
        }
        self.desired.nodes.clear();
    }

    /// If the founding node was held back meanwhile, there is no cluster to join.
    fn wait_for_start(&mut self, first: &Result<Option<NodeName>, HeldBack>) {
        let Ok(Some(first)) = first else { return };
        let starts = self
            .plans
            .get(first)
            .is_some_and(|p| p.transactions.iter().any(|t| t.phase == Phase::Kubernetes));
        if !starts {
            let why = HeldBack::FirstNotReady { node: first.clone() };
            hold_back(&mut self.plans, &[Phase::Kubernetes], &why);
        }
    }

    /// Says on the control planes why stored objects are not encrypted any further.
    fn hold_encryption_back(&mut self) {
        let Some(why) = self.progress.stop.clone().filter(|_| self.progress.climb.is_none()) else {
            return;
        };
        for node in self.inventory.with_role(Role::ControlPlane) {
            if let Some(plan) = self.plans.get_mut(&node.name) {
                plan.held_back.push(HeldBack::Encryption { why: why.clone() });
            }
        }
    }

    /// Says how often nobody answers at the endpoint.
    fn say_outages(&mut self) {
        for node in &self.inventory.nodes {
            let Some(plan) = self.plans.get_mut(&node.name) else { continue };
            plan.notes.extend(outage::note(self.inventory, node, plan));
        }
    }

    fn finish(mut self, loaded: &Loaded, etcd: EtcdState, changes: &[EtcdChange]) -> Planned {
        self.hold_encryption_back();
        self.say_outages();
        let Self { inventory, plans, mut desired, failed, progress, .. } = self;
        for (name, plan) in plans.iter().filter(|(_, p)| !p.transactions.is_empty()) {
            let empty = || NodeDesired { items: Vec::new(), notes: plan.notes.clone() };
            desired.nodes.entry(name.clone()).or_insert_with(empty);
        }
        let mut stages = stages(inventory, &plans, etcd, changes);
        // Only where a control plane gets a plan: others alone know nothing of it.
        let has_plan = |n: &Node| plans.contains_key(&n.name);
        let climb =
            progress.climb.filter(|_| inventory.with_role(Role::ControlPlane).any(has_plan));
        if let Some(climb) = climb.as_ref().filter(|c| c.rung == Rung::Rewrite) {
            stages.push(Stage::rewrite(&climb.resources));
        }
        let cluster = inventory.cluster.name.to_string();
        let plan = Plan::new(cluster, loaded.sha256.clone(), plans, stages).with_encryption(climb);
        Planned { plan, desired, failed }
    }
}

/// Leaves of what a node should hold what the plan sends, and what it takes away.
fn keep_contents(wanted: &mut NodeDesired, plan: &NodePlan) {
    let steps = plan.transactions.iter().flat_map(|t| &t.steps);
    let written: BTreeSet<(&str, &str)> = steps
        .filter_map(|action| match &action.step {
            Step::Files { directory, files } => {
                Some(files.keys().map(|name| (directory.as_str(), name.as_str())))
            }
            _ => None,
        })
        .flatten()
        .collect();
    wanted.items.retain(|item| match &item.kind {
        ItemKind::File { path, .. } => {
            let (directory, name) = path.rsplit_once('/').expect("every path is absolute");
            written.contains(&(if directory.is_empty() { "/" } else { directory }, name))
        }
        ItemKind::Absent { .. } => true,
        _ => false,
    });
    wanted.items.shrink_to_fit();
}

/// What the plan of one node is made from, beside the node.
struct NodeInput<'a> {
    inventory: &'a Inventory,
    files: &'a Files,
    material: &'a Material,
    shared: &'a Shared,
    /// The node that starts the cluster.
    first: Option<&'a NodeName>,
    /// What a control plane that was checked encrypts with.
    encryption: Option<&'a str>,
    progress: &'a EncryptionProgress,
}

impl NodeInput<'_> {
    /// The plan of one node, and its desired state.
    ///
    /// # Errors
    /// Why it gets none.
    fn plan_node(
        &self,
        node: &Node,
        facts: &NodeFacts,
        host_key: &str,
    ) -> Result<(NodePlan, NodeDesired), Problem> {
        let Self { inventory, files, material, shared, first, encryption, progress } = self;
        let fails = |what: &str, problems: Vec<Problem>| match problems.is_empty() {
            true => Ok(()),
            false => Err(join(&node.name, what, problems)),
        };
        let of = |errors: &[&dyn std::error::Error]| -> Vec<Problem> {
            errors.iter().map(|e| Problem::from_error("", *e)).collect()
        };
        let mut wanted = desired::resolve(inventory, files, node, facts, material, shared)
            .map_err(|errors| {
                let errors: Vec<&dyn std::error::Error> = errors.iter().map(|e| e as _).collect();
                join(&node.name, "the desired state of the node cannot be computed", of(&errors))
            })?;
        if *first == Some(&node.name) {
            desired::join::start_cluster(&mut wanted.items);
        }
        // Of what is only observed, no setting is changed.
        if inventory.observes() {
            let plan = node_plan(&wanted, facts, host_key).map_err(|missing| {
                let errors: Vec<&dyn std::error::Error> = missing.iter().map(|e| e as _).collect();
                join(&node.name, "the node cannot be observed", of(&errors))
            })?;
            fails("the node is not ready", preflight::room(&plan, facts))?;
            return Ok((plan, wanted));
        }
        fails(
            "stored data would be lost",
            stored_data::endangered(node, facts, &wanted, *encryption, &progress.safe(&node.name)),
        )?;
        // What it was started with last is not what its file says now.
        let stale = progress.restart.contains(&node.name).then(|| {
            let mut facts = facts.clone();
            facts.unit_marks.insert(CLUSTER_MARK.to_owned(), String::new());
            facts
        });
        let facts = stale.as_ref().unwrap_or(facts);
        let broken = judge_rendered(inventory, files, node, facts, &wanted, shared);
        fails("the configuration rendered for the node fails a critical control", broken.critical)?;
        let mut plan = node_plan(&wanted, facts, host_key).map_err(|missing| {
            let errors: Vec<&dyn std::error::Error> = missing.iter().map(|e| e as _).collect();
            join(&node.name, "the node cannot be brought to its desired state", of(&errors))
        })?;
        fails("the node is not ready", preflight::room(&plan, facts))?;
        plan.notes.extend(broken.notes);
        Ok((plan, wanted))
    }
}

/// Which node starts the cluster, if there is none yet.
///
/// # Errors
/// A control plane that was not looked at may be part of a cluster already: starting a second one
/// would be a disaster. Or none is ready for it.
fn first_node(
    inventory: &Inventory,
    fleet: &FleetFacts,
    unready: &BTreeMap<NodeName, Problem>,
) -> Result<Option<NodeName>, HeldBack> {
    // Also one whose API server is down just now, and which another kubeadm has made.
    if fleet.answered.values().any(|s| s.is_member() || s.has_kubelet_config()) {
        return Ok(None);
    }
    let mut planes = inventory.with_role(Role::ControlPlane);
    let known = |n: &NodeName| fleet.outside.contains(n) || fleet.failed.contains_key(n);
    // Only workers were chosen: they join what is there, or say that nothing is.
    if planes.all(|n| !known(&n.name)) {
        return Ok(None);
    }
    let mut first = None;
    for node in inventory.with_role(Role::ControlPlane) {
        if !fleet.outside.contains(&node.name) {
            return Err(HeldBack::ControlPlaneUnchecked { node: node.name.clone() });
        }
        if fleet.answered.contains_key(&node.name) && !unready.contains_key(&node.name) {
            first.get_or_insert_with(|| node.name.clone());
        }
    }
    first.ok_or(HeldBack::NoControlPlaneReady).map(Some)
}

/// Controls that what was rendered for a node does not fulfil.
#[derive(Default)]
struct Broken {
    critical: Vec<Problem>,
    notes: Vec<String>,
}

/// The checks that judge a node after an apply, on what was rendered for it before. A critical
/// control that would fail keeps the node out of the plan; of others the plan says so, since some are
/// choices of the inventory (a CNI without network policies).
fn judge_rendered(
    inventory: &Inventory,
    files: &Files,
    node: &Node,
    facts: &NodeFacts,
    wanted: &NodeDesired,
    shared: &Shared,
) -> Broken {
    let seen = Observed::from_desired(wanted, facts);
    let basis = Basis {
        inventory,
        software: files.software.as_ref(),
        node,
        seen: &seen,
        now: Clock::System.now(),
    };
    let mut broken = Broken::default();
    // Also one that only what is staged for later breaks, of which the finding does not say so.
    let is_reader =
        shared.forms(&node.name).is_some_and(|f| f.values().any(|f| *f == Form::Reader));
    let excepted = |control: &str| {
        // It holds once all control planes can read what one of them encrypts.
        (is_reader && control == "apiserver-encryption-provider")
            || inventory.hardening.exceptions_of(control, Some(&node.name)).next().is_some()
    };
    for finding in checks::of_rendered(&basis).into_iter().filter(|f| !excepted(f.control)) {
        let verdicts = std::iter::once(&finding.verdict).chain(&finding.staged);
        let mut failed = verdicts.filter_map(|v| match v {
            Verdict::Fail { expected, actual } => Some((expected, actual)),
            _ => None,
        });
        let Some((expected, actual)) = failed.next_back() else { continue };
        if finding.severity == Severity::Critical {
            broken.critical.push(
                Problem::new(format!(
                    "{}: {}: expected {expected}, rendered {actual}",
                    finding.control, finding.title
                ))
                .hint("add an exception, or switch the control off under `hardening.controls`; both need a reason, an owner and an expiry date"),
            );
        } else {
            // Without what was found, which may hold a date: a plan depends on what it does alone.
            broken.notes.push(format!("{} will fail: expected {expected}", finding.control));
        }
    }
    broken
}

/// Several problems as one of a node. Of one that another node shows, that node is named.
fn join(node: &NodeName, what: &str, problems: Vec<Problem>) -> Problem {
    let mut hints: Vec<String> = problems.iter().filter_map(|p| p.hint.clone()).collect();
    hints.dedup();
    let mut whole = Problem::new(what).at(node.to_string()).left("nothing was changed on it");
    for p in problems {
        let text = if p.what.is_empty() { p.why.join(": ") } else { p.what };
        let elsewhere = p.place.filter(|place| place != node.as_str());
        whole = whole.because(match elsewhere {
            Some(place) => format!("{place}: {text}"),
            None => text,
        });
    }
    whole.hint = (!hints.is_empty()).then(|| hints.join("; "));
    whole
}

/// Removes phases from plans that could only fail, after minutes.
fn hold_back(plans: &mut BTreeMap<NodeName, NodePlan>, phases: &[Phase], why: &HeldBack) {
    plans.values_mut().for_each(|plan| plan.hold_back(phases, why.clone()));
}

/// What a plan leaves for a later one, so that the run is not mistaken for complete.
pub fn held_back(plan: &Plan) -> Vec<Problem> {
    held_back_by(plan, |_| true)
}

/// The same for some reasons.
pub fn held_back_by(plan: &Plan, wanted: impl Fn(&HeldBack) -> bool) -> Vec<Problem> {
    let mut nodes: BTreeMap<&HeldBack, Vec<&str>> = BTreeMap::new();
    for (name, node) in &plan.nodes {
        for why in node.held_back.iter().filter(|why| wanted(why)) {
            nodes.entry(why).or_default().push(name.as_str());
        }
    }
    let problem = |(why, nodes): (&HeldBack, Vec<&str>)| {
        Problem::new(why.to_string())
            .at(nodes.join(", "))
            .left("this was not started on them and changed nothing there")
            .hint(
                "fix the nodes that are not ready; with --nodes, name all control planes and etcd members; then \
                 run `kubastion apply` again",
            )
    };
    nodes.into_iter().map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controls::IdList;
    use crate::inventory::testing;
    use crate::plan::{Action, Transaction};
    use crate::report::plan::{Detail, render};

    #[test]
    fn of_a_problem_of_another_node_that_node_is_named() {
        let node: NodeName = "cp3".parse().unwrap();
        let all = [("cp2", "a"), ("cp3", "b")].map(|(at, what)| Problem::new(what).at(at));
        let mut all = all.to_vec();
        all.push(Problem::new("c"));
        assert_eq!(join(&node, "x", all).why, ["cp2: a", "b", "c"]);
    }

    #[test]
    fn what_is_held_back_is_a_problem_with_its_reason_and_shows_in_the_plan() {
        let transaction = |phase| Transaction {
            phase,
            confirm_within_s: None,
            steps: vec![Action {
                step: Step::DaemonReload,
                controls: IdList::default(),
                why: Vec::new(),
            }],
            expect: BTreeMap::new(),
        };
        let node = |phases: &[Phase]| NodePlan {
            transactions: phases.iter().map(|p| transaction(*p)).collect(),
            notes: vec!["something to know".into()],
            ..NodePlan::default()
        };
        let plan = |nodes: &BTreeMap<NodeName, NodePlan>| {
            Plan::new("c".into(), String::new(), nodes.clone(), Vec::new())
        };
        let mut nodes: BTreeMap<NodeName, NodePlan> = [
            ("cp1".parse().unwrap(), node(&[Phase::Kubernetes])),
            ("cp2".parse().unwrap(), node(&[Phase::Kubernetes])),
            ("w1".parse().unwrap(), node(&[])),
        ]
        .into();
        assert!(held_back(&plan(&nodes)).is_empty() && !plan(&nodes).holds_back());
        let why = HeldBack::ControlPlaneUnchecked { node: "cp3".parse().unwrap() };
        hold_back(&mut nodes, &[Phase::Kubernetes], &why);
        let plan = plan(&nodes);
        assert!(plan.is_empty() && plan.holds_back());
        let problems = held_back(&plan);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].place.as_deref(), Some("cp1, cp2"));
        assert!(problems[0].what.contains("cp3 was not checked"));
        assert!(problems[0].state.is_some() && problems[0].hint.is_some());
        let said = render(&plan, Detail::Summary);
        assert!(
            said.contains("\ncp1, cp2\n  held back: the cluster is not started: control plane cp3"),
            "{said}"
        );
        assert!(!said.contains("w1") && !said.contains("something to know"), "{said}");
        assert!(render(&plan, Detail::Steps).contains("  note: something to know"));
    }

    #[test]
    fn what_the_plan_installs_and_what_is_excepted_is_not_noted() {
        let software = crate::desired::tests::bundled::manifest(36).software();
        let notes = |more: &str, packages: &[(&str, &str)], bundled: bool| -> Vec<String> {
            let inventory = testing::with(&format!(
                "kubernetes: {{source: bundle}}\n{more}\
                 nodes:\n- {{name: n, addresses: [10.0.0.1], roles: [worker]}}\n"
            ));
            let files = Files { software: bundled.then(|| software.clone()), ..Files::default() };
            let mut facts = crate::desired::tests::facts("n", "debian 12", None);
            let own = |(name, version): &(&str, &str)| (name.to_string(), version.to_string());
            facts.packages.extend(packages.iter().map(own));
            let material = Material::fixture(&inventory);
            let node = &inventory.nodes[0];
            let wanted =
                desired::resolve(&inventory, &files, node, &facts, &material, &Shared::default())
                    .unwrap();
            let broken =
                judge_rendered(&inventory, &files, node, &facts, &wanted, &Shared::default());
            wanted.notes.into_iter().chain(broken.notes).collect()
        };
        let speaks = |notes: &[String], of: &str| notes.iter().any(|n| n.contains(of));
        let old = [("containerd", "1.6.20~ds1-1")];
        assert!(speaks(&notes("", &old, false), "containerd-runtime-hardening"));
        assert!(!speaks(&notes("", &old, true), "containerd-runtime-hardening"));
        // Once, and not where the operator knows.
        let of_cni = |more: &str| {
            let notes = notes(more, &[], true);
            notes.iter().filter(|n| n.contains("network-cni-with-policies")).count()
        };
        assert_eq!(of_cni(""), 1);
        let exception = "hardening: {exceptions: [{control: network-cni-with-policies, reason: r, owner: o, \
                         expires: 2999-01-01}]}\n";
        assert_eq!(of_cni(exception), 0);
    }
}
