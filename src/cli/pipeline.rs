//! The stages up to a plan, as every verb that looks at nodes runs them. What the cluster's API holds
//! is looked at in [`super::objects`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest, Sha256};

use super::exit::Exit;
use super::run::Stop;
use crate::apply::etcd;
use crate::apply::execute::Sessions;
use crate::apply::gate::EtcdAccess;
use crate::apply::protocol::TxnState;
use crate::apply::settle;
use crate::bundle::{self, Bundle};
use crate::clock::Clock;
use crate::controls::Severity;
use crate::desired::{self, CONFLIST, DesiredState, NodeDesired, Phase, SharedTexts};
use crate::error::Problem;
use crate::facts::etcd::Roster;
use crate::facts::{FactsError, FileFacts, NodeFacts, ProcessFacts, WatchList, collect};
use crate::inventory::diagnostic::nearest;
use crate::inventory::{Inventory, Loaded, Node, NodeName, Role, SoftwareSource, Sudo};
use crate::pki::{Ca, Kind, Material, Store};
use crate::plain::hex;
use crate::plan::diff::{KUBELET_CONFIG, MEMBER_MARK};
use crate::plan::members::{self, Found, WantedMember};
use crate::plan::order::{EtcdState, stages};
use crate::plan::{EtcdChange, NodePlan, Plan, node_plan, preflight, stored_data};
use crate::secret::Secret;
use crate::transport::ssh::SshDialer;
use crate::transport::{Credentials, Dialer, Transport, fleet};
use crate::verify::{self, Observed, Subject, Verdict};

/// How nodes are chosen and reached.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Reach {
    /// Only these nodes; all if absent.
    #[arg(long, value_delimiter = ',', value_name = "NODE,...")]
    pub nodes: Vec<NodeName>,
    /// File with the sudo password, mode 0600, for use without a terminal.
    #[arg(long, value_name = "FILE")]
    pub sudo_password_file: Option<std::path::PathBuf>,
}

/// A node that answered.
pub struct Seen {
    /// The open connection. In a large fleet most nodes have none: see [`KEPT`].
    pub session: Option<Box<dyn Transport>>,
    /// The fingerprint of the host key that was accepted.
    pub host_key: String,
    /// What it answered.
    pub facts: NodeFacts,
}

/// Connections that are kept for what comes after the look. One costs 80 kB here and a process on the node;
/// a thousand that wait for somebody to read a plan are no use. Whoever needs one that was closed opens it
/// anew. Those of control planes and etcd members, and of nodes with something open, are always kept.
pub const KEPT: usize = 512;

impl Seen {
    /// The open connection, or a new one.
    ///
    /// # Errors
    /// If a new one cannot be opened.
    pub fn session(
        &mut self,
        inventory: &Inventory,
        node: &Node,
        dialer: &dyn Dialer,
    ) -> Result<&mut dyn Transport, Problem> {
        let open = match self.session.take() {
            Some(open) => open,
            None => connect(inventory, node, dialer)?,
        };
        Ok(self.session.insert(open).as_mut())
    }

    /// Whether the node is part of a cluster.
    pub fn is_member(&self) -> bool {
        self.facts.unit_marks.contains_key(MEMBER_MARK)
            || self.facts.processes.contains_key("kube-apiserver")
    }
}

impl Seen {
    /// Whether a kubeadm, whosever, has configured a kubelet here.
    fn has_kubelet_config(&self) -> bool {
        matches!(self.facts.files.get(KUBELET_CONFIG), Some(FileFacts::File { .. }))
    }
}

/// All nodes after the facts were read.
#[derive(Default)]
pub struct Fleet {
    /// Those that answered.
    pub seen: BTreeMap<NodeName, Seen>,
    /// Those that did not, and why.
    pub lost: BTreeMap<NodeName, Problem>,
    /// Those that answered and are part of no cluster, also where something else is wrong with them.
    pub bare: BTreeSet<NodeName>,
    /// Those that answered and hold no data of the cluster's etcd, also where something else is wrong with them.
    pub no_data: BTreeSet<NodeName>,
    /// etcd's member list and alarms, or why they could not be read. `None` before etcd is asked, or if none runs.
    pub etcd: Option<Result<Roster, String>>,
}

/// What an earlier run had left open on a node, and what it came to.
pub struct Settled {
    /// The node.
    pub node: NodeName,
    /// Transaction id.
    pub id: String,
    /// How it ended.
    pub state: TxnState,
}

impl std::fmt::Display for Settled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (node, id, state) = (&self.node, &self.id, self.state.words());
        write!(f, "{node}: transaction {id} was left open by an earlier run; it is {state} now")
    }
}

