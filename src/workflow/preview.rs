//! What an apply would do now, for whoever wants to see it before. Changes nothing.

use std::collections::BTreeMap;
use std::path::Path;

use super::etcd_members::etcd_access;
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
use crate::workflow::command_error::{CommandError, Exit};

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
    pub lost: Vec<NodeName>,
    /// Why not, and what else could not be looked at.
    pub failed: Vec<Problem>,
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
    let (material, dialer, mut fleet) =
        keys::read_and_look(loaded, &nodes, wanted.reach, PkiUse::ReadOnly, |store| {
            keys::material(loaded, store)
        })?;
    let open = left_open(&fleet);
    open.iter().for_each(|line| say(line));
    if let (Some(file), false) = (wanted.out, open.is_empty()) {
        let problem = Problem::new("a plan that is made now would not fit when it is applied")
            .at(file.display().to_string())
            .because(open.join("; "))
            .left("nothing was saved")
            .hint(
                "`kubastion apply` without a plan settles it, or wait until the node has gone back",
            );
        return Err(CommandError::one(Exit::Pending, problem));
    }
    fleet.ask_etcd(inventory, etcd_access(inventory, &material).as_ref());
    let Planned { mut plan, desired, failed } = planner::plan(loaded, &fleet.facts, &material);
    fleet.facts.leave_out(failed);
    let mut failed: Vec<Problem> = fleet.facts.failed.values().cloned().collect();
    if let Some(access) = objects::access(inventory, &material) {
        let (with_objects, problem) = objects::plan(loaded, plan, &mut fleet, &access, &material);
        plan = with_objects;
        failed.extend(problem);
    }
    let (diffs, unread) = match wanted.diff {
        true => changes_in_files(inventory, &plan, &desired, &mut fleet, &dialer),
        false => Default::default(),
    };
    failed.extend(unread);
    let lost = fleet.facts.failed.into_keys().collect();
    Ok(Preview { plan, diffs, lost, failed, has_open: !open.is_empty() })
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
        let open = facts.open_transactions.iter().filter(|t| !t.needs_hands());
        let line = |t: &OpenTransaction| {
            let (node, id, state) = (&facts.node, &t.id, &t.state);
            format!(
                "{node}: transaction {id} of an earlier run was interrupted (state: {state}); the next apply brings it to an end first"
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
    use crate::plan::Answered;

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
