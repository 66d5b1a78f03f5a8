//! `kubastion plan`: what apply would do. Changes nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::args::{Format, Global};
use super::output::{note, pretty, print};
use crate::command_error::{CommandError, Exit};
use crate::error::Problem;
use crate::inventory::NodeName;
use crate::plan::text::{Detail, render};
use crate::plan::{Plan, changes};
use crate::workflow::keys::{self, PkiUse};
use crate::workflow::objects;
use crate::workflow::observe::{self, Reach};
use crate::workflow::planner;
use crate::workflow::software;

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// Which nodes, and how they are reached.
    #[command(flatten)]
    pub reach: Reach,
    /// Save the plan for `kubastion apply FILE`.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// End with 4 if changes are pending.
    #[arg(long)]
    pub exit_code: bool,
    /// Show what changes inside files; of secrets only that they change.
    #[arg(long)]
    pub diff: bool,
    /// Show every step with its reason and its controls, and the notes of each node.
    #[arg(short, long)]
    pub verbose: bool,
}

const HELP: &str =
    "A saved plan is bound to what it saw: if the inventory, the keys or a node changes,
`apply FILE` refuses it. It holds no secrets.

Examples:
  kubastion plan
  kubastion plan --verbose --nodes cp1
  kubastion plan --diff --nodes cp1
  kubastion plan --out change.plan && kubastion apply change.plan
  kubastion plan --exit-code || echo 'changes pending or a node failed'";

/// Runs `kubastion plan`.
///
/// # Errors
/// Every problem of the inventory, the key store and the nodes. The plan of the nodes that
/// answered is shown all the same.
pub fn run(global: &Global, args: &Args) -> Result<Exit, CommandError> {
    if let Some(file) = &args.out {
        only_replaces_a_plan(file)?;
    }
    let mut loaded = super::inventory::load(global)?;
    software::bundle(&mut loaded)?;
    let nodes = observe::chosen(&loaded.inventory, &args.reach)?;
    let read_keys = |store| keys::material(&loaded, store);
    let early = keys::read_before_contact(keys::open(&loaded)?, read_keys)?;
    let dialer = observe::dialer(&loaded.inventory, &nodes, &args.reach)?;
    let mut fleet = observe::look(&loaded.inventory, &nodes, &dialer);
    let material = match early {
        Ok(material) => material,
        Err(store) => {
            let read_only = PkiUse::ReadOnly;
            keys::refuse_second_cas(&loaded, &store, &fleet, &dialer, &args.reach, read_only)?;
            read_keys(store)?
        }
    };
    let open = left_open(&fleet);
    for line in &open {
        note(global.format, line);
    }
    if let (Some(file), false) = (&args.out, open.is_empty()) {
        let problem = Problem::new("a plan that is made now would not fit when it is applied")
            .at(file.display().to_string())
            .because(open.join("; "))
            .left("nothing was saved")
            .hint(
                "`kubastion apply` without a plan settles it, or wait until the node has gone back",
            );
        return Err(CommandError::one(Exit::Pending, problem));
    }
    let (plan, desired) = planner::plan(&loaded, &mut fleet, &material);
    let mut failed: Vec<Problem> = fleet.lost.values().cloned().collect();
    let plan = match objects::access(&loaded.inventory, &material) {
        None => plan,
        Some(access) => {
            let (plan, problem) = objects::plan(&loaded.inventory, plan, &mut fleet, &access);
            failed.extend(problem);
            plan
        }
    };
    let mut diffs: BTreeMap<&NodeName, String> = BTreeMap::new();
    if args.diff {
        for (name, node) in plan.nodes.iter().filter(|(_, n)| !n.transactions.is_empty()) {
            let (Some(seen), Some(wanted)) = (fleet.seen.get_mut(name), desired.nodes.get(name))
            else {
                continue;
            };
            let of_node = nodes.iter().find(|n| n.name == *name);
            let of_node = of_node.expect("only chosen nodes are planned for");
            let old = seen
                .session(&loaded.inventory, of_node, &dialer)
                .and_then(|s| observe::texts(s, name, changes::replaced(node, wanted)));
            match old {
                Ok(old) => {
                    diffs.insert(name, changes::render(node, wanted, &old));
                }
                Err(problem) => failed.push(problem),
            }
        }
    }
    match global.format {
        Format::Json if args.diff => {
            print(&pretty(&serde_json::json!({ "plan": plan, "diffs": diffs })))?
        }
        Format::Json => print(&pretty(&plan))?,
        Format::Text => {
            let detail = if args.verbose { Detail::Steps } else { Detail::Summary };
            let mut text = render(&plan, detail);
            if !fleet.lost.is_empty() {
                let names: Vec<&str> = fleet.lost.keys().map(NodeName::as_str).collect();
                text.push_str(&format!("\nnot planned: {}\n", names.join(", ")));
            }
            for (name, diff) in &diffs {
                text.push_str(&format!("\n{name}\n{diff}"));
            }
            print(&text)?
        }
    };
    if let Some(file) = &args.out {
        std::fs::write(file, pretty(&plan)).map_err(|e| {
            let problem = Problem::from_error("the plan cannot be saved", &e);
            CommandError::one(Exit::Unexpected, problem.at(file.display().to_string()))
        })?;
        let file = file.display();
        note(global.format, &format!("saved as {file}; `kubastion apply {file}` carries it out"));
    }
    if !failed.is_empty() {
        return Err(CommandError { exit: Exit::NodeFailed, problems: failed });
    }
    let pending = is_pending(&plan) || !open.is_empty();
    Ok(if args.exit_code && pending { Exit::Pending } else { Exit::Done })
}