/// The chosen nodes.
///
/// # Errors
/// If a name is not in the inventory.
pub fn chosen<'i>(inventory: &'i Inventory, reach: &Reach) -> Result<Vec<&'i Node>, Stop> {
    let unknown: Vec<Problem> = reach
        .nodes
        .iter()
        .filter(|name| !inventory.nodes.iter().any(|n| n.name == **name))
        .map(|name| {
            let all: Vec<&str> = inventory.nodes.iter().map(|n| n.name.as_str()).collect();
            let hint = match nearest(name.as_str(), all.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`kubastion inventory show` lists them".into(),
            };
            let what = format!("the inventory has no node `{name}`");
            Problem::new(what).at("--nodes").left("nothing was changed").hint(hint)
        })
        .collect();
    if !unknown.is_empty() {
        return Err(Stop { exit: Exit::Usage, problems: unknown });
    }
    let all = reach.nodes.is_empty();
    Ok(inventory.nodes.iter().filter(|n| all || reach.nodes.contains(&n.name)).collect())
}

/// What opens connections, with the sudo password if one is needed.
///
/// # Errors
/// If a password is needed and can neither be read nor asked for.
pub fn dialer(inventory: &Inventory, nodes: &[&Node], reach: &Reach) -> Result<SshDialer, Stop> {
    let needed = nodes.iter().any(|n| inventory.ssh.for_node(n).sudo == Sudo::Password);
    let sudo_password = match (&reach.sudo_password_file, needed) {
        (_, false) => None,
        (Some(file), true) => Some(
            Store::read_passphrase_file(file)
                .map_err(|e| Stop { exit: Exit::InvalidInput, problems: e.problems() })?,
        ),
        (None, true) => {
            let typed =
                rpassword::prompt_password("sudo password on the nodes: ").map_err(|e| {
                    let problem = Problem::from_error("the sudo password cannot be asked for", &e)
                        .hint("without a terminal, name a file with --sudo-password-file");
                    Stop::one(Exit::InvalidInput, problem)
                })?;
            Some(Secret::new(typed))
        }
    };
    Ok(SshDialer { credentials: Credentials { sudo_password } })
}

/// Nodes worked on at once. Through a jump host fewer: sshd refuses logins beyond MaxStartups
/// (10:30:100 by default).
fn window(inventory: &Inventory, nodes: &[&Node]) -> usize {
    let jumps = nodes.iter().any(|n| !inventory.ssh.for_node(n).jump.is_empty());
    if jumps { 8 } else { fleet::WINDOW }
}

/// What is asked of a node.
pub type Watch = fn(&Inventory, &Node) -> WatchList;

/// Connects to the nodes and reads what a plan needs; one connection and one exec a node.
pub fn look(inventory: &Inventory, nodes: &[&Node], dialer: &dyn Dialer) -> Fleet {
    look_at(inventory, nodes, dialer, desired::watch, KEPT)
}

fn connect(
    inventory: &Inventory,
    node: &Node,
    dialer: &dyn Dialer,
) -> Result<Box<dyn Transport>, Problem> {
    dialer.connect(&inventory.ssh.for_node(node)).map_err(|e| {
        let mut problem = Problem::from_error("the node cannot be reached", &e)
            .at(node.name.to_string())
            .left("nothing was changed on it");
        problem.hint = e.hint();
        problem
    })
}

/// Connects to the nodes and reads what `watch` names; one connection and one exec a node. About `kept`
/// connections stay open, see [`KEPT`].
pub fn look_at(
    inventory: &Inventory,
    nodes: &[&Node],
    dialer: &dyn Dialer,
    watch: Watch,
    kept: usize,
) -> Fleet {
    let open = AtomicUsize::new(0);
    let results = fleet::each(nodes.to_vec(), window(inventory, nodes), |node| {
        let mut session = connect(inventory, node, dialer)?;
        let facts = read(session.as_mut(), node, &watch(inventory, node))?;
        let host_key = session.host_key().to_owned();
        let always = node.has_role(Role::ControlPlane)
            || inventory.is_etcd_member(node)
            || !facts.open_transactions.is_empty();
        let keep = always || open.fetch_add(1, Ordering::Relaxed) < kept;
        Ok(Seen { session: keep.then_some(session), host_key, facts })
    });
    let mut fleet = Fleet::default();
    for (node, result) in nodes.iter().zip(results) {
        match result {
            Ok(seen) => {
                if !seen.is_member() {
                    fleet.bare.insert(node.name.clone());
                }
                if !stored_data::has_our_etcd_data(&seen.facts) {
                    fleet.no_data.insert(node.name.clone());
                }
                fleet.seen.insert(node.name.clone(), seen);
            }
            Err(problem) => {
                fleet.lost.insert(node.name.clone(), problem);
            }
        }
    }
    fleet
}

