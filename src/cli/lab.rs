//! `kubastion lab`: disposable nodes on this machine.

use std::os::unix::process::CommandExt;
use std::path::Path;

use super::args::LabVerb;
use super::global::{Format, Global};
use super::output;
use crate::error::Problem;
use crate::lab::{Error, Lab, NodeStatus, Spec, Step};
use crate::report::table::{self, Column};
use crate::workflow::command_error::{CommandError, Exit};
use crate::workflow::software::bundle_of_a_lab;

/// Runs one of the lab verbs. `exec` does not return: the program replaces this one, so that its
/// exit code, signals and terminal are its own.
pub(super) fn run(global: &Global, verb: LabVerb) -> Result<Exit, CommandError> {
    match verb {
        LabVerb::Up(args) => {
            let spec = Spec {
                dir: args.dir.dir,
                cache: args.cache,
                control_planes: args.control_planes,
                workers: args.workers,
                bundle: args.bundle.as_deref().map(bundle_of_a_lab).transpose()?,
            };
            let lab = Lab::up(&spec, &show).map_err(|e| stop_of_up(&spec, &e))?;
            print(global.format, &lab.status())
        }
        LabVerb::Status(args) => {
            let lab = Lab::open(&args.dir).map_err(|e| stop(&e))?;
            print(global.format, &lab.status())
        }
        LabVerb::Exec(args) => {
            let lab = Lab::open(&args.dir.dir).map_err(|e| stop(&e))?;
            let mut command = lab.command(&args.node, &args.command).map_err(|e| stop(&e))?;
            let why = command.exec();
            let problem = Problem::new("cannot enter the node").at(args.node);
            Err(CommandError::one(Exit::Unexpected, problem.because(why.to_string())))
        }
        LabVerb::Down(args) => {
            let lab = Lab::open(&args.dir).map_err(|e| stop(&e))?;
            let dir = lab.dir().to_owned();
            lab.down(&show).map_err(|e| stop(&e))?;
            if let Some(line) = left(&dir) {
                eprintln!("{line}");
            }
            Ok(Exit::Done)
        }
    }
}

/// What a lab that is gone has left in its directory, and why.
fn left(dir: &Path) -> Option<String> {
    let entries = std::fs::read_dir(dir).ok()?;
    let mut names: Vec<String> =
        entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let dir = dir.display();
    (!names.is_empty()).then(|| {
        format!(
            "lab: {dir} stays with {}: the lab did not make that, and no verb deletes keys or records; `rm -r {dir}` does",
            names.join(", ")
        )
    })
}

fn show(step: &Step) {
    match &step.node {
        Some(node) => eprintln!("lab: {node}: {}", step.what),
        None => eprintln!("lab: {}", step.what),
    }
}

fn print(format: Format, nodes: &[NodeStatus]) -> Result<Exit, CommandError> {
    let text = match format {
        Format::Json => output::pretty(&nodes),
        Format::Text => {
            let dash = || "-".to_owned();
            let row = |n: &NodeStatus| {
                [
                    n.name.to_string(),
                    n.address.to_string(),
                    n.state.to_string(),
                    n.systemd.clone().unwrap_or_else(dash),
                    if n.ssh { "yes" } else { "no" }.to_owned(),
                    n.since.clone().unwrap_or_else(dash),
                ]
            };
            let head = ["NODE", "ADDRESS", "STATE", "SYSTEMD", "SSH", "SINCE"].map(str::to_owned);
            let rows = std::iter::once(head).chain(nodes.iter().map(row));
            table::text([Column::TEXT; 6], rows)
        }
    };
    output::print(&text)
}

fn stop(error: &Error) -> CommandError {
    let exit = match error {
        Error::NotRunning(_) => Exit::NodeFailed,
        e if e.is_input() => Exit::InvalidInput,
        _ => Exit::Unexpected,
    };
    CommandError { exit, problems: error.problems() }
}

fn stop_of_up(spec: &Spec, error: &Error) -> CommandError {
    let mut stop = stop(error);
    if stop.exit != Exit::InvalidInput {
        for problem in &mut stop.problems {
            problem.state = Some("what was made so far stays for a look".to_owned());
            problem.hint = Some(format!("`kubastion lab down --dir {}`", spec.dir.display()));
        }
    }
    stop
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_lab_leaves_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(left(dir.path()), None);
        for name in ["pki", ".kubastion"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let said = left(dir.path()).unwrap();
        assert!(said.contains("stays with .kubastion, pki: ") && said.contains("rm -r"), "{said}");
        assert_eq!(left(&dir.path().join("gone")), None);
    }
}
