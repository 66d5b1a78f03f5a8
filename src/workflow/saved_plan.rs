//! A plan in a file: saved, read again, and held against what is true by then.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::error::Problem;
use crate::inventory::NodeName;
use crate::plan::{FORMAT, Plan};
use crate::workflow::command_error::{CommandError, Exit, LeftOut};

/// Whether a plan may be saved there: a slip of the hand must not cost the inventory or a key.
///
/// # Errors
/// If the directory does not exist, or the file is there and is no plan.
pub fn may_replace(file: &Path) -> Result<(), CommandError> {
    let directory = file.parent().filter(|d| !d.as_os_str().is_empty());
    if let Some(directory) = directory.filter(|d| !d.is_dir()) {
        let problem = Problem::new("the directory to save the plan in does not exist")
            .at(directory.display().to_string())
            .left("no node was contacted")
            .hint("set --out to another file");
        return Err(CommandError::one(Exit::InvalidInput, problem));
    }
    let is_plan = |bytes: Vec<u8>| serde_json::from_slice::<Plan>(&bytes).is_ok();
    if !file.is_file() || fs::read(file).is_ok_and(is_plan) {
        return Ok(());
    }
    let problem = Problem::new("the file already exists and is not a plan")
        .left("it is unchanged")
        .hint("set --out to another file");
    Err(CommandError::one(Exit::InvalidInput, problem.at(file.display().to_string())))
}

/// Saves a plan.
///
/// # Errors
/// If the file cannot be written.
pub fn save(file: &Path, plan: &Plan) -> Result<(), CommandError> {
    let mut text = serde_json::to_string_pretty(plan).expect("a plan has text keys");
    text.push('\n');
    fs::write(file, text).map_err(|e| {
        let problem = Problem::from_error("the plan cannot be saved", &e);
        CommandError::one(Exit::Unexpected, problem.at(file.display().to_string()))
    })
}

const AGAIN: &str = "make a new plan with `kubastion plan --out`";

/// Reads a saved plan.
///
/// # Errors
/// A file that cannot be read, is of another format or version, or whose content is not what its id
/// says.
pub fn read(file: &Path) -> Result<Plan, CommandError> {
    let stop = |problem: Problem| {
        CommandError::one(Exit::InvalidInput, problem.at(file.display().to_string()))
    };
    let bytes = fs::read(file)
        .map_err(|e| stop(Problem::from_error("the plan cannot be read", &e).hint(AGAIN)))?;
    let plan: Plan = serde_json::from_slice(&bytes)
        .map_err(|e| stop(Problem::from_error("this is not a plan", &e).hint(AGAIN)))?;
    if plan.format != FORMAT || plan.made_by != env!("CARGO_PKG_VERSION") {
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

/// Compares a saved plan with one that was made now, where some nodes were `lost`.
///
/// # Errors
/// If anything that the saved plan was made from has moved.
pub(super) fn fits(
    saved: &Plan,
    now: &Plan,
    lost: &BTreeMap<NodeName, Problem>,
    left_out: LeftOut,
) -> Result<(), CommandError> {
    if saved.id == now.id {
        return Ok(());
    }
    let mut problem = Problem::new("the plan is out of date; nothing was changed")
        .hint("make a new plan with `kubastion plan --out`, and review it");
    if saved.inventory_sha256 != now.inventory_sha256 {
        problem = problem.because("the inventory has changed");
    }
    if !saved.etcd().eq(now.etcd()) {
        problem = problem.because("etcd's members have changed");
    }
    if !saved.api().eq(now.api()) {
        problem = problem.because("the cluster's objects have changed");
    }
    for (name, node) in &saved.nodes {
        match now.nodes.get(name) {
            Some(n) if n == node => {}
            Some(_) => problem = problem.because(format!("{name}: its state has changed")),
            None => {
                let why = lost.get(name).map(|p| p.what.clone()).unwrap_or_default();
                problem = problem.because(format!("{name}: {why}"));
            }
        }
    }
    let exit = if left_out.unanswered == 0 { Exit::InvalidInput } else { left_out.exit() };
    let mut problems = vec![problem];
    problems.extend(lost.values().cloned());
    Err(CommandError { exit, problems })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_not_saved_over_anything_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("inventory.yaml");
        assert!(may_replace(&file).is_ok());
        fs::write(&file, "version: kubastion/v1\n").unwrap();
        assert!(may_replace(&file).is_err());
        let plan = Plan::new("c".into(), String::new(), BTreeMap::new(), Vec::new());
        save(&file, &plan).unwrap();
        assert!(may_replace(&file).is_ok());
    }
}