fn read(session: &mut dyn Transport, node: &Node, watch: &WatchList) -> Result<NodeFacts, Problem> {
    collect(session, &node.name, watch).map_err(|e| {
        let mut problem = Problem::from_error("its facts cannot be read", &e)
            .at(node.name.to_string())
            .left("nothing was changed on it");
        if let FactsError::Transport(t) = &e {
            problem.hint = t.hint();
        }
        problem
    })
}

/// The present texts of some files of a node. Asked for apart from the facts, and only where
/// somebody wants to see them.
///
/// # Errors
/// If the node cannot be asked.
pub fn texts(
    session: &mut dyn Transport,
    node: &NodeName,
    paths: BTreeSet<String>,
) -> Result<BTreeMap<String, Option<String>>, Problem> {
    if paths.is_empty() {
        return Ok(BTreeMap::new());
    }
    let watch = WatchList { files: paths.clone(), shown: paths, ..WatchList::default() };
    collect(session, node, &watch).map(|facts| facts.texts).map_err(|e| {
        Problem::from_error("the present texts of its files cannot be read", &e)
            .at(node.to_string())
    })
}

impl Fleet {
    /// Undoes what earlier runs left open, and reads the facts of those nodes again. Returns what
    /// was done.
    pub fn settle(&mut self, inventory: &Inventory) -> Vec<Settled> {
        let said = Mutex::new(Vec::new());
        let open: Vec<(NodeName, Seen)> = self
            .seen
            .extract_if(.., |_, s| {
                s.facts.open_transactions.iter().any(|t| t.state != "incomplete")
            })
            .collect();
        let results = fleet::each(open, fleet::WINDOW, |(name, mut seen)| {
            let node = inventory.nodes.iter().find(|n| n.name == name);
            let node = node.expect("only nodes of the inventory are looked at");
            let session =
                seen.session.as_mut().expect("it is kept where something is open").as_mut();
            let mut done = Vec::new();
            let result = settle(session, &seen.facts, &mut done);
            let done =
                done.into_iter().map(|(id, state)| Settled { node: name.clone(), id, state });
            said.lock().expect("no thread panics while holding it").extend(done);
            let result = result
                .map_err(|why| {
                    Problem::new("what an earlier run left open cannot be undone")
                        .at(name.to_string())
                        .because(why)
                })
                .and_then(|()| read(session, node, &desired::watch(inventory, node)));
            (name, result.map(|facts| Seen { facts, ..seen }))
        });
        for (name, result) in results {
            match result {
                Ok(seen) => {
                    if !seen.is_member() {
                        self.bare.insert(name.clone());
                    }
                    if !stored_data::has_our_etcd_data(&seen.facts) {
                        self.no_data.insert(name.clone());
                    }
                    self.seen.insert(name, seen);
                }
                Err(problem) => {
                    self.bare.remove(&name);
                    self.no_data.remove(&name);
                    self.lost.insert(name, problem);
                }
            }
        }
        let mut said = said.into_inner().expect("all threads have ended");
        said.sort_by(|a, b| (&a.node, &a.id).cmp(&(&b.node, &b.id)));
        said
    }

    /// Asks etcd for its members and alarms, through the first node that has one that answers.
    pub fn ask_etcd(&mut self, inventory: &Inventory, access: Option<&EtcdAccess>) {
        let Some(access) = access.filter(|_| self.etcd.is_none()) else { return };
        for node in inventory.etcd_members() {
            let Some(seen) = self.seen.get_mut(&node.name) else { continue };
            if !runs_etcd(&seen.facts) || !stored_data::has_our_etcd_data(&seen.facts) {
                continue;
            }
            let Some(session) = seen.session.as_deref_mut() else { continue };
            let asked = etcd::roster(session, node.internal_ip(), access);
            let answered = asked.is_ok();
            self.etcd = Some(asked.map_err(|why| format!("{}: {why}", node.name)));
            if answered {
                break;
            }
        }
    }

    /// The open connections.
    pub fn into_sessions(self) -> Sessions {
        self.seen.into_iter().filter_map(|(name, s)| Some((name, s.session?))).collect()
    }
}

/// The plan for the current state, for callers that only compare: the fleet stays as it is. Also returns the nodes that no
/// plan could be made for.
pub fn plan_to_compare(
    loaded: &Loaded,
    fleet: &mut Fleet,
    material: &Material,
) -> (Plan, BTreeMap<NodeName, Problem>) {
    fleet.ask_etcd(&loaded.inventory, etcd_access(&loaded.inventory, material).as_ref());
    let of = |seen: &Seen| Seen {
        session: None,
        host_key: seen.host_key.clone(),
        facts: seen.facts.clone(),
    };
    let mut copy = Fleet {
        seen: fleet.seen.iter().map(|(name, seen)| (name.clone(), of(seen))).collect(),
        lost: fleet.lost.clone(),
        bare: fleet.bare.clone(),
        no_data: fleet.no_data.clone(),
        etcd: fleet.etcd.clone(),
    };
    let (plan, _) = plan(loaded, &mut copy, material);
    (plan, copy.lost)
}