/// What earlier runs left open, a line for each transaction: the node will not stay as it is.
fn left_open(fleet: &observe::Fleet) -> Vec<String> {
    let of = |facts: &crate::facts::NodeFacts| {
        let open = facts.open_transactions.iter().filter(|t| t.state != "incomplete");
        let line = |t: &crate::facts::OpenTransaction| {
            let (node, id, state) = (&facts.node, &t.id, &t.state);
            format!(
                "{node}: transaction {id} of an earlier run was interrupted (state: {state}); the next apply undoes it first"
            )
        };
        open.map(line).collect::<Vec<_>>()
    };
    fleet.seen.values().flat_map(|s| of(&s.facts)).collect()
}

/// Whether the nodes are not yet what they should be, also where nothing can be done about it now.
fn is_pending(plan: &Plan) -> bool {
    !plan.is_empty() || plan.holds_back()
}

/// A slip of the hand must not cost the inventory or a key.
fn only_replaces_a_plan(file: &std::path::Path) -> Result<(), CommandError> {
    let directory = file.parent().filter(|d| !d.as_os_str().is_empty());
    if let Some(directory) = directory.filter(|d| !d.is_dir()) {
        let problem = Problem::new("there is no such directory to save the plan in")
            .at(directory.display().to_string())
            .left("no node was asked")
            .hint("name another file with --out");
        return Err(CommandError::one(Exit::InvalidInput, problem));
    }
    let is_plan = |bytes: Vec<u8>| serde_json::from_slice::<Plan>(&bytes).is_ok();
    if !file.is_file() || std::fs::read(file).is_ok_and(is_plan) {
        return Ok(());
    }
    let problem = Problem::new("this file is there already and is not a plan")
        .left("it is unchanged")
        .hint("name another with --out");
    Err(CommandError::one(Exit::InvalidInput, problem.at(file.display().to_string())))
}

const AGAIN: &str = "make a new one with `kubastion plan --out`";

/// Reads a saved plan.
///
/// # Errors
/// A file that cannot be read, is of another format or version, or whose content is not what its id
/// says.
pub fn read(file: &std::path::Path) -> Result<Plan, CommandError> {
    let stop = |problem: Problem| {
        CommandError::one(Exit::InvalidInput, problem.at(file.display().to_string()))
    };
    let bytes = std::fs::read(file)
        .map_err(|e| stop(Problem::from_error("the plan cannot be read", &e).hint(AGAIN)))?;
    let plan: Plan = serde_json::from_slice(&bytes)
        .map_err(|e| stop(Problem::from_error("this is not a plan", &e).hint(AGAIN)))?;
    if plan.format != crate::plan::FORMAT || plan.made_by != env!("CARGO_PKG_VERSION") {
        let what = format!("the plan was made by version {} of kubastion", plan.made_by);
        return Err(stop(Problem::new(what).hint(AGAIN)));
    }
    let said = plan.id.clone();
    let plan = plan.sealed();
    if plan.id != said {
        return Err(stop(Problem::new("the plan was changed since it was saved").hint(AGAIN)));
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_run_left_open_is_said_of_its_node() {
        let mut facts = crate::desired::tests::facts("n", "debian 12", None);
        let mut fleet = |states: &[&str]| {
            let open = |state: &&str| crate::facts::OpenTransaction {
                id: "1-host".into(),
                state: (*state).to_owned(),
            };
            facts.open_transactions = states.iter().map(open).collect();
            let host_key = String::new();
            let seen = observe::Seen { session: None, host_key, facts: facts.clone() };
            let seen = [(facts.node.clone(), seen)].into();
            left_open(&observe::Fleet {
                seen,
                lost: BTreeMap::new(),
                bare: Default::default(),
                no_data: Default::default(),
                etcd: None,
            })
        };
        assert!(fleet(&[]).is_empty());
        // It needs hands, and no time that runs out will change the node.
        assert!(fleet(&["incomplete"]).is_empty());
        let said = fleet(&["switched"]);
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("interrupted (state: switched)"), "{said:?}");
    }

    #[test]
    fn what_is_held_back_is_pending() {
        let plan = |held_back: Vec<String>| {
            let node = crate::plan::NodePlan { held_back, ..Default::default() };
            let nodes = [("n".parse().unwrap(), node)].into();
            Plan::new("c".into(), String::new(), nodes, Vec::new())
        };
        assert!(!is_pending(&plan(vec![])));
        assert!(is_pending(&plan(vec!["not yet".into()])));
    }

    #[test]
    fn a_plan_is_not_saved_over_anything_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("inventory.yaml");
        assert!(only_replaces_a_plan(&file).is_ok());
        std::fs::write(&file, "version: kubastion/v1\n").unwrap();
        assert!(only_replaces_a_plan(&file).is_err());
        let plan = Plan::new("c".into(), String::new(), BTreeMap::new(), Vec::new());
        std::fs::write(&file, pretty(&plan)).unwrap();
        assert!(only_replaces_a_plan(&file).is_ok());
    }
}
