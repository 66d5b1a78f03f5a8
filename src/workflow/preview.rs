//! What an apply would do now, for whoever wants to see it before. Changes nothing.

use std::collections::BTreeMap;
use std::path::Path;

use super::encryption::{self, Access};
use super::etcd_members::etcd_access;
use super::impact::not_yet;
use super::keys::{self, PkiUse};
use super::objects;
use super::observe::{self, Fleet, Reach};
use crate::desired::DesiredState;
use crate::error::Problem;
use crate::facts::{NodeFacts, OpenTransaction};
use crate::inventory::{Inventory, Loaded, Node, NodeName};
use crate::plan::planner::{self, Planned};
use crate::plan::{Plan, changes};
use crate::transport::Dialer;
use crate::workflow::command_error::{CommandError, Exit, LeftOut};

/// What is wanted of a preview.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Which nodes, and how they are reached.
    pub reach: &'a Reach,
    /// Where the plan is to be saved.
    pub out: Option<&'a Path>,
    /// Whether it shows what changes inside files.
    pub diff: bool,
}

/// A plan, and what belongs to it.
pub struct Preview {
    /// The plan of the nodes that answered.
    pub plan: Plan,
    /// What changes inside files, of the nodes with work; of secrets only that they change.
    pub diffs: BTreeMap<NodeName, String>,
    /// Nodes that it has no plan for.
    pub unreachable: Vec<NodeName>,
    /// Why not, and what else could not be looked at.
    pub failed: Vec<Problem>,
    /// What that amounts to.
    pub exit: Exit,
    has_open: bool,
}

impl Preview {
    /// Whether the nodes are not yet what they should be, also where nothing can be done about it now.
    pub fn is_pending(&self) -> bool {
        is_pending(&self.plan) || self.has_open
    }
}

/// Makes the plan. `say` hears what earlier runs left open.
///
/// # Errors
/// Every problem of the key store, and a plan that would not fit any more when it is applied.
pub fn preview(
    loaded: &Loaded,
    wanted: Wanted<'_>,
    say: &dyn Fn(&str),
) -> Result<Preview, CommandError> {
    let inventory = &loaded.inventory;
    let nodes = observe::chosen(inventory, wanted.reach)?;
    let read = keys::read_and_look(loaded, &nodes, wanted.reach, PkiUse::ReadOnly, |store| {
        keys::material(loaded, store)
    });
    let (material, dialer, mut fleet) = match read {
        // Keys that are to be issued would be of no use to nodes that get no plan.
        Err(due) if due.exit == Exit::Pending => {
            return Err(refused_anyway(loaded, &nodes, wanted.reach).unwrap_or(due));
        }
        read => read?,
    };
    let open = left_open(&fleet);
    open.iter().for_each(|line| say(line));
    if let (Some(file), false) = (wanted.out, open.is_empty()) {
        let problem = Problem::new("a plan made now would be out of date when it is applied")
            .at(file.display().to_string())
            .because(open.join("; "))
            .left("nothing was saved")
            .hint(
                "run `kubastion apply` without a plan to settle it, or wait until the node has rolled back",
            );
        return Err(CommandError::one(Exit::Pending, problem));
    }
    let (etcd, api) = (etcd_access(inventory, &material), objects::access(inventory, &material));
    let gate = not_yet(loaded, &fleet, &nodes, &dialer, &material);
    fleet.ask_etcd(inventory, etcd.as_ref());
    let access = Access { etcd: etcd.as_ref(), api: api.as_ref(), dialer: &dialer };
    encryption::count_stored(inventory, &mut fleet, &material, access);
    let Planned { mut plan, desired, failed } = planner::plan(loaded, &fleet.facts, &material);
    let mut left_out = LeftOut { unanswered: fleet.facts.failed.len(), refused: failed.len() };
    fleet.facts.leave_out(failed);
    let mut failed: Vec<Problem> = fleet.facts.failed.values().cloned().collect();
    if let Err(problem) = gate {
        left_out.refused += 1;
        failed.push(problem);
    }
    if let Some(access) = &api {
        let (with_objects, problem) = objects::plan(loaded, plan, &mut fleet, access, &material);
        plan = with_objects;
        left_out.unanswered += usize::from(problem.is_some());
        failed.extend(problem);
    }
    let (diffs, unread) = match wanted.diff {
        true => changes_in_files(inventory, &plan, &desired, &mut fleet, &dialer),
        false => Default::default(),
    };
    left_out.unanswered += unread.len();
    failed.extend(unread);
    let unreachable = fleet.facts.failed.into_keys().collect();
    let (exit, has_open) = (left_out.exit(), !open.is_empty());
    Ok(Preview { plan, diffs, unreachable, failed, exit, has_open })
}