/// The plan, and what those nodes should hold that have work in it. Nodes with problems are taken out of
/// the fleet and reported.
pub fn plan(loaded: &Loaded, fleet: &mut Fleet, material: &Material) -> (Plan, DesiredState) {
    let inventory = &loaded.inventory;
    let reference = preflight::median(fleet.seen.values().map(|s| s.facts.clock_epoch_s).collect());
    fleet.ask_etcd(inventory, etcd_access(inventory, material).as_ref());
    let mut desired = DesiredState { nodes: BTreeMap::new() };
    let mut plans: BTreeMap<NodeName, NodePlan> = BTreeMap::new();
    let mut texts = SharedTexts::default();
    let mut etcd = EtcdState::Down;
    let mut failed: BTreeMap<NodeName, Problem> = BTreeMap::new();
    for (name, seen) in &fleet.seen {
        let Some(node) = inventory.nodes.iter().find(|n| n.name == *name) else { continue };
        let problems = preflight::check(inventory, node, &seen.facts, reference);
        if !problems.is_empty() {
            failed.insert(name.clone(), join(name, "the node is not ready", problems));
        }
    }
    let founder = founder(inventory, fleet, &failed);
    for node in &inventory.nodes {
        let Some(seen) = fleet.seen.get(&node.name) else { continue };
        let facts = &seen.facts;
        if inventory.is_etcd_member(node) && runs_etcd(facts) {
            etcd = EtcdState::Running;
        }
        if failed.contains_key(&node.name) {
            continue;
        }
        let mut wanted = match desired::resolve(inventory, node, facts, material) {
            Ok(wanted) => wanted,
            Err(errors) => {
                let problems = errors.iter().map(|e| Problem::from_error("", e)).collect();
                let what = "what it should hold cannot be worked out";
                failed.insert(node.name.clone(), join(&node.name, what, problems));
                continue;
            }
        };
        if founder.as_ref().is_ok_and(|first| first.as_ref() == Some(&node.name)) {
            desired::member::found(&mut wanted.items);
        }
        let problems = stored_data::endangered(node, facts, &wanted);
        if !problems.is_empty() {
            let what = "stored data would be lost";
            failed.insert(node.name.clone(), join(&node.name, what, problems));
            continue;
        }
        let broken = judge_rendered(inventory, node, facts, &wanted);
        if !broken.critical.is_empty() {
            let what = "what was rendered for it breaks a critical control";
            failed.insert(node.name.clone(), join(&node.name, what, broken.critical));
            continue;
        }
        match node_plan(&wanted, facts, &seen.host_key) {
            Ok(mut plan) => {
                let problems = preflight::room(&plan, facts);
                if !problems.is_empty() {
                    let what = "the node is not ready";
                    failed.insert(node.name.clone(), join(&node.name, what, problems));
                    continue;
                }
                plan.notes.extend(broken.notes);
                // Where nothing is to be done nobody asks for the contents again.
                if !plan.transactions.is_empty() {
                    texts.share(&mut wanted);
                    desired.nodes.insert(node.name.clone(), wanted);
                }
                plans.insert(node.name.clone(), plan);
            }
            Err(missing) => {
                let problems = missing.iter().map(|m| Problem::from_error("", m)).collect();
                let what = "the way to what it should hold is blocked";
                failed.insert(node.name.clone(), join(&node.name, what, problems));
            }
        }
    }
    match &founder {
        Ok(Some(first)) if failed.contains_key(first) => {
            let why = format!("the cluster is not started: {first} is not ready for it");
            hold_back(&mut plans, &[Phase::Kubernetes], &why);
        }
        Ok(_) => {}
        Err(why) => hold_back(&mut plans, &[Phase::Kubernetes], why),
    }
    if etcd == EtcdState::Down {
        // Members that are known not to run, and will not after this run either.
        let away = |n: &&Node| {
            let left_out = fleet.bare.contains(&n.name) && !fleet.seen.contains_key(&n.name);
            failed.contains_key(&n.name) || left_out
        };
        let (all, away) =
            (inventory.etcd_members().count(), inventory.etcd_members().filter(away).count());
        if away > 0 && all - away <= all / 2 {
            let why = format!(
                "etcd is not started, and no cluster: {} of {all} members are ready, and {} are a quorum",
                all - away,
                all / 2 + 1
            );
            hold_back(&mut plans, &[Phase::Etcd, Phase::Kubernetes], &why);
        }
    }
    let moved: Vec<&str> = plans
        .iter()
        .filter(|(name, plan)| preflight::moves_pods(plan, &fleet.seen[*name].facts))
        .map(|(name, _)| name.as_str())
        .collect();
    if !moved.is_empty() {
        let problem = Problem::new("the network of running pods would be another one")
            .because(format!("parts of `pod_networks` or {CONFLIST} changed: {}", moved.join(", ")))
            .left("no plan was made")
            .hint(
                "the bridge network gives nodes their parts in the order of the inventory: add nodes at \
                 its end; to move one, `kubastion reset --nodes` takes it out first. A file that somebody \
                 changed can be removed: it is written anew",
            );
        for name in std::mem::take(&mut plans).into_keys() {
            failed.insert(name.clone(), problem.clone().at(name.to_string()));
        }
        desired.nodes.clear();
    }
    let (changes, unfit) = membership(inventory, fleet, &mut plans);
    if let Some(problem) = unfit {
        for name in std::mem::take(&mut plans).into_keys() {
            let at = problem.place.clone().unwrap_or_else(|| name.to_string());
            failed.insert(name, problem.clone().at(at));
        }
        desired.nodes.clear();
    }
    // If the founding node was held back meanwhile, there is no cluster to join.
    let starts = |n: &NodeName| {
        plans.get(n).is_some_and(|p| p.transactions.iter().any(|t| t.phase == Phase::Kubernetes))
    };
    if let Ok(Some(first)) = &founder
        && !starts(first)
    {
        let why = format!("the cluster is not started: {first} is not ready for it");
        hold_back(&mut plans, &[Phase::Kubernetes], &why);
    }
    for (name, plan) in plans.iter().filter(|(_, p)| !p.transactions.is_empty()) {
        let empty = || NodeDesired { items: Vec::new(), notes: plan.notes.clone() };
        desired.nodes.entry(name.clone()).or_insert_with(empty);
    }
    for (name, problem) in failed {
        fleet.seen.remove(&name);
        fleet.lost.insert(name, problem);
    }
    let stages = stages(inventory, &plans, etcd);
    let cluster = inventory.cluster.name.to_string();
    let plan = Plan::new(cluster, loaded.sha256.clone(), plans, stages);
    (if changes.is_empty() { plan } else { plan.with_etcd(changes) }, desired)
}

/// Whether an etcd member runs. A process of that name under another user is not ours.
fn runs_etcd(facts: &NodeFacts) -> bool {
    let ours = |p: &ProcessFacts| matches!(p.user.as_str(), "etcd" | "root");
    facts.processes.get("etcd").is_some_and(|p| p.iter().any(ours))
}

/// etcd's members by the inventory, with what was found of them.
pub fn wanted_members(inventory: &Inventory, fleet: &Fleet) -> Vec<WantedMember> {
    let found = |s: &Seen| Found {
        data: stored_data::has_our_etcd_data(&s.facts),
        runs: runs_etcd(&s.facts),
    };
    let wanted = inventory.etcd_members().map(|n| WantedMember {
        name: n.name.clone(),
        peer_url: desired::peer_url(n.internal_ip()),
        found: match fleet.seen.get(&n.name) {
            Some(seen) => Some(found(seen)),
            // It was looked at, and is left out for a reason of its own.
            None => fleet.no_data.contains(&n.name).then_some(Found { data: false, runs: false }),
        },
    });
    wanted.collect()
}

/// The membership changes of etcd, with the join steps added to the nodes' plans; or the problem that prevents a plan.
fn membership(
    inventory: &Inventory,
    fleet: &Fleet,
    plans: &mut BTreeMap<NodeName, NodePlan>,
) -> (Vec<EtcdChange>, Option<Problem>) {
    let wanted = wanted_members(inventory, fleet);
    let unasked = match &fleet.etcd {
        Some(Ok(roster)) => {
            let to = members::compare(roster, &wanted);
            let mut stop =
                members::health_problems(roster, &wanted).into_iter().chain(to.blocked.clone());
            return match stop.next() {
                Some(problem) => {
                    (Vec::new(), Some(stop.fold(problem, |p, more| p.because(more.what))))
                }
                None => (members::joins(&to, &wanted, plans), None),
            };
        }
        Some(Err(why)) => {
            // The members are still repaired one by one, but the plan must not look as if there were no alarm.
            for (_, plan) in plans.iter_mut().filter(|(n, _)| wanted.iter().any(|w| w.name == **n))
            {
                plan.notes.push(format!("etcd's members and alarms could not be listed: {why}"));
            }
            why
        }
        None => "no etcd runs on the nodes that were checked",
    };
    if let Some((names, why)) = members::must_wait(&wanted, unasked) {
        for (_, plan) in plans.iter_mut().filter(|(name, _)| names.contains(name)) {
            hold_back_one(plan, &[Phase::Etcd, Phase::Kubernetes], &why);
        }
    }
    (Vec::new(), None)
}