/// What is refused whatever the keys are, if anything is. Nodes that cannot be asked are left to the next plan, with keys.
fn refused_anyway(loaded: &Loaded, nodes: &[&Node], reach: &Reach) -> Option<CommandError> {
    let dialer = observe::dialer(&loaded.inventory, nodes, reach).ok()?;
    let fleet = observe::read_nodes(&loaded.inventory, &loaded.files, nodes, &dialer);
    let problems: Vec<Problem> = planner::refusals(loaded, &fleet.facts).into_values().collect();
    let left_out = LeftOut { unanswered: 0, refused: problems.len() };
    (!problems.is_empty()).then(|| CommandError { exit: left_out.exit(), problems })
}

/// What changes inside the files of nodes with work, and nodes whose files could not be read.
fn changes_in_files(
    inventory: &Inventory,
    plan: &Plan,
    desired: &DesiredState,
    fleet: &mut Fleet,
    dialer: &dyn Dialer,
) -> (BTreeMap<NodeName, String>, Vec<Problem>) {
    let (mut diffs, mut failed) = (BTreeMap::new(), Vec::new());
    for (name, of_node) in plan.nodes.iter().filter(|(_, n)| !n.transactions.is_empty()) {
        let Some(wanted) = desired.nodes.get(name) else { continue };
        let node = inventory.nodes.iter().find(|n| n.name == *name);
        let node: &Node = node.expect("only nodes of the inventory are planned for");
        let old = fleet
            .session(inventory, node, dialer)
            .and_then(|s| observe::texts(s, name, changes::replaced(of_node, wanted)));
        match old {
            Ok(old) => {
                diffs.insert(name.clone(), changes::render(of_node, wanted, &old));
            }
            Err(problem) => failed.push(problem),
        }
    }
    (diffs, failed)
}

/// What earlier runs left open, a line for each transaction: the node will not stay as it is.
fn left_open(fleet: &Fleet) -> Vec<String> {
    let of = |facts: &NodeFacts| {
        let open = facts.open_transactions.iter().filter(|t| !t.is_incomplete());
        let line = |t: &OpenTransaction| {
            let (node, id, state) = (&facts.node, &t.id, &t.state);
            format!(
                "{node}: transaction {id} of an earlier run was interrupted (state: {state}); the next apply settles it first"
            )
        };
        open.map(line).collect::<Vec<_>>()
    };
    fleet.facts.answered.values().flat_map(|s| of(&s.facts)).collect()
}

/// Whether the nodes are not yet what they should be, also where nothing can be done about it now.
fn is_pending(plan: &Plan) -> bool {
    !plan.is_empty() || plan.holds_back()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::testing;
    use crate::plan::{Answered, FleetFacts, stored_data};
    use crate::workflow::inventory::{HostKeys, read};

    #[test]
    fn what_an_earlier_run_left_open_is_said_of_its_node() {
        let mut facts = crate::desired::tests::facts("n", "debian 12", None);
        let mut fleet = |states: &[&str]| {
            let open =
                |state: &&str| OpenTransaction { id: "1-host".into(), state: (*state).to_owned() };
            facts.open_transactions = states.iter().map(open).collect();
            let host_key = String::new();
            let node = Answered { host_key, facts: facts.clone() };
            let mut fleet = Fleet::default();
            fleet.facts.insert(facts.node.clone(), node);
            left_open(&fleet)
        };
        assert!(fleet(&[]).is_empty());
        // It needs manual repair: no time limit will change the node.
        assert!(fleet(&["incomplete"]).is_empty());
        let said = fleet(&["switched"]);
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("interrupted (state: switched)"), "{said:?}");
    }

    #[test]
    fn other_networks_are_refused_whatever_the_keys_are() {
        let dir = tempfile::tempdir().unwrap();
        let mut loaded = read(&testing::file_in(dir.path()), HostKeys::Required).unwrap();
        let name = loaded.inventory.nodes[0].name.clone();
        let mut facts = crate::desired::tests::facts(name.as_str(), "debian 12", None);
        facts.commands = crate::facts::COMMANDS.iter().map(|c| (*c).to_owned()).collect();
        let runs = "    - --service-cluster-ip-range=10.96.0.0/12\n";
        facts.texts.insert(stored_data::APISERVER_POD.into(), Some(runs.into()));
        let mut fleet = FleetFacts::default();
        fleet.insert(name, Answered { host_key: String::new(), facts });
        let refused = |loaded: &Loaded| -> String {
            planner::refusals(loaded, &fleet).values().map(ToString::to_string).collect()
        };
        assert!(!refused(&loaded).contains("cannot change"), "{}", refused(&loaded));
        loaded.inventory.cluster.service_networks = vec!["10.97.0.0/16".parse().unwrap()];
        let said = refused(&loaded);
        assert!(said.contains("`cluster.service_networks` cannot change"), "{said}");
    }

    #[test]
    fn what_is_held_back_is_pending() {
        let plan = |held_back: Vec<crate::plan::HeldBack>| {
            let node = crate::plan::NodePlan { held_back, ..Default::default() };
            let nodes = [("n".parse().unwrap(), node)].into();
            Plan::new("c".into(), String::new(), nodes, Vec::new())
        };
        assert!(!is_pending(&plan(vec![])));
        assert!(is_pending(&plan(vec![crate::plan::HeldBack::NoControlPlaneReady])));
    }
}