/// Takes phases out of plans that could only fail, after minutes.
fn hold_back(plans: &mut BTreeMap<NodeName, NodePlan>, phases: &[Phase], why: &str) {
    plans.values_mut().for_each(|plan| hold_back_one(plan, phases, why));
}

fn hold_back_one(plan: &mut NodePlan, phases: &[Phase], why: &str) {
    if phases.iter().filter(|p| plan.remove(**p)).count() > 0 {
        plan.held_back.push(why.to_owned());
    }
}

/// What a plan leaves for a later one, for whoever takes the run for all there is to do.
pub fn held_back(plan: &Plan) -> Vec<Problem> {
    let mut nodes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, node) in &plan.nodes {
        for why in &node.held_back {
            nodes.entry(why).or_default().push(name.as_str());
        }
    }
    let problem = |(why, nodes): (&str, Vec<&str>)| {
        Problem::new(why)
            .at(nodes.join(", "))
            .left("that was not begun on them, and nothing was changed by it")
            .hint(
                "see to the nodes that are not ready; where --nodes is used, name all control planes and \
                 etcd members; then apply again",
            )
    };
    nodes.into_iter().map(problem).collect()
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
    node: &Node,
    facts: &NodeFacts,
    wanted: &NodeDesired,
) -> Broken {
    let seen = Observed::from_desired(wanted, facts);
    let subject = Subject { inventory, node, seen: &seen, now: Clock::System.now() };
    let mut broken = Broken::default();
    // Also one that only what is staged for later breaks, of which the finding does not say so.
    let excepted = |control: &str| {
        inventory.hardening.exceptions_of(control, Some(&node.name)).next().is_some()
    };
    for finding in verify::of_rendered(&subject).into_iter().filter(|f| !excepted(f.control)) {
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
                .hint("grant an exception, or switch the control off under `hardening.controls`; both need a reason, an owner and a last day"),
            );
        } else {
            // Without what was found, which may hold a date: a plan depends on what it does alone.
            broken.notes.push(format!("{} will not hold: expected {expected}", finding.control));
        }
    }
    broken
}

/// Several problems of one node as one.
fn join(node: &NodeName, what: &str, problems: Vec<Problem>) -> Problem {
    let mut hints: Vec<String> = problems.iter().filter_map(|p| p.hint.clone()).collect();
    hints.dedup();
    let mut whole = Problem::new(what).at(node.to_string()).left("nothing was changed on it");
    for p in problems {
        let text = if p.what.is_empty() { p.why.join(": ") } else { p.what };
        whole = whole.because(text);
    }
    whole.hint = (!hints.is_empty()).then(|| hints.join("; "));
    whole
}

/// Tells the inventory what this machine has for the nodes: the probe of the API server, and what is
/// in the bundle that the inventory names. `None` where the software comes from elsewhere.
///
/// # Errors
/// A probe that is no static program. A bundle that is missing, not signed by a key of the inventory, or of another Kubernetes version.
pub fn bundle(loaded: &mut Loaded) -> Result<Option<Bundle>, Stop> {
    let kubernetes = &mut loaded.inventory.kubernetes;
    kubernetes.probe = super::probe::find()?;
    if kubernetes.source != SoftwareSource::Bundle {
        return Ok(None);
    }
    let dir = kubernetes.bundle.path.clone().unwrap_or_else(|| bundle::DEFAULT_DIR.into());
    let dir = loaded.base_dir.join(dir);
    let bundle = Bundle::open(&dir, &kubernetes.bundle.signers)
        .map_err(|e| Stop { exit: Exit::InvalidInput, problems: e.problems() })?;
    let manifest = bundle.manifest();
    let pinned = kubernetes.bundle.manifest_sha256.as_deref();
    let found = hex(&Sha256::digest(manifest.canonical()));
    if let Some(pinned) = pinned.filter(|p| !p.eq_ignore_ascii_case(&found)) {
        let problem = Problem::new("this is another bundle than the inventory names")
            .at(dir.display().to_string())
            .because(format!("the SHA-256 of its manifest.json is {found}, and not {pinned}"))
            .left("nothing was changed")
            .hint("an old bundle may have taken its place; if it is the right one, set `kubernetes.bundle.manifest_sha256`");
        return Err(Stop::one(Exit::InvalidInput, problem));
    }
    let wanted = &loaded.inventory.cluster.kubernetes;
    if manifest.kubernetes != *wanted {
        let what = format!(
            "the bundle holds Kubernetes {}, and the inventory says {wanted}",
            manifest.kubernetes
        );
        let problem =
            Problem::new(what).at(dir.display().to_string()).left("nothing was changed").hint(
                "set `cluster.kubernetes`, or name another bundle under `kubernetes.bundle.path`",
            );
        return Err(Stop::one(Exit::InvalidInput, problem));
    }
    kubernetes.software = Some(manifest.software());
    Ok(Some(bundle))
}

/// Which node starts the cluster, if there is none yet.
///
/// # Errors
/// A control plane that was not looked at may be part of a cluster already: starting a second one
/// would be a disaster. Or none is ready for it.
fn founder(
    inventory: &Inventory,
    fleet: &Fleet,
    unready: &BTreeMap<NodeName, Problem>,
) -> Result<Option<NodeName>, String> {
    // Also one whose API server is down just now, and which another kubeadm has made.
    if fleet.seen.values().any(|s| s.is_member() || s.has_kubelet_config()) {
        return Ok(None);
    }
    let mut planes = inventory.with_role(Role::ControlPlane);
    let known = |n: &NodeName| fleet.bare.contains(n) || fleet.lost.contains_key(n);
    // Only workers were chosen: they join what is there, or say that nothing is.
    if planes.all(|n| !known(&n.name)) {
        return Ok(None);
    }
    let mut first = None;
    for node in inventory.with_role(Role::ControlPlane) {
        if !fleet.bare.contains(&node.name) {
            return Err(format!(
                "the cluster is not started: control plane {} was not checked, and may already be part of one",
                node.name
            ));
        }
        if fleet.seen.contains_key(&node.name) && !unready.contains_key(&node.name) {
            first.get_or_insert_with(|| node.name.clone());
        }
    }
    let none = || "the cluster is not started: no control plane is ready for it".to_owned();
    first.ok_or_else(none).map(Some)
}

/// How etcd members are asked for their health.
pub fn etcd_access(inventory: &Inventory, material: &Material) -> Option<EtcdAccess> {
    let members: Vec<_> =
        inventory.etcd_members().map(|n| (n.name.clone(), n.internal_ip())).collect();
    let first = inventory.etcd_members().next()?;
    let pair = material.node(Kind::EtcdHealthcheckClient, &first.name)?;
    Some(EtcdAccess {
        members,
        ca_pem: material.ca_cert(Ca::Etcd).to_owned(),
        certificate_pem: pair.cert_pem.clone(),
        key_pem: pair.key_pem.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::CALL_SCRIPT;
    use crate::facts::OpenTransaction;
    use crate::inventory::testing;
    use crate::plan::text::{Detail, render};
    use crate::plan::{Action, Step, Transaction};
    use crate::transport::played::{Played, this_machine};

    /// This machine plays every node.
    const HERE: Played = Played(&|_, script, input| this_machine(script, input));

    #[test]
    fn a_large_fleet_keeps_some_connections_and_those_of_its_servers() {
        let inventory = testing::two_and_two();
        let nodes: Vec<&Node> = inventory.nodes.iter().collect();
        let open = |kept| {
            let fleet = look_at(&inventory, &nodes, &HERE, |_, _| WatchList::default(), kept);
            assert!(fleet.lost.is_empty() && fleet.seen.len() == 4, "{:?}", fleet.lost);
            assert!(fleet.seen.values().all(|s| s.host_key == "SHA256:played"));
            let open = fleet.seen.iter().filter(|(_, s)| s.session.is_some());
            open.map(|(name, _)| name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(open(usize::MAX), ["cp1", "cp2", "w1", "w2"]);
        assert_eq!(open(1).len(), 3);
        assert_eq!(open(0), ["cp1", "cp2"]);
        // Who needs one that was closed has it.
        let mut fleet = look_at(&inventory, &nodes, &HERE, |_, _| WatchList::default(), 0);
        let worker = fleet.seen.get_mut(&nodes[3].name).unwrap();
        assert!(worker.session(&inventory, nodes[3], &HERE).is_ok() && worker.session.is_some());
    }

    #[test]
    fn what_was_settled_is_known_also_of_a_node_where_not_all_was() {
        let inventory = testing::two_and_two();
        let answers = Played(&|_, script, input| match (script, input) {
            (CALL_SCRIPT, b"1-a-host revert left-open\n") => "@state reverted\n".into(),
            (CALL_SCRIPT, b"2-b-host revert left-open\n") => {
                "@said no room\n@state incomplete\n".into()
            }
            (CALL_SCRIPT, other) => panic!("{}", String::from_utf8_lossy(other)),
            _ => this_machine(script, input),
        });
        let open = |id: &str, state: &str| OpenTransaction { id: id.into(), state: state.into() };
        let seen = |node: &Node, open: Vec<OpenTransaction>| {
            let facts =
                NodeFacts { open_transactions: open, ..NodeFacts::bare(node.name.as_str()) };
            let session = Some(connect(&inventory, node, &answers).unwrap());
            (node.name.clone(), Seen { session, host_key: String::new(), facts })
        };
        let [cp1, cp2, w1, _] = &inventory.nodes[..] else { panic!() };
        let mut fleet = Fleet {
            seen: [
                seen(cp1, vec![open("1-a-host", "switched"), open("2-b-host", "switching")]),
                seen(cp2, vec![open("1-a-host", "switched")]),
                // Nothing is done about that one, which needs hands.
                seen(w1, vec![open("3-c-host", "incomplete")]),
            ]
            .into(),
            lost: BTreeMap::new(),
            bare: [&cp1.name, &cp2.name, &w1.name].map(NodeName::clone).into(),
            no_data: BTreeSet::new(),
            etcd: None,
        };
        let settled = fleet.settle(&inventory);
        let done: Vec<_> =
            settled.iter().map(|s| (s.node.as_str(), s.id.as_str(), s.state)).collect();
        let reverted = TxnState::Reverted;
        assert_eq!(done, [("cp1", "1-a-host", reverted), ("cp2", "1-a-host", reverted)]);
        let problem = fleet.lost[&cp1.name].to_string();
        for words in ["left open cannot be undone", "2-b-host was left switching", "no room"] {
            assert!(problem.contains(words), "{words}: {problem}");
        }
        assert!(!fleet.bare.contains(&cp1.name) && !fleet.seen.contains_key(&cp1.name));
        assert!(fleet.seen.contains_key(&w1.name) && fleet.lost.len() == 1, "{:?}", fleet.lost);
        // It was looked at again: this machine has nothing open.
        assert!(fleet.seen[&cp2.name].facts.open_transactions.is_empty());
    }

    /// A member that was not checked may hold the cluster's data, so no second cluster is started beside it.
    #[test]
    fn a_member_that_is_left_out_is_known_by_what_was_seen_of_it() {
        let inventory = testing::two_and_two();
        let member = inventory.etcd_members().next().unwrap();
        let mut fleet = Fleet::default();
        let found = |fleet: &Fleet| {
            wanted_members(&inventory, fleet).into_iter().find(|w| w.name == member.name).unwrap()
        };
        assert!(found(&fleet).found.is_none());
        fleet.no_data.insert(member.name.clone());
        let known = found(&fleet).found.unwrap();
        assert!(!known.data && !known.runs);
    }

    #[test]
    fn what_is_held_back_is_a_problem_with_its_reason_and_shows_in_the_plan() {
        let transaction = |phase| Transaction {
            phase,
            confirm_within_s: None,
            steps: vec![Action {
                step: Step::DaemonReload,
                controls: BTreeSet::new(),
                why: String::new(),
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
        hold_back(&mut nodes, &[Phase::Kubernetes], "no cluster: cp3 was not checked");
        let plan = plan(&nodes);
        assert!(plan.is_empty() && plan.holds_back());
        let problems = held_back(&plan);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].place.as_deref(), Some("cp1, cp2"));
        assert!(problems[0].what.contains("cp3 was not checked"));
        assert!(problems[0].state.is_some() && problems[0].hint.is_some());
        let said = render(&plan, Detail::Summary);
        assert!(said.contains("\ncp1, cp2\n  held back: no cluster: cp3"), "{said}");
        assert!(!said.contains("w1") && !said.contains("something to know"), "{said}");
        assert!(render(&plan, Detail::Steps).contains("  note: something to know"));
    }

    #[test]
    fn what_the_plan_installs_and_what_is_excepted_is_not_noted() {
        let software = crate::desired::tests::bundled::manifest(36).software();
        let notes = |more: &str, packages: &[(&str, &str)], bundled: bool| -> Vec<String> {
            let mut inventory = testing::with(&format!(
                "kubernetes: {{source: bundle}}\n{more}\
                 nodes:\n- {{name: n, addresses: [10.0.0.1], roles: [worker]}}\n"
            ));
            inventory.kubernetes.software = bundled.then(|| software.clone());
            let mut facts = crate::desired::tests::facts("n", "debian 12", None);
            let own = |(name, version): &(&str, &str)| (name.to_string(), version.to_string());
            facts.packages.extend(packages.iter().map(own));
            let material = Material::fixture(&inventory);
            let node = &inventory.nodes[0];
            let wanted = desired::resolve(&inventory, node, &facts, &material).unwrap();
            let broken = judge_rendered(&inventory, node, &facts, &wanted);
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
